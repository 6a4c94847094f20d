/* Cases of embedding, norms, rotation and activation. */
#include "op_case.h"
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows x columns; the last two for the benchmark alone. */
static const uint32_t shapes[][2] = {{3, 5},    {1, 1},    {17, 31},    {37, 64},    {2, 4099},
                                     {301, 12}, {23, 576}, {2048, 576}, {2048, 2048}};
enum { SHAPES = sizeof shapes / sizeof *shapes, BENCH_SHAPES = 2 };

static uint32_t first_shape(case_set set) {
    return set == CASES_BENCH ? SHAPES - BENCH_SHAPES : 0;
}
static uint32_t end_shape(case_set set) {
    return set == CASES_SMALL ? 1 : set == CASES_FULL ? SHAPES - BENCH_SHAPES : SHAPES;
}

/* Moves every value by `offset`. */
static void shift(case_buffer *b, double offset) {
    for (uint64_t i = 0; i < case_elements(b); i++) b->values[i] = case_round(b->values[i] + offset, b->dtype);
}

static void done(op_case *c, case_visitor visit, void *user) {
    visit(c, user);
    case_free(c);
}

/* ---- embedding ---- */

static xft_status record_embedding(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_embedding(stream, t[0], t[1], t[2]);
}

static void embedding_case(uint32_t rows, uint32_t cols, uint32_t vocabulary, xft_dtype in, xft_dtype out,
                           case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "embedding", "[%u,%u] of [%u,%u] %s -> %s", rows, cols, vocabulary, cols, xft_dtype_name(in),
               xft_dtype_name(out));
    case_random r = case_seed(c.label);
    case_buffer *ids = case_add(&c, &r, "ids", CASE_IN, XFT_U32, 0, 1, rows);
    /* One id in nine or so does not exist. */
    for (uint32_t i = 0; i < rows; i++) ids->values[i] = case_below(&r, vocabulary + vocabulary / 8 + 1);
    if (rows > 1) ids->values[1] = UINT32_MAX;
    case_buffer *w = case_add(&c, &r, "w", CASE_IN, in, 1, 2, vocabulary, cols);
    case_buffer *y = case_add(&c, &r, "y", CASE_OUT, out, 0, 2, rows, cols);
    uint32_t *u = case_u32(ids);
    xft_embedding_params p = {rows, cols, cols, cols, vocabulary, 1};
    ref_embedding(&(ref_call){.d = {NULL, w->values, y->expected}, .u = {u}, .params = &p});
    free(u);
    c.record = record_embedding;
    c.bytes = (double)rows * (4 + cols * (xft_dtype_size(in) + xft_dtype_size(out)));
    done(&c, visit, user);
}

static xft_status record_embedding_backward(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_embedding_backward(stream, t[0], t[1], t[2], c->u[0]);
}

static void embedding_backward_case(uint32_t rows, uint32_t cols, uint32_t vocabulary, uint32_t skip_id, xft_dtype in,
                                    xft_dtype out, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "embedding_backward", "[%u,%u] to [%u,%u] %s -> %s, skip %d", rows, cols, vocabulary, cols,
               xft_dtype_name(in), xft_dtype_name(out), (int)skip_id);
    case_random r = case_seed(c.label);
    case_buffer *ids = case_add(&c, &r, "ids", CASE_IN, XFT_U32, 0, 1, rows);
    for (uint32_t i = 0; i < rows; i++) ids->values[i] = case_below(&r, vocabulary + vocabulary / 8 + 1);
    case_buffer *dy = case_add(&c, &r, "dy", CASE_IN, in, 1, 2, rows, cols);
    case_buffer *dw = case_add(&c, &r, "dw", CASE_INOUT, out, 1, 2, vocabulary, cols);
    uint32_t *u = case_u32(ids);
    xft_embedding_backward_params p = {rows, cols, cols, cols, vocabulary, skip_id, 1};
    ref_embedding_backward(&(ref_call){.d = {NULL, dy->values, case_start(dw)}, .u = {u}, .params = &p});
    free(u);
    c.u[0] = skip_id;
    c.record = record_embedding_backward;
    c.flops = (double)rows * cols;
    c.bytes = (double)rows * (4 + cols * (xft_dtype_size(in) + 2.0 * xft_dtype_size(out)));
    done(&c, visit, user);
}

