// segments[t] = (key_begin, key_end, query_end, valid): what token t sees, from cu_seqlens u32 [sequences + 1] and
// lengths u32 [sequences]. Sequence i owns the rows [cu[i], cu[i+1]), of which the first lengths[i] are tokens.
// Grid: groups x 1 x 1, a work-item takes every groups*WG-th token and finds its sequence by bisection.
KERNEL segments(RO_ARG(cu_seqlens), RO_ARG(lengths), RW_ARG(segments), xft_segments_params p) {
    RO(cu_seqlens); RO(lengths); RW(segments);
    const uint tokens = p.tokens, sequences = p.sequences, count_padding = p.count_padding, groups = p.groups;
    for (uint t = GROUP_X * WG + LOCAL_ID; t < tokens; t += groups * WG) {
        uint low = 0, high = sequences; // cu[low] <= t < cu[high], when there is such a sequence
        while (high - low > 1) {
            uint middle = (low + high) / 2;
            if (cu_seqlens[middle] <= t) low = middle;
            else high = middle;
        }
        uint begin = cu_seqlens[low], end = min(cu_seqlens[low + 1], tokens);
        uint4 s = (uint4)(0);
        if (t >= begin && t < end) {
            uint tokens_end = min(begin + lengths[low], end);
            if (count_padding) s = (uint4)(begin, tokens_end, t < tokens_end ? end : 0, 1);
            else if (t < tokens_end) s = (uint4)(begin, tokens_end, tokens_end, 1);
        }
        vstore4(s, t, segments);
    }
}
