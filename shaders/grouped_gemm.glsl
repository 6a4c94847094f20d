// main() of every form of grouped_gemm: finds the expert and the block of this work-group, then gemm_block computes it.
// Needs gemm_block and BM x BN, the block's size.
// Grid: NT, NN: ceil(N/BN) x (floor(R/BM) + E) x 1; the row blocks walk the offsets, those beyond the last leave early,
// so the host never learns the counts. TN: ceil(N/BN) x ceil(M/BM) x E.
// With ROWS_FIRST, a bool of the including file, the first dimension is what differs in work, and columns are the second:
// NT, NN: row blocks; TN: E * row blocks, experts fastest.
#define COLUMN_BLOCK (ROWS_FIRST ? GROUP_Y : GROUP_X)
#define ROW_BLOCK (!ROWS_FIRST ? GROUP_Y : FORM != 2 ? GROUP_X : GROUP_X / p.experts)
#define EXPERT (ROWS_FIRST ? GROUP_X % p.experts : GROUP_Z)
layout(push_constant, scalar) uniform Args { RO a; RO b; RO offsets; RW c; xft_grouped_gemm_params p; };

void main() {
    bool accumulate = p.accumulate != 0;
    if (FORM != 2) {
        uint block = ROW_BLOCK, e = 0, begin = LOADU(offsets, 0), end = 0;
        for (; e < p.experts; e++) {
            end = LOADU(offsets, e + 1);
            uint blocks = (end - begin + BM - 1) / BM;
            if (block < blocks) break;
            block -= blocks;
            begin = end;
        }
        if (e == p.experts) return;
        gemm_block(a, begin * p.ld_a, p.ld_a, b, e * p.b_rows * p.ld_b, p.ld_b, c, begin * p.ld_c, p.ld_c, end - begin,
                   p.N, p.K, block * BM, COLUMN_BLOCK * BN, accumulate);
    } else {
        uint e = EXPERT, begin = LOADU(offsets, e), end = LOADU(offsets, e + 1);
        if (accumulate && begin == end) return;
        gemm_block(a, begin * p.ld_a, p.ld_a, b, begin * p.ld_b, p.ld_b, c, e * p.M * p.ld_c, p.ld_c, p.M, p.N,
                   end - begin, ROW_BLOCK * BM, COLUMN_BLOCK * BN, accumulate);
    }
}
