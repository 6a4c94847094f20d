/* What a stage takes, before anything is loaded. */
#include "stage.h"

#include "error.h"
#include "files.h"
#include "run.h"

#include <stdio.h>
#include <string.h>

/* ---- Memory ---- */

/* Weights alone, as they lie on the device. */
static xft_status weights_of(const xft_config *c, xft_dtype dtype, const xft_device *device, uint64_t *bytes) {
    xft_plan plan;
    XFT_TRY(xft_plan_evaluation(c, dtype, 1, 1, device, &plan));
    *bytes = plan.weights;
    return XFT_OK;
}

static xft_config as_moe(const xft_config *dense, const xft_values *upcycle) {
    xft_config c = *dense;
    c.num_experts = (uint32_t)upcycle->experts;
    c.top_k = (uint32_t)upcycle->top_k;
    c.gate = (xft_gate)upcycle->gate;
    c.gate_mlp = upcycle->gate_network == 0;
    c.gate_noise = true;
    c.noise_epsilon = c.balance_weight = 1e-2f;
    c.noise_scale = 1;
    c.shared_expert_weight = 0.75f;
    return c;
}

static xft_config as_dense(const xft_config *moe) {
    xft_config c = *moe;
    c.num_experts = c.top_k = 0;
    return c;
}

/* Tokens of a micro-batch of `rows` at the most. */
static uint32_t tokens_of(const xft_values *v, const xft_config *c, uint64_t rows) {
    return (uint32_t)(rows * (v->length < c->max_positions ? v->length : c->max_positions));
}

/* Sequences of it at the most: packed rows hold samples of at least 2 tokens. */
static uint32_t sequences_of(const xft_values *v, const xft_config *c, uint64_t rows) {
    return v->packing ? (tokens_of(v, c, rows) + 1) / 2 : (uint32_t)rows;
}

static xft_status training(const xft_values *v, const xft_config *c, bool merge, const xft_device *device,
                           xft_plan *plan) {
    uint64_t rows = v->micro_batch < v->batch ? v->micro_batch : v->batch;
    uint32_t tokens = tokens_of(v, c, rows), sequences = sequences_of(v, c, rows);
    xft_train_options o = {.tokens = tokens,
                           .sequences = sequences,
                           .merge = merge,
                           .optimizer = (xft_optimizer)v->optimizer,
                           .precision = v->dtype == XFT_F32 ? XFT_PRECISION_F32 : (xft_precision)v->precision,
                           .grad_dtype = (xft_dtype)v->grad_dtype,
                           .recompute = v->recompute,
                           .official = v->compat != 0};
    XFT_TRY(xft_plan_training(c, (xft_dtype)v->dtype, &o, device, plan));
    if (!v->eval_data.count && !(v->eval_fraction > 0)) return XFT_OK;
    xft_config dense = as_dense(c);
    xft_plan evaluation;
    XFT_TRY(xft_plan_evaluation(merge ? &dense : c, (xft_dtype)v->dtype, tokens, sequences, device, &evaluation));
    plan->activations += evaluation.activations;
    plan->scratch += evaluation.scratch;
    plan->total += evaluation.activations + evaluation.scratch;
    return XFT_OK;
}

/* A MoE, and beside it a dense model that is evaluated. */
static xft_status mixing(const xft_values *v, const xft_config *moe, xft_dtype dtype, const xft_device *device,
                         xft_plan *plan) {
    xft_config dense = as_dense(moe);
    uint64_t bytes;
    XFT_TRY(weights_of(moe, dtype, device, &bytes));
    XFT_TRY(xft_plan_evaluation(&dense, dtype, tokens_of(v, moe, v->micro_batch), sequences_of(v, moe, v->micro_batch),
                                device, plan));
    plan->weights += bytes;
    plan->total += bytes;
    return XFT_OK;
}

static xft_status merging(const xft_stage_job *job, const xft_values *v, const xft_config *moe, xft_plan *plan) {
    xft_dtype dtype;
    xft_plan mixed;
    XFT_TRY(xft_stage_merge_dtype(job, &dtype));
    XFT_TRY(mixing(v, moe, dtype, job->device, plan));
    if (xft_stage_merge_kind(job) != XFT_MERGE_LEARNED) return XFT_OK;
    mixed = *plan;
    XFT_TRY(training(v, moe, true, job->device, plan));
    if (mixed.total > plan->total) *plan = mixed;
    return XFT_OK;
}

