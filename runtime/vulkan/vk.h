/* The Vulkan driver's own header: what its files share. Nothing outside runtime/vulkan/ includes it. */
#ifndef XFT_VULKAN_VK_H
#define XFT_VULKAN_VK_H

#ifndef VK_NO_PROTOTYPES
#define VK_NO_PROTOTYPES /* no function of Vulkan is linked: all are found at run time */
#endif
#include <vulkan/vulkan_core.h>

#include "driver.h"

/* Headers before 1.3.255 lack the extension; a driver found at run time may have it all the same. */
#ifndef VK_KHR_cooperative_matrix
#define VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME                          "VK_KHR_cooperative_matrix"
#define VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR ((VkStructureType)1000506000)
#define VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR               ((VkStructureType)1000506001)
typedef enum VkComponentTypeKHR {
    VK_COMPONENT_TYPE_FLOAT16_KHR = 0,
    VK_COMPONENT_TYPE_FLOAT32_KHR = 1,
    VK_COMPONENT_TYPE_MAX_ENUM_KHR = 0x7FFFFFFF
} VkComponentTypeKHR;
typedef enum VkScopeKHR { VK_SCOPE_SUBGROUP_KHR = 3, VK_SCOPE_MAX_ENUM_KHR = 0x7FFFFFFF } VkScopeKHR;
typedef struct VkPhysicalDeviceCooperativeMatrixFeaturesKHR {
    VkStructureType sType;
    void *pNext;
    VkBool32 cooperativeMatrix, cooperativeMatrixRobustBufferAccess;
} VkPhysicalDeviceCooperativeMatrixFeaturesKHR;
typedef struct VkCooperativeMatrixPropertiesKHR {
    VkStructureType sType;
    void *pNext;
    uint32_t MSize, NSize, KSize;
    VkComponentTypeKHR AType, BType, CType, ResultType;
    VkBool32 saturatingAccumulation;
    VkScopeKHR scope;
} VkCooperativeMatrixPropertiesKHR;
typedef VkResult(VKAPI_PTR *PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)(VkPhysicalDevice, uint32_t *,
                                                                                   VkCooperativeMatrixPropertiesKHR *);
#endif

/* THE list of Vulkan functions in use, by what they are looked up with. OPTIONAL ones may stay NULL. */
#define XFT_VK_FUNCTIONS(GLOBAL, INSTANCE, OPTIONAL, DEVICE)                                                           \
    GLOBAL(vkCreateInstance)                                                                                           \
    GLOBAL(vkEnumerateInstanceExtensionProperties)                                                                     \
    GLOBAL(vkEnumerateInstanceVersion)                                                                                 \
    INSTANCE(vkCreateDevice)                                                                                           \
    INSTANCE(vkDestroyInstance)                                                                                        \
    INSTANCE(vkEnumerateDeviceExtensionProperties)                                                                     \
    INSTANCE(vkEnumeratePhysicalDevices)                                                                               \
    INSTANCE(vkGetDeviceProcAddr)                                                                                      \
    INSTANCE(vkGetPhysicalDeviceFeatures2)                                                                             \
    INSTANCE(vkGetPhysicalDeviceMemoryProperties2)                                                                     \
    INSTANCE(vkGetPhysicalDeviceProperties)                                                                            \
    INSTANCE(vkGetPhysicalDeviceProperties2)                                                                           \
    INSTANCE(vkGetPhysicalDeviceQueueFamilyProperties)                                                                 \
    OPTIONAL(vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)                                                        \
    DEVICE(vkAllocateCommandBuffers)                                                                                   \
    DEVICE(vkAllocateMemory)                                                                                           \
    DEVICE(vkBeginCommandBuffer)                                                                                       \
    DEVICE(vkBindBufferMemory)                                                                                         \
    DEVICE(vkCmdBindPipeline)                                                                                          \
    DEVICE(vkCmdCopyBuffer)                                                                                            \
    DEVICE(vkCmdDispatch)                                                                                              \
    DEVICE(vkCmdDispatchBase)                                                                                          \
    DEVICE(vkCmdPipelineBarrier)                                                                                       \
    DEVICE(vkCmdPushConstants)                                                                                         \
    DEVICE(vkCmdResetQueryPool)                                                                                        \
    DEVICE(vkCmdWriteTimestamp)                                                                                        \
    DEVICE(vkCreateBuffer)                                                                                             \
    DEVICE(vkCreateCommandPool)                                                                                        \
    DEVICE(vkCreateComputePipelines)                                                                                   \
    DEVICE(vkCreatePipelineCache)                                                                                      \
    DEVICE(vkCreatePipelineLayout)                                                                                     \
    DEVICE(vkCreateQueryPool)                                                                                          \
    DEVICE(vkCreateSemaphore)                                                                                          \
    DEVICE(vkCreateShaderModule)                                                                                       \
    DEVICE(vkDestroyBuffer)                                                                                            \
    DEVICE(vkDestroyCommandPool)                                                                                       \
    DEVICE(vkDestroyDevice)                                                                                            \
    DEVICE(vkDestroyPipeline)                                                                                          \
    DEVICE(vkDestroyPipelineCache)                                                                                     \
    DEVICE(vkDestroyPipelineLayout)                                                                                    \
    DEVICE(vkDestroyQueryPool)                                                                                         \
    DEVICE(vkDestroySemaphore)                                                                                         \
    DEVICE(vkDestroyShaderModule)                                                                                      \
    DEVICE(vkEndCommandBuffer)                                                                                         \
    DEVICE(vkFreeMemory)                                                                                               \
    DEVICE(vkGetBufferDeviceAddress)                                                                                   \
    DEVICE(vkGetBufferMemoryRequirements)                                                                              \
    DEVICE(vkGetDeviceQueue)                                                                                           \
    DEVICE(vkGetPipelineCacheData)                                                                                     \
    DEVICE(vkGetQueryPoolResults)                                                                                      \
    DEVICE(vkGetSemaphoreCounterValue)                                                                                 \
    DEVICE(vkMapMemory)                                                                                                \
    DEVICE(vkQueueSubmit)                                                                                              \
    DEVICE(vkQueueWaitIdle)                                                                                            \
    DEVICE(vkWaitSemaphores)

