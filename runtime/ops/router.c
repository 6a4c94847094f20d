/* The router of a MoE layer, its balance loss and their backward pass: "Routing and experts" of ops.h. */
#include <math.h>

#include "grid.h"
#include "routing.h"

xft_status xft_routing_check(xft_stream *stream, const char *op, const xft_router_config *config,
                             xft_routing *routing) {
    XFT_TRY(xft_stream_state(stream));
    XFT_OP_FAIL_IF(!config, stream, "%s: config is NULL", op);
    const uint32_t E = config->num_experts, K = config->top_k;
    XFT_OP_FAIL_IF((uint32_t)config->gate > XFT_GATE_VANILLA, stream, "%s: gate is %u, which is no xft_gate", op,
                   (uint32_t)config->gate);
    XFT_OP_FAIL_IF((uint32_t)config->noise > XFT_NOISE_PHILOX, stream, "%s: noise is %u, which is no xft_noise", op,
                   (uint32_t)config->noise);
    XFT_OP_FAIL_IF(E < 2 || E > 64, stream, "%s: num_experts is %u; expected 2 to 64", op, E);
    const uint32_t least = config->gate == XFT_GATE_VANILLA ? 1 : 2;
    XFT_OP_FAIL_IF(K < least || K > E, stream, "%s: top_k is %u; expected %u to num_experts (%u)", op, K, least, E);
    XFT_OP_FAIL_IF(!(config->noise_epsilon >= 0) || isinf(config->noise_epsilon), stream,
                   "%s: noise_epsilon is %g; expected a number from 0", op, (double)config->noise_epsilon);
    XFT_OP_FAIL_IF(!isfinite(config->balance_weight), stream, "%s: balance_weight is %g; expected a finite number", op,
                   (double)config->balance_weight);
    routing->shared_experts = config->gate == XFT_GATE_VANILLA ? 0 : 1;
    routing->routed = E - routing->shared_experts;
    routing->picks = K - routing->shared_experts;
    return XFT_OK;
}

/* A work-group does a stretch; see xft_groups_for for the reason of its limit. */
enum { STRETCH = 256 };

xft_status xft_stretches_of(xft_stream *stream, const char *op, uint32_t tokens, const xft_tensor *scratch,
                            xft_stretches *stretches) {
    const uint32_t rows = xft_rows(scratch), least = xft_ceil_div(tokens, STRETCH);
    XFT_OP_FAIL_IF(rows < least, stream, "%s: scratch has %u rows; expected at least %u for %u tokens", op, rows, least,
                   tokens);
    stretches->tokens = xft_ceil_div(tokens, rows < tokens ? rows : tokens);
    stretches->count = xft_ceil_div(tokens, stretches->tokens);
    return XFT_OK;
}

/* Segments are read as segments[4 t + 3]. */
static xft_status check_segments(xft_stream *stream, const char *op, const xft_tensor *segments, uint32_t tokens) {
    XFT_ARG(stream, op, segments, XFT_U32_ONLY, tokens, 4);
    XFT_OP_FAIL_IF(segments->pitch != 4, stream, "%s: segments has pitch %u; expected 4", op, segments->pitch);
    return XFT_OK;
}

static xft_status check_w2(xft_stream *stream, const char *op, const xft_router_config *config, const xft_tensor *w2,
                           uint32_t routed) {
    XFT_OP_FAIL_IF(!config->mlp && w2, stream, "%s: w2 is given, but the gate network is linear", op);
    if (config->mlp) XFT_ARG(stream, op, w2, XFT_F32_ONLY, routed, routed);
    return XFT_OK;
}

uint32_t xft_router_state_width(const xft_router_config *config) {
    return config ? 7 * (config->num_experts - (config->gate != XFT_GATE_VANILLA)) : 0;
}

