#include "tokenizer/tokenizer.h"

#include "error.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- Arrays ---- */

void *xft_array_extend(array *a, size_t bytes) {
    if (bytes > a->room - a->size) {
        size_t room = a->room + a->room / 2 + 64;
        if (room - a->size < bytes) room = a->size + bytes;
        char *data = room < a->room || room - a->size < bytes ? NULL : realloc(a->data, room);
        if (!data) {
            a->failed = true;
            return NULL;
        }
        a->data = data;
        a->room = room;
    }
    void *end = a->data + a->size;
    a->size += bytes;
    return end;
}

void xft_array_append(array *a, const void *data, size_t bytes) {
    if (bytes == 0) return;
    void *end = xft_array_extend(a, bytes);
    if (end) memcpy(end, data, bytes);
}

void xft_array_append_u32(array *a, uint32_t value) {
    xft_array_append(a, &value, sizeof value);
}

void xft_array_free(array *a) {
    free(a->data);
    *a = (array){0};
}

xft_status xft_array_check(const array *a) {
    XFT_FAIL_IF(a->failed, XFT_ERROR_OUT_OF_HOST_MEMORY, "tokenizer: no memory beyond %zu bytes", a->room);
    return XFT_OK;
}

/* ---- UTF-8 ---- */

size_t xft_utf8_length(const char *text) {
    unsigned char lead = (unsigned char)*text;
    return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

uint32_t xft_utf8_read(const char *text, size_t *bytes) {
    const unsigned char *t = (const unsigned char *)text;
    size_t length = *bytes = xft_utf8_length(text);
    uint32_t character = length == 1 ? t[0] : t[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) character = character << 6 | (t[i] & 0x3fu);
    return character;
}

size_t xft_utf8_before(const char *text, size_t end) {
    do end--;
    while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80);
    return end;
}

void xft_utf8_append(array *a, uint32_t character) {
    utf8proc_uint8_t bytes[4];
    xft_array_append(a, bytes, (size_t)utf8proc_encode_char((utf8proc_int32_t)character, bytes));
}

/* The bytes that may follow a lead byte are narrower for four of them: no overlong forms, surrogates, or beyond 10FFFF.
 */
size_t xft_utf8_valid(const char *text, size_t size, size_t *bad) {
    const unsigned char *t = (const unsigned char *)text;
    size_t i = 0;
    *bad = 0;
    while (i < size) {
        unsigned char lead = t[i];
        if (lead < 0x80) {
            i++;
            continue;
        }
        size_t length = lead < 0xc2 || lead > 0xf4 ? 0 : xft_utf8_length(text + i), good = 1;
        unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        while (good < length && i + good < size && t[i + good] >= low && t[i + good] <= high) {
            good++;
            low = 0x80;
            high = 0xbf;
        }
        if (good != length) {
            *bad = good;
            return i;
        }
        i += length;
    }
    return i;
}

/* ---- Classes of characters ---- */

bool xft_is_white_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool xft_is_word(uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* joiners, and the letters in circles and squares, which are symbols and Alphabetic */
        return c == 0x200c || c == 0x200d || (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
               (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
    }
}

bool xft_is_number(uint32_t c) {
    if (c < 0x80) return c >= '0' && c <= '9';
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO;
}

/* ---- The byte alphabet: printable Latin-1 stands for itself, the 68 others for U+0100 and on ---- */

static bool is_printable(uint32_t c) {
    return (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xff && c != 0xad);
}

uint32_t xft_byte_to_character(uint8_t byte) {
    if (is_printable(byte)) return byte;
    return 0x100 + (byte <= 0x20 ? byte : byte <= 0xa0 ? 0x21u + byte - 0x7f : 0x43u);
}

int xft_character_to_byte(uint32_t c) {
    if (c < 0x100) return is_printable(c) ? (int)c : -1;
    if (c <= 0x120) return (int)c - 0x100;
    if (c <= 0x142) return (int)c - 0x121 + 0x7f;
    return c == 0x143 ? 0xad : -1;
}
