// da[i] = alpha[i] (dalpha[i] - sum_j alpha[j] dalpha[j]); as in shaders/mix_softmax_backward.comp.
KERNEL mix_softmax_backward(RO_ARG(alpha), RO_ARG(dalpha), RW_ARG(da), xft_mix_softmax_backward_params p) {
    RO(alpha); RO(dalpha); RW(da);
    const uint count = p.count;
    __local float red[WG];
    float sum = 0.0f;
    for (uint i = LOCAL_ID; i < count; i += WG) sum += LOAD1(alpha, i, F32) * LOAD1(dalpha, i, F32);
    sum = WG_SUM(sum, red);
    for (uint i = LOCAL_ID; i < count; i += WG)
        STORE1(da, i, LOAD1(alpha, i, F32) * (LOAD1(dalpha, i, F32) - sum));
}
