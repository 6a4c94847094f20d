#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <unistd.h>
#endif

#include "vk.h"

/* ---- Instance ---- */

static bool instance_has(const vk_loader *api, const char *name) {
    VkExtensionProperties list[64];
    uint32_t count = sizeof list / sizeof *list;
    if (api->vkEnumerateInstanceExtensionProperties(NULL, &count, list) < 0) return false;
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(list[i].extensionName, name) == 0) return true;
    return false;
}

static const char *no_driver_cure(void) {
    const char *names[] = {"VK_DRIVER_FILES", "VK_ICD_FILENAMES"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getenv(names[i]))
            return i ? "VK_ICD_FILENAMES is set and names no driver that loads: unset or correct it"
                     : "VK_DRIVER_FILES is set and names no driver that loads: unset or correct it";
    return "install the card's Vulkan driver (Debian: mesa-vulkan-drivers, which also runs on the CPU)";
}

/* The loader, and an instance of its version up to 1.3. On failure nothing is left open. */
static xft_status open_instance(vk_loader *api, VkInstance *instance) {
    *instance = VK_NULL_HANDLE;
    XFT_TRY(xft_vk_loader_open(api, NULL));
    uint32_t version = 0;
    VkApplicationInfo application = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .pApplicationName = "xft", .pEngineName = "libxftgpu"};
    /* Layered implementations (MoltenVK) are listed only to those who ask. */
    const char *portability = "VK_KHR_portability_enumeration";
    bool layered = instance_has(api, portability);
    VkInstanceCreateInfo create = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                   .flags = layered ? VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR : 0,
                                   .pApplicationInfo = &application,
                                   .enabledExtensionCount = layered,
                                   .ppEnabledExtensionNames = &portability};
    xft_status status;
    VK_GOTO(api->vkEnumerateInstanceVersion(&version), fail);
    if (version < VK_API_VERSION_1_2) {
        status =
            xft_fail(XFT_ERROR_NO_DEVICE, "the Vulkan loader is of version %u.%u, 1.2 is needed: update libvulkan1",
                     VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version));
        goto fail;
    }
    application.apiVersion = version < VK_API_VERSION_1_3 ? VK_API_VERSION_1_2 : VK_API_VERSION_1_3;
    VkResult result = api->vkCreateInstance(&create, NULL, instance);
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER) {
        status = xft_fail(XFT_ERROR_NO_DEVICE, "the Vulkan loader found no driver: %s", no_driver_cure());
        goto fail;
    }
    XFT_TRY_GOTO(xft_vk_result(result, "vkCreateInstance"), fail);
    XFT_TRY_GOTO(xft_vk_load_instance(api, *instance), fail);
    return XFT_OK;
fail:
    if (*instance && api->vkDestroyInstance) api->vkDestroyInstance(*instance, NULL);
    *instance = VK_NULL_HANDLE;
    xft_vk_loader_close(api);
    return status;
}

static void close_instance(vk_loader *api, VkInstance instance) {
    if (instance) api->vkDestroyInstance(instance, NULL);
    xft_vk_loader_close(api);
}

