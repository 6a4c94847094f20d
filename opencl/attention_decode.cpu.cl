// attention_decode on a CPU. Grid: blocks of ROWS query rows x kv_heads x sequences, one work-item each.
// The cache is read once, in order: KEYS keys at a time, each key against every query row of the block, then the same
// keys' values. HEAD_SIZE is a multiple of VW, and the maximum and sum of a row are online as in attention.cl.
#define NV (HEAD_SIZE / VW)
#define KEYS 64u
#define LOWEST -1e30f

inline float top_of(__local const float *x, float top) {
    for (uint i = 0; i < KEYS; i++) top = fmax(top, x[i]);
    return top;
}

KERNEL attention_decode(RO_ARG(q), RO_ARG(k_cache), RO_ARG(v_cache), RO_ARG(lengths), RW_ARG(o),
                        xft_attention_decode_params p) {
    RO(q); RO(k_cache); RO(v_cache); RO(lengths); RW(o);
    const uint ld_k = p.ld_k_cache, ld_v = p.ld_v_cache, ld_q = p.ld_q, ld_o = p.ld_o, new_tokens = p.new_tokens;
    const uint group = p.heads / p.kv_heads, b = GROUP_Z, kv = GROUP_Y, r0 = GROUP_X * ROWS;
    const uint rows = min(new_tokens * group - r0, (uint)ROWS), used = lengths[b], capacity = p.capacity;
    const uint cache = b * capacity, k_col = kv * HEAD_SIZE;
    __local float query[ROWS * HEAD_SIZE], sums[ROWS * HEAD_SIZE], score[ROWS * KEYS], m[ROWS], l[ROWS], fix[ROWS];
    for (uint r = 0; r < ROWS; r++) {
        const uint row = r0 + min(r, rows - 1), t = b * new_tokens + row / group, h = kv * group + row % group;
        for (uint j = 0; j < NV; j++) {
            VSTORE(p.scale * load_lanes(q, t * ld_q + h * HEAD_SIZE + j * VW, DT_Q), 0, query + r * HEAD_SIZE + j * VW);
            VSTORE((FV)(0.0f), 0, sums + r * HEAD_SIZE + j * VW);
        }
        m[r] = LOWEST;
        l[r] = 0.0f;
    }
    const uint end = min(used + (r0 + rows - 1) / group + 1, capacity);
    for (uint k0 = 0; k0 < end; k0 += KEYS) {
        const uint count = min(end - k0, (uint)KEYS);
        for (uint c = 0; c < count; c++) {
            const uint at = (cache + k0 + c) * ld_k + k_col;
            FV x[NV];
            UNROLL for (uint j = 0; j < NV; j++) x[j] = load_lanes(k_cache, at + j * VW, DT_CACHE);
            UNROLL for (uint r = 0; r < ROWS; r++) {
                FV s = x[0] * VLOAD(0, query + r * HEAD_SIZE);
                UNROLL for (uint j = 1; j < NV; j++) s += x[j] * VLOAD(0, query + r * HEAD_SIZE + j * VW);
                score[r * KEYS + c] = sum_of(s);
            }
        }
        for (uint r = 0; r < ROWS; r++) {
            __local float *s = score + r * KEYS;
            const uint seen = min(used + (r0 + min(r, rows - 1)) / group + 1, capacity);
            for (uint c = seen > k0 ? min(seen - k0, (uint)KEYS) : 0; c < KEYS; c++) s[c] = LOWEST;
            const float top = top_of(s, m[r]);
            FV sum = (FV)(0.0f);
            for (uint c = 0; c < KEYS; c += VW) {
                FV e = exp_lanes(VLOAD(0, s + c) - top);
                VSTORE(e, 0, s + c);
                sum += e;
            }
            fix[r] = exp(m[r] - top);
            l[r] = l[r] * fix[r] + sum_of(sum);
            m[r] = top;
        }
        for (uint j = 0; j < HEAD_SIZE; j += VW) {
            FV a[ROWS];
            UNROLL for (uint r = 0; r < ROWS; r++) a[r] = VLOAD(0, sums + r * HEAD_SIZE + j) * fix[r];
            for (uint c = 0; c < count; c++) {
                FV x = load_lanes(v_cache, (cache + k0 + c) * ld_v + k_col + j, DT_CACHE);
                UNROLL for (uint r = 0; r < ROWS; r++) a[r] += score[r * KEYS + c] * x;
            }
            UNROLL for (uint r = 0; r < ROWS; r++) VSTORE(a[r], 0, sums + r * HEAD_SIZE + j);
        }
    }
    for (uint r = 0; r < rows; r++) {
        const uint t = b * new_tokens + (r0 + r) / group, h = kv * group + (r0 + r) % group;
        for (uint d = 0; d < HEAD_SIZE; d += 4)
            STORE4(o, t * ld_o + h * HEAD_SIZE + d, vload4(0, sums + r * HEAD_SIZE + d) / l[r], DT_O);
    }
}
