/* Suite `runtime`: recorded streams, staging ring, barriers and their checker, timers, split submits. */
#include "driver_test.h"
#include "fixture.h"
#include "stream.h"

#include <stdlib.h>

/* y = x + one, z = y + x, with x from the staging ring and z back through it. */
typedef struct chain {
    xft_device *device;
    xft_arena *arena;
    xft_stream *stream;
    xft_tensor x, one, y, z;
    uint64_t in, out;
} chain;

enum { ROWS = 6, COLS = 10 };

static void record_chain(chain *c) {
    OK(xft_stream_input(c->stream, &c->x, &c->in));
    OK(xft_add(c->stream, &c->x, &c->one, &c->y));
    OK(xft_add(c->stream, &c->y, &c->x, &c->z));
    OK(xft_stream_output(c->stream, &c->z, &c->out));
    OK(xft_stream_finish(c->stream));
}

static chain make_chain(xft_device *device, const xft_stream_options *options) {
    chain c = {.device = device};
    OK(xft_arena_create(device, "chain", 0, &c.arena));
    c.x = fixture_tensor(c.arena, ROWS, COLS, 0, 0);
    c.one = fixture_tensor(c.arena, ROWS, COLS, 1, 0);
    c.y = fixture_tensor(c.arena, ROWS, COLS, 0, 0);
    c.z = fixture_tensor(c.arena, ROWS, COLS, 0, 0);
    OK(xft_stream_create(device, options, &c.stream));
    record_chain(&c);
    return c;
}

static void close_chain(chain *c) {
    fixture_close(c->device, c->arena, c->stream);
}

static uint64_t submit(chain *c, float value) {
    void *slot;
    uint64_t ticket;
    OK(xft_stream_inputs(c->stream, &slot));
    float *x = (float *)(void *)((char *)slot + c->in);
    for (uint32_t i = 0; i < ROWS * c->x.pitch; i++) x[i] = value;
    OK(xft_stream_submit(c->stream, &ticket));
    return ticket;
}

/* All elements of z, or -1 when they are not all the same. */
static float result(chain *c, uint64_t ticket) {
    const void *values;
    OK(xft_stream_outputs(c->stream, ticket, &values));
    const float *z = (const float *)(const void *)((const char *)values + c->out);
    for (uint32_t row = 0; row < ROWS; row++)
        for (uint32_t column = 0; column < COLS; column++)
            if (z[row * c->z.pitch + column] != z[0]) return -1;
    return z[0];
}

/* ---- Wrong use ---- */

