/* What the files of the OpenCL driver share: the loaded functions, the check macro, a device's and a kernel's state. */
#ifndef XFT_OPENCL_OPENCL_H
#define XFT_OPENCL_OPENCL_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <CL/cl_ext.h>

#include "driver.h"

/* Every function the driver calls; all of OpenCL 1.2, and none of them is linked. */
#define XFT_CL_FUNCTIONS(F)                                                                                            \
    F(clGetPlatformIDs)                                                                                                \
    F(clGetPlatformInfo)                                                                                               \
    F(clGetDeviceIDs)                                                                                                  \
    F(clGetDeviceInfo)                                                                                                 \
    F(clCreateContext)                                                                                                 \
    F(clGetContextInfo)                                                                                                \
    F(clRetainContext)                                                                                                 \
    F(clReleaseContext)                                                                                                \
    F(clCreateCommandQueue)                                                                                            \
    F(clGetCommandQueueInfo)                                                                                           \
    F(clRetainCommandQueue)                                                                                            \
    F(clReleaseCommandQueue)                                                                                           \
    F(clCreateBuffer)                                                                                                  \
    F(clReleaseMemObject)                                                                                              \
    F(clCreateProgramWithSource)                                                                                       \
    F(clCreateProgramWithBinary)                                                                                       \
    F(clBuildProgram)                                                                                                  \
    F(clGetProgramInfo)                                                                                                \
    F(clGetProgramBuildInfo)                                                                                           \
    F(clReleaseProgram)                                                                                                \
    F(clCreateKernel)                                                                                                  \
    F(clSetKernelArg)                                                                                                  \
    F(clReleaseKernel)                                                                                                 \
    F(clEnqueueNDRangeKernel)                                                                                          \
    F(clEnqueueReadBuffer)                                                                                             \
    F(clEnqueueWriteBuffer)                                                                                            \
    F(clEnqueueCopyBuffer)                                                                                             \
    F(clEnqueueMarkerWithWaitList)                                                                                     \
    F(clWaitForEvents)                                                                                                 \
    F(clGetEventInfo)                                                                                                  \
    F(clGetEventProfilingInfo)                                                                                         \
    F(clReleaseEvent)                                                                                                  \
    F(clFlush)                                                                                                         \
    F(clFinish)

typedef struct xft_cl_functions {
#define XFT_CL_MEMBER(name) __typeof__(name) *name;
    XFT_CL_FUNCTIONS(XFT_CL_MEMBER)
#undef XFT_CL_MEMBER
} xft_cl_functions;

/* Filled once by xft_cl_load. */
extern xft_cl_functions xft_cl;

/* Loads OpenCL at the first call. XFT_ERROR_NO_DEVICE with the reason and the cure when there is none. */
xft_status xft_cl_load(void);

/* "CL_OUT_OF_RESOURCES" … for an error code. */
const char *xft_cl_code_name(cl_int code);

/* The status for a code that the call `text` gave, with both names in the message. */
xft_status xft_cl_status(cl_int code, const char *text);

/* CL(clFlush(queue)): calls the loaded function, gives an xft_status. */
#define CL(call) xft_cl_status(xft_cl.call, #call)

/* A submit that was not yet seen to end. */
typedef struct xft_cl_pending {
    uint64_t ticket;
    cl_event event;
} xft_cl_pending;

/* device->impl */
typedef struct xft_cl_device {
    cl_platform_id platform;
    cl_device_id id;
    cl_context context;
    cl_command_queue queue; /* in order; an adopted one is retained */
    bool adopted, profiling, uses_clblast;
    void (*lock_queue)(void *user); /* of the application; NULL: none */
    void (*unlock_queue)(void *user);
    void *user;
    uint64_t allocated; /* bytes in our buffers */
    uint64_t last_ticket;
    xft_cl_pending *pending; /* in the order of submission */
    uint32_t pending_count, pending_room;
} xft_cl_device;

static inline void xft_cl_lock(const xft_cl_device *cl) {
    if (cl->lock_queue) cl->lock_queue(cl->user);
}

static inline void xft_cl_unlock(const xft_cl_device *cl) {
    if (cl->unlock_queue) cl->unlock_queue(cl->user);
}

/* Remembers that a device is lost; returns `status`. */
static inline xft_status xft_cl_note(xft_device *device, xft_status status) {
    if (status == XFT_ERROR_DEVICE_LOST) device->lost = true;
    return status;
}

/* The n-th device in the order of the list, and its platform. */
xft_status xft_cl_find_device(uint32_t number, cl_platform_id *platform, cl_device_id *id);

/* Fills all of *info but id and same_as; a device that cannot be used gets a reason and its cure. */
void xft_cl_describe(cl_platform_id platform, cl_device_id id, xft_device_info *info);

/* A text of platform or device in a buffer of `size` bytes; "" when the driver does not tell. */
void xft_cl_platform_text(cl_platform_id platform, cl_platform_info what, char *text, size_t size);
void xft_cl_device_text(cl_device_id id, cl_device_info what, char *text, size_t size);

bool xft_cl_has_extension(cl_device_id id, const char *name);

/* The functions of the driver's table. kernel->impl is a cl_program: kernel objects, which hold arguments, belong to a
 * dispatch (program.c). */
xft_status xft_cl_enumerate(xft_device_info **list, uint32_t *count);
xft_status xft_cl_open(const xft_open_request *request, xft_device *device);
void xft_cl_close(xft_device *device);
xft_status xft_cl_memory(xft_device *device, uint64_t *total, uint64_t *available, bool *told);
xft_status xft_cl_buffer_create(xft_device *device, uint64_t size, bool staging, xft_buffer *buffer);
void xft_cl_buffer_destroy(xft_buffer *buffer);
xft_status xft_cl_buffer_write(xft_buffer *buffer, uint64_t offset, const void *data, uint64_t bytes);
xft_status xft_cl_buffer_read(xft_buffer *buffer, uint64_t offset, void *data, uint64_t bytes);
xft_status xft_cl_kernel_create(xft_device *device, xft_kernel *kernel);
void xft_cl_kernel_destroy(xft_device *device, xft_kernel *kernel);
xft_status xft_cl_program_create(xft_program *program);
void xft_cl_program_destroy(xft_program *program);
xft_status xft_cl_submit(xft_program *program, uint32_t slot, uint64_t *ticket);
xft_status xft_cl_wait(xft_device *device, uint64_t ticket);
bool xft_cl_done(xft_device *device, uint64_t ticket);
xft_status xft_cl_timings(xft_program *program, uint32_t slot, double *ms);

#endif