static void cases_embedding(case_set set, const char *only, case_visitor visit, void *user) {
    static const struct {
        uint32_t rows, cols, vocabulary;
    } sizes[] = {{7, 5, 3},       {1, 1, 1},   {61, 12, 7},  {130, 2052, 50},
                 {513, 64, 1000}, {40, 31, 1}, {5000, 8, 1}, {2048, 576, 49152}};
    const uint32_t last = sizeof sizes / sizeof *sizes - 1;
    const uint32_t first = set == CASES_BENCH ? last : 0;
    const uint32_t end = set == CASES_SMALL ? 1 : set == CASES_FULL ? last : last + 1;
    for (uint32_t i = first; i < end; i++) {
        const uint32_t rows = sizes[i].rows, cols = sizes[i].cols, vocabulary = sizes[i].vocabulary;
        if (case_wanted(only, "embedding")) {
            embedding_case(rows, cols, vocabulary, XFT_F32, XFT_F32, visit, user);
            embedding_case(rows, cols, vocabulary, XFT_BF16, XFT_F32, visit, user);
            embedding_case(rows, cols, vocabulary, XFT_BF16, XFT_BF16, visit, user);
        }
        if (case_wanted(only, "embedding_backward")) {
            embedding_backward_case(rows, cols, vocabulary, UINT32_MAX, XFT_F32, XFT_F32, visit, user);
            embedding_backward_case(rows, cols, vocabulary, 0, XFT_BF16, XFT_F32, visit, user);
            embedding_backward_case(rows, cols, vocabulary, vocabulary / 2, XFT_F32, XFT_BF16, visit, user);
        }
    }
}

/* ---- RMSNorm ---- */

static xft_status record_rms_norm(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_rms_norm(stream, t[0], t[1], c->f[0], t[2], t[3]);
}

static void rms_norm_case(uint32_t rows, uint32_t cols, xft_dtype in, xft_dtype out, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "rms_norm", "[%u,%u] %s -> %s", rows, cols, xft_dtype_name(in), xft_dtype_name(out));
    case_random r = case_seed(c.label);
    case_buffer *x = case_add(&c, &r, "x", CASE_IN, in, 2, 2, rows, cols);
    case_buffer *w = case_add(&c, &r, "w", CASE_IN, XFT_F32, 0.2, 1, cols);
    shift(w, 1);
    case_buffer *y = case_add(&c, &r, "y", CASE_OUT, out, 0, 2, rows, cols);
    case_buffer *rstd = case_add(&c, &r, "rstd", CASE_OUT, XFT_F32, 0, 1, rows);
    c.f[0] = 1e-5f;
    xft_rms_norm_params p = {rows, cols, cols, cols, c.f[0], 1};
    ref_rms_norm(&(ref_call){.d = {x->values, w->values, y->expected, rstd->expected}, .params = &p});
    c.record = record_rms_norm;
    case_work(&c, 4.0 * rows * cols);
    done(&c, visit, user);
}

static xft_status record_rms_norm_backward(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_rms_norm_backward(stream, t[0], t[1], t[2], t[3], t[4], c->u[0], t[5], t[6], c->u[1]);
}

