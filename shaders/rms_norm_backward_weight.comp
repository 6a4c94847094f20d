#version 460
// dw[i] = sum over the rows of chunk i of dy * x * rstd; column_sum then adds the chunks.
// dy, x [rows, cols], rstd [rows], dw [chunks, cols].
// Grid: groups x 1 x 1 over chunks and blocks of 16 WG columns. An invocation owns four quads of columns, WG quads
// apart, so that a work-group reads whole lines and several loads are under way at once.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_DY = 0;
layout(constant_id = 2) const uint DT_X = 0;
layout(push_constant, scalar) uniform Args { RO dy; RO x; RO rstd; RW dw; xft_rms_norm_backward_weight_params p; };

void main() {
    const uint blocks = (p.cols + 16u * WG - 1u) / (16u * WG);
    for (uint i = GROUP_X; i < blocks * p.chunks; i += p.groups) {
        uint chunk = i / blocks, c = (i % blocks) * 16u * WG + 4u * LOCAL_ID;
        uint end = min((chunk + 1u) * p.chunk_rows, p.rows);
        vec4 sum[4];
        UNROLL for (uint k = 0u; k < 4u; k++) sum[k] = vec4(0.0);
        for (uint row = chunk * p.chunk_rows; row < end; row++) {
            float r = AS_FLOAT(LOADU(rstd, row));
            UNROLL for (uint k = 0u; k < 4u; k++) {
                uint at = c + 4u * k * WG;
                if (at < p.cols)
                    sum[k] += LOAD4(dy, row * p.ld_dy + at, DT_DY) * (r * LOAD4(x, row * p.ld_x + at, DT_X));
            }
        }
        UNROLL for (uint k = 0u; k < 4u; k++)
            if (c + 4u * k * WG < p.cols) STORE4(dw, chunk * p.ld_dw + c + 4u * k * WG, sum[k], F32);
    }
}
