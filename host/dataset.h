/* Inside the data pipeline.
 *
 *   jsonl.c          lines of JSON
 *   chat_template.c  messages -> tokens
 *   dataset.c        files -> samples
 *   loader.c         samples -> rows -> micro-batches
 */
#ifndef XFT_HOST_DATASET_H
#define XFT_HOST_DATASET_H

#include "tokenizer/tokenizer.h"
#include "xft/data.h"

/* A token of a sample: its id, and this bit when it is a label. */
#define TOKEN_LABEL 0x80000000u

struct xft_dataset {
    array tokens; /* u32, of all samples one after the other */
    array starts; /* u64 [samples+1]: where each begins */
    uint32_t length;
    xft_data_counts counts;
};

/* Tokens of sample `index`. */
const uint32_t *xft_dataset_tokens(const xft_dataset *data, uint64_t index, uint32_t *count);

/* The numbers 0 to count-1 into *order in an order that seed, epoch and key fix; to be freed with free(). */
xft_status xft_shuffled(uint64_t seed, uint32_t epoch, uint32_t key, uint32_t count, uint32_t **order);

typedef struct xft_chat_template xft_chat_template;

/* NULL: magicoder. */
xft_status xft_template_find(const char *name, const xft_chat_template **found);

/* Appends the tokens of messages up to the last answer. `text` is memory to work in. */
xft_status xft_template_encode(const xft_chat_template *t, const xft_tokenizer *tokenizer,
                               const xft_chat_message *messages, uint32_t count, array *text, array *tokens);

/* Appends BOS, where the tokenizer names one. */
void xft_append_bos(const xft_tokenizer *tokenizer, array *tokens);
/* Appends the ids of a text, each with the bits of `label`. */
xft_status xft_append_text(const xft_tokenizer *tokenizer, const char *text, size_t bytes, uint32_t label,
                           array *tokens);

#endif
