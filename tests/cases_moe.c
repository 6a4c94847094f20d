/* Cases of routing and experts: all gates and kinds of noise, ties, one token, K = E, 64 experts, padding and tails,
 * experts without tokens and experts that get them all. */
#include "op_case.h"
#include "reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How the logits lie. */
typedef enum pattern {
    RANDOM,
    TIES,      /* few different values: many equal logits */
    SATURATED, /* large logits: probabilities at 0 and 1 */
    EMPTY,     /* routed expert 1 is never among the picks (where others are left) */
    CROWDED    /* every token picks routed expert 1 first */
} pattern;

typedef struct moe_shape {
    uint32_t experts, top_k, tokens;
    xft_gate gate;
    bool linear;
    xft_noise noise;
    bool official;
    pattern pattern;
    uint32_t tail;     /* tokens at the end that are not valid; with one, token 3 is not either */
    float noise_scale; /* 0: 1; negative: 0 */
} moe_shape;

/* A routed micro-batch: inputs of router and, by its reference, what follows from them. */
typedef struct routed {
    xft_router_config config;
    xft_router_params p;
    double *h, *w2, *noise, *state, *weights; /* w2, noise: NULL when absent */
    uint32_t *segments, *picks, step[16];
    uint32_t T, n, k, K, h_width;
} routed;

static const uint32_t step_floats = 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8 | 1u << 9 | 1u << 10 | 1u << 11;

static void *take(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) abort();
    return memory;
}

static void route(const routed *r) {
    ref_router(&(ref_call){.d = {r->h, r->w2, r->noise, NULL, NULL, r->state, NULL, r->weights},
                           .u = {NULL, NULL, NULL, r->segments, (uint32_t *)r->step, NULL, r->picks},
                           .params = &r->p});
}

static void draw_token(const routed *r, const moe_shape *s, case_random *random, uint32_t t) {
    const double width = s->pattern == SATURATED ? 30 : 1;
    for (uint32_t i = 0; i < r->h_width; i++) {
        double x = width * case_normal(random);
        if (s->pattern == TIES) x = i < r->n ? (double)case_below(random, 3) - 1 : 0.5;
        if (s->pattern == EMPTY && i == 1) x = -1000;
        if (s->pattern == CROWDED && i == 1) x = 1000;
        r->h[t * r->h_width + i] = (float)x;
    }
    for (uint32_t e = 0; r->noise && e < r->n; e++)
        r->noise[t * r->n + e] = s->pattern == TIES ? (double)case_below(random, 2) : (float)case_normal(random);
}

/* The order of a token's largest logits, and the official comparison, must not hang on rounding: equal, or apart. */
static bool decided(const routed *r, const moe_shape *s, uint32_t t) {
    const double *state = r->state + t * 7 * r->n, *z = state + 4 * r->n;
    double least = INFINITY, threshold = -INFINITY;
    for (uint32_t e = 0; e < r->n; e++) {
        uint32_t rank = 0;
        for (uint32_t j = 0; j < r->n; j++) {
            rank += z[j] > z[e] || (z[j] == z[e] && j < e);
            if (z[j] != z[e]) least = fmin(least, fabs(z[j] - z[e]) / fmax(1, fabs(z[e])));
        }
        if (rank == r->k) threshold = z[e];
    }
    for (uint32_t e = 0; s->official && e < r->n; e++)
        least = fmin(least, fabs(state[3 * r->n + e] * state[2 * r->n + e] - threshold));
    return least > 1e-5;
}

