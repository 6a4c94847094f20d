#include "driver_test.h"

#include <stdlib.h>
#include <string.h>

#include "reference.h"

test_driver_settings test_driver;
test_driver_counts test_counts;

/* A submit that has not run yet. */
typedef struct pending {
    const xft_program *program;
    uint32_t slot;
    uint64_t ticket;
} pending;

typedef struct test_device {
    pending *queue;
    uint32_t queue_count, queue_room;
    uint64_t submitted, completed;
    uint64_t random;
} test_device;

static xft_status check_lost(xft_device *device) {
    if (!device->lost) return XFT_OK;
    return xft_fail(XFT_ERROR_DEVICE_LOST, "test driver: the device is lost");
}

static xft_status lose(xft_device *device) {
    device->lost = true;
    return check_lost(device);
}

/* One more object of the driver; refused when the settings say so. */
static xft_status allocate(xft_device *device, const char *what) {
    XFT_TRY(check_lost(device));
    uint32_t n = ++test_counts.allocations;
    bool refuse = test_driver.fail_allocation &&
                  (n == test_driver.fail_allocation || (test_driver.fail_forever && n > test_driver.fail_allocation));
    XFT_FAIL_IF(refuse, XFT_ERROR_OUT_OF_DEVICE_MEMORY, "test driver: allocation %u (%s) is refused", n, what);
    return XFT_OK;
}

/* ---- Device ---- */

static const xft_device_info description = {
    .id = "test:0",
    .name = "references in C",
    .platform = "tests",
    .driver = "1",
    .api = XFT_API_OTHER,
    .device_class = XFT_CLASS_DISCRETE,
    .usable = true,
    .memory_bytes = UINT64_C(4) << 30,
    .max_allocation_bytes = UINT64_C(1) << 30,
    .max_workgroup_size = 256,
    .max_groups = {65535, 65535, 65535},
    .local_memory_bytes = 32768,
    .compute_units = 4,
    .timestamps = true,
    .alignment = 512,
};

static xft_status test_enumerate(xft_device_info **list, uint32_t *count) {
    xft_device_info *grown = realloc(*list, (*count + 1) * sizeof **list);
    XFT_FAIL_IF(!grown, XFT_ERROR_OUT_OF_HOST_MEMORY, "test driver: no memory for the list of devices");
    *list = grown;
    grown[(*count)++] = description;
    return XFT_OK;
}

static xft_status test_open(const xft_open_request *request, xft_device *device) {
    (void)request;
    memset(&test_counts, 0, sizeof test_counts);
    XFT_TRY(allocate(device, "device"));
    test_device *d = calloc(1, sizeof *d);
    XFT_FAIL_IF(!d, XFT_ERROR_OUT_OF_HOST_MEMORY, "test driver: no memory for a device");
    d->random = test_driver.shuffle;
    device->impl = d;
    device->info = description;
    if (test_driver.allocation_limit) device->info.max_allocation_bytes = test_driver.allocation_limit;
    test_counts.devices++;
    return XFT_OK;
}

static void test_close(xft_device *device) {
    test_device *d = device->impl;
    free(d->queue);
    free(d);
    test_counts.devices--;
}

static xft_status test_memory(xft_device *device, uint64_t *total, uint64_t *available, bool *told) {
    *total = device->info.memory_bytes;
    *available = *total - device->counters.buffer_bytes;
    *told = true;
    return check_lost(device);
}

/* ---- Execution ---- */

/* A buffer of a dispatch as the reference wants it: doubles for floats, words for u32. */
static void *load(const xft_argument *a) {
    const uint8_t *memory = (const uint8_t *)a->buffer->impl + a->offset;
    uint64_t count = a->bytes / xft_dtype_size(a->dtype);
    void *loaded = malloc(count * (a->dtype == XFT_U32 ? sizeof(uint32_t) : sizeof(double)));
    if (!loaded) return NULL;
    double *d = loaded;
    for (uint64_t i = 0; i < count; i++) switch (a->dtype) {
        case XFT_U32:
            ((uint32_t *)loaded)[i] = ((const uint32_t *)(const void *)memory)[i];
            break;
        case XFT_F32:
            d[i] = ((const float *)(const void *)memory)[i];
            break;
        case XFT_BF16:
            d[i] = xft_bf16_to_f32(((const uint16_t *)(const void *)memory)[i]);
            break;
        case XFT_F16:
            d[i] = xft_f16_to_f32(((const uint16_t *)(const void *)memory)[i]);
            break;
        }
    return loaded;
}

