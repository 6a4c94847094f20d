#version 460
// dx = or += rstd * (g - mean(g) - n * mean(g * n)) with g = w * dy, n = (x - mean) * rstd.
// dy, x, dx [rows, cols], w [cols], stats [rows, 2] = mean, rstd.
// Grid: groups x 1 x 1, one work-group per row, striding. One pass for both means, one for dx, from a cache.
#extension GL_GOOGLE_include_directive : require
#define XFT_WG_REDUCE
#include "xft.glsl"
layout(constant_id = 1) const uint DT_DY = 0;
layout(constant_id = 2) const uint DT_X = 0;
layout(constant_id = 3) const uint DT_DX = 0;
layout(push_constant, scalar) uniform Args { RO dy; RO x; RO w; RO stats; RW dx; xft_layer_norm_backward_params p; };

void main() {
    for (uint row = GROUP_X; row < p.rows; row += p.groups) {
        vec2 mr = LOAD2(stats, row * p.ld_stats, F32);
        vec4 s = vec4(0.0), t = vec4(0.0);
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            vec4 g = KEEP4(LOAD4(dy, row * p.ld_dy + c, DT_DY) * LOAD4(w, c, F32), p.cols - c);
            s += g;
            t += KEEP4(g * (LOAD4(x, row * p.ld_x + c, DT_X) - mr.x), p.cols - c);
        }
        float mean_g = WG_SUM(s.x + s.y + s.z + s.w) / float(p.cols);
        float slope = mr.y * mr.y * WG_SUM(t.x + t.y + t.z + t.w) / float(p.cols);
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            vec4 g = LOAD4(dy, row * p.ld_dy + c, DT_DY) * LOAD4(w, c, F32);
            vec4 d = mr.y * (g - mean_g - slope * (LOAD4(x, row * p.ld_x + c, DT_X) - mr.x));
            if (p.accumulate != 0u) d += TAKE4(dx, row * p.ld_dx + c, DT_DX);
            STORE4(dx, row * p.ld_dx + c, d, DT_DX);
        }
    }
}
