/* Stages of XFT from settings: a model folder in, a model folder out.
 *
 *     xft_stage_result result;
 *     XFT_TRY(xft_settings_load(settings, "pipeline.yaml"));
 *     XFT_TRY(xft_stage_run(settings, XFT_STAGE_UPCYCLE, NULL, &result));
 *
 *     stage    from           to                      what
 *     sft      dense          dense                   training of all weights (run.h)
 *     upcycle  dense          MoE                     every FFN becomes E copies of itself, with a new router
 *     tune     MoE            MoE                     training of all weights (run.h)
 *     merge    MoE            dense                   mixing coefficients, learned (run.h), uniform or given; then
 *                                                     the experts mixed by them
 *     eval     dense or MoE   eval.json, samples      loss and perplexity on data, pass@k on problems
 *
 * A merge also writes merge.json: kind, lambda, alpha of every layer, and the losses of a result (measured_on:
 * "evaluation data", "training data", or null). Coefficients that are given come from a JSON file, [[alpha of layer 0],
 * …] or another merge.json; each layer's are scaled to the sum 1.
 * Losses are measured on eval_data, else on the share eval_fraction of data; without either an eval takes all of data,
 * a merge 256 samples of it.
 *
 * An eval of problems that have no test, such as those of MBPP+, writes their samples for EvalPlus and scores none.
 *
 * What is written: a dense model has the names, shapes, dtypes and the config.json of the base it came from; a MoE the
 * official layout where that can hold it, else xft_moe. Tokenizer files and whatever else belongs to the model go along
 * as they are. A model in the output folder is replaced when the new one is complete: that of the same training run,
 * any other one when the setting resume is no; else it is refused.
 *
 * Before anything is loaded a stage compares what it takes with the memory of the device and the space on the disk, and
 * refuses with the numbers and what would make it fit.
 *
 * Threads: a stage belongs to the thread that called; callbacks are called on it.
 */
#ifndef XFT_STAGE_H
#define XFT_STAGE_H

#include "xft/plan.h"
#include "xft/run.h"
#include "xft/score.h"
#include "xft/settings.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a stage starts from, beside the settings, and whom it tells. */
typedef struct xft_stage_options {
    const char *model;  /* folder; NULL: the setting */
    const char *output; /* folder; NULL: the setting (eval: may be missing there, too: nothing is written) */
    xft_device *device; /* NULL: opened as the setting says, and closed at the end */
    bool uniform;       /* merge: with equal coefficients, whatever merge_kind says */
    bool replace;       /* the output folder is the caller's: a model in it gives way, whatever resume says */
    bool held_out;      /* eval: never on all of data; without eval_data and eval_fraction no loss is measured */

    void *user;
    bool (*event)(void *user, const xft_run_event *event); /* of training; false: stop, with a checkpoint. Or NULL */
    const volatile int *cancel;                            /* stop when it is not 0; or NULL */
    const xft_callbacks *callbacks;                        /* lines for a person, progress; or NULL */
} xft_stage_options;

/* Numbers of a stage; what it has not measured is NaN, or 0 where it counts. */
typedef struct xft_stage_result {
    bool was_done;      /* the output was there already */
    xft_run_result run; /* sft, tune, merge with learned coefficients */
    double loss;        /* cross-entropy on the evaluation data of the model that was written, or evaluated */
    double perplexity;  /* exp(loss) */
    uint64_t labels;    /* that loss is a mean over */
    /* merge: cross-entropy on the evaluation data with these coefficients (learned or given), with uniform ones, and of
     * the shared expert alone (lambda = 1); most_moved: the largest |alpha - 1/E'| */
    double loss_mixed, loss_uniform, loss_shared, most_moved;
    xft_score score; /* eval with problems; else problems is 0 */
} xft_stage_result;

/* Runs one stage: sft, upcycle, tune, merge or eval. XFT_ERROR_CANCELLED when it was stopped; called again, a training
 * stage goes on from its checkpoint. options and result may be NULL. */
XFT_API xft_status xft_stage_run(const xft_settings *settings, xft_stage stage, const xft_stage_options *options,
                                 xft_stage_result *result);

/* What a stage takes, and what there is, in bytes. */
typedef struct xft_stage_needs {
    xft_plan plan;             /* on the device */
    uint64_t memory_available; /* of the device */
    bool memory_told;          /* by its driver; else an estimate */
    uint64_t disk;             /* written at the most, checkpoints included */
    bool fits;                 /* plan.total is within memory_available */
    char advice[400];          /* what would make it fit; "" when it fits */
} xft_stage_needs;

/* The same that xft_stage_run compares; nothing is loaded. For tune and merge the model may be dense: then it is taken
 * as upcycled with the settings of that stage. */
XFT_API xft_status xft_stage_plan(const xft_settings *settings, xft_stage stage, const xft_stage_options *options,
                                  xft_stage_needs *needs);

#ifdef __cplusplus
}
#endif
#endif
