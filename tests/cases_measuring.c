/* fma_peak: that the roofline is measured on the arithmetic it claims to do. */
#include "op_case.h"
#include "reference.h"

void ref_fma_peak(const ref_call *call) {
    const xft_fma_peak_params *p = call->params;
    for (uint32_t i = 0; i < p->count; i++) {
        double x = call->d[0][i], sum = 0;
        for (uint32_t k = 1; k <= 8; k++) {
            double a = k * x;
            for (uint32_t r = 0; r < p->rounds; r++) a = a / 2 + x;
            sum += a;
        }
        call->d[1][i] = sum;
    }
}

static xft_status record_fma_peak(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_fma_peak(stream, t[0], c->u[0], t[1]);
}

void cases_measuring(case_set set, const char *only, case_visitor visit, void *user) {
    if (set == CASES_LONG || !case_wanted(only, "fma_peak")) return;
    static const uint32_t small[][2] = {{16, 3}, {1040, 7}}, bench[][2] = {{1 << 16, 4096}};
    for (uint32_t i = 0; i < (set == CASES_BENCH ? 1 : 2); i++) {
        xft_fma_peak_params p = {set == CASES_BENCH ? bench[i][0] : small[i][0],
                                 set == CASES_BENCH ? bench[i][1] : small[i][1]};
        op_case c;
        case_begin(&c, "fma_peak", "[%u], %u rounds", p.count, p.rounds);
        case_random r = case_seed(c.label);
        case_buffer *x = case_add(&c, &r, "x", CASE_IN, XFT_F32, 1, 1, p.count);
        case_buffer *y = case_add(&c, &r, "y", CASE_OUT, XFT_F32, 0, 1, p.count);
        ref_fma_peak(&(ref_call){.d = {x->values, y->expected}, .params = &p});
        c.u[0] = p.rounds;
        c.record = record_fma_peak;
        c.flops = 16.0 * p.rounds * p.count;
        c.bytes = 8.0 * p.count;
        visit(&c, user);
        case_free(&c);
    }
}
