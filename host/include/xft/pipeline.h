/* The pipeline: all stages of XFT, from one base model and one file of settings.
 *
 *     XFT_TRY(xft_settings_load(settings, "pipeline.yaml"));
 *     XFT_TRY(xft_pipeline_run(settings, &(xft_pipeline_options){.stage = show}));
 *
 *     OUT/sft        base, trained as it is: the baseline
 *     OUT/upcycled   base as MoE
 *     OUT/moe        upcycled, trained
 *     OUT/merged     moe with learned coefficients, dense
 *     OUT/uniform    moe with equal coefficients, dense
 *     OUT/eval/NAME  loss, samples and scores of base, sft, moe, uniform and merged
 *     OUT/scores.json, OUT/report.html
 *     OUT/pipeline.json   what has been done: per part its status, seconds, and the fingerprint of settings and inputs
 *
 * Which stages run says the setting `stages` (default: all). A part whose output is there, made with the same settings
 * from inputs of the same content, is skipped; one whose settings or inputs changed is done again, and what depends on
 * it. A pipeline that was stopped anywhere goes on there. What a part made before stays until its replacement is
 * complete.
 */
#ifndef XFT_PIPELINE_H
#define XFT_PIPELINE_H

#include "xft/stage.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum xft_part_status {
    XFT_PART_SKIPPED = 0, /* its output is there and matches */
    XFT_PART_STARTED,     /* it is about to run; `why` says for what reason */
    XFT_PART_DONE
} xft_part_status;

typedef struct xft_part_event {
    xft_part_status status;
    const char *name; /* "sft", "upcycled", "moe", "merged", "uniform", "eval/base" …, "report" */
    xft_stage stage;  /* XFT_STAGE_RUN: the report */
    const char *output;
    const char *why;        /* "not done yet", "settings changed: lr", "input changed: base" …; SKIPPED, DONE: NULL */
    uint32_t number, count; /* of this part, from 1, and of all */
    const xft_stage_result *result; /* DONE; else NULL */
} xft_part_event;

typedef struct xft_pipeline_options {
    xft_device *device; /* NULL: opened as the settings say */
    void *user;
    bool (*part)(void *user, const xft_part_event *event); /* false: stop. Or NULL */
    bool (*event)(void *user, const xft_run_event *event); /* of training; false: stop, with a checkpoint. Or NULL */
    const volatile int *cancel;                            /* stop when it is not 0; or NULL */
    const xft_callbacks *callbacks;                        /* lines for a person, progress; or NULL */
} xft_pipeline_options;

/* Runs what is to be run. XFT_ERROR_CANCELLED when it was stopped: the next call goes on. options may be NULL. */
XFT_API xft_status xft_pipeline_run(const xft_settings *settings, const xft_pipeline_options *options);

#ifdef __cplusplus
}
#endif
#endif
