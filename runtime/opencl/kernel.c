/* Compiling: prelude and kernel text with the constants as -D options, or the binary kept from an earlier run. */
#include "cache.h"
#include "clblast.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTIONS_SIZE = 64 + XFT_MAX_CONSTANTS * 48 };

static void write_options(const xft_kernel *kernel, char *options, size_t size) {
    const xft_kernel_source *source = kernel->source;
    /* -w: PoCL prints how many warnings there were, of vectors wider than the registers */
    size_t at = (size_t)snprintf(options, size, "-cl-std=CL1.2 -w");
    for (uint32_t i = 0; i < source->constant_count && at < size; i++)
        at += (size_t)snprintf(options + at, size - at, " -D%s=%uu", source->constants[i], kernel->constants[i]);
}

/* Everything a binary depends on. The texts of the driver change with an update, and so does the key. */
static xft_cache_key binary_key(const xft_cl_device *cl, const xft_kernel_source *source, const char *options) {
    static const cl_device_info of_device[] = {CL_DEVICE_NAME, CL_DEVICE_VENDOR, CL_DEVICE_VERSION, CL_DRIVER_VERSION};
    xft_cache_key key;
    char text[512];
    xft_cache_key_start(&key);
    for (size_t i = 0; i < sizeof of_device / sizeof *of_device; i++) {
        xft_cl_device_text(cl->id, of_device[i], text, sizeof text);
        xft_cache_key_add(&key, text, strlen(text));
    }
    xft_cl_platform_text(cl->platform, CL_PLATFORM_NAME, text, sizeof text);
    xft_cache_key_add(&key, text, strlen(text));
    xft_cl_platform_text(cl->platform, CL_PLATFORM_VERSION, text, sizeof text);
    xft_cache_key_add(&key, text, strlen(text));
    uint64_t prelude_size;
    const unsigned char *prelude = xft_opencl_prelude(&prelude_size);
    xft_cache_key_add(&key, prelude, (size_t)prelude_size);
    xft_cache_key_add(&key, source->data, (size_t)source->size);
    xft_cache_key_add(&key, options, strlen(options));
    return key;
}

/* Puts the compiler's words, from its first error on, into the message. */
static xft_status build_failure(const xft_cl_device *cl, cl_program program, cl_int code) {
    xft_status status = xft_cl_status(code, "clBuildProgram");
    size_t size = 0;
    if (xft_cl.clGetProgramBuildInfo(program, cl->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &size) || size < 2) return status;
    char *log = calloc(size + 1, 1);
    if (log && !xft_cl.clGetProgramBuildInfo(program, cl->id, CL_PROGRAM_BUILD_LOG, size, log, NULL)) {
        const char *start = strstr(log, "error");
        if (!start) start = log;
        while (start > log && start[-1] != '\n') start--;
        for (size_t end = strlen(log); end > 0 && log[end - 1] <= ' ' && log[end - 1] > 0; end--) log[end - 1] = 0;
        status = xft_fail(status, "%s (%d): %s", xft_cl_code_name(code), code, start);
    }
    free(log);
    return status;
}

static xft_status build_source(const xft_cl_device *cl, const xft_kernel_source *source, const char *options,
                               cl_program *program) {
    uint64_t prelude_size;
    const unsigned char *prelude = xft_opencl_prelude(&prelude_size);
    char line[96]; /* so that the compiler counts lines from the start of the kernel's own file */
    const char *name = xft_op_get_info(source->op)->name;
    snprintf(line, sizeof line, "\n#line 1 \"%s%s%s.cl\"\n", name, *source->variant ? "." : "", source->variant);
    const char *texts[] = {(const char *)prelude, line, (const char *)source->data};
    const size_t sizes[] = {(size_t)prelude_size, strlen(line), (size_t)source->size};
    cl_int code;
    *program = xft_cl.clCreateProgramWithSource(cl->context, 3, (const char **)texts, sizes, &code);
    XFT_TRY(xft_cl_status(code, "clCreateProgramWithSource"));
    code = xft_cl.clBuildProgram(*program, 1, &cl->id, options, NULL, NULL);
    return code == CL_SUCCESS ? XFT_OK : build_failure(cl, *program, code);
}

