/* Opens the OpenCL loader at run time, and gives its error codes names. */
#include "opencl.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

xft_cl_functions xft_cl;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char failure[320]; /* why there is no OpenCL; "" when there is */

#ifdef _WIN32
static void *library_open(void) {
    return (void *)LoadLibraryA("OpenCL.dll");
}
static void *library_symbol(void *library, const char *name) {
    return (void *)GetProcAddress((HMODULE)library, name);
}
static const char *const cure = "OpenCL.dll is missing: install the graphics driver of your card";
#else
static void *library_open(void) {
    /* What the process already has goes first: the application's own loader, or a tool that stands in for it. */
    if (dlsym(RTLD_DEFAULT, "clGetPlatformIDs")) return RTLD_DEFAULT;
    static const char *const names[] = {"libOpenCL.so.1", "libOpenCL.so",
                                        "/System/Library/Frameworks/OpenCL.framework/OpenCL"};
    void *library = NULL;
    for (size_t i = 0; !library && i < sizeof names / sizeof *names; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return library;
}
static void *library_symbol(void *library, const char *name) {
    return dlsym(library, name);
}
static const char *const cure = "no OpenCL loader (libOpenCL.so.1): install ocl-icd-libopencl1 and a driver, for "
                                "example pocl-opencl-icd for the CPU";
#endif

/* RTLD_DEFAULT may be a null pointer, so success is told apart from the handle. */
static void load(void) {
    void *library = library_open();
    const char *missing = NULL;
#define XFT_CL_LOAD(name)                                                                                              \
    *(void **)&xft_cl.name = library_symbol(library, #name);                                                           \
    if (!xft_cl.name && !missing) missing = #name;
    XFT_CL_FUNCTIONS(XFT_CL_LOAD)
#undef XFT_CL_LOAD
    if (!xft_cl.clGetPlatformIDs)
        snprintf(failure, sizeof failure, "%s", cure);
    else if (missing)
        snprintf(failure, sizeof failure, "the OpenCL loader has no %s: OpenCL 1.2 or newer is needed", missing);
}

xft_status xft_cl_load(void) {
    pthread_once(&once, load);
    XFT_FAIL_IF(*failure, XFT_ERROR_NO_DEVICE, "%s", failure);
    return XFT_OK;
}

const char *xft_cl_code_name(cl_int code) {
    static const struct {
        cl_int code;
        const char *name;
    } names[] = {
#define XFT_CODE(name) {name, #name}
        XFT_CODE(CL_SUCCESS),
        XFT_CODE(CL_DEVICE_NOT_FOUND),
        XFT_CODE(CL_DEVICE_NOT_AVAILABLE),
        XFT_CODE(CL_COMPILER_NOT_AVAILABLE),
        XFT_CODE(CL_MEM_OBJECT_ALLOCATION_FAILURE),
        XFT_CODE(CL_OUT_OF_RESOURCES),
        XFT_CODE(CL_OUT_OF_HOST_MEMORY),
        XFT_CODE(CL_PROFILING_INFO_NOT_AVAILABLE),
        XFT_CODE(CL_MEM_COPY_OVERLAP),
        XFT_CODE(CL_BUILD_PROGRAM_FAILURE),
        XFT_CODE(CL_MAP_FAILURE),
        XFT_CODE(CL_MISALIGNED_SUB_BUFFER_OFFSET),
        XFT_CODE(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST),
        XFT_CODE(CL_COMPILE_PROGRAM_FAILURE),
        XFT_CODE(CL_LINKER_NOT_AVAILABLE),
        XFT_CODE(CL_LINK_PROGRAM_FAILURE),
        XFT_CODE(CL_KERNEL_ARG_INFO_NOT_AVAILABLE),
        XFT_CODE(CL_INVALID_VALUE),
        XFT_CODE(CL_INVALID_DEVICE_TYPE),
        XFT_CODE(CL_INVALID_PLATFORM),
        XFT_CODE(CL_INVALID_DEVICE),
        XFT_CODE(CL_INVALID_CONTEXT),
        XFT_CODE(CL_INVALID_QUEUE_PROPERTIES),
        XFT_CODE(CL_INVALID_COMMAND_QUEUE),
        XFT_CODE(CL_INVALID_HOST_PTR),
        XFT_CODE(CL_INVALID_MEM_OBJECT),
        XFT_CODE(CL_INVALID_BINARY),
        XFT_CODE(CL_INVALID_BUILD_OPTIONS),
        XFT_CODE(CL_INVALID_PROGRAM),
        XFT_CODE(CL_INVALID_PROGRAM_EXECUTABLE),
        XFT_CODE(CL_INVALID_KERNEL_NAME),
        XFT_CODE(CL_INVALID_KERNEL_DEFINITION),
        XFT_CODE(CL_INVALID_KERNEL),
        XFT_CODE(CL_INVALID_ARG_INDEX),
        XFT_CODE(CL_INVALID_ARG_VALUE),
        XFT_CODE(CL_INVALID_ARG_SIZE),
        XFT_CODE(CL_INVALID_KERNEL_ARGS),
        XFT_CODE(CL_INVALID_WORK_DIMENSION),
        XFT_CODE(CL_INVALID_WORK_GROUP_SIZE),
        XFT_CODE(CL_INVALID_WORK_ITEM_SIZE),
        XFT_CODE(CL_INVALID_GLOBAL_OFFSET),
        XFT_CODE(CL_INVALID_EVENT_WAIT_LIST),
        XFT_CODE(CL_INVALID_EVENT),
        XFT_CODE(CL_INVALID_OPERATION),
        XFT_CODE(CL_INVALID_BUFFER_SIZE),
        XFT_CODE(CL_INVALID_GLOBAL_WORK_SIZE),
        XFT_CODE(CL_INVALID_PROPERTY),
        XFT_CODE(CL_INVALID_COMPILER_OPTIONS),
        XFT_CODE(CL_INVALID_LINKER_OPTIONS),
        XFT_CODE(CL_PLATFORM_NOT_FOUND_KHR),
#undef XFT_CODE
        {-9999, "illegal access of device memory (NVIDIA)"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].code == code) return names[i].name;
    return "unknown error";
}

static xft_status status_of(cl_int code) {
    switch (code) {
    case CL_SUCCESS:
        return XFT_OK;
    case CL_OUT_OF_HOST_MEMORY:
        return XFT_ERROR_OUT_OF_HOST_MEMORY;
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
    case CL_OUT_OF_RESOURCES:
    case CL_INVALID_BUFFER_SIZE:
        return XFT_ERROR_OUT_OF_DEVICE_MEMORY;
    case CL_DEVICE_NOT_AVAILABLE:
    case CL_INVALID_COMMAND_QUEUE: /* what NVIDIA says of every call after a fault */
    case -9999:
        return XFT_ERROR_DEVICE_LOST;
    case CL_DEVICE_NOT_FOUND:
    case CL_PLATFORM_NOT_FOUND_KHR:
        return XFT_ERROR_NO_DEVICE;
    case CL_COMPILER_NOT_AVAILABLE:
    case CL_INVALID_WORK_GROUP_SIZE:
    case CL_INVALID_WORK_ITEM_SIZE:
    case CL_INVALID_GLOBAL_WORK_SIZE:
        return XFT_ERROR_UNSUPPORTED;
    case CL_BUILD_PROGRAM_FAILURE:
    case CL_COMPILE_PROGRAM_FAILURE:
    case CL_LINK_PROGRAM_FAILURE:
    case CL_INVALID_KERNEL_NAME:
        return XFT_ERROR_COMPILE;
    default:
        return XFT_ERROR_DRIVER;
    }
}

xft_status xft_cl_status(cl_int code, const char *text) {
    if (code == CL_SUCCESS) return XFT_OK;
    return xft_fail(status_of(code), "%.*s: %s (%d)", (int)strcspn(text, "("), text, xft_cl_code_name(code), code);
}
