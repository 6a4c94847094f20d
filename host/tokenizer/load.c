#include "tokenizer/tokenizer.h"

#include "error.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ids may leave holes, of this many in all: a table of ids has to fit into memory. */
enum { MAX_HOLES = 1 << 20, MAX_DEPTH = 8, PLACE = 192 };

typedef struct reader {
    xft_tokenizer *t;
    const char *file;
} reader;

/* "file: place: words" */
__attribute__((format(printf, 3, 4))) static xft_status refuse(const reader *r, const char *place, const char *format,
                                                               ...) {
    char words[512];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    return xft_fail(XFT_ERROR_FORMAT, "%s: %s: %s", r->file, place, words);
}

/* ---- JSON ---- */

static const char *type_name(const json_t *value) {
    static const char *const names[] = {
        [JSON_OBJECT] = "object", [JSON_ARRAY] = "array", [JSON_STRING] = "string", [JSON_INTEGER] = "integer",
        [JSON_REAL] = "number",   [JSON_TRUE] = "true",   [JSON_FALSE] = "false",   [JSON_NULL] = "null"};
    return value ? names[json_typeof(value)] : "nothing";
}

static bool is_absent(const json_t *value) {
    return !value || json_is_null(value);
}

static xft_status parse(const reader *r, const char *json, size_t bytes, json_t **root) {
    json_error_t error;
    *root = json_loadb(json, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!*root) return refuse(r, "json", "line %d, column %d: %s", error.line, error.column, error.text);
    if (json_is_object(*root)) return XFT_OK;
    const char *found = type_name(*root);
    json_decref(*root);
    return refuse(r, "json", "expected an object, found %s", found);
}

static char *copy_text(const char *text, size_t size) {
    char *copy = malloc(size + 1);
    if (!copy) return NULL;
    memcpy(copy, text, size);
    copy[size] = 0;
    return copy;
}

static xft_status read_bool(const reader *r, const json_t *object, const char *place, const char *key, bool *value) {
    const json_t *found = json_object_get(object, key);
    if (!json_is_boolean(found)) return refuse(r, place, "%s must be true or false, found %s", key, type_name(found));
    *value = json_is_true(found);
    return XFT_OK;
}

static xft_status read_optional_bool(const reader *r, const json_t *object, const char *place, const char *key,
                                     bool *value) {
    return is_absent(json_object_get(object, key)) ? XFT_OK : read_bool(r, object, place, key, value);
}

/* A text of one byte or more. */
static xft_status read_text(const reader *r, const json_t *object, const char *place, const char *key,
                            bool may_be_empty, const char **text, size_t *size) {
    const json_t *found = json_object_get(object, key);
    if (!json_is_string(found)) return refuse(r, place, "%s must be a string, found %s", key, type_name(found));
    *text = json_string_value(found);
    *size = json_string_length(found);
    if (*size == 0 && !may_be_empty) return refuse(r, place, "%s is empty", key);
    return XFT_OK;
}

