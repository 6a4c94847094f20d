#include "room.h"

#include "error.h"

/* What a tensor takes on a device of the usual alignment: for plans without a device. */
static uint64_t usual_footprint(xft_dtype dtype, uint32_t rank, const uint32_t *shape) {
    const uint64_t size = xft_dtype_size(dtype), step = 16 / size;
    uint64_t rows = 1;
    for (uint32_t i = 0; i + 1 < rank; i++) rows *= shape[i];
    return (rows * ((shape[rank - 1] + step - 1) / step * step) * size + 511) / 512 * 512;
}

xft_tensor xft_room_take(xft_room *room, xft_dtype dtype, uint32_t d0, uint32_t d1, uint32_t d2) {
    const uint32_t shape[4] = {d0, d1, d2, 0}, rank = d2 ? 3 : d1 ? 2 : 1;
    xft_tensor tensor = {0};
    if (room->status != XFT_OK) return tensor;
    uint64_t bytes =
        room->device ? xft_tensor_footprint(room->device, dtype, rank, shape) : usual_footprint(dtype, rank, shape);
    if (!bytes)
        room->status = xft_fail(XFT_ERROR_INVALID_ARGUMENT, "a tensor of shape [%u,%u,%u] cannot be made", d0, d1, d2);
    else if (room->arena)
        room->status = xft_tensor_create(room->arena, dtype, rank, shape, &tensor);
    else
        tensor = (xft_tensor){.dtype = dtype, .rank = rank, .shape = {d0, d1 ? d1 : 1, d2 ? d2 : 1, 1}};
    if (room->status == XFT_OK) room->bytes[room->kind] += bytes;
    return tensor;
}

uint64_t xft_room_total(const xft_room *room) {
    uint64_t total = 0;
    for (int i = 0; i < XFT_ROOM_KINDS; i++) total += room->bytes[i];
    return total;
}
