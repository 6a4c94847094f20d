#version 460
// delta[h, t] = <do, o> over the head's columns, which the backward passes of attention subtract from dP.
// o, do [tokens, heads * D], delta f32 [heads, tokens]. Grid: groups x 1 x 1; an invocation takes every groups*WG-th
// pair of token and head, heads innermost so that neighbours read one row.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint DT_O = 0;
layout(constant_id = 2) const uint DT_DO = 0;
layout(constant_id = 3) const uint HEAD_SIZE = 64;
layout(push_constant, scalar) uniform Args { RO o; RO d_o; RW delta; xft_attention_delta_params p; };

void main() {
    for (uint i = GROUP_X * WG + LOCAL_ID; i < p.tokens * p.heads; i += p.groups * WG) {
        uint t = i / p.heads, h = i % p.heads, a = t * p.ld_o + h * HEAD_SIZE, b = t * p.ld_do + h * HEAD_SIZE;
        float sum = 0.0;
        if (HEAD_SIZE % 4u == 0u)
            for (uint d = 0u; d < HEAD_SIZE; d += 4u) sum += dot(LOAD4(o, a + d, DT_O), LOAD4(d_o, b + d, DT_DO));
        else
            for (uint d = 0u; d < HEAD_SIZE; d += 2u) sum += dot(LOAD2(o, a + d, DT_O), LOAD2(d_o, b + d, DT_DO));
        STORE1(delta, h * p.ld_delta + t, sum);
    }
}
