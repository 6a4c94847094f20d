#version 460
// What one step does to entry e, from RMS(U) = sqrt(sum squares / elements):
//     scale[2e] = lr clip / max(1, RMS(U)), 0 when nothing is to be done;  scale[2e+1] = 1 - lr wd
// squares [E*blocks], scale [2E]. Grid: one work-group per entry.
#define XFT_WG_REDUCE
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "philox.glsl"
#include "optimizer.glsl"
layout(constant_id = 1) const uint HAS_USED = 0;
layout(push_constant, scalar) uniform Args {
    RO squares; RO step; RO state; RO used; RW scale; xft_adafactor_scale_params p;
};

void main() {
    uint e = GROUP_X;
    bool idle = STATE_SKIP(state) || (HAS_USED != 0u && LOADU(used, e) == 0u);
    float sum = 0.0, lr = STEP_LR(step);
    for (uint i = LOCAL_ID; i < p.blocks; i += WG) sum += LOAD1(squares, e * p.blocks + i, F32);
    sum = WG_SUM(sum);
    if (LOCAL_ID != 0u) return;
    STORE1(scale, 2u * e, idle ? 0.0 : lr * STATE_CLIP(state) / max(1.0, sqrt(sum / p.elements)));
    STORE1(scale, 2u * e + 1u, 1.0 - lr * p.weight_decay);
}
