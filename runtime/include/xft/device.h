/* Devices: finding, choosing, opening, adopting, and the memory on them.
 *
 *     xft_device *device;
 *     if (xft_device_open("auto", NULL, &device)) { puts(xft_error()); return 1; }
 *     …
 *     xft_device_close(device);
 *
 * Loaders of Vulkan and OpenCL are opened at run time; a machine with neither gets XFT_ERROR_NO_DEVICE and a message.
 *
 * Threads: different devices may be used from different threads at once. One device, and the arenas and streams made
 * from it, belong to one thread at a time.
 */
#ifndef XFT_DEVICE_H
#define XFT_DEVICE_H

#include "xft/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum xft_api { XFT_API_VULKAN = 0, XFT_API_OPENCL = 1, XFT_API_OTHER = 2 } xft_api_kind;
typedef enum xft_device_class {
    XFT_CLASS_DISCRETE = 0,
    XFT_CLASS_INTEGRATED,
    XFT_CLASS_CPU,
    XFT_CLASS_UNKNOWN
} xft_device_class;

/* What is known of a device before and after it is opened. Limits are what the driver says at that moment. */
typedef struct xft_device_info {
    char id[24];       /* "vulkan:0", "opencl:1" */
    char name[160];    /* as the driver spells it */
    char platform[96]; /* Vulkan: driver name; OpenCL: platform name */
    char driver[128];  /* version text of the driver */
    xft_api_kind api;
    xft_device_class device_class;
    bool usable;
    char reason[256]; /* why not usable, and the cure; "" when usable */
    bool has_uuid;
    uint8_t uuid[16]; /* equal for one card seen through both APIs */
    bool has_pci;
    uint32_t pci[4];               /* domain, bus, device, function */
    char same_as[24];              /* id of the same card through the other API; "" when there is none */
    uint64_t memory_bytes;         /* device memory in all */
    uint64_t max_allocation_bytes; /* of one allocation; capped at 4 GiB - 512 */
    uint32_t max_workgroup_size;   /* invocations */
    uint32_t max_groups[3];
    uint32_t local_memory_bytes;  /* shared memory of one work-group */
    uint32_t compute_units;       /* 0: not told */
    uint32_t subgroup_size;       /* 0: subgroup operations are not used on this device */
    uint32_t native_vector_width; /* OpenCL: floats of a vector register; 1: the driver vectorises itself. Else 0 */
    bool fp16_arithmetic;         /* of informative value; no kernel needs it */
    bool cooperative_matrix;      /* VK_KHR_cooperative_matrix: f16 x f16 -> f32 by 16 x 16 x 16 */
    bool timestamps;              /* device timers work */
    uint64_t alignment;           /* of tensors, bytes: at least 512 */
} xft_device_info;

/* Lists every device of both APIs, also those that cannot be used, with reason and cure. *list is an array of *count
 * (it may be 0) to be given to xft_devices_free. XFT_OK also when there is no loader: then one entry per API says so.
 */
XFT_API xft_status xft_devices(xft_device_info **list, uint32_t *count);
XFT_API void xft_devices_free(xft_device_info *list);

typedef struct xft_device xft_device;

/* Debugging aids; all 0 in production. */
typedef enum xft_debug_flags {
    XFT_DEBUG_HAZARDS = 1,          /* every finished stream is walked by the hazard checker */
    XFT_DEBUG_CANARIES = 2,         /* a pattern behind each tensor of an arena; see xft_arena_check */
    XFT_DEBUG_SEPARATE_BUFFERS = 4, /* one driver buffer per tensor, so that tools see an overrun */
    XFT_DEBUG_POISON = 8            /* fresh tensors are filled with NaN */
} xft_debug_flags;

typedef struct xft_device_options {
    uint32_t debug;          /* xft_debug_flags */
    double submit_budget_ms; /* work of one submit; 0: 200 on GPUs, no limit on CPU devices; negative: no limit */
    const char *cache_dir;   /* NULL: $XDG_CACHE_HOME/xftgpu or ~/.cache/xftgpu; "": no cache on disk */
    const char *choices;    /* text from xft_device_choices of an earlier run: same kernels, same bits; or NULL. That of
                               another device counts for nothing */
    uint32_t subgroup_size; /* refused where the device cannot be told; 0: the device's own */
} xft_device_options;

