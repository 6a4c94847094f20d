#version 460
// y[r,:] = x[source[r] / K, :] for r < offsets[E].  x [T,H], source [R], offsets [E+1], y [R,H]. Grid: groups x 1 x
// 1; a work-group takes every groups-th row, an invocation every WG-th quad of its columns.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_X = 0;
layout(constant_id = 2) const uint DT_Y = 0;
layout(push_constant, scalar) uniform Args { RO x; RO source; RO offsets; RW y; xft_gather_rows_params p; };

void main() {
    const uint rows = min(LOADU(offsets, p.experts), p.rows);
    for (uint row = GROUP_X; row < rows; row += p.groups) {
        const uint from = LOADU(source, row) / p.top_k * p.ld_x;
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG)
            STORE4(y, row * p.ld_y + c, LOAD4(x, from + c, DT_X), DT_Y);
    }
}
