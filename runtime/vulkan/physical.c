#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vk.h"

/* THE list of features: needed, or used where they are found. One table finds them, enables them, tells an application
 * what to enable, and checks what it did enable. */
#define FEATURES(NEEDED, USEFUL)                                                                                       \
    NEEDED(v12, bufferDeviceAddress)                                                                                   \
    NEEDED(v12, scalarBlockLayout)                                                                                     \
    NEEDED(v12, timelineSemaphore) /* every Vulkan 1.2 device has it */                                                \
    USEFUL(subgroup, subgroupSizeControl)                                                                              \
    USEFUL(subgroup, computeFullSubgroups)                                                                             \
    USEFUL(core.features, shaderInt64)                                                                                 \
    /* the rest is for matrix units */                                                                                 \
    USEFUL(matrix, cooperativeMatrix)                                                                                  \
    USEFUL(maintenance, maintenance4) /* work-group sizes in SPIR-V 1.6 */                                             \
    USEFUL(v12, vulkanMemoryModel)                                                                                     \
    USEFUL(v12, vulkanMemoryModelDeviceScope)                                                                          \
    USEFUL(v12, shaderFloat16)                                                                                         \
    USEFUL(v11, storageBuffer16BitAccess)                                                                              \
    USEFUL(core.features, shaderInt16)

static const struct {
    const char *name;
    size_t offset; /* of its VkBool32 in vk_features */
    bool needed;
} features[] = {
#define NEEDED(place, name) {#name, offsetof(vk_features, place.name), true},
#define USEFUL(place, name) {#name, offsetof(vk_features, place.name), false},
    FEATURES(NEEDED, USEFUL)
#undef NEEDED
#undef USEFUL
};
enum { FEATURE_COUNT = sizeof features / sizeof *features };

/* Extensions enabled where they are found. */
#define EXTENSIONS(E)                                                                                                  \
    E(VK_EXT_MEMORY_BUDGET_EXTENSION_NAME)                                                                             \
    E(VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME) /* devices of Vulkan 1.2; part of 1.3 */                            \
    E(VK_KHR_MAINTENANCE_4_EXTENSION_NAME)         /* likewise */                                                      \
    E(VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME)                                                                        \
    E("VK_KHR_portability_subset") /* must be enabled where it exists */
#define LIST(name) name,
static const char *const extensions[] = {EXTENSIONS(LIST)};
enum { EXTENSION_COUNT = sizeof extensions / sizeof *extensions };
_Static_assert((int)EXTENSION_COUNT <= (int)VK_MAX_EXTENSIONS, "vk_physical.extensions is too short");

const xft_vulkan_needs *xft_vulkan_requirements(void) {
#define NAME(place, name) #name,
#define NONE(place, name)
    static const char *const needed[] = {FEATURES(NAME, NONE) NULL};
    static const char *const useful[] = {FEATURES(NONE, NAME) EXTENSIONS(LIST) NULL};
#undef NAME
#undef NONE
    static const char *const none[] = {NULL};
    static const xft_vulkan_needs needs = {VK_API_VERSION_1_2, needed, none, useful};
    return &needs;
}

static bool list_has(const char *const *names, const char *name) {
    for (; names && *names; names++)
        if (strcmp(*names, name) == 0) return true;
    return false;
}

static VkBool32 *feature_at(vk_features *f, int i) {
    return (VkBool32 *)((char *)f + features[i].offset);
}

/* Puts `next` behind the last structure of a chain. */
static void chain(void *first, void *next) {
    VkBaseOutStructure *last = first;
    while (last->pNext) last = last->pNext;
    last->pNext = next;
}

/* An empty chain of the structures that this device knows. */
static void chain_features(const vk_physical *p, vk_features *f) {
    *f = (vk_features){
        .core.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
        .v11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
        .v12.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .subgroup.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES,
        .maintenance.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES,
        .matrix.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
    };
    chain(&f->core, &f->v11);
    chain(&f->core, &f->v12);
    if (p->has_subgroup_control) chain(&f->core, &f->subgroup);
    if (p->has_maintenance) chain(&f->core, &f->maintenance);
    if (p->has_matrix) chain(&f->core, &f->matrix);
}

