/* Data for instruction tuning: JSONL files -> samples of token ids -> micro-batches.
 *
 *     xft_dataset *data, *held_out;
 *     xft_loader *loader;
 *     const xft_batch *batches;
 *     uint32_t count;
 *     XFT_TRY(xft_dataset_load(tokenizer, &(xft_data_options){.files = files, .file_count = 1, .length = 1024},
 * &data)); XFT_TRY(xft_dataset_split(data, 0.05, seed, &held_out)); XFT_TRY(xft_loader_create(data,
 * &(xft_loader_options){.batch = 64, .micro_batch = 4, .shuffle = true}, &loader)); while (xft_loader_position(loader)
 * < 3 * xft_loader_steps(loader)) { // three epochs XFT_TRY(xft_loader_next(loader, &batches, &count));
 *         XFT_TRY(xft_trainer_step(trainer, batches, count, lr));
 *     }
 *
 * Files may be compressed with gzip. A line is a JSON object in one of three forms, the first that fits; other keys are
 * ignored:
 *
 *     {"messages": [{"role": "system"|"user"|"assistant", "content": "…"}, …]}
 *     {"prompt": "…", "completion": "…"}
 *     {"instruction": "…", "input": "…", "response": "…"}
 *
 * output is another name for response; input may be missing, and goes below the instruction where it is not empty.
 * messages and instructions are put into a template; prompt and completion are taken as they are. What the user gave is
 * encoded alone, what the assistant answered alone, and the ids are concatenated (BOS first where the template wants it
 * and the tokenizer names one) and cut at `length`. The labels are the answers, the end token of each included.
 *
 * Blank lines are passed over. Anything else that is no sample is refused with file, line and field.
 *
 * Threads: a dataset does not change but in xft_dataset_split; loaders of one dataset may run in several threads, each
 * loader in one.
 */
#ifndef XFT_DATA_H
#define XFT_DATA_H

#include "xft/callbacks.h"
#include "xft/tokenizer.h"
#include "xft/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Templates ---- */

typedef enum xft_chat_role { XFT_ROLE_SYSTEM = 0, XFT_ROLE_USER = 1, XFT_ROLE_ASSISTANT = 2 } xft_chat_role;

typedef struct xft_chat_message {
    xft_chat_role role;
    const char *content; /* UTF-8 */
    size_t bytes;
} xft_chat_message;

/* Name of template `index`: "magicoder" (the default), "chatml", "llama3", "deepseek-coder"; NULL after the last. */
XFT_API const char *xft_template_name(uint32_t index);

/* Refuses a name (NULL: magicoder) that is no template, naming those there are, and a tokenizer without the tokens that
 * the template is made of. *stop (may be NULL): the id that ends an answer. */
XFT_API xft_status xft_template_check(const char *name, const xft_tokenizer *tokenizer, uint32_t *stop);

/* The ids from which a model goes on with an answer: messages (a system message first at most; the last one is a
 * user's), the beginning of an answer, and `begun` (zero-terminated; NULL: nothing), which it continues. *ids is to be
 * freed with free(). */
XFT_API xft_status xft_template_prompt(const char *name, const xft_tokenizer *tokenizer,
                                       const xft_chat_message *messages, uint32_t message_count, const char *begun,
                                       uint32_t **ids, size_t *count);

/* ---- Datasets ---- */

typedef struct xft_data_options {
    const char *const *files;       /* JSONL, one after the other */
    uint32_t file_count;            /* at least 1 */
    const char *chat_template;      /* NULL: magicoder */
    uint32_t length;                /* most tokens of a sample, at least 2 */
    bool train_on_prompt;           /* label the prompts, too */
    uint32_t vocab_size;            /* of the model: ids from it on are refused; 0: not checked */
    const xft_callbacks *callbacks; /* progress by bytes ("reading data"); or NULL */
} xft_data_options;

/* Why a sample was left out. */
typedef enum xft_skip_reason {
    XFT_SKIP_NO_ANSWER = 0,    /* messages without one of the assistant */
    XFT_SKIP_EMPTY_ANSWER = 1, /* every answer is empty */
    XFT_SKIP_NO_LABEL = 2,     /* the prompt alone fills `length`: no label is left */
    XFT_SKIP_REASON_COUNT
} xft_skip_reason;