static routed routed_make(const moe_shape *s, case_random *random) {
    const bool vanilla = s->gate == XFT_GATE_VANILLA;
    routed r = {.config = {.num_experts = s->experts,
                           .top_k = s->top_k,
                           .gate = s->gate,
                           .mlp = !s->linear,
                           .noise = s->noise,
                           .noise_epsilon = 1e-2f,
                           .balance_weight = 1e-2f,
                           .official = s->official,
                           .layer = 3},
                .T = s->tokens,
                .n = s->experts - !vanilla,
                .k = s->top_k - !vanilla,
                .K = s->top_k};
    const uint32_t T = r.T, n = r.n;
    r.h_width = s->noise == XFT_NOISE_NONE ? n : 2 * n;
    r.h = take((size_t)T * r.h_width, sizeof(double));
    if (!s->linear) r.w2 = take((size_t)n * n, sizeof(double));
    if (s->noise == XFT_NOISE_STORED) r.noise = take((size_t)T * n, sizeof(double));
    r.state = take((size_t)T * 7 * n, sizeof(double));
    r.weights = take((size_t)T * r.K, sizeof(double));
    r.segments = take((size_t)T * 4, sizeof(uint32_t));
    r.picks = take((size_t)T * r.k, sizeof(uint32_t));
    for (uint32_t t = 0; t < T; t++) {
        const bool valid = t < T - s->tail && !(s->tail && t == 3);
        memcpy(&r.segments[4 * t], (uint32_t[]){0, valid ? T : 0, valid ? T : 0, valid}, 16);
    }
    const xft_step_block block = {.step = 17,
                                  .seed_low = 0x12345678,
                                  .seed_high = 42,
                                  .first_token = 1000,
                                  .balance_scale = 0.25f,
                                  .marks_used = 1,
                                  .noise_scale = s->noise_scale == 0 ? 1 : fmaxf(s->noise_scale, 0)};
    memcpy(r.step, &block, sizeof r.step);
    r.p = (xft_router_params){.tokens = T,
                              .routed = n,
                              .picks = r.k,
                              .gate = s->gate,
                              .mlp = !s->linear,
                              .noise = s->noise,
                              .layer = 3,
                              .noise_epsilon = 1e-2f,
                              .ld_h = r.h_width,
                              .ld_w2 = n,
                              .ld_noise = n,
                              .ld_state = 7 * n,
                              .ld_picks = r.k,
                              .ld_weights = r.K};
    for (uint32_t i = 0; r.w2 && i < n * n; i++) /* ties: equal rows, so that equal sums come out on every device */
        r.w2[i] = s->pattern == TIES && i >= n && i / n % 2 ? r.w2[i - n] : (float)(0.7 * case_normal(random));
    for (uint32_t t = 0; t < T; t++) draw_token(&r, s, random, t);
    for (bool again = true; again;) {
        again = false;
        route(&r);
        for (uint32_t t = 0; t < T; t++) {
            if (!r.segments[4 * t + 3] || decided(&r, s, t)) continue;
            draw_token(&r, s, random, t);
            again = true;
        }
    }
    return r;
}

static void routed_free(routed *r) {
    void *all[] = {r->h, r->w2, r->noise, r->state, r->weights, r->segments, r->picks};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* ---- Buffers from arrays ---- */

static void set(double *to, const double *values, uint64_t count) {
    memcpy(to, values, count * sizeof *to);
}
static void set_u32(double *to, const uint32_t *values, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) to[i] = values[i];
}

static void add_step(op_case *c, const uint32_t *step) {
    case_buffer *b = case_add(c, NULL, "step", CASE_IN, XFT_U32, 0, 1, 16);
    b->float_columns = step_floats;
    for (uint32_t i = 0; i < 16; i++) b->values[i] = step_floats >> i & 1 ? (double)ref_float(step[i]) : step[i];
}

static void add_segments(op_case *c, const routed *r) {
    set_u32(case_add(c, NULL, "segments", CASE_IN, XFT_U32, 0, 2, r->T, 4)->values, r->segments, 4ull * r->T);
}

static void add_w2(op_case *c, const routed *r) {
    if (r->w2)
        set(case_add(c, NULL, "w2", CASE_IN, XFT_F32, 0, 2, r->n, r->n)->values, r->w2, (uint64_t)r->n * r->n);
    else
        case_add_null(c, "w2");
}

/* The state as f32 holds it: the references of what follows work on the same numbers as the device. */
static const double *add_state(op_case *c, const routed *r) {
    case_buffer *b = case_add(c, NULL, "state", CASE_IN, XFT_F32, 0, 2, r->T, 7 * r->n);
    for (uint64_t i = 0; i < case_elements(b); i++) b->values[i] = case_round(r->state[i], XFT_F32);
    return b->values;
}

