// Second moments of every entry e, b = 1 - t^-0.8:
//     r = b r + (1-b) (clip^2 rows / cols + 1e-30);  c = b c + (1-b) (clip^2 columns / rows + 1e-30);  mean = mean of r
// rows [E*rows], columns [E, cols]; r [E, rows], c [E, cols], mean [E]. Grid: (2, E); x = 0: r and its mean, 1: c.
// A skipped step and an unused entry leave r and c as they are.
KERNEL adafactor_moments(RO_ARG(rows), RO_ARG(columns), RO_ARG(state), RO_ARG(t), RO_ARG(used), RW_ARG(r), RW_ARG(c),
                         RW_ARG(mean), xft_adafactor_moments_params p) {
    RO(rows); RO(columns); RO(state); RO(t); RO(used); RW(r); RW(c); RW(mean);
    __local float red[WG];
    const uint n_rows = p.rows, cols = p.cols, ld_r = p.ld_r, ld_c = p.ld_c, e = GROUP_Y;
    if (STATE_SKIP(state) || (HAS_USED != 0 && LOADU(used, e) == 0)) return;
    float rate = adafactor_rate((float)LOADU(t, e)), clip = STATE_CLIP(state);
    if (GROUP_X == 0) {
        float sum = 0.0f, scale = clip * clip / (float)cols;
        for (uint i = LOCAL_ID; i < n_rows; i += WG) {
            uint at = e * ld_r + i;
            float old = AS_FLOAT(r[at]);
            float new_ = (1.0f - rate) * old + rate * (scale * AS_FLOAT(rows[e * n_rows + i]) + 1e-30f);
            STORE1(r, at, new_);
            sum += new_;
        }
        sum = WG_SUM(sum, red);
        if (LOCAL_ID == 0) STORE1(mean, e, sum / (float)n_rows);
    } else {
        float scale = clip * clip / (float)n_rows;
        for (uint i = LOCAL_ID; i < cols; i += WG) {
            uint at = e * ld_c + i;
            float old = AS_FLOAT(c[at]);
            STORE1(c, at, (1.0f - rate) * old + rate * (scale * AS_FLOAT(columns[at]) + 1e-30f));
        }
    }
}
