/* The optimizer of a trainer: one update per tensor of the checkpoint (section 5). */
#ifndef XFT_MODELS_OPTIMIZER_H
#define XFT_MODELS_OPTIMIZER_H

#include "model.h"
#include "op_params.h"
#include "xft/train.h"

/* One trained parameter and what its update keeps. Experts of an [E,·,·] tensor have their own t, factors and update.
 */
typedef struct xft_trained {
    const xft_parameter *parameter;
    uint32_t key;       /* of stochastic rounding */
    xft_tensor w, d_w;  /* weight and gradient */
    xft_tensor master;  /* f32; XFT_PRECISION_MASTER */
    xft_tensor m, v;    /* AdamW: moments, f32 like w; Adafactor of vectors: v */
    xft_tensor r, c;    /* Adafactor of matrices: row means [E,N], column means [E,K] of the squares */
    xft_tensor t;       /* u32 [1], or [E] of its layer */
    xft_tensor used;    /* u32 [E] of its layer; else absent */
    xft_tensor squares; /* its part of `partial` */
    xft_tensor columns; /* [E,K] sums of squares of the columns; Adafactor of matrices */
} xft_trained;

typedef struct xft_optimization {
    const xft_train_options *options;
    xft_trained *list;
    uint32_t count;
    uint32_t layers, experts;
    xft_tensor t;        /* u32 [1]: of everything that is no expert */
    xft_tensor expert_t; /* u32 [layers,E]; MoE */
    xft_tensor partial;  /* sums of squares of all gradients */
    xft_tensor scratch;  /* of Adafactor, for the largest matrix */
    xft_tensor state;    /* u32 [8]: xft_step_state */
} xft_optimization;

/* Lists the parameters for which `wanted` is true and takes their state. d: the gradients; used: u32 [layers,E] or
 * absent. */
xft_status xft_optimization_take(xft_optimization *o, xft_room *room, const xft_train_options *options,
                                 const xft_config *config, const xft_parameters *parameters, const xft_weights *w,
                                 const xft_weights *d, const xft_tensor *used, bool (*wanted)(const xft_parameter *));
void xft_optimization_free(xft_optimization *o);

/* Zeroes t, moments and counters, and copies the weights into the masters. Waits. */
xft_status xft_optimization_start(const xft_optimization *o, xft_device *device);

/* Records: norm, skip flag, every t, every update. step: the step block; loss, balance: sums of the step. */
void xft_optimization_record(const xft_optimization *o, xft_stream *s, const xft_tensor *step, const xft_tensor *loss,
                             const xft_tensor *balance);

/* State of parameter-tensors for a checkpoint: number `index` of its names; false behind the last. */
bool xft_optimization_state(const xft_optimization *o, uint32_t index, char name[160], xft_tensor *tensor);

#endif
