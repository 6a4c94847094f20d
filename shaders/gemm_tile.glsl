// One BM x BN block of a product, by one work-group: what gemm.comp and grouped_gemm.comp share.
//
// Slabs of BK along the reduction are staged in shared memory as [k][row] and [k][column] quads, so that an invocation
// reads whole vec4s for its TM x TN outputs: TM*TN multiply-adds per (TM+TN)/4 loads, 16 for 8x8 and 8 for 4x4.
// Its rows and columns are quads strided over the block, so neighbours read neighbouring quads (no bank conflicts).
// The sum over k runs upwards in one accumulator per output: the same bits every time.
layout(constant_id = 1) const uint FORM = 0;       // xft_form
layout(constant_id = 2) const uint DT_A = 0;
layout(constant_id = 3) const uint DT_B = 0;
layout(constant_id = 4) const uint DT_C = 0;
layout(constant_id = 5) const uint BM = 64;        // block rows
layout(constant_id = 6) const uint BN = 64;        // block columns
layout(constant_id = 7) const uint BK = 16;        // depth of a slab
layout(constant_id = 8) const uint TM = 8;         // rows per invocation;  WG = (BM/TM) * (BN/TN)
layout(constant_id = 9) const uint TN = 8;         // columns per invocation
layout(constant_id = 10) const uint SIMD = 0;      // for the OpenCL kernel alone

const uint NT = 0, NN = 1;
const uint QM = BM / TM, QN = BN / TN;             // invocations along the block's rows and columns
const uint B_AT = BM * BK / 4;                     // where b's slab begins
shared vec4 tile[(BM + BN) * BK / 4];

// Stages x[first + (0 … width), k0 + (0 … BK)] where k is contiguous: 4x4 pieces are transposed in registers. Rows past
// `count` repeat the last one (their products are dropped), k past K is 0.
void stage_transposed(RO x, uint at, uint ld, uint dt, uint first, uint count, uint k0, uint K, uint to, uint width) {
    for (uint t = LOCAL_ID; t < width * BK / 16; t += WG) {
        uint q = t / (BK / 4), k = 4 * (t % (BK / 4));
        uint left = K - min(k0 + k, K);
        vec4 v[4];
        UNROLL for (uint i = 0; i < 4; i++)
            v[i] = KEEP4(LOAD4(x, at + min(first + 4 * q + i, count - 1) * ld + min(k0 + k, (K - 1) & ~3u), dt), left);
        UNROLL for (uint i = 0; i < 4; i++)
            tile[to + (k + i) * (width / 4) + q] = vec4(v[0][i], v[1][i], v[2][i], v[3][i]);
    }
}

// Stages x[k0 + (0 … BK), first + (0 … width)] where rows are k. Columns past `count` are of any value, k past K is 0.
void stage(RO x, uint at, uint ld, uint dt, uint first, uint count, uint k0, uint K, uint to, uint width) {
    for (uint t = LOCAL_ID; t < width * BK / 4; t += WG) {
        uint q = t % (width / 4), k = k0 + t / (width / 4);
        vec4 v = LOAD4(x, at + min(k, K - 1) * ld + min(first + 4 * q, (count - 1) & ~3u), dt);
        tile[to + t] = k < K ? v : vec4(0);
    }
}

// The block at (row0, col0) of c [M,N] = or += product over K; matrices begin at elements a_at, b_at, c_at.
// M, N >= 1; K = 0 gives zeros.
void gemm_block(RO a, uint a_at, uint ld_a, RO b, uint b_at, uint ld_b, RW c, uint c_at, uint ld_c, uint M, uint N,
                uint K, uint row0, uint col0, bool accumulate) {
    uint tx = LOCAL_ID % QN, ty = LOCAL_ID / QN;
    vec4 acc[TM * TN / 4];
    UNROLL for (uint i = 0; i < TM * TN / 4; i++) acc[i] = vec4(0);

    for (uint k0 = 0; k0 < K; k0 += BK) {
        if (FORM == NT || FORM == NN) stage_transposed(a, a_at, ld_a, DT_A, row0, M, k0, K, 0, BM);
        else stage(a, a_at, ld_a, DT_A, row0, M, k0, K, 0, BM);
        if (FORM == NT) stage_transposed(b, b_at, ld_b, DT_B, col0, N, k0, K, B_AT, BN);
        else stage(b, b_at, ld_b, DT_B, col0, N, k0, K, B_AT, BN);
        barrier();
        for (uint k = 0; k < BK; k++) {
            vec4 x[TM / 4], y[TN / 4];
            UNROLL for (uint i = 0; i < TM / 4; i++) x[i] = tile[k * (BM / 4) + i * QM + ty];
            UNROLL for (uint j = 0; j < TN / 4; j++) y[j] = tile[B_AT + k * (BN / 4) + j * QN + tx];
            UNROLL for (uint i = 0; i < TM; i++)
                UNROLL for (uint j = 0; j < TN / 4; j++) acc[i * (TN / 4) + j] += x[i / 4][i % 4] * y[j];
        }
        barrier();
    }

    UNROLL for (uint i = 0; i < TM; i++) {
        uint row = row0 + 4 * (i / 4 * QM + ty) + i % 4;
        UNROLL for (uint j = 0; j < TN / 4; j++) {
            uint col = col0 + 4 * (j * QN + tx), at = c_at + row * ld_c + col;
            if (row < M && col < N) {
                vec4 value = acc[i * (TN / 4) + j];
                if (accumulate) value += LOAD4(c, at, DT_C);
                STORE4(c, at, value, DT_C);
            }
        }
    }
}
