// Balance loss and its coefficients; as in shaders/router_balance.comp.
KERNEL router_balance(RO_ARG(partial_sums), RO_ARG(step_block), RW_ARG(stats), RW_ARG(coefficients), RW_ARG(loss),
                      xft_router_balance_params p) {
    RO(partial_sums); RO(step_block); RW(stats); RW(coefficients); RW(loss);
    const uint n = p.routed, chunks = p.chunks, ld_partial = p.ld_partial, ld_stats = p.ld_stats;
    const uint ld_coefficients = p.ld_coefficients;
    const float scale = LOAD1(step_block, 6, F32) * p.balance_weight;
    __local float sums[192];
    for (uint i = LOCAL_ID; i < 3 * n; i += WG) {
        float sum = 0.0f;
        for (uint c = 0; c < chunks; c++) sum += LOAD1(partial_sums, c * ld_partial + i, F32);
        sums[i] = sum;
        const uint part = i / n;
        STORE1(stats, part * ld_stats + i - part * n, sum);
    }
    BARRIER();
    float total = 0.0f;
    for (uint part = 0; part < 2; part++) {
        float mean = 0.0f, var = 0.0f;
        for (uint i = 0; i < n; i++) mean += sums[part * n + i];
        mean /= (float)n;
        for (uint i = 0; i < n; i++) {
            const float d = sums[part * n + i] - mean;
            var += d * d;
        }
        const float others = (float)(max(n, 2u) - 1), D = mean * mean + 1e-10f;
        var /= others;
        total += var / D;
        for (uint i = LOCAL_ID; i < n; i += WG) {
            const float d = sums[part * n + i] - mean;
            const float slope = 2.0f * d / (others * D) - 2.0f * (mean / D) * (var / D) / (float)n;
            STORE1(coefficients, part * ld_coefficients + i, scale * slope);
        }
    }
    if (LOCAL_ID == 0) STORE1(loss, 0, AS_FLOAT(TAKEU(loss, 0)) + scale * total);
}
