/* Suite `runtime`: wrong arguments of every op. Each tensor of each small case is replaced in turn by NULL, by one of
 * another device, of another dtype, of another shape: the op refuses it, and its message names op and argument. On the
 * test driver, since the checks are the front's. */
#include "driver_test.h"
#include "fixture.h"
#include "op_case.h"

#include <math.h>
#include <stdio.h>

typedef enum wrong { WRONG_NULL, WRONG_DEVICE, WRONG_DTYPE, WRONG_COLUMNS, WRONG_ROWS, WRONG_COUNT } wrong;
enum { FREE_SHAPE = 1 << WRONG_COLUMNS | 1 << WRONG_ROWS };
static const char *const wrong_names[] = {"NULL", "another device", "another dtype", "a column more", "a row more"};

typedef struct scene {
    xft_device *device, *other;
    xft_arena *arena, *other_arena;
    uint32_t refused, accepted, numbers;
} scene;

/* What an op cannot refuse: an argument that may be absent, or the one that says how many rows or columns there are. */
static bool is_free(const op_case *c, const case_buffer *b, wrong w) {
    static const struct {
        const char *op, *argument;
        unsigned what; /* bits 1 << wrong */
    } list[] = {
        {"fill", "y", 1 << WRONG_DTYPE | FREE_SHAPE},
        {"random_normal", "y", FREE_SHAPE},
        {"bias", "y", 1 << WRONG_ROWS},
        {"column_sum", "x", 1 << WRONG_ROWS},
        {"reduce_sum", "x", FREE_SHAPE},
        {"embedding", "w", 1 << WRONG_ROWS},
        {"embedding_backward", "dw", 1 << WRONG_ROWS},
        {"rms_norm_backward", "dw", 1 << WRONG_NULL},
        {"rope", "table", 1 << WRONG_ROWS},
        {"swiglu_backward", "h", 1 << WRONG_NULL},
        {"swiglu_backward", "weights", FREE_SHAPE},         /* looked up by source; too few: below */
        {"swiglu_backward", "offsets", 1 << WRONG_COLUMNS}, /* any number of experts */
        {"segments", "segments", 1 << WRONG_ROWS},
        {"expert_group", "used", 1 << WRONG_NULL},
        {"gather_rows", "offsets", 1 << WRONG_COLUMNS},
        {"combine", "weights", 1 << WRONG_NULL},
        {"cross_entropy", "logits", 1 << WRONG_COLUMNS},
        {"sample", "logits", 1 << WRONG_COLUMNS},
        {"sum_squares", "g", FREE_SHAPE},
        {"sum_squares", "partial", 1 << WRONG_COLUMNS},
        {"step_begin", "partial", 1 << WRONG_COLUMNS},
        {"step_advance", "t", 1 << WRONG_COLUMNS},
        {"step_advance", "used", 1 << WRONG_NULL},
        {"adamw", "used", 1 << WRONG_NULL},
        {"adamw", "master", 1 << WRONG_NULL},
        {"adafactor_update", "used", 1 << WRONG_NULL},
        {"adafactor_update", "master", 1 << WRONG_NULL},
    };
    if (b->role == CASE_SCRATCH && (w == WRONG_COLUMNS || w == WRONG_ROWS)) return true;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (!strcmp(list[i].op, c->op) && !strcmp(list[i].argument, b->name) && list[i].what >> w & 1) return true;
    return false;
}

static xft_tensor make(scene *s, const case_buffer *b, wrong w) {
    uint32_t shape[4];
    xft_tensor t;
    memcpy(shape, b->shape, sizeof shape);
    if (w == WRONG_COLUMNS) shape[b->rank - 1]++;
    if (w == WRONG_ROWS) shape[0]++;
    xft_dtype dtype = w != WRONG_DTYPE ? b->dtype : b->dtype == XFT_U32 ? XFT_F32 : XFT_U32;
    OK(xft_tensor_create(w == WRONG_DEVICE ? s->other_arena : s->arena, dtype, b->rank, shape, &t));
    return t;
}

