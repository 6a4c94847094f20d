// k_cache[b, lengths[b] + i, :] = k[b * new_tokens + i, :], v likewise; rows beyond the capacity are dropped.
// k, v [rows, cols], lengths u32 [rows / new_tokens], caches [sequences, capacity, cols]. Grid: groups x 1 x 1, a
// work-group takes every groups-th row. Quads may run into the padding of a row.
KERNEL kv_append(RO_ARG(k), RO_ARG(v), RO_ARG(lengths), RW_ARG(k_cache), RW_ARG(v_cache), xft_kv_append_params p) {
    RO(k); RO(v); RO(lengths); RW(k_cache); RW(v_cache);
    const uint rows = p.rows, cols = p.cols, new_tokens = p.new_tokens, capacity = p.capacity, groups = p.groups;
    const uint ld_k = p.ld_k, ld_v = p.ld_v, ld_k_cache = p.ld_k_cache, ld_v_cache = p.ld_v_cache;
    for (uint row = GROUP_X; row < rows; row += groups) {
        uint b = row / new_tokens, at = lengths[b] + row % new_tokens, to = b * capacity + at;
        if (at >= capacity) continue;
        for (uint c = 4 * LOCAL_ID; c < cols; c += 4 * WG) {
            STORE4(k_cache, to * ld_k_cache + c, LOAD4(k, row * ld_k + c, DT_K), DT_CACHE);
            STORE4(v_cache, to * ld_v_cache + c, LOAD4(v, row * ld_v + c, DT_K), DT_CACHE);
        }
    }
}
