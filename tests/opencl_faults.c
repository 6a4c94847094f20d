/* xft_opencl_faults [DEVICE]: every call to the OpenCL driver of a scenario fails once, or from there on, for want of
 * memory, and once because the device is lost: on a device of the library's own, with and without kernels kept on disk,
 * and on a context and queue of the application. Each time the status must be the one of that failure, with a message
 * of its own, unless the library can do without the call; then, and on the same device or a fresh one afterwards, the
 * results must be right. Every object of OpenCL must be released. A plain program, for sanitizers and valgrind.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "opencl/opencl.h"
#include "xft/ops.h"

/* ---- OpenCL that can fail: wrappers in the driver's own table of functions ---- */

static xft_cl_functions real;
static struct {
    uint32_t count, fail_at; /* calls, from 1; 0: none fails */
    uint32_t open, ready;    /* the first that makes a buffer, and the first that runs a kernel */
    bool forever;
    cl_int code;
    const char *name; /* of the first that failed */
    long alive;       /* objects and events not yet released */
} calls;

static bool fails(const char *name) {
    calls.count++;
    if (!calls.open && !strcmp(name, "clCreateBuffer")) calls.open = calls.count;
    if (!calls.ready && !strcmp(name, "clEnqueueNDRangeKernel")) calls.ready = calls.count;
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
#define WRAP_RETAIN(name, type)                                                                                        \
    static cl_int CL_API_CALL wrap_##name(type object) {                                                               \
        cl_int code = fails(#name) ? calls.code : real.name(object);                                                   \
        calls.alive += code == CL_SUCCESS;                                                                             \
        return code;                                                                                                   \
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
QUERY(clGetCommandQueueInfo, cl_command_queue)
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
WRAP_RETAIN(clRetainContext, cl_context)
WRAP_RETAIN(clRetainCommandQueue, cl_command_queue)
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
    USE(clReleaseKernel) USE(clReleaseEvent) USE(clGetCommandQueueInfo) USE(clRetainContext) USE(clRetainCommandQueue)
#undef USE
    /* clang-format on */
}

/* ---- The application whose context and queue are adopted ---- */

static xft_opencl_objects app;
static cl_uint references; /* to its context: its own, and its queue's */
static int locked;

static void lock_queue(void *user) {
    ++*(int *)user;
}

static void unlock_queue(void *user) {
    --*(int *)user;
}

static xft_status start_application(const char *name) {
    xft_device *device; /* to find it by name */
    XFT_TRY(xft_device_open(name, &(xft_device_options){.cache_dir = ""}, &device));
    const xft_cl_device *cl = device->impl;
    cl_device_id id = cl->id;
    xft_device_close(device);
    cl_int code;
    cl_context context = real.clCreateContext(NULL, 1, &id, NULL, NULL, &code);
    XFT_TRY(xft_cl_status(code, "clCreateContext"));
    app = (xft_opencl_objects){
        .context = context, .device = id, .lock_queue = lock_queue, .unlock_queue = unlock_queue, .user = &locked};
    app.queue = real.clCreateCommandQueue(context, id, CL_QUEUE_PROFILING_ENABLE, &code);
    XFT_TRY(xft_cl_status(code, "clCreateCommandQueue"));
    return CL(clGetContextInfo(context, CL_CONTEXT_REFERENCE_COUNT, sizeof references, &references, NULL));
}

/* Nobody else holds what is the application's, and it works. PoCL's threads let go of a queue a little after its last
 * command has ended. */
static bool application_serves(void) {
    cl_uint contexts = 0, queues = 0;
    cl_int written = 7, back = 0, code;
    cl_mem memory = real.clCreateBuffer(app.context, CL_MEM_READ_WRITE, sizeof written, NULL, &code);
    if (code) return false;
    code = real.clEnqueueWriteBuffer(app.queue, memory, CL_TRUE, 0, sizeof written, &written, 0, NULL, NULL);
    code |= real.clEnqueueReadBuffer(app.queue, memory, CL_TRUE, 0, sizeof back, &back, 0, NULL, NULL);
    real.clReleaseMemObject(memory);
    const struct timespec moment = {.tv_nsec = 1000000};
    for (int i = 0; i < 1000 && !(queues == 1 && contexts == references); i++) {
        if (i) nanosleep(&moment, NULL);
        real.clGetCommandQueueInfo(app.queue, CL_QUEUE_REFERENCE_COUNT, sizeof queues, &queues, NULL);
        real.clGetContextInfo(app.context, CL_CONTEXT_REFERENCE_COUNT, sizeof contexts, &contexts, NULL);
    }
    return !code && back == written && queues == 1 && contexts == references && locked == 0;
}

/* ---- The scenarios ---- */

enum { WARM = 1 };
static const struct scenario {
    const char *name;
    const char *call; /* one of OpenCL that must be among those that fail */
    bool adopts, caches, warm;
} scenarios[] = {{"own device", "clCreateContext", false, false, false},
                 {"kernels from the cache", "clCreateProgramWithBinary", false, true, true},
                 {"kernels to the cache", "clGetProgramInfo", false, true, false},
                 {"adopted", "clRetainCommandQueue", true, true, true}};
static char cache_dir[] = "/tmp/xft-faults-XXXXXX";
static const char *device_name;

static void empty_cache(void) {
    char path[512];
    DIR *dir = opendir(cache_dir);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        snprintf(path, sizeof path, "%s/%s", cache_dir, entry->d_name);
        if (*entry->d_name != '.') remove(path);
    }
    if (dir) closedir(dir);
}

