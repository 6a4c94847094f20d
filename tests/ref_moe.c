/* References of router, balance loss, grouping, gather and combine: xft.md sections 2 to 4 in double precision. */
#include <math.h>

#include "philox.h"
#include "reference.h"
#include "xft/ops.h"

enum { MOST = 64, A = 0, G, S, N, Z, P, DS }; /* parts of a token's router state */

/* order[i] is the expert with the i-th largest logit, ties to the lower index. */
static void sort_experts(const double *z, uint32_t n, uint32_t *order) {
    for (uint32_t e = 0; e < n; e++) {
        uint32_t i = e;
        for (; i > 0 && z[e] > z[order[i - 1]]; i--) order[i] = order[i - 1];
        order[i] = e;
    }
}

static double normal_cdf(double x) {
    return 0.5 * erfc(-x / sqrt(2.0));
}
static double normal_pdf(double x) {
    return exp(-0.5 * x * x) / sqrt(2.0 * 3.14159265358979323846);
}

static double noise_of(const xft_router_params *p, const double *stored, const uint32_t *step, uint32_t t, uint32_t e) {
    if (p->noise == XFT_NOISE_STORED) return stored[t * p->ld_noise + e];
    uint32_t words[4];
    double normals[4];
    xft_philox((uint64_t)step[2] << 32 | step[1], XFT_RANDOM_ROUTER, step[0], p->layer, step[3] + t, e / 4, words);
    xft_philox_normals(words, normals);
    return normals[e % 4];
}

void ref_router(const ref_call *call) {
    const xft_router_params *p = call->params;
    const double *h = call->d[0], *w2 = call->d[1];
    const uint32_t *segments = call->u[3], *step = call->u[4], n = p->routed, k = p->picks;
    const double scale = p->noise == XFT_NOISE_NONE ? 0 : ref_float(step[9]);
    const bool vanilla = p->gate == XFT_GATE_VANILLA;
    for (uint32_t t = 0; t < p->tokens; t++) {
        double *state = call->d[5] + t * p->ld_state, *weights = call->d[7] + t * p->ld_weights;
        uint32_t *picks = call->u[6] + t * p->ld_picks, order[MOST];
        if (!segments[4 * t + 3]) {
            for (uint32_t i = 0; i < 7 * n; i++) state[i] = 0;
            for (uint32_t i = 0; i < k; i++) picks[i] = UINT32_MAX;
            for (uint32_t i = 0; i < k + !vanilla; i++) weights[i] = 0;
            continue;
        }
        for (uint32_t e = 0; e < n; e++) state[A * n + e] = p->mlp ? tanh(h[t * p->ld_h + e]) : h[t * p->ld_h + e];
        for (uint32_t e = 0; e < n; e++) {
            double g = p->mlp ? 0 : state[e], s = 0, ds = 0, x = 0;
            for (uint32_t j = 0; p->mlp && j < n; j++) g += w2[e * p->ld_w2 + j] * state[A * n + j];
            if (scale > 0) {
                const double y = h[t * p->ld_h + n + e];
                s = scale * (fmax(y, 0) + log1p(exp(-fabs(y))) + (double)p->noise_epsilon);
                ds = scale / (1 + exp(-y));
                x = noise_of(p, call->d[2], step, t, e);
            }
            state[G * n + e] = g;
            state[S * n + e] = s;
            state[N * n + e] = x;
            state[Z * n + e] = g + x * s;
            state[DS * n + e] = ds;
        }
        const double *z = state + Z * n;
        double *prob = state + P * n, sum = 0, q = 0;
        sort_experts(z, n, order);
        for (uint32_t i = 0; i < n; i++) {
            prob[order[i]] = vanilla && i >= k ? 0 : exp(z[order[i]] - z[order[0]]);
            sum += prob[order[i]];
        }
        for (uint32_t e = 0; e < n; e++) prob[e] /= sum;
        for (uint32_t j = 0; j < k; j++) q += exp(prob[order[j]]);
        for (uint32_t j = 0; j < k; j++) {
            const double pj = prob[order[j]];
            picks[j] = order[j];
            weights[j + !vanilla] = p->gate == XFT_GATE_XFT ? prob[order[0]] * exp(pj) / q : pj;
        }
        if (!vanilla) weights[0] = 1 - prob[order[0]];
    }
}

/* The threshold expert e of a token is compared with (section 3), and whether it is the (k+1)-th largest. */
static double threshold(const double *state, uint32_t n, uint32_t k, const uint32_t *order, bool official, uint32_t e,
                        bool *in) {
    const double thr_in = state[Z * n + order[k]], thr_out = state[Z * n + order[k - 1]];
    *in = (official ? state[N * n + e] * state[S * n + e] : state[Z * n + e]) > thr_in;
    return *in ? thr_in : thr_out;
}

