#include "tokenizer/tokenizer.h"

#include "error.h"

#include <stdlib.h>
#include <string.h>

/* Escapes that mean other characters in Oniguruma than in PCRE2, as contents of a class. PCRE2's \s takes U+180E too,
 * its \w lacks marks, its \h is a space where Oniguruma's is a hexadecimal digit. */
static const struct {
    char letter, negated;
    const char *content;
} classes[] = {
    {'s', 'S', "\\t-\\r\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"},
    {'w', 'W', "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}"},
    {'h', 'H', "0-9a-fA-F"},
};

static void append_string(array *a, const char *text) {
    xft_array_append(a, text, strlen(text));
}

/* "\c" as PCRE2 should read it. */
static xft_status translate_escape(array *out, char c, bool in_class) {
    for (size_t k = 0; k < sizeof classes / sizeof *classes; k++) {
        bool negated = c == classes[k].negated;
        if (c != classes[k].letter && !negated) continue;
        /* A class has no room for the complement of another; PCRE2's own \S differs in U+180E only. */
        if (in_class && negated && c == 'S') break;
        XFT_FAIL_IF(in_class && negated, XFT_ERROR_FORMAT, "\\%c inside [] is not supported", c);
        if (!in_class) append_string(out, negated ? "[^" : "[");
        append_string(out, classes[k].content);
        if (!in_class) append_string(out, "]");
        return XFT_OK;
    }
    xft_array_append(out, "\\", 1);
    xft_array_append(out, &c, 1);
    return XFT_OK;
}

/* Inside [ ]: Oniguruma has classes in classes and intersections, which PCRE2 would take for plain characters. Moves *i
 * to the last character of [:name:]. */
static xft_status check_class(const char *regex, size_t size, size_t *i) {
    size_t left = size - *i;
    XFT_FAIL_IF(left > 1 && !memcmp(regex + *i, "&&", 2), XFT_ERROR_FORMAT, "&& inside [] is not supported");
    if (regex[*i] != '[') return XFT_OK;
    const char *end = left > 1 && regex[*i + 1] == ':' ? memmem(regex + *i, left, ":]", 2) : NULL;
    XFT_FAIL_IF(!end, XFT_ERROR_FORMAT, "a class inside [] is not supported");
    *i = (size_t)(end + 1 - regex);
    return XFT_OK;
}

static xft_status translate(array *out, const char *regex, size_t size) {
    bool in_class = false;
    for (size_t i = 0, first = 0; i < size; i++) {
        size_t start = i;
        if (regex[i] == '\\' && i + 1 < size) {
            XFT_TRY(translate_escape(out, regex[++i], in_class));
        } else if (in_class) {
            if (regex[i] == ']' && i > first) in_class = false;
            XFT_TRY(check_class(regex, size, &i));
            xft_array_append(out, regex + start, i + 1 - start);
        } else if (regex[i] == '(' && i + 1 < size && regex[i + 1] == '?') {
            /* The option that lets . match line ends is called m there and s here. */
            for (i++; i + 1 < size && regex[i + 1] && strchr("imx-", regex[i + 1]); i++) {
            }
            for (; start <= i; start++) xft_array_append(out, regex[start] == 'm' ? "s" : regex + start, 1);
        } else {
            in_class = regex[i] == '[';
            first = i + 1 + (in_class && i + 1 < size && regex[i + 1] == '^');
            xft_array_append(out, regex + i, 1);
        }
    }
    return xft_array_check(out);
}

xft_status xft_pattern_compile(pattern *p, const char *regex, size_t size) {
    array text = {0};
    xft_status status = translate(&text, regex, size);
    pcre2_compile_context *context = status == XFT_OK ? pcre2_compile_context_create(NULL) : NULL;
    if (context) {
        int code;
        PCRE2_SIZE at;
        PCRE2_UCHAR words[128];
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        p->kind = PATTERN_REGEX;
        p->regex = pcre2_compile((PCRE2_SPTR)(text.data ? text.data : ""), text.size,
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code, &at, context);
        if (!p->regex) {
            pcre2_get_error_message(code, words, sizeof words);
            status = xft_fail(XFT_ERROR_FORMAT, "%s", (char *)words);
        } else
            pcre2_jit_compile(p->regex, PCRE2_JIT_COMPLETE); /* where there is none, the interpreter serves */
    } else if (status == XFT_OK)
        status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a regular expression");
    pcre2_compile_context_free(context);
    xft_array_free(&text);
    return status;
}

void xft_pattern_free(pattern *p) {
    free(p->string);
    pcre2_code_free(p->regex);
    *p = (pattern){0};
}

search xft_search_begin(const char *text, size_t size, pcre2_match_data *match) {
    return (search){.text = text, .size = size, .last_end = SIZE_MAX, .match = match};
}

static bool next_string(const pattern *p, search *s, size_t *start, size_t *end) {
    const char *at =
        s->size > s->position ? memmem(s->text + s->position, s->size - s->position, p->string, p->size) : NULL;
    if (!at) return false;
    *start = (size_t)(at - s->text);
    s->position = *end = *start + p->size;
    return true;
}

static bool next_number(search *s, size_t *start, size_t *end) {
    while (s->position < s->size) {
        size_t length;
        uint32_t character = xft_utf8_read(s->text + s->position, &length);
        *start = s->position;
        s->position = *end = *start + length;
        if (xft_is_number(character)) return true;
    }
    return false;
}

/* An empty match right behind the match before it does not count: the search moves on by a character. */
static xft_status next_regex(const pattern *p, search *s, bool *found, size_t *start, size_t *end) {
    for (*found = false; s->position <= s->size;) {
        PCRE2_SPTR text = (PCRE2_SPTR)s->text;
        int code = pcre2_match(p->regex, text, s->size, s->position, PCRE2_NO_UTF_CHECK, s->match, NULL);
        if (code == PCRE2_ERROR_JIT_STACKLIMIT)
            code = pcre2_match(p->regex, text, s->size, s->position, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->match, NULL);
        if (code == PCRE2_ERROR_NOMATCH) {
            s->position = s->size + 1;
            return XFT_OK;
        }
        if (code < 0) {
            PCRE2_UCHAR words[128];
            pcre2_get_error_message(code, words, sizeof words);
            return xft_fail(XFT_ERROR_UNSUPPORTED, "a regular expression of the tokenizer fails on %zu bytes: %s",
                            s->size, (char *)words);
        }
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(s->match);
        *start = range[0] < range[1] ? range[0] : range[1]; /* \K in a lookahead may swap them */
        *end = range[1];
        if (*start == *end && *end == s->last_end) {
            s->position = *end + (*end < s->size ? xft_utf8_length(s->text + *end) : 1);
            continue;
        }
        s->position = s->last_end = *end;
        *found = true;
        return XFT_OK;
    }
    return XFT_OK;
}

xft_status xft_pattern_next(const pattern *p, search *s, bool *found, size_t *start, size_t *end) {
    if (p->kind == PATTERN_REGEX) return next_regex(p, s, found, start, end);
    *found = p->kind == PATTERN_STRING ? next_string(p, s, start, end) : next_number(s, start, end);
    return XFT_OK;
}
