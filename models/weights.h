/* Weights by their names: what tensors a configuration has, and where each stands in xft_weights.
 *
 * Notation of the whole folder: T tokens, H hidden, I FFN, V vocabulary, D head size, A = heads*D (= H), G =
 * kv_heads*D, E experts, K picks in all, E' routed experts, R = T*K grouped rows; "d:" the storage type (f32 or bf16),
 * else f32.
 */
#ifndef XFT_MODELS_WEIGHTS_H
#define XFT_MODELS_WEIGHTS_H

#include "room.h"
#include "xft/config.h"

typedef struct xft_layer_weights {
    xft_tensor norm1, norm1_bias, norm2, norm2_bias; /* [H]; biases: stablelm */
    xft_tensor q, k, v, o;                           /* d:[A,H] d:[G,H] d:[G,H] d:[H,A] */
    xft_tensor q_bias, k_bias, v_bias;               /* [A] [G] [G]; qwen2, some stablelm */
    xft_tensor gate, up, down;                       /* d:[I,H] d:[I,H] d:[H,I]; MoE: d:[E,I,H] d:[E,I,H] d:[E,H,I] */
    xft_tensor router;                               /* [2E',H] = W1 over Wn; [E',H] without noise */
    xft_tensor w2;                                   /* [E',E']; linear gate: none */
    xft_tensor mixing;                               /* [E'] a of the merge stage */
} xft_layer_weights;

/* Also the shape of gradients and moments: then tensors of what is not trained are absent (rank 0). */
typedef struct xft_weights {
    xft_tensor embed;           /* d:[V,H] */
    xft_tensor head;            /* d:[V,H]; tied: absent, the embedding is used */
    xft_tensor norm, norm_bias; /* [H] */
    xft_layer_weights *layers;
} xft_weights;

enum { XFT_NAME_SIZE = 112 };

/* One trained tensor, or the experts' tensors that lie in one [E,·,·]. */
typedef struct xft_parameter {
    char name[XFT_NAME_SIZE]; /* checkpoint name; of experts: with one %u for the expert's number */
    uint32_t layer;           /* UINT32_MAX: not in a layer */
    size_t member;            /* offset in xft_layer_weights, or in xft_weights */
    uint32_t stored_rows;     /* rows of the tensor it is a part of; 0: it is a part of an earlier one */
    uint32_t first_row;       /* of its part */
    uint32_t rank, shape[3];
    bool small;   /* always f32: norms, biases, router, mixing */
    bool experts; /* [E,·,·]: every expert a tensor of the checkpoint with its own state */
    bool matrix;  /* factored second moment; else a vector */
    bool decayed; /* weight decay applies: matrices */
} xft_parameter;

typedef struct xft_parameters {
    xft_parameter *list;
    uint32_t count;
} xft_parameters;

/* All parameters of a configuration in checkpoint order; merge: with average_weights. Free list with free(). */
xft_status xft_parameters_make(const xft_config *config, bool merge, xft_parameters *parameters);

/* The whole tensor a parameter is stored in, and its own part as a view (rank 0 when absent). */
xft_tensor *xft_parameter_store(const xft_parameter *parameter, const xft_weights *weights);
xft_tensor xft_parameter_view(const xft_parameter *parameter, const xft_weights *weights);

/* Takes a tensor for every parameter for which `wanted` is NULL or true; matrices of layers in `dtype`, embedding and
 * head in `outer`, small ones in f32. weights->layers is allocated for config->num_layers. */
xft_status xft_weights_take(xft_room *room, const xft_config *config, const xft_parameters *parameters, xft_dtype dtype,
                            xft_dtype outer, bool (*wanted)(const xft_parameter *), xft_weights *weights);
void xft_weights_free(xft_weights *weights);

#endif
