#include "tokenizer/tokenizer.h"

#include "error.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- Text and pieces at work ---- */

xft_status xft_work_begin(work *w) {
    *w = (work){.match = pcre2_match_data_create(1, NULL)};
    XFT_FAIL_IF(!w->match, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory to match a regular expression");
    return XFT_OK;
}

void xft_work_end(work *w) {
    xft_array_free(&w->text);
    xft_array_free(&w->pieces);
    xft_array_free(&w->next_text);
    xft_array_free(&w->next_pieces);
    pcre2_match_data_free(w->match);
}

void xft_work_add_piece(array *pieces, size_t start, size_t end, bool first) {
    xft_array_append(pieces, &(piece){start, end, first}, sizeof(piece));
}

void xft_work_set(work *w, const char *text, size_t size, bool first) {
    w->text.size = w->pieces.size = 0;
    xft_array_append(&w->text, text, size);
    xft_work_add_piece(&w->pieces, 0, size, first);
}

static piece *pieces_of(const array *a, size_t *count) {
    *count = a->size / sizeof(piece);
    return (piece *)(void *)a->data;
}

const piece *xft_work_pieces(const work *w, size_t *count) {
    return pieces_of(&w->pieces, count);
}

static void swap(array *a, array *b) {
    array old = *a;
    *a = *b;
    *b = old;
    b->size = 0;
}

static xft_status next_pieces(work *w) {
    swap(&w->pieces, &w->next_pieces);
    return xft_array_check(&w->pieces);
}

/* Compiled regular expressions read whole vectors, past the end of the text: there should be something there. With this
 * a text is never NULL, too. */
static xft_status pad(array *text) {
    enum { PADDING = 32 };
    void *end = xft_array_extend(text, PADDING);
    if (end) {
        memset(end, 0, PADDING);
        text->size -= PADDING;
    }
    return xft_array_check(text);
}

xft_status xft_work_next(work *w) {
    swap(&w->text, &w->next_text);
    XFT_TRY(pad(&w->text));
    return next_pieces(w);
}

xft_status xft_step_list_run(const step_list *list, work *w) {
    XFT_TRY(pad(&w->text));
    XFT_TRY(xft_array_check(&w->pieces));
    for (size_t i = 0; i < list->count; i++) XFT_TRY(list->steps[i].run(&list->steps[i], w));
    return XFT_OK;
}

void xft_step_list_free(step_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        xft_pattern_free(&list->steps[i].pattern);
        free(list->steps[i].content);
    }
    free(list->steps);
    *list = (step_list){0};
}

/* ---- Normalizers ---- */

/* Characters that combine or decompose in Unicode 10 to 14 and were nothing in Unicode 9, whose tables the reference
 * composes with: they are copied as they are, and nothing composes across them. */
static const uint32_t newer[][2] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},     {0xc3c, 0xc3c},
    {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},   {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},
    {0xa82c, 0xa82c},   {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10f46, 0x10f50}, {0x10f82, 0x10f85},
    {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a}, {0x11930, 0x11930},
    {0x11938, 0x11938}, {0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34},
    {0x11a47, 0x11a47}, {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97},
    {0x16ff0, 0x16ff1}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef},
};

static int compare_range(const void *character, const void *range) {
    uint32_t c = *(const uint32_t *)character;
    const uint32_t *r = range;
    return c < r[0] ? -1 : c > r[1];
}

static bool is_newer(uint32_t c) {
    return bsearch(&c, newer, sizeof newer / sizeof *newer, sizeof *newer, compare_range) != NULL;
}

static xft_status append_composed(array *out, const char *text, size_t size) {
    utf8proc_uint8_t *composed;
    if (size == 0) return XFT_OK;
    utf8proc_ssize_t length = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &composed,
                                           UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    XFT_FAIL_IF(length < 0, XFT_ERROR_OUT_OF_HOST_MEMORY, "composing %zu bytes of text: %s", size,
                utf8proc_errmsg(length));
    xft_array_append(out, composed, (size_t)length);
    free(composed);
    return XFT_OK;
}

