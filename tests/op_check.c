#include "op_check.h"

#include "driver_test.h"
#include "stream.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *const op_functions[] = {
#define FUNCTION(name) #name,
#include "op_functions.def"
#undef FUNCTION
    NULL};

/* ---- Tolerances: normalised mean squared error against double ---- */

/* 16-bit outputs. Rounding to n bits of significand is off by 2^-n of a value at the worst, and its square is about 1/7
 * of that on the average over values of any size. A small output may be all worst case. */
enum { FEW = 128 };
static const double bf16_usual = 4e-6, bf16_worst = 0x1p-16, f16_usual = 1e-7, f16_worst = 0x1p-22;

/* Where theory predicts more than the default of the dtype. */
static const struct exception {
    const char *op, *buffer;
    xft_dtype dtype;
    double tolerance;
    const char *reason;
} exceptions[] = {
    {NULL, NULL, XFT_F32, 0, NULL},
};

static double default_tolerance(const op_case *c, const case_buffer *b) {
    bool few = case_elements(b) < FEW;
    switch (b->dtype) {
    case XFT_BF16:
        return few ? bf16_worst : bf16_usual;
    case XFT_F16:
        return few ? f16_worst : f16_usual;
    default:
        return c->product ? 1e-10 : 1e-9;
    }
}

static const struct exception *find_exception(const op_case *c, const case_buffer *b) {
    for (const struct exception *e = exceptions; e->op; e++)
        if (!strcmp(e->op, c->op) && !strcmp(e->buffer, b->name) && e->dtype == b->dtype) return e;
    return NULL;
}

static double tolerance_of(const op_case *c, const case_buffer *b) {
    const struct exception *e = find_exception(c, b);
    double usual = e ? e->tolerance : default_tolerance(c, b);
    return b->tolerance != 0 && b->tolerance < usual ? b->tolerance : usual;
}

void op_print_exceptions(void) {
    printf("tolerances (normalised mean squared error): f32 products 1e-10, other f32 1e-9, bf16 %.0e, f16 %.0e\n",
           bf16_usual, f16_usual);
    printf("exceptions:\n  any op, bf16 %.1e and f16 %.1e: outputs of fewer than %d elements, which may all round as "
           "badly as can be\n",
           bf16_worst, f16_worst, FEW);
    for (const struct exception *e = exceptions; e->op; e++)
        printf("  %s, %s %s %.1e: %s\n", e->op, e->buffer, xft_dtype_name(e->dtype), e->tolerance, e->reason);
}

/* ---- Memory of a tensor as stored: rows x pitch elements, padding included ---- */

typedef struct image {
    xft_tensor wide; /* [rows, pitch]: the padding as ordinary columns */
    uint32_t rows, cols;
    uint8_t *start, *result; /* content before the op and after the last run */
    uint8_t *first;          /* after the first run */
} image;

static size_t image_bytes(const image *m) {
    return (size_t)m->rows * m->wide.pitch * xft_dtype_size(m->wide.dtype);
}

static void *take(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory) abort();
    return memory;
}

static uint32_t encode(double value, const case_buffer *b, uint32_t column) {
    union {
        float f;
        uint32_t u;
    } x = {.f = (float)value};
    switch (b->dtype) {
    case XFT_F32:
        return x.u;
    case XFT_BF16:
        return xft_f32_to_bf16(x.f);
    case XFT_F16:
        return xft_f32_to_f16(x.f);
    case XFT_U32:
        break;
    }
    return column < 32 && b->float_columns >> column & 1 ? x.u : (uint32_t)value;
}

static uint32_t stored(const image *m, const uint8_t *memory, uint64_t row, uint32_t column) {
    uint64_t i = row * m->wide.pitch + column;
    if (xft_dtype_size(m->wide.dtype) == 2) return ((const uint16_t *)(const void *)memory)[i];
    return ((const uint32_t *)(const void *)memory)[i];
}

static double decode(uint32_t bits, const case_buffer *b, uint32_t column) {
    union {
        uint32_t u;
        float f;
    } x = {bits};
    switch (b->dtype) {
    case XFT_F32:
        return x.f;
    case XFT_BF16:
        return xft_bf16_to_f32((uint16_t)bits);
    case XFT_F16:
        return xft_f16_to_f32((uint16_t)bits);
    case XFT_U32:
        break;
    }
    return column < 32 && b->float_columns >> column & 1 ? (double)x.f : (double)bits;
}

