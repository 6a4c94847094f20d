/* References of embedding, norms, rotation and activation. */
#include "reference.h"

#include <math.h>

void ref_embedding(const ref_call *call) {
    const xft_embedding_params *p = call->params;
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t c = 0; c < p->cols; c++) {
            uint32_t id = call->u[0][r];
            call->d[2][r * p->ld_y + c] = id < p->vocabulary ? call->d[1][id * p->ld_w + c] : 0;
        }
}

void ref_embedding_backward(const ref_call *call) {
    const xft_embedding_backward_params *p = call->params;
    for (uint32_t r = 0; r < p->rows; r++) {
        uint32_t id = call->u[0][r];
        if (id >= p->vocabulary || id == p->skip_id) continue;
        for (uint32_t c = 0; c < p->cols; c++) call->d[2][id * p->ld_dw + c] += call->d[1][r * p->ld_dy + c];
    }
}

void ref_rms_norm(const ref_call *call) {
    const xft_rms_norm_params *p = call->params;
    for (uint32_t r = 0; r < p->rows; r++) {
        const double *x = call->d[0] + r * p->ld_x, *w = call->d[1];
        double squares = 0;
        for (uint32_t c = 0; c < p->cols; c++) squares += x[c] * x[c];
        double rstd = 1 / sqrt(squares / p->cols + (double)p->eps);
        for (uint32_t c = 0; c < p->cols; c++) call->d[2][r * p->ld_y + c] = x[c] * rstd * w[c];
        call->d[3][r] = rstd;
    }
}

void ref_rms_norm_backward(const ref_call *call) {
    const xft_rms_norm_backward_params *p = call->params;
    for (uint32_t r = 0; r < p->rows; r++) {
        const double *dy = call->d[0] + r * p->ld_dy, *x = call->d[1] + r * p->ld_x, *w = call->d[2];
        double rstd = call->d[3][r], mean = 0, *dx = call->d[4] + r * p->ld_dx;
        for (uint32_t c = 0; c < p->cols; c++) mean += w[c] * dy[c] * x[c] / p->cols;
        for (uint32_t c = 0; c < p->cols; c++) {
            double d = rstd * (w[c] * dy[c] - x[c] * rstd * rstd * mean);
            dx[c] = p->accumulate ? dx[c] + d : d;
        }
    }
}

void ref_rms_norm_backward_weight(const ref_call *call) {
    const xft_rms_norm_backward_weight_params *p = call->params;
    for (uint32_t i = 0; i < p->chunks; i++)
        for (uint32_t c = 0; c < p->cols; c++) {
            double sum = 0;
            for (uint32_t r = i * p->chunk_rows; r < (i + 1) * p->chunk_rows && r < p->rows; r++)
                sum += call->d[0][r * p->ld_dy + c] * call->d[1][r * p->ld_x + c] * call->d[2][r];
            call->d[3][i * p->ld_dw + c] = sum;
        }
}

void ref_layer_norm(const ref_call *call) {
    const xft_layer_norm_params *p = call->params;
    for (uint32_t r = 0; r < p->rows; r++) {
        const double *x = call->d[0] + r * p->ld_x, *w = call->d[1], *b = call->d[2];
        double mean = 0, variance = 0;
        for (uint32_t c = 0; c < p->cols; c++) mean += x[c] / p->cols;
        for (uint32_t c = 0; c < p->cols; c++) variance += (x[c] - mean) * (x[c] - mean) / p->cols;
        double rstd = 1 / sqrt(variance + (double)p->eps);
        for (uint32_t c = 0; c < p->cols; c++) call->d[3][r * p->ld_y + c] = (x[c] - mean) * rstd * w[c] + b[c];
        call->d[4][r * p->ld_stats] = mean;
        call->d[4][r * p->ld_stats + 1] = rstd;
    }
}

