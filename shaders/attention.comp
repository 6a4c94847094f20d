#version 460
// o_h = softmax(scale q_h k^T) v, lse = log sum exp, causal, grouped-query, over packed sequences (segments).
// q, o [tokens, heads * D], k, v [tokens, kv_heads * D], segments u32 [tokens, 4], lse f32 [heads, tokens].
// Grid: tiles of ROWS queries x heads. The last tiles see the most keys and start first. A tile of queries walks the
// tiles of COLS keys that it can see; maximum and sum of a row are corrected as larger scores appear (online softmax),
// so the scores never leave shared memory. The WG/ROWS invocations of a row share its exponentials, and their sums
// meet only at the end.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_Q = 0;
layout(constant_id = 2) const uint DT_O = 0;
layout(constant_id = 3) const uint HEAD_SIZE = 64;
layout(constant_id = 4) const uint ROWS = 64;
layout(constant_id = 5) const uint COLS = 32;
layout(constant_id = 6) const uint SIMD = 0;      // for the OpenCL kernel alone
const uint TILES = 1u;
#include "attention_tiles.glsl"
layout(push_constant, scalar) uniform Args { RO q; RO k; RO v; RO segments; RW o; RW lse; xft_attention_params p; };

const uint PARTS = WG / ROWS;
shared float factor[ROWS];

void main() {
    const float LOWEST = -1e30; // below every score, and exp(LOWEST - LOWEST) is 1
    uint tiles = (p.tokens + ROWS - 1u) / ROWS, q0 = (tiles - 1u - GROUP_X) * ROWS, h = GROUP_Y;
    uint q_col = h * HEAD_SIZE, k_col = h / (p.heads / p.kv_heads) * HEAD_SIZE;
    uint row = LOCAL_ID % ROWS, part = LOCAL_ID / ROWS;
    uvec2 keys = KEYS_OF(segments, q0 + row, p.tokens), range = RANGE(keys);
    float m = LOWEST, l = 0.0;
    CLEAR_SUMS();
    for (uint k0 = range.x; k0 < range.y; k0 += COLS) {
        DOT_TILE(0u, q, DT_Q, q0, p.tokens, p.ld_q, q_col, k, DT_Q, k0, range.y, p.ld_k, k_col);
        UNROLL for (uint j = 0u; j < TC; j++) tile[(CG_ID + CG * j) * TP + RG_ID] = p.scale * scores[j];
        barrier();
        float top = m;
        for (uint c = 0u; c < COLS; c++)
            if (k0 + c >= keys.x && k0 + c < keys.y) top = max(top, tile[c * TP + row / 4u][row & 3u]);
        barrier();
        float fix = exp(m - top);
        l *= fix;
        m = top;
        for (uint c = part; c < COLS; c += PARTS) {
            float e = 0.0;
            if (k0 + c >= keys.x && k0 + c < keys.y) e = exp(tile[c * TP + row / 4u][row & 3u] - top);
            tile[c * TP + row / 4u][row & 3u] = e;
            l += e;
        }
        if (part == 0u) factor[row] = fix;
        barrier();
        vec4 f = vec4(factor[4u * RG_ID], factor[4u * RG_ID + 1u], factor[4u * RG_ID + 2u], factor[4u * RG_ID + 3u]);
        UNROLL for (uint j = 0u; j < 2u * NP; j++) sums[j] *= f;
        ADD_TILE(0u, v, DT_Q, k0, range.y, p.ld_v, k_col);
    }
    barrier();
    tile[part * TP + row / 4u][row & 3u] = l;
    barrier();
    if (part == 0u) {
        float sum = 0.0;
        for (uint i = 0u; i < PARTS; i++) sum += tile[i * TP + row / 4u][row & 3u];
        factor[row] = sum > 0.0 ? 1.0 / sum : 0.0;
        if (q0 + row < p.tokens) STORE1(lse, h * p.ld_lse + q0 + row, sum > 0.0 ? m + log(sum) : 0.0);
    }
    barrier();
    vec4 f = vec4(factor[4u * RG_ID], factor[4u * RG_ID + 1u], factor[4u * RG_ID + 2u], factor[4u * RG_ID + 3u]);
    STORE_SUMS(0u, o, DT_O, q0, p.tokens, p.ld_o, q_col, f);
}
