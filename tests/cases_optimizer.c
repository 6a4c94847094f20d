/* Optimizers: a step's bookkeeping, AdamW and Adafactor, with skipped steps and idle experts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "op_case.h"
#include "reference.h"

/* The step block and state that updates read. */
enum { NORMAL, SKIPPED, CLIPPED };

static void add_u32(op_case *c, const char *name, case_role role, const void *words, uint32_t count) {
    case_buffer *b = case_add(c, NULL, name, role, XFT_U32, 0, 1, count);
    const uint32_t *u = words;
    for (uint32_t i = 0; i < count; i++) b->values[i] = u[i];
    if (b->expected) memcpy(b->expected, b->values, count * sizeof(double));
}

static xft_step_block step_block(void) {
    return (xft_step_block){.step = 7, .seed_low = 11, .seed_high = 13, .lr = 0.02f, .max_norm = 1.5f};
}

static xft_step_state step_state(int mode) {
    return (xft_step_state){.clip = mode == CLIPPED ? 0.25f : 1, .skip = mode == SKIPPED, .applied = 3};
}

/* ---- sum_squares, step_begin, step_advance ---- */

static xft_status record_sum_squares(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_sum_squares(stream, t[0], t[1]);
}

static void sum_squares_case(uint32_t rows, uint32_t cols, uint32_t count, xft_dtype dtype, case_visitor visit,
                             void *user) {
    op_case c;
    case_begin(&c, "sum_squares", "[%u,%u] %s, %u sums", rows, cols, xft_dtype_name(dtype), count);
    case_random r = case_seed(c.label);
    case_buffer *g = case_add(&c, &r, "g", CASE_IN, dtype, 1, 2, rows, cols);
    case_buffer *partial = case_add(&c, &r, "partial", CASE_OUT, XFT_F32, 0, 1, count);
    xft_sum_squares_params p = {rows, cols, cols, (rows + count - 1) / count, count};
    ref_sum_squares(&(ref_call){.d = {g->values, partial->expected}, .params = &p});
    c.record = record_sum_squares;
    c.bytes = (double)rows * cols * xft_dtype_size(dtype);
    c.flops = 2.0 * rows * cols;
    visit(&c, user);
    case_free(&c);
}

static xft_status record_step_begin(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_step_begin(stream, t[0], t[1], t[2], t[3], t[4]);
}

/* bad: 0 all finite, 1 the norm, 2 the loss, 3 the balance loss is not. */
static void step_begin_case(uint32_t count, int bad, float max_norm, bool floats, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "step_begin", "%u sums, max_norm %g%s%s", count, (double)max_norm, floats ? ", floats" : "",
               (const char *const[]){"", ", norm NaN", ", loss Inf", ", balance NaN"}[bad]);
    case_random r = case_seed(c.label);
    case_buffer *partial = case_add(&c, &r, "partial", CASE_IN, XFT_F32, 1, 1, count);
    for (uint32_t i = 0; i < count; i++) partial->values[i] = fabs(partial->values[i]);
    if (bad == 1) partial->values[count - 1] = NAN;
    case_buffer *loss = case_add(&c, &r, "loss", CASE_IN, XFT_F32, 1, 1, 1);
    if (bad == 2) loss->values[0] = INFINITY;
    case_buffer *balance = case_add(&c, &r, "balance", CASE_IN, XFT_F32, 1, 1, 1);
    if (bad == 3) balance->values[0] = NAN;
    xft_step_block step = step_block();
    step.max_norm = max_norm;
    add_u32(&c, "step", CASE_IN, &step, sizeof step / 4);
    xft_step_state state = {.skipped = 2, .skipped_in_row = 1, .applied = 5};
    add_u32(&c, "state", CASE_INOUT, &state, sizeof state / 4);
    xft_step_begin_params p = {count};
    ref_step_begin(&(ref_call){.d = {partial->values, loss->values, balance->values},
                               .u = {[3] = (uint32_t *)&step, [4] = (uint32_t *)&state},
                               .params = &p});
    case_buffer *out = &c.buffers[4];
    uint32_t words[sizeof state / 4];
    memcpy(words, &state, sizeof state);
    for (uint32_t i = 0; i < sizeof state / 4; i++) out->expected[i] = words[i];
    /* Flags and counters are compared exactly; the floats before them, when they are finite, by their bits as numbers,
     * where 1e-15 is a relative error of 4e-7. */
    for (int i = 0; i < 4; i++) out->expected[i] = NAN;
    if (floats) {
        for (int i = 0; i < 4; i++) out->expected[i] = words[i];
        for (int i = 4; i < 8; i++) out->expected[i] = NAN;
        out->tolerance = 1e-15;
    }
    c.record = record_step_begin;
    c.bytes = 4.0 * count;
    visit(&c, user);
    case_free(&c);
}

