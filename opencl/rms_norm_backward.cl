// dx = or += rstd * (w * dy - x * rstd^2 * mean(w * dy * x)).  dy, x, dx [rows, cols], w [cols], rstd [rows].
// Grid: groups x 1 x 1, one work-group per row, striding. One pass for the mean, one for dx, from a cache.
KERNEL rms_norm_backward(RO_ARG(dy), RO_ARG(x), RO_ARG(w), RO_ARG(rstd), RW_ARG(dx), xft_rms_norm_backward_params p) {
    RO(dy); RO(x); RO(w); RO(rstd); RW(dx);
    const uint rows = p.rows, cols = p.cols, ld_dy = p.ld_dy, ld_x = p.ld_x, ld_dx = p.ld_dx,
               accumulate = p.accumulate, groups = p.groups;
    __local float red[WG];
    for (uint row = GROUP_X; row < rows; row += groups) {
        float4 s = (float4)(0.0f);
        for (uint c = 4u * LOCAL_ID; c < cols; c += 4u * WG) {
            float4 g = LOAD4(dy, row * ld_dy + c, DT_DY) * LOAD4(w, c, F32);
            s += KEEP4(g * LOAD4(x, row * ld_x + c, DT_X), cols - c);
        }
        float r = AS_FLOAT(LOADU(rstd, row));
        float m = r * r * WG_SUM(s.x + s.y + s.z + s.w, red) / (float)(cols);
        for (uint c = 4u * LOCAL_ID; c < cols; c += 4u * WG) {
            float4 g = LOAD4(dy, row * ld_dy + c, DT_DY) * LOAD4(w, c, F32);
            float4 d = r * (g - m * LOAD4(x, row * ld_x + c, DT_X));
            if (accumulate != 0u) d += TAKE4(dx, row * ld_dx + c, DT_DX);
            STORE4(dx, row * ld_dx + c, d, DT_DX);
        }
    }
}