/* "messages without an answer", "empty answer", "no label within the length"; "?" for a number that is none. */
XFT_API const char *xft_skip_reason_name(xft_skip_reason reason);

typedef struct xft_data_counts {
    uint64_t samples; /* in the dataset */
    uint64_t tokens;  /* of all samples */
    uint64_t labels;  /* of them to be predicted */
    uint32_t longest; /* tokens of the longest sample */
    /* Of the files that were read; 0 in a part that was split off. */
    uint64_t truncated; /* samples longer than `length`, cut */
    uint64_t skipped[XFT_SKIP_REASON_COUNT];
} xft_data_counts;

typedef struct xft_dataset xft_dataset;

/* Reads all files. Fails when one of them holds no sample, or when all samples were skipped. */
XFT_API xft_status xft_dataset_load(const xft_tokenizer *tokenizer, const xft_data_options *options,
                                    xft_dataset **dataset);
/* NULL is accepted. Loaders of it must be gone. */
XFT_API void xft_dataset_free(xft_dataset *dataset);

/* Moves a share of the samples (0 < fraction < 1, at least one sample, never all) into a dataset of their own: the same
 * ones for the same seed. The dataset must have no loader yet. */
XFT_API xft_status xft_dataset_split(xft_dataset *dataset, double fraction, uint64_t seed, xft_dataset **part);

XFT_API void xft_dataset_get_counts(const xft_dataset *dataset, xft_data_counts *counts);

/* A number that tells datasets apart: a hash of all ids and labels in their order. */
XFT_API uint64_t xft_dataset_fingerprint(const xft_dataset *dataset);

/* Sample `index`: its ids, and which of them are labels; each array may be NULL and needs room for counts.longest.
 * false when index is out of range. */
XFT_API bool xft_dataset_sample(const xft_dataset *dataset, uint64_t index, uint32_t *ids, bool *labelled,
                                uint32_t *count);

/* ---- Loaders ---- */

/* A loader cuts the samples into rows: one sample each, or with packing as many as fit into `length` tokens (best fit,
 * the same rows in every epoch). An epoch goes through all rows once, in their order or shuffled anew; a step takes
 * `batch` of them, the last step of an epoch what is left. */
typedef struct xft_loader_options {
    uint32_t batch;       /* rows of an optimizer step, at least 1 */
    uint32_t micro_batch; /* rows of a micro-batch, 1 to batch (a greater number counts as batch) */
    bool packing;
    bool shuffle;    /* by Philox, keyed by seed and epoch */
    uint64_t seed;   /* of the shuffling */
    bool padding;    /* --compat official: samples of a micro-batch are padded to the longest; excludes packing */
    uint32_t pad_id; /* what padding consists of */
} xft_loader_options;

typedef struct xft_loader xft_loader;

/* The dataset must outlive the loader. */
XFT_API xft_status xft_loader_create(const xft_dataset *dataset, const xft_loader_options *options,
                                     xft_loader **loader);
/* NULL is accepted. */
XFT_API void xft_loader_destroy(xft_loader *loader);

/* Most tokens and sequences that a micro-batch of this loader has: what a trainer must have room for. */
XFT_API uint32_t xft_loader_tokens(const xft_loader *loader);
XFT_API uint32_t xft_loader_sequences(const xft_loader *loader);
/* Rows and steps of an epoch. */
XFT_API uint64_t xft_loader_rows(const xft_loader *loader);
XFT_API uint64_t xft_loader_steps(const xft_loader *loader);

/* The micro-batches of the next step, valid until the next call. Epochs follow each other without end. */
XFT_API xft_status xft_loader_next(xft_loader *loader, const xft_batch **batches, uint32_t *count);

/* Steps given so far, over all epochs: the number to store in a checkpoint. A loader with the same dataset and options
 * that is put there goes on with the same batches. */
XFT_API uint64_t xft_loader_position(const xft_loader *loader);
XFT_API xft_status xft_loader_seek(xft_loader *loader, uint64_t position);

#ifdef __cplusplus
}
#endif
#endif
