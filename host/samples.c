/* Samples for problems: prompts in batches through a generator, completions into a file that can be gone on with. The
 * order of the file is fixed: all samples of the first problem, of the second, and so on. */
#include "xft/score.h"

#include "callbacks.h"
#include "error.h"
#include "files.h"
#include "jsonl.h"
#include "samples.h"
#include "xft/generate.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEFAULT_NEW_TOKENS = 512, DEFAULT_BATCH = 8, MOST_STOPS = 16, TAIL_IDS = 8 };
static const char fence[] = "```";

/* A problem as it is given to the model. */
typedef struct prompt {
    uint32_t *ids;
    size_t count;
    char *text; /* decoded: what a decoding of prompt and answer begins with */
    size_t bytes;
    int fences; /* that end the answer: the one that closes the beginning, or one that opens and one that closes */
} prompt;

typedef struct sampler {
    const xft_problems *problems;
    const xft_tokenizer *tokenizer;
    const xft_sample_options *options;
    const char *path;
    uint32_t count, samples, batch, new_tokens; /* problems, samples of each, sequences and tokens at once */
    prompt *prompts;
    uint32_t stops[MOST_STOPS + 2], stop_count;
    xft_generator *generator;

    uint64_t first;              /* sample that is row 0 of the batch */
    uint32_t rows;               /* of the batch */
    uint32_t *answers, *lengths; /* [rows,new_tokens], [rows] */
    uint32_t *came, *used;       /* per row: ids that came; of them the answer, UINT32_MAX while it goes on */
    uint32_t open;               /* rows that go on */
    xft_status stopped;          /* by the caller */
} sampler;

static const prompt *prompt_of(const sampler *s, uint64_t sample) {
    return &s->prompts[sample / s->samples];
}

/* ---- Prompts ---- */

static int count_fences(const char *text) {
    int count = 0;
    for (const char *at = text; (at = strstr(at, fence)); at += sizeof fence - 1) count++;
    return count;
}

static xft_status make_prompt(const sampler *s, const xft_problem *p, uint32_t max_positions, prompt *made) {
    xft_chat_message message = {XFT_ROLE_USER, p->instruction, strlen(p->instruction)};
    xft_status status = xft_template_prompt(s->options->chat_template, s->tokenizer, &message, 1, p->response,
                                            &made->ids, &made->count);
    if (status != XFT_OK) return xft_fail_in(status, "%s", p->task_id);
    XFT_FAIL_IF(made->count >= max_positions, XFT_ERROR_FORMAT,
                "%s: a prompt of %zu tokens; the model has %u positions", p->task_id, made->count, max_positions);
    made->fences = count_fences(p->response) % 2 ? 1 : 2;
    return xft_tokenizer_decode(s->tokenizer, made->ids, made->count, true, &made->text, &made->bytes);
}

static uint32_t count_problems(const xft_problems *problems, const xft_sample_options *o) {
    uint32_t count = xft_problems_count(problems);
    return o->max_problems && o->max_problems < count ? o->max_problems : count;
}

xft_status xft_samples_check(const xft_problems *problems, const xft_tokenizer *tokenizer, const xft_sample_options *o,
                             uint32_t max_positions) {
    const sampler s = {.tokenizer = tokenizer, .options = o};
    uint32_t end, count = count_problems(problems, o);
    xft_status status = xft_template_check(o->chat_template, tokenizer, &end);
    for (uint32_t i = 0; i < count && status == XFT_OK; i++) {
        prompt made = {0};
        status = make_prompt(&s, xft_problems_at(problems, i), max_positions, &made);
        free(made.ids);
        free(made.text);
    }
    return status;
}

/* ---- Answers ---- */

