#version 460
// y[0] = or += sum of x.  x [rows, cols], y [1].  Grid: 1 x 1 x 1: for vectors of losses; one order of summation.
#extension GL_GOOGLE_include_directive : require
#define XFT_WG_REDUCE
#include "xft.glsl"
layout(push_constant, scalar) uniform Args { RO x; RW y; xft_reduce_sum_params p; };

void main() {
    vec4 sum = vec4(0.0);
    for (uint row = 0u; row < p.rows; row++)
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG)
            sum += KEEP4(LOAD4(x, row * p.ld_x + c, F32), p.cols - c);
    float total = WG_SUM(sum.x + sum.y + sum.z + sum.w);
    if (LOCAL_ID == 0u) STORE1(y, 0u, p.accumulate != 0u ? AS_FLOAT(TAKEU(y, 0u)) + total : total);
}
