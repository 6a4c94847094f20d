#version 460
// Begins an optimizer step: state.grad_norm = sqrt(sum partial), state.clip = min(1, max_norm / (norm + 1e-6)); loss and
// balance are noted; when one of the three is not finite the step is skipped and counted.
// Grid: one work-group. partial [count]; loss, balance [1]; step: xft_step_block; state: xft_step_state.
#define XFT_WG_REDUCE
#extension GL_GOOGLE_include_directive : require
#include "xft.glsl"
#include "philox.glsl"
#include "optimizer.glsl"
layout(push_constant, scalar) uniform Args { RO partial; RO loss; RO balance; RO step; RW state; xft_step_begin_params p; };

void main() {
    float sum = 0.0;
    for (uint i = LOCAL_ID; i < p.count; i += WG) sum += LOAD1(partial, i, F32);
    sum = WG_SUM(sum);
    if (LOCAL_ID != 0u) return;
    float norm = sqrt(sum), limit = STEP_MAX_NORM(step);
    float ce = LOAD1(loss, 0, F32), bal = LOAD1(balance, 0, F32);
    bool skip = !(finite_(norm) && finite_(ce) && finite_(bal));
    STORE1(state, 0u, ce);
    STORE1(state, 1u, bal);
    STORE1(state, 2u, norm);
    STORE1(state, 3u, limit > 0.0 ? min(1.0, limit / (norm + 1e-6)) : 1.0);
    STOREU(state, 4u, skip ? 1u : 0u);
    STOREU(state, 5u, TAKEU(state, 5u) + (skip ? 1u : 0u));
    STOREU(state, 6u, skip ? TAKEU(state, 6u) + 1u : 0u);
    STOREU(state, 7u, TAKEU(state, 7u) + (skip ? 0u : 1u));
}
