#version 460
// y = x * rstd * w, rstd = 1 / sqrt(mean(x^2) + eps).  x, y [rows, cols], w [cols], rstd [rows].
// Grid: groups x 1 x 1, one work-group per row, striding. The second reading of the row comes from a cache.
#extension GL_GOOGLE_include_directive : require
#define XFT_WG_REDUCE
#include "xft.glsl"
layout(constant_id = 1) const uint DT_X = 0;
layout(constant_id = 2) const uint DT_Y = 0;
layout(push_constant, scalar) uniform Args { RO x; RO w; RW y; RW rstd; xft_rms_norm_params p; };

void main() {
    for (uint row = GROUP_X; row < p.rows; row += p.groups) {
        vec4 s = vec4(0.0);
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            vec4 v = KEEP4(LOAD4(x, row * p.ld_x + c, DT_X), p.cols - c);
            s += v * v;
        }
        float r = 1.0 / sqrt(WG_SUM(s.x + s.y + s.z + s.w) / float(p.cols) + p.eps);
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG)
            STORE4(y, row * p.ld_y + c, LOAD4(x, row * p.ld_x + c, DT_X) * r * LOAD4(w, c, F32), DT_Y);
        if (LOCAL_ID == 0u) STORE1(rstd, row, r);
    }
}
