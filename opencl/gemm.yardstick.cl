// gemm as one writes it first: 8x8 outputs per work-item, elements straight from memory. Nothing chooses it; the
// benchmark measures the other forms against it. Grid: ceil(N/64) x ceil(M/64) x 1, WG = 64.
KERNEL gemm(RO_ARG(a), RO_ARG(b), RW_ARG(c), xft_gemm_params p) {
    RO(a); RO(b); RW(c);
    const uint M = p.M, N = p.N, K = p.K, ld_a = p.ld_a, ld_b = p.ld_b, ld_c = p.ld_c, accumulate = p.accumulate;
    const uint row0 = 64 * GROUP_Y + 8 * (LOCAL_ID / 8), col0 = 64 * GROUP_X + 8 * (LOCAL_ID % 8);
    const uint a_step = FORM == 2 ? ld_a : 1, b_step = FORM == 0 ? 1 : ld_b;
    uint ai[8], bi[8];
    float acc[8][8];
    UNROLL for (uint i = 0; i < 8; i++) {
        uint row = min(row0 + i, M - 1), col = min(col0 + i, N - 1);
        ai[i] = FORM == 2 ? row : row * ld_a;
        bi[i] = FORM == 0 ? col * ld_b : col;
        UNROLL for (uint j = 0; j < 8; j++) acc[i][j] = 0.0f;
    }
    for (uint k = 0; k < K; k++) {
        float x[8], y[8];
        UNROLL for (uint i = 0; i < 8; i++) x[i] = LOAD1(a, ai[i] + k * a_step, DT_A);
        UNROLL for (uint j = 0; j < 8; j++) y[j] = LOAD1(b, bi[j] + k * b_step, DT_B);
        UNROLL for (uint i = 0; i < 8; i++) UNROLL for (uint j = 0; j < 8; j++) acc[i][j] += x[i] * y[j];
    }
    UNROLL for (uint i = 0; i < 8; i++)
        UNROLL for (uint j = 0; j < 8; j += 4) {
            uint at = (row0 + i) * ld_c + col0 + j;
            if (row0 + i < M && col0 + j < N) {
                float4 value = (float4)(acc[i][j], acc[i][j + 1], acc[i][j + 2], acc[i][j + 3]);
                if (accumulate) value += LOAD4(c, at, DT_C);
                STORE4(c, at, value, DT_C);
            }
        }
}