void ref_router_stats(const ref_call *call) {
    const xft_router_stats_params *p = call->params;
    const uint32_t *segments = call->u[1], n = p->routed, k = p->picks;
    const uint32_t chunks = (p->tokens + p->stretch - 1) / p->stretch;
    for (uint32_t c = 0; c < chunks; c++) {
        double *importance = call->d[2] + c * p->ld_partial, *load = importance + n, *picked = load + n;
        for (uint32_t e = 0; e < 3 * n; e++) importance[e] = 0;
        for (uint32_t t = c * p->stretch; t < p->tokens && t < (c + 1) * p->stretch; t++) {
            const double *state = call->d[0] + t * p->ld_state;
            uint32_t order[MOST];
            if (!segments[4 * t + 3]) continue;
            sort_experts(state + Z * n, n, order);
            for (uint32_t i = 0; i < n; i++) {
                const uint32_t e = order[i];
                const double s = state[S * n + e];
                importance[e] += i < k ? state[P * n + e] : 0;
                picked[e] += i < k;
                bool in;
                if (s > 0 && k < n)
                    load[e] += normal_cdf((state[G * n + e] - threshold(state, n, k, order, p->official, e, &in)) / s);
                else
                    load[e] += i < k;
            }
        }
    }
}

void ref_router_balance(const ref_call *call) {
    const xft_router_balance_params *p = call->params;
    const double *partial = call->d[0];
    double *stats = call->d[2], *coefficients = call->d[3];
    const uint32_t n = p->routed;
    const double scale = (double)ref_float(call->u[1][6]) * (double)p->balance_weight;
    for (uint32_t part = 0; part < 3; part++) {
        double *v = stats + part * p->ld_stats, mean = 0, var = 0;
        for (uint32_t e = 0; e < n; e++) {
            v[e] = 0;
            for (uint32_t c = 0; c < p->chunks; c++) v[e] += partial[c * p->ld_partial + part * n + e];
            mean += v[e] / n;
        }
        if (part == 2) break;
        for (uint32_t e = 0; e < n; e++) var += (v[e] - mean) * (v[e] - mean) / (n > 1 ? n - 1 : 1);
        const double D = mean * mean + 1e-10;
        call->d[4][0] += scale * var / D;
        for (uint32_t e = 0; e < n; e++)
            coefficients[part * p->ld_coefficients + e] =
                scale * (2 * (v[e] - mean) / ((n > 1 ? n - 1 : 1) * D) - 2 * mean * var / (n * D * D));
    }
}

void ref_router_backward(const ref_call *call) {
    const xft_router_backward_params *p = call->params;
    const double *dots = call->d[0], *w2 = call->d[3], *coefficients = call->d[4];
    const uint32_t *segments = call->u[5], n = p->routed, k = p->picks;
    for (uint32_t t = 0; t < p->tokens; t++) {
        const double *state = call->d[2] + t * p->ld_state, *prob = state + P * n;
        const uint32_t *rows = call->u[1] + t * p->ld_inverse;
        double *dh = call->d[6] + t * p->ld_dh, *dg = call->d[7] + t * p->ld_dg;
        for (uint32_t e = 0; e < n; e++) dg[e] = 0;
        for (uint32_t e = 0; e < (p->noisy ? 2 * n : n); e++) dh[e] = 0;
        if (!segments[4 * t + 3]) continue;
        uint32_t order[MOST];
        double dp[MOST] = {0}, dz[MOST], ds[MOST] = {0}, q[MOST], u[MOST], sum = 0, mean = 0, pdp = 0;
        sort_experts(state + Z * n, n, order);
        const bool shared = p->gate != XFT_GATE_VANILLA;
        const double u0 = shared ? dots[rows[0]] : 0;
        for (uint32_t j = 0; j < k; j++) u[j] = dots[rows[j + shared]];
        for (uint32_t j = 0; j < k; j++) sum += q[j] = exp(prob[order[j]]);
        for (uint32_t j = 0; j < k; j++) mean += q[j] / sum * u[j];
        for (uint32_t j = 0; j < k; j++) {
            const uint32_t e = order[j];
            if (p->gate == XFT_GATE_XFT)
                dp[e] = prob[order[0]] * q[j] / sum * (u[j] - mean) + (j == 0 ? mean - u0 : 0);
            else
                dp[e] = u[j] - (j == 0 ? u0 : 0);
            dp[e] += coefficients[e];
            pdp += prob[e] * dp[e];
        }
        for (uint32_t e = 0; e < n; e++) dz[e] = prob[e] * (dp[e] - pdp);
        for (uint32_t e = 0; k < n && e < n; e++) {
            const double s = state[S * n + e];
            if (!(s > 0)) continue;
            bool in;
            const double x = (state[G * n + e] - threshold(state, n, k, order, p->official, e, &in)) / s;
            const double f = coefficients[p->ld_coefficients + e] * normal_pdf(x) / s;
            dg[e] += f;
            ds[e] -= f * x;
            dz[order[in ? k : k - 1]] -= f;
        }
        for (uint32_t e = 0; e < n; e++) {
            dg[e] += dz[e];
            ds[e] += state[N * n + e] * dz[e];
            if (p->noisy) dh[n + e] = ds[e] * state[DS * n + e];
        }
        for (uint32_t e = 0; e < n; e++) {
            if (!p->mlp) {
                dh[e] = dg[e];
                continue;
            }
            for (uint32_t j = 0; j < n; j++) dh[e] += w2[j * p->ld_w2 + e] * dg[j];
            dh[e] *= 1 - state[e] * state[e];
        }
    }
}

