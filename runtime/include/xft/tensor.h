/* Tensors: shaped views of device memory, and the arenas they live in.
 *
 * A tensor is a plain value. It owns nothing: its memory belongs to an arena, and the tensor is valid as long as the
 * arena is. Elements of the last dimension are contiguous; `pitch` is the distance between rows in elements, a
 * multiple of 4 for 4-byte types and of 8 for 2-byte types, so every row starts on 16 bytes. What lies between the
 * end of a row and the next row is unspecified and never read into a result. All leading dimensions together are the
 * rows: a [B,T,H] tensor has B*T rows of H.
 */
#ifndef XFT_TENSOR_H
#define XFT_TENSOR_H

#include "xft/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct xft_buffer xft_buffer;

typedef struct xft_tensor {
    xft_buffer *buffer;
    uint64_t offset; /* bytes into the buffer, a multiple of 16 */
    xft_dtype dtype;
    uint32_t rank;     /* 1 to 4 */
    uint32_t shape[4]; /* outermost first; unused entries are 1 */
    uint32_t pitch;    /* elements between the starts of two rows */
} xft_tensor;

/* Rows (product of all dimensions but the last), columns (the last), bytes from the first to behind the last row. */
XFT_API uint32_t xft_rows(const xft_tensor *tensor);
XFT_API uint32_t xft_cols(const xft_tensor *tensor);
XFT_API uint64_t xft_bytes(const xft_tensor *tensor);

/* Bytes an arena spends on a tensor of that shape, padding and alignment of `device` included. 0 for a bad shape. */
XFT_API uint64_t xft_tensor_footprint(const xft_device *device, xft_dtype dtype, uint32_t rank, const uint32_t *shape);

/* `count` whole rows from row `first`, as a [count, cols] tensor. */
XFT_API xft_status xft_tensor_rows(const xft_tensor *tensor, uint32_t first, uint32_t count, xft_tensor *view);

/* Entry `index` of the first dimension: a [E,N,K] tensor gives [N,K]; a [N,K] tensor gives [K]. */
XFT_API xft_status xft_tensor_at(const xft_tensor *tensor, uint32_t index, xft_tensor *view);

/* The same memory with another shape of as many rows and columns ([T,H] as [B,T/B,H]). */
XFT_API xft_status xft_tensor_reshape(const xft_tensor *tensor, uint32_t rank, const uint32_t *shape, xft_tensor *view);

/* ---- Arenas ----------------------------------------------------------------------------------------------------- */

typedef struct xft_arena xft_arena;

/* Memory for tensors, `bytes` of them in all at the most (0: no limit of its own), taken from the driver in buffers of
 * at most max_allocation_bytes as they are needed. Where one buffer is not enough, the end of a buffer that the next
 * tensor does not fit stays unused and is taken on top of `bytes`, unless the buffers were reserved to measure.
 * Allocation only goes up; xft_arena_release goes back to a mark. */
XFT_API xft_status xft_arena_create(xft_device *device, const char *name, uint64_t bytes, xft_arena **arena);

/* Takes one buffer of `bytes` from the driver now. Reserved buffers are filled in their order, each until a tensor does
 * not fit what is left of it. With XFT_DEBUG_SEPARATE_BUFFERS nothing is reserved. */
XFT_API xft_status xft_arena_reserve(xft_arena *arena, uint64_t bytes);

/* Frees the memory of every tensor of the arena. NULL is accepted. */
XFT_API void xft_arena_destroy(xft_arena *arena);

/* A new tensor, content unspecified. Refused with numbers when it does not fit the arena or one allocation (4 GiB). */
XFT_API xft_status xft_tensor_create(xft_arena *arena, xft_dtype dtype, uint32_t rank, const uint32_t *shape,
                                     xft_tensor *tensor);
XFT_API uint64_t xft_arena_mark(const xft_arena *arena);
XFT_API void xft_arena_release(xft_arena *arena, uint64_t mark);
XFT_API uint64_t xft_arena_used(const xft_arena *arena);

/* With XFT_DEBUG_CANARIES: XFT_ERROR_INVALID_ARGUMENT and the name of the first tensor (arena, number, shape) behind
 * which something was written. Waits for the device. */
XFT_API xft_status xft_arena_check(xft_arena *arena);

/* ---- Data in and out. All of these wait for the device: never inside a step. ------------------------------------ */

/* Writes rows x cols elements, unpadded and row-major, of type `dtype` (XFT_F32, or the tensor's own); f32 is rounded
 * to the tensor's type, to nearest even. */
XFT_API xft_status xft_tensor_write(const xft_tensor *tensor, xft_dtype dtype, const void *data);

/* Reads rows x cols elements, unpadded, converted to `dtype` (XFT_F32, or the tensor's own). */
XFT_API xft_status xft_tensor_read(const xft_tensor *tensor, xft_dtype dtype, void *data);

/* Element conversions used by the above, for `count` elements (nearest even; NaN stays NaN). */
XFT_API float xft_bf16_to_f32(uint16_t bits);
XFT_API uint16_t xft_f32_to_bf16(float value);
XFT_API float xft_f16_to_f32(uint16_t bits);
XFT_API uint16_t xft_f32_to_f16(float value);

#ifdef __cplusplus
}
#endif
#endif
