/* The report: logs and scores of a folder as one JSON value, inside a page whose style and script are those of
 * host/report/, embedded by the build. */
#include "xft/report.h"

#include "error.h"
#include "files.h"
#include "run.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_STEPS = 2000, MOST_STATISTICS = 200 };

extern const unsigned char xft_report_html[], xft_report_css[], xft_report_js[];
extern const unsigned long long xft_report_html_size, xft_report_css_size, xft_report_js_size;

static xft_status no_memory(void) {
    return xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "report: no memory");
}

/* ---- Logs ---- */

/* Records of one event, in their order. */
typedef struct records {
    const char *event;
    json_t *list;
} records;

/* What the lines of a log hold. needed: a member that each line of the event must have, of this type. */
static const struct {
    const char *event, *needed;
    json_type type;
} events[] = {{"step", "step", JSON_INTEGER},  {"eval", "step", JSON_INTEGER}, {"router", "load", JSON_ARRAY},
              {"mixing", "alpha", JSON_ARRAY}, {"start", NULL, JSON_NULL},     {"end", NULL, JSON_NULL}};
enum { STEP, EVAL, ROUTER, MIXING, START, END, EVENTS };

static xft_status add_line(json_t *const lists[EVENTS], json_t *others, json_t *line, const char *path,
                           unsigned number) {
    const char *event = json_string_value(json_object_get(line, "event"));
    XFT_FAIL_IF(!event, XFT_ERROR_FORMAT, "%s:%u: no event", path, number);
    for (int i = 0; i < EVENTS; i++) {
        if (strcmp(event, events[i].event) != 0) continue;
        const json_t *value = events[i].needed ? json_object_get(line, events[i].needed) : NULL;
        XFT_FAIL_IF(events[i].needed && (!value || json_typeof(value) != events[i].type), XFT_ERROR_FORMAT,
                    "%s:%u: event %s has no %s, or it is of another type", path, number, event, events[i].needed);
        return json_array_append(lists[i], line) ? no_memory() : XFT_OK;
    }
    return json_array_append(others, line) ? no_memory() : XFT_OK;
}

static xft_status read_log(const char *path, json_t *const lists[EVENTS], json_t *others) {
    char *text;
    size_t bytes;
    XFT_TRY(xft_read_file(path, &text, &bytes));
    xft_status status = XFT_OK;
    unsigned number = 1;
    for (char *at = text, *end = text + bytes, *next; status == XFT_OK && at < end; at = next, number++) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        next = stop ? stop + 1 : end;
        json_error_t error;
        json_t *line = json_loadb(at, (size_t)(next - at), JSON_REJECT_DUPLICATES, &error);
        if (json_is_object(line))
            status = add_line(lists, others, line, path, number);
        else if (stop) /* the last line may have been cut short */
            status = xft_fail(XFT_ERROR_FORMAT, "%s:%u: %s", path, number, line ? "no JSON object" : error.text);
        json_decref(line);
    }
    free(text);
    return status;
}

/* At most `most` records as columns {key: [value of each]}; the first and the last stay. */
static json_t *columns(const json_t *list, size_t most, const char *const keys[]) {
    size_t count = json_array_size(list), shown = count < most ? count : most;
    json_t *table = json_object();
    for (int k = 0; keys[k]; k++) {
        json_t *column = json_array();
        for (size_t i = 0; i < shown; i++) {
            size_t at = shown < 2 ? 0 : i * (count - 1) / (shown - 1);
            json_t *value = json_object_get(json_array_get(list, at), keys[k]);
            json_array_append_new(column, value ? json_incref(value) : json_null());
        }
        json_object_set_new(table, keys[k], column);
    }
    return table;
}

/* ---- Stages ---- */

