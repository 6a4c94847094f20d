/* xft upcycle, train, merge, run, eval: stages of the library, shown. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "xft/checkpoint.h"
#include "xft/pipeline.h"
#include "xft/report.h"

/* ---- Results ---- */

static json_t *number_json(double number) {
    return isfinite(number) ? json_real(number) : json_null();
}

static void add_score(json_t *o, const xft_score *s) {
    json_t *score =
        json_pack("{s:i,s:i,s:i,s:i,s:i,s:b}", "problems", (int)s->problems, "missing", (int)s->missing, "samples",
                  (int)s->samples, "passed", (int)s->passed, "solved", (int)s->solved, "isolated", s->isolated);
    for (int i = 0; i < XFT_PASS_AT_COUNT; i++) {
        char key[24];
        snprintf(key, sizeof key, "pass@%u", s->k[i]);
        if (s->k[i]) json_object_set_new(score, key, number_json(s->pass_at[i]));
    }
    json_object_set_new(o, "score", score);
}

static json_t *result_json(xft_stage stage, const xft_stage_result *r) {
    json_t *o = json_pack("{s:s,s:b}", "stage", xft_stage_name(stage), "was_done", r->was_done);
    if (r->run.steps) {
        const xft_run_result *run = &r->run;
        json_t *j = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "steps", (json_int_t)run->steps, "first_step",
                              (json_int_t)run->first_step, "tokens", (json_int_t)run->tokens, "skipped",
                              (json_int_t)run->skipped, "memory", (json_int_t)run->memory, "planned",
                              (json_int_t)run->planned, "best_step", (json_int_t)run->best_step);
        json_object_set_new(j, "loss", number_json(run->loss));
        json_object_set_new(j, "eval_loss", number_json(run->eval_loss));
        json_object_set_new(j, "best_loss", number_json(run->best_loss));
        json_object_set_new(j, "seconds", number_json(run->seconds));
        json_object_set_new(o, "run", j);
    }
    if (r->labels) {
        json_object_set_new(o, "loss", number_json(r->loss));
        json_object_set_new(o, "perplexity", number_json(r->perplexity));
        json_object_set_new(o, "labels", json_integer((json_int_t)r->labels));
    }
    if (stage == XFT_STAGE_MERGE) {
        json_object_set_new(o, "loss_mixed", number_json(r->loss_mixed));
        json_object_set_new(o, "loss_uniform", number_json(r->loss_uniform));
        json_object_set_new(o, "loss_shared", number_json(r->loss_shared));
        json_object_set_new(o, "most_moved", number_json(r->most_moved));
    }
    if (r->score.problems) add_score(o, &r->score);
    return o;
}

static void print_score(const xft_score *s) {
    for (int i = 0; i < XFT_PASS_AT_COUNT; i++)
        if (s->k[i]) printf("pass@%u: %.1f%%  ", s->k[i], 100 * s->pass_at[i]);
    printf("(%u of %u samples of %u problems passed%s)\n", s->passed, s->samples, s->problems,
           s->isolated ? "" : "; the tests ran without protection");
    if (s->missing) printf("%u problems have no sample\n", s->missing);
}

static void print_result(xft_stage stage, const xft_stage_result *r) {
    if (r->was_done) printf("%s: was done already\n", xft_stage_name(stage));
    if (r->run.steps && !r->was_done) {
        printf("%s: %llu steps, loss %.4f", xft_stage_name(stage), (unsigned long long)r->run.steps, r->run.loss);
        if (isfinite(r->run.eval_loss)) printf(", evaluation loss %.4f", r->run.eval_loss);
        printf(", %s on the device (planned %s)\n", size_text(r->run.memory), size_text(r->run.planned));
    }
    if (stage == XFT_STAGE_MERGE && isfinite(r->loss_mixed))
        printf("merge: loss %.4f; uniform %.4f, shared expert alone %.4f\n", r->loss_mixed, r->loss_uniform,
               r->loss_shared);
    else if (stage == XFT_STAGE_MERGE && isfinite(r->loss_uniform))
        printf("merge: loss %.4f; shared expert alone %.4f\n", r->loss_uniform, r->loss_shared);
    if (stage == XFT_STAGE_MERGE && isfinite(r->most_moved))
        printf("merge: coefficients moved by up to %.3f from 1/E'\n", r->most_moved);
    if (stage == XFT_STAGE_EVAL && r->labels)
        printf("eval: loss %.4f, perplexity %.3f over %llu labels\n", r->loss, r->perplexity,
               (unsigned long long)r->labels);
    if (r->score.problems) print_score(&r->score);
}

/* Exit code of a stage or pipeline. */
static int ended(xft_status status) {
    if (status == XFT_ERROR_CANCELLED && stop_signal)
        return fail(EXIT_STOPPED, "stopped; the same command goes on from here");
    return status == XFT_OK ? EXIT_DONE : fail_status(status);
}

