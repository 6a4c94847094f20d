#version 460
// gemm as one writes it first: 8x8 outputs per invocation, elements straight from memory. Nothing chooses it; the
// benchmark measures the other forms against it. Grid: ceil(N/64) x ceil(M/64) x 1, WG = 64.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint FORM = 0;
layout(constant_id = 2) const uint DT_A = 0;
layout(constant_id = 3) const uint DT_B = 0;
layout(constant_id = 4) const uint DT_C = 0;
layout(push_constant, scalar) uniform Args { RO a; RO b; RW c; xft_gemm_params p; };

void main() {
    const uint row0 = 64 * GROUP_Y + 8 * (LOCAL_ID / 8), col0 = 64 * GROUP_X + 8 * (LOCAL_ID % 8);
    const uint a_step = FORM == 2 ? p.ld_a : 1, b_step = FORM == 0 ? 1 : p.ld_b;
    uint ai[8], bi[8];
    float acc[64];
    UNROLL for (uint i = 0; i < 8; i++) {
        uint row = min(row0 + i, p.M - 1), col = min(col0 + i, p.N - 1);
        ai[i] = FORM == 2 ? row : row * p.ld_a;
        bi[i] = FORM == 0 ? col * p.ld_b : col;
    }
    UNROLL for (uint i = 0; i < 64; i++) acc[i] = 0;
    for (uint k = 0; k < p.K; k++) {
        float x[8], y[8];
        UNROLL for (uint i = 0; i < 8; i++) x[i] = LOAD1(a, ai[i] + k * a_step, DT_A);
        UNROLL for (uint j = 0; j < 8; j++) y[j] = LOAD1(b, bi[j] + k * b_step, DT_B);
        UNROLL for (uint i = 0; i < 64; i++) acc[i] += x[i / 8] * y[i % 8];
    }
    UNROLL for (uint i = 0; i < 8; i++)
        UNROLL for (uint j = 0; j < 8; j += 4) {
            uint at = (row0 + i) * p.ld_c + col0 + j;
            if (row0 + i < p.M && col0 + j < p.N) {
                vec4 value = vec4(acc[8 * i + j], acc[8 * i + j + 1], acc[8 * i + j + 2], acc[8 * i + j + 3]);
                if (p.accumulate != 0) value += LOAD4(c, at, DT_C);
                STORE4(c, at, value, DT_C);
            }
        }
}
