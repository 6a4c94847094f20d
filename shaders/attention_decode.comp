#version 460
// o = softmax(scale q k_cache^T) v_cache for new_tokens queries of each sequence; query i of sequence b sees the cache
// rows 0 … lengths[b] + i. q, o [sequences * new_tokens, heads * D], caches [sequences, capacity, kv_heads * D],
// lengths u32 [sequences]. Grid: blocks of ROWS query rows x kv_heads x sequences.
// The rows that meet one key/value head (new_tokens x heads of its group) are worked on together, so each cache row is
// read once for up to ROWS of them. An invocation takes whole keys for the scores, then one quad of the head and every
// KG-th key for the sums: both read whole cache lines. WG keys per round, softmax online as in attention.comp.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_Q = 0;
layout(constant_id = 2) const uint DT_CACHE = 0;
layout(constant_id = 3) const uint DT_O = 0;
layout(constant_id = 4) const uint HEAD_SIZE = 64;
layout(constant_id = 5) const uint ROWS = 8;
layout(constant_id = 6) const uint SIMD = 0;      // for the OpenCL kernel alone
#include "attention_head.glsl"
layout(push_constant, scalar) uniform Args {
    RO q; RO k_cache; RO v_cache; RO lengths; RW o;
    xft_attention_decode_params p;
};

const uint DQ = (HEAD_SIZE + 3u) / 4u, KG = WG / DQ; // quads of a head; keys at once in the sums
const uint LANES = WG / ROWS;                        // invocations per row in the softmax
shared vec4 stage[ROWS * DQ > WG ? ROWS * DQ : WG];  // the queries; at the end the parts of the sums
shared float score[ROWS * WG];
shared float meet[WG];
shared float factor[ROWS];

void main() {
    const float LOWEST = -1e30;
    uint b = GROUP_Z, kv = GROUP_Y, group = p.heads / p.kv_heads, r0 = GROUP_X * ROWS, all = p.new_tokens * group;
    uint used = LOADU(lengths, b), cache = b * p.capacity, k_col = kv * HEAD_SIZE;
    for (uint i = LOCAL_ID; i < ROWS * DQ; i += WG) {
        uint r = min(r0 + i / DQ, all - 1u), t = b * p.new_tokens + r / group, h = kv * group + r % group;
        stage[i] = p.scale * HEAD4(q, t * p.ld_q + h * HEAD_SIZE, 4u * (i % DQ), DT_Q);
    }
    barrier();
    uint row = LOCAL_ID / LANES, lane = LOCAL_ID % LANES, quad = LOCAL_ID % DQ, kg = LOCAL_ID / DQ;
    uint seen = min(used + min(r0 + row, all - 1u) / group + 1u, p.capacity);
    uint end = min(used + (min(r0 + ROWS, all) - 1u) / group + 1u, p.capacity);
    float m = LOWEST, l = 0.0, s[ROWS];
    vec4 sums[ROWS];
    UNROLL for (uint r = 0u; r < ROWS; r++) sums[r] = vec4(0.0);
    for (uint k0 = 0u; k0 < end; k0 += WG) {
        uint key = k0 + LOCAL_ID;
        UNROLL for (uint r = 0u; r < ROWS; r++) s[r] = 0.0;
        if (key < end)
            for (uint d = 0u; d < DQ; d++) {
                vec4 x = HEAD4(k_cache, (cache + key) * p.ld_k_cache + k_col, 4u * d, DT_CACHE);
                UNROLL for (uint r = 0u; r < ROWS; r++) s[r] += dot(x, stage[r * DQ + d]);
            }
        barrier();
        UNROLL for (uint r = 0u; r < ROWS; r++) score[r * WG + LOCAL_ID] = s[r];
        barrier();
        float top = m;
        for (uint c = lane; c < WG && k0 + c < seen; c += LANES) top = max(top, score[row * WG + c]);
        meet[LOCAL_ID] = top;
        barrier();
        for (uint i = 0u; i < LANES; i++) top = max(top, meet[row * LANES + i]);
        float fix = exp(m - top);
        l *= fix;
        m = top;
        for (uint c = lane; c < WG; c += LANES) {
            float e = k0 + c < seen ? exp(score[row * WG + c] - top) : 0.0;
            score[row * WG + c] = e;
            l += e;
        }
        if (lane == 0u) factor[row] = fix;
        barrier();
        UNROLL for (uint r = 0u; r < ROWS; r++) sums[r] *= factor[r];
        if (kg < KG)
            for (uint c = kg; c < WG && k0 + c < end; c += KG) {
                vec4 x = HEAD4(v_cache, (cache + k0 + c) * p.ld_v_cache + k_col, 4u * quad, DT_CACHE);
                UNROLL for (uint r = 0u; r < ROWS; r++) sums[r] += score[r * WG + c] * x;
            }
    }
    barrier();
    meet[LOCAL_ID] = l;
    barrier();
    if (lane == 0u) {
        float sum = 0.0;
        for (uint i = 0u; i < LANES; i++) sum += meet[row * LANES + i];
        factor[row] = 1.0 / sum;
    }
    UNROLL for (uint r = 0u; r < ROWS; r++) {
        barrier();
        stage[LOCAL_ID] = sums[r];
        barrier();
        if (LOCAL_ID < DQ && r0 + r < all) {
            vec4 x = vec4(0.0);
            for (uint i = 0u; i < KG; i++) x += stage[i * DQ + LOCAL_ID];
            uint t = b * p.new_tokens + (r0 + r) / group, h = kv * group + (r0 + r) % group;
            STORE_HEAD4(o, t * p.ld_o + h * HEAD_SIZE, 4u * LOCAL_ID, factor[r] * x, DT_O);
        }
    }
}
