/* A training run: what it needs is made, steps are taken until the end or a wish to stop, the finished model is saved.
 */
#include "run.h"

#include "callbacks.h"
#include "error.h"
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static double monotonic(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- Callbacks ---- */

static void pass_log(void *user, xft_log_level level, const char *text) {
    xft_log(((xft_run_job *)user)->o.callbacks, level, "%s", text);
}

/* Once it trains a run stops between steps only, where it can leave a checkpoint. */
static bool pass_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    xft_run_job *job = user;
    if (xft_progress(job->o.callbacks, what, done, total) != XFT_OK) job->stop = true;
    if (job->o.cancel && *job->o.cancel) job->stop = true;
    return job->training || !job->stop;
}

static double epoch_of(const xft_run_job *job, uint64_t step) {
    return (double)step / (double)xft_loader_steps(job->loader);
}

static double seconds_of(const xft_run_job *job) {
    return job->saved.progress.seconds + (monotonic() - job->started);
}

/* As plans count it: without staging. */
static uint64_t memory_of(xft_run_job *job) {
    xft_device_counters c;
    xft_device_get_counters(job->device, &c);
    uint64_t bytes = c.buffer_bytes - c.staging_bytes;
    if (bytes > job->memory) job->memory = bytes;
    return bytes;
}

/* Seconds to the end at the pace since the second step of this process: the first one waits for kernels to compile. */
static double eta_of(const xft_run_job *job, uint64_t step) {
    if (!job->paced_step || step <= job->paced_step) return -1;
    double pace = (monotonic() - job->paced) / (double)(step - job->paced_step);
    return pace * (double)(job->steps - step);
}

static void tell(xft_run_job *job, xft_run_event_kind kind, const char *path) {
    const xft_run_progress *p = &job->progress;
    uint64_t step = kind == XFT_RUN_EVENT_STEP ? job->reported : p->step;
    xft_run_event event = {.kind = kind,
                           .stage = job->o.stage,
                           .step = step,
                           .steps = job->steps,
                           .first_step = job->first_step,
                           .epoch = epoch_of(job, step),
                           .epochs = epoch_of(job, job->steps),
                           .metrics = job->metrics,
                           .tokens_per_s = job->tokens_per_s,
                           .seconds = seconds_of(job),
                           .eta = eta_of(job, step),
                           .memory = memory_of(job),
                           .eval_loss = p->eval_loss,
                           .best_loss = p->best_loss,
                           .best_step = p->best_step,
                           .device = job->device,
                           .path = path};
    if (job->o.event && !job->o.event(job->o.user, &event)) job->stop = true;
}

/* ---- What a run needs ---- */

