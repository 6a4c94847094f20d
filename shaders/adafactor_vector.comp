#version 460
// Adafactor for a vector: s = b s + (1-b) (g^2 + 1e-30), U = g / sqrt(s), w = (1 - lr wd) w - lr U / max(1, RMS(U)); g
// with the clip factor, b = 1 - t^-0.8. g, w, s [count]. Grid: one work-group: vectors are short.
#define XFT_WG_REDUCE
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "philox.glsl"
#include "optimizer.glsl"
layout(push_constant, scalar) uniform Args { RO g; RO step; RO state; RO t; RW w; RW s; xft_adafactor_vector_params p; };

void main() {
    if (STATE_SKIP(state)) return;
    float rate = adafactor_rate(float(LOADU(t, 0u))), clip = STATE_CLIP(state), sum = 0.0;
    for (uint i = LOCAL_ID; i < p.count; i += WG) {
        float x = clip * LOAD1(g, i, F32), moment = (1.0 - rate) * AS_FLOAT(TAKEU(s, i)) + rate * (x * x + 1e-30);
        STORE1(s, i, moment);
        x *= inversesqrt(moment);
        sum += x * x;
    }
    sum = WG_SUM(sum);
    float keep = 1.0 - STEP_LR(step) * p.weight_decay, factor = STEP_LR(step) * clip / max(1.0, sqrt(sum / float(p.count)));
    for (uint i = LOCAL_ID; i < p.count; i += WG)       // the same invocation wrote s[i]
        STORE1(w, i, keep * AS_FLOAT(TAKEU(w, i)) - factor * LOAD1(g, i, F32) * inversesqrt(AS_FLOAT(TAKEU(s, i))));
}