/* Expert of (token, slot), UINT32_MAX where there is none. */
static uint32_t expert_of(const uint32_t *picks, uint32_t slot, uint32_t shared_experts) {
    const uint32_t pick = slot < shared_experts ? picks[0] : picks[slot - shared_experts];
    if (pick == UINT32_MAX) return pick;
    return slot < shared_experts ? 0 : pick + shared_experts;
}

void ref_expert_count(const ref_call *call) {
    const xft_expert_count_params *p = call->params;
    const uint32_t chunks = (p->tokens + p->stretch - 1) / p->stretch;
    for (uint32_t c = 0; c < chunks; c++)
        for (uint32_t e = 0; e < p->experts; e++) call->u[1][c * p->ld_counts + e] = 0;
    for (uint32_t t = 0; t < p->tokens; t++)
        for (uint32_t slot = 0; slot < p->picks + p->shared_experts; slot++) {
            const uint32_t e = expert_of(call->u[0] + t * p->ld_picks, slot, p->shared_experts);
            if (e < p->experts) call->u[1][t / p->stretch * p->ld_counts + e]++;
        }
}

void ref_expert_group(const ref_call *call) {
    const xft_expert_group_params *p = call->params;
    const uint32_t *picks = call->u[0], *counts = call->u[1], K = p->picks + p->shared_experts;
    uint32_t *offsets = call->u[3], *source = call->u[4], *inverse = call->u[5], next[MOST];
    offsets[0] = 0;
    for (uint32_t e = 0; e < p->experts; e++) {
        uint32_t total = 0;
        for (uint32_t c = 0; c < p->chunks; c++) total += counts[c * p->ld_counts + e];
        next[e] = offsets[e];
        offsets[e + 1] = offsets[e] + total;
        if (p->marks && total && call->u[2][7]) call->u[6][e] = 1;
    }
    for (uint32_t t = 0; t < p->tokens; t++)
        for (uint32_t slot = 0; slot < K; slot++) {
            const uint32_t e = expert_of(picks + t * p->ld_picks, slot, p->shared_experts);
            inverse[t * p->ld_inverse + slot] = e == UINT32_MAX ? e : next[e];
            if (e != UINT32_MAX) source[next[e]++] = t * K + slot;
        }
    for (uint32_t r = offsets[p->experts]; r < p->tokens * K; r++) source[r] = UINT32_MAX;
}

void ref_gather_rows(const ref_call *call) {
    const xft_gather_rows_params *p = call->params;
    for (uint32_t r = 0; r < p->rows && r < call->u[2][p->experts]; r++)
        for (uint32_t c = 0; c < p->cols; c++)
            call->d[3][r * p->ld_y + c] = call->d[0][call->u[1][r] / p->top_k * p->ld_x + c];
}

void ref_combine(const ref_call *call) {
    const xft_combine_params *p = call->params;
    for (uint32_t t = 0; t < p->tokens; t++)
        for (uint32_t c = 0; c < p->cols; c++) {
            double *y = call->d[3] + t * p->ld_y + c, sum = p->accumulate ? *y : 0;
            for (uint32_t j = 0; j < p->slots; j++) {
                const uint32_t row = call->u[1][t * p->ld_inverse + j];
                if (row == UINT32_MAX) continue;
                sum += (p->weighted ? call->d[2][t * p->ld_weights + j] : 1) * call->d[0][row * p->ld_x + c];
            }
            *y = sum;
        }
}
