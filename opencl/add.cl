// y = a + b.  a, b, y [rows, cols].  Grid: groups x 1 x 1 over blocks of 4096 columns.
// Quads may run into the padding of a row, whose content does not matter.
KERNEL add(RO_ARG(a), RO_ARG(b), RW_ARG(y), xft_add_params p) {
    RO(a); RO(b); RW(y);
    const uint rows = p.rows, cols = p.cols, ld_a = p.ld_a, ld_b = p.ld_b, ld_y = p.ld_y, groups = p.groups;
    FOR_QUADS(row, c, rows, cols, groups)
        STORE4(y, row * ld_y + c, LOAD4(a, row * ld_a + c, DT_A) + LOAD4(b, row * ld_b + c, DT_B), DT_Y);
}
