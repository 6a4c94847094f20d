#include "xft/pipeline.h"

#include "callbacks.h"
#include "error.h"
#include "files.h"
#include "stage.h"
#include "xft/report.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

/* One output of the pipeline. */
typedef struct part {
    const char *name;
    xft_stage stage;
    const char *from; /* the part it starts from; NULL: the base */
    bool uniform;
} part;

static const part all_parts[] = {
    {"sft", XFT_STAGE_SFT, NULL, false},
    {"upcycled", XFT_STAGE_UPCYCLE, NULL, false},
    {"moe", XFT_STAGE_TUNE, "upcycled", false},
    {"merged", XFT_STAGE_MERGE, "moe", false},
    {"uniform", XFT_STAGE_MERGE, "moe", true},
    {"eval/base", XFT_STAGE_EVAL, NULL, false},
    {"eval/sft", XFT_STAGE_EVAL, "sft", false},
    {"eval/moe", XFT_STAGE_EVAL, "moe", false},
    {"eval/uniform", XFT_STAGE_EVAL, "uniform", false},
    {"eval/merged", XFT_STAGE_EVAL, "merged", false},
};
enum { PARTS = sizeof all_parts / sizeof *all_parts };

/* In every output folder, written when all else is there: {"status", "description", "output", "seconds", "finished"}.
 * description: what the output depends on (xft_stage_inputs); output: fingerprint of what was made. A folder NAME.part
 * is an output at work; its status is "running". */
static const char state_name[] = "stage.json";

/* Folders whose fingerprint is known, so that each is read once. */
typedef struct known {
    char *folder;
    char hex[33];
} known;

typedef struct pipeline {
    const xft_settings *settings;
    xft_pipeline_options o;
    const char *output;
    bool resume;
    bool chosen[PARTS]; /* their stage is to run */
    uint32_t number, count;
    json_t *summary; /* pipeline.json */
    known known[PARTS + XFT_STAGE_COUNT];
    uint32_t known_count;
} pipeline;

/* ---- Small files ---- */

static xft_status read_json(const char *folder, const char *name, json_t **json) {
    char *path, *text = NULL;
    *json = NULL;
    XFT_TRY(xft_path_join(folder, name, &path));
    xft_status status = access(path, F_OK) == 0 ? xft_read_file(path, &text, NULL) : XFT_OK;
    if (text) *json = json_loads(text, 0, NULL); /* what cannot be parsed says nothing */
    free(text);
    free(path);
    return status;
}

static xft_status write_json(const char *folder, const char *name, const json_t *json) {
    char *path, *text = json_dumps(json, JSON_INDENT(2));
    XFT_FAIL_IF(!text, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s/%s: no memory to write it", folder, name);
    xft_status status = xft_path_join(folder, name, &path);
    if (status == XFT_OK) status = xft_write_file(path, text, strlen(text));
    free(path);
    free(text);
    return status;
}

static json_t *now(void) {
    char text[32];
    time_t seconds = time(NULL);
    struct tm utc;
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &utc));
    return json_string(text);
}