/* The loader, opened, with the functions found so far. */
typedef struct vk_loader {
    void *library; /* NULL: an application gave vkGetInstanceProcAddr */
    PFN_vkGetInstanceProcAddr vkGetInstanceProcAddr;
#define XFT_VK_MEMBER(name) PFN_##name name;
    XFT_VK_FUNCTIONS(XFT_VK_MEMBER, XFT_VK_MEMBER, XFT_VK_MEMBER, XFT_VK_MEMBER)
#undef XFT_VK_MEMBER
} vk_loader;

/* get_instance_proc_addr: an application's, or NULL for the system's loader. XFT_ERROR_NO_DEVICE says what to install.
 */
xft_status xft_vk_loader_open(vk_loader *api, void *get_instance_proc_addr);
void xft_vk_loader_close(vk_loader *api);
xft_status xft_vk_load_instance(vk_loader *api, VkInstance instance);
xft_status xft_vk_load_device(vk_loader *api, VkDevice device);

/* XFT_OK, or the status and message for a code below zero. `call` is the text of the call. */
xft_status xft_vk_result(VkResult result, const char *call);

/* Leaves the function when a Vulkan call fails; VK_GOTO needs a local `xft_status status`. */
#define VK(call)             XFT_TRY(xft_vk_result(call, #call))
#define VK_GOTO(call, label) XFT_TRY_GOTO(xft_vk_result(call, #call), label)

/* ---- physical.c: what a VkPhysicalDevice is and can ---- */

/* Every feature structure in use, chained in place: do not copy. */
typedef struct vk_features {
    VkPhysicalDeviceFeatures2 core;
    VkPhysicalDeviceVulkan11Features v11;
    VkPhysicalDeviceVulkan12Features v12;
    VkPhysicalDeviceSubgroupSizeControlFeatures subgroup;
    VkPhysicalDeviceMaintenance4Features maintenance;
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix;
} vk_features;

enum { VK_MAX_EXTENSIONS = 8 };

typedef struct vk_physical {
    VkPhysicalDevice handle;
    VkPhysicalDeviceProperties2 properties;
    VkPhysicalDeviceVulkan11Properties v11;
    VkPhysicalDeviceVulkan12Properties v12;
    VkPhysicalDeviceSubgroupSizeControlProperties subgroup;
    VkPhysicalDeviceMaintenance4Properties maintenance;
    VkPhysicalDevicePCIBusInfoPropertiesEXT pci;
    VkPhysicalDeviceMemoryProperties memory;
    vk_features features;                      /* those in use that it supports or, adopted, that are enabled */
    const char *extensions[VK_MAX_EXTENSIONS]; /* those to be enabled */
    uint32_t extension_count;
    uint32_t queue_family; /* UINT32_MAX: none computes */
    uint32_t timestamp_bits;
    bool has_subgroup_control, has_maintenance, has_matrix, has_pci, has_budget;
    char missing[256]; /* names of needed features that are not there; "" */
} vk_physical;

