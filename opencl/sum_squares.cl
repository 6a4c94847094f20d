// partial[i] = sum of g^2 over the rows [i stretch, (i+1) stretch).  g [rows, cols].
// Grid: one work-group per element of partial; work-items stride over the quads of a row, then a tree.
KERNEL sum_squares(RO_ARG(g), RW_ARG(partial), xft_sum_squares_params p) {
    RO(g); RW(partial);
    __local float red[WG];
    const uint rows = p.rows, cols = p.cols, ld_g = p.ld_g, stretch = p.stretch;
    uint end = min((GROUP_X + 1) * stretch, rows);
    float sum = 0.0f;
    for (uint row = GROUP_X * stretch; row < end; row++)
        for (uint c = 4 * LOCAL_ID; c < cols; c += 4 * WG) {
            float4 x = KEEP4(LOAD4(g, row * ld_g + c, DT_G), cols - c);
            sum += dot(x, x);
        }
    sum = WG_SUM(sum, red);
    if (LOCAL_ID == 0) STORE1(partial, GROUP_X, sum);
}