/* Two kinds of poison: NaN, and the largest number. A result may depend on neither. */
static uint32_t poison_of(xft_dtype dtype, uint32_t kind) {
    if (kind == 0) return xft_dtype_size(dtype) == 2 ? 0xffff : 0xffffffffu;
    return dtype == XFT_BF16 ? 0x7f7f : dtype == XFT_F16 ? 0x7bff : 0x7f7fffffu;
}

static void fill_start(image *m, const case_buffer *b, uint32_t poison_kind) {
    uint32_t poison = poison_of(b->dtype, poison_kind);
    for (uint64_t row = 0, i = 0; row < m->rows; row++)
        for (uint32_t column = 0; column < m->wide.pitch; column++, i++) {
            uint32_t bits =
                b->values && column < m->cols ? encode(b->values[row * m->cols + column], b, column) : poison;
            if (xft_dtype_size(b->dtype) == 2)
                ((uint16_t *)(void *)m->start)[i] = (uint16_t)bits;
            else
                ((uint32_t *)(void *)m->start)[i] = bits;
        }
}

/* ---- Judging ---- */

static void fail(op_result *result, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(op_result *result, const char *format, ...) {
    if (!result->passed) return; /* the first reason stands */
    result->passed = false;
    va_list args;
    va_start(args, format);
    vsnprintf(result->message, sizeof result->message, format, args);
    va_end(args);
}

static bool unchanged(const image *m, const case_buffer *b, op_result *result) {
    if (!memcmp(m->start, m->result, image_bytes(m))) return true;
    for (uint64_t row = 0; row < m->rows; row++)
        for (uint32_t column = 0; column < m->wide.pitch; column++) {
            uint32_t before = stored(m, m->start, row, column), after = stored(m, m->result, row, column);
            if (before == after) continue;
            fail(result, "input %s was changed at [%llu,%u]%s: %08x became %08x", b->name, (unsigned long long)row,
                 column, column < m->cols ? "" : " (padding)", before, after);
            return false;
        }
    return false;
}

static void compare(const op_case *c, const image *m, const case_buffer *b, op_result *result) {
    double difference = 0, scale = 0, worst = -1, tolerance = tolerance_of(c, b);
    uint64_t worst_row = 0, compared = 0;
    uint32_t worst_column = 0;
    for (uint64_t row = 0; row < m->rows; row++)
        for (uint32_t column = 0; column < m->cols; column++) {
            double want = b->expected[row * m->cols + column];
            if (isnan(want)) continue;
            uint32_t bits = stored(m, m->result, row, column);
            double got = decode(bits, b, column);
            bool exact = tolerance < 0 || (b->dtype == XFT_U32 && !(column < 32 && b->float_columns >> column & 1));
            if (exact ? bits != encode(want, b, column) : !isfinite(got)) {
                fail(result, "%s[%llu,%u] is %.9g (%08x), expected %.9g%s", b->name, (unsigned long long)row, column,
                     got, bits, want, exact ? " exactly" : "");
                return;
            }
            double e = exact ? 0 : fabs(got - want);
            difference += e * e;
            scale += want * want;
            compared++;
            if (e > worst) worst = e, worst_row = row, worst_column = column;
        }
    if (tolerance < 0 || compared == 0) return;
    scale = fmax(scale, (double)compared * b->magnitude * b->magnitude);
    /* all expected values 0: every difference counts */
    double error = difference == 0 ? 0 : difference / fmax(scale, DBL_MIN);
    if (result->tolerance == 0 || error / tolerance > result->error / result->tolerance) {
        result->error = error;
        result->tolerance = tolerance;
    }
    if (error > tolerance) {
        double got = decode(stored(m, m->result, worst_row, worst_column), b, worst_column);
        fail(result, "%s: error %.3g > %.3g; farthest at [%llu,%u]: %.9g, expected %.9g", b->name, error, tolerance,
             (unsigned long long)worst_row, worst_column, got, b->expected[worst_row * m->cols + worst_column]);
    }
}

/* Elements that no reference speaks of keep what was there: they may differ between runs with different poison. `why`:
 * what a difference would mean. */
static void compare_runs(const image *m, const case_buffer *b, const char *why, op_result *result) {
    for (uint64_t row = 0; row < m->rows; row++)
        for (uint32_t column = 0; column < m->cols; column++) {
            uint32_t one = stored(m, m->first, row, column), two = stored(m, m->result, row, column);
            if (one == two || isnan(b->expected[row * m->cols + column])) continue;
            fail(result, "%s[%llu,%u] differs between two runs (%08x, %08x): %s", b->name, (unsigned long long)row,
                 column, one, two, why);
            return;
        }
}

/* ---- Declarations are true ---- */

/* Whether a case is small enough to be run in pieces. */
static bool is_small(const op_case *c, const image *images, const xft_stream *stream) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < c->count; i++) bytes += c->buffers[i].rank ? image_bytes(&images[i]) : 0;
    return bytes <= 1 << 20 && stream->command_count <= 64;
}

