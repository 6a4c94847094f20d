// loss[t] = inv_labels (lse - logits[t, label]) with lse = log sum exp(logits[t]), and with p.gradient, in place,
// logits[t] = inv_labels (exp(logits[t] - lse) - onehot(label)). Rows whose label is no column: 0.
// labels u32 [rows], step: the step block, logits [rows, cols], loss f32 [rows]. Grid: groups x 1 x 1, a work-group
// takes every groups-th row. One pass keeps maximum and sum per work-item (online), a second writes the gradient; the
// work-item that meets the label's logit in the first pass writes the loss, so no logit is read after it was changed.
#define LOWEST -3e38f
#define IS_LABEL(c) ((int4)(label - (c)) == (int4)(0, 1, 2, 3))

KERNEL cross_entropy(RO_ARG(labels), RO_ARG(step), RW_ARG(logits), RW_ARG(loss), xft_cross_entropy_params p) {
    RO(labels); RO(step); RW(logits); RW(loss);
    const uint rows = p.rows, cols = p.cols, ld_logits = p.ld_logits, gradient = p.gradient, groups = p.groups;
    __local float red[WG];
    float inv_labels = AS_FLOAT(step[5]);
    for (uint row = GROUP_X; row < rows; row += groups) {
        uint label = labels[row], at = row * ld_logits;
        uint read = label < cols ? cols : 0;
        float m = LOWEST, l = 0.0f, own = 0.0f;
        for (uint c = 4 * LOCAL_ID; c < read; c += 4 * WG) {
            float4 x = LOAD4(logits, at + c, DT_LOGITS);
            if (c + 4 > cols) x = (float4)(x.x, c + 1 < cols ? x.y : LOWEST, c + 2 < cols ? x.z : LOWEST, LOWEST);
            if (label / 4 == c / 4) own = dot(x, select((float4)(0.0f), (float4)(1.0f), IS_LABEL(c)));
            float top = fmax(fmax(fmax(x.x, x.y), fmax(x.z, x.w)), m);
            float4 e = exp(x - top);
            l = l * exp(m - top) + (e.x + e.y) + (e.z + e.w);
            m = top;
        }
        float top = WG_MAX(m, red), lse = top + log(WG_SUM(l * exp(m - top), red));
        if (label / 4 % WG == LOCAL_ID) STORE1(loss, row, read ? inv_labels * (lse - own) : 0.0f);
        for (uint c = 4 * LOCAL_ID; c < cols && gradient; c += 4 * WG) {
            float4 e = (float4)(0.0f);
            if (read) e = exp(LOAD4(logits, at + c, DT_LOGITS) - lse);
            if (label / 4 == c / 4) e -= select((float4)(0.0f), (float4)(1.0f), IS_LABEL(c));
            STORE4(logits, at + c, inv_labels * e, DT_LOGITS);
        }
    }
}