/* The devices of the instance; the caller frees *list, also after a failure. */
static xft_status list_physical(const vk_loader *api, VkInstance instance, VkPhysicalDevice **list, uint32_t *count) {
    *list = NULL;
    VK(api->vkEnumeratePhysicalDevices(instance, count, NULL));
    *list = calloc(*count + 1, sizeof **list);
    XFT_FAIL_IF(!*list, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a list of %u Vulkan devices", *count);
    VK(api->vkEnumeratePhysicalDevices(instance, count, *list));
    return XFT_OK;
}

/* ---- Listing ---- */

/* A new last entry of the list, all zero but for the API; NULL for want of memory. */
static xft_device_info *append(xft_device_info **list, uint32_t *count) {
    xft_device_info *grown = realloc(*list, (*count + 1) * sizeof *grown);
    if (!grown) return NULL;
    *list = grown;
    grown[*count] = (xft_device_info){.api = XFT_API_VULKAN, .device_class = XFT_CLASS_UNKNOWN};
    return &grown[(*count)++];
}

static xft_status append_unusable(xft_device_info **list, uint32_t *count, const char *name, const char *reason) {
    xft_device_info *entry = append(list, count);
    XFT_FAIL_IF(!entry, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a list of devices");
    snprintf(entry->id, sizeof entry->id, "vulkan");
    snprintf(entry->name, sizeof entry->name, "%s", name);
    snprintf(entry->reason, sizeof entry->reason, "%s", reason);
    return XFT_OK;
}

/* Drivers silently leave out a card whose device file they may not open: one entry for each such file. */
static xft_status append_closed_nodes(xft_device_info **list, uint32_t *count) {
#if defined(__linux__)
    for (int minor = 128; minor < 192; minor++) {
        char path[64], known[64], reason[256];
        snprintf(path, sizeof path, "/dev/dri/renderD%d", minor);
        snprintf(known, sizeof known, "/sys/class/drm/renderD%d", minor); /* also of cards kept out of a container */
        if (access(path, F_OK) != 0 && access(known, F_OK) != 0) continue;
        int node = open(path, O_RDWR | O_CLOEXEC);
        if (node >= 0) {
            close(node);
            continue;
        }
        snprintf(reason, sizeof reason, "%s cannot be opened (%s): %s", path, strerror(errno),
                 errno == EACCES ? "add the user to the group that owns it (usermod -aG render USER) and log in again"
                                 : "give it to this machine or container (--device /dev/dri)");
        XFT_TRY(append_unusable(list, count, path, reason));
    }
#else
    (void)list, (void)count;
#endif
    return XFT_OK;
}

static xft_status append_devices(const vk_loader *api, VkInstance instance, xft_device_info **list, uint32_t *count) {
    VkPhysicalDevice *handles;
    uint32_t found = 0;
    xft_status status = list_physical(api, instance, &handles, &found);
    for (uint32_t i = 0; i < found && status == XFT_OK; i++) {
        vk_physical physical;
        status = xft_vk_inspect(api, handles[i], NULL, &physical);
        if (status != XFT_OK) break;
        xft_device_info *entry = append(list, count);
        if (!entry) {
            status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a list of devices");
            break;
        }
        snprintf(entry->id, sizeof entry->id, "vulkan:%u", i);
        xft_vk_describe(api, &physical, entry);
    }
    free(handles);
    if (status == XFT_OK && found == 0) {
        char reason[256];
        snprintf(reason, sizeof reason, "the Vulkan drivers found no device: %s", no_driver_cure());
        status = append_unusable(list, count, "Vulkan", reason);
    }
    return status;
}

xft_status xft_vk_enumerate(xft_device_info **list, uint32_t *count) {
    vk_loader api;
    VkInstance instance;
    xft_status status = open_instance(&api, &instance);
    if (status == XFT_OK) {
        status = append_devices(&api, instance, list, count);
        close_instance(&api, instance);
    }
    if (status == XFT_ERROR_OUT_OF_HOST_MEMORY) return status;
    if (status != XFT_OK) XFT_TRY(append_unusable(list, count, "Vulkan", xft_error()));
    return append_closed_nodes(list, count);
}

/* ---- Opening ---- */

/* The VkPhysicalDevice that was listed as request->info, in this instance's list. */
static xft_status find_physical(vk_device *vk, const xft_device_info *info) {
    VkPhysicalDevice *handles;
    uint32_t count = 0;
    unsigned index = UINT32_MAX;
    xft_status status = list_physical(&vk->api, vk->instance, &handles, &count);
    if (status == XFT_OK && (sscanf(info->id, "vulkan:%u", &index) != 1 || index >= count))
        status = xft_fail(XFT_ERROR_NO_DEVICE, "device %s is gone: there are now %u Vulkan devices", info->id, count);
    if (status == XFT_OK) status = xft_vk_inspect(&vk->api, handles[index], NULL, &vk->physical);
    free(handles);
    XFT_TRY(status);
    xft_device_info now = *info;
    xft_vk_describe(&vk->api, &vk->physical, &now);
    XFT_FAIL_IF(strcmp(now.name, info->name) != 0, XFT_ERROR_NO_DEVICE,
                "device %s is now %s, it was %s: list the devices again", info->id, now.name, info->name);
    XFT_FAIL_IF(!now.usable, XFT_ERROR_NO_DEVICE, "%s", now.reason);
    vk->front->info = now;
    return XFT_OK;
}

static xft_status create_device(vk_device *vk) {
    const float priority = 1;
    const VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                           .queueFamilyIndex = vk->physical.queue_family,
                                           .queueCount = 1,
                                           .pQueuePriorities = &priority};
    const VkDeviceCreateInfo create = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                       .pNext = &vk->physical.features.core,
                                       .queueCreateInfoCount = 1,
                                       .pQueueCreateInfos = &queue,
                                       .enabledExtensionCount = vk->physical.extension_count,
                                       .ppEnabledExtensionNames = vk->physical.extensions};
    VK(vk->api.vkCreateDevice(vk->physical.handle, &create, NULL, &vk->device));
    XFT_TRY(xft_vk_load_device(&vk->api, vk->device));
    vk->api.vkGetDeviceQueue(vk->device, vk->physical.queue_family, 0, &vk->queue);
    return XFT_OK;
}

