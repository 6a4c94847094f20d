/* A case of tests/oracle (its README describes the format): what it holds, and how computed values are judged. */
#ifndef XFT_TESTS_ORACLE_H
#define XFT_TESTS_ORACLE_H

#include "xft/checkpoint.h"
#include "xft/safetensors.h"
#include "xft/train.h"

#include <jansson.h>

typedef struct oracle {
    char folder[512];
    const char *kind;
    json_t *root, *params, *checks;
    xft_safetensors *inputs, *expected;
    xft_device *device;
    const char *hidden;   /* an input [B,T]: where it is 0, rows are not compared; or NULL */
    const char *prefix;   /* "official." or "corrected." while a variant runs, else "" */
    bool *seen;           /* per check: was compared */
    uint32_t failed;      /* comparisons that failed */
    double worst;         /* largest metric / tolerance */
    char worst_name[160]; /* its check: name, metric, tolerance */
    char message[400];    /* of the first failure */
} oracle;

/* Opens a case; runs it on its device (the functions below); closes it. */
xft_status oracle_open(oracle *o, const char *folder, xft_device *device);
xft_status oracle_run(oracle *o);
void oracle_close(oracle *o);

/* Judges computed values by every check of that name: with the variant's prefix, with "both.", and without. */
void oracle_compare(oracle *o, const double *values, uint64_t count, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same for a tensor on the device. */
xft_status oracle_compare_tensor(oracle *o, const xft_tensor *tensor, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* True when some check has this name, with any of the prefixes. */
bool oracle_wants(const oracle *o, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Inputs as numbers; NULL when absent. Freed by the caller. count may be NULL. */
int64_t *oracle_integers(const oracle *o, const char *name, uint64_t *count);
float *oracle_floats(const oracle *o, const char *name, uint64_t *count);

/* A parameter of the case, or `absent`. */
double oracle_number(const oracle *o, const char *name, double absent);
const char *oracle_text(const oracle *o, const char *name);

/* A model folder of the case ("model", "moe"). */
xft_status oracle_model(const oracle *o, const char *name, bool mixing, xft_model **model);

/* The inputs input_ids, labels, attention_mask, cu_seqlens, noise.l of micro-batch m as a batch. */
typedef struct oracle_batch {
    xft_batch batch;
    uint32_t rows, length; /* B and T; packed: 1 and all tokens */
    uint32_t *ids, *labels, *cu_seqlens, *lengths;
    float *noise; /* [layers][tokens][E'] */
    const float **noise_rows;
    int64_t *mask; /* attention_mask or NULL */
    uint64_t label_count;
} oracle_batch;
/* zero_noise: noise of 0 where the case has none (evaluation through a training recording). */
xft_status oracle_batch_make(const oracle *o, uint32_t m, const xft_config *config, bool zero_noise, oracle_batch *b);
void oracle_batch_free(oracle_batch *b);

/* Kinds, in oracle_models.c, oracle_training.c. */
xft_status oracle_run_model(oracle *o); /* dense, packed, moe_train, merge */
xft_status oracle_run_moe_eval(oracle *o);
xft_status oracle_run_upcycle(oracle *o);
xft_status oracle_run_generate(oracle *o);
xft_status oracle_run_training(oracle *o); /* train_dense, train_moe, train_merge */
xft_status oracle_run_optimizer(oracle *o);
xft_status oracle_run_schedule(oracle *o);
xft_status oracle_run_clipping(oracle *o);

#endif
