/* What the front (device.c, tensor.c, stream.c, kernel.c) asks of a driver. Two drivers exist, vulkan/ and opencl/, and
 * a third in tests/. The front has checked every argument; a driver only translates, and reports the driver's errors.
 */
#ifndef XFT_RUNTIME_DRIVER_H
#define XFT_RUNTIME_DRIVER_H

#include "error.h"
#include "kernel.h"
#include "xft/stream.h"

typedef struct xft_driver xft_driver;

/* Device memory, or host memory that copies can read and write (staging; host != NULL). */
struct xft_buffer {
    xft_device *device;
    uint64_t size;
    void *host; /* mapped for the whole life of a staging buffer; NULL for device memory */
    void *impl; /* the driver's */
};

/* A compiled kernel: an op, its form, and the values of its constants. Owned by the device (kernel.c). */
struct xft_kernel {
    const xft_kernel_source *source;
    uint32_t constants[XFT_MAX_CONSTANTS];
    void *impl;
};

typedef struct xft_argument {
    xft_buffer *buffer; /* NULL: absent; the kernel gets a null address */
    uint64_t offset;
    uint64_t bytes; /* length and element type: for a driver that executes references instead of kernels */
    xft_dtype dtype;
} xft_argument;

typedef enum xft_command_kind { XFT_COMMAND_DISPATCH, XFT_COMMAND_COPY, XFT_COMMAND_BARRIER } xft_command_kind;

/* One recorded command. Copies with a staging end are offset by slot * slot_stride at submit. */
typedef struct xft_command {
    xft_command_kind kind;
    /* dispatch: the groups [base, base + groups) of the op's grid */
    const xft_kernel *kernel;
    xft_argument arguments[XFT_MAX_BUFFERS];
    uint32_t params[XFT_MAX_PARAMS];
    uint32_t base[3], groups[3];
    uint32_t op_index; /* which recorded op this command belongs to, for timers */
    /* copy */
    xft_buffer *from, *to;
    uint64_t from_offset, to_offset, bytes;
} xft_command;

/* A finished recording as the driver sees it: commands, cut into submits at the indices `cuts` (the last is count). */
typedef struct xft_program {
    xft_device *device;
    const xft_command *commands;
    uint32_t count;
    const uint32_t *cuts;
    uint32_t cut_count;
    uint32_t slots;
    uint64_t slot_stride;
    bool timers;
    uint32_t op_count;
    void *impl;
} xft_program;

/* How a device is to be opened: one of the last two is not NULL for an adopted one. */
typedef struct xft_open_request {
    const xft_device_info *info; /* as enumerated; NULL when adopting */
    const xft_device_options *options;
    const char *cache_dir; /* existing directory, or NULL: no cache on disk */
    const xft_vulkan_objects *vulkan;
    const xft_opencl_objects *opencl;
} xft_open_request;

struct xft_device {
    const xft_driver *driver;
    void *impl; /* the driver's */
    xft_device_info info;
    xft_device_options options;
    xft_device_counters counters;     /* buffers, buffer_bytes, kernels, programs: kept by the front;
                                         submits, waits, dispatches, barriers: by the driver */
    double cost_scale;                /* measured over estimated time of an op; 0: not measured yet */
    bool lost;                        /* set by whoever gets XFT_ERROR_DEVICE_LOST */
    struct xft_kernel_table *kernels; /* kernel.c */
    char *cache_dir;
    struct xft_choices *choices; /* choice.c */
};

/* XFT_ERROR_DEVICE_LOST when the device was lost earlier. */
static inline xft_status xft_check_alive(const xft_device *device) {
    if (!device->lost) return XFT_OK;
    return xft_fail(XFT_ERROR_DEVICE_LOST, "device %s was lost earlier: close it and open it again", device->info.id);
}

struct xft_driver {
    xft_api_kind api;
    const char *name; /* "vulkan", "opencl" */

    /* Appends what it finds to the array (grown with realloc), usable or not. A missing loader is one unusable entry
     * named after the API, with the cure. Fails only for want of memory. */
    xft_status (*enumerate)(xft_device_info **list, uint32_t *count);

    xft_status (*open)(const xft_open_request *request, xft_device *device); /* fills impl and info */
    void (*close)(xft_device *device);
    xft_status (*memory)(xft_device *device, uint64_t *total, uint64_t *available, bool *told);

    xft_status (*buffer_create)(xft_device *device, uint64_t size, bool staging, xft_buffer *buffer);
    void (*buffer_destroy)(xft_buffer *buffer);
    /* Blocking; ordered after everything submitted before. */
    xft_status (*buffer_write)(xft_buffer *buffer, uint64_t offset, const void *data, uint64_t bytes);
    xft_status (*buffer_read)(xft_buffer *buffer, uint64_t offset, void *data, uint64_t bytes);

    xft_status (*kernel_create)(xft_device *device, xft_kernel *kernel);
    void (*kernel_destroy)(xft_device *device, xft_kernel *kernel);

    xft_status (*program_create)(xft_program *program);
    void (*program_destroy)(xft_program *program);
    /* Enqueues everything with this slot; *ticket counts up over the device's submits, from 1. */
    xft_status (*submit)(xft_program *program, uint32_t slot, uint64_t *ticket);
    xft_status (*wait)(xft_device *device, uint64_t ticket);
    bool (*done)(xft_device *device, uint64_t ticket); /* without waiting */
    /* Milliseconds per op of the last submit of the slot, after it was waited for. */
    xft_status (*timings)(xft_program *program, uint32_t slot, double *ms);
};

extern const xft_driver xft_vulkan_driver, xft_opencl_driver;

/* Opens a device of any driver: what xft_device_open does after it has chosen. Tests open their driver with it. */
xft_status xft_device_open_with(const xft_driver *driver, const xft_open_request *request, xft_device **device);

/* tensor.c: refuses a tensor, made or changed by hand, that is none or reaches beyond its memory. */
xft_status xft_tensor_check(const char *function, const char *name, const xft_tensor *tensor);

/* The driver of a listed device, NULL for none. */
const xft_driver *xft_driver_of(const xft_device_info *info);

/* The cache folder of the options, made if need be, to be freed; NULL when there is none to be had. */
char *xft_find_cache_dir(const xft_device_options *options);

/* Milliseconds of a replay of the stream, with what the host does for it: the best of `runs` after a warm-up.
 * enough_ms: when a replay, the warm-up too, takes this long, its time will do; 0: never. */
xft_status xft_time_stream(xft_stream *stream, uint32_t runs, double enough_ms, double *best_ms);

/* auto.c: sets device->cost_scale by timing one product, once. */
xft_status xft_calibrate(xft_device *device);

/* auto.c: index of the fastest of the usable devices of list[best]'s class, by a quick measurement that is remembered
 * in the cache; a device that fails it is passed over. */
int xft_fastest_device(const xft_device_info *list, uint32_t count, uint32_t best, const xft_device_options *options);

#endif
