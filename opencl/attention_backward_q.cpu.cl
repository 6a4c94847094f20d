// attention_backward_q on a CPU: see opencl/lanes_attention.clh. Grid: tiles of LANES queries x heads, the heaviest
// first.
KERNEL attention_backward_q(RO_ARG(q), RO_ARG(k), RO_ARG(v), RO_ARG(d_o), RO_ARG(lse), RO_ARG(delta), RO_ARG(segments),
                            RW_ARG(dq), xft_attention_backward_q_params p) {
    RO(q); RO(k); RO(v); RO(d_o); RO(lse); RO(delta); RO(segments); RW(dq);
    const uint tokens = p.tokens, ld_k = p.ld_k, ld_v = p.ld_v;
    const float scale = p.scale;
    __local float q_across[HS * LANES], do_across[HS * LANES], sums[HS * LANES], keys[COLS * HS], values[COLS * HS];
    __local float scores[COLS * LANES], ds[COLS * LANES], row_lse[LANES], row_delta[LANES], factor[LANES];
    __local int from[LANES], to[LANES];
    const uint q0 = ((tokens + LANES - 1) / LANES - 1 - GROUP_X) * LANES, h = GROUP_Y;
    const uint q_col = h * HEAD_SIZE, k_col = h / (p.heads / p.kv_heads) * HEAD_SIZE;
    for (uint i = 0; i < LANES; i++) {
        const uint t = min(q0 + i, tokens - 1);
        uint2 seen = KEYS_OF(segments, q0 + i, tokens);
        from[i] = (int)seen.x;
        to[i] = (int)seen.y;
        row_lse[i] = AS_FLOAT(lse[h * p.ld_lse + t]);
        row_delta[i] = AS_FLOAT(delta[h * p.ld_delta + t]);
        factor[i] = 1.0f;
    }
    const lane_limits l = limits_of(from, to);
    const FV lse_lo = VLOAD(0, row_lse), lse_hi = VLOAD(0, row_lse + VW);
    const FV delta_lo = VLOAD(0, row_delta), delta_hi = VLOAD(0, row_delta + VW);
    pack_across(q_across, q, DT_Q, q0, tokens, p.ld_q, q_col, scale);
    pack_across(do_across, d_o, DT_DO, q0, tokens, p.ld_do, q_col, 1.0f);
    clear_sums(sums);
    for (uint k0 = l.begin; k0 < l.end; k0 += COLS) {
        const uint count = min(l.end - k0, (uint)COLS);
        copy_columns(keys, k, DT_Q, k0, l.end, ld_k, k_col);
        copy_columns(values, v, DT_Q, k0, l.end, ld_v, k_col);
        dot_columns(scores, keys, q_across);
        dot_columns(ds, values, do_across);
        for (uint c = 0; c < count; c++) {
            const uint at = c * LANES;
            FV lo = MEETS(exp_lanes(VLOAD(0, scores + at) - lse_lo), (int)(k0 + c), lo);
            FV hi = MEETS(exp_lanes(VLOAD(0, scores + at + VW) - lse_hi), (int)(k0 + c), hi);
            VSTORE(scale * lo * (VLOAD(0, ds + at) - delta_lo), 0, ds + at);
            VSTORE(scale * hi * (VLOAD(0, ds + at + VW) - delta_hi), 0, ds + at + VW);
        }
        add_columns(sums, (FV)(1.0f), (FV)(1.0f), keys, ds, count);
    }
    store_across(sums, factor, dq, DT_DQ, q0, tokens, p.ld_dq, q_col);
}
