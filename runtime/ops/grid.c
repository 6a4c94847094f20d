#include "grid.h"

uint32_t xft_ceil_div(uint32_t a, uint32_t b) {
    return a / b + (a % b != 0);
}

/* The smallest power of two that gives every quad of a row an invocation, between 16 and the device's choice. An OpenCL
 * compiler for CPUs makes vectors of the quads of one work-item, and of neighbouring work-items only where there is no
 * loop: there a single work-item, which walks through the row, is several times faster. */
static uint32_t workgroup(const xft_device *device, uint32_t quads) {
    if (xft_lanes_for(device)) return 1;
    uint32_t most = xft_workgroup_for(device), wg = most < 16 ? most : 16;
    while (wg < most && wg < quads) wg *= 2;
    return wg;
}

xft_grid xft_elementwise_grid(const xft_device *device, const xft_tensor *const *tensors, uint32_t count,
                              bool keep_rows) {
    xft_grid grid = {.rows = xft_rows(tensors[0]), .cols = xft_cols(tensors[0])};
    bool flat = !keep_rows && tensors[0]->pitch - grid.cols < 8;
    for (uint32_t i = 1; i < count; i++) flat = flat && tensors[i]->pitch == tensors[0]->pitch;
    if (flat) {
        grid.cols = grid.rows * tensors[0]->pitch;
        grid.rows = 1;
    }
    grid.wg = workgroup(device, xft_ceil_div(grid.cols, 4));
    grid.groups = xft_groups_for(device, grid.rows * xft_ceil_div(grid.cols, 4096));
    return grid;
}

xft_grid xft_rowwise_grid(const xft_device *device, uint32_t rows, uint32_t cols) {
    return (xft_grid){rows, cols, workgroup(device, xft_ceil_div(cols, 4)), xft_groups_for(device, rows)};
}

xft_grid xft_columnwise_grid(const xft_device *device, uint32_t chunks, uint32_t chunk_rows, uint32_t cols,
                             uint32_t quads) {
    xft_grid grid = {chunks, cols, workgroup(device, xft_ceil_div(cols, 4 * quads)), 0};
    const uint32_t items = chunks * xft_ceil_div(cols, 4 * quads * grid.wg);
    const uint64_t least = (uint64_t)items * chunk_rows / 32768; /* the loop over rows turns seldom enough */
    grid.groups = xft_groups_for(device, items);
    if (grid.groups < least) grid.groups = least < items ? (uint32_t)least : items;
    return grid;
}

xft_status xft_check_chunks(xft_stream *stream, const char *op, uint32_t chunks, uint32_t rows) {
    const uint32_t least = xft_ceil_div(rows, XFT_MOST_CHUNK_ROWS);
    XFT_OP_FAIL_IF(chunks < least, stream, "%s: scratch has room for %u chunks; expected at least %u for %u rows", op,
                   chunks, least, rows);
    return XFT_OK;
}
