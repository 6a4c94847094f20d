// y = a + b.  a, b, y [rows, cols]. Grid: groups x 1 x 1; a work-group takes every groups-th row, a work-item every
// WG-th quad of its columns.
KERNEL add(RO_ARG(a), RO_ARG(b), RW_ARG(y), xft_add_params p) {
    RO(a); RO(b); RW(y);
    const uint rows = p.rows, cols = p.cols, ld_a = p.ld_a, ld_b = p.ld_b, ld_y = p.ld_y, groups = p.groups;
    for (uint row = GROUP_X; row < rows; row += groups)
        for (uint c = 4 * LOCAL_ID; c < cols; c += 4 * WG)
            STORE4(y, row * ld_y + c, LOAD4(a, row * ld_a + c, DT_A) + LOAD4(b, row * ld_b + c, DT_B), DT_Y);
}