Test(stream, wrong_arguments) {
    xft_device *device = fixture_open(NULL);
    xft_stream *stream;
    xft_arena *arena;
    REFUSES(xft_stream_create(device, NULL, NULL), XFT_ERROR_INVALID_ARGUMENT, "stream");
    REFUSES(xft_stream_create(NULL, NULL, &stream), XFT_ERROR_INVALID_ARGUMENT, "device");
    REFUSES(xft_stream_create(device, &(xft_stream_options){.slots = XFT_MOST_SLOTS + 1}, &stream),
            XFT_ERROR_INVALID_ARGUMENT, "slots");
    OK(xft_arena_create(device, "wrong", 0, &arena));
    OK(xft_stream_create(device, &(xft_stream_options){.name = "wrong use"}, &stream));
    xft_tensor a = fixture_tensor(arena, 2, 3, 0, 1), b = fixture_tensor(arena, 2, 3, 0, 1);
    uint64_t at, ticket;
    uint32_t count = 0;
    void *slot;
    const void *values;
    REFUSES(xft_stream_reset(NULL), XFT_ERROR_INVALID_ARGUMENT, "stream");
    REFUSES(xft_stream_finish(NULL), XFT_ERROR_INVALID_ARGUMENT, "stream");
    REFUSES(xft_stream_run(NULL), XFT_ERROR_INVALID_ARGUMENT, "stream");
    REFUSES(xft_stream_submit(NULL, &ticket), XFT_ERROR_INVALID_ARGUMENT, "stream");
    REFUSES(xft_stream_wait(NULL, 1), XFT_ERROR_INVALID_ARGUMENT, "stream");
    REFUSES(xft_stream_inputs(NULL, &slot), XFT_ERROR_INVALID_ARGUMENT, "stream");
    REFUSES(xft_stream_outputs(NULL, 1, &values), XFT_ERROR_INVALID_ARGUMENT, "stream");
    REFUSES(xft_stream_timings(NULL, &count, NULL, NULL), XFT_ERROR_INVALID_ARGUMENT, "stream");
    REFUSES(xft_stream_check_hazards(NULL, 0, NULL), XFT_ERROR_INVALID_ARGUMENT, "stream");
    REFUSES(xft_stream_input(NULL, &a, &at), XFT_ERROR_INVALID_ARGUMENT, "stream");
    REFUSES(xft_stream_output(NULL, &a, &at), XFT_ERROR_INVALID_ARGUMENT, "stream");
    REFUSES(xft_stream_submit(stream, &ticket), XFT_ERROR_INVALID_ARGUMENT, "not finished");
    REFUSES(xft_stream_wait(stream, 1), XFT_ERROR_INVALID_ARGUMENT, "not finished");
    REFUSES(xft_stream_inputs(stream, &slot), XFT_ERROR_INVALID_ARGUMENT, "not finished");
    REFUSES(xft_stream_inputs(stream, NULL), XFT_ERROR_INVALID_ARGUMENT, "slot");
    REFUSES(xft_stream_check_hazards(stream, 0, NULL), XFT_ERROR_INVALID_ARGUMENT, "not finished");
    OK(xft_add(stream, &a, &a, &b));
    REFUSES(xft_stream_input(stream, &a, &at), XFT_ERROR_INVALID_ARGUMENT, "first op");
    REFUSES(xft_stream_finish(stream), XFT_ERROR_INVALID_ARGUMENT, "first op"); /* it stuck */
    OK(xft_stream_reset(stream));
    OK(xft_add(stream, &a, &a, &b));
    OK(xft_stream_finish(stream));
    REFUSES(xft_stream_finish(stream), XFT_ERROR_INVALID_ARGUMENT, "finished already");
    REFUSES(xft_stream_inputs(stream, &slot), XFT_ERROR_INVALID_ARGUMENT, "wrong use");
    OK(xft_stream_submit(stream, &ticket));
    REFUSES(xft_stream_outputs(stream, ticket, &values), XFT_ERROR_INVALID_ARGUMENT, "ticket");
    REFUSES(xft_stream_outputs(stream, ticket, NULL), XFT_ERROR_INVALID_ARGUMENT, "values");
    REFUSES(xft_stream_timings(stream, &count, NULL, NULL), XFT_ERROR_UNSUPPORTED, "timers");
    REFUSES(xft_stream_timings(stream, NULL, NULL, NULL), XFT_ERROR_INVALID_ARGUMENT, "count");
    OK(xft_stream_wait(stream, ticket));
    REFUSES(xft_add(stream, &a, &a, &b), XFT_ERROR_INVALID_ARGUMENT, "finish");
    xft_stream_destroy(NULL);
    fixture_close(device, arena, stream);
}

Test(stream, first_error_sticks) {
    xft_device *device = fixture_open(NULL);
    xft_stream *stream;
    xft_arena *arena;
    OK(xft_arena_create(device, "sticky", 0, &arena));
    OK(xft_stream_create(device, NULL, &stream));
    xft_tensor a = fixture_tensor(arena, 2, 3, 0, 1), b = fixture_tensor(arena, 2, 4, 0, 1);
    REFUSES(xft_add(stream, &a, &a, &b), XFT_ERROR_INVALID_ARGUMENT, "y has 4 columns; expected 3");
    REFUSES(xft_add(stream, &a, &a, NULL), XFT_ERROR_INVALID_ARGUMENT, "y has 4 columns; expected 3");
    REFUSES(xft_stream_finish(stream), XFT_ERROR_INVALID_ARGUMENT, "y has 4 columns; expected 3");
    REFUSES(xft_stream_submit(stream, NULL), XFT_ERROR_INVALID_ARGUMENT, "y has 4 columns; expected 3");
    fixture_close(device, arena, stream);
}

/* ---- Replays ---- */

