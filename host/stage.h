/* A stage as its own files see it. */
#ifndef XFT_HOST_STAGE_H
#define XFT_HOST_STAGE_H

#include "xft/checkpoint.h"
#include "xft/stage.h"
#include "xft/tokenizer.h"

#include <jansson.h>

typedef struct xft_stage_job {
    const xft_settings *settings;
    xft_stage stage;
    xft_stage_options o; /* model is set; output too, but for an eval that writes nothing */
    xft_values v;
    xft_config config;       /* of the model */
    char model_hex[33];      /* its fingerprint; "": not known yet */
    xft_callbacks callbacks; /* the caller's, and its wish to stop */
    xft_device *device;      /* not for training, which opens its own */
    bool own_device;
    xft_stage_result *result;
} xft_stage_job;

/* Whether it is a training run (run.h). */
bool xft_stage_trains(const xft_stage_job *job);
/* Which coefficients a merge takes. */
xft_merge_kind xft_stage_merge_kind(const xft_stage_job *job);
/* Number format in which it mixes and measures: as `dtype` says, where nothing of the folder is lost by it. */
xft_status xft_stage_merge_dtype(const xft_stage_job *job, xft_dtype *dtype);

/* Settings, model and callbacks; opens nothing. */
xft_status xft_stage_prepare(xft_stage_job *job, const xft_settings *settings, xft_stage stage,
                             const xft_stage_options *options, xft_stage_result *result);
xft_status xft_stage_open_device(xft_stage_job *job);
void xft_stage_close_device(xft_stage_job *job);

/* Number format on the device in which a folder's weights lose nothing: bf16 when all its matrices are, else f32. */
xft_status xft_stage_exact_dtype(const char *folder, xft_dtype *dtype);
/* How the finished model is stored: as `save_dtype` says, or like the model started from. */
xft_save_options xft_stage_save_options(const xft_stage_job *job);

/* The evaluation data of a stage: eval_data, else the share eval_fraction of data, else (`whole`) data; NULL in *set
 * when there is none. */
xft_status xft_stage_eval_data(const xft_stage_job *job, const xft_tokenizer *tokenizer, bool whole, xft_dataset **set);

/* Whether the samples of problems are tested: they are to be, and there are tests; if not, they are for EvalPlus. */
bool xft_stage_tests(const xft_values *values, const xft_problems *problems);
/* Limits of the programs that an evaluation runs. */
xft_sandbox xft_stage_sandbox(const xft_values *values);

/* What can be seen to fail at once: files that cannot be read, problems that cannot be understood, tests that cannot be
 * run. Warns of problems that have none. */
xft_status xft_stage_check_inputs(const xft_stage_job *job);

/* stage_plan.c */
xft_status xft_stage_needs_of(xft_stage_job *job, xft_stage_needs *needs);
/* Refuses a stage that does not fit on the device; *disk grows by what it writes at the most. */
xft_status xft_stage_check(xft_stage_job *job, uint64_t *disk);

xft_status xft_stage_train(xft_stage_job *job, xft_run_stage stage);
xft_status xft_stage_merge(xft_stage_job *job); /* stage_merge.c */
xft_status xft_stage_eval(xft_stage_job *job);  /* stage_eval.c */

/* What a result depends on, as JSON: the settings of the stage that have an effect, without paths, and the contents of
 * its inputs. */
xft_status xft_stage_inputs(const xft_stage_job *job, json_t **description);

#endif