/* chunks 0: no gradient of w */
static void rms_norm_backward_case(uint32_t rows, uint32_t cols, uint32_t chunks, xft_dtype data, xft_dtype residual,
                                   bool accumulate_dx, bool accumulate_dw, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "rms_norm_backward", "[%u,%u] dy %s, x and dx %s, dx %s, dw %s, %u chunks", rows, cols,
               xft_dtype_name(data), xft_dtype_name(residual), accumulate_dx ? "+=" : "=", accumulate_dw ? "+=" : "=",
               chunks);
    case_random r = case_seed(c.label);
    case_buffer *dy = case_add(&c, &r, "dy", CASE_IN, data, 1, 2, rows, cols);
    case_buffer *x = case_add(&c, &r, "x", CASE_IN, residual, 2, 2, rows, cols);
    case_buffer *w = case_add(&c, &r, "w", CASE_IN, XFT_F32, 0.2, 1, cols);
    shift(w, 1);
    case_buffer *rstd = case_add(&c, &r, "rstd", CASE_IN, XFT_F32, 0, 1, rows);
    for (uint32_t t = 0; t < rows; t++) {
        double squares = 0;
        for (uint32_t k = 0; k < cols; k++) squares += x->values[t * cols + k] * x->values[t * cols + k];
        rstd->values[t] = case_round(1 / sqrt(squares / cols + 0.1), XFT_F32);
    }
    case_buffer *dx = case_add(&c, &r, "dx", accumulate_dx ? CASE_INOUT : CASE_OUT, residual, 1, 2, rows, cols);
    xft_rms_norm_backward_params p = {rows, cols, cols, cols, cols, accumulate_dx, 1};
    ref_rms_norm_backward(
        &(ref_call){.d = {dy->values, x->values, w->values, rstd->values, case_start(dx)}, .params = &p});
    if (chunks) {
        case_add(&c, &r, "scratch", CASE_SCRATCH, XFT_F32, 0, 2, chunks, cols);
        case_buffer *dw = case_add(&c, &r, "dw", accumulate_dw ? CASE_INOUT : CASE_OUT, XFT_F32, 1, 1, cols);
        xft_rms_norm_backward_weight_params q = {rows, cols, cols, cols, cols, 1, rows, 1};
        ref_rms_norm_backward_weight(
            &(ref_call){.d = {dy->values, x->values, rstd->values, dw->expected}, .params = &q});
        for (uint32_t k = 0; accumulate_dw && k < cols; k++) dw->expected[k] += dw->values[k];
    } else {
        case_add_null(&c, "scratch");
        case_add_null(&c, "dw");
    }
    c.u[0] = accumulate_dx;
    c.u[1] = accumulate_dw;
    c.record = record_rms_norm_backward;
    case_work(&c, (chunks ? 12.0 : 9.0) * rows * cols);
    done(&c, visit, user);
}

/* ---- LayerNorm ---- */

static xft_status record_layer_norm(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_layer_norm(stream, t[0], t[1], t[2], c->f[0], t[3], t[4]);
}

static void layer_norm_case(uint32_t rows, uint32_t cols, xft_dtype in, xft_dtype out, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "layer_norm", "[%u,%u] %s -> %s", rows, cols, xft_dtype_name(in), xft_dtype_name(out));
    case_random r = case_seed(c.label);
    case_buffer *x = case_add(&c, &r, "x", CASE_IN, in, 2, 2, rows, cols);
    shift(x, 3);
    case_buffer *w = case_add(&c, &r, "w", CASE_IN, XFT_F32, 0.2, 1, cols);
    shift(w, 1);
    case_buffer *b = case_add(&c, &r, "b", CASE_IN, XFT_F32, 1, 1, cols);
    case_buffer *y = case_add(&c, &r, "y", CASE_OUT, out, 0, 2, rows, cols);
    case_buffer *stats = case_add(&c, &r, "stats", CASE_OUT, XFT_F32, 0, 2, rows, 2);
    c.f[0] = 1e-5f;
    xft_layer_norm_params p = {rows, cols, cols, cols, 2, c.f[0], 1};
    ref_layer_norm(&(ref_call){.d = {x->values, w->values, b->values, y->expected, stats->expected}, .params = &p});
    c.record = record_layer_norm;
    case_work(&c, 8.0 * rows * cols);
    done(&c, visit, user);
}

static xft_status record_layer_norm_backward(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_layer_norm_backward(stream, t[0], t[1], t[2], t[3], t[4], c->u[0], t[5], t[6], t[7], c->u[1]);
}

