#version 460
// t[i] += 1 unless the step is skipped or used[i] is 0.  t, used [count]. Grid: one work-group.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "philox.glsl"
#include "optimizer.glsl"
layout(push_constant, scalar) uniform Args { RO state; RO used; RW t; xft_step_advance_params p; };
layout(constant_id = 1) const uint HAS_USED = 0;

void main() {
    if (STATE_SKIP(state)) return;
    for (uint i = LOCAL_ID; i < p.count; i += WG)
        if (HAS_USED == 0u || LOADU(used, i) != 0u) STOREU(t, i, TAKEU(t, i) + 1u);
}
