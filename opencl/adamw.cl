// Decoupled AdamW on a matrix, or on every entry of a stack of them:
//     w -= lr wd w;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;
//     w -= lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)          g: the gradient times the clip factor
// g, w, m, v, master [rows, cols]; row / entry_rows is the entry, with its own t and used. Nothing is touched in a
// skipped step and in an entry that was not used. With a master w is it rounded to nearest.
// Grid: groups, a work-group per row, striding; work-items take quads.
KERNEL adamw(RO_ARG(g), RO_ARG(step), RO_ARG(state), RO_ARG(t), RO_ARG(used), RW_ARG(w), RW_ARG(m), RW_ARG(v),
             RW_ARG(master), xft_adamw_params p) {
    RO(g); RO(step); RO(state); RO(t); RO(used); RW(w); RW(m); RW(v); RW(master);
    const uint rows = p.rows, cols = p.cols, entry_rows = p.entry_rows, ld_g = p.ld_g, ld_w = p.ld_w, ld_m = p.ld_m;
    const float beta1 = p.beta1, beta2 = p.beta2, log_beta1 = p.log_beta1, log_beta2 = p.log_beta2, eps = p.eps;
    const float weight_decay = p.weight_decay;
    const uint key = p.key, groups = p.groups;
    if (STATE_SKIP(state)) return;
    float lr = STEP_LR(step), clip = STATE_CLIP(state);
    for (uint row = GROUP_X; row < rows; row += groups) {
        uint entry = row / entry_rows;
        if (HAS_USED != 0 && LOADU(used, entry) == 0) continue;
        float time = (float)LOADU(t, entry);
        float rate = lr / one_minus_power(log_beta1, time), unbias = 1.0f / one_minus_power(log_beta2, time);
        for (uint c = 4 * LOCAL_ID; c < cols; c += 4 * WG) {
            uint at = row * ld_m + c, at_w = row * ld_w + c;
            float4 grad = clip * LOAD4(g, row * ld_g + c, DT_G);
            float4 m1 = TAKE4(m, at, F32), v1 = TAKE4(v, at, F32);
            m1 += (1.0f - beta1) * (grad - m1);
            v1 = beta2 * v1 + (1.0f - beta2) * grad * grad;
            float4 x = MASTER != 0 ? TAKE4(master, at, F32) : TAKE4(w, at_w, DT_W);
            x -= lr * weight_decay * x;
            x -= rate * m1 / (sqrt(v1 * unbias) + eps);
            STORE4(m, at, m1, F32);
            STORE4(v, at, v1, F32);
            if (MASTER != 0) STORE4(master, at, x, F32);
            if (STOCHASTIC != 0)
                STOREU2(w, at_w >> 1, philox_bf16_quad(
                    x, philox(STEP_SEED(step), RANDOM_ROUNDING, STEP_STEP(step), key, row, c >> 2)));
            else STORE4(w, at_w, x, DT_W);
        }
    }
}
