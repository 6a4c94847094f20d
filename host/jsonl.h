/* JSON objects, one per line, from a file that may be compressed with gzip. Refused with file and line: what is no
 * UTF-8, no JSON, no object, or has a key twice. Blank lines are passed over. */
#ifndef XFT_HOST_JSONL_H
#define XFT_HOST_JSONL_H

#include "xft/base.h"

#include <jansson.h>

typedef struct xft_jsonl xft_jsonl;

/* The path must stay valid. */
xft_status xft_jsonl_open(const char *path, xft_jsonl **file);
/* NULL is accepted. */
void xft_jsonl_close(xft_jsonl *file);

/* The object of the next line, NULL at the end of the file; the caller gives it back with json_decref. */
xft_status xft_jsonl_next(xft_jsonl *file, json_t **object);

/* The same in two steps, for a text that has to be changed before it is JSON: the next line that is not blank (NULL at
 * the end of the file), which may be written to and is valid until the next call; then its object. */
xft_status xft_jsonl_next_text(xft_jsonl *file, char **text, size_t *bytes);
xft_status xft_jsonl_parse(const xft_jsonl *file, const char *text, size_t bytes, json_t **object);

/* Number of the line of the last object, from 1. */
uint64_t xft_jsonl_line(const xft_jsonl *file);
/* Bytes of the file read so far, and of the whole file (0: not known), for progress. */
uint64_t xft_jsonl_offset(const xft_jsonl *file);
uint64_t xft_jsonl_size(const xft_jsonl *file);

#endif
