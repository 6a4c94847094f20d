#version 460
// y = (x - mean) * rstd * w + b, rstd = 1 / sqrt(var + eps), var divides by cols.
// x, y [rows, cols], w, b [cols], stats [rows, 2] = mean, rstd.
// Grid: groups x 1 x 1, one work-group per row, striding. The variance is taken about the mean, in a pass of its own:
// nothing cancels. After the first pass the row comes from a cache.
#extension GL_GOOGLE_include_directive : require
#define XFT_WG_REDUCE
#include "xft.glsl"
layout(constant_id = 1) const uint DT_X = 0;
layout(constant_id = 2) const uint DT_Y = 0;
layout(push_constant, scalar) uniform Args { RO x; RO w; RO b; RW y; RW stats; xft_layer_norm_params p; };

void main() {
    for (uint row = GROUP_X; row < p.rows; row += p.groups) {
        vec4 s = vec4(0.0);
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG)
            s += KEEP4(LOAD4(x, row * p.ld_x + c, DT_X), p.cols - c);
        float mean = WG_SUM(s.x + s.y + s.z + s.w) / float(p.cols);
        s = vec4(0.0);
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            vec4 v = KEEP4(LOAD4(x, row * p.ld_x + c, DT_X) - mean, p.cols - c);
            s += v * v;
        }
        float r = 1.0 / sqrt(WG_SUM(s.x + s.y + s.z + s.w) / float(p.cols) + p.eps);
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            vec4 v = (LOAD4(x, row * p.ld_x + c, DT_X) - mean) * r;
            STORE4(y, row * p.ld_y + c, v * LOAD4(w, c, F32) + LOAD4(b, c, F32), DT_Y);
        }
        if (LOCAL_ID == 0u) STORE2(stats, row * p.ld_stats, vec2(mean, r), F32);
    }
}
