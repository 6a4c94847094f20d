/* xft_vulkan_faults: the Vulkan driver on an application's own device, through the application's own
 * vkGetInstanceProcAddr, which counts what is made and destroyed and fails every call that can fail, once and from
 * there on. Shows that results are right, that a failure is a clean error without a leak, that a lost device is not
 * touched again, that the queue is locked when it is used, and that the application's device works on afterwards.
 * Allocations of the library fail too, by the linker's --wrap. A plain program, so that valgrind and the sanitizers see
 * leaks. */
#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "xft/ops.h"

static int problems;
#define CHECK(condition, ...)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            problems++;                                                                                                \
            printf("%s:%d: %s: ", __FILE__, __LINE__, #condition);                                                     \
            printf(__VA_ARGS__);                                                                                       \
            printf("\n");                                                                                              \
        }                                                                                                              \
    } while (0)

/* ---- Failing ---- */

static uint32_t calls, fail_at; /* the call that fails; 0: none */
static bool forever;            /* and all calls after it */
static VkResult fail_with;
static int alive; /* Vulkan objects */
static int locked;
static bool lost; /* after VK_ERROR_DEVICE_LOST any use of the queue is a mistake */
static uint32_t uses_when_lost;

/* may_lose: whether Vulkan allows this call to return VK_ERROR_DEVICE_LOST. */
static bool fails(bool may_lose) {
    if (!may_lose && fail_with == VK_ERROR_DEVICE_LOST) return false;
    calls++;
    return fail_at && (calls == fail_at || (forever && calls > fail_at));
}

static PFN_vkDeviceWaitIdle device_wait_idle;
static xft_vulkan_objects app;

/* On a lost device nothing runs any more. */
static void lose(void) {
    device_wait_idle(app.device);
    lost = true;
}

/* Calls that can fail: `made` objects come to life when they do not. */
#define FALLIBLE(F)                                                                                                    \
    F(vkCreateBuffer, 1, (VkDevice d, const VkBufferCreateInfo *i, const VkAllocationCallbacks *a, VkBuffer *o),       \
      (d, i, a, o))                                                                                                    \
    F(vkAllocateMemory, 1,                                                                                             \
      (VkDevice d, const VkMemoryAllocateInfo *i, const VkAllocationCallbacks *a, VkDeviceMemory *o), (d, i, a, o))    \
    F(vkBindBufferMemory, 0, (VkDevice d, VkBuffer b, VkDeviceMemory m, VkDeviceSize o), (d, b, m, o))                 \
    F(vkMapMemory, 0, (VkDevice d, VkDeviceMemory m, VkDeviceSize o, VkDeviceSize s, VkMemoryMapFlags f, void **p),    \
      (d, m, o, s, f, p))                                                                                              \
    F(vkCreateCommandPool, 1,                                                                                          \
      (VkDevice d, const VkCommandPoolCreateInfo *i, const VkAllocationCallbacks *a, VkCommandPool *o), (d, i, a, o))  \
    F(vkAllocateCommandBuffers, 0, (VkDevice d, const VkCommandBufferAllocateInfo *i, VkCommandBuffer *o), (d, i, o))  \
    F(vkBeginCommandBuffer, 0, (VkCommandBuffer b, const VkCommandBufferBeginInfo *i), (b, i))                         \
    F(vkEndCommandBuffer, 0, (VkCommandBuffer b), (b))                                                                 \
    F(vkCreateShaderModule, 1,                                                                                         \
      (VkDevice d, const VkShaderModuleCreateInfo *i, const VkAllocationCallbacks *a, VkShaderModule *o),              \
      (d, i, a, o))                                                                                                    \
    F(vkCreateComputePipelines, 1,                                                                                     \
      (VkDevice d, VkPipelineCache c, uint32_t n, const VkComputePipelineCreateInfo *i,                                \
       const VkAllocationCallbacks *a, VkPipeline *o),                                                                 \
      (d, c, n, i, a, o))                                                                                              \
    F(vkCreatePipelineLayout, 1,                                                                                       \
      (VkDevice d, const VkPipelineLayoutCreateInfo *i, const VkAllocationCallbacks *a, VkPipelineLayout *o),          \
      (d, i, a, o))                                                                                                    \
    F(vkCreatePipelineCache, 1,                                                                                        \
      (VkDevice d, const VkPipelineCacheCreateInfo *i, const VkAllocationCallbacks *a, VkPipelineCache *o),            \
      (d, i, a, o))                                                                                                    \
    F(vkCreateQueryPool, 1,                                                                                            \
      (VkDevice d, const VkQueryPoolCreateInfo *i, const VkAllocationCallbacks *a, VkQueryPool *o), (d, i, a, o))      \
    F(vkCreateSemaphore, 1,                                                                                            \
      (VkDevice d, const VkSemaphoreCreateInfo *i, const VkAllocationCallbacks *a, VkSemaphore *o), (d, i, a, o))      \
    F(vkGetQueryPoolResults, 0,                                                                                        \
      (VkDevice d, VkQueryPool q, uint32_t f, uint32_t n, size_t s, void *p, VkDeviceSize t, VkQueryResultFlags g),    \
      (d, q, f, n, s, p, t, g))                                                                                        \
    F(vkQueueSubmit, 0, (VkQueue q, uint32_t n, const VkSubmitInfo *s, VkFence f), (q, n, s, f))                       \
    F(vkWaitSemaphores, 0, (VkDevice d, const VkSemaphoreWaitInfo *i, uint64_t t), (d, i, t))