xft_status xft_router(xft_stream *stream, const xft_router_config *config, const xft_tensor *h, const xft_tensor *w2,
                      const xft_tensor *stored_noise, const xft_tensor *segments, const xft_tensor *step,
                      const xft_tensor *state, const xft_tensor *picks, const xft_tensor *weights) {
    xft_routing r = {0};
    XFT_TRY(xft_routing_check(stream, "router", config, &r));
    XFT_ARG(stream, "router", h, XFT_F32_ONLY, 0, config->noise == XFT_NOISE_NONE ? r.routed : 2 * r.routed);
    const uint32_t T = xft_rows(h);
    XFT_TRY(check_w2(stream, "router", config, w2, r.routed));
    XFT_OP_FAIL_IF(stored_noise && config->noise != XFT_NOISE_STORED, stream,
                   "router: stored_noise is given, but noise is not XFT_NOISE_STORED");
    if (config->noise == XFT_NOISE_STORED) XFT_ARG(stream, "router", stored_noise, XFT_F32_ONLY, T, r.routed);
    XFT_TRY(check_segments(stream, "router", segments, T));
    XFT_ARG(stream, "router", step, XFT_U32_ONLY, 1, sizeof(xft_step_block) / 4);
    XFT_ARG(stream, "router", state, XFT_F32_ONLY, T, xft_router_state_width(config));
    XFT_ARG(stream, "router", picks, XFT_U32_ONLY, T, r.picks);
    XFT_ARG(stream, "router", weights, XFT_F32_ONLY, T, config->top_k);

    const uint32_t wg = xft_workgroup_for(xft_stream_device(stream));
    const uint32_t groups = xft_groups_for(xft_stream_device(stream), xft_ceil_div(T, wg / r.routed));
    const xft_router_params params = {.tokens = T,
                                      .routed = r.routed,
                                      .picks = r.picks,
                                      .gate = config->gate,
                                      .mlp = config->mlp,
                                      .noise = config->noise,
                                      .layer = config->layer,
                                      .noise_epsilon = config->noise_epsilon,
                                      .ld_h = h->pitch,
                                      .ld_w2 = w2 ? w2->pitch : 0,
                                      .ld_noise = stored_noise ? stored_noise->pitch : 0,
                                      .ld_state = state->pitch,
                                      .ld_picks = picks->pitch,
                                      .ld_weights = weights->pitch,
                                      .groups = groups};
    return xft_record(stream, &(xft_dispatch){.op = XFT_OP_router,
                                              .tensors = {h, w2, stored_noise, segments, step, state, picks, weights},
                                              .params = &params,
                                              .param_size = sizeof params,
                                              .constants = {wg},
                                              .groups = {groups, 1, 1},
                                              .flops = (double)T * r.routed * (4.0 * r.routed + 100),
                                              .bytes = (double)xft_bytes(h) + (double)xft_bytes(state)});
}

xft_status xft_router_balance(xft_stream *stream, const xft_router_config *config, const xft_tensor *state,
                              const xft_tensor *segments, const xft_tensor *step, const xft_tensor *scratch,
                              const xft_tensor *stats, const xft_tensor *coefficients, const xft_tensor *loss) {
    xft_routing r = {0};
    XFT_TRY(xft_routing_check(stream, "router_balance", config, &r));
    XFT_ARG(stream, "router_balance", state, XFT_F32_ONLY, 0, xft_router_state_width(config));
    const uint32_t T = xft_rows(state);
    XFT_TRY(check_segments(stream, "router_balance", segments, T));
    XFT_ARG(stream, "router_balance", step, XFT_U32_ONLY, 1, sizeof(xft_step_block) / 4);
    XFT_ARG(stream, "router_balance", scratch, XFT_F32_ONLY, 0, 3 * r.routed);
    XFT_ARG(stream, "router_balance", stats, XFT_F32_ONLY, 3, r.routed);
    XFT_ARG(stream, "router_balance", coefficients, XFT_F32_ONLY, 2, r.routed);
    XFT_ARG(stream, "router_balance", loss, XFT_F32_ONLY, 1, 1);
    XFT_APART(stream, "router_balance", 4, XFT_NAMED(scratch), XFT_NAMED(stats), XFT_NAMED(coefficients),
              XFT_NAMED(loss), XFT_NAMED(state), XFT_NAMED(segments), XFT_NAMED(step));

    const uint32_t wg = xft_workgroup_for(xft_stream_device(stream));
    xft_stretches stretches = {0};
    XFT_TRY(xft_stretches_of(stream, "router_balance", T, scratch, &stretches));
    const xft_router_stats_params sums = {.tokens = T,
                                          .routed = r.routed,
                                          .picks = r.picks,
                                          .official = config->official,
                                          .stretch = stretches.tokens,
                                          .ld_state = state->pitch,
                                          .ld_partial = scratch->pitch};
    XFT_TRY(xft_record(stream, &(xft_dispatch){.op = XFT_OP_router_stats,
                                               .tensors = {state, segments, scratch},
                                               .params = &sums,
                                               .param_size = sizeof sums,
                                               .constants = {wg},
                                               .groups = {stretches.count, 1, 1},
                                               .flops = (double)T * r.routed * (r.routed + 50.0),
                                               .bytes = (double)xft_bytes(state)}));
    const xft_router_balance_params loss_params = {.routed = r.routed,
                                                   .chunks = stretches.count,
                                                   .balance_weight = config->balance_weight,
                                                   .ld_partial = scratch->pitch,
                                                   .ld_stats = stats->pitch,
                                                   .ld_coefficients = coefficients->pitch};
    return xft_record(stream, &(xft_dispatch){.op = XFT_OP_router_balance,
                                              .tensors = {scratch, step, stats, coefficients, loss},
                                              .params = &loss_params,
                                              .param_size = sizeof loss_params,
                                              .constants = {wg},
                                              .groups = {1, 1, 1},
                                              .bytes = (double)xft_bytes(scratch)});
}

