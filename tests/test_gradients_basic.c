/* Suite `gradients`: backward references of bias, embedding, norms, rotation and SwiGLU against finite differences. */
#include <criterion/criterion.h>
#include <string.h>

#include "gradients.h"
#include "op_case.h"
#include "reference.h"

enum { T = 5, H = 12, V = 4, K = 2, E = 3 };
static const double tolerance = 1e-6;

/* One op: inputs x, w, b, and the gradient dy of its output; the loss is <dy, output>. */
typedef struct operands {
    double x[T * H], w[V * H], b[H], dy[T * H], y[T * H], stats[T * 2];
    uint32_t ids[T];
} operands;

static operands random_operands(const char *seed) {
    operands o = {.ids = {2, 0, 2, 3, 2}};
    case_random r = case_seed(seed);
    for (int i = 0; i < T * H; i++) o.x[i] = 0.5 + 2 * case_normal(&r);
    for (int i = 0; i < V * H; i++) o.w[i] = 1 + 0.3 * case_normal(&r);
    for (int i = 0; i < H; i++) o.b[i] = case_normal(&r);
    for (int i = 0; i < T * H; i++) o.dy[i] = case_normal(&r);
    return o;
}

static double weighed(const operands *o) {
    double sum = 0;
    for (int i = 0; i < T * H; i++) sum += o->dy[i] * o->y[i];
    return sum;
}

/* ---- Bias: y = x + b; its gradient is a column sum ---- */

static double bias_loss(void *context) {
    operands *o = context;
    memcpy(o->y, o->x, sizeof o->y);
    ref_bias(&(ref_call){.d = {o->b, o->y}, .params = &(xft_bias_params){T, H, H, 1}});
    return weighed(o);
}

Test(gradients, column_sum) {
    operands o = random_operands("bias");
    double chunks[2 * H], db[H];
    ref_column_sum(&(ref_call){.d = {o.dy, chunks}, .params = &(xft_column_sum_params){T, H, H, H, 2, 3, 0, 1}});
    ref_column_sum(&(ref_call){.d = {chunks, db}, .params = &(xft_column_sum_params){2, H, H, H, 1, 2, 0, 1}});
    cr_assert_lt(gradient_error(bias_loss, &o, o.b, db, H), tolerance);
}

/* ---- Embedding ---- */

static double embedding_loss(void *context) {
    operands *o = context;
    ref_embedding(
        &(ref_call){.d = {NULL, o->w, o->y}, .u = {o->ids}, .params = &(xft_embedding_params){T, H, H, H, V, 1}});
    return weighed(o);
}

Test(gradients, embedding) {
    operands o = random_operands("embedding");
    double dw[V * H] = {0};
    ref_embedding_backward(&(ref_call){
        .d = {NULL, o.dy, dw}, .u = {o.ids}, .params = &(xft_embedding_backward_params){T, H, H, H, V, UINT32_MAX, 1}});
    cr_assert_lt(gradient_error(embedding_loss, &o, o.w, dw, V * H), tolerance);
}

/* ---- Norms ---- */

static double rms_norm_loss(void *context) {
    operands *o = context;
    ref_rms_norm(
        &(ref_call){.d = {o->x, o->w, o->y, o->stats}, .params = &(xft_rms_norm_params){T, H, H, H, 0.25f, 1}});
    return weighed(o);
}

Test(gradients, rms_norm) {
    operands o = random_operands("rms_norm");
    double dx[T * H], dw[H];
    rms_norm_loss(&o);
    ref_rms_norm_backward(&(ref_call){.d = {o.dy, o.x, o.w, o.stats, dx},
                                      .params = &(xft_rms_norm_backward_params){T, H, H, H, H, 0, 1}});
    ref_rms_norm_backward_weight(&(ref_call){.d = {o.dy, o.x, o.stats, dw},
                                             .params = &(xft_rms_norm_backward_weight_params){T, H, H, H, H, 1, T, 1}});
    cr_assert_lt(gradient_error(rms_norm_loss, &o, o.x, dx, T * H), tolerance);
    cr_assert_lt(gradient_error(rms_norm_loss, &o, o.w, dw, H), tolerance);
}

static double layer_norm_loss(void *context) {
    operands *o = context;
    ref_layer_norm(&(ref_call){.d = {o->x, o->w, o->b, o->y, o->stats},
                               .params = &(xft_layer_norm_params){T, H, H, H, 2, 0.25f, 1}});
    return weighed(o);
}

