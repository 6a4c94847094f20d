#version 460
// Second moments of every entry e, b = 1 - t^-0.8:
//     r = b r + (1-b) (clip^2 rows / cols + 1e-30);  c = b c + (1-b) (clip^2 columns / rows + 1e-30);  mean = mean of r
// rows [E*rows], columns [E, cols]; r [E, rows], c [E, cols], mean [E]. Grid: (2, E); x = 0: r and its mean, 1: c.
// A skipped step and an unused entry leave r and c as they are.
#define XFT_WG_REDUCE
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "philox.glsl"
#include "optimizer.glsl"
layout(constant_id = 1) const uint HAS_USED = 0;
layout(push_constant, scalar) uniform Args {
    RO rows; RO columns; RO state; RO t; RO used; RW r; RW c; RW mean; xft_adafactor_moments_params p;
};

void main() {
    uint e = GROUP_Y;
    if (STATE_SKIP(state) || (HAS_USED != 0u && LOADU(used, e) == 0u)) return;
    float rate = adafactor_rate(float(LOADU(t, e))), clip = STATE_CLIP(state);
    if (GROUP_X == 0u) {
        float sum = 0.0, scale = clip * clip / float(p.cols);
        for (uint i = LOCAL_ID; i < p.rows; i += WG) {
            uint at = e * p.ld_r + i;
            float old = AS_FLOAT(TAKEU(r, at));
            float new_ = (1.0 - rate) * old + rate * (scale * LOAD1(rows, e * p.rows + i, F32) + 1e-30);
            STORE1(r, at, new_);
            sum += new_;
        }
        sum = WG_SUM(sum);
        if (LOCAL_ID == 0u) STORE1(mean, e, sum / float(p.rows));
    } else {
        float scale = clip * clip / float(p.rows);
        for (uint i = LOCAL_ID; i < p.cols; i += WG) {
            uint at = e * p.ld_c + i;
            float old = AS_FLOAT(TAKEU(c, at));
            STORE1(c, at, (1.0 - rate) * old + rate * (scale * LOAD1(columns, at, F32) + 1e-30));
        }
    }
}
