/* Training runs: a folder in, a folder out, with checkpoints, a log, evaluation and exact resume.
 *
 *     const char *data[] = {"instructions.jsonl"};
 *     xft_run_options options = {.stage = XFT_RUN_TUNE, .model = "moe", .output = "tuned",
 *                                .data = data, .data_count = 1, .epochs = 4, .length = 1024,
 *                                .batch = 64, .micro_batch = 8, .warmup = 0.07,
 *                                .save_every = 500, .keep = 2, .seed = 1, .event = show};
 *     if (xft_run(&options, NULL)) puts(xft_error());
 *
 * The output folder holds, when the run is done, a model (config.json, weights, the tokenizer's files as they came);
 * beside it and from the beginning on
 *
 *     run.json                     settings, device, kernel choices, fingerprints of the inputs, status
 *     log.jsonl                    one object per line, see below; it goes on across a resume
 *     checkpoints/step-00000100/   model, state.json and state.safetensors after 100 steps
 *     checkpoints/best             the one with the lowest evaluation loss (a link), with keep_best
 *
 * Lines of the log have "event" and "time" (ISO 8601, UTC), and but for start "step", the number of steps done:
 *
 *     start        stage, model, device, driver, steps, settings
 *     step         epoch, loss, balance, grad_norm, lr, tokens, labels, tokens_per_s, seconds, skipped (so far), memory
 *     eval         loss, perplexity, labels
 *     router       of the step's last micro-batch: load: per layer, each routed expert's share of the picks;
 *                  entropy: per layer, of these shares, divided by the greatest possible (1: all alike); balance:
 *                  per layer its part of the balance loss
 *     mixing       alpha: per layer (merge stage)
 *     checkpoint   path
 *     resume, cancelled
 *     failed       message
 *     end          seconds, loss, eval_loss
 *
 * Numbers that are not finite are null.
 *
 * Called again with the same options, a run that was stopped in any way goes on from its newest checkpoint, and ends
 * with the same bits as if it had never been stopped; a run that is done returns at once. A folder appears under its
 * final name by rename, after all of it has reached the disk; what a killed process leaves behind is removed at the
 * next start. A checkpoint that cannot be read is passed over with a warning and stays as NAME.unreadable. Only one
 * process at a time can have a run in a folder.
 *
 * A resume refuses other inputs and other settings, naming each, but for those that do not touch the weights:
 * recompute, eval_data, eval_every, router_every, log_every, save_every, keep, keep_best, max_skipped, shard_size and
 * save_dtype; and for another device, which is named in a warning, for it gives other bits. Files may have moved as
 * long as they are the same.
 *
 * Threads: a run belongs to the thread that called xft_run; callbacks are called on it.
 */
#ifndef XFT_RUN_H
#define XFT_RUN_H

#include "xft/train.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum xft_run_stage {
    XFT_RUN_SFT = 0,  /* all weights of a dense model */
    XFT_RUN_TUNE = 1, /* all weights of a MoE */
    XFT_RUN_MERGE = 2 /* the mixing coefficients of a MoE; the output is the merged dense model */
} xft_run_stage;

typedef enum xft_run_event_kind {
    XFT_RUN_EVENT_START = 0,  /* all is there; before the first step of this process */
    XFT_RUN_EVENT_STEP,       /* every step; one step late */
    XFT_RUN_EVENT_EVAL,       /* an evaluation is done */
    XFT_RUN_EVENT_CHECKPOINT, /* a checkpoint is on the disk */
    XFT_RUN_EVENT_END         /* the finished model is on the disk */
} xft_run_event_kind;

/* Where a run stands. Every field holds its latest value, whatever the kind. */
typedef struct xft_run_event {
    xft_run_event_kind kind;
    xft_run_stage stage;
    uint64_t step, steps; /* steps done (with EVENT_STEP: this one included), and of the whole run */
    uint64_t first_step;  /* steps done by earlier processes; 0 unless resumed */
    double epoch, epochs; /* passes over the data so far, and of the whole run */
    xft_metrics metrics;  /* of the last step that is known; labels 0 before the first */
    double tokens_per_s;  /* of that step */
    double seconds;       /* of the run, with those of earlier processes until the checkpoint resumed from */
    double eta;           /* seconds until the last step at the present pace; negative: not known yet */
    uint64_t memory;      /* bytes that the library holds on the device, staging left out as in plans */
    double eval_loss;     /* of the latest evaluation; NaN when there was none */
    double best_loss;     /* lowest evaluation loss so far; NaN when there was none */
    uint64_t best_step;   /* after which it was seen */
    xft_device *device;   /* must not be closed or trained on */
    const char *path;     /* EVENT_CHECKPOINT: its folder; EVENT_END: the output; else NULL */
} xft_run_event;