/* How an op of the recording declares to use the element of a tensor's memory that begins at byte `at`. */
static uint32_t declared(const xft_recorded *op, const image *m, uint64_t at) {
    uint32_t access = 0;
    for (uint32_t i = 0; i < op->range_count; i++) {
        const xft_range *r = &op->ranges[i];
        if (r->buffer == m->wide.buffer && r->begin <= m->wide.offset + at && m->wide.offset + at < r->end)
            access |= r->access;
    }
    return access;
}

/* Runs one command of the recording alone. */
static xft_status run_alone(const xft_stream *stream, const xft_command *command) {
    const uint32_t cut = 1;
    xft_program program = {.device = stream->device,
                           .commands = command,
                           .count = 1,
                           .cuts = &cut,
                           .cut_count = 1,
                           .slots = 1,
                           .op_count = stream->op_count};
    uint64_t ticket;
    XFT_TRY(stream->device->driver->program_create(&program));
    xft_status status = stream->device->driver->submit(&program, 0, &ticket);
    if (status == XFT_OK) status = stream->device->driver->wait(stream->device, ticket);
    stream->device->driver->program_destroy(&program);
    return status;
}

/* One dispatch on what `start` holds. Afterwards `start` holds what the next one finds. */
static xft_status check_dispatch(const op_case *c, image *images, const xft_stream *stream, const xft_command *command,
                                 op_result *result) {
    static const uint16_t poison = 0xfff1; /* NaN as f32 (twice), bf16, f16; and no row number */
    const xft_recorded *op = &stream->ops[command->op_index];
    for (uint32_t i = 0; i < c->count; i++) {
        image *m = &images[i];
        if (c->buffers[i].rank == 0) continue;
        uint32_t size = xft_dtype_size(m->wide.dtype);
        memcpy(m->result, m->start, image_bytes(m));
        for (uint64_t at = 0; at < image_bytes(m); at += size)
            if (!(declared(op, m, at) & XFT_READ))
                for (uint32_t b = 0; b < size; b += 2) memcpy(m->result + at + b, &poison, 2);
        XFT_TRY(xft_tensor_write(&m->wide, m->wide.dtype, m->result));
    }
    XFT_TRY(run_alone(stream, command));
    for (uint32_t i = 0; i < c->count; i++) {
        image *m = &images[i];
        if (c->buffers[i].rank == 0) continue;
        uint32_t size = xft_dtype_size(m->wide.dtype);
        XFT_TRY(xft_tensor_read(&m->wide, m->wide.dtype, m->result));
        for (uint64_t at = 0; at < image_bytes(m); at += size) {
            uint32_t access = declared(op, m, at), poisoned = poison * 0x10001u;
            bool is_poison = !memcmp(m->result + at, &poisoned, size);
            bool same = access & XFT_READ ? !memcmp(m->result + at, m->start + at, size) : is_poison;
            if (!(access & XFT_WRITE) && !same) {
                fail(result, "dispatch of %s wrote %s at byte %llu, which it does not declare as written", op->name,
                     c->buffers[i].name, (unsigned long long)at);
                return XFT_OK;
            }
            /* declared as written only, and left alone: the old content stays */
            if (access & XFT_WRITE && (access & XFT_READ || !is_poison)) memcpy(m->start + at, m->result + at, size);
        }
    }
    return XFT_OK;
}

