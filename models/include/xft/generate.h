/* Generation: greedy, by temperature, by top-p; dense models and MoE, one prompt or a batch, with a KV cache.
 *
 *     xft_generator *g;
 *     XFT_TRY(xft_generator_create(model, &(xft_generator_options){.batch = 4, .capacity = 1024}, &g));
 *     XFT_TRY(xft_generate(g, prompts, lengths, 4, &(xft_sampling){.new_tokens = 256}, ids, counts, NULL, NULL));
 *     xft_generator_destroy(g);
 *
 * A token is read back while the next one is computed. Threads: a generator belongs to the thread of its device.
 */
#ifndef XFT_GENERATE_H
#define XFT_GENERATE_H

#include "xft/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct xft_generator xft_generator;

typedef struct xft_generator_options {
    uint32_t batch;    /* most prompts at a time, from 1 */
    uint32_t capacity; /* most tokens of a sequence, prompt and new ones */
    uint32_t chunk;    /* tokens of each prompt that are read at once; 0: 64 */
    bool official;     /* --compat official: the rotation of the reference's MoE */
} xft_generator_options;

typedef struct xft_sampling {
    uint32_t new_tokens; /* most new tokens of each prompt, from 1 */
    float temperature;   /* 0: greedy, ties to the lower id */
    float top_p;         /* the most probable ids whose sum reaches this; 0 or 1: all */
    uint64_t seed;
    const uint32_t *stop; /* ids that end a sequence; they are returned as its last id */
    uint32_t stop_count;
    const xft_callbacks *callbacks; /* progress by chunks of the longest prompt ("reading prompts"); or NULL */
} xft_sampling;

XFT_API xft_status xft_generator_create(xft_model *model, const xft_generator_options *options,
                                        xft_generator **generator);
/* NULL is accepted. */
XFT_API void xft_generator_destroy(xft_generator *generator);

/* Called for every new id, in order for each sequence; false stops the whole call with XFT_ERROR_CANCELLED. */
typedef bool (*xft_token_callback)(void *user, uint32_t sequence, uint32_t id);

/* Continues `count` prompts of lengths[i] >= 1 ids. ids: [count, new_tokens]; counts[i]: how many of a row are set.
 * callback may be NULL. Dynamic NTK rotation takes the length of prompt plus new_tokens. */
XFT_API xft_status xft_generate(xft_generator *generator, const uint32_t *const *prompts, const uint32_t *lengths,
                                uint32_t count, const xft_sampling *sampling, uint32_t *ids, uint32_t *counts,
                                xft_token_callback callback, void *user);

/* Bytes taken on the device beside the weights. */
XFT_API uint64_t xft_generator_bytes(const xft_generator *generator);

#ifdef __cplusplus
}
#endif
#endif
