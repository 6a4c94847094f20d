/* Suite `gradients`: backward references of router, balance loss, gather and mixing against finite differences. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gradients.h"
#include "op_case.h"
#include "reference.h"

enum { T = 9, MOST = 8 };

/* A micro-batch whose loss is sum_slots weight u[t][expert] over the tokens, plus the balance loss. */
typedef struct batch {
    uint32_t n, k, K, shared, width;
    xft_router_params p;
    bool official;
    uint32_t step[16], segments[T * 4], picks[T * MOST];
    double h[T * 2 * MOST], w2[MOST * MOST], noise[T * MOST], u[T][MOST];
    double state[T * 7 * MOST], weights[T * MOST], stats[3 * MOST], coefficients[2 * MOST];
} batch;

static void forward(batch *b, double *balance) {
    ref_router(&(ref_call){.d = {b->h, b->w2, b->noise, NULL, NULL, b->state, NULL, b->weights},
                           .u = {NULL, NULL, NULL, b->segments, b->step, NULL, b->picks},
                           .params = &b->p});
    double sums[3 * MOST];
    const xft_router_stats_params stats = {.tokens = T,
                                           .routed = b->n,
                                           .picks = b->k,
                                           .official = b->official,
                                           .stretch = T,
                                           .ld_state = 7 * b->n,
                                           .ld_partial = 3 * b->n};
    ref_router_stats(&(ref_call){.d = {b->state, NULL, sums}, .u = {NULL, b->segments}, .params = &stats});
    const xft_router_balance_params params = {.routed = b->n,
                                              .chunks = 1,
                                              .balance_weight = 2,
                                              .ld_partial = 3 * b->n,
                                              .ld_stats = b->n,
                                              .ld_coefficients = b->n};
    ref_router_balance(
        &(ref_call){.d = {sums, NULL, b->stats, b->coefficients, balance}, .u = {NULL, b->step}, .params = &params});
}

static uint32_t expert_of(const batch *b, uint32_t t, uint32_t slot) {
    return slot < b->shared ? 0 : b->picks[t * b->k + slot - b->shared] + b->shared;
}

static double loss(void *context) {
    batch *b = context;
    double sum = 0;
    forward(b, &sum);
    for (uint32_t t = 0; t < T; t++)
        for (uint32_t j = 0; b->segments[4 * t + 3] && j < b->K; j++)
            sum += b->weights[t * b->K + j] * b->u[t][expert_of(b, t, j)];
    return sum;
}

/* Are all comparisons of a token far from turning over within a finite difference? */
static bool steady(const batch *b, uint32_t t) {
    const double *state = b->state + t * 7 * b->n, *z = state + 4 * b->n;
    double margin = INFINITY;
    for (uint32_t e = 0; e < b->n; e++)
        for (uint32_t j = 0; j < b->n; j++) {
            if (j != e) margin = fmin(margin, fabs(z[e] - z[j]));
            if (b->official) margin = fmin(margin, fabs(state[3 * b->n + e] * state[2 * b->n + e] - z[j]));
        }
    return margin > 0.02;
}

static void draw(batch *b, case_random *r, uint32_t t) {
    for (uint32_t i = 0; i < b->width; i++) b->h[t * b->width + i] = case_normal(r);
    for (uint32_t e = 0; e < b->n; e++) b->noise[t * b->n + e] = case_normal(r);
}