/* The function must be there. What work-group fits is not asked: rusticl of Mesa 22.3 names less than it runs. */
static xft_status check_kernel(const xft_kernel *kernel, cl_program program) {
    cl_int code;
    cl_kernel object = xft_cl.clCreateKernel(program, xft_op_get_info(kernel->source->op)->name, &code);
    XFT_TRY(xft_cl_status(code, "clCreateKernel"));
    xft_cl.clReleaseKernel(object);
    return XFT_OK;
}

/* NULL when the driver does not take the binary: then it is compiled again. */
static cl_program build_binary(const xft_cl_device *cl, const xft_kernel *kernel, const char *dir,
                               const xft_cache_key *key, const char *options) {
    size_t bytes;
    unsigned char *data = xft_cache_load(dir, "opencl", key, &bytes);
    if (!data) return NULL;
    const unsigned char *binary = data;
    cl_int code, taken = CL_SUCCESS;
    cl_program program = xft_cl.clCreateProgramWithBinary(cl->context, 1, &cl->id, &bytes, &binary, &taken, &code);
    if (code == CL_SUCCESS && taken == CL_SUCCESS)
        code = xft_cl.clBuildProgram(program, 1, &cl->id, options, NULL, NULL);
    free(data);
    if (code == CL_SUCCESS && taken == CL_SUCCESS && check_kernel(kernel, program) == XFT_OK) return program;
    if (program) xft_cl.clReleaseProgram(program);
    return NULL;
}

/* A program has one binary per device of its context, and an application's context may have several. */
static void keep_binary(const xft_cl_device *cl, const char *dir, const xft_cache_key *key, cl_program program) {
    cl_uint count = 0;
    if (xft_cl.clGetProgramInfo(program, CL_PROGRAM_NUM_DEVICES, sizeof count, &count, NULL) || count == 0) return;
    cl_device_id *devices = calloc(count, sizeof *devices);
    size_t *sizes = calloc(count, sizeof *sizes);
    unsigned char **binaries = calloc(count, sizeof *binaries);
    cl_uint own = 0;
    if (!devices || !sizes || !binaries) goto done;
    if (xft_cl.clGetProgramInfo(program, CL_PROGRAM_DEVICES, count * sizeof *devices, devices, NULL)) goto done;
    if (xft_cl.clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, count * sizeof *sizes, sizes, NULL)) goto done;
    while (own < count && devices[own] != cl->id) own++;
    if (own == count || sizes[own] == 0) goto done;
    for (cl_uint i = 0; i < count; i++) /* not every driver skips a null pointer, as the standard says */
        if (sizes[i] && !(binaries[i] = malloc(sizes[i]))) goto done;
    if (xft_cl.clGetProgramInfo(program, CL_PROGRAM_BINARIES, count * sizeof *binaries, binaries, NULL)) goto done;
    xft_cache_store(dir, "opencl", key, binaries[own], sizes[own]);
done:
    for (cl_uint i = 0; binaries && i < count; i++) free(binaries[i]);
    free(binaries);
    free(sizes);
    free(devices);
}

xft_status xft_cl_kernel_create(xft_device *device, xft_kernel *kernel) {
    xft_cl_device *cl = device->impl;
    const xft_kernel_source *source = kernel->source;
    kernel->impl = NULL;
    if (xft_clblast_serves(kernel)) return xft_clblast_prepare(cl, kernel);
    char options[OPTIONS_SIZE];
    write_options(kernel, options, sizeof options);
    const char *dir = device->cache_dir;
    xft_cache_key key = {{0, 0}};
    cl_program program = NULL;
    if (dir) {
        key = binary_key(cl, source, options);
        program = build_binary(cl, kernel, dir, &key, options);
    }
    xft_status status = XFT_OK;
    if (!program) {
        status = build_source(cl, source, options, &program);
        if (status == XFT_OK) status = check_kernel(kernel, program);
        if (status == XFT_OK && dir) keep_binary(cl, dir, &key, program);
    }
    if (status != XFT_OK) {
        if (program) xft_cl.clReleaseProgram(program);
        return xft_fail_in(xft_cl_note(device, status), "compiled with %s", options);
    }
    kernel->impl = program;
    return XFT_OK;
}

void xft_cl_kernel_destroy(xft_device *device, xft_kernel *kernel) {
    (void)device;
    if (kernel->impl) xft_cl.clReleaseProgram(kernel->impl);
    kernel->impl = NULL;
}
