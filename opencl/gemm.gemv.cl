// gemm NT for few rows of a: see opencl/gemv.clh. Grid: ceil(N / p.block_columns) groups.
KERNEL gemm(RO_ARG(a), RO_ARG(b), RW_ARG(c), xft_gemm_params p) {
    RO(a); RO(b); RW(c);
    __local float4 red[WG];
    const uint M = p.M, N = p.N, K = p.K, ld_a = p.ld_a, ld_b = p.ld_b, ld_c = p.ld_c, accumulate = p.accumulate;
    const uint begin = GROUP_X * p.block_columns, end = min(N, begin + p.block_columns);
    gemv(a, 0, ld_a, b, 0, ld_b, c, 0, ld_c, M, N, K, begin, end, accumulate, red);
}
