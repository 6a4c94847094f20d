// y += x.  x, y [rows, cols].  Grid: groups x 1 x 1 over blocks of 4096 columns.
KERNEL accumulate(RO_ARG(x), RW_ARG(y), xft_accumulate_params p) {
    RO(x); RW(y);
    const uint rows = p.rows, cols = p.cols, ld_x = p.ld_x, ld_y = p.ld_y, groups = p.groups;
    FOR_QUADS(row, c, rows, cols, groups)
        STORE4(y, row * ld_y + c, TAKE4(y, row * ld_y + c, DT_Y) + LOAD4(x, row * ld_x + c, DT_X), DT_Y);
}
