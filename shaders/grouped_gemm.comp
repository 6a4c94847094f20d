#version 460
// Products per expert; rows [offsets[e], offsets[e+1]) belong to expert e.
// NT: a [R,K], b [E,N,K], c [R,N]; NN: a [R,K], b [E,K,N], c [R,N]: every row by its expert's matrix.
// TN: a [R,M], b [R,N], c [E,M,N]: each expert reduces over its own rows; "=" writes zeros where it has none.
// Grid: NT, NN: ceil(N/BN) x (floor(R/BM) + E) x 1; the row blocks walk the offsets, those beyond the last leave early,
// so the host never learns the counts. TN: ceil(N/BN) x ceil(M/BM) x E.
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "gemm_tile.glsl"
layout(push_constant, scalar) uniform Args { RO a; RO b; RO offsets; RW c; xft_grouped_gemm_params p; };

void main() {
    bool accumulate = p.accumulate != 0;
    if (FORM == NT || FORM == NN) {
        uint block = GROUP_Y, e = 0, begin = LOADU(offsets, 0), end = 0;
        for (; e < p.experts; e++) {
            end = LOADU(offsets, e + 1);
            uint blocks = (end - begin + BM - 1) / BM;
            if (block < blocks) break;
            block -= blocks;
            begin = end;
        }
        if (e == p.experts) return;
        gemm_block(a, begin * p.ld_a, p.ld_a, b, e * p.b_rows * p.ld_b, p.ld_b, c, begin * p.ld_c, p.ld_c, end - begin,
                   p.N, p.K, block * BM, GROUP_X * BN, accumulate);
    } else {
        uint e = GROUP_Z, begin = LOADU(offsets, e), end = LOADU(offsets, e + 1);
        if (accumulate && begin == end) return;
        gemm_block(a, begin * p.ld_a, p.ld_a, b, begin * p.ld_b, p.ld_b, c, e * p.M * p.ld_c, p.ld_c, p.M, p.N,
                   end - begin, GROUP_Y * BM, GROUP_X * BN, accumulate);
    }
}