/* Fills `p`. enabled: the features that an application enabled, and its queue family; NULL: what is supported. */
xft_status xft_vk_inspect(const vk_loader *api, VkPhysicalDevice handle, const xft_vulkan_objects *adopted,
                          vk_physical *p);

/* What the public header says of the device; usable and reason included. */
void xft_vk_describe(const vk_loader *api, const vk_physical *p, xft_device_info *info);

/* The best type among the `allowed` bits for buffers of kernels, or for staging; UINT32_MAX: none. */
uint32_t xft_vk_memory_type(const vk_physical *p, uint32_t allowed, bool staging);

/* ---- device.c ---- */

typedef struct vk_device {
    xft_device *front;
    vk_loader api;
    VkInstance instance;
    VkDevice device;
    vk_physical physical;
    bool adopted;
    /* the queue (queue.c) */
    VkQueue queue;
    void (*lock_queue)(void *user);
    void (*unlock_queue)(void *user);
    void *user;
    VkSemaphore timeline;          /* its value: the last ticket that is done */
    uint64_t submitted, completed; /* tickets */
    /* blocking transfers (buffer.c) */
    VkCommandPool transfer_pool;
    VkCommandBuffer transfer;
    xft_buffer staging;
    /* kernels (kernel.c) */
    VkPipelineLayout layout;
    VkPipelineCache cache;
    uint64_t cache_hash;   /* of the content on disk; 0: none */
    const char *cache_dir; /* belongs to the front as long as the device lives */
} vk_device;

static inline vk_device *xft_vk(const xft_device *device) {
    return device->impl;
}

xft_status xft_vk_enumerate(xft_device_info **list, uint32_t *count);
xft_status xft_vk_open(const xft_open_request *request, xft_device *device);
void xft_vk_close(xft_device *device);
xft_status xft_vk_memory(xft_device *device, uint64_t *total, uint64_t *available, bool *told);

/* ---- queue.c: tickets are values of one timeline semaphore ---- */

/* As xft_vk_result, for the calls that can lose the device: it is remembered, and its queue never touched again. */
xft_status xft_vk_queue_result(vk_device *vk, VkResult result, const char *call);
/* Submits one command buffer; `last` ends a ticket, the number vk->submitted then has. */
xft_status xft_vk_queue_submit(vk_device *vk, VkCommandBuffer buffer, bool last);
/* After a submit or a wait that failed: nothing may still run in memory that the caller frees next. */
void xft_vk_queue_drain(vk_device *vk);
xft_status xft_vk_wait(xft_device *device, uint64_t ticket);
bool xft_vk_done(xft_device *device, uint64_t ticket);

/* Everything before against everything after: kernels and copies; for the host too when `host`. */
void xft_vk_barrier(vk_device *vk, VkCommandBuffer commands, bool host);

/* ---- buffer.c ---- */

typedef struct vk_buffer {
    VkBuffer handle;
    VkDeviceMemory memory;
    VkDeviceAddress address; /* 0 for staging */
} vk_buffer;

xft_status xft_vk_buffer_create(xft_device *device, uint64_t size, bool staging, xft_buffer *buffer);
void xft_vk_buffer_destroy(xft_buffer *buffer);
xft_status xft_vk_buffer_write(xft_buffer *buffer, uint64_t offset, const void *data, uint64_t bytes);
xft_status xft_vk_buffer_read(xft_buffer *buffer, uint64_t offset, void *data, uint64_t bytes);

/* ---- kernel.c ---- */

typedef struct vk_kernel {
    VkPipeline pipeline;
    uint32_t buffers, push_bytes;
} vk_kernel;

xft_status xft_vk_kernel_create(xft_device *device, xft_kernel *kernel);
void xft_vk_kernel_destroy(xft_device *device, xft_kernel *kernel);
/* The pipeline layout, and the pipeline cache with what an earlier run left on disk. */
xft_status xft_vk_kernels_open(vk_device *vk, const char *cache_dir);
void xft_vk_kernels_close(vk_device *vk);

/* ---- program.c ---- */

xft_status xft_vk_program_create(xft_program *program);
void xft_vk_program_destroy(xft_program *program);
xft_status xft_vk_submit(xft_program *program, uint32_t slot, uint64_t *ticket);
xft_status xft_vk_timings(xft_program *program, uint32_t slot, double *ms);

#endif
