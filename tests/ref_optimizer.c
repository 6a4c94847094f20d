/* References of the optimizer kernels (runtime/ops/optimizer.c), in double. */
#include <math.h>
#include <string.h>

#include "philox.h"
#include "reference.h"
#include "xft/ops.h"

static const xft_step_block *block_of(const uint32_t *words) {
    return (const void *)words;
}

static xft_step_state *state_of(uint32_t *words) {
    return (void *)words;
}

static uint64_t seed_of(const xft_step_block *s) {
    return (uint64_t)s->seed_high << 32 | s->seed_low;
}

/* What stochastic rounding makes of element (row, col) of a tensor. */
static double round_stochastically(double value, const xft_step_block *s, uint32_t key, uint32_t row, uint32_t col) {
    uint32_t words[4];
    xft_philox(seed_of(s), XFT_RANDOM_ROUNDING, s->step, key, row, col / 4, words);
    return xft_bf16_to_f32(xft_philox_bf16((float)value, words[col % 4]));
}

void ref_sum_squares(const ref_call *call) {
    const xft_sum_squares_params *p = call->params;
    for (uint32_t i = 0; i < p->count; i++) {
        double sum = 0;
        for (uint32_t r = i * p->stretch; r < (i + 1) * p->stretch && r < p->rows; r++)
            for (uint32_t c = 0; c < p->cols; c++) sum += call->d[0][r * p->ld_g + c] * call->d[0][r * p->ld_g + c];
        call->d[1][i] = sum;
    }
}

void ref_step_begin(const ref_call *call) {
    const xft_step_begin_params *p = call->params;
    const xft_step_block *s = block_of(call->u[3]);
    xft_step_state *state = state_of(call->u[4]);
    double sum = 0;
    for (uint32_t i = 0; i < p->count; i++) sum += call->d[0][i];
    double norm = sqrt(sum);
    bool skip = !isfinite(norm) || !isfinite(call->d[1][0]) || !isfinite(call->d[2][0]);
    state->loss = (float)call->d[1][0];
    state->balance = (float)call->d[2][0];
    state->grad_norm = (float)norm;
    state->clip = s->max_norm > 0 ? (float)fmin(1, (double)s->max_norm / (norm + 1e-6)) : 1;
    state->skip = skip;
    state->skipped += skip;
    state->skipped_in_row = skip ? state->skipped_in_row + 1 : 0;
    state->applied += !skip;
}

void ref_step_advance(const ref_call *call) {
    const xft_step_advance_params *p = call->params;
    if (state_of(call->u[0])->skip) return;
    for (uint32_t i = 0; i < p->count; i++)
        if (!call->u[1] || call->u[1][i]) call->u[2][i]++;
}

void ref_adamw(const ref_call *call) {
    const xft_adamw_params *p = call->params;
    const double *g = call->d[0];
    const xft_step_block *s = block_of(call->u[1]);
    const xft_step_state *state = state_of(call->u[2]);
    double *w = call->d[5], *m = call->d[6], *v = call->d[7], *master = call->d[8];
    bool stochastic = call->constants[3];
    double beta1 = (double)p->beta1, beta2 = (double)p->beta2, lr = (double)s->lr;
    if (state->skip) return;
    for (uint32_t row = 0; row < p->rows; row++) {
        uint32_t e = row / p->entry_rows;
        if (call->u[4] && !call->u[4][e]) continue;
        double t = call->u[3][e];
        for (uint32_t c = 0; c < p->cols; c++) {
            uint32_t at = row * p->ld_m + c, at_w = row * p->ld_w + c;
            double grad = (double)state->clip * g[row * p->ld_g + c];
            m[at] = beta1 * m[at] + (1 - beta1) * grad;
            v[at] = beta2 * v[at] + (1 - beta2) * grad * grad;
            double x = master ? master[at] : w[at_w];
            x -= lr * (double)p->weight_decay * x;
            x -= lr * m[at] / (1 - pow(beta1, t)) / (sqrt(v[at] / (1 - pow(beta2, t))) + (double)p->eps);
            if (master) master[at] = x;
            w[at_w] = stochastic ? round_stochastically(x, s, p->key, row, c) : x;
        }
    }
}

void ref_adafactor_rows(const ref_call *call) {
    const xft_adafactor_rows_params *p = call->params;
    memset(call->d[2], 0, (size_t)p->entries * p->blocks * p->cols * sizeof(double));
    for (uint32_t n = 0; n < p->entries * p->rows; n++) {
        double *partial = call->d[2] + (size_t)(n / p->rows * p->blocks + n % p->rows / 16) * p->cols, sum = 0;
        for (uint32_t k = 0; k < p->cols; k++) {
            double square = call->d[0][n * p->ld_g + k] * call->d[0][n * p->ld_g + k];
            sum += square;
            partial[k] += square;
        }
        call->d[1][n] = sum;
    }
}

