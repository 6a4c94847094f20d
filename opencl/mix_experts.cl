// w = lambda experts[0] + (1 - lambda) sum_i alpha[i] experts[1+i]; as in shaders/mix_experts.comp.
KERNEL mix_experts(RO_ARG(experts), RO_ARG(alpha), RW_ARG(w), xft_mix_experts_params p) {
    RO(experts); RO(alpha); RW(w);
    const uint rows = p.rows, cols = p.cols, routed = p.routed, ld_experts = p.ld_experts, ld_w = p.ld_w;
    const uint groups = p.groups, stride = rows * ld_experts;
    const float lambda = p.lambda;
    for (uint row = GROUP_X; row < rows; row += groups) {
        for (uint c = 4 * LOCAL_ID; c < cols; c += 4 * WG) {
            const uint at = row * ld_experts + c;
            float4 sum = 0.0f;
            for (uint i = 0; i < routed; i++)
                sum += LOAD1(alpha, i, F32) * LOAD4(experts, at + (i + 1) * stride, DT_EXPERTS);
            STORE4(w, row * ld_w + c, lambda * LOAD4(experts, at, DT_EXPERTS) + (1.0f - lambda) * sum, DT_W);
        }
    }
}
