/* Cases of merging: the mixture, its coefficients and their gradients. */
#include "op_case.h"
#include "reference.h"

#include <stdlib.h>
#include <string.h>

static xft_status record_softmax(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_mix_softmax(stream, t[0], t[1]);
}

static void softmax_case(uint32_t n, double deviation, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "mix_softmax", "%u, deviation %g", n, deviation);
    case_random r = case_seed(c.label);
    const double *a = case_add(&c, &r, "a", CASE_IN, XFT_F32, deviation, 1, n)->values;
    double *alpha = case_add(&c, &r, "alpha", CASE_OUT, XFT_F32, 0, 1, n)->expected;
    ref_mix_softmax(&(ref_call){.d = {(double *)a, alpha}, .params = &(xft_mix_softmax_params){n}});
    c.record = record_softmax;
    c.bytes = 8.0 * n;
    visit(&c, user);
    case_free(&c);
}

static xft_status record_softmax_backward(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_mix_softmax_backward(stream, t[0], t[1], t[2]);
}

static void softmax_backward_case(uint32_t n, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "mix_softmax_backward", "%u", n);
    case_random r = case_seed(c.label);
    double *alpha = case_add(&c, &r, "alpha", CASE_IN, XFT_F32, 0, 1, n)->values, sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += alpha[i] = 0.1 + case_uniform(&r);
    /* one expert: alpha is 1, and the gradient 0 */
    for (uint32_t i = 0; i < n; i++) alpha[i] = case_round(alpha[i] / sum, XFT_F32);
    const double *dalpha = case_add(&c, &r, "dalpha", CASE_IN, XFT_F32, 1, 1, n)->values;
    double *da = case_add(&c, &r, "da", CASE_OUT, XFT_F32, 0, 1, n)->expected;
    ref_mix_softmax_backward(
        &(ref_call){.d = {alpha, (double *)dalpha, da}, .params = &(xft_mix_softmax_backward_params){n}});
    c.record = record_softmax_backward;
    c.bytes = 12.0 * n;
    visit(&c, user);
    case_free(&c);
}

typedef struct mixture {
    uint32_t E, N, K;
    float lambda;
    uint32_t chunks; /* rows of mix_backward's scratch */
    bool accumulate;
} mixture;

static xft_status record_mix(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_mix(stream, t[0], t[1], c->f[0], t[2]);
}

static void mix_case(const mixture *m, xft_dtype in, xft_dtype out, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "mix", "[%u,%u,%u] lambda %g %s -> %s", m->E, m->N, m->K, (double)m->lambda, xft_dtype_name(in),
               xft_dtype_name(out));
    case_random r = case_seed(c.label);
    const double *experts = case_add(&c, &r, "experts", CASE_IN, in, 1, 3, m->E, m->N, m->K)->values;
    const double *alpha = case_add(&c, &r, "alpha", CASE_IN, XFT_F32, 0.5, 1, m->E - 1)->values;
    double *w = case_add(&c, &r, "w", CASE_OUT, out, 0, 2, m->N, m->K)->expected;
    const xft_mix_experts_params params = {
        .rows = m->N, .cols = m->K, .routed = m->E - 1, .lambda = m->lambda, .ld_experts = m->K, .ld_w = m->K};
    ref_mix_experts(&(ref_call){.d = {(double *)experts, (double *)alpha, w}, .params = &params});
    c.f[0] = m->lambda;
    c.record = record_mix;
    c.flops = 2.0 * m->E * m->N * m->K;
    c.bytes = (double)m->N * m->K * (m->E * xft_dtype_size(in) + xft_dtype_size(out));
    visit(&c, user);
    case_free(&c);
}

static xft_status record_mix_backward(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_mix_backward(stream, t[0], t[1], c->f[0], t[2], t[3], c->u[0] != 0);
}

