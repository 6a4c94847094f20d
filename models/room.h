/* Where tensors come from: an arena, or, for a plan, only a sum. The same allocation code serves both, so that a plan
 * and the allocator cannot disagree. The first failure sticks; takers need not check each tensor. */
#ifndef XFT_MODELS_ROOM_H
#define XFT_MODELS_ROOM_H

#include "xft/tensor.h"

/* What the memory is for: the lines of a plan. */
typedef enum xft_room_kind {
    XFT_ROOM_WEIGHTS,
    XFT_ROOM_GRADIENTS,
    XFT_ROOM_OPTIMIZER,
    XFT_ROOM_ACTIVATIONS,
    XFT_ROOM_SCRATCH,
    XFT_ROOM_CACHE,
    XFT_ROOM_KINDS
} xft_room_kind;

typedef struct xft_room {
    const xft_device *device;       /* for alignment and the largest allocation; NULL: 512 bytes, no largest */
    xft_arena *arena;               /* NULL: count only */
    xft_room_kind kind;             /* of what is taken next */
    uint64_t bytes[XFT_ROOM_KINDS]; /* taken so far */
    uint64_t buffers[512];          /* bytes of the buffers that hold them, each as large as what is in it */
    uint32_t buffer_count;
    xft_status status;
} xft_room;

/* An arena with room for exactly what was counted, taken in the same order: no buffer has space that none of it fits.
 */
xft_status xft_room_arena(const xft_room *counted, xft_device *device, const char *name, xft_arena **arena);

/* Bytes of all kinds. */
uint64_t xft_room_total(const xft_room *room);

/* A tensor of shape [d0], [d0,d1] or [d0,d1,d2]; unused dimensions are 0. Without an arena it has a shape, no memory.
 */
xft_tensor xft_room_take(xft_room *room, xft_dtype dtype, uint32_t d0, uint32_t d1, uint32_t d2);

#endif
