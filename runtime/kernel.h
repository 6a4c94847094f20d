/* The kernels as data: what ops.def and the build know of each, and the choice among forms. */
#ifndef XFT_RUNTIME_KERNEL_H
#define XFT_RUNTIME_KERNEL_H

#include "xft/device.h"

enum { XFT_MAX_BUFFERS = 10, XFT_MAX_CONSTANTS = 16, XFT_MAX_PARAMS = 24, XFT_ARGUMENT_BYTES = 128 };

/* XFT_OP_<name>, one per row of ops.def. */
typedef enum xft_op {
#define OP(name, buffers, constants) XFT_OP_##name,
#define VARIANT(op, name, api, constants)
#include "ops.def"
#undef OP
#undef VARIANT
    XFT_OP_COUNT
} xft_op;

typedef enum xft_access { XFT_READ = 1, XFT_WRITE = 2, XFT_MODIFY = 3 } xft_access;

/* An op's signature, parsed from its row. */
typedef struct xft_op_info {
    const char *name;
    uint32_t buffer_count;
    char buffer_names[XFT_MAX_BUFFERS][16];
    xft_access access[XFT_MAX_BUFFERS];
    bool optional[XFT_MAX_BUFFERS];
    uint32_t param_words; /* 4-byte fields of its parameter struct */
} xft_op_info;
const xft_op_info *xft_op_get_info(xft_op op);

/* One form of an op for one API: the text or SPIR-V the build embedded, and the names of its constants. */
typedef struct xft_kernel_source {
    xft_op op;
    const char *variant; /* "" for the plain form */
    xft_api_kind api;
    const unsigned char *data; /* SPIR-V words (4-aligned), or OpenCL C text (not terminated) */
    uint64_t size;             /* bytes; 0: the build's compiler could not make it */
    uint32_t constant_count;
    char constants[XFT_MAX_CONSTANTS][20];
} xft_kernel_source;

/* The form of `op` named `variant` ("" plain) for that API, or NULL. */
const xft_kernel_source *xft_kernel_find(xft_op op, const char *variant, xft_api_kind api);

/* All forms of all ops, for tests and tools. */
const xft_kernel_source *xft_kernel_sources(uint32_t *count);

/* Text that precedes every OpenCL kernel: opencl/xft.clh and op_params.h. */
const unsigned char *xft_opencl_prelude(uint64_t *size);

typedef struct xft_kernel xft_kernel;

/* The compiled kernel for these constants, made at first use and kept until the device closes. */
xft_status xft_kernel_get(xft_device *device, const xft_kernel_source *source, const uint32_t *constants,
                          const xft_kernel **kernel);
xft_status xft_kernels_init(xft_device *device);
void xft_kernels_free(xft_device *device);

#endif
