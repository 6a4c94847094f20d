// Adafactor for a vector: s = b s + (1-b) (g^2 + 1e-30), U = g / sqrt(s), w = (1 - lr wd) w - lr U / max(1, RMS(U)); g
// with the clip factor, b = 1 - t^-0.8. g, w, s [count]. Grid: one work-group: vectors are short.
KERNEL adafactor_vector(RO_ARG(g), RO_ARG(step), RO_ARG(state), RO_ARG(t), RW_ARG(w), RW_ARG(s),
                        xft_adafactor_vector_params p) {
    RO(g); RO(step); RO(state); RO(t); RW(w); RW(s);
    __local float red[WG];
    const uint count = p.count;
    const float weight_decay = p.weight_decay;
    if (STATE_SKIP(state)) return;
    float rate = adafactor_rate((float)LOADU(t, 0)), clip = STATE_CLIP(state), sum = 0.0f;
    for (uint i = LOCAL_ID; i < count; i += WG) {
        float x = clip * AS_FLOAT(g[i]), moment = (1.0f - rate) * AS_FLOAT(s[i]) + rate * (x * x + 1e-30f);
        STORE1(s, i, moment);
        x *= rsqrt(moment);
        sum += x * x;
    }
    sum = WG_SUM(sum, red);
    float keep = 1.0f - STEP_LR(step) * weight_decay, factor = STEP_LR(step) * clip / fmax(1.0f, sqrt(sum / (float)count));
    for (uint i = LOCAL_ID; i < count; i += WG)
        STORE1(w, i, keep * AS_FLOAT(w[i]) - factor * AS_FLOAT(g[i]) * rsqrt(AS_FLOAT(s[i])));
}
