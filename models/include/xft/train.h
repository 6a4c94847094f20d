/* Training: dense models (SFT), MoE, and the mixing coefficients of the merge stage.
 *
 *     xft_trainer *trainer;
 *     XFT_TRY(xft_trainer_create(model, &(xft_train_options){.tokens = 512, .sequences = 8}, &trainer));
 *     for (uint32_t step = 0; step < steps; step++) {
 *         double lr = xft_schedule_rate(XFT_SCHEDULE_LINEAR, 5e-5, 500, steps, step);
 *         XFT_TRY(xft_trainer_step(trainer, batches, grad_accum, lr));       // returns before the device is done
 *         XFT_TRY(xft_trainer_metrics(trainer, &metrics));                   // of the step before: no idling
 *     }
 *     XFT_TRY(xft_trainer_flush(trainer, &metrics));                         // of the last step
 *     xft_trainer_destroy(trainer);
 *
 * A micro-batch is recorded once and replayed; the host waits at most once per step (of up to XFT_MOST_SLOTS
 * micro-batches), for the metrics of the step before.
 *
 * Threads: a trainer belongs to the thread of its device. Callbacks are called on the thread that calls the library.
 */
#ifndef XFT_TRAIN_H
#define XFT_TRAIN_H

#include "xft/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of tokens, several sequences one after the other. */
typedef struct xft_batch {
    uint32_t tokens;            /* rows in use, padding and tail included */
    uint32_t sequences;         /* n */
    const uint32_t *ids;        /* [tokens] */
    const uint32_t *labels;     /* [tokens]: the NEXT token of each row, UINT32_MAX: none; NULL: none at all */
    const uint32_t *cu_seqlens; /* [n+1]: sequence i owns the rows [cu[i], cu[i+1]); rows from cu[n] on are a tail */
    const uint32_t *lengths;    /* [n]: how many of them are tokens, the rest is padding; NULL: all */
    const float *const *noise;  /* per layer [tokens,E'], with XFT_NOISE_STORED; else NULL */
} xft_batch;

typedef enum xft_optimizer { XFT_ADAFACTOR = 0, XFT_ADAMW = 1 } xft_optimizer;

/* How weights are kept. */
typedef enum xft_precision {
    XFT_PRECISION_F32 = 0,        /* model dtype f32 */
    XFT_PRECISION_MASTER = 1,     /* model dtype bf16, masters in f32 */
    XFT_PRECISION_STOCHASTIC = 2, /* model dtype bf16, updates rounded stochastically */
    XFT_PRECISION_NEAREST = 3     /* model dtype bf16, updates rounded to nearest: many vanish (--compat official) */
} xft_precision;

typedef struct xft_train_options {
    uint32_t tokens;    /* most rows of a micro-batch */
    uint32_t sequences; /* most sequences of a micro-batch */
    bool merge;         /* train the mixing coefficients only; the model must have them */
    xft_optimizer optimizer;
    float beta1, beta2, eps; /* AdamW; 0 stands for 0.9, 0.999, 1e-8; betas below 1 */
    float weight_decay;      /* of matrices */
    float max_norm;          /* clipping of the global gradient norm; 0: none */
    xft_precision precision;
    xft_dtype grad_dtype; /* of the gradients of a layer's matrices: XFT_F32, or XFT_BF16 rounded stochastically */
    bool recompute;       /* activations of a layer are computed again in backward: less memory, same bits */
    /* --compat official: every quirk of the reference's step at once: picks by the noise alone, padding in the router's
     * statistics, the mean of the micro-batches' means, rotation, no gradient for padding's embedding. Its rounding to
     * nearest is XFT_PRECISION_NEAREST, its start of the router XFT_ROUTER_OFFICIAL of xft_model_upcycle. */
    bool official;
    bool stored_noise; /* router noise comes with the batches instead of from Philox */
    uint64_t seed;
    uint32_t head_chunk; /* rows of logits in memory at once; 0: chosen */
    const xft_callbacks
        *callbacks;       /* steps that were not applied, progress within a step; or NULL; must outlive the trainer */
    bool timers;          /* device time of every op, for xft_trainer_profile; costs a little */
    uint32_t max_skipped; /* non-finite steps in a row after which xft_trainer_metrics fails; 0: never */
} xft_train_options;

/* What a step has computed, on its weights before the update. */
typedef struct xft_metrics {
    uint64_t step;    /* number of the step, from 0 */
    double loss;      /* cross-entropy over the step's labels */
    double balance;   /* balance loss, summed over layers, mean over micro-batches with a label */
    double grad_norm; /* before clipping */
    bool skipped;     /* loss or norm was not finite: the step was not applied */
    uint32_t skipped_in_all, skipped_in_row;
    uint64_t labels, tokens;
    double lr;
} xft_metrics;

