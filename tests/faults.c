/* xft_faults: every allocation of a scenario, of the host and of the driver, fails once and from there on; the device
 * is lost at every submit and at every transfer. Each time the failure must be a clean error (a status with a message,
 * or none when the library can do without), the same device or a fresh one must serve afterwards, and nothing may be
 * left alive. Run plainly, under valgrind and with sanitizers; Criterion's processes would hide leaks.
 *
 * The linker's --wrap puts the library's calls of malloc and its kin through this file.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver_test.h"
#include "xft/ops.h"

/* ---- Host memory that can fail ---- */

static struct {
    uint32_t count, fail_at;
    bool forever;
    int64_t alive;
} host;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *memory);

static bool refused(void) {
    host.count++;
    return host.fail_at && (host.count == host.fail_at || (host.forever && host.count > host.fail_at));
}

static void *counted(void *memory) {
    host.alive += memory != NULL;
    return memory;
}

void *__wrap_malloc(size_t size) {
    return refused() ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size) {
    return refused() ? NULL : counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *old, size_t size) {
    if (refused()) return NULL;
    void *memory = __real_realloc(old, size);
    host.alive += !old && memory;
    return memory;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    return refused() ? NULL : counted(__real_aligned_alloc(alignment, size));
}

char *__wrap_strdup(const char *text) {
    return refused() ? NULL : counted(__real_strdup(text));
}

void __wrap_free(void *memory) {
    host.alive -= memory != NULL;
    __real_free(memory);
}

/* ---- The scenario: devices, memory, a recording with two ops and the staging ring, four replays ---- */

enum { ROWS = 5, COLS = 7, STEPS = 4 };
static uint32_t problems;

static void problem(const char *what, const char *where, uint32_t number) {
    printf("FAILED %s %u: %s\n", where, number, what);
    problems++;
}

static xft_status record(xft_stream *stream, const xft_tensor *t, uint64_t *in, uint64_t *out) {
    XFT_TRY(xft_stream_input(stream, &t[0], in));
    XFT_TRY(xft_add(stream, &t[0], &t[1], &t[2]));
    XFT_TRY(xft_add(stream, &t[2], &t[1], &t[3]));
    XFT_TRY(xft_stream_output(stream, &t[3], out));
    return xft_stream_finish(stream);
}

/* *sum: of all that came out. */
static xft_status replay(xft_stream *stream, const xft_tensor *t, uint64_t in, uint64_t out, double *sum) {
    *sum = 0;
    for (uint32_t step = 0; step < STEPS; step++) {
        void *slot;
        const void *values;
        uint64_t ticket;
        XFT_TRY(xft_stream_inputs(stream, &slot));
        float *x = (float *)(void *)((char *)slot + in);
        for (uint32_t i = 0; i < ROWS * t[0].pitch; i++) x[i] = (float)step;
        XFT_TRY(xft_stream_submit(stream, &ticket));
        XFT_TRY(xft_stream_outputs(stream, ticket, &values));
        const float *y = (const float *)(const void *)((const char *)values + out);
        for (uint32_t row = 0; row < ROWS; row++)
            for (uint32_t column = 0; column < COLS; column++) *sum += y[row * t[3].pitch + column];
    }
    return XFT_OK;
}

static xft_status use(xft_device *device, double *sum) {
    const uint32_t shape[] = {ROWS, COLS};
    xft_arena *arena = NULL;
    xft_stream *stream = NULL;
    xft_tensor t[4];
    float ones[ROWS * COLS];
    uint64_t in, out;
    const char *choices;
    for (uint32_t i = 0; i < ROWS * COLS; i++) ones[i] = 1;
    xft_status status = xft_arena_create(device, "faults", 0, &arena);
    for (uint32_t i = 0; status == XFT_OK && i < 4; i++) status = xft_tensor_create(arena, XFT_F32, 2, shape, &t[i]);
    if (status == XFT_OK) status = xft_tensor_write(&t[1], XFT_F32, ones);
    if (status == XFT_OK) status = xft_stream_create(device, &(xft_stream_options){.timers = true}, &stream);
    if (status == XFT_OK) status = record(stream, t, &in, &out);
    if (status == XFT_OK) status = replay(stream, t, in, out, sum);
    if (status == XFT_OK) status = xft_stream_reset(stream); /* and once more */
    if (status == XFT_OK) status = record(stream, t, &in, &out);
    if (status == XFT_OK) status = replay(stream, t, in, out, sum);
    if (status == XFT_OK) status = xft_tensor_read(&t[3], XFT_F32, ones);
    if (status == XFT_OK) status = xft_device_choices(device, &choices);
    xft_stream_destroy(stream);
    xft_arena_destroy(arena);
    return status;
}

static bool right(double sum) {
    return sum == ROWS * COLS * (STEPS * (STEPS - 1) / 2 + 2 * STEPS);
}

