// y = sum over k = 1 … 8 of a_k, a_k from k x by a_k = a_k / 2 + x, `rounds` times: eight independent chains keep the
// multiply-add units busy and stay in registers. x, y [count]. Grid: ceil(count / (16 WG)); sixteen elements per
// work-item, because CPU drivers do not vectorise across work-items around a loop.
KERNEL fma_peak(RO_ARG(x), RW_ARG(y), xft_fma_peak_params p) {
    RO(x); RW(y);
    const uint count = p.count, rounds = p.rounds;
    uint first = (GROUP_X * WG + LOCAL_ID) * 16;
    if (first >= count) return;
    float16 v = as_float16(vload16(0, x + first));     // count is a multiple of 16
    float16 a1 = v, a2 = 2.0f * v, a3 = 3.0f * v, a4 = 4.0f * v, a5 = 5.0f * v, a6 = 6.0f * v, a7 = 7.0f * v,
            a8 = 8.0f * v;
    const float16 h = (float16)0.5f;
    for (uint r = 0; r < rounds; r++) {
        a1 = fma(a1, h, v); a2 = fma(a2, h, v); a3 = fma(a3, h, v); a4 = fma(a4, h, v);
        a5 = fma(a5, h, v); a6 = fma(a6, h, v); a7 = fma(a7, h, v); a8 = fma(a8, h, v);
    }
    a1 += a2 + a3 + a4 + a5 + a6 + a7 + a8;
    vstore16(as_uint16(a1), 0, y + first);
}
