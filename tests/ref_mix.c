/* References of the mixture of the experts' weights: xft.md section 6 in double precision. */
#include <math.h>

#include "reference.h"

void ref_mix_softmax(const ref_call *call) {
    const uint32_t n = ((const xft_mix_softmax_params *)call->params)->count;
    const double *a = call->d[0];
    double top = a[0], sum = 0;
    for (uint32_t i = 0; i < n; i++) top = fmax(top, a[i]);
    for (uint32_t i = 0; i < n; i++) sum += exp(a[i] - top);
    for (uint32_t i = 0; i < n; i++) call->d[1][i] = exp(a[i] - top) / sum;
}

void ref_mix_experts(const ref_call *call) {
    const xft_mix_experts_params *p = call->params;
    const double *experts = call->d[0], *alpha = call->d[1], lambda = (double)p->lambda;
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t c = 0; c < p->cols; c++) {
            double sum = 0;
            for (uint32_t i = 0; i < p->routed; i++)
                sum += alpha[i] * experts[((i + 1) * p->rows + r) * p->ld_experts + c];
            call->d[2][r * p->ld_w + c] = lambda * experts[r * p->ld_experts + c] + (1 - lambda) * sum;
        }
}

void ref_mix_backward(const ref_call *call) {
    const xft_mix_backward_params *p = call->params;
    const double *experts = call->d[0], *dw = call->d[1], lambda = (double)p->lambda;
    double *dots = call->d[2];
    for (uint32_t g = 0; g < p->groups; g++)
        for (uint32_t i = 0; i < p->routed; i++) {
            double sum = 0;
            for (uint32_t r = g; r < p->rows; r += p->groups)
                for (uint32_t c = 0; c < p->cols; c++)
                    sum += dw[r * p->ld_dw + c] * experts[((i + 1) * p->rows + r) * p->ld_experts + c];
            dots[g * p->ld_dots + i] = (1 - lambda) * sum;
        }
}

void ref_mix_softmax_backward(const ref_call *call) {
    const uint32_t n = ((const xft_mix_softmax_backward_params *)call->params)->count;
    const double *alpha = call->d[0], *dalpha = call->d[1];
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += alpha[i] * dalpha[i];
    for (uint32_t i = 0; i < n; i++) call->d[2][i] = alpha[i] * (dalpha[i] - sum);
}
