#version 460
// Router of a MoE layer: xft.md section 2. Per token, E' = p.routed experts, k = p.picks:
//     a = tanh(W1 x), g = W2 a  (linear gate: a = g = W1 x)     s = noise_scale (softplus(Wn x) + eps),  z = g + n s
//     p = softmax(z), the k largest z in descending order picked, ties to the lower index
//     r_j = p_1 softmax(p_1..p_k)_j, w_0 = 1 - p_1
//     (unnormalised gate: r_j = p_j;  vanilla: p = softmax over the picked, r_j = p_j, no w_0)
// h [T, 2E'] = W1 x | Wn x (no noise: [T, E']), w2 [E',E'], noise [T,E'], segments [T,4], state [T,7E'] = a g s n z p
// and ds/d(Wn x), picks [T,k], weights [T,K]. Tokens that are not valid: state and weights 0, picks NONE.
// Grid: groups x 1 x 1; a work-group takes WG/E' tokens at a time, one lane per expert, so that every step of a token
// is one step of its lanes: ranks by counting, sums by reading the neighbours' values; no sort and no private arrays.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "philox.glsl"
#include "math.glsl"
#include "router.glsl"
layout(push_constant, scalar) uniform Args {
    RO h; RO w2; RO noise; RO segments; RO step_block; RW state; RW picks; RW weights; xft_router_params p;
};
shared float va[gl_WorkGroupSize.x], vz[gl_WorkGroupSize.x];

float draw_noise(uint t, uint e) {
    if (p.noise == NOISE_STORED) return LOAD1(noise, t * p.ld_noise + e, F32);
    uvec4 words = philox(uvec2(LOADU(step_block, 1), LOADU(step_block, 2)), RANDOM_ROUTER, LOADU(step_block, 0),
                         p.layer, LOADU(step_block, 3) + t, e >> 2);
    vec2 n = philox_normal2((e & 2u) != 0u ? words.zw : words.xy);
    return (e & 1u) != 0u ? n.y : n.x;
}

void main() {
    const uint n = p.routed, k = p.picks, slots = WG / n, slot = LOCAL_ID / n, e = LOCAL_ID - slot * n;
    const bool lane = slot < slots;                        // the rest of the work-group only keeps the barriers
    const uint base = lane ? slot * n : 0u;
    const float scale = p.noise != NOISE_NONE ? LOAD1(step_block, 9, F32) : 0.0;
    for (uint first = GROUP_X * slots; first < p.tokens; first += p.groups * slots) {
        const uint t = first + slot;
        const bool mine = lane && t < p.tokens, valid = mine && LOADU(segments, 4u * t + 3u) != 0u;
        float a = valid ? LOAD1(h, t * p.ld_h + e, F32) : 0.0;
        if (p.mlp != 0u) a = accurate_tanh(a);
        va[LOCAL_ID] = a;
        barrier();
        float g = a, s = 0.0, ds = 0.0, x = 0.0;
        if (valid && p.mlp != 0u) {
            g = 0.0;
            for (uint j = 0u; j < n; j++) g += LOAD1(w2, e * p.ld_w2 + j, F32) * va[base + j];
        }
        if (valid && scale > 0.0) {
            float y = LOAD1(h, t * p.ld_h + n + e, F32);
            s = scale * (softplus(y) + p.noise_epsilon);
            ds = scale * sigmoid(y);
            x = draw_noise(t, e);
        }
        const float z = g + x * s;
        xft_keys[LOCAL_ID] = order_key(z);
        barrier();
        const uint rank = rank_of(base, n, e);
        if (lane) vz[base + rank] = z;
        barrier();
        // Relative to the largest logit; without it in the sum, w_0 = rest / (1 + rest) does not cancel.
        const bool counts = p.gate != GATE_VANILLA || rank < k;
        const float u = counts ? accurate_exp(z - vz[base]) : 0.0;
        if (lane) va[base + rank] = u;
        barrier();
        float rest = 0.0;
        for (uint j = 1u; j < n; j++) rest += va[base + j];
        const float p1 = 1.0 / (1.0 + rest), prob = u / (1.0 + rest);
        float r = prob;
        if (p.gate == GATE_XFT) {
            const float q = accurate_exp(prob - p1);
            if (lane) vz[base + rank] = q;
            barrier();
            float sum = 0.0;
            for (uint j = 0u; j < k; j++) sum += vz[base + j];
            r = p1 * q / sum;
        }
        if (mine) {
            const uint at = t * p.ld_state + e;
            STORE1(state, at + STATE_A * n, a);
            STORE1(state, at + STATE_G * n, g);
            STORE1(state, at + STATE_S * n, s);
            STORE1(state, at + STATE_N * n, x);
            STORE1(state, at + STATE_Z * n, z);
            STORE1(state, at + STATE_P * n, valid ? prob : 0.0);
            STORE1(state, at + STATE_DS * n, ds);
            const uint shared_slots = p.gate == GATE_VANILLA ? 0u : 1u;
            if (rank < k) {
                STOREU(picks, t * p.ld_picks + rank, valid ? e : NONE);
                STORE1(weights, t * p.ld_weights + shared_slots + rank, valid ? r : 0.0);
            }
            if (rank == 0u && shared_slots != 0u)
                STORE1(weights, t * p.ld_weights, valid ? rest / (1.0 + rest) : 0.0);
        }
        barrier();
    }
}