static void describe(op_case *c, const char *op, const moe_shape *s) {
    static const char *const gates[] = {"xft", "unnormalised", "vanilla"}, *const noises[] = {"none", "stored",
                                                                                              "philox"};
    static const char *const patterns[] = {"random", "ties", "saturated", "empty", "crowded"};
    case_begin(c, op, "E %u K %u T %u tail %u %s %s noise %s %s%s scale %g", s->experts, s->top_k, s->tokens, s->tail,
               gates[s->gate], s->linear ? "linear" : "mlp", noises[s->noise], patterns[s->pattern],
               s->official ? " official" : "", (double)s->noise_scale);
}

/* ---- router ---- */

static xft_status record_router(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_router(stream, c->config, t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]);
}

static void router_case(const moe_shape *s, case_visitor visit, void *user) {
    op_case c;
    describe(&c, "router", s);
    case_random random = case_seed(c.label);
    routed r = routed_make(s, &random);
    set(case_add(&c, NULL, "h", CASE_IN, XFT_F32, 0, 2, r.T, r.h_width)->values, r.h, (uint64_t)r.T * r.h_width);
    add_w2(&c, &r);
    if (r.noise)
        set(case_add(&c, NULL, "stored_noise", CASE_IN, XFT_F32, 0, 2, r.T, r.n)->values, r.noise, (uint64_t)r.T * r.n);
    else
        case_add_null(&c, "stored_noise");
    add_segments(&c, &r);
    add_step(&c, r.step);
    case_buffer *state = case_add(&c, NULL, "state", CASE_OUT, XFT_F32, 0, 2, r.T, 7 * r.n);
    case_buffer *picks = case_add(&c, NULL, "picks", CASE_OUT, XFT_U32, 0, 2, r.T, r.k);
    case_buffer *weights = case_add(&c, NULL, "weights", CASE_OUT, XFT_F32, 0, 2, r.T, r.K);
    set(state->expected, r.state, case_elements(state));
    set_u32(picks->expected, r.picks, case_elements(picks));
    set(weights->expected, r.weights, case_elements(weights));
    c.config = &r.config;
    c.record = record_router;
    c.flops = (double)r.T * r.n * (2.0 * r.n + 100);
    c.bytes = 4.0 * r.T * (r.h_width + 7 * r.n + r.k + r.K);
    visit(&c, user);
    case_free(&c);
    routed_free(&r);
}

/* ---- router_balance ---- */

static xft_status record_balance(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_router_balance(stream, c->config, t[0], t[1], t[2], t[3], t[4], t[5], t[6]);
}

static void balance_case(const moe_shape *s, uint32_t chunks, case_visitor visit, void *user) {
    op_case c;
    describe(&c, "router_balance", s);
    case_random random = case_seed(c.label);
    routed r = routed_make(s, &random);
    const uint32_t n = r.n;
    const double *state = add_state(&c, &r);
    add_segments(&c, &r);
    add_step(&c, r.step);
    case_add(&c, NULL, "scratch", CASE_SCRATCH, XFT_F32, 0, 2, chunks, 3 * n);
    case_buffer *stats = case_add(&c, NULL, "stats", CASE_OUT, XFT_F32, 0, 2, 3, n);
    case_buffer *coefficients = case_add(&c, NULL, "coefficients", CASE_OUT, XFT_F32, 0, 2, 2, n);
    case_buffer *loss = case_add(&c, &random, "loss", CASE_INOUT, XFT_F32, 1, 1, 1);
    double *sums = take(3 * n, sizeof(double));
    const xft_router_stats_params stats_params = {.tokens = r.T,
                                                  .routed = n,
                                                  .picks = r.k,
                                                  .official = s->official,
                                                  .stretch = r.T,
                                                  .ld_state = 7 * n,
                                                  .ld_partial = 3 * n};
    ref_router_stats(&(ref_call){.d = {(double *)state, NULL, sums}, .u = {NULL, r.segments}, .params = &stats_params});
    loss->expected[0] = loss->values[0];
    const xft_router_balance_params params = {
        .routed = n, .chunks = 1, .balance_weight = 1e-2f, .ld_partial = 3 * n, .ld_stats = n, .ld_coefficients = n};
    ref_router_balance(&(ref_call){.d = {sums, NULL, stats->expected, coefficients->expected, loss->expected},
                                   .u = {NULL, r.step},
                                   .params = &params});
    c.config = &r.config;
    c.record = record_balance;
    c.flops = (double)r.T * n * (n + 50.0);
    c.bytes = 28.0 * r.T * n;
    visit(&c, user);
    case_free(&c);
    free(sums);
    routed_free(&r);
}

