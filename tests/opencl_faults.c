/* xft_opencl_faults [DEVICE]: every call to the OpenCL driver of a scenario fails once, or from there on, for want of
 * memory, and once because the device is lost. Each time there must be no crash, a failure must come with a
 * message, every object of OpenCL must be released, and a fresh device must serve afterwards. A plain program, for
 * sanitizers and valgrind.
 */
#include <stdio.h>
#include <string.h>

#include "opencl/opencl.h"
#include "xft/ops.h"

/* ---- OpenCL that can fail: wrappers in the driver's own table of functions ---- */

static xft_cl_functions real;
static struct {
    uint32_t count, fail_at; /* calls, from 1; 0: none fails */
    bool forever;
    cl_int code;
    const char *name; /* of the first that failed */
    long alive;       /* objects and events not yet released */
} calls;

static bool fails(const char *name) {
    calls.count++;
    if (!calls.fail_at || calls.count < calls.fail_at || (calls.count > calls.fail_at && !calls.forever)) return false;
    if (calls.count == calls.fail_at) calls.name = name;
    return true;
}

#define WRAP(name, parameters, arguments)                                                                              \
    static cl_int CL_API_CALL wrap_##name parameters {                                                                 \
        return fails(#name) ? calls.code : real.name arguments;                                                        \
    }
#define WRAP_ENQUEUE(name, parameters, arguments)                                                                      \
    static cl_int CL_API_CALL wrap_##name parameters {                                                                 \
        if (fails(#name)) return calls.code;                                                                           \
        cl_int code = real.name arguments;                                                                             \
        calls.alive += code == CL_SUCCESS && event;                                                                    \
        return code;                                                                                                   \
    }
#define WRAP_CREATE(type, name, parameters, arguments)                                                                 \
    static type CL_API_CALL wrap_##name parameters {                                                                   \
        *error = calls.code;                                                                                           \
        type object = fails(#name) ? NULL : real.name arguments;                                                       \
        calls.alive += object != NULL;                                                                                 \
        return object;                                                                                                 \
    }
#define WRAP_RELEASE(name, type)                                                                                       \
    static cl_int CL_API_CALL wrap_##name(type object) {                                                               \
        calls.alive--;                                                                                                 \
        return real.name(object);                                                                                      \
    }
#define QUERY(name, type1)                                                                                             \
    WRAP(name, (type1 object, cl_uint what, size_t size, void *value, size_t *needed),                                 \
         (object, what, size, value, needed))
#define QUERY_OF_DEVICE(name, type1)                                                                                   \
    WRAP(name, (type1 object, cl_device_id device, cl_uint what, size_t size, void *value, size_t *needed),            \
         (object, device, what, size, value, needed))
#define NOTIFY void(CL_CALLBACK * notify)

WRAP(clGetPlatformIDs, (cl_uint room, cl_platform_id *list, cl_uint *count), (room, list, count))
WRAP(clGetDeviceIDs, (cl_platform_id platform, cl_device_type type, cl_uint room, cl_device_id *list, cl_uint *count),
     (platform, type, room, list, count))
QUERY(clGetPlatformInfo, cl_platform_id)
QUERY(clGetDeviceInfo, cl_device_id)
QUERY(clGetProgramInfo, cl_program)
QUERY(clGetEventInfo, cl_event)
QUERY(clGetEventProfilingInfo, cl_event)
QUERY_OF_DEVICE(clGetProgramBuildInfo, cl_program)
WRAP(clBuildProgram,
     (cl_program program, cl_uint count, const cl_device_id *devices, const char *options, NOTIFY(cl_program, void *),
      void *user),
     (program, count, devices, options, notify, user))
WRAP(clSetKernelArg, (cl_kernel kernel, cl_uint index, size_t size, const void *value), (kernel, index, size, value))
WRAP(clWaitForEvents, (cl_uint count, const cl_event *events), (count, events))
WRAP(clFlush, (cl_command_queue queue), (queue))
WRAP_ENQUEUE(clEnqueueNDRangeKernel,
             (cl_command_queue queue, cl_kernel kernel, cl_uint rank, const size_t *offset, const size_t *global,
              const size_t *local, cl_uint count, const cl_event *list, cl_event *event),
             (queue, kernel, rank, offset, global, local, count, list, event))
