#version 460
// grouped_gemm NT for few rows in all: see gemv.glsl. Every row goes through its expert's matrix by itself.
// Grid: ceil(N / p.block_columns) x R; rows from offsets[E] on leave early.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "gemv.glsl"
layout(push_constant, scalar) uniform Args { RO a; RO b; RO offsets; RW c; xft_grouped_gemm_params p; };

void main() {
    const uint begin = GROUP_X * p.block_columns, end = min(p.N, begin + p.block_columns), row = GROUP_Y;
    uint e = 0;
    while (e < p.experts && LOADU(offsets, e + 1) <= row) e++;
    if (e == p.experts) return;
    gemv(a, row * p.ld_a, p.ld_a, b, e * p.b_rows * p.ld_b, p.ld_b, c, row * p.ld_c, p.ld_c, 1, p.N, p.K, begin, end,
         p.accumulate != 0);
}
