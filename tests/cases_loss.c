/* Cross-entropy and sampling: references and cases. */
#include "op_case.h"
#include "ops/lanes.h"
#include "philox.h"
#include "reference.h"

#include <math.h>
#include <stdlib.h>

/* ---- References ---- */

static const xft_step_block *step_of(const uint32_t *words) {
    return (const xft_step_block *)(const void *)words;
}

void ref_cross_entropy(const ref_call *call) {
    const xft_cross_entropy_params *p = call->params;
    const double scale = step_of(call->u[1])->inv_labels;
    for (uint32_t r = 0; r < p->rows; r++) {
        double *x = call->d[2] + (size_t)r * p->ld_logits, top = -INFINITY, sum = 0;
        const uint32_t label = call->u[0][r];
        for (uint32_t c = 0; c < p->cols; c++) top = fmax(top, x[c]);
        for (uint32_t c = 0; c < p->cols; c++) sum += exp(x[c] - top);
        const double lse = top + log(sum);
        call->d[3][r] = label < p->cols ? scale * (lse - x[label]) : 0;
        for (uint32_t c = 0; p->gradient && c < p->cols; c++)
            x[c] = label < p->cols ? scale * (exp(x[c] - lse) - (c == label)) : 0;
    }
}

typedef struct candidate {
    double w;
    uint32_t id;
} candidate;

static int by_weight(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->w != y->w) return x->w < y->w ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

static int by_id(const void *a, const void *b) {
    return ((const candidate *)a)->id < ((const candidate *)b)->id ? -1 : 1;
}

/* The next token by sorting. *margin (may be NULL): how far the decisions lie from another outcome, relative to the sum
 * of all weights; f32 cannot be held to decisions closer than its rounding. */
static uint32_t sample_row(const double *x, uint32_t cols, const xft_step_block *s, uint32_t row, double *margin) {
    candidate *list = calloc(cols, sizeof *list);
    double top = -INFINITY, all = 0, sum = 0;
    uint32_t best = 0, kept = 0;
    for (uint32_t c = 0; c < cols; c++)
        if (x[c] > top) top = x[best = c];
    if (margin) *margin = 1;
    if (s->temperature > 0) {
        for (uint32_t c = 0; c < cols; c++) {
            list[c] = (candidate){exp((x[c] - top) / s->temperature), c};
            all += list[c].w;
        }
        qsort(list, cols, sizeof *list, by_weight);
        do sum += list[kept++].w;
        while (kept < cols && (s->top_p >= 1 || sum < s->top_p * all));
        if (margin && s->top_p < 1) *margin = (sum - s->top_p * all) / all;
        if (margin && s->top_p < 1 && kept > 1) *margin = fmin(*margin, s->top_p - (sum - list[kept - 1].w) / all);
        qsort(list, kept, sizeof *list, by_id);
        uint32_t words[4];
        xft_philox((uint64_t)s->seed_high << 32 | s->seed_low, XFT_RANDOM_SAMPLING, s->step, 0, s->first_token + row, 0,
                   words);
        double goal = xft_philox_uniform(words[0]) * sum, run = 0;
        uint32_t i = 0;
        for (; i < kept; i++) {
            run += list[i].w;
            if (margin) *margin = fmin(*margin, fabs(run - goal) / all);
            if (run > goal) break;
        }
        best = list[i < kept ? i : kept - 1].id;
    }
    free(list);
    return best;
}

void ref_sample(const ref_call *call) {
    const xft_sample_params *p = call->params;
    for (uint32_t r = 0; r < p->rows; r++)
        call->u[2][r] = sample_row(call->d[0] + (size_t)r * p->ld_logits, p->cols, step_of(call->u[1]), r, NULL);
}

/* ---- Cases ---- */

static case_buffer *add_step(op_case *c, case_random *r, const xft_step_block *block) {
    case_buffer *b = case_add(c, r, "step", CASE_IN, XFT_U32, 0, 1, (uint32_t)(sizeof *block / 4));
    const uint32_t *words = (const uint32_t *)(const void *)block;
    b->float_columns = 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8 | 1u << 9 | 1u << 10 | 1u << 11;
    for (uint32_t i = 0; i < sizeof *block / 4; i++)
        b->values[i] = b->float_columns >> i & 1 ? (double)ref_float(words[i]) : (double)words[i];
    return b;
}

