/* What every embedding program does with a device: y = a + b on a padded tensor, and a look at the result. */
#ifndef EMBED_COMMON_H
#define EMBED_COMMON_H

#include <stdio.h>
#include <xft/ops.h>

enum { ROWS = 7, COLS = 13 };

/* Fills a and b, and says whether y is their sum. */
static inline void embed_inputs(float *a, float *b) {
    for (int i = 0; i < ROWS * COLS; i++) {
        a[i] = (float)i;
        b[i] = 0.5f * (float)i;
    }
}

static inline int embed_judge(const float *y, const char *device) {
    for (int i = 0; i < ROWS * COLS; i++)
        if (y[i] != 1.5f * (float)i) {
            printf("wrong on %s: element %d is %g, not %g\n", device, i, y[i], 1.5 * i);
            return 1;
        }
    printf("right on %s\n", device);
    return 0;
}

/* The work itself, through the linked library. 0 when all went well. */
static inline int embed_add(xft_device *device) {
    float a[ROWS * COLS], b[ROWS * COLS], y[ROWS * COLS];
    embed_inputs(a, b);
    xft_arena *arena = NULL;
    xft_stream *stream = NULL;
    xft_tensor ta, tb, ty;
    const uint32_t shape[2] = {ROWS, COLS};
    int failed = xft_arena_create(device, "embed", 0, &arena) || xft_tensor_create(arena, XFT_F32, 2, shape, &ta) ||
                 xft_tensor_create(arena, XFT_F32, 2, shape, &tb) || xft_tensor_create(arena, XFT_F32, 2, shape, &ty) ||
                 xft_tensor_write(&ta, XFT_F32, a) || xft_tensor_write(&tb, XFT_F32, b) ||
                 xft_stream_create(device, NULL, &stream) || xft_add(stream, &ta, &tb, &ty) || xft_stream_run(stream) ||
                 xft_tensor_read(&ty, XFT_F32, y);
    if (failed)
        printf("failed: %s\n", xft_error());
    else
        failed = embed_judge(y, xft_device_get_info(device)->id);
    xft_stream_destroy(stream);
    xft_arena_destroy(arena);
    xft_device_counters alive;
    xft_device_get_counters(device, &alive);
    if (!failed && (alive.buffers || alive.buffer_bytes || alive.programs)) {
        printf("left alive: %llu buffers, %llu programs\n", (unsigned long long)alive.buffers,
               (unsigned long long)alive.programs);
        failed = 1;
    }
    return failed;
}

#endif