static void check(const char *name, uint32_t E, uint32_t K, xft_gate gate, bool mlp, xft_noise noise, bool official) {
    batch *b = calloc(1, sizeof *b);
    cr_assert_not_null(b);
    case_random r = case_seed(name);
    b->shared = gate != XFT_GATE_VANILLA;
    b->n = E - b->shared;
    b->k = K - b->shared;
    b->K = K;
    b->official = official;
    b->width = noise == XFT_NOISE_NONE ? b->n : 2 * b->n;
    b->p = (xft_router_params){.tokens = T,
                               .routed = b->n,
                               .picks = b->k,
                               .gate = gate,
                               .mlp = mlp,
                               .noise = noise,
                               .layer = 2,
                               .noise_epsilon = 0.01f,
                               .ld_h = b->width,
                               .ld_w2 = b->n,
                               .ld_noise = b->n,
                               .ld_state = 7 * b->n,
                               .ld_picks = b->k,
                               .ld_weights = K};
    const xft_step_block block = {
        .step = 3, .seed_low = 9, .first_token = 5, .balance_scale = 0.5f, .noise_scale = 0.8f};
    memcpy(b->step, &block, sizeof b->step);
    for (uint32_t t = 0; t < T; t++) {
        b->segments[4 * t + 3] = t != 2 && t < T - 1;
        for (uint32_t e = 0; e < E; e++) b->u[t][e] = case_normal(&r);
        draw(b, &r, t);
    }
    for (uint32_t i = 0; i < b->n * b->n; i++) b->w2[i] = case_normal(&r);
    for (bool again = true; again;) {
        again = false;
        double ignored = 0;
        forward(b, &ignored);
        for (uint32_t t = 0; t < T; t++)
            if (b->segments[4 * t + 3] && !steady(b, t)) {
                draw(b, &r, t);
                again = true;
            }
    }

    double balance = 0, dots[T * MOST], dh[T * 2 * MOST], dg[T * MOST], dw2[MOST * MOST] = {0};
    uint32_t inverse[T * MOST];
    forward(b, &balance);
    for (uint32_t i = 0; i < T * K; i++) {
        inverse[i] = T * K - 1 - i; /* any permutation will do */
        if (b->segments[4 * (i / K) + 3]) dots[inverse[i]] = b->u[i / K][expert_of(b, i / K, i % K)];
    }
    const xft_router_backward_params params = {.tokens = T,
                                               .routed = b->n,
                                               .picks = b->k,
                                               .gate = gate,
                                               .mlp = mlp,
                                               .noisy = noise != XFT_NOISE_NONE,
                                               .official = official,
                                               .ld_inverse = K,
                                               .ld_state = 7 * b->n,
                                               .ld_w2 = b->n,
                                               .ld_coefficients = b->n,
                                               .ld_dh = b->width,
                                               .ld_dg = b->n};
    ref_router_backward(&(ref_call){.d = {dots, NULL, b->state, b->w2, b->coefficients, NULL, dh, dg},
                                    .u = {NULL, inverse, NULL, NULL, NULL, b->segments},
                                    .params = &params});
    for (uint32_t t = 0; t < T; t++)
        for (uint32_t i = 0; i < b->n; i++)
            for (uint32_t j = 0; j < b->n; j++) dw2[i * b->n + j] += dg[t * b->n + i] * b->state[t * 7 * b->n + j];
    const double in_h = gradient_error(loss, b, b->h, dh, T * b->width);
    cr_expect_lt(in_h, 1e-6, "%s: dh is off by %.2g", name, in_h);
    if (mlp) {
        const double in_w2 = gradient_error(loss, b, b->w2, dw2, b->n * b->n);
        cr_expect_lt(in_w2, 1e-6, "%s: dW2 is off by %.2g", name, in_w2);
    }
    free(b);
}

Test(gradients, router) {
    static const char *const gates[] = {"xft", "unnormalised", "vanilla"}, *const noises[] = {"none", "stored",
                                                                                              "philox"};
    for (uint32_t gate = 0; gate < 3; gate++)
        for (uint32_t noise = 0; noise < 3; noise++)
            for (uint32_t options = 0; options < 4; options++) {
                char name[80];
                snprintf(name, sizeof name, "%s gate, noise %s, %s%s", gates[gate], noises[noise],
                         options & 1 ? "mlp" : "linear", options & 2 ? ", official" : "");
                check(name, 6, 4, (xft_gate)gate, options & 1, (xft_noise)noise, options & 2);
            }
}

Test(gradients, router_of_few_or_all_experts) {
    check("every expert picked", 5, 5, XFT_GATE_XFT, true, XFT_NOISE_STORED, false);
    check("every expert picked, vanilla", 5, 5, XFT_GATE_VANILLA, true, XFT_NOISE_STORED, false);
    check("one routed expert", 2, 2, XFT_GATE_XFT, true, XFT_NOISE_STORED, false);
    check("one pick", 6, 2, XFT_GATE_XFT, true, XFT_NOISE_STORED, false);
    check("one pick, vanilla", 6, 1, XFT_GATE_VANILLA, true, XFT_NOISE_STORED, false);
}

/* ---- gather_rows: its gradient is combine without weights ---- */

typedef struct gathering {
    double x[6 * 3], dy[12 * 3];
    uint32_t source[12], inverse[12], offsets[5];
} gathering;

