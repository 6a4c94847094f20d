#version 460
// gemm NT for few rows of a (decoding): c [M,N] = or += a [M,K] b [N,K]^T, ROWS >= M known at compile time. b is read
// once: a work-group takes quads of its rows, invocations stride along k, the partial sums of 4 rows x M meet in shared
// memory in a fixed order. Grid: ceil(N/4) groups at most; p.block_columns columns each.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
layout(constant_id = 1) const uint FORM = 0;
layout(constant_id = 2) const uint DT_A = 0;
layout(constant_id = 3) const uint DT_B = 0;
layout(constant_id = 4) const uint DT_C = 0;
layout(constant_id = 5) const uint ROWS = 1;
layout(push_constant, scalar) uniform Args { RO a; RO b; RW c; xft_gemm_params p; };
shared vec4 red[WG];

void main() {
    const uint end = min(p.N, (GROUP_X + 1) * p.block_columns);
    for (uint n = GROUP_X * p.block_columns; n < end; n += 4) {
        vec4 sum[ROWS];                            // a component per row of b
        UNROLL for (uint m = 0; m < ROWS; m++) sum[m] = vec4(0);
        for (uint k = 4 * LOCAL_ID; k < p.K; k += 4 * WG) {
            vec4 w[4];
            UNROLL for (uint j = 0; j < 4; j++) w[j] = KEEP4(LOAD4(b, min(n + j, p.N - 1) * p.ld_b + k, DT_B), p.K - k);
            UNROLL for (uint m = 0; m < ROWS; m++) {
                vec4 x = KEEP4(LOAD4(a, min(m, p.M - 1) * p.ld_a + k, DT_A), p.K - k);
                sum[m] += vec4(dot(x, w[0]), dot(x, w[1]), dot(x, w[2]), dot(x, w[3]));
            }
        }
        UNROLL for (uint m = 0; m < ROWS; m++) {
            red[LOCAL_ID] = sum[m];
            barrier();
            for (uint s = WG / 2; s > 0; s >>= 1) {
                if (LOCAL_ID < s) red[LOCAL_ID] += red[LOCAL_ID + s];
                barrier();
            }
            if (LOCAL_ID == 0 && m < p.M) {
                vec4 value = red[0];
                if (p.accumulate != 0) value += LOAD4(c, m * p.ld_c + n, DT_C);
                STORE4(c, m * p.ld_c + n, value, DT_C);
            }
            barrier();
        }
    }
}
