// c = or += op(a) op(b).  NT: a [M,K], b [N,K]; NN: a [M,K], b [K,N]; TN: a [K,M], b [K,N]; c [M,N].
// Grid: ceil(N/BN) x ceil(M/BM) x 1, one block of c per work-group.
SUBGROUPS KERNEL gemm(RO_ARG(a), RO_ARG(b), RW_ARG(c), xft_gemm_params p) {
    RO(a); RO(b); RW(c);
    GEMM_TILE(tile);
    const uint M = p.M, N = p.N, K = p.K, ld_a = p.ld_a, ld_b = p.ld_b, ld_c = p.ld_c, accumulate = p.accumulate;
    gemm_block(a, 0, ld_a, b, 0, ld_b, c, 0, ld_c, M, N, K, GROUP_Y * BM, GROUP_X * BN, accumulate, tile);
}