static void try_wrong(scene *s, const op_case *c, const xft_tensor *const *right, uint32_t i, wrong w) {
    const case_buffer *b = &c->buffers[i];
    const xft_tensor *arguments[CASE_MAX_BUFFERS];
    if (w == WRONG_ROWS && b->rank == 1) return;
    memcpy(arguments, right, sizeof arguments);
    xft_tensor t = {0};
    if (w != WRONG_NULL) t = make(s, b, w);
    arguments[i] = w == WRONG_NULL ? NULL : &t;
    xft_stream *stream;
    OK(xft_stream_create(s->device, NULL, &stream));
    xft_status status = c->record(stream, c, arguments);
    if (status != XFT_OK) {
        s->refused++;
        cr_expect_eq(status, XFT_ERROR_INVALID_ARGUMENT, "%s: %s is %s: %s", c->op, b->name, wrong_names[w],
                     xft_status_name(status));
        cr_expect(strstr(xft_error(), c->op), "%s: %s is %s: the message names no op: %s", c->op, b->name,
                  wrong_names[w], xft_error());
    } else if (!is_free(c, b, w)) {
        s->accepted++;
        cr_expect_fail("%s %s: %s is %s, and nothing is said", c->op, c->label, b->name, wrong_names[w]);
    }
    xft_stream_destroy(stream);
}

/* A number of the op (c->f: scale, eps, weight decay, …) is NaN or infinite. Memory may be filled with any. */
static void try_wrong_numbers(scene *s, const op_case *c, const xft_tensor *const *right) {
    static const float numbers[] = {NAN, INFINITY};
    for (uint32_t i = 0; i < 2 * sizeof c->f / sizeof *c->f; i++) {
        if (c->f[i / 2] == 0 || !strcmp(c->op, "fill")) continue;
        op_case wrong = *c;
        wrong.f[i / 2] = numbers[i % 2];
        xft_stream *stream;
        OK(xft_stream_create(s->device, NULL, &stream));
        cr_expect_eq(wrong.record(stream, &wrong, right), XFT_ERROR_INVALID_ARGUMENT, "%s takes %g as its number %u",
                     c->op, (double)numbers[i % 2], i / 2);
        cr_expect(strstr(xft_error(), c->op), "%s: the message names no op: %s", c->op, xft_error());
        xft_stream_destroy(stream);
        s->numbers++;
    }
}

/* Weights that are looked up by source: one entry is too few for several rows. */
static void try_few_weights(scene *s, const op_case *c, const xft_tensor *const *right) {
    if (strcmp(c->op, "swiglu_backward") || !right[1] || right[1]->shape[0] * right[1]->shape[1] == 1) return;
    const xft_tensor *arguments[CASE_MAX_BUFFERS];
    xft_tensor one = *right[1];
    memcpy(arguments, right, sizeof arguments);
    one.shape[0] = one.shape[1] = 1;
    arguments[1] = &one;
    xft_stream *stream;
    OK(xft_stream_create(s->device, NULL, &stream));
    cr_expect_eq(c->record(stream, c, arguments), XFT_ERROR_INVALID_ARGUMENT);
    cr_expect(strstr(xft_error(), "swiglu_backward: weights is [1,1]"), "%s", xft_error());
    xft_stream_destroy(stream);
}

static void visit(const op_case *c, void *user) {
    scene *s = user;
    xft_tensor tensors[CASE_MAX_BUFFERS];
    const xft_tensor *right[CASE_MAX_BUFFERS] = {0};
    uint64_t mark = xft_arena_mark(s->arena), other_mark = xft_arena_mark(s->other_arena);
    for (uint32_t i = 0; i < c->count; i++)
        if (c->buffers[i].rank) {
            tensors[i] = make(s, &c->buffers[i], WRONG_COUNT);
            right[i] = &tensors[i];
        }
    for (uint32_t i = 0; i < c->count; i++)
        for (int w = 0; c->buffers[i].rank && w < WRONG_COUNT; w++) try_wrong(s, c, right, i, (wrong)w);
    try_wrong_numbers(s, c, right);
    try_few_weights(s, c, right);
    /* no stream at all */
    cr_expect_eq(c->record(NULL, c, right), XFT_ERROR_INVALID_ARGUMENT, "%s without a stream", c->op);
    xft_arena_release(s->arena, mark);
    xft_arena_release(s->other_arena, other_mark);
}

Test(arguments, every_op_refuses_wrong_tensors) {
    scene s = {0};
    xft_device_options options = {.cache_dir = ""};
    OK(test_device_open(&options, &s.device));
    OK(test_device_open(&options, &s.other));
    OK(xft_arena_create(s.device, "arguments", 0, &s.arena));
    OK(xft_arena_create(s.other, "others", 0, &s.other_arena));
    for (uint32_t i = 0; i < case_family_count; i++) case_families[i](CASES_SMALL, NULL, visit, &s);
    cr_expect_gt(s.refused, 1000);
    cr_expect_gt(s.numbers, 20);
    fixture_close(s.device, s.arena, NULL);
    fixture_close(s.other, s.other_arena, NULL);
}
