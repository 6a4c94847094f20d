/* A trainer as its own room, and the tests, see it. */
#ifndef XFT_MODELS_TRAINER_H
#define XFT_MODELS_TRAINER_H

#include "network.h"
#include "optimizer.h"

/* What the host remembers of a queued step until its metrics are read. */
typedef struct xft_pending {
    uint64_t ticket;     /* of the update; 0: none */
    xft_metrics metrics; /* step, labels, tokens, lr */
} xft_pending;

struct xft_trainer {
    xft_model *model;
    xft_train_options options;
    xft_arena *arena;
    xft_config dense; /* merge stage: the configuration of the merged model */
    xft_weights d;    /* gradients */
    xft_merge merge;
    xft_optimization optimization;
    xft_network network; /* gradients are set; `rest` is the same with += */
    xft_network rest;
    xft_stream *first_stream, *rest_stream, *update_stream;
    xft_input_layout first_at, rest_at;
    uint32_t rest_slots;
    uint64_t step_at, state_at;
    uint64_t steps;
    xft_pending pending[2]; /* of the last step and the one before, by parity */
};

/* Everything a trainer takes on the device, in one order for the trainer and for plans. */
xft_status xft_trainer_take(xft_trainer *trainer, const xft_config *config, const xft_parameters *parameters,
                            const xft_weights *weights, xft_dtype dtype, xft_room *room);

/* Checks the options against a model's storage type, and fills in defaults. */
xft_status xft_train_options_check(xft_train_options *options, xft_dtype dtype, bool mixing);

#endif
