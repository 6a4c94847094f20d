/* JSONL files -> samples: ids, and which of them are labels. */
#include "dataset.h"

#include "callbacks.h"
#include "error.h"
#include "jsonl.h"
#include "philox.h"
#include "xft/ops.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PROGRESS_LINES = 256, SPLIT_KEY = 1 };

static const char *const reasons[XFT_SKIP_REASON_COUNT] = {[XFT_SKIP_NO_ANSWER] = "messages without an answer",
                                                           [XFT_SKIP_EMPTY_ANSWER] = "empty answer",
                                                           [XFT_SKIP_NO_LABEL] = "no label within the length"};

const char *xft_skip_reason_name(xft_skip_reason reason) {
    return (unsigned)reason < XFT_SKIP_REASON_COUNT ? reasons[reason] : "?";
}

/* ---- Samples ---- */

static uint64_t *starts_of(const xft_dataset *data) {
    return (uint64_t *)(void *)data->starts.data;
}

const uint32_t *xft_dataset_tokens(const xft_dataset *data, uint64_t index, uint32_t *count) {
    const uint64_t *starts = starts_of(data);
    *count = (uint32_t)(starts[index + 1] - starts[index]);
    return (const uint32_t *)(const void *)data->tokens.data + starts[index];
}

/* Appends the end of what was added to `tokens` as the end of a sample. */
static void end_sample(xft_dataset *data) {
    uint64_t end = data->tokens.size / sizeof(uint32_t);
    xft_array_append(&data->starts, &end, sizeof end);
}

static uint64_t count_labels(const uint32_t *tokens, uint32_t count) {
    uint64_t labels = 0;
    for (uint32_t i = 1; i < count; i++) labels += tokens[i] >> 31; /* nothing predicts the first token */
    return labels;
}

static void count_samples(xft_dataset *data) {
    xft_data_counts *c = &data->counts;
    c->samples = data->starts.size / sizeof(uint64_t) - 1;
    c->tokens = data->tokens.size / sizeof(uint32_t);
    c->labels = c->longest = 0;
    for (uint64_t i = 0; i < c->samples; i++) {
        uint32_t count;
        const uint32_t *tokens = xft_dataset_tokens(data, i, &count);
        c->labels += count_labels(tokens, count);
        if (count > c->longest) c->longest = count;
    }
}

static xft_status check_memory(const xft_dataset *data) {
    XFT_FAIL_IF(data->tokens.failed || data->starts.failed, XFT_ERROR_OUT_OF_HOST_MEMORY,
                "no memory for a dataset beyond %zu tokens", data->tokens.size / sizeof(uint32_t));
    return XFT_OK;
}

/* ---- Reading ---- */

/* A dataset in the making. */
typedef struct reader {
    const xft_tokenizer *tokenizer;
    const xft_data_options *options;
    const xft_chat_template *chat_template;
    xft_dataset *data;
    array text, messages; /* of the sample at work */
} reader;

static const char *kind_of(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_NULL:
        return "null";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "a number";
    }
}

static xft_status read_string(const json_t *object, const char *key, const char **text, size_t *bytes) {
    const json_t *value = json_object_get(object, key);
    XFT_FAIL_IF(!value, XFT_ERROR_FORMAT, "field %s is missing", key);
    XFT_FAIL_IF(!json_is_string(value), XFT_ERROR_FORMAT, "field %s is %s; expected a string", key, kind_of(value));
    *text = json_string_value(value);
    *bytes = json_string_length(value);
    return XFT_OK;
}

static bool is_blank(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (!text[i] || !strchr(" \t\r\n\v\f", text[i])) return false;
    return true;
}

