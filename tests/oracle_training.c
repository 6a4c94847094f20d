/* Cases of training: trajectories, optimizers, schedules, clipping. */
#include "oracle.h"

#include "error.h"
#include "model.h"
#include "optimizer.h"
#include "trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

xft_status oracle_write_mixing(const oracle *o, xft_model *model);

/* ---- Trajectories ---- */

static xft_status compare_final(oracle *o, const xft_model *model, const xft_trainer *t) {
    for (uint32_t i = 0; i < model->tensor_count; i++)
        XFT_TRY(oracle_compare_tensor(o, &model->tensors[i].tensor, "final.%s", model->tensors[i].name));
    for (uint32_t l = 0; t->options.merge && l < model->config.num_layers; l++) {
        const xft_layer_weights *w = &t->merge.merged.layers[l];
        XFT_TRY(oracle_compare_tensor(o, &model->weights.layers[l].mixing, "final.average_weights.%u", l));
        XFT_TRY(oracle_compare_tensor(o, &w->gate, "final.merged.layers.%u.gate_proj", l));
        XFT_TRY(oracle_compare_tensor(o, &w->up, "final.merged.layers.%u.up_proj", l));
        XFT_TRY(oracle_compare_tensor(o, &w->down, "final.merged.layers.%u.down_proj", l));
    }
    return XFT_OK;
}

static xft_status train(oracle *o, xft_model *model, const xft_train_options *options, uint32_t steps, uint32_t accum) {
    json_t *rates = json_object_get(o->params, "lr_per_step");
    double *curves[4]; /* ce, balance, total, grad_norm */
    for (int i = 0; i < 4; i++) curves[i] = calloc(steps, sizeof **curves);
    oracle_batch *batches = calloc(accum, sizeof *batches);
    xft_batch *plain = calloc(accum, sizeof *plain);
    xft_trainer *t;
    xft_metrics m;
    xft_status status = xft_trainer_create(model, options, &t);
    for (uint32_t step = 0; step < steps && status == XFT_OK; step++) {
        for (uint32_t i = 0; i < accum && status == XFT_OK; i++) {
            status = oracle_batch_make(o, step * accum + i, &model->config, false, &batches[i]);
            plain[i] = batches[i].batch;
        }
        if (status == XFT_OK)
            status = xft_trainer_step(t, plain, accum, json_number_value(json_array_get(rates, step)));
        for (uint32_t i = 0; i < accum; i++) oracle_batch_free(&batches[i]);
        if (status == XFT_OK) status = step + 1 < steps ? xft_trainer_metrics(t, &m) : XFT_OK;
        /* one step late: what comes now belongs to the step before */
        for (int late = step + 1 < steps ? 0 : -1; late < 1 && status == XFT_OK; late++) {
            if (step + 1 == steps) status = late < 0 ? xft_trainer_metrics(t, &m) : xft_trainer_flush(t, &m);
            if (status != XFT_OK || !m.labels) continue;
            curves[0][m.step] = m.loss;
            curves[1][m.step] = m.balance;
            curves[2][m.step] = m.loss + m.balance;
            curves[3][m.step] = m.grad_norm;
        }
    }
    static const char *const names[] = {"step.ce", "step.balance", "step.total", "step.grad_norm"};
    for (int i = 0; i < 4 && status == XFT_OK; i++) oracle_compare(o, curves[i], steps, "%s", names[i]);
    if (status == XFT_OK) status = compare_final(o, model, t);
    xft_trainer_destroy(t);
    free(plain);
    free(batches);
    for (int i = 0; i < 4; i++) free(curves[i]);
    return status;
}

/* A number of the parameters against what was computed. */
static void expect_number(oracle *o, const char *name, double expected, double computed) {
    const double error = fabs(computed / expected - 1);
    if (error <= 1e-4 || o->failed++) return; /* NaN fails */
    snprintf(o->message, sizeof o->message, "%s: %g, expected %g", name, computed, expected);
}

