/* Cases of data movement and sums. */
#include "op_case.h"
#include "reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const xft_dtype data_types[][2] = {
    {XFT_F32, XFT_F32}, {XFT_BF16, XFT_BF16}, {XFT_F32, XFT_BF16}, {XFT_BF16, XFT_F32}};

/* The first few for CASES_SMALL; the last one for the benchmark alone. */
static const uint32_t shapes[][2] = {{3, 5},    {1, 1},    {17, 31},  {1, 4099},  {513, 7},
                                     {64, 576}, {2, 4096}, {5, 9001}, {20011, 3}, {2048, 576}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Range of `shapes` for a set. */
static uint32_t first_shape(case_set set) {
    return set == CASES_BENCH ? SHAPES - 1 : 0;
}
static uint32_t end_shape(case_set set) {
    return set == CASES_SMALL ? 1 : set == CASES_FULL ? SHAPES - 1 : SHAPES;
}

/* ---- fill ---- */

static xft_status record_fill(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_fill(stream, t[0], c->f[0]);
}

static void fill_case(uint32_t rows, uint32_t cols, xft_dtype dtype, float value, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "fill", "[%u,%u] %s with %g", rows, cols, xft_dtype_name(dtype), (double)value);
    case_buffer *y = case_add(&c, NULL, "y", CASE_OUT, dtype, 0, 2, rows, cols);
    y->tolerance = -1;
    for (uint64_t i = 0; i < case_elements(y); i++) y->expected[i] = case_round((double)value, dtype);
    c.f[0] = value;
    c.record = record_fill;
    case_work(&c, 0);
    visit(&c, user);
    case_free(&c);
}

static void cases_fill(case_set set, case_visitor visit, void *user) {
    for (uint32_t i = first_shape(set); i < end_shape(set); i++) {
        fill_case(shapes[i][0], shapes[i][1], XFT_F32, -1.7f, visit, user);
        fill_case(shapes[i][0], shapes[i][1], XFT_BF16, 0.1f, visit, user);
        fill_case(shapes[i][0], shapes[i][1], XFT_F16, 1e-6f, visit, user);
        fill_case(shapes[i][0], shapes[i][1], XFT_U32, 77, visit, user);
    }
}

/* ---- copy ---- */

static xft_status record_copy(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_copy(stream, t[0], t[1]);
}

static void copy_case(uint32_t rows, uint32_t cols, xft_dtype dtype, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "copy", "[%u,%u] %s", rows, cols, xft_dtype_name(dtype));
    case_random r = case_seed(c.label);
    case_buffer *x = case_add(&c, &r, "x", CASE_IN, dtype, 1, 2, rows, cols);
    /* u32 of all sizes: what f32 would round, what it would take for NaN and for subnormal */
    for (uint64_t i = 0; dtype == XFT_U32 && i < case_elements(x); i++)
        x->values[i] = case_round(ldexp(case_uniform(&r), 1 + (int)case_below(&r, 32)), dtype);
    case_buffer *y = case_add(&c, &r, "y", CASE_OUT, dtype, 0, 2, rows, cols);
    y->tolerance = -1;
    memcpy(y->expected, x->values, case_elements(x) * sizeof *x->values);
    c.record = record_copy;
    case_work(&c, 0);
    visit(&c, user);
    case_free(&c);
}

static void cases_copy(case_set set, case_visitor visit, void *user) {
    for (uint32_t i = first_shape(set); i < end_shape(set); i++)
        for (uint32_t dtype = XFT_F32; dtype <= XFT_U32; dtype++)
            copy_case(shapes[i][0], shapes[i][1], (xft_dtype)dtype, visit, user);
}

/* ---- cast ---- */

static xft_status record_cast(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_cast(stream, t[0], t[2], (xft_rounding)c->u[0], t[1], c->u[1]);
}

static void cast_case(uint32_t rows, uint32_t cols, xft_dtype in, xft_dtype out, bool stochastic, case_visitor visit,
                      void *user) {
    op_case c;
    case_begin(&c, "cast", "[%u,%u] %s -> %s%s", rows, cols, xft_dtype_name(in), xft_dtype_name(out),
               stochastic ? ", stochastic" : "");
    case_random r = case_seed(c.label);
    case_buffer *x = case_add(&c, &r, "x", CASE_IN, in, 1, 2, rows, cols);
    /* Values of all sizes, down into the subnormal ones of f16. */
    for (uint64_t i = 0; i < case_elements(x); i++)
        x->values[i] = case_round(ldexp(x->values[i], -(int)case_below(&r, 26)), in);
    c.u[0] = stochastic ? XFT_ROUND_STOCHASTIC : XFT_ROUND_NEAREST;
    c.u[1] = 12;
    if (stochastic) {
        case_buffer *step = case_add(&c, &r, "step", CASE_IN, XFT_U32, 0, 1, 16);
        step->values[0] = 3;
        step->values[1] = 4000000001;
        step->values[2] = 7;
        step->values[3] = 1000;
    } else {
        case_add_null(&c, "step");
    }
    case_buffer *y = case_add(&c, &r, "y", CASE_OUT, out, 0, 2, rows, cols);
    y->tolerance = -1;
    uint32_t *step = stochastic ? case_u32(&c.buffers[1]) : NULL;
    xft_cast_params p = {rows, cols, cols, cols, c.u[1], 1};
    ref_cast(&(ref_call){.d = {x->values, NULL, y->expected},
                         .u = {NULL, step},
                         .params = &p,
                         .constants = (uint32_t[]){1, in, out, stochastic}});
    free(step);
    for (uint64_t i = 0; i < case_elements(y); i++) y->expected[i] = case_round(y->expected[i], out);
    c.record = record_cast;
    case_work(&c, 0);
    visit(&c, user);
    case_free(&c);
}

