#include "room.h"

#include "error.h"

/* What a tensor takes on a device of the usual alignment: for plans without a device. */
static uint64_t usual_footprint(xft_dtype dtype, uint32_t rank, const uint32_t *shape) {
    const uint64_t size = xft_dtype_size(dtype), step = 16 / size;
    uint64_t rows = 1;
    for (uint32_t i = 0; i + 1 < rank; i++) rows *= shape[i];
    return (rows * ((shape[rank - 1] + step - 1) / step * step) * size + 511) / 512 * 512;
}

/* Puts `bytes` behind what the last buffer holds, or into the next one. */
static xft_status pack(xft_room *room, uint64_t bytes) {
    const uint64_t most = room->device ? xft_device_get_info(room->device)->max_allocation_bytes : UINT64_MAX;
    XFT_FAIL_IF(bytes > most, XFT_ERROR_OUT_OF_DEVICE_MEMORY,
                "a tensor of %llu bytes; one allocation on %s holds at most %llu", (unsigned long long)bytes,
                xft_device_get_info(room->device)->id, (unsigned long long)most);
    if (!room->buffer_count || most - room->buffers[room->buffer_count - 1] < bytes) {
        XFT_FAIL_IF(room->buffer_count == sizeof room->buffers / sizeof *room->buffers, XFT_ERROR_OUT_OF_DEVICE_MEMORY,
                    "%u buffers of at most %llu bytes do not hold all tensors", room->buffer_count,
                    (unsigned long long)most);
        room->buffer_count++;
    }
    room->buffers[room->buffer_count - 1] += bytes;
    return XFT_OK;
}

xft_status xft_room_arena(const xft_room *counted, xft_device *device, const char *name, xft_arena **arena) {
    XFT_TRY(xft_arena_create(device, name, xft_room_total(counted), arena));
    for (uint32_t i = 0; i < counted->buffer_count; i++) XFT_TRY(xft_arena_reserve(*arena, counted->buffers[i]));
    return XFT_OK;
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
    else {
        room->status = pack(room, bytes);
        tensor = (xft_tensor){.dtype = dtype, .rank = rank, .shape = {d0, d1 ? d1 : 1, d2 ? d2 : 1, 1}};
    }
    if (room->status == XFT_OK) room->bytes[room->kind] += bytes;
    return tensor;
}

uint64_t xft_room_total(const xft_room *room) {
    uint64_t total = 0;
    for (int i = 0; i < XFT_ROOM_KINDS; i++) total += room->bytes[i];
    return total;
}
