// Products per expert; rows [offsets[e], offsets[e+1]) belong to expert e.
// NT: a [R,K], b [E,N,K], c [R,N]; NN: a [R,K], b [E,K,N], c [R,N]: every row by its expert's matrix.
// TN: a [R,M], b [R,N], c [E,M,N]: each expert reduces over its own rows; "=" writes zeros where it has none.
// Grid: NT, NN: ceil(N/BN) x (floor(R/BM) + E) x 1; the row blocks walk the offsets, those beyond the last leave early,
// so the host never learns the counts. TN: ceil(N/BN) x ceil(M/BM) x E.
SUBGROUPS KERNEL grouped_gemm(RO_ARG(a), RO_ARG(b), RO_ARG(offsets), RW_ARG(c), xft_grouped_gemm_params p) {
    RO(a); RO(b); RO(offsets); RW(c);
    GEMM_TILE(tile);
    const uint N = p.N, ld_a = p.ld_a, ld_b = p.ld_b, ld_c = p.ld_c, accumulate = p.accumulate, col0 = GROUP_X * BN;
#if FORM != 2
    const uint K = p.K, b_rows = p.b_rows, experts = p.experts;
    uint block = GROUP_Y, e = 0, begin = LOADU(offsets, 0), end = 0;
    for (; e < experts; e++) {
        end = LOADU(offsets, e + 1);
        uint blocks = (end - begin + BM - 1) / BM;
        if (block < blocks) break;
        block -= blocks;
        begin = end;
    }
    if (e == experts) return;
    gemm_block(a, begin * ld_a, ld_a, b, e * b_rows * ld_b, ld_b, c, begin * ld_c, ld_c, end - begin, N, K, block * BM,
               col0, accumulate, tile);
#else
    const uint M = p.M;
    uint e = GROUP_Z, begin = LOADU(offsets, e), end = LOADU(offsets, e + 1);
    if (accumulate && begin == end) return;
    gemm_block(a, begin * ld_a, ld_a, b, begin * ld_b, ld_b, c, e * M * ld_c, ld_c, M, N, end - begin, GROUP_Y * BM, col0,
               accumulate, tile);
#endif
}
