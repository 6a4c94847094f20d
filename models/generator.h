/* A generator as its own room, and the tests, see it. */
#ifndef XFT_MODELS_GENERATOR_H
#define XFT_MODELS_GENERATOR_H

#include "network.h"
#include "xft/generate.h"

/* A recording that takes `n` new tokens of every sequence: n = chunk while prompts are read, n = 1 after. */
typedef struct xft_decoder {
    uint32_t n;
    xft_network network; /* T = B*n rows; its lengths are the counts of real rows, its ids those of prompts */
    xft_tensor past;     /* u32 [B]: rows in the caches before */
    xft_tensor last;     /* u32 [B]: row of each sequence's last token */
    xft_tensor x_last, y_last, stats_last; /* [B,H] d:[B,H] */
    xft_stream *stream;
    uint64_t step_at, ids_at, rows_at, cu_at, counts_at, past_at, last_at, output_at;
} xft_decoder;

struct xft_generator {
    const xft_model *model;
    xft_generator_options options;
    xft_arena *arena;
    xft_tensor *k_cache, *v_cache; /* d:[B,capacity,G] per layer */
    xft_tensor table;              /* [capacity,rotary], or [B*capacity,rotary] where rotation is per token */
    xft_tensor next;               /* u32 [B]: the newest id of every sequence */
    xft_decoder prompt, token;
    uint64_t bytes;
};

/* Checks options and fills in defaults. */
xft_status xft_generator_options_check(const xft_generator_options *options, xft_generator_options *checked);

/* Everything a generator takes on the device. */
xft_status xft_generator_take(xft_generator *generator, const xft_config *config, const xft_weights *weights,
                              xft_dtype dtype, xft_room *room);

#endif