typedef struct xft_run_options {
    xft_run_stage stage;
    const char *model;  /* folder of the model to start from */
    const char *output; /* folder; made when it is missing */

    /* Device. The run opens it by name, with the kernel choices of the checkpoint it resumes from; "auto" or NULL: the
     * device of that checkpoint, or the fastest. opened: one that is open already, with the choices it
     * was opened with, is used instead. */
    const char *device;
    xft_device *opened;
    xft_device_options device_options; /* for opening; choices are set by a resume */

    /* Data: JSONL files (data.h), tokenized by the model's tokenizer. */
    const char *const *data;
    uint32_t data_count;
    const char *const *eval_data; /* or NULL */
    uint32_t eval_data_count;
    double eval_fraction;      /* share of data that is held out for evaluation where there is no eval_data; 0: none */
    const char *chat_template; /* NULL: magicoder */
    uint32_t length;           /* tokens of a sequence at the most; 0: 1024, or max_positions when that is less */
    bool packing;              /* several samples in one sequence */
    bool train_on_prompt;      /* the prompts are labelled, too */

    /* How long and how fast */
    uint32_t batch;       /* sequences of an optimizer step; 0: 64 */
    uint32_t micro_batch; /* of them at once on the device; 0: 8 */
    double epochs;        /* passes over the data; 0: as many as max_steps takes, or 1 without it */
    uint64_t max_steps;   /* the run ends after so many steps at the latest, and the schedule with it; 0: by epochs */
    double lr;            /* 0: xft_run_default_rate */
    xft_schedule schedule;
    double warmup; /* steps in which the rate rises from 0; below 1: as a share of all steps */
    uint64_t seed; /* of shuffling, the held-out share, router noise and rounding */

    /* Numbers */
    xft_optimizer optimizer;
    float beta1, beta2, eps; /* AdamW; 0 stands for 0.9, 0.999, 1e-8; betas below 1 */
    float weight_decay;
    float max_norm;          /* clipping of the global gradient norm; 0: none */
    xft_dtype dtype;         /* of the model on the device: XFT_F32 or XFT_BF16 */
    xft_precision precision; /* of updates with XFT_BF16; XFT_PRECISION_F32 stands for MASTER there */
    xft_dtype grad_dtype;
    bool recompute;
    bool official;        /* --compat official */
    const double *lambda; /* merge: weight of the shared expert, 0 to 1; NULL: the model's own */
    uint32_t max_skipped; /* non-finite steps in a row after which the run fails; 0: never */

    /* Checkpoints, evaluation, log: intervals in steps; 0: never */
    uint64_t save_every;
    uint64_t eval_every;         /* an evaluation at the end there is whenever there is data for it */
    uint64_t log_every;          /* of the log's step lines; 0: every step */
    uint64_t router_every;       /* of its router and mixing lines; 0: so that there are about 50 */
    uint32_t keep;               /* checkpoints that stay, the newest; 0: all */
    bool keep_best;              /* an evaluation better than all before makes a checkpoint, which stays */
    const xft_dtype *save_dtype; /* of the finished model in its files; NULL: that of the model started from */
    uint64_t shard_size;         /* bytes of a file of weights at the most; 0: one file */
    bool restart;                /* begin anew in a folder that holds a run: its log and checkpoints are removed */

    /* Telling and stopping; all may be NULL. */
    void *user;
    bool (*event)(void *user, const xft_run_event *event); /* false: stop at the next step, with a checkpoint */
    const volatile int *cancel;     /* the same as soon as it is not 0: for signal handlers (sig_atomic_t is an int) */
    const xft_callbacks *callbacks; /* lines for a person; progress of loading and saving and within a step */
} xft_run_options;

typedef struct xft_run_result {
    bool was_done;       /* the folder held the finished run already: nothing was computed */
    uint64_t steps;      /* done */
    uint64_t first_step; /* resumed from; 0: from the beginning */
    uint64_t tokens;     /* of the whole run */
    double loss;         /* of the last step */
    double eval_loss;    /* after the last step; NaN without evaluation data */
    double best_loss;    /* NaN without evaluation data */
    uint64_t best_step;
    uint64_t skipped; /* steps that were not applied */
    double seconds;   /* of the whole run */
    uint64_t memory;  /* most bytes that the library held on the device while training */
    uint64_t planned; /* bytes that the plan said */
} xft_run_result;

/* Runs to the end, or until it is stopped: XFT_ERROR_CANCELLED, with a checkpoint from which the next call goes on.
 * Any other error leaves earlier checkpoints as they are. result may be NULL; it says how far the run came also on
 * errors. */
XFT_API xft_status xft_run(const xft_run_options *options, xft_run_result *result);

/* The learning rate that xft_run takes for 0: 5e-5; in the merge stage one at which the coefficients move, or with
 * `official` the 1e-5 of the reference, at which they do not. */
XFT_API double xft_run_default_rate(xft_run_stage stage, bool official);

typedef enum xft_run_state {
    XFT_RUN_NONE = 0, /* no run */
    XFT_RUN_STOPPED,  /* not finished: it can go on */
    XFT_RUN_DONE      /* the finished model is there */
} xft_run_state;

/* State of the run in a folder; *step (may be NULL): of its newest checkpoint, or of its end. */
XFT_API xft_status xft_run_find(const char *output, xft_run_state *state, uint64_t *step);

/* 128 bits, as 32 hexadecimal digits, of the content of a file, or of the model in a folder: its configuration, weights
 * and tokenizer's files. Inputs with the same fingerprint are taken to be the same. */
XFT_API xft_status xft_fingerprint(const char *path, char hex[33]);

#ifdef __cplusplus
}
#endif
#endif
