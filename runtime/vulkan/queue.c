#include "vk.h"

xft_status xft_vk_queue_result(vk_device *vk, VkResult result, const char *call) {
    if (result == VK_ERROR_DEVICE_LOST) vk->front->lost = true;
    return xft_vk_result(result, call);
}

static void lock(vk_device *vk) {
    if (vk->lock_queue) vk->lock_queue(vk->user);
}

static void unlock(vk_device *vk) {
    if (vk->unlock_queue) vk->unlock_queue(vk->user);
}

xft_status xft_vk_queue_submit(vk_device *vk, VkCommandBuffer buffer, bool last) {
    XFT_TRY(xft_check_alive(vk->front));
    const uint64_t ticket = vk->submitted + 1;
    const VkTimelineSemaphoreSubmitInfo values = {.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
                                                  .signalSemaphoreValueCount = 1,
                                                  .pSignalSemaphoreValues = &ticket};
    const VkSubmitInfo submit = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                                 .pNext = last ? &values : NULL,
                                 .commandBufferCount = 1,
                                 .pCommandBuffers = &buffer,
                                 .signalSemaphoreCount = last,
                                 .pSignalSemaphores = &vk->timeline};
    lock(vk);
    VkResult result = vk->api.vkQueueSubmit(vk->queue, 1, &submit, VK_NULL_HANDLE);
    unlock(vk);
    XFT_TRY(xft_vk_queue_result(vk, result, "vkQueueSubmit"));
    vk->front->counters.submits++;
    if (last) vk->submitted = ticket;
    return XFT_OK;
}

void xft_vk_queue_drain(vk_device *vk) {
    if (vk->front->lost) return;
    lock(vk);
    VkResult result = vk->api.vkQueueWaitIdle(vk->queue);
    unlock(vk);
    vk->front->counters.waits++;
    if (result == VK_ERROR_DEVICE_LOST)
        vk->front->lost = true;
    else if (result == VK_SUCCESS)
        vk->completed = vk->submitted;
}

xft_status xft_vk_wait(xft_device *device, uint64_t ticket) {
    vk_device *vk = xft_vk(device);
    XFT_TRY(xft_check_alive(vk->front));
    if (xft_vk_done(device, ticket)) return xft_check_alive(device);
    const VkSemaphoreWaitInfo wait = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                      .semaphoreCount = 1,
                                      .pSemaphores = &vk->timeline,
                                      .pValues = &ticket};
    device->counters.waits++;
    VkResult result = vk->api.vkWaitSemaphores(vk->device, &wait, UINT64_MAX);
    xft_status status = xft_vk_queue_result(vk, result, "vkWaitSemaphores");
    if (status != XFT_OK)
        xft_vk_queue_drain(vk);
    else
        vk->completed = ticket;
    return status;
}

/* On a lost device nothing will ever run again, so everything counts as done. */
bool xft_vk_done(xft_device *device, uint64_t ticket) {
    vk_device *vk = xft_vk(device);
    if (ticket <= vk->completed || device->lost) return true;
    uint64_t value = 0;
    VkResult result = vk->api.vkGetSemaphoreCounterValue(vk->device, vk->timeline, &value);
    if (result == VK_ERROR_DEVICE_LOST)
        device->lost = true;
    else if (result == VK_SUCCESS)
        vk->completed = value;
    return ticket <= vk->completed || device->lost;
}

void xft_vk_barrier(vk_device *vk, VkCommandBuffer commands, bool host) {
    const VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_READ_BIT |
                         VK_ACCESS_TRANSFER_WRITE_BIT | (host ? VK_ACCESS_HOST_READ_BIT : 0),
    };
    const VkPipelineStageFlags stages = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    vk->api.vkCmdPipelineBarrier(commands, stages, stages | (host ? VK_PIPELINE_STAGE_HOST_BIT : 0), 0, 1, &barrier, 0,
                                 NULL, 0, NULL);
}
