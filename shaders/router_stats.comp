#version 460
// Sums of the balance loss (xft.md section 3) over a stretch of tokens: partial[c] = importance, load, tokens, E' each.
//     importance_e = sum p_e [picked]     tokens_e = sum [picked]
//     load_e = sum Phi((g_e - (in_e ? thr_in : thr_out)) / s_e), in_e = z_e > thr_in (official: n_e s_e > thr_in);
//     without noise, or when every expert is picked: tokens_e
// state [T,7E'] of router.comp, segments [T,4], partial [C,3E']. Grid: C x 1 x 1; group c takes the c-th stretch, one
// lane per expert of WG/E' tokens at a time. A lane's tokens are added in order, then the lanes of an expert in order.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "math.glsl"
#include "normal_cdf.glsl"
#include "router.glsl"
layout(push_constant, scalar) uniform Args { RO state; RO segments; RW partial_sums; xft_router_stats_params p; };
shared float vz[gl_WorkGroupSize.x];

void main() {
    const uint n = p.routed, k = p.picks, slots = WG / n, slot = LOCAL_ID / n, e = LOCAL_ID - slot * n;
    const bool lane = slot < slots;
    const uint base = lane ? slot * n : 0u;
    const uint begin = GROUP_X * p.stretch, end = min(begin + p.stretch, p.tokens);
    float importance = 0.0, load = 0.0, picked = 0.0;
    for (uint first = begin; first < end; first += slots) {
        const uint t = first + slot, at = t * p.ld_state + e;
        const bool valid = lane && t < end && LOADU(segments, 4u * t + 3u) != 0u;
        const float z = valid ? LOAD1(state, at + STATE_Z * n, F32) : 0.0;
        const float s = valid ? LOAD1(state, at + STATE_S * n, F32) : 0.0;
        xft_keys[LOCAL_ID] = order_key(z);
        barrier();
        const uint rank = rank_of(base, n, e);
        if (lane) vz[base + rank] = z;
        barrier();
        if (valid) {
            const float chosen = rank < k ? 1.0 : 0.0;
            importance += chosen * LOAD1(state, at + STATE_P * n, F32);
            picked += chosen;
            if (s > 0.0 && k < n) {
                const float x = p.official != 0u ? LOAD1(state, at + STATE_N * n, F32) * s : z;
                const float threshold = x > vz[base + k] ? vz[base + k] : vz[base + k - 1u];
                load += normal_cdf((LOAD1(state, at + STATE_G * n, F32) - threshold) / s);
            } else {
                load += chosen;
            }
        }
        barrier();
    }
    for (uint part = 0u; part < 3u; part++) {
        vz[LOCAL_ID] = part == 0u ? importance : part == 1u ? load : picked;
        barrier();
        if (slot == 0u) {
            float sum = 0.0;
            for (uint i = 0u; i < slots; i++) sum += vz[i * n + e];
            STORE1(partial_sums, GROUP_X * p.ld_partial + part * n + e, sum);
        }
        barrier();
    }
}
