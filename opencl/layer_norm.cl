// y = (x - mean) * rstd * w + b, rstd = 1 / sqrt(var + eps), var divides by cols.
// x, y [rows, cols], w, b [cols], stats [rows, 2] = mean, rstd.
// Grid: groups x 1 x 1, one work-group per row, striding. The variance is taken about the mean, in a pass of its own:
// nothing cancels. After the first pass the row comes from a cache.
KERNEL layer_norm(RO_ARG(x), RO_ARG(w), RO_ARG(b), RW_ARG(y), RW_ARG(stats), xft_layer_norm_params p) {
    RO(x); RO(w); RO(b); RW(y); RW(stats);
    const uint rows = p.rows, cols = p.cols, ld_x = p.ld_x, ld_y = p.ld_y, ld_stats = p.ld_stats, groups = p.groups;
    const float eps = p.eps;
    __local float red[WG];
    for (uint row = GROUP_X; row < rows; row += groups) {
        float4 s = (float4)(0.0f);
        for (uint c = 4u * LOCAL_ID; c < cols; c += 4u * WG)
            s += KEEP4(LOAD4(x, row * ld_x + c, DT_X), cols - c);
        float mean = WG_SUM(s.x + s.y + s.z + s.w, red) / (float)(cols);
        s = (float4)(0.0f);
        for (uint c = 4u * LOCAL_ID; c < cols; c += 4u * WG) {
            float4 v = KEEP4(LOAD4(x, row * ld_x + c, DT_X) - mean, cols - c);
            s += v * v;
        }
        float r = 1.0f / sqrt(WG_SUM(s.x + s.y + s.z + s.w, red) / (float)(cols) + eps);
        for (uint c = 4u * LOCAL_ID; c < cols; c += 4u * WG) {
            float4 v = (LOAD4(x, row * ld_x + c, DT_X) - mean) * r;
            STORE4(y, row * ld_y + c, v * LOAD4(w, c, F32) + LOAD4(b, c, F32), DT_Y);
        }
        if (LOCAL_ID == 0u) STORE2(stats, row * ld_stats, (float2)(mean, r), F32);
    }
}