static xft_status record_step_advance(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_step_advance(stream, t[0], t[1], t[2]);
}

static void step_advance_case(uint32_t count, bool with_used, int mode, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "step_advance", "%u slots%s%s", count, with_used ? ", some idle" : "",
               mode == SKIPPED ? ", skipped" : "");
    xft_step_state state = step_state(mode);
    uint32_t used[100], t[100];
    for (uint32_t i = 0; i < count; i++) {
        used[i] = i % 3 != 1;
        t[i] = 10 * i;
    }
    add_u32(&c, "state", CASE_IN, &state, sizeof state / 4);
    if (with_used)
        add_u32(&c, "used", CASE_IN, used, count);
    else
        case_add_null(&c, "used");
    add_u32(&c, "t", CASE_INOUT, t, count);
    xft_step_advance_params p = {count};
    ref_step_advance(&(ref_call){.u = {(uint32_t *)&state, with_used ? used : NULL, t}, .params = &p});
    for (uint32_t i = 0; i < count; i++) c.buffers[2].expected[i] = t[i];
    c.record = record_step_advance;
    visit(&c, user);
    case_free(&c);
}

/* ---- The updates ---- */

/* How the weights are kept. */
typedef enum keeping { PLAIN, BF16_NEAREST, BF16_STOCHASTIC, BF16_MASTER } keeping;
static const char *const keeping_names[] = {"f32", "bf16 to nearest", "bf16 stochastic", "bf16 with master"};

typedef struct update_case {
    uint32_t entries, rows, cols; /* entries 0: a matrix; else a stack with used flags */
    xft_dtype g;
    keeping kept;
    int mode;
    uint32_t t;
} update_case;

enum { KEY = 5, MAX_ENTRIES = 64 };

typedef struct update_data {
    xft_step_block step;
    xft_step_state state;
    uint32_t t[MAX_ENTRIES], used[MAX_ENTRIES];
    case_buffer *g, *w, *master;
} update_data;

static uint32_t entries_of(const update_case *u) {
    return u->entries ? u->entries : 1;
}

/* Moments are squares of gradients: positive, and of their size. */
static void make_positive(case_buffer *b) {
    for (uint64_t i = 0; i < case_elements(b); i++)
        b->values[i] = case_round(0.01 * fabs(b->values[i]) + 1e-6, XFT_F32);
}

static case_buffer *add_stack(op_case *c, case_random *r, const char *name, case_role role, xft_dtype dtype,
                              double deviation, const update_case *u, uint32_t rows, uint32_t cols) {
    if (u->entries) return case_add(c, r, name, role, dtype, deviation, 3, u->entries, rows, cols);
    return case_add(c, r, name, role, dtype, deviation, 2, rows, cols);
}

static void keep_expected(case_buffer *b) {
    if (b) memcpy(b->expected, b->values, case_elements(b) * sizeof(double));
}

static void begin_update(op_case *c, const char *op, const update_case *u) {
    case_begin(c, op, "[%u,%u,%u] g %s, w %s, t %u%s", entries_of(u), u->rows, u->cols, xft_dtype_name(u->g),
               keeping_names[u->kept], u->t, (const char *const[]){"", ", skipped", ", clipped"}[u->mode]);
}

static void add_step(op_case *c, const update_case *u, update_data *d) {
    d->step = step_block();
    d->state = step_state(u->mode);
    for (uint32_t i = 0; i < MAX_ENTRIES; i++) {
        d->t[i] = u->t + i;
        d->used[i] = i % 3 != 1;
    }
    add_u32(c, "step", CASE_IN, &d->step, sizeof d->step / 4);
    add_u32(c, "state", CASE_IN, &d->state, sizeof d->state / 4);
    add_u32(c, "t", CASE_IN, d->t, entries_of(u));
    if (u->entries)
        add_u32(c, "used", CASE_IN, d->used, u->entries);
    else
        case_add_null(c, "used");
}

