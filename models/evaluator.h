/* An evaluator as its own room, and the tests, see it. */
#ifndef XFT_MODELS_EVALUATOR_H
#define XFT_MODELS_EVALUATOR_H

#include "network.h"

struct xft_evaluator {
    xft_arena *arena;
    xft_network network;
    xft_stream *stream;
    xft_input_layout at;
    uint64_t loss_at;
};

/* The network of an evaluator before it has memory: for evaluators and for plans. */
xft_network xft_evaluator_network(const xft_config *config, const xft_weights *weights, xft_dtype dtype,
                                  uint32_t tokens, uint32_t sequences, bool logits, bool official);

#endif
