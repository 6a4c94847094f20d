// attention on a CPU: see opencl/lanes_attention.clh. Grid: tiles of LANES queries x heads, the heaviest first.
// Maximum and sum of every query are lanes of vectors, corrected tile by tile (online softmax).
#define LOWEST -1e30f // below every score, and exp(LOWEST - LOWEST) is 1

KERNEL attention(RO_ARG(q), RO_ARG(k), RO_ARG(v), RO_ARG(segments), RW_ARG(o), RW_ARG(lse), xft_attention_params p) {
    RO(q); RO(k); RO(v); RO(segments); RW(o); RW(lse);
    const uint tokens = p.tokens, ld_k = p.ld_k, ld_v = p.ld_v;
    __local float across[HS * LANES], sums[HS * LANES], columns[COLS * HS], scores[COLS * LANES], factor[LANES];
    __local float top[LANES];
    __local int from[LANES], to[LANES];
    const uint q0 = ((tokens + LANES - 1) / LANES - 1 - GROUP_X) * LANES, h = GROUP_Y;
    const uint q_col = h * HEAD_SIZE, k_col = h / (p.heads / p.kv_heads) * HEAD_SIZE;
    for (uint i = 0; i < LANES; i++) {
        uint2 keys = KEYS_OF(segments, q0 + i, tokens);
        from[i] = (int)keys.x;
        to[i] = (int)keys.y;
    }
    const lane_limits l = limits_of(from, to);
    FV m_lo = (FV)(LOWEST), m_hi = (FV)(LOWEST), sum_lo = (FV)(0.0f), sum_hi = (FV)(0.0f);
    pack_across(across, q, DT_Q, q0, tokens, p.ld_q, q_col, p.scale);
    clear_sums(sums);
    for (uint k0 = l.begin; k0 < l.end; k0 += COLS) {
        const uint count = min(l.end - k0, (uint)COLS);
        copy_columns(columns, k, DT_Q, k0, l.end, ld_k, k_col);
        dot_columns(scores, columns, across);
        FV top_lo = m_lo, top_hi = m_hi;
        for (uint c = 0; c < count; c++) {
            const int key = (int)(k0 + c);
            FV lo = VLOAD(0, scores + c * LANES), hi = VLOAD(0, scores + c * LANES + VW);
            top_lo = fmax(top_lo, select((FV)(LOWEST), lo, (IV)(key) >= l.from_lo && (IV)(key) < l.to_lo));
            top_hi = fmax(top_hi, select((FV)(LOWEST), hi, (IV)(key) >= l.from_hi && (IV)(key) < l.to_hi));
        }
        const FV fix_lo = exp_lanes(m_lo - top_lo), fix_hi = exp_lanes(m_hi - top_hi);
        sum_lo *= fix_lo;
        sum_hi *= fix_hi;
        m_lo = top_lo;
        m_hi = top_hi;
        for (uint c = 0; c < count; c++) {
            FV lo = MEETS(exp_lanes(VLOAD(0, scores + c * LANES) - m_lo), (int)(k0 + c), lo);
            FV hi = MEETS(exp_lanes(VLOAD(0, scores + c * LANES + VW) - m_hi), (int)(k0 + c), hi);
            VSTORE(lo, 0, scores + c * LANES);
            VSTORE(hi, 0, scores + c * LANES + VW);
            sum_lo += lo;
            sum_hi += hi;
        }
        copy_columns(columns, v, DT_Q, k0, l.end, ld_v, k_col);
        add_columns(sums, fix_lo, fix_hi, columns, scores, count);
    }
    VSTORE(sum_lo, 0, factor);
    VSTORE(sum_hi, 0, factor + VW);
    VSTORE(m_lo, 0, top);
    VSTORE(m_hi, 0, top + VW);
    for (uint i = 0; i < LANES; i++) {
        const float sum = factor[i];
        if (q0 + i < tokens) STORE1(lse, h * p.ld_lse + q0 + i, sum > 0.0f ? top[i] + log(sum) : 0.0f);
        factor[i] = sum > 0.0f ? 1.0f / sum : 0.0f;
    }
    store_across(sums, factor, o, DT_O, q0, tokens, p.ld_o, q_col);
}