typedef xft_status (*opener)(const xft_device_options *options, xft_device **device);

/* Opens, uses, uses again when the first use failed and `again`, closes. *fault: status of the failing call. */
static void scenario(opener open, const char *cache_dir, const char *where, uint32_t number, bool again,
                     xft_status *fault) {
    /* Without a submit budget the device is not timed, which would take longer than all the rest. */
    xft_device_options options = {
        .debug = XFT_DEBUG_HAZARDS | XFT_DEBUG_CANARIES, .cache_dir = cache_dir, .submit_budget_ms = -1};
    xft_device *device = NULL;
    double sum = 0;
    xft_fail(XFT_OK, "old");
    *fault = open(&options, &device);
    if (*fault == XFT_OK) *fault = use(device, &sum);
    if (*fault != XFT_OK && !strcmp(xft_error(), "old")) problem("an error without a message", where, number);
    if (*fault == XFT_OK && !right(sum)) problem("a wrong result", where, number);
    if (*fault != XFT_OK && device && again) {
        host.fail_at = 0;
        test_driver.fail_allocation = 0;
        if (use(device, &sum) != XFT_OK || !right(sum)) problem("the device does not serve afterwards", where, number);
    }
    xft_device_close(device);
}

static void check_alive(const char *where, uint32_t number, int64_t before) {
    if (test_counts.devices || test_counts.buffers || test_counts.kernels || test_counts.programs)
        problem("objects of the driver are left alive", where, number);
    if (host.alive != before) problem("host memory is left alive", where, number);
    test_counts = (test_driver_counts){0};
}

static void fail_host(opener open, const char *cache_dir, const char *what, bool forever) {
    xft_status fault;
    uint32_t n = 0, reached;
    do {
        int64_t before = host.alive;
        host.count = 0;
        host.fail_at = ++n;
        host.forever = forever;
        scenario(open, cache_dir, what, n, !forever, &fault);
        reached = host.count;
        host.fail_at = 0;
        check_alive(what, n, before);
        if (fault != XFT_OK && fault != XFT_ERROR_OUT_OF_HOST_MEMORY && fault != XFT_ERROR_OUT_OF_DEVICE_MEMORY)
            problem(xft_error(), what, n);
    } while (reached >= n);
    printf("%-40s %4u allocations failed %s\n", what, n - 1, forever ? "from there on" : "once");
}

static void fail_driver(bool forever) {
    xft_status fault;
    uint32_t n = 0, reached;
    do {
        int64_t before = host.alive;
        test_driver = (test_driver_settings){.fail_allocation = ++n, .fail_forever = forever};
        scenario(test_device_open, "", "driver allocation", n, !forever, &fault);
        reached = test_counts.allocations;
        test_driver = (test_driver_settings){0};
        check_alive("driver allocation", n, before);
        if (reached >= n && fault != XFT_ERROR_OUT_OF_DEVICE_MEMORY)
            problem("not XFT_ERROR_OUT_OF_DEVICE_MEMORY", "driver allocation", n);
    } while (reached >= n);
    printf("%-40s %4u allocations failed %s\n", "driver", n - 1, forever ? "from there on" : "once");
}

static void lose_device(bool at_submit) {
    const char *where = at_submit ? "submit" : "transfer";
    xft_status fault = XFT_OK;
    uint32_t n = 0;
    do {
        int64_t before = host.alive;
        test_driver = at_submit ? (test_driver_settings){.lose_at_submit = ++n, .late = n % 2}
                                : (test_driver_settings){.lose_at_transfer = ++n};
        scenario(test_device_open, "", where, n, false, &fault);
        test_driver = (test_driver_settings){0};
        check_alive(where, n, before);
        if (fault != XFT_OK && fault != XFT_ERROR_DEVICE_LOST) problem("not XFT_ERROR_DEVICE_LOST", where, n);
    } while (fault != XFT_OK);
    printf("device lost at %-25s %4u times\n", where, n - 1);
    if (n == 1) problem("the device was never lost", where, n);
}

static const char *real_name;
static xft_status open_real(const xft_device_options *options, xft_device **device) {
    return xft_device_open(real_name, options, device);
}

int main(int argc, char **argv) {
    const char *cache_dir = argc > 1 ? argv[1] : "";
    json_set_alloc_funcs(malloc, free);
    xft_status fault;
    scenario(test_device_open, cache_dir, "nothing fails", 0, false, &fault);
    if (fault != XFT_OK) problem(xft_error(), "nothing fails", 0);
    for (int forever = 0; forever < 2; forever++) {
        fail_host(test_device_open, cache_dir, "host, test driver", forever);
        fail_driver(forever);
    }
    lose_device(true);
    lose_device(false);
    for (int i = 2; i < argc; i++) { /* host memory fails under a real driver */
        real_name = argv[i];
        fail_host(open_real, cache_dir, real_name, false);
    }
    printf("%u problems\n", problems);
    return problems != 0;
}