#define WRAP(name, made, declared, given)                                                                              \
    static PFN_##name real_##name;                                                                                     \
    static VkResult VKAPI_PTR my_##name declared {                                                                     \
        const bool submits = !strcmp(#name, "vkQueueSubmit");                                                          \
        const bool may_lose =                                                                                          \
            submits || !strcmp(#name, "vkWaitSemaphores") || !strcmp(#name, "vkGetQueryPoolResults");                  \
        if (submits) CHECK(locked == 1, "the queue is used without its lock");                                         \
        if (lost && may_lose) uses_when_lost++;                                                                        \
        if (fails(may_lose)) {                                                                                         \
            if (fail_with == VK_ERROR_DEVICE_LOST) lose();                                                             \
            return fail_with;                                                                                          \
        }                                                                                                              \
        VkResult result = real_##name given;                                                                           \
        if (result >= 0) alive += made;                                                                                \
        return result;                                                                                                 \
    }
FALLIBLE(WRAP)

#define DESTROYERS(F)                                                                                                  \
    F(vkDestroyBuffer, VkBuffer)                                                                                       \
    F(vkFreeMemory, VkDeviceMemory)                                                                                    \
    F(vkDestroyCommandPool, VkCommandPool)                                                                             \
    F(vkDestroyShaderModule, VkShaderModule)                                                                           \
    F(vkDestroyPipeline, VkPipeline)                                                                                   \
    F(vkDestroyPipelineLayout, VkPipelineLayout)                                                                       \
    F(vkDestroyPipelineCache, VkPipelineCache)                                                                         \
    F(vkDestroyQueryPool, VkQueryPool)                                                                                 \
    F(vkDestroySemaphore, VkSemaphore)
#define WRAP_DESTROYER(name, type)                                                                                     \
    static PFN_##name real_##name;                                                                                     \
    static void VKAPI_PTR my_##name(VkDevice d, type o, const VkAllocationCallbacks *a) {                              \
        CHECK(o != VK_NULL_HANDLE, "%s of nothing", #name);                                                            \
        alive--;                                                                                                       \
        real_##name(d, o, a);                                                                                          \
    }
DESTROYERS(WRAP_DESTROYER)

static void VKAPI_PTR my_vkDestroyDevice(VkDevice d, const VkAllocationCallbacks *a) {
    (void)d, (void)a;
    CHECK(false, "the application's device is destroyed");
}

static void VKAPI_PTR my_vkDestroyInstance(VkInstance i, const VkAllocationCallbacks *a) {
    (void)i, (void)a;
    CHECK(false, "the application's instance is destroyed");
}

static PFN_vkGetInstanceProcAddr real_vkGetInstanceProcAddr;
static PFN_vkGetDeviceProcAddr real_vkGetDeviceProcAddr;

static PFN_vkVoidFunction wrapped(const char *name) {
#define FIND(function)                                                                                                 \
    if (!strcmp(name, #function)) return (PFN_vkVoidFunction)my_##function;
#define FIND_FALLIBLE(function, made, declared, given) FIND(function)
#define FIND_DESTROYER(function, type)                 FIND(function)
    FALLIBLE(FIND_FALLIBLE)
    DESTROYERS(FIND_DESTROYER)
    FIND(vkDestroyDevice)
    FIND(vkDestroyInstance)
    return NULL;
}

static PFN_vkVoidFunction VKAPI_PTR my_vkGetDeviceProcAddr(VkDevice device, const char *name) {
    return wrapped(name) ? wrapped(name) : real_vkGetDeviceProcAddr(device, name);
}

static PFN_vkVoidFunction VKAPI_PTR my_vkGetInstanceProcAddr(VkInstance instance, const char *name) {
    if (!strcmp(name, "vkGetDeviceProcAddr")) return (PFN_vkVoidFunction)my_vkGetDeviceProcAddr;
    return wrapped(name) ? wrapped(name) : real_vkGetInstanceProcAddr(instance, name);
}

static void lock_queue(void *user) {
    CHECK(user == &locked && ++locked == 1, "lock");
}
static void unlock_queue(void *user) {
    CHECK(user == &locked && --locked == 0, "unlock");
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
void *__wrap_realloc(void *p, size_t n);

static bool wrap_malloc;
static bool memory_fails(void) {
    return wrap_malloc && fails(false);
}
void *__wrap_malloc(size_t n) {
    return memory_fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t m) {
    return memory_fails() ? NULL : __real_calloc(n, m);
}
void *__wrap_realloc(void *p, size_t n) {
    return memory_fails() ? NULL : __real_realloc(p, n);
}

/* ---- The application ---- */

static PFN_vkDestroyDevice destroy_device;
static PFN_vkDestroyInstance destroy_instance;

#define GET(instance, name) PFN_##name name = (PFN_##name)real_vkGetInstanceProcAddr(instance, #name)

static bool start_application(void *loader) {
    void *entry = dlsym(loader, "vkGetInstanceProcAddr");
    memcpy(&real_vkGetInstanceProcAddr, &entry, sizeof entry);
    GET(NULL, vkCreateInstance);
    const VkApplicationInfo about = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_2};
    const VkInstanceCreateInfo instance_info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                                .pApplicationInfo = &about};
    VkInstance instance;
    if (vkCreateInstance(&instance_info, NULL, &instance) != VK_SUCCESS) return false;
    GET(instance, vkEnumeratePhysicalDevices);
    GET(instance, vkCreateDevice);
    GET(instance, vkGetDeviceQueue);
    VkPhysicalDevice physical;
    uint32_t count = 1;
    if (vkEnumeratePhysicalDevices(instance, &count, &physical) < 0 || count == 0) return false;
    VkPhysicalDeviceVulkan12Features features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
                                                 .bufferDeviceAddress = VK_TRUE,
                                                 .scalarBlockLayout = VK_TRUE,
                                                 .timelineSemaphore = VK_TRUE};
    const float priority = 1;
    const VkDeviceQueueCreateInfo queue_info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, .queueCount = 1, .pQueuePriorities = &priority};
    const VkDeviceCreateInfo device_info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                            .pNext = &features,
                                            .queueCreateInfoCount = 1,
                                            .pQueueCreateInfos = &queue_info};
    VkDevice device;
    if (vkCreateDevice(physical, &device_info, NULL, &device) != VK_SUCCESS) return false;
    VkQueue queue;
    vkGetDeviceQueue(device, 0, 0, &queue);
    real_vkGetDeviceProcAddr = (PFN_vkGetDeviceProcAddr)real_vkGetInstanceProcAddr(instance, "vkGetDeviceProcAddr");
    destroy_device = (PFN_vkDestroyDevice)real_vkGetInstanceProcAddr(instance, "vkDestroyDevice");
    destroy_instance = (PFN_vkDestroyInstance)real_vkGetInstanceProcAddr(instance, "vkDestroyInstance");
    device_wait_idle = (PFN_vkDeviceWaitIdle)real_vkGetInstanceProcAddr(instance, "vkDeviceWaitIdle");
