#version 460
// y = x, in units of 32-bit words: 16-bit elements go in pairs, so every bit of any type arrives, NaNs too.
// x, y [rows, cols] words.  Grid: groups x 1 x 1 over blocks of 4096 columns.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(push_constant, scalar) uniform Args { RO x; RW y; xft_copy_params p; };

void main() {
    FOR_QUADS(row, c, p.rows, p.cols, p.groups)
        STOREU4(y, row * p.ld_y + c, LOADU4(x, row * p.ld_x + c));
}
