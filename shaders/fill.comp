#version 460
// y = word, in units of 32-bit words: the host makes the word of the value, for 16-bit types twice the element.
// y [rows, cols] words.  Grid: groups x 1 x 1 over blocks of 4096 columns.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(push_constant, scalar) uniform Args { RW y; xft_fill_params p; };

void main() {
    FOR_QUADS(row, c, p.rows, p.cols, p.groups)
        STORE4(y, row * p.ld_y + c, vec4(AS_FLOAT(p.word)), F32);
}
