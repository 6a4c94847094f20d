/* Suite `runtime`: which devices are listed, why one cannot be used, which one "auto" means. Every test is a process of
 * its own, so the environment that it sets is that of its loaders. The two lists can be faked (linker's --wrap). */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fixture.h"

static const xft_device_info *faked; /* of both APIs; NULL: the drivers' own lists */
static uint32_t faked_count;

typedef xft_status (*enumerator)(xft_device_info **list, uint32_t *count);
xft_status __real_xft_vk_enumerate(xft_device_info **list, uint32_t *count);
xft_status __real_xft_cl_enumerate(xft_device_info **list, uint32_t *count);
xft_status __wrap_xft_vk_enumerate(xft_device_info **list, uint32_t *count);
xft_status __wrap_xft_cl_enumerate(xft_device_info **list, uint32_t *count);

static xft_status enumerate(xft_api_kind api, enumerator real, xft_device_info **list, uint32_t *count) {
    if (!faked) return real(list, count);
    *list = realloc(*list, (*count + faked_count) * sizeof **list);
    cr_assert(*list);
    for (uint32_t i = 0; i < faked_count; i++)
        if (faked[i].api == api) (*list)[(*count)++] = faked[i];
    return XFT_OK;
}

xft_status __wrap_xft_vk_enumerate(xft_device_info **list, uint32_t *count) {
    return enumerate(XFT_API_VULKAN, __real_xft_vk_enumerate, list, count);
}

xft_status __wrap_xft_cl_enumerate(xft_device_info **list, uint32_t *count) {
    return enumerate(XFT_API_OPENCL, __real_xft_cl_enumerate, list, count);
}

/* Some entry of that API cannot be used, and its reason says both. */
static void expect_reason(xft_api_kind api, const char *what, const char *cure) {
    xft_device_info *list;
    uint32_t count;
    bool found = false;
    OK(xft_devices(&list, &count));
    for (uint32_t i = 0; i < count; i++)
        if (list[i].api == api && !list[i].usable)
            found |= strstr(list[i].reason, what) && strstr(list[i].reason, cure);
    cr_expect(found, "no reason says \"%s\" and \"%s\"", what, cure);
    for (uint32_t i = 0; i < count && !found; i++) cr_log_warn("%s: %s", list[i].id, list[i].reason);
    xft_devices_free(list);
}

Test(discovery, no_driver) {
    xft_device *device;
    unsetenv("VK_DRIVER_FILES");
    setenv("VK_ICD_FILENAMES", "/no/such/driver.json", 1);
    setenv("OCL_ICD_VENDORS", "/no/such/folder", 1);
    expect_reason(XFT_API_VULKAN, "found no driver", "VK_ICD_FILENAMES is set and names no driver");
    expect_reason(XFT_API_OPENCL, "finds no driver", "OCL_ICD_VENDORS): install one");
    REFUSES(xft_device_open("auto", NULL, &device), XFT_ERROR_NO_DEVICE, "VK_ICD_FILENAMES is set");
    REFUSES(xft_device_open("auto", NULL, &device), XFT_ERROR_NO_DEVICE, "OCL_ICD_VENDORS): install one");
    REFUSES(xft_device_open("opencl", NULL, &device), XFT_ERROR_NO_DEVICE, "OCL_ICD_VENDORS): install one");
    REFUSES(xft_device_open("vulkan:0", NULL, &device), XFT_ERROR_NO_DEVICE, "vulkan:0");
}

Test(discovery, rusticl_without_its_variable) {
    setenv("OCL_ICD_VENDORS", "/etc/OpenCL/vendors/rusticl.icd", 1);
    unsetenv("RUSTICL_ENABLE");
    expect_reason(XFT_API_OPENCL, "shows no device", "set RUSTICL_ENABLE to its driver");
}

