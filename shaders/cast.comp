#version 460
// y = x in another storage type, to nearest even, or (STOCHASTIC, to bf16) up or down with the probability that keeps
// the mean, drawn from Philox (ROUNDING, step, key, row, column) under
// the seed ^ first_token << 32: anew for every micro-batch.  x, y [rows, cols], step [16].
// Grid: groups x 1 x 1 over blocks of 4096 columns.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "philox.glsl"
layout(constant_id = 1) const uint DT_X = 0;
layout(constant_id = 2) const uint DT_Y = 0;
layout(constant_id = 3) const uint STOCHASTIC = 0;
layout(push_constant, scalar) uniform Args { RO x; RO step_block; RW y; xft_cast_params p; };

void main() {
    FOR_QUADS(row, c, p.rows, p.cols, p.groups) {
        vec4 v = LOAD4(x, row * p.ld_x + c, DT_X);
        if (STOCHASTIC != 0u) {
            uvec4 s = LOADU4(step_block, 0u);          // step, seed_low, seed_high, first_token
            uvec4 words = philox(uvec2(s.y, s.z ^ s.w), RANDOM_ROUNDING, s.x, p.key, row, c >> 2);
            STOREU2(y, (row * p.ld_y + c) >> 1, philox_bf16_quad(v, words));
        } else {
            STORE4(y, row * p.ld_y + c, v, DT_Y);
        }
    }
}
