#version 460
// The update: w = decay w - factor g / (sqrt(r / mean) sqrt(c)), with factor and decay of adafactor_scale.
// g, w, master [rows, cols], row / entry_rows the entry e; r [E, entry_rows], c [E, cols], mean [E], scale [2E].
// An entry with factor 0 is left as it is, bit for bit; so is everything at learning rate 0.
// Grid: groups, a work-group per row, striding; invocations take quads.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "philox.glsl"
#include "optimizer.glsl"
layout(constant_id = 1) const uint DT_G = 0;
layout(constant_id = 2) const uint DT_W = 0;
layout(constant_id = 3) const uint STOCHASTIC = 0;
layout(constant_id = 4) const uint MASTER = 0;
layout(push_constant, scalar) uniform Args {
    RO g; RO r; RO c; RO mean; RO scale; RO step; RW w; RW master; xft_adafactor_apply_params p;
};

void main() {
    for (uint row = GROUP_X; row < p.rows; row += p.groups) {
        uint e = row / p.entry_rows;
        float factor = LOAD1(scale, 2u * e, F32), decay = LOAD1(scale, 2u * e + 1u, F32);
        if (factor == 0.0) continue;
        factor *= inversesqrt(LOAD1(r, e * p.ld_r + row % p.entry_rows, F32) / LOAD1(mean, e, F32));
        for (uint k = 4u * LOCAL_ID; k < p.cols; k += 4u * WG) {
            uint at_w = row * p.ld_w + k, at_master = row * p.ld_master + k;
            vec4 update = LOAD4(g, row * p.ld_g + k, DT_G) * inversesqrt(LOAD4(c, e * p.ld_c + k, F32));
            vec4 x = MASTER != 0u ? TAKE4(master, at_master, F32) : TAKE4(w, at_w, DT_W);
            x = decay * x - factor * update;
            if (MASTER != 0u) STORE4(master, at_master, x, F32);
            if (STOCHASTIC != 0u)
                STOREU2(w, at_w >> 1, philox_bf16_quad(
                    x, philox(STEP_SEED(step), RANDOM_ROUNDING, STEP_STEP(step), p.key, row, k >> 2)));
            else STORE4(w, at_w, x, DT_W);
        }
    }
}