static xft_status upcycling(const xft_stage_job *job, const xft_config *dense, const xft_config *moe, xft_plan *plan) {
    xft_dtype exact;
    uint64_t a, b;
    XFT_TRY(xft_stage_exact_dtype(job->o.model, &exact));
    XFT_TRY(weights_of(dense, exact, job->device, &a));
    XFT_TRY(weights_of(moe, exact, job->device, &b));
    *plan = (xft_plan){.weights = a + b, .total = a + b};
    return XFT_OK;
}

static xft_status evaluating(const xft_stage_job *job, const xft_values *v, xft_plan *plan) {
    const xft_config *c = &job->config;
    uint64_t longest = v->length + v->max_new_tokens;
    xft_generator_options o = {.batch = (uint32_t)v->micro_batch,
                               .capacity = (uint32_t)(longest < c->max_positions ? longest : c->max_positions),
                               .official = v->compat != 0};
    xft_plan generation;
    XFT_TRY(xft_plan_evaluation(c, (xft_dtype)v->dtype, tokens_of(v, c, v->micro_batch),
                                sequences_of(v, c, v->micro_batch), job->device, plan));
    if (!*v->problems) return XFT_OK;
    XFT_TRY(xft_plan_generation(c, (xft_dtype)v->dtype, &o, job->device, &generation));
    if (generation.total > plan->total) *plan = generation;
    return XFT_OK;
}

/* The model that a stage works on: a dense one as if upcycled, but where it is to be dense. */
static xft_status config_of(const xft_stage_job *job, xft_config *c) {
    xft_values upcycle;
    *c = job->config;
    if (job->stage == XFT_STAGE_SFT || job->stage == XFT_STAGE_EVAL || c->num_experts) return XFT_OK;
    XFT_TRY(xft_settings_resolve(job->settings, XFT_STAGE_UPCYCLE, &upcycle));
    *c = as_moe(c, &upcycle);
    return xft_config_check(c);
}

/* The plan of a stage with these settings. */
static xft_status plan_with(const xft_stage_job *job, const xft_values *v, xft_plan *plan) {
    xft_config c;
    XFT_TRY(config_of(job, &c));
    switch (job->stage) {
    case XFT_STAGE_SFT:
    case XFT_STAGE_TUNE:
        return training(v, &c, false, job->device, plan);
    case XFT_STAGE_MERGE:
        return merging(job, v, &c, plan);
    case XFT_STAGE_UPCYCLE:
        return upcycling(job, &job->config, &c, plan);
    default:
        return evaluating(job, v, plan);
    }
}

/* ---- Disk ---- */

static xft_status disk_of(const xft_stage_job *job, const xft_plan *plan, uint64_t *bytes) {
    const xft_values *v = &job->v;
    xft_config c, result;
    uint64_t one, more;
    *bytes = 1 << 20; /* logs and small files */
    if (job->stage == XFT_STAGE_EVAL) return XFT_OK;
    XFT_TRY(config_of(job, &c));
    result = job->stage == XFT_STAGE_MERGE ? as_dense(&c) : c;
    xft_save_options save = xft_stage_save_options(job);
    XFT_TRY(weights_of(&result, save.dtype == XFT_F32 ? XFT_F32 : XFT_BF16, job->device, &more));
    *bytes += more;
    if (!xft_stage_trains(job)) return XFT_OK;
    XFT_TRY(weights_of(&c, (xft_dtype)v->dtype, job->device, &one));
    /* how many steps the data make is not known yet */
    uint64_t steps = v->max_steps ? v->max_steps : v->keep ? UINT64_MAX : v->save_every;
    *bytes += (one + plan->optimizer) * xft_run_checkpoints(steps, v->save_every, v->keep, v->keep_best);
    return XFT_OK;
}

/* ---- What would make it fit ---- */

typedef struct way {
    const char *words;
    bool recompute, one, bf16;
} way;