static double gathered(void *context) {
    gathering *g = context;
    double y[12 * 3], sum = 0;
    const xft_gather_rows_params p = {.rows = 12, .cols = 3, .experts = 4, .top_k = 2, .ld_x = 3, .ld_y = 3};
    ref_gather_rows(&(ref_call){.d = {g->x, NULL, NULL, y}, .u = {NULL, g->source, g->offsets}, .params = &p});
    for (uint32_t i = 0; i < g->offsets[4] * 3; i++) sum += g->dy[i] * y[i];
    return sum;
}

Test(gradients, gather_rows) {
    case_random r = case_seed("gather_rows");
    gathering g;
    uint32_t picks[6] = {2, 0, UINT32_MAX, 2, 1, 0}, counts[4] = {5, 2, 1, 2}, step[16] = {0};
    for (uint32_t i = 0; i < 18; i++) g.x[i] = case_normal(&r);
    for (uint32_t i = 0; i < 36; i++) g.dy[i] = case_normal(&r);
    const xft_expert_group_params group = {.tokens = 6,
                                           .experts = 4,
                                           .picks = 1,
                                           .shared_experts = 1,
                                           .stretch = 6,
                                           .chunks = 1,
                                           .ld_picks = 1,
                                           .ld_counts = 4,
                                           .ld_inverse = 2};
    ref_expert_group(&(ref_call){.u = {picks, counts, step, g.offsets, g.source, g.inverse, NULL}, .params = &group});
    double dx[18];
    const xft_combine_params p = {.tokens = 6, .cols = 3, .slots = 2, .ld_x = 3, .ld_inverse = 2, .ld_y = 3};
    ref_combine(&(ref_call){.d = {g.dy, NULL, NULL, dx}, .u = {NULL, g.inverse}, .params = &p});
    const double error = gradient_error(gathered, &g, g.x, dx, 18);
    cr_expect_lt(error, 1e-6, "off by %.2g", error);
}

/* ---- Mixing: from a through alpha and the mixture to <dw, w> ---- */

enum { EXPERTS = 5, ROWS = 3, COLS = 4 };
static const float lambda = 0.7f;

typedef struct mixing {
    double a[EXPERTS - 1], alpha[EXPERTS - 1], experts[EXPERTS * ROWS * COLS], dw[ROWS * COLS];
} mixing;

static double mixed(void *context) {
    mixing *m = context;
    double w[ROWS * COLS], sum = 0;
    ref_mix_softmax(&(ref_call){.d = {m->a, m->alpha}, .params = &(xft_mix_softmax_params){EXPERTS - 1}});
    const xft_mix_experts_params p = {
        .rows = ROWS, .cols = COLS, .routed = EXPERTS - 1, .lambda = lambda, .ld_experts = COLS, .ld_w = COLS};
    ref_mix_experts(&(ref_call){.d = {m->experts, m->alpha, w}, .params = &p});
    for (uint32_t i = 0; i < ROWS * COLS; i++) sum += m->dw[i] * w[i];
    return sum;
}

Test(gradients, mixing) {
    case_random r = case_seed("mixing");
    mixing m;
    for (uint32_t i = 0; i < EXPERTS - 1; i++) m.a[i] = case_normal(&r);
    for (uint32_t i = 0; i < EXPERTS * ROWS * COLS; i++) m.experts[i] = case_normal(&r);
    for (uint32_t i = 0; i < ROWS * COLS; i++) m.dw[i] = case_normal(&r);
    double dalpha[EXPERTS - 1], da[EXPERTS - 1];
    mixed(&m);
    const xft_mix_backward_params p = {.rows = ROWS,
                                       .cols = COLS,
                                       .routed = EXPERTS - 1,
                                       .lambda = lambda,
                                       .ld_experts = COLS,
                                       .ld_dw = COLS,
                                       .ld_dots = EXPERTS - 1,
                                       .groups = 1};
    ref_mix_backward(&(ref_call){.d = {m.experts, m.dw, dalpha}, .params = &p});
    ref_mix_softmax_backward(
        &(ref_call){.d = {m.alpha, dalpha, da}, .params = &(xft_mix_softmax_backward_params){EXPERTS - 1}});
    const double error = gradient_error(mixed, &m, m.a, da, EXPERTS - 1);
    cr_expect_lt(error, 1e-6, "off by %.2g", error);
}
