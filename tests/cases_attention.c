/* Attention: references and cases. */
#include "op_case.h"
#include "ops/lanes.h"
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- References ---- */

void ref_segments(const ref_call *call) {
    const xft_segments_params *p = call->params;
    const uint32_t *cu = call->u[0], *lengths = call->u[1];
    uint32_t *out = call->u[2];
    memset(out, 0, 16 * (size_t)p->tokens);
    for (uint32_t i = 0; i < p->sequences; i++)
        for (uint32_t t = cu[i]; t < cu[i + 1]; t++) {
            uint32_t end = cu[i] + lengths[i] < cu[i + 1] ? cu[i] + lengths[i] : cu[i + 1];
            bool token = t < end;
            if (!token && !p->count_padding) continue;
            uint32_t query_end = !token ? 0 : p->count_padding ? cu[i + 1] : end;
            memcpy(&out[4 * t], (uint32_t[]){cu[i], end, query_end, 1}, 16);
        }
}

/* End of the keys that token t sees; they begin at segments[4t]. */
static uint32_t keys_end(const uint32_t *segments, uint32_t t) {
    uint32_t end = segments[4 * t + 1];
    return t + 1 < end ? t + 1 : end;
}

static double inner(const double *a, const double *b, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* softmax(scale q k^T) v for one query over the keys [begin, end); returns the log-sum-exp. */
static double attend(const double *q, const double *k, const double *v, uint32_t ld_k, uint32_t ld_v, uint32_t begin,
                     uint32_t end, double scale, uint32_t D, double *o) {
    double top = -INFINITY, sum = 0;
    for (uint32_t d = 0; d < D; d++) o[d] = 0;
    if (begin >= end) return 0;
    for (uint32_t j = begin; j < end; j++) top = fmax(top, scale * inner(q, k + (size_t)j * ld_k, D));
    for (uint32_t j = begin; j < end; j++) {
        double e = exp(scale * inner(q, k + (size_t)j * ld_k, D) - top);
        sum += e;
        for (uint32_t d = 0; d < D; d++) o[d] += e * v[(size_t)j * ld_v + d];
    }
    for (uint32_t d = 0; d < D; d++) o[d] /= sum;
    return top + log(sum);
}

void ref_attention(const ref_call *call) {
    const xft_attention_params *p = call->params;
    const uint32_t D = call->constants[3];
    for (uint32_t h = 0; h < p->heads; h++)
        for (uint32_t t = 0; t < p->tokens; t++) {
            uint32_t col = h / (p->heads / p->kv_heads) * D;
            call->d[5][(size_t)h * p->ld_lse + t] = attend(
                call->d[0] + (size_t)t * p->ld_q + h * D, call->d[1] + col, call->d[2] + col, p->ld_k, p->ld_v,
                call->u[3][4 * t], keys_end(call->u[3], t), p->scale, D, call->d[4] + (size_t)t * p->ld_o + h * D);
        }
}

void ref_attention_delta(const ref_call *call) {
    const xft_attention_delta_params *p = call->params;
    const uint32_t D = call->constants[3];
    for (uint32_t h = 0; h < p->heads; h++)
        for (uint32_t t = 0; t < p->tokens; t++)
            call->d[2][(size_t)h * p->ld_delta + t] =
                inner(call->d[0] + (size_t)t * p->ld_o + h * D, call->d[1] + (size_t)t * p->ld_do + h * D, D);
}

void ref_attention_backward_q(const ref_call *call) {
    const xft_attention_backward_q_params *p = call->params;
    const uint32_t D = call->constants[4], *segments = call->u[6];
    for (uint32_t h = 0; h < p->heads; h++)
        for (uint32_t t = 0; t < p->tokens; t++) {
            const uint32_t col = h / (p->heads / p->kv_heads) * D;
            const double *q = call->d[0] + (size_t)t * p->ld_q + h * D,
                         *d_o = call->d[3] + (size_t)t * p->ld_do + h * D;
            double *dq = call->d[7] + (size_t)t * p->ld_dq + h * D;
            for (uint32_t d = 0; d < D; d++) dq[d] = 0;
            for (uint32_t j = segments[4 * t]; j < keys_end(segments, t); j++) {
                const double *k = call->d[1] + (size_t)j * p->ld_k + col, *v = call->d[2] + (size_t)j * p->ld_v + col;
                double e = exp(p->scale * inner(q, k, D) - call->d[4][(size_t)h * p->ld_lse + t]);
                double ds = e * (inner(d_o, v, D) - call->d[5][(size_t)h * p->ld_delta + t]);
                for (uint32_t d = 0; d < D; d++) dq[d] += p->scale * ds * k[d];
            }
        }
}

void ref_attention_backward_kv(const ref_call *call) {
    const xft_attention_backward_kv_params *p = call->params;
    const uint32_t D = call->constants[4], *segments = call->u[6];
    for (uint32_t j = 0; j < p->tokens; j++) {
        memset(call->d[7] + (size_t)j * p->ld_dk, 0, p->kv_heads * D * sizeof(double));
        memset(call->d[8] + (size_t)j * p->ld_dv, 0, p->kv_heads * D * sizeof(double));
    }
    for (uint32_t h = 0; h < p->heads; h++)
        for (uint32_t t = 0; t < p->tokens; t++) {
            const uint32_t col = h / (p->heads / p->kv_heads) * D;
            const double *q = call->d[0] + (size_t)t * p->ld_q + h * D,
                         *d_o = call->d[3] + (size_t)t * p->ld_do + h * D;
            for (uint32_t j = segments[4 * t]; j < keys_end(segments, t); j++) {
                const double *k = call->d[1] + (size_t)j * p->ld_k + col, *v = call->d[2] + (size_t)j * p->ld_v + col;
                double *dk = call->d[7] + (size_t)j * p->ld_dk + col, *dv = call->d[8] + (size_t)j * p->ld_dv + col;
                double e = exp(p->scale * inner(q, k, D) - call->d[4][(size_t)h * p->ld_lse + t]);
                double ds = e * (inner(d_o, v, D) - call->d[5][(size_t)h * p->ld_delta + t]);
                for (uint32_t d = 0; d < D; d++) {
                    dk[d] += p->scale * ds * q[d];
                    dv[d] += e * d_o[d];
                }
            }
        }
}

void ref_kv_append(const ref_call *call) {
    const xft_kv_append_params *p = call->params;
    for (uint32_t row = 0; row < p->rows; row++) {
        uint32_t b = row / p->new_tokens, at = call->u[2][b] + row % p->new_tokens;
        if (at >= p->capacity) continue;
        size_t to = (size_t)b * p->capacity + at;
        memcpy(call->d[3] + to * p->ld_k_cache, call->d[0] + (size_t)row * p->ld_k, p->cols * sizeof(double));
        memcpy(call->d[4] + to * p->ld_v_cache, call->d[1] + (size_t)row * p->ld_v, p->cols * sizeof(double));
    }
}

void ref_attention_decode(const ref_call *call) {
    const xft_attention_decode_params *p = call->params;
    const uint32_t D = call->constants[4];
    for (uint32_t row = 0; row < p->sequences * p->new_tokens; row++)
        for (uint32_t h = 0; h < p->heads; h++) {
            uint32_t b = row / p->new_tokens, end = call->u[3][b] + row % p->new_tokens + 1;
            uint32_t col = h / (p->heads / p->kv_heads) * D;
            if (end > p->capacity) end = p->capacity;
            const double *k = call->d[1] + (size_t)b * p->capacity * p->ld_k_cache + col;
            const double *v = call->d[2] + (size_t)b * p->capacity * p->ld_v_cache + col;
            attend(call->d[0] + (size_t)row * p->ld_q + h * D, k, v, p->ld_k_cache, p->ld_v_cache, 0, end, p->scale, D,
                   call->d[4] + (size_t)row * p->ld_o + h * D);
        }
}

/* ---- Packed sequences ---- */

/* Sequences as {rows, of them tokens}, then the tail. */
typedef struct packing {
    const char *name;
    uint32_t count, sequences[8][2], tail;
    bool count_padding;
} packing;

static const packing packings[] = {
    {"two with padding and tail", 2, {{5, 5}, {4, 2}}, 2, false},
    {"one token", 1, {{1, 1}}, 0, false},
    {"mixed", 7, {{1, 1}, {64, 64}, {3, 2}, {0, 0}, {70, 41}, {5, 0}, {33, 33}}, 11, false},
    {"mixed, padding counts", 7, {{1, 1}, {64, 64}, {3, 2}, {0, 0}, {70, 41}, {9, 3}, {33, 33}}, 11, true},
    {"one of 131", 1, {{131, 131}}, 0, false},
    {"no token", 2, {{3, 0}, {0, 0}}, 30, false},
    {"two of 256", 2, {{256, 256}, {256, 256}}, 0, false},
    {"one of 1024", 1, {{1024, 1024}}, 0, false},
};
enum { PACKINGS = 6, PACKED_TWICE_256 = 6, PACKED_1024 = 7 };

static uint32_t tokens_of(const packing *p) {
    uint32_t tokens = p->tail;
    for (uint32_t i = 0; i < p->count; i++) tokens += p->sequences[i][0];
    return tokens;
}

/* segments u32 [tokens, 4] of a packing; cu u32 [9] and lengths u32 [8] on the way. */
static void pack(const packing *p, uint32_t *cu, uint32_t *lengths, uint32_t *segments) {
    cu[0] = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        cu[i + 1] = cu[i] + p->sequences[i][0];
        lengths[i] = p->sequences[i][1];
    }
    xft_segments_params params = {tokens_of(p), p->count, p->count_padding, 1};
    ref_segments(&(ref_call){.u = {cu, lengths, segments}, .params = &params});
}

