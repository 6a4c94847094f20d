/* Head and loss of ops.h: cross-entropy and sampling. */
#include "grid.h"
#include "lanes.h"

enum { STEP_WORDS = sizeof(xft_step_block) / 4, MAX_VOCABULARY = 1 << 24 };

xft_status xft_cross_entropy(xft_stream *stream, const xft_tensor *labels, const xft_tensor *step,
                             const xft_tensor *logits, bool gradient, const xft_tensor *loss) {
    XFT_ARG(stream, "cross_entropy", logits, XFT_DATA, 0, 0);
    const uint32_t rows = xft_rows(logits);
    XFT_ARG(stream, "cross_entropy", labels, XFT_U32_ONLY, 1, rows);
    XFT_ARG(stream, "cross_entropy", step, XFT_U32_ONLY, 1, STEP_WORDS);
    XFT_ARG(stream, "cross_entropy", loss, XFT_F32_ONLY, 1, rows);
    const xft_device *device = xft_stream_device(stream);
    xft_grid grid = xft_rowwise_grid(device, rows, xft_cols(logits));
    const uint32_t wide = xft_groups_for(device, rows * xft_ceil_div(xft_cols(logits), 1 << 17)); /* it says why */
    grid.groups = wide < rows ? wide : rows;
    const xft_cross_entropy_params params = {.rows = rows,
                                             .cols = xft_cols(logits),
                                             .ld_logits = logits->pitch,
                                             .gradient = gradient,
                                             .groups = grid.groups};
    xft_dispatch d = {.op = XFT_OP_cross_entropy,
                      .tensors = {labels, step, logits, loss},
                      .params = &params,
                      .param_size = sizeof params,
                      .constants = {grid.wg, logits->dtype},
                      .groups = {params.groups, 1, 1},
                      .bytes = (gradient ? 2.0 : 1.0) * (double)xft_bytes(logits)};
    const uint32_t lanes = xft_form_lanes(device);
    if (lanes) {
        d.variant = "cpu";
        d.constants[0] = 1;
        d.constants[2] = lanes;
    }
    return xft_record(stream, &d);
}

/* A work-group per row: with top_p the loops over a large vocabulary are too many for llvmpipe to take several rows. */
xft_status xft_sample(xft_stream *stream, const xft_tensor *logits, const xft_tensor *step, const xft_tensor *ids) {
    XFT_ARG(stream, "sample", logits, XFT_DATA, 0, 0);
    const uint32_t rows = xft_rows(logits);
    XFT_ARG(stream, "sample", step, XFT_U32_ONLY, 1, STEP_WORDS);
    XFT_ARG(stream, "sample", ids, XFT_U32_ONLY, 1, rows);
    XFT_OP_FAIL_IF(xft_cols(logits) > MAX_VOCABULARY, stream, "sample: logits has %u columns, must be at most %u",
                   xft_cols(logits), MAX_VOCABULARY);
    const xft_device *device = xft_stream_device(stream);
    const xft_sample_params params = {
        .rows = rows, .cols = xft_cols(logits), .ld_logits = logits->pitch, .groups = rows < 32768 ? rows : 32768};
    return xft_record(stream, &(xft_dispatch){.op = XFT_OP_sample,
                                              .tensors = {logits, step, ids},
                                              .params = &params,
                                              .param_size = sizeof params,
                                              .constants = {xft_workgroup_for(device), logits->dtype},
                                              .groups = {params.groups, 1, 1},
                                              .bytes = 12.0 * (double)xft_bytes(logits)});
}
