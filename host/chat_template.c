/* Prompt templates: how messages become one text, and which part of it is an answer. */
#include "dataset.h"
#include "error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Around the content of a message. `begin` of the assistant is the end of the prompt; `end` is learned with the answer
 * (NULL: the tokenizer's EOS); `next` stands between it and a further message. */
struct xft_chat_template {
    const char *name;
    bool bos, trim;     /* trim: white space around contents is dropped */
    const char *system; /* where messages name none */
    struct {
        const char *begin, *end;
    } parts[3]; /* by xft_chat_role */
    const char *next;
    const char *stop;      /* the token that ends an answer; NULL: EOS */
    const char *needed[4]; /* tokens that must be single ones */
};

static const xft_chat_template templates[] = {
    {.name = "magicoder",
     .bos = true,
     .system = "You are an exceptionally intelligent coding assistant that consistently delivers accurate and reliable "
               "responses to user instructions.",
     .parts = {{"", "\n\n"}, {"@@ Instruction\n", "\n\n"}, {"@@ Response\n", NULL}},
     .next = "\n\n"},
    {.name = "chatml",
     .parts = {{"<|im_start|>system\n", "<|im_end|>\n"},
               {"<|im_start|>user\n", "<|im_end|>\n"},
               {"<|im_start|>assistant\n", "<|im_end|>"}},
     .next = "\n",
     .stop = "<|im_end|>",
     .needed = {"<|im_start|>", "<|im_end|>"}},
    {.name = "llama3",
     .bos = true,
     .trim = true,
     .parts = {{"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"},
               {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"},
               {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"}},
     .next = "",
     .stop = "<|eot_id|>",
     .needed = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}},
    {.name = "deepseek-coder",
     .bos = true,
     .system = "You are an AI programming assistant, utilizing the Deepseek Coder model, developed by Deepseek "
               "Company, and you only answer questions related to computer science. For politically sensitive "
               "questions, security and privacy issues, and other non-computer science questions, you will refuse to "
               "answer\n",
     .parts = {{"", ""}, {"### Instruction:\n", "\n"}, {"### Response:\n", "\n<|EOT|>"}},
     .next = "\n",
     .stop = "<|EOT|>",
     .needed = {"<|EOT|>"}},
};
enum { TEMPLATES = sizeof templates / sizeof *templates };

const char *xft_template_name(uint32_t index) {
    return index < TEMPLATES ? templates[index].name : NULL;
}

xft_status xft_template_find(const char *name, const xft_chat_template **found) {
    char known[128] = "";
    for (size_t i = 0, at = 0; i < TEMPLATES; i++) {
        if (!strcmp(name ? name : templates[0].name, templates[i].name)) {
            *found = &templates[i];
            return XFT_OK;
        }
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", templates[i].name);
    }
    return xft_fail(XFT_ERROR_INVALID_ARGUMENT, "template \"%s\" is unknown; there are %s", name, known);
}

static xft_status check_tokens(const xft_chat_template *t, const xft_tokenizer *tokenizer, uint32_t *stop) {
    for (size_t i = 0; i < sizeof t->needed / sizeof *t->needed && t->needed[i]; i++)
        XFT_FAIL_IF(!xft_tokenizer_find(tokenizer, t->needed[i], strlen(t->needed[i]), NULL), XFT_ERROR_FORMAT,
                    "template %s needs the token %s, which this model's tokenizer does not have", t->name,
                    t->needed[i]);
    bool there = t->stop ? xft_tokenizer_find(tokenizer, t->stop, strlen(t->stop), stop)
                         : xft_tokenizer_role(tokenizer, XFT_TOKEN_EOS, stop);
    XFT_FAIL_IF(!there, XFT_ERROR_FORMAT, "template %s: tokenizer_config.json names no eos_token to end an answer with",
                t->name);
    return XFT_OK;
}

xft_status xft_template_check(const char *name, const xft_tokenizer *tokenizer, uint32_t *stop) {
    const xft_chat_template *t;
    uint32_t unused;
    XFT_FAIL_IF(!tokenizer, XFT_ERROR_INVALID_ARGUMENT, "xft_template_check: tokenizer must not be NULL");
    XFT_TRY(xft_template_find(name, &t));
    return check_tokens(t, tokenizer, stop ? stop : &unused);
}

/* ---- Encoding ---- */

void xft_append_bos(const xft_tokenizer *tokenizer, array *tokens) {
    uint32_t bos;
    if (xft_tokenizer_role(tokenizer, XFT_TOKEN_BOS, &bos)) xft_array_append_u32(tokens, bos);
}

xft_status xft_append_text(const xft_tokenizer *tokenizer, const char *text, size_t bytes, uint32_t label,
                           array *tokens) {
    uint32_t *ids;
    size_t count;
    XFT_TRY(xft_tokenizer_encode(tokenizer, text, bytes, false, &ids, &count));
    for (size_t i = 0; i < count; i++) xft_array_append_u32(tokens, ids[i] | label);
    free(ids);
    return XFT_OK;
}

static void append_string(array *text, const char *string) {
    xft_array_append(text, string, strlen(string));
}

static void append_content(const xft_chat_template *t, const xft_chat_message *m, array *text) {
    size_t begin = 0, end = m->bytes;
    while (t->trim && begin < end && strchr(" \t\r\n\v\f", m->content[begin]) && m->content[begin]) begin++;
    while (t->trim && begin < end && strchr(" \t\r\n\v\f", m->content[end - 1]) && m->content[end - 1]) end--;
    xft_array_append(text, m->content + begin, end - begin);
}

static void append_system(const xft_chat_template *t, const char *system, array *text) {
    append_string(text, t->parts[XFT_ROLE_SYSTEM].begin);
    append_string(text, system);
    append_string(text, t->parts[XFT_ROLE_SYSTEM].end);
}

/* Prompts and answers are texts of their own: no token reaches over the border between them. */
static xft_status append_answer(const xft_chat_template *t, const xft_tokenizer *tokenizer, const xft_chat_message *m,
                                array *text, array *tokens) {
    XFT_TRY(xft_append_text(tokenizer, text->data, text->size, 0, tokens));
    text->size = 0;
    append_content(t, m, text);
    if (t->parts[XFT_ROLE_ASSISTANT].end) append_string(text, t->parts[XFT_ROLE_ASSISTANT].end);
    XFT_TRY(xft_append_text(tokenizer, text->data, text->size, TOKEN_LABEL, tokens));
    uint32_t eos;
    if (!t->stop && xft_tokenizer_role(tokenizer, XFT_TOKEN_EOS, &eos)) xft_array_append_u32(tokens, eos | TOKEN_LABEL);
    text->size = 0;
    append_string(text, t->next);
    return XFT_OK;
}

xft_status xft_template_encode(const xft_chat_template *t, const xft_tokenizer *tokenizer,
                               const xft_chat_message *messages, uint32_t count, array *text, array *tokens) {
    text->size = 0;
    if (t->bos) xft_append_bos(tokenizer, tokens);
    if (t->system && (!count || messages[0].role != XFT_ROLE_SYSTEM)) append_system(t, t->system, text);
    for (uint32_t i = 0; i < count; i++) {
        const xft_chat_message *m = &messages[i];
        append_string(text, t->parts[m->role].begin);
        if (m->role == XFT_ROLE_ASSISTANT) {
            XFT_TRY(append_answer(t, tokenizer, m, text, tokens));
            continue;
        }
        append_content(t, m, text);
        append_string(text, t->parts[m->role].end);
    }
    XFT_FAIL_IF(text->failed || tokens->failed, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u messages", count);
    return XFT_OK;
}

xft_status xft_template_prompt(const char *name, const xft_tokenizer *tokenizer, const xft_chat_message *messages,
                               uint32_t message_count, const char *begun, uint32_t **ids, size_t *count) {
    XFT_NEED(tokenizer, ids, count);
    XFT_FAIL_IF(!messages && message_count, XFT_ERROR_INVALID_ARGUMENT, "xft_template_prompt: messages is NULL, of %u",
                message_count);
    const xft_chat_template *t;
    uint32_t stop;
    *ids = NULL;
    *count = 0;
    XFT_TRY(xft_template_find(name, &t));
    XFT_TRY(check_tokens(t, tokenizer, &stop));
    for (uint32_t i = 0; i < message_count; i++)
        XFT_FAIL_IF((unsigned)messages[i].role > XFT_ROLE_ASSISTANT || !messages[i].content ||
                        (messages[i].role == XFT_ROLE_SYSTEM && i),
                    XFT_ERROR_INVALID_ARGUMENT,
                    "xft_template_prompt: message %u: role %d; a system message must be the first, content not NULL", i,
                    (int)messages[i].role);
    XFT_FAIL_IF(!message_count || messages[message_count - 1].role != XFT_ROLE_USER, XFT_ERROR_INVALID_ARGUMENT,
                "xft_template_prompt: the last of %u messages must be a user's", message_count);
    array text = {0}, tokens = {0};
    xft_status status = xft_template_encode(t, tokenizer, messages, message_count, &text, &tokens);
    append_string(&text, t->parts[XFT_ROLE_ASSISTANT].begin);
    if (begun) append_string(&text, begun);
    if (status == XFT_OK) status = xft_append_text(tokenizer, text.data, text.size, 0, &tokens);
    if (status == XFT_OK && (text.failed || tokens.failed))
        status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a prompt of %zu bytes", text.size);
    xft_array_free(&text);
    if (status != XFT_OK) {
        xft_array_free(&tokens);
        return status;
    }
    *ids = (uint32_t *)(void *)tokens.data;
    *count = tokens.size / sizeof **ids;
    for (size_t i = 0; i < *count; i++) (*ids)[i] &= ~TOKEN_LABEL; /* of answers further up */
    return XFT_OK;
}
