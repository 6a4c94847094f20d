/* list_kernels DIR DEVICE: which kernels would a GPU of that name run? Every small case of every op is recorded on a
 * device that executes nothing but has the properties of a GPU, once as a Vulkan and once as an OpenCL device; so is
 * every tile of products in every form and storage, and attention for the usual sizes of heads. Vulkan's form of
 * products for software devices, which no GPU takes, is for its compilers all the same. Each distinct kernel and set of
 * constants is written to DIR as NAME.spv or NAME.cl, and printed as a line
 *
 *     vulkan|opencl NAME OP VARIANT PUSH_BYTES CONSTANT=VALUE …
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "op_case.h"
#include "ops/gemm_choice.h"

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

/* ---- What the cases take only samples of ---- */

static xft_tensor make(xft_arena *arena, xft_dtype dtype, uint32_t rank, uint32_t x, uint32_t y, uint32_t z) {
    const uint32_t shape[] = {x, y, z, 1};
    xft_tensor t = {0};
    if (xft_tensor_create(arena, dtype, rank, shape, &t) != XFT_OK) failures++;
    return t;
}

static void expect(xft_status status, const char *what) {
    if (status == XFT_OK) return;
    fprintf(stderr, "%s: %s\n", what, xft_error());
    failures++;
}

/* Products by the candidates whose names begin so, in every form and storage. */
static void record_products(xft_arena *arena, xft_stream *stream, const char *candidates) {
    static const xft_dtype types[][2] = {
        {XFT_F32, XFT_F32}, {XFT_BF16, XFT_BF16}, {XFT_BF16, XFT_F32}, {XFT_F16, XFT_F16}}; /* factors, result */
    const uint32_t n = 40;
    const xft_tensor offsets = make(arena, XFT_U32, 1, 3, 0, 0);
    for (uint32_t i = 0; xft_gemm_candidate(i); i++) {
        if (strncmp(xft_gemm_candidate(i), candidates, strlen(candidates))) continue;
        xft_gemm_force(xft_gemm_candidate(i));
        for (uint32_t k = 0; k < sizeof types / sizeof *types; k++) {
            const xft_dtype factor = types[k][0], result = types[k][1];
            const xft_tensor a = make(arena, factor, 2, n, n, 0), c = make(arena, result, 2, n, n, 0);
            const xft_tensor experts = make(arena, factor, 3, 2, n, n), sums = make(arena, result, 3, 2, n, n);
            for (xft_form form = XFT_NT; form <= XFT_TN; form++) {
                const bool tn = form == XFT_TN;
                if (factor != result && !tn) continue; /* weight gradients alone */
                expect(xft_gemm(stream, form, &a, &a, &c, false), "gemm");
                expect(xft_grouped_gemm(stream, form, &a, tn ? &a : &experts, &offsets, tn ? &sums : &c, false),
                       "grouped_gemm");
            }
        }
        xft_gemm_force(NULL);
    }
}

static void record_attention(xft_arena *arena, xft_stream *stream) {
    static const uint32_t sizes[] = {64, 80, 96, 128, 256};
    static const xft_dtype types[] = {XFT_F32, XFT_BF16};
    const uint32_t tokens = 8;
    const xft_tensor segments = make(arena, XFT_U32, 2, tokens, 4, 0), lengths = make(arena, XFT_U32, 1, 1, 0, 0);
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (uint32_t k = 0; k < 2; k++) {
            const xft_tensor q = make(arena, types[k], 2, tokens, sizes[i], 0),
                             o = make(arena, types[k], 2, tokens, sizes[i], 0);
            const xft_tensor lse = make(arena, XFT_F32, 2, 1, tokens, 0), delta = make(arena, XFT_F32, 2, 1, tokens, 0);
            const xft_tensor cache = make(arena, types[k], 3, 1, tokens, sizes[i]);
            xft_tensor d[3];
            for (int j = 0; j < 3; j++) d[j] = make(arena, types[k], 2, tokens, sizes[i], 0);
            expect(xft_attention(stream, &q, &q, &q, &segments, sizes[i], 1, &o, &lse), "attention");
            expect(xft_attention_backward(stream, &q, &q, &q, &o, &o, &lse, &segments, sizes[i], 1, &delta, &d[0],
                                          &d[1], &d[2]),
                   "attention_backward");
            expect(xft_attention_decode(stream, &q, &cache, &cache, &lengths, sizes[i], 1, &o), "attention_decode");
        }
}

static void record_grids(xft_device *device) {
    xft_arena *arena = NULL;
    xft_stream *stream = NULL;
    expect(xft_arena_create(device, "grids", 0, &arena), "arena");
    expect(xft_stream_create(device, NULL, &stream), "stream");
    if (arena && stream) {
        record_products(arena, stream, "plain");
        record_attention(arena, stream);
        if (device->info.api == XFT_API_VULKAN) { /* its other tiles are for more registers than a GPU's */
            const xft_device_info gpu = device->info;
            device->info.device_class = XFT_CLASS_CPU;
            device->info.subgroup_size = 16;
            record_products(arena, stream, "subgroup 4x16");
            device->info = gpu;
        }
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
        record_grids(device);
        xft_device_close(device);
    }
    return failures ? 1 : 0;
}
