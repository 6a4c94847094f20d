/* An application with its own cl_context lends it to the library, and goes on using it afterwards. */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include "common.h"

static int locked;
static void lock(void *user) {
    (void)user;
    locked++;
}

static void unlock(void *user) {
    (void)user;
}

/* The application's own work on its objects: 1000 words there and back. */
static int own_work(cl_context context, cl_command_queue queue) {
    cl_uint in[1000], out[1000] = {0};
    for (cl_uint i = 0; i < 1000; i++) in[i] = i * i;
    cl_int error;
    cl_mem memory = clCreateBuffer(context, CL_MEM_READ_WRITE, sizeof in, NULL, &error);
    int failed = error || clEnqueueWriteBuffer(queue, memory, CL_TRUE, 0, sizeof in, in, 0, NULL, NULL) ||
                 clEnqueueReadBuffer(queue, memory, CL_TRUE, 0, sizeof out, out, 0, NULL, NULL);
    for (int i = 0; i < 1000 && !failed; i++) failed = in[i] != out[i];
    if (!error) clReleaseMemObject(memory);
    return failed;
}

int main(void) {
    cl_platform_id platform;
    cl_device_id id;
    cl_int error;
    if (clGetPlatformIDs(1, &platform, NULL) || clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &id, NULL)) return 2;
    cl_context context = clCreateContext(NULL, 1, &id, NULL, NULL, &error);
    if (error) return 1;
    cl_command_queue queue = clCreateCommandQueue(context, id, 0, &error);
    if (error) return 1;

    xft_device *device;
    xft_opencl_objects objects = {
        .context = context, .device = id, .queue = queue, .lock_queue = lock, .unlock_queue = unlock};
    int failed = xft_device_adopt_opencl(&objects, NULL, &device);
    if (failed) {
        printf("failed: %s\n", xft_error());
    } else {
        failed = embed_add(device);
        xft_device_close(device);
        if (!locked) failed = printf("the queue was used without its lock\n") > 0;
    }
    if (own_work(context, queue)) failed = printf("the application's context is broken\n") > 0;
    clReleaseCommandQueue(queue);
    clReleaseContext(context);
    return failed;
}