static xft_status read_content(const reader *r, const json_t *object, const char *place, const char *key,
                               bool may_be_empty, step *s) {
    const char *text = NULL;
    XFT_TRY(read_text(r, object, place, key, may_be_empty, &text, &s->content_size));
    s->content = copy_text(text, s->content_size);
    XFT_FAIL_IF(!s->content, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", r->file);
    return XFT_OK;
}

/* One of several words. */
static xft_status read_word(const reader *r, const json_t *object, const char *place, const char *key,
                            const char *const *words, int *index) {
    const char *found = json_string_value(json_object_get(object, key));
    for (*index = 0; words[*index]; ++*index)
        if (found && strcmp(found, words[*index]) == 0) return XFT_OK;
    if (!found) return refuse(r, place, "%s must be a string, found %s", key, type_name(json_object_get(object, key)));
    return refuse(r, place, "unknown %s \"%.100s\"", key, found);
}

/* ---- Components ---- */

static xft_status string_pattern(const reader *r, pattern *p, const char *text, size_t size) {
    p->kind = PATTERN_STRING;
    p->string = copy_text(text, size);
    p->size = size;
    XFT_FAIL_IF(!p->string, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", r->file);
    return XFT_OK;
}

/* {"String": text} or {"Regex": expression} */
static xft_status read_pattern(const reader *r, const json_t *object, const char *place, step *s) {
    char here[PLACE + 16];
    const char *text = NULL;
    size_t size = 0;
    const json_t *found = json_object_get(object, "pattern");
    snprintf(here, sizeof here, "%s.pattern", place);
    bool regex = json_object_get(found, "Regex") != NULL;
    if (json_object_size(found) != 1) return refuse(r, here, "must be {\"String\": …} or {\"Regex\": …}");
    XFT_TRY(read_text(r, found, here, regex ? "Regex" : "String", false, &text, &size));
    if (!regex) return string_pattern(r, &s->pattern, text, size);
    if (xft_pattern_compile(&s->pattern, text, size) == XFT_OK) return XFT_OK;
    return refuse(r, here, "the regular expression does not compile: \"%.200s\": %s", text, xft_error());
}

static xft_status read_nothing(const reader *r, const json_t *object, const char *place, step *s) {
    (void)r, (void)object, (void)place, (void)s;
    return XFT_OK;
}

static xft_status read_prepend(const reader *r, const json_t *object, const char *place, step *s) {
    return read_content(r, object, place, "prepend", true, s);
}

static xft_status read_replace(const reader *r, const json_t *object, const char *place, step *s) {
    XFT_TRY(read_pattern(r, object, place, s));
    return read_content(r, object, place, "content", true, s);
}

static xft_status read_byte_level(const reader *r, const json_t *object, const char *place, step *s) {
    static const char words[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    s->split = true;
    XFT_TRY(read_bool(r, object, place, "add_prefix_space", &s->prefix_space));
    XFT_TRY(read_optional_bool(r, object, place, "use_regex", &s->split));
    return xft_pattern_compile(&s->pattern, words, sizeof words - 1);
}

static xft_status read_digits(const reader *r, const json_t *object, const char *place, step *s) {
    bool individual = false;
    XFT_TRY(read_bool(r, object, place, "individual_digits", &individual));
    s->behavior = individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
    s->pattern.kind = PATTERN_NUMBER;
    return XFT_OK;
}

static xft_status read_metaspace(const reader *r, const json_t *object, const char *place, step *s) {
    static const char *const schemes[] = {
        [PREPEND_ALWAYS] = "always", [PREPEND_FIRST] = "first", [PREPEND_NEVER] = "never", NULL};
    int scheme = PREPEND_ALWAYS;
    bool add_prefix_space = true; /* the older name of "always" and "never" */
    s->split = true;
    XFT_TRY(read_content(r, object, place, "replacement", false, s));
    if (xft_utf8_length(s->content) != s->content_size)
        return refuse(r, place, "replacement must be one character, found \"%.100s\"", s->content);
    XFT_TRY(string_pattern(r, &s->pattern, s->content, s->content_size));
    if (json_object_get(object, "prepend_scheme"))
        XFT_TRY(read_word(r, object, place, "prepend_scheme", schemes, &scheme));
    XFT_TRY(read_optional_bool(r, object, place, "add_prefix_space", &add_prefix_space));
    XFT_TRY(read_optional_bool(r, object, place, "split", &s->split));
    if (!add_prefix_space && scheme == PREPEND_FIRST)
        return refuse(r, place, "add_prefix_space is false and prepend_scheme is \"first\"");
    s->scheme = add_prefix_space ? (prepend_scheme)scheme : PREPEND_NEVER;
    return XFT_OK;
}

static xft_status read_split(const reader *r, const json_t *object, const char *place, step *s) {
    static const char *const behaviors[] = {[SPLIT_REMOVED] = "Removed",
                                            [SPLIT_ISOLATED] = "Isolated",
                                            [SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
                                            [SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
                                            [SPLIT_CONTIGUOUS] = "Contiguous",
                                            NULL};
    int behavior = 0;
    XFT_TRY(read_pattern(r, object, place, s));
    XFT_TRY(read_word(r, object, place, "behavior", behaviors, &behavior));
    s->behavior = (split_behavior)behavior;
    return read_bool(r, object, place, "invert", &s->invert);
}

static xft_status read_strip(const reader *r, const json_t *object, const char *place, step *s) {
    XFT_TRY(read_content(r, object, place, "content", false, s));
    if (xft_utf8_length(s->content) != s->content_size)
        return refuse(r, place, "content must be one character, found \"%.100s\"", s->content);
    const json_t *start = json_object_get(object, "start"), *stop = json_object_get(object, "stop");
    if (!json_is_integer(start) || json_integer_value(start) < 0 || !json_is_integer(stop) ||
        json_integer_value(stop) < 0)
        return refuse(r, place, "start and stop must be whole numbers from 0 on");
    s->strip_start = (size_t)json_integer_value(start);
    s->strip_stop = (size_t)json_integer_value(stop);
    return XFT_OK;
}

/* The ids of a special token of a template go to `ids`. */
static xft_status read_template_token(const reader *r, const json_t *object, const char *place, const char *name,
                                      array *ids) {
    const json_t *token = json_object_get(json_object_get(object, "special_tokens"), name);
    const json_t *list = json_object_get(token, "ids"), *id;
    size_t i;
    if (!token) return refuse(r, place, "the template names a token that special_tokens does not define: \"%s\"", name);
    if (!json_is_array(list)) return refuse(r, place, "special_tokens: \"%s\": ids must be an array", name);
    json_array_foreach(list, i, id) {
        json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        if (value < 0 || value > UINT32_MAX || !xft_tokenizer_token(r->t, (uint32_t)value, NULL))
            return refuse(r, place, "special_tokens: \"%s\": its id is in no vocabulary", name);
        xft_array_append_u32(ids, (uint32_t)value);
    }
    return xft_array_check(ids);
}

/* What one template puts before and behind the text goes around what earlier ones put there. */
static xft_status read_template(const reader *r, const json_t *object, const char *place, step *s) {
    (void)s;
    xft_tokenizer *t = r->t;
    array before = {0};
    const json_t *single = json_object_get(object, "single"), *part;
    xft_status status = XFT_OK;
    size_t i;
    bool text = false;
    if (!json_is_array(single)) return refuse(r, place, "single must be an array, found %s", type_name(single));
    json_array_foreach(single, i, part) {
        const char *token = json_string_value(json_object_get(json_object_get(part, "SpecialToken"), "id"));
        const char *sequence = json_string_value(json_object_get(json_object_get(part, "Sequence"), "id"));
        if (token)
            status = read_template_token(r, object, place, token, text ? &t->suffix : &before);
        else if (sequence && strcmp(sequence, "A") == 0 && !text)
            text = true;
        else
            status = refuse(r, place, "single[%zu] must be a SpecialToken, or once the Sequence A", i);
        if (status != XFT_OK) goto end;
    }
    if (!text) {
        status = refuse(r, place, "single has no Sequence A");
        goto end;
    }
    xft_array_append(&before, t->prefix.data, t->prefix.size);
    XFT_TRY_GOTO(xft_array_check(&before), end);
    xft_array_free(&t->prefix);
    t->prefix = before;
    t->has_template = true;
    return XFT_OK;
end:
    xft_array_free(&before);
    return status;
}

/* The kinds of component that a file may hold, and where it lists those of a Sequence. */
enum { NORMALIZER, PRE_TOKENIZER, POST_PROCESSOR, DECODER };
static const struct {
    const char *key, *list, *name;
} stages[] = {
    [NORMALIZER] = {"normalizer", "normalizers", "normalizer"},
    [PRE_TOKENIZER] = {"pre_tokenizer", "pretokenizers", "pre-tokenizer"},
    [POST_PROCESSOR] = {"post_processor", "processors", "post-processor"},
    [DECODER] = {"decoder", "decoders", "decoder"},
};

/* A post-processor has no step: ByteLevel there changes offsets only, a template is kept as ids. */
static const struct {
    int stage;
    const char *type;
    xft_status (*read)(const reader *r, const json_t *object, const char *place, step *s);
    step_function run;
} components[] = {
    {NORMALIZER, "NFC", read_nothing, xft_normalize_nfc},
    {NORMALIZER, "Prepend", read_prepend, xft_normalize_prepend},
    {NORMALIZER, "Replace", read_replace, xft_replace_matches},
    {PRE_TOKENIZER, "ByteLevel", read_byte_level, xft_split_byte_level},
    {PRE_TOKENIZER, "Digits", read_digits, xft_split_pieces},
    {PRE_TOKENIZER, "Metaspace", read_metaspace, xft_split_metaspace},
    {PRE_TOKENIZER, "Split", read_split, xft_split_pieces},
    {POST_PROCESSOR, "ByteLevel", read_nothing, NULL},
    {POST_PROCESSOR, "TemplateProcessing", read_template, NULL},
    {DECODER, "ByteFallback", read_nothing, xft_decode_byte_fallback},
    {DECODER, "ByteLevel", read_nothing, xft_decode_byte_level},
    {DECODER, "Fuse", read_nothing, xft_decode_fuse},
    {DECODER, "Metaspace", read_metaspace, xft_decode_metaspace},
    {DECODER, "Replace", read_replace, xft_replace_matches},
    {DECODER, "Strip", read_strip, xft_decode_strip},
};

static step *add_step(step_list *list) {
    step *steps = realloc(list->steps, (list->count + 1) * sizeof *steps);
    if (!steps) return NULL;
    list->steps = steps;
    steps[list->count] = (step){0};
    return &steps[list->count++];
}

static xft_status read_component(const reader *r, int stage, const json_t *object, const char *place, int depth,
                                 step_list *list) {
    char here[PLACE];
    const char *type = json_string_value(json_object_get(object, "type"));
    snprintf(here, sizeof here, "%s.type", place);
    if (!json_is_object(object)) return refuse(r, place, "must be an object, found %s", type_name(object));
    if (!type) return refuse(r, here, "must be a string, found %s", type_name(json_object_get(object, "type")));
    if (strcmp(type, "Sequence") == 0) {
        const json_t *parts = json_object_get(object, stages[stage].list), *part;
        size_t i;
        if (!json_is_array(parts)) return refuse(r, place, "%s must be an array", stages[stage].list);
        if (depth == MAX_DEPTH) return refuse(r, place, "more than %d Sequences in each other", MAX_DEPTH);
        json_array_foreach(parts, i, part) {
            snprintf(here, sizeof here, "%.*s.%s[%zu]", PLACE - 40, place, stages[stage].list, i);
            XFT_TRY(read_component(r, stage, part, here, depth + 1, list));
        }
        return XFT_OK;
    }
    for (size_t i = 0; i < sizeof components / sizeof *components; i++) {
        if (components[i].stage != stage || strcmp(components[i].type, type) != 0) continue;
        step unused = {0}, *s = components[i].run ? add_step(list) : &unused;
        XFT_FAIL_IF(!s, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", r->file);
        s->run = components[i].run;
        return components[i].read(r, object, place, s);
    }
    return refuse(r, here, "unknown %s \"%.100s\"", stages[stage].name, type);
}

static xft_status read_stage(const reader *r, const json_t *root, int stage, step_list *list) {
    const json_t *object = json_object_get(root, stages[stage].key);
    return is_absent(object) ? XFT_OK : read_component(r, stage, object, stages[stage].key, 0, list);
}

/* ---- Model ---- */

static xft_status check_id(const reader *r, const char *place, const char *token, const json_t *id, size_t count) {
    if (!json_is_integer(id))
        return refuse(r, place, "the id of \"%.100s\" must be a whole number, found %s", token, type_name(id));
    json_int_t value = json_integer_value(id);
    if (value < 0 || value >= UINT32_MAX)
        return refuse(r, place, "the id of \"%.100s\" does not fit 32 bits: %lld", token, (long long)value);
    if ((uint64_t)value >= count + MAX_HOLES)
        return refuse(r, place, "the id of \"%.100s\" is far outside the vocabulary of %zu tokens: %lld", token, count,
                      (long long)value);
    return XFT_OK;
}

static xft_status read_vocabulary(const reader *r, json_t *model, size_t added) {
    static const char place[] = "model.vocab";
    vocabulary *v = &r->t->model.vocabulary;
    json_t *vocab = json_object_get(model, "vocab"), *id;
    const char *text;
    json_int_t greatest = 0;
    if (!json_is_object(vocab))
        return refuse(r, place, "must be an object from token to id, found %s", type_name(vocab));
    size_t count = json_object_size(vocab);
    if (count == 0) return refuse(r, place, "holds no token");
    json_object_foreach(vocab, text, id) {
        XFT_TRY(check_id(r, place, text, id, count));
        if (json_integer_value(id) > greatest) greatest = json_integer_value(id);
    }
    XFT_TRY(xft_vocabulary_reserve(v, (uint32_t)((size_t)greatest + 1 + added)));
    json_object_foreach(vocab, text, id) {
        uint32_t value = (uint32_t)json_integer_value(id);
        if (v->tokens[value].text)
            return refuse(r, place, "two tokens have the id %u: \"%.100s\" and \"%.100s\"", value,
                          v->tokens[value].text, text);
        XFT_TRY(xft_vocabulary_add(v, text, strlen(text), value));
    }
    xft_vocabulary_index_characters(v);
    return XFT_OK;
}

typedef struct merge_text {
    const char *text[2];
    size_t size[2];
} merge_text;

/* "left right" or ["left", "right"] */
static bool read_merge(const json_t *value, merge_text *m) {
    for (size_t i = 0; i < 2; i++) {
        const json_t *part = json_is_array(value) ? json_array_get(value, i) : value;
        m->text[i] = json_string_value(part);
        m->size[i] = json_string_length(part);
        if (!m->text[i]) return false;
    }
    if (json_is_array(value)) return json_array_size(value) == 2;
    const char *space = memchr(m->text[0], ' ', m->size[0]);
    if (!space) return false;
    m->text[1] = space + 1;
    m->size[1] = m->size[0] - (size_t)(space + 1 - m->text[0]);
    m->size[0] = (size_t)(space - m->text[0]);
    return memchr(m->text[1], ' ', m->size[1]) == NULL;
}

/* Bytes of a text that a message shows. */
static int shown(size_t size) {
    return size < 100 ? (int)size : 100;
}

static xft_status add_merge(const reader *r, const merge_text *m, size_t index, array *joined) {
    vocabulary *v = &r->t->model.vocabulary;
    char place[64];
    uint32_t ids[3];
    snprintf(place, sizeof place, "model.merges[%zu]", index);
    joined->size = 0;
    for (size_t i = 0; i < 2; i++) {
        xft_array_append(joined, m->text[i], m->size[i]);
        ids[i] = xft_vocabulary_find(v, m->text[i], m->size[i]);
        if (ids[i] == NO_ID)
            return refuse(r, place, "its part \"%.*s\" is not in the vocabulary", shown(m->size[i]), m->text[i]);
    }
    XFT_TRY(xft_array_check(joined));
    ids[2] = xft_vocabulary_find(v, joined->data, joined->size);
    if (ids[2] == NO_ID)
        return refuse(r, place, "its result \"%.*s\" is not in the vocabulary", shown(joined->size), joined->data);
    xft_vocabulary_add_merge(v, ids[0], ids[1], (uint32_t)index, ids[2]);
    return XFT_OK;
}

static xft_status read_merges(const reader *r, const json_t *model) {
    const json_t *merges = json_object_get(model, "merges"), *value;
    size_t i;
    if (!json_is_array(merges)) return refuse(r, "model.merges", "must be an array, found %s", type_name(merges));
    XFT_TRY(xft_vocabulary_reserve_merges(&r->t->model.vocabulary, json_array_size(merges)));
    array joined = {0};
    xft_status status = xft_array_extend(&joined, 1) ? XFT_OK : xft_array_check(&joined); /* data is never NULL */
    json_array_foreach(merges, i, value) {
        merge_text m;
        if (status != XFT_OK) break;
        if (json_is_string(value) && strncmp(json_string_value(value), "#version", 8) == 0) continue;
        char place[64];
        snprintf(place, sizeof place, "model.merges[%zu]", i);
        if (read_merge(value, &m))
            status = add_merge(r, &m, i, &joined);
        else
            status = refuse(r, place, "must be \"left right\" or [\"left\", \"right\"]");
    }
    xft_array_free(&joined);
    return status;
}

static xft_status read_model(const reader *r, json_t *model, size_t added) {
    bpe *b = &r->t->model;
    if (!json_is_object(model)) return refuse(r, "model", "must be an object, found %s", type_name(model));
    const json_t *type = json_object_get(model, "type"), *dropout = json_object_get(model, "dropout");
    const char *name = json_string_value(type);
    if (type && !name) return refuse(r, "model.type", "must be a string, found %s", type_name(type));
    if (name && strcmp(name, "BPE") != 0)
        return refuse(r, "model.type", "unsupported model type \"%.100s\"; only BPE can be loaded", name);
    if (!is_absent(dropout) && !(json_is_number(dropout) && json_number_value(dropout) == 0))
        return refuse(r, "model.dropout", "must be null: with dropout the ids of a text are random");
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *affix = json_object_get(model, affixes[i]);
        char place[64];
        snprintf(place, sizeof place, "model.%s", affixes[i]);
        if (!is_absent(affix) && !(json_is_string(affix) && json_string_length(affix) == 0))
            return refuse(r, place, "is not supported: \"%.100s\"",
                          json_is_string(affix) ? json_string_value(affix) : "");
    }
    XFT_TRY(read_optional_bool(r, model, "model", "fuse_unk", &b->fuse_unk));
    XFT_TRY(read_optional_bool(r, model, "model", "byte_fallback", &b->byte_fallback));
    XFT_TRY(read_optional_bool(r, model, "model", "ignore_merges", &b->ignore_merges));
    XFT_TRY(read_vocabulary(r, model, added));
    XFT_TRY(read_merges(r, model));
    const json_t *unk = json_object_get(model, "unk_token");
    b->unk = NO_ID;
    if (is_absent(unk)) return XFT_OK;
    if (!json_is_string(unk)) return refuse(r, "model.unk_token", "must be a string, found %s", type_name(unk));
    b->unk = xft_vocabulary_find(&b->vocabulary, json_string_value(unk), json_string_length(unk));
    if (b->unk == NO_ID)
        return refuse(r, "model.unk_token", "\"%.100s\" is not in the vocabulary", json_string_value(unk));
    return XFT_OK;
}

/* ---- Added tokens ---- */

/* The id is the vocabulary's or the next free one, as the reference counts them; a file that says otherwise is
 * ambiguous. */
static xft_status read_added_token(const reader *r, const json_t *object, const char *place, uint32_t *next_free,
                                   added_token *a) {
    vocabulary *v = &r->t->model.vocabulary;
    const char *text = NULL;
    size_t size = 0;
    char here[80];
    snprintf(here, sizeof here, "%s.id", place);
    if (!json_is_object(object)) return refuse(r, place, "must be an object, found %s", type_name(object));
    XFT_TRY(read_text(r, object, place, "content", false, &text, &size));
    XFT_TRY(read_bool(r, object, place, "single_word", &a->single_word));
    XFT_TRY(read_bool(r, object, place, "lstrip", &a->lstrip));
    XFT_TRY(read_bool(r, object, place, "rstrip", &a->rstrip));
    XFT_TRY(read_bool(r, object, place, "normalized", &a->normalized));
    XFT_TRY(read_bool(r, object, place, "special", &a->special));
    a->id = xft_vocabulary_find(v, text, size);
    bool is_new = a->id == NO_ID;
    if (is_new) a->id = *next_free;
    const json_t *id = json_object_get(object, "id");
    XFT_TRY(check_id(r, here, text, id, v->room));
    if (json_integer_value(id) != a->id)
        return refuse(r, here, "\"%.100s\" has the id %lld; %s is %u", text, (long long)json_integer_value(id),
                      is_new ? "the next free one" : "that of the vocabulary", a->id);
    if (is_new && v->tokens[a->id].text)
        return refuse(r, here, "\"%.100s\" and \"%.100s\" have the same id %u", text, v->tokens[a->id].text, a->id);
    if (is_new) {
        XFT_TRY(xft_vocabulary_add(v, text, size, a->id));
        v->tokens[a->id].outside_model = true;
    }
    if (a->id >= *next_free) *next_free = a->id + 1;
    if (a->special) v->tokens[a->id].special = true;
    return XFT_OK;
}

/* A token that is looked for in normalized text goes through the normalizer itself. */
static xft_status put_added_token(const reader *r, const char *place, const added_token *a, work *w) {
    xft_tokenizer *t = r->t;
    const token *token = &t->model.vocabulary.tokens[a->id];
    if (!a->normalized) {
        xft_added_tree_put(&t->raw, token->text, token->size, a);
        return XFT_OK;
    }
    xft_work_set(w, token->text, token->size, true);
    XFT_TRY(xft_step_list_run(&t->normalizers, w));
    if (w->text.size == 0) return refuse(r, place, "the normalizer leaves nothing of \"%.100s\"", token->text);
    xft_added_tree_put(&t->normalized, w->text.data, w->text.size, a);
    return XFT_OK;
}

static xft_status read_added_tokens(const reader *r, const json_t *list, size_t vocabulary_count) {
    xft_tokenizer *t = r->t;
    const json_t *object;
    size_t i, count = json_array_size(list);
    uint32_t next_free = (uint32_t)vocabulary_count;
    char place[64];
    work w;
    added_token *all = calloc(count ? count : 1, sizeof *all);
    XFT_FAIL_IF(!all, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for %zu added tokens", r->file, count);
    xft_status status = xft_work_begin(&w);
    json_array_foreach(list, i, object) {
        snprintf(place, sizeof place, "added_tokens[%zu]", i);
        if (status == XFT_OK) status = read_added_token(r, object, place, &next_free, &all[i]);
    }
    /* Of two tokens that look alike, a special one comes first. */
    for (int special = 1; special >= 0; special--)
        for (i = 0; i < count && status == XFT_OK; i++) {
            snprintf(place, sizeof place, "added_tokens[%zu].content", i);
            if (all[i].special == special) status = put_added_token(r, place, &all[i], &w);
        }
    const array *arrays[] = {&t->raw.nodes, &t->raw.tokens, &t->normalized.nodes, &t->normalized.tokens};
    for (i = 0; i < 4 && status == XFT_OK; i++) status = xft_array_check(arrays[i]);
    xft_work_end(&w);
    free(all);
    return status;
}

/* ---- tokenizer.json ---- */

static xft_status read_root(const reader *r, json_t *root) {
    xft_tokenizer *t = r->t;
    const json_t *version = json_object_get(root, "version"), *added = json_object_get(root, "added_tokens");
    json_t *model = json_object_get(root, "model");
    if (!is_absent(version) && !(json_is_string(version) && strcmp(json_string_value(version), "1.0") == 0))
        return refuse(r, "version", "must be \"1.0\"");
    if (!is_absent(added) && !json_is_array(added))
        return refuse(r, "added_tokens", "must be an array, found %s", type_name(added));
    XFT_TRY(read_model(r, model, json_array_size(added)));
    XFT_TRY(read_stage(r, root, NORMALIZER, &t->normalizers));
    XFT_TRY(read_stage(r, root, PRE_TOKENIZER, &t->pre_tokenizers));
    XFT_TRY(read_stage(r, root, DECODER, &t->decoders));
    XFT_TRY(read_added_tokens(r, added, json_object_size(json_object_get(model, "vocab"))));
    XFT_TRY(read_stage(r, root, POST_PROCESSOR, NULL));
    if (!is_absent(json_object_get(root, "decoder"))) return XFT_OK;
    step *join = add_step(&t->decoders);
    XFT_FAIL_IF(!join, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", r->file);
    join->run = xft_decode_join;
    return XFT_OK;
}

xft_status xft_tokenizer_read(xft_tokenizer *t, const char *json, size_t bytes, const char *file) {
    reader r = {t, file};
    json_t *root;
    for (int role = 0; role < XFT_TOKEN_ROLE_COUNT; role++) t->roles[role] = NO_ID;
    XFT_TRY(parse(&r, json, bytes, &root));
    xft_status status = read_root(&r, root);
    json_decref(root);
    return status;
}

/* ---- tokenizer_config.json ---- */

static xft_status read_role(const reader *r, const json_t *root, const char *key, uint32_t *id) {
    const json_t *value = json_object_get(root, key);
    if (is_absent(value)) return XFT_OK;
    if (json_is_object(value)) value = json_object_get(value, "content");
    if (!json_is_string(value)) return refuse(r, key, "must be a token, found %s", type_name(value));
    *id = xft_vocabulary_find(&r->t->model.vocabulary, json_string_value(value), json_string_length(value));
    if (*id == NO_ID) return refuse(r, key, "\"%.100s\" is no token of tokenizer.json", json_string_value(value));
    return XFT_OK;
}

static xft_status read_around(const reader *r, const json_t *root, const char *key, xft_token_role role, array *ids) {
    bool add = false;
    XFT_TRY(read_optional_bool(r, root, key, key, &add));
    if (!add || r->t->has_template) return XFT_OK;
    if (r->t->roles[role] == NO_ID) return refuse(r, key, "is true, but no such token is named");
    xft_array_append_u32(ids, r->t->roles[role]);
    return xft_array_check(ids);
}

/* A string, or an array of {"name": …, "template": …}. */
static xft_status read_chat_template(const reader *r, const json_t *root) {
    const json_t *value = json_object_get(root, "chat_template"), *item;
    size_t i;
    if (is_absent(value)) return XFT_OK;
    if (json_is_array(value)) {
        const json_t *all = value;
        value = NULL;
        json_array_foreach(all, i, item) {
            const char *name = json_string_value(json_object_get(item, "name"));
            if (name && strcmp(name, "default") == 0) value = json_object_get(item, "template");
        }
        if (!value) return XFT_OK;
    }
    if (!json_is_string(value)) return refuse(r, "chat_template", "must be a string, found %s", type_name(value));
    r->t->chat_template = copy_text(json_string_value(value), json_string_length(value));
    XFT_FAIL_IF(!r->t->chat_template, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", r->file);
    return XFT_OK;
}

xft_status xft_tokenizer_read_config(xft_tokenizer *t, const char *json, size_t bytes, const char *file) {
    static const char *const keys[XFT_TOKEN_ROLE_COUNT] = {[XFT_TOKEN_BOS] = "bos_token",
                                                           [XFT_TOKEN_EOS] = "eos_token",
                                                           [XFT_TOKEN_UNK] = "unk_token",
                                                           [XFT_TOKEN_PAD] = "pad_token"};
    reader r = {t, file};
    json_t *root;
    XFT_TRY(parse(&r, json, bytes, &root));
    xft_status status = XFT_OK;
    for (int role = 0; role < XFT_TOKEN_ROLE_COUNT && status == XFT_OK; role++)
        status = read_role(&r, root, keys[role], &t->roles[role]);
    if (status == XFT_OK) status = read_around(&r, root, "add_bos_token", XFT_TOKEN_BOS, &t->prefix);
    if (status == XFT_OK) status = read_around(&r, root, "add_eos_token", XFT_TOKEN_EOS, &t->suffix);
    if (status == XFT_OK) status = read_chat_template(&r, root);
    json_decref(root);
    return status;
}
