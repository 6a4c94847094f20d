/* xft generate */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "xft/checkpoint.h"
#include "xft/data.h"
#include "xft/generate.h"

typedef struct prompt {
    char *text;
    uint32_t *ids; /* what the model continues; then room for the answer */
    size_t count;
    uint32_t added;   /* ids of the answer */
    const char *name; /* for messages: its file */
} prompt;

typedef struct job {
    call *call;
    xft_values values;
    xft_device *device;
    xft_model *model;
    xft_tokenizer *tokenizer;
    xft_generator *generator;
    prompt *prompts;
    uint32_t prompt_count, longest;
    const char *blamed; /* name of the prompt that could not be encoded */
    uint32_t stops[32], stop_count;
    /* streaming: the prompt whose answer is printed as it comes, and what of it is printed */
    uint32_t first;
    size_t from, printed; /* ids: from where on they are decoded, and how many are printed */
} job;

/* ---- Prompts ---- */

static char *read_stream(FILE *file) {
    char *text = NULL;
    size_t used = 0, room = 0;
    for (size_t got = 1; got > 0; used += got) {
        if (used + 4096 > room) text = realloc(text, room = 2 * room + 8192);
        if (!text) return NULL;
        got = fread(text + used, 1, room - used - 1, file);
    }
    if (used && text[used - 1] == '\n') used--; /* the line break that ends a file belongs to no prompt */
    text[used] = 0;
    return text;
}

static int add_prompt(job *j, char *text, const char *name) {
    prompt *prompts = realloc(j->prompts, (j->prompt_count + 1) * sizeof *prompts);
    if (!text || !prompts) return fail(EXIT_FAILED, "%s: %s", name, strerror(errno));
    j->prompts = prompts;
    prompts[j->prompt_count++] = (prompt){.text = text, .name = name};
    return EXIT_DONE;
}

static int add_file(job *j, const char *path) {
    FILE *file = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    if (!file) return fail(EXIT_FAILED, "%s: %s", path, strerror(errno));
    char *text = read_stream(file);
    const bool bad = ferror(file);
    if (file != stdin) fclose(file);
    const int code = bad ? fail(EXIT_FAILED, "%s: %s", path, strerror(errno)) : add_prompt(j, text, path);
    if (bad) free(text);
    return code;
}

static int collect_prompts(job *j) {
    const call *call = j->call;
    int code = EXIT_DONE;
    for (int i = 0; i < call->operand_count && code == EXIT_DONE; i++)
        code = add_prompt(j, strdup(call->operands[i]), "prompt");
    for (uint32_t i = 0; i < call->option_count && code == EXIT_DONE; i++)
        if (call->option_ids[i] == OPTION_PROMPT_FILE) code = add_file(j, call->options[i]);
    if (j->prompt_count == 0 && code == EXIT_DONE) {
        if (isatty(STDIN_FILENO)) fprintf(stderr, "Type a prompt, and Ctrl-D at its end.\n");
        code = add_file(j, "-");
    }
    return code;
}

/* Ids of each prompt: the text with the tokenizer's own special tokens, or an instruction in its template. */
static xft_status encode_prompts(job *j) {
    const char *system = call_option(j->call, OPTION_SYSTEM), *template = xft_template_name(j->values.prompt_template);
    const bool chat = call_option(j->call, OPTION_CHAT) != NULL;
    uint32_t stop;
    xft_status status = chat ? xft_template_check(template, j->tokenizer, &stop) : XFT_OK;
    if (chat && status == XFT_OK && j->stop_count < 32) j->stops[j->stop_count++] = stop;
    for (uint32_t i = 0; i < j->prompt_count && status == XFT_OK; i++) {
        prompt *p = &j->prompts[i];
        const size_t bytes = strlen(p->text);
        const xft_chat_message messages[] = {{XFT_ROLE_SYSTEM, system, system ? strlen(system) : 0},
                                             {XFT_ROLE_USER, p->text, bytes}};
        status = chat ? xft_template_prompt(template, j->tokenizer, system ? messages : messages + 1, system ? 2 : 1,
                                            NULL, &p->ids, &p->count)
                      : xft_tokenizer_encode(j->tokenizer, p->text, bytes, true, &p->ids, &p->count);
        if (status != XFT_OK) j->blamed = p->name;
        if (p->count > j->longest) j->longest = (uint32_t)p->count;
    }
    return status;
}