static void set_u32(case_buffer *b, const uint32_t *from) {
    double *to = b->role == CASE_OUT ? b->expected : b->values;
    for (uint64_t i = 0; i < case_elements(b); i++) to[i] = from[i];
}

static xft_status record_segments(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_segments(stream, t[0], t[1], c->u[0] != 0, t[2]);
}

static void segments_case(const packing *p, case_visitor visit, void *user) {
    op_case c;
    uint32_t cu[9], lengths[8], *segments = calloc(4 * tokens_of(p), sizeof *segments);
    pack(p, cu, lengths, segments);
    case_begin(&c, "segments", "%s", p->name);
    case_random r = case_seed(c.label);
    set_u32(case_add(&c, &r, "cu_seqlens", CASE_IN, XFT_U32, 0, 1, p->count + 1), cu);
    set_u32(case_add(&c, &r, "lengths", CASE_IN, XFT_U32, 0, 1, p->count), lengths);
    set_u32(case_add(&c, &r, "segments", CASE_OUT, XFT_U32, 0, 2, tokens_of(p), 4), segments);
    c.u[0] = p->count_padding;
    c.record = record_segments;
    c.bytes = 16.0 * tokens_of(p);
    visit(&c, user);
    case_free(&c);
    free(segments);
}

static void cases_segments(case_set set, case_visitor visit, void *user) {
    if (set == CASES_BENCH) {
        segments_case(&packings[PACKED_1024], visit, user);
        return;
    }
    for (uint32_t i = 0; i < (set == CASES_SMALL ? 1 : PACKINGS); i++) segments_case(&packings[i], visit, user);
}

