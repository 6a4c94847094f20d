/* MoE -> dense: the coefficients, the mixed model, and what it is worth beside the uniform and the shared one. */
#include "stage.h"

#include "callbacks.h"
#include "error.h"
#include "files.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

xft_merge_kind xft_stage_merge_kind(const xft_stage_job *job) {
    return job->o.uniform ? XFT_MERGE_UNIFORM : (xft_merge_kind)job->v.merge_kind;
}

xft_status xft_stage_merge_dtype(const xft_stage_job *job, xft_dtype *dtype) {
    XFT_TRY(xft_stage_exact_dtype(job->o.model, dtype));
    if (*dtype == XFT_BF16) *dtype = (xft_dtype)job->v.dtype;
    return XFT_OK;
}

/* ---- Coefficients: alpha of every layer, and a = ln alpha, whose softmax it is ---- */

static xft_status read_layer(const json_t *row, uint32_t layer, uint32_t routed, const char *path, float *a) {
    double sum = 0;
    XFT_FAIL_IF(json_array_size(row) != routed, XFT_ERROR_FORMAT,
                "%s: layer %u has %zu coefficients; the model has %u routed experts", path, layer, json_array_size(row),
                routed);
    for (uint32_t i = 0; i < routed; i++) {
        const json_t *x = json_array_get(row, i);
        XFT_FAIL_IF(!json_is_number(x) || !(json_number_value(x) >= 0), XFT_ERROR_FORMAT,
                    "%s: layer %u, coefficient %u: must be a number of at least 0", path, layer, i);
        sum += json_number_value(x);
    }
    XFT_FAIL_IF(!(sum > 0 && isfinite(sum)), XFT_ERROR_FORMAT, "%s: layer %u: the coefficients sum to %g", path, layer,
                sum);
    for (uint32_t i = 0; i < routed; i++)
        a[i] = (float)log(fmax(json_number_value(json_array_get(row, i)) / sum, FLT_MIN));
    return XFT_OK;
}

static xft_status read_rows(const xft_stage_job *job, const json_t *rows, const char *path, float *a) {
    uint32_t routed = xft_config_routed(&job->config);
    XFT_FAIL_IF(!json_is_array(rows) || json_array_size(rows) != job->config.num_layers, XFT_ERROR_FORMAT,
                "%s: holds %zu lists of coefficients; expected a JSON array of %u, one per layer", path,
                json_array_size(rows), job->config.num_layers);
    for (uint32_t l = 0; l < job->config.num_layers; l++)
        XFT_TRY(read_layer(json_array_get(rows, l), l, routed, path, a + (size_t)l * routed));
    return XFT_OK;
}

/* A file of the user's: [[alpha of layer 0], …], or an object with "alpha", such as merge.json of another merge. */
static xft_status read_given(const xft_stage_job *job, float *a) {
    const char *path = job->v.coefficients;
    char *text;
    XFT_TRY(xft_read_file(path, &text, NULL));
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    free(text);
    XFT_FAIL_IF(!root, XFT_ERROR_FORMAT, "%s: line %d: %s", path, error.line, error.text);
    xft_status status = read_rows(job, json_is_object(root) ? json_object_get(root, "alpha") : root, path, a);
    json_decref(root);
    return status;
}

/* Where a training of coefficients has put them: the last "mixing" line of its log, which is of its last step. */
static xft_status read_learned(const xft_stage_job *job, float *a) {
    char *path, *text = NULL;
    XFT_TRY(xft_path_join(job->o.output, "log.jsonl", &path));
    xft_status status = xft_read_file(path, &text, NULL);
    json_t *last = NULL;
    for (char *line = text, *end; status == XFT_OK && line && *line; line = end ? end + 1 : NULL) {
        end = strchr(line, '\n');
        if (end) *end = 0;
        if (!strstr(line, "\"mixing\"")) continue;
        json_t *event = json_loads(line, 0, NULL);
        if (json_object_get(event, "alpha")) {
            json_decref(last);
            last = json_incref(event);
        }
        json_decref(event);
    }
    const uint64_t step = (uint64_t)json_integer_value(json_object_get(last, "step")), steps = job->result->run.steps;
    if (status == XFT_OK && step != steps)
        status = xft_fail(XFT_ERROR_FORMAT, "%s: the last coefficients are those of step %llu; the merge had %llu",
                          path, (unsigned long long)step, (unsigned long long)steps);
    if (status == XFT_OK) status = read_rows(job, json_object_get(last, "alpha"), path, a);
    json_decref(last);
    free(text);
    free(path);
    return status;
}

