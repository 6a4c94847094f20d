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

#endif
