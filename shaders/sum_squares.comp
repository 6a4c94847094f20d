#version 460
// partial[i] = sum of g^2 over the rows [i stretch, (i+1) stretch).  g [rows, cols].
// Grid: one work-group per element of partial; invocations stride over the quads of a row, then a tree.
#define XFT_WG_REDUCE
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_G = 0;
layout(push_constant, scalar) uniform Args { RO g; RW partial; xft_sum_squares_params p; };

void main() {
    uint end = min((GROUP_X + 1u) * p.stretch, p.rows);
    float sum = 0.0;
    for (uint row = GROUP_X * p.stretch; row < end; row++)
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            vec4 x = KEEP4(LOAD4(g, row * p.ld_g + c, DT_G), p.cols - c);
            sum += dot(x, x);
        }
    sum = WG_SUM(sum);
    if (LOCAL_ID == 0u) STORE1(partial, GROUP_X, sum);
}