/* Cross-entropy over all labelled tokens of all steps with the model as it is. */
static xft_status whole_loss(const oracle *o, xft_model *model, const xft_train_options *options, uint32_t count,
                             double *loss) {
    oracle_batch *batches = calloc(count, sizeof *batches);
    xft_batch *plain = calloc(count, sizeof *plain);
    xft_trainer *t;
    xft_metrics m = {0};
    xft_status status = xft_trainer_create(model, options, &t);
    for (uint32_t i = 0; i < count && status == XFT_OK; i++) {
        status = oracle_batch_make(o, i, &model->config, false, &batches[i]);
        plain[i] = batches[i].batch;
    }
    if (status == XFT_OK) status = xft_trainer_step(t, plain, count, 0);
    if (status == XFT_OK) status = xft_trainer_flush(t, &m);
    *loss = m.loss;
    xft_trainer_destroy(t);
    for (uint32_t i = 0; i < count; i++) oracle_batch_free(&batches[i]);
    free(plain);
    free(batches);
    return status;
}

/* What merging has learned: alpha of the useful expert in every layer. */
static xft_status compare_alpha(oracle *o, const xft_model *model) {
    const json_t *final = json_object_get(o->params, "final_alpha");
    const uint32_t useful = (uint32_t)oracle_number(o, "useful_expert", 1) - 1;
    if (!final) return XFT_OK;
    if (json_array_size(final) != model->config.num_layers) return xft_fail(XFT_ERROR_FORMAT, "final_alpha: layers");
    for (uint32_t l = 0; l < model->config.num_layers; l++) {
        float a[64];
        double sum = 0;
        XFT_TRY(xft_tensor_read(&model->weights.layers[l].mixing, XFT_F32, a));
        for (uint32_t i = 0; i < xft_config_routed(&model->config); i++) sum += exp((double)a[i]);
        expect_number(o, "final_alpha", json_number_value(json_array_get(final, l)), exp((double)a[useful]) / sum);
    }
    return XFT_OK;
}

xft_status oracle_run_training(oracle *o) {
    bool merge = !strcmp(o->kind, "train_merge");
    uint32_t steps = (uint32_t)oracle_number(o, "steps", 0), accum = (uint32_t)oracle_number(o, "grad_accum", 1);
    xft_model *model;
    oracle_batch first = {0};
    XFT_TRY(oracle_model(o, "model", merge, &model));
    xft_status status = merge ? oracle_write_mixing(o, model) : XFT_OK;
    if (status == XFT_OK && merge)
        status = xft_model_set_shared_weight(model, (float)oracle_number(o, "shared_expert_weight", 0.75));
    if (status == XFT_OK) status = oracle_batch_make(o, 0, &model->config, false, &first);
    xft_train_options options = {.tokens = first.batch.tokens,
                                 .sequences = first.batch.sequences,
                                 .merge = merge,
                                 .stored_noise = true,
                                 .optimizer = !strcmp(oracle_text(o, "optimizer"), "adamw") ? XFT_ADAMW : XFT_ADAFACTOR,
                                 .weight_decay = (float)oracle_number(o, "weight_decay", 0),
                                 .max_norm = (float)oracle_number(o, "max_norm", 0),
                                 .official = !strcmp(oracle_text(o, "variant"), "official")};
    const bool losses = json_object_get(o->params, "learned_loss");
    double uniform = 0, learned = 0;
    if (status == XFT_OK && losses) status = whole_loss(o, model, &options, steps * accum, &uniform);
    if (status == XFT_OK) status = train(o, model, &options, steps, accum);
    if (status == XFT_OK && losses) status = whole_loss(o, model, &options, steps * accum, &learned);
    if (status == XFT_OK) status = compare_alpha(o, model);
    if (losses) {
        expect_number(o, "uniform_loss", oracle_number(o, "uniform_loss", 0), uniform);
        expect_number(o, "learned_loss", oracle_number(o, "learned_loss", 0), learned);
    }
    oracle_batch_free(&first);
    xft_model_destroy(model);
    return status;
}

/* ---- Optimizers by themselves ---- */

/* Three parameters where a model has its embedding, last norm and head: a matrix, a vector, a matrix. */
static const size_t places[] = {offsetof(xft_weights, embed), offsetof(xft_weights, norm), offsetof(xft_weights, head)};
enum { PLACES = 3 };

static bool all(const xft_parameter *p) {
    return p != NULL;
}

