// Router of a MoE layer: xft.md section 2. Formula, shapes and structure as in shaders/router.comp.
inline float draw_noise(xft_ro noise, uint ld_noise, uint source, uint2 seed, uint step, uint layer, uint first, uint t,
                        uint e) {
    if (source == NOISE_STORED) return LOAD1(noise, t * ld_noise + e, F32);
    uint4 words = philox(seed, RANDOM_ROUTER, step, layer, first + t, e >> 2);
    float2 n = philox_normal2((uint2)((e & 2u) != 0u ? words.z : words.x, (e & 2u) != 0u ? words.w : words.y));
    return (e & 1u) != 0u ? n.y : n.x;
}

KERNEL router(RO_ARG(h), RO_ARG(w2), RO_ARG(noise), RO_ARG(segments), RO_ARG(step_block), RW_ARG(state), RW_ARG(picks),
              RW_ARG(weights), xft_router_params p) {
    RO(h); RO(w2); RO(noise); RO(segments); RO(step_block); RW(state); RW(picks); RW(weights);
    const uint tokens = p.tokens, n = p.routed, k = p.picks, groups = p.groups, layer = p.layer;
    const uint gate = p.gate, mlp = p.mlp, source = p.noise;
    const uint ld_h = p.ld_h, ld_w2 = p.ld_w2, ld_noise = p.ld_noise, ld_state = p.ld_state, ld_picks = p.ld_picks,
               ld_weights = p.ld_weights;
    const float eps = p.noise_epsilon;
    __local float va[WG], vz[WG];
    __local uint keys[WG];
    const uint slots = WG / n, slot = LOCAL_ID / n, e = LOCAL_ID - slot * n;
    const bool lane = slot < slots;
    const uint base = lane ? slot * n : 0;
    const float scale = source != NOISE_NONE ? LOAD1(step_block, 9, F32) : 0.0f;
    const uint2 seed = (uint2)(LOADU(step_block, 1), LOADU(step_block, 2));
    const uint step = LOADU(step_block, 0), first_token = LOADU(step_block, 3);
    for (uint first = GROUP_X * slots; first < tokens; first += groups * slots) {
        const uint t = first + slot;
        const bool mine = lane && t < tokens, valid = mine && LOADU(segments, 4 * t + 3) != 0;
        float a = valid ? LOAD1(h, t * ld_h + e, F32) : 0.0f;
        if (mlp != 0) a = accurate_tanh(a);
        va[LOCAL_ID] = a;
        BARRIER();
        float g = a, s = 0.0f, ds = 0.0f, x = 0.0f;
        if (valid && mlp != 0) {
            g = 0.0f;
            for (uint j = 0; j < n; j++) g += LOAD1(w2, e * ld_w2 + j, F32) * va[base + j];
        }
        if (valid && scale > 0.0f) {
            float y = LOAD1(h, t * ld_h + n + e, F32);
            s = scale * (softplus(y) + eps);
            ds = scale * sigmoid(y);
            x = draw_noise(noise, ld_noise, source, seed, step, layer, first_token, t, e);
        }
        const float z = g + x * s;
        keys[LOCAL_ID] = order_key(z);
        BARRIER();
        const uint rank = rank_of(keys, base, n, e);
        if (lane) vz[base + rank] = z;
        BARRIER();
        const bool counts = gate != GATE_VANILLA || rank < k;
        const float u = counts ? accurate_exp(z - vz[base]) : 0.0f;
        if (lane) va[base + rank] = u;
        BARRIER();
        float rest = 0.0f;
        for (uint j = 1; j < n; j++) rest += va[base + j];
        const float p1 = 1.0f / (1.0f + rest), prob = u / (1.0f + rest);
        float r = prob;
        if (gate == GATE_XFT) {
            const float q = accurate_exp(prob - p1);
            if (lane) vz[base + rank] = q;
            BARRIER();
            float sum = 0.0f;
            for (uint j = 0; j < k; j++) sum += vz[base + j];
            r = p1 * q / sum;
        }
        if (mine) {
            const uint at = t * ld_state + e;
            STORE1(state, at + STATE_A * n, a);
            STORE1(state, at + STATE_G * n, g);
            STORE1(state, at + STATE_S * n, s);
            STORE1(state, at + STATE_N * n, x);
            STORE1(state, at + STATE_Z * n, z);
            STORE1(state, at + STATE_P * n, valid ? prob : 0.0f);
            STORE1(state, at + STATE_DS * n, ds);
            const uint shared_slots = gate == GATE_VANILLA ? 0 : 1;
            if (rank < k) {
                STOREU(picks, t * ld_picks + rank, valid ? e : NONE);
                STORE1(weights, t * ld_weights + shared_slots + rank, valid ? r : 0.0f);
            }
            if (rank == 0 && shared_slots != 0)
                STORE1(weights, t * ld_weights, valid ? rest / (1.0f + rest) : 0.0f);
        }
        BARRIER();
    }
}
