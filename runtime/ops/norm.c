/* Embedding, norms, rotation, activation. */
#include "grid.h"

#include <math.h>

xft_status xft_embedding(xft_stream *stream, const xft_tensor *ids, const xft_tensor *w, const xft_tensor *y) {
    XFT_ARG(stream, "embedding", y, XFT_DATA, 0, 0);
    XFT_ARG(stream, "embedding", ids, XFT_U32_ONLY, 1, xft_rows(y));
    XFT_ARG(stream, "embedding", w, XFT_DATA, 0, xft_cols(y));
    xft_grid grid = xft_elementwise_grid(xft_stream_device(stream), &y, 1, true);
    xft_embedding_params p = {grid.rows, grid.cols, w->pitch, y->pitch, xft_rows(w), grid.groups};
    xft_dispatch d = {.op = XFT_OP_embedding,
                      .tensors = {ids, w, y},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg, w->dtype, y->dtype},
                      .groups = {grid.groups, 1, 1},
                      .bytes = 2.0 * (double)xft_bytes(y)};
    return xft_record(stream, &d);
}

xft_status xft_embedding_backward(xft_stream *stream, const xft_tensor *ids, const xft_tensor *dy, const xft_tensor *dw,
                                  uint32_t skip_id) {
    XFT_ARG(stream, "embedding_backward", dy, XFT_DATA, 0, 0);
    XFT_ARG(stream, "embedding_backward", ids, XFT_U32_ONLY, 1, xft_rows(dy));
    XFT_ARG(stream, "embedding_backward", dw, XFT_DATA, 0, xft_cols(dy));
    XFT_APART(stream, "embedding_backward", 1, XFT_NAMED(dw), XFT_NAMED(dy), XFT_NAMED(ids));
    const xft_device *device = xft_stream_device(stream);
    const uint32_t rows = xft_rows(dy), cols = xft_cols(dy);
    /* CPU devices take the tokens piece by piece: an id that all of them share keeps one work-group turning for each of
     * them, and xft_groups_for says why that must have an end. */
    uint32_t piece = rows;
    if (device->info.device_class == XFT_CLASS_CPU)
        for (piece = 2048; (uint64_t)piece * (piece + cols + 512) / 256 > 30000;) piece /= 2;
    for (uint32_t first = 0; first < rows; first += piece) {
        const uint32_t count = rows - first < piece ? rows - first : piece;
        xft_tensor some_ids = *ids, some_dy;
        some_ids.offset += 4 * (uint64_t)first;
        some_ids.shape[ids->rank - 1] = count;
        some_ids.pitch -= first;
        XFT_TRY(xft_stream_stick(stream, xft_tensor_rows(dy, first, count, &some_dy)));
        xft_grid grid = xft_rowwise_grid(device, count, cols);
        xft_embedding_backward_params p = {count, cols, dy->pitch, dw->pitch, xft_rows(dw), skip_id, grid.groups};
        xft_dispatch d = {.op = XFT_OP_embedding_backward,
                          .tensors = {&some_ids, &some_dy, dw},
                          .params = &p,
                          .param_size = sizeof p,
                          .constants = {grid.wg, dy->dtype, dw->dtype},
                          .groups = {grid.groups, 1, 1},
                          .bytes = 3.0 * (double)xft_bytes(&some_dy) + 4.0 * count * count};
        XFT_TRY(xft_record(stream, &d));
    }
    return XFT_OK;
}

