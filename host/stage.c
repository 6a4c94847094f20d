#include "stage.h"

#include "callbacks.h"
#include "checkpoint.h"
#include "error.h"
#include "files.h"
#include "samples.h"
#include "shards.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- What all stages begin with ---- */

static void forward_log(void *user, xft_log_level level, const char *text) {
    const xft_stage_job *job = user;
    xft_log(job->o.callbacks, level, "%s", text);
}

static bool forward_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    const xft_stage_job *job = user;
    if (job->o.cancel && *job->o.cancel) return false;
    return xft_progress(job->o.callbacks, what, done, total) == XFT_OK;
}

xft_status xft_stage_prepare(xft_stage_job *job, const xft_settings *settings, xft_stage stage,
                             const xft_stage_options *options, xft_stage_result *result) {
    XFT_FAIL_IF((unsigned)stage > XFT_STAGE_EVAL, XFT_ERROR_INVALID_ARGUMENT,
                "stage %d: must be sft, upcycle, tune, merge or eval", (int)stage);
    *job = (xft_stage_job){.settings = settings, .stage = stage, .o = options ? *options : (xft_stage_options){0}};
    job->result = result;
    *result = (xft_stage_result){.loss = NAN,
                                 .perplexity = NAN,
                                 .loss_mixed = NAN,
                                 .loss_uniform = NAN,
                                 .loss_shared = NAN,
                                 .most_moved = NAN,
                                 .run = {.loss = NAN, .eval_loss = NAN, .best_loss = NAN}};
    XFT_TRY(xft_settings_resolve(settings, stage, &job->v));
    if (!job->o.model) {
        XFT_TRY(xft_settings_need(settings, stage, "model"));
        job->o.model = job->v.model;
    }
    if (!job->o.output && *job->v.output) job->o.output = job->v.output;
    job->callbacks = (xft_callbacks){.user = job, .log = forward_log, .progress = forward_progress};
    char *json;
    XFT_TRY(xft_checkpoint_config(job->o.model, &json, &job->config));
    free(json);
    return XFT_OK;
}

xft_status xft_stage_open_device(xft_stage_job *job) {
    if (job->device) return XFT_OK;
    job->device = job->o.device;
    job->own_device = !job->device;
    return job->own_device ? xft_device_open(job->v.device, NULL, &job->device) : XFT_OK;
}

void xft_stage_close_device(xft_stage_job *job) {
    if (job->own_device) xft_device_close(job->device);
    job->device = NULL;
    job->own_device = false;
}

xft_status xft_stage_exact_dtype(const char *folder, xft_dtype *dtype) {
    xft_shards shards;
    XFT_TRY(xft_shards_open(folder, &shards));
    *dtype = XFT_BF16;
    for (size_t f = 0; f < shards.count; f++)
        for (uint32_t i = 0; i < xft_safetensors_count(shards.files[f]); i++) {
            const xft_stored_tensor *t = xft_safetensors_at(shards.files[f], i);
            /* routers are f32 on every device */
            if (t->rank == 2 && t->dtype != XFT_STORED_BF16 && !strstr(t->name, ".mlp.gate.")) *dtype = XFT_F32;
        }
    xft_shards_close(&shards);
    return XFT_OK;
}

bool xft_stage_trains(const xft_stage_job *job) {
    return job->stage == XFT_STAGE_SFT || job->stage == XFT_STAGE_TUNE ||
           (job->stage == XFT_STAGE_MERGE && xft_stage_merge_kind(job) == XFT_MERGE_LEARNED);
}

/* save_dtype counts from "base" on: base, f32, bf16, f16. */
static bool save_like(const xft_stage_job *job) {
    return job->v.save_dtype == 0;
}
static xft_dtype save_dtype(const xft_stage_job *job) {
    return save_like(job) ? job->config.dtype : (xft_dtype)(job->v.save_dtype - 1);
}

