/* Which OpenCL devices there are, what they can do, and why some cannot be used. */
#include "opencl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef _WIN32
#include <dirent.h>
#include <unistd.h>
#endif

enum { MAX_PLATFORMS = 32, MAX_DEVICES = 64 };

/* What the kernels count on: the sizes that every shader and kernel of the library keeps to. */
enum { NEEDED_WORKGROUP = 256, NEEDED_LOCAL_MEMORY = 16384 };

#ifndef CL_DEVICE_PCI_BUS_ID_NV
#define CL_DEVICE_PCI_BUS_ID_NV  0x4008
#define CL_DEVICE_PCI_SLOT_ID_NV 0x4009
#endif
#define XFT_CL_DEVICE_PCI_DOMAIN_ID_NV 0x400A

void xft_cl_platform_text(cl_platform_id platform, cl_platform_info what, char *text, size_t size) {
    if (xft_cl.clGetPlatformInfo(platform, what, size, text, NULL)) *text = 0;
    text[size - 1] = 0;
}

void xft_cl_device_text(cl_device_id id, cl_device_info what, char *text, size_t size) {
    if (xft_cl.clGetDeviceInfo(id, what, size, text, NULL)) *text = 0;
    text[size - 1] = 0;
}

/* Numbers have several widths; the driver writes the low bytes (only little-endian hosts and devices are used). */
static uint64_t number(cl_device_id id, cl_device_info what) {
    uint64_t value = 0;
    if (xft_cl.clGetDeviceInfo(id, what, sizeof value, &value, NULL)) return 0;
    return value;
}

bool xft_cl_has_extension(cl_device_id id, const char *name) {
    size_t size = 0, length = strlen(name);
    if (xft_cl.clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, 0, NULL, &size)) return false;
    char *text = calloc(size + 1, 1);
    bool found = false;
    if (text && !xft_cl.clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, size, text, NULL))
        for (const char *at = text; !found && (at = strstr(at, name)); at += length)
            found = (at == text || at[-1] == ' ') && (at[length] == ' ' || at[length] == 0);
    free(text);
    return found;
}

static void find_pci(cl_device_id id, xft_device_info *info) {
    cl_device_pci_bus_info_khr khr;
    if (xft_cl_has_extension(id, "cl_khr_pci_bus_info") &&
        !xft_cl.clGetDeviceInfo(id, CL_DEVICE_PCI_BUS_INFO_KHR, sizeof khr, &khr, NULL)) {
        info->pci[0] = khr.pci_domain;
        info->pci[1] = khr.pci_bus;
        info->pci[2] = khr.pci_device;
        info->pci[3] = khr.pci_function;
        info->has_pci = true;
    } else if (xft_cl_has_extension(id, "cl_nv_device_attribute_query")) {
        uint32_t slot = (uint32_t)number(id, CL_DEVICE_PCI_SLOT_ID_NV);
        info->pci[0] = (uint32_t)number(id, XFT_CL_DEVICE_PCI_DOMAIN_ID_NV);
        info->pci[1] = (uint32_t)number(id, CL_DEVICE_PCI_BUS_ID_NV);
        info->pci[2] = slot >> 3;
        info->pci[3] = slot & 7;
        info->has_pci = true;
    } else if (xft_cl_has_extension(id, "cl_amd_device_attribute_query")) {
        cl_device_topology_amd amd;
        if (xft_cl.clGetDeviceInfo(id, CL_DEVICE_TOPOLOGY_AMD, sizeof amd, &amd, NULL) ||
            amd.raw.type != CL_DEVICE_TOPOLOGY_TYPE_PCIE_AMD)
            return;
        info->pci[0] = 0; /* AMD does not tell the domain */
        info->pci[1] = (uint8_t)amd.pcie.bus;
        info->pci[2] = (uint8_t)amd.pcie.device;
        info->pci[3] = (uint8_t)amd.pcie.function;
        info->has_pci = true;
    }
}

static xft_device_class find_class(cl_device_id id, const char *name) {
    uint64_t type = number(id, CL_DEVICE_TYPE);
    /* a software rasteriser may call itself a GPU */
    if (type & CL_DEVICE_TYPE_CPU || strstr(name, "llvmpipe")) return XFT_CLASS_CPU;
    if (type & CL_DEVICE_TYPE_GPU)
        return number(id, CL_DEVICE_HOST_UNIFIED_MEMORY) ? XFT_CLASS_INTEGRATED : XFT_CLASS_DISCRETE;
    return XFT_CLASS_UNKNOWN;
}

/* "OpenCL 3.0 …" -> 30; 0 for another text. */
static int version_of(const char *text) {
    int major = 0, minor = 0;
    return sscanf(text, "OpenCL %d.%d", &major, &minor) == 2 ? 10 * major + minor : 0;
}

