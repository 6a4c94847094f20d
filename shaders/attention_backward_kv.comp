#version 460
// dv = P^T do, dk = scale dS^T q with P = exp(scale q k^T - lse), dS = P (do v^T - delta), summed over the query heads
// of a key/value head. q, do [tokens, heads * D], k, v, dk, dv [tokens, kv_heads * D], lse, delta f32 [heads, tokens],
// segments u32 [tokens, 4]. Grid: tiles of ROWS keys x kv_heads; the first keys are seen by most and start first.
// A tile of keys walks, head after head, the tiles of COLS queries that see it: no sum crosses work-groups.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_Q = 0;
layout(constant_id = 2) const uint DT_DO = 0;
layout(constant_id = 3) const uint DT_DK = 0;
layout(constant_id = 4) const uint HEAD_SIZE = 64;
layout(constant_id = 5) const uint ROWS = 32;
layout(constant_id = 6) const uint COLS = 32;
layout(constant_id = 7) const uint SIMD = 0;      // for the OpenCL kernel alone
const uint TILES = 2u; // P for dv, dS for dk
#include "attention_tiles.glsl"
layout(push_constant, scalar) uniform Args {
    RO q; RO k; RO v; RO d_o; RO lse; RO delta; RO segments; RW dk; RW dv;
    xft_attention_backward_kv_params p;
};

// The queries [t, query_end) that see key t.
uvec2 QUERIES_OF(uint t) { return t < p.tokens ? uvec2(t, min(p.tokens, LOADU(segments, 4u * t + 2u))) : uvec2(0u); }

void main() {
    uint k0 = GROUP_X * ROWS, group = p.heads / p.kv_heads, k_col = GROUP_Y * HEAD_SIZE;
    uvec2 range = RANGE(QUERIES_OF(k0 + LOCAL_ID % ROWS));
    uvec4 from, to; // the queries that see this invocation's four rows
    UNROLL for (uint i = 0u; i < 4u; i++) {
        uvec2 queries = QUERIES_OF(k0 + 4u * RG_ID + i);
        from[i] = queries.x;
        to[i] = queries.y;
    }
    CLEAR_SUMS();
    for (uint h = GROUP_Y * group; h < (GROUP_Y + 1u) * group; h++) {
        uint q_col = h * HEAD_SIZE;
        for (uint q0 = range.x; q0 < range.y; q0 += COLS) {
            DOT_TILE(0u, k, DT_Q, k0, p.tokens, p.ld_k, k_col, q, DT_Q, q0, range.y, p.ld_q, q_col);
            DOT_TILE(1u, v, DT_Q, k0, p.tokens, p.ld_v, k_col, d_o, DT_DO, q0, range.y, p.ld_do, q_col);
            UNROLL for (uint j = 0u; j < TC; j++) {
                uint c = CG_ID + CG * j, t = q0 + c;
                vec4 e = vec4(0.0), ds = vec4(0.0);
                if (t < range.y) {
                    float t_lse = LOAD1(lse, h * p.ld_lse + t, F32), t_delta = LOAD1(delta, h * p.ld_delta + t, F32);
                    UNROLL for (uint i = 0u; i < 4u; i++)
                        if (t >= from[i] && t < to[i]) {
                            e[i] = exp(p.scale * scores[j][i] - t_lse);
                            ds[i] = e[i] * (scores[TC + j][i] - t_delta);
                        }
                }
                tile[c * TP + RG_ID] = e;
                tile[(COLS + c) * TP + RG_ID] = ds;
            }
            ADD_TILE(0u, d_o, DT_DO, q0, range.y, p.ld_do, q_col);
            ADD_TILE(1u, q, DT_Q, q0, range.y, p.ld_q, q_col);
        }
    }
    STORE_SUMS(1u, dk, DT_DK, k0, p.tokens, p.ld_dk, k_col, vec4(p.scale));
    STORE_SUMS(0u, dv, DT_DK, k0, p.tokens, p.ld_dv, k_col, vec4(1.0));
}
