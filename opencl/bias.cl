// y[t] += b.  b [cols], y [rows, cols].  Grid: groups x 1 x 1 over blocks of 4096 columns.
KERNEL bias(RO_ARG(b), RW_ARG(y), xft_bias_params p) {
    RO(b); RW(y);
    const uint rows = p.rows, cols = p.cols, ld_y = p.ld_y, groups = p.groups;
    FOR_QUADS(row, c, rows, cols, groups)
        STORE4(y, row * ld_y + c, TAKE4(y, row * ld_y + c, DT_Y) + LOAD4(b, c, F32), DT_Y);
}