WRAP_ENQUEUE(clEnqueueReadBuffer,
             (cl_command_queue queue, cl_mem memory, cl_bool blocking, size_t offset, size_t size, void *data,
              cl_uint count, const cl_event *list, cl_event *event),
             (queue, memory, blocking, offset, size, data, count, list, event))
WRAP_ENQUEUE(clEnqueueWriteBuffer,
             (cl_command_queue queue, cl_mem memory, cl_bool blocking, size_t offset, size_t size, const void *data,
              cl_uint count, const cl_event *list, cl_event *event),
             (queue, memory, blocking, offset, size, data, count, list, event))
WRAP_ENQUEUE(clEnqueueMarkerWithWaitList,
             (cl_command_queue queue, cl_uint count, const cl_event *list, cl_event *event),
             (queue, count, list, event))
WRAP_CREATE(cl_context, clCreateContext,
            (const cl_context_properties *properties, cl_uint count, const cl_device_id *devices,
             NOTIFY(const char *, const void *, size_t, void *), void *user, cl_int *error),
            (properties, count, devices, notify, user, error))
WRAP_CREATE(cl_command_queue, clCreateCommandQueue,
            (cl_context context, cl_device_id device, cl_command_queue_properties properties, cl_int *error),
            (context, device, properties, error))
WRAP_CREATE(cl_mem, clCreateBuffer, (cl_context context, cl_mem_flags flags, size_t size, void *host, cl_int *error),
            (context, flags, size, host, error))
WRAP_CREATE(cl_program, clCreateProgramWithSource,
            (cl_context context, cl_uint count, const char **texts, const size_t *sizes, cl_int *error),
            (context, count, texts, sizes, error))
WRAP_CREATE(cl_program, clCreateProgramWithBinary,
            (cl_context context, cl_uint count, const cl_device_id *devices, const size_t *sizes,
             const unsigned char **binaries, cl_int *taken, cl_int *error),
            (context, count, devices, sizes, binaries, taken, error))
WRAP_CREATE(cl_kernel, clCreateKernel, (cl_program program, const char *name, cl_int *error), (program, name, error))
WRAP_RELEASE(clReleaseContext, cl_context)
WRAP_RELEASE(clReleaseCommandQueue, cl_command_queue)
WRAP_RELEASE(clReleaseMemObject, cl_mem)
WRAP_RELEASE(clReleaseProgram, cl_program)
WRAP_RELEASE(clReleaseKernel, cl_kernel)
WRAP_RELEASE(clReleaseEvent, cl_event)

/* clFinish stays whole: it is how the driver makes sure that nothing runs any more. */
static void wrap_all(void) {
    real = xft_cl;
    /* clang-format off */
#define USE(name) xft_cl.name = wrap_##name;
    USE(clGetPlatformIDs) USE(clGetDeviceIDs) USE(clGetPlatformInfo) USE(clGetDeviceInfo) USE(clGetProgramInfo)
    USE(clGetEventInfo) USE(clGetEventProfilingInfo) USE(clGetProgramBuildInfo) USE(clBuildProgram)
    USE(clSetKernelArg) USE(clWaitForEvents) USE(clFlush) USE(clEnqueueNDRangeKernel) USE(clEnqueueReadBuffer)
    USE(clEnqueueWriteBuffer) USE(clEnqueueMarkerWithWaitList) USE(clCreateContext) USE(clCreateCommandQueue)
    USE(clCreateBuffer) USE(clCreateProgramWithSource) USE(clCreateProgramWithBinary) USE(clCreateKernel)
    USE(clReleaseContext) USE(clReleaseCommandQueue) USE(clReleaseMemObject) USE(clReleaseProgram)
    USE(clReleaseKernel) USE(clReleaseEvent)
#undef USE
    /* clang-format on */
}

/* ---- The scenario ---- */

