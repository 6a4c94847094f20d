// dx = or += rstd * (g - mean(g) - n * mean(g * n)) with g = w * dy, n = (x - mean) * rstd.
// dy, x, dx [rows, cols], w [cols], stats [rows, 2] = mean, rstd.
// Grid: groups x 1 x 1, one work-group per row, striding. One pass for both means, one for dx, from a cache.
KERNEL layer_norm_backward(RO_ARG(dy), RO_ARG(x), RO_ARG(w), RO_ARG(stats), RW_ARG(dx),
        xft_layer_norm_backward_params p) {
    RO(dy); RO(x); RO(w); RO(stats); RW(dx);
    const uint rows = p.rows, cols = p.cols, ld_dy = p.ld_dy, ld_x = p.ld_x, ld_stats = p.ld_stats, ld_dx = p.ld_dx,
               accumulate = p.accumulate, groups = p.groups;
    __local float red[WG];
    for (uint row = GROUP_X; row < rows; row += groups) {
        float2 mr = LOAD2(stats, row * ld_stats, F32);
        float4 s = (float4)(0.0f), t = (float4)(0.0f);
        for (uint c = 4u * LOCAL_ID; c < cols; c += 4u * WG) {
            float4 g = KEEP4(LOAD4(dy, row * ld_dy + c, DT_DY) * LOAD4(w, c, F32), cols - c);
            s += g;
            t += KEEP4(g * (LOAD4(x, row * ld_x + c, DT_X) - mr.x), cols - c);
        }
        float mean_g = WG_SUM(s.x + s.y + s.z + s.w, red) / (float)(cols);
        float slope = mr.y * mr.y * WG_SUM(t.x + t.y + t.z + t.w, red) / (float)(cols);
        for (uint c = 4u * LOCAL_ID; c < cols; c += 4u * WG) {
            float4 g = LOAD4(dy, row * ld_dy + c, DT_DY) * LOAD4(w, c, F32);
            float4 d = mr.y * (g - mean_g - slope * (LOAD4(x, row * ld_x + c, DT_X) - mr.x));
            if (accumulate != 0u) d += TAKE4(dx, row * ld_dx + c, DT_DX);
            STORE4(dx, row * ld_dx + c, d, DT_DX);
        }
    }
}