static xft_status record_cross_entropy(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    xft_lanes_force(c->form);
    xft_status status = xft_cross_entropy(stream, t[0], t[1], t[2], c->u[0] != 0, t[3]);
    xft_lanes_force(NULL);
    return status;
}

static void cross_entropy_case(uint32_t rows, uint32_t cols, xft_dtype dtype, bool gradient, const char *form,
                               double deviation, case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "cross_entropy", "[%u,%u] %s%s%s%s, deviation %g", rows, cols, xft_dtype_name(dtype),
               gradient ? " with gradient" : "", form ? ", " : "", form ? form : "", deviation);
    case_random r = case_seed(c.label);
    const xft_step_block block = {.step = 3, .inv_labels = 0.0371f, .lr = 1};
    uint32_t *labels = calloc(rows, sizeof *labels);
    case_buffer *ids = case_add(&c, &r, "labels", CASE_IN, XFT_U32, 0, 1, rows);
    for (uint32_t i = 0; i < rows; i++) {
        /* the first and the last id, rows without a label, then any */
        labels[i] = i == 0 ? cols - 1 : i == 1 ? 0 : i % 4 == 2 ? UINT32_MAX : case_below(&r, cols);
        ids->values[i] = labels[i];
    }
    add_step(&c, &r, &block);
    case_buffer *logits = case_add(&c, &r, "logits", CASE_INOUT, dtype, deviation, 2, rows, cols);
    case_buffer *loss = case_add(&c, &r, "loss", CASE_OUT, XFT_F32, 0, 1, rows);
    for (uint64_t i = 0; i < case_elements(logits); i++) logits->expected[i] = logits->values[i];
    xft_cross_entropy_params p = {rows, cols, cols, gradient, 1};
    uint32_t words[sizeof block / 4];
    *(xft_step_block *)(void *)words = block;
    ref_cross_entropy(
        &(ref_call){.d = {[2] = logits->expected, [3] = loss->expected}, .u = {labels, words}, .params = &p});
    c.u[0] = gradient;
    c.form = form;
    c.record = record_cross_entropy;
    c.flops = 4.0 * rows * cols;
    c.bytes = (double)rows * cols * xft_dtype_size(dtype) * (gradient ? 2 : 1);
    visit(&c, user);
    case_free(&c);
    free(labels);
}

static void cases_cross_entropy(case_set set, case_visitor visit, void *user) {
    if (set == CASES_BENCH) {
        cross_entropy_case(128, 49152, XFT_F32, true, NULL, 1, visit, user);
        cross_entropy_case(128, 49152, XFT_BF16, true, NULL, 1, visit, user);
        return;
    }
    if (set == CASES_LONG) {
        cross_entropy_case(140, 262144, XFT_BF16, true, "plain", 1, visit, user);
        return;
    }
    static const uint32_t shapes[][2] = {{4, 59}, {1, 1},    {3, 2},    {7, 97},    {9, 1009},
                                         {6, 6},  {33, 131}, {5, 4099}, {3, 49157}, {70, 64}};
    for (uint32_t i = 0; i < (set == CASES_SMALL ? 1 : sizeof shapes / sizeof *shapes); i++)
        for (uint32_t gradient = 0; gradient < 2; gradient++) {
            cross_entropy_case(shapes[i][0], shapes[i][1], XFT_F32, gradient != 0, NULL, 2, visit, user);
            cross_entropy_case(shapes[i][0], shapes[i][1], XFT_BF16, gradient != 0, NULL, 2, visit, user);
        }
    for (uint32_t i = 0; i < (set == CASES_SMALL ? 1 : sizeof shapes / sizeof *shapes); i++)
        cross_entropy_case(shapes[i][0], shapes[i][1], i % 2 ? XFT_F32 : XFT_BF16, true, "plain", 2, visit, user);
    for (uint32_t i = 0; i < 2; i++) cross_entropy_case(4, 59, i ? XFT_F32 : XFT_BF16, i != 0, "cpu", 2, visit, user);
    /* Scores far apart: the largest exponential must not overflow. */
    if (set == CASES_FULL) cross_entropy_case(5, 300, XFT_F32, true, NULL, 80, visit, user);
}