/* ---- expert_group, and what is built on its result ---- */

typedef struct grouped {
    uint32_t *counts, *offsets, *source, *inverse;
} grouped;

static grouped grouped_make(const routed *r, uint32_t *used) {
    const uint32_t E = r->config.num_experts, shared = E - r->n, R = r->T * r->K;
    grouped g = {take(E, 4), take(E + 1, 4), take(R, 4), take(R, 4)};
    const xft_expert_count_params count = {.tokens = r->T,
                                           .experts = E,
                                           .picks = r->k,
                                           .shared_experts = shared,
                                           .stretch = r->T,
                                           .ld_picks = r->k,
                                           .ld_counts = E};
    ref_expert_count(&(ref_call){.u = {r->picks, g.counts}, .params = &count});
    const xft_expert_group_params group = {.tokens = r->T,
                                           .experts = E,
                                           .picks = r->k,
                                           .shared_experts = shared,
                                           .stretch = r->T,
                                           .chunks = 1,
                                           .marks = used != NULL,
                                           .ld_picks = r->k,
                                           .ld_counts = E,
                                           .ld_inverse = r->K};
    ref_expert_group(&(ref_call){.u = {r->picks, g.counts, (uint32_t *)r->step, g.offsets, g.source, g.inverse, used},
                                 .params = &group});
    return g;
}

static void grouped_free(grouped *g) {
    free(g->counts);
    free(g->offsets);
    free(g->source);
    free(g->inverse);
}

static xft_status record_group(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_expert_group(stream, c->config, t[0], t[1], t[2], t[3], t[4], t[5], t[6]);
}

/* marks: the step block's marks_used; 2: used is NULL */
static void group_case(const moe_shape *s, uint32_t chunks, uint32_t marks, case_visitor visit, void *user) {
    op_case c;
    describe(&c, "expert_group", s);
    case_random random = case_seed(c.label);
    routed r = routed_make(s, &random);
    const uint32_t E = r.config.num_experts, R = r.T * r.K;
    r.step[7] = marks == 1;
    uint32_t *used = take(E, sizeof *used);
    for (uint32_t e = 0; e < E; e++) used[e] = case_below(&random, 2);
    set_u32(case_add(&c, NULL, "picks", CASE_IN, XFT_U32, 0, 2, r.T, r.k)->values, r.picks, (uint64_t)r.T * r.k);
    add_step(&c, r.step);
    case_add(&c, NULL, "scratch", CASE_SCRATCH, XFT_U32, 0, 2, chunks, E);
    case_buffer *offsets = case_add(&c, NULL, "offsets", CASE_OUT, XFT_U32, 0, 1, E + 1);
    case_buffer *source = case_add(&c, NULL, "source", CASE_OUT, XFT_U32, 0, 1, R);
    case_buffer *inverse = case_add(&c, NULL, "inverse", CASE_OUT, XFT_U32, 0, 2, r.T, r.K);
    case_buffer *marked = NULL;
    if (marks == 2) {
        case_add_null(&c, "used");
    } else {
        marked = case_add(&c, NULL, "used", CASE_INOUT, XFT_U32, 0, 1, E);
        set_u32(marked->values, used, E);
    }
    grouped g = grouped_make(&r, used);
    set_u32(offsets->expected, g.offsets, E + 1);
    set_u32(source->expected, g.source, R);
    set_u32(inverse->expected, g.inverse, R);
    if (marked) set_u32(marked->expected, used, E);
    c.config = &r.config;
    c.record = record_group;
    c.bytes = 4.0 * r.T * (r.k + 2.0 * r.K);
    visit(&c, user);
    case_free(&c);
    grouped_free(&g);
    routed_free(&r);
    free(used);
}