#define REAL(name)                                 real_##name = (PFN_##name)real_vkGetDeviceProcAddr(device, #name);
#define REAL_FALLIBLE(name, made, declared, given) REAL(name)
#define REAL_DESTROYER(name, type)                 REAL(name)
    FALLIBLE(REAL_FALLIBLE)
    DESTROYERS(REAL_DESTROYER)
    app = (xft_vulkan_objects){.instance = instance,
                               .physical_device = physical,
                               .device = device,
                               .queue = queue,
                               .enabled = xft_vulkan_requirements()->features,
                               .lock_queue = lock_queue,
                               .unlock_queue = unlock_queue,
                               .user = &locked};
    PFN_vkGetInstanceProcAddr mine = my_vkGetInstanceProcAddr;
    memcpy(&app.get_instance_proc_addr, &mine, sizeof mine);
    return true;
}

/* ---- What is done with the library ---- */

enum { ROWS = 5, COLS = 67 };

static xft_status use_device(xft_device *device, bool *right) {
    float x[ROWS * COLS], result[ROWS * COLS];
    for (int i = 0; i < ROWS * COLS; i++) x[i] = (float)i;
    xft_arena *arena = NULL;
    xft_stream *stream = NULL;
    const xft_stream_options options = {.timers = true};
    xft_tensor a = {0}, b = {0}, y = {0};
    uint64_t at_in, at_out, ticket;
    void *slot;
    const void *values;
    const uint32_t shape[] = {ROWS, COLS};
    xft_status status = xft_arena_create(device, "faults", 0, &arena);
    if (status == XFT_OK) status = xft_tensor_create(arena, XFT_F32, 2, shape, &a);
    if (status == XFT_OK) status = xft_tensor_create(arena, XFT_F32, 2, shape, &b);
    if (status == XFT_OK) status = xft_tensor_create(arena, XFT_F32, 2, shape, &y);
    if (status == XFT_OK) status = xft_tensor_write(&a, XFT_F32, x);
    if (status == XFT_OK) status = xft_stream_create(device, &options, &stream);
    if (status == XFT_OK) {
        xft_stream_input(stream, &b, &at_in);
        xft_add(stream, &a, &b, &y);
        xft_add(stream, &y, &b, &a);
        xft_stream_output(stream, &a, &at_out);
        status = xft_stream_finish(stream);
    }
    if (status == XFT_OK) status = xft_stream_inputs(stream, &slot);
    if (status == XFT_OK) {
        memset((char *)slot + at_in, 0, xft_bytes(&b));
        *(float *)((char *)slot + at_in) = 3;
        status = xft_stream_submit(stream, &ticket);
    }
    if (status == XFT_OK) status = xft_stream_outputs(stream, ticket, &values);
    if (status == XFT_OK) *right = *(const float *)((const char *)values + at_out) == 6;
    if (status == XFT_OK) status = xft_tensor_read(&a, XFT_F32, result);
    x[0] = 6;
    if (status == XFT_OK) *right = *right && !memcmp(x, result, sizeof x);
    uint32_t ops = 0;
    double ms[8];
    if (status == XFT_OK) status = xft_stream_timings(stream, &ops, NULL, NULL);
    if (status == XFT_OK) status = xft_stream_timings(stream, &ops, ms, NULL);
    if (lost && a.buffer) CHECK(xft_tensor_write(&a, XFT_F32, x) == XFT_ERROR_DEVICE_LOST, "a write after the loss");
    xft_stream_destroy(stream);
    xft_arena_destroy(arena);
    return status;
}

