/* Data movement and sums. */
#include "grid.h"

enum { XFT_ANY = XFT_FLOATS | XFT_U32_ONLY };

/* Two elements of a 16-bit type as one word, or one of a 32-bit type. */
static uint32_t fill_word(xft_dtype dtype, float value) {
    union {
        float f;
        uint32_t u;
    } bits = {value};
    switch (dtype) {
    case XFT_BF16:
        return xft_f32_to_bf16(value) * 0x10001u;
    case XFT_F16:
        return xft_f32_to_f16(value) * 0x10001u;
    case XFT_U32:
        return (uint32_t)value;
    default:
        return bits.u;
    }
}

/* The same memory as 32-bit words: 16-bit elements in pairs, the last one of an odd row with the padding behind it. */
static xft_tensor words_of(const xft_tensor *x) {
    xft_tensor words = *x;
    words.dtype = XFT_U32;
    if (xft_dtype_size(x->dtype) == 2) {
        words.shape[x->rank - 1] = xft_ceil_div(xft_cols(x), 2);
        words.pitch = x->pitch / 2;
    }
    return words;
}

xft_status xft_fill(xft_stream *stream, const xft_tensor *y, float value) {
    XFT_ARG(stream, "fill", y, XFT_ANY, 0, 0);
    XFT_OP_FAIL_IF(y->dtype == XFT_U32 && !(value >= 0 && value < 4294967296.0f), stream,
                   "fill: value is %g, which u32 cannot hold", (double)value);
    const xft_tensor words = words_of(y), *w = &words;
    xft_grid grid = xft_elementwise_grid(xft_stream_device(stream), &w, 1, false);
    xft_fill_params p = {grid.rows, grid.cols, words.pitch, fill_word(y->dtype, value), grid.groups};
    xft_dispatch d = {.op = XFT_OP_fill,
                      .tensors = {w},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg},
                      .groups = {grid.groups, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_copy(xft_stream *stream, const xft_tensor *x, const xft_tensor *y) {
    XFT_ARG(stream, "copy", x, XFT_ANY, 0, 0);
    XFT_ARG(stream, "copy", y, 1u << x->dtype, xft_rows(x), xft_cols(x));
    const xft_tensor from = words_of(x), to = words_of(y), *t[] = {&from, &to};
    xft_grid grid = xft_elementwise_grid(xft_stream_device(stream), t, 2, false);
    xft_copy_params p = {grid.rows, grid.cols, from.pitch, to.pitch, grid.groups};
    xft_dispatch d = {.op = XFT_OP_copy,
                      .tensors = {&from, &to},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg},
                      .groups = {grid.groups, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_cast(xft_stream *stream, const xft_tensor *x, const xft_tensor *y, xft_rounding rounding,
                    const xft_tensor *step, uint32_t key) {
    XFT_ARG(stream, "cast", x, XFT_FLOATS, 0, 0);
    XFT_ARG(stream, "cast", y, XFT_FLOATS, xft_rows(x), xft_cols(x));
    bool stochastic = rounding == XFT_ROUND_STOCHASTIC;
    XFT_OP_FAIL_IF(!stochastic && rounding != XFT_ROUND_NEAREST, stream, "cast: rounding is %d", (int)rounding);
    if (stochastic) {
        XFT_ARG(stream, "cast", step, XFT_U32_ONLY, 1, 16);
        XFT_OP_FAIL_IF(y->dtype != XFT_BF16, stream, "cast: y is %s; stochastic rounding is to bf16",
                       xft_dtype_name(y->dtype));
    }
    xft_grid grid = xft_elementwise_grid(xft_stream_device(stream), (const xft_tensor *[]){x, y}, 2, stochastic);
    xft_cast_params p = {grid.rows, grid.cols, x->pitch, y->pitch, key, grid.groups};
    xft_dispatch d = {.op = XFT_OP_cast,
                      .tensors = {x, stochastic ? step : NULL, y},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg, x->dtype, y->dtype, stochastic},
                      .groups = {grid.groups, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_add(xft_stream *stream, const xft_tensor *a, const xft_tensor *b, const xft_tensor *y) {
    XFT_ARG(stream, "add", a, XFT_DATA, 0, 0);
    XFT_ARG(stream, "add", b, XFT_DATA, xft_rows(a), xft_cols(a));
    XFT_ARG(stream, "add", y, XFT_DATA, xft_rows(a), xft_cols(a));
    xft_grid grid = xft_elementwise_grid(xft_stream_device(stream), (const xft_tensor *[]){a, b, y}, 3, false);
    xft_add_params p = {grid.rows, grid.cols, a->pitch, b->pitch, y->pitch, grid.groups};
    xft_dispatch d = {.op = XFT_OP_add,
                      .tensors = {a, b, y},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg, a->dtype, b->dtype, y->dtype},
                      .groups = {grid.groups, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_accumulate(xft_stream *stream, const xft_tensor *x, const xft_tensor *y) {
    XFT_ARG(stream, "accumulate", x, XFT_DATA, 0, 0);
    XFT_ARG(stream, "accumulate", y, XFT_DATA, xft_rows(x), xft_cols(x));
    xft_grid grid = xft_elementwise_grid(xft_stream_device(stream), (const xft_tensor *[]){x, y}, 2, false);
    xft_accumulate_params p = {grid.rows, grid.cols, x->pitch, y->pitch, grid.groups};
    xft_dispatch d = {.op = XFT_OP_accumulate,
                      .tensors = {x, y},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg, x->dtype, y->dtype},
                      .groups = {grid.groups, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_bias(xft_stream *stream, const xft_tensor *b, const xft_tensor *y) {
    XFT_ARG(stream, "bias", y, XFT_DATA, 0, 0);
    XFT_ARG(stream, "bias", b, XFT_F32_ONLY, 1, xft_cols(y));
    xft_grid grid = xft_elementwise_grid(xft_stream_device(stream), &y, 1, true);
    xft_bias_params p = {grid.rows, grid.cols, y->pitch, grid.groups};
    xft_dispatch d = {.op = XFT_OP_bias,
                      .tensors = {b, y},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg, y->dtype},
                      .groups = {grid.groups, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_record_column_sum(xft_stream *stream, const xft_tensor *x, const xft_tensor *y, bool accumulate) {
    const uint32_t rows = xft_rows(x), cols = xft_cols(x), chunks = xft_rows(y);
    const uint32_t chunk_rows = xft_ceil_div(rows, chunks);
    xft_grid grid = xft_columnwise_grid(xft_stream_device(stream), chunks, chunk_rows, cols, 4);
    xft_column_sum_params p = {rows, cols, x->pitch, y->pitch, chunks, chunk_rows, accumulate, grid.groups};
    xft_dispatch d = {.op = XFT_OP_column_sum,
                      .tensors = {x, y},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg, x->dtype},
                      .groups = {grid.groups, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_column_sum(xft_stream *stream, const xft_tensor *x, const xft_tensor *scratch, const xft_tensor *y,
                          bool accumulate) {
    XFT_ARG(stream, "column_sum", x, XFT_DATA, 0, 0);
    XFT_ARG(stream, "column_sum", scratch, XFT_F32_ONLY, 0, xft_cols(x));
    XFT_ARG(stream, "column_sum", y, XFT_F32_ONLY, 1, xft_cols(x));
    XFT_TRY(xft_check_chunks(stream, "column_sum", xft_rows(scratch), xft_rows(x)));
    XFT_APART(stream, "column_sum", 2, XFT_NAMED(scratch), XFT_NAMED(y), XFT_NAMED(x));
    XFT_TRY(xft_record_column_sum(stream, x, scratch, false));
    return xft_record_column_sum(stream, scratch, y, accumulate);
}

xft_status xft_reduce_sum(xft_stream *stream, const xft_tensor *x, const xft_tensor *y, bool accumulate) {
    XFT_ARG(stream, "reduce_sum", x, XFT_F32_ONLY, 0, 0);
    XFT_ARG(stream, "reduce_sum", y, XFT_F32_ONLY, 1, 1);
    /* One work-group does it; see xft_groups_for. */
    XFT_OP_FAIL_IF((uint64_t)xft_rows(x) * (xft_cols(x) / 256 + 2) > 60000, stream,
                   "reduce_sum: x is [%u,%u], too large for this op: rows * (columns / 256 + 2) may be 60000 at most",
                   xft_rows(x), xft_cols(x));
    xft_grid grid = xft_rowwise_grid(xft_stream_device(stream), xft_rows(x), xft_cols(x));
    xft_reduce_sum_params p = {grid.rows, grid.cols, x->pitch, accumulate};
    xft_dispatch d = {.op = XFT_OP_reduce_sum,
                      .tensors = {x, y},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg},
                      .groups = {1, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_random_normal(xft_stream *stream, const xft_tensor *y, float std, uint64_t seed, uint32_t key) {
    XFT_ARG(stream, "random_normal", y, XFT_F32_ONLY, 0, 0);
    XFT_FINITE(stream, "random_normal", std);
    xft_grid grid = xft_elementwise_grid(xft_stream_device(stream), &y, 1, true);
    xft_random_normal_params p = {grid.rows, grid.cols,  y->pitch, std, (uint32_t)seed, (uint32_t)(seed >> 32),
                                  key,       grid.groups};
    xft_dispatch d = {.op = XFT_OP_random_normal,
                      .tensors = {y},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {grid.wg},
                      .groups = {grid.groups, 1, 1},
                      .flops = 60.0 * grid.rows * grid.cols};
    return xft_record(stream, &d);
}