static xft_status lock_folder(xft_run_job *job) {
    const char *output = job->o.output;
    job->made = access(output, F_OK) != 0;
    XFT_TRY(xft_make_folder(output));
    XFT_TRY(xft_sync_folder(output));
    XFT_FAIL_IF(access(output, W_OK) != 0, XFT_ERROR_IO, "%s: cannot be written to: %s", output, strerror(errno));
    job->lock = open(output, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    XFT_FAIL_IF(job->lock < 0, XFT_ERROR_IO, "%s: %s", output, strerror(errno));
    XFT_FAIL_IF(flock(job->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK, XFT_ERROR_IO,
                "%s: another process is running in this folder", output);
    return XFT_OK;
}

static xft_status load_data(xft_run_job *job) {
    const xft_run_options *o = &job->o;
    XFT_TRY(xft_tokenizer_load(o->model, &job->tokenizer));
    xft_data_options options = {.files = o->data,
                                .file_count = o->data_count,
                                .chat_template = o->chat_template,
                                .length = o->length,
                                .train_on_prompt = o->train_on_prompt,
                                .vocab_size = job->config.vocab_size,
                                .callbacks = &job->callbacks};
    XFT_TRY(xft_dataset_load(job->tokenizer, &options, &job->data));
    options.files = o->eval_data;
    options.file_count = o->eval_data_count;
    if (o->eval_data && o->eval_data_count)
        XFT_TRY(xft_dataset_load(job->tokenizer, &options, &job->eval_data));
    else if (o->eval_fraction > 0)
        XFT_TRY(xft_dataset_split(job->data, o->eval_fraction, o->seed, &job->eval_data));
    xft_loader_options loading = {.batch = o->batch,
                                  .micro_batch = o->micro_batch,
                                  .packing = o->packing,
                                  .shuffle = true,
                                  .seed = o->seed,
                                  .padding = o->official && !o->packing,
                                  .pad_id =
                                      job->config.pad_token_id < job->config.vocab_size ? job->config.pad_token_id : 0};
    XFT_TRY(xft_loader_create(job->data, &loading, &job->loader));
    if (!job->eval_data) return XFT_OK;
    loading.batch = loading.micro_batch;
    loading.shuffle = false;
    return xft_loader_create(job->eval_data, &loading, &job->eval_loader);
}

static void say_counts(const xft_run_job *job) {
    xft_data_counts c;
    xft_dataset_get_counts(job->data, &c);
    xft_log(&job->callbacks, XFT_LOG_INFO,
            "%" PRIu64 " samples, %" PRIu64 " tokens, %" PRIu64 " labels; %" PRIu64 " steps an epoch", c.samples,
            c.tokens, c.labels, xft_loader_steps(job->loader));
    if (c.truncated)
        xft_log(&job->callbacks, XFT_LOG_INFO, "%" PRIu64 " samples were cut at %u tokens", c.truncated, job->o.length);
    for (int i = 0; i < XFT_SKIP_REASON_COUNT; i++)
        if (c.skipped[i])
            xft_log(&job->callbacks, XFT_LOG_WARNING, "%" PRIu64 " samples were left out: %s", c.skipped[i],
                    xft_skip_reason_name((xft_skip_reason)i));
}

static void count_steps(xft_run_job *job) {
    const xft_run_options *o = &job->o;
    double epochs = o->epochs > 0 ? o->epochs : o->max_steps ? INFINITY : 1;
    double steps = ceil(epochs * (double)xft_loader_steps(job->loader) - 1e-9);
    job->steps = o->max_steps && (double)o->max_steps < steps ? o->max_steps : (uint64_t)steps;
    if (!job->o.router_every) job->o.router_every = job->steps < 100 ? 1 : job->steps / 50;
}

static xft_status make_inputs(xft_run_job *job) {
    char model[33], data[17];
    XFT_TRY(xft_fingerprint(job->o.model, model));
    snprintf(data, sizeof data, "%016" PRIx64, xft_dataset_fingerprint(job->data));
    job->inputs = json_pack("{s:s,s:s}", "model", model, "data", data);
    if (job->eval_data) {
        snprintf(data, sizeof data, "%016" PRIx64, xft_dataset_fingerprint(job->eval_data));
        json_object_set_new(job->inputs, "eval_data", json_string(data));
    }
    XFT_FAIL_IF(!job->inputs, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the fingerprints of a run");
    return XFT_OK;
}

/* The device of an earlier process, with its choices; or the one that is asked for. */
static xft_status open_device(xft_run_job *job) {
    const xft_run_options *o = &job->o;
    const json_t *was = json_object_get(job->saved.state, "device"),
                 *made = json_object_get(job->saved.state, "choices");
    const char *id = json_string_value(json_object_get(was, "id")),
               *name = json_string_value(json_object_get(was, "name"));
    const bool any = !o->device || !*o->device || !strcmp(o->device, "auto");
    xft_device_options options = o->device_options;
    char *choices = made ? json_dumps(made, 0) : NULL;
    if (choices) options.choices = choices;
    xft_status status = XFT_OK;
    job->device = o->opened;
    if (!job->device) {
        status = xft_device_open(any ? (id ? id : "auto") : o->device, &options, &job->device);
        job->own_device = status == XFT_OK;
    }
    free(choices);
    if (status != XFT_OK) return status;
    const xft_device_info *info = xft_device_get_info(job->device);
    if (info->device_class == XFT_CLASS_CPU)
        xft_log(&job->callbacks, XFT_LOG_WARNING, "%s is a CPU (%s): training is many times slower than on a GPU",
                info->id, info->name);
    if (!was) return XFT_OK;
    const char *driver = json_string_value(json_object_get(was, "driver"));
    bool same = name && !strcmp(name, info->name);
    XFT_FAIL_IF(!same && any && !o->opened, XFT_ERROR_NO_DEVICE,
                "%s: the run was on %s (%s), where %s is now; name a device to go on with another one", o->output,
                name ? name : "?", id ? id : "?", info->name);
    if (!same || !id || strncmp(id, info->id, 6) != 0)
        xft_log(&job->callbacks, XFT_LOG_WARNING, "goes on with %s instead of %s: other bits, the same training",
                info->name, name ? name : "?");
    else if (!driver || strcmp(driver, info->driver) != 0)
        xft_log(&job->callbacks, XFT_LOG_WARNING, "the driver of %s is another one than before: bits may differ",
                info->name);
    return XFT_OK;
}

static xft_status load_model(xft_run_job *job) {
    const bool merge = job->o.stage == XFT_RUN_MERGE;
    const char *folder = job->saved.folder ? job->saved.folder : job->o.model;
    XFT_TRY(xft_checkpoint_load(
        job->device, folder, &(xft_load_options){.dtype = job->o.dtype, .mixing = merge, .callbacks = &job->callbacks},
        &job->model));
    if (merge && job->o.lambda) XFT_TRY(xft_model_set_shared_weight(job->model, (float)*job->o.lambda));
    return XFT_OK;
}

static xft_status plan(xft_run_job *job) {
    xft_train_options options = xft_run_train_options(job);
    xft_config c = *xft_model_get_config(job->model);
    xft_plan training, evaluation;
    XFT_TRY(xft_plan_training(&c, job->o.dtype, &options, job->device, &training));
    job->planned = training.total;
    if (!job->eval_loader) return XFT_OK;
    if (options.merge) c.num_experts = 0; /* what is evaluated there is the merged model */
    XFT_TRY(xft_plan_evaluation(&c, job->o.dtype, xft_loader_tokens(job->eval_loader),
                                xft_loader_sequences(job->eval_loader), job->device, &evaluation));
    job->planned += evaluation.activations + evaluation.scratch;
    return XFT_OK;
}

static xft_status make_trainer(xft_run_job *job) {
    xft_train_options options = xft_run_train_options(job);
    XFT_TRY(plan(job));
    XFT_TRY(xft_trainer_create(job->model, &options, &job->trainer));
    if (job->saved.folder) XFT_TRY(xft_run_restore(job));
    if (!job->eval_loader) return XFT_OK;
    return xft_trainer_evaluator(job->trainer, xft_loader_tokens(job->eval_loader),
                                 xft_loader_sequences(job->eval_loader), &job->evaluator);
}

/* ---- Steps ---- */

/* The highest of the learning rate's shape, at a step. */
static double rate_at(const xft_run_job *job, uint64_t step) {
    const xft_run_options *o = &job->o;
    uint64_t warmup = (uint64_t)(o->warmup < 1 ? o->warmup * (double)job->steps : o->warmup);
    return xft_schedule_rate(o->schedule, o->lr, warmup, job->steps, step);
}

/* Metrics of a step, once: to the log and to the caller. */
static xft_status report(xft_run_job *job, const xft_metrics *m) {
    if (!m->labels || m->step + 1 <= job->reported) return XFT_OK;
    double now = monotonic();
    job->metrics = *m;
    job->reported = m->step + 1;
    job->tokens_per_s = (double)m->tokens / (now - job->last_report);
    job->last_report = now;
    if (!job->paced_step) {
        job->paced = now;
        job->paced_step = job->reported;
        XFT_TRY(xft_run_describe(job, "running", NULL)); /* the first step may have made further choices */
    }
    if (job->reported % job->o.log_every == 0 || job->reported == 1 || job->reported == job->steps)
        XFT_TRY(xft_run_log(job, "step",
                            json_pack("{s:I,s:f,s:o,s:o,s:o,s:f,s:I,s:I,s:o,s:f,s:I,s:I}", "step",
                                      (json_int_t)job->reported, "epoch", epoch_of(job, job->reported), "loss",
                                      xft_run_number(m->loss), "balance", xft_run_number(m->balance), "grad_norm",
                                      xft_run_number(m->grad_norm), "lr", m->lr, "tokens", (json_int_t)m->tokens,
                                      "labels", (json_int_t)m->labels, "tokens_per_s",
                                      xft_run_number(job->tokens_per_s), "seconds", seconds_of(job), "skipped",
                                      (json_int_t)m->skipped_in_all, "memory", (json_int_t)memory_of(job))));
    tell(job, XFT_RUN_EVENT_STEP, NULL);
    return XFT_OK;
}

/* Waits for the last step. */
static xft_status flush(xft_run_job *job) {
    xft_metrics m;
    xft_status status = xft_trainer_flush(job->trainer, &m);
    if (m.labels) {
        job->progress.loss = m.loss;
        job->progress.skipped = m.skipped_in_all;
    }
    job->progress.seconds = seconds_of(job);
    xft_status reported = report(job, &m);
    return status != XFT_OK ? status : reported;
}

static xft_status take_step(xft_run_job *job) {
    const xft_batch *batches;
    xft_metrics m;
    uint32_t count;
    uint64_t tokens = 0;
    XFT_TRY(xft_loader_next(job->loader, &batches, &count));
    XFT_TRY(xft_trainer_step(job->trainer, batches, count, rate_at(job, job->progress.step)));
    for (uint32_t i = 0; i < count; i++) tokens += batches[i].tokens;
    job->progress.step++;
    job->progress.tokens += tokens;
    xft_status status = xft_trainer_metrics(job->trainer, &m);
    xft_status reported = report(job, &m); /* a step that ends the run is told, too */
    return status != XFT_OK ? status : reported;
}

/* ---- Evaluation and statistics ---- */

static xft_status evaluate(xft_run_job *job) {
    double sum = 0, part;
    uint64_t labels = 0, n;
    xft_run_progress *p = &job->progress;
    XFT_TRY(xft_loader_seek(job->eval_loader, 0));
    for (uint64_t i = 0; i < xft_loader_steps(job->eval_loader); i++) {
        const xft_batch *batches;
        uint32_t count;
        pass_progress(job, "evaluation", i, xft_loader_steps(job->eval_loader));
        if (job->stop) return XFT_OK; /* it is made up for after a resume */
        XFT_TRY(xft_loader_next(job->eval_loader, &batches, &count));
        for (uint32_t k = 0; k < count; k++) {
            XFT_TRY(xft_evaluator_run(job->evaluator, &batches[k], &part, &n, NULL));
            sum += part;
            labels += n;
        }
    }
    p->eval_step = p->step;
    p->eval_loss = sum / (double)labels;
    if (!(p->best_loss <= p->eval_loss)) {
        p->best_loss = p->eval_loss;
        p->best_step = p->step;
    }
    XFT_TRY(xft_run_log(job, "eval",
                        json_pack("{s:o,s:o,s:I}", "loss", xft_run_number(p->eval_loss), "perplexity",
                                  xft_run_number(exp(p->eval_loss)), "labels", (json_int_t)labels)));
    tell(job, XFT_RUN_EVENT_EVAL, NULL);
    return XFT_OK;
}

/* The squared coefficient of variation, as the balance loss has it. */
static double cv2(const float *v, uint32_t count) {
    double mean = 0, variance = 0;
    for (uint32_t i = 0; i < count; i++) mean += (double)v[i] / count;
    for (uint32_t i = 0; i < count; i++) variance += ((double)v[i] - mean) * ((double)v[i] - mean);
    return count > 1 ? variance / (count - 1) / (mean * mean + 1e-10) : 0;
}

/* Shares of the picks of a layer's routed experts, into *load; returns their entropy over that of equal shares. */
static double shares(const float *picked, uint32_t routed, json_t **load) {
    double sum = 0, entropy = 0;
    *load = json_array();
    for (uint32_t e = 0; e < routed; e++) sum += (double)picked[e];
    for (uint32_t e = 0; e < routed; e++) {
        double share = sum > 0 ? (double)picked[e] / sum : 0;
        if (share > 0) entropy -= share * log(share);
        json_array_append_new(*load, json_real(share));
    }
    return routed > 1 ? entropy / log(routed) : 1;
}

static xft_status log_router(xft_run_job *job) {
    const xft_config *c = xft_model_get_config(job->model);
    const uint32_t routed = xft_config_routed(c);
    json_t *loads = json_array(), *entropies = json_array(), *balances = json_array(), *load;
    xft_status status = XFT_OK;
    for (uint32_t l = 0; l < c->num_layers; l++) {
        float stats[3 * 64]; /* importance, load, tokens */
        status = xft_trainer_router_stats(job->trainer, l, stats);
        if (status != XFT_OK) break;
        double balance = (double)c->balance_weight * (cv2(stats, routed) + cv2(stats + routed, routed));
        json_array_append_new(entropies, json_real(shares(stats + 2 * (size_t)routed, routed, &load)));
        json_array_append_new(loads, load);
        json_array_append_new(balances, xft_run_number(balance));
    }
    json_t *fields = json_pack("{s:o,s:o,s:o}", "load", loads, "entropy", entropies, "balance", balances);
    if (status == XFT_OK) return xft_run_log(job, "router", fields);
    json_decref(fields);
    return status;
}

static xft_status log_mixing(xft_run_job *job) {
    const xft_config *c = xft_model_get_config(job->model);
    uint32_t routed = xft_config_routed(c);
    json_t *layers = json_array();
    xft_status status = XFT_OK;
    for (uint32_t l = 0; l < c->num_layers && status == XFT_OK; l++) {
        char name[80];
        float a[64];
        double sum = 0, most = -INFINITY;
        xft_tensor tensor;
        snprintf(name, sizeof name, "model.layers.%u.mlp.average_weights", l);
        status = xft_model_find(job->model, name, &tensor);
        if (status == XFT_OK) status = xft_tensor_read(&tensor, XFT_F32, a);
        if (status != XFT_OK) break;
        for (uint32_t e = 0; e < routed; e++) most = fmax(most, (double)a[e]);
        for (uint32_t e = 0; e < routed; e++) sum += exp((double)a[e] - most);
        json_t *alpha = json_array();
        for (uint32_t e = 0; e < routed; e++)
            json_array_append_new(alpha, xft_run_number(exp((double)a[e] - most) / sum));
        json_array_append_new(layers, alpha);
    }
    if (status == XFT_OK) return xft_run_log(job, "mixing", json_pack("{s:o}", "alpha", layers));
    json_decref(layers);
    return status;
}

/* ---- The loop ---- */

static bool due(uint64_t step, uint64_t every) {
    return every && step % every == 0;
}

/* Weights that are not finite make no checkpoint: the last good one stays, and steps end the run soon. */
static xft_status save(xft_run_job *job) {
    char *path;
    job->progress.seconds = seconds_of(job);
    xft_status status = xft_run_save(job, &path);
    if (status == XFT_ERROR_FORMAT) {
        xft_log(&job->callbacks, XFT_LOG_WARNING, "%s", xft_error());
        return XFT_OK;
    }
    if (status != XFT_OK) return status;
    status = xft_run_log(job, "checkpoint", json_pack("{s:s}", "path", path));
    if (status == XFT_OK) tell(job, XFT_RUN_EVENT_CHECKPOINT, path);
    free(path);
    return status;
}

static bool evaluation_due(const xft_run_job *job) {
    const uint64_t step = job->progress.step;
    return job->evaluator && step && job->progress.eval_step != step &&
           (due(step, job->o.eval_every) || step == job->steps);
}

/* What is to be done between the steps. */
static xft_status settle(xft_run_job *job) {
    const xft_run_options *o = &job->o;
    const uint64_t step = job->progress.step;
    const bool last = step == job->steps, evaluation = evaluation_due(job);
    const bool statistics = o->stage != XFT_RUN_SFT && (due(step, o->router_every) || last);
    bool save_due = due(step, o->save_every) && !last;
    if (!statistics && !evaluation && !save_due && !last) return XFT_OK;
    XFT_TRY(flush(job));
    if (statistics) XFT_TRY(o->stage == XFT_RUN_TUNE ? log_router(job) : log_mixing(job));
    if (evaluation) {
        XFT_TRY(evaluate(job));
        bool best = job->progress.eval_step == step && job->progress.best_step == step;
        save_due = save_due || (o->keep_best && best);
    }
    if (save_due && !job->metrics.skipped) XFT_TRY(save(job)); /* good ones do not go for one in a bad row */
    job->last_report = monotonic();                            /* what was done here is no time of a step */
    return XFT_OK;
}

static bool wants_to_stop(xft_run_job *job) {
    if (job->o.cancel && *job->o.cancel) job->stop = true;
    return job->stop;
}

static xft_status stop_here(xft_run_job *job) {
    XFT_TRY(flush(job));
    if (job->progress.step > job->first_step) XFT_TRY(save(job));
    XFT_TRY(xft_run_log(job, "cancelled", NULL));
    XFT_TRY(xft_run_describe(job, "stopped", NULL));
    return xft_fail(XFT_ERROR_CANCELLED,
                    "stopped after step %" PRIu64 " of %" PRIu64 "; the same call goes on from there",
                    job->progress.step, job->steps);
}

static xft_status loop(xft_run_job *job) {
    if (evaluation_due(job)) XFT_TRY(evaluate(job)); /* a stop has cut it off */
    while (job->progress.step < job->steps) {
        if (wants_to_stop(job)) return stop_here(job);
        XFT_TRY(take_step(job));
        XFT_TRY(settle(job));
    }
    return wants_to_stop(job) ? stop_here(job) : XFT_OK;
}

/* ---- Beginning and end ---- */

static xft_status start_log(xft_run_job *job) {
    if (job->saved.folder) {
        XFT_TRY(xft_run_log_open(job, false, job->progress.step));
        return xft_run_log(job, "resume", NULL);
    }
    const xft_device_info *info = xft_device_get_info(job->device);
    XFT_TRY(xft_run_log_open(job, true, 0));
    return xft_run_log(job, "start",
                       json_pack("{s:s,s:s,s:s,s:s,s:I,s:O}", "stage", xft_run_stage_word(job->o.stage), "model",
                                 job->o.model, "device", info->name, "driver", info->driver, "steps",
                                 (json_int_t)job->steps, "settings", job->settings));
}

/* A run that begins anew: what an earlier one left, but for its finished model. */
static xft_status clear(const xft_run_job *job) {
    static const char *const names[] = {"run.json", "merge.json", "checkpoints", "log.jsonl"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path;
        XFT_TRY(xft_path_join(job->o.output, names[i], &path));
        xft_status status = xft_remove_all(path);
        free(path);
        if (status != XFT_OK) return status;
    }
    return XFT_OK;
}

static bool state_says(const json_t *state, const char *status) {
    const char *said = json_string_value(json_object_get(state, "status"));
    return said && !strcmp(said, status);
}

/* run.json comes last: when it says done, and the model is there, then all is. */
static xft_status is_done(xft_run_job *job, bool *done) {
    json_t *run = NULL;
    bool model = false;
    *done = false;
    XFT_TRY(xft_run_read_json(job->o.output, "run.json", &run));
    xft_status status = state_says(run, "done") ? xft_checkpoint_exists(job->o.output, &model) : XFT_OK;
    if (status == XFT_OK && model) {
        status = xft_run_settings_compare(job, run);
        if (status == XFT_OK) status = xft_run_progress_read(run, &job->progress);
        *done = status == XFT_OK;
    }
    json_decref(run);
    return status;
}

/* A folder with a model that no run made is somebody's. */
static xft_status check_output(const xft_run_job *job) {
    bool model;
    XFT_TRY(xft_checkpoint_exists(job->o.output, &model));
    XFT_FAIL_IF(model && !job->saved.state, XFT_ERROR_INVALID_ARGUMENT,
                "%s: holds a model that no run made; give another output folder, or begin anew (resume: no)",
                job->o.output);
    return XFT_OK;
}

static xft_status prepare(xft_run_job *job, bool *done) {
    XFT_TRY(lock_folder(job));
    job->saved.progress = xft_run_beginning;
    if (!job->o.restart) XFT_TRY(xft_run_saved_find(job->o.output, &job->callbacks, &job->saved));
    if (!job->o.restart) XFT_TRY(check_output(job));
    XFT_TRY(load_data(job));
    count_steps(job);
    XFT_TRY(make_inputs(job));
    XFT_TRY(xft_run_settings_make(job));
    if (!job->o.restart) XFT_TRY(is_done(job, done));
    if (*done) return XFT_OK;
    if (job->saved.state) XFT_TRY(xft_run_settings_compare(job, job->saved.state));
    job->progress = job->saved.progress;
    job->first_step = job->reported = job->progress.step;
    const json_t *evaluated = json_object_get(json_object_get(job->saved.state, "inputs"), "eval_data");
    if (!json_equal(evaluated, json_object_get(job->inputs, "eval_data"))) { /* other data, other losses */
        job->progress.eval_step = UINT64_MAX;
        job->progress.eval_loss = job->progress.best_loss = NAN;
    }
    say_counts(job);
    XFT_TRY(open_device(job));
    XFT_TRY(load_model(job));
    XFT_TRY(make_trainer(job));
    XFT_TRY(xft_loader_seek(job->loader, job->progress.step));
    XFT_TRY(xft_run_tidy(job->o.output));
    XFT_TRY(xft_run_set_aside(job));
    XFT_TRY(xft_run_check_space(job));
    if (job->o.restart) XFT_TRY(clear(job));
    XFT_TRY(start_log(job));
    return xft_run_describe(job, "running", NULL);
}

static void drop_trainer(xft_run_job *job) {
    xft_evaluator_destroy(job->evaluator);
    xft_trainer_destroy(job->trainer);
    job->evaluator = NULL;
    job->trainer = NULL;
}

static xft_status finish(xft_run_job *job) {
    xft_run_progress *p = &job->progress;
    xft_model *dense = NULL;
    drop_trainer(job);
    xft_status status = XFT_OK;
    if (job->o.stage == XFT_RUN_MERGE)
        status = xft_model_merge(job->model, XFT_MERGE_LEARNED, NULL, -1, &job->callbacks, &dense);
    xft_save_options options = xft_run_save_options(job);
    if (status == XFT_OK) status = xft_checkpoint_save(dense ? dense : job->model, job->o.output, &options);
    xft_model_destroy(dense);
    if (status != XFT_OK) return status;
    p->seconds = seconds_of(job);
    XFT_TRY(xft_run_log(job, "end",
                        json_pack("{s:f,s:o,s:o}", "seconds", p->seconds, "loss", xft_run_number(p->loss), "eval_loss",
                                  xft_run_number(p->eval_loss))));
    XFT_FAIL_IF(fsync(job->log) != 0, XFT_ERROR_IO, "%s/log.jsonl: fsync: %s", job->o.output, strerror(errno));
    XFT_TRY(xft_run_describe(job, "done", NULL));
    tell(job, XFT_RUN_EVENT_END, job->o.output);
    return XFT_OK;
}

/* Leaves word of a failure, which stays this thread's message. */
static xft_status fail(xft_run_job *job, xft_status status) {
    char reason[600];
    snprintf(reason, sizeof reason, "%s", xft_error());
    xft_run_log(job, "failed", json_pack("{s:s}", "message", reason));
    xft_run_describe(job, "failed", reason);
    return xft_fail(status, "%s", reason);
}

static void tell_result(const xft_run_job *job, bool done, xft_run_result *result) {
    const xft_run_progress *p = &job->progress;
    *result = (xft_run_result){.was_done = done,
                               .steps = p->step,
                               .first_step = job->first_step,
                               .tokens = p->tokens,
                               .loss = p->loss,
                               .eval_loss = p->eval_loss,
                               .best_loss = p->best_loss,
                               .best_step = p->best_step,
                               .skipped = p->skipped,
                               .seconds = p->seconds,
                               .memory = job->memory,
                               .planned = job->planned};
}

static void release(xft_run_job *job) {
    drop_trainer(job);
    xft_model_destroy(job->model);
    if (job->own_device) xft_device_close(job->device);
    xft_loader_destroy(job->eval_loader);
    xft_loader_destroy(job->loader);
    xft_dataset_free(job->eval_data);
    xft_dataset_free(job->data);
    xft_tokenizer_free(job->tokenizer);
    xft_run_saved_free(&job->saved);
    json_decref(job->settings);
    json_decref(job->inputs);
    if (job->log >= 0) close(job->log);
    if (job->made) rmdir(job->o.output); /* fails where there is anything in it */
    if (job->lock >= 0) close(job->lock);
}

xft_status xft_run(const xft_run_options *options, xft_run_result *result) {
    XFT_NEED(options);
    xft_run_job job = {.lock = -1, .log = -1, .progress = xft_run_beginning};
    job.callbacks = (xft_callbacks){.user = &job, .log = pass_log, .progress = pass_progress};
    bool done = false;
    xft_status status = xft_run_options_take(&job, options);
    if (status == XFT_OK) status = prepare(&job, &done);
    if (status == XFT_OK && !done) {
        job.started = job.last_report = monotonic();
        job.training = true;
        tell(&job, XFT_RUN_EVENT_START, NULL);
        status = loop(&job);
        if (status == XFT_OK) status = finish(&job);
        if (status != XFT_OK && status != XFT_ERROR_CANCELLED) status = fail(&job, status);
    }
    if (result) tell_result(&job, done, result);
    release(&job);
    return status;
}

xft_status xft_run_find(const char *output, xft_run_state *state, uint64_t *step) {
    XFT_NEED(output, state);
    json_t *run;
    xft_run_saved saved;
    *state = XFT_RUN_NONE;
    if (step) *step = 0;
    XFT_TRY(xft_run_read_json(output, "run.json", &run));
    bool done = state_says(run, "done");
    if (done && step) *step = (uint64_t)json_integer_value(json_object_get(run, "step"));
    json_decref(run);
    if (done) *state = XFT_RUN_DONE;
    if (done) return XFT_OK;
    XFT_TRY(xft_run_saved_find(output, NULL, &saved));
    if (saved.state) *state = XFT_RUN_STOPPED;
    if (step) *step = saved.progress.step;
    xft_run_saved_free(&saved);
    return XFT_OK;
}
