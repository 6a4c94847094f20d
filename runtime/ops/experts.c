/* Tokens to experts and back: "Routing and experts" of ops.h. */
#include "grid.h"
#include "routing.h"

xft_status xft_expert_group(xft_stream *stream, const xft_router_config *config, const xft_tensor *picks,
                            const xft_tensor *step, const xft_tensor *scratch, const xft_tensor *offsets,
                            const xft_tensor *source, const xft_tensor *inverse, const xft_tensor *used) {
    xft_routing r = {0};
    XFT_TRY(xft_routing_check(stream, "expert_group", config, &r));
    const uint32_t E = config->num_experts, K = config->top_k;
    XFT_ARG(stream, "expert_group", picks, XFT_U32_ONLY, 0, r.picks);
    const uint32_t T = xft_rows(picks);
    XFT_ARG(stream, "expert_group", step, XFT_U32_ONLY, 1, sizeof(xft_step_block) / 4);
    XFT_ARG(stream, "expert_group", scratch, XFT_U32_ONLY, 0, E);
    XFT_ARG(stream, "expert_group", offsets, XFT_U32_ONLY, 1, E + 1);
    XFT_ARG(stream, "expert_group", source, XFT_U32_ONLY, 1, T * K);
    XFT_ARG(stream, "expert_group", inverse, XFT_U32_ONLY, T, K);
    if (used) XFT_ARG(stream, "expert_group", used, XFT_U32_ONLY, 1, E);
    XFT_APART(stream, "expert_group", 5, XFT_NAMED(scratch), XFT_NAMED(offsets), XFT_NAMED(source), XFT_NAMED(inverse),
              XFT_NAMED(used), XFT_NAMED(picks), XFT_NAMED(step));

    const uint32_t wg = xft_workgroup_for(xft_stream_device(stream));
    xft_stretches stretches = {0};
    XFT_TRY(xft_stretches_of(stream, "expert_group", T, scratch, &stretches));
    const xft_expert_count_params count = {.tokens = T,
                                           .experts = E,
                                           .picks = r.picks,
                                           .shared_experts = r.shared_experts,
                                           .stretch = stretches.tokens,
                                           .ld_picks = picks->pitch,
                                           .ld_counts = scratch->pitch};
    XFT_TRY(xft_record(stream, &(xft_dispatch){.op = XFT_OP_expert_count,
                                               .tensors = {picks, scratch},
                                               .params = &count,
                                               .param_size = sizeof count,
                                               .constants = {wg},
                                               .groups = {stretches.count, 1, 1},
                                               .flops = (double)T * K * E,
                                               .bytes = (double)xft_bytes(picks)}));
    const xft_expert_group_params group = {.tokens = T,
                                           .experts = E,
                                           .picks = r.picks,
                                           .shared_experts = r.shared_experts,
                                           .stretch = stretches.tokens,
                                           .chunks = stretches.count,
                                           .marks = used != NULL,
                                           .ld_picks = picks->pitch,
                                           .ld_counts = scratch->pitch,
                                           .ld_inverse = inverse->pitch};
    return xft_record(stream, &(xft_dispatch){.op = XFT_OP_expert_group,
                                              .tensors = {picks, scratch, step, offsets, source, inverse, used},
                                              .params = &group,
                                              .param_size = sizeof group,
                                              .constants = {wg},
                                              .groups = {stretches.count, 1, 1},
                                              .flops = 2.0 * T * K * E,
                                              .bytes = 3 * (double)xft_bytes(inverse)});
}

xft_status xft_gather_rows(xft_stream *stream, const xft_tensor *x, const xft_tensor *source, const xft_tensor *offsets,
                           uint32_t top_k, const xft_tensor *y) {
    XFT_ARG(stream, "gather_rows", x, XFT_DATA, 0, 0);
    XFT_OP_FAIL_IF(top_k < 1, stream, "gather_rows: top_k is 0; expected at least 1");
    const uint32_t R = xft_rows(x) * top_k;
    XFT_ARG(stream, "gather_rows", source, XFT_U32_ONLY, 1, R);
    XFT_ARG(stream, "gather_rows", offsets, XFT_U32_ONLY, 1, 0);
    XFT_OP_FAIL_IF(xft_cols(offsets) < 2, stream, "gather_rows: offsets has 1 entry; expected one more than experts");
    XFT_ARG(stream, "gather_rows", y, XFT_DATA, R, xft_cols(x));

    const xft_grid grid = xft_rowwise_grid(xft_stream_device(stream), R, xft_cols(x));
    const xft_gather_rows_params params = {.rows = R,
                                           .cols = xft_cols(x),
                                           .experts = xft_cols(offsets) - 1,
                                           .top_k = top_k,
                                           .ld_x = x->pitch,
                                           .ld_y = y->pitch,
                                           .groups = grid.groups};
    return xft_record(stream, &(xft_dispatch){.op = XFT_OP_gather_rows,
                                              .tensors = {x, source, offsets, y},
                                              .params = &params,
                                              .param_size = sizeof params,
                                              .constants = {grid.wg, x->dtype, y->dtype},
                                              .groups = {grid.groups, 1, 1},
                                              .bytes = (double)xft_bytes(x) + (double)xft_bytes(y)});
}

xft_status xft_combine(xft_stream *stream, const xft_tensor *x, const xft_tensor *inverse, const xft_tensor *weights,
                       const xft_tensor *y, bool accumulate) {
    XFT_ARG(stream, "combine", x, XFT_DATA, 0, 0);
    XFT_ARG(stream, "combine", inverse, XFT_U32_ONLY, 0, 0);
    const uint32_t T = xft_rows(inverse), K = xft_cols(inverse);
    XFT_ARG(stream, "combine", x, XFT_DATA, T * K, 0);
    if (weights) XFT_ARG(stream, "combine", weights, XFT_F32_ONLY, T, K);
    XFT_ARG(stream, "combine", y, XFT_DATA, T, xft_cols(x));

    const xft_grid grid = xft_rowwise_grid(xft_stream_device(stream), T, xft_cols(x));
    const xft_combine_params params = {.tokens = T,
                                       .cols = xft_cols(x),
                                       .slots = K,
                                       .weighted = weights != NULL,
                                       .accumulate = accumulate,
                                       .ld_x = x->pitch,
                                       .ld_inverse = inverse->pitch,
                                       .ld_weights = weights ? weights->pitch : 0,
                                       .ld_y = y->pitch,
                                       .groups = grid.groups};
    return xft_record(stream,
                      &(xft_dispatch){.op = XFT_OP_combine,
                                      .tensors = {x, inverse, weights, y},
                                      .params = &params,
                                      .param_size = sizeof params,
                                      .constants = {grid.wg, x->dtype, y->dtype},
                                      .groups = {grid.groups, 1, 1},
                                      .flops = 2.0 * T * K * xft_cols(x),
                                      .bytes = (double)xft_bytes(x) + (1.0 + accumulate) * (double)xft_bytes(y)});
}