static xft_status coefficients(const xft_stage_job *job, float *a) {
    size_t count = (size_t)job->config.num_layers * xft_config_routed(&job->config);
    switch (xft_stage_merge_kind(job)) {
    case XFT_MERGE_LEARNED:
        return read_learned(job, a);
    case XFT_MERGE_GIVEN:
        return read_given(job, a);
    default:
        for (size_t i = 0; i < count; i++) a[i] = 0;
        return XFT_OK;
    }
}

/* alpha as JSON; most: the largest difference from 1/E'. */
static json_t *describe_alpha(const xft_config *c, const float *a, double *most) {
    json_t *rows = json_array();
    uint32_t routed = xft_config_routed(c);
    *most = 0;
    for (uint32_t l = 0; l < c->num_layers; l++) {
        json_t *row = json_array();
        const float *x = a + (size_t)l * routed;
        double sum = 0;
        for (uint32_t i = 0; i < routed; i++) sum += exp((double)x[i]);
        for (uint32_t i = 0; i < routed; i++) {
            double alpha = exp((double)x[i]) / sum;
            *most = fmax(*most, fabs(alpha - 1.0 / routed));
            json_array_append_new(row, json_real(alpha));
        }
        json_array_append_new(rows, row);
    }
    return rows;
}

/* ---- Losses ---- */

typedef struct mixture {
    xft_stage_job *job;
    xft_model *moe;
    const float *a;
    double lambda;
    xft_dataset *set; /* NULL: nothing is measured */
    const char *measured_on;
} mixture;

/* Samples of the training data, where nothing else is there to measure on. */
enum { MOST_OF_TRAINING = 256 };

static xft_status load_set(mixture *m) {
    const xft_values *v = &m->job->v;
    const bool evaluation = v->eval_data.count || v->eval_fraction > 0;
    xft_tokenizer *tokenizer;
    xft_dataset *part;
    xft_data_counts counts;
    if (!v->eval_data.count && !v->data.count) return XFT_OK;
    XFT_TRY(xft_tokenizer_load(m->job->o.model, &tokenizer));
    xft_status status = xft_stage_eval_data(m->job, tokenizer, true, &m->set);
    xft_tokenizer_free(tokenizer);
    m->measured_on = evaluation ? "evaluation data" : "training data";
    if (status != XFT_OK || evaluation) return status;
    xft_dataset_get_counts(m->set, &counts);
    if (counts.samples > MOST_OF_TRAINING) {
        XFT_TRY(xft_dataset_split(m->set, (double)MOST_OF_TRAINING / (double)counts.samples, v->seed, &part));
        xft_dataset_free(m->set);
        m->set = part;
    }
    xft_log(&m->job->callbacks, XFT_LOG_INFO,
            "losses are those on training data: neither eval_data nor eval_fraction is set");
    return XFT_OK;
}

static xft_status measure(const mixture *m, xft_model *dense, double *loss) {
    const xft_values *v = &m->job->v;
    return xft_score_loss(dense, m->set, (uint32_t)v->micro_batch, v->packing, v->compat != 0, &m->job->callbacks, loss,
                          &m->job->result->labels);
}

static xft_status measure_kind(const mixture *m, xft_merge_kind kind, double lambda, double *loss) {
    xft_model *dense;
    if (!m->set) return XFT_OK;
    XFT_TRY(xft_model_merge(m->moe, kind, kind == XFT_MERGE_GIVEN ? m->a : NULL, lambda, &m->job->callbacks, &dense));
    xft_status status = measure(m, dense, loss);
    xft_model_destroy(dense);
    return status;
}

static xft_status measure_all(const mixture *m) {
    xft_stage_result *r = m->job->result;
    bool uniform = xft_stage_merge_kind(m->job) == XFT_MERGE_UNIFORM;
    if (!uniform) XFT_TRY(measure_kind(m, XFT_MERGE_GIVEN, m->lambda, &r->loss_mixed));
    XFT_TRY(measure_kind(m, XFT_MERGE_UNIFORM, m->lambda, &r->loss_uniform));
    XFT_TRY(measure_kind(m, XFT_MERGE_GIVEN, 1, &r->loss_shared));
    r->loss = uniform ? r->loss_uniform : r->loss_mixed;
    r->perplexity = exp(r->loss);
    return XFT_OK;
}

