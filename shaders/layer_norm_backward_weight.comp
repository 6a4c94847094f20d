#version 460
// dw[i], db[i] = sums over the rows of chunk i of dy * (x - mean) * rstd and of dy; column_sum then adds the chunks.
// dy, x [rows, cols], stats [rows, 2], dw, db [chunks, cols].
// Grid: groups x 1 x 1 over chunks and blocks of 8 WG columns. An invocation owns two quads of columns, WG quads apart,
// so that a work-group reads whole lines and four loads are under way at once.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_DY = 0;
layout(constant_id = 2) const uint DT_X = 0;
layout(push_constant, scalar) uniform Args {
    RO dy; RO x; RO stats; RW dw; RW db; xft_layer_norm_backward_weight_params p;
};

void main() {
    const uint blocks = (p.cols + 8u * WG - 1u) / (8u * WG);
    for (uint i = GROUP_X; i < blocks * p.chunks; i += p.groups) {
        uint chunk = i / blocks, c = (i % blocks) * 8u * WG + 4u * LOCAL_ID;
        uint end = min((chunk + 1u) * p.chunk_rows, p.rows);
        vec4 sum_w[2], sum_b[2];
        UNROLL for (uint k = 0u; k < 2u; k++) sum_w[k] = sum_b[k] = vec4(0.0);
        for (uint row = chunk * p.chunk_rows; row < end; row++) {
            vec2 mr = LOAD2(stats, row * p.ld_stats, F32);
            UNROLL for (uint k = 0u; k < 2u; k++) {
                uint at = c + 4u * k * WG;
                if (at < p.cols) {
                    vec4 g = LOAD4(dy, row * p.ld_dy + at, DT_DY);
                    sum_b[k] += g;
                    sum_w[k] += g * (mr.y * (LOAD4(x, row * p.ld_x + at, DT_X) - mr.x));
                }
            }
        }
        UNROLL for (uint k = 0u; k < 2u; k++)
            if (c + 4u * k * WG < p.cols) {
                STORE4(dw, chunk * p.ld_dw + c + 4u * k * WG, sum_w[k], F32);
                STORE4(db, chunk * p.ld_dw + c + 4u * k * WG, sum_b[k], F32);
            }
    }
}