static xft_status use_library(bool *right) {
    *right = false;
    const xft_device_options options = {.cache_dir = ""};
    xft_device *device;
    xft_status status = xft_device_adopt_vulkan(&app, &options, &device);
    if (status != XFT_OK) return status;
    status = use_device(device, right);
    xft_device_counters c;
    xft_device_get_counters(device, &c);
    CHECK(c.buffers == 0 && c.buffer_bytes == 0 && c.programs == 0, "alive: %llu buffers, %llu programs",
          (unsigned long long)c.buffers, (unsigned long long)c.programs);
    xft_device_close(device);
    return status;
}

static void try_with(uint32_t n, VkResult result, bool memory, bool and_all_after) {
    calls = uses_when_lost = 0;
    forever = and_all_after;
    fail_at = n;
    fail_with = result;
    lost = false;
    wrap_malloc = memory;
    bool right;
    xft_fail(XFT_OK, "old");
    xft_status status = use_library(&right);
    wrap_malloc = false;
    const bool failed = n && calls >= n;
    CHECK(status != XFT_OK || right, "call %u failed with %d: a wrong result", n, result);
    CHECK(status == XFT_OK ? !lost : failed, "call %u with %d: %s (%s)", n, result, xft_status_name(status),
          xft_error());
    CHECK(!lost || status == XFT_ERROR_DEVICE_LOST, "call %u: lost, yet %s", n, xft_status_name(status));
    CHECK(status == XFT_OK || strcmp(xft_error(), "old"), "call %u with %d: an error without a message", n, result);
    const xft_status meant = result == VK_ERROR_DEVICE_LOST            ? XFT_ERROR_DEVICE_LOST
                             : result == VK_ERROR_OUT_OF_DEVICE_MEMORY ? XFT_ERROR_OUT_OF_DEVICE_MEMORY
                                                                       : XFT_ERROR_OUT_OF_HOST_MEMORY;
    CHECK(status == XFT_OK || status == meant, "call %u with %d: %s", n, result, xft_status_name(status));
    CHECK(uses_when_lost == 0, "call %u: the queue of a lost device is used", n);
    CHECK(alive == 0, "call %u with %d: %d Vulkan objects left", n, result, alive);
    CHECK(locked == 0, "call %u with %d: still locked", n, result);
    alive = 0;
}

