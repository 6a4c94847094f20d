// cross_entropy on a CPU: one work-item per work-group, wide vectors. Grid: groups x 1 x 1, a work-item takes every
// groups-th row: maximum, sum of exponentials, gradient, a row at a time so that it stays in the cache.
#define LOWEST -3e38f

KERNEL cross_entropy(RO_ARG(labels), RO_ARG(step), RW_ARG(logits), RW_ARG(loss), xft_cross_entropy_params p) {
    RO(labels); RO(step); RW(logits); RW(loss);
    const uint rows = p.rows, cols = p.cols, ld_logits = p.ld_logits, gradient = p.gradient, groups = p.groups;
    const uint full = cols / VW * VW; // the columns that fill vectors
    const float inv_labels = AS_FLOAT(step[5]);
    __local float lanes[VW];
    for (uint row = GROUP_X; row < rows; row += groups) {
        const uint label = labels[row], at = row * ld_logits, hot = label / VW * VW;
        if (label >= cols) {
            STORE1(loss, row, 0.0f);
            for (uint c = 0; c < full && gradient; c += VW) store_lanes(logits, at + c, (FV)(0.0f), DT_LOGITS);
            for (uint c = full; c < cols && gradient; c += 2) STORE2(logits, at + c, (float2)(0.0f), DT_LOGITS);
            continue;
        }
        FV top_even = (FV)(LOWEST), top_odd = (FV)(LOWEST), sum = (FV)(0.0f);
        uint c = 0;
        for (; c + 2 * VW <= full; c += 2 * VW) {
            top_even = fmax(top_even, load_lanes(logits, at + c, DT_LOGITS));
            top_odd = fmax(top_odd, load_lanes(logits, at + c + VW, DT_LOGITS));
        }
        if (c < full) top_even = fmax(top_even, load_lanes(logits, at + c, DT_LOGITS));
        VSTORE(fmax(top_even, top_odd), 0, lanes);
        float top = LOWEST;
        for (uint i = 0; i < VW; i++) top = fmax(top, lanes[i]);
        for (uint i = full; i < cols; i++) top = fmax(top, LOAD1(logits, at + i, DT_LOGITS));
        for (uint i = 0; i < full; i += VW) sum += exp_lanes(load_lanes(logits, at + i, DT_LOGITS) - top);
        float total = sum_of(sum);
        for (uint i = full; i < cols; i++) total += exp(LOAD1(logits, at + i, DT_LOGITS) - top);
        const float lse = top + log(total);
        STORE1(loss, row, inv_labels * (lse - LOAD1(logits, at + label, DT_LOGITS)));
        if (!gradient) continue;
        for (uint i = 0; i < full; i += VW) {
            FV e = exp_lanes(load_lanes(logits, at + i, DT_LOGITS) - lse);
            if (i == hot) {
                VSTORE(e, 0, lanes);
                lanes[label - hot] -= 1.0f;
                e = VLOAD(0, lanes);
            }
            store_lanes(logits, at + i, inv_labels * e, DT_LOGITS);
        }
        for (uint i = full; i < cols; i += 2) {
            float2 e = exp(LOAD2(logits, at + i, DT_LOGITS) - lse);
            e -= (float2)(i == label ? 1.0f : 0.0f, i + 1 == label ? 1.0f : 0.0f);
            STORE2(logits, at + i, inv_labels * e, DT_LOGITS);
        }
    }
}
