// grouped_gemm NT for few rows in all: see opencl/gemv.clh. Every row goes through its expert's matrix by itself.
// Grid: ceil(N / p.block_columns) x R; rows from offsets[E] on leave early.
KERNEL grouped_gemm(RO_ARG(a), RO_ARG(b), RO_ARG(offsets), RW_ARG(c), xft_grouped_gemm_params p) {
    RO(a); RO(b); RO(offsets); RW(c);
    __local float4 red[WG];
    const uint N = p.N, K = p.K, ld_a = p.ld_a, ld_b = p.ld_b, ld_c = p.ld_c, accumulate = p.accumulate;
    const uint b_rows = p.b_rows, experts = p.experts, row = GROUP_Y;
    const uint begin = GROUP_X * p.block_columns, end = min(N, begin + p.block_columns);
    uint e = 0;
    while (e < experts && LOADU(offsets, e + 1) <= row) e++;
    if (e == experts) return;
    gemv(a, row * ld_a, ld_a, b, e * b_rows * ld_b, ld_b, c, row * ld_c, ld_c, 1, N, K, begin, end, accumulate, red);
}