static xft_status replay(xft_stream *stream, bool timers) {
    for (int i = 0; i < 3; i++) {
        void *slot;
        const void *values;
        uint64_t ticket;
        XFT_TRY(xft_stream_inputs(stream, &slot));
        XFT_TRY(xft_stream_submit(stream, &ticket));
        if (i > 0) XFT_TRY(xft_stream_outputs(stream, ticket, &values));
    }
    double ms[3];
    uint32_t count = 3;
    return timers ? xft_stream_timings(stream, &count, ms, NULL) : XFT_OK;
}

static xft_status record(xft_stream *stream, const xft_tensor *a, const xft_tensor *b, const xft_tensor *c) {
    uint64_t at;
    xft_stream_input(stream, a, &at);
    xft_add(stream, a, b, c);
    xft_stream_output(stream, c, &at);
    return xft_stream_finish(stream);
}

static xft_status use(xft_device *device, xft_arena *arena, bool timers) {
    static const uint32_t shape[] = {3, 20};
    static float data[60];
    xft_tensor t[3];
    for (int i = 0; i < 3; i++) XFT_TRY(xft_tensor_create(arena, XFT_F32, 2, shape, &t[i]));
    for (int i = 0; i < 60; i++) data[i] = (float)i;
    for (int i = 0; i < 2; i++) XFT_TRY(xft_tensor_write(&t[i], XFT_F32, data));
    xft_stream_options options = {.timers = timers};
    xft_stream *stream;
    XFT_TRY(xft_stream_create(device, &options, &stream));
    xft_status status = record(stream, &t[0], &t[1], &t[2]);
    if (status == XFT_OK) status = replay(stream, timers);
    xft_stream_destroy(stream);
    return status == XFT_OK ? xft_tensor_read(&t[2], XFT_F32, data) : status;
}

static xft_status scenario(const char *name) {
    xft_device_options options = {.cache_dir = ""};
    xft_device *device;
    xft_arena *arena = NULL;
    XFT_TRY(xft_device_open(name, &options, &device));
    xft_status status = xft_arena_create(device, "faults", 0, &arena);
    if (status == XFT_OK) status = use(device, arena, false);
    if (status == XFT_OK && xft_device_get_info(device)->timestamps) status = use(device, arena, true);
    xft_arena_destroy(arena);
    xft_device_counters counters;
    xft_device_get_counters(device, &counters);
    calls.alive += (long)(counters.buffers + counters.programs);
    xft_device_close(device);
    return status;
}

static uint32_t run(const char *device, uint32_t fail_at, bool forever, cl_int code) {
    memset(&calls, 0, sizeof calls);
    calls.fail_at = fail_at;
    calls.forever = forever;
    calls.code = code;
    xft_status status = scenario(device);
    bool silent = status != XFT_OK && !*xft_error();
    if (calls.alive != 0 || silent || (fail_at == 0 && status != XFT_OK)) {
        printf("FAILED: call %u, %s, fails %s with %s: %ld objects alive, %s: %s\n", fail_at,
               calls.name ? calls.name : "none", forever ? "for good" : "once", xft_cl_code_name(code), calls.alive,
               xft_status_name(status), status == XFT_OK ? "" : xft_error());
        return 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    const char *device = argc > 1 ? argv[1] : "opencl";
    if (xft_cl_load() != XFT_OK) {
        printf("%s\n", xft_error());
        return 2;
    }
    wrap_all();
    uint32_t failed = run(device, 0, false, CL_SUCCESS), injected = 0;
    const uint32_t total = calls.count;
    static const struct {
        bool forever;
        cl_int code;
    } ways[] = {{false, CL_OUT_OF_RESOURCES}, {true, CL_OUT_OF_RESOURCES}, {false, CL_INVALID_COMMAND_QUEUE}};
    for (int w = 0; w < 3 && failed == 0; w++)
        for (uint32_t i = 1; i <= total && failed < 8; i++, injected++)
            failed += run(device, i, ways[w].forever, ways[w].code);
    failed += run(device, 0, false, CL_SUCCESS);
    printf("%u failing calls of OpenCL: %u failed\n", injected, failed);
    return failed != 0;
}
