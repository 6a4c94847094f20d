/* Lines of data. The first byte picks template and options, the rest is the file (plain or gzip). Checked beside the
 * sanitizers: ids lie in the vocabulary, every sample has a label and is given once per epoch, within the room that the
 * loader promised. */
#include "input.h"

#include "xft/data.h"

#include <stdio.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);

static xft_tokenizer *tokenizers[4]; /* one for each template */

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static const char *const folders[] = {"tinyllama", "qwen2", "llama3", "deepseek-coder"};
    (void)argc, (void)argv;
    for (int i = 0; i < 4; i++) {
        char path[1024];
        require(snprintf(path, sizeof path, "%s/oracle_tokenizer/%s", XFT_TESTS, folders[i]) < (int)sizeof path);
        require(xft_tokenizer_load(path, &tokenizers[i]) == XFT_OK);
    }
    return 0;
}

static uint64_t check_epoch(const xft_dataset *data, uint8_t flags, uint32_t vocabulary) {
    xft_loader *loader;
    xft_loader_options o = {.batch = 3,
                            .micro_batch = 2,
                            .packing = (flags & 32) != 0,
                            .padding = (flags & 96) == 64,
                            .shuffle = true,
                            .pad_id = 1};
    require(xft_loader_create(data, &o, &loader) == XFT_OK);
    uint64_t sequences = 0;
    for (uint64_t step = 0; step < xft_loader_steps(loader); step++) {
        const xft_batch *b;
        uint32_t count;
        require(xft_loader_next(loader, &b, &count) == XFT_OK);
        for (uint32_t i = 0; i < count; i++) {
            require(b[i].tokens <= xft_loader_tokens(loader) && b[i].sequences <= xft_loader_sequences(loader));
            require(b[i].cu_seqlens[b[i].sequences] == b[i].tokens);
            for (uint32_t t = 0; t < b[i].tokens; t++)
                require(b[i].ids[t] < vocabulary && (b[i].labels[t] == UINT32_MAX || b[i].labels[t] < vocabulary));
            sequences += b[i].sequences;
        }
    }
    xft_loader_destroy(loader);
    return sequences;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size) return 0;
    uint8_t flags = *data;
    const xft_tokenizer *tokenizer = tokenizers[flags & 3];
    const char *path = file_of(data + 1, size - 1);
    xft_data_options o = {.files = &path,
                          .file_count = 1,
                          .chat_template = xft_template_name(flags & 3),
                          .length = flags & 4 ? 9 : 1000,
                          .train_on_prompt = (flags & 16) != 0,
                          .vocab_size = xft_tokenizer_size(tokenizer)};
    xft_dataset *set, *part;
    if (xft_dataset_load(tokenizer, &o, &set) != XFT_OK) {
        require(*xft_error());
        return 0;
    }
    xft_data_counts counts, rest, moved;
    xft_dataset_get_counts(set, &counts);
    require(counts.samples && counts.labels >= counts.samples && counts.longest <= o.length);
    require(check_epoch(set, flags, o.vocab_size) == counts.samples);
    if (xft_dataset_split(set, 0.3, 1, &part) == XFT_OK) {
        xft_dataset_get_counts(set, &rest);
        xft_dataset_get_counts(part, &moved);
        require(rest.samples + moved.samples == counts.samples && rest.tokens + moved.tokens == counts.tokens);
        xft_dataset_free(part);
    } else
        require(counts.samples == 1);
    xft_dataset_free(set);
    return 0;
}