/* The text of an answer. Decoded behind its prompt: alone, some tokenizers would take a space off its start. */
static xft_status decode_answer(const sampler *s, const prompt *p, const uint32_t *ids, uint32_t count, char **text) {
    size_t bytes;
    uint32_t *all = malloc((p->count + count) * sizeof *all);
    XFT_FAIL_IF(!all, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u ids", count);
    memcpy(all, p->ids, p->count * sizeof *all);
    memcpy(all + p->count, ids, count * sizeof *all);
    xft_status status = xft_tokenizer_decode(s->tokenizer, all, p->count + count, true, text, &bytes);
    free(all);
    if (status != XFT_OK) return status;
    if (bytes >= p->bytes && !memcmp(*text, p->text, p->bytes)) {
        memmove(*text, *text + p->bytes, bytes - p->bytes + 1);
        return XFT_OK;
    }
    free(*text);
    return xft_tokenizer_decode(s->tokenizer, ids, count, true, text, NULL);
}

/* What of an answer is code: up to the next fence; where it did not begin inside one, what is in its first. */
static void cut(char *text, int fences) {
    char *start = text, *opening = fences > 1 ? strstr(text, fence) : NULL;
    if (opening) {
        start = opening + strcspn(opening, "\n");
        start += *start == '\n';
    }
    char *end = strstr(start, fence);
    size_t length = end ? (size_t)(end - start) : strlen(start);
    memmove(text, start, length);
    text[length] = 0;
}

/* Whether the answer of a row ends with its newest id: a stop, or one that completes the fence. The text of the last
 * few ids tells when the whole has to be looked at. */
static bool ends(const sampler *s, uint32_t row, uint32_t id) {
    const prompt *p = prompt_of(s, s->first + row);
    const uint32_t *ids = s->answers + (size_t)row * s->new_tokens;
    uint32_t n = s->came[row], from = n > TAIL_IDS ? n - TAIL_IDS : 0;
    for (uint32_t i = 0; i < s->stop_count; i++)
        if (id == s->stops[i]) return true;
    char *text = NULL;
    if (xft_tokenizer_decode(s->tokenizer, ids + from, n - from, true, &text, NULL) != XFT_OK) return false;
    bool ended = strstr(text, fence) != NULL;
    free(text);
    if (!ended || decode_answer(s, p, ids, n, &text) != XFT_OK) return false;
    ended = count_fences(text) >= p->fences;
    free(text);
    return ended;
}

static bool goes_on(sampler *s) {
    s->stopped = xft_progress(s->options->callbacks, "sampling", s->first, (uint64_t)s->count * s->samples);
    return s->stopped == XFT_OK;
}

/* While prompts are read, the samples are what is told. */
static bool read_on(void *user, const char *what, uint64_t done, uint64_t total) {
    (void)what, (void)done, (void)total;
    return goes_on(user);
}

static bool token(void *user, uint32_t row, uint32_t id) {
    sampler *s = user;
    if ((row == 0 || s->open == 1) && !goes_on(s)) return false;
    s->came[row]++;
    if (s->used[row] != UINT32_MAX || !ends(s, row, id)) return true;
    s->used[row] = s->came[row];
    return --s->open > 0;
}

static xft_status write_answers(const sampler *s, int fd, uint64_t done) {
    json_t *line = NULL;
    char *text = NULL, *json = NULL, *all = NULL;
    size_t bytes = 0;
    xft_status status = XFT_OK;
    for (uint32_t row = done > s->first ? (uint32_t)(done - s->first) : 0; row < s->rows && status == XFT_OK; row++) {
        const prompt *p = prompt_of(s, s->first + row);
        const uint32_t *ids = s->answers + (size_t)row * s->new_tokens;
        uint32_t n = s->used[row] == UINT32_MAX ? s->lengths[row] : s->used[row];
        for (uint32_t i = 0; i < s->stop_count && n > 0; i++) n -= ids[n - 1] == s->stops[i];
        status = decode_answer(s, p, ids, n, &text);
        if (status != XFT_OK) break;
        cut(text, p->fences);
        line = json_pack("{s:s,s:s}", "task_id",
                         xft_problems_at(s->problems, (uint32_t)((s->first + row) / s->samples))->task_id, "completion",
                         text);
        json = line ? json_dumps(line, 0) : NULL;
        char *longer = json ? realloc(all, bytes + strlen(json) + 2) : NULL;
        if (longer) {
            all = longer;
            bytes += (size_t)sprintf(all + bytes, "%s\n", json);
        } else
            status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for samples", s->path);
        json_decref(line);
        free(json);
        free(text);
    }
    if (status == XFT_OK) status = xft_write_all(fd, s->path, all, bytes); /* a batch at once, or with a half line */
    if (status == XFT_OK && fsync(fd)) status = xft_fail(XFT_ERROR_IO, "%s: fsync: %s", s->path, strerror(errno));
    free(all);
    return status;
}

static xft_status sample_batch(sampler *s, int fd, uint64_t done) {
    uint64_t all = (uint64_t)s->count * s->samples;
    const uint32_t **prompts = calloc(s->batch, sizeof *prompts);
    uint32_t *sizes = calloc(s->batch, sizeof *sizes);
    s->rows = s->open = all - s->first < s->batch ? (uint32_t)(all - s->first) : s->batch;
    for (uint32_t row = 0; row < s->rows && prompts && sizes; row++) {
        prompts[row] = prompt_of(s, s->first + row)->ids;
        sizes[row] = (uint32_t)prompt_of(s, s->first + row)->count;
        s->came[row] = 0;
        s->used[row] = UINT32_MAX;
    }
    const xft_callbacks reading = {.user = s, .progress = read_on};
    xft_sampling sampling = {.new_tokens = s->new_tokens,
                             .temperature = s->options->temperature,
                             .top_p = s->options->top_p,
                             .seed = s->options->seed + s->first * 0x9e3779b97f4a7c15u,
                             .stop = s->stops,
                             .stop_count = s->stop_count,
                             .callbacks = &reading};
    s->stopped = XFT_OK;
    xft_status status = prompts && sizes ? XFT_OK : xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a batch");
    if (status == XFT_OK)
        status = xft_generate(s->generator, prompts, sizes, s->rows, &sampling, s->answers, s->lengths, token, s);
    if (status == XFT_ERROR_CANCELLED && s->stopped == XFT_OK) status = XFT_OK; /* every row has ended */
    free(prompts);
    free(sizes);
    return status == XFT_OK ? write_answers(s, fd, done) : status;
}

/* ---- The file ---- */

/* A number that tells prompts apart (FNV-1a over their ids). */
static uint64_t hash_prompts(const sampler *s) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (uint32_t i = 0; i < s->count; i++)
        for (size_t k = 0; k <= s->prompts[i].count; k++)
            hash = (hash ^ (k < s->prompts[i].count ? s->prompts[i].ids[k] : UINT32_MAX)) * 0x100000001b3u;
    return hash;
}

