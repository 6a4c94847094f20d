// Backward of router and balance loss: xft.md section 4. Formula, shapes and structure as in
// shaders/router_backward.comp.
inline float sum_of(__local const float *v, uint base, uint count) {
    float sum = 0.0f;
    for (uint j = 0; j < count; j++) sum += v[base + j];
    return sum;
}

KERNEL router_backward(RO_ARG(dots), RO_ARG(inverse_rows), RO_ARG(state), RO_ARG(w2), RO_ARG(coefficients),
                       RO_ARG(segments), RW_ARG(dh), RW_ARG(dg), xft_router_backward_params p) {
    RO(dots); RO(inverse_rows); RO(state); RO(w2); RO(coefficients); RO(segments); RW(dh); RW(dg);
    const uint tokens = p.tokens, n = p.routed, k = p.picks, groups = p.groups;
    const uint gate = p.gate, mlp = p.mlp, noisy = p.noisy, official = p.official;
    const uint ld_inverse = p.ld_inverse, ld_state = p.ld_state, ld_w2 = p.ld_w2, ld_coefficients = p.ld_coefficients;
    const uint ld_dh = p.ld_dh, ld_dg = p.ld_dg;
    __local float va[WG], vb[WG];
    __local uint keys[WG];
    const uint slots = WG / n, slot = LOCAL_ID / n, e = LOCAL_ID - slot * n;
    const bool lane = slot < slots;
    const uint base = lane ? slot * n : 0, shared_slots = gate == GATE_VANILLA ? 0 : 1;
    for (uint first = GROUP_X * slots; first < tokens; first += groups * slots) {
        const uint t = first + slot, at = t * ld_state + e, rows = t * ld_inverse;
        const bool mine = lane && t < tokens, valid = mine && LOADU(segments, 4 * t + 3) != 0;
        const float z = valid ? LOAD1(state, at + STATE_Z * n, F32) : 0.0f;
        const float prob = valid ? LOAD1(state, at + STATE_P * n, F32) : 0.0f;
        keys[LOCAL_ID] = order_key(z);
        BARRIER();
        const uint rank = rank_of(keys, base, n, e);
        if (lane) { va[base + rank] = prob; vb[base + rank] = z; }
        BARRIER();
        const float p1 = va[base], last = vb[base + k - 1], next = k < n ? vb[base + k] : 0.0f;
        const float u = valid && rank < k ? LOAD1(dots, LOADU(inverse_rows, rows + shared_slots + rank), F32) : 0.0f;
        const float u0 = valid && shared_slots != 0 ? LOAD1(dots, LOADU(inverse_rows, rows), F32) : 0.0f;
        float dp = u - (rank == 0 ? u0 : 0.0f);
        if (gate == GATE_XFT) {
            const float q = accurate_exp(prob - p1);
            BARRIER();
            if (lane) { va[base + rank] = q; vb[base + rank] = q * u; }
            BARRIER();
            const float sum = sum_of(va, base, k), ubar = sum_of(vb, base, k) / sum;
            dp = p1 * q / sum * (u - ubar) + (rank == 0 ? ubar - u0 : 0.0f);
        }
        dp = valid && rank < k ? dp + LOAD1(coefficients, e, F32) : 0.0f;
        BARRIER();
        if (lane) va[base + rank] = prob * dp;
        BARRIER();
        float dz = prob * (dp - sum_of(va, base, k));
        float f = 0.0f, x = 0.0f;
        const float s = valid ? LOAD1(state, at + STATE_S * n, F32) : 0.0f;
        const float noise = valid ? LOAD1(state, at + STATE_N * n, F32) : 0.0f;
        if (k < n) {
            const bool inside = (official != 0 ? noise * s : z) > next;
            if (s > 0.0f) {
                x = (LOAD1(state, at + STATE_G * n, F32) - (inside ? next : last)) / s;
                f = LOAD1(coefficients, ld_coefficients + e, F32) * normal_pdf(x) / s;
            }
            BARRIER();
            if (lane) { va[base + e] = inside ? f : 0.0f; vb[base + e] = inside ? 0.0f : f; }
            BARRIER();
            if (rank == k) dz -= sum_of(va, base, n);
            if (rank == k - 1) dz -= sum_of(vb, base, n);
        }
        const float d_g = dz + f;
        BARRIER();
        va[LOCAL_ID] = d_g;
        BARRIER();
        float d_h = d_g;
        if (valid && mlp != 0) {
            const float a = LOAD1(state, at + STATE_A * n, F32);
            d_h = 0.0f;
            for (uint j = 0; j < n; j++) d_h += LOAD1(w2, j * ld_w2 + e, F32) * va[base + j];
            d_h *= (1.0f - a) * (1.0f + a);
        }
        if (mine) {
            STORE1(dg, t * ld_dg + e, valid ? d_g : 0.0f);
            STORE1(dh, t * ld_dh + e, valid ? d_h : 0.0f);
            if (noisy != 0) {
                const float slope = valid ? LOAD1(state, at + STATE_DS * n, F32) : 0.0f;
                STORE1(dh, t * ld_dh + n + e, (noise * dz - f * x) * slope);
            }
        }
        BARRIER();
    }
}
