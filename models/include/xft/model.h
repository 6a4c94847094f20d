/* Models: weights on a device, under the names of their checkpoints.
 *
 *     xft_model *base, *moe;
 *     XFT_TRY(xft_checkpoint_load(device, "smollm2", NULL, &base));        // checkpoint.h
 *     XFT_TRY(xft_model_upcycle(base, &(xft_upcycle_options){.num_experts = 8, .top_k = 6}, &moe));
 *     … train (train.h) …
 *     XFT_TRY(xft_model_merge(moe, XFT_MERGE_LEARNED, NULL, -1, NULL, &merged)); // a dense model again
 *     xft_model_destroy(moe);
 *
 * Threads: a model belongs to the thread of its device.
 */
#ifndef XFT_MODEL_H
#define XFT_MODEL_H

#include "xft/callbacks.h"
#include "xft/config.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct xft_model xft_model;

typedef struct xft_model_options {
    xft_dtype dtype;         /* of matrices and embeddings: XFT_F32, or XFT_BF16; norms, biases and routers are f32 */
    bool mixing;             /* MoE: add the mixing coefficients of the merge stage, all 1 */
    const char *config_json; /* text of the config.json it comes from, kept for xft_model_config_json; or NULL */
} xft_model_options;

/* A model with unspecified weights. options may be NULL. */
XFT_API xft_status xft_model_create(xft_device *device, const xft_config *config, const xft_model_options *options,
                                    xft_model **model);
/* Trainers and generators made from the model must be gone before. NULL is accepted. */
XFT_API void xft_model_destroy(xft_model *model);

XFT_API const xft_config *xft_model_get_config(const xft_model *model);
XFT_API xft_device *xft_model_device(const xft_model *model);
XFT_API xft_dtype xft_model_dtype(const xft_model *model);
XFT_API bool xft_model_has_mixing(const xft_model *model);
/* Bytes of its weights on the device. */
XFT_API uint64_t xft_model_bytes(const xft_model *model);

/* Sets the fixed weight lambda of the shared expert in merges: shared_expert_weight of its configuration, from 0 to 1.
 */
XFT_API xft_status xft_model_set_shared_weight(xft_model *model, float lambda);

/* Text of a config.json for the model (xft_config_write); *json is to be freed with free(). */
XFT_API xft_status xft_model_config_json(const xft_model *model, char **json);

/* Tensors of its checkpoint: number, and name and view of each. Names belong to the model. */
XFT_API uint32_t xft_model_tensor_count(const xft_model *model);
XFT_API xft_status xft_model_tensor(const xft_model *model, uint32_t index, const char **name, xft_tensor *tensor);
/* XFT_ERROR_INVALID_ARGUMENT when there is none of that name. */
XFT_API xft_status xft_model_find(const xft_model *model, const char *name, xft_tensor *tensor);

/* Random weights: matrices ~ N(0, initializer_range), norms 1, biases 0, mixing coefficients 1. Waits. */
XFT_API xft_status xft_model_init(xft_model *model, uint64_t seed);

/* ---- Upcycling (section 1) ---- */

typedef enum xft_router_init {
    XFT_ROUTER_INTENDED = 0, /* W1, W2 ~ N(0, initializer_range), Wn = 0 */
    XFT_ROUTER_OFFICIAL = 1  /* Wn ~ N(0, initializer_range) as well */
} xft_router_init;

typedef struct xft_upcycle_options {
    uint32_t num_experts, top_k; /* E and K, the shared expert included: 2 <= K <= E <= 64 */
    xft_gate gate;
    bool linear_gate; /* g = W1 x instead of W2 tanh(W1 x) */
    bool no_noise;    /* no weight_noise tensor */
    xft_router_init router_init;
    float noise_scale; /* multiplies the router's noise; 0: 1; negative: no noise */
    bool official;     /* --compat official: RoPE theta 10000 with linear scaling 4, as the reference writes it */
    uint64_t seed;
    const xft_callbacks *callbacks; /* warnings, progress; or NULL */
} xft_upcycle_options;

/* A MoE whose experts are copies of the dense model's FFN. Its logits are the dense model's (but for the unnormalised
 * gate). Waits. */
XFT_API xft_status xft_model_upcycle(const xft_model *dense, const xft_upcycle_options *options, xft_model **moe);

/* ---- Mixing to dense (section 6) ---- */

typedef enum xft_merge_kind {
    XFT_MERGE_UNIFORM = 0, /* alpha = 1/E' */
    XFT_MERGE_LEARNED = 1, /* alpha = softmax of the model's mixing coefficients */
    XFT_MERGE_GIVEN = 2    /* alpha = softmax of `coefficients` [layers * E'] */
} xft_merge_kind;

/* A dense model of the base architecture: W = lambda W_0 + (1-lambda) sum_i alpha_i W_i. lambda < 0: the config's
 * shared_expert_weight. coefficients: XFT_MERGE_GIVEN, else NULL. callbacks: progress by layers ("merging"); or NULL.
 * Waits. */
XFT_API xft_status xft_model_merge(const xft_model *moe, xft_merge_kind kind, const float *coefficients, double lambda,
                                   const xft_callbacks *callbacks, xft_model **dense);

#ifdef __cplusplus
}
#endif
#endif