static xft_status check_declarations(const op_case *c, image *images, const xft_stream *stream, op_result *result) {
    for (uint32_t i = 0; i < c->count; i++)
        if (c->buffers[i].rank) fill_start(&images[i], &c->buffers[i], 0);
    for (uint32_t i = 0; i < stream->command_count; i++)
        if (stream->commands[i].kind == XFT_COMMAND_DISPATCH)
            XFT_TRY(check_dispatch(c, images, stream, &stream->commands[i], result));
    for (uint32_t i = 0; i < c->count; i++) {
        image *m = &images[i];
        const case_buffer *b = &c->buffers[i];
        for (uint64_t row = 0; b->expected && row < m->rows; row++)
            for (uint32_t column = 0; column < m->cols; column++) {
                uint32_t alone = stored(m, m->start, row, column), together = stored(m, m->first, row, column);
                if (alone == together || isnan(b->expected[row * m->cols + column])) continue;
                fail(result, "%s[%llu,%u] is %08x, but %08x when memory that no dispatch declares as read holds NaN",
                     b->name, (unsigned long long)row, column, together, alone);
                return XFT_OK;
            }
    }
    return XFT_OK;
}

/* ---- Which kernels have run ---- */

enum { MAX_SOURCES = 1024 };
static bool has_run[MAX_SOURCES]; /* by number in xft_kernel_sources */

static void note_kernels(const xft_stream *stream) {
    uint32_t count;
    const xft_kernel_source *sources = xft_kernel_sources(&count);
    for (uint32_t i = 0; i < stream->command_count; i++)
        if (stream->commands[i].kind == XFT_COMMAND_DISPATCH)
            has_run[stream->commands[i].kernel->source - sources] = true;
}

/* Whether the case's forced form was taken: the ops fall back on another where there is none. */
static bool has_form(const op_case *c, const xft_stream *stream) {
    if (!c->form) return true;
    const size_t length = strcmp(c->form, "plain") && strncmp(c->form, "plain ", 6) ? strcspn(c->form, " ") : 0;
    for (uint32_t i = 0; i < stream->command_count; i++) {
        if (stream->commands[i].kind != XFT_COMMAND_DISPATCH) continue;
        const char *variant = stream->commands[i].kernel->source->variant;
        if (strlen(variant) == length && !strncmp(variant, c->form, length)) return true;
    }
    return false;
}

/* Why a kernel cannot run on the device at all, or NULL. */
static const char *excuse(const xft_kernel_source *s, const xft_device_info *info) {
    if (!strcmp(s->variant, "clblast")) return "a library's own kernels";
    if (s->size == 0) return "left out by this build's compiler";
    if (!strcmp(s->variant, "coopmat") && !info->cooperative_matrix) return "the device has no cooperative matrix";
    return NULL;
}

uint32_t op_print_coverage(const op_checker *checker) {
    uint32_t count, missing = 0, ran = 0;
    const xft_kernel_source *sources = xft_kernel_sources(&count);
    printf("kernels that ran:");
    for (uint32_t i = 0; i < count; i++)
        if (has_run[i])
            printf(" %s%s%s", xft_op_get_info(sources[i].op)->name, *sources[i].variant ? "." : "", sources[i].variant),
                ran++;
    printf("\n%u kernels ran\n", ran);
    for (uint32_t i = 0; i < count; i++) {
        const xft_kernel_source *s = &sources[i];
        if (s->api != checker->device->info.api || has_run[i]) continue;
        const char *reason = excuse(s, &checker->device->info);
        printf("%s: %s%s%s%s%s\n", reason ? "cannot run here" : "never run", xft_op_get_info(s->op)->name,
               *s->variant ? "." : "", s->variant, reason ? ": " : "", reason ? reason : "");
        missing += reason == NULL;
    }
    return missing;
}

/* ---- Running ---- */

