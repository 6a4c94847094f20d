#include "xft/tokenizer.h"

#include "error.h"
#include "files.h"
#include "model_folder.h"
#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Loading ---- */

xft_status xft_tokenizer_parse(const char *json, size_t json_bytes, const char *config, size_t config_bytes,
                               const char *name, xft_tokenizer **tokenizer) {
    XFT_NEED(json, name, tokenizer);
    char file[768];
    xft_tokenizer *t = *tokenizer = NULL;
    t = calloc(1, sizeof *t);
    XFT_FAIL_IF(!t, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a tokenizer");
    snprintf(file, sizeof file, "%stokenizer.json", name);
    xft_status status = xft_tokenizer_read(t, json, json_bytes, file);
    snprintf(file, sizeof file, "%stokenizer_config.json", name);
    if (status == XFT_OK && config) status = xft_tokenizer_read_config(t, config, config_bytes, file);
    if (status != XFT_OK)
        xft_tokenizer_free(t);
    else
        *tokenizer = t;
    return status;
}

xft_status xft_tokenizer_load(const char *folder, xft_tokenizer **tokenizer) {
    XFT_NEED(folder, tokenizer);
    *tokenizer = NULL;
    char path[768], name[600];
    XFT_FAIL_IF((size_t)snprintf(name, sizeof name, "%s/", folder) >= sizeof name, XFT_ERROR_INVALID_ARGUMENT,
                "folder name of %zu bytes is too long", strlen(folder));
    char *json = NULL, *config = NULL;
    size_t json_bytes = 0, config_bytes = 0;
    XFT_TRY(xft_model_settle(folder));
    snprintf(path, sizeof path, "%stokenizer.json", name);
    xft_status status = xft_read_file(path, &json, &json_bytes);
    snprintf(path, sizeof path, "%stokenizer_config.json", name);
    if (status == XFT_OK && access(path, F_OK) == 0) status = xft_read_file(path, &config, &config_bytes);
    if (status == XFT_OK) status = xft_tokenizer_parse(json, json_bytes, config, config_bytes, name, tokenizer);
    free(json);
    free(config);
    return status;
}

void xft_tokenizer_free(xft_tokenizer *t) {
    if (!t) return;
    xft_vocabulary_free(&t->model.vocabulary);
    xft_added_tree_free(&t->raw);
    xft_added_tree_free(&t->normalized);
    xft_step_list_free(&t->normalizers);
    xft_step_list_free(&t->pre_tokenizers);
    xft_step_list_free(&t->decoders);
    xft_array_free(&t->prefix);
    xft_array_free(&t->suffix);
    free(t->chat_template);
    free(t);
}

/* ---- Encoding ---- */

typedef struct encoder {
    const xft_tokenizer *t;
    work normal, split; /* the stretch between added tokens, normalized; a part of it, in pieces */
    bpe_work merging;
    bool first; /* the stretch is the start of the text */
    array ids;
} encoder;

/* Ids of normalized text without added tokens. */
static xft_status encode_plain(encoder *e, const char *text, size_t size, bool first) {
    size_t count;
    xft_work_set(&e->split, text, size, first);
    XFT_TRY(xft_step_list_run(&e->t->pre_tokenizers, &e->split));
    const piece *p = xft_work_pieces(&e->split, &count);
    for (size_t i = 0; i < count; i++)
        XFT_TRY(
            xft_bpe_encode(&e->t->model, &e->merging, e->split.text.data + p[i].start, p[i].end - p[i].start, &e->ids));
    return XFT_OK;
}

static xft_status found_normalized(void *user, const char *text, size_t start, size_t end, const added_token *token) {
    encoder *e = user;
    if (!token) return encode_plain(e, text + start, end - start, e->first && start == 0);
    xft_array_append_u32(&e->ids, token->id);
    return XFT_OK;
}

static xft_status found_raw(void *user, const char *text, size_t start, size_t end, const added_token *token) {
    encoder *e = user;
    if (token) {
        xft_array_append_u32(&e->ids, token->id);
        return XFT_OK;
    }
    e->first = start == 0;
    if (e->t->normalizers.count == 0)
        return xft_added_tree_scan(&e->t->normalized, text + start, end - start, found_normalized, e);
    xft_work_set(&e->normal, text + start, end - start, e->first);
    XFT_TRY(xft_step_list_run(&e->t->normalizers, &e->normal));
    return xft_added_tree_scan(&e->t->normalized, e->normal.text.data, e->normal.text.size, found_normalized, e);
}

static xft_status encode(encoder *e, const char *text, size_t bytes, bool add_special) {
    if (add_special) xft_array_append(&e->ids, e->t->prefix.data, e->t->prefix.size);
    XFT_TRY(xft_added_tree_scan(&e->t->raw, text, bytes, found_raw, e));
    if (add_special) xft_array_append(&e->ids, e->t->suffix.data, e->t->suffix.size);
    if (!e->ids.data && xft_array_extend(&e->ids, 1)) e->ids.size = 0; /* data is never NULL */
    return xft_array_check(&e->ids);
}

xft_status xft_tokenizer_encode(const xft_tokenizer *t, const char *text, size_t bytes, bool add_special,
                                uint32_t **ids, size_t *count) {
    XFT_FAIL_IF(!t, XFT_ERROR_INVALID_ARGUMENT, "xft_tokenizer_encode: tokenizer is NULL");
    XFT_FAIL_IF(!text && bytes, XFT_ERROR_INVALID_ARGUMENT, "xft_tokenizer_encode: text is NULL, of %zu bytes", bytes);
    XFT_NEED(ids, count);
    *ids = NULL;
    *count = 0;
    size_t bad, good = xft_utf8_valid(text, bytes, &bad);
    XFT_FAIL_IF(bad, XFT_ERROR_FORMAT, "the text is no UTF-8: byte 0x%02x at offset %zu", (uint8_t)text[good], good);
    encoder e = {.t = t};
    xft_status status = xft_work_begin(&e.normal);
    if (status == XFT_OK) status = xft_work_begin(&e.split);
    if (status == XFT_OK) status = encode(&e, text, bytes, add_special);
    if (status == XFT_OK) {
        *ids = (uint32_t *)(void *)e.ids.data;
        *count = e.ids.size / sizeof **ids;
    } else
        xft_array_free(&e.ids);
    xft_work_end(&e.normal);
    xft_work_end(&e.split);
    xft_array_free(&e.merging.symbols);
    xft_array_free(&e.merging.queue);
    return status;
}

/* ---- Decoding ---- */

static xft_status decode(const xft_tokenizer *t, const uint32_t *ids, size_t count, bool skip_special, work *w) {
    for (size_t i = 0; i < count; i++) {
        size_t size, start = w->text.size;
        const char *token = xft_tokenizer_token(t, ids[i], &size);
        if (!token || (skip_special && xft_tokenizer_is_special(t, ids[i]))) continue;
        xft_array_append(&w->text, token, size);
        xft_work_add_piece(&w->pieces, start, start + size, false);
    }
    XFT_TRY(xft_step_list_run(&t->decoders, w));
    xft_array_append(&w->text, "", 1);
    return xft_array_check(&w->text);
}

xft_status xft_tokenizer_decode(const xft_tokenizer *t, const uint32_t *ids, size_t count, bool skip_special,
                                char **text, size_t *bytes) {
    XFT_FAIL_IF(!t, XFT_ERROR_INVALID_ARGUMENT, "xft_tokenizer_decode: tokenizer is NULL");
    XFT_FAIL_IF(!ids && count, XFT_ERROR_INVALID_ARGUMENT, "xft_tokenizer_decode: ids is NULL, of %zu", count);
    XFT_NEED(text);
    *text = NULL;
    work w;
    xft_status status = xft_work_begin(&w);
    if (status == XFT_OK) status = decode(t, ids, count, skip_special, &w);
    if (status == XFT_OK) {
        *text = w.text.data;
        if (bytes) *bytes = w.text.size - 1;
        w.text = (array){0};
    }
    xft_work_end(&w);
    return status;
}

/* ---- Tokens ---- */

uint32_t xft_tokenizer_size(const xft_tokenizer *t) {
    return t ? t->model.vocabulary.size : 0;
}

const char *xft_tokenizer_token(const xft_tokenizer *t, uint32_t id, size_t *bytes) {
    if (!t || id >= t->model.vocabulary.size) return NULL;
    const token *token = &t->model.vocabulary.tokens[id];
    if (bytes) *bytes = token->size;
    return token->text;
}

bool xft_tokenizer_find(const xft_tokenizer *t, const char *token, size_t bytes, uint32_t *id) {
    uint32_t found = t && (token || !bytes) ? xft_vocabulary_find(&t->model.vocabulary, token, bytes) : NO_ID;
    if (found != NO_ID && id) *id = found;
    return found != NO_ID;
}

bool xft_tokenizer_is_special(const xft_tokenizer *t, uint32_t id) {
    return t && id < t->model.vocabulary.size && t->model.vocabulary.tokens[id].special;
}

bool xft_tokenizer_role(const xft_tokenizer *t, xft_token_role role, uint32_t *id) {
    if (!t || (unsigned)role >= XFT_TOKEN_ROLE_COUNT || t->roles[role] == NO_ID) return false;
    if (id) *id = t->roles[role];
    return true;
}

const char *xft_tokenizer_chat_template(const xft_tokenizer *t) {
    return t ? t->chat_template : NULL;
}
