// dv = P^T do, dk = scale dS^T q with P = exp(scale q k^T - lse), dS = P (do v^T - delta), summed over the query heads
// of a key/value head. q, do [tokens, heads * D], k, v, dk, dv [tokens, kv_heads * D], lse, delta f32 [heads, tokens],
// segments u32 [tokens, 4]. Grid: tiles of ROWS keys x kv_heads; the first keys are seen by most and start first.
// A tile of keys walks, head after head, the tiles of COLS queries that see it: no sum crosses work-groups.

// The queries [x, y) that see key t; t may be beyond the last.
#define QUERIES_OF(t) ((t) < tokens ? (uint2)(t, min(tokens, segments[4u * (t) + 2u])) : (uint2)(0u))

SUBGROUPS KERNEL attention_backward_kv(RO_ARG(q), RO_ARG(k), RO_ARG(v), RO_ARG(d_o), RO_ARG(lse), RO_ARG(delta), RO_ARG(segments),
                             RW_ARG(dk), RW_ARG(dv), xft_attention_backward_kv_params p) {
    RO(q); RO(k); RO(v); RO(d_o); RO(lse); RO(delta); RO(segments); RW(dk); RW(dv);
    const uint tokens = p.tokens, ld_q = p.ld_q, ld_k = p.ld_k, ld_v = p.ld_v, ld_do = p.ld_do, ld_lse = p.ld_lse;
    const uint ld_delta = p.ld_delta, ld_dk = p.ld_dk, ld_dv = p.ld_dv, group = p.heads / p.kv_heads;
    const float scale = p.scale;
    __local float2 stage[STAGE];
    __local float4 tile[2u * COLS * TP]; // P for dv, dS for dk
    uint k0 = GROUP_X * ROWS, k_col = GROUP_Y * HEAD_SIZE, own = k0 + 4u * RG_ID, row = k0 + LOCAL_ID % ROWS;
    uint2 range = RANGE(tile, QUERIES_OF(row));
    // The queries that see the four rows of this work-item.
    uint2 r0 = QUERIES_OF(own), r1 = QUERIES_OF(own + 1u), r2 = QUERIES_OF(own + 2u), r3 = QUERIES_OF(own + 3u);
    uint4 from = (uint4)(r0.x, r1.x, r2.x, r3.x), to = (uint4)(r0.y, r1.y, r2.y, r3.y);
    float4 s[TC], dp[TC], sums_k[2u * NP], sums_v[2u * NP];
    CLEAR_SUMS(sums_k);
    CLEAR_SUMS(sums_v);
    for (uint h = GROUP_Y * group; h < (GROUP_Y + 1u) * group; h++) {
        uint q_col = h * HEAD_SIZE;
        for (uint q0 = range.x; q0 < range.y; q0 += COLS) {
            DOT_TILE(stage, s, k, DT_Q, k0, tokens, ld_k, k_col, q, DT_Q, q0, range.y, ld_q, q_col);
            DOT_TILE(stage, dp, v, DT_Q, k0, tokens, ld_v, k_col, d_o, DT_DO, q0, range.y, ld_do, q_col);
            UNROLL for (uint j = 0; j < TC; j++) {
                uint c = CG_ID + CG * j, t = min(q0 + c, range.y - 1u);
                int4 seen = (uint4)(q0 + c) >= from && (uint4)(q0 + c) < to;
                float4 score = scale * s[j], e = exp(score - AS_FLOAT(lse[h * ld_lse + t])); // see attention_backward_q.cl
                float4 ds = e * (dp[j] - AS_FLOAT(delta[h * ld_delta + t]));
                tile[c * TP + RG_ID] = select((float4)(0.0f), e, seen);
                tile[(COLS + c) * TP + RG_ID] = select((float4)(0.0f), ds, seen);
            }
            ADD_TILE(stage, tile, sums_v, d_o, DT_DO, q0, range.y, ld_do, q_col);
            ADD_TILE(stage, tile + COLS * TP, sums_k, q, DT_Q, q0, range.y, ld_q, q_col);
        }
    }
    STORE_SUMS(sums_k, dk, DT_DK, k0, tokens, ld_dk, k_col, (float4)(scale));
    STORE_SUMS(sums_v, dv, DT_DK, k0, tokens, ld_dv, k_col, (float4)(1.0f));
}
