/* Tests of problems run on samples, and pass@k. */
#include "xft/score.h"

#include "callbacks.h"
#include "error.h"
#include "files.h"
#include "jsonl.h"
#include "sandbox.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_JOBS = 256 };

double xft_pass_at_k(uint64_t n, uint64_t c, uint64_t k) {
    if (c > n || k < 1 || k > n) return NAN;
    if (n - c < k) return 1;
    double none = 1; /* C(n-c, k) / C(n, k), factor by factor */
    for (uint64_t i = n - c + 1; i <= n; i++) none *= 1 - (double)k / (double)i;
    return 1 - none;
}

typedef struct sample {
    uint32_t problem;
    char *completion;
    size_t bytes;
    xft_verdict verdict;
} sample;

/* What the threads share. */
typedef struct work {
    const xft_problems *problems;
    const xft_sandbox *sandbox;
    char *interpreter;
    sample *samples;
    uint32_t count, room;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t next, done, running;
    xft_status status; /* of the first that failed */
    char message[512];
} work;

/* ---- Samples ---- */

static xft_status add_sample(work *w, const json_t *line, const json_t *numbers, const char *path, uint64_t number) {
    const char *id = json_string_value(json_object_get(line, "task_id"));
    const json_t *text = json_object_get(line, "completion"), *index = json_object_get(numbers, id ? id : "");
    const char *completion = json_string_value(text);
    XFT_FAIL_IF(!id || !completion, XFT_ERROR_FORMAT, "%s:%" PRIu64 ": no %s, or it is no string", path, number,
                id ? "completion" : "task_id");
    XFT_FAIL_IF(!index, XFT_ERROR_FORMAT, "%s:%" PRIu64 ": task_id %s is none of the problems", path, number, id);
    if (w->count == w->room) {
        uint32_t room = 2 * w->room + 256;
        sample *samples = realloc(w->samples, room * sizeof *samples);
        XFT_FAIL_IF(!samples, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for %u samples", path, room);
        w->samples = samples;
        w->room = room;
    }
    sample *s = &w->samples[w->count];
    *s = (sample){.problem = (uint32_t)json_integer_value(index), .bytes = json_string_length(text)};
    s->completion = malloc(s->bytes + 1);
    XFT_FAIL_IF(!s->completion, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for %u samples", path, w->count);
    memcpy(s->completion, completion, s->bytes + 1);
    w->count++;
    return XFT_OK;
}

static xft_status read_samples(work *w, const char *path) {
    xft_jsonl *file;
    json_t *line, *numbers = json_object();
    for (uint32_t i = 0; i < xft_problems_count(w->problems); i++)
        json_object_set_new(numbers, xft_problems_at(w->problems, i)->task_id, json_integer(i));
    xft_status status = xft_jsonl_open(path, &file);
    while (status == XFT_OK && (status = xft_jsonl_next(file, &line)) == XFT_OK && line) {
        status = add_sample(w, line, numbers, path, xft_jsonl_line(file));
        json_decref(line);
    }
    if (status == XFT_OK && w->count == 0) status = xft_fail(XFT_ERROR_FORMAT, "%s: holds no sample", path);
    xft_jsonl_close(file);
    json_decref(numbers);
    return status;
}

/* ---- Tests ---- */

/* Prompt, completion, tests: as human-eval puts them together. */
static xft_status run_sample(const work *w, sample *s) {
    const xft_problem *p = xft_problems_at(w->problems, s->problem);
    bool call = strstr(p->test, "def check(") != NULL;
    char *tests = NULL, *program = NULL;
    int length =
        asprintf(&tests, "\n%s\n%s%s%s\n", p->test, call ? "check(" : "", call ? p->entry_point : "", call ? ")" : "");
    size_t prompt = strlen(p->prompt), bytes = prompt + s->bytes + (size_t)(length > 0 ? length : 0);
    if (length >= 0) program = malloc(bytes);
    xft_status status = XFT_OK;
    if (program) {
        memcpy(program, p->prompt, prompt);
        memcpy(program + prompt, s->completion, s->bytes);
        memcpy(program + prompt + s->bytes, tests, (size_t)length);
        status = xft_sandbox_execute(w->sandbox, w->interpreter, program, bytes, &s->verdict);
    } else
        status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for a program", p->task_id);
    free(program);
    if (length >= 0) free(tests);
    return status;
}

static void *run_samples(void *user) {
    work *w = user;
    pthread_mutex_lock(&w->lock);
    while (w->next < w->count && w->status == XFT_OK) {
        sample *s = &w->samples[w->next++];
        pthread_mutex_unlock(&w->lock);
        xft_status status = run_sample(w, s);
        pthread_mutex_lock(&w->lock);
        w->done++;
        if (status != XFT_OK && w->status == XFT_OK) {
            w->status = status;
            snprintf(w->message, sizeof w->message, "%s", xft_error());
        }
        pthread_cond_signal(&w->changed);
    }
    w->running--;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* Callbacks belong to the calling thread, which only waits and tells. */
static xft_status run_all(work *w, uint32_t jobs, const xft_callbacks *callbacks) {
    pthread_t threads[MAX_JOBS];
    uint32_t started = 0;
    if (jobs > w->count) jobs = w->count;
    pthread_mutex_lock(&w->lock);
    while (started < jobs && pthread_create(&threads[started], NULL, run_samples, w) == 0) started++;
    w->running = started;
    while (w->running > 0) {
        pthread_cond_wait(&w->changed, &w->lock);
        uint32_t done = w->done;
        pthread_mutex_unlock(&w->lock);
        xft_status told = xft_progress(callbacks, "testing", done, w->count);
        pthread_mutex_lock(&w->lock);
        if (told != XFT_OK && w->status == XFT_OK) {
            w->status = told;
            snprintf(w->message, sizeof w->message, "%s", xft_error());
        }
    }
    pthread_mutex_unlock(&w->lock);
    for (uint32_t i = 0; i < started; i++) pthread_join(threads[i], NULL);
    XFT_FAIL_IF(started == 0, XFT_ERROR_OUT_OF_HOST_MEMORY, "no thread could be started for the tests");
    return w->status == XFT_OK ? XFT_OK : xft_fail(w->status, "%s", w->message);
}

/* ---- Scores ---- */

static xft_status sum_up(const work *w, const xft_score_options *o, xft_score *score) {
    static const uint32_t usual[XFT_PASS_AT_COUNT] = {1, 10, 100};
    bool chosen = false;
    for (int i = 0; i < XFT_PASS_AT_COUNT; i++) chosen |= o->k[i] != 0;
    memcpy(score->k, chosen ? o->k : usual, sizeof score->k);
    uint32_t problems = xft_problems_count(w->problems), fewest = UINT32_MAX;
    uint32_t expected = o->max_problems && o->max_problems < problems ? o->max_problems : problems;
    uint32_t *n = calloc(2 * (size_t)problems, sizeof *n), *c = n + problems;
    XFT_FAIL_IF(!n, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u scores", problems);
    score->samples = w->count;
    for (uint32_t i = 0; i < w->count; i++) {
        bool passed = w->samples[i].verdict.outcome == XFT_OUTCOME_PASSED;
        n[w->samples[i].problem]++;
        c[w->samples[i].problem] += passed;
        score->passed += passed;
    }
    for (uint32_t p = 0; p < problems; p++) {
        score->problems += n[p] > 0;
        score->solved += c[p] > 0;
        if (n[p] > 0 && n[p] < fewest) fewest = n[p];
    }
    score->missing = expected > score->problems ? expected - score->problems : 0;
    for (int i = 0; i < XFT_PASS_AT_COUNT; i++) {
        if (score->k[i] > fewest) score->k[i] = 0;
        for (uint32_t p = 0; p < problems && score->k[i]; p++)
            if (n[p] > 0) score->pass_at[i] += xft_pass_at_k(n[p], c[p], score->k[i]);
        score->pass_at[i] /= score->problems;
    }
    free(n);
    return XFT_OK;
}

static json_t *results_of(const work *w, uint32_t problem) {
    static const char *const names[] = {
        [XFT_OUTCOME_PASSED] = "passed", [XFT_OUTCOME_FAILED] = "failed", [XFT_OUTCOME_TIMEOUT] = "timeout"};
    json_t *list = json_array();
    int passed = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        const xft_verdict *v = &w->samples[i].verdict;
        if (w->samples[i].problem != problem) continue;
        passed += v->outcome == XFT_OUTCOME_PASSED;
        json_t *message = json_string(v->message); /* a program may have written what is no UTF-8 */
        json_array_append_new(list, json_pack("{s:s,s:f,s:o}", "outcome", names[v->outcome], "seconds",
                                              round(1000 * v->seconds) / 1000, "message",
                                              message ? message : json_string("?")));
    }
    return json_pack("{s:s,s:i,s:o}", "task_id", xft_problems_at(w->problems, problem)->task_id, "passed", passed,
                     "samples", list);
}

static xft_status write_results(const work *w, const xft_score *score, const char *path) {
    json_t *problems = json_array(),
           *root = json_pack("{s:i,s:i,s:i,s:i,s:i,s:b,s:f,s:I}", "problems", (int)score->problems, "missing",
                             (int)score->missing, "samples", (int)score->samples, "passed", (int)score->passed,
                             "solved", (int)score->solved, "isolated", (int)score->isolated, "timeout",
                             w->sandbox->timeout, "memory", (json_int_t)w->sandbox->memory);
    for (int i = 0; i < XFT_PASS_AT_COUNT; i++) {
        char key[24];
        snprintf(key, sizeof key, "pass@%u", score->k[i]);
        if (score->k[i]) json_object_set_new(root, key, json_real(score->pass_at[i]));
    }
    for (uint32_t i = 0; i < xft_problems_count(w->problems); i++) {
        json_t *one = results_of(w, i);
        if (json_array_size(json_object_get(one, "samples")))
            json_array_append_new(problems, one);
        else
            json_decref(one);
    }
    json_object_set_new(root, "results", problems);
    char *text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    XFT_FAIL_IF(!text, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", path);
    xft_status status = xft_write_file(path, text, strlen(text));
    free(text);
    return status;
}

static xft_status check_tests(const work *w) {
    for (uint32_t i = 0; i < w->count; i++) {
        const xft_problem *p = xft_problems_at(w->problems, w->samples[i].problem);
        XFT_FAIL_IF(
            !p->test, XFT_ERROR_UNSUPPORTED,
            "%s has no test (the inputs of MBPP+ have lost their types in JSON): score its samples with EvalPlus",
            p->task_id);
    }
    return XFT_OK;
}

xft_status xft_problems_score(const xft_problems *problems, const char *samples, const xft_score_options *options,
                              const char *results, xft_score *score) {
    static const xft_score_options defaults = {.jobs = 0};
    XFT_NEED(problems, samples, score);
    const xft_score_options *o = options ? options : &defaults;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t jobs = o->jobs ? o->jobs : processors > 0 ? (uint32_t)processors : 1;
    xft_sandbox sandbox = o->sandbox;
    work w = {.problems = problems, .sandbox = &sandbox};
    *score = (xft_score){.isolated = xft_sandbox_isolates()};
    xft_status status = read_samples(&w, samples);
    if (status == XFT_OK) status = check_tests(&w);
    if (status == XFT_OK) status = xft_sandbox_prepare(&sandbox, &w.interpreter);
    if (status == XFT_OK) {
        pthread_mutex_init(&w.lock, NULL);
        pthread_cond_init(&w.changed, NULL);
        status = run_all(&w, jobs < MAX_JOBS ? jobs : MAX_JOBS, o->callbacks);
        pthread_cond_destroy(&w.changed);
        pthread_mutex_destroy(&w.lock);
    }
    if (status == XFT_OK) status = sum_up(&w, o, score);
    if (status == XFT_OK && results) status = write_results(&w, score, results);
    for (uint32_t i = 0; i < w.count; i++) free(w.samples[i].completion);
    free(w.samples);
    free(w.interpreter);
    return status;
}
