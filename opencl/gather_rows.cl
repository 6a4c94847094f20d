// y[r,:] = x[source[r] / K, :] for r < offsets[E]; as in shaders/gather_rows.comp.
KERNEL gather_rows(RO_ARG(x), RO_ARG(source), RO_ARG(offsets), RW_ARG(y), xft_gather_rows_params p) {
    RO(x); RO(source); RO(offsets); RW(y);
    const uint rows = min(LOADU(offsets, p.experts), p.rows), cols = p.cols, top_k = p.top_k, ld_x = p.ld_x;
    const uint ld_y = p.ld_y, groups = p.groups;
    for (uint row = GROUP_X; row < rows; row += groups) {
        const uint from = LOADU(source, row) / top_k * ld_x;
        for (uint c = 4 * LOCAL_ID; c < cols; c += 4 * WG)
            STORE4(y, row * ld_y + c, LOAD4(x, from + c, DT_X), DT_Y);
    }
}
