/* Products and grouped products: references and cases. */
#include "op_case.h"
#include "reference.h"
#include "ops/gemm_choice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Element (i, k) of a and (k, j) of b, whatever the form. */
static double element(const double *x, bool transposed, uint64_t row, uint64_t column, uint64_t ld) {
    return transposed ? x[column * ld + row] : x[row * ld + column];
}

static void product(xft_form form, const double *a, const double *b, double *c, uint32_t M, uint32_t N, uint32_t K,
                    uint32_t ld_a, uint32_t ld_b, uint32_t ld_c, bool accumulate) {
    for (uint32_t i = 0; i < M; i++)
        for (uint32_t j = 0; j < N; j++) {
            double sum = 0;
            for (uint32_t k = 0; k < K; k++)
                sum += element(a, form == XFT_TN, i, k, ld_a) * element(b, form == XFT_NT, k, j, ld_b);
            double *out = &c[(uint64_t)i * ld_c + j];
            *out = accumulate ? *out + sum : sum;
        }
}

void ref_gemm(const ref_call *call) {
    const xft_gemm_params *p = call->params;
    product((xft_form)call->constants[1], call->d[0], call->d[1], call->d[2], p->M, p->N, p->K, p->ld_a, p->ld_b,
            p->ld_c, p->accumulate != 0);
}

void ref_grouped_gemm(const ref_call *call) {
    const xft_grouped_gemm_params *p = call->params;
    const xft_form form = (xft_form)call->constants[1];
    for (uint32_t e = 0; e < p->experts; e++) {
        const uint64_t begin = call->u[2][e], rows = call->u[2][e + 1] - begin;
        const double *a = call->d[0] + begin * p->ld_a;
        if (form == XFT_TN)
            product(form, a, call->d[1] + begin * p->ld_b, call->d[3] + (uint64_t)e * p->M * p->ld_c, p->M, p->N,
                    (uint32_t)rows, p->ld_a, p->ld_b, p->ld_c, p->accumulate != 0);
        else
            product(form, a, call->d[1] + (uint64_t)e * p->b_rows * p->ld_b, call->d[3] + begin * p->ld_c,
                    (uint32_t)rows, p->N, p->K, p->ld_a, p->ld_b, p->ld_c, p->accumulate != 0);
    }
}

/* ---- Cases ---- */

/* Settings: u[0] form of the product, u[1] accumulate. */
static xft_status record_gemm(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    if (c->form) xft_gemm_force(c->form);
    xft_status status = xft_gemm(stream, (xft_form)c->u[0], t[0], t[1], t[2], c->u[1] != 0);
    if (c->form) xft_gemm_force(NULL);
    return status;
}

static xft_status record_grouped(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    if (c->form) xft_gemm_force(c->form);
    xft_status status = xft_grouped_gemm(stream, (xft_form)c->u[0], t[0], t[1], t[2], t[3], c->u[1] != 0);
    if (c->form) xft_gemm_force(NULL);
    return status;
}

typedef struct plan {
    case_visitor visit;
    void *user;
    const char *variant;
    bool bench; /* no expected values: they would take minutes */
} plan;

typedef struct types {
    xft_dtype a, b, c;
} types;

static const char *const form_names[] = {"nt", "nn", "tn"};

static void no_expected(op_case *c) {
    for (uint32_t i = 0; i < c->count; i++) {
        free(c->buffers[i].expected);
        c->buffers[i].expected = NULL;
    }
}

static void finish(op_case *c, const plan *plan, xft_form form, bool accumulate, double flops) {
    c->u[0] = form;
    c->u[1] = accumulate;
    c->form = plan->variant;
    c->product = true;
    c->flops = flops;
    for (uint32_t i = 0; i < c->count; i++)
        c->bytes += (double)case_elements(&c->buffers[i]) * xft_dtype_size(c->buffers[i].dtype) *
                    (c->buffers[i].role == CASE_INOUT ? 2 : 1);
}