typedef struct bench {
    xft_config config;
    xft_parameter list[PLACES];
    xft_parameters parameters;
    xft_train_options options;
    xft_arena *arena;
    xft_weights w, d;
    xft_optimization optimization;
    xft_tensor step, zero;
} bench;

static xft_status bench_open(bench *t, const oracle *o, const char *input) {
    xft_room room = {.device = o->device};
    t->config = (xft_config){.num_layers = 1};
    t->parameters = (xft_parameters){.list = t->list};
    for (uint32_t i = 0; i < PLACES; i++) {
        char name[40];
        snprintf(name, sizeof name, "%s.%u", input, i);
        const xft_stored_tensor *s = xft_safetensors_find(o->inputs, name);
        XFT_FAIL_IF(!s, XFT_ERROR_FORMAT, "%s: no %s", o->folder, name);
        xft_parameter *p = &t->list[t->parameters.count++];
        *p = (xft_parameter){
            .layer = UINT32_MAX, .member = places[i], .rank = s->rank, .matrix = s->rank > 1, .decayed = true};
        snprintf(p->name, sizeof p->name, "param.%u", i);
        uint32_t rows = 1;
        for (uint32_t d = 0; d < s->rank; d++) p->shape[d] = (uint32_t)s->shape[d];
        for (uint32_t d = 0; d + 1 < s->rank; d++) rows *= p->shape[d];
        if (s->rank == 3) { /* for the norm's sake a matrix of as many rows */
            p->rank = 2;
            p->shape[0] = rows;
            p->shape[1] = p->shape[2];
        }
        p->stored_rows = rows;
    }
    XFT_TRY(xft_arena_create(o->device, "optimizer", 0, &t->arena));
    room.arena = t->arena;
    XFT_TRY(xft_weights_take(&room, &t->config, &t->parameters, XFT_F32, XFT_F32, all, &t->w));
    XFT_TRY(xft_weights_take(&room, &t->config, &t->parameters, XFT_F32, XFT_F32, all, &t->d));
    XFT_TRY(xft_train_options_check(&t->options, XFT_F32, false));
    XFT_TRY(xft_optimization_take(&t->optimization, &room, &t->options, &t->config, &t->parameters, &t->w, &t->d, NULL,
                                  all));
    t->step = xft_room_take(&room, XFT_U32, 16, 0, 0);
    t->zero = xft_room_take(&room, XFT_F32, 1, 0, 0);
    XFT_TRY(room.status);
    XFT_TRY(xft_tensor_write(&t->zero, XFT_F32, &(float){0}));
    return xft_optimization_start(&t->optimization, o->device);
}

static void bench_close(bench *t) {
    xft_optimization_free(&t->optimization);
    xft_weights_free(&t->w);
    xft_weights_free(&t->d);
    xft_arena_destroy(t->arena);
}

static xft_status bench_write(const bench *t, const oracle *o, const xft_weights *to, const char *input,
                              uint32_t step) {
    for (uint32_t i = 0; i < PLACES; i++) {
        char name[40];
        snprintf(name, sizeof name, "%s.%u", input, i);
        float *values = oracle_floats(o, name, NULL);
        xft_tensor tensor = xft_parameter_view(&t->list[i], to);
        xft_status status =
            xft_tensor_write(&tensor, XFT_F32, values + (size_t)step * xft_rows(&tensor) * xft_cols(&tensor));
        free(values);
        XFT_TRY(status);
    }
    return XFT_OK;
}

static xft_status bench_step(const bench *t, const oracle *o, uint32_t step, double lr) {
    xft_stream *s;
    xft_step_block block = {.step = step, .lr = (float)lr, .max_norm = t->options.max_norm};
    XFT_TRY(xft_tensor_write(&t->step, XFT_U32, &block));
    XFT_TRY(xft_stream_create(o->device, NULL, &s));
    xft_optimization_record(&t->optimization, s, &t->step, &t->zero, &t->zero);
    xft_status status = xft_stream_run(s);
    xft_stream_destroy(s);
    return status;
}

static xft_status compare_state(oracle *o, const bench *t, const char *name) {
    for (uint32_t i = 0; i < PLACES; i++) {
        const xft_trained *p = &t->optimization.list[i];
        const xft_tensor *state[] = {&p->m, &p->v, &p->r, &p->c};
        static const char *const endings[] = {"exp_avg", "exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col"};
        for (uint32_t k = 0; k < 4; k++)
            if (state[k]->rank) XFT_TRY(oracle_compare_tensor(o, state[k], "%s.state.%u.%s", name, i, endings[k]));
    }
    return XFT_OK;
}