static void store(const xft_argument *a, const void *loaded) {
    uint8_t *memory = (uint8_t *)a->buffer->impl + a->offset;
    uint64_t count = a->bytes / xft_dtype_size(a->dtype);
    const double *d = loaded;
    for (uint64_t i = 0; i < count; i++) switch (a->dtype) {
        case XFT_U32:
            ((uint32_t *)(void *)memory)[i] = ((const uint32_t *)loaded)[i];
            break;
        case XFT_F32:
            ((float *)(void *)memory)[i] = (float)d[i];
            break;
        case XFT_BF16:
            ((uint16_t *)(void *)memory)[i] = xft_f32_to_bf16((float)d[i]);
            break;
        case XFT_F16:
            ((uint16_t *)(void *)memory)[i] = xft_f32_to_f16((float)d[i]);
            break;
        }
}

static xft_status dispatch(const xft_command *c) {
    /* Of an op that was split, the part with the first work-group does everything. */
    if (c->base[0] || c->base[1] || c->base[2]) return XFT_OK;
    xft_op op = c->kernel->source->op;
    const xft_op_info *info = xft_op_get_info(op);
    ref_call call = {.params = c->params, .constants = c->kernel->constants};
    void *loaded[XFT_MAX_BUFFERS] = {0};
    xft_status status = XFT_OK;
    for (uint32_t i = 0; i < info->buffer_count && status == XFT_OK; i++) {
        if (!c->arguments[i].buffer) continue;
        loaded[i] = load(&c->arguments[i]);
        if (!loaded[i]) status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "test driver: no memory to run %s", info->name);
        if (c->arguments[i].dtype == XFT_U32)
            call.u[i] = loaded[i];
        else
            call.d[i] = loaded[i];
    }
    if (status == XFT_OK) ref_find(op)(&call);
    for (uint32_t i = 0; i < info->buffer_count; i++) {
        if (status == XFT_OK && loaded[i] && info->access[i] & XFT_WRITE) store(&c->arguments[i], loaded[i]);
        free(loaded[i]);
    }
    return status;
}

static xft_status run_command(const pending *p, const xft_command *c) {
    if (c->kind == XFT_COMMAND_DISPATCH) return dispatch(c);
    if (c->kind != XFT_COMMAND_COPY) return XFT_OK;
    uint64_t slot = p->slot * p->program->slot_stride;
    memcpy((uint8_t *)c->to->impl + c->to_offset + (c->to->host ? slot : 0),
           (const uint8_t *)c->from->impl + c->from_offset + (c->from->host ? slot : 0), c->bytes);
    return XFT_OK;
}

static uint32_t below(test_device *d, uint32_t n) {
    d->random = d->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((d->random >> 33) % n);
}

/* Runs the commands between barriers in a random order (Fisher-Yates), or in their own. */
static xft_status run_program(test_device *d, const pending *p) {
    const xft_program *program = p->program;
    uint32_t *order = malloc((program->count ? program->count : 1) * sizeof *order);
    XFT_FAIL_IF(!order, XFT_ERROR_OUT_OF_HOST_MEMORY, "test driver: no memory to run a program");
    for (uint32_t i = 0; i < program->count; i++) order[i] = i;
    for (uint32_t first = 0, end; test_driver.shuffle && first < program->count; first = end + 1) {
        for (end = first; end < program->count; end++)
            if (program->commands[end].kind == XFT_COMMAND_BARRIER && !test_driver.ignore_barriers) break;
        for (uint32_t i = end; i-- > first + 1;) {
            uint32_t j = first + below(d, i - first + 1), swapped = order[i];
            order[i] = order[j];
            order[j] = swapped;
        }
    }
    xft_status status = XFT_OK;
    for (uint32_t i = 0; i < program->count && status == XFT_OK; i++)
        status = run_command(p, &program->commands[order[i]]);
    free(order);
    return status;
}

static xft_status run_until(xft_device *device, uint64_t ticket) {
    test_device *d = device->impl;
    XFT_TRY(check_lost(device));
    while (d->queue_count && d->queue[0].ticket <= ticket) {
        pending p = d->queue[0];
        d->queue_count--;
        memmove(d->queue, d->queue + 1, d->queue_count * sizeof *d->queue);
        XFT_TRY(run_program(d, &p));
        d->completed = p.ticket;
    }
    return XFT_OK;
}

/* ---- Buffers, kernels, programs ---- */