/* From the one that changes least to the one that saves most. */
static const way ways[] = {
    {"recompute: yes", .recompute = true},
    {"micro_batch: 1", .one = true},
    {"micro_batch: 1 and recompute: yes", .recompute = true, .one = true},
    {"dtype: bf16 with precision: stochastic", .bf16 = true},
    {"dtype: bf16 with precision: stochastic, grad_dtype: bf16, micro_batch: 1 and recompute: yes", .recompute = true,
     .one = true, .bf16 = true},
};

static void advise(const xft_stage_job *job, xft_stage_needs *needs) {
    const bool trains = job->stage == XFT_STAGE_SFT || job->stage == XFT_STAGE_TUNE;
    char least[160] = "";
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const way *w = &ways[i];
        xft_values v = job->v;
        xft_plan plan;
        if (!trains && (w->recompute || w->bf16) && job->stage != XFT_STAGE_MERGE) continue;
        if (w->recompute) v.recompute = true;
        if (w->one) v.micro_batch = 1;
        if (w->bf16) {
            v.dtype = XFT_BF16;
            v.precision = XFT_PRECISION_STOCHASTIC;
            if (w->one) v.grad_dtype = XFT_BF16;
        }
        if (plan_with(job, &v, &plan) != XFT_OK) continue;
        if (plan.total <= needs->memory_available) {
            snprintf(needs->advice, sizeof needs->advice, "%s would make it fit (%.2f GiB)", w->words,
                     (double)plan.total / 0x1p30);
            return;
        }
        snprintf(least, sizeof least, "%s (%.2f GiB)", w->words, (double)plan.total / 0x1p30);
    }
    snprintf(needs->advice, sizeof needs->advice,
             "%s%s%sa smaller length, fewer experts, a smaller model, or a device "
             "with more memory is needed",
             *least ? "with " : "", least, *least ? " it still does not fit: " : "");
}

/* ---- The whole ---- */

xft_status xft_stage_needs_of(xft_stage_job *job, xft_stage_needs *needs) {
    *needs = (xft_stage_needs){0};
    XFT_TRY(xft_stage_open_device(job));
    XFT_TRY(plan_with(job, &job->v, &needs->plan));
    XFT_TRY(disk_of(job, &needs->plan, &needs->disk));
    XFT_TRY(xft_device_memory(job->device, NULL, &needs->memory_available, &needs->memory_told));
    needs->fits = needs->plan.total <= needs->memory_available;
    if (!needs->fits) advise(job, needs);
    return XFT_OK;
}

xft_status xft_stage_check(xft_stage_job *job, uint64_t *disk) {
    xft_stage_needs needs;
    XFT_TRY(xft_stage_needs_of(job, &needs));
    XFT_FAIL_IF(
        !needs.fits, XFT_ERROR_OUT_OF_DEVICE_MEMORY,
        "stage %s needs %.2f GiB on the device (weights %.2f, gradients %.2f, optimizer %.2f, activations %.2f, "
        "scratch %.2f, cache %.2f); %s has %.2f GiB free%s: %s",
        xft_stage_name(job->stage), (double)needs.plan.total / 0x1p30, (double)needs.plan.weights / 0x1p30,
        (double)needs.plan.gradients / 0x1p30, (double)needs.plan.optimizer / 0x1p30,
        (double)needs.plan.activations / 0x1p30, (double)needs.plan.scratch / 0x1p30, (double)needs.plan.cache / 0x1p30,
        xft_device_get_info(job->device)->name, (double)needs.memory_available / 0x1p30,
        needs.memory_told ? "" : " (estimated)", needs.advice);
    *disk += needs.disk;
    return XFT_OK;
}

xft_status xft_stage_plan(const xft_settings *settings, xft_stage stage, const xft_stage_options *options,
                          xft_stage_needs *needs) {
    XFT_NEED(settings, needs);
    xft_stage_result result;
    xft_stage_job job;
    XFT_TRY(xft_stage_prepare(&job, settings, stage, options, &result));
    xft_status status = xft_stage_needs_of(&job, needs);
    xft_stage_close_device(&job);
    return status;
}
