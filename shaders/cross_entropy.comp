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
        uint read = label < p.cols ? p.cols : 0u;
        float m = LOWEST, l = 0.0, own = 0.0;
        for (uint c = 4u * LOCAL_ID; c < read; c += 4u * WG) {
            vec4 x = LOAD4(logits, at + c, DT_LOGITS);
            if (c + 4u > p.cols) x = vec4(x.x, c + 1u < p.cols ? x.y : LOWEST, c + 2u < p.cols ? x.z : LOWEST, LOWEST);
            if (label / 4u == c / 4u) own = x[label & 3u];
            float top = max(max(max(x.x, x.y), max(x.z, x.w)), m);
            vec4 e = exp(x - top);
            l = l * exp(m - top) + (e.x + e.y) + (e.z + e.w);
            m = top;
        }
        float top = WG_MAX(m), lse = top + log(WG_SUM(l * exp(m - top)));
        if (label / 4u % WG == LOCAL_ID) STORE1(loss, row, read > 0u ? inv_labels * (lse - own) : 0.0);
        for (uint c = 4u * LOCAL_ID; c < p.cols && p.gradient != 0u; c += 4u * WG) {
            vec4 e = vec4(0.0);
            if (read > 0u) e = exp(LOAD4(logits, at + c, DT_LOGITS) - lse);
            if (label / 4u == c / 4u) e[label & 3u] -= 1.0;
            STORE4(logits, at + c, inv_labels * e, DT_LOGITS);
        }
    }
}
