/* One file per key, written under another name and renamed, so that a reader sees all of a file or nothing. What is
 * not exactly what was written (length, key, checksum) counts as absent. */
#include "cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(_WIN32)
#include <process.h>
#define getpid _getpid
#else
#include <unistd.h>
#endif

static const char magic[8] = "xft-gpu";

typedef struct header {
    char magic[8];
    xft_cache_key key;
    uint64_t bytes;
    xft_cache_key sum; /* over the bytes */
} header;

/* Two FNV-1a hashes with different starts; the second also turns its state, so that they do not collide together. */
void xft_cache_key_start(xft_cache_key *key) {
    key->word[0] = 0xcbf29ce484222325u;
    key->word[1] = 0x9e3779b97f4a7c15u;
}

void xft_cache_key_add(xft_cache_key *key, const void *data, size_t bytes) {
    const unsigned char *byte = data;
    uint64_t a = key->word[0], b = key->word[1];
    for (size_t i = 0; i < bytes; i++) {
        a = (a ^ byte[i]) * 0x100000001b3u;
        b = ((b << 23 | b >> 41) ^ byte[i]) * 0xff51afd7ed558ccdu;
    }
    /* the length closes each part: "ab" + "c" is not "a" + "bc" */
    key->word[0] = (a ^ bytes) * 0x100000001b3u;
    key->word[1] = (b ^ bytes) * 0xff51afd7ed558ccdu;
}

static void file_name(char *path, size_t size, const char *dir, const char *driver, const xft_cache_key *key,
                      const char *end) {
    snprintf(path, size, "%s/%s-%016" PRIx64 "%016" PRIx64 "%s", dir, driver, key->word[0], key->word[1], end);
}

static header describe(const xft_cache_key *key, const void *data, size_t bytes) {
    header h = {.key = *key, .bytes = bytes};
    memcpy(h.magic, magic, sizeof h.magic);
    xft_cache_key_start(&h.sum);
    xft_cache_key_add(&h.sum, data, bytes);
    return h;
}

unsigned char *xft_cache_load(const char *dir, const char *driver, const xft_cache_key *key, size_t *bytes) {
    char path[4096];
    file_name(path, sizeof path, dir, driver, key, ".bin");
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    unsigned char *data = NULL;
    header h, expected;
    long end = fseek(file, 0, SEEK_END) ? -1 : ftell(file);
    rewind(file);
    /* the length in the header is believed only when the file has it */
    if (end <= (long)sizeof h || fread(&h, sizeof h, 1, file) != 1 || h.bytes != (uint64_t)end - sizeof h) goto none;
    data = malloc((size_t)h.bytes);
    if (!data || fread(data, 1, (size_t)h.bytes, file) != h.bytes) goto none;
    expected = describe(key, data, (size_t)h.bytes);
    if (memcmp(&h, &expected, sizeof h) != 0) goto none;
    fclose(file);
    *bytes = (size_t)h.bytes;
    return data;
none:
    free(data);
    fclose(file);
    return NULL;
}

void xft_cache_store(const char *dir, const char *driver, const xft_cache_key *key, const void *data, size_t bytes) {
    static _Thread_local char self; /* its address tells the threads of a process apart */
    char path[4096], temporary[4096], end[64];
    snprintf(end, sizeof end, ".%ld.%p.tmp", (long)getpid(), (void *)&self);
    file_name(path, sizeof path, dir, driver, key, ".bin");
    file_name(temporary, sizeof temporary, dir, driver, key, end);
    FILE *file = fopen(temporary, "wb");
    if (!file) return;
    header h = describe(key, data, bytes);
    bool written = fwrite(&h, sizeof h, 1, file) == 1 && fwrite(data, 1, bytes, file) == bytes;
    if (fclose(file) != 0) written = false;
#ifdef _WIN32
    if (written) remove(path); /* rename does not replace there */
#endif
    if (!written || rename(temporary, path) != 0) remove(temporary);
}
