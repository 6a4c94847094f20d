/* list_kernels DIR DEVICE: which kernels would a GPU of that name run? Every small case of every op is recorded on a
 * device that executes nothing but has the properties of a GPU, once as a Vulkan and once as an OpenCL device. Each
 * distinct kernel and set of constants is written to DIR as NAME.spv or NAME.cl, and printed as a line
 *
 *     vulkan|opencl NAME OP VARIANT PUSH_BYTES CONSTANT=VALUE …
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "op_case.h"

static const char *folder;
static uint32_t numbers[XFT_OP_COUNT][2];

static xft_status open_device(const xft_open_request *request, xft_device *device) {
    (void)request;
    (void)device;
    return XFT_OK;
}
static void close_device(xft_device *device) {
    (void)device;
}
static xft_status create_buffer(xft_device *device, uint64_t size, bool staging, xft_buffer *buffer) {
    (void)device;
    (void)size;
    buffer->host = staging ? buffer : NULL;
    return XFT_OK;
}
static void destroy_buffer(xft_buffer *buffer) {
    (void)buffer;
}
static xft_status create_program(xft_program *program) {
    (void)program;
    return XFT_OK;
}
static void destroy_program(xft_program *program) {
    (void)program;
}
static void destroy_kernel(xft_device *device, xft_kernel *kernel) {
    (void)device;
    (void)kernel;
}

/* A new kernel: its text goes to a file, its constants to the list. */
static xft_status create_kernel(xft_device *device, xft_kernel *kernel) {
    const xft_kernel_source *s = kernel->source;
    const xft_op_info *info = xft_op_get_info(s->op);
    bool vulkan = device->info.api == XFT_API_VULKAN;
    char name[96], path[1024];
    snprintf(name, sizeof name, "%s%s%s-%u", info->name, *s->variant ? "." : "", s->variant, numbers[s->op][vulkan]++);
    snprintf(path, sizeof path, "%s/%s.%s", folder, name, vulkan ? "spv" : "cl");
    FILE *file = fopen(path, "wb");
    if (!file) return xft_fail(XFT_ERROR_IO, "cannot write %s", path);
    if (!vulkan) {
        uint64_t size;
        const unsigned char *prelude = xft_opencl_prelude(&size);
        fwrite(prelude, 1, size, file);
    }
    fwrite(s->data, 1, s->size, file);
    fclose(file);
    printf("%s %s %s %s %u", vulkan ? "vulkan" : "opencl", name, info->name, *s->variant ? s->variant : "-",
           8 * info->buffer_count + 4 * info->param_words);
    for (uint32_t i = 0; i < s->constant_count; i++) printf(" %s=%u", s->constants[i], kernel->constants[i]);
    printf("\n");
    return XFT_OK;
}

static const xft_driver driver = {.api = XFT_API_OTHER,
                                  .name = "recorder",
                                  .open = open_device,
                                  .close = close_device,
                                  .buffer_create = create_buffer,
                                  .buffer_destroy = destroy_buffer,
                                  .kernel_create = create_kernel,
                                  .kernel_destroy = destroy_kernel,
                                  .program_create = create_program,
                                  .program_destroy = destroy_program};

static int failures;

static void record(const op_case *c, void *user) {
    xft_device *device = user;
    xft_arena *arena = NULL;
    xft_stream *stream = NULL;
    xft_tensor tensors[CASE_MAX_BUFFERS];
    const xft_tensor *arguments[CASE_MAX_BUFFERS] = {NULL};
    xft_status status = xft_arena_create(device, "case", 0, &arena);
    for (uint32_t i = 0; i < c->count && status == XFT_OK; i++) {
        const case_buffer *b = &c->buffers[i];
        if (b->rank == 0) continue;
        status = xft_tensor_create(arena, b->dtype, b->rank, b->shape, &tensors[i]);
        arguments[i] = &tensors[i];
    }
    if (status == XFT_OK) status = xft_stream_create(device, NULL, &stream);
    if (status == XFT_OK) status = c->record(stream, c, arguments);
    if (status != XFT_OK) {
        fprintf(stderr, "%s %s: %s\n", c->op, c->label, xft_error());
        failures++;
    }
    xft_stream_destroy(stream);
    xft_arena_destroy(arena);
}

int main(int argc, char **argv) {
    if (argc != 3) return 1;
    folder = argv[1];
    for (int api = 0; api < 2; api++) {
        /* The least that GPUs of this decade offer. */
        xft_device_info info = {.id = "gpu:0",
                                .api = api == 0 ? XFT_API_VULKAN : XFT_API_OPENCL,
                                .device_class = XFT_CLASS_DISCRETE,
                                .usable = true,
                                .memory_bytes = UINT64_C(8) << 30,
                                .max_allocation_bytes = UINT64_C(2) << 30,
                                .max_workgroup_size = 1024,
                                .max_groups = {65535, 65535, 65535},
                                .local_memory_bytes = 32768,
                                .compute_units = 32,
                                .subgroup_size = 32,
                                .alignment = 512};
        snprintf(info.name, sizeof info.name, "%s", argv[2]);
        xft_device_options options = {.cache_dir = ""};
        xft_open_request request = {.info = &info, .options = &options};
        xft_device *device;
        if (xft_device_open_with(&driver, &request, &device)) return fprintf(stderr, "%s\n", xft_error()), 1;
        for (uint32_t i = 0; i < case_family_count; i++) case_families[i](CASES_SMALL, NULL, record, device);
        xft_device_close(device);
    }
    return failures ? 1 : 0;
}