/* Opens a device. name: an id ("vulkan:0", "opencl:1"), an API ("vulkan"), part of a name (case does not matter), or
 * "auto": the fastest by class, then by a quick measurement that is remembered in the cache. options may be NULL. */
XFT_API xft_status xft_device_open(const char *name, const xft_device_options *options, xft_device **device);

/* Frees everything the library made on the device. Arenas and streams must be gone before; NULL is accepted. */
XFT_API void xft_device_close(xft_device *device);

XFT_API const xft_device_info *xft_device_get_info(const xft_device *device);

/* The choices of kernels and tiles made on this device so far, by rules or by measuring, as a JSON text owned by the
 * device, valid until its next use: {"device", "api", "driver", "choices": {"gemm nt f32 f32 f32 512x576x576": "cpu
 * 640", …}}. Given back in xft_device_options.choices it reproduces a run bit for bit, also where a rule or a limit of
 * the driver would now decide otherwise; what it does not name is left to rules. */
XFT_API xft_status xft_device_choices(xft_device *device, const char **json);

/* Called by xft_device_tune for every class of products it has measured: its name, the choice, its time, and what the
 * rule takes. */
typedef void (*xft_tune_report)(void *user, const char *products, const char *choice, double ms, double rule_ms);

/* Measures forms and tiles of plain and grouped products on this device, f32 and bf16 (f16 too where it has matrix
 * units), and remembers the fastest of each class of sizes: among the device's choices, and on disk for later devices
 * (not when options.choices was given: that text decides alone). Without it, rules by class of device decide, as they
 * always do for attention and all other ops. A candidate that does not compile or computes something else is passed
 * over. Takes seconds to minutes; waits. report may be NULL. */
XFT_API xft_status xft_device_tune(xft_device *device, xft_tune_report report, void *user);

/* Memory of the device: in all, and what may still be allocated according to the driver (an estimate where the driver
 * does not tell; then *told is false). Any pointer may be NULL. */
XFT_API xft_status xft_device_memory(xft_device *device, uint64_t *total, uint64_t *available, bool *told);

/* What is alive and what has happened, counted where the driver is called. */
typedef struct xft_device_counters {
    uint64_t buffers, buffer_bytes, kernels, programs; /* alive */
    uint64_t staging_bytes;                            /* of buffer_bytes: inputs and outputs of streams on their way */
    uint64_t submits, waits, dispatches, barriers;     /* since the device was opened; waits of the host, all kinds */
} xft_device_counters;
XFT_API void xft_device_get_counters(const xft_device *device, xft_device_counters *counters);

/* ---- An application's own objects ------------------------------------------------------------------------------- */

/* What an application must enable on its VkInstance and VkDevice for xft_device_adopt_vulkan: names of features (of
 * VkPhysicalDeviceVulkan12Features and so on) and extensions, NULL-terminated lists that live forever. */
typedef struct xft_vulkan_needs {
    uint32_t api_version;          /* VK_API_VERSION_1_2 */
    const char *const *features;   /* "bufferDeviceAddress", "scalarBlockLayout" … */
    const char *const *extensions; /* device extensions; the list may be empty */
    const char *const *useful;     /* extensions and features that are used when they are enabled */
} xft_vulkan_needs;
XFT_API const xft_vulkan_needs *xft_vulkan_requirements(void);

/* Handles as void * so that this header needs no Vulkan headers. The library destroys none of them. */
typedef struct xft_vulkan_objects {
    void *instance, *physical_device, *device, *queue;
    uint32_t queue_family;
    void *get_instance_proc_addr;   /* PFN_vkGetInstanceProcAddr; NULL: the system's loader */
    const char *const *enabled;     /* NULL-terminated names of the extensions and features that are enabled */
    void (*lock_queue)(void *user); /* both called around every use of the queue, or both NULL */
    void (*unlock_queue)(void *user);
    void *user;
} xft_vulkan_objects;
XFT_API xft_status xft_device_adopt_vulkan(const xft_vulkan_objects *objects, const xft_device_options *options,
                                           xft_device **device);

typedef struct xft_opencl_objects {
    void *context, *device, *queue; /* cl_context, cl_device_id, an in-order cl_command_queue; all retained */
    void (*lock_queue)(void *user);
    void (*unlock_queue)(void *user);
    void *user;
} xft_opencl_objects;
XFT_API xft_status xft_device_adopt_opencl(const xft_opencl_objects *objects, const xft_device_options *options,
                                           xft_device **device);

#ifdef __cplusplus
}
#endif
#endif
