/* Opening a device with an own context and queue, or on those of an application. */
#include "clblast.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static xft_status open_own(const xft_open_request *request, xft_device *device) {
    xft_cl_device *cl = device->impl;
    unsigned wanted = 0;
    XFT_FAIL_IF(sscanf(request->info->id, "opencl:%u", &wanted) != 1, XFT_ERROR_NO_DEVICE, "%s", request->info->reason);
    XFT_TRY(xft_cl_find_device(wanted, &cl->platform, &cl->id));
    device->info = *request->info;
    xft_cl_describe(cl->platform, cl->id, &device->info); /* limits may have changed since the list was made */
    XFT_FAIL_IF(strcmp(device->info.name, request->info->name) != 0, XFT_ERROR_NO_DEVICE,
                "it was %s when devices were listed, and is %s now", request->info->name, device->info.name);
    XFT_FAIL_IF(!device->info.usable, XFT_ERROR_NO_DEVICE, "%s", device->info.reason);
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)cl->platform, 0};
    cl_int code;
    cl->context = xft_cl.clCreateContext(properties, 1, &cl->id, NULL, NULL, &code);
    XFT_TRY(xft_cl_status(code, "clCreateContext"));
    cl->queue = xft_cl.clCreateCommandQueue(cl->context, cl->id, 0, &code);
    return xft_cl_status(code, "clCreateCommandQueue");
}

/* An adopted device has its number when it is one of those that are listed; parts of a device are not. */
static void name_adopted(const xft_cl_device *cl, xft_device_info *info) {
    cl_platform_id platform;
    cl_device_id id;
    snprintf(info->id, sizeof info->id, "opencl");
    for (uint32_t i = 0; xft_cl_find_device(i, &platform, &id) == XFT_OK; i++)
        if (id == cl->id) snprintf(info->id, sizeof info->id, "opencl:%u", i);
}

static xft_status check_adopted(const xft_opencl_objects *objects) {
    XFT_FAIL_IF(!objects->lock_queue != !objects->unlock_queue, XFT_ERROR_INVALID_ARGUMENT,
                "objects.lock_queue and objects.unlock_queue: one is NULL and the other is not");
    cl_context context = NULL;
    cl_device_id id = NULL;
    cl_command_queue queue = objects->queue;
    cl_command_queue_properties properties = 0;
    XFT_TRY(CL(clGetCommandQueueInfo(queue, CL_QUEUE_CONTEXT, sizeof context, &context, NULL)));
    XFT_TRY(CL(clGetCommandQueueInfo(queue, CL_QUEUE_DEVICE, sizeof id, &id, NULL)));
    XFT_TRY(CL(clGetCommandQueueInfo(queue, CL_QUEUE_PROPERTIES, sizeof properties, &properties, NULL)));
    XFT_FAIL_IF(context != objects->context, XFT_ERROR_INVALID_ARGUMENT,
                "objects.queue belongs to another cl_context than objects.context");
    XFT_FAIL_IF(id != objects->device, XFT_ERROR_INVALID_ARGUMENT,
                "objects.queue belongs to another cl_device_id than objects.device");
    XFT_FAIL_IF(properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE, XFT_ERROR_INVALID_ARGUMENT,
                "objects.queue executes out of order: an in-order queue is needed");
    return XFT_OK;
}

static xft_status open_adopted(const xft_opencl_objects *objects, xft_device *device) {
    xft_cl_device *cl = device->impl;
    XFT_TRY(xft_cl_load());
    XFT_TRY(check_adopted(objects));
    cl->adopted = true;
    cl->id = objects->device;
    XFT_TRY(CL(clGetDeviceInfo(cl->id, CL_DEVICE_PLATFORM, sizeof cl->platform, &cl->platform, NULL)));
    XFT_TRY(CL(clRetainContext(objects->context)));
    cl->context = objects->context;
    XFT_TRY(CL(clRetainCommandQueue(objects->queue)));
    cl->queue = objects->queue;
    cl->lock_queue = objects->lock_queue;
    cl->unlock_queue = objects->unlock_queue;
    cl->user = objects->user;
    cl_command_queue_properties properties = 0;
    XFT_TRY(CL(clGetCommandQueueInfo(cl->queue, CL_QUEUE_PROPERTIES, sizeof properties, &properties, NULL)));
    cl->profiling = (properties & CL_QUEUE_PROFILING_ENABLE) != 0;
    name_adopted(cl, &device->info);
    xft_cl_describe(cl->platform, cl->id, &device->info);
    device->info.timestamps &= cl->profiling;
    XFT_FAIL_IF(!device->info.usable, XFT_ERROR_UNSUPPORTED, "%s cannot be used: %s", device->info.name,
                device->info.reason);
    return XFT_OK;
}

xft_status xft_cl_open(const xft_open_request *request, xft_device *device) {
    device->impl = calloc(1, sizeof(xft_cl_device));
    XFT_FAIL_IF(!device->impl, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a device");
    xft_status status = request->opencl ? open_adopted(request->opencl, device) : open_own(request, device);
    if (status != XFT_OK) xft_cl_close(device);
    return status;
}

void xft_cl_close(xft_device *device) {
    xft_cl_device *cl = device->impl;
    if (!cl) return;
    for (uint32_t i = 0; i < cl->pending_count; i++) xft_cl.clReleaseEvent(cl->pending[i].event);
    free(cl->pending);
    if (cl->queue) {
        xft_cl_lock(cl);
        xft_cl.clReleaseCommandQueue(cl->queue);
        xft_cl_unlock(cl);
    }
    xft_clblast_release(cl);
    if (cl->context) xft_cl.clReleaseContext(cl->context);
    free(cl);
    device->impl = NULL;
}

xft_status xft_cl_memory(xft_device *device, uint64_t *total, uint64_t *available, bool *told) {
    const xft_cl_device *cl = device->impl;
    *total = device->info.memory_bytes;
    *available = *total > cl->allocated ? *total - cl->allocated : 0;
    size_t free_kib[2] = {0, 0}; /* in all, and the largest block */
    *told = xft_cl_has_extension(cl->id, "cl_amd_device_attribute_query") &&
            !xft_cl.clGetDeviceInfo(cl->id, CL_DEVICE_GLOBAL_FREE_MEMORY_AMD, sizeof free_kib, free_kib, NULL);
    if (*told && (uint64_t)free_kib[0] * 1024 < *available) *available = (uint64_t)free_kib[0] * 1024;
    return XFT_OK;
}