/* ---- router_backward ---- */

static xft_status record_backward(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_router_backward(stream, c->config, t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]);
}

static void backward_case(const moe_shape *s, case_visitor visit, void *user) {
    op_case c;
    describe(&c, "router_backward", s);
    case_random random = case_seed(c.label);
    routed r = routed_make(s, &random);
    grouped g = grouped_make(&r, NULL);
    const uint32_t n = r.n, R = r.T * r.K;
    const double *dots = case_add(&c, &random, "dots", CASE_IN, XFT_F32, 1, 1, R)->values;
    set_u32(case_add(&c, NULL, "inverse", CASE_IN, XFT_U32, 0, 2, r.T, r.K)->values, g.inverse, R);
    const double *state = add_state(&c, &r);
    add_w2(&c, &r);
    const double *coefficients = case_add(&c, &random, "coefficients", CASE_IN, XFT_F32, 0.3, 2, 2, n)->values;
    add_segments(&c, &r);
    case_buffer *dh = case_add(&c, NULL, "dh", CASE_OUT, XFT_F32, 0, 2, r.T, r.h_width);
    case_buffer *dg = case_add(&c, NULL, "dg", CASE_OUT, XFT_F32, 0, 2, r.T, n);
    const xft_router_backward_params params = {.tokens = r.T,
                                               .routed = n,
                                               .picks = r.k,
                                               .gate = s->gate,
                                               .mlp = !s->linear,
                                               .noisy = s->noise != XFT_NOISE_NONE,
                                               .official = s->official,
                                               .ld_inverse = r.K,
                                               .ld_state = 7 * n,
                                               .ld_w2 = n,
                                               .ld_coefficients = n,
                                               .ld_dh = r.h_width,
                                               .ld_dg = n};
    ref_router_backward(&(ref_call){
        .d = {(double *)dots, NULL, (double *)state, r.w2, (double *)coefficients, NULL, dh->expected, dg->expected},
        .u = {NULL, g.inverse, NULL, NULL, NULL, r.segments},
        .params = &params});
    c.config = &r.config;
    c.record = record_backward;
    c.flops = (double)r.T * n * (4.0 * n + 100);
    c.bytes = 4.0 * r.T * (8 * n + r.h_width + 2 * r.K);
    visit(&c, user);
    case_free(&c);
    grouped_free(&g);
    routed_free(&r);
}

/* ---- gather_rows and combine ---- */

static xft_status record_gather(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_gather_rows(stream, t[0], t[1], t[2], c->u[0], t[3]);
}

static void gather_case(const moe_shape *s, uint32_t H, xft_dtype in, xft_dtype out, case_visitor visit, void *user) {
    op_case c;
    describe(&c, "gather_rows", s);
    snprintf(c.label + strlen(c.label), sizeof c.label - strlen(c.label), " H %u %s -> %s", H, xft_dtype_name(in),
             xft_dtype_name(out));
    case_random random = case_seed(c.label);
    routed r = routed_make(s, &random);
    grouped g = grouped_make(&r, NULL);
    const uint32_t E = r.config.num_experts, R = r.T * r.K;
    const double *x = case_add(&c, &random, "x", CASE_IN, in, 1, 2, r.T, H)->values;
    set_u32(case_add(&c, NULL, "source", CASE_IN, XFT_U32, 0, 1, R)->values, g.source, R);
    set_u32(case_add(&c, NULL, "offsets", CASE_IN, XFT_U32, 0, 1, E + 1)->values, g.offsets, E + 1);
    case_buffer *y = case_add(&c, NULL, "y", CASE_OUT, out, 0, 2, R, H);
    for (uint64_t i = 0; i < case_elements(y); i++) y->expected[i] = NAN; /* rows of no pair are left alone */
    const xft_gather_rows_params params = {.rows = R, .cols = H, .experts = E, .top_k = r.K, .ld_x = H, .ld_y = H};
    ref_gather_rows(
        &(ref_call){.d = {(double *)x, NULL, NULL, y->expected}, .u = {NULL, g.source, g.offsets}, .params = &params});
    c.u[0] = r.K;
    c.record = record_gather;
    c.bytes = (double)r.T * H * xft_dtype_size(in) + (double)R * H * xft_dtype_size(out);
    visit(&c, user);
    case_free(&c);
    grouped_free(&g);
    routed_free(&r);
}

