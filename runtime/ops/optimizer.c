/* Optimizers of ops.h: norm and bookkeeping of a step, AdamW, Adafactor. */
#include <math.h>

#include "grid.h"

enum { STEP_WORDS = sizeof(xft_step_block) / 4, STATE_WORDS = sizeof(xft_step_state) / 4 };
enum { ADAFACTOR_BLOCK = 16 }; /* rows per work-group of adafactor_rows and adafactor_rms */

/* A matrix, or a stack of them: entries x rows x cols. */
typedef struct stack {
    uint32_t entries, rows, cols;
} stack;

static stack stack_of(const xft_tensor *g) {
    stack s = {1, xft_rows(g), xft_cols(g)};
    if (g->rank == 3) {
        s.entries = g->shape[0];
        s.rows = g->shape[1];
    }
    return s;
}

xft_status xft_sum_squares(xft_stream *stream, const xft_tensor *g, const xft_tensor *partial) {
    XFT_ARG(stream, "sum_squares", g, XFT_DATA, 0, 0);
    XFT_ARG(stream, "sum_squares", partial, XFT_F32_ONLY, 1, 0);
    uint32_t count = xft_cols(partial), rows = xft_rows(g);
    xft_sum_squares_params p = {rows, xft_cols(g), g->pitch, xft_ceil_div(rows, count), count};
    xft_dispatch d = {.op = XFT_OP_sum_squares,
                      .tensors = {g, partial},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {xft_workgroup_for(xft_stream_device(stream)), g->dtype},
                      .groups = {count, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_step_begin(xft_stream *stream, const xft_tensor *partial, const xft_tensor *loss,
                          const xft_tensor *balance, const xft_tensor *step, const xft_tensor *state) {
    XFT_ARG(stream, "step_begin", partial, XFT_F32_ONLY, 1, 0);
    XFT_ARG(stream, "step_begin", loss, XFT_F32_ONLY, 1, 1);
    XFT_ARG(stream, "step_begin", balance, XFT_F32_ONLY, 1, 1);
    XFT_ARG(stream, "step_begin", step, XFT_U32_ONLY, 1, STEP_WORDS);
    XFT_ARG(stream, "step_begin", state, XFT_U32_ONLY, 1, STATE_WORDS);
    xft_step_begin_params p = {xft_cols(partial)};
    xft_dispatch d = {.op = XFT_OP_step_begin,
                      .tensors = {partial, loss, balance, step, state},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {xft_workgroup_for(xft_stream_device(stream))},
                      .groups = {1, 1, 1}};
    return xft_record(stream, &d);
}

xft_status xft_step_advance(xft_stream *stream, const xft_tensor *state, const xft_tensor *used, const xft_tensor *t) {
    XFT_ARG(stream, "step_advance", state, XFT_U32_ONLY, 1, STATE_WORDS);
    XFT_ARG(stream, "step_advance", t, XFT_U32_ONLY, 1, 0);
    if (used) XFT_ARG(stream, "step_advance", used, XFT_U32_ONLY, 1, xft_cols(t));
    xft_step_advance_params p = {xft_cols(t)};
    xft_dispatch d = {.op = XFT_OP_step_advance,
                      .tensors = {state, used, t},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {64, used != NULL},
                      .groups = {1, 1, 1}};
    return xft_record(stream, &d);
}

/* Checks what every update shares: step, state, t and used of g's entries, and how the weights are kept. */
static xft_status check_update(xft_stream *stream, const char *op, const xft_tensor *g, const xft_tensor *step,
                               const xft_tensor *state, const xft_tensor *t, const xft_tensor *used,
                               const xft_tensor *w, const xft_tensor *master, xft_rounding rounding) {
    stack s = stack_of(g);
    XFT_ARG(stream, op, step, XFT_U32_ONLY, 1, STEP_WORDS);
    XFT_ARG(stream, op, state, XFT_U32_ONLY, 1, STATE_WORDS);
    XFT_ARG(stream, op, t, XFT_U32_ONLY, 1, s.entries);
    if (used) XFT_ARG(stream, op, used, XFT_U32_ONLY, 1, s.entries);
    XFT_ARG(stream, op, w, XFT_DATA, s.entries * s.rows, s.cols);
    if (master) XFT_ARG(stream, op, master, XFT_F32_ONLY, s.entries * s.rows, s.cols);
    XFT_OP_FAIL_IF(master && w->dtype == XFT_F32, stream, "%s: w is f32 and has a master; a master goes with bf16", op);
    XFT_OP_FAIL_IF(rounding != XFT_ROUND_NEAREST && rounding != XFT_ROUND_STOCHASTIC, stream,
                   "%s: rounding is %d, which is none", op, (int)rounding);
    XFT_OP_FAIL_IF(rounding == XFT_ROUND_STOCHASTIC && (master || w->dtype != XFT_BF16), stream,
                   "%s: stochastic rounding needs bf16 weights without a master; w is %s%s", op,
                   xft_dtype_name(w->dtype), master ? " with a master" : "");
    return XFT_OK;
}

xft_status xft_adamw(xft_stream *stream, const xft_adamw_config *config, const xft_tensor *g, const xft_tensor *step,
                     const xft_tensor *state, const xft_tensor *t, const xft_tensor *used, const xft_tensor *w,
                     const xft_tensor *master, const xft_tensor *m, const xft_tensor *v, xft_rounding rounding,
                     uint32_t key) {
    XFT_ARG(stream, "adamw", g, XFT_DATA, 0, 0);
    XFT_OP_FAIL_IF(!config, stream, "adamw: config is NULL");
    XFT_OP_FAIL_IF(!(config->beta1 > 0 && config->beta1 < 1 && config->beta2 > 0 && config->beta2 < 1), stream,
                   "adamw: beta1 is %g and beta2 is %g; expected between 0 and 1", (double)config->beta1,
                   (double)config->beta2);
    XFT_OP_FAIL_IF(!(config->eps >= 0) || isinf(config->eps), stream,
                   "adamw: eps is %g; expected a finite number, not negative", (double)config->eps);
    XFT_FINITE(stream, "adamw", config->weight_decay);
    XFT_TRY(check_update(stream, "adamw", g, step, state, t, used, w, master, rounding));
    stack s = stack_of(g);
    uint32_t rows = s.entries * s.rows;
    XFT_ARG(stream, "adamw", m, XFT_F32_ONLY, rows, s.cols);
    XFT_ARG(stream, "adamw", v, XFT_F32_ONLY, rows, s.cols);
    XFT_OP_FAIL_IF(m->pitch != v->pitch || (master && master->pitch != m->pitch), stream,
                   "adamw: m, v and master differ in row pitch");
    xft_grid grid = xft_rowwise_grid(xft_stream_device(stream), rows, s.cols);
    xft_adamw_params p = {.rows = rows,
                          .cols = s.cols,
                          .entry_rows = s.rows,
                          .ld_g = g->pitch,
                          .ld_w = w->pitch,
                          .ld_m = m->pitch,
                          .beta1 = config->beta1,
                          .beta2 = config->beta2,
                          .log_beta1 = (float)log((double)config->beta1),
                          .log_beta2 = (float)log((double)config->beta2),
                          .eps = config->eps,
                          .weight_decay = config->weight_decay,
                          .key = key,
                          .groups = grid.groups};
    xft_dispatch d = {
        .op = XFT_OP_adamw,
        .tensors = {g, step, state, t, used, w, m, v, master},
        .params = &p,
        .param_size = sizeof p,
        .constants = {grid.wg, g->dtype, w->dtype, rounding == XFT_ROUND_STOCHASTIC, master != NULL, used != NULL},
        .groups = {p.groups, 1, 1}};
    return xft_record(stream, &d);
}

/* scratch of the statistics: partial column sums; of the update: mean [E] | scale [2E] | squares [E*blocks]. */
uint64_t xft_adafactor_scratch(const xft_tensor *g) {
    if (!g || g->rank < 1 || g->rank > 4) return 0;
    stack s = stack_of(g);
    uint64_t blocks = xft_ceil_div(s.rows, ADAFACTOR_BLOCK), statistics = blocks * s.entries * s.cols;
    uint64_t update = ((uint64_t)s.entries + 15) / 16 * 48 + s.entries * blocks;
    return statistics > update ? statistics : update;
}

/* Elements [first, first+count) of a vector, as a vector. first is a multiple of 16. */
static xft_tensor part_of(const xft_tensor *vector, uint32_t first, uint32_t count) {
    xft_tensor part = *vector;
    part.rank = 1;
    part.shape[0] = count;
    part.shape[1] = part.shape[2] = part.shape[3] = 1;
    part.pitch = (count + 3) / 4 * 4;
    part.offset += 4 * (uint64_t)first;
    return part;
}

static xft_status check_scratch(xft_stream *stream, const char *op, const xft_tensor *g, const xft_tensor *scratch) {
    XFT_ARG(stream, op, scratch, XFT_F32_ONLY, 1, 0);
    XFT_OP_FAIL_IF(xft_cols(scratch) < xft_adafactor_scratch(g), stream, "%s: scratch has %u elements; expected %llu",
                   op, xft_cols(scratch), (unsigned long long)xft_adafactor_scratch(g));
    return XFT_OK;
}

xft_status xft_adafactor_statistics(xft_stream *stream, const xft_tensor *g, const xft_tensor *scratch,
                                    const xft_tensor *rows, const xft_tensor *columns) {
    XFT_ARG(stream, "adafactor_statistics", g, XFT_DATA, 0, 0);
    XFT_TRY(check_scratch(stream, "adafactor_statistics", g, scratch));
    stack s = stack_of(g);
    XFT_ARG(stream, "adafactor_statistics", rows, XFT_F32_ONLY, 1, s.entries * s.rows);
    XFT_ARG(stream, "adafactor_statistics", columns, XFT_F32_ONLY, s.entries, s.cols);
    XFT_APART(stream, "adafactor_statistics", 3, XFT_NAMED(scratch), XFT_NAMED(rows), XFT_NAMED(columns), XFT_NAMED(g));
    uint32_t blocks = xft_ceil_div(s.rows, ADAFACTOR_BLOCK);
    xft_tensor partial = part_of(scratch, 0, blocks * s.entries * s.cols);
    xft_adafactor_rows_params p = {s.rows, s.cols, g->pitch, blocks, s.entries};
    xft_dispatch d = {.op = XFT_OP_adafactor_rows,
                      .tensors = {g, rows, &partial},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {64, g->dtype},
                      .groups = {blocks, s.entries, 1}};
    XFT_TRY(xft_record(stream, &d));
    xft_adafactor_columns_params q = {blocks, s.cols, columns->pitch, xft_ceil_div(s.cols, 64), s.entries};
    xft_dispatch e = {.op = XFT_OP_adafactor_columns,
                      .tensors = {&partial, columns},
                      .params = &q,
                      .param_size = sizeof q,
                      .constants = {64},
                      .groups = {q.groups, s.entries, 1}};
    return xft_record(stream, &e);
}

xft_status xft_adafactor_update(xft_stream *stream, float weight_decay, const xft_tensor *g, const xft_tensor *rows,
                                const xft_tensor *columns, const xft_tensor *scratch, const xft_tensor *step,
                                const xft_tensor *state, const xft_tensor *t, const xft_tensor *used,
                                const xft_tensor *w, const xft_tensor *master, const xft_tensor *r, const xft_tensor *c,
                                xft_rounding rounding, uint32_t key) {
    XFT_ARG(stream, "adafactor_update", g, XFT_DATA, 0, 0);
    XFT_FINITE(stream, "adafactor_update", weight_decay);
    XFT_TRY(check_update(stream, "adafactor_update", g, step, state, t, used, w, master, rounding));
    XFT_TRY(check_scratch(stream, "adafactor_update", g, scratch));
    stack s = stack_of(g);
    XFT_ARG(stream, "adafactor_update", rows, XFT_F32_ONLY, 1, s.entries * s.rows);
    XFT_ARG(stream, "adafactor_update", columns, XFT_F32_ONLY, s.entries, s.cols);
    XFT_ARG(stream, "adafactor_update", r, XFT_F32_ONLY, s.entries, s.rows);
    XFT_ARG(stream, "adafactor_update", c, XFT_F32_ONLY, s.entries, s.cols);
    XFT_APART(stream, "adafactor_update", 5, XFT_NAMED(scratch), XFT_NAMED(w), XFT_NAMED(master), XFT_NAMED(r),
              XFT_NAMED(c), XFT_NAMED(g), XFT_NAMED(rows), XFT_NAMED(columns), XFT_NAMED(step), XFT_NAMED(state),
              XFT_NAMED(t), XFT_NAMED(used));
    XFT_OP_FAIL_IF(columns->pitch != c->pitch, stream, "adafactor_update: columns and c differ in row pitch");
    xft_device *device = xft_stream_device(stream);
    uint32_t wg = xft_workgroup_for(device), row_wg = xft_rowwise_grid(device, s.rows, s.cols).wg;
    uint32_t blocks = xft_ceil_div(s.rows, ADAFACTOR_BLOCK), has_used = used != NULL;
    uint32_t entries_padded = (s.entries + 15) / 16 * 16;
    xft_tensor mean = part_of(scratch, 0, s.entries), scale = part_of(scratch, entries_padded, 2 * s.entries);
    xft_tensor squares = part_of(scratch, 3 * entries_padded, s.entries * blocks);

    xft_adafactor_moments_params moments = {s.rows, s.cols, r->pitch, c->pitch, s.entries};
    xft_dispatch d1 = {.op = XFT_OP_adafactor_moments,
                       .tensors = {rows, columns, state, t, used, r, c, &mean},
                       .params = &moments,
                       .param_size = sizeof moments,
                       .constants = {wg, has_used},
                       .groups = {2, s.entries, 1}};
    XFT_TRY(xft_record(stream, &d1));
    xft_adafactor_rms_params rms = {s.rows, s.cols, g->pitch, r->pitch, c->pitch, blocks, ADAFACTOR_BLOCK, s.entries};
    xft_dispatch d2 = {.op = XFT_OP_adafactor_rms,
                       .tensors = {g, r, c, &mean, state, &squares},
                       .params = &rms,
                       .param_size = sizeof rms,
                       .constants = {row_wg, g->dtype},
                       .groups = {blocks, s.entries, 1}};
    XFT_TRY(xft_record(stream, &d2));
    xft_adafactor_scale_params scaling = {blocks, (float)s.rows * (float)s.cols, weight_decay, s.entries};
    xft_dispatch d3 = {.op = XFT_OP_adafactor_scale,
                       .tensors = {&squares, step, state, used, &scale},
                       .params = &scaling,
                       .param_size = sizeof scaling,
                       .constants = {wg, has_used},
                       .groups = {s.entries, 1, 1}};
    XFT_TRY(xft_record(stream, &d3));
    uint32_t all_rows = s.entries * s.rows;
    xft_adafactor_apply_params apply = {.rows = all_rows,
                                        .cols = s.cols,
                                        .entry_rows = s.rows,
                                        .ld_g = g->pitch,
                                        .ld_r = r->pitch,
                                        .ld_c = c->pitch,
                                        .ld_w = w->pitch,
                                        .ld_master = master ? master->pitch : 0,
                                        .key = key,
                                        .groups = xft_groups_for(device, all_rows)};
    xft_dispatch d4 = {.op = XFT_OP_adafactor_apply,
                       .tensors = {g, r, c, &mean, &scale, step, w, master},
                       .params = &apply,
                       .param_size = sizeof apply,
                       .constants = {row_wg, g->dtype, w->dtype, rounding == XFT_ROUND_STOCHASTIC, master != NULL},
                       .groups = {apply.groups, 1, 1}};
    return xft_record(stream, &d4);
}

xft_status xft_adafactor_vector(xft_stream *stream, float weight_decay, const xft_tensor *g, const xft_tensor *step,
                                const xft_tensor *state, const xft_tensor *t, const xft_tensor *w,
                                const xft_tensor *s) {
    XFT_ARG(stream, "adafactor_vector", g, XFT_F32_ONLY, 1, 0);
    XFT_FINITE(stream, "adafactor_vector", weight_decay);
    uint32_t count = xft_cols(g);
    XFT_ARG(stream, "adafactor_vector", step, XFT_U32_ONLY, 1, STEP_WORDS);
    XFT_ARG(stream, "adafactor_vector", state, XFT_U32_ONLY, 1, STATE_WORDS);
    XFT_ARG(stream, "adafactor_vector", t, XFT_U32_ONLY, 1, 1);
    XFT_ARG(stream, "adafactor_vector", w, XFT_F32_ONLY, 1, count);
    XFT_ARG(stream, "adafactor_vector", s, XFT_F32_ONLY, 1, count);
    xft_adafactor_vector_params p = {count, weight_decay};
    xft_dispatch d = {.op = XFT_OP_adafactor_vector,
                      .tensors = {g, step, state, t, w, s},
                      .params = &p,
                      .param_size = sizeof p,
                      .constants = {xft_workgroup_for(xft_stream_device(stream))},
                      .groups = {1, 1, 1}};
    return xft_record(stream, &d);
}
