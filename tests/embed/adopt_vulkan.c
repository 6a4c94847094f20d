/* An application with its own VkDevice lends it to the library, and goes on using it afterwards. */
#include <string.h>
#include <vulkan/vulkan.h>

#include "common.h"

static int locked;
static void lock(void *user) {
    (void)user;
    locked++;
}
static void unlock(void *user) {
    (void)user;
}

/* The application's own work: an empty command buffer through its queue, and its fence. */
static int own_work(VkDevice device, VkQueue queue, uint32_t family) {
    VkCommandPoolCreateInfo pool_info = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                         .queueFamilyIndex = family};
    VkCommandPool pool;
    if (vkCreateCommandPool(device, &pool_info, NULL, &pool)) return 1;
    VkCommandBufferAllocateInfo allocate = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, .commandPool = pool, .commandBufferCount = 1};
    VkCommandBuffer commands;
    VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    VkFenceCreateInfo fence_info = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    VkFence fence = VK_NULL_HANDLE;
    int failed = vkAllocateCommandBuffers(device, &allocate, &commands) || vkBeginCommandBuffer(commands, &begin) ||
                 vkEndCommandBuffer(commands) || vkCreateFence(device, &fence_info, NULL, &fence);
    VkSubmitInfo submit = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &commands};
    failed = failed || vkQueueSubmit(queue, 1, &submit, fence) ||
             vkWaitForFences(device, 1, &fence, VK_TRUE, UINT64_C(10000000000));
    vkDestroyFence(device, fence, NULL);
    vkDestroyCommandPool(device, pool, NULL);
    return failed;
}

int main(void) {
    const xft_vulkan_needs *needs = xft_vulkan_requirements();
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = needs->api_version};
    VkInstanceCreateInfo instance_info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                          .pApplicationInfo = &application};
    VkInstance instance;
    if (vkCreateInstance(&instance_info, NULL, &instance)) return 2;
    uint32_t count = 1;
    VkPhysicalDevice physical;
    if (vkEnumeratePhysicalDevices(instance, &count, &physical) < 0 || !count) return 2;
    /* Enable every feature the requirements name; a name this program does not know is a failure. */
    VkPhysicalDeviceVulkan12Features features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
    for (const char *const *name = needs->features; *name; name++) {
        if (!strcmp(*name, "bufferDeviceAddress"))
            features.bufferDeviceAddress = VK_TRUE;
        else if (!strcmp(*name, "scalarBlockLayout"))
            features.scalarBlockLayout = VK_TRUE;
        else if (!strcmp(*name, "timelineSemaphore"))
            features.timelineSemaphore = VK_TRUE;
        else
            return printf("unknown feature %s\n", *name);
    }
    float priority = 1;
    VkDeviceQueueCreateInfo queue_info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueCount = 1, .pQueuePriorities = &priority};
    VkDeviceCreateInfo device_info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                      .pNext = &features,
                                      .queueCreateInfoCount = 1,
                                      .pQueueCreateInfos = &queue_info};
    VkDevice vk;
    if (vkCreateDevice(physical, &device_info, NULL, &vk)) return 1;
    VkQueue queue;
    vkGetDeviceQueue(vk, 0, 0, &queue);

    xft_vulkan_objects objects = {.instance = instance,
                                  .physical_device = physical,
                                  .device = vk,
                                  .queue = queue,
                                  .lock_queue = lock,
                                  .unlock_queue = unlock,
                                  .enabled = NULL};
    xft_device *device;
    int failed = 0;
    /* Without saying what is enabled the library must refuse, naming the feature. */
    if (xft_device_adopt_vulkan(&objects, NULL, &device) == XFT_OK || !strstr(xft_error(), "bufferDeviceAddress"))
        failed = printf("a device without bufferDeviceAddress was taken: %s\n", xft_error()) > 0;
    objects.enabled = needs->features;
    if (xft_device_adopt_vulkan(&objects, NULL, &device)) {
        failed = printf("failed: %s\n", xft_error()) > 0;
    } else {
        failed |= embed_add(device);
        xft_device_close(device);
        if (!locked) failed = printf("the queue was used without its lock\n") > 0;
    }
    if (own_work(vk, queue, 0)) failed = printf("the application's device is broken\n") > 0;
    vkDestroyDevice(vk, NULL);
    vkDestroyInstance(instance, NULL);
    return failed;
}
