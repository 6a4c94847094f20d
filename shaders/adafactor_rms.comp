#version 460
// squares[e,b] = sum over block b of the rows of entry e of U^2, U = clip g / (sqrt(r / mean) sqrt(c)): the update before
// its clipping. g [E, rows, cols], r [E, rows], c [E, cols], mean [E], squares [E*blocks]. Grid: (blocks, E).
#define XFT_WG_REDUCE
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "philox.glsl"
#include "optimizer.glsl"
layout(constant_id = 1) const uint DT_G = 0;
layout(push_constant, scalar) uniform Args {
    RO g; RO r; RO c; RO mean; RO state; RW squares; xft_adafactor_rms_params p;
};

void main() {
    if (STATE_SKIP(state)) return;
    uint e = GROUP_Y, end = min((GROUP_X + 1u) * p.stretch, p.rows);
    float sum = 0.0, clip = STATE_CLIP(state), m = LOAD1(mean, e, F32);
    for (uint row = GROUP_X * p.stretch; row < end; row++) {
        float scale = clip * inversesqrt(LOAD1(r, e * p.ld_r + row, F32) / m);
        for (uint k = 4u * LOCAL_ID; k < p.cols; k += 4u * WG) {
            vec4 x = scale * LOAD4(g, (e * p.rows + row) * p.ld_g + k, DT_G);
            x = KEEP4(x * inversesqrt(LOAD4(c, e * p.ld_c + k, F32)), p.cols - k);
            sum += dot(x, x);
        }
    }
    sum = WG_SUM(sum);
    if (LOCAL_ID == 0u) STORE1(squares, e * p.blocks + GROUP_X, sum);
}