Test(gradients, layer_norm) {
    operands o = random_operands("layer_norm");
    double dx[T * H], dw[H], db[H];
    layer_norm_loss(&o);
    ref_layer_norm_backward(&(ref_call){.d = {o.dy, o.x, o.w, o.stats, dx},
                                        .params = &(xft_layer_norm_backward_params){T, H, H, H, 2, H, 0, 1}});
    ref_layer_norm_backward_weight(
        &(ref_call){.d = {o.dy, o.x, o.stats, dw, db},
                    .params = &(xft_layer_norm_backward_weight_params){T, H, H, H, 2, H, 1, T, 1}});
    cr_assert_lt(gradient_error(layer_norm_loss, &o, o.x, dx, T * H), tolerance);
    cr_assert_lt(gradient_error(layer_norm_loss, &o, o.w, dw, H), tolerance);
    cr_assert_lt(gradient_error(layer_norm_loss, &o, o.b, db, H), tolerance);
}

/* ---- RoPE: three heads of 4, the first 2 dimensions turned ---- */

static void rotate(operands *o, double *x, float sign) {
    const xft_rope_params p = {T, 3, 4, 1, H, V, H, sign, 1};
    ref_rope(&(ref_call){.d = {o->w, NULL, x}, .u = {NULL, o->ids}, .params = &p});
}

static double rope_loss(void *context) {
    operands *o = context;
    memcpy(o->y, o->x, sizeof o->y);
    rotate(o, o->y, 1);
    return weighed(o);
}

Test(gradients, rope) {
    operands o = random_operands("rope");
    double dx[T * H];
    memcpy(dx, o.dy, sizeof dx);
    rotate(&o, dx, -1);
    cr_assert_lt(gradient_error(rope_loss, &o, o.x, dx, T * H), tolerance);
}

/* ---- SwiGLU ---- */

/* With experts: output row r counts with weights[source[r]]; rows from `rows` on do not count. */
typedef struct glu {
    double g[T * H], u[T * H], dh[T * H], h[T * H], weights[T * K];
    uint32_t source[T], offsets[E + 1], rows;
} glu;

static double swiglu_loss(void *context) {
    glu *o = context;
    ref_swiglu(&(ref_call){.d = {o->g, o->u, o->h}, .params = &(xft_swiglu_params){T, H, H, H, H, 1}});
    double sum = 0;
    for (uint32_t r = 0; r < o->rows; r++)
        for (uint32_t c = 0; c < H; c++) sum += o->weights[o->source[r]] * o->dh[r * H + c] * o->h[r * H + c];
    return sum;
}

static void check_swiglu(bool weighted) {
    glu o = {.source = {3, 0, 8, 5, 1}, .offsets = {0, 1, 1, 4}, .rows = weighted ? 4 : T};
    case_random r = case_seed("swiglu");
    for (int i = 0; i < T * H; i++) {
        o.g[i] = 2 * case_normal(&r);
        o.u[i] = case_normal(&r);
        o.dh[i] = case_normal(&r);
    }
    for (int i = 0; i < T * K; i++) o.weights[i] = weighted ? case_uniform(&r) : 1;
    double dg[T * H], du[T * H], h[T * H], dots[T], dweights[T * K] = {0};
    memcpy(dg, o.g, sizeof dg);
    memcpy(du, o.u, sizeof du);
    swiglu_loss(&o);
    const xft_swiglu_backward_params p = {T, H, H, K, H, H, H, K, E, 1, 1};
    ref_swiglu_backward(&(ref_call){.d = {o.dh, o.weights, NULL, NULL, dg, du, h, dots},
                                    .u = {NULL, NULL, o.source, o.offsets},
                                    .params = &p,
                                    .constants = (uint32_t[]){1, 0, 0, 0, weighted}});
    for (uint32_t i = 0; i < o.rows * H; i++)
        cr_assert_float_eq(h[i], o.h[i] * o.weights[o.source[i / H]], 1e-12, "h anew");
    cr_assert_lt(gradient_error(swiglu_loss, &o, o.g, dg, o.rows * H), tolerance);
    cr_assert_lt(gradient_error(swiglu_loss, &o, o.u, du, o.rows * H), tolerance);
    if (!weighted) return;
    for (uint32_t i = 0; i < o.rows; i++) dweights[o.source[i]] = dots[i];
    cr_assert_lt(gradient_error(swiglu_loss, &o, o.weights, dweights, T * K), tolerance);
}

Test(gradients, swiglu) {
    check_swiglu(false);
}

Test(gradients, swiglu_of_experts) {
    check_swiglu(true);
}
