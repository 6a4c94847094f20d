#version 460
// w = lambda experts[0] + (1 - lambda) sum_i alpha[i] experts[1+i].  experts [E,N,K], alpha [E'], w [N,K].
// Grid: groups x 1 x 1; a work-group takes every groups-th row of N, an invocation every WG-th quad of its columns.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_EXPERTS = 0;
layout(constant_id = 2) const uint DT_W = 0;
layout(push_constant, scalar) uniform Args { RO experts; RO alpha; RW w; xft_mix_experts_params p; };

void main() {
    const uint stride = p.rows * p.ld_experts;
    for (uint row = GROUP_X; row < p.rows; row += p.groups) {
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            const uint at = row * p.ld_experts + c;
            vec4 sum = vec4(0.0);
            for (uint i = 0u; i < p.routed; i++)
                sum += LOAD1(alpha, i, F32) * LOAD4(experts, at + (i + 1u) * stride, DT_EXPERTS);
            STORE4(w, row * p.ld_w + c, p.lambda * LOAD4(experts, at, DT_EXPERTS) + (1.0 - p.lambda) * sum, DT_W);
        }
    }
}
