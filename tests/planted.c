/* xft_planted: bugs planted for tools that watch a program; tests/run.sh shows that each tool sees its bug.
 *
 *     xft_planted overrun DEVICE             add writes past the buffer of its output (GPU-assisted validation)
 *     xft_planted barriers DEVICE OP KERNEL  OP's cases with the work-group barriers of its KERNEL removed (oclgrind)
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

/* The table of kernels with another text for one of them. */
static bool remove_barriers(const char *kernel) {
    static const char barrier[] = "BARRIER();";
    uint32_t count;
    const xft_kernel_source *sources = xft_kernel_sources(&count);
    for (uint32_t i = 0; i < count; i++) {
        xft_kernel_source *s = (xft_kernel_source *)&sources[i];
        if (s->api != XFT_API_OPENCL || *s->variant || strcmp(xft_op_get_info(s->op)->name, kernel)) continue;
        char *text = malloc(s->size), *at;
        if (!text) return false;
        memcpy(text, s->data, s->size);
        s->data = (unsigned char *)text;
        bool found = false;
        for (; (at = memmem(text, s->size, barrier, sizeof barrier - 1)); found = true)
            memset(at, ' ', sizeof barrier - 1);
        return found;
    }
    return false;
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
