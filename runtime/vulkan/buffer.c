#include <stdlib.h>
#include <string.h>

#include "vk.h"

enum { STAGING_BYTES = 8 << 20 }; /* of the buffer that blocking writes and reads go through, piece by piece */

static xft_status allocate(vk_device *vk, bool staging, xft_buffer *buffer, vk_buffer *b) {
    VkBufferUsageFlags usage = VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;
    if (!staging) usage |= VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT;
    const VkBufferCreateInfo create = {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO, .size = buffer->size, .usage = usage};
    VK(vk->api.vkCreateBuffer(vk->device, &create, NULL, &b->handle));
    VkMemoryRequirements needs;
    vk->api.vkGetBufferMemoryRequirements(vk->device, b->handle, &needs);
    uint32_t type = xft_vk_memory_type(&vk->physical, needs.memoryTypeBits, staging);
    XFT_FAIL_IF(type == UINT32_MAX, XFT_ERROR_UNSUPPORTED, "the driver offers no %s memory for buffers",
                staging ? "host-visible, coherent" : "device-local");
    const VkMemoryDedicatedAllocateInfo dedicated = {.sType = VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO,
                                                     .buffer = b->handle};
    const VkMemoryAllocateFlagsInfo flags = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO,
                                             .pNext = &dedicated,
                                             .flags = staging ? 0 : VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    const VkMemoryAllocateInfo memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                         .pNext = &flags,
                                         .allocationSize = needs.size,
                                         .memoryTypeIndex = type};
    VK(vk->api.vkAllocateMemory(vk->device, &memory, NULL, &b->memory));
    VK(vk->api.vkBindBufferMemory(vk->device, b->handle, b->memory, 0));
    if (staging) {
        VK(vk->api.vkMapMemory(vk->device, b->memory, 0, VK_WHOLE_SIZE, 0, &buffer->host));
    } else {
        const VkBufferDeviceAddressInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO,
                                                .buffer = b->handle};
        b->address = vk->api.vkGetBufferDeviceAddress(vk->device, &info);
    }
    return XFT_OK;
}

xft_status xft_vk_buffer_create(xft_device *device, uint64_t size, bool staging, xft_buffer *buffer) {
    *buffer = (xft_buffer){.device = device, .size = size, .impl = calloc(1, sizeof(vk_buffer))};
    XFT_FAIL_IF(!buffer->impl, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a buffer");
    xft_status status = allocate(xft_vk(device), staging, buffer, buffer->impl);
    if (status == XFT_OK) return XFT_OK;
    xft_vk_buffer_destroy(buffer);
    return xft_fail_in(status, "a buffer of %llu bytes of %s memory", (unsigned long long)size,
                       staging ? "staging" : "device");
}

void xft_vk_buffer_destroy(xft_buffer *buffer) {
    vk_buffer *b = buffer->impl;
    if (!b) return;
    vk_device *vk = xft_vk(buffer->device);
    /* What was submitted may still use it. */
    xft_vk_wait(buffer->device, vk->submitted);
    if (b->handle) vk->api.vkDestroyBuffer(vk->device, b->handle, NULL);
    if (b->memory) vk->api.vkFreeMemory(vk->device, b->memory, NULL);
    free(b);
    buffer->impl = buffer->host = NULL;
}

/* ---- Blocking writes and reads ---- */

static xft_status copy_and_wait(vk_device *vk, const vk_buffer *from, uint64_t from_offset, const vk_buffer *to,
                                uint64_t to_offset, uint64_t bytes) {
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                            .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
    const VkBufferCopy region = {.srcOffset = from_offset, .dstOffset = to_offset, .size = bytes};
    VK(vk->api.vkBeginCommandBuffer(vk->transfer, &begin));
    xft_vk_barrier(vk, vk->transfer, false);
    vk->api.vkCmdCopyBuffer(vk->transfer, from->handle, to->handle, 1, &region);
    xft_vk_barrier(vk, vk->transfer, true);
    VK(vk->api.vkEndCommandBuffer(vk->transfer));
    XFT_TRY(xft_vk_queue_submit(vk, vk->transfer, true));
    vk->front->counters.barriers += 2;
    return xft_vk_wait(vk->front, vk->submitted);
}

static xft_status need_staging(vk_device *vk) {
    XFT_TRY(xft_check_alive(vk->front));
    return vk->staging.impl ? XFT_OK : xft_vk_buffer_create(vk->front, STAGING_BYTES, true, &vk->staging);
}

static uint64_t piece(uint64_t done, uint64_t bytes) {
    return bytes - done < STAGING_BYTES ? bytes - done : STAGING_BYTES;
}

xft_status xft_vk_buffer_write(xft_buffer *buffer, uint64_t offset, const void *data, uint64_t bytes) {
    vk_device *vk = xft_vk(buffer->device);
    XFT_TRY(need_staging(vk));
    for (uint64_t done = 0; done < bytes; done += piece(done, bytes)) {
        memcpy(vk->staging.host, (const char *)data + done, (size_t)piece(done, bytes));
        XFT_TRY(copy_and_wait(vk, vk->staging.impl, 0, buffer->impl, offset + done, piece(done, bytes)));
    }
    return XFT_OK;
}

xft_status xft_vk_buffer_read(xft_buffer *buffer, uint64_t offset, void *data, uint64_t bytes) {
    vk_device *vk = xft_vk(buffer->device);
    XFT_TRY(need_staging(vk));
    for (uint64_t done = 0; done < bytes; done += piece(done, bytes)) {
        XFT_TRY(copy_and_wait(vk, buffer->impl, offset + done, vk->staging.impl, 0, piece(done, bytes)));
        memcpy((char *)data + done, vk->staging.host, (size_t)piece(done, bytes));
    }
    return XFT_OK;
}
