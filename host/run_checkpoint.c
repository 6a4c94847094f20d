/* Checkpoints of a run: checkpoints/step-N with the model, state.json and state.safetensors. */
#include "run.h"

#include "callbacks.h"
#include "checkpoint.h"
#include "error.h"
#include "files.h"
#include "model_folder.h"
#include "shards.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const xft_stored_dtype stored[] = {
    [XFT_F32] = XFT_STORED_F32, [XFT_BF16] = XFT_STORED_BF16, [XFT_F16] = XFT_STORED_F16, [XFT_U32] = XFT_STORED_U32};
static const char state_json[] = "state.json", state_tensors[] = "state.safetensors", best[] = "best";

/* The number N of "step-N", as xft_run_save writes it; false for any other name. */
static bool step_of(const char *name, uint64_t *step) {
    char again[40];
    if (sscanf(name, "step-%" SCNu64, step) != 1) return false;
    snprintf(again, sizeof again, "step-%08" PRIu64, *step);
    return !strcmp(name, again);
}

/* ---- Finding ---- */

static uint64_t whole(const json_t *json, const char *key) {
    return (uint64_t)json_integer_value(json_object_get(json, key));
}

static double real(const json_t *json, const char *key) {
    const json_t *value = json_object_get(json, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

xft_status xft_run_progress_read(const json_t *json, xft_run_progress *p) {
    static const char *const needed[] = {"step", "tokens", "skipped", "best_step"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
        XFT_FAIL_IF(!json_is_integer(json_object_get(json, needed[i])), XFT_ERROR_FORMAT, "%s is no whole number",
                    needed[i]);
    const json_t *evaluated = json_object_get(json, "eval_step");
    *p = (xft_run_progress){.step = whole(json, "step"),
                            .tokens = whole(json, "tokens"),
                            .skipped = whole(json, "skipped"),
                            .seconds = real(json, "seconds"),
                            .loss = real(json, "loss"),
                            .eval_step = json_is_integer(evaluated) ? whole(json, "eval_step") : UINT64_MAX,
                            .eval_loss = real(json, "eval_loss"),
                            .best_loss = real(json, "best_loss"),
                            .best_step = whole(json, "best_step")};
    if (!isfinite(p->seconds)) p->seconds = 0;
    return XFT_OK;
}

json_t *xft_run_progress_json(const xft_run_progress *p) {
    return json_pack(
        "{s:I,s:I,s:I,s:o,s:o,s:o,s:o,s:o,s:I}", "step", (json_int_t)p->step, "tokens", (json_int_t)p->tokens,
        "skipped", (json_int_t)p->skipped, "seconds", xft_run_number(p->seconds), "loss", xft_run_number(p->loss),
        "eval_step", p->eval_step == UINT64_MAX ? json_null() : json_integer((json_int_t)p->eval_step), "eval_loss",
        xft_run_number(p->eval_loss), "best_loss", xft_run_number(p->best_loss), "best_step", (json_int_t)p->best_step);
}

/* Opens every file of a checkpoint. */
static xft_status check_files(const char *folder) {
    char *text, *path;
    xft_config config;
    xft_shards shards = {0};
    xft_safetensors *tensors = NULL;
    XFT_TRY(xft_checkpoint_config(folder, &text, &config));
    free(text);
    XFT_TRY(xft_shards_open(folder, &shards));
    xft_shards_close(&shards);
    XFT_TRY(xft_path_join(folder, state_tensors, &path));
    xft_status status = xft_safetensors_open(path, &tensors);
    xft_safetensors_close(tensors);
    free(path);
    return status;
}

static xft_status read_saved(const char *folder, uint64_t step, xft_run_saved *saved) {
    XFT_TRY(xft_run_read_json(folder, state_json, &saved->state));
    xft_status status =
        saved->state ? XFT_OK : xft_fail(XFT_ERROR_FORMAT, "%s/%s: there is no such file", folder, state_json);
    if (status == XFT_OK) {
        status = xft_run_progress_read(saved->state, &saved->progress);
        if (status == XFT_OK && saved->progress.step != step)
            status = xft_fail(XFT_ERROR_FORMAT, "step is %" PRIu64, saved->progress.step);
        if (status != XFT_OK) status = xft_fail_in(status, "%s/%s", folder, state_json);
    }
    if (status == XFT_OK) status = check_files(folder);
    if (status == XFT_OK && !(saved->folder = strdup(folder)))
        status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", folder);
    if (status != XFT_OK) {
        json_decref(saved->state);
        saved->state = NULL;
    }
    return status;
}

void xft_run_saved_free(xft_run_saved *saved) {
    json_decref(saved->state);
    free(saved->folder);
    *saved = (xft_run_saved){0};
}

const xft_run_progress xft_run_beginning = {.eval_step = UINT64_MAX, .loss = NAN, .eval_loss = NAN, .best_loss = NAN};

xft_status xft_run_saved_find(const char *output, const xft_callbacks *callbacks, xft_run_saved *saved) {
    char *folder, **names = NULL;
    size_t count = 0, broken = 0;
    *saved = (xft_run_saved){.progress = xft_run_beginning};
    XFT_TRY(xft_path_join(output, "checkpoints", &folder));
    xft_status status = access(folder, F_OK) ? XFT_OK : xft_list_folder(folder, &names, &count);
    for (size_t i = count; i-- > 0 && status == XFT_OK && !saved->folder;) { /* names sort by number */
        uint64_t step;
        char *path;
        if (!step_of(names[i], &step)) continue;
        status = xft_path_join(folder, names[i], &path);
        if (status != XFT_OK) break;
        if (read_saved(path, step, saved) != XFT_OK) {
            saved->progress = xft_run_beginning;
            broken++;
            xft_log(callbacks, XFT_LOG_WARNING, "passed over a checkpoint that cannot be read: %s", xft_error());
        }
        free(path);
    }
    if (status == XFT_OK && broken && !saved->folder) /* to begin anew here would remove what may be mended */
        status = xft_fail_in(XFT_ERROR_FORMAT, "%s: no checkpoint can be read; mend one, or begin anew (resume: no)",
                             output);
    xft_free_list(names, count);
    free(folder);
    if (status == XFT_OK && !saved->folder) status = xft_run_read_json(output, "run.json", &saved->state);
    return status;
}

/* ---- Tidying ---- */

xft_status xft_run_tidy(const char *output) {
    char *folder;
    XFT_TRY(xft_model_settle(output));
    XFT_TRY(xft_remove_left_overs(output, ""));
    XFT_TRY(xft_path_join(output, "checkpoints", &folder));
    xft_status status = xft_remove_left_overs(folder, "");
    free(folder);
    return status;
}

static xft_status set_aside(const char *folder, const char *name) {
    char *path, *aside;
    XFT_TRY(xft_path_join(folder, name, &path));
    xft_status status = XFT_OK;
    if (asprintf(&aside, "%s.unreadable", path) < 0) {
        aside = NULL;
        status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", path);
    }
    if (status == XFT_OK) status = xft_remove_all(aside);
    if (status == XFT_OK && rename(path, aside) != 0)
        status = xft_fail(XFT_ERROR_IO, "%s: rename: %s", aside, strerror(errno));
    free(aside);
    free(path);
    return status;
}

xft_status xft_run_set_aside(const xft_run_job *job) {
    char *folder, **names;
    size_t count;
    if (!job->saved.folder) return XFT_OK;
    XFT_TRY(xft_path_join(job->o.output, "checkpoints", &folder));
    xft_status status = xft_list_folder(folder, &names, &count);
    for (size_t i = 0; status == XFT_OK && i < count; i++) {
        uint64_t step;
        if (step_of(names[i], &step) && step > job->saved.progress.step) status = set_aside(folder, names[i]);
    }
    xft_free_list(names, count);
    free(folder);
    return status;
}

/* ---- Reading ---- */

static xft_status restore_tensor(const xft_safetensors *file, const char *name, const xft_tensor *to) {
    const xft_stored_tensor *from = xft_safetensors_find(file, name);
    XFT_FAIL_IF(!from, XFT_ERROR_FORMAT, "%s: tensor %s is missing", xft_safetensors_path(file), name);
    bool same = from->rank == to->rank && from->dtype == stored[to->dtype];
    for (uint32_t d = 0; same && d < to->rank; d++) same = from->shape[d] == to->shape[d];
    XFT_FAIL_IF(!same, XFT_ERROR_FORMAT, "%s: tensor %s has another shape or dtype than the optimizer's",
                xft_safetensors_path(file), name);
    return xft_tensor_write(to, to->dtype, from->data);
}

xft_status xft_run_restore(xft_run_job *job) {
    char *path, name[160];
    xft_safetensors *file = NULL;
    xft_tensor tensor;
    XFT_TRY(xft_path_join(job->saved.folder, state_tensors, &path));
    xft_status status = xft_safetensors_open(path, &file);
    free(path);
    uint32_t count = xft_trainer_state_count(job->trainer);
    for (uint32_t i = 0; i < count && status == XFT_OK; i++) {
        status = xft_trainer_state(job->trainer, i, name, &tensor);
        if (status == XFT_OK) status = restore_tensor(file, name, &tensor);
    }
    xft_safetensors_close(file);
    if (status == XFT_OK) status = xft_trainer_refresh(job->trainer);
    if (status == XFT_OK) xft_trainer_set_steps(job->trainer, job->progress.step);
    return status;
}

/* ---- Writing ---- */

static xft_status read_state(void *user, uint32_t index, void *data, uint64_t bytes) {
    char name[160];
    xft_tensor tensor;
    (void)bytes;
    XFT_TRY(xft_trainer_state(user, index, name, &tensor));
    return xft_tensor_read(&tensor, tensor.dtype, data);
}

static xft_status write_tensors(xft_trainer *trainer, const char *folder) {
    uint32_t count = xft_trainer_state_count(trainer);
    xft_stored_tensor *list = calloc(count, sizeof *list);
    char(*names)[160] = calloc(count, sizeof *names), *path = NULL;
    xft_status status = list && names ? xft_path_join(folder, state_tensors, &path)
                                      : xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u tensors", count);
    for (uint32_t i = 0; i < count && status == XFT_OK; i++) {
        xft_tensor tensor;
        status = xft_trainer_state(trainer, i, names[i], &tensor);
        list[i] = (xft_stored_tensor){.name = names[i], .dtype = stored[tensor.dtype], .rank = tensor.rank};
        for (uint32_t d = 0; d < tensor.rank; d++) list[i].shape[d] = tensor.shape[d];
    }
    if (status == XFT_OK) status = xft_safetensors_write(path, list, count, NULL, read_state, trainer);
    free(path);
    free(list);
    free(names);
    return status;
}

static xft_status write_state(xft_run_job *job, const char *folder) {
    json_t *json = xft_run_progress_json(&job->progress), *origin = NULL;
    xft_status status = xft_run_origin(job, &origin);
    if (status == XFT_OK) {
        json_object_update(json, origin);
        status = xft_run_write_json(folder, state_json, json);
    }
    json_decref(origin);
    json_decref(json);
    return status;
}

/* checkpoints/best as a link to step-N: replaced by rename, so that it is never missing. */
static xft_status renew_best(const xft_run_job *job, const char *checkpoints) {
    char target[40], *link = NULL, *temporary = NULL, *folder = NULL, old[40] = "";
    snprintf(target, sizeof target, "step-%08" PRIu64, job->progress.best_step);
    xft_status status = xft_path_join(checkpoints, best, &link);
    if (status == XFT_OK) status = xft_path_join(checkpoints, target, &folder);
    if (status == XFT_OK && asprintf(&temporary, "%s.tmp-%ld", link, (long)getpid()) < 0) {
        temporary = NULL;
        status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", link);
    }
    bool known = status == XFT_OK && readlink(link, old, sizeof old - 1) > 0 && !strcmp(old, target);
    if (status == XFT_OK && !known && access(folder, F_OK) == 0) {
        if (symlink(target, temporary) != 0 || rename(temporary, link) != 0)
            status = xft_fail(XFT_ERROR_IO, "%s: %s", link, strerror(errno));
        if (status == XFT_OK) status = xft_sync_folder(link);
    }
    free(folder);
    free(temporary);
    free(link);
    return status;
}

/* A checkpoint disappears by rename, too: half a folder never has its name. */
static xft_status drop_checkpoint(const char *checkpoints, const char *name) {
    char *path, *aside;
    XFT_TRY(xft_path_join(checkpoints, name, &path));
    xft_status status = XFT_OK;
    if (asprintf(&aside, "%s.old-%ld", path, (long)getpid()) < 0) {
        aside = NULL;
        status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", path);
    }
    if (status == XFT_OK && rename(path, aside) != 0)
        status = xft_fail(XFT_ERROR_IO, "%s: rename: %s", path, strerror(errno));
    if (status == XFT_OK) status = xft_remove_all(aside);
    free(aside);
    free(path);
    return status;
}

static xft_status prune(const xft_run_job *job, const char *checkpoints) {
    char **names;
    size_t count, seen = 0;
    if (!job->o.keep) return XFT_OK;
    XFT_TRY(xft_list_folder(checkpoints, &names, &count));
    xft_status status = XFT_OK;
    for (size_t i = count; i-- > 0 && status == XFT_OK;) {
        uint64_t step;
        if (!step_of(names[i], &step) || seen++ < job->o.keep) continue;
        if (job->o.keep_best && isfinite(job->progress.best_loss) && step == job->progress.best_step) continue;
        status = drop_checkpoint(checkpoints, names[i]);
    }
    xft_free_list(names, count);
    return status;
}

static xft_save_options checkpoint_options(const xft_run_job *job) {
    /* in the model's own type: nothing is rounded */
    return (xft_save_options){
        .dtype = job->o.dtype, .shard_size = job->o.shard_size, .carry = job->o.model, .callbacks = &job->callbacks};
}

static xft_status write_checkpoint(xft_run_job *job, const char *temporary, const char *path) {
    xft_save_options options = checkpoint_options(job);
    XFT_TRY(xft_remove_all(temporary));
    XFT_TRY(xft_make_folder(temporary));
    XFT_TRY(xft_checkpoint_write(job->model, temporary, &options));
    XFT_TRY(write_tensors(job->trainer, temporary));
    XFT_TRY(write_state(job, temporary));
    return xft_replace(temporary, path);
}

xft_status xft_run_save(xft_run_job *job, char **saved) {
    char *checkpoints, *path = NULL, *temporary = NULL, name[60];
    *saved = NULL;
    const uint64_t step = job->progress.step;
    XFT_TRY(xft_path_join(job->o.output, "checkpoints", &checkpoints));
    snprintf(name, sizeof name, "step-%08" PRIu64, step);
    xft_status status = xft_make_folder(checkpoints);
    if (status == XFT_OK) status = xft_sync_folder(checkpoints);
    if (status == XFT_OK) status = xft_path_join(checkpoints, name, &path);
    snprintf(name, sizeof name, "step-%08" PRIu64 ".tmp-%ld", step, (long)getpid());
    if (status == XFT_OK) status = xft_path_join(checkpoints, name, &temporary);
    if (status == XFT_OK) {
        status = write_checkpoint(job, temporary, path);
        if (status != XFT_OK) { /* the reason outlives the clean-up */
            char reason[600];
            snprintf(reason, sizeof reason, "%s", xft_error());
            xft_remove_all(temporary);
            status = xft_fail(status, "checkpoint of step %" PRIu64 ": %s; earlier checkpoints are as they were", step,
                              reason);
        }
    }
    if (status == XFT_OK && job->o.keep_best && isfinite(job->progress.best_loss))
        status = renew_best(job, checkpoints);
    if (status == XFT_OK) status = prune(job, checkpoints);
    free(temporary);
    if (status == XFT_OK)
        *saved = path;
    else
        free(path);
    free(checkpoints);
    return status;
}

/* ---- Space ---- */

static xft_status state_size(xft_trainer *trainer, uint64_t *bytes) {
    char name[160];
    xft_tensor tensor;
    *bytes = 0;
    for (uint32_t i = 0; i < xft_trainer_state_count(trainer); i++) {
        XFT_TRY(xft_trainer_state(trainer, i, name, &tensor));
        *bytes += (uint64_t)xft_rows(&tensor) * xft_cols(&tensor) * xft_dtype_size(tensor.dtype) + 200;
    }
    return XFT_OK;
}

/* A new one is there before the oldest goes. One more may come when the run is stopped. */
uint64_t xft_run_checkpoints(uint64_t steps, uint64_t save_every, uint64_t keep, bool keep_best) {
    uint64_t saves = 1 + (save_every ? steps / save_every : 0);
    return (keep && keep < saves ? keep + 1 : saves) + keep_best;
}

xft_status xft_run_check_space(const xft_run_job *job) {
    const xft_run_options *o = &job->o;
    xft_save_options options = checkpoint_options(job);
    xft_save_options final = xft_run_save_options(job);
    uint64_t one, state, result;
    XFT_TRY(xft_checkpoint_size(job->model, &options, &one));
    XFT_TRY(xft_checkpoint_size(job->model, &final, &result)); /* merge: the dense model is smaller */
    XFT_TRY(state_size(job->trainer, &state));
    one += state;
    uint64_t count = xft_run_checkpoints(job->steps - job->progress.step, o->save_every, o->keep, o->keep_best);
    uint64_t there = 0;
    if (o->keep || o->restart) { /* those that are there make room */
        char *checkpoints;
        XFT_TRY(xft_path_join(o->output, "checkpoints", &checkpoints));
        there = xft_size_on_disk(checkpoints);
        free(checkpoints);
    }
    uint64_t needed = count * one > there + one ? count * one - there : one;
    char what[200];
    snprintf(what, sizeof what, "the run (%" PRIu64 " checkpoints of %.1f MB at once, and the model of %.1f MB)", count,
             (double)one / 1e6, (double)result / 1e6);
    return xft_check_space(o->output, needed + result, what);
}