typedef struct xft_trainer xft_trainer;

XFT_API xft_status xft_trainer_create(xft_model *model, const xft_train_options *options, xft_trainer **trainer);
/* Waits for the device. NULL is accepted. The merge stage leaves the learned coefficients in the model. */
XFT_API void xft_trainer_destroy(xft_trainer *trainer);

/* Merge stage: rebuilds the merged weights after the coefficients were written from outside (a resume). Waits. */
XFT_API xft_status xft_trainer_refresh(xft_trainer *trainer);

/* One optimizer step over `count` micro-batches: queued, not waited for. At least one label in all. Router noise is
 * keyed by the row's number in the step, padding counted: cutting the same rows into other micro-batches changes none
 * of it, padding sequences to other lengths does. */
XFT_API xft_status xft_trainer_step(xft_trainer *trainer, const xft_batch *batches, uint32_t count, double lr);

/* Metrics of the step before the last one queued; metrics->labels is 0 when there is none yet. */
XFT_API xft_status xft_trainer_metrics(xft_trainer *trainer, xft_metrics *metrics);
/* Waits for the last step and gives its metrics. */
XFT_API xft_status xft_trainer_flush(xft_trainer *trainer, xft_metrics *metrics);

/* Balance statistics of the last micro-batch, for reports: importance, load and tokens of every routed expert of a
 * layer, 3*E' floats. Waits. */
XFT_API xft_status xft_trainer_router_stats(xft_trainer *trainer, uint32_t layer, float *stats);

/* Device time of every op of the last step, its first micro-batch and its update, after a flush; needs options.timers
 * and a device that has timers. */
typedef void (*xft_profile_visitor)(void *user, const char *op, double ms);
XFT_API xft_status xft_trainer_profile(xft_trainer *trainer, xft_profile_visitor visit, void *user);

/* Steps queued so far; setting it resumes a run (random numbers are keyed by it). */
XFT_API uint64_t xft_trainer_steps(const xft_trainer *trainer);
XFT_API void xft_trainer_set_steps(xft_trainer *trainer, uint64_t steps);

/* What must be saved beside weights and steps for an exact resume: masters, moments, every t, counters. Read and write
 * them with xft_tensor_read and xft_tensor_write. */
XFT_API uint32_t xft_trainer_state_count(const xft_trainer *trainer);
XFT_API xft_status xft_trainer_state(const xft_trainer *trainer, uint32_t index, char name[160], xft_tensor *tensor);

/* Bytes taken on the device beside the weights. */
XFT_API uint64_t xft_trainer_bytes(const xft_trainer *trainer);

/* ---- Learning rate ---- */

typedef enum xft_schedule { XFT_SCHEDULE_LINEAR = 0, XFT_SCHEDULE_COSINE = 1, XFT_SCHEDULE_CONSTANT = 2 } xft_schedule;

/* Rate of step `step` (from 0) of `steps`: rises from 0 over `warmup` steps to `peak`, then falls to 0 (linear, cosine)
 * or stays (constant). */
XFT_API double xft_schedule_rate(xft_schedule schedule, double peak, uint64_t warmup, uint64_t steps, uint64_t step);

/* ---- Evaluation ---- */

typedef struct xft_evaluator xft_evaluator;

/* Forward passes without noise, with room for batches of `tokens` rows; `logits`: and for the logits of all rows. */
XFT_API xft_status xft_evaluator_create(xft_model *model, uint32_t tokens, uint32_t sequences, bool logits,
                                        bool official, xft_evaluator **evaluator);
/* The same for the weights that a trainer works on, in the merge stage the merged dense ones, without a copy of them:
 * it sees each step that was queued before it runs. To be destroyed before the trainer. */
XFT_API xft_status xft_trainer_evaluator(xft_trainer *trainer, uint32_t tokens, uint32_t sequences,
                                         xft_evaluator **evaluator);
XFT_API void xft_evaluator_destroy(xft_evaluator *evaluator);
/* Sum of the cross-entropy over the labels of a batch, and their number; logits (may be NULL): [tokens,V]. Waits. */
XFT_API xft_status xft_evaluator_run(xft_evaluator *evaluator, const xft_batch *batch, double *loss_sum,
                                     uint64_t *labels, float *logits);

#ifdef __cplusplus
}
#endif
#endif
