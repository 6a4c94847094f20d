#include "tokenizer/tokenizer.h"

#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Adds what lies in next_text from `start` on as the next piece. */
static void end_piece(work *w, size_t start) {
    xft_work_add_piece(&w->next_pieces, start, w->next_text.size, false);
}

/* A token of the byte alphabet gives its bytes; any other, its text. */
static void append_bytes(array *out, const char *text, size_t size) {
    size_t before = out->size, length;
    for (size_t i = 0; i < size; i += length) {
        int byte = xft_character_to_byte(xft_utf8_read(text + i, &length));
        if (byte < 0) {
            out->size = before;
            xft_array_append(out, text, size);
            return;
        }
        xft_array_append(out, &(char){(char)byte}, 1);
    }
}

xft_status xft_decode_byte_level(const step *s, work *w) {
    (void)s;
    size_t count;
    const piece *p = xft_work_pieces(w, &count);
    for (size_t i = 0; i < count; i++) append_bytes(&w->next_text, w->text.data + p[i].start, p[i].end - p[i].start);
    xft_status status = xft_work_next(w);
    if (status != XFT_OK) return status;
    for (size_t done = 0; done < w->text.size;) {
        size_t bad, good = xft_utf8_valid(w->text.data + done, w->text.size - done, &bad);
        xft_array_append(&w->next_text, w->text.data + done, good);
        if (bad) xft_array_append(&w->next_text, REPLACEMENT, 3);
        done += good + bad;
    }
    end_piece(w, 0);
    return xft_work_next(w);
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The byte that a token "<0xE2>" stands for, or -1. */
static int byte_of(const char *text, size_t size) {
    if (size != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Ends a run of bytes: its text, or U+FFFD for each byte when it is no text. */
static void end_bytes(work *w, size_t start) {
    size_t bad, size = w->next_text.size - start;
    if (size == 0 || w->next_text.failed) return;
    xft_utf8_valid(w->next_text.data + start, size, &bad);
    if (bad) {
        w->next_text.size = start;
        for (size_t i = 0; i < size; i++) xft_array_append(&w->next_text, REPLACEMENT, 3);
    }
    end_piece(w, start);
}

xft_status xft_decode_byte_fallback(const step *s, work *w) {
    (void)s;
    size_t count, start = 0;
    const piece *p = xft_work_pieces(w, &count);
    for (size_t i = 0; i < count; i++) {
        const char *text = w->text.data + p[i].start;
        int byte = byte_of(text, p[i].end - p[i].start);
        if (byte >= 0) {
            xft_array_append(&w->next_text, &(char){(char)byte}, 1);
            continue;
        }
        end_bytes(w, start);
        start = w->next_text.size;
        xft_array_append(&w->next_text, text, p[i].end - p[i].start);
        end_piece(w, start);
        start = w->next_text.size;
    }
    end_bytes(w, start);
    return xft_work_next(w);
}

static xft_status join(work *w, const char *between, size_t size) {
    size_t count;
    const piece *p = xft_work_pieces(w, &count);
    for (size_t i = 0; i < count; i++) {
        if (i) xft_array_append(&w->next_text, between, size);
        xft_array_append(&w->next_text, w->text.data + p[i].start, p[i].end - p[i].start);
    }
    end_piece(w, 0);
    return xft_work_next(w);
}

xft_status xft_decode_fuse(const step *s, work *w) {
    (void)s;
    return join(w, "", 0);
}

xft_status xft_decode_join(const step *s, work *w) {
    (void)s;
    return join(w, " ", 1);
}

/* The mark becomes a space, and nothing in the first token, wherever it stands there. */
xft_status xft_decode_metaspace(const step *s, work *w) {
    size_t count;
    const piece *p = xft_work_pieces(w, &count);
    for (size_t i = 0; i < count; i++) {
        size_t begin = w->next_text.size, size = p[i].end - p[i].start, start, end, done = 0;
        const char *text = w->text.data + p[i].start;
        search at = xft_search_begin(text, size, w->match);
        bool found;
        while (xft_pattern_next(&s->pattern, &at, &found, &start, &end) == XFT_OK && found) {
            xft_array_append(&w->next_text, text + done, start - done);
            if (i || s->scheme == PREPEND_NEVER) xft_array_append(&w->next_text, " ", 1);
            done = end;
        }
        xft_array_append(&w->next_text, text + done, size - done);
        end_piece(w, begin);
    }
    return xft_work_next(w);
}

xft_status xft_decode_strip(const step *s, work *w) {
    size_t count, n = s->content_size;
    const piece *p = xft_work_pieces(w, &count);
    for (size_t i = 0; i < count; i++) {
        size_t begin = w->next_text.size;
        const char *start = w->text.data + p[i].start, *end = w->text.data + p[i].end;
        for (size_t k = 0; k < s->strip_start && (size_t)(end - start) >= n && !memcmp(start, s->content, n); k++)
            start += n;
        for (size_t k = 0; k < s->strip_stop && (size_t)(end - start) >= n && !memcmp(end - n, s->content, n); k++)
            end -= n;
        xft_array_append(&w->next_text, start, (size_t)(end - start));
        end_piece(w, begin);
    }
    return xft_work_next(w);
}