static xft_status prepare(op_checker *k, const op_case *c, image *images, xft_tensor *tensors) {
    for (uint32_t i = 0; i < c->count; i++) {
        const case_buffer *b = &c->buffers[i];
        if (b->rank == 0) continue;
        image *m = &images[i];
        xft_status status = xft_tensor_create(k->arena, b->dtype, b->rank, b->shape, &tensors[i]);
        if (status) return status;
        m->rows = xft_rows(&tensors[i]);
        m->cols = xft_cols(&tensors[i]);
        m->wide = tensors[i];
        m->wide.rank = 2;
        m->wide.shape[0] = m->rows;
        m->wide.shape[1] = m->wide.pitch;
        m->wide.shape[2] = m->wide.shape[3] = 1;
        m->start = take(image_bytes(m));
        m->first = take(image_bytes(m));
        m->result = take(image_bytes(m));
    }
    return XFT_OK;
}

static xft_status run_once(const op_case *c, image *images, xft_stream *stream, uint32_t poison_kind) {
    xft_status status;
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->buffers[i].rank == 0) continue;
        fill_start(&images[i], &c->buffers[i], poison_kind);
        if ((status = xft_tensor_write(&images[i].wide, images[i].wide.dtype, images[i].start))) return status;
    }
    uint64_t ticket;
    if ((status = xft_stream_submit(stream, &ticket))) return status;
    if ((status = xft_stream_wait(stream, ticket))) return status;
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->buffers[i].rank == 0) continue;
        if ((status = xft_tensor_read(&images[i].wide, images[i].wide.dtype, images[i].result))) return status;
    }
    return XFT_OK;
}

static void judge(op_checker *k, const op_case *c, image *images, uint32_t run, op_result *result) {
    for (uint32_t i = 0; i < c->count; i++) {
        const case_buffer *b = &c->buffers[i];
        image *m = &images[i];
        if (b->rank == 0) continue;
        if (b->role == CASE_IN) unchanged(m, b, result);
        if (!b->expected) continue;
        if (run == 0)
            compare(c, m, b, result);
        else
            compare_runs(m, b, "the result is not deterministic, or depends on padding or on memory to be written",
                         result);
        memcpy(m->first, m->result, image_bytes(m));
    }
    if (k->device->options.debug & XFT_DEBUG_CANARIES && xft_arena_check(k->arena)) fail(result, "%s", xft_error());
}

/* The case under a submit budget that no op fits: dispatches go out in parts, down to single work-groups. */
static xft_status check_split(op_checker *k, const op_case *c, image *images, const xft_tensor *const *arguments,
                              op_result *result) {
    const double budget = k->device->options.submit_budget_ms;
    xft_stream *stream;
    XFT_TRY(xft_stream_create(k->device, NULL, &stream));
    xft_status status = c->record(stream, c, arguments);
    k->device->options.submit_budget_ms = 1e-3;
    if (status == XFT_OK) status = xft_stream_finish(stream);
    k->device->options.submit_budget_ms = budget;
    if (status == XFT_OK) status = run_once(c, images, stream, 0);
    for (uint32_t i = 0; i < c->count && status == XFT_OK; i++)
        if (c->buffers[i].expected)
            compare_runs(&images[i], &c->buffers[i], "an op split by a lowered submit budget gives other bits", result);
    xft_stream_destroy(stream);
    return status;
}

static xft_status check_stream(op_checker *k, const op_case *c, image *images, const xft_tensor *const *arguments,
                               xft_stream *stream, op_result *result) {
    note_kernels(stream);
    for (uint32_t run = 0; run < 2; run++) {
        XFT_TRY(run_once(c, images, stream, run));
        judge(k, c, images, run, result);
    }
    if (!is_small(c, images, stream)) return XFT_OK;
    XFT_TRY(check_declarations(c, images, stream, result));
    return check_split(k, c, images, arguments, result);
}