xft_save_options xft_stage_save_options(const xft_stage_job *job) {
    return (xft_save_options){.dtype = save_dtype(job),
                              .shard_size = job->v.shard_size,
                              .carry = job->o.model,
                              .like = save_like(job),
                              .callbacks = &job->callbacks};
}

/* ---- Data ---- */

xft_status xft_stage_eval_data(const xft_stage_job *job, const xft_tokenizer *tokenizer, bool whole,
                               xft_dataset **set) {
    const xft_values *v = &job->v;
    const xft_text_list *files = v->eval_data.count ? &v->eval_data : &v->data;
    *set = NULL;
    if (!files->count || (!v->eval_data.count && !(v->eval_fraction > 0) && !whole)) return XFT_OK;
    xft_data_options o = {.files = files->items,
                          .file_count = files->count,
                          .chat_template = xft_template_name(v->prompt_template),
                          .length = (uint32_t)v->length,
                          .vocab_size = job->config.vocab_size,
                          .callbacks = &job->callbacks};
    if (o.length > job->config.max_positions) o.length = job->config.max_positions;
    xft_dataset *all, *part;
    XFT_TRY(xft_dataset_load(tokenizer, &o, &all));
    if (v->eval_data.count || !(v->eval_fraction > 0)) {
        *set = all;
        return XFT_OK;
    }
    xft_status status = xft_dataset_split(all, v->eval_fraction, v->seed, &part); /* as training does */
    xft_dataset_free(all);
    if (status == XFT_OK) *set = part;
    return status;
}

/* ---- What a result depends on ---- */

/* Settings whose value is a path: what counts is the content. */
static const char *const path_keys[] = {"model", "data", "eval_data", "problems", "coefficients"};

/* Of the merge's settings those that matter where nothing is learned. */
static bool matters_without_learning(const char *key) {
    static const char *const keys[] = {"lambda", "save_dtype", "compat",        "template",
                                       "length", "packing",    "eval_fraction", "seed"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(key, keys[i])) return true;
    return false;
}