static xft_status run_optimizer(oracle *o, const char *name, xft_train_options options) {
    bench t = {.options = options};
    uint32_t steps = (uint32_t)oracle_number(o, "steps", 0);
    json_t *rates = json_object_get(o->params, "lr");
    xft_status status = bench_open(&t, o, "param");
    if (status == XFT_OK) status = bench_write(&t, o, &t.w, "param", 0);
    for (uint32_t step = 0; step < steps && status == XFT_OK; step++) {
        status = bench_write(&t, o, &t.d, "grad", step);
        if (status == XFT_OK) status = bench_step(&t, o, step, json_number_value(json_array_get(rates, step)));
        for (uint32_t i = 0; i < PLACES && status == XFT_OK; i++) {
            xft_tensor w = xft_parameter_view(&t.list[i], &t.w);
            if (oracle_wants(o, "%s.param.%u.step%u", name, i, step + 1))
                status = oracle_compare_tensor(o, &w, "%s.param.%u.step%u", name, i, step + 1);
        }
    }
    if (status == XFT_OK) status = compare_state(o, &t, name);
    bench_close(&t);
    return status;
}

xft_status oracle_run_optimizer(oracle *o) {
    xft_train_options plain = {.tokens = 1, .sequences = 1}, decay = plain, adamw = plain;
    decay.weight_decay = adamw.weight_decay = 0.01f;
    adamw.optimizer = XFT_ADAMW;
    XFT_TRY(run_optimizer(o, "adafactor", plain));
    XFT_TRY(run_optimizer(o, "adafactor_wd", decay));
    return run_optimizer(o, "adamw", adamw);
}

/* The factor is applied inside the updates; here it multiplies what was given. */
xft_status oracle_run_clipping(oracle *o) {
    json_t *norms = json_object_get(o->params, "max_norm");
    for (uint32_t j = 0; j < json_array_size(norms); j++) {
        bench t = {.options = {.tokens = 1,
                               .sequences = 1,
                               .optimizer = XFT_ADAMW,
                               .max_norm = (float)json_number_value(json_array_get(norms, j))}};
        xft_step_state state;
        xft_status status = bench_open(&t, o, "grad");
        if (status == XFT_OK) status = bench_write(&t, o, &t.d, "grad", 0);
        if (status == XFT_OK) status = bench_write(&t, o, &t.w, "grad", 0);
        if (status == XFT_OK) status = bench_step(&t, o, 0, 0);
        if (status == XFT_OK) status = xft_tensor_read(&t.optimization.state, XFT_U32, &state);
        double norm = state.grad_norm;
        if (status == XFT_OK) oracle_compare(o, &norm, 1, "%u.total_norm", j);
        for (uint32_t i = 0; i < PLACES && status == XFT_OK; i++) {
            char name[40];
            snprintf(name, sizeof name, "grad.%u", i);
            uint64_t count = 0;
            float *g = oracle_floats(o, name, &count);
            double *clipped = malloc(count * sizeof *clipped);
            for (uint64_t k = 0; k < count; k++) clipped[k] = (double)g[k] * state.clip;
            oracle_compare(o, clipped, count, "%u.grad.%u", j, i);
            free(clipped);
            free(g);
        }
        bench_close(&t);
        XFT_TRY(status);
    }
    return XFT_OK;
}

xft_status oracle_run_schedule(oracle *o) {
    uint32_t steps = (uint32_t)oracle_number(o, "total_steps", 0),
             warmup = (uint32_t)oracle_number(o, "warmup_steps", 0);
    static const char *const names[] = {"linear", "cosine"};
    double *rates = malloc(steps * sizeof *rates);
    for (int kind = 0; kind < 2; kind++) {
        for (uint32_t i = 0; i < steps; i++)
            rates[i] = xft_schedule_rate((xft_schedule)kind, oracle_number(o, "lr", 0), warmup, steps, i);
        oracle_compare(o, rates, steps, "%s", names[kind]);
    }
    free(rates);
    return XFT_OK;
}
