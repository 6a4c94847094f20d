// Begins an optimizer step: state.grad_norm = sqrt(sum partial), state.clip = min(1, max_norm / (norm + 1e-6)); loss and
// balance are noted; when one of the three is not finite the step is skipped and counted.
// Grid: one work-group. partial [count]; loss, balance [1]; step: xft_step_block; state: xft_step_state.
KERNEL step_begin(RO_ARG(partial), RO_ARG(loss), RO_ARG(balance), RO_ARG(step), RW_ARG(state), xft_step_begin_params p) {
    RO(partial); RO(loss); RO(balance); RO(step); RW(state);
    __local float red[WG];
    const uint count = p.count;
    float sum = 0.0f;
    for (uint i = LOCAL_ID; i < count; i += WG) sum += AS_FLOAT(partial[i]);
    sum = WG_SUM(sum, red);
    if (LOCAL_ID != 0) return;
    float norm = sqrt(sum), limit = STEP_MAX_NORM(step);
    float ce = AS_FLOAT(loss[0]), bal = AS_FLOAT(balance[0]);
    bool skip = !(finite_(norm) && finite_(ce) && finite_(bal));
    STORE1(state, 0, ce);
    STORE1(state, 1, bal);
    STORE1(state, 2, norm);
    STORE1(state, 3, limit > 0.0f ? fmin(1.0f, limit / (norm + 1e-6f)) : 1.0f);
    STOREU(state, 4, skip ? 1 : 0);
    STOREU(state, 5, state[5] + (skip ? 1 : 0));
    STOREU(state, 6, skip ? state[6] + 1 : 0);
    STOREU(state, 7, state[7] + (skip ? 0 : 1));
}
