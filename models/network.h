/* The network of one micro-batch: its inputs, what forward keeps for backward, and the recording of both.
 *
 *     x_0 = embed[ids]                                        // [T,H], the residual stream, f32 in every precision
 *     x_l+1/2 = x_l + attention(norm1(x_l))
 *     x_l+1 = x_l+1/2 + ffn(norm2(x_l+1/2))                   // dense, or a mixture of experts
 *     loss = cross_entropy(norm(x_L) head^T, labels)          // in chunks of rows
 *
 * Backward mirrors it line by line; d_x [T,H] holds the gradient of the residual stream and walks from x_L down to x_0.
 * Letters of shapes: weights.h.
 */
#ifndef XFT_MODELS_NETWORK_H
#define XFT_MODELS_NETWORK_H

#include "op_params.h"
#include "weights.h"
#include "xft/train.h"

/* What a recording is for. */
typedef struct xft_network_options {
    uint32_t tokens;      /* T: rows of a micro-batch */
    uint32_t sequences;   /* most sequences in it */
    uint32_t head_chunk;  /* rows of logits in memory at once; 0: chosen */
    bool backward;        /* room for gradients of activations */
    bool recompute;       /* keep only the inputs of each layer; gradients are the same bits */
    bool official;        /* --compat official */
    bool frozen;          /* merge stage: only the gradients of the FFN matrices are wanted */
    xft_dtype grad_dtype; /* of the gradients of a layer's matrices */
    bool all_logits;      /* room for logits of all T rows */
    xft_noise noise;      /* of the router */
} xft_network_options;

/* What a layer's backward pass needs from its forward pass. */
typedef struct xft_layer_activations {
    xft_tensor x;                   /* [T,H] input */
    xft_tensor y1, stats1;          /* d:[T,H] norm1(x); [T] rstd or [T,2] mean, rstd */
    xft_tensor q, k, v, o;          /* d:[T,A] d:[T,G] d:[T,G] d:[T,A]; q and k rotated */
    xft_tensor lse;                 /* [heads,T] */
    xft_tensor x_mid;               /* [T,H] */
    xft_tensor y2, stats2;          /* d:[T,H] norm2(x_mid) */
    xft_tensor g, u;                /* d:[T,I] gate and up; MoE: d:[R,I] of the grouped rows */
    xft_tensor state;               /* [T,7E'] of the router */
    xft_tensor picks, weights;      /* u32 [T,k], [T,K] */
    xft_tensor offsets;             /* u32 [E+1] */
    xft_tensor source, inverse;     /* u32 [R], u32 [T,K] */
    xft_tensor stats, coefficients; /* [3,E'] importance, load, tokens; [2,E'] */
} xft_layer_activations;

typedef struct xft_network {
    const xft_config *config; /* a dense one in the merge stage */
    const xft_weights *w;
    const xft_weights *d; /* gradients; NULL: forward only */
    xft_network_options options;
    xft_dtype dtype; /* d: */
    double rope_theta;
    xft_router_config router;
    bool accumulate; /* gradients: += instead of = */

    /* inputs of a micro-batch, in the order of the staging slot */
    xft_tensor step;              /* u32 [16] */
    xft_tensor ids, labels, rows; /* u32 [T]; rows: of the rope table */
    xft_tensor cu_seqlens;        /* u32 [n+1] */
    xft_tensor lengths;           /* u32 [n] */
    xft_tensor table;             /* [P,rotary]; an input only where rotation is per token */
    xft_tensor noise;             /* [layers,T,E']; XFT_NOISE_STORED */

    xft_tensor segments; /* u32 [T,4] */
    xft_layer_activations *layers;
    xft_tensor x_end, y_end, stats_end; /* [T,H] d:[T,H] */
    xft_tensor used;                    /* u32 [layers,E]: experts used in the step */

    /* scratch, shared by all layers */
    xft_tensor grouped_x, grouped_y;  /* d:[R,H] */
    xft_tensor h, d_h;                /* d:[T,I] or d:[R,I] */
    xft_tensor router_h;              /* [T,2E'] */
    xft_tensor statistics, counts;    /* [C,3E'], u32 [C,E]: scratch of router_balance and expert_group */
    xft_tensor logits, row_loss;      /* [C,V] (all_logits: [T,V]), [T] */
    xft_tensor loss, balance;         /* [1] sums of the step */
    xft_tensor wide;                  /* f32, room for the largest matrix, where gradients are bf16 */
    xft_tensor d_x, d_y;              /* [T,H] */
    xft_tensor d_o, d_q, d_k, d_v;    /* d: like o, q, k, v */
    xft_tensor delta;                 /* [heads,T] */
    xft_tensor dots, d_router_h, d_g; /* [R], [T,2E'], [T,E'] */
    xft_tensor sums, sums_kv;         /* [2C,H], [C,G]: scratch of column sums */

    const struct xft_merge *merge; /* merge stage: where the gradients of the merged matrices go; else NULL */
} xft_network;