/* ---- Stages ---- */

/* A page about a stage that has left a log, also when it was stopped. */
static void write_report(const char *output) {
    char log[PATH_MAX], page[PATH_MAX];
    snprintf(log, sizeof log, "%s/log.jsonl", output);
    snprintf(page, sizeof page, "%s/report.html", output);
    if (access(log, F_OK) == 0 && xft_report_write(output, NULL, page))
        fprintf(stderr, "warning: no report: %s\n", xft_error());
}

static int run_stage(call *call, xft_stage stage) {
    static const char *const needed[] = {"model", "output", "data", NULL};
    xft_values values;
    xft_stage_result result;
    const bool trains = stage == XFT_STAGE_SFT || stage == XFT_STAGE_TUNE;
    for (int i = 0; i < (stage == XFT_STAGE_EVAL ? 1 : trains ? 3 : 2); i++)
        if (xft_settings_need(call->settings, stage, needed[i])) return fail(EXIT_USAGE, "%s", xft_error());
    if (xft_settings_resolve(call->settings, stage, &values)) return fail(EXIT_USAGE, "%s", xft_error());
    const xft_stage_options options = {.event = show_training, .cancel = &stop_signal, .callbacks = &console};
    const xft_status status = xft_stage_run(call->settings, stage, &options, &result);
    clear_line();
    const int code = ended(status);
    if (*values.output && (code == EXIT_DONE || code == EXIT_STOPPED)) write_report(values.output);
    if (code != EXIT_DONE) return code;
    if (call->json) return print_json(result_json(stage, &result));
    print_result(stage, &result);
    if (*values.output) printf("%s\n", values.output);
    return EXIT_DONE;
}

int run_upcycle(call *call) {
    return run_stage(call, XFT_STAGE_UPCYCLE);
}
int run_merge(call *call) {
    return run_stage(call, XFT_STAGE_MERGE);
}
int run_eval(call *call) {
    return run_stage(call, XFT_STAGE_EVAL);
}

/* sft or tune, by what the model is. */
int run_train(call *call) {
    xft_values values;
    xft_config config;
    char *json;
    if (xft_settings_need(call->settings, XFT_STAGE_SFT, "model") ||
        xft_settings_resolve(call->settings, XFT_STAGE_SFT, &values))
        return fail(EXIT_USAGE, "%s", xft_error());
    const xft_status status = xft_checkpoint_config(values.model, &json, &config);
    if (status) return fail_status(status);
    free(json);
    return run_stage(call, config.num_experts ? XFT_STAGE_TUNE : XFT_STAGE_SFT);
}

/* ---- Pipeline ---- */

static bool show_part(void *user, const xft_part_event *e) {
    json_t *parts = user;
    clear_line();
    if (e->status == XFT_PART_STARTED)
        fprintf(stderr, "[%u/%u] %s: %s\n", e->number, e->count, e->name, e->why ? e->why : "");
    if (e->status == XFT_PART_SKIPPED) fprintf(stderr, "[%u/%u] %s: is there\n", e->number, e->count, e->name);
    if (parts && e->status != XFT_PART_STARTED) {
        json_t *part = e->result && e->stage != XFT_STAGE_RUN ? result_json(e->stage, e->result) : json_object();
        json_object_set_new(part, "name", json_string(e->name));
        json_object_set_new(part, "output", e->output ? json_string(e->output) : json_null());
        json_object_set_new(part, "skipped", json_boolean(e->status == XFT_PART_SKIPPED));
        json_array_append_new(parts, part);
    } else if (e->status == XFT_PART_DONE && e->result) {
        print_result(e->stage, e->result);
    }
    return !stop_signal;
}

int run_run(call *call) {
    xft_values values;
    if (xft_settings_need(call->settings, XFT_STAGE_RUN, "output") ||
        xft_settings_resolve(call->settings, XFT_STAGE_RUN, &values))
        return fail(EXIT_USAGE, "%s", xft_error());
    json_t *parts = call->json ? json_array() : NULL;
    const xft_pipeline_options options = {
        .user = parts, .part = show_part, .event = show_training, .cancel = &stop_signal, .callbacks = &console};
    const int code = ended(xft_pipeline_run(call->settings, &options));
    if (code == EXIT_DONE && call->json)
        return print_json(json_pack("{s:s,s:o}", "output", values.output, "parts", parts));
    json_decref(parts);
    if (code == EXIT_DONE) {
        char report[PATH_MAX];
        snprintf(report, sizeof report, "%s/report.html", values.output);
        puts(access(report, F_OK) == 0 ? report : values.output);
    }
    return code;
}