/* ---- Attention, forward and backward ---- */

typedef struct heads {
    uint32_t heads, kv_heads, head_size;
} heads;

typedef struct attention_case {
    const packing *packing;
    heads h;
    xft_dtype in, out; /* q, k, v; o, do and the gradients */
    const char *form;  /* forced: "plain" or "cpu" where a device can run it; NULL: the device's own choice */
} attention_case;

static float scale_of(const heads *h) {
    return (float)(1 / sqrt(h->head_size));
}

static double pairs_of(const uint32_t *segments, uint32_t tokens) {
    double pairs = 0;
    for (uint32_t t = 0; t < tokens; t++)
        if (keys_end(segments, t) > segments[4 * t]) pairs += keys_end(segments, t) - segments[4 * t];
    return pairs;
}

/* Starts the case, adds q, k, v; gives segments (to be freed) and the parameters of the forward pass. */
static uint32_t *begin_attention(op_case *c, case_random *r, const char *op, const attention_case *a,
                                 xft_attention_params *p) {
    const uint32_t T = tokens_of(a->packing), HD = a->h.heads * a->h.head_size, KD = a->h.kv_heads * a->h.head_size;
    case_begin(c, op, "%s, %u heads on %u of %u, %s -> %s%s%s", a->packing->name, a->h.heads, a->h.kv_heads,
               a->h.head_size, xft_dtype_name(a->in), xft_dtype_name(a->out), a->form ? ", " : "",
               a->form ? a->form : "");
    *r = case_seed(c->label);
    case_add(c, r, "q", CASE_IN, a->in, 1, 2, T, HD);
    case_add(c, r, "k", CASE_IN, a->in, 1, 2, T, KD);
    case_add(c, r, "v", CASE_IN, a->in, 1, 2, T, KD);
    uint32_t cu[9], lengths[8], *segments = calloc(4 * T, sizeof *segments);
    pack(a->packing, cu, lengths, segments);
    c->u[0] = a->h.head_size;
    c->form = a->form;
    c->f[0] = scale_of(&a->h);
    *p = (xft_attention_params){T, a->h.heads, a->h.kv_heads, c->f[0], HD, KD, KD, HD, T};
    c->flops = 4 * pairs_of(segments, T) * HD;
    c->product = false;
    return segments;
}

