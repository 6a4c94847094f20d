/* How op functions (runtime/ops/) record a dispatch: check the tensors, fill the parameter struct, name the kernel. */
#ifndef XFT_RUNTIME_RECORD_H
#define XFT_RUNTIME_RECORD_H

#include "driver.h"
#include "op_params.h"
#include "xft/ops.h"

#include <math.h>

/* A dispatch to be recorded. tensors[i] is buffer i of the op's row (NULL where optional and absent). */
typedef struct xft_dispatch {
    xft_op op;
    const char *variant; /* NULL: plain */
    const xft_tensor *tensors[XFT_MAX_BUFFERS];
    const void *params; /* xft_<op>_params */
    uint32_t param_size;
    uint32_t constants[XFT_MAX_CONSTANTS]; /* in the order of the row (or of the variant's) */
    uint32_t groups[3];
    double flops, bytes; /* of work, for the submit budget and the benchmark; 0 is allowed */
} xft_dispatch;

/* Appends the dispatch. Access ranges come from the op's row and each tensor's bytes. Refuses overlapping arguments
 * one of which is written, foreign devices, grids over the device's limits. Errors stick to the stream. */
xft_status xft_record(xft_stream *stream, const xft_dispatch *dispatch);

xft_device *xft_stream_device(const xft_stream *stream);

/* XFT_OK while the recording has no error; else its status, so that ops after a failure do nothing. */
xft_status xft_stream_state(const xft_stream *stream);

/* Makes a failure of an op's own checks stick; returns `status`. */
xft_status xft_stream_stick(xft_stream *stream, xft_status status);

/* Checks one argument: not NULL, of this device, dtype among the set, as many rows and columns.
 *     XFT_ARG(stream, "rms_norm", x, XFT_DATA, 0, 0);
 * dtypes is a bit set of 1 << xft_dtype. rows, cols: 0 for any. */
enum {
    XFT_F32_ONLY = 1 << XFT_F32,
    XFT_U32_ONLY = 1 << XFT_U32,
    XFT_DATA = 1 << XFT_F32 | 1 << XFT_BF16,
    XFT_FLOATS = 1 << XFT_F32 | 1 << XFT_BF16 | 1 << XFT_F16
};
xft_status xft_check_argument(xft_stream *stream, const char *op, const char *name, const xft_tensor *tensor,
                              uint32_t dtypes, uint32_t rows, uint32_t cols);

/* For an op of several dispatches, of which xft_record sees one at a time: refuses an output, one of the first
 * `outputs` arguments, that overlaps any other argument. NULL tensors are passed over. */
typedef struct xft_named_argument {
    const char *name;
    const xft_tensor *tensor;
} xft_named_argument;
xft_status xft_check_apart(xft_stream *stream, const char *op, uint32_t outputs, const xft_named_argument *arguments,
                           uint32_t count);
#define XFT_NAMED(tensor)                                                                                              \
    { #tensor, tensor }
#define XFT_APART(stream, op, outputs, ...)                                                                            \
    XFT_TRY(xft_check_apart(stream, op, outputs, (const xft_named_argument[]){__VA_ARGS__},                            \
                            sizeof((const xft_named_argument[]){__VA_ARGS__}) / sizeof(xft_named_argument)))

/* Leaves the op when the stream already failed or the argument is wrong. */
#define XFT_ARG(stream, op, tensor, dtypes, rows, cols)                                                                \
    XFT_TRY(xft_check_argument(stream, op, #tensor, tensor, dtypes, rows, cols))

/* Refuses a number that is NaN or infinite. */
#define XFT_FINITE(stream, op, number)                                                                                 \
    XFT_OP_FAIL_IF(!isfinite(number), stream, "%s: " #number " is %g; expected a finite number", op, (double)(number))

/* An op's own refusal: message "op: …", sticks to the stream. */
#define XFT_OP_FAIL_IF(condition, stream, ...)                                                                         \
    do {                                                                                                               \
        if (condition) return xft_stream_stick(stream, xft_fail(XFT_ERROR_INVALID_ARGUMENT, __VA_ARGS__));             \
    } while (0)

/* Work-groups for a loop over `items` rows or blocks: all of them up to a limit that keeps a GPU full, few on a CPU
 * device, where a group costs 10 us and there is nothing to hide; but there at most about 32 items for a group, because
 * llvmpipe leaves every loop of an invocation, without a word, once they have turned 65535 times in all, the loops
 * inside loops included. What an invocation does for one item must so stay below 2000 turns. Depends on the device
 * class only. */
uint32_t xft_groups_for(const xft_device *device, uint32_t items);

/* Invocations per work-group for row-wise and element-wise kernels on this device: the choice "workgroup". */
uint32_t xft_workgroup_for(const xft_device *device);

/* Floats of a vector in the forms for CPUs, 16 or 8; 0: the device takes the plain forms. The choice "lanes", of CPU
 * devices through OpenCL; 0 on all others. */
uint32_t xft_lanes_for(const xft_device *device);

/* Estimate of a dispatch's time before the device was measured (xft_calibrate), for cutting a recording into submits:
 * the order of magnitude of a small GPU, or of a CPU device. */
double xft_estimate_ms(const xft_device *device, double flops, double bytes);

#endif
