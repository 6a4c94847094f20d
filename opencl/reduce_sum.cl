// y[0] = or += sum of x.  x [rows, cols], y [1].  Grid: 1 x 1 x 1: for vectors of losses; one order of summation.
KERNEL reduce_sum(RO_ARG(x), RW_ARG(y), xft_reduce_sum_params p) {
    RO(x); RW(y);
    const uint rows = p.rows, cols = p.cols, ld_x = p.ld_x, accumulate = p.accumulate;
    __local float red[WG];
    float4 sum = (float4)(0.0f);
    for (uint row = 0u; row < rows; row++)
        for (uint c = 4u * LOCAL_ID; c < cols; c += 4u * WG)
            sum += KEEP4(LOAD4(x, row * ld_x + c, F32), cols - c);
    float total = WG_SUM(sum.x + sum.y + sum.z + sum.w, red);
    if (LOCAL_ID == 0u) STORE1(y, 0u, accumulate != 0u ? AS_FLOAT(TAKEU(y, 0u)) + total : total);
}