static void add_weights(op_case *c, case_random *r, const update_case *u, update_data *d) {
    bool master = u->kept == BF16_MASTER;
    d->w = add_stack(c, r, "w", CASE_INOUT, u->kept == PLAIN ? XFT_F32 : XFT_BF16, 0.1, u, u->rows, u->cols);
    d->master = NULL;
    if (master) {
        d->master = add_stack(c, r, "master", CASE_INOUT, XFT_F32, 0.1, u, u->rows, u->cols);
        for (uint64_t i = 0; i < case_elements(d->w); i++) d->w->values[i] = case_round(d->master->values[i], XFT_BF16);
    } else {
        case_add_null(c, "master");
    }
    keep_expected(d->w);
    keep_expected(d->master);
}

static xft_rounding rounding_of(const op_case *c) {
    return c->u[0] == BF16_STOCHASTIC ? XFT_ROUND_STOCHASTIC : XFT_ROUND_NEAREST;
}

static const xft_adamw_config adamw_config = {0.9f, 0.999f, 1e-8f, 0.01f};

/* g, step, state, t, used, w, master, m, v */
static xft_status record_adamw(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    xft_adamw_config config = adamw_config;
    config.weight_decay = c->f[0];
    config.eps = c->f[1];
    return xft_adamw(stream, &config, t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], rounding_of(c), KEY);
}

static void adamw_case(update_case u, case_visitor visit, void *user) {
    op_case c;
    update_data d;
    begin_update(&c, "adamw", &u);
    case_random r = case_seed(c.label);
    d.g = add_stack(&c, &r, "g", CASE_IN, u.g, 0.1, &u, u.rows, u.cols);
    add_step(&c, &u, &d);
    add_weights(&c, &r, &u, &d);
    case_buffer *m = add_stack(&c, &r, "m", CASE_INOUT, XFT_F32, 0.1, &u, u.rows, u.cols);
    case_buffer *v = add_stack(&c, &r, "v", CASE_INOUT, XFT_F32, 0.1, &u, u.rows, u.cols);
    make_positive(v);
    keep_expected(m);
    keep_expected(v);
    xft_adamw_params p = {.rows = entries_of(&u) * u.rows,
                          .cols = u.cols,
                          .entry_rows = u.rows,
                          .ld_g = u.cols,
                          .ld_w = u.cols,
                          .ld_m = u.cols,
                          .beta1 = adamw_config.beta1,
                          .beta2 = adamw_config.beta2,
                          .eps = adamw_config.eps,
                          .weight_decay = adamw_config.weight_decay,
                          .key = KEY};
    uint32_t constants[] = {0, 0, 0, u.kept == BF16_STOCHASTIC};
    ref_adamw(&(ref_call){
        .d = {d.g->values, [5] = d.w->expected, m->expected, v->expected, d.master ? d.master->expected : NULL},
        .u = {[1] = (uint32_t *)&d.step, (uint32_t *)&d.state, d.t, u.entries ? d.used : NULL},
        .params = &p,
        .constants = constants});
    c.u[0] = u.kept;
    c.f[0] = adamw_config.weight_decay;
    c.f[1] = adamw_config.eps;
    c.record = record_adamw;
    double n = (double)case_elements(d.g);
    c.bytes = n * (xft_dtype_size(u.g) + 16 + 2 * xft_dtype_size(d.w->dtype) + (d.master ? 8 : 0));
    c.flops = 14 * n;
    visit(&c, user);
    case_free(&c);
}

static uint32_t scratch_of(const update_case *u) {
    xft_tensor g = {.dtype = u->g, .rank = 3, .shape = {entries_of(u), u->rows, u->cols, 1}};
    return (uint32_t)xft_adafactor_scratch(&g);
}

static xft_status record_statistics(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_adafactor_statistics(stream, t[0], t[1], t[2], t[3]);
}

/* Sums of squares of g along its rows and columns. */
static void square_sums(const update_case *u, const double *g, double *rows, double *columns) {
    memset(columns, 0, (size_t)entries_of(u) * u->cols * sizeof *columns);
    for (uint32_t n = 0; n < entries_of(u) * u->rows; n++) {
        rows[n] = 0;
        for (uint32_t k = 0; k < u->cols; k++) {
            double square = g[n * u->cols + k] * g[n * u->cols + k];
            rows[n] += square;
            columns[n / u->rows * u->cols + k] += square;
        }
    }
}

