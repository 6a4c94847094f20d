// grouped_gemm on a CPU: see opencl/gemm_cpu.clh. Grid: NT, NN: (floor(R/rows) + E) x column blocks, walking the offsets;
// TN: (E * row blocks) x column blocks, experts fastest. The first dimension is what differs in work (full blocks,
// empty ones, a busy expert): drivers hand out contiguous stretches of groups, and so each core gets some of all.
KERNEL grouped_gemm(RO_ARG(a), RO_ARG(b), RO_ARG(offsets), RW_ARG(c), xft_grouped_gemm_params p) {
    RO(a); RO(b); RO(offsets); RW(c);
    CPU_TILE(a_pack, b_pack, partial);
    gemm_operands g = {a, b, c, 0, 0, 0, p.ld_a, p.ld_b, p.ld_c, p.M, p.N, p.K, p.accumulate};
    const uint experts = p.experts, size = p.block_rows, col0 = GROUP_Y * p.block_columns;
#if FORM == 2
    const uint e = GROUP_X % experts, block = GROUP_X / experts, begin = LOADU(offsets, e);
    g.K = LOADU(offsets, e + 1) - begin;
    if (g.accumulate && g.K == 0) return;
    g.b_at = begin * g.ld_b;
    g.c_at = e * g.M * g.ld_c;
#else
    uint block = GROUP_X, e = 0, begin = LOADU(offsets, 0);
    for (; e < experts; e++) {
        g.M = LOADU(offsets, e + 1) - begin;
        const uint blocks = (g.M + size - 1) / size;
        if (block < blocks) break;
        block -= blocks;
        begin += g.M;
    }
    if (e == experts) return;
    g.b_at = e * p.b_rows * g.ld_b;
    g.c_at = begin * g.ld_c;
#endif
    g.a_at = begin * g.ld_a;
    const uint row0 = block * size;
    cpu_block(&g, row0, min(g.M - row0, size), col0, min(g.N, col0 + p.block_columns), a_pack, b_pack, partial);
}