enum { ROWS = 3, COLS = 20, ELEMENTS = ROWS * COLS };

/* *right: c is a + b, at every replay with another a, and at the end. */
static xft_status replay(xft_stream *stream, const xft_tensor *t, const uint64_t *at, bool timers, bool *right) {
    for (int step = 0; step < 3; step++) {
        void *slot;
        const void *values;
        uint64_t ticket;
        XFT_TRY(xft_stream_inputs(stream, &slot));
        for (uint32_t i = 0; i < ELEMENTS; i++)
            ((float *)(void *)((char *)slot + at[0]))[i / COLS * t[0].pitch + i % COLS] = (float)(100 * step);
        XFT_TRY(xft_stream_submit(stream, &ticket));
        XFT_TRY(xft_stream_outputs(stream, ticket, &values));
        const float *c = (const float *)(const void *)((const char *)values + at[1]);
        for (uint32_t i = 0; i < ELEMENTS; i++)
            *right &= c[i / COLS * t[2].pitch + i % COLS] == (float)(100 * step + (int)i);
    }
    double ms[3] = {-1};
    uint32_t count = 3;
    if (!timers) return XFT_OK;
    XFT_TRY(xft_stream_timings(stream, &count, ms, NULL));
    *right &= ms[0] >= 0;
    return XFT_OK;
}

static xft_status record(xft_stream *stream, const xft_tensor *t, uint64_t *at) {
    xft_stream_input(stream, &t[0], &at[0]);
    xft_add(stream, &t[0], &t[1], &t[2]);
    xft_stream_output(stream, &t[2], &at[1]);
    return xft_stream_finish(stream);
}

static xft_status use_arena(xft_device *device, xft_arena *arena, bool timers, bool *right) {
    static const uint32_t shape[] = {ROWS, COLS};
    float data[ELEMENTS];
    uint64_t at[2];
    xft_tensor t[3];
    for (int i = 0; i < 3; i++) XFT_TRY(xft_tensor_create(arena, XFT_F32, 2, shape, &t[i]));
    for (int i = 0; i < ELEMENTS; i++) data[i] = (float)i;
    XFT_TRY(xft_tensor_write(&t[1], XFT_F32, data));
    xft_stream_options options = {.timers = timers};
    xft_stream *stream;
    XFT_TRY(xft_stream_create(device, &options, &stream));
    xft_status status = record(stream, t, at);
    if (status == XFT_OK) status = replay(stream, t, at, timers, right);
    if (status == XFT_OK) status = xft_stream_reset(stream); /* destroying it tells no failure */
    xft_stream_destroy(stream);
    if (status == XFT_OK) status = xft_tensor_read(&t[2], XFT_F32, data);
    for (int i = 0; status == XFT_OK && i < ELEMENTS; i++) *right &= data[i] == (float)(200 + i);
    return status;
}

static xft_status use(xft_device *device, bool *right) {
    xft_arena *arena = NULL;
    *right = true;
    xft_status status = xft_arena_create(device, "faults", 0, &arena);
    if (status == XFT_OK) status = use_arena(device, arena, false, right);
    if (status == XFT_OK && xft_device_get_info(device)->timestamps) status = use_arena(device, arena, true, right);
    xft_arena_destroy(arena);
    return status;
}

/* ---- Judging ---- */

static bool one_of(const char *name, const char *names) {
    const char *at = name ? strstr(names, name) : NULL;
    return at && at[strlen(name)] == ' ';
}

/* Whether the library may go on without the call that failed first: clGetDeviceIDs may be of another platform. */
static bool dispensable(const struct scenario *s) {
    return one_of(calls.name,
                  "clGetPlatformInfo clGetDeviceIDs clGetDeviceInfo clGetEventInfo clGetProgramBuildInfo ") ||
           (s->caches && one_of(calls.name, "clGetProgramInfo clCreateProgramWithBinary ")) ||
           (s->warm && one_of(calls.name, "clBuildProgram clCreateKernel ")) ||
           (s->adopts && one_of(calls.name, "clGetPlatformIDs "));
}

