// columns[e,k] = sum_b partial[e,b,k].  partial [E, blocks, cols] unpadded; columns [E, cols]. Grid: (groups, E); a
// work-item sums one column.
KERNEL adafactor_columns(RO_ARG(partial), RW_ARG(columns), xft_adafactor_columns_params p) {
    RO(partial); RW(columns);
    const uint blocks = p.blocks, cols = p.cols, ld_columns = p.ld_columns, groups = p.groups;
    for (uint k = GROUP_X * WG + LOCAL_ID; k < cols; k += groups * WG) {
        float sum = 0.0f;
        for (uint b = 0; b < blocks; b++) sum += AS_FLOAT(partial[(GROUP_Y * blocks + b) * cols + k]);
        STORE1(columns, GROUP_Y * ld_columns + k, sum);
    }
}
