// y = x in another storage type, to nearest even, or (STOCHASTIC, to bf16) up or down with the probability that keeps
// the mean, drawn from Philox (ROUNDING, step, key, row, column) under
// the seed ^ first_token << 32: anew for every micro-batch.  x, y [rows, cols], step [16].
// Grid: groups x 1 x 1 over blocks of 4096 columns.
KERNEL cast(RO_ARG(x), RO_ARG(step_block), RW_ARG(y), xft_cast_params p) {
    RO(x); RO(step_block); RW(y);
    const uint rows = p.rows, cols = p.cols, ld_x = p.ld_x, ld_y = p.ld_y, key = p.key, groups = p.groups;
    FOR_QUADS(row, c, rows, cols, groups) {
        float4 v = LOAD4(x, row * ld_x + c, DT_X);
        if (STOCHASTIC != 0u) {
            uint4 s = LOADU4(step_block, 0u);          // step, seed_low, seed_high, first_token
            uint4 words = philox((uint2)(s.y, s.z ^ s.w), RANDOM_ROUNDING, s.x, key, row, c >> 2);
            STOREU2(y, (row * ld_y + c) >> 1, philox_bf16_quad(v, words));
        } else {
            STORE4(y, row * ld_y + c, v, DT_Y);
        }
    }
}