static void cases_cast(case_set set, case_visitor visit, void *user) {
    for (uint32_t i = first_shape(set); i < end_shape(set); i++) {
        for (uint32_t in = XFT_F32; in <= XFT_F16; in++)
            for (uint32_t out = XFT_F32; out <= XFT_F16; out++)
                cast_case(shapes[i][0], shapes[i][1], (xft_dtype)in, (xft_dtype)out, false, visit, user);
        cast_case(shapes[i][0], shapes[i][1], XFT_F32, XFT_BF16, true, visit, user);
    }
}

/* ---- add, accumulate, bias ---- */

static xft_status record_add(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_add(stream, t[0], t[1], t[2]);
}

static void add_case(uint32_t rows, uint32_t cols, xft_dtype in, xft_dtype out, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "add", "[%u,%u] %s -> %s", rows, cols, xft_dtype_name(in), xft_dtype_name(out));
    case_random r = case_seed(c.label);
    case_buffer *a = case_add(&c, &r, "a", CASE_IN, in, 1, 2, rows, cols);
    case_buffer *b = case_add(&c, &r, "b", CASE_IN, in, 1, 2, rows, cols);
    case_buffer *y = case_add(&c, &r, "y", CASE_OUT, out, 0, 2, rows, cols);
    xft_add_params p = {rows, cols, cols, cols, cols, 1};
    ref_add(&(ref_call){.d = {a->values, b->values, y->expected}, .params = &p});
    c.record = record_add;
    case_work(&c, (double)rows * cols);
    visit(&c, user);
    case_free(&c);
}

static xft_status record_accumulate(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_accumulate(stream, t[0], t[1]);
}

static void accumulate_case(uint32_t rows, uint32_t cols, xft_dtype in, xft_dtype out, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "accumulate", "[%u,%u] %s -> %s", rows, cols, xft_dtype_name(in), xft_dtype_name(out));
    case_random r = case_seed(c.label);
    case_buffer *x = case_add(&c, &r, "x", CASE_IN, in, 1, 2, rows, cols);
    case_buffer *y = case_add(&c, &r, "y", CASE_INOUT, out, 1, 2, rows, cols);
    xft_accumulate_params p = {rows, cols, cols, cols, 1};
    ref_accumulate(&(ref_call){.d = {x->values, case_start(y)}, .params = &p});
    c.record = record_accumulate;
    case_work(&c, (double)rows * cols);
    visit(&c, user);
    case_free(&c);
}

static xft_status record_bias(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_bias(stream, t[0], t[1]);
}

static void bias_case(uint32_t rows, uint32_t cols, xft_dtype dtype, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "bias", "[%u,%u] %s", rows, cols, xft_dtype_name(dtype));
    case_random r = case_seed(c.label);
    case_buffer *b = case_add(&c, &r, "b", CASE_IN, XFT_F32, 1, 1, cols);
    case_buffer *y = case_add(&c, &r, "y", CASE_INOUT, dtype, 1, 2, rows, cols);
    xft_bias_params p = {rows, cols, cols, 1};
    ref_bias(&(ref_call){.d = {b->values, case_start(y)}, .params = &p});
    c.record = record_bias;
    case_work(&c, (double)rows * cols);
    visit(&c, user);
    case_free(&c);
}

/* ---- sums ---- */

static xft_status record_column_sum(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_column_sum(stream, t[0], t[1], t[2], c->u[0]);
}

