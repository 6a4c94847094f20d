/* A training run as its own files see it. */
#ifndef XFT_HOST_RUN_H
#define XFT_HOST_RUN_H

#include "xft/checkpoint.h"
#include "xft/data.h"
#include "xft/plan.h"
#include "xft/run.h"

#include <jansson.h>

/* What has been reached: in every checkpoint, beside the tensors. Steps say where the data and the schedule stand. */
typedef struct xft_run_progress {
    uint64_t step, tokens, skipped;
    double seconds, loss;
    uint64_t eval_step; /* steps before the latest evaluation; UINT64_MAX: none */
    double eval_loss, best_loss;
    uint64_t best_step;
} xft_run_progress;
extern const xft_run_progress xft_run_beginning;

/* A checkpoint in a folder, or the beginning of a run. */
typedef struct xft_run_saved {
    char *folder;  /* NULL: none, only what run.json says */
    json_t *state; /* state.json, or run.json; NULL: nothing */
    xft_run_progress progress;
} xft_run_saved;

typedef struct xft_run_job {
    xft_run_options o; /* with defaults filled in */
    xft_config config; /* of the model to start from */
    json_t *settings;  /* all that is to be the same after a resume, and what is not */
    json_t *inputs;    /* fingerprints */
    int lock;          /* the folder, held while the run lasts */
    bool made;         /* the folder was not there before */
    xft_run_saved saved;

    xft_tokenizer *tokenizer;
    xft_dataset *data, *eval_data; /* eval_data: may be NULL */
    xft_loader *loader, *eval_loader;
    xft_device *device;
    bool own_device;
    xft_model *model;
    xft_trainer *trainer;
    xft_evaluator *evaluator;
    xft_callbacks callbacks; /* the caller's, but that a wish to stop waits for the end of a step */
    bool training, stop;

    uint64_t steps, first_step;
    xft_run_progress progress;
    xft_metrics metrics;
    uint64_t reported; /* steps whose metrics were told */
    uint64_t memory, planned;
    double started, last_report, paced; /* monotonic seconds: of this process, of the last report, of the first one */
    uint64_t paced_step;
    double tokens_per_s;
    int log;
} xft_run_job;

/* ---- Options (run_options.c) ---- */

/* Checks the caller's options and fills in what does not depend on model and data. */
xft_status xft_run_options_take(xft_run_job *job, const xft_run_options *options);
/* After model, data and steps are known: the settings as JSON. */
xft_status xft_run_settings_make(xft_run_job *job);
/* Refuses to go on with a run that has other settings or inputs; `state` is a state.json or run.json. */
xft_status xft_run_settings_compare(const xft_run_job *job, const json_t *state);
xft_train_options xft_run_train_options(const xft_run_job *job);
/* How the finished model is saved. */
xft_save_options xft_run_save_options(const xft_run_job *job);
const char *xft_run_stage_word(xft_run_stage stage);

/* ---- Files of a run (run_files.c) ---- */

/* A number for JSON: null when it is not finite. */
json_t *xft_run_number(double value);
json_t *xft_run_time(void);
/* A JSON file, or NULL in *json when there is none. */
xft_status xft_run_read_json(const char *folder, const char *name, json_t **json);
xft_status xft_run_write_json(const char *folder, const char *name, const json_t *json);

/* What run.json and checkpoints say of where a run comes from: device, choices, settings, inputs. */
xft_status xft_run_origin(const xft_run_job *job, json_t **json);
/* run.json with this status ("running", "stopped", "failed", "done") and message (or NULL). */
xft_status xft_run_describe(xft_run_job *job, const char *status, const char *message);

/* Opens the log: lines after `step` are cut off; fresh: all of them. */
xft_status xft_run_log_open(xft_run_job *job, bool fresh, uint64_t step);
/* Adds a line; takes over `fields` (NULL: none). Event "start" has no step. */
xft_status xft_run_log(xft_run_job *job, const char *event, json_t *fields);

/* ---- Checkpoints of a run (run_checkpoint.c) ---- */

/* Progress as JSON and back. */
json_t *xft_run_progress_json(const xft_run_progress *progress);
xft_status xft_run_progress_read(const json_t *json, xft_run_progress *progress);

/* The newest checkpoint that can be read; else run.json, else nothing. Those that cannot are named by `callbacks`. */
xft_status xft_run_saved_find(const char *output, const xft_callbacks *callbacks, xft_run_saved *saved);
void xft_run_saved_free(xft_run_saved *saved);
/* Removes what a killed process left half written. */
xft_status xft_run_tidy(const char *output);
/* Checkpoints newer than the one that a run goes on from could not be read. They stay, as NAME.unreadable, and take no
 * place among those to keep. */
xft_status xft_run_set_aside(const xft_run_job *job);
/* The trainer's state from saved->folder. */
xft_status xft_run_restore(xft_run_job *job);
/* Writes checkpoints/step-N of job->progress, renews checkpoints/best, and drops those beyond `keep`. *path: the
 * checkpoint, to be freed with free(). */
xft_status xft_run_save(xft_run_job *job, char **path);
/* Checkpoints that are there at once at the most, in a run of so many steps to come. */
uint64_t xft_run_checkpoints(uint64_t steps, uint64_t save_every, uint64_t keep, bool keep_best);
/* Refuses a run whose files do not fit on the disk. */
xft_status xft_run_check_space(const xft_run_job *job);

#endif