static void layer_norm_backward_case(uint32_t rows, uint32_t cols, uint32_t chunks, xft_dtype data, xft_dtype residual,
                                     bool accumulate_dx, bool accumulate_dw, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "layer_norm_backward", "[%u,%u] dy %s, x and dx %s, dx %s, dw %s, %u chunks", rows, cols,
               xft_dtype_name(data), xft_dtype_name(residual), accumulate_dx ? "+=" : "=", accumulate_dw ? "+=" : "=",
               chunks);
    case_random r = case_seed(c.label);
    case_buffer *dy = case_add(&c, &r, "dy", CASE_IN, data, 1, 2, rows, cols);
    case_buffer *x = case_add(&c, &r, "x", CASE_IN, residual, 2, 2, rows, cols);
    shift(x, 1);
    case_buffer *w = case_add(&c, &r, "w", CASE_IN, XFT_F32, 0.2, 1, cols);
    shift(w, 1);
    case_buffer *stats = case_add(&c, &r, "stats", CASE_IN, XFT_F32, 0, 2, rows, 2);
    for (uint32_t t = 0; t < rows; t++) {
        double mean = 0, variance = 0;
        for (uint32_t k = 0; k < cols; k++) mean += x->values[t * cols + k] / cols;
        for (uint32_t k = 0; k < cols; k++) variance += pow(x->values[t * cols + k] - mean, 2) / cols;
        stats->values[2 * t] = case_round(mean, XFT_F32);
        stats->values[2 * t + 1] = case_round(1 / sqrt(variance + 0.1), XFT_F32);
    }
    case_buffer *dx = case_add(&c, &r, "dx", accumulate_dx ? CASE_INOUT : CASE_OUT, residual, 1, 2, rows, cols);
    xft_layer_norm_backward_params p = {rows, cols, cols, cols, 2, cols, accumulate_dx, 1};
    ref_layer_norm_backward(
        &(ref_call){.d = {dy->values, x->values, w->values, stats->values, case_start(dx)}, .params = &p});
    if (chunks) {
        const case_role role = accumulate_dw ? CASE_INOUT : CASE_OUT;
        case_add(&c, &r, "scratch", CASE_SCRATCH, XFT_F32, 0, 2, 2 * chunks, cols);
        case_buffer *dw = case_add(&c, &r, "dw", role, XFT_F32, 1, 1, cols);
        case_buffer *db = case_add(&c, &r, "db", role, XFT_F32, 1, 1, cols);
        xft_layer_norm_backward_weight_params q = {rows, cols, cols, cols, 2, cols, 1, rows, 1};
        ref_layer_norm_backward_weight(
            &(ref_call){.d = {dy->values, x->values, stats->values, dw->expected, db->expected}, .params = &q});
        for (uint32_t k = 0; accumulate_dw && k < cols; k++) {
            dw->expected[k] += dw->values[k];
            db->expected[k] += db->values[k];
        }
    } else {
        case_add_null(&c, "scratch");
        case_add_null(&c, "dw");
        case_add_null(&c, "db");
    }
    c.u[0] = accumulate_dx;
    c.u[1] = accumulate_dw;
    c.record = record_layer_norm_backward;
    case_work(&c, (chunks ? 18.0 : 13.0) * rows * cols);
    done(&c, visit, user);
}

static void cases_norms(case_set set, const char *only, case_visitor visit, void *user) {
    static const uint32_t chunks[] = {2, 1, 5, 3, 16, 64, 7, 16, 32};
    for (uint32_t i = first_shape(set); i < end_shape(set); i++) {
        const uint32_t rows = shapes[i][0], cols = shapes[i][1], n = chunks[i];
        if (case_wanted(only, "rms_norm")) {
            rms_norm_case(rows, cols, XFT_F32, XFT_F32, visit, user);
            rms_norm_case(rows, cols, XFT_F32, XFT_BF16, visit, user);
            rms_norm_case(rows, cols, XFT_BF16, XFT_BF16, visit, user);
        }
        if (case_wanted(only, "layer_norm")) {
            layer_norm_case(rows, cols, XFT_F32, XFT_F32, visit, user);
            layer_norm_case(rows, cols, XFT_F32, XFT_BF16, visit, user);
            layer_norm_case(rows, cols, XFT_BF16, XFT_BF16, visit, user);
        }
        if (case_wanted(only, "rms_norm_backward")) {
            rms_norm_backward_case(rows, cols, n, XFT_F32, XFT_F32, true, false, visit, user);
            rms_norm_backward_case(rows, cols, n, XFT_BF16, XFT_F32, false, true, visit, user);
            rms_norm_backward_case(rows, cols, 0, XFT_BF16, XFT_BF16, false, false, visit, user);
        }
        if (case_wanted(only, "layer_norm_backward")) {
            layer_norm_backward_case(rows, cols, n, XFT_F32, XFT_F32, true, false, visit, user);
            layer_norm_backward_case(rows, cols, n, XFT_BF16, XFT_F32, false, true, visit, user);
            layer_norm_backward_case(rows, cols, 0, XFT_BF16, XFT_BF16, false, false, visit, user);
        }
    }
}

/* ---- RoPE ---- */

static xft_status record_rope(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_rope(stream, t[0], t[1], c->u[0], c->u[1], t[2]);
}

