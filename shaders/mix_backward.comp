#version 460
// dots[c,i] = (1 - lambda) <dw, experts[1+i]> over the rows c, c + C, … of N. experts [E,N,K], dw [N,K], dots [C,E'].
// Grid: C x 1 x 1; an invocation takes every WG-th quad of a row's columns, eight experts at a time, so that dw is read
// once for eight experts, and every expert once.
#extension GL_GOOGLE_include_directive : require
#define XFT_WG_REDUCE
#include "xft.glsl"
layout(constant_id = 1) const uint DT_EXPERTS = 0;
layout(constant_id = 2) const uint DT_DW = 0;
layout(push_constant, scalar) uniform Args { RO experts; RO dw; RW dots; xft_mix_backward_params p; };
const uint BATCH = 8u;

void main() {
    const uint stride = p.rows * p.ld_experts;
    for (uint first = 0u; first < p.routed; first += BATCH) {
        vec4 sum[BATCH];
        UNROLL for (uint j = 0u; j < BATCH; j++) sum[j] = vec4(0.0);
        for (uint row = GROUP_X; row < p.rows; row += p.groups) {
            for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
                const vec4 d = LOAD4(dw, row * p.ld_dw + c, DT_DW);
                const uint at = row * p.ld_experts + c + (first + 1u) * stride;
                UNROLL for (uint j = 0u; j < BATCH; j++)
                    if (first + j < p.routed)
                        sum[j] += KEEP4(d * LOAD4(experts, at + j * stride, DT_EXPERTS), p.cols - c);
            }
        }
        UNROLL for (uint j = 0u; j < BATCH; j++) {
            const float dot_j = (sum[j].x + sum[j].y) + (sum[j].z + sum[j].w);
            const float total = WG_SUM((1.0 - p.lambda) * dot_j);
            if (LOCAL_ID == 0u && first + j < p.routed)
                STORE1(dots, GROUP_X * p.ld_dots + first + j, total);
        }
    }
}
