#version 460
// Backward of router and balance loss: xft.md section 4. Per token, u_j = dots of its row of the j-th pick, u_0 of
// its row of the shared expert, q = softmax(p_1..p_k), ubar = sum_l q_l u_l:
//     dp_j = p_1 q_j (u_j - ubar) + [j=1] (ubar - u_0);  unnormalised: u_j - [j=1] u_0;  vanilla: u_j;   + c_imp
//     dz = p (dp - sum p dp)              (vanilla: p is 0 for an expert that is not picked)
//     load, with noise and k < E': x = (g - t)/s, f = c_load phi(x)/s; dz_(k+1) -= sum over in of f, dz_(k) -= over out
//     dg = dz + f, ds = n dz - f x;  dh = (1 - a^2) W2^T dg  (linear gate: dg) | ds * ds/d(Wn x)
// dots [R], inverse [T,K], state [T,7E'] of router.comp, w2 [E',E'], coefficients [2,E'], segments [T,4], dh [T, E' or
// 2E'], dg [T,E']. Tokens that are not valid get zeros. Grid and lanes as in router.comp.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "math.glsl"
#include "normal_cdf.glsl"
#include "router.glsl"
layout(push_constant, scalar) uniform Args {
    RO dots; RO inverse_rows; RO state; RO w2; RO coefficients; RO segments; RW dh; RW dg; xft_router_backward_params p;
};
shared float va[gl_WorkGroupSize.x], vb[gl_WorkGroupSize.x];

float sum_of_a(uint base, uint count) {
    float sum = 0.0;
    for (uint j = 0u; j < count; j++) sum += va[base + j];
    return sum;
}
float sum_of_b(uint base, uint count) {
    float sum = 0.0;
    for (uint j = 0u; j < count; j++) sum += vb[base + j];
    return sum;
}

void main() {
    const uint n = p.routed, k = p.picks, slots = WG / n, slot = LOCAL_ID / n, e = LOCAL_ID - slot * n;
    const bool lane = slot < slots;
    const uint base = lane ? slot * n : 0u, shared_slots = p.gate == GATE_VANILLA ? 0u : 1u;
    for (uint first = GROUP_X * slots; first < p.tokens; first += p.groups * slots) {
        const uint t = first + slot, at = t * p.ld_state + e, rows = t * p.ld_inverse;
        const bool mine = lane && t < p.tokens, valid = mine && LOADU(segments, 4u * t + 3u) != 0u;
        const float z = valid ? LOAD1(state, at + STATE_Z * n, F32) : 0.0;
        const float prob = valid ? LOAD1(state, at + STATE_P * n, F32) : 0.0;
        xft_keys[LOCAL_ID] = order_key(z);
        barrier();
        const uint rank = rank_of(base, n, e);
        if (lane) { va[base + rank] = prob; vb[base + rank] = z; }
        barrier();
        const float p1 = va[base], last = vb[base + k - 1u], next = k < n ? vb[base + k] : 0.0;
        const float u = valid && rank < k ? LOAD1(dots, LOADU(inverse_rows, rows + shared_slots + rank), F32) : 0.0;
        const float u0 = valid && shared_slots != 0u ? LOAD1(dots, LOADU(inverse_rows, rows), F32) : 0.0;
        float dp = u - (rank == 0u ? u0 : 0.0);            // unnormalised; vanilla has no u0
        if (p.gate == GATE_XFT) {
            const float q = accurate_exp(prob - p1);
            barrier();
            if (lane) { va[base + rank] = q; vb[base + rank] = q * u; }
            barrier();
            const float sum = sum_of_a(base, k), ubar = sum_of_b(base, k) / sum;
            dp = p1 * q / sum * (u - ubar) + (rank == 0u ? ubar - u0 : 0.0);
        }
        dp = valid && rank < k ? dp + LOAD1(coefficients, e, F32) : 0.0;
        barrier();
        if (lane) va[base + rank] = prob * dp;
        barrier();
        float dz = prob * (dp - sum_of_a(base, k));
        float f = 0.0, x = 0.0;
        const float s = valid ? LOAD1(state, at + STATE_S * n, F32) : 0.0;
        const float noise = valid ? LOAD1(state, at + STATE_N * n, F32) : 0.0;
        if (k < n) {
            const bool inside = (p.official != 0u ? noise * s : z) > next;
            if (s > 0.0) {
                x = (LOAD1(state, at + STATE_G * n, F32) - (inside ? next : last)) / s;
                f = LOAD1(coefficients, p.ld_coefficients + e, F32) * normal_pdf(x) / s;
            }
            barrier();
            if (lane) { va[base + e] = inside ? f : 0.0; vb[base + e] = inside ? 0.0 : f; }
            barrier();
            if (rank == k) dz -= sum_of_a(base, n);
            if (rank == k - 1u) dz -= sum_of_b(base, n);
        }
        const float d_g = dz + f;
        barrier();
        va[LOCAL_ID] = d_g;
        barrier();
        float d_h = d_g;
        if (valid && p.mlp != 0u) {
            const float a = LOAD1(state, at + STATE_A * n, F32);
            d_h = 0.0;
            for (uint j = 0u; j < n; j++) d_h += LOAD1(w2, j * p.ld_w2 + e, F32) * va[base + j];
            d_h *= (1.0 - a) * (1.0 + a);
        }
        if (mine) {
            STORE1(dg, t * p.ld_dg + e, valid ? d_g : 0.0);
            STORE1(dh, t * p.ld_dh + e, valid ? d_h : 0.0);
            if (p.noisy != 0u) {
                const float slope = valid ? LOAD1(state, at + STATE_DS * n, F32) : 0.0;
                STORE1(dh, t * p.ld_dh + n + e, (noise * dz - f * x) * slope);
            }
        }
        barrier();
    }
}
