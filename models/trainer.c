/* A training step: micro-batches add up gradients, an update applies them. Both are recorded once and replayed. */
#include "trainer.h"

#include "callbacks.h"
#include "error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { UPDATE_SLOTS = 2 };

/* ---- Options ---- */

xft_status xft_train_options_check(xft_train_options *o, xft_dtype dtype, bool mixing) {
    XFT_TRY(xft_batch_room_check("train options", o->tokens, o->sequences));
    XFT_FAIL_IF((unsigned)o->optimizer > XFT_ADAMW, XFT_ERROR_INVALID_ARGUMENT,
                "train options: optimizer %d is unknown", (int)o->optimizer);
    XFT_FAIL_IF((unsigned)o->precision > XFT_PRECISION_NEAREST, XFT_ERROR_INVALID_ARGUMENT,
                "train options: precision %d is unknown", (int)o->precision);
    XFT_FAIL_IF((o->precision == XFT_PRECISION_F32) != (dtype == XFT_F32) && !o->merge, XFT_ERROR_INVALID_ARGUMENT,
                "train options: precision does not fit a model of %s", xft_dtype_name(dtype));
    XFT_FAIL_IF(o->grad_dtype != XFT_F32 && o->grad_dtype != XFT_BF16, XFT_ERROR_INVALID_ARGUMENT,
                "train options: grad_dtype %s, must be f32 or bf16", xft_dtype_name(o->grad_dtype));
    XFT_FAIL_IF(o->merge && !mixing, XFT_ERROR_INVALID_ARGUMENT,
                "train options: merge needs a model with mixing coefficients");
    XFT_FAIL_IF(!(o->weight_decay >= 0) || !(o->max_norm >= 0), XFT_ERROR_INVALID_ARGUMENT,
                "train options: weight_decay %g and max_norm %g must not be negative", (double)o->weight_decay,
                (double)o->max_norm);
    XFT_FAIL_IF(!(o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1) || !(o->eps >= 0),
                XFT_ERROR_INVALID_ARGUMENT,
                "train options: beta1 %g and beta2 %g must be from 0 to below 1, eps %g not negative", (double)o->beta1,
                (double)o->beta2, (double)o->eps);
    if (o->beta1 == 0) o->beta1 = 0.9f;
    if (o->beta2 == 0) o->beta2 = 0.999f;
    if (o->eps == 0) o->eps = 1e-8f;
    return XFT_OK;
}

/* ---- Memory ---- */

static bool is_mixing(const xft_parameter *p) {
    return p->member == offsetof(xft_layer_weights, mixing) && p->layer != UINT32_MAX;
}
static bool is_network(const xft_parameter *p) {
    return !is_mixing(p);
}

