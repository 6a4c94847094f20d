#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "choice.h"
#include "driver.h"

static const xft_driver *const drivers[] = {&xft_vulkan_driver, &xft_opencl_driver};
enum { DRIVER_COUNT = sizeof drivers / sizeof *drivers };

/* ---- Listing ---- */

static bool same_card(const xft_device_info *a, const xft_device_info *b) {
    if (a->has_uuid && b->has_uuid) return memcmp(a->uuid, b->uuid, sizeof a->uuid) == 0;
    return a->has_pci && b->has_pci && memcmp(a->pci, b->pci, sizeof a->pci) == 0;
}

xft_status xft_devices(xft_device_info **list, uint32_t *count) {
    XFT_NEED(list);
    XFT_NEED(count);
    *list = NULL;
    *count = 0;
    for (int i = 0; i < DRIVER_COUNT; i++) {
        xft_status status = drivers[i]->enumerate(list, count);
        if (status != XFT_OK) {
            free(*list);
            *list = NULL;
            *count = 0;
            return status;
        }
    }
    for (uint32_t i = 0; i < *count; i++)
        for (uint32_t j = 0; j < *count; j++)
            if ((*list)[i].api != (*list)[j].api && same_card(&(*list)[i], &(*list)[j]))
                memcpy((*list)[i].same_as, (*list)[j].id, sizeof(*list)[i].same_as);
    return XFT_OK;
}

void xft_devices_free(xft_device_info *list) {
    free(list);
}

/* ---- Opening ---- */

static bool contains_ignoring_case(const char *text, const char *part) {
    size_t n = strlen(part);
    for (; *text; text++) {
        size_t i = 0;
        while (i < n && text[i] && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i])) i++;
        if (i == n) return true;
    }
    return n == 0;
}

static bool equal_ignoring_case(const char *a, const char *b) {
    return strlen(a) == strlen(b) && contains_ignoring_case(a, b);
}

