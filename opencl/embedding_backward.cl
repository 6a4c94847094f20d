// dw[v] += sum over the t with ids[t] = v of dy[t].  ids [rows], dy [rows, cols], dw [vocabulary, cols].
// Grid: groups x 1 x 1 over the tokens. Without atomics: the work-group of a token goes on only if no earlier token has
// the same id; it then finds the later ones, one after the other, and adds their rows, so every row of dw has one owner
// and one order, and is rounded once. For a search every work-item looks at its share of the ids, four at a time.

// The first i in [begin, end) with ids[i] = id, the same for all; NONE if there is none or `wanted` is false. Every
// work-item must call.
inline uint find(xft_ro ids, uint id, uint begin, uint end, bool wanted, __local uint *nearest) {
    uint found = NONE;
    for (uint i = (begin & ~3u) + 4u * LOCAL_ID; wanted && found == NONE && i < end; i += 4u * WG) {
        uint4 q = LOADU4(ids, i);
        if (q.w == id && i + 3u >= begin && i + 3u < end) found = i + 3u;
        if (q.z == id && i + 2u >= begin && i + 2u < end) found = i + 2u;
        if (q.y == id && i + 1u >= begin && i + 1u < end) found = i + 1u;
        if (q.x == id && i >= begin) found = i;
    }
    nearest[LOCAL_ID] = found;
    BARRIER();
    for (uint s = WG / 2u; s > 0u; s >>= 1) {
        if (LOCAL_ID < s) nearest[LOCAL_ID] = min(nearest[LOCAL_ID], nearest[LOCAL_ID + s]);
        BARRIER();
    }
    found = nearest[0];
    BARRIER();
    return found;
}

KERNEL embedding_backward(RO_ARG(ids), RO_ARG(dy), RW_ARG(dw), xft_embedding_backward_params p) {
    RO(ids); RO(dy); RW(dw);
    const uint rows = p.rows, cols = p.cols, ld_dy = p.ld_dy, ld_dw = p.ld_dw, vocabulary = p.vocabulary,
               skip_id = p.skip_id, groups = p.groups;
    __local float4 sum[512];   // of up to 2048 columns; a work-item sees only its own
    __local uint nearest[WG];
    for (uint t = GROUP_X; t < rows; t += groups) {
        uint id = LOADU(ids, t);
        bool counts = id < vocabulary && id != skip_id;
        counts = find(ids, id, 0u, t, counts, nearest) == NONE && counts;
        for (uint begin = 0u; counts && begin < cols; begin += 2048u) {
            uint width = min(cols - begin, 2048u);
            for (uint c = 4u * LOCAL_ID; c < width; c += 4u * WG) sum[c >> 2] = LOAD4(dy, t * ld_dy + begin + c, DT_DY);
            for (uint i = find(ids, id, t + 1u, rows, true, nearest); i != NONE;
                 i = find(ids, id, i + 1u, rows, true, nearest))
                for (uint c = 4u * LOCAL_ID; c < width; c += 4u * WG)
                    sum[c >> 2] += LOAD4(dy, i * ld_dy + begin + c, DT_DY);
            for (uint c = 4u * LOCAL_ID; c < width; c += 4u * WG) {
                uint at = id * ld_dw + begin + c;
                STORE4(dw, at, TAKE4(dw, at, DT_DW) + sum[c >> 2], DT_DW);
            }
        }
    }
}
