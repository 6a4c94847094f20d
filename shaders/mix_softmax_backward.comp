#version 460
// da[i] = alpha[i] (dalpha[i] - sum_j alpha[j] dalpha[j]).  All [E']. Grid: 1 x 1 x 1.
#extension GL_GOOGLE_include_directive : require
#define XFT_WG_REDUCE
#include "xft.glsl"
layout(push_constant, scalar) uniform Args { RO alpha; RO dalpha; RW da; xft_mix_softmax_backward_params p; };

void main() {
    float sum = 0.0;
    for (uint i = LOCAL_ID; i < p.count; i += WG) sum += LOAD1(alpha, i, F32) * LOAD1(dalpha, i, F32);
    sum = WG_SUM(sum);
    for (uint i = LOCAL_ID; i < p.count; i += WG)
        STORE1(da, i, LOAD1(alpha, i, F32) * (LOAD1(dalpha, i, F32) - sum));
}