static xft_status find_extensions(const vk_loader *api, vk_physical *p) {
    uint32_t count = 0;
    VK(api->vkEnumerateDeviceExtensionProperties(p->handle, NULL, &count, NULL));
    VkExtensionProperties *list = calloc(count + 1, sizeof *list);
    XFT_FAIL_IF(!list, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the names of %u Vulkan extensions", count);
    xft_status status;
    VK_GOTO(api->vkEnumerateDeviceExtensionProperties(p->handle, NULL, &count, list), done);
    for (uint32_t i = 0; i < count; i++) {
        p->has_pci |= strcmp(list[i].extensionName, VK_EXT_PCI_BUS_INFO_EXTENSION_NAME) == 0;
        for (int e = 0; e < EXTENSION_COUNT; e++)
            if (strcmp(list[i].extensionName, extensions[e]) == 0) p->extensions[p->extension_count++] = extensions[e];
    }
done:
    free(list);
    return status;
}

static bool has_extension(const vk_physical *p, const char *name) {
    for (uint32_t i = 0; i < p->extension_count; i++)
        if (strcmp(p->extensions[i], name) == 0) return true;
    return false;
}

static void find_properties(const vk_loader *api, vk_physical *p) {
    p->properties.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
    p->v11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES;
    p->v12.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES;
    p->subgroup.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES;
    p->maintenance.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES;
    p->pci.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PCI_BUS_INFO_PROPERTIES_EXT;
    chain(&p->properties, &p->v11);
    chain(&p->properties, &p->v12);
    if (p->has_subgroup_control) chain(&p->properties, &p->subgroup);
    if (p->has_maintenance) chain(&p->properties, &p->maintenance);
    if (p->has_pci) chain(&p->properties, &p->pci);
    api->vkGetPhysicalDeviceProperties2(p->handle, &p->properties);
    VkPhysicalDeviceMemoryProperties2 memory = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    api->vkGetPhysicalDeviceMemoryProperties2(p->handle, &memory);
    p->memory = memory.memoryProperties;
}

/* The family given, or the one that computes; where several do, one that does nothing but compute and copy. */
static xft_status find_queue_family(const vk_loader *api, vk_physical *p, const xft_vulkan_objects *adopted) {
    uint32_t count = 0;
    api->vkGetPhysicalDeviceQueueFamilyProperties(p->handle, &count, NULL);
    VkQueueFamilyProperties *list = calloc(count + 1, sizeof *list);
    XFT_FAIL_IF(!list, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u Vulkan queue families", count);
    api->vkGetPhysicalDeviceQueueFamilyProperties(p->handle, &count, list);
    p->queue_family = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++) {
        if (!(list[i].queueFlags & VK_QUEUE_COMPUTE_BIT) || list[i].queueCount == 0) continue;
        bool graphics = list[i].queueFlags & VK_QUEUE_GRAPHICS_BIT;
        if (adopted ? i != adopted->queue_family : p->queue_family != UINT32_MAX && graphics) continue;
        p->queue_family = i;
        p->timestamp_bits = list[i].timestampValidBits;
        if (!graphics) break;
    }
    free(list);
    return XFT_OK;
}

xft_status xft_vk_inspect(const vk_loader *api, VkPhysicalDevice handle, const xft_vulkan_objects *adopted,
                          vk_physical *p) {
    *p = (vk_physical){.handle = handle, .queue_family = UINT32_MAX};
    api->vkGetPhysicalDeviceProperties(handle, &p->properties.properties);
    uint32_t version = p->properties.properties.apiVersion;
    if (version < VK_API_VERSION_1_2) {
        snprintf(p->missing, sizeof p->missing, "Vulkan 1.2 (it has %u.%u)", VK_API_VERSION_MAJOR(version),
                 VK_API_VERSION_MINOR(version));
        return XFT_OK;
    }
    XFT_TRY(find_extensions(api, p));
    p->has_subgroup_control =
        version >= VK_API_VERSION_1_3 || has_extension(p, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
    p->has_maintenance = version >= VK_API_VERSION_1_3 || has_extension(p, VK_KHR_MAINTENANCE_4_EXTENSION_NAME);
    p->has_matrix = has_extension(p, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
    p->has_budget = has_extension(p, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    find_properties(api, p);
    XFT_TRY(find_queue_family(api, p, adopted));

    vk_features supported;
    chain_features(p, &supported);
    chain_features(p, &p->features);
    api->vkGetPhysicalDeviceFeatures2(handle, &supported.core);
    for (int i = 0; i < FEATURE_COUNT; i++) {
        bool have = *feature_at(&supported, i) && (!adopted || list_has(adopted->enabled, features[i].name));
        *feature_at(&p->features, i) = have;
        size_t at = strlen(p->missing);
        if (features[i].needed && !have)
            snprintf(p->missing + at, sizeof p->missing - at, "%s%s", at ? ", " : "", features[i].name);
    }
    return XFT_OK;
}

/* ---- Memory ---- */

/* The first allowed type with all of `flags`; drivers list the best first. Protected and lazy memory, and AMD's
 * uncached device memory, are for others. */
static uint32_t find_memory_type(const vk_physical *p, uint32_t allowed, VkMemoryPropertyFlags flags) {
    const VkMemoryPropertyFlags usual = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                        VK_MEMORY_PROPERTY_HOST_COHERENT_BIT | VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    for (uint32_t i = 0; i < p->memory.memoryTypeCount; i++) {
        VkMemoryPropertyFlags has = p->memory.memoryTypes[i].propertyFlags;
        if ((allowed >> i & 1) && (has & flags) == flags && !(has & ~usual)) return i;
    }
    return UINT32_MAX;
}

uint32_t xft_vk_memory_type(const vk_physical *p, uint32_t allowed, bool staging) {
    const VkMemoryPropertyFlags host = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    if (!staging) return find_memory_type(p, allowed, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
    /* The host reads results here: uncached memory would be read a word at a time. */
    uint32_t type = find_memory_type(p, allowed, host | VK_MEMORY_PROPERTY_HOST_CACHED_BIT);
    return type != UINT32_MAX ? type : find_memory_type(p, allowed, host);
}

/* ---- For the public header ---- */

static xft_device_class class_of(VkPhysicalDeviceType type) {
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return XFT_CLASS_DISCRETE;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: /* some GPU behind a virtual machine: before any CPU */
        return XFT_CLASS_INTEGRATED;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return XFT_CLASS_CPU;
    default:
        return XFT_CLASS_UNKNOWN;
    }
}

/* Matrix units that multiply f16 by f16 into f32 over a subgroup, 16 x 16 by 16 x 16: the size the kernels use. */
static bool has_cooperative_matrix(const vk_loader *api, const vk_physical *p) {
    if (!p->features.matrix.cooperativeMatrix || !p->features.v12.vulkanMemoryModel ||
        !api->vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)
        return false;
    VkCooperativeMatrixPropertiesKHR list[64];
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        list[i] = (VkCooperativeMatrixPropertiesKHR){.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
    uint32_t count = sizeof list / sizeof *list;
    /* VK_INCOMPLETE, more than 64 kinds, is no error. */
    if (api->vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR(p->handle, &count, list) < 0) return false;
    for (uint32_t i = 0; i < count; i++)
        if (list[i].AType == VK_COMPONENT_TYPE_FLOAT16_KHR && list[i].BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
            list[i].CType == VK_COMPONENT_TYPE_FLOAT32_KHR && list[i].ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
            list[i].scope == VK_SCOPE_SUBGROUP_KHR && list[i].MSize == 16 && list[i].NSize == 16 && list[i].KSize == 16)
            return true;
    return false;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Of one allocation: a driver may state several limits, and row arithmetic in the kernels is 32 bits wide. */
static uint64_t max_allocation(const vk_physical *p, uint64_t heap) {
    uint64_t limit = smaller(heap, (UINT64_C(1) << 32) - 512);
    if (p->v11.maxMemoryAllocationSize) limit = smaller(limit, p->v11.maxMemoryAllocationSize);
    if (p->maintenance.maxBufferSize) limit = smaller(limit, p->maintenance.maxBufferSize);
    return limit / 512 * 512;
}

/* Drivers have room for longer names than the public header. */
static void copy_text(char *to, size_t room, const char *from) {
    snprintf(to, room, "%.*s", (int)room - 1, from);
}

void xft_vk_describe(const vk_loader *api, const vk_physical *p, xft_device_info *info) {
    const VkPhysicalDeviceProperties *properties = &p->properties.properties;
    const VkPhysicalDeviceLimits *limits = &properties->limits;
    info->api = XFT_API_VULKAN;
    info->device_class = class_of(properties->deviceType);
    copy_text(info->name, sizeof info->name, properties->deviceName);
    copy_text(info->platform, sizeof info->platform, p->v12.driverName);
    /* SwiftShader leaves the text empty. */
    if (*p->v12.driverInfo)
        copy_text(info->driver, sizeof info->driver, p->v12.driverInfo);
    else
        snprintf(info->driver, sizeof info->driver, "%#x", (unsigned)properties->driverVersion);
    static const uint8_t no_uuid[VK_UUID_SIZE];
    info->has_uuid = memcmp(p->v11.deviceUUID, no_uuid, sizeof no_uuid) != 0;
    memcpy(info->uuid, p->v11.deviceUUID, sizeof info->uuid);
    info->has_pci = p->has_pci;
    if (p->has_pci) {
        info->pci[0] = p->pci.pciDomain;
        info->pci[1] = p->pci.pciBus;
        info->pci[2] = p->pci.pciDevice;
        info->pci[3] = p->pci.pciFunction;
    }
    const uint32_t type = xft_vk_memory_type(p, UINT32_MAX, false);
    info->memory_bytes = type == UINT32_MAX ? 0 : p->memory.memoryHeaps[p->memory.memoryTypes[type].heapIndex].size;
    info->max_allocation_bytes = max_allocation(p, info->memory_bytes);
    info->max_workgroup_size =
        (uint32_t)smaller(limits->maxComputeWorkGroupInvocations, limits->maxComputeWorkGroupSize[0]);
    memcpy(info->max_groups, limits->maxComputeWorkGroupCount, sizeof info->max_groups);
    info->local_memory_bytes = limits->maxComputeSharedMemorySize;
    const VkSubgroupFeatureFlags operations = VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_BALLOT_BIT;
    bool subgroups = (p->v11.subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT) &&
                     (p->v11.subgroupSupportedOperations & operations) == operations;
    info->subgroup_size = subgroups ? p->v11.subgroupSize : 0;
    info->fp16_arithmetic = p->features.v12.shaderFloat16;
    info->cooperative_matrix = has_cooperative_matrix(api, p);
    info->timestamps = p->timestamp_bits > 0 && limits->timestampPeriod > 0;
    info->alignment = limits->minStorageBufferOffsetAlignment > 512 ? limits->minStorageBufferOffsetAlignment : 512;

    *info->reason = 0;
    if (*p->missing)
        snprintf(info->reason, sizeof info->reason, "it lacks %.160s: a newer driver may have it", p->missing);
    else if (p->queue_family == UINT32_MAX)
        snprintf(info->reason, sizeof info->reason, "none of its queues computes: choose another device");
    else if (info->memory_bytes == 0)
        snprintf(info->reason, sizeof info->reason, "it has no memory for buffers: choose another device");
    else if (info->max_workgroup_size < 256)
        snprintf(info->reason, sizeof info->reason,
                 "its work-groups hold %u invocations, and kernels take 256: choose another device",
                 info->max_workgroup_size);
    info->usable = !*info->reason;
}
