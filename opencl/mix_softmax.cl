// alpha = softmax(a); as in shaders/mix_softmax.comp.
KERNEL mix_softmax(RO_ARG(a), RW_ARG(alpha), xft_mix_softmax_params p) {
    RO(a); RW(alpha);
    const uint count = p.count;
    __local float red[WG];
    float top = -3.4e38f, sum = 0.0f;
    for (uint i = LOCAL_ID; i < count; i += WG) top = fmax(top, LOAD1(a, i, F32));
    top = WG_MAX(top, red);
    for (uint i = LOCAL_ID; i < count; i += WG) sum += accurate_exp(LOAD1(a, i, F32) - top);
    sum = WG_SUM(sum, red);
    for (uint i = LOCAL_ID; i < count; i += WG) STORE1(alpha, i, accurate_exp(LOAD1(a, i, F32) - top) / sum);
}
