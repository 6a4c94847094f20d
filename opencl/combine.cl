// y[t,:] = or += sum_j weights[t,j] x[inverse[t,j],:]; as in shaders/combine.comp.
KERNEL combine(RO_ARG(x), RO_ARG(inverse_rows), RO_ARG(weights), RW_ARG(y), xft_combine_params p) {
    RO(x); RO(inverse_rows); RO(weights); RW(y);
    const uint tokens = p.tokens, cols = p.cols, slots = p.slots, weighted = p.weighted, accumulate = p.accumulate;
    const uint ld_x = p.ld_x, ld_inverse = p.ld_inverse, ld_weights = p.ld_weights, ld_y = p.ld_y, groups = p.groups;
    for (uint t = GROUP_X; t < tokens; t += groups) {
        for (uint c = 4 * LOCAL_ID; c < cols; c += 4 * WG) {
            float4 sum = 0.0f;
            for (uint j = 0; j < slots; j++) {
                const uint row = LOADU(inverse_rows, t * ld_inverse + j);
                if (row == NONE) continue;
                const float weight = weighted != 0 ? LOAD1(weights, t * ld_weights + j, F32) : 1.0f;
                sum += weight * LOAD4(x, row * ld_x + c, DT_X);
            }
            if (accumulate != 0) sum += TAKE4(y, t * ld_y + c, DT_Y);
            STORE4(y, t * ld_y + c, sum, DT_Y);
        }
    }
}
