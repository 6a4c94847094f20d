#version 460
// counts[c][e] = tokens of the c-th stretch that go to expert e. picks [T,k], counts [C,E]. Grid: C x 1 x 1; WG/E lanes
// share an expert and the stretch. First half of expert_group.comp.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(push_constant, scalar) uniform Args { RO picks; RW counts; xft_expert_count_params p; };
shared uint found[gl_WorkGroupSize.x];

void main() {
    const uint parts = WG / p.experts, e = LOCAL_ID / parts, part = LOCAL_ID - e * parts;
    const uint begin = GROUP_X * p.stretch, end = min(begin + p.stretch, p.tokens);
    uint n = 0u;
    for (uint t = begin + part; t < end && e < p.experts; t += parts) {
        if (e < p.shared_experts) {
            n += LOADU(picks, t * p.ld_picks) != NONE ? 1u : 0u;
        } else {
            for (uint j = 0u; j < p.picks; j++)
                n += LOADU(picks, t * p.ld_picks + j) == e - p.shared_experts ? 1u : 0u;
        }
    }
    found[LOCAL_ID] = n;
    barrier();
    if (part == 0u && e < p.experts) {
        for (uint i = 1u; i < parts; i++) n += found[LOCAL_ID + i];
        STOREU(counts, GROUP_X * p.ld_counts + e, n);
    }
}
