#version 460
// c = or += op(a) op(b).  NT: a [M,K], b [N,K]; NN: a [M,K], b [K,N]; TN: a [K,M], b [K,N]; c [M,N].
// Grid: ceil(N/BN) x ceil(M/BM) x 1, one block of c per work-group.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "gemm_tile.glsl"
layout(push_constant, scalar) uniform Args { RO a; RO b; RW c; xft_gemm_params p; };

void main() {
    gemm_block(a, 0, p.ld_a, b, 0, p.ld_b, c, 0, p.ld_c, p.M, p.N, p.K, GROUP_Y * BM, GROUP_X * BN, p.accumulate != 0);
}
