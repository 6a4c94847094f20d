// attention_backward_kv on a CPU: see opencl/lanes_attention.clh. Grid: tiles of LANES keys x kv_heads. The lanes are
// keys, the columns queries of every head of the group.
KERNEL attention_backward_kv(RO_ARG(q), RO_ARG(k), RO_ARG(v), RO_ARG(d_o), RO_ARG(lse), RO_ARG(delta), RO_ARG(segments),
                             RW_ARG(dk), RW_ARG(dv), xft_attention_backward_kv_params p) {
    RO(q); RO(k); RO(v); RO(d_o); RO(lse); RO(delta); RO(segments); RW(dk); RW(dv);
    const uint tokens = p.tokens, ld_q = p.ld_q, ld_do = p.ld_do, ld_lse = p.ld_lse, ld_delta = p.ld_delta;
    const uint group = p.heads / p.kv_heads;
    __local float k_across[HS * LANES], v_across[HS * LANES], sums_k[HS * LANES], sums_v[HS * LANES];
    __local float queries[COLS * HS], d_outs[COLS * HS], scores[COLS * LANES], ds[COLS * LANES];
    __local float factor_k[LANES], factor_v[LANES];
    __local int from[LANES], to[LANES];
    const uint k0 = GROUP_X * LANES, k_col = GROUP_Y * HEAD_SIZE;
    for (uint i = 0; i < LANES; i++) {
        from[i] = (int)(k0 + i);
        to[i] = k0 + i < tokens ? (int)min(tokens, segments[4 * (k0 + i) + 2]) : 0;
        factor_k[i] = p.scale;
        factor_v[i] = 1.0f;
    }
    const lane_limits l = limits_of(from, to);
    pack_across(k_across, k, DT_Q, k0, tokens, p.ld_k, k_col, p.scale);
    pack_across(v_across, v, DT_Q, k0, tokens, p.ld_v, k_col, 1.0f);
    clear_sums(sums_k);
    clear_sums(sums_v);
    for (uint h = GROUP_Y * group; h < (GROUP_Y + 1) * group; h++)
        for (uint q0 = l.begin; q0 < l.end; q0 += COLS) {
            const uint count = min(l.end - q0, (uint)COLS);
            copy_columns(queries, q, DT_Q, q0, l.end, ld_q, h * HEAD_SIZE);
            copy_columns(d_outs, d_o, DT_DO, q0, l.end, ld_do, h * HEAD_SIZE);
            dot_columns(scores, queries, k_across);
            dot_columns(ds, d_outs, v_across);
            for (uint c = 0; c < count; c++) {
                const uint at = c * LANES;
                const float t_lse = AS_FLOAT(lse[h * ld_lse + q0 + c]);
                const float t_delta = AS_FLOAT(delta[h * ld_delta + q0 + c]);
                FV lo = MEETS(exp_lanes(VLOAD(0, scores + at) - t_lse), (int)(q0 + c), lo);
                FV hi = MEETS(exp_lanes(VLOAD(0, scores + at + VW) - t_lse), (int)(q0 + c), hi);
                VSTORE(lo, 0, scores + at);
                VSTORE(hi, 0, scores + at + VW);
                VSTORE(lo * (VLOAD(0, ds + at) - t_delta), 0, ds + at);
                VSTORE(hi * (VLOAD(0, ds + at + VW) - t_delta), 0, ds + at + VW);
            }
            add_columns(sums_v, (FV)(1.0f), (FV)(1.0f), d_outs, scores, count);
            add_columns(sums_k, (FV)(1.0f), (FV)(1.0f), queries, ds, count);
        }
    store_across(sums_k, factor_k, dk, DT_DK, k0, tokens, p.ld_dk, k_col);
    store_across(sums_v, factor_v, dv, DT_DK, k0, tokens, p.ld_dv, k_col);
}