static xft_status read_message(const json_t *value, uint32_t index, xft_chat_message *m) {
    static const char *const roles[] = {"system", "user", "assistant"};
    const char *role;
    size_t bytes, r = 0;
    XFT_FAIL_IF(!json_is_object(value), XFT_ERROR_FORMAT, "%s; expected an object", kind_of(value));
    XFT_TRY(read_string(value, "role", &role, &bytes));
    XFT_TRY(read_string(value, "content", &m->content, &m->bytes));
    while (r < 3 && strcmp(role, roles[r])) r++;
    XFT_FAIL_IF(r == 3, XFT_ERROR_FORMAT, "role is \"%.40s\"; expected system, user or assistant", role);
    XFT_FAIL_IF(r == XFT_ROLE_SYSTEM && index, XFT_ERROR_FORMAT, "role is system; only the first message may have it");
    m->role = (xft_chat_role)r;
    return XFT_OK;
}

/* *skipped is set when there is no answer in the messages, or only empty ones. */
static xft_status encode_messages(reader *r, const xft_chat_message *messages, uint32_t count,
                                  xft_skip_reason *skipped) {
    bool blank = true;
    uint32_t last = 0; /* one past the last answer: what follows it is no use */
    for (uint32_t i = 0; i < count; i++)
        if (messages[i].role == XFT_ROLE_ASSISTANT) {
            last = i + 1;
            blank = blank && is_blank(messages[i].content, messages[i].bytes);
        }
    if (blank) {
        *skipped = last ? XFT_SKIP_EMPTY_ANSWER : XFT_SKIP_NO_ANSWER;
        return XFT_OK;
    }
    return xft_template_encode(r->chat_template, r->tokenizer, messages, last, &r->text, &r->data->tokens);
}