static void find_reason(cl_device_id id, const xft_device_info *info, char *reason, size_t size) {
    char version[128], profile[64];
    xft_cl_device_text(id, CL_DEVICE_VERSION, version, sizeof version);
    xft_cl_device_text(id, CL_DEVICE_PROFILE, profile, sizeof profile);
    if (!number(id, CL_DEVICE_AVAILABLE))
        snprintf(reason, size,
                 "the driver says that the device is not available: see whether another program holds it");
    else if (version_of(version) < 12)
        snprintf(reason, size, "it offers \"%s\", OpenCL 1.2 is needed: install a newer driver", version);
    else if (strcmp(profile, "FULL_PROFILE") != 0)
        snprintf(reason, size, "it has the %s only, the full profile is needed: use another device", profile);
    else if (!number(id, CL_DEVICE_COMPILER_AVAILABLE))
        snprintf(reason, size, "its driver has no compiler for OpenCL C: install the driver's compiler package");
    else if (!number(id, CL_DEVICE_ENDIAN_LITTLE))
        snprintf(reason, size, "it is big-endian: use another device");
    else if (number(id, CL_DEVICE_ADDRESS_BITS) != 64)
        snprintf(reason, size, "its addresses have %u bits, 64 are needed: use another device or driver",
                 (unsigned)number(id, CL_DEVICE_ADDRESS_BITS));
    else if (info->memory_bytes == 0 || info->max_allocation_bytes == 0)
        snprintf(reason, size, "its driver does not tell how much memory there is: install a newer driver");
    else if (info->max_workgroup_size < NEEDED_WORKGROUP)
        snprintf(reason, size, "work-groups of at most %u, %d are needed: use another device", info->max_workgroup_size,
                 NEEDED_WORKGROUP);
    else if (info->local_memory_bytes < NEEDED_LOCAL_MEMORY)
        snprintf(reason, size, "%u bytes of local memory, %d are needed: use another device", info->local_memory_bytes,
                 NEEDED_LOCAL_MEMORY);
}

void xft_cl_describe(cl_platform_id platform, cl_device_id id, xft_device_info *info) {
    const uint64_t most = (UINT64_C(4) << 30) - 512;
    info->api = XFT_API_OPENCL;
    xft_cl_device_text(id, CL_DEVICE_NAME, info->name, sizeof info->name);
    xft_cl_platform_text(platform, CL_PLATFORM_NAME, info->platform, sizeof info->platform);
    xft_cl_device_text(id, CL_DRIVER_VERSION, info->driver, sizeof info->driver);
    info->device_class = find_class(id, info->name);
    info->memory_bytes = number(id, CL_DEVICE_GLOBAL_MEM_SIZE);
    info->max_allocation_bytes = number(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    if (info->max_allocation_bytes > most) info->max_allocation_bytes = most;
    info->max_workgroup_size = (uint32_t)number(id, CL_DEVICE_MAX_WORK_GROUP_SIZE);
    size_t sizes[16] = {0};
    if (!xft_cl.clGetDeviceInfo(id, CL_DEVICE_MAX_WORK_ITEM_SIZES, sizeof sizes, sizes, NULL) &&
        sizes[0] < info->max_workgroup_size)
        info->max_workgroup_size = (uint32_t)sizes[0];
    for (int i = 0; i < 3; i++) info->max_groups[i] = INT32_MAX; /* OpenCL has no limit of its own below size_t */
    uint64_t local = number(id, CL_DEVICE_LOCAL_MEM_SIZE);
    info->local_memory_bytes = local > INT32_MAX ? INT32_MAX : (uint32_t)local;
    info->compute_units = (uint32_t)number(id, CL_DEVICE_MAX_COMPUTE_UNITS);
    info->native_vector_width = (uint32_t)number(id, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT);
    info->timestamps = number(id, CL_DEVICE_PROFILING_TIMER_RESOLUTION) > 0; /* rusticl of Mesa 22.3 has none */
    info->alignment = number(id, CL_DEVICE_MEM_BASE_ADDR_ALIGN) / 8;
    if (info->alignment < 512) info->alignment = 512;
    info->fp16_arithmetic = xft_cl_has_extension(id, "cl_khr_fp16");
    info->has_uuid = xft_cl_has_extension(id, "cl_khr_device_uuid") &&
                     !xft_cl.clGetDeviceInfo(id, CL_DEVICE_UUID_KHR, sizeof info->uuid, info->uuid, NULL);
    find_pci(id, info);
    find_reason(id, info, info->reason, sizeof info->reason);
    info->usable = !*info->reason;
}

static xft_status list_platforms(cl_platform_id *platforms, cl_uint *count) {
    XFT_TRY(xft_cl_load());
    *count = 0;
    cl_int code = xft_cl.clGetPlatformIDs(MAX_PLATFORMS, platforms, count);
    if (code == CL_PLATFORM_NOT_FOUND_KHR)
        *count = 0;
    else
        XFT_TRY(xft_cl_status(code, "clGetPlatformIDs"));
    if (*count > MAX_PLATFORMS) *count = MAX_PLATFORMS;
    XFT_FAIL_IF(*count == 0, XFT_ERROR_NO_DEVICE,
                "the OpenCL loader finds no driver (/etc/OpenCL/vendors/*.icd, OCL_ICD_VENDORS): install one, for "
                "example pocl-opencl-icd for the CPU");
    return XFT_OK;
}

static cl_uint list_devices(cl_platform_id platform, cl_device_id *devices) {
    cl_uint count = 0;
    if (xft_cl.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, MAX_DEVICES, devices, &count)) return 0;
    return count > MAX_DEVICES ? MAX_DEVICES : count;
}