/* The output before the op: its expected values start from there. */
static case_buffer *add_output(op_case *c, case_random *r, bool modified, xft_dtype dtype, uint32_t rank, uint32_t x,
                               uint32_t y, uint32_t z) {
    case_buffer *b = case_add(c, r, "c", modified ? CASE_INOUT : CASE_OUT, dtype, 1, rank, x, y, z);
    if (modified) memcpy(b->expected, b->values, case_elements(b) * sizeof(double));
    return b;
}

static void gemm_case(const plan *plan, xft_form form, types t, bool accumulate, uint32_t M, uint32_t N, uint32_t K) {
    op_case c;
    case_begin(&c, "gemm", "%s [%u,%u,%u] %s x %s %s %s%s%s", form_names[form], M, N, K, xft_dtype_name(t.a),
               xft_dtype_name(t.b), accumulate ? "+=" : "=", xft_dtype_name(t.c), plan->variant ? " " : "",
               plan->variant ? plan->variant : "");
    case_random r = case_seed(c.label);
    uint32_t a_cols = form == XFT_TN ? M : K, b_cols = form == XFT_NT ? K : N;
    case_add(&c, &r, "a", CASE_IN, t.a, 1, 2, form == XFT_TN ? K : M, a_cols);
    case_add(&c, &r, "b", CASE_IN, t.b, 1, 2, form == XFT_NT ? N : K, b_cols);
    add_output(&c, &r, accumulate, t.c, 2, M, N, 0);
    finish(&c, plan, form, accumulate, 2.0 * M * N * K);
    c.record = record_gemm;
    if (plan->bench)
        no_expected(&c);
    else {
        const xft_gemm_params p = {M, N, K, a_cols, b_cols, N, accumulate, 0, 0};
        const uint32_t constants[2] = {0, form};
        ref_gemm(&(ref_call){.d = {c.buffers[0].values, c.buffers[1].values, c.buffers[2].expected},
                             .params = &p,
                             .constants = constants});
    }
    plan->visit(&c, plan->user);
    case_free(&c);
}

/* rows[e] rows for expert e, then `tail` rows that belong to none; every expert's matrix is N x K as in NT. */
static void grouped_case(const plan *plan, xft_form form, types t, bool accumulate, uint32_t experts,
                         const uint32_t *rows, uint32_t tail, uint32_t N, uint32_t K) {
    uint32_t offsets[65] = {0}, R = tail;
    for (uint32_t e = 0; e < experts; e++) {
        offsets[e + 1] = offsets[e] + rows[e];
        R += rows[e];
    }
    op_case c;
    int at = 0;
    char spread[160] = "";
    for (uint32_t e = 0; e < experts; e++)
        at += snprintf(spread + at, sizeof spread - (size_t)at, "%s%u", e ? "," : "", rows[e]);
    case_begin(&c, "grouped_gemm", "%s rows %s+%u [%u,%u] %s x %s %s %s%s%s", form_names[form], spread, tail, N, K,
               xft_dtype_name(t.a), xft_dtype_name(t.b), accumulate ? "+=" : "=", xft_dtype_name(t.c),
               plan->variant ? " " : "", plan->variant ? plan->variant : "");
    case_random r = case_seed(c.label);
    /* y = x W^T; dx = dy W; dW = dy^T x */
    xft_grouped_gemm_params p = {.experts = experts, .accumulate = accumulate};
    p.M = form == XFT_TN ? N : R;
    p.N = form == XFT_NT ? N : K;
    p.K = form == XFT_NT ? K : form == XFT_NN ? N : R;
    p.ld_a = form == XFT_NT ? K : N;
    p.ld_b = K;
    p.ld_c = p.N;
    p.b_rows = form == XFT_TN ? 0 : N;
    case_add(&c, &r, "a", CASE_IN, t.a, 1, 2, R, p.ld_a);
    if (form == XFT_TN)
        case_add(&c, &r, "b", CASE_IN, t.b, 1, 2, R, K);
    else
        case_add(&c, &r, "b", CASE_IN, t.b, 1, 3, experts, N, K);
    case_buffer *o = case_add(&c, &r, "offsets", CASE_IN, XFT_U32, 0, 1, experts + 1);
    for (uint32_t e = 0; e <= experts; e++) o->values[e] = offsets[e];
    if (form == XFT_TN)
        add_output(&c, &r, accumulate, t.c, 3, experts, N, K);
    else
        add_output(&c, &r, true, t.c, 2, R, p.N, 0); /* the tail keeps what it held */
    finish(&c, plan, form, accumulate, 2.0 * offsets[experts] * N * K);
    c.record = record_grouped;
    if (plan->bench)
        no_expected(&c);
    else {
        const uint32_t constants[2] = {0, form};
        ref_grouped_gemm(&(ref_call){.d = {c.buffers[0].values, c.buffers[1].values, NULL, c.buffers[3].expected},
                                     .u = {NULL, NULL, offsets, NULL},
                                     .params = &p,
                                     .constants = constants});
    }
    plan->visit(&c, plan->user);
    case_free(&c);
}

