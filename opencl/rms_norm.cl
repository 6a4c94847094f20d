// y = x * rstd * w, rstd = 1 / sqrt(mean(x^2) + eps).  x, y [rows, cols], w [cols], rstd [rows].
// Grid: groups x 1 x 1, one work-group per row, striding. The second reading of the row comes from a cache.
KERNEL rms_norm(RO_ARG(x), RO_ARG(w), RW_ARG(y), RW_ARG(rstd), xft_rms_norm_params p) {
    RO(x); RO(w); RW(y); RW(rstd);
    const uint rows = p.rows, cols = p.cols, ld_x = p.ld_x, ld_y = p.ld_y, groups = p.groups;
    const float eps = p.eps;
    __local float red[WG];
    for (uint row = GROUP_X; row < rows; row += groups) {
        float4 s = (float4)(0.0f);
        for (uint c = 4u * LOCAL_ID; c < cols; c += 4u * WG) {
            float4 v = KEEP4(LOAD4(x, row * ld_x + c, DT_X), cols - c);
            s += v * v;
        }
        float r = 1.0f / sqrt(WG_SUM(s.x + s.y + s.z + s.w, red) / (float)(cols) + eps);
        for (uint c = 4u * LOCAL_ID; c < cols; c += 4u * WG)
            STORE4(y, row * ld_y + c, LOAD4(x, row * ld_x + c, DT_X) * r * LOAD4(w, c, F32), DT_Y);
        if (LOCAL_ID == 0u) STORE1(rstd, row, r);
    }
}