static void check_outputs_one_step_late(xft_device *device, uint32_t slots) {
    chain c = make_chain(device, &(xft_stream_options){.slots = slots});
    xft_device_counters before, after;
    uint64_t previous = submit(&c, 0);
    xft_device_get_counters(device, &before);
    for (uint32_t step = 1; step <= 10; step++) {
        uint64_t ticket = submit(&c, (float)step);
        cr_expect_gt(ticket, previous);
        if (slots > 1) cr_expect_eq(result(&c, previous), 2 * (float)(step - 1) + 1);
        previous = ticket;
    }
    cr_expect_eq(result(&c, previous), 21);
    xft_device_get_counters(device, &after);
    /* no more than one wait for the slot and one for the outputs of a step */
    cr_expect_leq(after.waits - before.waits, 21, "%d waits", (int)(after.waits - before.waits));
    cr_expect_geq(after.submits - before.submits, 10);
    cr_expect_eq(after.dispatches - before.dispatches, 20);
    OK(xft_stream_reset(c.stream));
    record_chain(&c);
    cr_expect_eq(result(&c, submit(&c, 100)), 201);
    const void *values;
    REFUSES(xft_stream_outputs(c.stream, 9999, &values), XFT_ERROR_INVALID_ARGUMENT, "9999");
    close_chain(&c);
}

Test(stream, outputs_one_step_late) {
    for (uint32_t slots = 1; slots <= 3; slots++) check_outputs_one_step_late(fixture_open(NULL), slots);
}

static xft_device *open_test_driver(test_driver_settings settings) {
    xft_device *device;
    test_driver = settings;
    /* no budget: the device is not timed, so that submits are those of the test */
    OK(test_device_open(&(xft_device_options){.debug = XFT_DEBUG_HAZARDS, .cache_dir = "", .submit_budget_ms = -1},
                        &device));
    return device;
}

Test(stream, outputs_one_step_late_when_all_runs_late) {
    for (uint32_t slots = 1; slots <= 3; slots++)
        check_outputs_one_step_late(open_test_driver((test_driver_settings){.late = true, .shuffle = slots}), slots);
    cr_expect_eq(test_counts.buffers + test_counts.kernels + test_counts.programs + test_counts.devices, 0);
}

/* A planted bug: nothing heeds the barriers. What runs in any order between them must show it. */
Test(stream, disorder_is_noticed) {
    chain c =
        make_chain(open_test_driver((test_driver_settings){.late = true, .shuffle = 1, .ignore_barriers = true}), NULL);
    float first = result(&c, submit(&c, 1)), second = result(&c, submit(&c, 2));
    cr_expect(first != 3 || second != 5, "the tests of order would not notice");
    close_chain(&c);
}

/* The sum of what every replay added: wrong when a staging slot was overwritten before it was read. */
static float sum_of_late_steps(bool lie) {
    chain c = make_chain(open_test_driver((test_driver_settings){.late = true, .lie_about_done = lie}), NULL);
    xft_stream *sum;
    xft_tensor total = fixture_tensor(c.arena, ROWS, COLS, 0, 0);
    OK(xft_stream_create(c.device, NULL, &sum));
    uint64_t at;
    OK(xft_stream_input(sum, &c.x, &at));
    OK(xft_accumulate(sum, &c.x, &total));
    OK(xft_stream_finish(sum));
    for (uint32_t step = 1; step <= 6; step++) {
        void *slot;
        OK(xft_stream_inputs(sum, &slot));
        float *x = (float *)(void *)((char *)slot + at);
        for (uint32_t i = 0; i < ROWS * c.x.pitch; i++) x[i] = (float)step;
        OK(xft_stream_submit(sum, NULL));
    }
    test_driver.lie_about_done = false;
    float back[ROWS * COLS];
    OK(xft_tensor_read(&total, XFT_F32, back));
    xft_stream_destroy(sum);
    close_chain(&c);
    return back[0];
}

/* A planted bug: a staging slot is reused too early, because the runtime is told that its reader has ended. */
Test(stream, staging_slot_waits_for_its_reader) {
    cr_expect_eq(sum_of_late_steps(false), 21);
    cr_expect_neq(sum_of_late_steps(true), 21, "the test would not notice");
}

