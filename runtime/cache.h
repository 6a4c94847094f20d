/* What drivers compiled, kept on disk to save time: one file per key. Whatever goes wrong, the work is done again. */
#ifndef XFT_RUNTIME_CACHE_H
#define XFT_RUNTIME_CACHE_H

#include "xft/base.h"

/* Stands for everything the content depends on. 32 hexadecimal digits of the file's name. */
typedef struct xft_cache_key {
    uint64_t word[2];
} xft_cache_key;

void xft_cache_key_start(xft_cache_key *key);
void xft_cache_key_add(xft_cache_key *key, const void *data, size_t bytes);

/* The bytes stored in `dir` by that driver for that key, to be freed, or NULL: there are none, or the file is
 * truncated, damaged or of something else. */
unsigned char *xft_cache_load(const char *dir, const char *driver, const xft_cache_key *key, size_t *bytes);

/* Best effort: without room or rights on disk nothing is kept. */
void xft_cache_store(const char *dir, const char *driver, const xft_cache_key *key, const void *data, size_t bytes);

#endif
