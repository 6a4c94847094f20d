#version 460
// y[i] = or += sum of the rows of x in chunk i (chunk_rows each, the last may be shorter or empty).
// x [rows, cols], y [chunks, cols]. A second pass, with one chunk over the y of the first, gives the sum of all rows.
// Grid: groups x 1 x 1 over chunks and blocks of 16 WG columns. An invocation owns four quads of columns, WG quads
// apart, so that a work-group reads whole lines and four loads are under way at once.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_X = 0;
layout(push_constant, scalar) uniform Args { RO x; RW y; xft_column_sum_params p; };

void main() {
    const uint blocks = (p.cols + 16u * WG - 1u) / (16u * WG);
    for (uint i = GROUP_X; i < blocks * p.chunks; i += p.groups) {
        uint chunk = i / blocks, c = (i % blocks) * 16u * WG + 4u * LOCAL_ID;
        uint end = min((chunk + 1u) * p.chunk_rows, p.rows);
        vec4 sum[4];
        UNROLL for (uint k = 0u; k < 4u; k++) sum[k] = vec4(0.0);
        for (uint row = chunk * p.chunk_rows; row < end; row++)
            UNROLL for (uint k = 0u; k < 4u; k++)
                if (c + 4u * k * WG < p.cols) sum[k] += LOAD4(x, row * p.ld_x + c + 4u * k * WG, DT_X);
        UNROLL for (uint k = 0u; k < 4u; k++)
            if (c + 4u * k * WG < p.cols) {
                uint at = chunk * p.ld_y + c + 4u * k * WG;
                if (p.accumulate != 0u) sum[k] += TAKE4(y, at, F32);
                STORE4(y, at, sum[k], F32);
            }
    }
}