/* Nothing below U+0300 combines. */
static bool may_combine(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] >= 0xcc) return true;
    return false;
}

xft_status xft_normalize_nfc(const step *s, work *w) {
    (void)s;
    size_t count, length;
    const piece *p = xft_work_pieces(w, &count);
    if (!may_combine(w->text.data, w->text.size)) return XFT_OK;
    for (size_t i = 0; i < count; i++) {
        size_t start = w->next_text.size, done = p[i].start;
        for (size_t at = done; at < p[i].end; at += length) {
            if (!is_newer(xft_utf8_read(w->text.data + at, &length))) continue;
            XFT_TRY(append_composed(&w->next_text, w->text.data + done, at - done));
            xft_array_append(&w->next_text, w->text.data + at, length);
            done = at + length;
        }
        XFT_TRY(append_composed(&w->next_text, w->text.data + done, p[i].end - done));
        xft_work_add_piece(&w->next_pieces, start, w->next_text.size, p[i].first);
    }
    return xft_work_next(w);
}

xft_status xft_normalize_prepend(const step *s, work *w) {
    size_t count;
    const piece *p = xft_work_pieces(w, &count);
    for (size_t i = 0; i < count; i++) {
        size_t start = w->next_text.size;
        if (p[i].end > p[i].start) xft_array_append(&w->next_text, s->content, s->content_size);
        xft_array_append(&w->next_text, w->text.data + p[i].start, p[i].end - p[i].start);
        xft_work_add_piece(&w->next_pieces, start, w->next_text.size, p[i].first);
    }
    return xft_work_next(w);
}

xft_status xft_replace_matches(const step *s, work *w) {
    size_t count, start, end;
    const piece *p = xft_work_pieces(w, &count);
    for (size_t i = 0; i < count; i++) {
        size_t begin = w->next_text.size, done = 0, size = p[i].end - p[i].start;
        const char *text = w->text.data + p[i].start;
        search at = xft_search_begin(text, size, w->match);
        for (bool found = size > 0; found;) { /* nothing is found in nothing */
            XFT_TRY(xft_pattern_next(&s->pattern, &at, &found, &start, &end));
            if (!found) break;
            if (start > done) xft_array_append(&w->next_text, text + done, start - done);
            xft_array_append(&w->next_text, s->content, s->content_size);
            done = end;
        }
        xft_array_append(&w->next_text, text + done, size - done);
        xft_work_add_piece(&w->next_pieces, begin, w->next_text.size, p[i].first);
    }
    return xft_work_next(w);
}

/* ---- Pre-tokenizers ---- */

typedef struct splitter {
    const step *step;
    array *out;
    size_t base;    /* pieces in `out` before this text */
    bool previous;  /* the part before was a match */
    size_t waiting; /* MergedWithNext: start of a match that waits for what follows it, SIZE_MAX: none */
} splitter;

/* Takes the next part of a text, a match or what lies between two. */
static void put_part(splitter *s, size_t start, size_t end, bool match, split_behavior behavior) {
    size_t count;
    piece *last = pieces_of(s->out, &count);
    last = count > s->base ? last + count - 1 : NULL;
    bool extend = false;
    switch (behavior) {
    case SPLIT_REMOVED:
        if (match) return;
        break;
    case SPLIT_ISOLATED:
        break;
    case SPLIT_CONTIGUOUS:
        extend = match == s->previous && last;
        break;
    case SPLIT_MERGED_WITH_PREVIOUS:
        extend = match && !s->previous && last;
        break;
    case SPLIT_MERGED_WITH_NEXT:
        if (s->waiting != SIZE_MAX) {
            if (match)
                xft_work_add_piece(s->out, s->waiting, start, false);
            else
                start = s->waiting;
        }
        s->waiting = match ? start : SIZE_MAX;
        if (match) return;
        break;
    }
    s->previous = match;
    if (extend)
        last->end = end;
    else
        xft_work_add_piece(s->out, start, end, false);
}

