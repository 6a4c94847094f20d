#version 460
// gemm NT for few rows of a: see gemv.glsl. Grid: ceil(N / p.block_columns) groups.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "gemv.glsl"
layout(push_constant, scalar) uniform Args { RO a; RO b; RW c; xft_gemm_params p; };

void main() {
    const uint begin = GROUP_X * p.block_columns, end = min(p.N, begin + p.block_columns);
    gemv(a, 0, p.ld_a, b, 0, p.ld_b, c, 0, p.ld_c, p.M, p.N, p.K, begin, end, p.accumulate != 0);
}
