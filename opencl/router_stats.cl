// Sums of the balance loss over a stretch of tokens; as in shaders/router_stats.comp.
KERNEL router_stats(RO_ARG(state), RO_ARG(segments), RW_ARG(partial_sums), xft_router_stats_params p) {
    RO(state); RO(segments); RW(partial_sums);
    const uint tokens = p.tokens, n = p.routed, k = p.picks, official = p.official, stretch = p.stretch;
    const uint ld_state = p.ld_state, ld_partial = p.ld_partial;
    __local float vz[WG];
    __local uint keys[WG];
    const uint slots = WG / n, slot = LOCAL_ID / n, e = LOCAL_ID - slot * n;
    const bool lane = slot < slots;
    const uint base = lane ? slot * n : 0;
    const uint begin = GROUP_X * stretch, end = min(begin + stretch, tokens);
    float importance = 0.0f, load = 0.0f, picked = 0.0f;
    for (uint first = begin; first < end; first += slots) {
        const uint t = first + slot, at = t * ld_state + e;
        const bool valid = lane && t < end && LOADU(segments, 4 * t + 3) != 0;
        const float z = valid ? LOAD1(state, at + STATE_Z * n, F32) : 0.0f;
        const float s = valid ? LOAD1(state, at + STATE_S * n, F32) : 0.0f;
        keys[LOCAL_ID] = order_key(z);
        BARRIER();
        const uint rank = rank_of(keys, base, n, e);
        if (lane) vz[base + rank] = z;
        BARRIER();
        if (valid) {
            const float chosen = rank < k ? 1.0f : 0.0f;
            importance += chosen * LOAD1(state, at + STATE_P * n, F32);
            picked += chosen;
            if (s > 0.0f && k < n) {
                const float x = official != 0 ? LOAD1(state, at + STATE_N * n, F32) * s : z;
                const float threshold = x > vz[base + k] ? vz[base + k] : vz[base + k - 1];
                load += normal_cdf((LOAD1(state, at + STATE_G * n, F32) - threshold) / s);
            } else {
                load += chosen;
            }
        }
        BARRIER();
    }
    for (uint part = 0; part < 3; part++) {
        vz[LOCAL_ID] = part == 0 ? importance : part == 1 ? load : picked;
        BARRIER();
        if (slot == 0) {
            float sum = 0.0f;
            for (uint i = 0; i < slots; i++) sum += vz[i * n + e];
            STORE1(partial_sums, GROUP_X * ld_partial + part * n + e, sum);
        }
        BARRIER();
    }
}
