/* Suite `gradients`: the two products that are the gradients of y = x W^T, plain and for groups of rows, against finite
 * differences. */
#include <criterion/criterion.h>

#include "gradients.h"
#include "op_case.h"
#include "reference.h"
#include "xft/ops.h"

enum { T = 9, N = 5, K = 4, E = 4 }; /* x [T,K], w [N,K] (of each expert), y [T,N] */
static const double tolerance = 1e-6;

/* The loss is <dy, y>. */
typedef struct operands {
    double x[T * K], w[E * N * K], dy[T * N], y[T * N];
    uint32_t offsets[E + 1];
} operands;

static operands random_operands(const char *seed) {
    operands o = {.offsets = {0, 3, 3, 4, 7}}; /* an expert has no rows, and two rows no expert */
    case_random r = case_seed(seed);
    for (int i = 0; i < T * K; i++) o.x[i] = case_normal(&r);
    for (int i = 0; i < E * N * K; i++) o.w[i] = case_normal(&r);
    for (int i = 0; i < T * N; i++) o.dy[i] = case_normal(&r);
    return o;
}

static double weighed(const operands *o, int rows) {
    double sum = 0;
    for (int i = 0; i < rows * N; i++) sum += o->dy[i] * o->y[i];
    return sum;
}

/* c = a b, or c += a b, in one of the three forms; the pitches are the widths. */
static void product(xft_form form, double *a, double *b, double *c, uint32_t rows, uint32_t cols, uint32_t terms,
                    bool accumulate) {
    ref_gemm(&(ref_call){.d = {a, b, c},
                         .params = &(xft_gemm_params){.M = rows,
                                                      .N = cols,
                                                      .K = terms,
                                                      .ld_a = form == XFT_TN ? rows : terms,
                                                      .ld_b = form == XFT_NT ? terms : cols,
                                                      .ld_c = cols,
                                                      .accumulate = accumulate},
                         .constants = (uint32_t[]){0, form}});
}

static double product_loss(void *context) {
    operands *o = context;
    product(XFT_NT, o->x, o->w, o->y, T, N, K, false);
    return weighed(o, T);
}

Test(gradients, products) {
    operands o = random_operands("products");
    double dx[T * K], dw[N * K];
    product(XFT_NN, o.dy, o.w, dx, T, K, N, false);
    cr_expect_lt(gradient_error(product_loss, &o, o.x, dx, T * K), tolerance, "dx = dy W");
    product(XFT_TN, o.dy, o.x, dw, N, K, T, false);
    cr_expect_lt(gradient_error(product_loss, &o, o.w, dw, N * K), tolerance, "dW = dy^T x");
    /* the sum over rows in two parts, as over two micro-batches */
    product(XFT_TN, o.dy, o.x, dw, N, K, 4, false);
    product(XFT_TN, o.dy + 4 * N, o.x + 4 * K, dw, N, K, T - 4, true);
    cr_expect_lt(gradient_error(product_loss, &o, o.w, dw, N * K), tolerance, "dW += dy^T x");
}

/* As product, over the rows of each expert. NT and NN: b is w; TN: b is x, and c one matrix for each expert. */
static void grouped(operands *o, xft_form form, double *a, double *b, double *c, bool accumulate) {
    ref_grouped_gemm(&(ref_call){.d = {a, b, NULL, c},
                                 .u = {NULL, NULL, o->offsets, NULL},
                                 .params = &(xft_grouped_gemm_params){.M = form == XFT_TN ? N : T,
                                                                      .N = form == XFT_NT ? N : K,
                                                                      .K = form == XFT_NT   ? K
                                                                           : form == XFT_NN ? N
                                                                                            : T,
                                                                      .ld_a = form == XFT_NT ? K : N,
                                                                      .ld_b = K,
                                                                      .ld_c = form == XFT_NT ? N : K,
                                                                      .b_rows = form == XFT_TN ? 0 : N,
                                                                      .experts = E,
                                                                      .accumulate = accumulate},
                                 .constants = (uint32_t[]){0, form}});
}

static double grouped_loss(void *context) {
    operands *o = context;
    grouped(o, XFT_NT, o->x, o->w, o->y, false);
    return weighed(o, (int)o->offsets[E]);
}

Test(gradients, grouped_products) {
    operands o = random_operands("grouped products");
    double dx[T * K] = {0}, dw[E * N * K], dy[T * N], half[E * N * K];
    grouped(&o, XFT_NN, o.dy, o.w, dx, false); /* rows of no expert stay 0 */
    cr_expect_lt(gradient_error(grouped_loss, &o, o.x, dx, T * K), tolerance, "dx = dy W");
    grouped(&o, XFT_TN, o.dy, o.x, dw, false);
    cr_expect_lt(gradient_error(grouped_loss, &o, o.w, dw, E * N * K), tolerance, "dW = dy^T x");
    for (int i = 0; i < T * N; i++) dy[i] = o.dy[i] / 2;
    grouped(&o, XFT_TN, dy, o.x, half, false);
    grouped(&o, XFT_TN, dy, o.x, half, true);
    cr_expect_lt(gradient_error(grouped_loss, &o, o.w, half, E * N * K), tolerance, "dW += dy^T x");
}
