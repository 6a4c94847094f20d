/* The mixture of the experts' weights, and the gradient of its coefficients: "Merging" of ops.h. */
#include <math.h>

#include "grid.h"

xft_status xft_mix_softmax(xft_stream *stream, const xft_tensor *a, const xft_tensor *alpha) {
    XFT_ARG(stream, "mix_softmax", a, XFT_F32_ONLY, 1, 0);
    XFT_ARG(stream, "mix_softmax", alpha, XFT_F32_ONLY, 1, xft_cols(a));
    const xft_mix_softmax_params params = {xft_cols(a)};
    return xft_record(stream, &(xft_dispatch){.op = XFT_OP_mix_softmax,
                                              .tensors = {a, alpha},
                                              .params = &params,
                                              .param_size = sizeof params,
                                              .constants = {xft_workgroup_for(xft_stream_device(stream))},
                                              .groups = {1, 1, 1}});
}

/* experts [E,N,K], E from 2, beside a matrix [N,K]; lambda finite. */
static xft_status check_mixture(xft_stream *stream, const char *op, const xft_tensor *experts, float lambda,
                                const char *name, const xft_tensor *matrix) {
    XFT_ARG(stream, op, experts, XFT_DATA, 0, 0);
    XFT_OP_FAIL_IF(experts->rank != 3 || experts->shape[0] < 2, stream,
                   "%s: experts has rank %u and %u matrices; expected [E,N,K] with E from 2", op, experts->rank,
                   experts->shape[0]);
    XFT_FINITE(stream, op, lambda);
    return xft_check_argument(stream, op, name, matrix, XFT_DATA, experts->shape[1], experts->shape[2]);
}

xft_status xft_mix(xft_stream *stream, const xft_tensor *experts, const xft_tensor *alpha, float lambda,
                   const xft_tensor *w) {
    XFT_TRY(check_mixture(stream, "mix", experts, lambda, "w", w));
    XFT_ARG(stream, "mix", alpha, XFT_F32_ONLY, 1, experts->shape[0] - 1);
    const xft_grid grid = xft_rowwise_grid(xft_stream_device(stream), experts->shape[1], experts->shape[2]);
    const xft_mix_experts_params params = {.rows = experts->shape[1],
                                           .cols = experts->shape[2],
                                           .routed = experts->shape[0] - 1,
                                           .lambda = lambda,
                                           .ld_experts = experts->pitch,
                                           .ld_w = w->pitch,
                                           .groups = grid.groups};
    return xft_record(stream, &(xft_dispatch){.op = XFT_OP_mix_experts,
                                              .tensors = {experts, alpha, w},
                                              .params = &params,
                                              .param_size = sizeof params,
                                              .constants = {grid.wg, experts->dtype, w->dtype},
                                              .groups = {grid.groups, 1, 1},
                                              .flops = 2.0 * xft_rows(experts) * xft_cols(experts),
                                              .bytes = (double)xft_bytes(experts) + (double)xft_bytes(w)});
}

xft_status xft_mix_backward(xft_stream *stream, const xft_tensor *experts, const xft_tensor *dw, float lambda,
                            const xft_tensor *scratch, const xft_tensor *dalpha, bool accumulate) {
    XFT_TRY(check_mixture(stream, "mix_backward", experts, lambda, "dw", dw));
    const uint32_t routed = experts->shape[0] - 1;
    XFT_ARG(stream, "mix_backward", scratch, XFT_F32_ONLY, 0, routed);
    XFT_ARG(stream, "mix_backward", dalpha, XFT_F32_ONLY, 1, routed);
    XFT_APART(stream, "mix_backward", 2, XFT_NAMED(scratch), XFT_NAMED(dalpha), XFT_NAMED(experts), XFT_NAMED(dw));
    const uint32_t rows = experts->shape[1],
                   wg = xft_rowwise_grid(xft_stream_device(stream), rows, experts->shape[2]).wg;
    const uint32_t groups = rows < xft_rows(scratch) ? rows : xft_rows(scratch);
    XFT_OP_FAIL_IF(groups < xft_ceil_div(rows, 64), stream,
                   "mix_backward: scratch has %u rows; expected at least %u for experts of %u rows", xft_rows(scratch),
                   xft_ceil_div(rows, 64), rows);
    const xft_mix_backward_params params = {.rows = rows,
                                            .cols = experts->shape[2],
                                            .routed = routed,
                                            .lambda = lambda,
                                            .ld_experts = experts->pitch,
                                            .ld_dw = dw->pitch,
                                            .ld_dots = scratch->pitch,
                                            .groups = groups};
    XFT_TRY(xft_record(stream, &(xft_dispatch){.op = XFT_OP_mix_backward,
                                               .tensors = {experts, dw, scratch},
                                               .params = &params,
                                               .param_size = sizeof params,
                                               .constants = {wg, experts->dtype, dw->dtype},
                                               .groups = {groups, 1, 1},
                                               .flops = 2.0 * xft_rows(experts) * xft_cols(experts),
                                               .bytes = (double)xft_bytes(experts) + (double)xft_bytes(dw)}));
    xft_tensor dots;
    XFT_TRY(xft_stream_stick(stream, xft_tensor_rows(scratch, 0, groups, &dots)));
    return xft_record_column_sum(stream, &dots, dalpha, accumulate);
}

xft_status xft_mix_softmax_backward(xft_stream *stream, const xft_tensor *alpha, const xft_tensor *dalpha,
                                    const xft_tensor *da) {
    XFT_ARG(stream, "mix_softmax_backward", alpha, XFT_F32_ONLY, 1, 0);
    XFT_ARG(stream, "mix_softmax_backward", dalpha, XFT_F32_ONLY, 1, xft_cols(alpha));
    XFT_ARG(stream, "mix_softmax_backward", da, XFT_F32_ONLY, 1, xft_cols(alpha));
    const xft_mix_softmax_backward_params params = {xft_cols(alpha)};
    return xft_record(stream, &(xft_dispatch){.op = XFT_OP_mix_softmax_backward,
                                              .tensors = {alpha, dalpha, da},
                                              .params = &params,
                                              .param_size = sizeof params,
                                              .constants = {xft_workgroup_for(xft_stream_device(stream))},
                                              .groups = {1, 1, 1}});
}