static xft_status open_own(vk_device *vk, const xft_open_request *request) {
    XFT_TRY(open_instance(&vk->api, &vk->instance));
    XFT_TRY(find_physical(vk, request->info));
    return create_device(vk);
}

static xft_status adopt(vk_device *vk, const xft_vulkan_objects *objects) {
    XFT_FAIL_IF(!objects->lock_queue != !objects->unlock_queue, XFT_ERROR_INVALID_ARGUMENT,
                "objects.lock_queue and objects.unlock_queue: one is NULL and the other is not");
    vk->adopted = true;
    vk->lock_queue = objects->lock_queue;
    vk->unlock_queue = objects->unlock_queue;
    vk->user = objects->user;
    vk->instance = objects->instance;
    vk->device = objects->device;
    vk->queue = objects->queue;
    XFT_TRY(xft_vk_loader_open(&vk->api, objects->get_instance_proc_addr));
    XFT_TRY(xft_vk_load_instance(&vk->api, vk->instance));
    XFT_TRY(xft_vk_load_device(&vk->api, vk->device));
    XFT_TRY(xft_vk_inspect(&vk->api, objects->physical_device, objects, &vk->physical));
    XFT_FAIL_IF(*vk->physical.missing, XFT_ERROR_UNSUPPORTED,
                "the VkDevice lacks %s: enable what xft_vulkan_requirements() names, and name it in objects->enabled",
                vk->physical.missing);
    XFT_FAIL_IF(vk->physical.queue_family == UINT32_MAX, XFT_ERROR_INVALID_ARGUMENT,
                "objects->queue_family is %u, which does not compute on this device", objects->queue_family);
    xft_device_info *info = &vk->front->info;
    snprintf(info->id, sizeof info->id, "vulkan:adopted");
    xft_vk_describe(&vk->api, &vk->physical, info);
    return XFT_OK;
}

/* The size of subgroups the options ask for, where the device can be told. */
static void choose_subgroup_size(vk_device *vk, uint32_t wanted) {
    const VkPhysicalDeviceSubgroupSizeControlProperties *can = &vk->physical.subgroup;
    xft_device_info *info = &vk->front->info;
    if (info->subgroup_size && wanted && (wanted & (wanted - 1)) == 0 && wanted >= can->minSubgroupSize &&
        wanted <= can->maxSubgroupSize && vk->physical.features.subgroup.subgroupSizeControl &&
        (can->requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT))
        info->subgroup_size = wanted;
}

