// g = s dh u silu'(g), u = s dh silu(g), h = s silu(g) u, with s = 1, or (WEIGHTED) the routing weight of the grouped
// row, weights[source / K][source % K]; then also dots = sum(silu(g) u dh), and rows from offsets[experts] on are left
// alone.  dh, g, u, h [rows, cols], weights [T, K], source, dots [rows], offsets [experts + 1].
// Grid: groups x 1 x 1, one work-group per row, striding.
KERNEL swiglu_backward(RO_ARG(dh), RO_ARG(weights), RO_ARG(source), RO_ARG(offsets), RW_ARG(g), RW_ARG(u), RW_ARG(h),
        RW_ARG(dots), xft_swiglu_backward_params p) {
    RO(dh); RO(weights); RO(source); RO(offsets); RW(g); RW(u); RW(h); RW(dots);
    const uint rows = p.rows, cols = p.cols, ld_dh = p.ld_dh, ld_weights = p.ld_weights, ld_g = p.ld_g,
               ld_u = p.ld_u, ld_h = p.ld_h, top_k = p.top_k, experts = p.experts, store_h = p.store_h,
               groups = p.groups;
    __local float red[WG];
    uint end = rows;
    if (WEIGHTED != 0u) end = min(end, LOADU(offsets, experts));
    for (uint row = GROUP_X; row < end; row += groups) {
        float scale = 1.0f;
        if (WEIGHTED != 0u) {
            uint at = LOADU(source, row);
            scale = AS_FLOAT(LOADU(weights, at / top_k * ld_weights + at % top_k));
        }
        float4 s = (float4)(0.0f);
        for (uint c = 4u * LOCAL_ID; c < cols; c += 4u * WG) {
            float4 a = TAKE4(g, row * ld_g + c, DT_G), b = TAKE4(u, row * ld_u + c, DT_G);
            float4 d = LOAD4(dh, row * ld_dh + c, DT_DH), e = sigmoid4(a), f = a * e;
            if (WEIGHTED != 0u) s += KEEP4(f * b * d, cols - c);
            d *= scale;
            STORE4(g, row * ld_g + c, d * b * e * (1.0f + a * (1.0f - e)), DT_G);
            STORE4(u, row * ld_u + c, d * f, DT_G);
            if (store_h != 0u) STORE4(h, row * ld_h + c, scale * f * b, DT_H);
        }
        if (WEIGHTED != 0u) {
            float dot_ = WG_SUM(s.x + s.y + s.z + s.w, red);
            if (LOCAL_ID == 0u) STORE1(dots, row, dot_);
        }
    }
}