static void rope_case(uint32_t rows, uint32_t heads, uint32_t head_size, uint32_t rotary, xft_dtype dtype, bool inverse,
                      case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "rope", "[%u,%u x %u], first %u, %s%s", rows, heads, head_size, rotary, xft_dtype_name(dtype),
               inverse ? ", inverse" : "");
    case_random r = case_seed(c.label);
    const uint32_t positions = rows + 3;
    case_buffer *table = case_add(&c, &r, "table", CASE_IN, XFT_F32, 1, 2, positions, rotary);
    for (uint32_t i = 0; i < positions; i++)
        for (uint32_t k = 0; k < rotary / 2; k++) {
            double angle = i * pow(10000, -2.0 * k / rotary);
            table->values[i * rotary + k] = case_round(cos(angle), XFT_F32);
            table->values[i * rotary + rotary / 2 + k] = case_round(sin(angle), XFT_F32);
        }
    case_buffer *at = case_add(&c, &r, "rows", CASE_IN, XFT_U32, 0, 1, rows);
    for (uint32_t i = 0; i < rows; i++) at->values[i] = case_below(&r, positions);
    case_buffer *x = case_add(&c, &r, "x", CASE_INOUT, dtype, 1, 2, rows, heads * head_size);
    uint32_t *u = case_u32(at);
    xft_rope_params p = {
        rows, heads, head_size, rotary / 2, rotary, positions, heads * head_size, inverse ? -1.0f : 1.0f, 1};
    ref_rope(&(ref_call){.d = {table->values, NULL, case_start(x)}, .u = {NULL, u}, .params = &p});
    free(u);
    c.u[0] = head_size;
    c.u[1] = inverse;
    c.record = record_rope;
    c.flops = 3.0 * rows * heads * rotary;
    c.bytes = (double)rows * rotary * (4 + 2.0 * heads * xft_dtype_size(dtype));
    done(&c, visit, user);
}

static void cases_rope(case_set set, case_visitor visit, void *user) {
    /* The first three: pairs in fours, twos, and one by one. */
    static const struct {
        uint32_t rows, heads, head_size, rotary;
    } sizes[] = {{3, 2, 8, 8},    {2, 3, 12, 12},   {2, 3, 6, 6},  {1, 1, 2, 2},   {13, 3, 80, 20}, {5, 4, 64, 16},
                 {33, 9, 64, 64}, {2, 2, 128, 128}, {9, 7, 10, 4}, {5, 3, 10, 10}, {11, 2, 96, 96}, {2048, 9, 64, 64}};
    const uint32_t last = sizeof sizes / sizeof *sizes - 1;
    const uint32_t first = set == CASES_BENCH ? last : 0;
    const uint32_t end = set == CASES_SMALL ? 3 : set == CASES_FULL ? last : last + 1;
    for (uint32_t i = first; i < end; i++)
        for (uint32_t k = 0; k < 4; k++)
            rope_case(sizes[i].rows, sizes[i].heads, sizes[i].head_size, sizes[i].rotary, k < 2 ? XFT_F32 : XFT_BF16,
                      k % 2, visit, user);
}

/* ---- SwiGLU ---- */

static xft_status record_swiglu(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_swiglu(stream, t[0], t[1], t[2]);
}

static void swiglu_case(uint32_t rows, uint32_t cols, xft_dtype in, xft_dtype out, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "swiglu", "[%u,%u] %s -> %s", rows, cols, xft_dtype_name(in), xft_dtype_name(out));
    case_random r = case_seed(c.label);
    case_buffer *g = case_add(&c, &r, "g", CASE_IN, in, 3, 2, rows, cols);
    if (cols > 2) g->values[0] = -200; /* exp(-g) overflows f32 */
    case_buffer *u = case_add(&c, &r, "u", CASE_IN, in, 1, 2, rows, cols);
    case_buffer *h = case_add(&c, &r, "h", CASE_OUT, out, 0, 2, rows, cols);
    xft_swiglu_params p = {rows, cols, cols, cols, cols, 1};
    ref_swiglu(&(ref_call){.d = {g->values, u->values, h->expected}, .params = &p});
    c.record = record_swiglu;
    case_work(&c, 6.0 * rows * cols);
    done(&c, visit, user);
}

static xft_status record_swiglu_backward(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_swiglu_backward(stream, t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]);
}