static json_t *real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static xft_status write_summary(const mixture *m) {
    static const char *const kinds[] = {"uniform", "learned", "given"};
    xft_stage_result *r = m->job->result;
    json_t *alpha = describe_alpha(&m->job->config, m->a, &r->most_moved);
    json_t *o = json_pack("{s:s,s:f,s:{s:o,s:o,s:o},s:I,s:s?,s:f,s:o}", "kind", kinds[xft_stage_merge_kind(m->job)],
                          "lambda", m->lambda, "loss", "mixed", real(r->loss_mixed), "uniform", real(r->loss_uniform),
                          "shared", real(r->loss_shared), "labels", (json_int_t)r->labels, "measured_on",
                          m->measured_on, "most_moved", r->most_moved, "alpha", alpha);
    char *text = json_dumps(o, JSON_INDENT(1)), *path = NULL;
    json_decref(o);
    XFT_FAIL_IF(!text, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for merge.json");
    xft_status status = xft_path_join(m->job->o.output, "merge.json", &path);
    if (status == XFT_OK) status = xft_write_file(path, text, strlen(text));
    free(path);
    free(text);
    return status;
}

/* ---- The stage ---- */

static xft_status save_mixed(const mixture *m) {
    xft_save_options options = xft_stage_save_options(m->job);
    xft_model *dense;
    XFT_TRY(xft_model_merge(m->moe, XFT_MERGE_GIVEN, m->a, m->lambda, &m->job->callbacks, &dense));
    xft_status status = xft_checkpoint_save(dense, m->job->o.output, &options);
    xft_model_destroy(dense);
    return status;
}

static xft_status mix(mixture *m, float *a) {
    xft_stage_job *job = m->job;
    xft_dtype dtype;
    XFT_TRY(coefficients(job, a));
    XFT_TRY(xft_stage_merge_dtype(job, &dtype));
    XFT_TRY(xft_stage_open_device(job));
    XFT_TRY(load_set(m));
    XFT_TRY(xft_checkpoint_load(job->device, job->o.model,
                                &(xft_load_options){.dtype = dtype, .callbacks = &job->callbacks}, &m->moe));
    XFT_TRY(measure_all(m));
    if (xft_stage_merge_kind(job) != XFT_MERGE_LEARNED) XFT_TRY(save_mixed(m));
    XFT_TRY(write_summary(m));
    if (xft_stage_merge_kind(job) == XFT_MERGE_LEARNED && job->result->most_moved < 0.01 && !job->v.compat)
        xft_log(&job->callbacks, XFT_LOG_WARNING,
                "the coefficients moved by at most %.4f, so the merge is nearly the uniform one; lr is %g, the default "
                "of this stage is %s",
                job->result->most_moved, job->v.lr,
                xft_setting_default(xft_settings_find("lr"), XFT_STAGE_MERGE, false));
    return XFT_OK;
}

/* The learned merge is a training run, whose end is the merged model; merge.json is written after it, and again when it
 * is missing. */
static xft_status learn(xft_stage_job *job, bool *described) {
    xft_stage_close_device(job); /* the run opens its own, with the kernels of its checkpoint */
    XFT_TRY(xft_stage_train(job, XFT_RUN_MERGE));
    char *path;
    XFT_TRY(xft_path_join(job->o.output, "merge.json", &path));
    *described = job->result->was_done && access(path, F_OK) == 0;
    free(path);
    return XFT_OK;
}

xft_status xft_stage_merge(xft_stage_job *job) {
    const xft_config *c = &job->config;
    XFT_FAIL_IF(!c->num_experts || c->gate == XFT_GATE_VANILLA, XFT_ERROR_INVALID_ARGUMENT,
                "%s: %s; merging takes a mixture with a shared expert", job->o.model,
                c->num_experts ? "has the vanilla gate" : "is a dense model");
    bool described = false;
    if (xft_stage_merge_kind(job) == XFT_MERGE_LEARNED) XFT_TRY(learn(job, &described));
    if (described) return XFT_OK;
    float *a = calloc((size_t)c->num_layers * xft_config_routed(c), sizeof *a);
    XFT_FAIL_IF(!a, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the coefficients of %u layers", c->num_layers);
    mixture m = {.job = job, .a = a, .lambda = job->v.lambda >= 0 ? job->v.lambda : (double)c->shared_expert_weight};
    xft_status status = mix(&m, a);
    xft_model_destroy(m.moe);
    xft_dataset_free(m.set);
    free(a);
    return status;
}
