// t[i] += 1 unless the step is skipped or used[i] is 0.  t, used [count]. Grid: one work-group.
KERNEL step_advance(RO_ARG(state), RO_ARG(used), RW_ARG(t), xft_step_advance_params p) {
    RO(state); RO(used); RW(t);
    const uint count = p.count;
    if (STATE_SKIP(state)) return;
    for (uint i = LOCAL_ID; i < count; i += WG)
        if (HAS_USED == 0 || LOADU(used, i) != 0) STOREU(t, i, LOADU(t, i) + 1);
}
