// dw[v] += sum over the t with ids[t] = v of dy[t].  ids [rows], dy [rows, cols], dw [vocabulary, cols].
// Grid: groups x 1 x 1 over the tokens. Without atomics: the work-group of a token goes on only if no earlier token
// has the
// same id; it then looks through the later ones and adds their rows upwards, so every row of dw has one owner and one
// order,
// and is rounded once. The search reads the ids four at a time, the same for all invocations of a group.
KERNEL embedding_backward(RO_ARG(ids), RO_ARG(dy), RW_ARG(dw), xft_embedding_backward_params p) {
    RO(ids); RO(dy); RW(dw);
    const uint rows = p.rows, cols = p.cols, ld_dy = p.ld_dy, ld_dw = p.ld_dw, vocabulary = p.vocabulary,
               skip_id = p.skip_id, groups = p.groups;
    __local float4 sum[512];
    for (uint t = GROUP_X; t < rows; t += groups) {
        uint id = LOADU(ids, t);
        bool first = id < vocabulary && id != skip_id;
        for (uint i = 0u; first && i < t; i += 4u) {
            uint4 q = LOADU4(ids, i);
            first = !(q.x == id || (q.y == id && i + 1u < t) || (q.z == id && i + 2u < t) || (q.w == id && i + 3u < t));
        }
        // Sums of up to 2048 columns stand in shared memory; each invocation sees only its own.
        for (uint begin = 0u; first && begin < cols; begin += 2048u) {
            uint width = min(cols - begin, 2048u);
            for (uint c = 4u * LOCAL_ID; c < width; c += 4u * WG) sum[c >> 2] = LOAD4(dy, t * ld_dy + begin + c, DT_DY);
            for (uint i = t + 1u; i < rows; i++) {
                if ((i & 3u) == 0u) {
                    uint4 q = LOADU4(ids, i);
                    if (q.x != id && q.y != id && q.z != id && q.w != id) {
                        i += 3u;
                        continue;
                    }
                }
                if (LOADU(ids, i) != id) continue;
                for (uint c = 4u * LOCAL_ID; c < width; c += 4u * WG)
                    sum[c >> 2] += LOAD4(dy, i * ld_dy + begin + c, DT_DY);
            }
            for (uint c = 4u * LOCAL_ID; c < width; c += 4u * WG) {
                uint at = id * ld_dw + begin + c;
                STORE4(dw, at, TAKE4(dw, at, DT_DW) + sum[c >> 2], DT_DW);
            }
        }
    }
}