static xft_status read_chat(reader *r, const json_t *list, xft_skip_reason *skipped) {
    XFT_FAIL_IF(!json_is_array(list), XFT_ERROR_FORMAT, "field messages is %s; expected an array", kind_of(list));
    uint32_t count = (uint32_t)json_array_size(list);
    r->messages.size = 0;
    xft_chat_message *messages = xft_array_extend(&r->messages, (count + 1) * sizeof *messages);
    XFT_FAIL_IF(!messages, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u messages", count);
    for (uint32_t i = 0; i < count; i++) {
        xft_status status = read_message(json_array_get(list, i), i, &messages[i]);
        if (status != XFT_OK) return xft_fail_in(status, "messages[%u]", i);
    }
    return encode_messages(r, messages, count, skipped);
}

static xft_status read_instruction(reader *r, const json_t *o, xft_skip_reason *skipped) {
    xft_chat_message m[2] = {{.role = XFT_ROLE_USER}, {.role = XFT_ROLE_ASSISTANT}};
    const char *input = "";
    size_t input_bytes = 0;
    const json_t *given = json_object_get(o, "input");
    bool response = json_object_get(o, "response");
    XFT_FAIL_IF(!response && !json_object_get(o, "output"), XFT_ERROR_FORMAT, "field response (or output) is missing");
    XFT_TRY(read_string(o, "instruction", &m[0].content, &m[0].bytes));
    XFT_TRY(read_string(o, response ? "response" : "output", &m[1].content, &m[1].bytes));
    if (given && !json_is_null(given)) XFT_TRY(read_string(o, "input", &input, &input_bytes));
    if (input_bytes) {
        r->messages.size = 0;
        xft_array_append(&r->messages, m[0].content, m[0].bytes);
        xft_array_append(&r->messages, "\n", 1);
        xft_array_append(&r->messages, input, input_bytes);
        XFT_FAIL_IF(r->messages.failed, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for an input of %zu bytes",
                    input_bytes);
        m[0].content = r->messages.data;
        m[0].bytes = r->messages.size;
    }
    return encode_messages(r, m, 2, skipped);
}

/* Prompt and completion, without a template. */
static xft_status read_completion(reader *r, const json_t *o, xft_skip_reason *skipped) {
    const char *prompt, *completion;
    size_t prompt_bytes, completion_bytes;
    uint32_t eos;
    XFT_TRY(read_string(o, "prompt", &prompt, &prompt_bytes));
    XFT_TRY(read_string(o, "completion", &completion, &completion_bytes));
    XFT_FAIL_IF(!xft_tokenizer_role(r->tokenizer, XFT_TOKEN_EOS, &eos), XFT_ERROR_FORMAT,
                "tokenizer_config.json names no eos_token to end a completion with");
    if (is_blank(completion, completion_bytes)) {
        *skipped = XFT_SKIP_EMPTY_ANSWER;
        return XFT_OK;
    }
    xft_append_bos(r->tokenizer, &r->data->tokens);
    XFT_TRY(xft_append_text(r->tokenizer, prompt, prompt_bytes, 0, &r->data->tokens));
    XFT_TRY(xft_append_text(r->tokenizer, completion, completion_bytes, TOKEN_LABEL, &r->data->tokens));
    xft_array_append_u32(&r->data->tokens, eos | TOKEN_LABEL);
    return XFT_OK;
}

static xft_status read_object(reader *r, const json_t *o, xft_skip_reason *skipped) {
    const json_t *messages = json_object_get(o, "messages");
    if (messages) return read_chat(r, messages, skipped);
    bool instruction = json_object_get(o, "instruction");
    if (json_object_get(o, "prompt") && (json_object_get(o, "completion") || !instruction))
        return read_completion(r, o, skipped);
    if (instruction) return read_instruction(r, o, skipped);
    return xft_fail(XFT_ERROR_FORMAT,
                    "no sample: expected messages, prompt and completion, or instruction and response (or output)");
}

static xft_status check_ids(const reader *r, const uint32_t *tokens, size_t count) {
    uint32_t most = r->options->vocab_size;
    for (size_t i = 0; most && i < count; i++) {
        uint32_t id = tokens[i] & ~TOKEN_LABEL;
        const char *token = id >= most ? xft_tokenizer_token(r->tokenizer, id, NULL) : NULL;
        XFT_FAIL_IF(id >= most, XFT_ERROR_FORMAT,
                    "token \"%.40s\" has the id %u, but the model's vocabulary ends at %u: the tokenizer is another "
                    "model's",
                    token ? token : "?", id, most);
    }
    return XFT_OK;
}

/* Cuts the sample that begins at `begin`, and drops it when no label is left. */
static xft_status finish_sample(reader *r, size_t begin) {
    xft_dataset *data = r->data;
    XFT_TRY(check_memory(data));
    uint32_t *tokens = (uint32_t *)(void *)data->tokens.data + begin;
    size_t count = data->tokens.size / sizeof *tokens - begin;
    XFT_TRY(check_ids(r, tokens, count));
    bool cut = count > data->length;
    if (cut) count = data->length;
    for (size_t i = 0; i < count && r->options->train_on_prompt; i++) tokens[i] |= TOKEN_LABEL;
    if (!count_labels(tokens, (uint32_t)count)) {
        data->counts.skipped[XFT_SKIP_NO_LABEL]++;
        data->tokens.size = begin * sizeof *tokens;
        return XFT_OK;
    }
    data->counts.truncated += cut;
    data->tokens.size = (begin + count) * sizeof *tokens;
    end_sample(data);
    XFT_FAIL_IF(data->starts.size / sizeof(uint64_t) > UINT32_MAX - 1u, XFT_ERROR_UNSUPPORTED, "more than %u samples",
                UINT32_MAX - 2u);
    return check_memory(data);
}

static xft_status read_line(reader *r, const json_t *object) {
    size_t begin = r->data->tokens.size / sizeof(uint32_t);
    xft_skip_reason skipped = XFT_SKIP_REASON_COUNT;
    XFT_TRY(read_object(r, object, &skipped));
    if (skipped == XFT_SKIP_REASON_COUNT) return finish_sample(r, begin);
    r->data->counts.skipped[skipped]++;
    return XFT_OK;
}

static xft_status read_lines(reader *r, const char *path, xft_jsonl *file) {
    uint64_t objects = 0;
    for (;;) {
        json_t *object;
        XFT_TRY(xft_jsonl_next(file, &object));
        if (!object) break;
        xft_status status = read_line(r, object);
        json_decref(object);
        if (status != XFT_OK) return xft_fail_in(status, "%s:%" PRIu64, path, xft_jsonl_line(file));
        if (objects++ % PROGRESS_LINES == 0)
            XFT_TRY(xft_progress(r->options->callbacks, "reading data", xft_jsonl_offset(file), xft_jsonl_size(file)));
    }
    XFT_FAIL_IF(!objects, XFT_ERROR_FORMAT, "%s: holds no sample", path);
    return XFT_OK;
}

static xft_status read_files(reader *r) {
    uint64_t none = 0;
    xft_array_append(&r->data->starts, &none, sizeof none);
    for (uint32_t i = 0; i < r->options->file_count; i++) {
        xft_jsonl *file;
        const char *path = r->options->files[i];
        XFT_FAIL_IF(!path, XFT_ERROR_INVALID_ARGUMENT, "data options: file %u is NULL", i);
        XFT_TRY(xft_jsonl_open(path, &file));
        xft_status status = read_lines(r, path, file);
        xft_jsonl_close(file);
        XFT_TRY(status);
    }
    count_samples(r->data);
    const uint64_t *skipped = r->data->counts.skipped;
    XFT_FAIL_IF(!r->data->counts.samples, XFT_ERROR_FORMAT,
                "%s%s: every sample was skipped: %" PRIu64 " %s, %" PRIu64 " %s, %" PRIu64 " %s (%u tokens)",
                r->options->files[0], r->options->file_count > 1 ? " and others" : "", skipped[0], reasons[0],
                skipped[1], reasons[1], skipped[2], reasons[2], r->data->length);
    return XFT_OK;
}

xft_status xft_dataset_load(const xft_tokenizer *tokenizer, const xft_data_options *o, xft_dataset **dataset) {
    XFT_NEED(tokenizer, dataset);
    XFT_FAIL_IF(!o, XFT_ERROR_INVALID_ARGUMENT, "xft_dataset_load: options is NULL");
    XFT_FAIL_IF(!o->files || !o->file_count, XFT_ERROR_INVALID_ARGUMENT, "data options: no file is given");
    XFT_FAIL_IF(o->length < 2 || o->length >= TOKEN_LABEL, XFT_ERROR_INVALID_ARGUMENT,
                "data options: length %u, must be at least 2", o->length);
    reader r = {.tokenizer = tokenizer, .options = o};
    *dataset = NULL;
    XFT_TRY(xft_template_find(o->chat_template, &r.chat_template));
    XFT_TRY(xft_template_check(o->chat_template, tokenizer, NULL));
    r.data = calloc(1, sizeof *r.data);
    XFT_FAIL_IF(!r.data, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a dataset");
    r.data->length = o->length;
    xft_status status = read_files(&r);
    xft_array_free(&r.text);
    xft_array_free(&r.messages);
    if (status != XFT_OK)
        xft_dataset_free(r.data);
    else
        *dataset = r.data;
    return status;
}

void xft_dataset_free(xft_dataset *data) {
    if (!data) return;
    xft_array_free(&data->tokens);
    xft_array_free(&data->starts);
    free(data);
}

/* ---- Order ---- */

typedef struct ticket {
    uint64_t number;
    uint32_t index;
} ticket;

static int by_number(const void *a, const void *b) {
    const ticket *x = a, *y = b;
    if (x->number != y->number) return x->number < y->number ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Each draws a number; they are sorted by it. */
xft_status xft_shuffled(uint64_t seed, uint32_t epoch, uint32_t key, uint32_t count, uint32_t **order) {
    ticket *tickets = malloc((count + 1u) * sizeof *tickets);
    *order = malloc((count + 1u) * sizeof **order);
    if (!tickets || !*order) {
        free(tickets);
        free(*order);
        *order = NULL;
        return xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory to shuffle %u samples", count);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t words[4];
        xft_philox(seed, XFT_RANDOM_SHUFFLE, epoch, key, i, 0, words);
        tickets[i] = (ticket){(uint64_t)words[0] << 32 | words[1], i};
    }
    qsort(tickets, count, sizeof *tickets, by_number);
    for (uint32_t i = 0; i < count; i++) (*order)[i] = tickets[i].index;
    free(tickets);
    return XFT_OK;
}

/* Appends the samples of `from` that were picked, or the others. */
static void copy_samples(const xft_dataset *from, const bool *picked, bool which, xft_dataset *to) {
    uint64_t none = 0;
    xft_array_append(&to->starts, &none, sizeof none);
    for (uint64_t i = 0; i < from->counts.samples; i++) {
        uint32_t count;
        const uint32_t *tokens = xft_dataset_tokens(from, i, &count);
        if (picked[i] != which) continue;
        xft_array_append(&to->tokens, tokens, count * sizeof *tokens);
        end_sample(to);
    }
    to->length = from->length;
    count_samples(to);
}

xft_status xft_dataset_split(xft_dataset *data, double fraction, uint64_t seed, xft_dataset **part) {
    XFT_FAIL_IF(!data, XFT_ERROR_INVALID_ARGUMENT, "xft_dataset_split: dataset is NULL");
    XFT_NEED(part);
    *part = NULL;
    XFT_FAIL_IF(!(fraction > 0) || !(fraction < 1), XFT_ERROR_INVALID_ARGUMENT,
                "xft_dataset_split: fraction %g, must lie between 0 and 1", fraction);
    uint32_t samples = (uint32_t)data->counts.samples, *order = NULL;
    XFT_FAIL_IF(samples < 2, XFT_ERROR_FORMAT, "the data hold 1 sample: no part can be held out for evaluation");
    uint32_t count = (uint32_t)(fraction * samples + 0.5);
    count = count < 1 ? 1 : count > samples - 1 ? samples - 1 : count;
    xft_dataset *a = calloc(1, sizeof *a), rest = {0};
    bool *picked = calloc(samples, sizeof *picked);
    xft_status status = a && picked ? xft_shuffled(seed, 0, SPLIT_KEY, samples, &order)
                                    : xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u samples", samples);
    if (status == XFT_OK) {
        for (uint32_t i = 0; i < count; i++) picked[order[i]] = true;
        copy_samples(data, picked, true, a);
        copy_samples(data, picked, false, &rest);
        status = check_memory(a);
        if (status == XFT_OK) status = check_memory(&rest);
    }
    free(picked);
    free(order);
    if (status != XFT_OK) {
        xft_dataset_free(a);
        xft_array_free(&rest.tokens);
        xft_array_free(&rest.starts);
        return status;
    }
    memcpy(rest.counts.skipped, data->counts.skipped, sizeof rest.counts.skipped);
    rest.counts.truncated = data->counts.truncated;
    xft_array_free(&data->tokens);
    xft_array_free(&data->starts);
    *data = rest;
    *part = a;
    return XFT_OK;
}

/* ---- What is in it ---- */

void xft_dataset_get_counts(const xft_dataset *data, xft_data_counts *counts) {
    if (counts) *counts = data ? data->counts : (xft_data_counts){0};
}

uint64_t xft_dataset_fingerprint(const xft_dataset *data) {
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a, by words */
    for (uint64_t i = 0; data && i < data->counts.samples; i++) {
        uint32_t count;
        const uint32_t *tokens = xft_dataset_tokens(data, i, &count);
        hash = (hash ^ count) * 0x100000001b3u;
        for (uint32_t t = 0; t < count; t++) hash = (hash ^ tokens[t]) * 0x100000001b3u;
    }
    return hash;
}

bool xft_dataset_sample(const xft_dataset *data, uint64_t index, uint32_t *ids, bool *labelled, uint32_t *count) {
    if (!data || index >= data->counts.samples || !count) return false;
    const uint32_t *tokens = xft_dataset_tokens(data, index, count);
    for (uint32_t i = 0; i < *count; i++) {
        if (ids) ids[i] = tokens[i] & ~TOKEN_LABEL;
        if (labelled) labelled[i] = tokens[i] & TOKEN_LABEL;
    }
    return true;
}
