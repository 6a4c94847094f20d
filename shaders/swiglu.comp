#version 460
// h = silu(g) * u = g * u / (1 + exp(-g)).  g, u, h [rows, cols].  Grid: groups x 1 x 1 over blocks of 4096 columns.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "math.glsl"
layout(constant_id = 1) const uint DT_G = 0;
layout(constant_id = 2) const uint DT_H = 0;
layout(push_constant, scalar) uniform Args { RO g; RO u; RW h; xft_swiglu_params p; };

void main() {
    FOR_QUADS(row, c, p.rows, p.cols, p.groups) {
        vec4 v = LOAD4(g, row * p.ld_g + c, DT_G);
        STORE4(h, row * p.ld_h + c, v * sigmoid4(v) * LOAD4(u, row * p.ld_u + c, DT_G), DT_H);
    }
}
