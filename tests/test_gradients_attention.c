/* Suite `gradients`: backward references of attention and cross-entropy against finite differences. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "gradients.h"
#include "op_case.h"
#include "reference.h"

static const double tolerance = 1e-6;

/* ---- Attention: the loss is <do, o> ---- */

enum { T = 11, HEADS = 4, KV_HEADS = 2, D = 6, HD = HEADS * D, KD = KV_HEADS * D };

typedef struct operands {
    double q[T * HD], k[T * KD], v[T * KD], o[T * HD], d_o[T * HD], lse[HEADS * T];
    uint32_t segments[T * 4];
} operands;

static const float scale = 0.4f;
static const uint32_t constants[] = {0, 0, 0, D, D};

/* Three sequences, one of them with padding, and a tail. */
static operands random_operands(uint32_t count_padding) {
    operands o;
    case_random r = case_seed("attention gradients");
    for (int i = 0; i < T * HD; i++) o.q[i] = case_normal(&r), o.d_o[i] = case_normal(&r);
    for (int i = 0; i < T * KD; i++) o.k[i] = case_normal(&r), o.v[i] = case_normal(&r);
    uint32_t cu[] = {0, 4, 5, 10}, lengths[] = {4, 1, 3};
    const xft_segments_params p = {.tokens = T, .sequences = 3, .count_padding = count_padding};
    ref_segments(&(ref_call){.u = {cu, lengths, o.segments}, .params = &p});
    return o;
}

static double attention_loss(void *context) {
    operands *o = context;
    const xft_attention_params p = {.tokens = T,
                                    .heads = HEADS,
                                    .kv_heads = KV_HEADS,
                                    .scale = scale,
                                    .ld_q = HD,
                                    .ld_k = KD,
                                    .ld_v = KD,
                                    .ld_o = HD,
                                    .ld_lse = T};
    ref_attention(&(ref_call){
        .d = {o->q, o->k, o->v, NULL, o->o, o->lse}, .u = {[3] = o->segments}, .params = &p, .constants = constants});
    double sum = 0;
    for (int i = 0; i < T * HD; i++) sum += o->d_o[i] * o->o[i];
    return sum;
}

static void check_attention(uint32_t count_padding) {
    operands o = random_operands(count_padding);
    double delta[HEADS * T], dq[T * HD], dk[T * KD], dv[T * KD];
    attention_loss(&o);
    const xft_attention_delta_params p0 = {.tokens = T, .heads = HEADS, .ld_o = HD, .ld_do = HD, .ld_delta = T};
    ref_attention_delta(&(ref_call){.d = {o.o, o.d_o, delta}, .params = &p0, .constants = constants});
    const xft_attention_backward_q_params p1 = {.tokens = T,
                                                .heads = HEADS,
                                                .kv_heads = KV_HEADS,
                                                .scale = scale,
                                                .ld_q = HD,
                                                .ld_k = KD,
                                                .ld_v = KD,
                                                .ld_do = HD,
                                                .ld_lse = T,
                                                .ld_delta = T,
                                                .ld_dq = HD};
    ref_attention_backward_q(&(ref_call){.d = {o.q, o.k, o.v, o.d_o, o.lse, delta, NULL, dq},
                                         .u = {[6] = o.segments},
                                         .params = &p1,
                                         .constants = constants});
    const xft_attention_backward_kv_params p2 = {.tokens = T,
                                                 .heads = HEADS,
                                                 .kv_heads = KV_HEADS,
                                                 .scale = scale,
                                                 .ld_q = HD,
                                                 .ld_k = KD,
                                                 .ld_v = KD,
                                                 .ld_do = HD,
                                                 .ld_lse = T,
                                                 .ld_delta = T,
                                                 .ld_dk = KD,
                                                 .ld_dv = KD};
    ref_attention_backward_kv(&(ref_call){.d = {o.q, o.k, o.v, o.d_o, o.lse, delta, NULL, dk, dv},
                                          .u = {[6] = o.segments},
                                          .params = &p2,
                                          .constants = constants});
    cr_assert_lt(gradient_error(attention_loss, &o, o.q, dq, T * HD), tolerance, "dq");
    cr_assert_lt(gradient_error(attention_loss, &o, o.k, dk, T * KD), tolerance, "dk");
    cr_assert_lt(gradient_error(attention_loss, &o, o.v, dv, T * KD), tolerance, "dv");
}

Test(gradients, attention) {
    check_attention(0);
}

Test(gradients, attention_count_padding) {
    check_attention(1);
}

/* ---- Cross-entropy: the loss is the sum of its rows ---- */

enum { ROWS = 5, V = 13 };

typedef struct head {
    uint32_t labels[ROWS];
    xft_step_block step;
    double logits[ROWS * V], loss[ROWS];
} head;

static double run_cross_entropy(head *h, double *logits, uint32_t gradient) {
    uint32_t step[sizeof h->step / 4];
    memcpy(step, &h->step, sizeof step);
    const xft_cross_entropy_params p = {.rows = ROWS, .cols = V, .ld_logits = V, .gradient = gradient};
    ref_cross_entropy(&(ref_call){.d = {NULL, NULL, logits, h->loss}, .u = {h->labels, step}, .params = &p});
    double sum = 0;
    for (int i = 0; i < ROWS; i++) sum += h->loss[i];
    return sum;
}

static double cross_entropy_loss(void *context) {
    head *h = context;
    return run_cross_entropy(h, h->logits, 0);
}

Test(gradients, cross_entropy) {
    head h = {.labels = {3, UINT32_MAX, 0, V - 1, 7}, .step = {.inv_labels = 0.25f}};
    case_random r = case_seed("cross-entropy gradients");
    for (int i = 0; i < ROWS * V; i++) h.logits[i] = 2 * case_normal(&r);
    double gradient[ROWS * V];
    memcpy(gradient, h.logits, sizeof gradient);
    run_cross_entropy(&h, gradient, 1);
    cr_assert_lt(gradient_error(cross_entropy_loss, &h, h.logits, gradient, ROWS * V), tolerance);
}