static xft_status record_sample(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_sample(stream, t[0], t[1], t[2]);
}

/* grain: logits are multiples of it, so that there are ties; 0: none. */
static void sample_case(uint32_t rows, uint32_t cols, xft_dtype dtype, float temperature, float top_p, double grain,
                        case_visitor visit, void *user) {
    op_case c;
    case_begin(&c, "sample", "[%u,%u] %s, temperature %g, top_p %g%s", rows, cols, xft_dtype_name(dtype), temperature,
               top_p, grain > 0 ? ", ties" : "");
    case_random r = case_seed(c.label);
    const xft_step_block block = {.step = 7,
                                  .seed_low = 12345,
                                  .seed_high = 6789,
                                  .first_token = 100,
                                  .temperature = temperature,
                                  .top_p = top_p};
    case_buffer *logits = case_add(&c, &r, "logits", CASE_IN, dtype, 2, 2, rows, cols);
    for (uint64_t i = 0; grain > 0 && i < case_elements(logits); i++)
        logits->values[i] = grain * round(logits->values[i] / grain);
    add_step(&c, &r, &block);
    case_buffer *ids = case_add(&c, &r, "ids", CASE_OUT, XFT_U32, 0, 1, rows);
    for (uint32_t i = 0; i < rows; i++) {
        double margin;
        uint32_t id = sample_row(logits->values + (uint64_t)i * cols, cols, &block, i, &margin);
        ids->expected[i] = margin < 2e-6 ? NAN : id;
    }
    c.record = record_sample;
    c.bytes = (double)rows * cols * xft_dtype_size(dtype);
    visit(&c, user);
    case_free(&c);
}

static void cases_sample(case_set set, case_visitor visit, void *user) {
    if (set == CASES_BENCH) {
        sample_case(1, 49152, XFT_F32, 0, 1, 0, visit, user);
        sample_case(1, 49152, XFT_F32, 0.8f, 0.95f, 0, visit, user);
        return;
    }
    if (set == CASES_LONG) {
        sample_case(40, 152064, XFT_F32, 1, 0.9f, 0, visit, user);
        return;
    }
    static const uint32_t shapes[][2] = {{5, 59}, {3, 1}, {9, 2}, {17, 97}, {40, 1009}, {7, 4099}, {3, 49157}};
    for (uint32_t i = 0; i < (set == CASES_SMALL ? 1 : sizeof shapes / sizeof *shapes); i++) {
        const uint32_t rows = shapes[i][0], cols = shapes[i][1];
        sample_case(rows, cols, XFT_F32, 0, 1, 0.5, visit, user);
        sample_case(rows, cols, XFT_F32, 1, 0.9f, 0, visit, user);
        sample_case(rows, cols, XFT_BF16, 0.7f, 0.51f, 0.5, visit, user);
        if (set == CASES_SMALL) continue;
        sample_case(rows, cols, XFT_BF16, 0, 0.5f, 0, visit, user);
        sample_case(rows, cols, XFT_F32, 1, 1, 0, visit, user);
        sample_case(rows, cols, XFT_F32, 1.3f, 0.37f, 1, visit, user);
        sample_case(rows, cols, XFT_F32, 0.01f, 0.95f, 0, visit, user);
        sample_case(rows, cols, XFT_F32, 1, 0, 1, visit, user);
        sample_case(rows, cols, XFT_F32, 1, 0.83f, 100, visit, user); /* all equal */
    }
}

void cases_loss(case_set set, const char *only, case_visitor visit, void *user) {
    if (case_wanted(only, "cross_entropy")) cases_cross_entropy(set, visit, user);
    if (case_wanted(only, "sample")) cases_sample(set, visit, user);
}