static void run_forward(const op_case *c, uint32_t *segments, const xft_attention_params *p, double *o, double *lse) {
    const uint32_t constants[] = {0, 0, 0, c->u[0]};
    ref_attention(&(ref_call){.d = {c->buffers[0].values, c->buffers[1].values, c->buffers[2].values, NULL, o, lse},
                              .u = {[3] = segments},
                              .params = p,
                              .constants = constants});
}

static xft_status record_attention(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    xft_lanes_force(c->form);
    xft_status status = xft_attention(stream, t[0], t[1], t[2], t[3], c->u[0], c->f[0], t[4], t[5]);
    xft_lanes_force(NULL);
    return status;
}

static void forward_case(const attention_case *a, case_visitor visit, void *user) {
    op_case c;
    case_random r;
    xft_attention_params p;
    uint32_t *segments = begin_attention(&c, &r, "attention", a, &p);
    set_u32(case_add(&c, &r, "segments", CASE_IN, XFT_U32, 0, 2, p.tokens, 4), segments);
    case_buffer *o = case_add(&c, &r, "o", CASE_OUT, a->out, 0, 2, p.tokens, p.ld_q);
    case_buffer *lse = case_add(&c, &r, "lse", CASE_OUT, XFT_F32, 0, 2, p.heads, p.tokens);
    run_forward(&c, segments, &p, o->expected, lse->expected);
    c.record = record_attention;
    c.bytes = (double)p.tokens * (2 * p.ld_q * xft_dtype_size(a->in) + 2 * p.ld_k * xft_dtype_size(a->in));
    visit(&c, user);
    case_free(&c);
    free(segments);
}

static xft_status record_backward(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    xft_lanes_force(c->form);
    xft_status status = xft_attention_backward(stream, t[0], t[1], t[2], t[3], t[4], t[5], t[6], c->u[0], c->f[0], t[7],
                                               t[8], t[9], t[10]);
    xft_lanes_force(NULL);
    return status;
}

/* The three passes on inputs as the device gets them: o and lse already rounded. */
static void run_backward(const op_case *c, uint32_t *segments, const xft_attention_params *f, double *dq, double *dk,
                         double *dv) {
    double *d[6], *delta = calloc((size_t)f->heads * f->tokens, sizeof *delta);
    for (uint32_t i = 0; i < 6; i++) d[i] = c->buffers[i].values; /* q, k, v, o, do, lse */
    const uint32_t constants[] = {0, 0, 0, c->u[0], c->u[0]};
    xft_attention_delta_params p0 = {f->tokens, f->heads, f->ld_o, f->ld_o, f->tokens, 1};
    ref_attention_delta(&(ref_call){.d = {d[3], d[4], delta}, .params = &p0, .constants = constants});
    xft_attention_backward_q_params p1 = {f->tokens, f->heads, f->kv_heads, f->scale,  f->ld_q, f->ld_k,
                                          f->ld_v,   f->ld_o,  f->tokens,   f->tokens, f->ld_q};
    ref_attention_backward_q(&(ref_call){.d = {d[0], d[1], d[2], d[4], d[5], delta, NULL, dq},
                                         .u = {[6] = segments},
                                         .params = &p1,
                                         .constants = constants});
    xft_attention_backward_kv_params p2 = {f->tokens, f->heads, f->kv_heads, f->scale,  f->ld_q, f->ld_k,
                                           f->ld_v,   f->ld_o,  f->tokens,   f->tokens, f->ld_k, f->ld_v};
    ref_attention_backward_kv(&(ref_call){.d = {d[0], d[1], d[2], d[4], d[5], delta, NULL, dk, dv},
                                          .u = {[6] = segments},
                                          .params = &p2,
                                          .constants = constants});
    free(delta);
}

