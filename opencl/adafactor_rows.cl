// Squares of a gradient along both its dimensions, in one reading:
//     rows[e,n] = sum_k g[e,n,k]^2          partial[e,b,k] = sum over the 16 rows n of block b of g[e,n,k]^2
// g [E, rows, cols]; rows [E*rows]; partial [E, blocks, cols], unpadded. Grid: (blocks, E).
// A work-group sweeps its 16 rows in strips of 4 WG columns: a work-item owns a quad of columns, whose sums it keeps;
// the sums of its quads along the rows meet in local memory, once per strip.
#define BLOCK 16u
KERNEL adafactor_rows(RO_ARG(g), RW_ARG(rows), RW_ARG(partial), xft_adafactor_rows_params p) {
    RO(g); RW(rows); RW(partial);
    __local float quads[BLOCK * WG];
    const uint n_rows = p.rows, cols = p.cols, ld_g = p.ld_g, blocks = p.blocks;
    uint first = GROUP_X * BLOCK, count = min(BLOCK, n_rows - first), base = GROUP_Y * n_rows + first;
    uint to = (GROUP_Y * blocks + GROUP_X) * cols;
    float row_sum = 0.0f;
    for (uint strip = 0; strip < cols; strip += 4 * WG) {
        uint c = strip + 4 * LOCAL_ID;
        float4 sum = (float4)0.0f;
        __attribute__((opencl_unroll_hint(4))) for (uint r = 0; r < BLOCK; r++) {
            float4 x = (float4)0.0f;
            if (r < count && c < cols) x = KEEP4(LOAD4(g, (base + r) * ld_g + c, DT_G), cols - c);
            x *= x;
            sum += x;
            quads[r * WG + LOCAL_ID] = x.x + x.y + (x.z + x.w);
        }
        BARRIER();
        if (LOCAL_ID < BLOCK)
            for (uint i = 0; i < WG; i++) row_sum += quads[LOCAL_ID * WG + (i + LOCAL_ID) % WG];
        BARRIER();
        if (c < cols) STORE1(partial, to + c, sum.x);
        if (c + 1 < cols) STORE1(partial, to + c + 1, sum.y);
        if (c + 2 < cols) STORE1(partial, to + c + 2, sum.z);
        if (c + 3 < cols) STORE1(partial, to + c + 3, sum.w);
    }
    if (LOCAL_ID < count) STORE1(rows, base + LOCAL_ID, row_sum);
}