static const types f32 = {XFT_F32, XFT_F32, XFT_F32}, bf16 = {XFT_BF16, XFT_BF16, XFT_BF16},
                   bf16_gradient = {XFT_BF16, XFT_BF16, XFT_F32}, f16 = {XFT_F16, XFT_F16, XFT_F16},
                   f16_gradient = {XFT_F16, XFT_F16, XFT_F32};

/* Every pair of storage types meets in some two of the operands. */
static types mixed(uint32_t i) {
    return (types){(xft_dtype)(i % 3), (xft_dtype)(i / 3), (xft_dtype)((i + i / 3) % 3)};
}

/* Every form and tile of ops/gemm_choice.h that f32 may take. The first three meet bf16 too. */
static const char *const gemm_choices[] = {
    "plain", "plain 64x64 8x8", "subgroup 8x32", "plain 128x128 8x8", "plain 64x32 8x4",
    "cpu",   "subgroup 4x16",   "subgroup 8x16", "yardstick",         "cpu 32"};

/* Tiles whose code, with what a validation layer adds, takes LLVM minutes to compile; a smaller one stands for them. */
static bool is_huge(const char *choice) {
    return !strcmp(choice, "subgroup 8x16") || !strcmp(choice, "subgroup 8x32");
}

static void gemm_forced(const plan *plan, bool full) {
    static const uint32_t shapes[][3] = {{5, 7, 3}, {130, 71, 37}, {70, 133, 18}};
    for (uint32_t i = 0; i < sizeof gemm_choices / sizeof *gemm_choices; i++) {
        if (is_huge(gemm_choices[i]) && !full) continue;
        struct plan forced = *plan;
        forced.variant = gemm_choices[i];
        for (xft_form form = XFT_NT; form <= XFT_TN; form++)
            for (uint32_t j = 0; j < (full ? 3 : form == i % 3); j++) { /* small: the forms in turn */
                gemm_case(&forced, form, f32, j % 2, shapes[j][0], shapes[j][1], shapes[j][2]);
                if (full && i < 3) gemm_case(&forced, form, bf16, j % 2 == 0, shapes[j][0], shapes[j][1], shapes[j][2]);
            }
    }
    struct plan forced = *plan;
    forced.variant = "coopmat"; /* f16 factors alone */
    for (xft_form form = XFT_NT; form <= (full ? XFT_TN : XFT_NT); form++)
        for (uint32_t j = 0; j < (full ? 3 : 1); j++) {
            gemm_case(&forced, form, f16, false, shapes[j][0], shapes[j][1], shapes[j][2]);
            gemm_case(&forced, form, form == XFT_TN ? f16_gradient : f16, true, shapes[j][0], shapes[j][1],
                      shapes[j][2]);
        }
    forced.variant = "gemv";
    for (uint32_t M = 1; M <= (full ? 4 : 1); M++) {
        gemm_case(&forced, XFT_NT, f32, false, M, 37, 150);
        gemm_case(&forced, XFT_NT, bf16, true, M, 5, 61);
        gemm_case(&forced, XFT_NT, bf16_gradient, false, M, 131, 576);
        gemm_case(&forced, XFT_NT, f16, false, M, 9, 33);
    }
}

