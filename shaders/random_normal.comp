#version 460
// y = std times standard normal numbers, Philox (INIT, step 0, key, row, column).  y [rows, cols].
// Grid: groups x 1 x 1 over blocks of 4096 columns.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "philox.glsl"
layout(push_constant, scalar) uniform Args { RW y; xft_random_normal_params p; };

void main() {
    FOR_QUADS(row, c, p.rows, p.cols, p.groups) {
        uvec4 words = philox(uvec2(p.seed_low, p.seed_high), RANDOM_INIT, 0u, p.key, row, c >> 2);
        STORE4(y, row * p.ld_y + c, p.std * philox_normals(words), F32);
    }
}