static void backward_case(const attention_case *a, case_visitor visit, void *user) {
    op_case c;
    case_random r;
    xft_attention_params p;
    uint32_t *segments = begin_attention(&c, &r, "attention_backward", a, &p);
    case_buffer *o = case_add(&c, &r, "o", CASE_IN, a->out, 0, 2, p.tokens, p.ld_q);
    case_add(&c, &r, "do_", CASE_IN, a->out, 1, 2, p.tokens, p.ld_q);
    case_buffer *lse = case_add(&c, &r, "lse", CASE_IN, XFT_F32, 0, 2, p.heads, p.tokens);
    run_forward(&c, segments, &p, o->values, lse->values);
    /* One token sees only itself and its scores have no gradient, which rounding would be measured against: there o is
     * any number, as which it enters through delta alone. */
    if (p.tokens == 1)
        for (uint64_t i = 0; i < case_elements(o); i++) o->values[i] = case_normal(&r);
    for (uint64_t i = 0; i < case_elements(o); i++) o->values[i] = case_round(o->values[i], a->out);
    for (uint64_t i = 0; i < case_elements(lse); i++) lse->values[i] = case_round(lse->values[i], XFT_F32);
    set_u32(case_add(&c, &r, "segments", CASE_IN, XFT_U32, 0, 2, p.tokens, 4), segments);
    case_add(&c, &r, "delta", CASE_SCRATCH, XFT_F32, 0, 2, p.heads, p.tokens);
    case_buffer *dq = case_add(&c, &r, "dq", CASE_OUT, a->out, 0, 2, p.tokens, p.ld_q);
    case_buffer *dk = case_add(&c, &r, "dk", CASE_OUT, a->out, 0, 2, p.tokens, p.ld_k);
    case_buffer *dv = case_add(&c, &r, "dv", CASE_OUT, a->out, 0, 2, p.tokens, p.ld_k);
    run_backward(&c, segments, &p, dq->expected, dk->expected, dv->expected);
    if (p.tokens == 1) dq->magnitude = dk->magnitude = 1; /* the only key: terms of about 1 cancel to 0 */
    c.record = record_backward;
    c.flops *= 2.5;
    c.bytes = (double)p.tokens * (4 * p.ld_q + 4 * p.ld_k) * xft_dtype_size(a->in);
    visit(&c, user);
    case_free(&c);
    free(segments);
}

static void cases_both(case_set set, void (*make)(const attention_case *a, case_visitor visit, void *user),
                       case_visitor visit, void *user) {
    const packing *small = &packings[0], *mixed = &packings[2];
    if (set == CASES_LONG) { /* the longest that llvmpipe takes, see xft_attention_longest */
        static const packing longest[] = {{"one of 13664", 1, {{13664, 13664}}, 0, false},
                                          {"one of 4576", 1, {{4576, 4576}}, 0, false},
                                          {"one of 1856", 1, {{1856, 1856}}, 0, false}};
        if (make == forward_case)
            make(&(attention_case){&longest[0], {1, 1, 128}, XFT_F32, XFT_F32, "plain"}, visit, user);
        make(&(attention_case){&longest[1], {2, 1, 128}, XFT_F32, XFT_F32, "plain"}, visit, user);
        make(&(attention_case){&longest[2], {7, 1, 64}, XFT_BF16, XFT_BF16, "plain"}, visit, user);
        return;
    }
    if (set == CASES_BENCH) {
        static const heads models[] = {{9, 3, 64}, {32, 8, 64}, {16, 16, 128}, {32, 32, 80}, {12, 12, 96}};
        for (uint32_t i = 0; i < sizeof models / sizeof *models; i++) {
            make(&(attention_case){&packings[PACKED_TWICE_256], models[i], XFT_F32, XFT_F32, NULL}, visit, user);
            if (i == 0) {
                make(&(attention_case){&packings[PACKED_TWICE_256], models[i], XFT_BF16, XFT_BF16, NULL}, visit, user);
                make(&(attention_case){&packings[PACKED_1024], models[i], XFT_F32, XFT_F32, NULL}, visit, user);
            }
        }
        return;
    }
    make(&(attention_case){small, {2, 1, 8}, XFT_F32, XFT_F32, NULL}, visit, user);
    make(&(attention_case){small, {2, 1, 8}, XFT_BF16, XFT_BF16, NULL}, visit, user);
    make(&(attention_case){small, {2, 2, 6}, XFT_F32, XFT_F32, NULL}, visit, user);
    make(&(attention_case){small, {2, 1, 12}, XFT_F32, XFT_F32, "plain"}, visit, user);
    make(&(attention_case){small, {4, 2, 6}, XFT_BF16, XFT_BF16, "plain"}, visit, user);
    make(&(attention_case){small, {2, 1, 12}, XFT_F32, XFT_F32, "cpu"}, visit, user);
    make(&(attention_case){small, {4, 2, 6}, XFT_BF16, XFT_BF16, "cpu"}, visit, user);
    /* The head sizes of real models, so that their kernels meet every compiler and every tool. */
    static const uint32_t tuned[] = {64, 80, 96, 128, 256};
    for (uint32_t i = 0; i < 5; i++)
        make(
            &(attention_case){
                &packings[1], {2, 1, tuned[i]}, i % 2 ? XFT_BF16 : XFT_F32, i % 2 ? XFT_BF16 : XFT_F32, NULL},
            visit, user);
    if (set == CASES_SMALL) return;
    static const heads sizes[] = {{3, 1, 4},  {4, 2, 6},  {6, 6, 8},  {2, 1, 10},  {5, 5, 12},  {8, 2, 16}, {1, 1, 32},
                                  {9, 3, 64}, {3, 1, 80}, {4, 2, 96}, {2, 1, 128}, {2, 1, 256}, {3, 1, 14}};
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        make(&(attention_case){&packings[2 + i % 2], sizes[i], XFT_F32, XFT_F32, NULL}, visit, user);
        make(&(attention_case){&packings[3 - i % 2], sizes[i], XFT_BF16, XFT_BF16, NULL}, visit, user);
    }
    for (uint32_t i = 1; i < PACKINGS; i++) {
        make(&(attention_case){&packings[i], {4, 2, 16}, XFT_F32, XFT_F32, NULL}, visit, user);
        make(&(attention_case){&packings[i], {7, 1, 64}, XFT_BF16, XFT_BF16, NULL}, visit, user);
    }
    static const uint32_t plain_sizes[] = {4, 64, 80, 256};
    for (uint32_t i = 0; i < 4; i++)
        make(&(attention_case){&packings[2 + i % 2],
                               {4, 2, plain_sizes[i]},
                               i % 2 ? XFT_BF16 : XFT_F32,
                               i % 2 ? XFT_BF16 : XFT_F32,
                               "plain"},
             visit, user);
    make(&(attention_case){mixed, {4, 2, 16}, XFT_BF16, XFT_F32, NULL}, visit, user);
    make(&(attention_case){mixed, {4, 2, 16}, XFT_F32, XFT_BF16, NULL}, visit, user);
}

