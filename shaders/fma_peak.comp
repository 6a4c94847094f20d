#version 460
// y = sum over k = 1 … 8 of a_k, a_k from k x by a_k = a_k / 2 + x, `rounds` times: eight independent chains keep the
// multiply-add units busy and stay in registers. x, y [count]. Grid: ceil(count / WG).
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint WIDTH = 1;    // elements per invocation; here always one
layout(push_constant, scalar) uniform Args { RO x; RW y; xft_fma_peak_params p; };

void main() {
    uint i = GROUP_X * WG + LOCAL_ID;
    float v = LOAD1(x, min(i, p.count - 1u), F32);
    vec4 a = v * vec4(1, 2, 3, 4), b = v * vec4(5, 6, 7, 8);
    for (uint r = 0u; r < p.rounds; r++) {
        a = fma(a, vec4(0.5), vec4(v));
        b = fma(b, vec4(0.5), vec4(v));
    }
    a += b;
    if (i < p.count) STORE1(y, i, (a.x + a.y) + (a.z + a.w));
}
