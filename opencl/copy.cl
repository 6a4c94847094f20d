// y = x, in units of 32-bit words: 16-bit elements go in pairs, so every bit of any type arrives, NaNs too.
// x, y [rows, cols] words.  Grid: groups x 1 x 1 over blocks of 4096 columns.
KERNEL copy(RO_ARG(x), RW_ARG(y), xft_copy_params p) {
    RO(x); RW(y);
    const uint rows = p.rows, cols = p.cols, ld_x = p.ld_x, ld_y = p.ld_y, groups = p.groups;
    FOR_QUADS(row, c, rows, cols, groups)
        STOREU4(y, row * ld_y + c, LOADU4(x, row * ld_x + c));
}
