#version 460
// segments[t] = (key_begin, key_end, query_end, valid): what token t sees, from cu_seqlens u32 [sequences + 1] and
// lengths u32 [sequences]. Sequence i owns the rows [cu[i], cu[i+1]), of which the first lengths[i] are tokens.
// Grid: groups x 1 x 1, an invocation takes every groups*WG-th token and finds its sequence by bisection.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(push_constant, scalar) uniform Args { RO cu_seqlens; RO lengths; RW segments; xft_segments_params p; };

void main() {
    for (uint t = GROUP_X * WG + LOCAL_ID; t < p.tokens; t += p.groups * WG) {
        uint low = 0u, high = p.sequences; // cu[low] <= t < cu[high], when there is such a sequence
        while (high - low > 1u) {
            uint middle = (low + high) / 2u;
            if (LOADU(cu_seqlens, middle) <= t) low = middle;
            else high = middle;
        }
        uint begin = LOADU(cu_seqlens, low), end = min(LOADU(cu_seqlens, low + 1u), p.tokens);
        uvec4 s = uvec4(0u);
        if (t >= begin && t < end) {
            uint tokens_end = min(begin + LOADU(lengths, low), end);
            if (p.count_padding != 0u) s = uvec4(begin, tokens_end, t < tokens_end ? end : 0u, 1u);
            else if (t < tokens_end) s = uvec4(begin, tokens_end, tokens_end, 1u);
        }
        RW4(segments).v[t] = s;
    }
}
