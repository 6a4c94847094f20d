/* Options of a run: checks, defaults, and what a resume may change. */
#include "run.h"

#include "callbacks.h"
#include "error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The reference's 1e-5 moves an alpha by two thousandths in a whole run. Adafactor's updates of a vector are about 1
 * whatever the gradient is, so a coefficient goes at most `lr` a step: 30 steps at a rate that falls from 0.05 to 0 can
 * move it by 0.75. */
static const double merge_rate = 0.05, official_merge_rate = 1e-5, tune_rate = 5e-5;

double xft_run_default_rate(xft_run_stage stage, bool official) {
    return stage != XFT_RUN_MERGE ? tune_rate : official ? official_merge_rate : merge_rate;
}

const char *xft_run_stage_word(xft_run_stage stage) {
    static const char *const words[] = {[XFT_RUN_SFT] = "sft", [XFT_RUN_TUNE] = "tune", [XFT_RUN_MERGE] = "merge"};
    return words[stage];
}

/* ---- Checks and defaults ---- */

static xft_status check_model(const xft_run_job *job) {
    const xft_run_options *o = &job->o;
    const xft_config *c = &job->config;
    XFT_FAIL_IF(o->stage == XFT_RUN_SFT && c->num_experts, XFT_ERROR_INVALID_ARGUMENT,
                "%s: is a mixture of %u experts; stage sft trains dense models (tune trains this one)", o->model,
                c->num_experts);
    XFT_FAIL_IF(o->stage != XFT_RUN_SFT && !c->num_experts, XFT_ERROR_INVALID_ARGUMENT,
                "%s: is a dense model; stage %s needs a mixture of experts (upcycle it first)", o->model,
                xft_run_stage_word(o->stage));
    XFT_FAIL_IF(o->stage == XFT_RUN_MERGE && c->gate == XFT_GATE_VANILLA, XFT_ERROR_INVALID_ARGUMENT,
                "%s: has the vanilla gate and so no shared expert to merge into", o->model);
    XFT_FAIL_IF(o->length > c->max_positions, XFT_ERROR_INVALID_ARGUMENT,
                "length %u: the model in %s has %u positions at the most", o->length, o->model, c->max_positions);
    return XFT_OK;
}

static xft_status check_numbers(const xft_run_options *o) {
    XFT_FAIL_IF(!(o->eval_fraction >= 0 && o->eval_fraction < 1), XFT_ERROR_INVALID_ARGUMENT,
                "eval_fraction %g must be at least 0 and less than 1", o->eval_fraction);
    XFT_FAIL_IF(!(o->epochs >= 0 && isfinite(o->epochs)), XFT_ERROR_INVALID_ARGUMENT, "epochs %g must not be negative",
                o->epochs);
    XFT_FAIL_IF(!(o->lr >= 0 && isfinite(o->lr)), XFT_ERROR_INVALID_ARGUMENT, "lr %g must not be negative", o->lr);
    XFT_FAIL_IF(!(o->warmup >= 0 && isfinite(o->warmup)), XFT_ERROR_INVALID_ARGUMENT, "warmup %g must not be negative",
                o->warmup);
    XFT_FAIL_IF((unsigned)o->schedule > XFT_SCHEDULE_CONSTANT, XFT_ERROR_INVALID_ARGUMENT, "schedule %d is unknown",
                (int)o->schedule);
    XFT_FAIL_IF(o->dtype != XFT_F32 && o->dtype != XFT_BF16, XFT_ERROR_INVALID_ARGUMENT,
                "dtype %s: training is f32 or bf16", xft_dtype_name(o->dtype));
    XFT_FAIL_IF(o->dtype == XFT_F32 && o->precision != XFT_PRECISION_F32, XFT_ERROR_INVALID_ARGUMENT,
                "precision: master, stochastic and nearest are for dtype bf16");
    XFT_FAIL_IF(o->lambda && !(*o->lambda >= 0 && *o->lambda <= 1), XFT_ERROR_INVALID_ARGUMENT,
                "lambda %g must be from 0 to 1", *o->lambda);
    XFT_FAIL_IF(o->save_dtype && (unsigned)*o->save_dtype > XFT_F16, XFT_ERROR_INVALID_ARGUMENT,
                "save_dtype %s must be f32, bf16 or f16", xft_dtype_name(*o->save_dtype));
    return XFT_OK;
}

