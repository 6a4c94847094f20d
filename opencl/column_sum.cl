// y[i] = or += sum of the rows of x in chunk i (chunk_rows each, the last may be shorter or empty).
// x [rows, cols], y [chunks, cols]. A second pass, with one chunk over the y of the first, gives the sum of all rows.
// Grid: groups x 1 x 1 over chunks and blocks of 16 WG columns. An invocation owns four quads of columns, WG quads
// apart, so that a work-group reads whole lines and four loads are under way at once.
KERNEL column_sum(RO_ARG(x), RW_ARG(y), xft_column_sum_params p) {
    RO(x); RW(y);
    const uint rows = p.rows, cols = p.cols, ld_x = p.ld_x, ld_y = p.ld_y, chunks = p.chunks,
               chunk_rows = p.chunk_rows, accumulate = p.accumulate, groups = p.groups;
    const uint blocks = (cols + 16u * WG - 1u) / (16u * WG);
    for (uint i = GROUP_X; i < blocks * chunks; i += groups) {
        uint chunk = i / blocks, c = (i % blocks) * 16u * WG + 4u * LOCAL_ID;
        uint end = min((chunk + 1u) * chunk_rows, rows);
        float4 sum[4];
        UNROLL for (uint k = 0u; k < 4u; k++) sum[k] = (float4)(0.0f);
        for (uint row = chunk * chunk_rows; row < end; row++)
            UNROLL for (uint k = 0u; k < 4u; k++)
                if (c + 4u * k * WG < cols) sum[k] += LOAD4(x, row * ld_x + c + 4u * k * WG, DT_X);
        UNROLL for (uint k = 0u; k < 4u; k++)
            if (c + 4u * k * WG < cols) {
                uint at = chunk * ld_y + c + 4u * k * WG;
                if (accumulate != 0u) sum[k] += TAKE4(y, at, F32);
                STORE4(y, at, sum[k], F32);
            }
    }
}