static xft_status take_merge(xft_trainer *t, const xft_config *moe, const xft_weights *weights, xft_room *room) {
    xft_merge *m = &t->merge;
    room->kind = XFT_ROOM_WEIGHTS;
    uint32_t L = moe->num_layers, I = moe->intermediate_size, H = moe->hidden_size, routed = xft_config_routed(moe);
    m->experts = weights;
    m->lambda = moe->shared_expert_weight;
    m->alpha = calloc(2 * L, sizeof *m->alpha);
    m->merged.layers = calloc(L, sizeof *m->merged.layers);
    XFT_FAIL_IF(!m->alpha || !m->merged.layers, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u layers", L);
    m->d_alpha = m->alpha + L;
    xft_layer_weights *layers = m->merged.layers;
    if (weights) {
        m->merged = *weights;
        m->merged.layers = layers;
    }
    for (uint32_t l = 0; l < L; l++) { /* merged in f32: bf16 would hide small moves of alpha */
        if (weights) layers[l] = weights->layers[l];
        layers[l].gate = xft_room_take(room, XFT_F32, I, H, 0);
        layers[l].up = xft_room_take(room, XFT_F32, I, H, 0);
        layers[l].down = xft_room_take(room, XFT_F32, H, I, 0);
        m->alpha[l] = xft_room_take(room, XFT_F32, routed, 0, 0);
        m->d_alpha[l] = xft_room_take(room, XFT_F32, routed, 0, 0);
    }
    m->d_in = xft_room_take(room, XFT_F32, I, H, 0);
    m->d_down = xft_room_take(room, XFT_F32, H, I, 0);
    m->dots = xft_room_take(room, XFT_F32, 64 + (I > H ? I : H) / 64, routed, 0); // scratch of mix_backward
    return room->status;
}

static xft_noise noise_of(const xft_train_options *o, const xft_config *config) {
    if (!config->num_experts || !config->gate_noise) return XFT_NOISE_NONE;
    return o->stored_noise ? XFT_NOISE_STORED : XFT_NOISE_PHILOX;
}

xft_status xft_trainer_take(xft_trainer *t, const xft_config *config, const xft_parameters *parameters,
                            const xft_weights *weights, xft_dtype dtype, xft_room *room) {
    const xft_train_options *o = &t->options;
    bool merge = o->merge;
    room->kind = XFT_ROOM_GRADIENTS;
    XFT_TRY(xft_weights_take(room, config, parameters, o->grad_dtype, XFT_F32, merge ? is_mixing : is_network, &t->d));
    t->dense = xft_config_dense(config);
    if (merge) XFT_TRY(take_merge(t, config, weights, room));
    const xft_config *c = merge ? &t->dense : config;
    t->network = (xft_network){
        .config = c,
        .w = merge ? &t->merge.merged : weights,
        .d = &t->d,
        .merge = merge ? &t->merge : NULL,
        .options = {.tokens = o->tokens,
                    .sequences = o->sequences,
                    .head_chunk = o->head_chunk,
                    .grad_dtype = merge ? XFT_F32 : o->grad_dtype,
                    .backward = true,
                    .recompute = o->recompute,
                    .official = o->official,
                    .frozen = merge,
                    .noise = noise_of(o, c)},
        .dtype = dtype,
        .rope_theta = xft_network_theta(c, o->official),
        .router = xft_network_router(c, noise_of(o, c), o->official),
    };
    XFT_TRY(xft_network_take(&t->network, room));
    room->kind = XFT_ROOM_OPTIMIZER;
    return xft_optimization_take(&t->optimization, room, o, config, parameters, weights, &t->d, &t->network.used,
                                 merge ? is_mixing : is_network);
}

/* ---- Recording ---- */

/* W of every layer from its a. */
static void record_mixing(const xft_merge *m, uint32_t layers, xft_stream *s) {
    for (uint32_t l = 0; l < layers; l++) {
        const xft_layer_weights *x = &m->experts->layers[l], *y = &m->merged.layers[l];
        xft_mix_softmax(s, &x->mixing, &m->alpha[l]);
        xft_mix(s, &x->gate, &m->alpha[l], m->lambda, &y->gate);
        xft_mix(s, &x->up, &m->alpha[l], m->lambda, &y->up);
        xft_mix(s, &x->down, &m->alpha[l], m->lambda, &y->down);
    }
}

static xft_status record_micro_batch(const xft_network *n, xft_device *device, const char *name, uint32_t slots,
                                     bool timers, xft_stream **stream, xft_input_layout *at) {
    XFT_TRY(xft_stream_create(device, &(xft_stream_options){.name = name, .slots = slots, .timers = timers}, stream));
    xft_network_inputs(n, *stream, at);
    xft_network_forward(n, *stream);
    xft_head_loss(n, *stream);
    xft_network_backward(n, *stream);
    return xft_stream_finish(*stream);
}

static xft_status record_update(xft_trainer *t) {
    xft_stream *s;
    XFT_TRY(xft_stream_create(
        t->model->device, &(xft_stream_options){.name = "update", .slots = UPDATE_SLOTS, .timers = t->options.timers},
        &t->update_stream));
    s = t->update_stream;
    xft_stream_input(s, &t->network.step, &t->step_at);
    for (uint32_t l = 0; t->options.merge && l < t->dense.num_layers; l++)
        xft_mix_softmax_backward(s, &t->merge.alpha[l], &t->merge.d_alpha[l], &t->d.layers[l].mixing);
    xft_optimization_record(&t->optimization, s, &t->network.step, &t->network.loss, &t->network.balance);
    if (t->options.merge) record_mixing(&t->merge, t->dense.num_layers, s);
    xft_stream_output(s, &t->optimization.state, &t->state_at);
    return xft_stream_finish(s);
}

/* ---- Life ---- */

/* What the trainer takes beside the model. */
static xft_status count_trainer(const xft_trainer *t, xft_room *count) {
    const xft_model *m = t->model;
    xft_trainer *counted = calloc(1, sizeof *counted);
    XFT_FAIL_IF(!counted, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a trainer");
    counted->options = t->options;
    const xft_status status =
        xft_trainer_take(counted, &m->config, &m->parameters, &m->weights, m->options.dtype, count);
    xft_trainer_destroy(counted);
    return status;
}

/* Refuses with numbers what the device has no memory for, and names what would take less. */
static xft_status check_budget(const xft_trainer *t, const xft_room *count) {
    const xft_model *m = t->model;
    const xft_train_options *o = &t->options;
    const uint64_t needed = xft_room_total(count), *b = count->bytes;
    uint64_t total, available;
    bool told;
    XFT_TRY(xft_device_memory(m->device, &total, &available, &told));
    if (needed <= available) return XFT_OK;
    return xft_fail(
        XFT_ERROR_OUT_OF_DEVICE_MEMORY,
        "training takes %.2f GiB beside the weights (gradients %.2f, optimizer %.2f, activations %.2f, scratch "
        "%.2f); %s has %.2f GiB left. Less is taken by%s%s%s a smaller micro-batch (now %u tokens)%s",
        needed / 0x1p30, b[XFT_ROOM_GRADIENTS] / 0x1p30, b[XFT_ROOM_OPTIMIZER] / 0x1p30,
        b[XFT_ROOM_ACTIVATIONS] / 0x1p30, b[XFT_ROOM_SCRATCH] / 0x1p30, xft_device_get_info(m->device)->id,
        available / 0x1p30, o->recompute ? "" : " recomputation,", o->optimizer == XFT_ADAMW ? " Adafactor," : "",
        o->precision == XFT_PRECISION_STOCHASTIC ? "" : " bf16,", o->tokens,
        m->config.num_experts ? ", fewer experts" : "");
}

static xft_status start(xft_trainer *t) {
    XFT_TRY(xft_optimization_start(&t->optimization, t->model->device));
    XFT_TRY(xft_network_upload(&t->network));
    if (t->options.merge) XFT_TRY(xft_trainer_refresh(t));
    t->rest = t->network;
    t->rest.accumulate = true;
    XFT_TRY(record_micro_batch(&t->network, t->model->device, "micro-batch", UPDATE_SLOTS, t->options.timers,
                               &t->first_stream, &t->first_at));
    return record_update(t);
}

xft_status xft_trainer_create(xft_model *model, const xft_train_options *options, xft_trainer **trainer) {
    XFT_NEED(model, options, trainer);
    *trainer = NULL;
    xft_trainer *t = calloc(1, sizeof *t);
    XFT_FAIL_IF(!t, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a trainer");
    t->model = model;
    t->options = *options;
    xft_status status = xft_train_options_check(&t->options, model->options.dtype, model->options.mixing);
    xft_room count = {.device = model->device};
    if (status == XFT_OK) status = count_trainer(t, &count);
    if (status == XFT_OK) status = check_budget(t, &count);
    if (status == XFT_OK) status = xft_room_arena(&count, model->device, "training", &t->arena);
    xft_room room = {.device = model->device, .arena = t->arena};
    if (status == XFT_OK)
        status = xft_trainer_take(t, &model->config, &model->parameters, &model->weights, model->options.dtype, &room);
    if (status == XFT_OK) status = start(t);
    if (status != XFT_OK) {
        xft_trainer_destroy(t);
        return status;
    }
    *trainer = t;
    return XFT_OK;
}

void xft_trainer_destroy(xft_trainer *t) {
    if (!t) return;
    xft_stream_destroy(t->first_stream);
    xft_stream_destroy(t->rest_stream);
    xft_stream_destroy(t->update_stream);
    xft_arena_destroy(t->arena);
    xft_network_free(&t->network);
    xft_weights_free(&t->d);
    xft_optimization_free(&t->optimization);
    free(t->merge.alpha);
    free(t->merge.merged.layers);
    free(t);
}

xft_status xft_trainer_refresh(xft_trainer *t) {
    XFT_FAIL_IF(!t, XFT_ERROR_INVALID_ARGUMENT, "xft_trainer_refresh: trainer must not be NULL");
    if (!t->options.merge) return XFT_OK;
    xft_stream *s;
    XFT_TRY(xft_stream_create(t->model->device, &(xft_stream_options){.name = "mixing"}, &s));
    record_mixing(&t->merge, t->dense.num_layers, s);
    xft_status status = xft_stream_run(s);
    xft_stream_destroy(s);
    return status;
}

uint64_t xft_trainer_steps(const xft_trainer *t) {
    return t ? t->steps : 0;
}
void xft_trainer_set_steps(xft_trainer *t, uint64_t steps) {
    if (t) t->steps = steps;
}
uint64_t xft_trainer_bytes(const xft_trainer *t) {
    return t ? xft_arena_used(t->arena) : 0;
}

/* ---- A step ---- */

static uint64_t count_labels(const xft_batch *b) {
    uint64_t count = 0;
    for (uint32_t i = 0; b->labels && i < b->tokens; i++) count += b->labels[i] != UINT32_MAX;
    return count;
}

/* What the whole step knows before its first micro-batch. */
typedef struct step_totals {
    uint64_t labels, tokens;
    uint32_t labelled; /* micro-batches with a label */
} step_totals;

static xft_status total(const xft_trainer *t, const xft_batch *batches, uint32_t count, step_totals *sum) {
    *sum = (step_totals){0};
    for (uint32_t i = 0; i < count; i++) {
        xft_status status = xft_batch_check(&t->network, t->model->device, &batches[i]);
        if (status != XFT_OK) return xft_fail_in(status, "micro-batch %u", i);
        uint64_t labels = count_labels(&batches[i]);
        sum->labels += labels;
        sum->tokens += batches[i].tokens;
        sum->labelled += labels != 0;
    }
    XFT_FAIL_IF(!sum->labels, XFT_ERROR_INVALID_ARGUMENT, "xft_trainer_step: no label in %u micro-batches", count);
    return XFT_OK;
}

static xft_step_block step_block(const xft_trainer *t, double lr) {
    return (xft_step_block){.step = (uint32_t)t->steps,
                            .seed_low = (uint32_t)t->options.seed,
                            .seed_high = (uint32_t)(t->options.seed >> 32),
                            .lr = (float)lr,
                            .max_norm = t->options.max_norm,
                            .noise_scale = t->model->config.num_experts ? t->model->config.noise_scale : 0};
}

/* Slots for the further micro-batches of this step while those of the step before may still be read: then the host
 * waits for no slot. Where the ring is too short for both, it waits once, for the step before. */
static xft_status make_room(xft_trainer *t, uint32_t further) {
    if (2 * (uint64_t)further <= t->rest_slots) return XFT_OK;
    const xft_pending *before = &t->pending[(t->steps + 1) % 2];
    if (before->ticket) XFT_TRY(xft_stream_wait(t->update_stream, before->ticket));
    const uint32_t slots = further < XFT_MOST_SLOTS / 2 ? 2 * further : XFT_MOST_SLOTS;
    if (t->rest_slots >= slots) return XFT_OK;
    xft_stream_destroy(t->rest_stream); /* the first step of so many */
    t->rest_stream = NULL;
    t->rest_slots = 0;
    XFT_TRY(record_micro_batch(&t->rest, t->model->device, "further micro-batch", slots, t->options.timers,
                               &t->rest_stream, &t->rest_at));
    t->rest_slots = slots;
    return XFT_OK;
}

static xft_status submit_micro_batch(xft_trainer *t, const xft_batch *b, bool first, const xft_step_block *block) {
    xft_stream *s = first ? t->first_stream : t->rest_stream;
    void *slot;
    XFT_TRY(xft_stream_inputs(s, &slot));
    xft_network_fill(&t->network, first ? &t->first_at : &t->rest_at, b, block, slot);
    return xft_stream_submit(s, NULL);
}

xft_status xft_trainer_step(xft_trainer *t, const xft_batch *batches, uint32_t count, double lr) {
    XFT_FAIL_IF(!t, XFT_ERROR_INVALID_ARGUMENT, "xft_trainer_step: trainer is NULL");
    XFT_NEED(batches);
    XFT_FAIL_IF(!count, XFT_ERROR_INVALID_ARGUMENT, "xft_trainer_step: count is 0");
    XFT_FAIL_IF(!isfinite(lr) || lr < 0, XFT_ERROR_INVALID_ARGUMENT, "xft_trainer_step: lr %g must not be negative",
                lr);
    step_totals sum;
    XFT_TRY(total(t, batches, count, &sum));
    XFT_TRY(make_room(t, count - 1));
    xft_step_block block = step_block(t, lr);
    for (uint32_t i = 0; i < count; i++) {
        XFT_TRY(xft_progress(t->options.callbacks, "micro-batch", i, count));
        uint64_t labels = count_labels(&batches[i]);
        /* token mean over the step; the reference's mean of the micro-batches' means under --compat official */
        double scale = t->options.official ? (double)labels * sum.labelled : (double)sum.labels;
        block.inv_labels = labels ? (float)(1 / scale) : 0;
        block.balance_scale = labels ? 1.0f / (float)sum.labelled : 0;
        block.marks_used = labels != 0;
        XFT_TRY(submit_micro_batch(t, &batches[i], i == 0, &block));
        block.first_token += batches[i].tokens;
    }
    void *slot;
    XFT_TRY(xft_stream_inputs(t->update_stream, &slot));
    memcpy((unsigned char *)slot + t->step_at, &block, sizeof block);
    xft_pending *p = &t->pending[t->steps % 2];
    XFT_TRY(xft_stream_submit(t->update_stream, &p->ticket));
    p->metrics = (xft_metrics){.step = t->steps, .labels = sum.labels, .tokens = sum.tokens, .lr = lr};
    t->steps++;
    return XFT_OK;
}

static xft_status read_metrics(xft_trainer *t, xft_pending *p, xft_metrics *metrics) {
    *metrics = (xft_metrics){0};
    if (!p->ticket) return XFT_OK;
    const void *outputs;
    xft_step_state state;
    XFT_TRY(xft_stream_outputs(t->update_stream, p->ticket, &outputs));
    memcpy(&state, (const unsigned char *)outputs + t->state_at, sizeof state);
    *metrics = p->metrics;
    metrics->loss = state.loss;
    metrics->balance = state.balance;
    metrics->grad_norm = state.grad_norm;
    metrics->skipped = state.skip != 0;
    metrics->skipped_in_all = state.skipped;
    metrics->skipped_in_row = state.skipped_in_row;
    if (metrics->skipped)
        xft_log(t->options.callbacks, XFT_LOG_WARNING, "step %llu was not applied: loss %g, gradient norm %g",
                (unsigned long long)metrics->step, metrics->loss, metrics->grad_norm);
    XFT_FAIL_IF(t->options.max_skipped && state.skipped_in_row >= t->options.max_skipped, XFT_ERROR_FORMAT,
                "step %llu: %u steps in a row were not finite (loss %g, gradient norm %g) and not applied",
                (unsigned long long)metrics->step, state.skipped_in_row, metrics->loss, metrics->grad_norm);
    return XFT_OK;
}

xft_status xft_trainer_metrics(xft_trainer *t, xft_metrics *metrics) {
    XFT_FAIL_IF(!t, XFT_ERROR_INVALID_ARGUMENT, "xft_trainer_metrics: trainer is NULL");
    XFT_NEED(metrics);
    return read_metrics(t, &t->pending[t->steps % 2], metrics);
}

xft_status xft_trainer_flush(xft_trainer *t, xft_metrics *metrics) {
    XFT_FAIL_IF(!t, XFT_ERROR_INVALID_ARGUMENT, "xft_trainer_flush: trainer is NULL");
    XFT_NEED(metrics);
    return read_metrics(t, &t->pending[(t->steps + 1) % 2], metrics);
}

xft_status xft_trainer_router_stats(xft_trainer *t, uint32_t layer, float *stats) {
    XFT_FAIL_IF(!t, XFT_ERROR_INVALID_ARGUMENT, "xft_trainer_router_stats: trainer is NULL");
    XFT_NEED(stats);
    XFT_FAIL_IF(!t->network.config->num_experts || layer >= t->network.config->num_layers, XFT_ERROR_INVALID_ARGUMENT,
                "xft_trainer_router_stats: layer %u of a model without so many MoE layers", layer);
    return xft_tensor_read(&t->network.layers[layer].stats, XFT_F32, stats);
}

static xft_status profile_stream(xft_stream *stream, xft_profile_visitor visit, void *user) {
    uint32_t count = 0;
    XFT_TRY(xft_stream_timings(stream, &count, NULL, NULL));
    double *ms = calloc(count + 1, sizeof *ms);
    const char **names = calloc(count + 1, sizeof *names);
    xft_status status = ms && names
                            ? xft_stream_timings(stream, &count, ms, names)
                            : xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the times of %u ops", count);
    for (uint32_t i = 0; i < count && status == XFT_OK; i++) visit(user, names[i], ms[i]);
    free(names);
    free(ms);
    return status;
}

xft_status xft_trainer_profile(xft_trainer *t, xft_profile_visitor visit, void *user) {
    XFT_FAIL_IF(!t, XFT_ERROR_INVALID_ARGUMENT, "xft_trainer_profile: trainer is NULL");
    XFT_NEED(visit);
    XFT_FAIL_IF(!t->options.timers, XFT_ERROR_INVALID_ARGUMENT,
                "xft_trainer_profile: the trainer was made without timers");
    XFT_TRY(profile_stream(t->first_stream, visit, user));
    return profile_stream(t->update_stream, visit, user);
}

/* ---- State for checkpoints ---- */

uint32_t xft_trainer_state_count(const xft_trainer *t) {
    char name[160];
    xft_tensor tensor;
    uint32_t count = 0;
    while (t && xft_optimization_state(&t->optimization, count, name, &tensor)) count++;
    return count;
}

xft_status xft_trainer_state(const xft_trainer *t, uint32_t index, char name[160], xft_tensor *tensor) {
    XFT_FAIL_IF(!t, XFT_ERROR_INVALID_ARGUMENT, "xft_trainer_state: trainer is NULL");
    XFT_NEED(name, tensor);
    XFT_FAIL_IF(!xft_optimization_state(&t->optimization, index, name, tensor), XFT_ERROR_INVALID_ARGUMENT,
                "xft_trainer_state: index %u of %u tensors", index, xft_trainer_state_count(t));
    return XFT_OK;
}
