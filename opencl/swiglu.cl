// h = silu(g) * u = g * u / (1 + exp(-g)).  g, u, h [rows, cols].  Grid: groups x 1 x 1 over blocks of 4096 columns.
KERNEL swiglu(RO_ARG(g), RO_ARG(u), RW_ARG(h), xft_swiglu_params p) {
    RO(g); RO(u); RW(h);
    const uint rows = p.rows, cols = p.cols, ld_g = p.ld_g, ld_u = p.ld_u, ld_h = p.ld_h, groups = p.groups;
    FOR_QUADS(row, c, rows, cols, groups) {
        float4 v = LOAD4(g, row * ld_g + c, DT_G);
        STORE4(h, row * ld_h + c, v * sigmoid4(v) * LOAD4(u, row * ld_u + c, DT_G), DT_H);
    }
}
