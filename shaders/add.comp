#version 460
// y = a + b.  a, b, y [rows, cols].  Grid: groups x 1 x 1 over blocks of 4096 columns.
// Quads may run into the padding of a row, whose content does not matter.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_A = 0;
layout(constant_id = 2) const uint DT_B = 0;
layout(constant_id = 3) const uint DT_Y = 0;
layout(push_constant, scalar) uniform Args { RO a; RO b; RW y; xft_add_params p; };

void main() {
    FOR_QUADS(row, c, p.rows, p.cols, p.groups)
        STORE4(y, row * p.ld_y + c, LOAD4(a, row * p.ld_a + c, DT_A) + LOAD4(b, row * p.ld_b + c, DT_B), DT_Y);
}