static void gemm_small(const plan *plan) {
    for (xft_form form = XFT_NT; form <= XFT_TN; form++) {
        gemm_case(plan, form, f32, false, 5, 7, 3);
        gemm_case(plan, form, bf16_gradient, true, 9, 6, 18);
    }
    gemm_forced(plan, false);
}

static void gemm_full(const plan *plan) {
    static const uint32_t shapes[][3] = {{1, 1, 1},    {1, 2, 3},     {2, 1, 5},       {7, 5, 3},     {31, 37, 29},
                                         {33, 65, 17}, {64, 64, 64},  {100, 3, 200},   {5, 130, 67},  {1, 257, 131},
                                         {8, 33, 576}, {13, 97, 515}, {130, 67, 1030}, {261, 40, 70}, {67, 600, 41}};
    for (xft_form form = XFT_NT; form <= XFT_TN; form++) {
        for (uint32_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            const uint32_t *s = shapes[i];
            gemm_case(plan, form, f32, i % 2, s[0], s[1], s[2]);
            gemm_case(plan, form, bf16, i % 2 == 0, s[0], s[1], s[2]);
        }
        gemm_case(plan, form, bf16_gradient, true, 33, 71, 90);
        gemm_case(plan, form, f16, false, 33, 71, 90);
        /* how an operand is read depends on the side of its k: NN is made of the two others */
        for (uint32_t i = 0; i < 9 && form != XFT_NN; i++) gemm_case(plan, form, mixed(i), i % 2, 35, 21, 53);
    }
    gemm_forced(plan, true);
}

static void gemm_bench(const plan *plan, types t) {
    static const uint32_t cubes[] = {512, 1024, 2048};
    static const uint32_t layers[][2] = {{576, 576}, {1536, 576}, {576, 1536}, {49152, 576}};
    for (xft_form form = XFT_NT; form <= XFT_TN; form++) {
        for (uint32_t i = 0; i < 3; i++) gemm_case(plan, form, t, false, cubes[i], cubes[i], cubes[i]);
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t T = 512, N = layers[i][0], K = layers[i][1];
            if (form == XFT_NT) gemm_case(plan, form, t, false, T, N, K);
            if (form == XFT_NN) gemm_case(plan, form, t, false, T, K, N);
            if (form == XFT_TN) gemm_case(plan, form, t, false, N, K, T);
        }
    }
    /* decoding */
    for (uint32_t i = 0; i < 4; i++) gemm_case(plan, XFT_NT, t, false, 1, layers[i][0], layers[i][1]);
}

static void grouped_forced(const plan *plan, bool full) {
    static const uint32_t rows[] = {3, 0, 70, 2};
    for (uint32_t i = 0; i < sizeof gemm_choices / sizeof *gemm_choices; i++) {
        if (!strcmp(gemm_choices[i], "yardstick") || (is_huge(gemm_choices[i]) && !full)) continue;
        struct plan forced = *plan;
        forced.variant = gemm_choices[i];
        for (xft_form form = XFT_NT; form <= XFT_TN; form++) {
            if (!full && form != i % 3) continue; /* small: the forms in turn */
            grouped_case(&forced, form, f32, false, full ? 4 : 2, rows, 2, 6, 7);
            if (full && i < 3) grouped_case(&forced, form, bf16, true, 4, rows, 0, 35, 133);
        }
    }
    static const uint32_t few[] = {1, 0, 2, 1};
    grouped_case(plan, XFT_NT, f32, false, 4, few, 2, 37, 70);
    grouped_case(plan, XFT_NT, bf16, true, 4, few, 0, 130, 35);
}