xft_status xft_run_options_take(xft_run_job *job, const xft_run_options *options) {
    xft_run_options *o = &job->o;
    *o = *options;
    XFT_FAIL_IF((unsigned)o->stage > XFT_RUN_MERGE, XFT_ERROR_INVALID_ARGUMENT, "stage %d is unknown", (int)o->stage);
    XFT_FAIL_IF(!o->model || !o->output, XFT_ERROR_INVALID_ARGUMENT, "model and output must not be NULL");
    XFT_FAIL_IF(!o->data || !o->data_count, XFT_ERROR_INVALID_ARGUMENT, "data: no file to train on");
    XFT_TRY(check_numbers(o));
    char *json;
    XFT_TRY(xft_checkpoint_config(o->model, &json, &job->config));
    free(json);
    if (!o->length) o->length = job->config.max_positions < 1024 ? job->config.max_positions : 1024;
    if (!o->batch) o->batch = 64;
    if (!o->micro_batch) o->micro_batch = 8;
    if (o->micro_batch > o->batch) o->micro_batch = o->batch;
    if (!o->log_every) o->log_every = 1;
    if (o->lr == 0) o->lr = xft_run_default_rate(o->stage, o->official);
    if (o->dtype == XFT_BF16 && (o->precision == XFT_PRECISION_F32 || o->stage == XFT_RUN_MERGE))
        o->precision = XFT_PRECISION_MASTER; /* coefficients are f32: saved as they are, not as bf16 weights */
    return check_model(job);
}

xft_train_options xft_run_train_options(const xft_run_job *job) {
    const xft_run_options *o = &job->o;
    return (xft_train_options){.tokens = xft_loader_tokens(job->loader),
                               .sequences = xft_loader_sequences(job->loader),
                               .merge = o->stage == XFT_RUN_MERGE,
                               .optimizer = o->optimizer,
                               .beta1 = o->beta1,
                               .beta2 = o->beta2,
                               .eps = o->eps,
                               .weight_decay = o->weight_decay,
                               .max_norm = o->max_norm,
                               .precision = o->precision,
                               .grad_dtype = o->grad_dtype,
                               .recompute = o->recompute,
                               .official = o->official,
                               .seed = o->seed,
                               .callbacks = &job->callbacks,
                               .max_skipped = o->max_skipped};
}

xft_save_options xft_run_save_options(const xft_run_job *job) {
    const xft_run_options *o = &job->o;
    return (xft_save_options){.dtype = o->save_dtype ? *o->save_dtype : job->config.dtype,
                              .like = !o->save_dtype,
                              .shard_size = o->shard_size,
                              .carry = o->model,
                              .callbacks = &job->callbacks};
}

/* ---- Settings as JSON ---- */

static json_t *texts(const char *const *list, uint32_t count) {
    json_t *array = json_array();
    for (uint32_t i = 0; i < count; i++) json_array_append_new(array, json_string(list[i]));
    return array;
}

static json_t *integer(uint64_t value) {
    return json_integer((json_int_t)value);
}

/* Settings under which the weights come out the same bits, and paths, for which the fingerprints speak. */
static const char *const free_settings[] = {"model",     "output",       "data",       "eval_data",   "device",
                                            "recompute", "eval_every",   "save_every", "log_every",   "keep",
                                            "keep_best", "router_every", "shard_size", "max_skipped", "save_dtype"};

