/* Loading, encoding and decoding. An input that begins with '{' is a tokenizer.json, up to its first zero byte; the
 * rest is a text for it. Any other input: the first byte picks a tokenizer of tests/oracle_tokenizer, the rest is a
 * text, and also a list of ids. `xft_fuzz_tokenizer --seeds FOLDER` writes inputs to begin with.
 *
 * Checked beside the sanitizers: ids lie in the vocabulary, decodings are UTF-8 that encodes again. */
#include "input.h"

#include "xft/tokenizer.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);

#define ORACLE XFT_TESTS "/oracle_tokenizer"
enum { MAX_TOKENIZERS = 64 };

static xft_tokenizer *tokenizers[MAX_TOKENIZERS];
static size_t tokenizer_count;

/* Only the first bytes of a file, so that inputs stay small enough to be worth changing. */
static void write_seed(const char *folder, const char *from, size_t number) {
    char path[1024], bytes[16384];
    snprintf(path, sizeof path, "%s/tokenizer.json", from);
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    if (file) fclose(file);
    snprintf(path, sizeof path, "%s/%zu", folder, number);
    file = size && size < sizeof bytes ? fopen(path, "wb") : NULL;
    if (!file) return;
    fwrite(bytes, 1, size, file);
    fwrite("\0<s> don't 12  a\xc3\xa9 the</s>", 1, 25, file);
    fclose(file);
}

static void visit(const char *root, const char *seeds) {
    DIR *dir = opendir(root);
    for (struct dirent *entry; dir && tokenizer_count < MAX_TOKENIZERS && (entry = readdir(dir));) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", root, entry->d_name);
        if (*entry->d_name == '.' || xft_tokenizer_load(path, &tokenizers[tokenizer_count]) != XFT_OK) continue;
        if (seeds) write_seed(seeds, path, tokenizer_count);
        tokenizer_count++;
    }
    if (dir) closedir(dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    const char *seeds = *argc > 2 && strcmp((*argv)[1], "--seeds") == 0 ? (*argv)[2] : NULL;
    visit(ORACLE, seeds);
    visit(ORACLE "/components", seeds);
    if (tokenizer_count == 0 || seeds) exit(seeds == NULL);
    return 0;
}

static void decode(const xft_tokenizer *t, const uint32_t *ids, size_t count) {
    for (int skip = 0; skip < 2; skip++) {
        char *text;
        size_t bytes, again;
        uint32_t *back;
        if (xft_tokenizer_decode(t, ids, count, skip, &text, &bytes) != XFT_OK) continue;
        xft_status status = xft_tokenizer_encode(t, text, bytes, skip, &back, &again);
        require(status == XFT_OK || status == XFT_ERROR_UNSUPPORTED); /* the regular expressions may have limits */
        free(back);
        free(text);
    }
}

static void encode(const xft_tokenizer *t, const uint8_t *data, size_t size) {
    uint32_t *ids;
    size_t count;
    if (xft_tokenizer_encode(t, (const char *)data, size, true, &ids, &count) != XFT_OK) return;
    for (size_t i = 0; i < count; i++) require(xft_tokenizer_token(t, ids[i], NULL) != NULL);
    decode(t, ids, count);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    if (*data == '{') {
        xft_tokenizer *t;
        const uint8_t *end = memchr(data, 0, size);
        size_t json = end ? (size_t)(end - data) : size, text = end ? size - json - 1 : 0;
        if (xft_tokenizer_parse((const char *)data, json, NULL, 0, "", &t) != XFT_OK) return 0;
        encode(t, end ? end + 1 : data, text);
        xft_tokenizer_free(t);
        return 0;
    }
    const xft_tokenizer *t = tokenizers[*data % tokenizer_count];
    encode(t, data + 1, size - 1);
    uint32_t ids[256];
    size_t count = (size - 1) / 2 < 256 ? (size - 1) / 2 : 256;
    for (size_t i = 0; i < count; i++) ids[i] = (uint32_t)data[1 + 2 * i] << 8 | data[2 + 2 * i];
    decode(t, ids, count);
    return 0;
}