static xft_status record_combine(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_combine(stream, t[0], t[1], t[2], t[3], c->u[0] != 0);
}

static void combine_case(const moe_shape *s, uint32_t H, xft_dtype in, xft_dtype out, bool weighted, bool accumulate,
                         case_visitor visit, void *user) {
    op_case c;
    describe(&c, "combine", s);
    snprintf(c.label + strlen(c.label), sizeof c.label - strlen(c.label), " H %u %s -> %s%s%s", H, xft_dtype_name(in),
             xft_dtype_name(out), weighted ? " weighted" : "", accumulate ? " +=" : "");
    case_random random = case_seed(c.label);
    routed r = routed_make(s, &random);
    grouped g = grouped_make(&r, NULL);
    const uint32_t R = r.T * r.K;
    const double *x = case_add(&c, &random, "x", CASE_IN, in, 1, 2, R, H)->values, *weights = NULL;
    set_u32(case_add(&c, NULL, "inverse", CASE_IN, XFT_U32, 0, 2, r.T, r.K)->values, g.inverse, R);
    if (weighted)
        weights = case_add(&c, &random, "weights", CASE_IN, XFT_F32, 1, 2, r.T, r.K)->values;
    else
        case_add_null(&c, "weights");
    case_buffer *y = case_add(&c, &random, "y", accumulate ? CASE_INOUT : CASE_OUT, out, 1, 2, r.T, H);
    if (accumulate) set(y->expected, y->values, case_elements(y));
    const xft_combine_params params = {.tokens = r.T,
                                       .cols = H,
                                       .slots = r.K,
                                       .weighted = weighted,
                                       .accumulate = accumulate,
                                       .ld_x = H,
                                       .ld_inverse = r.K,
                                       .ld_weights = r.K,
                                       .ld_y = H};
    ref_combine(&(ref_call){
        .d = {(double *)x, NULL, (double *)weights, y->expected}, .u = {NULL, g.inverse}, .params = &params});
    c.u[0] = accumulate;
    c.record = record_combine;
    c.flops = 2.0 * R * H;
    c.bytes = (double)R * H * xft_dtype_size(in) + (1.0 + accumulate) * r.T * H * xft_dtype_size(out);
    visit(&c, user);
    case_free(&c);
    grouped_free(&g);
    routed_free(&r);
}

/* ---- The grid ---- */

