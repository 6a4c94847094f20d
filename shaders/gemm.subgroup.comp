#version 460
// gemm by subgroups, for software Vulkan: see gemm_subgroup.glsl. Grid: ceil(N/BN) x ceil(M/(S*RM)) x 1.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "gemm_subgroup.glsl"
layout(push_constant, scalar) uniform Args { RO a; RO b; RW c; xft_gemm_params p; };

void main() {
    gemm_block(a, 0, p.ld_a, b, 0, p.ld_b, c, 0, p.ld_c, p.M, p.N, p.K, GROUP_Y * BM, GROUP_X * BN, p.accumulate != 0);
}
