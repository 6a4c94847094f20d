#include <stdio.h>
#include <string.h>

#include "vk.h"

#if defined(_WIN32)
#include <windows.h>
static const char *const libraries[] = {"vulkan-1.dll"};
static void *open_library(const char *name) {
    return (void *)LoadLibraryA(name);
}
static void close_library(void *library) {
    FreeLibrary((HMODULE)library);
}
static void *find_symbol(void *library, const char *name) {
    return (void *)GetProcAddress((HMODULE)library, name);
}
#define LOADER_CURE "install the graphics driver of the card's vendor, which brings vulkan-1.dll"
#else
#include <dlfcn.h>
#if defined(__APPLE__)
static const char *const libraries[] = {"libvulkan.1.dylib", "libMoltenVK.dylib"};
#define LOADER_CURE "install the Vulkan SDK or MoltenVK"
#else
static const char *const libraries[] = {"libvulkan.so.1"};
#define LOADER_CURE "install the Vulkan loader and a driver (Debian: libvulkan1 mesa-vulkan-drivers)"
#endif
static void *open_library(const char *name) {
    return dlopen(name, RTLD_NOW | RTLD_LOCAL);
}
static void close_library(void *library) {
    dlclose(library);
}
static void *find_symbol(void *library, const char *name) {
    return dlsym(library, name);
}
#endif

xft_status xft_vk_loader_open(vk_loader *api, void *get_instance_proc_addr) {
    *api = (vk_loader){0};
    void *entry = get_instance_proc_addr;
    if (!entry) {
        for (size_t i = 0; i < sizeof libraries / sizeof *libraries && !api->library; i++)
            api->library = open_library(libraries[i]);
        XFT_FAIL_IF(!api->library, XFT_ERROR_NO_DEVICE, "no Vulkan loader: %s cannot be opened; %s", libraries[0],
                    LOADER_CURE);
        entry = find_symbol(api->library, "vkGetInstanceProcAddr");
    }
    if (!entry) {
        xft_vk_loader_close(api);
        return xft_fail(XFT_ERROR_NO_DEVICE, "%s is no Vulkan loader: it lacks vkGetInstanceProcAddr; %s", libraries[0],
                        LOADER_CURE);
    }
    memcpy(&api->vkGetInstanceProcAddr, &entry, sizeof entry); /* ISO C has no cast from data to function pointers */
#define XFT_VK_FIND(name) api->name = (PFN_##name)api->vkGetInstanceProcAddr(NULL, #name);
#define XFT_VK_SKIP(name)
    XFT_VK_FUNCTIONS(XFT_VK_FIND, XFT_VK_SKIP, XFT_VK_SKIP, XFT_VK_SKIP)
#undef XFT_VK_FIND
    if (api->vkCreateInstance && api->vkEnumerateInstanceExtensionProperties && api->vkEnumerateInstanceVersion)
        return XFT_OK;
    xft_vk_loader_close(api);
    return xft_fail(XFT_ERROR_NO_DEVICE, "the Vulkan loader is of version 1.0, 1.2 is needed; %s", LOADER_CURE);
}

void xft_vk_loader_close(vk_loader *api) {
    if (api->library) close_library(api->library);
    *api = (vk_loader){0};
}

/* A function that must be there, looked up with its instance or device. */
#define XFT_VK_FIND(find, owner, name)                                                                                 \
    api->name = (PFN_##name)api->find(owner, #name);                                                                   \
    XFT_FAIL_IF(!api->name, XFT_ERROR_UNSUPPORTED, "the Vulkan driver has no %s; Vulkan 1.2 is needed", #name);

xft_status xft_vk_load_instance(vk_loader *api, VkInstance instance) {
#define XFT_VK_FIND_INSTANCE(name) XFT_VK_FIND(vkGetInstanceProcAddr, instance, name)
#define XFT_VK_FIND_OPTIONAL(name) api->name = (PFN_##name)api->vkGetInstanceProcAddr(instance, #name);
    XFT_VK_FUNCTIONS(XFT_VK_SKIP, XFT_VK_FIND_INSTANCE, XFT_VK_FIND_OPTIONAL, XFT_VK_SKIP)
    return XFT_OK;
}

xft_status xft_vk_load_device(vk_loader *api, VkDevice device) {
#define XFT_VK_FIND_DEVICE(name) XFT_VK_FIND(vkGetDeviceProcAddr, device, name)
    XFT_VK_FUNCTIONS(XFT_VK_SKIP, XFT_VK_SKIP, XFT_VK_SKIP, XFT_VK_FIND_DEVICE)
    return XFT_OK;
}

static const struct {
    VkResult result;
    xft_status status;
    const char *name;
} results[] = {
#define RESULT(name, status)                                                                                           \
    { name, status, #name }
    RESULT(VK_ERROR_OUT_OF_HOST_MEMORY, XFT_ERROR_OUT_OF_HOST_MEMORY),
    RESULT(VK_ERROR_OUT_OF_DEVICE_MEMORY, XFT_ERROR_OUT_OF_DEVICE_MEMORY),
    RESULT(VK_ERROR_OUT_OF_POOL_MEMORY, XFT_ERROR_OUT_OF_DEVICE_MEMORY),
    RESULT(VK_ERROR_FRAGMENTATION, XFT_ERROR_OUT_OF_DEVICE_MEMORY),
    RESULT(VK_ERROR_TOO_MANY_OBJECTS, XFT_ERROR_OUT_OF_DEVICE_MEMORY),
    RESULT(VK_ERROR_MEMORY_MAP_FAILED, XFT_ERROR_OUT_OF_HOST_MEMORY),
    RESULT(VK_ERROR_DEVICE_LOST, XFT_ERROR_DEVICE_LOST),
    RESULT(VK_ERROR_INITIALIZATION_FAILED, XFT_ERROR_DRIVER),
    RESULT(VK_ERROR_INCOMPATIBLE_DRIVER, XFT_ERROR_NO_DEVICE),
    RESULT(VK_ERROR_LAYER_NOT_PRESENT, XFT_ERROR_UNSUPPORTED),
    RESULT(VK_ERROR_EXTENSION_NOT_PRESENT, XFT_ERROR_UNSUPPORTED),
    RESULT(VK_ERROR_FEATURE_NOT_PRESENT, XFT_ERROR_UNSUPPORTED),
    RESULT(VK_ERROR_INVALID_SHADER_NV, XFT_ERROR_COMPILE),
    RESULT(VK_ERROR_INVALID_OPAQUE_CAPTURE_ADDRESS, XFT_ERROR_DRIVER),
    RESULT(VK_ERROR_INVALID_EXTERNAL_HANDLE, XFT_ERROR_DRIVER),
    RESULT(VK_ERROR_UNKNOWN, XFT_ERROR_DRIVER),
#undef RESULT
};

xft_status xft_vk_result(VkResult result, const char *call) {
    if (result >= 0) return XFT_OK;
    /* `call` reads "vk->api.vkCreateBuffer(…)": the name alone is of use. */
    const char *end = strchr(call, '('), *start = end;
    if (!end) start = end = call + strlen(call);
    while (start > call && start[-1] != '.' && start[-1] != '>') start--;
    for (size_t i = 0; i < sizeof results / sizeof *results; i++)
        if (results[i].result == result)
            return xft_fail(results[i].status, "%.*s: %s", (int)(end - start), start, results[i].name);
    return xft_fail(XFT_ERROR_DRIVER, "%.*s: VkResult %d", (int)(end - start), start, (int)result);
}