static void statistics_case(update_case u, case_visitor visit, void *user) {
    op_case c;
    begin_update(&c, "adafactor_statistics", &u);
    case_random r = case_seed(c.label);
    case_buffer *g = add_stack(&c, &r, "g", CASE_IN, u.g, 0.1, &u, u.rows, u.cols);
    case_add(&c, &r, "scratch", CASE_SCRATCH, XFT_F32, 0, 1, scratch_of(&u));
    case_buffer *rows = case_add(&c, &r, "rows", CASE_OUT, XFT_F32, 0, 1, entries_of(&u) * u.rows);
    case_buffer *columns = case_add(&c, &r, "columns", CASE_OUT, XFT_F32, 0, 2, entries_of(&u), u.cols);
    square_sums(&u, g->values, rows->expected, columns->expected);
    c.record = record_statistics;
    c.bytes = (double)case_elements(g) * xft_dtype_size(u.g);
    c.flops = 3.0 * (double)case_elements(g);
    visit(&c, user);
    case_free(&c);
}

/* g, rows, columns, scratch, step, state, t, used, w, master, r, c */
static xft_status record_update(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_adafactor_update(stream, c->f[0], t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], t[10],
                                t[11], rounding_of(c), KEY);
}

/* One Adafactor update of every entry by the formulas of xft.md section 5, independent of the kernels' cut. */
static void update_reference(const update_case *u, const update_data *d, double *r, double *c) {
    double clip = (double)d->state.clip, lr = (double)d->step.lr;
    double *update = malloc((size_t)u->rows * u->cols * sizeof *update);
    if (!update) abort();
    for (uint32_t e = 0; e < entries_of(u); e++) {
        if (d->state.skip || (u->entries && !d->used[e])) continue;
        const double *g = d->g->values + (size_t)e * u->rows * u->cols;
        double *re = r + (size_t)e * u->rows, *ce = c + (size_t)e * u->cols;
        double beta = 1 - pow(d->t[e], -0.8), mean = 0, squares = 0;
        for (uint32_t n = 0; n < u->rows; n++) {
            double sum = 0;
            for (uint32_t k = 0; k < u->cols; k++) sum += pow(clip * g[n * u->cols + k], 2) + 1e-30;
            re[n] = beta * re[n] + (1 - beta) * sum / u->cols;
            mean += re[n] / u->rows;
        }
        for (uint32_t k = 0; k < u->cols; k++) {
            double sum = 0;
            for (uint32_t n = 0; n < u->rows; n++) sum += pow(clip * g[n * u->cols + k], 2) + 1e-30;
            ce[k] = beta * ce[k] + (1 - beta) * sum / u->rows;
        }
        for (uint32_t n = 0; n < u->rows; n++)
            for (uint32_t k = 0; k < u->cols; k++) {
                double x = clip * g[n * u->cols + k] / (sqrt(re[n] / mean) * sqrt(ce[k]));
                update[n * u->cols + k] = x;
                squares += x * x;
            }
        double shrink = 1 / fmax(1, sqrt(squares / u->rows / u->cols));
        for (uint32_t i = 0; i < u->rows * u->cols; i++) {
            size_t at = (size_t)e * u->rows * u->cols + i;
            double *x = d->master ? &d->master->expected[at] : &d->w->expected[at];
            *x = *x - lr * 0.01 * *x - lr * shrink * update[i];
            d->w->expected[at] = *x;
        }
    }
    free(update);
}

