/* References of data movement and sums. */
#include "philox.h"
#include "reference.h"
#include "xft/ops.h"

void ref_fill(const ref_call *call) {
    const xft_fill_params *p = call->params;
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t c = 0; c < p->cols; c++) call->u[0][r * p->ld_y + c] = p->word;
}

void ref_copy(const ref_call *call) {
    const xft_copy_params *p = call->params;
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t c = 0; c < p->cols; c++) call->u[1][r * p->ld_y + c] = call->u[0][r * p->ld_x + c];
}

void ref_cast(const ref_call *call) {
    const xft_cast_params *p = call->params;
    const uint32_t *step = call->u[1];
    const bool stochastic = call->constants[3];
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t c = 0; c < p->cols; c++) {
            double x = call->d[0][r * p->ld_x + c];
            if (stochastic) {
                uint32_t words[4];
                uint64_t seed = (uint64_t)(step[2] ^ step[3]) << 32 | step[1];
                xft_philox(seed, XFT_RANDOM_ROUNDING, step[0], p->key, r, c / 4, words);
                x = (double)xft_bf16_to_f32(xft_philox_bf16((float)x, words[c % 4]));
            }
            call->d[2][r * p->ld_y + c] = x;
        }
}

void ref_add(const ref_call *call) {
    const xft_add_params *p = call->params;
    const double *a = call->d[0], *b = call->d[1];
    double *y = call->d[2];
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t c = 0; c < p->cols; c++) y[r * p->ld_y + c] = a[r * p->ld_a + c] + b[r * p->ld_b + c];
}

void ref_accumulate(const ref_call *call) {
    const xft_accumulate_params *p = call->params;
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t c = 0; c < p->cols; c++) call->d[1][r * p->ld_y + c] += call->d[0][r * p->ld_x + c];
}

void ref_bias(const ref_call *call) {
    const xft_bias_params *p = call->params;
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t c = 0; c < p->cols; c++) call->d[1][r * p->ld_y + c] += call->d[0][c];
}

void ref_column_sum(const ref_call *call) {
    const xft_column_sum_params *p = call->params;
    for (uint32_t i = 0; i < p->chunks; i++)
        for (uint32_t c = 0; c < p->cols; c++) {
            double sum = p->accumulate ? call->d[1][i * p->ld_y + c] : 0;
            for (uint32_t r = i * p->chunk_rows; r < (i + 1) * p->chunk_rows && r < p->rows; r++)
                sum += call->d[0][r * p->ld_x + c];
            call->d[1][i * p->ld_y + c] = sum;
        }
}

void ref_reduce_sum(const ref_call *call) {
    const xft_reduce_sum_params *p = call->params;
    double sum = p->accumulate ? call->d[1][0] : 0;
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t c = 0; c < p->cols; c++) sum += call->d[0][r * p->ld_x + c];
    call->d[1][0] = sum;
}

void ref_random_normal(const ref_call *call) {
    const xft_random_normal_params *p = call->params;
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t c = 0; c < p->cols; c++) {
            uint32_t words[4];
            double normals[4];
            xft_philox((uint64_t)p->seed_high << 32 | p->seed_low, XFT_RANDOM_INIT, 0, p->key, r, c / 4, words);
            xft_philox_normals(words, normals);
            call->d[0][r * p->ld_y + c] = (double)p->std * normals[c % 4];
        }
}