static xft_status create_queue_objects(vk_device *vk) {
    const VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                            .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    const VkSemaphoreCreateInfo semaphore = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
    VK(vk->api.vkCreateSemaphore(vk->device, &semaphore, NULL, &vk->timeline));
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .flags = VK_COMMAND_POOL_CREATE_TRANSIENT_BIT |
                                                   VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                          .queueFamilyIndex = vk->physical.queue_family};
    VK(vk->api.vkCreateCommandPool(vk->device, &pool, NULL, &vk->transfer_pool));
    const VkCommandBufferAllocateInfo buffer = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                                .commandPool = vk->transfer_pool,
                                                .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                                .commandBufferCount = 1};
    VK(vk->api.vkAllocateCommandBuffers(vk->device, &buffer, &vk->transfer));
    return XFT_OK;
}

xft_status xft_vk_open(const xft_open_request *request, xft_device *device) {
    vk_device *vk = calloc(1, sizeof *vk);
    XFT_FAIL_IF(!vk, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a Vulkan device");
    vk->front = device;
    device->impl = vk;
    xft_status status = request->vulkan ? adopt(vk, request->vulkan) : open_own(vk, request);
    if (status == XFT_OK) status = create_queue_objects(vk);
    if (status == XFT_OK) status = xft_vk_kernels_open(vk, request->cache_dir);
    if (status == XFT_OK) choose_subgroup_size(vk, request->options ? request->options->subgroup_size : 0);
    if (status != XFT_OK) xft_vk_close(device);
    return status;
}

void xft_vk_close(xft_device *device) {
    vk_device *vk = xft_vk(device);
    if (!vk) return;
    if (vk->timeline) xft_vk_wait(device, vk->submitted);
    xft_vk_buffer_destroy(&vk->staging);
    xft_vk_kernels_close(vk);
    if (vk->transfer_pool) vk->api.vkDestroyCommandPool(vk->device, vk->transfer_pool, NULL);
    if (vk->timeline) vk->api.vkDestroySemaphore(vk->device, vk->timeline, NULL);
    if (!vk->adopted) {
        if (vk->device && vk->api.vkDestroyDevice) vk->api.vkDestroyDevice(vk->device, NULL);
        close_instance(&vk->api, vk->instance);
    } else {
        xft_vk_loader_close(&vk->api);
    }
    free(vk);
    device->impl = NULL;
}

/* A driver on the CPU states some number for its heap; what counts is the memory of the host. */
static bool host_memory(uint64_t *total, uint64_t *available) {
    FILE *file = fopen("/proc/meminfo", "r");
    if (!file) return false;
    char line[128];
    unsigned long long kib;
    int found = 0;
    while (found < 2 && fgets(line, sizeof line, file)) {
        if (sscanf(line, "MemTotal: %llu kB", &kib) == 1) *total = kib << 10, found++;
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) *available = kib << 10, found++;
    }
    fclose(file);
    return found == 2;
}

xft_status xft_vk_memory(xft_device *device, uint64_t *total, uint64_t *available, bool *told) {
    const vk_device *vk = xft_vk(device);
    *told = vk->physical.has_budget;
    if (!*told && device->info.device_class == XFT_CLASS_CPU && host_memory(total, available)) return XFT_OK;
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 memory = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                                .pNext = *told ? &budget : NULL};
    vk->api.vkGetPhysicalDeviceMemoryProperties2(vk->physical.handle, &memory);
    const uint32_t type = xft_vk_memory_type(&vk->physical, UINT32_MAX, false);
    XFT_FAIL_IF(type == UINT32_MAX, XFT_ERROR_UNSUPPORTED, "the driver offers no device-local memory");
    const uint32_t heap = memory.memoryProperties.memoryTypes[type].heapIndex;
    *total = memory.memoryProperties.memoryHeaps[heap].size;
    const uint64_t limit = *told ? budget.heapBudget[heap] : *total;
    const uint64_t used = *told ? budget.heapUsage[heap] : device->counters.buffer_bytes;
    *available = limit > used ? limit - used : 0;
    return XFT_OK;
}
