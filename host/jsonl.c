#include "jsonl.h"

#include "error.h"
#include "tokenizer/tokenizer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum { READ_BYTES = 1 << 16 };

struct xft_jsonl {
    const char *path;
    gzFile file; /* reads plain files, too */
    uint64_t line, size;
    array text;             /* what was read; the bytes from `begin` on are still to be parsed */
    size_t begin, searched; /* no line ends before `searched` */
    bool ended;
};

xft_status xft_jsonl_open(const char *path, xft_jsonl **file) {
    struct stat about;
    xft_jsonl *f = *file = NULL;
    errno = ENOMEM;
    gzFile opened = gzopen(path, "rb");
    XFT_FAIL_IF(!opened, XFT_ERROR_IO, "%s: %s", path, strerror(errno));
    f = calloc(1, sizeof *f);
    if (!f) {
        gzclose(opened);
        return xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory to read it", path);
    }
    gzbuffer(opened, READ_BYTES);
    f->path = path;
    f->file = opened;
    f->size = stat(path, &about) == 0 && S_ISREG(about.st_mode) ? (uint64_t)about.st_size : 0;
    *file = f;
    return XFT_OK;
}

void xft_jsonl_close(xft_jsonl *f) {
    if (!f) return;
    gzclose(f->file);
    xft_array_free(&f->text);
    free(f);
}

uint64_t xft_jsonl_line(const xft_jsonl *f) {
    return f->line;
}

uint64_t xft_jsonl_offset(const xft_jsonl *f) {
    z_off_t at = gzoffset(f->file);
    return at > 0 ? (uint64_t)at : 0;
}

uint64_t xft_jsonl_size(const xft_jsonl *f) {
    return f->size;
}

/* More bytes behind those that are there; `ended` when there are none. */
static xft_status read_more(xft_jsonl *f) {
    if (f->begin) {
        memmove(f->text.data, f->text.data + f->begin, f->text.size - f->begin);
        f->text.size -= f->begin;
        f->searched -= f->begin;
        f->begin = 0;
    }
    void *end = xft_array_extend(&f->text, READ_BYTES);
    XFT_FAIL_IF(!end, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s:%" PRIu64 ": no memory for a line of %zu bytes", f->path,
                f->line + 1, f->text.size);
    errno = 0;
    int got = gzread(f->file, end, READ_BYTES), problem = Z_OK;
    f->text.size -= (size_t)(READ_BYTES - (got > 0 ? got : 0));
    if (got < READ_BYTES) {
        const char *words = gzerror(f->file, &problem);
        XFT_FAIL_IF(problem == Z_ERRNO, XFT_ERROR_IO, "%s: %s", f->path, strerror(errno));
        XFT_FAIL_IF(problem != Z_OK, XFT_ERROR_FORMAT, "%s: broken gzip file: %s", f->path, words);
        f->ended = got == 0;
    }
    return XFT_OK;
}

/* The next line without its end; *text is NULL at the end of the file. */
static xft_status next_line(xft_jsonl *f, char **text, size_t *bytes) {
    *text = NULL;
    if (!f->text.data) XFT_TRY(read_more(f));
    for (;;) {
        char *start = f->text.data + f->begin;
        size_t there = f->text.size - f->searched;
        char *end = there ? memchr(f->text.data + f->searched, '\n', there) : NULL;
        f->searched = f->text.size;
        if (!end && f->ended && f->begin == f->text.size) return XFT_OK;
        if (end || f->ended) {
            *text = start;
            *bytes = end ? (size_t)(end - start) : f->text.size - f->begin;
            f->begin = f->searched = end ? (size_t)(end - f->text.data) + 1 : f->text.size;
            f->line++;
            return XFT_OK;
        }
        XFT_TRY(read_more(f));
    }
}

static bool is_blank(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (!strchr(" \t\r", text[i]) || !text[i]) return false;
    return true;
}

xft_status xft_jsonl_next_text(xft_jsonl *f, char **text, size_t *bytes) {
    do XFT_TRY(next_line(f, text, bytes));
    while (*text && is_blank(*text, *bytes));
    return XFT_OK;
}

xft_status xft_jsonl_next(xft_jsonl *f, json_t **object) {
    char *text;
    size_t bytes;
    *object = NULL;
    XFT_TRY(xft_jsonl_next_text(f, &text, &bytes));
    return text ? xft_jsonl_parse(f, text, bytes, object) : XFT_OK;
}

xft_status xft_jsonl_parse(const xft_jsonl *f, const char *text, size_t bytes, json_t **object) {
    json_error_t error;
    size_t bad;
    *object = NULL;
    if (f->line == 1 && bytes >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) { /* a byte order mark */
        text += 3;
        bytes -= 3;
    }
    size_t good = xft_utf8_valid(text, bytes, &bad);
    XFT_FAIL_IF(bad, XFT_ERROR_FORMAT, "%s:%" PRIu64 ": byte 0x%02x in column %zu is no UTF-8", f->path, f->line,
                (uint8_t)text[good], good + 1);
    json_t *value = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    XFT_FAIL_IF(!value, XFT_ERROR_FORMAT, "%s:%" PRIu64 ": no JSON object on one line: %s (column %d)", f->path,
                f->line, error.text, error.column);
    if (!json_is_object(value)) {
        static const char *const kinds[] = {
            [JSON_ARRAY] = "an array", [JSON_STRING] = "a string", [JSON_INTEGER] = "a number",
            [JSON_REAL] = "a number",  [JSON_TRUE] = "true",       [JSON_FALSE] = "false",
            [JSON_NULL] = "null"};
        xft_status status = xft_fail(XFT_ERROR_FORMAT, "%s:%" PRIu64 ": %s; expected a JSON object on each line",
                                     f->path, f->line, kinds[json_typeof(value)]);
        json_decref(value);
        return status;
    }
    *object = value;
    return XFT_OK;
}