/* ---- Answers ---- */

/* The text that ids from `from` on end with, beyond that of the ids up to `known`: tokens are decoded together with
 * some before them, for their text may depend on these. NULL while it ends within a character. */
static char *text_after(const job *j, const uint32_t *ids, size_t from, size_t known, size_t count, bool last) {
    char *before = NULL, *all = NULL;
    size_t before_bytes, all_bytes;
    static const char incomplete[] = "\xef\xbf\xbd";
    if (xft_tokenizer_decode(j->tokenizer, ids + from, known - from, true, &before, &before_bytes) == XFT_OK &&
        xft_tokenizer_decode(j->tokenizer, ids + from, count - from, true, &all, &all_bytes) == XFT_OK) {
        const bool open = all_bytes >= 3 && !memcmp(all + all_bytes - 3, incomplete, 3);
        if (all_bytes < before_bytes || (open && !last)) {
            free(all);
            all = NULL;
        } else {
            memmove(all, all + before_bytes, all_bytes - before_bytes + 1);
        }
    }
    free(before);
    return all;
}

static void stream(job *j, const prompt *p, bool last) {
    const size_t count = p->count + p->added;
    char *text = text_after(j, p->ids, j->from, j->printed, count, last);
    if (text && *text) {
        fputs(text, stdout);
        fflush(stdout);
        j->from = j->printed;
        j->printed = count;
    }
    free(text);
}

enum { CONTEXT = 6 }; /* ids before an answer that are decoded with it */

static bool on_token(void *user, uint32_t sequence, uint32_t id) {
    job *j = user;
    prompt *p = &j->prompts[j->first + sequence];
    p->ids[p->count + p->added++] = id;
    if (sequence == 0 && !j->call->json) stream(j, p, false);
    return !stop_signal;
}

static void begin_answer(job *j, uint32_t index) {
    const prompt *p = &j->prompts[index];
    j->printed = p->count;
    j->from = p->count > CONTEXT ? p->count - CONTEXT : 0;
    if (j->prompt_count > 1 && !j->call->json) printf("%s==== prompt %u\n", index ? "\n" : "", index + 1);
}

static xft_status answer_batch(job *j, uint32_t count) {
    const uint32_t *ids[count];
    uint32_t lengths[count], counts[count];
    for (uint32_t i = 0; i < count; i++) {
        prompt *p = &j->prompts[j->first + i];
        uint32_t *longer = realloc(p->ids, (p->count + j->values.max_new_tokens) * sizeof *longer);
        if (!longer) return XFT_ERROR_OUT_OF_HOST_MEMORY;
        ids[i] = p->ids = longer;
        lengths[i] = (uint32_t)p->count;
    }
    const xft_sampling sampling = {.new_tokens = (uint32_t)j->values.max_new_tokens,
                                   .temperature = (float)j->values.temperature,
                                   .top_p = (float)j->values.top_p,
                                   .seed = j->values.seed + j->first,
                                   .stop = j->stops,
                                   .stop_count = j->stop_count,
                                   .callbacks = &console};
    uint32_t *out = calloc((size_t)count * sampling.new_tokens, sizeof *out);
    if (!out) return XFT_ERROR_OUT_OF_HOST_MEMORY;
    begin_answer(j, j->first);
    const xft_status status = xft_generate(j->generator, ids, lengths, count, &sampling, out, counts, on_token, j);
    free(out);
    for (uint32_t i = 0; i < count && !j->call->json && (status == XFT_OK || i == 0); i++) {
        if (i > 0) begin_answer(j, j->first + i);
        stream(j, &j->prompts[j->first + i], true);
        putchar('\n');
    }
    return status;
}

static bool stopped_by_itself(const job *j, const prompt *p) {
    for (uint32_t i = 0; p->added && i < j->stop_count; i++)
        if (p->ids[p->count + p->added - 1] == j->stops[i]) return true;
    return false;
}

