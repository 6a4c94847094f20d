// gemm NT for few rows of a (decoding): c [M,N] = or += a [M,K] b [N,K]^T, ROWS >= M known at compile time. b is read
// once: a work-group takes quads of its rows, work-items stride along k by vectors of VW, the partial sums of 4 rows x M
// meet in local memory in a fixed order. On a CPU: one work-item, VW as wide as its registers.
// Grid: ceil(N / p.block_columns) groups.
#if VW == 16
#define VECTOR float16
#define VLOAD vload16
#define VLOAD_HALF vload_half16
#define WIDEN(x) as_float16(convert_uint16(x) << 16)
#elif VW == 8
#define VECTOR float8
#define VLOAD vload8
#define VLOAD_HALF vload_half8
#define WIDEN(x) as_float8(convert_uint8(x) << 16)
#else
#define VECTOR float4
#define VLOAD vload4
#define VLOAD_HALF vload_half4
#define WIDEN(x) as_float4(convert_uint4(x) << 16)
#endif

static inline VECTOR load_vector(xft_ro x, uint i, uint dt) {
    if (dt == F32) return VLOAD(0, (__global const float *)x + i);
    if (dt == F16) return VLOAD_HALF(0, (__global const half *)x + i);
    return WIDEN(VLOAD(0, (__global const ushort *)x + i));
}

static inline float vector_sum(VECTOR v) {
#if VW == 16
    float8 h = v.lo + v.hi;
    float4 q = h.lo + h.hi;
#elif VW == 8
    float4 q = v.lo + v.hi;
#else
    float4 q = v;
#endif
    return (q.x + q.y) + (q.z + q.w);
}

KERNEL gemm(RO_ARG(a), RO_ARG(b), RW_ARG(c), xft_gemm_params p) {
    RO(a); RO(b); RW(c);
    __local float4 red[WG];
    const uint M = p.M, N = p.N, K = p.K, ld_a = p.ld_a, ld_b = p.ld_b, ld_c = p.ld_c, accumulate = p.accumulate;
    const uint columns = p.block_columns, end = min(N, (GROUP_X + 1) * columns), whole = K / VW * VW;
    for (uint n = GROUP_X * columns; n < end; n += 4) {
        float4 total[ROWS];                        // a component per row of b
        uint bi[4];
        VECTOR sum[ROWS][4];
        UNROLL for (uint j = 0; j < 4; j++) bi[j] = min(n + j, N - 1) * ld_b;
        UNROLL for (uint m = 0; m < ROWS; m++) UNROLL for (uint j = 0; j < 4; j++) sum[m][j] = (VECTOR)(0.0f);
        for (uint k = VW * LOCAL_ID; k < whole; k += VW * WG) {
            VECTOR w[4];
            UNROLL for (uint j = 0; j < 4; j++) w[j] = load_vector(b, bi[j] + k, DT_B);
            UNROLL for (uint m = 0; m < ROWS; m++) {
                const VECTOR x = load_vector(a, min(m, M - 1) * ld_a + k, DT_A);
                UNROLL for (uint j = 0; j < 4; j++) sum[m][j] = fma(x, w[j], sum[m][j]);
            }
        }
        UNROLL for (uint m = 0; m < ROWS; m++)
            total[m] = (float4)(vector_sum(sum[m][0]), vector_sum(sum[m][1]), vector_sum(sum[m][2]), vector_sum(sum[m][3]));
        for (uint k = whole + 4 * LOCAL_ID; k < K; k += 4 * WG) {
            float4 w[4];
            UNROLL for (uint j = 0; j < 4; j++) w[j] = KEEP4(LOAD4(b, bi[j] + k, DT_B), K - k);
            UNROLL for (uint m = 0; m < ROWS; m++) {
                const float4 x = KEEP4(LOAD4(a, min(m, M - 1) * ld_a + k, DT_A), K - k);
                total[m] += (float4)(dot(x, w[0]), dot(x, w[1]), dot(x, w[2]), dot(x, w[3]));
            }
        }
        UNROLL for (uint m = 0; m < ROWS; m++) {
            red[LOCAL_ID] = total[m];
            BARRIER();
            for (uint s = WG / 2; s > 0; s >>= 1) {
                if (LOCAL_ID < s) red[LOCAL_ID] += red[LOCAL_ID + s];
                BARRIER();
            }
            if (LOCAL_ID == 0 && m < M) {
                float4 value = red[0];
                if (accumulate) value += LOAD4(c, m * ld_c + n, DT_C);
                STORE4(c, m * ld_c + n, value, DT_C);
            }
            BARRIER();
        }
    }
}