xft_status xft_run_settings_make(xft_run_job *job) {
    static const char *const optimizers[] = {"adafactor", "adamw"};
    static const char *const schedules[] = {"linear", "cosine", "constant"};
    static const char *const precisions[] = {"f32", "master", "stochastic", "nearest"};
    const xft_run_options *o = &job->o;
    const bool merge = o->stage == XFT_RUN_MERGE;
    const struct {
        const char *key;
        json_t *value;
    } rows[] = {
        {"stage", json_string(xft_run_stage_word(o->stage))},
        {"model", json_string(o->model)},
        {"output", json_string(o->output)},
        {"device", json_string(o->device ? o->device : "auto")},
        {"compat", json_string(o->official ? "official" : "none")},
        {"seed", integer(o->seed)},
        {"dtype", json_string(xft_dtype_name(o->dtype))},
        {"precision", json_string(precisions[o->precision])},
        {"grad_dtype", json_string(xft_dtype_name(o->grad_dtype))},
        {"recompute", json_boolean(o->recompute)},
        {"data", texts(o->data, o->data_count)},
        {"eval_data", texts(o->eval_data, o->eval_data ? o->eval_data_count : 0)},
        {"eval_fraction", json_real(o->eval_data ? 0 : o->eval_fraction)},
        {"template", json_string(o->chat_template ? o->chat_template : xft_template_name(0))},
        {"length", integer(o->length)},
        {"packing", json_boolean(o->packing)},
        {"train_on_prompt", json_boolean(o->train_on_prompt)},
        {"optimizer", json_string(optimizers[o->optimizer])},
        {"lr", json_real(o->lr)},
        {"schedule", json_string(schedules[o->schedule])},
        {"warmup", json_real(o->warmup)},
        {"epochs", json_real(o->epochs)},
        {"max_steps", integer(o->max_steps)},
        {"steps", integer(job->steps)},
        {"batch", integer(o->batch)},
        {"micro_batch", integer(o->micro_batch)},
        {"weight_decay", json_real((double)o->weight_decay)},
        {"max_norm", json_real((double)o->max_norm)},
        {"beta1", json_real((double)o->beta1)},
        {"beta2", json_real((double)o->beta2)},
        {"eps", json_real((double)o->eps)},
        {"max_skipped", integer(o->max_skipped)},
        {"save_every", integer(o->save_every)},
        {"eval_every", integer(o->eval_every)},
        {"log_every", integer(o->log_every)},
        {"router_every", integer(o->router_every)},
        {"keep", integer(o->keep)},
        {"keep_best", json_boolean(o->keep_best)},
        {"save_dtype", json_string(o->save_dtype ? xft_dtype_name(*o->save_dtype) : "base")},
        {"shard_size", integer(o->shard_size)},
        {"lambda", merge ? json_real(o->lambda ? *o->lambda : (double)job->config.shared_expert_weight) : json_null()},
    };
    job->settings = json_object();
    bool ok = job->settings != NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) /* each value is taken over, also on failure */
        ok = json_object_set_new(job->settings, rows[i].key, rows[i].value) == 0 && ok;
    XFT_FAIL_IF(!ok, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the settings of a run");
    return XFT_OK;
}

/* ---- Comparing ---- */

static bool may_change(const char *key, bool done) {
    for (size_t i = 0; i < sizeof free_settings / sizeof *free_settings; i++)
        if (!strcmp(key, free_settings[i])) return !done || strcmp(key, "save_dtype") != 0;
    return false;
}

/* Adds ", KEY OLD (now NEW)" to text. */
static void add_difference(char *text, size_t room, const char *key, const json_t *old, const json_t *now) {
    char *a = old ? json_dumps(old, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    char *b = now ? json_dumps(now, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    size_t used = strlen(text);
    snprintf(text + used, room - used, "%s%s %s (now %s)", used ? ", " : "", key, a ? a : "not set", b ? b : "not set");
    free(a);
    free(b);
}

xft_status xft_run_settings_compare(const xft_run_job *job, const json_t *state) {
    const json_t *settings = json_object_get(state, "settings"), *inputs = json_object_get(state, "inputs");
    const bool done = json_string_value(json_object_get(state, "status")) &&
                      !strcmp(json_string_value(json_object_get(state, "status")), "done");
    char differences[400] = "";
    const char *key;
    json_t *now;
    json_object_foreach(job->settings, key, now) {
        const json_t *old = json_object_get(settings, key);
        if (!may_change(key, done) && !json_equal(old, now))
            add_difference(differences, sizeof differences, key, old, now);
    }
    XFT_FAIL_IF(*differences, XFT_ERROR_INVALID_ARGUMENT,
                "%s: holds a run with other settings: %s; give it the same ones, or another output folder, or begin "
                "anew (resume: no)",
                job->o.output, differences);
    static const struct { const char *key, *what; } kinds[] = {{"model", "another model"}, {"data", "other data"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        XFT_FAIL_IF(!json_equal(json_object_get(inputs, kinds[i].key), json_object_get(job->inputs, kinds[i].key)),
                    XFT_ERROR_INVALID_ARGUMENT,
                    "%s: holds a run from %s (fingerprint %s, now %s); give another output folder, or begin anew "
                    "(resume: no)",
                    job->o.output, kinds[i].what, json_string_value(json_object_get(inputs, kinds[i].key)),
                    json_string_value(json_object_get(job->inputs, kinds[i].key)));
    return XFT_OK;
}
