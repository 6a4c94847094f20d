// squares[e,b] = sum over block b of the rows of entry e of U^2, U = clip g / (sqrt(r / mean) sqrt(c)): the update before
// its clipping. g [E, rows, cols], r [E, rows], c [E, cols], mean [E], squares [E*blocks]. Grid: (blocks, E).
KERNEL adafactor_rms(RO_ARG(g), RO_ARG(r), RO_ARG(c), RO_ARG(mean), RO_ARG(state), RW_ARG(squares),
                     xft_adafactor_rms_params p) {
    RO(g); RO(r); RO(c); RO(mean); RO(state); RW(squares);
    __local float red[WG];
    const uint rows = p.rows, cols = p.cols, ld_g = p.ld_g, ld_r = p.ld_r, ld_c = p.ld_c, blocks = p.blocks;
    const uint stretch = p.stretch, e = GROUP_Y;
    if (STATE_SKIP(state)) return;
    uint end = min((GROUP_X + 1) * stretch, rows);
    float sum = 0.0f, clip = STATE_CLIP(state), m = AS_FLOAT(mean[e]);
    for (uint row = GROUP_X * stretch; row < end; row++) {
        float scale = clip * rsqrt(AS_FLOAT(r[e * ld_r + row]) / m);
        for (uint k = 4 * LOCAL_ID; k < cols; k += 4 * WG) {
            float4 x = scale * LOAD4(g, (e * rows + row) * ld_g + k, DT_G);
            x = KEEP4(x * rsqrt(LOAD4(c, e * ld_c + k, F32)), cols - k);
            sum += dot(x, x);
        }
    }
    sum = WG_SUM(sum, red);
    if (LOCAL_ID == 0) STORE1(squares, e * blocks + GROUP_X, sum);
}
