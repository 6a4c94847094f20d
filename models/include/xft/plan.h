/* Memory plans: what a run takes on a device, before anything is loaded.
 *
 *     xft_plan plan;
 *     XFT_TRY(xft_plan_training(&config, XFT_F32, &options, NULL, &plan));
 *     printf("%.1f GiB\n", plan.total / 0x1p30);
 *
 * A plan is made by the code that allocates, in a mode that only counts. Not counted: what the driver takes for itself,
 * compiled kernels, and staging memory (a few times the ids of a micro-batch).
 */
#ifndef XFT_PLAN_H
#define XFT_PLAN_H

#include "xft/generate.h"
#include "xft/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes. */
typedef struct xft_plan {
    uint64_t weights; /* of the model; merge stage: the merged weights beside them */
    uint64_t gradients;
    uint64_t optimizer;   /* masters, moments, counters */
    uint64_t activations; /* inputs, and what forward keeps for backward */
    uint64_t scratch;     /* used and free again within a layer; logits of a chunk */
    uint64_t cache;       /* keys and values of generation */
    uint64_t total;
} xft_plan;

/* Model and trainer. dtype: storage of the model. device: for its alignment; NULL: the usual one. */
XFT_API xft_status xft_plan_training(const xft_config *config, xft_dtype dtype, const xft_train_options *options,
                                     const xft_device *device, xft_plan *plan);

/* Model and generator. */
XFT_API xft_status xft_plan_generation(const xft_config *config, xft_dtype dtype, const xft_generator_options *options,
                                       const xft_device *device, xft_plan *plan);

/* Model and evaluator. */
XFT_API xft_status xft_plan_evaluation(const xft_config *config, xft_dtype dtype, uint32_t tokens, uint32_t sequences,
                                       const xft_device *device, xft_plan *plan);

/* One way of training that fits. */
typedef struct xft_fit {
    uint32_t num_experts, top_k;
    xft_precision precision;
    xft_dtype grad_dtype;
    bool recompute;
    uint32_t sequences; /* of `length` tokens in a micro-batch */
    xft_plan plan;
} xft_fit;

enum { XFT_MOST_FITS = 70 };

/* What fits into `bytes`: for E of 16, 8, 4, 2 with K of 3/4 of E (the paper's ratio) and of 2, every precision, and
 * gradients in f32 and (where weights are) bf16, the largest micro-batch of 1, 2, 4 ... 64 sequences of `length` tokens
 * without recomputation, then the largest with it where that is larger. options: optimizer and merge are taken from it.
 * fits: room for `*count` entries, XFT_MOST_FITS hold all; *count becomes their number. */
XFT_API xft_status xft_plan_fit(const xft_config *dense, const xft_train_options *options, uint32_t length,
                                uint64_t bytes, xft_fit *fits, uint32_t *count);

#ifdef __cplusplus
}
#endif
#endif