/* The merge stage (section 6): W = lambda W_0 + (1-lambda) sum_i alpha_i W_i, one a per layer. */
typedef struct xft_merge {
    const xft_weights *experts; /* of the MoE; mixing is a */
    float lambda;
    xft_weights merged;          /* layers[l].gate, up, down are own; all else is the MoE's */
    xft_tensor *alpha, *d_alpha; /* [E'] per layer */
    xft_tensor d_in, d_down;     /* [I,H] and [H,I]: gradients of one merged matrix at a time */
    xft_tensor dots;             /* [C,E'] scratch */
} xft_merge;

/* Where the parts of a micro-batch lie in a staging slot. */
typedef struct xft_input_layout {
    uint64_t step, ids, labels, rows, cu_seqlens, lengths, table, noise;
} xft_input_layout;

/* The base of the rotation, and the router's settings, that a network starts from. */
double xft_network_theta(const xft_config *config, bool official);
xft_router_config xft_network_router(const xft_config *config, xft_noise noise, bool official);

/* Takes every tensor of the network. config, w, d, options, dtype, rope_theta and router are set before. */
xft_status xft_network_take(xft_network *network, xft_room *room);
void xft_network_free(xft_network *network);

/* Uploads what never changes (the rope table). Waits for the device. */
xft_status xft_network_upload(const xft_network *network);

/* Declares the inputs of a micro-batch; the stream must be empty. */
xft_status xft_network_inputs(const xft_network *network, xft_stream *stream, xft_input_layout *layout);

/* Writes a batch and its step block into a staging slot. The batch was checked by xft_batch_check. */
void xft_network_fill(const xft_network *network, const xft_input_layout *layout, const xft_batch *batch,
                      const xft_step_block *step, void *slot);
/* Most rows and sequences of batches that a network shall have room for. */
xft_status xft_batch_room_check(const char *what, uint32_t tokens, uint32_t sequences);
xft_status xft_batch_check(const xft_network *network, const xft_device *device, const xft_batch *batch);

/* Recording; errors stick to the stream. Forward ends with y_end; in training it adds balance losses. */
void xft_network_forward(const xft_network *network, xft_stream *stream);
void xft_network_backward(const xft_network *network, xft_stream *stream);

/* y_end head^T for all rows into network->logits; needs all_logits. */
void xft_head_logits(const xft_network *network, xft_stream *stream);
/* Cross-entropy in chunks: adds to loss; with network->d: d_y (gradient of y_end) and the head's gradient. */
void xft_head_loss(const xft_network *network, xft_stream *stream);

/* The parts of a layer. `again`: recomputation for the backward pass; what backward does not need is left out. */
void xft_attention_block_forward(const xft_network *network, xft_stream *stream, uint32_t layer);
/* Generation: T = B*n rows, the n newest of B sequences whose caches hold past [B] rows so far; caches [B,capacity,G].
 */
void xft_attention_block_decode(const xft_network *network, xft_stream *stream, uint32_t layer, const xft_tensor *past,
                                const xft_tensor *k_cache, const xft_tensor *v_cache);
void xft_attention_block_backward(const xft_network *network, xft_stream *stream, uint32_t layer);
void xft_ffn_forward(const xft_network *network, xft_stream *stream, uint32_t layer, bool again);
void xft_ffn_backward(const xft_network *network, xft_stream *stream, uint32_t layer);
/* y [T,H] (=) of the experts for y2 of the layer: a MoE block without norm and residual. */
void xft_moe_block_forward(const xft_network *network, xft_stream *stream, uint32_t layer, bool again,
                           const xft_tensor *y);
void xft_moe_forward(const xft_network *network, xft_stream *stream, uint32_t layer, bool again);
void xft_moe_backward(const xft_network *network, xft_stream *stream, uint32_t layer);

/* y = norm(x) and its backward: d_x += (or =), gradients of w and b by network->accumulate. RMSNorm or LayerNorm. */
void xft_norm_forward(const xft_network *network, xft_stream *stream, const xft_tensor *x, const xft_tensor *w,
                      const xft_tensor *b, const xft_tensor *y, const xft_tensor *stats);
void xft_norm_backward(const xft_network *network, xft_stream *stream, const xft_tensor *d_y, const xft_tensor *x,
                       const xft_tensor *w, const xft_tensor *stats, bool accumulate_d_x, const xft_tensor *d_w,
                       const xft_tensor *d_b);

/* Gradient of a matrix of a layer: d_w = or += d_out^T x by network->accumulate; grouped by offsets (NULL: not). */
void xft_weight_gradient(const xft_network *network, xft_stream *stream, const xft_tensor *d_out, const xft_tensor *x,
                         const xft_tensor *offsets, const xft_tensor *d_w);

/* A tensor, or NULL for an absent one. */
const xft_tensor *xft_present(const xft_tensor *tensor);
/* `count` elements of a [N] tensor from `first`, a multiple of 4. */
xft_tensor xft_slice(const xft_tensor *vector, uint32_t first, uint32_t count);

#endif
