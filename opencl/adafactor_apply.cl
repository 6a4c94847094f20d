// The update: w = decay w - factor g / (sqrt(r / mean) sqrt(c)), with factor and decay of adafactor_scale.
// g, w, master [rows, cols], row / entry_rows the entry e; r [E, entry_rows], c [E, cols], mean [E], scale [2E].
// An entry with factor 0 is left as it is, bit for bit; so is everything at learning rate 0.
// Grid: groups, a work-group per row, striding; work-items take quads.
KERNEL adafactor_apply(RO_ARG(g), RO_ARG(r), RO_ARG(c), RO_ARG(mean), RO_ARG(scale), RO_ARG(step), RW_ARG(w),
                       RW_ARG(master), xft_adafactor_apply_params p) {
    RO(g); RO(r); RO(c); RO(mean); RO(scale); RO(step); RW(w); RW(master);
    const uint rows = p.rows, cols = p.cols, entry_rows = p.entry_rows, ld_g = p.ld_g, ld_r = p.ld_r, ld_c = p.ld_c;
    const uint ld_w = p.ld_w, ld_master = p.ld_master, key = p.key, groups = p.groups;
    for (uint row = GROUP_X; row < rows; row += groups) {
        uint e = row / entry_rows;
        float factor = AS_FLOAT(scale[2 * e]), decay = AS_FLOAT(scale[2 * e + 1]);
        if (factor == 0.0f) continue;
        factor *= rsqrt(AS_FLOAT(r[e * ld_r + row % entry_rows]) / AS_FLOAT(mean[e]));
        for (uint k = 4 * LOCAL_ID; k < cols; k += 4 * WG) {
            uint at_w = row * ld_w + k, at_master = row * ld_master + k;
            float4 update = LOAD4(g, row * ld_g + k, DT_G) * rsqrt(LOAD4(c, e * ld_c + k, F32));
            float4 x = MASTER != 0 ? TAKE4(master, at_master, F32) : TAKE4(w, at_w, DT_W);
            x = decay * x - factor * update;
            if (MASTER != 0) STORE4(master, at_master, x, F32);
            if (STOCHASTIC != 0)
                STOREU2(w, at_w >> 1, philox_bf16_quad(
                    x, philox(STEP_SEED(step), RANDOM_ROUNDING, STEP_STEP(step), key, row, k >> 2)));
            else STORE4(w, at_w, x, DT_W);
        }
    }
}