/* What the samples depend on, as the content of PATH.json, to be given back with json_decref. */
static xft_status describe(const sampler *s, json_t **description) {
    const xft_sample_options *o = s->options;
    char prompts[17];
    snprintf(prompts, sizeof prompts, "%016" PRIx64, hash_prompts(s));
    *description =
        json_pack("{s:s,s:s,s:i,s:i,s:f,s:f,s:i,s:i,s:I,s:b,s:s}", "prompts", prompts, "template",
                  o->chat_template ? o->chat_template : xft_template_name(0), "problems", (int)s->count, "samples",
                  (int)s->samples, "temperature", (double)o->temperature, "top_p", (double)o->top_p, "max_new_tokens",
                  (int)s->new_tokens, "batch", (int)s->batch, "seed", (json_int_t)o->seed, "official", (int)o->official,
                  "identity", o->identity ? o->identity : "");
    XFT_FAIL_IF(!*description, XFT_ERROR_INVALID_ARGUMENT, "xft_problems_sample: a text of the options is no UTF-8");
    return XFT_OK;
}

static xft_status compare(const char *path, const json_t *now, const json_t *before) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)now, key, value) {
        const json_t *old = json_object_get(before, key);
        if (old && json_equal(value, old)) continue;
        char *a = old ? json_dumps(old, JSON_ENCODE_ANY) : NULL, *b = json_dumps(value, JSON_ENCODE_ANY);
        xft_status status = xft_fail(XFT_ERROR_INVALID_ARGUMENT,
                                     "%s: its samples were made with %s %s, now it is %s: remove it and %s.json, or "
                                     "name another file",
                                     path, key, a ? a : "unknown", b ? b : "?", path);
        free(a);
        free(b);
        return status;
    }
    return XFT_OK;
}

/* The samples that are there; *end: where their last line ends. */
static xft_status count_samples(const sampler *s, uint64_t *done, uint64_t *end) {
    char *text;
    size_t bytes;
    *done = *end = 0;
    XFT_TRY(xft_read_file(s->path, &text, &bytes));
    xft_status status = XFT_OK;
    for (char *at = text, *line_end; status == XFT_OK && (line_end = memchr(at, '\n', bytes - (size_t)(at - text)));
         at = line_end + 1) {
        const xft_problem *p = xft_problems_at(s->problems, (uint32_t)(*done / s->samples));
        json_t *line = json_loadb(at, (size_t)(line_end - at), 0, NULL);
        const char *id = json_string_value(json_object_get(line, "task_id"));
        if (!id || *done >= (uint64_t)s->count * s->samples || strcmp(id, p->task_id) != 0)
            status = xft_fail(XFT_ERROR_FORMAT, "%s:%" PRIu64 ": %s, which is not the sample expected here", s->path,
                              *done + 1, id ? id : "no task_id");
        json_decref(line);
        ++*done;
        *end = (uint64_t)(line_end + 1 - text);
    }
    free(text);
    return status;
}

