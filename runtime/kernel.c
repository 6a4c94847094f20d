#include "kernel.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "op_params.h"

/* What the build embedded (kernels.cmake): a missing .comp or .cl is an undefined symbol here. */
#define SYMBOL(name)                                                                                                   \
    extern const unsigned char name[];                                                                                 \
    extern const unsigned long long name##_size;
#define VARIANT_SYMBOL_VULKAN(op, name)   SYMBOL(xft_spv_##op##__##name)
#define VARIANT_SYMBOL_OPENCL(op, name)   SYMBOL(xft_cl_##op##__##name)
#define OP(name, buffers, constants)      SYMBOL(xft_spv_##name) SYMBOL(xft_cl_##name)
#define VARIANT(op, name, api, constants) VARIANT_SYMBOL_##api(op, name)
#include "ops.def"
#undef OP
#undef VARIANT
SYMBOL(xft_cl_prelude)

/* Push constants hold 8 bytes per buffer and the parameters. The count of buffers is one more than the spaces of the
 * row's text, which the preprocessor cannot count, so the sum is checked by a test; the struct alone is checked here.
 */
#define OP(name, buffers, constants)                                                                                   \
    _Static_assert(sizeof(xft_##name##_params) % 4 == 0 && sizeof(xft_##name##_params) <= 4 * XFT_MAX_PARAMS,          \
                   "parameters of " #name);
#define VARIANT(op, name, api, constants)
#include "ops.def"
#undef OP
#undef VARIANT

enum {
    SOURCE_COUNT = 0
#define OP(name, buffers, constants)      +2
#define VARIANT(op, name, api, constants) +1
#include "ops.def"
#undef OP
#undef VARIANT
};

static xft_op_info infos[XFT_OP_COUNT];
static xft_kernel_source sources[SOURCE_COUNT];
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Copies the next space-separated word of *text; false at the end. */
static bool next_word(const char **text, char *word, size_t room) {
    const char *p = *text;
    while (*p == ' ') p++;
    size_t n = strcspn(p, " ");
    *text = p + n;
    if (n == 0) return false;
    if (n >= room) n = room - 1;
    memcpy(word, p, n);
    word[n] = 0;
    return true;
}

static void parse_buffers(xft_op_info *info, const char *text) {
    char word[32];
    while (info->buffer_count < XFT_MAX_BUFFERS && next_word(&text, word, sizeof word)) {
        uint32_t i = info->buffer_count++;
        char *colon = strchr(word, ':');
        *colon = 0;
        memcpy(info->buffer_names[i], word, sizeof info->buffer_names[i] - 1);
        info->access[i] = colon[1] == 'r' ? XFT_READ : colon[1] == 'w' ? XFT_WRITE : XFT_MODIFY;
        info->optional[i] = colon[2] == '?';
    }
}

static xft_kernel_source *add_source(xft_kernel_source *s, xft_op op, const char *variant, xft_api_kind api,
                                     const unsigned char *data, uint64_t size, const char *constants) {
    *s = (xft_kernel_source){.op = op, .variant = variant, .api = api, .data = data, .size = size};
    while (s->constant_count < XFT_MAX_CONSTANTS &&
           next_word(&constants, s->constants[s->constant_count], sizeof s->constants[0]))
        s->constant_count++;
    return s + 1;
}

static void build_tables(void) {
    xft_kernel_source *s = sources;
#define OP(op_name, buffers, names)                                                                                    \
    infos[XFT_OP_##op_name].name = #op_name;                                                                           \
    infos[XFT_OP_##op_name].param_words = sizeof(xft_##op_name##_params) / 4;                                          \
    parse_buffers(&infos[XFT_OP_##op_name], buffers);                                                                  \
    s = add_source(s, XFT_OP_##op_name, "", XFT_API_VULKAN, xft_spv_##op_name, xft_spv_##op_name##_size, names);       \
    s = add_source(s, XFT_OP_##op_name, "", XFT_API_OPENCL, xft_cl_##op_name, xft_cl_##op_name##_size, names);
#define VARIANT_VULKAN(op, name, names)                                                                                \
    s = add_source(s, XFT_OP_##op, #name, XFT_API_VULKAN, xft_spv_##op##__##name, xft_spv_##op##__##name##_size, names);
#define VARIANT_OPENCL(op, name, names)                                                                                \
    s = add_source(s, XFT_OP_##op, #name, XFT_API_OPENCL, xft_cl_##op##__##name, xft_cl_##op##__##name##_size, names);
#define VARIANT(op, name, api, names) VARIANT_##api(op, name, names)
#include "ops.def"
#undef OP
#undef VARIANT
}

const xft_op_info *xft_op_get_info(xft_op op) {
    pthread_once(&once, build_tables);
    return &infos[op];
}

const xft_kernel_source *xft_kernel_sources(uint32_t *count) {
    pthread_once(&once, build_tables);
    *count = SOURCE_COUNT;
    return sources;
}

const xft_kernel_source *xft_kernel_find(xft_op op, const char *variant, xft_api_kind api) {
    pthread_once(&once, build_tables);
    for (uint32_t i = 0; i < SOURCE_COUNT; i++)
        if (sources[i].op == op && sources[i].api == api && strcmp(sources[i].variant, variant) == 0)
            return &sources[i];
    return NULL;
}

const unsigned char *xft_opencl_prelude(uint64_t *size) {
    *size = xft_cl_prelude_size;
    return xft_cl_prelude;
}

struct xft_kernel_table {
    xft_kernel **kernels;
    uint32_t count, room;
};

xft_status xft_kernel_get(xft_device *device, const xft_kernel_source *source, const uint32_t *constants,
                          const xft_kernel **kernel) {
    struct xft_kernel_table *table = device->kernels;
    size_t bytes = source->constant_count * sizeof *constants;
    for (uint32_t i = 0; i < table->count; i++)
        if (table->kernels[i]->source == source && memcmp(table->kernels[i]->constants, constants, bytes) == 0) {
            *kernel = table->kernels[i];
            return XFT_OK;
        }
    if (table->count == table->room) {
        uint32_t room = table->room ? 2 * table->room : 64;
        xft_kernel **grown = realloc(table->kernels, room * sizeof *grown);
        XFT_FAIL_IF(!grown, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the list of kernels");
        table->kernels = grown;
        table->room = room;
    }
    xft_kernel *made = calloc(1, sizeof *made);
    XFT_FAIL_IF(!made, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a kernel");
    made->source = source;
    memcpy(made->constants, constants, bytes);
    xft_status status = device->driver->kernel_create(device, made);
    if (status != XFT_OK) {
        free(made);
        return xft_fail_in(status, "kernel %s%s%s on %s", xft_op_get_info(source->op)->name,
                           *source->variant ? "." : "", source->variant, device->info.id);
    }
    table->kernels[table->count++] = made;
    device->counters.kernels++;
    *kernel = made;
    return XFT_OK;
}

xft_status xft_kernels_init(xft_device *device) {
    device->kernels = calloc(1, sizeof *device->kernels);
    XFT_FAIL_IF(!device->kernels, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the list of kernels");
    return XFT_OK;
}

void xft_kernels_free(xft_device *device) {
    if (!device->kernels) return;
    for (uint32_t i = 0; i < device->kernels->count; i++) {
        device->driver->kernel_destroy(device, device->kernels->kernels[i]);
        free(device->kernels->kernels[i]);
        device->counters.kernels--;
    }
    free(device->kernels->kernels);
    free(device->kernels);
    device->kernels = NULL;
}
