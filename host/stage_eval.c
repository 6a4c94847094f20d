/* Evaluation of one model: loss on data, pass@k on problems. */
#include "stage.h"

#include "callbacks.h"
#include "error.h"
#include "files.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static xft_status loss(xft_stage_job *job, xft_model *model, const xft_tokenizer *tokenizer) {
    const xft_values *v = &job->v;
    xft_dataset *set;
    XFT_TRY(xft_stage_eval_data(job, tokenizer, !job->o.held_out, &set));
    if (!set) return XFT_OK;
    xft_status status = xft_score_loss(model, set, (uint32_t)v->micro_batch, v->packing, v->compat != 0,
                                       &job->callbacks, &job->result->loss, &job->result->labels);
    xft_dataset_free(set);
    job->result->perplexity = exp(job->result->loss);
    return status;
}

/* Samples and results stay in the output folder; without one they are in a temporary folder while it lasts. */
static xft_status score_in(xft_stage_job *job, xft_model *model, const xft_tokenizer *tokenizer,
                           const xft_problems *problems, const char *folder) {
    const xft_values *v = &job->v;
    char identity[33], *samples = NULL, *results = NULL;
    uint32_t stops[16], stop_count = sizeof stops / sizeof *stops;
    XFT_TRY(xft_fingerprint(job->o.model, identity));
    XFT_TRY(xft_checkpoint_stops(job->o.model, tokenizer, stops, &stop_count));
    xft_sample_options o = {.chat_template = xft_template_name(v->prompt_template),
                            .max_problems = (uint32_t)v->max_problems,
                            .samples = (uint32_t)v->samples,
                            .temperature = (float)v->temperature,
                            .top_p = (float)v->top_p,
                            .max_new_tokens = (uint32_t)v->max_new_tokens,
                            .batch = (uint32_t)v->micro_batch,
                            .seed = v->seed,
                            .official = v->compat != 0,
                            .stop = stops,
                            .stop_count = stop_count,
                            .identity = identity,
                            .callbacks = &job->callbacks};
    xft_score_options s = {.sandbox = xft_stage_sandbox(v),
                           .jobs = (uint32_t)v->jobs,
                           .max_problems = (uint32_t)v->max_problems,
                           .callbacks = &job->callbacks};
    xft_status status = xft_path_join(folder, "samples.jsonl", &samples);
    if (status == XFT_OK) status = xft_path_join(folder, "results.json", &results);
    if (status == XFT_OK) status = xft_problems_sample(problems, model, tokenizer, &o, samples);
    if (status == XFT_OK && xft_stage_tests(v, problems))
        status = xft_problems_score(problems, samples, &s, results, &job->result->score);
    else if (status == XFT_OK)
        xft_log(&job->callbacks, XFT_LOG_INFO, "samples for EvalPlus: %s", samples);
    free(samples);
    free(results);
    return status;
}

static xft_status score(xft_stage_job *job, xft_model *model, const xft_tokenizer *tokenizer) {
    if (!*job->v.problems) return XFT_OK;
    char *temporary = NULL;
    xft_problems *problems;
    XFT_TRY(xft_problems_load(job->v.problems, &problems));
    xft_status status = job->o.output ? XFT_OK : xft_temporary_folder("xft-eval", &temporary);
    if (status == XFT_OK) status = score_in(job, model, tokenizer, problems, temporary ? temporary : job->o.output);
    if (temporary) xft_remove_all(temporary);
    free(temporary);
    xft_problems_free(problems);
    return status;
}

static json_t *real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

/* One row of scores.json (report.h), without the model's name. */
static json_t *describe(const xft_stage_result *r) {
    json_t *o = json_pack("{s:o,s:o,s:I}", "loss", real(r->loss), "perplexity", real(r->perplexity), "labels",
                          (json_int_t)r->labels);
    if (!r->score.problems) return o;
    json_object_set_new(o, "problems", json_integer(r->score.problems));
    json_object_set_new(o, "samples", json_integer(r->score.samples));
    json_object_set_new(o, "passed", json_integer(r->score.passed));
    json_object_set_new(o, "solved", json_integer(r->score.solved));
    for (int i = 0; i < XFT_PASS_AT_COUNT; i++) {
        char key[24];
        snprintf(key, sizeof key, "pass@%u", r->score.k[i]);
        if (r->score.k[i]) json_object_set_new(o, key, real(r->score.pass_at[i]));
    }
    return o;
}

static xft_status write_scores(const xft_stage_job *job) {
    if (!job->o.output) return XFT_OK;
    json_t *o = describe(job->result);
    char *text = json_dumps(o, JSON_INDENT(1)), *path = NULL;
    json_decref(o);
    XFT_FAIL_IF(!text, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for eval.json");
    xft_status status = xft_path_join(job->o.output, "eval.json", &path);
    if (status == XFT_OK) status = xft_write_file(path, text, strlen(text));
    free(text);
    free(path);
    return status;
}

xft_status xft_stage_eval(xft_stage_job *job) {
    const xft_values *v = &job->v;
    XFT_FAIL_IF(!v->data.count && !v->eval_data.count && !*v->problems, XFT_ERROR_INVALID_ARGUMENT,
                "nothing to evaluate on: set data or eval_data (JSONL) for the loss, problems for pass@k");
    xft_tokenizer *tokenizer;
    xft_model *model = NULL;
    const bool made = job->o.output && access(job->o.output, F_OK) != 0;
    XFT_TRY(xft_tokenizer_load(job->o.model, &tokenizer));
    xft_status status = job->o.output ? xft_make_folder(job->o.output) : XFT_OK;
    if (status == XFT_OK)
        status = xft_checkpoint_load(job->device, job->o.model,
                                     &(xft_load_options){.dtype = (xft_dtype)v->dtype, .callbacks = &job->callbacks},
                                     &model);
    if (status == XFT_OK) status = loss(job, model, tokenizer);
    if (status == XFT_OK) status = score(job, model, tokenizer);
    if (status == XFT_OK) status = write_scores(job);
    if (made) rmdir(job->o.output); /* fails where there is anything in it */
    xft_model_destroy(model);
    xft_tokenizer_free(tokenizer);
    return status;
}
