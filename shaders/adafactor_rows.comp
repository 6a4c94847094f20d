#version 460
// Squares of a gradient along both its dimensions, in one reading:
//     rows[e,n] = sum_k g[e,n,k]^2          partial[e,b,k] = sum over the 16 rows n of block b of g[e,n,k]^2
// g [E, rows, cols]; rows [E*rows]; partial [E, blocks, cols], unpadded. Grid: (blocks, E).
// A work-group sweeps its 16 rows in strips of 4 WG columns: an invocation owns a quad of columns, whose sums it keeps;
// the sums of its quads along the rows meet in shared memory, once per strip.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "philox.glsl"
#include "optimizer.glsl"
layout(constant_id = 1) const uint DT_G = 0;
layout(push_constant, scalar) uniform Args { RO g; RW rows; RW partial; xft_adafactor_rows_params p; };
const uint BLOCK = 16u;
shared float quads[BLOCK * gl_WorkGroupSize.x];

void main() {
    uint first = GROUP_X * BLOCK, count = min(BLOCK, p.rows - first), base = GROUP_Y * p.rows + first;
    uint to = (GROUP_Y * p.blocks + GROUP_X) * p.cols;
    float row_sum = 0.0;                                   // of row LOCAL_ID, in the first 16 invocations
    for (uint strip = 0u; strip < p.cols; strip += 4u * WG) {
        uint c = strip + 4u * LOCAL_ID;
        vec4 sum = vec4(0.0);
        for (uint r = 0u; r < BLOCK; r++) {
            vec4 x = vec4(0.0);
            if (r < count && c < p.cols) x = KEEP4(LOAD4(g, (base + r) * p.ld_g + c, DT_G), p.cols - c);
            x *= x;
            sum += x;
            quads[r * WG + LOCAL_ID] = x.x + x.y + (x.z + x.w);
        }
        barrier();
        if (LOCAL_ID < BLOCK)
            for (uint i = 0u; i < WG; i++) row_sum += quads[LOCAL_ID * WG + (i + LOCAL_ID) % WG];
        barrier();
        UNROLL for (uint i = 0u; i < 4u; i++)
            if (c + i < p.cols) STORE1(partial, to + c + i, sum[i]);
    }
    if (LOCAL_ID < count) STORE1(rows, base + LOCAL_ID, row_sum);
}