xft_status xft_cl_find_device(uint32_t wanted, cl_platform_id *platform, cl_device_id *id) {
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_device_id devices[MAX_DEVICES];
    cl_uint count;
    uint32_t at = 0;
    XFT_TRY(list_platforms(platforms, &count));
    for (cl_uint p = 0; p < count; p++) {
        cl_uint found = list_devices(platforms[p], devices);
        if (wanted - at < found) {
            *platform = platforms[p];
            *id = devices[wanted - at];
            return XFT_OK;
        }
        at += found;
    }
    return xft_fail(XFT_ERROR_NO_DEVICE, "opencl:%u: there are %u OpenCL devices now", wanted, at);
}

static xft_device_info *append(xft_device_info **list, uint32_t *count) {
    xft_device_info *grown = realloc(*list, (*count + 1) * sizeof **list);
    if (!grown) return NULL;
    *list = grown;
    xft_device_info *info = &grown[(*count)++];
    *info = (xft_device_info){.id = "opencl", .api = XFT_API_OPENCL, .device_class = XFT_CLASS_UNKNOWN};
    return info;
}

/* The most common reason for a platform without devices: no right to open the card. */
static bool render_node_closed(char *path, size_t size) {
    bool closed = false;
#ifndef _WIN32
    DIR *dir = opendir("/dev/dri");
    for (struct dirent *entry; dir && !closed && (entry = readdir(dir));) {
        if (strncmp(entry->d_name, "renderD", 7) != 0) continue;
        snprintf(path, size, "/dev/dri/%.32s", entry->d_name);
        closed = access(path, R_OK | W_OK) != 0;
    }
    if (dir) closedir(dir);
#endif
    return closed;
}

static void explain_empty(cl_platform_id platform, xft_device_info *info) {
    char path[64];
    xft_cl_platform_text(platform, CL_PLATFORM_NAME, info->platform, sizeof info->platform);
    xft_cl_platform_text(platform, CL_PLATFORM_VERSION, info->driver, sizeof info->driver);
    snprintf(info->name, sizeof info->name, "%s", info->platform);
    if (render_node_closed(path, sizeof path))
        snprintf(info->reason, sizeof info->reason,
                 "this platform shows no device, and %s may not be opened: add the user to the group that owns it "
                 "(render)",
                 path);
    else if (strcmp(info->platform, "rusticl") == 0)
        snprintf(info->reason, sizeof info->reason,
                 "this platform shows no device: set RUSTICL_ENABLE to its driver (llvmpipe, radeonsi, iris …)");
    else
        snprintf(info->reason, sizeof info->reason,
                 "this platform shows no device: no card that it serves, or its kernel driver is not loaded");
}

xft_status xft_cl_enumerate(xft_device_info **list, uint32_t *count) {
    static const char no_memory[] = "no memory for the list of devices";
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_device_id devices[MAX_DEVICES];
    cl_uint platform_count;
    uint32_t at = 0;
    if (list_platforms(platforms, &platform_count) != XFT_OK) {
        xft_device_info *info = append(list, count);
        XFT_FAIL_IF(!info, XFT_ERROR_OUT_OF_HOST_MEMORY, no_memory);
        snprintf(info->name, sizeof info->name, "OpenCL");
        snprintf(info->reason, sizeof info->reason, "%s", xft_error());
        return XFT_OK;
    }
    for (cl_uint p = 0; p < platform_count; p++) {
        cl_uint found = list_devices(platforms[p], devices);
        for (cl_uint d = 0; d < found; d++) {
            xft_device_info *info = append(list, count);
            XFT_FAIL_IF(!info, XFT_ERROR_OUT_OF_HOST_MEMORY, no_memory);
            snprintf(info->id, sizeof info->id, "opencl:%u", at++);
            xft_cl_describe(platforms[p], devices[d], info);
        }
        if (found == 0) {
            xft_device_info *info = append(list, count);
            XFT_FAIL_IF(!info, XFT_ERROR_OUT_OF_HOST_MEMORY, no_memory);
            explain_empty(platforms[p], info);
        }
    }
    return XFT_OK;
}
