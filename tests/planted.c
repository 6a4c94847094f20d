/* xft_planted: bugs planted for tools that watch a program; tests/run.sh shows that each tool sees its bug.
 *
 *     xft_planted overrun DEVICE             add writes past the buffer of its output (GPU-assisted validation)
 *     xft_planted barriers DEVICE OP KERNEL  OP's cases with the work-group barriers of its KERNEL removed (oclgrind,
 * newer layers)
 */
#include "op_check.h"
#include "record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A dispatch whose parameters tell of more rows than y has. */
static xft_status record_overrun(xft_stream *stream, const xft_tensor *x, const xft_tensor *y) {
    xft_add_params p = {xft_rows(x), xft_cols(x), x->pitch, x->pitch, y->pitch, 1};
    return xft_record(stream, &(xft_dispatch){.op = XFT_OP_add,
                                              .tensors = {x, x, y},
                                              .params = &p,
                                              .param_size = sizeof p,
                                              .constants = {16, XFT_F32, XFT_F32, XFT_F32},
                                              .groups = {1, 1, 1}});
}

static int overrun(xft_device *device) {
    xft_arena *arena = NULL;
    xft_stream *stream = NULL;
    xft_tensor x, y;
    xft_status status = xft_arena_create(device, "planted", 0, &arena);
    if (status == XFT_OK) status = xft_tensor_create(arena, XFT_F32, 2, (const uint32_t[]){64, 64}, &x);
    if (status == XFT_OK) status = xft_tensor_create(arena, XFT_F32, 2, (const uint32_t[]){1, 64}, &y);
    if (status == XFT_OK) status = xft_stream_create(device, NULL, &stream);
    if (status == XFT_OK) status = record_overrun(stream, &x, &y);
    if (status == XFT_OK) status = xft_stream_run(stream);
    xft_stream_destroy(stream);
    xft_arena_destroy(arena);
    return status != XFT_OK;
}

/* Blanks the barriers of an OpenCL text. */
static bool blank_text(char *text, uint64_t size) {
    static const char barrier[] = "BARRIER();";
    bool found = false;
    for (char *at; (at = memmem(text, size, barrier, sizeof barrier - 1)); found = true)
        memset(at, ' ', sizeof barrier - 1);
    return found;
}

/* Makes every OpControlBarrier of a module as many OpNop. */
static bool blank_module(uint32_t *words, uint64_t size) {
    enum { HEADER = 5, CONTROL_BARRIER = 224, NOP = 1 << 16 };
    bool found = false;
    for (uint64_t i = HEADER, length; i < size / 4; i += length) {
        length = words[i] >> 16;
        if ((words[i] & 0xffff) != CONTROL_BARRIER) continue;
        for (uint64_t k = 0; k < length; k++) words[i + k] = NOP;
        found = true;
    }
    return found;
}

/* The table of kernels with another content for the plain forms of one of them. */
static bool remove_barriers(const char *kernel) {
    uint32_t count;
    const xft_kernel_source *sources = xft_kernel_sources(&count);
    bool found = false;
    for (uint32_t i = 0; i < count; i++) {
        xft_kernel_source *s = (xft_kernel_source *)&sources[i];
        if (*s->variant || strcmp(xft_op_get_info(s->op)->name, kernel)) continue;
        void *copy = malloc(s->size);
        if (!copy) return false;
        memcpy(copy, s->data, s->size);
        s->data = copy;
        found |= s->api == XFT_API_OPENCL ? blank_text(copy, s->size) : blank_module(copy, s->size);
    }
    return found;
}

static void ignore(const op_case *c, const op_result *result) {
    (void)c;
    (void)result;
}

int main(int argc, char **argv) {
    op_checker checker;
    bool barriers = argc == 5 && !strcmp(argv[1], "barriers");
    if (!barriers && !(argc == 3 && !strcmp(argv[1], "overrun"))) {
        fprintf(stderr, "usage: %s overrun DEVICE | barriers DEVICE OP KERNEL\n", argv[0]);
        return 2;
    }
    if (barriers && !remove_barriers(argv[4])) {
        fprintf(stderr, "%s has no barrier\n", argv[4]);
        return 2;
    }
    if (op_checker_open(&checker, argv[2], XFT_DEBUG_SEPARATE_BUFFERS)) {
        fprintf(stderr, "%s\n", xft_error());
        return 2;
    }
    int failed = 0;
    if (barriers)
        failed = op_check_all(&checker, argv[3], CASES_SMALL, ignore).cases == 0;
    else
        failed = overrun(checker.device);
    if (failed) fprintf(stderr, "%s\n", xft_error());
    op_checker_close(&checker);
    return failed;
}
