#version 460
// y = a + b.  a, b, y [rows, cols]. Grid: groups x 1 x 1; a work-group takes every groups-th row, an invocation every
// WG-th quad of its columns. Quads may run into the padding of a row, whose content does not matter.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_A = 0;
layout(constant_id = 2) const uint DT_B = 0;
layout(constant_id = 3) const uint DT_Y = 0;
layout(push_constant, scalar) uniform Args { RO a; RO b; RW y; xft_add_params p; };

void main() {
    for (uint row = GROUP_X; row < p.rows; row += p.groups)
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG)
            STORE4(y, row * p.ld_y + c, LOAD4(a, row * p.ld_a + c, DT_A) + LOAD4(b, row * p.ld_b + c, DT_B), DT_Y);
}