static json_t *answers_json(const job *j, double seconds) {
    json_t *list = json_array();
    uint64_t added = 0;
    for (uint32_t i = 0; i < j->prompt_count; i++) {
        const prompt *p = &j->prompts[i];
        const size_t from = p->count > CONTEXT ? p->count - CONTEXT : 0;
        char *text = text_after(j, p->ids, from, p->count, p->count + p->added, true);
        json_t *ids = json_array();
        for (uint32_t k = 0; k < p->added; k++) json_array_append_new(ids, json_integer(p->ids[p->count + k]));
        json_array_append_new(list, json_pack("{s:s,s:s,s:o,s:I,s:s}", "prompt", p->text, "text", text ? text : "",
                                              "ids", ids, "prompt_tokens", (json_int_t)p->count, "finish",
                                              stopped_by_itself(j, p) ? "stop" : "length"));
        added += p->added;
        free(text);
    }
    return json_pack("{s:o,s:f,s:f}", "answers", list, "seconds", seconds, "tokens_per_s", (double)added / seconds);
}

/* ---- The command ---- */

/* Answers end where the positions that the model was made for do. */
static int fit_length(job *j) {
    const xft_config *c = xft_model_get_config(j->model);
    const double factor = c->rope_scaling == XFT_ROPE_DYNAMIC ? c->rope_factor : 1;
    const uint32_t most = (uint32_t)(factor * c->max_positions);
    for (uint32_t i = 0; i < j->prompt_count; i++) {
        if (j->prompts[i].count == 0)
            return fail(EXIT_FAILED, "prompt %u is empty, and the tokenizer puts nothing before a text", i + 1);
        if (j->prompts[i].count >= most)
            return fail(EXIT_FAILED, "prompt %u has %zu tokens; expected fewer than %u, the longest text that %s takes",
                        i + 1, j->prompts[i].count, most, j->values.model);
    }
    if (j->values.max_new_tokens > most - j->longest) j->values.max_new_tokens = most - j->longest;
    return EXIT_DONE;
}

static xft_status prepare(job *j) {
    const xft_values *v = &j->values;
    const xft_load_options load = {.dtype = (xft_dtype)v->dtype, .callbacks = &console};
    xft_status status = xft_tokenizer_load(v->model, &j->tokenizer);
    j->stop_count = 31;
    if (status == XFT_OK) status = xft_checkpoint_stops(v->model, j->tokenizer, j->stops, &j->stop_count);
    if (status == XFT_OK) status = encode_prompts(j);
    if (status == XFT_OK) status = xft_device_open(v->device, NULL, &j->device);
    return status == XFT_OK ? xft_checkpoint_load(j->device, v->model, &load, &j->model) : status;
}

static int answer(job *j) {
    const xft_values *v = &j->values;
    xft_status status = prepare(j);
    if (status != XFT_OK && j->blamed) return fail(EXIT_FAILED, "%s: %s", j->blamed, xft_error());
    if (status != XFT_OK) return fail_status(status);
    if (fit_length(j) != EXIT_DONE) return EXIT_FAILED;
    const xft_generator_options options = {.batch = j->prompt_count < v->micro_batch ? j->prompt_count
                                                                                     : (uint32_t)v->micro_batch,
                                           .capacity = j->longest + (uint32_t)v->max_new_tokens,
                                           .official = v->compat != 0};
    status = xft_generator_create(j->model, &options, &j->generator);
    const double start = clock_seconds();
    for (j->first = 0; j->first < j->prompt_count && status == XFT_OK; j->first += (uint32_t)j->values.micro_batch) {
        const uint32_t left = j->prompt_count - j->first;
        status = answer_batch(j, left < j->values.micro_batch ? left : (uint32_t)j->values.micro_batch);
    }
    if (status == XFT_ERROR_CANCELLED && stop_signal) return EXIT_STOPPED;
    if (status != XFT_OK) return fail_status(status);
    return j->call->json ? print_json(answers_json(j, clock_seconds() - start)) : EXIT_DONE;
}

int run_generate(call *call) {
    job j = {.call = call};
    if (xft_settings_need(call->settings, XFT_STAGE_GENERATE, "model") ||
        xft_settings_resolve(call->settings, XFT_STAGE_GENERATE, &j.values))
        return fail(EXIT_USAGE, "%s", xft_error());
    int code = collect_prompts(&j);
    if (code == EXIT_DONE) code = answer(&j);
    xft_generator_destroy(j.generator);
    xft_model_destroy(j.model);
    xft_device_close(j.device);
    xft_tokenizer_free(j.tokenizer);
    for (uint32_t i = 0; i < j.prompt_count; i++) {
        free(j.prompts[i].text);
        free(j.prompts[i].ids);
    }
    free(j.prompts);
    return code;
}