static double monotonic(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- pipeline.json: for people ---- */

static xft_status note(pipeline *p, const char *name, const char *status, const char *why, double seconds) {
    json_t *parts = json_object_get(p->summary, "parts"), *o = json_object_get(parts, name);
    if (!o) json_object_set_new(parts, name, o = json_object());
    json_object_set_new(o, "status", json_string(status));
    json_object_set_new(o, "time", now());
    if (why) json_object_set_new(o, "why", json_string(why));
    if (seconds >= 0) json_object_set_new(o, "seconds", json_real(seconds));
    return write_json(p->output, "pipeline.json", p->summary);
}

static xft_status note_all(pipeline *p, const char *status, const char *message) {
    json_object_set_new(p->summary, "status", json_string(status));
    json_object_set_new(p->summary, "time", now());
    json_object_del(p->summary, "message");
    if (message) json_object_set_new(p->summary, "message", json_string(message));
    return write_json(p->output, "pipeline.json", p->summary);
}

/* ---- Whether an output is there and matches ---- */

static void add_word(char *text, size_t room, const char *word) {
    size_t used = strlen(text);
    snprintf(text + used, room - used, "%s%s", used ? ", " : "", word);
}

/* Keys in which two objects differ, in either. */
static void differences(const json_t *a, const json_t *b, char *text, size_t room) {
    const char *key;
    json_t *value;
    *text = 0;
    json_object_foreach((json_t *)(uintptr_t)a, key, value) if (!json_equal(value, json_object_get(b, key)))
        add_word(text, room, key);
    json_object_foreach((json_t *)(uintptr_t)b, key, value) if (!json_object_get(a, key)) add_word(text, room, key);
}

static void explain(const json_t *old, const json_t *description, char *why, size_t room) {
    char settings[200], inputs[100];
    differences(json_object_get(old, "settings"), json_object_get(description, "settings"), settings, sizeof settings);
    differences(json_object_get(old, "inputs"), json_object_get(description, "inputs"), inputs, sizeof inputs);
    snprintf(why, room, "%s%s%s%s%s", *settings ? "settings changed: " : "", settings, *settings && *inputs ? "; " : "",
             *inputs ? "inputs changed: " : "", inputs);
}

static void remember(pipeline *p, const char *folder, const char hex[33]) {
    uint32_t i = 0;
    while (i < p->known_count && strcmp(p->known[i].folder, folder) != 0) i++;
    if (i == sizeof p->known / sizeof *p->known) return;
    if (i == p->known_count) p->known[p->known_count++].folder = strdup(folder);
    if (p->known[i].folder)
        memcpy(p->known[i].hex, hex, 33);
    else
        p->known_count--;
}

static xft_status fingerprint_of_model(pipeline *p, const char *folder, char hex[33]) {
    for (uint32_t i = 0; i < p->known_count; i++)
        if (!strcmp(p->known[i].folder, folder)) {
            memcpy(hex, p->known[i].hex, 33);
            return XFT_OK;
        }
    XFT_TRY(xft_fingerprint(folder, hex));
    remember(p, folder, hex);
    return XFT_OK;
}

/* Fingerprint of what a part has made: of a model, or of scores. */
static xft_status fingerprint(pipeline *p, const part *q, const char *folder, char hex[33]) {
    if (q->stage != XFT_STAGE_EVAL) return fingerprint_of_model(p, folder, hex);
    char *path;
    XFT_TRY(xft_path_join(folder, "eval.json", &path));
    xft_status status = xft_fingerprint(path, hex);
    free(path);
    return status;
}

/* Whether `folder` holds a finished output with this description; if not, why says what is wrong with it. */
static xft_status matches(pipeline *p, const part *q, const char *folder, const json_t *description, bool *same,
                          char *why, size_t room) {
    json_t *state;
    char hex[33] = "";
    *same = false;
    XFT_TRY(read_json(folder, state_name, &state));
    const char *output = json_string_value(json_object_get(state, "output"));
    const json_t *old = json_object_get(state, "description");
    if (!output) {
        snprintf(why, room, "not done yet");
    } else if (!json_equal(old, description)) {
        explain(old, description, why, room);
    } else if (fingerprint(p, q, folder, hex) != XFT_OK || strcmp(hex, output) != 0) {
        snprintf(why, room, "output changed or incomplete");
    } else {
        *same = true;
    }
    json_decref(state);
    return XFT_OK;
}

/* ---- One part ---- */

static xft_status tell(pipeline *p, const part *q, xft_part_status status, const char *output, const char *why,
                       const xft_stage_result *result) {
    xft_part_event event = {.status = status,
                            .name = q->name,
                            .stage = q->stage,
                            .output = output,
                            .why = why,
                            .number = p->number,
                            .count = p->count,
                            .result = result};
    if ((p->o.cancel && *p->o.cancel) || (p->o.part && !p->o.part(p->o.user, &event)))
        return xft_fail(XFT_ERROR_CANCELLED, "stopped at %s; the same call goes on from there", q->name);
    return XFT_OK;
}

/* The folder a part starts from: what an earlier part made, or the stage's own setting where that part is neither to
 * run nor there. *model: NULL: the setting; else to be freed. */
static xft_status source_of(const pipeline *p, const part *q, char **model) {
    *model = NULL;
    if (!q->from) return XFT_OK;
    char *path;
    json_t *state;
    XFT_TRY(xft_path_join(p->output, q->from, &path));
    xft_status status = read_json(path, state_name, &state);
    bool there = json_object_get(state, "output") != NULL;
    json_decref(state);
    for (uint32_t i = 0; i < PARTS; i++) there = there || (p->chosen[i] && !strcmp(all_parts[i].name, q->from));
    if (there)
        *model = path;
    else
        free(path);
    return status;
}

static xft_stage_options options_of(const pipeline *p, const part *q, const char *model, const char *output) {
    return (xft_stage_options){.model = model,
                               .output = output,
                               .device = p->o.device,
                               .uniform = q->uniform,
                               .replace = true,
                               .held_out = true,
                               .user = p->o.user,
                               .event = p->o.event,
                               .cancel = p->o.cancel,
                               .callbacks = p->o.callbacks};
}

static xft_status describe(pipeline *p, const part *q, const char *model, json_t **description) {
    xft_stage_job job;
    xft_stage_result result;
    xft_stage_options options = options_of(p, q, model, NULL);
    XFT_TRY(xft_stage_prepare(&job, p->settings, q->stage, &options, &result));
    XFT_TRY(fingerprint_of_model(p, job.o.model, job.model_hex));
    return xft_stage_inputs(&job, description);
}

static xft_status name_work(const char *final, char **work) {
    if (asprintf(work, "%s.part", final) >= 0) return XFT_OK;
    *work = NULL;
    return xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for a path", final);
}

/* The folder at work: gone on with when it was begun with the same description, else begun. */
static xft_status begin_work(const pipeline *p, const char *work, const json_t *description, char *why, size_t room) {
    json_t *state, *begun;
    XFT_TRY(read_json(work, state_name, &state));
    bool same = p->resume && json_equal(json_object_get(state, "description"), description);
    json_decref(state);
    if (same) {
        snprintf(why, room, "goes on");
        return xft_remove_left_overs(work, "");
    }
    XFT_TRY(xft_remove_all(work));
    XFT_TRY(xft_make_folder(work));
    begun = json_pack("{s:s,s:O}", "status", "running", "description", description);
    xft_status status = write_json(work, state_name, begun);
    json_decref(begun);
    return status;
}

static xft_status end_work(pipeline *p, const part *q, const char *work, const char *final, const json_t *description,
                           double seconds) {
    char hex[33];
    XFT_TRY(fingerprint(p, q, work, hex));
    json_t *state = json_pack("{s:s,s:s,s:f,s:o,s:O}", "status", "done", "output", hex, "seconds", seconds, "finished",
                              now(), "description", description);
    xft_status status = write_json(work, state_name, state);
    json_decref(state);
    if (status == XFT_OK) status = xft_replace(work, final);
    if (status == XFT_OK && q->stage != XFT_STAGE_EVAL) remember(p, final, hex);
    return status;
}

/* The report tells of all parts: with a new one it is out of date. */
static xft_status drop_report(const pipeline *p) {
    char *path;
    XFT_TRY(xft_path_join(p->output, "report.html", &path));
    xft_status status = xft_remove_all(path);
    free(path);
    return status;
}

static xft_status make(pipeline *p, const part *q, const char *model, const char *final, const json_t *description,
                       char *why, size_t room) {
    char *work;
    xft_stage_result result;
    XFT_TRY(name_work(final, &work));
    double start = monotonic();
    xft_stage_options options = options_of(p, q, model, work);
    xft_status status = begin_work(p, work, description, why, room);
    if (status == XFT_OK) status = drop_report(p);
    if (status == XFT_OK) status = note(p, q->name, "running", why, -1);
    if (status == XFT_OK) status = tell(p, q, XFT_PART_STARTED, final, why, NULL);
    if (status == XFT_OK) status = xft_stage_run(p->settings, q->stage, &options, &result);
    if (status == XFT_OK) status = end_work(p, q, work, final, description, monotonic() - start);
    if (status == XFT_OK) status = note(p, q->name, "done", NULL, monotonic() - start);
    if (status == XFT_OK) status = tell(p, q, XFT_PART_DONE, final, NULL, &result);
    free(work);
    return status;
}

/* What a process that was killed right after a replacement has left, or a change that was taken back. */
static xft_status drop_work(const char *final) {
    char *work;
    XFT_TRY(name_work(final, &work));
    xft_status status = xft_remove_all(work);
    free(work);
    return status;
}

static xft_status run_part(pipeline *p, const part *q) {
    char *model = NULL, *final = NULL, why[400] = "begun anew";
    json_t *description = NULL;
    bool same = false;
    p->number++;
    XFT_TRY(xft_path_join(p->output, q->name, &final));
    xft_status status = source_of(p, q, &model);
    if (status == XFT_OK) status = describe(p, q, model, &description);
    if (status == XFT_OK && p->resume) status = matches(p, q, final, description, &same, why, sizeof why);
    if (status == XFT_OK && same) {
        status = drop_work(final);
        if (status == XFT_OK) status = note(p, q->name, "done", NULL, -1);
        if (status == XFT_OK) status = tell(p, q, XFT_PART_SKIPPED, final, NULL, NULL);
    } else if (status == XFT_OK) {
        status = make(p, q, model, final, description, why, sizeof why);
    }
    if (status != XFT_OK && status != XFT_ERROR_CANCELLED) status = xft_fail_in(status, "%s", q->name);
    json_decref(description);
    free(model);
    free(final);
    return status;
}

/* ---- Scores and report ---- */

static xft_status collect_scores(const pipeline *p, bool *any) {
    json_t *rows = json_array(), *root = json_pack("{s:o}", "scores", rows);
    static const char *const order[] = {"base", "sft", "moe", "uniform", "merged"};
    xft_status status = XFT_OK;
    for (size_t i = 0; i < sizeof order / sizeof *order && status == XFT_OK; i++) {
        char *folder;
        json_t *scores = NULL;
        if (asprintf(&folder, "%s/eval/%s", p->output, order[i]) < 0) {
            status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a path");
            break;
        }
        status = read_json(folder, "eval.json", &scores);
        free(folder);
        if (!scores) continue;
        json_object_set_new(scores, "model", json_string(order[i]));
        json_array_append_new(rows, scores);
    }
    *any = json_array_size(rows) != 0;
    if (status == XFT_OK && *any) status = write_json(p->output, "scores.json", root);
    json_decref(root);
    return status;
}

static bool there(const pipeline *p, const char *name) {
    char *path;
    bool found = xft_path_join(p->output, name, &path) == XFT_OK && access(path, F_OK) == 0;
    free(path);
    return found;
}

static xft_status report(pipeline *p) {
    static const part page = {"report", XFT_STAGE_RUN, NULL, false};
    bool scores;
    char *path;
    p->number++;
    XFT_TRY(collect_scores(p, &scores));
    if (!scores && !there(p, "sft") && !there(p, "moe") && !there(p, "merged")) return XFT_OK;
    XFT_TRY(xft_path_join(p->output, "report.html", &path));
    xft_status status;
    if (access(path, F_OK) == 0) {
        status = tell(p, &page, XFT_PART_SKIPPED, path, NULL, NULL);
    } else {
        status = xft_report_write(p->output, NULL, path);
        if (status == XFT_OK) status = note(p, page.name, "done", NULL, -1);
        if (status == XFT_OK) status = tell(p, &page, XFT_PART_DONE, path, NULL, NULL);
    }
    free(path);
    return status;
}

/* ---- Which parts ---- */

static bool wanted(const xft_text_list *stages, xft_stage stage) {
    if (!stages->count) return true;
    for (uint32_t i = 0; i < stages->count; i++)
        if (!strcmp(stages->items[i], xft_stage_name(stage))) return true;
    return false;
}

static xft_status check_names(const xft_text_list *stages) {
    const char *names[XFT_STAGE_EVAL + 1];
    for (int i = 0; i <= XFT_STAGE_EVAL; i++) names[i] = xft_stage_name((xft_stage)i);
    for (uint32_t i = 0; i < stages->count; i++) {
        bool known = false;
        for (int k = 0; k <= XFT_STAGE_EVAL; k++) known = known || !strcmp(stages->items[i], names[k]);
        const char *near = xft_nearest(stages->items[i], names, XFT_STAGE_EVAL + 1);
        XFT_FAIL_IF(!known, XFT_ERROR_FORMAT, "stages: \"%s\" must be sft, upcycle, tune, merge or eval%s%s%s",
                    stages->items[i], near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    return XFT_OK;
}

/* Models are evaluated that are there or will be. */
static xft_status choose(pipeline *p, const xft_values *run) {
    xft_values merge, eval;
    XFT_TRY(check_names(&run->stages));
    XFT_TRY(xft_settings_resolve(p->settings, XFT_STAGE_MERGE, &merge));
    XFT_TRY(xft_settings_resolve(p->settings, XFT_STAGE_EVAL, &eval));
    bool measures = eval.eval_data.count || (eval.eval_fraction > 0 && eval.data.count) || *eval.problems;
    if (!measures && wanted(&run->stages, XFT_STAGE_EVAL))
        xft_log(p->o.callbacks, XFT_LOG_WARNING,
                "nothing is evaluated: neither eval_data, nor eval_fraction, nor problems are set");
    for (uint32_t i = 0; i < PARTS; i++) {
        const part *q = &all_parts[i];
        p->chosen[i] = wanted(&run->stages, q->stage);
        if (q->stage == XFT_STAGE_MERGE && !q->uniform && merge.merge_kind == XFT_MERGE_UNIFORM) p->chosen[i] = false;
        if (q->stage != XFT_STAGE_EVAL || !p->chosen[i]) continue;
        bool made = !q->from || there(p, q->from);
        for (uint32_t k = 0; k < i; k++)
            made =
                made || (p->chosen[k] && all_parts[k].stage != XFT_STAGE_EVAL && !strcmp(all_parts[k].name, q->from));
        p->chosen[i] = measures && made;
    }
    for (uint32_t i = 0; i < PARTS; i++) p->count += p->chosen[i];
    p->count++; /* the report */
    XFT_FAIL_IF(p->count == 1, XFT_ERROR_INVALID_ARGUMENT, "stages: none of them has anything to do");
    return XFT_OK;
}

/* What the folder at work of a part holds already. */
static xft_status begun_of(const pipeline *p, const part *q, uint64_t *bytes) {
    char *final, *work;
    XFT_TRY(xft_path_join(p->output, q->name, &final));
    xft_status status = name_work(final, &work);
    *bytes = status == XFT_OK ? xft_size_on_disk(work) : 0;
    if (status == XFT_OK) free(work);
    free(final);
    return status;
}

static xft_status is_made(pipeline *p, const part *q, bool *made) {
    char *model = NULL, *final = NULL, why[400];
    json_t *description = NULL;
    *made = false;
    if (!p->resume || !there(p, q->name)) return XFT_OK;
    XFT_TRY(xft_path_join(p->output, q->name, &final));
    xft_status status = source_of(p, q, &model);
    if (status == XFT_OK) status = describe(p, q, model, &description);
    if (status == XFT_OK) status = matches(p, q, final, description, made, why, sizeof why);
    json_decref(description);
    free(model);
    free(final);
    return status;
}

/* Which parts are to be made: those that do not match, and, since nothing is known of what they will start from, those
 * that come after them. */
static xft_status find_work(pipeline *p, bool work[PARTS]) {
    for (uint32_t i = 0; i < PARTS; i++) {
        const part *q = &all_parts[i];
        bool made = true;
        work[i] = false;
        for (uint32_t k = 0; k < i && q->from; k++)
            work[i] = work[i] || (work[k] && !strcmp(all_parts[k].name, q->from));
        xft_status status = p->chosen[i] && !work[i] ? is_made(p, q, &made) : XFT_OK;
        if (status != XFT_OK) return xft_fail_in(status, "%s", q->name);
        work[i] = p->chosen[i] && (work[i] || !made);
    }
    return XFT_OK;
}

/* Whether every stage fits and finds its files, as far as the base tells, before the first hour is spent. */
static xft_status check_needs(pipeline *p) {
    uint64_t disk = 0;
    bool work[PARTS], evaluated = false;
    XFT_TRY(find_work(p, work));
    for (uint32_t i = 0; i < PARTS; i++) {
        const part *q = &all_parts[i];
        xft_stage_job job;
        xft_stage_result result;
        if (!work[i]) continue;
        xft_stage_options options = options_of(p, q, NULL, p->output);
        XFT_TRY(xft_stage_prepare(&job, p->settings, q->stage, &options, &result));
        XFT_FAIL_IF(job.config.num_experts && (q->stage == XFT_STAGE_SFT || q->stage == XFT_STAGE_UPCYCLE),
                    XFT_ERROR_INVALID_ARGUMENT,
                    "%s: is a mixture of %u experts already; leave sft and upcycle out of stages", job.o.model,
                    job.config.num_experts);
        /* all evaluations have the same inputs */
        uint64_t needed = 0, begun = 0;
        xft_status status = evaluated ? XFT_OK : xft_stage_check_inputs(&job);
        evaluated = q->stage == XFT_STAGE_EVAL;
        if (status == XFT_OK) status = xft_stage_check(&job, &needed);
        if (status == XFT_OK) status = begun_of(p, q, &begun);
        disk += needed > begun ? needed - begun : 0;
        xft_stage_close_device(&job);
        if (status != XFT_OK) return xft_fail_in(status, "%s", q->name);
    }
    return xft_check_space(p->output, disk, "the pipeline");
}

/* ---- The whole ---- */

static xft_status lock(const char *folder, int *fd) {
    *fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    XFT_FAIL_IF(*fd < 0, XFT_ERROR_IO, "%s: %s", folder, strerror(errno));
    /* a file system without locks has none that is held */
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return XFT_OK;
    close(*fd);
    *fd = -1;
    return xft_fail(XFT_ERROR_IO, "%s: another pipeline is at work there", folder);
}

static xft_status run_all(pipeline *p) {
    XFT_TRY(check_needs(p));
    XFT_TRY(note_all(p, "running", NULL));
    for (uint32_t i = 0; i < PARTS; i++)
        if (p->chosen[i]) XFT_TRY(run_part(p, &all_parts[i]));
    XFT_TRY(report(p));
    return note_all(p, "done", NULL);
}

xft_status xft_pipeline_run(const xft_settings *settings, const xft_pipeline_options *options) {
    XFT_NEED(settings);
    pipeline p = {.settings = settings, .o = options ? *options : (xft_pipeline_options){0}};
    xft_values run;
    int fd = -1;
    XFT_TRY(xft_settings_resolve(settings, XFT_STAGE_RUN, &run));
    XFT_TRY(xft_settings_need(settings, XFT_STAGE_RUN, "output"));
    p.output = run.output;
    p.resume = run.resume;
    XFT_TRY(choose(&p, &run));
    XFT_TRY(xft_make_folder(p.output));
    XFT_TRY(lock(p.output, &fd));
    xft_status status = xft_remove_left_overs(p.output, "");
    if (status == XFT_OK) status = read_json(p.output, "pipeline.json", &p.summary);
    if (!json_is_object(json_object_get(p.summary, "parts"))) {
        json_decref(p.summary);
        p.summary = json_pack("{s:{}}", "parts");
    }
    if (status == XFT_OK) status = run_all(&p);
    if (status != XFT_OK) {
        char reason[800];
        snprintf(reason, sizeof reason, "%s", xft_error());
        note_all(&p, status == XFT_ERROR_CANCELLED ? "stopped" : "failed", reason);
        status = xft_fail(status, "%s", reason);
    }
    json_decref(p.summary);
    for (uint32_t i = 0; i < p.known_count; i++) free(p.known[i].folder);
    close(fd);
    return status;
}
