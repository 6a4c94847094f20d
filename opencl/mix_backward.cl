// dots[c,i] = (1 - lambda) <dw, experts[1+i]> over the rows c, c + C, … of N; as in shaders/mix_backward.comp.
#define BATCH 8
KERNEL mix_backward(RO_ARG(experts), RO_ARG(dw), RW_ARG(dots), xft_mix_backward_params p) {
    RO(experts); RO(dw); RW(dots);
    const uint rows = p.rows, cols = p.cols, routed = p.routed, ld_experts = p.ld_experts, ld_dw = p.ld_dw;
    const uint ld_dots = p.ld_dots, groups = p.groups, stride = rows * ld_experts;
    const float lambda = p.lambda;
    __local float red[WG];
    for (uint first = 0; first < routed; first += BATCH) {
        float4 sum[BATCH];
        UNROLL for (uint j = 0; j < BATCH; j++) sum[j] = 0.0f;
        for (uint row = GROUP_X; row < rows; row += groups) {
            for (uint c = 4 * LOCAL_ID; c < cols; c += 4 * WG) {
                const float4 d = LOAD4(dw, row * ld_dw + c, DT_DW);
                const uint at = row * ld_experts + c + (first + 1) * stride;
                UNROLL for (uint j = 0; j < BATCH; j++)
                    if (first + j < routed)
                        sum[j] += KEEP4(d * LOAD4(experts, at + j * stride, DT_EXPERTS), cols - c);
            }
        }
        UNROLL for (uint j = 0; j < BATCH; j++) {
            const float dot_j = (sum[j].x + sum[j].y) + (sum[j].z + sum[j].w);
            const float total = WG_SUM((1.0f - lambda) * dot_j, red);
            if (LOCAL_ID == 0 && first + j < routed)
                STORE1(dots, GROUP_X * ld_dots + first + j, total);
        }
    }
}
