// dw[i] = sum over the rows of chunk i of dy * x * rstd; column_sum then adds the chunks.
// dy, x [rows, cols], rstd [rows], dw [chunks, cols].
// Grid: groups x 1 x 1 over chunks and blocks of 16 WG columns. An invocation owns four quads of columns, WG quads
// apart, so that a work-group reads whole lines and several loads are under way at once.
KERNEL rms_norm_backward_weight(RO_ARG(dy), RO_ARG(x), RO_ARG(rstd), RW_ARG(dw),
        xft_rms_norm_backward_weight_params p) {
    RO(dy); RO(x); RO(rstd); RW(dw);
    const uint rows = p.rows, cols = p.cols, ld_dy = p.ld_dy, ld_x = p.ld_x, ld_dw = p.ld_dw, chunks = p.chunks,
               chunk_rows = p.chunk_rows, groups = p.groups;
    const uint blocks = (cols + 16u * WG - 1u) / (16u * WG);
    for (uint i = GROUP_X; i < blocks * chunks; i += groups) {
        uint chunk = i / blocks, c = (i % blocks) * 16u * WG + 4u * LOCAL_ID;
        uint end = min((chunk + 1u) * chunk_rows, rows);
        float4 sum[4];
        UNROLL for (uint k = 0u; k < 4u; k++) sum[k] = (float4)(0.0f);
        for (uint row = chunk * chunk_rows; row < end; row++) {
            float r = AS_FLOAT(LOADU(rstd, row));
            UNROLL for (uint k = 0u; k < 4u; k++) {
                uint at = c + 4u * k * WG;
                if (at < cols) sum[k] += LOAD4(dy, row * ld_dy + at, DT_DY) * (r * LOAD4(x, row * ld_x + at, DT_X));
            }
        }
        UNROLL for (uint k = 0u; k < 4u; k++)
            if (c + 4u * k * WG < cols) STORE4(dw, chunk * ld_dw + c + 4u * k * WG, sum[k], F32);
    }
}
