#version 460
// columns[e,k] = sum_b partial[e,b,k].  partial [E, blocks, cols] unpadded; columns [E, cols]. Grid: (groups, E); an
// invocation sums one column.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "philox.glsl"
#include "optimizer.glsl"
layout(push_constant, scalar) uniform Args { RO partial; RW columns; xft_adafactor_columns_params p; };

void main() {
    for (uint k = GROUP_X * WG + LOCAL_ID; k < p.cols; k += p.groups * WG) {
        float sum = 0.0;
        for (uint b = 0u; b < p.blocks; b++) sum += LOAD1(partial, (GROUP_Y * p.blocks + b) * p.cols + k, F32);
        STORE1(columns, GROUP_Y * p.ld_columns + k, sum);
    }
}
