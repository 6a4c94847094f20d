// main() of every form of grouped_gemm: finds the expert and the block of this work-group, then gemm_block computes it.
// Needs gemm_block and BM x BN, the block's size.
// Grid: NT, NN: ceil(N/BN) x (floor(R/BM) + E) x 1; the row blocks walk the offsets, those beyond the last leave early,
// so the host never learns the counts. TN: ceil(N/BN) x ceil(M/BM) x E.
// STRETCHES, a bool of the including file: the device gives each core one contiguous stretch of groups, which shall hold
// its share of the work. NT, NN: the blocks that leave early are spread among the others; TN: the grid is (E * row
// blocks, experts fastest) x ceil(N/BN) x 1.
const bool EXPERTS_FIRST = STRETCHES && FORM == 2;
#define COLUMN_BLOCK (EXPERTS_FIRST ? GROUP_Y : GROUP_X)
#define ROW_BLOCK (EXPERTS_FIRST ? GROUP_X / p.experts : GROUP_Y)
#define EXPERT (EXPERTS_FIRST ? GROUP_X % p.experts : GROUP_Z)
layout(push_constant, scalar) uniform Args { RO a; RO b; RO offsets; RW c; xft_grouped_gemm_params p; };

uint blocks_of(uint e) { return (LOADU(offsets, e + 1) - LOADU(offsets, e) + BM - 1) / BM; }

// The row block that is the turn of `group` where `used` of `all` groups have one; those without get `all`.
uint spread(uint group, uint used, uint all) {
    if (all > 0xffffu) return group;               // the products below would overflow
    uint block = group * used / all;
    return (group + 1) * used / all > block ? block : all;
}

void main() {
    bool accumulate = p.accumulate != 0;
    if (FORM != 2) {
        uint block = ROW_BLOCK, e = 0, begin = LOADU(offsets, 0), end = 0;
        if (STRETCHES) {
            uint used = 0;
            for (uint i = 0; i < p.experts; i++) used += blocks_of(i);
            block = spread(block, used, p.M / BM + p.experts);
        }
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
