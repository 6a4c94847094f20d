#version 460
// dq = scale dS k with P = exp(scale q k^T - lse), dS = P (do v^T - delta).
// q, do, dq [tokens, heads * D], k, v [tokens, kv_heads * D], lse, delta f32 [heads, tokens], segments u32 [tokens, 4].
// Grid: tiles of ROWS queries x heads, the heaviest first. As attention.comp, but the rows' log-sum-exp is known, so
// every invocation makes its own part of P and dS in registers.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_Q = 0;
layout(constant_id = 2) const uint DT_DO = 0;
layout(constant_id = 3) const uint DT_DQ = 0;
layout(constant_id = 4) const uint HEAD_SIZE = 64;
layout(constant_id = 5) const uint ROWS = 64;
layout(constant_id = 6) const uint COLS = 32;
layout(constant_id = 7) const uint SIMD = 0;      // for the OpenCL kernel alone
const uint TILES = 1u;
#include "attention_tiles.glsl"
layout(push_constant, scalar) uniform Args {
    RO q; RO k; RO v; RO d_o; RO lse; RO delta; RO segments; RW dq;
    xft_attention_backward_q_params p;
};

void main() {
    uint tiles = (p.tokens + ROWS - 1u) / ROWS, q0 = (tiles - 1u - GROUP_X) * ROWS, h = GROUP_Y;
    uint q_col = h * HEAD_SIZE, k_col = h / (p.heads / p.kv_heads) * HEAD_SIZE;
    uvec2 range = RANGE(KEYS_OF(segments, q0 + LOCAL_ID % ROWS, p.tokens));
    uvec4 from, to; // the keys seen by this invocation's four rows
    vec4 row_lse = vec4(0.0), row_delta = vec4(0.0);
    UNROLL for (uint i = 0u; i < 4u; i++) {
        uint t = q0 + 4u * RG_ID + i;
        uvec2 keys = KEYS_OF(segments, t, p.tokens);
        from[i] = keys.x;
        to[i] = keys.y;
        if (t < p.tokens) {
            row_lse[i] = LOAD1(lse, h * p.ld_lse + t, F32);
            row_delta[i] = LOAD1(delta, h * p.ld_delta + t, F32);
        }
    }
    CLEAR_SUMS();
    for (uint k0 = range.x; k0 < range.y; k0 += COLS) {
        DOT_TILE(0u, q, DT_Q, q0, p.tokens, p.ld_q, q_col, k, DT_Q, k0, range.y, p.ld_k, k_col);
        DOT_TILE(1u, d_o, DT_DO, q0, p.tokens, p.ld_do, q_col, v, DT_Q, k0, range.y, p.ld_v, k_col);
        UNROLL for (uint j = 0u; j < TC; j++) {
            uint key = k0 + CG_ID + CG * j;
            vec4 ds = vec4(0.0);
            UNROLL for (uint i = 0u; i < 4u; i++)
                if (key >= from[i] && key < to[i])
                    ds[i] = p.scale * exp(p.scale * scores[j][i] - row_lse[i]) * (scores[TC + j][i] - row_delta[i]);
            tile[(CG_ID + CG * j) * TP + RG_ID] = ds;
        }
        ADD_TILE(0u, k, DT_Q, k0, range.y, p.ld_k, k_col);
    }
    STORE_SUMS(0u, dq, DT_DQ, q0, p.tokens, p.ld_dq, q_col, vec4(1.0));
}