static xft_status test_buffer_create(xft_device *device, uint64_t size, bool staging, xft_buffer *buffer) {
    XFT_TRY(allocate(device, staging ? "staging" : "buffer"));
    buffer->impl = malloc(size);
    XFT_FAIL_IF(!buffer->impl, XFT_ERROR_OUT_OF_DEVICE_MEMORY, "test driver: no memory for a buffer");
    memset(buffer->impl, 0xff, size); /* NaN: nobody may rely on fresh memory */
    buffer->host = staging ? buffer->impl : NULL;
    test_counts.buffers++;
    return XFT_OK;
}

static void test_buffer_destroy(xft_buffer *buffer) {
    free(buffer->impl);
    test_counts.buffers--;
}

static xft_status transfer(xft_device *device) {
    if (++test_counts.transfers == test_driver.lose_at_transfer) return lose(device);
    device->counters.waits++;
    return run_until(device, UINT64_MAX);
}

static xft_status test_buffer_write(xft_buffer *buffer, uint64_t offset, const void *data, uint64_t bytes) {
    XFT_TRY(transfer(buffer->device));
    memcpy((uint8_t *)buffer->impl + offset, data, bytes);
    return XFT_OK;
}

static xft_status test_buffer_read(xft_buffer *buffer, uint64_t offset, void *data, uint64_t bytes) {
    XFT_TRY(transfer(buffer->device));
    memcpy(data, (const uint8_t *)buffer->impl + offset, bytes);
    return XFT_OK;
}

static xft_status test_kernel_create(xft_device *device, xft_kernel *kernel) {
    (void)kernel;
    XFT_TRY(allocate(device, "kernel"));
    test_counts.kernels++;
    return XFT_OK;
}

static void test_kernel_destroy(xft_device *device, xft_kernel *kernel) {
    (void)device;
    (void)kernel;
    test_counts.kernels--;
}

static xft_status test_program_create(xft_program *program) {
    XFT_TRY(allocate(program->device, "program"));
    test_counts.programs++;
    return XFT_OK;
}

static void test_program_destroy(xft_program *program) {
    (void)program;
    test_counts.programs--;
}

static xft_status test_submit(xft_program *program, uint32_t slot, uint64_t *ticket) {
    xft_device *device = program->device;
    test_device *d = device->impl;
    XFT_TRY(check_lost(device));
    if (++test_counts.submits == test_driver.lose_at_submit) return lose(device);
    if (d->queue_count == d->queue_room) {
        uint32_t room = d->queue_room ? 2 * d->queue_room : 8;
        pending *grown = realloc(d->queue, room * sizeof *grown);
        XFT_FAIL_IF(!grown, XFT_ERROR_OUT_OF_HOST_MEMORY, "test driver: no memory for the queue");
        d->queue = grown;
        d->queue_room = room;
    }
    *ticket = ++d->submitted;
    d->queue[d->queue_count++] = (pending){program, slot, *ticket};
    device->counters.submits += program->cut_count;
    for (uint32_t i = 0; i < program->count; i++) {
        device->counters.dispatches += program->commands[i].kind == XFT_COMMAND_DISPATCH;
        device->counters.barriers += program->commands[i].kind == XFT_COMMAND_BARRIER;
    }
    return test_driver.late ? XFT_OK : run_until(device, *ticket);
}

static xft_status test_wait(xft_device *device, uint64_t ticket) {
    device->counters.waits += ticket > ((const test_device *)device->impl)->completed; /* else it is done */
    return run_until(device, ticket);
}

static bool test_done(xft_device *device, uint64_t ticket) {
    const test_device *d = device->impl;
    return ticket <= (test_driver.lie_about_done ? d->submitted : d->completed);
}

static xft_status test_timings(xft_program *program, uint32_t slot, double *ms) {
    (void)slot;
    for (uint32_t i = 0; i < program->op_count; i++) ms[i] = 0;
    return check_lost(program->device);
}

const xft_driver xft_test_driver = {
    .api = XFT_API_OTHER,
    .name = "test",
    .enumerate = test_enumerate,
    .open = test_open,
    .close = test_close,
    .memory = test_memory,
    .buffer_create = test_buffer_create,
    .buffer_destroy = test_buffer_destroy,
    .buffer_write = test_buffer_write,
    .buffer_read = test_buffer_read,
    .kernel_create = test_kernel_create,
    .kernel_destroy = test_kernel_destroy,
    .program_create = test_program_create,
    .program_destroy = test_program_destroy,
    .submit = test_submit,
    .wait = test_wait,
    .done = test_done,
    .timings = test_timings,
};

xft_status test_device_open(const xft_device_options *options, xft_device **device) {
    xft_open_request request = {.info = &description, .options = options};
    return xft_device_open_with(&xft_test_driver, &request, device);
}
