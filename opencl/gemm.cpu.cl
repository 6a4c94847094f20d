// gemm on a CPU: see opencl/gemm_cpu.clh. Grid: row blocks x column blocks, rows fastest, one work-item each; the host
// names the size of a block, so that there are several for every core.
KERNEL gemm(RO_ARG(a), RO_ARG(b), RW_ARG(c), xft_gemm_params p) {
    RO(a); RO(b); RW(c);
    CPU_TILE(a_pack, b_pack, partial);
    const gemm_operands g = {a, b, c, 0, 0, 0, p.ld_a, p.ld_b, p.ld_c, p.M, p.N, p.K, p.accumulate};
    const uint row0 = GROUP_X * p.block_rows, col0 = GROUP_Y * p.block_columns;
    cpu_block(&g, row0, min(g.M - row0, p.block_rows), col0, min(g.N, col0 + p.block_columns), a_pack, b_pack, partial);
}
