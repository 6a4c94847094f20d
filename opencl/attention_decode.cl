// o = softmax(scale q k_cache^T) v_cache for new_tokens queries of each sequence; query i of sequence b sees the cache
// rows 0 … lengths[b] + i. q, o [sequences * new_tokens, heads * D], caches [sequences, capacity, kv_heads * D],
// lengths u32 [sequences]. Grid: blocks of ROWS query rows x kv_heads x sequences.
// The rows that meet one key/value head (new_tokens x heads of its group) are worked on together, so each cache row is
// read once for up to ROWS of them. A work-item takes whole keys for the scores, then one quad of the head and every
// KG-th key for the sums: both read whole cache lines. WG keys per round, softmax online as in attention.cl.
#define DQ ((HEAD_SIZE + 3u) / 4u) // quads of a head
#define KG (WG / DQ)               // keys at once in the sums
#define LANES (WG / ROWS)          // work-items per row in the softmax
#define LOWEST -1e30f

SUBGROUPS KERNEL attention_decode(RO_ARG(q), RO_ARG(k_cache), RO_ARG(v_cache), RO_ARG(lengths), RW_ARG(o),
                        xft_attention_decode_params p) {
    RO(q); RO(k_cache); RO(v_cache); RO(lengths); RW(o);
    const uint new_tokens = p.new_tokens, capacity = p.capacity, ld_q = p.ld_q, ld_o = p.ld_o;
    const uint ld_k_cache = p.ld_k_cache, ld_v_cache = p.ld_v_cache, group = p.heads / p.kv_heads;
    const float scale = p.scale;
    __local float4 stage[ROWS * DQ > WG ? ROWS * DQ : WG]; // the queries; at the end the parts of the sums
    __local float score[ROWS * WG], meet[WG], factor[ROWS];
    uint b = GROUP_Z, kv = GROUP_Y, r0 = GROUP_X * ROWS, all_rows = new_tokens * group;
    uint used = lengths[b], cache = b * capacity, k_col = kv * HEAD_SIZE;
    for (uint i = LOCAL_ID; i < ROWS * DQ; i += WG) {
        uint r = min(r0 + i / DQ, all_rows - 1u), t = b * new_tokens + r / group, h = kv * group + r % group;
        stage[i] = scale * HEAD4(q, t * ld_q + h * HEAD_SIZE, 4u * (i % DQ), DT_Q);
    }
    BARRIER();
    uint row = LOCAL_ID / LANES, lane = LOCAL_ID % LANES, quad = LOCAL_ID % DQ, kg = LOCAL_ID / DQ;
    uint seen = min(used + min(r0 + row, all_rows - 1u) / group + 1u, capacity);
    uint end = min(used + (min(r0 + ROWS, all_rows) - 1u) / group + 1u, capacity);
    float m = LOWEST, l = 0.0f, s[ROWS];
    float4 sums[ROWS];
    UNROLL for (uint r = 0; r < ROWS; r++) sums[r] = (float4)(0.0f);
    for (uint k0 = 0; k0 < end; k0 += WG) {
        uint key = k0 + LOCAL_ID;
        UNROLL for (uint r = 0; r < ROWS; r++) s[r] = 0.0f;
        if (key < end)
            for (uint d = 0; d < DQ; d++) {
                float4 x = HEAD4(k_cache, (cache + key) * ld_k_cache + k_col, 4u * d, DT_CACHE);
                UNROLL for (uint r = 0; r < ROWS; r++) s[r] += dot(x, stage[r * DQ + d]);
            }
        BARRIER();
        UNROLL for (uint r = 0; r < ROWS; r++) score[r * WG + LOCAL_ID] = s[r];
        BARRIER();
        float top = m;
        for (uint c = lane; c < WG && k0 + c < seen; c += LANES) top = fmax(top, score[row * WG + c]);
        meet[LOCAL_ID] = top;
        BARRIER();
        for (uint i = 0; i < LANES; i++) top = fmax(top, meet[row * LANES + i]);
        float fix = exp(m - top);
        l *= fix;
        m = top;
        for (uint c = lane; c < WG; c += LANES) {
            float e = k0 + c < seen ? exp(score[row * WG + c] - top) : 0.0f;
            score[row * WG + c] = e;
            l += e;
        }
        if (lane == 0) factor[row] = fix;
        BARRIER();
        UNROLL for (uint r = 0; r < ROWS; r++) sums[r] *= factor[r];
        if (kg < KG)
            for (uint c = kg; c < WG && k0 + c < end; c += KG) {
                float4 x = HEAD4(v_cache, (cache + k0 + c) * ld_v_cache + k_col, 4u * quad, DT_CACHE);
                UNROLL for (uint r = 0; r < ROWS; r++) sums[r] += score[r * WG + c] * x;
            }
    }
    BARRIER();
    meet[LOCAL_ID] = l;
    BARRIER();
    if (lane == 0) {
        float sum = 0.0f;
        for (uint i = 0; i < LANES; i++) sum += meet[row * LANES + i];
        factor[row] = 1.0f / sum;
    }
    UNROLL for (uint r = 0; r < ROWS; r++) {
        BARRIER();
        stage[LOCAL_ID] = sums[r];
        BARRIER();
        if (LOCAL_ID < DQ && r0 + r < all_rows) {
            float4 x = (float4)(0.0f);
            for (uint i = 0; i < KG; i++) x += stage[i * DQ + LOCAL_ID];
            uint t = b * new_tokens + (r0 + r) / group, h = kv * group + (r0 + r) % group;
            STORE_HEAD4(o, t * ld_o + h * HEAD_SIZE, 4u * LOCAL_ID, factor[r] * x, DT_O);
        }
    }
}