static xft_status settings_json(const xft_stage_job *job, json_t **settings) {
    char *text;
    XFT_TRY(xft_settings_json(job->settings, job->stage, true, &text));
    *settings = json_loads(text, 0, NULL);
    free(text);
    XFT_FAIL_IF(!*settings, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the settings of a stage");
    for (size_t i = 0; i < sizeof path_keys / sizeof *path_keys; i++) json_object_del(*settings, path_keys[i]);
    /* without an effect; with one, samples are missing from the training data */
    if (job->v.eval_data.count || !(job->v.eval_fraction > 0)) json_object_del(*settings, "eval_fraction");
    if (job->stage != XFT_STAGE_MERGE || xft_stage_merge_kind(job) == XFT_MERGE_LEARNED) return XFT_OK;
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(*settings, next, key, value) if (!matters_without_learning(key))
        json_object_del(*settings, key);
    json_object_set_new(*settings, "merge_kind",
                        json_string(xft_stage_merge_kind(job) == XFT_MERGE_UNIFORM ? "uniform" : "given"));
    return XFT_OK;
}

static xft_status add_content(json_t *inputs, const char *key, const char *const *paths, uint32_t count) {
    json_t *list = json_array();
    json_object_set_new(inputs, key, list);
    for (uint32_t i = 0; i < count; i++) {
        char hex[33];
        XFT_TRY(xft_fingerprint(paths[i], hex));
        json_array_append_new(list, json_string(hex));
    }
    return XFT_OK;
}

xft_status xft_stage_inputs(const xft_stage_job *job, json_t **description) {
    const xft_values *v = &job->v;
    json_t *settings, *inputs;
    XFT_TRY(settings_json(job, &settings));
    inputs = json_object();
    *description =
        json_pack("{s:s,s:o,s:o}", "stage", xft_stage_name(job->stage), "settings", settings, "inputs", inputs);
    /* what is evaluated along the way of a training leaves its weights as they are; a merge tells losses */
    bool trains = xft_stage_trains(job);
    bool scores = job->stage == XFT_STAGE_EVAL || job->stage == XFT_STAGE_MERGE;
    bool takes_data = trains || (scores && !v->eval_data.count);
    xft_status status = XFT_OK;
    if (*job->model_hex)
        json_object_set_new(inputs, "model", json_pack("[s]", job->model_hex));
    else
        status = add_content(inputs, "model", &job->o.model, 1);
    if (status == XFT_OK && takes_data) status = add_content(inputs, "data", v->data.items, v->data.count);
    if (status == XFT_OK && scores) status = add_content(inputs, "eval_data", v->eval_data.items, v->eval_data.count);
    if (status == XFT_OK && job->stage == XFT_STAGE_EVAL)
        status = add_content(inputs, "problems", &v->problems, *v->problems ? 1 : 0);
    if (status == XFT_OK && job->stage == XFT_STAGE_MERGE && xft_stage_merge_kind(job) == XFT_MERGE_GIVEN)
        status = add_content(inputs, "coefficients", &v->coefficients, 1);
    if (status != XFT_OK) {
        json_decref(*description);
        *description = NULL;
    }
    return status;
}

/* ---- Checks ---- */

static xft_status check_readable(const char *key, const xft_text_list *paths) {
    for (uint32_t i = 0; i < paths->count; i++)
        XFT_FAIL_IF(access(paths->items[i], R_OK) != 0, XFT_ERROR_IO, "%s: %s: %s", key, paths->items[i],
                    strerror(errno));
    return XFT_OK;
}

xft_sandbox xft_stage_sandbox(const xft_values *v) {
    return (xft_sandbox){
        .timeout = v->timeout, .memory = (uint64_t)v->memory, .allow_unprotected = v->allow_unprotected};
}

bool xft_stage_tests(const xft_values *v, const xft_problems *problems) {
    uint64_t count = xft_problems_count(problems);
    bool tests = v->execute;
    if (v->max_problems && v->max_problems < count) count = v->max_problems;
    for (uint32_t i = 0; i < count; i++) tests = tests && xft_problems_at(problems, i)->test;
    return tests;
}

static xft_status check_problems(const xft_stage_job *job) {
    const xft_values *v = &job->v;
    const xft_sample_options o = {.chat_template = xft_template_name(v->prompt_template),
                                  .max_problems = (uint32_t)v->max_problems};
    xft_tokenizer *tokenizer = NULL;
    xft_problems *problems;
    xft_verdict verdict;
    XFT_TRY(xft_problems_load(v->problems, &problems));
    bool tests = xft_stage_tests(v, problems);
    xft_status status = xft_tokenizer_load(job->o.model, &tokenizer);
    if (status == XFT_OK) status = xft_samples_check(problems, tokenizer, &o, job->config.max_positions);
    xft_tokenizer_free(tokenizer);
    xft_problems_free(problems);
    if (status != XFT_OK) return xft_fail_in(status, "%s", v->problems);
    XFT_FAIL_IF(!tests && !job->o.output, XFT_ERROR_INVALID_ARGUMENT,
                "problems: %s: samples that are not tested here are made for EvalPlus: set output, the folder for them",
                v->problems);
    if (v->execute && !tests)
        xft_log(&job->callbacks, XFT_LOG_WARNING,
                "%s: holds problems without test, as MBPP+ does: samples are written for EvalPlus, none is scored here",
                v->problems);
    if (!tests) return XFT_OK;
    const xft_sandbox sandbox = xft_stage_sandbox(v);
    XFT_TRY(xft_sandbox_run(&sandbox, "pass", &verdict));
    XFT_FAIL_IF(verdict.outcome != XFT_OUTCOME_PASSED, XFT_ERROR_UNSUPPORTED,
                "not even an empty program passes under timeout %g s and memory %.0f MiB: %s", v->timeout,
                (double)v->memory / 0x1p20, verdict.message);
    return XFT_OK;
}

xft_status xft_stage_check_inputs(const xft_stage_job *job) {
    const xft_values *v = &job->v;
    if (job->stage == XFT_STAGE_UPCYCLE) return XFT_OK;
    XFT_TRY(check_readable("data", &v->data));
    XFT_TRY(check_readable("eval_data", &v->eval_data));
    if (job->stage == XFT_STAGE_EVAL && *v->problems) return check_problems(job);
    if (job->stage != XFT_STAGE_MERGE || xft_stage_merge_kind(job) != XFT_MERGE_GIVEN) return XFT_OK;
    if (!*v->coefficients) return xft_settings_need(job->settings, XFT_STAGE_MERGE, "coefficients");
    return check_readable("coefficients", &(xft_text_list){&v->coefficients, 1});
}

/* ---- Training ---- */

xft_status xft_stage_train(xft_stage_job *job, xft_run_stage stage) {
    const xft_values *v = &job->v;
    if (!v->data.count) return xft_settings_need(job->settings, job->stage, "data");
    /* the default is cut to what the model has; a length that was set is not */
    bool cut = v->length > job->config.max_positions && !xft_settings_origin(job->settings, job->stage, "length");
    const xft_dtype dtype = save_dtype(job);
    xft_run_options o = {.stage = stage,
                         .model = job->o.model,
                         .output = job->o.output,
                         .device = v->device,
                         .opened = job->o.device,
                         .data = v->data.items,
                         .data_count = v->data.count,
                         .eval_data = v->eval_data.count ? v->eval_data.items : NULL,
                         .eval_data_count = v->eval_data.count,
                         .eval_fraction = v->eval_fraction,
                         .chat_template = xft_template_name(v->prompt_template),
                         .length = cut ? job->config.max_positions : (uint32_t)v->length,
                         .packing = v->packing,
                         .train_on_prompt = v->train_on_prompt,
                         .batch = (uint32_t)v->batch,
                         .micro_batch = (uint32_t)v->micro_batch,
                         .epochs = (double)v->epochs,
                         .max_steps = v->max_steps,
                         .lr = v->lr,
                         .schedule = (xft_schedule)v->schedule,
                         .warmup = (double)v->warmup,
                         .seed = v->seed,
                         .optimizer = (xft_optimizer)v->optimizer,
                         .beta1 = (float)v->beta1,
                         .beta2 = (float)v->beta2,
                         .eps = (float)v->eps,
                         .weight_decay = (float)v->weight_decay,
                         .max_norm = (float)v->max_norm,
                         .dtype = (xft_dtype)v->dtype,
                         .precision = (xft_precision)v->precision,
                         .grad_dtype = (xft_dtype)v->grad_dtype,
                         .recompute = v->recompute,
                         .official = v->compat != 0,
                         .lambda = stage == XFT_RUN_MERGE && v->lambda >= 0 ? &v->lambda : NULL,
                         .max_skipped = (uint32_t)v->max_skipped,
                         .save_every = v->save_every,
                         .eval_every = v->eval_every,
                         .log_every = v->log_every,
                         .keep = (uint32_t)v->keep,
                         .keep_best = v->keep_best,
                         .save_dtype = save_like(job) ? NULL : &dtype,
                         .shard_size = v->shard_size,
                         .restart = !v->resume,
                         .user = job->o.user,
                         .event = job->o.event,
                         .cancel = job->o.cancel,
                         .callbacks = job->o.callbacks};
    xft_status status = xft_run(&o, &job->result->run);
    job->result->was_done = status == XFT_OK && job->result->run.was_done;
    job->result->loss = job->result->run.eval_loss;
    return status;
}

/* ---- Upcycling ---- */

static xft_status upcycle(xft_stage_job *job) {
    const xft_values *v = &job->v;
    XFT_FAIL_IF(job->config.num_experts, XFT_ERROR_INVALID_ARGUMENT,
                "%s: is a mixture of %u experts already; upcycling takes a dense model", job->o.model,
                job->config.num_experts);
    xft_dtype dtype;
    xft_model *dense = NULL, *moe = NULL;
    XFT_TRY(xft_stage_exact_dtype(job->o.model, &dtype));
    xft_upcycle_options o = {.num_experts = (uint32_t)v->experts,
                             .top_k = (uint32_t)v->top_k,
                             .gate = (xft_gate)v->gate,
                             .linear_gate = v->gate_network == 1,
                             .router_init = (xft_router_init)v->router_init,
                             .noise_scale = v->router_noise > 0 ? (float)v->router_noise : -1,
                             .official = v->compat != 0,
                             .seed = v->seed,
                             .callbacks = &job->callbacks};
    xft_save_options save = xft_stage_save_options(job);
    XFT_TRY(xft_checkpoint_load(job->device, job->o.model,
                                &(xft_load_options){.dtype = dtype, .callbacks = &job->callbacks}, &dense));
    xft_status status = xft_model_upcycle(dense, &o, &moe);
    xft_model_destroy(dense);
    if (status == XFT_OK && v->lambda >= 0) status = xft_model_set_shared_weight(moe, (float)v->lambda);
    if (status == XFT_OK) status = xft_checkpoint_save(moe, job->o.output, &save);
    xft_model_destroy(moe);
    return status;
}

/* ---- One stage ---- */

static xft_status dispatch(xft_stage_job *job) {
    switch (job->stage) {
    case XFT_STAGE_SFT:
        return xft_stage_train(job, XFT_RUN_SFT);
    case XFT_STAGE_TUNE:
        return xft_stage_train(job, XFT_RUN_TUNE);
    case XFT_STAGE_MERGE:
        return xft_stage_merge(job);
    case XFT_STAGE_EVAL:
        return xft_stage_eval(job);
    default:
        return upcycle(job);
    }
}

/* A model folder that is its own output would be gone before it is read. Training looks after its folder itself; what
 * takes seconds does not overwrite what took hours. */
static xft_status check_output(const xft_stage_job *job) {
    if (job->stage != XFT_STAGE_EVAL && !job->o.output) return xft_settings_need(job->settings, job->stage, "output");
    if (!job->o.output) return XFT_OK;
    char *from = realpath(job->o.model, NULL), *to = realpath(job->o.output, NULL);
    bool same = from && to && !strcmp(from, to);
    free(from);
    free(to);
    XFT_FAIL_IF(same, XFT_ERROR_INVALID_ARGUMENT, "output %s is the model's own folder; give another one",
                job->o.output);
    if (job->stage == XFT_STAGE_EVAL || xft_stage_trains(job) || job->o.replace) return XFT_OK;
    xft_run_state held;
    bool model;
    XFT_TRY(xft_run_find(job->o.output, &held, NULL));
    XFT_FAIL_IF(held != XFT_RUN_NONE, XFT_ERROR_INVALID_ARGUMENT, "output %s holds a training run; give another folder",
                job->o.output);
    XFT_TRY(xft_checkpoint_exists(job->o.output, &model));
    XFT_FAIL_IF(model && job->v.resume, XFT_ERROR_INVALID_ARGUMENT,
                "output %s holds a model; give another folder, or begin anew there (resume: no)", job->o.output);
    return XFT_OK;
}

xft_status xft_stage_run(const xft_settings *settings, xft_stage stage, const xft_stage_options *options,
                         xft_stage_result *result) {
    XFT_NEED(settings);
    xft_stage_result own;
    xft_stage_job job;
    XFT_TRY(xft_stage_prepare(&job, settings, stage, options, result ? result : &own));
    XFT_TRY(check_output(&job));
    XFT_TRY(xft_stage_check_inputs(&job));
    uint64_t disk = 0;
    xft_status status = xft_stage_check(&job, &disk);
    if (status == XFT_OK && job.o.output && !xft_stage_trains(&job)) /* a run counts what it has there already */
        status = xft_check_space(job.o.output, disk, "the stage");
    if (status == XFT_OK) status = dispatch(&job);
    xft_stage_close_device(&job);
    return status;
}