/* ---- Key/value cache ---- */

typedef struct cache_case {
    heads h;
    uint32_t sequences, new_tokens, capacity, lengths[4]; /* lengths repeat */
    xft_dtype data, cache;
    const char *form;
} cache_case;

static uint32_t *cache_lengths(const cache_case *a) {
    uint32_t *lengths = calloc(a->sequences, sizeof *lengths);
    for (uint32_t b = 0; b < a->sequences; b++) lengths[b] = a->lengths[b % 4];
    return lengths;
}

static xft_status record_append(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_kv_append(stream, t[0], t[1], t[2], t[3], t[4]);
}

static void append_case(const cache_case *a, case_visitor visit, void *user) {
    op_case c;
    const uint32_t rows = a->sequences * a->new_tokens, cols = a->h.kv_heads * a->h.head_size;
    case_begin(&c, "kv_append", "%u x %u rows of %u to caches of %u, %s -> %s", a->sequences, a->new_tokens, cols,
               a->capacity, xft_dtype_name(a->data), xft_dtype_name(a->cache));
    case_random r = case_seed(c.label);
    uint32_t *lengths = cache_lengths(a);
    case_add(&c, &r, "k", CASE_IN, a->data, 1, 2, rows, cols);
    case_add(&c, &r, "v", CASE_IN, a->data, 1, 2, rows, cols);
    set_u32(case_add(&c, &r, "lengths", CASE_IN, XFT_U32, 0, 1, a->sequences), lengths);
    case_add(&c, &r, "k_cache", CASE_INOUT, a->cache, 1, 3, a->sequences, a->capacity, cols);
    case_add(&c, &r, "v_cache", CASE_INOUT, a->cache, 1, 3, a->sequences, a->capacity, cols);
    ref_call call = {.u = {[2] = lengths}};
    for (uint32_t i = 0; i < 5; i++)
        call.d[i] = c.buffers[i].role == CASE_IN ? c.buffers[i].values : c.buffers[i].expected;
    for (uint32_t i = 3; i < 5; i++)
        memcpy(c.buffers[i].expected, c.buffers[i].values, case_elements(&c.buffers[i]) * sizeof(double));
    xft_kv_append_params p = {rows, cols, a->new_tokens, a->capacity, cols, cols, cols, cols, 1};
    call.params = &p;
    ref_kv_append(&call);
    c.record = record_append;
    c.bytes = 2.0 * rows * cols * (xft_dtype_size(a->data) + xft_dtype_size(a->cache));
    visit(&c, user);
    case_free(&c);
    free(lengths);
}

