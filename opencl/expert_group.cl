// Sorts (token, slot) pairs by expert, an expert's rows in order of tokens; as in shaders/expert_group.comp.
#define TILE 1024
KERNEL expert_group(RO_ARG(picks), RO_ARG(counts), RO_ARG(step_block), RW_ARG(offsets), RW_ARG(source),
                    RW_ARG(inverse_rows), RW_ARG(used), xft_expert_group_params p) {
    RO(picks); RO(counts); RO(step_block); RW(offsets); RW(source); RW(inverse_rows); RW(used);
    const uint tokens = p.tokens, E = p.experts, shared_experts = p.shared_experts, K = p.picks + shared_experts;
    const uint stretch = p.stretch, chunks = p.chunks, marks = p.marks;
    const uint ld_picks = p.ld_picks, ld_counts = p.ld_counts, ld_inverse = p.ld_inverse;
    __local uint experts_of[TILE], found[WG], earlier[WG], totals[64], starts[65];
    const uint parts = WG / E, e = LOCAL_ID / parts, part = LOCAL_ID - e * parts, mates = e * parts;
    const uint begin = GROUP_X * stretch, end = min(begin + stretch, tokens);

    uint all = 0, before = 0;
    for (uint c = part; c < chunks && e < E; c += parts) {
        const uint n = LOADU(counts, c * ld_counts + e);
        all += n;
        before += c < GROUP_X ? n : 0;
    }
    found[LOCAL_ID] = all;
    earlier[LOCAL_ID] = before;
    BARRIER();
    if (part == 0 && e < E) {
        for (uint i = 1; i < parts; i++) { all += found[mates + i]; before += earlier[mates + i]; }
        totals[e] = all;
        starts[e] = before;
        if (GROUP_X == 0 && marks != 0 && all > 0 && LOADU(step_block, 7) != 0) STOREU(used, e, 1);
    }
    BARRIER();
    for (uint i = LOCAL_ID; i <= E; i += WG) {
        uint at = 0;
        for (uint j = 0; j < i; j++) at += totals[j];
        if (GROUP_X == 0) STOREU(offsets, i, at);
        starts[i] = i < E ? at + starts[i] : at;
    }
    BARRIER();
    for (uint r = starts[E] + GROUP_X * WG + LOCAL_ID; r < tokens * K; r += chunks * WG) STOREU(source, r, NONE);

    const uint tile = TILE / K;
    for (uint first = begin; first < end; first += tile) {
        const uint pairs = min(tile, end - first) * K;
        for (uint i = LOCAL_ID; i < pairs; i += WG) {
            const uint token = first + i / K, j = i % K;
            const uint pick = LOADU(picks, token * ld_picks + (j == 0 ? 0 : j - shared_experts));
            experts_of[i] = pick == NONE ? NONE : j < shared_experts ? 0 : pick + shared_experts;
            if (pick == NONE) STOREU(inverse_rows, token * ld_inverse + j, NONE);
        }
        BARRIER();
        const uint share = (pairs + parts - 1) / parts, from = min(part * share, pairs), to = min(from + share, pairs);
        uint n = 0;
        for (uint i = from; i < to && e < E; i++) n += experts_of[i] == e ? 1 : 0;
        found[LOCAL_ID] = n;
        BARRIER();
        uint at = e < E ? starts[e] : 0;
        for (uint i = 0; i < part && e < E; i++) at += found[mates + i];
        for (uint i = from; i < to && e < E; i++) {
            if (experts_of[i] != e) continue;
            STOREU(source, at, first * K + i);
            STOREU(inverse_rows, (first + i / K) * ld_inverse + i % K, at);
            at++;
        }
        BARRIER();
        if (part == parts - 1 && e < E) starts[e] = at;
    }
}
