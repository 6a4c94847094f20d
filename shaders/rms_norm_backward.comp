#version 460
// dx = or += rstd * (w * dy - x * rstd^2 * mean(w * dy * x)).  dy, x, dx [rows, cols], w [cols], rstd [rows].
// Grid: groups x 1 x 1, one work-group per row, striding. One pass for the mean, one for dx, from a cache.
#extension GL_GOOGLE_include_directive : require
#define XFT_WG_REDUCE
#include "xft.glsl"
layout(constant_id = 1) const uint DT_DY = 0;
layout(constant_id = 2) const uint DT_X = 0;
layout(constant_id = 3) const uint DT_DX = 0;
layout(push_constant, scalar) uniform Args { RO dy; RO x; RO w; RO rstd; RW dx; xft_rms_norm_backward_params p; };

void main() {
    for (uint row = GROUP_X; row < p.rows; row += p.groups) {
        vec4 s = vec4(0.0);
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            vec4 g = LOAD4(dy, row * p.ld_dy + c, DT_DY) * LOAD4(w, c, F32);
            s += KEEP4(g * LOAD4(x, row * p.ld_x + c, DT_X), p.cols - c);
        }
        float r = AS_FLOAT(LOADU(rstd, row));
        float m = r * r * WG_SUM(s.x + s.y + s.z + s.w) / float(p.cols);
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            vec4 g = LOAD4(dy, row * p.ld_dy + c, DT_DY) * LOAD4(w, c, F32);
            vec4 d = r * (g - m * LOAD4(x, row * p.ld_x + c, DT_X));
            if (p.accumulate != 0u) d += TAKE4(dx, row * p.ld_dx + c, DT_DX);
            STORE4(dx, row * p.ld_dx + c, d, DT_DX);
        }
    }
}
