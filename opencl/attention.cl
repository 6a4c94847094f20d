// o_h = softmax(scale q_h k^T) v, lse = log sum exp, causal, grouped-query, over packed sequences (segments).
// q, o [tokens, heads * D], k, v [tokens, kv_heads * D], segments u32 [tokens, 4], lse f32 [heads, tokens].
// Grid: tiles of ROWS queries x heads. The last tiles see the most keys and start first. A tile of queries walks the
// tiles of COLS keys that it can see; maximum and sum of a row are corrected as larger scores appear (online softmax),
// so the scores never leave local memory. The WG/ROWS work-items of a row share its exponentials, and their sums meet
// only at the end.
#define PARTS (WG / ROWS)
#define LOWEST -1e30f // below every score, and exp(LOWEST - LOWEST) is 1
#define P_AT(c) ((__local float *)tile)[(c) * 4u * TP + row]

SUBGROUPS KERNEL attention(RO_ARG(q), RO_ARG(k), RO_ARG(v), RO_ARG(segments), RW_ARG(o), RW_ARG(lse), xft_attention_params p) {
    RO(q); RO(k); RO(v); RO(segments); RW(o); RW(lse);
    const uint tokens = p.tokens, ld_q = p.ld_q, ld_k = p.ld_k, ld_v = p.ld_v, ld_o = p.ld_o, ld_lse = p.ld_lse;
    const uint group = p.heads / p.kv_heads;
    const float scale = p.scale;
    __local float2 stage[STAGE];
    __local float4 tile[COLS * TP];
    __local float factor[ROWS];
    uint tiles = (tokens + ROWS - 1u) / ROWS, q0 = (tiles - 1u - GROUP_X) * ROWS, h = GROUP_Y;
    uint q_col = h * HEAD_SIZE, k_col = h / group * HEAD_SIZE;
    uint row = LOCAL_ID % ROWS, part = LOCAL_ID / ROWS;
    uint2 keys = KEYS_OF(segments, q0 + row, tokens), range = RANGE(tile, keys);
    float m = LOWEST, l = 0.0f;
    float4 s[TC], sums[2u * NP], f;
    CLEAR_SUMS(sums);
    for (uint k0 = range.x; k0 < range.y; k0 += COLS) {
        DOT_TILE(stage, s, q, DT_Q, q0, tokens, ld_q, q_col, k, DT_Q, k0, range.y, ld_k, k_col);
        UNROLL for (uint j = 0; j < TC; j++) tile[(CG_ID + CG * j) * TP + RG_ID] = scale * s[j];
        BARRIER();
        float top = m;
        for (uint c = 0; c < COLS; c++)
            if (k0 + c >= keys.x && k0 + c < keys.y) top = fmax(top, P_AT(c));
        BARRIER();
        float fix = exp(m - top);
        l *= fix;
        m = top;
        for (uint c = part; c < COLS; c += PARTS) {
            float e = 0.0f;
            if (k0 + c >= keys.x && k0 + c < keys.y) e = exp(P_AT(c) - top);
            P_AT(c) = e;
            l += e;
        }
        if (part == 0) factor[row] = fix;
        BARRIER();
        f = (float4)(factor[4u * RG_ID], factor[4u * RG_ID + 1u], factor[4u * RG_ID + 2u], factor[4u * RG_ID + 3u]);
        UNROLL for (uint j = 0; j < 2u * NP; j++) sums[j] *= f;
        ADD_TILE(stage, tile, sums, v, DT_Q, k0, range.y, ld_v, k_col);
    }
    BARRIER();
    P_AT(part) = l;
    BARRIER();
    if (part == 0) {
        float sum = 0.0f;
        for (uint i = 0; i < PARTS; i++) sum += P_AT(i);
        factor[row] = sum > 0.0f ? 1.0f / sum : 0.0f;
        if (q0 + row < tokens) STORE1(lse, h * ld_lse + q0 + row, sum > 0.0f ? m + log(sum) : 0.0f);
    }
    BARRIER();
    f = (float4)(factor[4u * RG_ID], factor[4u * RG_ID + 1u], factor[4u * RG_ID + 2u], factor[4u * RG_ID + 3u]);
    STORE_SUMS(sums, o, DT_O, q0, tokens, ld_o, q_col, f);
}