Test(stream, lost_device_is_a_clean_error) {
    chain c = make_chain(open_test_driver((test_driver_settings){.lose_at_submit = 2}), NULL);
    cr_expect_eq(result(&c, submit(&c, 1)), 3);
    void *slot;
    float back[ROWS * COLS];
    OK(xft_stream_inputs(c.stream, &slot));
    REFUSES(xft_stream_submit(c.stream, NULL), XFT_ERROR_DEVICE_LOST, "lost");
    REFUSES(xft_stream_submit(c.stream, NULL), XFT_ERROR_DEVICE_LOST, "lost");
    REFUSES(xft_tensor_read(&c.z, XFT_F32, back), XFT_ERROR_DEVICE_LOST, "lost");
    close_chain(&c);
    cr_expect_eq(test_counts.buffers + test_counts.kernels + test_counts.programs + test_counts.devices, 0);
}

Test(stream, tickets_of_two_streams) {
    xft_device *device = fixture_open(NULL);
    chain a = make_chain(device, NULL), b = {.device = device, .arena = a.arena};
    b.x = a.z; /* the second stream takes what the first one leaves */
    b.one = a.one;
    b.y = fixture_tensor(a.arena, ROWS, COLS, 0, 0);
    OK(xft_stream_create(device, &(xft_stream_options){.name = "second"}, &b.stream));
    OK(xft_add(b.stream, &b.x, &b.one, &b.y));
    OK(xft_stream_finish(b.stream));
    uint64_t first = submit(&a, 5), second;
    OK(xft_stream_submit(b.stream, &second));
    cr_expect_gt(second, first);
    OK(xft_stream_wait(b.stream, second));
    float back[ROWS * COLS];
    OK(xft_tensor_read(&b.y, XFT_F32, back));
    cr_expect_eq(back[0], 12);
    xft_stream_destroy(b.stream);
    close_chain(&a);
}

/* ---- Barriers ---- */

/* A planted bug: each barrier of a recording removed in turn. */
Test(stream, every_barrier_is_missed) {
    chain c = make_chain(fixture_open(NULL), NULL);
    uint32_t barriers = 0;
    OK(xft_stream_check_hazards(c.stream, UINT32_MAX, &barriers));
    cr_expect_eq(barriers, 3, "input, add, add, output need 3 barriers; there are %u", barriers);
    for (uint32_t i = 0; i < barriers; i++)
        REFUSES(xft_stream_check_hazards(c.stream, i, NULL), XFT_ERROR_INVALID_ARGUMENT, "hazard");
    REFUSES(xft_stream_check_hazards(c.stream, 2, NULL), XFT_ERROR_INVALID_ARGUMENT, "output");
    close_chain(&c);
}

Test(stream, no_barrier_without_need) {
    xft_device *device = fixture_open(NULL);
    xft_arena *arena;
    xft_stream *stream;
    OK(xft_arena_create(device, "apart", 0, &arena));
    OK(xft_stream_create(device, NULL, &stream));
    xft_tensor x = fixture_tensor(arena, 8, 8, 0, 1), y = fixture_tensor(arena, 8, 8, 0, 0), top, bottom, z;
    OK(xft_tensor_rows(&y, 0, 4, &top));
    OK(xft_tensor_rows(&y, 4, 4, &bottom));
    OK(xft_tensor_rows(&x, 0, 4, &z));
    OK(xft_add(stream, &z, &z, &top)); /* two halves of one tensor, from one source */
    OK(xft_add(stream, &z, &z, &bottom));
    uint32_t barriers;
    OK(xft_stream_finish(stream));
    OK(xft_stream_check_hazards(stream, UINT32_MAX, &barriers));
    cr_expect_eq(barriers, 0);
    OK(xft_stream_reset(stream));
    OK(xft_add(stream, &z, &z, &top));
    OK(xft_add(stream, &z, &z, &top)); /* write after write */
    OK(xft_stream_finish(stream));
    OK(xft_stream_check_hazards(stream, UINT32_MAX, &barriers));
    cr_expect_eq(barriers, 1);
    fixture_close(device, arena, stream);
}