xft_status xft_router_backward(xft_stream *stream, const xft_router_config *config, const xft_tensor *dots,
                               const xft_tensor *inverse, const xft_tensor *state, const xft_tensor *w2,
                               const xft_tensor *coefficients, const xft_tensor *segments, const xft_tensor *dh,
                               const xft_tensor *dg) {
    xft_routing r = {0};
    XFT_TRY(xft_routing_check(stream, "router_backward", config, &r));
    XFT_ARG(stream, "router_backward", inverse, XFT_U32_ONLY, 0, config->top_k);
    const uint32_t T = xft_rows(inverse);
    const bool noisy = config->noise != XFT_NOISE_NONE;
    XFT_ARG(stream, "router_backward", dots, XFT_F32_ONLY, 1, T * config->top_k);
    XFT_ARG(stream, "router_backward", state, XFT_F32_ONLY, T, xft_router_state_width(config));
    XFT_TRY(check_w2(stream, "router_backward", config, w2, r.routed));
    XFT_ARG(stream, "router_backward", coefficients, XFT_F32_ONLY, 2, r.routed);
    XFT_TRY(check_segments(stream, "router_backward", segments, T));
    XFT_ARG(stream, "router_backward", dh, XFT_F32_ONLY, T, noisy ? 2 * r.routed : r.routed);
    XFT_ARG(stream, "router_backward", dg, XFT_F32_ONLY, T, r.routed);

    const uint32_t wg = xft_workgroup_for(xft_stream_device(stream));
    const uint32_t groups = xft_groups_for(xft_stream_device(stream), xft_ceil_div(T, wg / r.routed));
    const xft_router_backward_params params = {.tokens = T,
                                               .routed = r.routed,
                                               .picks = r.picks,
                                               .gate = config->gate,
                                               .mlp = config->mlp,
                                               .noisy = noisy,
                                               .official = config->official,
                                               .ld_inverse = inverse->pitch,
                                               .ld_state = state->pitch,
                                               .ld_w2 = w2 ? w2->pitch : 0,
                                               .ld_coefficients = coefficients->pitch,
                                               .ld_dh = dh->pitch,
                                               .ld_dg = dg->pitch,
                                               .groups = groups};
    return xft_record(stream, &(xft_dispatch){.op = XFT_OP_router_backward,
                                              .tensors = {dots, inverse, state, w2, coefficients, segments, dh, dg},
                                              .params = &params,
                                              .param_size = sizeof params,
                                              .constants = {wg},
                                              .groups = {groups, 1, 1},
                                              .flops = (double)T * r.routed * (8.0 * r.routed + 100),
                                              .bytes = (double)xft_bytes(state) + (double)xft_bytes(dh)});
}