static void grouped_small(const plan *plan) {
    static const uint32_t rows[] = {3, 0, 5};
    for (xft_form form = XFT_NT; form <= XFT_TN; form++) {
        grouped_case(plan, form, f32, false, 3, rows, 2, 6, 7);
        grouped_case(plan, form, bf16_gradient, true, 3, rows, 2, 6, 7);
    }
    grouped_forced(plan, false);
}

static void grouped_full(const plan *plan) {
    static const struct {
        uint32_t experts, rows[8], tail, N, K;
    } cases[] = {{1, {1}, 0, 1, 1},
                 {2, {1, 0}, 3, 5, 2},
                 {4, {13, 13, 13, 13}, 0, 37, 19},
                 {4, {0, 50, 0, 3}, 5, 33, 66},
                 {8, {0, 0, 0, 0, 0, 97, 0, 0}, 7, 20, 71},  /* one takes all */
                 {8, {90, 2, 1, 1, 1, 1, 2, 2}, 11, 65, 40}, /* 90/10 */
                 {5, {0, 0, 0, 0, 0}, 4, 9, 9},              /* no token at all */
                 {7, {31, 32, 33, 64, 65, 1, 2}, 0, 130, 515}};
    for (xft_form form = XFT_NT; form <= XFT_TN; form++) {
        for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            grouped_case(plan, form, f32, i % 2, cases[i].experts, cases[i].rows, cases[i].tail, cases[i].N,
                         cases[i].K);
            grouped_case(plan, form, bf16, i % 2 == 0, cases[i].experts, cases[i].rows, cases[i].tail, cases[i].N,
                         cases[i].K);
        }
        grouped_case(plan, form, bf16_gradient, true, 4, cases[3].rows, 0, 34, 21);
        grouped_case(plan, form, f16, false, 4, cases[3].rows, 0, 34, 21);
        for (uint32_t i = form; i < 9; i += 3) grouped_case(plan, form, mixed(i), i % 2, 4, cases[3].rows, 1, 19, 38);
    }
    grouped_forced(plan, true);
}

static void grouped_bench(const plan *plan, types t) {
    static const uint32_t spreads[][8] = {{384, 384, 384, 384, 384, 384, 384, 384},
                                          {700, 0, 300, 650, 122, 500, 477, 323},
                                          {2765, 44, 44, 44, 44, 44, 44, 43}};
    for (xft_form form = XFT_NT; form <= XFT_TN; form++)
        for (uint32_t i = 0; i < 3; i++) {
            grouped_case(plan, form, t, false, 8, spreads[i], 0, 1536, 576);
            grouped_case(plan, form, t, false, 8, spreads[i], 0, 576, 1536);
        }
}

void cases_gemm(case_set set, const char *only, case_visitor visit, void *user) {
    const plan plan = {.visit = visit, .user = user, .bench = set == CASES_BENCH};
    if (set == CASES_LONG) {
        static const uint32_t one[] = {65536, 0};
        if (case_wanted(only, "gemm")) {
            gemm_case(&plan, XFT_NN, f32, false, 40, 24, 152064);
            gemm_case(&plan, XFT_TN, f32, true, 40, 24, 65536);
        }
        if (case_wanted(only, "grouped_gemm")) grouped_case(&plan, XFT_TN, f32, false, 2, one, 0, 40, 24);
        return;
    }
    if (case_wanted(only, "gemm")) {
        if (set == CASES_BENCH) {
            gemm_bench(&plan, f32);
            gemm_bench(&plan, bf16);
        } else
            set == CASES_SMALL ? gemm_small(&plan) : gemm_full(&plan);
    }
    if (case_wanted(only, "grouped_gemm")) {
        if (set == CASES_BENCH) {
            grouped_bench(&plan, f32);
            grouped_bench(&plan, bf16);
        } else
            set == CASES_SMALL ? grouped_small(&plan) : grouped_full(&plan);
    }
}
