// dq = scale dS k with P = exp(scale q k^T - lse), dS = P (do v^T - delta).
// q, do, dq [tokens, heads * D], k, v [tokens, kv_heads * D], lse, delta f32 [heads, tokens], segments u32 [tokens, 4].
// Grid: tiles of ROWS queries x heads, the heaviest first. As attention.cl, but the rows' log-sum-exp is known, so every
// work-item makes its own part of P and dS in registers.
SUBGROUPS KERNEL attention_backward_q(RO_ARG(q), RO_ARG(k), RO_ARG(v), RO_ARG(d_o), RO_ARG(lse), RO_ARG(delta), RO_ARG(segments),
                            RW_ARG(dq), xft_attention_backward_q_params p) {
    RO(q); RO(k); RO(v); RO(d_o); RO(lse); RO(delta); RO(segments); RW(dq);
    const uint tokens = p.tokens, ld_q = p.ld_q, ld_k = p.ld_k, ld_v = p.ld_v, ld_do = p.ld_do, ld_lse = p.ld_lse;
    const uint ld_delta = p.ld_delta, ld_dq = p.ld_dq, group = p.heads / p.kv_heads;
    const float scale = p.scale;
    __local float2 stage[STAGE];
    __local float4 tile[COLS * TP];
    uint tiles = (tokens + ROWS - 1u) / ROWS, q0 = (tiles - 1u - GROUP_X) * ROWS, h = GROUP_Y;
    uint q_col = h * HEAD_SIZE, k_col = h / group * HEAD_SIZE, t = q0 + 4u * RG_ID, last = tokens - 1u;
    uint2 range = RANGE(tile, KEYS_OF(segments, q0 + LOCAL_ID % ROWS, tokens));
    // The four rows of this work-item: the keys they see, and their statistics.
    uint2 k0_ = KEYS_OF(segments, t, tokens), k1_ = KEYS_OF(segments, t + 1u, tokens);
    uint2 k2_ = KEYS_OF(segments, t + 2u, tokens), k3_ = KEYS_OF(segments, t + 3u, tokens);
    uint4 from = (uint4)(k0_.x, k1_.x, k2_.x, k3_.x), to = (uint4)(k0_.y, k1_.y, k2_.y, k3_.y);
    xft_ro h_lse = lse + h * ld_lse, h_delta = delta + h * ld_delta;
    uint4 at = min((uint4)(t, t + 1u, t + 2u, t + 3u), (uint4)(last));
    float4 row_lse = as_float4((uint4)(h_lse[at.x], h_lse[at.y], h_lse[at.z], h_lse[at.w]));
    float4 row_delta = as_float4((uint4)(h_delta[at.x], h_delta[at.y], h_delta[at.z], h_delta[at.w]));
    float4 s[TC], dp[TC], sums[2u * NP];
    CLEAR_SUMS(sums);
    for (uint k0 = range.x; k0 < range.y; k0 += COLS) {
        DOT_TILE(stage, s, q, DT_Q, q0, tokens, ld_q, q_col, k, DT_Q, k0, range.y, ld_k, k_col);
        DOT_TILE(stage, dp, d_o, DT_DO, q0, tokens, ld_do, q_col, v, DT_Q, k0, range.y, ld_v, k_col);
        UNROLL for (uint j = 0; j < TC; j++) {
            uint4 key = (uint4)(k0 + CG_ID + CG * j);
            // Two statements: of a vector, exp(a * b - c) loses its c in the compiler of Intel's CPU runtime 2026.2.
            float4 score = scale * s[j], ds = scale * exp(score - row_lse) * (dp[j] - row_delta);
            tile[(CG_ID + CG * j) * TP + RG_ID] = select((float4)(0.0f), ds, key >= from && key < to);
        }
        ADD_TILE(stage, tile, sums, k, DT_Q, k0, range.y, ld_k, k_col);
    }
    STORE_SUMS(sums, dq, DT_DQ, q0, tokens, ld_dq, q_col, (float4)(1.0f));
}