static xft_status record_decode(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    xft_lanes_force(c->form);
    xft_status status = xft_attention_decode(stream, t[0], t[1], t[2], t[3], c->u[0], c->f[0], t[4]);
    xft_lanes_force(NULL);
    return status;
}

static void decode_case(const cache_case *a, case_visitor visit, void *user) {
    op_case c;
    const uint32_t rows = a->sequences * a->new_tokens, HD = a->h.heads * a->h.head_size;
    const uint32_t KD = a->h.kv_heads * a->h.head_size, constants[] = {0, 0, 0, 0, a->h.head_size};
    case_begin(&c, "attention_decode", "%u x %u queries, %u heads on %u of %u, capacity %u, length %u, %s on %s%s%s",
               a->sequences, a->new_tokens, a->h.heads, a->h.kv_heads, a->h.head_size, a->capacity, a->lengths[0],
               xft_dtype_name(a->data), xft_dtype_name(a->cache), a->form ? ", " : "", a->form ? a->form : "");
    case_random r = case_seed(c.label);
    uint32_t *lengths = cache_lengths(a);
    case_add(&c, &r, "q", CASE_IN, a->data, 1, 2, rows, HD);
    case_add(&c, &r, "k_cache", CASE_IN, a->cache, 1, 3, a->sequences, a->capacity, KD);
    case_add(&c, &r, "v_cache", CASE_IN, a->cache, 1, 3, a->sequences, a->capacity, KD);
    double keys = 0;
    for (uint32_t b = 0; b < a->sequences; b++) {
        keys += lengths[b] + a->new_tokens;
        /* What no query sees may hold anything. */
        for (uint64_t i = (uint64_t)(lengths[b] + a->new_tokens) * KD; i < (uint64_t)a->capacity * KD; i++)
            for (uint32_t j = 1; j < 3; j++) c.buffers[j].values[(uint64_t)b * a->capacity * KD + i] = NAN;
    }
    set_u32(case_add(&c, &r, "lengths", CASE_IN, XFT_U32, 0, 1, a->sequences), lengths);
    case_buffer *o = case_add(&c, &r, "o", CASE_OUT, a->data, 0, 2, rows, HD);
    c.u[0] = a->h.head_size;
    c.form = a->form;
    c.f[0] = scale_of(&a->h);
    xft_attention_decode_params p = {
        a->sequences, a->new_tokens, a->h.heads, a->h.kv_heads, a->capacity, c.f[0], HD, KD, KD, HD};
    ref_attention_decode(
        &(ref_call){.d = {c.buffers[0].values, c.buffers[1].values, c.buffers[2].values, NULL, o->expected},
                    .u = {[3] = lengths},
                    .params = &p,
                    .constants = constants});
    c.record = record_decode;
    c.flops = 4 * keys * a->new_tokens * HD;
    c.bytes = 2 * keys * KD * xft_dtype_size(a->cache);
    visit(&c, user);
    case_free(&c);
    free(lengths);
}

