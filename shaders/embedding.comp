#version 460
// y[t] = w[ids[t]], zeros for an id outside the vocabulary.  ids [rows], w [vocabulary, cols], y [rows, cols].
// Grid: groups x 1 x 1 over blocks of 4096 columns.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_W = 0;
layout(constant_id = 2) const uint DT_Y = 0;
layout(push_constant, scalar) uniform Args { RO ids; RO w; RW y; xft_embedding_params p; };

void main() {
    FOR_QUADS(row, c, p.rows, p.cols, p.groups) {
        uint id = LOADU(ids, row);
        vec4 v = vec4(0.0);
        if (id < p.vocabulary) v = LOAD4(w, id * p.ld_w + c, DT_W);
        STORE4(y, row * p.ld_y + c, v, DT_Y);
    }
}
