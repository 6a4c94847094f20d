// Products of few rows with the rows of a matrix (decoding): what gemm.gemv.comp and grouped_gemm.gemv.comp share.
// b is read once: a work-group takes quads of its rows, invocations stride along k, the partial sums of 4 rows x ROWS
// meet in shared memory in a fixed order.
layout(constant_id = 1) const uint FORM = 0;
layout(constant_id = 2) const uint DT_A = 0;
layout(constant_id = 3) const uint DT_B = 0;
layout(constant_id = 4) const uint DT_C = 0;
layout(constant_id = 5) const uint ROWS = 1;
shared vec4 red[WG];

// Columns begin … end of c [M,N] = or += a [M,K] b [N,K]^T; M <= ROWS. Matrices begin at elements a_at, b_at, c_at.
void gemv(RO a, uint a_at, uint ld_a, RO b, uint b_at, uint ld_b, RW c, uint c_at, uint ld_c, uint M, uint N, uint K,
          uint begin, uint end, bool accumulate) {
    for (uint n = begin; n < end; n += 4) {
        vec4 sum[ROWS];                            // a component per row of b
        UNROLL for (uint m = 0; m < ROWS; m++) sum[m] = vec4(0);
        for (uint k = 4 * LOCAL_ID; k < K; k += 4 * WG) {
            vec4 w[4];
            UNROLL for (uint j = 0; j < 4; j++)
                w[j] = KEEP4(LOAD4(b, b_at + min(n + j, N - 1) * ld_b + k, DT_B), K - k);
            UNROLL for (uint m = 0; m < ROWS; m++) {
                vec4 x = KEEP4(LOAD4(a, a_at + min(m, M - 1) * ld_a + k, DT_A), K - k);
                sum[m] += vec4(dot(x, w[0]), dot(x, w[1]), dot(x, w[2]), dot(x, w[3]));
            }
        }
        UNROLL for (uint m = 0; m < ROWS; m++) {
            red[LOCAL_ID] = sum[m];
            barrier();
            for (uint s = WG / 2; s > 0; s >>= 1) {
                if (LOCAL_ID < s) red[LOCAL_ID] += red[LOCAL_ID + s];
                barrier();
            }
            if (LOCAL_ID == 0 && m < M) {
                const uint at = c_at + m * ld_c + n;
                vec4 value = red[0];
                if (accumulate) value += LOAD4(c, at, DT_C);
                STORE4(c, at, value, DT_C);
            }
            barrier();
        }
    }
}
