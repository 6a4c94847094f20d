/* Device buffers, and staging buffers, which are plain host memory: reads and writes of the queue copy from and to
 * it. */
#include "opencl.h"

#include <stdlib.h>

enum { STAGING_ALIGNMENT = 4096 };

xft_status xft_cl_buffer_create(xft_device *device, uint64_t size, bool staging, xft_buffer *buffer) {
    xft_cl_device *cl = device->impl;
    *buffer = (xft_buffer){.device = device, .size = size};
    if (staging) {
        uint64_t room = (size + STAGING_ALIGNMENT - 1) / STAGING_ALIGNMENT * STAGING_ALIGNMENT;
        buffer->host = room > SIZE_MAX ? NULL : aligned_alloc(STAGING_ALIGNMENT, (size_t)room);
        XFT_FAIL_IF(!buffer->host, XFT_ERROR_OUT_OF_HOST_MEMORY, "staging buffer of %llu bytes: no memory",
                    (unsigned long long)size);
        return XFT_OK;
    }
    /* Many drivers promise any sum of buffers and fail at first use, or let the system kill the process. */
    uint64_t total = device->info.memory_bytes;
    XFT_FAIL_IF(size > total || cl->allocated > total - size, XFT_ERROR_OUT_OF_DEVICE_MEMORY,
                "buffer of %llu bytes: %s has %llu bytes, %llu of them in use", (unsigned long long)size,
                device->info.id, (unsigned long long)total, (unsigned long long)cl->allocated);
    cl_int code;
    cl_mem memory = xft_cl.clCreateBuffer(cl->context, CL_MEM_READ_WRITE, (size_t)size, NULL, &code);
    if (code != CL_SUCCESS)
        return xft_fail_in(xft_cl_note(device, xft_cl_status(code, "clCreateBuffer")), "buffer of %llu bytes",
                           (unsigned long long)size);
    buffer->impl = memory;
    cl->allocated += size;
    return XFT_OK;
}

void xft_cl_buffer_destroy(xft_buffer *buffer) {
    if (buffer->impl) {
        xft_cl_device *cl = buffer->device->impl;
        xft_cl.clReleaseMemObject(buffer->impl);
        cl->allocated -= buffer->size;
    }
    free(buffer->host);
    buffer->impl = buffer->host = NULL;
}

xft_status xft_cl_buffer_write(xft_buffer *buffer, uint64_t offset, const void *data, uint64_t bytes) {
    xft_cl_device *cl = buffer->device->impl;
    buffer->device->counters.waits++;
    xft_cl_lock(cl);
    xft_status status =
        CL(clEnqueueWriteBuffer(cl->queue, buffer->impl, CL_TRUE, (size_t)offset, (size_t)bytes, data, 0, NULL, NULL));
    xft_cl_unlock(cl);
    return xft_cl_note(buffer->device, status);
}

xft_status xft_cl_buffer_read(xft_buffer *buffer, uint64_t offset, void *data, uint64_t bytes) {
    xft_cl_device *cl = buffer->device->impl;
    buffer->device->counters.waits++;
    xft_cl_lock(cl);
    xft_status status =
        CL(clEnqueueReadBuffer(cl->queue, buffer->impl, CL_TRUE, (size_t)offset, (size_t)bytes, data, 0, NULL, NULL));
    xft_cl_unlock(cl);
    return xft_cl_note(buffer->device, status);
}
