#version 460
// loss[t] = inv_labels (lse - logits[t, label]) with lse = log sum exp(logits[t]), and with p.gradient, in place,
// logits[t] = inv_labels (exp(logits[t] - lse) - onehot(label)). Rows whose label is no column: 0.
// labels u32 [rows], step: the step block, logits [rows, cols], loss f32 [rows]. Grid: groups x 1 x 1, a work-group
// takes every groups-th row. One pass keeps maximum and sum per invocation (online), a second writes the gradient; the
// invocation that meets the label's logit in the first pass writes the loss, so no logit is read after it was changed.
#extension GL_GOOGLE_include_directive : require
#define XFT_WG_REDUCE
#include "xft.glsl"
layout(constant_id = 1) const uint DT_LOGITS = 0;
layout(push_constant, scalar) uniform Args { RO labels; RO step_; RW logits; RW loss; xft_cross_entropy_params p; };

void main() {
    const float LOWEST = -3e38;
    float inv_labels = AS_FLOAT(LOADU(step_, 5u));
    for (uint row = GROUP_X; row < p.rows; row += p.groups) {
        uint label = LOADU(labels, row), at = row * p.ld_logits;
        if (label >= p.cols) {
            if (LOCAL_ID == 0u) STORE1(loss, row, 0.0);
            if (p.gradient != 0u)
                for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) STORE4(logits, at + c, vec4(0.0), DT_LOGITS);
            continue;
        }
        float m = LOWEST, l = 0.0, own = 0.0;
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            vec4 x = LOAD4(logits, at + c, DT_LOGITS);
            if (c + 4u > p.cols) x = vec4(x.x, c + 1u < p.cols ? x.y : LOWEST, c + 2u < p.cols ? x.z : LOWEST, LOWEST);
            if (label / 4u == c / 4u) own = x[label & 3u];
            float top = max(max(max(x.x, x.y), max(x.z, x.w)), m);
            vec4 e = exp(x - top);
            l = l * exp(m - top) + (e.x + e.y) + (e.z + e.w);
            m = top;
        }
        float top = WG_MAX(m), lse = top + log(WG_SUM(l * exp(m - top)));
        if (label / 4u % WG == LOCAL_ID) STORE1(loss, row, inv_labels * (lse - own));
        if (p.gradient == 0u) continue;
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            vec4 e = exp(LOAD4(logits, at + c, DT_LOGITS) - lse);
            if (label / 4u == c / 4u) e[label & 3u] -= 1.0;
            STORE4(logits, at + c, inv_labels * e, DT_LOGITS);
        }
    }
}