/* What is wrong with the status after a failing call, or NULL. */
static const char *judge_status(const struct scenario *s, xft_status status) {
    if (calls.count < calls.fail_at || !calls.fail_at) return status == XFT_OK ? NULL : "an error without a fault";
    if (status == XFT_OK) return dispensable(s) ? NULL : "the failure is not noticed";
    if (!strcmp(xft_error(), "old")) return "an error without a message";
    /* what cannot be asked makes a device one that is not there, or that cannot be used */
    if (one_of(calls.name, "clGetPlatformIDs clGetDeviceIDs clGetDeviceInfo clGetPlatformInfo ") &&
        (status == XFT_ERROR_NO_DEVICE || (s->adopts && status == XFT_ERROR_UNSUPPORTED)))
        return NULL;
    const xft_status right = calls.code == CL_OUT_OF_RESOURCES     ? XFT_ERROR_OUT_OF_DEVICE_MEMORY
                             : calls.code == CL_OUT_OF_HOST_MEMORY ? XFT_ERROR_OUT_OF_HOST_MEMORY
                                                                   : XFT_ERROR_DEVICE_LOST;
    if (status != right) return "another status than the failure's";
    return strstr(xft_error(), xft_cl_code_name(calls.code)) ? NULL : "the message does not name the error";
}

static bool served; /* the device of the last run, at the end of it */

/* Runs the scenario, then on the same device once more if that had an error, and tells what was wrong, or NULL. */
static const char *run_scenario(const struct scenario *s, xft_status *status) {
    xft_device_options options = {.cache_dir = s->caches ? cache_dir : ""};
    xft_device *device = NULL;
    bool right = true;
    if (s->caches && !s->warm) empty_cache();
    xft_fail(XFT_OK, "old");
    *status =
        s->adopts ? xft_device_adopt_opencl(&app, &options, &device) : xft_device_open(device_name, &options, &device);
    if (*status == XFT_OK) *status = use(device, &right);
    const char *wrong = judge_status(s, *status);
    served = *status == XFT_OK;
    if (!wrong && *status == XFT_OK && !right) wrong = "a wrong result";
    if (!wrong && *status != XFT_OK && device) {
        const uint32_t fail_at = calls.fail_at;
        calls.fail_at = 0;
        const xft_status again = use(device, &right), lost = XFT_ERROR_DEVICE_LOST;
        if (*status == lost ? again != lost : again != XFT_OK || !right) wrong = "the same device afterwards";
        calls.fail_at = fail_at;
        served = again == XFT_OK;
    }
    xft_device_counters counters = {0};
    xft_device_get_counters(device, &counters);
    if (!wrong && counters.buffers + counters.programs) wrong = "buffers or programs are left";
    xft_device_close(device);
    if (!wrong && calls.alive) wrong = "objects of OpenCL are left";
    if (!wrong && s->adopts && !application_serves()) wrong = "the application's objects afterwards";
    return wrong;
}

static uint32_t run(const struct scenario *s, uint32_t fail_at, bool forever, cl_int code) {
    memset(&calls, 0, sizeof calls);
    calls.fail_at = fail_at;
    calls.forever = forever;
    calls.code = code;
    xft_status status;
    const char *wrong = run_scenario(s, &status);
    if (!wrong) return 0;
    printf("FAILED: %s, call %u, %s, fails %s with %s: %s; %ld objects alive, %s: %s\n", s->name, fail_at,
           calls.name ? calls.name : "none", forever ? "for good" : "once", xft_cl_code_name(code), wrong, calls.alive,
           xft_status_name(status), status == XFT_OK ? "" : xft_error());
    return 1;
}

static uint32_t fail_every_call(const struct scenario *s) {
    static const struct {
        bool forever;
        cl_int code;
    } ways[] = {{false, CL_OUT_OF_RESOURCES}, {true, CL_OUT_OF_HOST_MEMORY}, {false, CL_INVALID_COMMAND_QUEUE}};
    run(&scenarios[WARM], 0, false, CL_SUCCESS); /* fills the cache */
    uint32_t failed = run(s, 0, false, CL_SUCCESS), injected = 0;
    /* all but the making of kernels has failed without a cache already */
    const bool whole = s->adopts || !s->caches;
    const uint32_t first = whole ? 1 : calls.open, last = whole ? calls.count : calls.ready;
    bool met = false;
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++)
        for (uint32_t i = first; i <= last && failed < 8; i++, injected++) {
            failed += run(s, i, ways[w].forever, ways[w].code);
            met |= calls.name && !strcmp(calls.name, s->call);
            if (!served) failed += run(&scenarios[WARM], 0, false, CL_SUCCESS); /* a fresh device does */
        }
    if (!met) printf("FAILED: %s: %s is never called\n", s->name, s->call), failed++;
    printf("%s: %u failing calls of OpenCL\n", s->name, injected);
    return failed;
}

int main(int argc, char **argv) {
    device_name = argc > 1 ? argv[1] : "opencl";
    xft_status status = xft_cl_load();
    if (status == XFT_OK) {
        wrap_all();
        status = start_application(device_name);
    }
    if (status != XFT_OK || !mkdtemp(cache_dir)) {
        printf("%s\n", status == XFT_OK ? "no folder for the cache" : xft_error());
        return 2;
    }
    uint32_t failed = !application_serves();
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) failed += fail_every_call(&scenarios[i]);
    empty_cache();
    rmdir(cache_dir);
    real.clReleaseCommandQueue(app.queue);
    real.clReleaseContext(app.context);
    printf("%u failed\n", failed);
    return failed != 0;
}