static void mix_backward_case(const mixture *m, xft_dtype in, xft_dtype gradient, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "mix_backward", "[%u,%u,%u] lambda %g scratch %u %s, %s%s", m->E, m->N, m->K, (double)m->lambda,
               m->chunks, xft_dtype_name(in), xft_dtype_name(gradient), m->accumulate ? " +=" : "");
    case_random r = case_seed(c.label);
    const double *experts = case_add(&c, &r, "experts", CASE_IN, in, 1, 3, m->E, m->N, m->K)->values;
    const double *dw = case_add(&c, &r, "dw", CASE_IN, gradient, 1, 2, m->N, m->K)->values;
    case_add(&c, &r, "scratch", CASE_SCRATCH, XFT_F32, 0, 2, m->chunks, m->E - 1);
    case_buffer *dalpha = case_add(&c, &r, "dalpha", m->accumulate ? CASE_INOUT : CASE_OUT, XFT_F32, 1, 1, m->E - 1);
    const xft_mix_backward_params params = {.rows = m->N,
                                            .cols = m->K,
                                            .routed = m->E - 1,
                                            .lambda = m->lambda,
                                            .ld_experts = m->K,
                                            .ld_dw = m->K,
                                            .ld_dots = m->E - 1,
                                            .groups = 1};
    ref_mix_backward(&(ref_call){.d = {(double *)experts, (double *)dw, dalpha->expected}, .params = &params});
    for (uint32_t i = 0; m->accumulate && i < m->E - 1; i++) dalpha->expected[i] += dalpha->values[i];
    c.f[0] = m->lambda;
    c.u[0] = m->accumulate;
    c.record = record_mix_backward;
    c.product = true;
    c.flops = 2.0 * (m->E - 1) * m->N * m->K;
    c.bytes = (double)m->N * m->K * ((m->E - 1) * xft_dtype_size(in) + xft_dtype_size(gradient));
    visit(&c, user);
    case_free(&c);
}

void cases_mix(case_set set, const char *only, case_visitor visit, void *user) {
    static const mixture mixtures[] = {
        {4, 3, 5, 0.75f, 2, false},     {2, 1, 1, 0.5f, 1, true},  {8, 37, 64, 0.75f, 5, true},
        {9, 1, 67, 1, 3, false},        {12, 13, 7, 0, 64, false}, {64, 5, 33, 0.75f, 4, true},
        {8, 61, 577, 0.75f, 16, false},
    };
    static const xft_dtype types[][2] = {{XFT_F32, XFT_F32}, {XFT_BF16, XFT_F32}, {XFT_BF16, XFT_BF16}};
    static const uint32_t counts[] = {7, 1, 2, 63, 64};
    if (set == CASES_LONG) {
        const mixture m = {64, 1024, 8192, 0.75f, 16, false};
        if (case_wanted(only, "mix_backward")) mix_backward_case(&m, XFT_BF16, XFT_F32, visit, user);
        return;
    }
    if (set == CASES_BENCH) {
        const mixture m = {8, 1536, 576, 0.75f, 256, false};
        if (case_wanted(only, "mix_softmax")) softmax_case(m.E - 1, 1, visit, user);
        if (case_wanted(only, "mix_softmax_backward")) softmax_backward_case(m.E - 1, visit, user);
        for (uint32_t i = 0; i < 2; i++) {
            if (case_wanted(only, "mix")) mix_case(&m, types[i][0], types[i][0], visit, user);
            if (case_wanted(only, "mix_backward")) mix_backward_case(&m, types[i][0], XFT_F32, visit, user);
        }
        return;
    }
    const bool small = set == CASES_SMALL;
    for (uint32_t i = 0; i < (small ? 1 : sizeof counts / sizeof *counts); i++) {
        if (case_wanted(only, "mix_softmax")) {
            softmax_case(counts[i], 1, visit, user);
            softmax_case(counts[i], 30, visit, user);
        }
        if (case_wanted(only, "mix_softmax_backward")) softmax_backward_case(counts[i], visit, user);
    }
    for (uint32_t i = 0; i < (small ? 1 : sizeof mixtures / sizeof *mixtures); i++)
        for (uint32_t j = 0; j < 3; j++) {
            if (case_wanted(only, "mix")) mix_case(&mixtures[i], types[j][0], types[j][1], visit, user);
            if (case_wanted(only, "mix_backward"))
                mix_backward_case(&mixtures[i], types[j][0], types[j][1], visit, user);
        }
}