Test(discovery, one_card_under_two_apis) {
    const xft_device_info list[] = {
        {.id = "vulkan:0", .api = XFT_API_VULKAN, .has_uuid = true, .uuid = {1, 2, 3}},
        {.id = "vulkan:1", .api = XFT_API_VULKAN, .has_pci = true, .pci = {0, 3, 0, 1}},
        {.id = "vulkan:2", .api = XFT_API_VULKAN, .has_uuid = true, .uuid = {9}, .has_pci = true, .pci = {0, 7, 0, 0}},
        {.id = "vulkan:3", .api = XFT_API_VULKAN, .has_uuid = true, .uuid = {8}},
        {.id = "vulkan:4", .api = XFT_API_VULKAN, .has_uuid = true, .uuid = {8}},
        {.id = "vulkan:5", .api = XFT_API_VULKAN, .has_pci = true},
        {.id = "opencl:0", .api = XFT_API_OPENCL, .has_pci = true, .pci = {0, 3, 0, 1}},
        {.id = "opencl:1", .api = XFT_API_OPENCL, .has_uuid = true, .uuid = {1, 2, 3}},
        {.id = "opencl:2", .api = XFT_API_OPENCL, .has_uuid = true, .uuid = {7}, .has_pci = true, .pci = {0, 7, 0, 0}},
        {.id = "opencl:3", .api = XFT_API_OPENCL}};
    static const char *const same[] = {"opencl:1", "opencl:0", "", "", "", "", "vulkan:1", "vulkan:0", "", ""};
    xft_device_info *got;
    uint32_t count;
    faked = list;
    faked_count = sizeof list / sizeof *list;
    OK(xft_devices(&got, &count));
    cr_assert_eq(count, faked_count);
    for (uint32_t i = 0; i < count; i++)
        cr_expect_str_eq(got[i].same_as, same[i], "%s is said to be the same as \"%s\"", got[i].id, got[i].same_as);
    xft_devices_free(got);
}

static void open_auto(const char *dir, char *id, size_t room) {
    xft_device *device;
    OK(xft_device_open("auto", &(xft_device_options){.cache_dir = dir}, &device));
    snprintf(id, room, "%s", xft_device_get_info(device)->id);
    xft_device_close(device);
}

/* Another usable device of the same class: what a measurement may also have found. */
static bool find_rival(const char *id, char *rival, size_t room) {
    xft_device_info *list;
    uint32_t count, own = 0;
    *rival = 0;
    OK(xft_devices(&list, &count));
    while (own < count && strcmp(list[own].id, id)) own++;
    cr_assert_lt(own, count);
    for (uint32_t i = 0; i < count; i++)
        if (i != own && list[i].usable && list[i].device_class == list[own].device_class)
            snprintf(rival, room, "%s", list[i].id);
    xft_devices_free(list);
    return *rival;
}

/* The second open takes the first one's word for it, as long as the candidates are the same. */
Test(discovery, what_auto_measured_is_remembered) {
    char id[64], rival[64], now[64], path[300];
    const char *dir = fixture_folder("auto");
    snprintf(path, sizeof path, "%s/auto.json", dir);
    open_auto(dir, id, sizeof id);
    if (!find_rival(id, rival, sizeof rival)) cr_skip("one device of the best class: nothing to measure");
    json_t *kept = json_load_file(path, 0, NULL);
    cr_assert(kept, "nothing is remembered");
    cr_expect_str_eq(json_string_value(json_object_get(kept, "fastest")), id);
    json_object_set_new(kept, "fastest", json_string(rival));
    cr_assert_eq(json_dump_file(kept, path, 0), 0);
    open_auto(dir, now, sizeof now);
    cr_expect_str_eq(now, rival, "measured again");
    json_object_set_new(kept, "among", json_string("other devices"));
    cr_assert_eq(json_dump_file(kept, path, 0), 0);
    open_auto(dir, now, sizeof now);
    json_decref(kept);
    kept = json_load_file(path, 0, NULL);
    cr_expect_str_neq(json_string_value(json_object_get(kept, "among")), "other devices", "not measured again");
    cr_expect_str_eq(json_string_value(json_object_get(kept, "fastest")), now);
    json_decref(kept);
    fixture_folder("auto"); /* empties it */
    rmdir(dir);
}