Test(stream, overlapping_arguments_are_refused) {
    xft_device *device = fixture_open(NULL);
    xft_arena *arena;
    xft_stream *stream;
    OK(xft_arena_create(device, "overlap", 0, &arena));
    OK(xft_stream_create(device, NULL, &stream));
    xft_tensor x = fixture_tensor(arena, 8, 8, 0, 1), a, b;
    OK(xft_tensor_rows(&x, 0, 4, &a));
    OK(xft_tensor_rows(&x, 3, 4, &b));
    REFUSES(xft_add(stream, &a, &a, &b), XFT_ERROR_INVALID_ARGUMENT, "overlap");
    fixture_close(device, arena, stream);
}

/* ---- Timers and split submits ---- */

Test(stream, timers) {
    xft_device *device = fixture_open(NULL);
    bool timestamps = xft_device_get_info(device)->timestamps;
    chain c = make_chain(device, &(xft_stream_options){.timers = true});
    uint32_t count = 0;
    if (!timestamps) {
        REFUSES(xft_stream_timings(c.stream, &count, NULL, NULL), XFT_ERROR_UNSUPPORTED, "the device has none");
        close_chain(&c);
        return;
    }
    double ms[8];
    const char *names[8];
    OK(xft_stream_timings(c.stream, &count, NULL, NULL));
    cr_assert_eq(count, 4);
    REFUSES(xft_stream_timings(c.stream, &count, ms, names), XFT_ERROR_INVALID_ARGUMENT, "never submitted");
    cr_expect_eq(result(&c, submit(&c, 1)), 3);
    OK(xft_stream_timings(c.stream, &count, ms, names));
    static const char *const expected[] = {"input", "add", "add", "output"};
    for (uint32_t i = 0; i < 4; i++) {
        cr_expect_str_eq(names[i], expected[i]);
        cr_expect(ms[i] >= 0 && ms[i] < 10000, "%s took %g ms", names[i], ms[i]);
    }
    count = 1;
    REFUSES(xft_stream_timings(c.stream, &count, ms, names), XFT_ERROR_INVALID_ARGUMENT, "room");
    close_chain(&c);
}

/* A product with its gradient, of a size that a small budget cuts. */
static void run_product(double budget_ms, float *out, uint32_t *cuts, uint32_t *dispatches) {
    enum { M = 150, N = 70, K = 90 };
    xft_device *device = fixture_open(&(xft_device_options){.submit_budget_ms = budget_ms});
    xft_arena *arena;
    xft_stream *stream;
    OK(xft_arena_create(device, "product", 0, &arena));
    OK(xft_stream_create(device, NULL, &stream));
    xft_tensor a = fixture_tensor(arena, M, K, -1, 0.00031f), b = fixture_tensor(arena, N, K, 1, -0.00027f);
    xft_tensor c = fixture_tensor(arena, M, N, 0, 0), d = fixture_tensor(arena, M, N, 0, 0);
    OK(xft_gemm(stream, XFT_NT, &a, &b, &c, false));
    OK(xft_add(stream, &c, &c, &d));
    OK(xft_gemm(stream, XFT_NT, &a, &b, &d, true));
    OK(xft_stream_run(stream));
    OK(xft_tensor_read(&d, XFT_F32, out));
    *cuts = stream->cut_count;
    *dispatches = 0;
    for (uint32_t i = 0; i < stream->command_count; i++)
        *dispatches += stream->commands[i].kind == XFT_COMMAND_DISPATCH;
    OK(xft_stream_check_hazards(stream, UINT32_MAX, NULL));
    fixture_close(device, arena, stream);
}

Test(stream, a_lowered_budget_gives_the_same_bits) {
    static float whole[150 * 70], split[150 * 70];
    uint32_t cuts, dispatches, whole_dispatches;
    run_product(-1, whole, &cuts, &whole_dispatches);
    cr_expect_eq(cuts, 1);
    run_product(0.01, split, &cuts, &dispatches);
    cr_expect_gt(cuts, 1, "nothing was cut");
    cr_expect_gt(dispatches, whole_dispatches, "nothing was split");
    cr_expect(!memcmp(whole, split, sizeof whole));
}