/* Makes every folder of the path; false when one cannot be made. */
static bool make_folders(char *path) {
    for (char *p = path + 1; *p; p++)
        if (*p == '/') {
            *p = 0;
            int failed = mkdir(path, 0700) && errno != EEXIST;
            *p = '/';
            if (failed) return false;
        }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

char *xft_find_cache_dir(const xft_device_options *options) {
    const char *base = options->cache_dir, *tail = "";
    if (!base) {
        base = getenv("XDG_CACHE_HOME");
        tail = "/xftgpu";
        if (!base || *base != '/') {
            base = getenv("HOME");
            tail = "/.cache/xftgpu";
        }
    }
    if (!base || !*base) return NULL;
    size_t room = strlen(base) + strlen(tail) + 1;
    char *path = malloc(room);
    if (!path) return NULL;
    snprintf(path, room, "%s%s", base, tail);
    if (make_folders(path)) return path;
    free(path);
    return NULL;
}

xft_status xft_device_open_with(const xft_driver *driver, const xft_open_request *request, xft_device **result) {
    *result = NULL;
    xft_device *device = calloc(1, sizeof *device);
    XFT_FAIL_IF(!device, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a device");
    device->driver = driver;
    if (request->options) device->options = *request->options;
    device->cache_dir = xft_find_cache_dir(&device->options);
    xft_open_request own = *request;
    own.options = &device->options;
    own.cache_dir = device->cache_dir;
    if (request->info) device->info = *request->info;
    xft_status status = xft_kernels_init(device);
    bool opened = false;
    if (status == XFT_OK) {
        status = driver->open(&own, device);
        opened = status == XFT_OK;
    }
    const uint32_t subgroup = device->options.subgroup_size;
    if (status == XFT_OK && subgroup && device->info.subgroup_size != subgroup)
        status = xft_fail(XFT_ERROR_UNSUPPORTED, "options.subgroup_size is %u; this device cannot be told to use that",
                          subgroup);
    if (status == XFT_OK) status = xft_choices_load(device, device->options.choices);
    /* Strings of the caller are not kept. */
    device->options.cache_dir = device->options.choices = NULL;
    if (status != XFT_OK) {
        xft_choices_free(device);
        xft_kernels_free(device);
        if (opened) driver->close(device);
        free(device->cache_dir);
        free(device);
        return status;
    }
    *result = device;
    return XFT_OK;
}

void xft_device_close(xft_device *device) {
    if (!device) return;
    xft_choices_save(device);
    xft_choices_free(device);
    xft_kernels_free(device);
    device->driver->close(device);
    free(device->cache_dir);
    free(device);
}

const xft_driver *xft_driver_of(const xft_device_info *info) {
    for (int i = 0; i < DRIVER_COUNT; i++)
        if (drivers[i]->api == info->api) return drivers[i];
    return NULL;
}

/* Index of the device that `name` means, -1 when none is usable; *unusable: an entry that matched but cannot be used.
 */
static int find_device(const xft_device_info *list, uint32_t count, const char *name, int *unusable) {
    *unusable = -1;
    bool automatic = strcmp(name, "auto") == 0;
    int best = -1;
    for (uint32_t i = 0; i < count; i++) {
        bool is_id = equal_ignoring_case(list[i].id, name);
        bool is_api = xft_driver_of(&list[i]) && equal_ignoring_case(xft_driver_of(&list[i])->name, name);
        if (!automatic && !is_id && !is_api && !contains_ignoring_case(list[i].name, name)) continue;
        if (!list[i].usable) {
            if (*unusable < 0) *unusable = (int)i;
            continue;
        }
        if (is_id) return (int)i;
        if (best < 0 || list[i].device_class < list[best].device_class) best = (int)i;
    }
    return best;
}

xft_status xft_device_open(const char *name, const xft_device_options *options, xft_device **device) {
    XFT_NEED(device);
    *device = NULL;
    XFT_FAIL_IF(!name || !*name, XFT_ERROR_INVALID_ARGUMENT,
                "xft_device_open: name is %s; expected an id such as "
                "\"vulkan:0\", part of a device's name, or \"auto\"",
                name ? "empty" : "NULL");
    xft_device_info *list;
    uint32_t count;
    XFT_TRY(xft_devices(&list, &count));
    int unusable, found = find_device(list, count, name, &unusable);
    if (found >= 0 && strcmp(name, "auto") == 0) found = xft_fastest_device(list, count, (uint32_t)found, options);
    xft_status status;
    if (found >= 0) {
        xft_open_request request = {.info = &list[found], .options = options};
        status = xft_device_open_with(xft_driver_of(&list[found]), &request, device);
        if (status != XFT_OK) status = xft_fail_in(status, "cannot open %s (%s)", list[found].id, list[found].name);
    } else if (unusable >= 0) {
        char reasons[700] = "";
        for (uint32_t i = 0; i < count; i++) {
            if (list[i].usable || (strcmp(name, "auto") != 0 && (int)i != unusable)) continue;
            size_t at = strlen(reasons);
            snprintf(reasons + at, sizeof reasons - at, "%s%s: %s", at ? "; " : "", list[i].id, list[i].reason);
        }
        status = xft_fail(XFT_ERROR_NO_DEVICE, "device \"%s\" cannot be used: %s", name, reasons);
    } else {
        char known[512] = "";
        for (uint32_t i = 0; i < count; i++) {
            size_t at = strlen(known);
            snprintf(known + at, sizeof known - at, "%s%s (%s)", at ? ", " : "", list[i].id, list[i].name);
        }
        status =
            xft_fail(XFT_ERROR_NO_DEVICE, "no device is called \"%s\"; there are: %s", name, *known ? known : "none");
    }
    xft_devices_free(list);
    return status;
}

xft_status xft_device_adopt_vulkan(const xft_vulkan_objects *objects, const xft_device_options *options,
                                   xft_device **device) {
    XFT_NEED(device);
    *device = NULL;
    XFT_NEED(objects);
    XFT_FAIL_IF(!objects->instance || !objects->physical_device || !objects->device || !objects->queue,
                XFT_ERROR_INVALID_ARGUMENT, "xft_device_adopt_vulkan: objects->%s is NULL",
                !objects->instance          ? "instance"
                : !objects->physical_device ? "physical_device"
                : !objects->device          ? "device"
                                            : "queue");
    xft_open_request request = {.options = options, .vulkan = objects};
    return xft_device_open_with(&xft_vulkan_driver, &request, device);
}

xft_status xft_device_adopt_opencl(const xft_opencl_objects *objects, const xft_device_options *options,
                                   xft_device **device) {
    XFT_NEED(device);
    *device = NULL;
    XFT_NEED(objects);
    XFT_FAIL_IF(!objects->context || !objects->device || !objects->queue, XFT_ERROR_INVALID_ARGUMENT,
                "xft_device_adopt_opencl: objects->%s is NULL",
                !objects->context  ? "context"
                : !objects->device ? "device"
                                   : "queue");
    xft_open_request request = {.options = options, .opencl = objects};
    return xft_device_open_with(&xft_opencl_driver, &request, device);
}

/* ---- What is known of an open device ---- */

const xft_device_info *xft_device_get_info(const xft_device *device) {
    return device ? &device->info : NULL;
}

xft_status xft_device_memory(xft_device *device, uint64_t *total, uint64_t *available, bool *told) {
    XFT_NEED(device);
    uint64_t t, a;
    bool k;
    XFT_TRY(device->driver->memory(device, &t, &a, &k));
    if (total) *total = t;
    if (available) *available = a;
    if (told) *told = k;
    return XFT_OK;
}

void xft_device_get_counters(const xft_device *device, xft_device_counters *counters) {
    if (counters) *counters = device ? device->counters : (xft_device_counters){0};
}

xft_status xft_device_choices(xft_device *device, const char **json) {
    XFT_NEED(device);
    XFT_NEED(json);
    return xft_choices_text(device, json);
}