static json_t *make_stage(const char *name, json_t *const lists[EVENTS], json_t *others, json_t *run) {
    static const char *const step[] = {"step",   "epoch",        "loss",    "balance", "grad_norm", "lr",
                                       "tokens", "tokens_per_s", "seconds", "skipped", "memory",    NULL};
    static const char *const eval[] = {"step", "loss", "perplexity", "labels", NULL};
    static const char *const router[] = {"step", "load", "entropy", NULL}, *const mixing[] = {"step", "alpha", NULL};
    json_t *stage = json_object(), *start = json_array_get(lists[START], 0);
    size_t ends = json_array_size(lists[END]);
    json_t *kind = json_object_get(start, "stage");
    json_object_set_new(stage, "name", json_string(name));
    json_object_set(stage, "kind", kind ? kind : json_object_get(run, "stage"));
    json_object_set(stage, "run", run);
    json_object_set(stage, "start", start);
    if (ends) json_object_set(stage, "end", json_array_get(lists[END], ends - 1));
    json_object_set_new(stage, "step", columns(lists[STEP], MOST_STEPS, step));
    if (json_array_size(lists[EVAL])) json_object_set_new(stage, "eval", columns(lists[EVAL], MOST_STEPS, eval));
    if (json_array_size(lists[ROUTER]))
        json_object_set_new(stage, "router", columns(lists[ROUTER], MOST_STATISTICS, router));
    if (json_array_size(lists[MIXING]))
        json_object_set_new(stage, "mixing", columns(lists[MIXING], MOST_STATISTICS, mixing));
    json_object_set(stage, "events", others);
    return stage;
}

/* Appends the stage of a folder when there is a log in it. */
static xft_status add_stage(json_t *stages, const char *folder, const char *name) {
    char *path;
    XFT_TRY(xft_path_join(folder, "log.jsonl", &path));
    if (access(path, F_OK) != 0) {
        free(path);
        return XFT_OK;
    }
    json_t *lists[EVENTS], *others = json_array(), *run = NULL, *stage = NULL;
    for (int i = 0; i < EVENTS; i++) lists[i] = json_array();
    xft_status status = read_log(path, lists, others);
    if (status == XFT_OK) status = xft_run_read_json(folder, "run.json", &run);
    json_object_del(run, "choices"); /* long, and told by the file itself */
    if (status == XFT_OK) stage = make_stage(name, lists, others, run);
    if (status == XFT_OK && json_array_append_new(stages, stage)) status = no_memory();
    for (int i = 0; i < EVENTS; i++) json_decref(lists[i]);
    json_decref(others);
    json_decref(run);
    free(path);
    return status;
}

static const char *began(const json_t *stage) {
    const char *time = json_string_value(json_object_get(json_object_get(stage, "start"), "time"));
    return time ? time : "~"; /* ISO 8601 sorts as text; a run without a start comes last */
}

static int by_time(const void *a, const void *b) {
    return strcmp(began(*(json_t *const *)a), began(*(json_t *const *)b));
}

static xft_status sort_stages(json_t **stages) {
    size_t count = json_array_size(*stages);
    json_t **list = calloc(count + 1, sizeof(json_t *)), *sorted = json_array();
    if (!list || !sorted) {
        free(list);
        json_decref(sorted);
        return no_memory();
    }
    for (size_t i = 0; i < count; i++) list[i] = json_array_get(*stages, i);
    qsort(list, count, sizeof(json_t *), by_time);
    for (size_t i = 0; i < count; i++) json_array_append(sorted, list[i]);
    free(list);
    json_decref(*stages);
    *stages = sorted;
    return XFT_OK;
}

static xft_status read_stages(const char *folder, const char *name, json_t **stages) {
    char **names;
    size_t count;
    *stages = json_array();
    XFT_TRY(add_stage(*stages, folder, name));
    XFT_TRY(xft_list_folder(folder, &names, &count));
    xft_status status = XFT_OK;
    for (size_t i = 0; i < count; i++) {
        char *path;
        if (status == XFT_OK && (status = xft_path_join(folder, names[i], &path)) == XFT_OK) {
            status = add_stage(*stages, path, names[i]);
            free(path);
        }
    }
    xft_free_list(names, count);
    return status == XFT_OK ? sort_stages(stages) : status;
}