static void cases_cache(case_set set, bool decode, case_visitor visit, void *user) {
    void (*make)(const cache_case *a, case_visitor visit, void *user) = decode ? decode_case : append_case;
    if (set == CASES_LONG) {
        make(&(cache_case){{1, 1, 128}, 1, 1, 32768, {32767, 0, 0, 0}, XFT_F32, XFT_F32, "plain"}, visit, user);
        make(&(cache_case){{7, 1, 64}, 1, 2, 32768, {32766, 0, 0, 0}, XFT_F32, XFT_BF16, "plain"}, visit, user);
        return;
    }
    if (set == CASES_BENCH) {
        make(&(cache_case){{9, 3, 64}, 1, 1, 1024, {1000, 0, 0, 0}, XFT_F32, XFT_F32, NULL}, visit, user);
        make(&(cache_case){{9, 3, 64}, 1, 1, 1024, {1000, 0, 0, 0}, XFT_F32, XFT_BF16, NULL}, visit, user);
        make(&(cache_case){{9, 3, 64}, 16, 1, 1024, {1000, 700, 500, 300}, XFT_F32, XFT_BF16, NULL}, visit, user);
        make(&(cache_case){{16, 16, 128}, 1, 1, 2048, {2000, 0, 0, 0}, XFT_BF16, XFT_BF16, NULL}, visit, user);
        return;
    }
    enum { SMALL = 8 }; /* of them, the first */
    static const cache_case cases[] = {
        {{2, 1, 8}, 2, 1, 7, {3, 0, 0, 0}, XFT_F32, XFT_F32, NULL},
        {{2, 1, 8}, 2, 2, 7, {3, 5, 0, 0}, XFT_BF16, XFT_BF16, NULL},
        {{2, 1, 8}, 2, 2, 7, {3, 5, 0, 0}, XFT_F32, XFT_BF16, "plain"},
        {{2, 1, 8}, 2, 2, 7, {3, 5, 0, 0}, XFT_F32, XFT_BF16, "cpu"},
        {{4, 2, 12}, 2, 1, 7, {3, 5, 0, 0}, XFT_BF16, XFT_F32, "cpu"},
        {{8, 1, 64}, 1, 1, 5, {3, 0, 0, 0}, XFT_F32, XFT_BF16, NULL},
        {{8, 1, 128}, 1, 1, 5, {3, 0, 0, 0}, XFT_F32, XFT_F32, NULL},
        {{4, 1, 256}, 1, 1, 5, {3, 0, 0, 0}, XFT_F32, XFT_F32, NULL},
        {{1, 1, 4}, 1, 1, 1, {0, 0, 0, 0}, XFT_F32, XFT_F32, NULL},
        {{4, 2, 6}, 3, 2, 9, {7, 0, 4, 0}, XFT_F32, XFT_BF16, NULL},
        {{3, 3, 10}, 5, 3, 40, {37, 20, 1, 0}, XFT_BF16, XFT_F32, NULL},
        {{5, 5, 12}, 2, 1, 300, {299, 255, 0, 0}, XFT_F32, XFT_F32, NULL},
        {{8, 2, 16}, 4, 3, 300, {256, 254, 10, 0}, XFT_BF16, XFT_BF16, NULL},
        {{16, 1, 32}, 1, 2, 600, {577, 0, 0, 0}, XFT_F32, XFT_F32, NULL},
        {{9, 3, 64}, 1, 1, 700, {651, 0, 0, 0}, XFT_F32, XFT_F32, NULL},
        {{9, 3, 64}, 3, 1, 513, {512, 0, 100, 0}, XFT_F32, XFT_BF16, NULL},
        {{9, 3, 64}, 2, 5, 64, {20, 3, 0, 0}, XFT_BF16, XFT_BF16, NULL},
        {{6, 2, 80}, 1, 1, 270, {260, 0, 0, 0}, XFT_BF16, XFT_BF16, NULL},
        {{4, 4, 96}, 2, 1, 270, {260, 13, 0, 0}, XFT_F32, XFT_F32, NULL},
        {{8, 4, 128}, 2, 2, 270, {260, 1, 0, 0}, XFT_BF16, XFT_BF16, NULL},
        {{12, 2, 256}, 1, 3, 70, {60, 0, 0, 0}, XFT_F32, XFT_F32, NULL},
        {{9, 3, 64}, 2, 1, 700, {651, 3, 0, 0}, XFT_F32, XFT_BF16, "plain"},
        {{12, 2, 256}, 1, 3, 70, {60, 0, 0, 0}, XFT_BF16, XFT_F32, "plain"},
    };
    for (uint32_t i = 0; i < (set == CASES_SMALL ? SMALL : sizeof cases / sizeof *cases); i++)
        make(&cases[i], visit, user);
    if (decode) return;
    make(&(cache_case){{2, 2, 6}, 3, 4, 9, {7, 9, 0, 0}, XFT_F32, XFT_F32, NULL}, visit, user); /* beyond the end */
    make(&(cache_case){{1, 1, 4}, 2, 3, 5, {UINT32_MAX / 2, 3, 0, 0}, XFT_BF16, XFT_BF16, NULL}, visit, user);
}

void cases_attention(case_set set, const char *only, case_visitor visit, void *user) {
    if (set != CASES_LONG && case_wanted(only, "segments")) cases_segments(set, visit, user);
    if (case_wanted(only, "attention")) cases_both(set, forward_case, visit, user);
    if (case_wanted(only, "attention_backward")) cases_both(set, backward_case, visit, user);
    if (case_wanted(only, "kv_append")) cases_cache(set, false, visit, user);
    if (case_wanted(only, "attention_decode")) cases_cache(set, true, visit, user);
}
