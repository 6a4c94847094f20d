// y = sum over k = 1 … 8 of a_k, a_k from k x by a_k = a_k / 2 + x, `rounds` times: eight independent chains keep the
// multiply-add units busy and stay in registers. x, y [count]. Grid: ceil(count / (WIDTH WG)); WIDTH elements per
// work-item: 16 for CPU drivers, which do not vectorise across work-items around a loop, 4 for GPUs.
#if WIDTH == 16
#define WIDE float16
#define WIDE_LOAD(p) as_float16(vload16(0, p))
#define WIDE_STORE(x, p) vstore16(as_uint16(x), 0, p)
#else
#define WIDE float4
#define WIDE_LOAD(p) as_float4(vload4(0, p))
#define WIDE_STORE(x, p) vstore4(as_uint4(x), 0, p)
#endif
KERNEL fma_peak(RO_ARG(x), RW_ARG(y), xft_fma_peak_params p) {
    RO(x); RW(y);
    const uint count = p.count, rounds = p.rounds;
    uint first = (GROUP_X * WG + LOCAL_ID) * WIDTH;
    if (first >= count) return;
    WIDE v = WIDE_LOAD(x + first);     // count is a multiple of 16
    WIDE a1 = v, a2 = 2.0f * v, a3 = 3.0f * v, a4 = 4.0f * v, a5 = 5.0f * v, a6 = 6.0f * v, a7 = 7.0f * v,
            a8 = 8.0f * v;
    const WIDE h = (WIDE)0.5f;
    for (uint r = 0; r < rounds; r++) {
        a1 = fma(a1, h, v); a2 = fma(a2, h, v); a3 = fma(a3, h, v); a4 = fma(a4, h, v);
        a5 = fma(a5, h, v); a6 = fma(a6, h, v); a7 = fma(a7, h, v); a8 = fma(a8, h, v);
    }
    a1 += a2 + a3 + a4 + a5 + a6 + a7 + a8;
    WIDE_STORE(a1, y + first);
}