/* Opens the file behind the samples it holds. */
static xft_status open_file(const sampler *s, int *fd, uint64_t *done) {
    char *beside, *text = NULL;
    uint64_t end = 0;
    json_t *now, *before = NULL;
    *done = 0;
    XFT_TRY(describe(s, &now));
    if (asprintf(&beside, "%s.json", s->path) < 0) beside = NULL;
    xft_status status = beside ? XFT_OK : xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a path");
    bool there = status == XFT_OK && access(beside, F_OK) == 0;
    if (status == XFT_OK && !there && xft_size_on_disk(s->path) > 0)
        status = xft_fail(XFT_ERROR_INVALID_ARGUMENT,
                          "%s: is there, but %s, which would say how its samples were made, is not", s->path, beside);
    if (there) {
        status = xft_read_file(beside, &text, NULL);
        if (status == XFT_OK && !json_is_object(before = json_loads(text, 0, NULL)))
            status = xft_fail(XFT_ERROR_FORMAT, "%s: no JSON object", beside);
        if (status == XFT_OK) status = compare(s->path, now, before);
        if (status == XFT_OK && access(s->path, F_OK) == 0) status = count_samples(s, done, &end);
    } else if (status == XFT_OK) {
        text = json_dumps(now, JSON_INDENT(1));
        status = text ? xft_write_file(beside, text, strlen(text))
                      : xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", beside);
    }
    if (status == XFT_OK) {
        *fd = open(s->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
        if (*fd < 0 || ftruncate(*fd, (off_t)end) || lseek(*fd, 0, SEEK_END) < 0)
            status = xft_fail(XFT_ERROR_IO, "%s: %s", s->path, strerror(errno));
    }
    json_decref(now);
    json_decref(before);
    free(text);
    free(beside);
    return status;
}

static xft_status sample_all(sampler *s, xft_model *model, int fd, uint64_t done) {
    uint32_t longest = 0, positions = xft_model_get_config(model)->max_positions;
    for (uint32_t i = 0; i < s->count; i++)
        if (s->prompts[i].count > longest) longest = (uint32_t)s->prompts[i].count;
    if (s->new_tokens > positions - longest) s->new_tokens = positions - longest;
    s->answers = calloc((size_t)s->batch * s->new_tokens, sizeof *s->answers);
    s->lengths = calloc(3 * (size_t)s->batch, sizeof *s->lengths);
    XFT_FAIL_IF(!s->answers || !s->lengths, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for answers of %u x %u ids",
                s->batch, s->new_tokens);
    s->came = s->lengths + s->batch;
    s->used = s->came + s->batch;
    XFT_TRY(xft_generator_create(model,
                                 &(xft_generator_options){.batch = s->batch,
                                                          .capacity = longest + s->new_tokens,
                                                          .official = s->options->official},
                                 &s->generator));
    for (s->first = done - done % s->batch; s->first < (uint64_t)s->count * s->samples; s->first += s->batch) {
        XFT_TRY(sample_batch(s, fd, done));
    }
    return xft_progress(s->options->callbacks, "sampling", (uint64_t)s->count * s->samples,
                        (uint64_t)s->count * s->samples);
}

xft_status xft_problems_sample(const xft_problems *problems, xft_model *model, const xft_tokenizer *tokenizer,
                               const xft_sample_options *options, const char *path) {
    static const xft_sample_options defaults = {.samples = 1};
    XFT_NEED(problems, model, tokenizer, path);
    const xft_sample_options *o = options ? options : &defaults;
    XFT_FAIL_IF(o->stop_count > MOST_STOPS || (o->stop_count && !o->stop), XFT_ERROR_INVALID_ARGUMENT,
                "xft_problems_sample: %u stop ids; at most %d", o->stop_count, MOST_STOPS);
    sampler s = {.problems = problems,
                 .tokenizer = tokenizer,
                 .options = o,
                 .path = path,
                 .count = count_problems(problems, o),
                 .samples = o->samples ? o->samples : 1,
                 .batch = o->batch ? o->batch : DEFAULT_BATCH,
                 .new_tokens = o->max_new_tokens ? o->max_new_tokens : DEFAULT_NEW_TOKENS};
    XFT_TRY(xft_template_check(o->chat_template, tokenizer, &s.stops[0]));
    s.stop_count = 1 + xft_tokenizer_role(tokenizer, XFT_TOKEN_EOS, &s.stops[1]);
    for (uint32_t i = 0; i < o->stop_count; i++) s.stops[s.stop_count++] = o->stop[i];
    s.prompts = calloc(s.count, sizeof *s.prompts);
    XFT_FAIL_IF(!s.prompts, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u prompts", s.count);
    xft_status status = XFT_OK;
    uint64_t done = 0;
    int fd = -1;
    for (uint32_t i = 0; i < s.count && status == XFT_OK; i++)
        status =
            make_prompt(&s, xft_problems_at(problems, i), xft_model_get_config(model)->max_positions, &s.prompts[i]);
    if (status == XFT_OK) status = open_file(&s, &fd, &done);
    if (status == XFT_OK && done < (uint64_t)s.count * s.samples) status = sample_all(&s, model, fd, done);
    if (fd >= 0 && close(fd) && status == XFT_OK)
        status = xft_fail(XFT_ERROR_IO, "%s: close: %s", path, strerror(errno));
    xft_generator_destroy(s.generator);
    for (uint32_t i = 0; i < s.count; i++) {
        free(s.prompts[i].ids);
        free(s.prompts[i].text);
    }
    free(s.prompts);
    free(s.answers);
    free(s.lengths);
    return status;
}