void ref_layer_norm_backward(const ref_call *call) {
    const xft_layer_norm_backward_params *p = call->params;
    for (uint32_t r = 0; r < p->rows; r++) {
        const double *dy = call->d[0] + r * p->ld_dy, *x = call->d[1] + r * p->ld_x, *w = call->d[2];
        double mean = call->d[3][r * p->ld_stats], rstd = call->d[3][r * p->ld_stats + 1];
        double *dx = call->d[4] + r * p->ld_dx, mean_g = 0, mean_gn = 0;
        for (uint32_t c = 0; c < p->cols; c++) {
            mean_g += w[c] * dy[c] / p->cols;
            mean_gn += w[c] * dy[c] * (x[c] - mean) * rstd / p->cols;
        }
        for (uint32_t c = 0; c < p->cols; c++) {
            double d = rstd * (w[c] * dy[c] - mean_g - (x[c] - mean) * rstd * mean_gn);
            dx[c] = p->accumulate ? dx[c] + d : d;
        }
    }
}

void ref_layer_norm_backward_weight(const ref_call *call) {
    const xft_layer_norm_backward_weight_params *p = call->params;
    for (uint32_t i = 0; i < p->chunks; i++)
        for (uint32_t c = 0; c < p->cols; c++) {
            double dw = 0, db = 0;
            for (uint32_t r = i * p->chunk_rows; r < (i + 1) * p->chunk_rows && r < p->rows; r++) {
                const double *stats = call->d[2] + r * p->ld_stats, dy = call->d[0][r * p->ld_dy + c];
                dw += dy * (call->d[1][r * p->ld_x + c] - stats[0]) * stats[1];
                db += dy;
            }
            call->d[3][i * p->ld_dw + c] = dw;
            call->d[4][i * p->ld_dw + c] = db;
        }
}

void ref_rope(const ref_call *call) {
    const xft_rope_params *p = call->params;
    for (uint32_t t = 0; t < p->count; t++) {
        uint32_t row = call->u[1][t] < p->table_rows ? call->u[1][t] : p->table_rows - 1;
        const double *table = call->d[0] + row * p->ld_table;
        for (uint32_t h = 0; h < p->heads; h++) {
            double *x = call->d[2] + t * p->ld_x + h * p->head_size;
            for (uint32_t i = 0; i < p->half_rotary; i++) {
                double a = x[i], b = x[i + p->half_rotary];
                double cosine = table[i], sine = (double)p->sign * table[p->half_rotary + i];
                x[i] = a * cosine - b * sine;
                x[i + p->half_rotary] = b * cosine + a * sine;
            }
        }
    }
}

void ref_swiglu(const ref_call *call) {
    const xft_swiglu_params *p = call->params;
    for (uint32_t r = 0; r < p->rows; r++)
        for (uint32_t c = 0; c < p->cols; c++) {
            double g = call->d[0][r * p->ld_g + c];
            call->d[2][r * p->ld_h + c] = g / (1 + exp(-g)) * call->d[1][r * p->ld_u + c];
        }
}

void ref_swiglu_backward(const ref_call *call) {
    const xft_swiglu_backward_params *p = call->params;
    const bool weighted = call->constants[4];
    const uint32_t rows = weighted ? call->u[3][p->experts] : p->rows;
    for (uint32_t r = 0; r < rows && r < p->rows; r++) {
        const double *dh = call->d[0] + r * p->ld_dh;
        double *g = call->d[4] + r * p->ld_g, *u = call->d[5] + r * p->ld_u, scale = 1, dot = 0;
        if (weighted) scale = call->d[1][call->u[2][r] / p->top_k * p->ld_weights + call->u[2][r] % p->top_k];
        for (uint32_t c = 0; c < p->cols; c++) {
            double s = 1 / (1 + exp(-g[c])), silu = g[c] * s, up = u[c];
            dot += silu * up * dh[c];
            u[c] = scale * dh[c] * silu;
            g[c] = scale * dh[c] * up * s * (1 + g[c] * (1 - s));
            if (p->store_h) call->d[6][r * p->ld_h + c] = scale * silu * up;
        }
        if (weighted) call->d[7][r] = dot;
    }
}