static void adafactor_case(update_case u, case_visitor visit, void *user) {
    op_case c;
    update_data d;
    begin_update(&c, "adafactor_update", &u);
    case_random r = case_seed(c.label);
    d.g = add_stack(&c, &r, "g", CASE_IN, u.g, 0.1, &u, u.rows, u.cols);
    for (uint64_t i = 0; u.rows > 3 && i < u.cols; i++) d.g->values[i] = 0; /* a row that never had a gradient */
    case_buffer *rows = case_add(&c, &r, "rows", CASE_IN, XFT_F32, 0, 1, entries_of(&u) * u.rows);
    case_buffer *columns = case_add(&c, &r, "columns", CASE_IN, XFT_F32, 0, 2, entries_of(&u), u.cols);
    square_sums(&u, d.g->values, rows->values, columns->values);
    for (uint64_t i = 0; i < case_elements(rows); i++) rows->values[i] = case_round(rows->values[i], XFT_F32);
    for (uint64_t i = 0; i < case_elements(columns); i++) columns->values[i] = case_round(columns->values[i], XFT_F32);
    case_add(&c, &r, "scratch", CASE_SCRATCH, XFT_F32, 0, 1, scratch_of(&u));
    add_step(&c, &u, &d);
    add_weights(&c, &r, &u, &d);
    case_buffer *factor_r = case_add(&c, &r, "r", CASE_INOUT, XFT_F32, 1, 2, entries_of(&u), u.rows);
    case_buffer *factor_c = case_add(&c, &r, "c", CASE_INOUT, XFT_F32, 1, 2, entries_of(&u), u.cols);
    make_positive(factor_r);
    make_positive(factor_c);
    keep_expected(factor_r);
    keep_expected(factor_c);
    update_reference(&u, &d, factor_r->expected, factor_c->expected);
    if (u.kept == BF16_STOCHASTIC) { /* the same draw decides, on what apply gets */
        xft_adafactor_apply_params p = {.rows = entries_of(&u) * u.rows,
                                        .cols = u.cols,
                                        .entry_rows = u.rows,
                                        .ld_g = u.cols,
                                        .ld_r = u.rows,
                                        .ld_c = u.cols,
                                        .ld_w = u.cols,
                                        .key = KEY};
        /* factor tiny and decay 1: the reference then only rounds the expected weights */
        double scale[2 * MAX_ENTRIES], ones[MAX_ENTRIES];
        for (uint32_t e = 0; e < entries_of(&u); e++) {
            bool idle = d.state.skip || (u.entries && !d.used[e]);
            scale[2 * e] = idle ? 0 : 1e-300;
            scale[2 * e + 1] = ones[e] = 1;
        }
        uint32_t constants[] = {0, 0, 0, 1};
        ref_adafactor_apply(
            &(ref_call){.d = {d.g->values, factor_r->expected, factor_c->expected, ones, scale, [6] = d.w->expected},
                        .u = {[5] = (uint32_t *)&d.step},
                        .params = &p,
                        .constants = constants});
    }
    c.u[0] = u.kept;
    c.f[0] = 0.01f;
    c.record = record_update;
    double n = (double)case_elements(d.g);
    c.bytes = n * (2 * xft_dtype_size(u.g) + 2 * xft_dtype_size(d.w->dtype) + (d.master ? 8 : 0));
    c.flops = 10 * n;
    visit(&c, user);
    case_free(&c);
}

static xft_status record_vector(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_adafactor_vector(stream, c->f[0], t[0], t[1], t[2], t[3], t[4], t[5]);
}

static void vector_case(uint32_t count, int mode, uint32_t t, case_visitor visit, void *user) {
    op_case c;
    update_data d;
    update_case u = {.rows = 1, .cols = count, .mode = mode, .t = t};
    begin_update(&c, "adafactor_vector", &u);
    case_random r = case_seed(c.label);
    case_buffer *g = case_add(&c, &r, "g", CASE_IN, XFT_F32, 0.1, 1, count);
    add_step(&c, &u, &d);
    c.count--; /* vectors have no used flag */
    case_buffer *w = case_add(&c, &r, "w", CASE_INOUT, XFT_F32, 0.1, 1, count);
    case_buffer *s = case_add(&c, &r, "s", CASE_INOUT, XFT_F32, 1, 1, count);
    make_positive(s);
    keep_expected(w);
    keep_expected(s);
    c.f[0] = count % 2 ? 0 : 0.01f;
    xft_adafactor_vector_params p = {count, c.f[0]};
    ref_adafactor_vector(&(ref_call){.d = {g->values, [4] = w->expected, s->expected},
                                     .u = {[1] = (uint32_t *)&d.step, (uint32_t *)&d.state, d.t},
                                     .params = &p});
    c.record = record_vector;
    c.bytes = 20.0 * count;
    visit(&c, user);
    case_free(&c);
}

/* ---- The grid ---- */

