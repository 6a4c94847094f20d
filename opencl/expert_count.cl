// counts[c][e] = tokens of the c-th stretch that go to expert e; as in shaders/expert_count.comp.
KERNEL expert_count(RO_ARG(picks), RW_ARG(counts), xft_expert_count_params p) {
    RO(picks); RW(counts);
    const uint tokens = p.tokens, experts = p.experts, k = p.picks, shared_experts = p.shared_experts;
    const uint stretch = p.stretch, ld_picks = p.ld_picks, ld_counts = p.ld_counts;
    __local uint found[WG];
    const uint parts = WG / experts, e = LOCAL_ID / parts, part = LOCAL_ID - e * parts;
    const uint begin = GROUP_X * stretch, end = min(begin + stretch, tokens);
    uint n = 0;
    for (uint t = begin + part; t < end && e < experts; t += parts) {
        if (e < shared_experts) {
            n += LOADU(picks, t * ld_picks) != NONE ? 1 : 0;
        } else {
            for (uint j = 0; j < k; j++) n += LOADU(picks, t * ld_picks + j) == e - shared_experts ? 1 : 0;
        }
    }
    found[LOCAL_ID] = n;
    BARRIER();
    if (part == 0 && e < experts) {
        for (uint i = 1; i < parts; i++) n += found[LOCAL_ID + i];
        STOREU(counts, GROUP_X * ld_counts + e, n);
    }
}