void ref_adafactor_columns(const ref_call *call) {
    const xft_adafactor_columns_params *p = call->params;
    for (uint32_t e = 0; e < p->entries; e++)
        for (uint32_t k = 0; k < p->cols; k++) {
            double sum = 0;
            for (uint32_t b = 0; b < p->blocks; b++) sum += call->d[0][(e * p->blocks + b) * p->cols + k];
            call->d[1][e * p->ld_columns + k] = sum;
        }
}

void ref_adafactor_moments(const ref_call *call) {
    const xft_adafactor_moments_params *p = call->params;
    const xft_step_state *state = state_of(call->u[2]);
    double *r = call->d[5], *c = call->d[6], clip2 = (double)state->clip * (double)state->clip;
    for (uint32_t e = 0; e < p->entries; e++) {
        if (state->skip || (call->u[4] && !call->u[4][e])) continue;
        double beta = 1 - pow(call->u[3][e], -0.8), sum = 0;
        for (uint32_t i = 0; i < p->rows; i++) {
            double *x = &r[e * p->ld_r + i];
            *x = beta * *x + (1 - beta) * (clip2 * call->d[0][e * p->rows + i] / p->cols + 1e-30);
            sum += *x;
        }
        call->d[7][e] = sum / p->rows;
        for (uint32_t i = 0; i < p->cols; i++) {
            double *x = &c[e * p->ld_c + i];
            *x = beta * *x + (1 - beta) * (clip2 * call->d[1][e * p->ld_c + i] / p->rows + 1e-30);
        }
    }
}

void ref_adafactor_rms(const ref_call *call) {
    const xft_adafactor_rms_params *p = call->params;
    const double *g = call->d[0], *r = call->d[1], *c = call->d[2], *mean = call->d[3];
    const xft_step_state *state = state_of(call->u[4]);
    if (state->skip) return;
    for (uint32_t i = 0; i < p->entries * p->blocks; i++) {
        uint32_t e = i / p->blocks, first = i % p->blocks * p->stretch;
        double sum = 0;
        for (uint32_t n = first; n < first + p->stretch && n < p->rows; n++)
            for (uint32_t k = 0; k < p->cols; k++) {
                double x = (double)state->clip * g[(e * p->rows + n) * p->ld_g + k];
                x /= sqrt(r[e * p->ld_r + n] / mean[e]) * sqrt(c[e * p->ld_c + k]);
                sum += x * x;
            }
        call->d[5][i] = sum;
    }
}

void ref_adafactor_scale(const ref_call *call) {
    const xft_adafactor_scale_params *p = call->params;
    const xft_step_block *s = block_of(call->u[1]);
    const xft_step_state *state = state_of(call->u[2]);
    for (uint32_t e = 0; e < p->entries; e++) {
        bool idle = state->skip || (call->u[3] && !call->u[3][e]);
        double sum = 0, lr = (double)s->lr;
        for (uint32_t b = 0; b < p->blocks; b++) sum += call->d[0][e * p->blocks + b];
        call->d[4][2 * e] = idle ? 0 : lr * (double)state->clip / fmax(1, sqrt(sum / (double)p->elements));
        call->d[4][2 * e + 1] = 1 - lr * (double)p->weight_decay;
    }
}

void ref_adafactor_apply(const ref_call *call) {
    const xft_adafactor_apply_params *p = call->params;
    const double *g = call->d[0], *r = call->d[1], *c = call->d[2], *mean = call->d[3], *scale = call->d[4];
    const xft_step_block *s = block_of(call->u[5]);
    double *w = call->d[6], *master = call->d[7];
    for (uint32_t row = 0; row < p->rows; row++) {
        uint32_t e = row / p->entry_rows;
        if (scale[2 * e] == 0) continue;
        double factor = scale[2 * e] / sqrt(r[e * p->ld_r + row % p->entry_rows] / mean[e]);
        for (uint32_t k = 0; k < p->cols; k++) {
            double *x = master ? &master[row * p->ld_master + k] : &w[row * p->ld_w + k];
            *x = scale[2 * e + 1] * *x - factor * g[row * p->ld_g + k] / sqrt(c[e * p->ld_c + k]);
            w[row * p->ld_w + k] = call->constants[3] ? round_stochastically(*x, s, p->key, row, k) : *x;
        }
    }
}

void ref_adafactor_vector(const ref_call *call) {
    const xft_adafactor_vector_params *p = call->params;
    const xft_step_block *s = block_of(call->u[1]);
    const xft_step_state *state = state_of(call->u[2]);
    if (state->skip) return;
    double rate = pow(call->u[3][0], -0.8), clip = (double)state->clip, sum = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        double x = clip * call->d[0][i];
        call->d[5][i] = (1 - rate) * call->d[5][i] + rate * (x * x + 1e-30);
        sum += x * x / call->d[5][i];
    }
    double factor = (double)s->lr * clip / fmax(1, sqrt(sum / p->count)),
           keep = 1 - (double)s->lr * (double)p->weight_decay;
    for (uint32_t i = 0; i < p->count; i++)
        call->d[4][i] = keep * call->d[4][i] - factor * call->d[0][i] / sqrt(call->d[5][i]);
}
