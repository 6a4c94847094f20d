#version 460
// alpha = softmax(a).  a, alpha [E']. Grid: 1 x 1 x 1.
#extension GL_GOOGLE_include_directive : require
#define XFT_WG_REDUCE
#include "xft.glsl"
#include "math.glsl"
layout(push_constant, scalar) uniform Args { RO a; RW alpha; xft_mix_softmax_params p; };

void main() {
    float top = -3.4e38, sum = 0.0;
    for (uint i = LOCAL_ID; i < p.count; i += WG) top = max(top, LOAD1(a, i, F32));
    top = WG_MAX(top);
    for (uint i = LOCAL_ID; i < p.count; i += WG) sum += accurate_exp(LOAD1(a, i, F32) - top);
    sum = WG_SUM(sum);
    for (uint i = LOCAL_ID; i < p.count; i += WG) STORE1(alpha, i, accurate_exp(LOAD1(a, i, F32) - top) / sum);
}
