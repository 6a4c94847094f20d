/* Launch grids shared by the element-wise, row-wise and column-wise ops. */
#ifndef XFT_RUNTIME_OPS_GRID_H
#define XFT_RUNTIME_OPS_GRID_H

#include "record.h"

/* The array as the kernel loops over it, invocations per work-group, work-groups. */
typedef struct xft_grid {
    uint32_t rows, cols, wg, groups;
} xft_grid;

/* For kernels with FOR_QUADS, over tensors of one shape. Where all have one pitch, without more padding than alignment
 * asks for, the array is taken as one long row, which keeps every invocation busy however narrow the rows are; not with
 * keep_rows, for kernels to which the number of a row means something. */
xft_grid xft_elementwise_grid(const xft_device *device, const xft_tensor *const *tensors, uint32_t count,
                              bool keep_rows);

/* A work-group per row, its invocations over the quads of the row. */
xft_grid xft_rowwise_grid(const xft_device *device, uint32_t rows, uint32_t cols);

/* Sums over rows: `chunks` of chunk_rows, at most XFT_MOST_CHUNK_ROWS, times blocks of quads * 4 * wg columns. See
 * xft_groups_for for the reason of the limit. */
enum { XFT_MOST_CHUNK_ROWS = 16384 };
xft_grid xft_columnwise_grid(const xft_device *device, uint32_t chunks, uint32_t chunk_rows, uint32_t cols,
                             uint32_t quads);

/* Refuses a scratch tensor with too few chunks for `rows` rows. */
xft_status xft_check_chunks(xft_stream *stream, const char *op, uint32_t chunks, uint32_t rows);

/* ceil(a / b) without overflow */
uint32_t xft_ceil_div(uint32_t a, uint32_t b);

/* One pass of column sums: row i of y = or += sum of the rows of x in chunk i; x is cut into as many chunks as y has
 * rows. A single row is the last step of every gradient of a parameter vector. */
xft_status xft_record_column_sum(xft_stream *stream, const xft_tensor *x, const xft_tensor *y, bool accumulate);

#endif
