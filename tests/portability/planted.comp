#version 460
// Not a kernel of the library: 256 live sums per invocation, so that every compiler must spill. The portability test
// fails when its report of this shader shows no spill.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(push_constant, scalar) uniform Args { RO a; RO b; RW y; xft_add_params p; };
void main() {
    float s[256];
    UNROLL for (uint i = 0u; i < 256u; i++) s[i] = 0.0;
    for (uint k = 0u; k < p.rows; k++) {
        float x[16], w[16];
        UNROLL for (uint i = 0u; i < 16u; i++) x[i] = LOAD1(a, k * 16u + i + LOCAL_ID * p.ld_a, F32);
        UNROLL for (uint i = 0u; i < 16u; i++) w[i] = LOAD1(b, k * 16u + i + LOCAL_ID * p.ld_b, F32);
        UNROLL for (uint i = 0u; i < 256u; i++) s[i] += x[i / 16u] * w[i % 16u];
    }
    UNROLL for (uint i = 0u; i < 256u; i++) STORE1(y, i + LOCAL_ID * 256u, s[i]);
}
