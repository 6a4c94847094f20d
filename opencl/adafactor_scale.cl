// What one step does to entry e, from RMS(U) = sqrt(sum squares / elements):
//     scale[2e] = lr clip / max(1, RMS(U)), 0 when nothing is to be done;  scale[2e+1] = 1 - lr wd
// squares [E*blocks], scale [2E]. Grid: one work-group per entry.
KERNEL adafactor_scale(RO_ARG(squares), RO_ARG(step), RO_ARG(state), RO_ARG(used), RW_ARG(scale),
                       xft_adafactor_scale_params p) {
    RO(squares); RO(step); RO(state); RO(used); RW(scale);
    __local float red[WG];
    const uint blocks = p.blocks, e = GROUP_X;
    const float elements = p.elements, weight_decay = p.weight_decay;
    bool idle = STATE_SKIP(state) || (HAS_USED != 0 && LOADU(used, e) == 0);
    float sum = 0.0f, lr = STEP_LR(step);
    for (uint i = LOCAL_ID; i < blocks; i += WG) sum += AS_FLOAT(squares[e * blocks + i]);
    sum = WG_SUM(sum, red);
    if (LOCAL_ID != 0) return;
    STORE1(scale, 2 * e, idle ? 0.0f : lr * STATE_CLIP(state) / fmax(1.0f, sqrt(sum / elements)));
    STORE1(scale, 2 * e + 1, 1.0f - lr * weight_decay);
}
