/* Tiny models and data that can be learned, for the tests of models/. */
#ifndef XFT_TESTS_SMALL_MODEL_H
#define XFT_TESTS_SMALL_MODEL_H

#include "trainer.h"
#include "xft/train.h"

enum { SMALL_VOCABULARY = 61 };

/* A dense configuration: 2 layers, H 32, 4 heads on 2, I 24. */
xft_config small_config(xft_family family);
/* The same as MoE. */
xft_config small_moe(xft_family family, uint32_t num_experts, uint32_t top_k, xft_gate gate, bool mlp);

/* A model with random weights on the device, its router scaled up so that routing depends on the tokens. */
xft_status small_model(xft_device *device, const xft_config *config, xft_dtype dtype, uint64_t seed, xft_model **model);
/* The same with mixing coefficients, for the merge stage. */
xft_status small_merge_model(xft_device *device, const xft_config *config, xft_dtype dtype, uint64_t seed,
                             xft_model **model);

/* Sequences in which the next token mostly follows from the last one. */
typedef struct small_data {
    xft_batch batch;
    uint32_t *ids, *labels, *cu_seqlens, *lengths;
    float *noise;
    const float **noise_rows;
} small_data;
/* `sequences` of `length` tokens; packed: of different lengths, padded, and with a tail. */
void small_data_make(small_data *d, uint32_t sequences, uint32_t length, bool packed, uint64_t seed);
/* Adds noise for a configuration. */
void small_data_noise(small_data *d, const xft_config *config, uint64_t seed);
void small_data_free(small_data *d);

/* All elements of the tensors of a model, one after the other, as f32; *count (may be NULL) gets their number. */
float *small_weights(const xft_model *model, uint64_t *count);
xft_status small_write_weights(xft_model *model, const float *values);
/* The gradients of a trainer in the same order. */
float *small_gradients(const xft_trainer *trainer, uint64_t *count);

/* A step at rate 0: cross-entropy and balance loss. Fails when they are not finite. */
xft_status small_loss(xft_trainer *trainer, const xft_batch *batches, uint32_t count, double *loss);

/* Uniform in [0,1), and normal; `state` is advanced. */
double small_uniform(uint64_t *state);
double small_normal(uint64_t *state);

#endif