/* The first SMALL of them go to slow devices. */
enum { SMALL = 4 };
static const moe_shape shapes[] = {
    {8, 6, 5, XFT_GATE_XFT, false, XFT_NOISE_PHILOX, false, RANDOM, 2, 0},
    {4, 2, 7, XFT_GATE_VANILLA, true, XFT_NOISE_STORED, true, TIES, 1, 0},
    {8, 6, 3, XFT_GATE_UNNORMALISED, false, XFT_NOISE_STORED, false, RANDOM, 0, 0},
    {2, 2, 3, XFT_GATE_XFT, false, XFT_NOISE_STORED, false, RANDOM, 0, 0},
    {8, 6, 101, XFT_GATE_XFT, false, XFT_NOISE_STORED, false, RANDOM, 13, 0},
    {8, 6, 101, XFT_GATE_XFT, false, XFT_NOISE_STORED, true, RANDOM, 13, 0},
    {8, 6, 37, XFT_GATE_XFT, false, XFT_NOISE_NONE, false, RANDOM, 5, 0},
    {8, 6, 37, XFT_GATE_XFT, true, XFT_NOISE_NONE, false, RANDOM, 0, 0},
    {8, 6, 37, XFT_GATE_XFT, true, XFT_NOISE_STORED, false, RANDOM, 0, 0},
    {8, 6, 37, XFT_GATE_XFT, true, XFT_NOISE_PHILOX, true, RANDOM, 0, 0.5f},
    {8, 6, 37, XFT_GATE_XFT, false, XFT_NOISE_PHILOX, false, RANDOM, 0, -1},
    {8, 6, 37, XFT_GATE_UNNORMALISED, true, XFT_NOISE_NONE, false, RANDOM, 0, 0},
    {8, 6, 37, XFT_GATE_UNNORMALISED, true, XFT_NOISE_PHILOX, false, RANDOM, 3, 0},
    {8, 6, 37, XFT_GATE_UNNORMALISED, false, XFT_NOISE_STORED, true, RANDOM, 0, 0},
    {8, 6, 37, XFT_GATE_VANILLA, false, XFT_NOISE_NONE, false, RANDOM, 0, 0},
    {8, 6, 37, XFT_GATE_VANILLA, false, XFT_NOISE_STORED, false, RANDOM, 4, 0},
    {8, 6, 37, XFT_GATE_VANILLA, false, XFT_NOISE_STORED, true, RANDOM, 0, 0},
    {8, 6, 37, XFT_GATE_VANILLA, true, XFT_NOISE_PHILOX, false, RANDOM, 0, 0},
    {8, 6, 1, XFT_GATE_XFT, false, XFT_NOISE_STORED, false, RANDOM, 0, 0},
    {2, 2, 1, XFT_GATE_XFT, false, XFT_NOISE_NONE, false, RANDOM, 0, 0},
    {3, 2, 19, XFT_GATE_XFT, false, XFT_NOISE_PHILOX, false, RANDOM, 0, 0},
    {8, 8, 29, XFT_GATE_XFT, false, XFT_NOISE_STORED, false, RANDOM, 0, 0},
    {64, 64, 11, XFT_GATE_XFT, false, XFT_NOISE_STORED, false, RANDOM, 1, 0},
    {64, 7, 67, XFT_GATE_XFT, false, XFT_NOISE_PHILOX, false, RANDOM, 0, 0},
    {64, 8, 41, XFT_GATE_VANILLA, false, XFT_NOISE_STORED, false, RANDOM, 0, 0},
    {64, 64, 5, XFT_GATE_VANILLA, true, XFT_NOISE_STORED, false, RANDOM, 0, 0},
    {8, 1, 23, XFT_GATE_VANILLA, false, XFT_NOISE_STORED, false, RANDOM, 0, 0},
    {2, 1, 23, XFT_GATE_VANILLA, false, XFT_NOISE_PHILOX, false, RANDOM, 0, 0},
    {4, 2, 499, XFT_GATE_XFT, false, XFT_NOISE_PHILOX, false, RANDOM, 100, 0},
    {4, 3, 17, XFT_GATE_XFT, false, XFT_NOISE_NONE, false, RANDOM, 17, 0},
    {8, 4, 53, XFT_GATE_XFT, true, XFT_NOISE_NONE, false, TIES, 0, 0},
    {8, 4, 53, XFT_GATE_XFT, false, XFT_NOISE_NONE, false, TIES, 0, 0},
    {8, 4, 53, XFT_GATE_XFT, true, XFT_NOISE_STORED, false, TIES, 2, 0},
    {8, 6, 31, XFT_GATE_XFT, true, XFT_NOISE_STORED, false, SATURATED, 0, 0},
    {8, 6, 31, XFT_GATE_VANILLA, true, XFT_NOISE_NONE, false, SATURATED, 0, 0},
    {8, 6, 61, XFT_GATE_XFT, true, XFT_NOISE_STORED, false, EMPTY, 0, 0},
    {8, 2, 61, XFT_GATE_XFT, true, XFT_NOISE_STORED, false, CROWDED, 7, 0},
    {8, 2, 61, XFT_GATE_VANILLA, true, XFT_NOISE_NONE, false, CROWDED, 0, 0},
    {64, 6, 2500, XFT_GATE_XFT, false, XFT_NOISE_STORED, false, RANDOM, 30,
     0}, /* many turns of loops: xft_groups_for */
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void cases_pairs(case_set set, const char *only, case_visitor visit, void *user) {
    static const xft_dtype types[][2] = {
        {XFT_F32, XFT_F32}, {XFT_BF16, XFT_BF16}, {XFT_BF16, XFT_F32}, {XFT_F32, XFT_BF16}};
    static const uint32_t widths[] = {37, 5, 1, 257, 576};
    for (uint32_t i = 0; i < 4; i++)
        for (uint32_t j = 0; j < (set == CASES_SMALL ? 1 : 5); j++) {
            const moe_shape *s = &shapes[set == CASES_SMALL ? 0 : (uint32_t[]){0, 4, 16, 28, 36}[(i + j) % 5]];
            if (case_wanted(only, "gather_rows")) gather_case(s, widths[j], types[i][0], types[i][1], visit, user);
            if (!case_wanted(only, "combine")) continue;
            combine_case(s, widths[j], types[i][0], types[i][1], j % 2 == 0, i % 2 == 0, visit, user);
            combine_case(s, widths[j], types[i][0], types[i][1], j % 2 != 0, i % 2 != 0, visit, user);
        }
}

static void cases_bench(const char *only, case_visitor visit, void *user) {
    static const moe_shape batch = {8, 6, 2048, XFT_GATE_XFT, false, XFT_NOISE_PHILOX, false, RANDOM, 0, 0},
                           large = {8, 6, 16384, XFT_GATE_XFT, false, XFT_NOISE_PHILOX, false, RANDOM, 0, 0};
    if (case_wanted(only, "router")) router_case(&batch, visit, user);
    if (case_wanted(only, "router_balance")) balance_case(&batch, 32, visit, user);
    if (case_wanted(only, "router_backward")) backward_case(&batch, visit, user);
    if (case_wanted(only, "expert_group"))
        group_case(&batch, 32, 1, visit, user), group_case(&large, 256, 1, visit, user);
    for (xft_dtype d = XFT_F32; d <= XFT_BF16; d++) {
        if (case_wanted(only, "gather_rows")) gather_case(&batch, 576, d, d, visit, user);
        if (case_wanted(only, "combine")) combine_case(&batch, 576, d, XFT_F32, true, true, visit, user);
    }
}

void cases_moe(case_set set, const char *only, case_visitor visit, void *user) {
    if (set == CASES_LONG) {
        const moe_shape shape = {8, 6, 16384, XFT_GATE_XFT, false, XFT_NOISE_NONE, false, RANDOM, 400, 0};
        if (case_wanted(only, "expert_group")) group_case(&shape, 64, 1, visit, user);
        return;
    }
    if (set == CASES_BENCH) {
        cases_bench(only, visit, user);
        return;
    }
    for (uint32_t i = 0; i < (set == CASES_SMALL ? SMALL : SHAPES); i++) {
        const uint32_t least = (shapes[i].tokens + 255) / 256;
        const uint32_t chunks = (uint32_t[]){least + 2, least, 64, least + 6}[i % 4];
        if (case_wanted(only, "router")) router_case(&shapes[i], visit, user);
        if (case_wanted(only, "router_balance")) balance_case(&shapes[i], chunks, visit, user);
        if (case_wanted(only, "router_backward")) backward_case(&shapes[i], visit, user);
        if (case_wanted(only, "expert_group")) group_case(&shapes[i], chunks, i % 3, visit, user);
    }
    if (set == CASES_FULL && case_wanted(only, "expert_group")) {
        group_case(&(moe_shape){8, 6, 3001, XFT_GATE_XFT, false, XFT_NOISE_NONE, false, RANDOM, 400, 0}, 64, 1, visit,
                   user);
        group_case(&(moe_shape){64, 64, 1009, XFT_GATE_XFT, false, XFT_NOISE_NONE, false, RANDOM, 0, 0}, 4, 1, visit,
                   user);
    }
    cases_pairs(set, only, visit, user);
}
