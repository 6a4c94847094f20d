#version 460
// y[t,:] = or += sum_j weights[t,j] x[inverse[t,j],:], j upwards; pairs without a row (NONE) are left out.
// x [R,H], inverse [T,K], weights [T,K] or absent (all 1), y [T,H]. Grid: groups x 1 x 1; a work-group takes every
// groups-th token, an invocation every WG-th quad of its columns: it gathers, so nothing is written twice.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_X = 0;
layout(constant_id = 2) const uint DT_Y = 0;
layout(push_constant, scalar) uniform Args { RO x; RO inverse_rows; RO weights; RW y; xft_combine_params p; };

void main() {
    for (uint t = GROUP_X; t < p.tokens; t += p.groups) {
        for (uint c = 4u * LOCAL_ID; c < p.cols; c += 4u * WG) {
            vec4 sum = vec4(0.0);
            for (uint j = 0u; j < p.slots; j++) {
                const uint row = LOADU(inverse_rows, t * p.ld_inverse + j);
                if (row == NONE) continue;
                const float weight = p.weighted != 0u ? LOAD1(weights, t * p.ld_weights + j, F32) : 1.0;
                sum += weight * LOAD4(x, row * p.ld_x + c, DT_X);
            }
            if (p.accumulate != 0u) sum += TAKE4(y, t * p.ld_y + c, DT_Y);
            STORE4(y, t * p.ld_y + c, sum, DT_Y);
        }
    }
}