/* Cuts one piece; parts that are empty count while they are put together and are left out after that. */
static xft_status split_piece(const step *s, split_behavior behavior, work *w, piece p) {
    splitter to = {.step = s, .out = &w->next_pieces, .base = w->next_pieces.size / sizeof p, .waiting = SIZE_MAX};
    search at = xft_search_begin(w->text.data + p.start, p.end - p.start, w->match);
    size_t done = p.start, start, end, count;
    for (;;) {
        bool found;
        XFT_TRY(xft_pattern_next(&s->pattern, &at, &found, &start, &end));
        if (!found) break;
        start += p.start;
        end += p.start;
        if (start != done) put_part(&to, done, start, s->invert, behavior);
        put_part(&to, start, end, !s->invert, behavior);
        done = end;
    }
    if (done != p.end) put_part(&to, done, p.end, s->invert, behavior);
    if (to.waiting != SIZE_MAX) xft_work_add_piece(to.out, to.waiting, p.end, false);
    piece *all = pieces_of(to.out, &count);
    size_t kept = to.base;
    for (size_t i = to.base; i < count; i++)
        if (all[i].end > all[i].start)
            all[kept++] = (piece){all[i].start, all[i].end, p.first && all[i].start == p.start};
    to.out->size = kept * sizeof p;
    return XFT_OK;
}

static xft_status split_all(const step *s, split_behavior behavior, work *w) {
    size_t count;
    const piece *p = xft_work_pieces(w, &count);
    for (size_t i = 0; i < count; i++) XFT_TRY(split_piece(s, behavior, w, p[i]));
    return next_pieces(w);
}

xft_status xft_split_pieces(const step *s, work *w) {
    return split_all(s, s->behavior, w);
}

xft_status xft_split_byte_level(const step *s, work *w) {
    size_t count;
    const piece *p = xft_work_pieces(w, &count);
    if (s->prefix_space) {
        for (size_t i = 0; i < count; i++) {
            size_t start = w->next_text.size;
            if (w->text.data[p[i].start] != ' ') xft_array_append(&w->next_text, " ", 1);
            xft_array_append(&w->next_text, w->text.data + p[i].start, p[i].end - p[i].start);
            xft_work_add_piece(&w->next_pieces, start, w->next_text.size, p[i].first);
        }
        XFT_TRY(xft_work_next(w));
    }
    if (s->split) XFT_TRY(split_all(s, SPLIT_ISOLATED, w));
    p = xft_work_pieces(w, &count);
    for (size_t i = 0; i < count; i++) {
        size_t start = w->next_text.size;
        for (size_t b = p[i].start; b < p[i].end; b++) {
            uint8_t byte = (uint8_t)w->text.data[b];
            if (byte > 0x20 && byte < 0x7f)
                xft_array_append(&w->next_text, &byte, 1);
            else
                xft_utf8_append(&w->next_text, xft_byte_to_character(byte));
        }
        xft_work_add_piece(&w->next_pieces, start, w->next_text.size, p[i].first);
    }
    return xft_work_next(w);
}

xft_status xft_split_metaspace(const step *s, work *w) {
    size_t count;
    const piece *p = xft_work_pieces(w, &count);
    for (size_t i = 0; i < count; i++) {
        size_t begin = w->next_text.size, size = p[i].end - p[i].start;
        const char *text = w->text.data + p[i].start;
        bool marked = *text == ' ' || (size >= s->content_size && !memcmp(text, s->content, s->content_size));
        if (!marked && (s->scheme == PREPEND_ALWAYS || (s->scheme == PREPEND_FIRST && p[i].first)))
            xft_array_append(&w->next_text, s->content, s->content_size);
        for (size_t done = 0; done < size;) {
            const char *space = memchr(text + done, ' ', size - done);
            size_t end = space ? (size_t)(space - text) : size;
            xft_array_append(&w->next_text, text + done, end - done);
            if (space) xft_array_append(&w->next_text, s->content, s->content_size);
            done = end + 1;
        }
        xft_work_add_piece(&w->next_pieces, begin, w->next_text.size, p[i].first);
    }
    XFT_TRY(xft_work_next(w));
    return s->split ? split_all(s, SPLIT_MERGED_WITH_NEXT, w) : XFT_OK;
}
