#version 460
// y[t] += b.  b [cols], y [rows, cols].  Grid: groups x 1 x 1 over blocks of 4096 columns.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_Y = 0;
layout(push_constant, scalar) uniform Args { RO b; RW y; xft_bias_params p; };

void main() {
    FOR_QUADS(row, c, p.rows, p.cols, p.groups)
        STORE4(y, row * p.ld_y + c, TAKE4(y, row * p.ld_y + c, DT_Y) + LOAD4(b, c, F32), DT_Y);
}
