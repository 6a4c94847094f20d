// dw[i], db[i] = sums over the rows of chunk i of dy * (x - mean) * rstd and of dy; column_sum then adds the chunks.
// dy, x [rows, cols], stats [rows, 2], dw, db [chunks, cols].
// Grid: groups x 1 x 1 over chunks and blocks of 8 WG columns. An invocation owns two quads of columns, WG quads apart,
// so that a work-group reads whole lines and four loads are under way at once.
KERNEL layer_norm_backward_weight(RO_ARG(dy), RO_ARG(x), RO_ARG(stats), RW_ARG(dw), RW_ARG(db),
        xft_layer_norm_backward_weight_params p) {
    RO(dy); RO(x); RO(stats); RW(dw); RW(db);
    const uint rows = p.rows, cols = p.cols, ld_dy = p.ld_dy, ld_x = p.ld_x, ld_stats = p.ld_stats, ld_dw = p.ld_dw,
               chunks = p.chunks, chunk_rows = p.chunk_rows, groups = p.groups;
    const uint blocks = (cols + 8u * WG - 1u) / (8u * WG);
    for (uint i = GROUP_X; i < blocks * chunks; i += groups) {
        uint chunk = i / blocks, c = (i % blocks) * 8u * WG + 4u * LOCAL_ID;
        uint end = min((chunk + 1u) * chunk_rows, rows);
        float4 sum_w[2], sum_b[2];
        UNROLL for (uint k = 0u; k < 2u; k++) sum_w[k] = sum_b[k] = (float4)(0.0f);
        for (uint row = chunk * chunk_rows; row < end; row++) {
            float2 mr = LOAD2(stats, row * ld_stats, F32);
            UNROLL for (uint k = 0u; k < 2u; k++) {
                uint at = c + 4u * k * WG;
                if (at < cols) {
                    float4 g = LOAD4(dy, row * ld_dy + at, DT_DY);
                    sum_b[k] += g;
                    sum_w[k] += g * (mr.y * (LOAD4(x, row * ld_x + at, DT_X) - mr.x));
                }
            }
        }
        UNROLL for (uint k = 0u; k < 2u; k++)
            if (c + 4u * k * WG < cols) {
                STORE4(dw, chunk * ld_dw + c + 4u * k * WG, sum_w[k], F32);
                STORE4(db, chunk * ld_dw + c + 4u * k * WG, sum_b[k], F32);
            }
    }
}