/* top_k 0: without experts. unused: rows behind the last expert's. */
static void swiglu_backward_case(uint32_t rows, uint32_t cols, uint32_t top_k, uint32_t unused, xft_dtype data,
                                 xft_dtype grad, bool store_h, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "swiglu_backward", "[%u,%u] %s, dh %s, top_k %u, %u unused%s", rows, cols, xft_dtype_name(data),
               xft_dtype_name(grad), top_k, unused, store_h ? ", with h" : "");
    case_random r = case_seed(c.label);
    const uint32_t tokens = top_k ? (rows + top_k - 1) / top_k : 0, experts = 3;
    case_buffer *dh = case_add(&c, &r, "dh", CASE_IN, grad, 1, 2, rows, cols);
    uint32_t *source = NULL, *offsets = NULL;
    double *weights = NULL;
    if (top_k) {
        case_buffer *w = case_add(&c, &r, "weights", CASE_IN, XFT_F32, 0.3, 2, tokens, top_k);
        w->values[0] = 0;
        weights = w->values;
        case_buffer *s = case_add(&c, &r, "source", CASE_IN, XFT_U32, 0, 1, rows);
        for (uint32_t i = 0; i < rows; i++)
            s->values[i] = i < rows - unused ? (i * 7 + 3) % (tokens * top_k) : UINT32_MAX;
        case_buffer *o = case_add(&c, &r, "offsets", CASE_IN, XFT_U32, 0, 1, experts + 1);
        for (uint32_t i = 1; i <= experts; i++) o->values[i] = (rows - unused) * i / experts;
        source = case_u32(s);
        offsets = case_u32(o);
    } else {
        case_add_null(&c, "weights");
        case_add_null(&c, "source");
        case_add_null(&c, "offsets");
    }
    case_buffer *g = case_add(&c, &r, "g", CASE_INOUT, data, 3, 2, rows, cols);
    if (cols > 2) g->values[0] = -200;
    case_buffer *u = case_add(&c, &r, "u", CASE_INOUT, data, 1, 2, rows, cols);
    case_buffer *h = NULL, *dots = NULL;
    if (store_h)
        h = case_add(&c, &r, "h", CASE_OUT, data, 0, 2, rows, cols);
    else
        case_add_null(&c, "h");
    if (top_k)
        dots = case_add(&c, &r, "dots", CASE_OUT, XFT_F32, 0, 1, rows);
    else
        case_add_null(&c, "dots");
    for (uint64_t i = 0; h && i < case_elements(h); i++) h->expected[i] = NAN;
    for (uint64_t i = 0; dots && i < case_elements(dots); i++) dots->expected[i] = NAN;
    xft_swiglu_backward_params p = {rows, cols, cols, top_k, cols, cols, cols, top_k, experts, store_h, 1};
    ref_swiglu_backward(&(ref_call){.d = {dh->values, weights, NULL, NULL, case_start(g), case_start(u),
                                          h ? h->expected : NULL, dots ? dots->expected : NULL},
                                    .u = {NULL, NULL, source, offsets},
                                    .params = &p,
                                    .constants = (uint32_t[]){1, grad, data, data, top_k != 0}});
    free(source);
    free(offsets);
    c.record = record_swiglu_backward;
    case_work(&c, 16.0 * rows * cols);
    done(&c, visit, user);
}

static void cases_swiglu(case_set set, const char *only, case_visitor visit, void *user) {
    for (uint32_t i = first_shape(set); i < end_shape(set); i++) {
        const uint32_t rows = shapes[i][0], cols = shapes[i][1];
        if (case_wanted(only, "swiglu")) {
            swiglu_case(rows, cols, XFT_F32, XFT_F32, visit, user);
            swiglu_case(rows, cols, XFT_BF16, XFT_BF16, visit, user);
        }
        if (case_wanted(only, "swiglu_backward")) {
            swiglu_backward_case(rows, cols, 0, 0, XFT_F32, XFT_F32, true, visit, user);
            swiglu_backward_case(rows, cols, 0, 0, XFT_BF16, XFT_BF16, false, visit, user);
            swiglu_backward_case(rows, cols, 6, rows / 3, XFT_F32, XFT_F32, true, visit, user);
            swiglu_backward_case(rows, cols, 2, 0, XFT_BF16, XFT_F32, true, visit, user);
            swiglu_backward_case(rows, cols, 3, rows / 2, XFT_BF16, XFT_BF16, false, visit, user);
        }
    }
}

void cases_norm(case_set set, const char *only, case_visitor visit, void *user) {
    if (set == CASES_LONG) { /* one id that all tokens share */
        if (case_wanted(only, "embedding_backward"))
            embedding_backward_case(16384, 2048, 1, UINT32_MAX, XFT_BF16, XFT_F32, visit, user);
        return;
    }
    cases_embedding(set, only, visit, user);
    cases_norms(set, only, visit, user);
    if (case_wanted(only, "rope")) cases_rope(set, visit, user);
    cases_swiglu(set, only, visit, user);
}