static void update_cases(case_set set, void (*make)(update_case, case_visitor, void *), case_visitor visit,
                         void *user) {
    if (set == CASES_BENCH) {
        make((update_case){8, 1536, 576, XFT_F32, PLAIN, NORMAL, 9}, visit, user);
        make((update_case){0, 49152, 576, XFT_F32, PLAIN, NORMAL, 9}, visit, user);
        make((update_case){8, 1536, 576, XFT_BF16, BF16_STOCHASTIC, NORMAL, 9}, visit, user);
        return;
    }
    static const update_case cases[] = {
        /* the small set: all ways of keeping weights, an idle expert, a skipped step */
        {0, 5, 7, XFT_F32, PLAIN, NORMAL, 1},
        {3, 5, 9, XFT_BF16, BF16_STOCHASTIC, CLIPPED, 4},
        {3, 4, 6, XFT_F32, BF16_MASTER, NORMAL, 2},
        {0, 6, 3, XFT_F32, BF16_NEAREST, SKIPPED, 2},
        /* the rest of the grid */
        {0, 1, 1, XFT_F32, PLAIN, NORMAL, 3},
        {0, 1, 1030, XFT_F32, PLAIN, NORMAL, 1},
        {0, 1030, 1, XFT_F32, PLAIN, CLIPPED, 1000},
        {0, 97, 289, XFT_F32, PLAIN, NORMAL, 100000},
        {7, 33, 61, XFT_F32, PLAIN, NORMAL, 12},
        {4, 17, 260, XFT_BF16, PLAIN, SKIPPED, 3},
        {64, 16, 16, XFT_F32, PLAIN, NORMAL, 1},
        {0, 64, 96, XFT_BF16, BF16_STOCHASTIC, NORMAL, 50},
        {0, 64, 96, XFT_BF16, BF16_MASTER, NORMAL, 50},
        {0, 64, 96, XFT_BF16, BF16_NEAREST, NORMAL, 50},
    };
    uint32_t count = set == CASES_SMALL ? 4 : sizeof cases / sizeof *cases;
    for (uint32_t i = 0; i < count; i++) make(cases[i], visit, user);
}

void cases_optimizer(case_set set, const char *only, case_visitor visit, void *user) {
    bool full = set == CASES_FULL;
    if (set == CASES_LONG) {
        const update_case embedding = {0, 152064, 64, XFT_F32, PLAIN, NORMAL, 2};
        if (case_wanted(only, "sum_squares")) sum_squares_case(152064, 64, 512, XFT_F32, visit, user);
        if (case_wanted(only, "adafactor_statistics")) statistics_case(embedding, visit, user);
        if (case_wanted(only, "adafactor_update")) adafactor_case(embedding, visit, user);
        return;
    }
    if (case_wanted(only, "sum_squares")) {
        if (set == CASES_BENCH) {
            sum_squares_case(49152, 576, 512, XFT_F32, visit, user);
        } else {
            sum_squares_case(5, 7, 4, XFT_F32, visit, user);
            sum_squares_case(5, 7, 1, XFT_BF16, visit, user);
            for (uint32_t i = 0; full && i < 3; i++)
                sum_squares_case((const uint32_t[]){1, 331, 64}[i], (const uint32_t[]){2053, 3, 576}[i],
                                 (const uint32_t[]){3, 100, 64}[i], i == 2 ? XFT_BF16 : XFT_F32, visit, user);
        }
    }
    if (case_wanted(only, "step_begin"))
        for (int bad = 0; bad < 4; bad++) {
            step_begin_case(bad ? 5 : 1009, bad, 1.5f, false, visit, user);
            if (bad) continue;
            step_begin_case(1009, bad, 1.5f, true, visit, user);
            step_begin_case(3, bad, 0, true, visit, user);
        }
    if (case_wanted(only, "step_advance")) {
        step_advance_case(1, false, NORMAL, visit, user);
        step_advance_case(8, true, NORMAL, visit, user);
        step_advance_case(8, true, SKIPPED, visit, user);
        step_advance_case(100, true, NORMAL, visit, user);
    }
    if (case_wanted(only, "adamw")) update_cases(set, adamw_case, visit, user);
    if (case_wanted(only, "adafactor_statistics")) update_cases(set, statistics_case, visit, user);
    if (case_wanted(only, "adafactor_update")) update_cases(set, adafactor_case, visit, user);
    if (case_wanted(only, "adafactor_vector")) {
        vector_case(5, NORMAL, 1, visit, user);
        vector_case(7, SKIPPED, 2, visit, user);
        vector_case(full ? 4099 : 64, CLIPPED, 30, visit, user);
    }
}