void op_check(op_checker *k, const op_case *c, op_result *result) {
    *result = (op_result){.passed = true};
    image images[CASE_MAX_BUFFERS] = {0};
    xft_tensor tensors[CASE_MAX_BUFFERS];
    const xft_tensor *arguments[CASE_MAX_BUFFERS] = {0};
    xft_stream *stream = NULL;
    uint64_t mark = xft_arena_mark(k->arena);
    for (uint32_t i = 0; i < c->count; i++) {
        const case_buffer *b = &c->buffers[i];
        if (b->rank) arguments[i] = &tensors[i];
        if (b->tolerance > default_tolerance(c, b) && !find_exception(c, b))
            fail(result, "%s: a tolerance of %.3g needs a line in the table of exceptions", b->name, b->tolerance);
    }
    bool ready = !prepare(k, c, images, tensors) && !xft_stream_create(k->device, NULL, &stream) &&
                 !c->record(stream, c, arguments) && !xft_stream_finish(stream);
    result->not_run = ready && !has_form(c, stream);
    if (!ready || (!result->not_run && check_stream(k, c, images, arguments, stream, result) != XFT_OK))
        fail(result, "%s", xft_error());
    xft_stream_destroy(stream);
    xft_arena_release(k->arena, mark);
    for (uint32_t i = 0; i < c->count; i++) {
        free(images[i].start);
        free(images[i].first);
        free(images[i].result);
    }
}

xft_status op_checker_open(op_checker *checker, const char *device, uint32_t debug) {
    *checker = (op_checker){0};
    xft_device_options options = {.debug = debug | XFT_DEBUG_HAZARDS | XFT_DEBUG_CANARIES | XFT_DEBUG_POISON};
    bool test = !strcmp(device, "test");
    if (test) test_driver = (test_driver_settings){.late = true, .shuffle = 1};
    xft_status status =
        test ? test_device_open(&options, &checker->device) : xft_device_open(device, &options, &checker->device);
    if (status) return status;
    status = xft_arena_create(checker->device, "cases", 0, &checker->arena);
    if (status) op_checker_close(checker);
    return status;
}

/* Nothing the checker made may be left. */
xft_status op_checker_close(op_checker *checker) {
    xft_arena_destroy(checker->arena);
    xft_device_counters left;
    xft_device_get_counters(checker->device, &left);
    const bool test = checker->device && checker->device->driver == &xft_test_driver;
    xft_device_close(checker->device);
    *checker = (op_checker){0};
    XFT_FAIL_IF(left.buffers || left.buffer_bytes || left.staging_bytes || left.programs, XFT_ERROR_DRIVER,
                "left when the device closes: %llu buffers with %llu bytes, %llu programs; expected none",
                (unsigned long long)left.buffers, (unsigned long long)left.buffer_bytes,
                (unsigned long long)left.programs);
    XFT_FAIL_IF(test && (test_counts.devices || test_counts.buffers || test_counts.kernels || test_counts.programs),
                XFT_ERROR_DRIVER, "left of the test driver: %u devices, %u buffers, %u kernels, %u programs",
                test_counts.devices, test_counts.buffers, test_counts.kernels, test_counts.programs);
    return XFT_OK;
}

struct visit {
    op_checker *checker;
    op_summary summary;
    void (*fail)(const op_case *c, const op_result *result);
};

/* Adds a form to a list of them, once. */
static void add_form(char *list, size_t room, const char *form) {
    const size_t end = strlen(list), length = strlen(form);
    for (const char *at = list; (at = strstr(at, form)); at += length)
        if ((at == list || at[-1] == ' ') && strchr(",", at[length])) return;
    snprintf(list + end, room - end, "%s%s", end ? ", " : "", form);
}

static void visit_case(const op_case *c, void *user) {
    struct visit *v = user;
    op_result result;
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    op_check(v->checker, c, &result);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    if (v->checker->verbose) printf("  %8.3f s  %s %s\n", seconds, c->op, c->label), fflush(stdout);
    op_summary *s = &v->summary;
    if (result.not_run) {
        add_form(s->not_run, sizeof s->not_run, c->form);
        if (result.passed) return;
    }
    s->cases++;
    if (!result.passed) {
        s->failed++;
        v->fail(c, &result);
    }
    if (result.tolerance > 0 && (s->tolerance == 0 || result.error / result.tolerance > s->error / s->tolerance)) {
        s->error = result.error;
        s->tolerance = result.tolerance;
    }
}

op_summary op_check_all(op_checker *checker, const char *op, case_set set,
                        void (*fail)(const op_case *c, const op_result *result)) {
    struct visit v = {.checker = checker, .fail = fail};
    for (uint32_t i = 0; i < case_family_count; i++) case_families[i](set, op, visit_case, &v);
    return v.summary;
}