/* ---- The page ---- */

/* The scores of scores.json, checked as far as the page relies on them. */
static xft_status read_scores(const char *folder, json_t **scores) {
    json_t *file, *score;
    size_t i;
    *scores = NULL;
    XFT_TRY(xft_run_read_json(folder, "scores.json", &file));
    json_t *list = json_object_get(file, "scores");
    xft_status status = XFT_OK;
    if (file && !json_is_array(list)) status = xft_fail(XFT_ERROR_FORMAT, "%s/scores.json: no list of scores", folder);
    json_array_foreach(list, i, score) {
        if (status == XFT_OK && !json_is_string(json_object_get(score, "model")))
            status = xft_fail(XFT_ERROR_FORMAT, "%s/scores.json: score %zu has no model", folder, i);
    }
    if (status == XFT_OK) *scores = list ? json_incref(list) : json_array();
    json_decref(file);
    return status;
}

static xft_status read_data(const char *folder, const char *title, char **text) {
    char made[40];
    time_t now = time(NULL);
    struct tm utc;
    json_t *scores, *stages = NULL;
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/') length--;
    char *plain = strndup(folder, length);
    if (!plain) return no_memory();
    const char *name = strrchr(plain, '/') ? strrchr(plain, '/') + 1 : plain;
    strftime(made, sizeof made, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    xft_status status = read_scores(folder, &scores);
    if (status == XFT_OK) status = read_stages(folder, name, &stages);
    if (status == XFT_OK && !json_array_size(stages) && !json_array_size(scores))
        status =
            xft_fail(XFT_ERROR_FORMAT, "%s: neither log.jsonl, in it or in a folder of it, nor scores.json", folder);
    if (status == XFT_OK) {
        json_t *root = json_pack("{s:s,s:s,s:s,s:O,s:O}", "title", title ? title : name, "made", made, "version",
                                 xft_version(), "scores", scores, "stages", stages);
        *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
        json_decref(root);
        if (!*text) status = xft_fail(XFT_ERROR_INVALID_ARGUMENT, "report: the title is no UTF-8");
    }
    json_decref(scores);
    json_decref(stages);
    free(plain);
    return status;
}

/* Inside a script element "</" and "<!--" would end or change it; < is the same character to JSON. */
static void write_json(FILE *file, const char *text) {
    for (const char *at = text; *at; at++) {
        if (*at == '<')
            fputs("\\u003c", file);
        else
            fputc(*at, file);
    }
}

/* The page with the parts in the places of their names. */
static void write_page(FILE *file, const char *data) {
    const char *at = (const char *)xft_report_html, *end = at + xft_report_html_size, *mark;
    while ((mark = memchr(at, '@', (size_t)(end - at)))) {
        fwrite(at, 1, (size_t)(mark - at), file);
        at = (const char *)memchr(mark + 1, '@', (size_t)(end - mark - 1)) + 1;
        if (mark[1] == 'D') write_json(file, data);
        if (mark[1] == 'S' && mark[2] == 'T') fwrite(xft_report_css, 1, xft_report_css_size, file);
        if (mark[1] == 'S' && mark[2] == 'C') fwrite(xft_report_js, 1, xft_report_js_size, file);
    }
    fwrite(at, 1, (size_t)(end - at), file);
}

xft_status xft_report_write(const char *folder, const char *title, const char *path) {
    XFT_NEED(folder, path);
    char *data = NULL, *page = NULL;
    size_t bytes = 0;
    xft_status status = read_data(folder, title, &data);
    FILE *file = status == XFT_OK ? open_memstream(&page, &bytes) : NULL;
    if (file) {
        write_page(file, data);
        if (fclose(file)) status = no_memory();
    } else if (status == XFT_OK)
        status = no_memory();
    if (status == XFT_OK) status = xft_write_file(path, page, bytes);
    free(page);
    free(data);
    return status;
}