static void fail_every_call(VkResult result, bool memory) {
    try_with(0, result, memory, false);
    for (uint32_t n = 1, end = calls; n <= end; n++) {
        try_with(n, result, memory, false);
        if (result != VK_ERROR_DEVICE_LOST) try_with(n, result, memory, true);
    }
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    void *loader = dlopen("libvulkan.so.1", RTLD_NOW);
    if (!loader || !start_application(loader)) return printf("no Vulkan device\n"), 1;
    try_with(0, VK_SUCCESS, false, false);
    printf("%u calls can fail\n", calls);
    fail_every_call(VK_ERROR_OUT_OF_DEVICE_MEMORY, false);
    fail_every_call(VK_ERROR_OUT_OF_HOST_MEMORY, false);
    fail_every_call(VK_ERROR_DEVICE_LOST, false);
    fail_every_call(VK_ERROR_OUT_OF_HOST_MEMORY, true);
    printf("%u calls and allocations\n", calls);
    bool right;
    app.get_instance_proc_addr = NULL; /* the system's loader, which nothing watches */
    CHECK(use_library(&right) == XFT_OK && right, "through the system's loader: %s", xft_error());
    static const char *const too_little[] = {"bufferDeviceAddress", NULL};
    app.enabled = too_little;
    CHECK(use_library(&right) == XFT_ERROR_UNSUPPORTED, "features that are not enabled");
    printf("%s\n", xft_error());
    app.enabled = xft_vulkan_requirements()->features;
    app.queue_family = 99;
    CHECK(use_library(&right) == XFT_ERROR_INVALID_ARGUMENT, "a queue family that is not there");
    printf("%s\n", xft_error());
    CHECK(device_wait_idle(app.device) == VK_SUCCESS, "the application's device no longer works");
    destroy_device(app.device, NULL);
    destroy_instance(app.instance, NULL);
    dlclose(loader);
    printf("%d problems\n", problems);
    return problems != 0;
}
