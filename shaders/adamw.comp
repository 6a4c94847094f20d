#version 460
// Decoupled AdamW on a matrix, or on every entry of a stack of them:
//     w -= lr wd w;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;
//     w -= lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)          g: the gradient times the clip factor
// g, w, m, v, master [rows, cols]; row / entry_rows is the entry, with its own t and used. Nothing is touched in a
// skipped step and in an entry that was not used. With a master w is it rounded to nearest.
// Grid: groups, a work-group per row, striding; invocations take quads.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "philox.glsl"
#include "optimizer.glsl"
layout(constant_id = 1) const uint DT_G = 0;
layout(constant_id = 2) const uint DT_W = 0;
layout(constant_id = 3) const uint STOCHASTIC = 0;
layout(constant_id = 4) const uint MASTER = 0;
layout(constant_id = 5) const uint HAS_USED = 0;
layout(push_constant, scalar) uniform Args {
    RO g; RO step; RO state; RO t; RO used; RW w; RW m; RW v; RW master; xft_adamw_params p;
};

void main() {
    if (STATE_SKIP(state)) return;
    float lr = STEP_LR(step), clip = STATE_CLIP(state);
    for (uint row = GROUP_X; row < p.rows; row += p.groups) {
        uint entry = row / p.entry_rows;
        if (HAS_USED != 0u && LOADU(used, entry) == 0u) continue;
        float time = float(LOADU(t, entry));
        float rate = lr / one_minus_power(p.log_beta1, time), unbias = 1.0 / one_minus_power(p.log_beta2, time);
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            uint at = row * p.ld_m + c, at_w = row * p.ld_w + c;
            vec4 grad = clip * LOAD4(g, row * p.ld_g + c, DT_G);
            vec4 m1 = TAKE4(m, at, F32), v1 = TAKE4(v, at, F32);
            m1 += (1.0 - p.beta1) * (grad - m1);
            v1 = p.beta2 * v1 + (1.0 - p.beta2) * grad * grad;
            vec4 x = MASTER != 0u ? TAKE4(master, at, F32) : TAKE4(w, at_w, DT_W);
            x -= lr * p.weight_decay * x;
            x -= rate * m1 / (sqrt(v1 * unbias) + p.eps);
            STORE4(m, at, m1, F32);
            STORE4(v, at, v1, F32);
            if (MASTER != 0u) STORE4(master, at, x, F32);
            if (STOCHASTIC != 0u)
                STOREU2(w, at_w >> 1, philox_bf16_quad(
                    x, philox(STEP_SEED(step), RANDOM_ROUNDING, STEP_STEP(step), p.key, row, c >> 2)));
            else STORE4(w, at_w, x, DT_W);
        }
    }
}