xft_status xft_rms_norm(xft_stream *stream, const xft_tensor *x, const xft_tensor *w, float eps, const xft_tensor *y,
                        const xft_tensor *rstd) {
    XFT_ARG(stream, "rms_norm", x, XFT_DATA, 0, 0);
    const uint32_t rows = xft_rows(x), cols = xft_cols(x);
    XFT_ARG(stream, "rms_norm", w, XFT_F32_ONLY, 1, cols);
    XFT_ARG(stream, "rms_norm", y, XFT_DATA, rows, cols);
    XFT_ARG(stream, "rms_norm", rstd, XFT_F32_ONLY, 1, rows);
    XFT_OP_FAIL_IF(!(eps >= 0) || isinf(eps), stream, "rms_norm: eps is %g; expected a finite number, not negative",
                   (double)eps);
    xft_grid grid = xft_rowwise_grid(xft_stream_device(stream), rows, cols);
    xft_rms_norm_params p = {rows, cols, x->pitch, y->pitch, eps, grid.groups};
    xft_dispatch d = {.op = XFT_OP_rms_norm,
                      .tensors = {x, w, y, rstd},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg, x->dtype, y->dtype},
                      .groups = {grid.groups, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_rms_norm_backward(xft_stream *stream, const xft_tensor *dy, const xft_tensor *x, const xft_tensor *w,
                                 const xft_tensor *rstd, const xft_tensor *dx, bool accumulate_dx,
                                 const xft_tensor *scratch, const xft_tensor *dw, bool accumulate_dw) {
    XFT_ARG(stream, "rms_norm_backward", dy, XFT_DATA, 0, 0);
    const uint32_t rows = xft_rows(dy), cols = xft_cols(dy);
    XFT_ARG(stream, "rms_norm_backward", x, XFT_DATA, rows, cols);
    XFT_ARG(stream, "rms_norm_backward", w, XFT_F32_ONLY, 1, cols);
    XFT_ARG(stream, "rms_norm_backward", rstd, XFT_F32_ONLY, 1, rows);
    XFT_ARG(stream, "rms_norm_backward", dx, XFT_DATA, rows, cols);
    xft_device *device = xft_stream_device(stream);
    if (dw) {
        XFT_ARG(stream, "rms_norm_backward", scratch, XFT_F32_ONLY, 0, cols);
        XFT_ARG(stream, "rms_norm_backward", dw, XFT_F32_ONLY, 1, cols);
        XFT_APART(stream, "rms_norm_backward", 3, XFT_NAMED(dx), XFT_NAMED(scratch), XFT_NAMED(dw), XFT_NAMED(dy),
                  XFT_NAMED(x), XFT_NAMED(w), XFT_NAMED(rstd));
        const uint32_t chunks = xft_rows(scratch), chunk_rows = xft_ceil_div(rows, chunks);
        XFT_TRY(xft_check_chunks(stream, "rms_norm_backward", chunks, rows));
        xft_grid grid = xft_columnwise_grid(device, chunks, chunk_rows, cols, 4);
        xft_rms_norm_backward_weight_params p = {rows,           cols,   dy->pitch,  x->pitch,
                                                 scratch->pitch, chunks, chunk_rows, grid.groups};
        xft_dispatch d = {.op = XFT_OP_rms_norm_backward_weight,
                          .tensors = {dy, x, rstd, scratch},
                          .params = &p,
                          .param_size = sizeof p,
                          .constants = {grid.wg, dy->dtype, x->dtype},
                          .groups = {grid.groups, 1, 1}};
        XFT_TRY(xft_record(stream, &d));
        XFT_TRY(xft_record_column_sum(stream, scratch, dw, accumulate_dw));
    }
    xft_grid grid = xft_rowwise_grid(device, rows, cols);
    xft_rms_norm_backward_params p = {rows, cols, dy->pitch, x->pitch, dx->pitch, accumulate_dx, grid.groups};
    xft_dispatch d = {.op = XFT_OP_rms_norm_backward,
                      .tensors = {dy, x, w, rstd, dx},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg, dy->dtype, x->dtype, dx->dtype},
                      .groups = {grid.groups, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_layer_norm(xft_stream *stream, const xft_tensor *x, const xft_tensor *w, const xft_tensor *b, float eps,
                          const xft_tensor *y, const xft_tensor *stats) {
    XFT_ARG(stream, "layer_norm", x, XFT_DATA, 0, 0);
    const uint32_t rows = xft_rows(x), cols = xft_cols(x);
    XFT_ARG(stream, "layer_norm", w, XFT_F32_ONLY, 1, cols);
    XFT_ARG(stream, "layer_norm", b, XFT_F32_ONLY, 1, cols);
    XFT_ARG(stream, "layer_norm", y, XFT_DATA, rows, cols);
    XFT_ARG(stream, "layer_norm", stats, XFT_F32_ONLY, rows, 2);
    XFT_OP_FAIL_IF(!(eps >= 0) || isinf(eps), stream, "layer_norm: eps is %g; expected a finite number, not negative",
                   (double)eps);
    xft_grid grid = xft_rowwise_grid(xft_stream_device(stream), rows, cols);
    xft_layer_norm_params p = {rows, cols, x->pitch, y->pitch, stats->pitch, eps, grid.groups};
    xft_dispatch d = {.op = XFT_OP_layer_norm,
                      .tensors = {x, w, b, y, stats},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg, x->dtype, y->dtype},
                      .groups = {grid.groups, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_layer_norm_backward(xft_stream *stream, const xft_tensor *dy, const xft_tensor *x, const xft_tensor *w,
                                   const xft_tensor *stats, const xft_tensor *dx, bool accumulate_dx,
                                   const xft_tensor *scratch, const xft_tensor *dw, const xft_tensor *db,
                                   bool accumulate_dw) {
    XFT_ARG(stream, "layer_norm_backward", dy, XFT_DATA, 0, 0);
    const uint32_t rows = xft_rows(dy), cols = xft_cols(dy);
    XFT_ARG(stream, "layer_norm_backward", x, XFT_DATA, rows, cols);
    XFT_ARG(stream, "layer_norm_backward", w, XFT_F32_ONLY, 1, cols);
    XFT_ARG(stream, "layer_norm_backward", stats, XFT_F32_ONLY, rows, 2);
    XFT_ARG(stream, "layer_norm_backward", dx, XFT_DATA, rows, cols);
    XFT_OP_FAIL_IF(!dw != !db, stream, "layer_norm_backward: %s is NULL but %s is not", dw ? "db" : "dw",
                   dw ? "dw" : "db");
    xft_device *device = xft_stream_device(stream);
    if (dw) {
        XFT_ARG(stream, "layer_norm_backward", scratch, XFT_F32_ONLY, 0, cols);
        XFT_ARG(stream, "layer_norm_backward", dw, XFT_F32_ONLY, 1, cols);
        XFT_ARG(stream, "layer_norm_backward", db, XFT_F32_ONLY, 1, cols);
        XFT_APART(stream, "layer_norm_backward", 4, XFT_NAMED(dx), XFT_NAMED(scratch), XFT_NAMED(dw), XFT_NAMED(db),
                  XFT_NAMED(dy), XFT_NAMED(x), XFT_NAMED(w), XFT_NAMED(stats));
        XFT_OP_FAIL_IF(xft_rows(scratch) % 2, stream, "layer_norm_backward: scratch has %u rows, must be even",
                       xft_rows(scratch));
        const uint32_t chunks = xft_rows(scratch) / 2, chunk_rows = xft_ceil_div(rows, chunks);
        XFT_TRY(xft_check_chunks(stream, "layer_norm_backward", chunks, rows));
        xft_tensor partial_w, partial_b;
        XFT_TRY(xft_stream_stick(stream, xft_tensor_rows(scratch, 0, chunks, &partial_w)));
        XFT_TRY(xft_stream_stick(stream, xft_tensor_rows(scratch, chunks, chunks, &partial_b)));
        xft_grid grid = xft_columnwise_grid(device, chunks, chunk_rows, cols, 2);
        xft_layer_norm_backward_weight_params p = {rows,           cols,   dy->pitch,  x->pitch,   stats->pitch,
                                                   scratch->pitch, chunks, chunk_rows, grid.groups};
        xft_dispatch d = {.op = XFT_OP_layer_norm_backward_weight,
                          .tensors = {dy, x, stats, &partial_w, &partial_b},
                          .params = &p,
                          .param_size = sizeof p,
                          .constants = {grid.wg, dy->dtype, x->dtype},
                          .groups = {grid.groups, 1, 1}};
        XFT_TRY(xft_record(stream, &d));
        XFT_TRY(xft_record_column_sum(stream, &partial_w, dw, accumulate_dw));
        XFT_TRY(xft_record_column_sum(stream, &partial_b, db, accumulate_dw));
    }
    xft_grid grid = xft_rowwise_grid(device, rows, cols);
    xft_layer_norm_backward_params p = {rows,         cols,      dy->pitch,     x->pitch,
                                        stats->pitch, dx->pitch, accumulate_dx, grid.groups};
    xft_dispatch d = {.op = XFT_OP_layer_norm_backward,
                      .tensors = {dy, x, w, stats, dx},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg, dy->dtype, x->dtype, dx->dtype},
                      .groups = {grid.groups, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_rope(xft_stream *stream, const xft_tensor *table, const xft_tensor *rows, uint32_t head_size,
                    bool inverse, const xft_tensor *x) {
    XFT_ARG(stream, "rope", x, XFT_DATA, 0, 0);
    XFT_ARG(stream, "rope", table, XFT_F32_ONLY, 0, 0);
    XFT_ARG(stream, "rope", rows, XFT_U32_ONLY, 1, xft_rows(x));
    const uint32_t rotary = xft_cols(table);
    XFT_OP_FAIL_IF(head_size == 0 || head_size % 2 || xft_cols(x) % head_size, stream,
                   "rope: head_size is %u, must be even and divide the %u columns of x", head_size, xft_cols(x));
    XFT_OP_FAIL_IF(rotary % 2 || rotary > head_size, stream,
                   "rope: table has %u columns, must be even and at most head_size, %u", rotary, head_size);
    const uint32_t half = rotary / 2, heads = xft_cols(x) / head_size;
    const uint32_t width = half % 2 ? 1 : half % 4 || head_size % 4 ? 2 : 4;
    xft_grid grid = xft_rowwise_grid(xft_stream_device(stream), xft_rows(x), width == 1 ? heads : heads * half);
    xft_rope_params p = {grid.rows,    heads,           head_size, half,
                         table->pitch, xft_rows(table), x->pitch,  inverse ? -1.0f : 1.0f,
                         grid.groups};
    xft_dispatch d = {.op = XFT_OP_rope,
                      .tensors = {table, rows, x},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg, x->dtype, width},
                      .groups = {grid.groups, 1, 1},
                      .bytes = 2.0 * (double)xft_bytes(x)};
    return xft_record(stream, &d);
}

xft_status xft_swiglu(xft_stream *stream, const xft_tensor *g, const xft_tensor *u, const xft_tensor *h) {
    XFT_ARG(stream, "swiglu", g, XFT_DATA, 0, 0);
    XFT_ARG(stream, "swiglu", u, 1u << g->dtype, xft_rows(g), xft_cols(g));
    XFT_ARG(stream, "swiglu", h, XFT_DATA, xft_rows(g), xft_cols(g));
    xft_grid grid = xft_elementwise_grid(xft_stream_device(stream), (const xft_tensor *[]){g, u, h}, 3, false);
    xft_swiglu_params p = {grid.rows, grid.cols, g->pitch, u->pitch, h->pitch, grid.groups};
    xft_dispatch d = {.op = XFT_OP_swiglu,
                      .tensors = {g, u, h},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg, g->dtype, h->dtype},
                      .groups = {grid.groups, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_swiglu_backward(xft_stream *stream, const xft_tensor *dh, const xft_tensor *weights,
                               const xft_tensor *source, const xft_tensor *offsets, const xft_tensor *g,
                               const xft_tensor *u, const xft_tensor *h, const xft_tensor *dots) {
    XFT_ARG(stream, "swiglu_backward", g, XFT_DATA, 0, 0);
    const uint32_t rows = xft_rows(g), cols = xft_cols(g);
    XFT_ARG(stream, "swiglu_backward", dh, XFT_DATA, rows, cols);
    XFT_ARG(stream, "swiglu_backward", u, 1u << g->dtype, rows, cols);
    if (h) XFT_ARG(stream, "swiglu_backward", h, XFT_DATA, rows, cols);
    bool weighted = weights || source || offsets || dots;
    if (weighted) {
        XFT_ARG(stream, "swiglu_backward", weights, XFT_F32_ONLY, 0, 0);
        XFT_ARG(stream, "swiglu_backward", source, XFT_U32_ONLY, 1, rows);
        XFT_ARG(stream, "swiglu_backward", offsets, XFT_U32_ONLY, 1, 0);
        XFT_ARG(stream, "swiglu_backward", dots, XFT_F32_ONLY, 1, rows);
        const uint64_t routed = (uint64_t)xft_rows(weights) * xft_cols(weights);
        XFT_OP_FAIL_IF(routed < rows, stream,
                       "swiglu_backward: weights is [%u,%u]; expected at least as many entries as g has rows, %u",
                       xft_rows(weights), xft_cols(weights), rows);
        XFT_OP_FAIL_IF(xft_cols(offsets) < 2, stream,
                       "swiglu_backward: offsets has 1 entry; expected one more than experts");
    }
    xft_grid grid = xft_rowwise_grid(xft_stream_device(stream), rows, cols);
    xft_swiglu_backward_params p = {.rows = rows,
                                    .cols = cols,
                                    .ld_dh = dh->pitch,
                                    .ld_g = g->pitch,
                                    .ld_u = u->pitch,
                                    .store_h = h != NULL,
                                    .groups = grid.groups};
    if (h) p.ld_h = h->pitch;
    if (weighted) {
        p.ld_weights = weights->pitch;
        p.top_k = xft_cols(weights);
        p.experts = xft_cols(offsets) - 1;
    }
    xft_dispatch d = {.op = XFT_OP_swiglu_backward,
                      .tensors = {dh, weights, source, offsets, g, u, h, dots},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg, dh->dtype, g->dtype, h ? h->dtype : XFT_F32, weighted},
                      .groups = {grid.groups, 1, 1}};
    return xft_record(stream, &d);
}