static void column_sum_case(uint32_t rows, uint32_t cols, uint32_t chunks, xft_dtype dtype, bool accumulate,
                            case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "column_sum", "[%u,%u] %s, %u chunks, %s", rows, cols, xft_dtype_name(dtype), chunks,
               accumulate ? "+=" : "=");
    case_random r = case_seed(c.label);
    case_buffer *x = case_add(&c, &r, "x", CASE_IN, dtype, 1, 2, rows, cols);
    case_add(&c, &r, "scratch", CASE_SCRATCH, XFT_F32, 0, 2, chunks, cols);
    case_buffer *y = case_add(&c, &r, "y", accumulate ? CASE_INOUT : CASE_OUT, XFT_F32, 1, 1, cols);
    xft_column_sum_params p = {rows, cols, cols, cols, 1, rows, accumulate, 1};
    ref_column_sum(&(ref_call){.d = {x->values, case_start(y)}, .params = &p});
    c.u[0] = accumulate;
    c.record = record_column_sum;
    case_work(&c, (double)rows * cols);
    visit(&c, user);
    case_free(&c);
}

static xft_status record_reduce_sum(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_reduce_sum(stream, t[0], t[1], c->u[0]);
}

static void reduce_sum_case(uint32_t rows, uint32_t cols, bool accumulate, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "reduce_sum", "[%u,%u] %s", rows, cols, accumulate ? "+=" : "=");
    case_random r = case_seed(c.label);
    case_buffer *x = case_add(&c, &r, "x", CASE_IN, XFT_F32, 1, 2, rows, cols);
    for (uint64_t i = 0; i < case_elements(x); i++) x->values[i] = case_round(x->values[i] + 0.3, XFT_F32);
    case_buffer *y = case_add(&c, &r, "y", accumulate ? CASE_INOUT : CASE_OUT, XFT_F32, 1, 1, 1);
    xft_reduce_sum_params p = {rows, cols, cols, accumulate};
    ref_reduce_sum(&(ref_call){.d = {x->values, case_start(y)}, .params = &p});
    c.u[0] = accumulate;
    c.record = record_reduce_sum;
    case_work(&c, (double)rows * cols);
    visit(&c, user);
    case_free(&c);
}

static void cases_sums(case_set set, const char *only, case_visitor visit, void *user) {
    static const uint32_t chunks[] = {2, 1, 5, 3, 16, 64, 7, 4, 2, 32};
    for (uint32_t i = first_shape(set); i < end_shape(set); i++) {
        const uint32_t rows = shapes[i][0], cols = shapes[i][1];
        if (case_wanted(only, "column_sum")) {
            column_sum_case(rows, cols, chunks[i], XFT_F32, false, visit, user);
            column_sum_case(rows, cols, chunks[i], XFT_BF16, true, visit, user);
        }
        if (case_wanted(only, "reduce_sum")) {
            reduce_sum_case(rows, cols, false, visit, user);
            reduce_sum_case(1, rows * cols, true, visit, user);
        }
    }
}

/* ---- random_normal ---- */

static xft_status record_random_normal(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_random_normal(stream, t[0], c->f[0], (uint64_t)c->u[1] << 32 | c->u[0], c->u[2]);
}

static void random_normal_case(uint32_t rows, uint32_t cols, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "random_normal", "[%u,%u]", rows, cols);
    case_buffer *y = case_add(&c, NULL, "y", CASE_OUT, XFT_F32, 0, 2, rows, cols);
    c.f[0] = 0.02f;
    c.u[0] = 5;
    c.u[1] = 4100000000u;
    c.u[2] = rows;
    xft_random_normal_params p = {rows, cols, cols, c.f[0], c.u[0], c.u[1], c.u[2], 1};
    ref_random_normal(&(ref_call){.d = {y->expected}, .params = &p});
    /* The angle is 2^-24 of a turn or more away from an axis, or on it: sine and cosine are right to 2e-7 each, and so
     * is the logarithm. */
    y->tolerance = 1e-12;
    c.record = record_random_normal;
    case_work(&c, 60.0 * rows * cols);
    visit(&c, user);
    case_free(&c);
}

void cases_basic(case_set set, const char *only, case_visitor visit, void *user) {
    if (set == CASES_LONG) return;
    if (case_wanted(only, "fill")) cases_fill(set, visit, user);
    if (case_wanted(only, "copy")) cases_copy(set, visit, user);
    if (case_wanted(only, "cast")) cases_cast(set, visit, user);
    for (uint32_t i = first_shape(set); i < end_shape(set); i++) {
        const uint32_t rows = shapes[i][0], cols = shapes[i][1];
        for (uint32_t k = 0; k < sizeof data_types / sizeof *data_types; k++) {
            const xft_dtype in = data_types[k][0], out = data_types[k][1];
            if (case_wanted(only, "add")) add_case(rows, cols, in, out, visit, user);
            if (case_wanted(only, "accumulate")) accumulate_case(rows, cols, in, out, visit, user);
        }
        if (case_wanted(only, "bias")) {
            bias_case(rows, cols, XFT_F32, visit, user);
            bias_case(rows, cols, XFT_BF16, visit, user);
        }
        if (case_wanted(only, "random_normal")) random_normal_case(rows, cols, visit, user);
    }
    cases_sums(set, only, visit, user);
}
