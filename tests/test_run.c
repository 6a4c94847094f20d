/* Suite `run`: training runs in folders. On the device XFT_TEST_DEVICE. */
#include "fixture.h"
#include "small_model.h"
#include "small_run.h"

#include "xft/checkpoint.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static xft_device *device;

static void begin(void) {
    fixture_begin();
    device = fixture_open(NULL);
    OK(small_run_make(device, folder));
}
static void end(void) {
    fixture_close(device, NULL, NULL);
    fixture_end();
}
TestSuite(run, .init = begin, .fini = end, .timeout = 300);

static xft_run_options options_for(xft_run_stage stage, const char *output) {
    xft_run_options options = small_run_options(folder, stage, output);
    options.opened = device;
    return options;
}

/* The weights of a model folder, as bits. */
static void expect_same_model(const char *a, const char *b) {
    char command[600];
    snprintf(command, sizeof command,
             "cmp %s/model.safetensors %s/model.safetensors && cmp %s/config.json %s/config.json", path_of(a),
             path_of(b), path_of(a), path_of(b));
    cr_expect_eq(system(command), 0, "%s and %s differ", a, b);
}

static uint64_t stop_after;
static bool stop_event(void *user, const xft_run_event *event) {
    (void)user;
    return event->kind != XFT_RUN_EVENT_STEP || event->step < stop_after;
}

/* The log as an array of its lines. */
static json_t *read_log(const char *output) {
    char name[100], line[4000];
    snprintf(name, sizeof name, "%s/log.jsonl", output);
    FILE *f = fopen(path_of(name), "r");
    cr_assert(f);
    json_t *lines = json_array();
    while (fgets(line, sizeof line, f)) {
        json_t *parsed = json_loads(line, 0, NULL);
        cr_assert(parsed, "%s", line);
        json_array_append_new(lines, parsed);
    }
    fclose(f);
    return lines;
}

static uint32_t count_lines(const json_t *log, const char *event) {
    uint32_t count = 0;
    size_t i;
    json_t *line;
    json_array_foreach(log, i, line) count += !strcmp(json_string_value(json_object_get(line, "event")), event);
    return count;
}

/* Every stage: stopped twice and gone on with, it ends with the bits of a run that was not stopped. */
static void resumes_exactly(xft_run_stage stage, xft_dtype dtype, xft_precision precision) {
    xft_run_options options = options_for(stage, "whole");
    xft_run_result whole, parts;
    options.dtype = dtype;
    options.precision = precision;
    options.save_dtype = &dtype;
    OK(xft_run(&options, &whole));
    cr_expect(whole.steps == 12 && !whole.was_done && whole.first_step == 0 && isfinite(whole.eval_loss));
    cr_expect(whole.memory && whole.memory <= whole.planned, "%llu bytes, the plan said %llu",
              (unsigned long long)whole.memory, (unsigned long long)whole.planned);
    options.output = path_of("parts");
    options.event = stop_event;
    uint64_t reached = 0;
    for (stop_after = 4; stop_after < 12; stop_after += 4) {
        cr_assert_eq(xft_run(&options, &parts), XFT_ERROR_CANCELLED, "%s", xft_error());
        cr_expect(parts.first_step == reached && parts.steps > reached && parts.steps < 12);
        reached = parts.steps;
    }
    options.event = NULL;
    OK(xft_run(&options, &parts));
    cr_expect_eq(parts.first_step, reached);
    expect_same_model("whole", "parts");
    cr_expect_eq(whole.loss, parts.loss);
    cr_expect_eq(whole.eval_loss, parts.eval_loss);
    cr_expect_eq(whole.tokens, parts.tokens);
    json_t *a = read_log("whole"), *b = read_log("parts");
    cr_expect_eq(count_lines(a, "step"), 12);
    cr_expect_eq(count_lines(b, "step"), 12);
    cr_expect_eq(count_lines(a, "eval"), 3);
    cr_expect_eq(count_lines(b, "eval"), 3);
    cr_expect_eq(count_lines(b, "resume"), 2);
    cr_expect_eq(count_lines(b, "end"), 1);
    json_decref(a);
    json_decref(b);
    OK(xft_run(&options, &parts));
    cr_expect(parts.was_done && parts.steps == 12 && parts.eval_loss == whole.eval_loss);
}

Test(run, sft_resumes_exactly) {
    resumes_exactly(XFT_RUN_SFT, XFT_F32, XFT_PRECISION_F32);
}
Test(run, tune_resumes_exactly) {
    resumes_exactly(XFT_RUN_TUNE, XFT_BF16, XFT_PRECISION_MASTER);
}
Test(run, stochastic_rounding_resumes_exactly) {
    resumes_exactly(XFT_RUN_TUNE, XFT_BF16, XFT_PRECISION_STOCHASTIC);
}
Test(run, merge_resumes_exactly) {
    resumes_exactly(XFT_RUN_MERGE, XFT_BF16, XFT_PRECISION_F32);
}

/* ---- Checkpoints ---- */

static bool there(const char *name) {
    return access(path_of(name), F_OK) == 0;
}

Test(run, newest_and_best_stay) {
    xft_run_options options = options_for(XFT_RUN_SFT, "out");
    xft_run_result result;
    options.save_every = 2;
    options.keep = 3;
    options.keep_best = true;
    options.eval_every = 1;
    options.lr = 0.05; /* it overshoots: the best is not the last */
    options.schedule = XFT_SCHEDULE_CONSTANT;
    OK(xft_run(&options, &result));
    char target[100] = "", expected[100], command[400];
    cr_assert_gt(readlink(path_of("out/checkpoints/best"), target, sizeof target - 1), 0);
    snprintf(expected, sizeof expected, "step-%08llu", (unsigned long long)result.best_step);
    cr_expect_str_eq(target, expected);
    xft_model *model;
    OK(xft_checkpoint_load(device, path_of("out/checkpoints/best"), NULL, &model));
    xft_model_destroy(model);
    snprintf(command, sizeof command, "ls %s/checkpoints | grep -c step- >%s/count", path_of("out"), folder);
    cr_assert_eq(system(command), 0);
    FILE *f = fopen(path_of("count"), "r");
    int count = 0;
    cr_assert(f && fscanf(f, "%d", &count) == 1 && !fclose(f));
    cr_expect(count == 3 || count == 4, "%d checkpoints", count);
    json_t *log = read_log("out"), *line;
    double lowest = INFINITY;
    size_t i;
    json_array_foreach(log, i, line) if (!strcmp(json_string_value(json_object_get(line, "event")), "eval")) lowest =
        fmin(lowest, json_real_value(json_object_get(line, "loss")));
    cr_expect_lt(fabs(lowest - result.best_loss), 1e-6);
    json_decref(log);
    snprintf(command, sizeof command, "cmp %s %s", path_of("out/tokenizer.json"), path_of("dense/tokenizer.json"));
    cr_expect_eq(system(command), 0);
}

/* ---- Stopping ---- */

static volatile int wish;
static bool wish_at_start(void *user, const xft_run_event *event) {
    (void)user;
    if (event->kind == XFT_RUN_EVENT_STEP && event->step == 2) wish = 1;
    return true;
}
static bool no_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    return strcmp(what, user) != 0 || done + 1 < total;
}

Test(run, a_wish_to_stop_leaves_a_checkpoint) {
    xft_run_options options = options_for(XFT_RUN_SFT, "out");
    xft_run_result result;
    xft_run_state state;
    uint64_t step;
    options.cancel = &wish;
    options.event = wish_at_start;
    options.save_every = 0;
    cr_expect_eq(xft_run(&options, &result), XFT_ERROR_CANCELLED);
    OK(xft_run_find(path_of("out"), &state, &step));
    cr_expect(state == XFT_RUN_STOPPED && step == result.steps && step >= 2 && step < 12);
    wish = 0;
    options.event = NULL;
    for (const char *const *what = (const char *const[]){"loading", "micro-batch", "evaluation", NULL}; *what; what++) {
        xft_callbacks callbacks = {.user = (void *)(uintptr_t)*what, .progress = no_progress};
        options.callbacks = &callbacks;
        cr_expect_eq(xft_run(&options, &result), XFT_ERROR_CANCELLED, "%s: %s", *what, xft_error());
    }
    options.callbacks = NULL;
    OK(xft_run(&options, &result));
    options = options_for(XFT_RUN_SFT, "whole");
    OK(xft_run(&options, NULL));
    expect_same_model("whole", "out");
    OK(xft_run_find(path_of("out"), &state, &step));
    cr_expect(state == XFT_RUN_DONE && step == 12);
    OK(xft_run_find(path_of("nothing"), &state, &step));
    cr_expect(state == XFT_RUN_NONE && step == 0);
}

/* ---- Refusals ---- */

#define REFUSED(options, ...)                                                                                          \
    do {                                                                                                               \
        const char *const words[] = {__VA_ARGS__};                                                                     \
        cr_expect_neq(xft_run(&options, NULL), XFT_OK, "taken: %s", words[0]);                                         \
        for (size_t w = 0; w < sizeof words / sizeof *words; w++)                                                      \
            cr_expect(strstr(xft_error(), words[w]), "\"%s\" does not say \"%s\"", xft_error(), words[w]);             \
    } while (0)

static bool run_again_inside(void *user, const xft_run_event *event) {
    xft_run_options inner = *(const xft_run_options *)user;
    inner.event = NULL;
    if (event->kind == XFT_RUN_EVENT_START) REFUSED(inner, "another process is running in this folder");
    return event->step < 4;
}

Test(run, what_a_resume_may_not_change_is_refused_by_name) {
    xft_run_options options = options_for(XFT_RUN_TUNE, "out"), other;
    options.user = &options;
    options.event = run_again_inside;
    cr_assert_eq(xft_run(&options, NULL), XFT_ERROR_CANCELLED, "%s", xft_error());
    options.event = NULL;
    other = options;
    other.lr = 1e-3;
    other.seed = 6;
    REFUSED(other, "other settings", "seed 5 (now 6)", "lr 0.003 (now 0.001)", "out");
    other = options;
    other.max_steps = 13;
    REFUSED(other, "max_steps 12 (now 13)");
    other = options;
    other.micro_batch = 3;
    REFUSED(other, "micro_batch 4 (now 3)");
    other = options;
    other.stage = XFT_RUN_MERGE;
    REFUSED(other, "stage \"tune\" (now \"merge\")");
    other = options;
    const char *const data[] = {path_of("eval.jsonl")};
    other.data = data;
    REFUSED(other, "other data");
    other = options;
    other.model = path_of("moe2");
    char command[600];
    snprintf(command, sizeof command, "cp -r %s %s && echo '{}' >%s/generation_config.json", path_of("moe"),
             path_of("moe2"), path_of("moe2"));
    cr_assert_eq(system(command), 0);
    REFUSED(other, "another model");

    /* what does not touch the weights may change, and files may move */
    other = options;
    other.save_every = 5;
    other.eval_every = 3;
    other.keep = 1;
    other.recompute = true;
    snprintf(command, sizeof command, "mv %s %s", path_of("data.jsonl"), path_of("moved.jsonl"));
    cr_assert_eq(system(command), 0);
    const char *const moved[] = {path_of("moved.jsonl")};
    other.data = moved;
    OK(xft_run(&other, NULL));
    options = options_for(XFT_RUN_TUNE, "whole");
    options.data = moved;
    OK(xft_run(&options, NULL));
    expect_same_model("whole", "out");

    /* a finished run stays, unless it is to begin anew */
    options.output = path_of("out");
    options.lr = 1e-3;
    REFUSED(options, "lr 0.003 (now 0.001)");
    options.restart = true;
    xft_run_result result;
    OK(xft_run(&options, &result));
    cr_expect(!result.was_done && result.first_step == 0 && result.steps == 12);
}

Test(run, wrong_options_are_refused_before_anything_is_written) {
    xft_run_options options = options_for(XFT_RUN_SFT, "out"), other = options;
    other.model = path_of("moe");
    REFUSED(other, "mixture of 4 experts", "stage sft");
    other = options;
    other.stage = XFT_RUN_MERGE;
    REFUSED(other, "is a dense model", "stage merge");
    other = options;
    other.length = 65;
    REFUSED(other, "length 65", "64 positions");
    other = options;
    other.model = path_of("nowhere");
    REFUSED(other, "nowhere/config.json");
    other = options;
    const char *const gone[] = {path_of("gone.jsonl")};
    other.data = gone;
    REFUSED(other, "gone.jsonl");
    other = options;
    other.precision = XFT_PRECISION_MASTER;
    REFUSED(other, "precision", "bf16");
    other = options;
    other.lr = NAN;
    REFUSED(other, "lr nan");
    other = options;
    other.output = path_of("dense");
    REFUSED(other, "holds a model that no run made");
    other = options;
    other.output = "/proc/nowhere";
    REFUSED(other, "/proc/nowhere");
    other = options;
    other.opened = NULL;
    other.device = "vulkan:77";
    REFUSED(other, "vulkan:77");
    other = options;
    FILE *f = fopen(path_of("broken.jsonl"), "w");
    cr_assert(f && fputs("{\"prompt\": \"a\", \"completion\"", f) >= 0 && !fclose(f));
    const char *const broken[] = {path_of("broken.jsonl")};
    other.data = broken;
    REFUSED(other, "broken.jsonl:1:");
    cr_expect(!there("out"));
    cr_assert_eq(mkdir(path_of("out"), 0777), 0); /* somebody's folder stays, empty or not */
    REFUSED(other, "broken.jsonl");
    cr_expect(there("out"));
}

/* Steps that are not finite are counted, and a row of them ends the run; what was saved before stays. */
Test(run, steps_that_are_not_finite) {
    xft_run_options options = options_for(XFT_RUN_SFT, "out");
    xft_run_result result;
    xft_run_state state;
    uint64_t step;
    options.lr = 1e30;
    options.warmup = 2;
    options.max_skipped = 3;
    options.save_every = 1;
    cr_expect_eq(xft_run(&options, &result), XFT_ERROR_FORMAT);
    cr_expect(strstr(xft_error(), "3 steps in a row"), "%s", xft_error());
    cr_expect_eq(result.skipped, 3);
    OK(xft_run_find(path_of("out"), &state, &step));
    cr_expect(state == XFT_RUN_STOPPED && step == 1);
    json_t *log = read_log("out"), *last = json_array_get(log, json_array_size(log) - 1);
    cr_expect_str_eq(json_string_value(json_object_get(last, "event")), "failed");
    json_decref(log);
    xft_model *model;
    char name[100];
    snprintf(name, sizeof name, "out/checkpoints/step-%08llu", (unsigned long long)step);
    OK(xft_checkpoint_load(device, path_of(name), NULL, &model));
    xft_model_destroy(model);
}

/* ---- The merge stage ---- */

/* At the default rate 30 steps move the coefficients; the loss of the merged model is what the evaluation said. */
Test(run, merge_learns_at_its_default_rate) {
    xft_run_options options = options_for(XFT_RUN_MERGE, "merged");
    xft_run_result result;
    options.lr = 0;
    options.max_steps = 30;
    OK(xft_run(&options, &result));
    json_t *log = read_log("merged"), *line, *layer, *alpha;
    size_t i, l, e;
    double moved = 0;
    uint32_t lines = 0;
    json_array_foreach(log, i, line) {
        if (strcmp(json_string_value(json_object_get(line, "event")), "mixing") != 0) continue;
        lines++;
        json_array_foreach(json_object_get(line, "alpha"), l, layer) {
            double sum = 0;
            json_array_foreach(layer, e, alpha) {
                sum += json_real_value(alpha);
                moved = fmax(moved, fabs(json_real_value(alpha) - 1.0 / 3));
            }
            cr_expect_lt(fabs(sum - 1), 1e-6);
        }
    }
    json_decref(log);
    cr_expect_eq(lines, 30);
    cr_expect_gt(moved, 0.05, "alpha moved by %g", moved);
    xft_config config;
    char *json;
    OK(xft_checkpoint_config(path_of("merged"), &json, &config));
    free(json);
    cr_expect_eq(config.num_experts, 0);
}

/* ---- Statistics of the router ---- */

/* With one micro-batch a step, the layers' balance losses are the step's. */
Test(run, router_statistics_add_up) {
    xft_run_options options = options_for(XFT_RUN_TUNE, "out");
    options.micro_batch = options.batch;
    OK(xft_run(&options, NULL));
    json_t *log = read_log("out"), *line;
    double step_balance = 0;
    uint32_t lines = 0;
    size_t i;
    json_array_foreach(log, i, line) {
        const char *event = json_string_value(json_object_get(line, "event"));
        if (!strcmp(event, "step")) step_balance = json_real_value(json_object_get(line, "balance"));
        if (strcmp(event, "router") != 0) continue;
        double balance = 0, entropy;
        lines++;
        for (size_t l = 0; l < 2; l++) {
            double sum = 0;
            json_t *load = json_array_get(json_object_get(line, "load"), l);
            cr_assert_eq(json_array_size(load), 3);
            for (size_t e = 0; e < 3; e++) sum += json_real_value(json_array_get(load, e));
            entropy = json_real_value(json_array_get(json_object_get(line, "entropy"), l));
            cr_expect(fabs(sum - 1) < 1e-6 && entropy >= 0 && entropy <= 1 + 1e-9);
            balance += json_real_value(json_array_get(json_object_get(line, "balance"), l));
        }
        cr_expect_lt(fabs(balance / step_balance - 1), 1e-3, "%g, the step says %g", balance, step_balance);
    }
    cr_expect_eq(lines, 12);
    json_decref(log);
}

/* ---- What a resume starts from ---- */

static char told[2000];
static void keep_lines(void *user, xft_log_level level, const char *text) {
    (void)user;
    if (level == XFT_LOG_WARNING) snprintf(told + strlen(told), sizeof told - strlen(told), "%s\n", text);
}
static const xft_callbacks listener = {.log = keep_lines};

/* A run that was stopped after 7 steps, with the checkpoints of 6 and 7. */
static xft_run_options stopped_run(const char *output) {
    xft_run_options options = options_for(XFT_RUN_TUNE, output);
    options.event = stop_event;
    options.save_every = 6;
    stop_after = 6;
    cr_assert_eq(xft_run(&options, NULL), XFT_ERROR_CANCELLED, "%s", xft_error());
    cr_assert(access(path_of("out/checkpoints/step-00000006"), F_OK) == 0);
    options.event = NULL;
    options.callbacks = &listener;
    told[0] = 0;
    return options;
}

static void edit(const char *name, const char *script) {
    char command[700];
    snprintf(command, sizeof command, "sed -i '%s' %s", script, path_of(name));
    cr_assert_eq(system(command), 0);
}

Test(run, a_damaged_checkpoint_is_passed_over) {
    xft_run_options options = options_for(XFT_RUN_TUNE, "whole");
    xft_run_result result;
    OK(xft_run(&options, NULL));
    options = stopped_run("out");
    xft_run_state state;
    uint64_t step;
    OK(xft_run_find(path_of("out"), &state, &step));
    static const char *const files[] = {"state.safetensors", "state.json", "model.safetensors", "config.json"};
    char name[200];
    if (step > 6) { /* the newest is cut short: the one before it serves */
        snprintf(name, sizeof name, "out/checkpoints/step-%08llu/%s", (unsigned long long)step, files[step % 4]);
        OK(truncate(path_of(name), 20) ? XFT_ERROR_IO : XFT_OK);
    }
    OK(xft_run(&options, &result));
    cr_expect_eq(result.first_step, 6);
    cr_expect(step == 6 || (strstr(told, "passed over a checkpoint") && strstr(told, files[step % 4])), "%s", told);
    expect_same_model("whole", "out");
}

/* A run whose model was deleted is not done: its last checkpoint makes it again. */
Test(run, done_but_the_model_is_gone) {
    xft_run_options options = options_for(XFT_RUN_TUNE, "whole");
    xft_run_result result;
    OK(xft_run(&options, NULL));
    options = options_for(XFT_RUN_TUNE, "out");
    OK(xft_run(&options, NULL));
    OK(xft_run(&options, &result));
    cr_expect(result.was_done);
    cr_assert_eq(unlink(path_of("out/model.safetensors")), 0);
    OK(xft_run(&options, &result));
    cr_expect(!result.was_done && result.first_step > 0);
    expect_same_model("whole", "out");
}

/* Of which one is kept: that is the one just saved, and not the newer one that is broken. */
Test(run, a_damaged_checkpoint_is_set_aside) {
    xft_run_options options = options_for(XFT_RUN_TUNE, "out");
    options.event = stop_event;
    options.save_every = 2;
    stop_after = 7;
    cr_assert_eq(xft_run(&options, NULL), XFT_ERROR_CANCELLED, "%s", xft_error());
    xft_run_state state;
    uint64_t newest, step;
    char name[200];
    OK(xft_run_find(path_of("out"), &state, &newest));
    snprintf(name, sizeof name, "out/checkpoints/step-%08llu/model.safetensors", (unsigned long long)newest);
    cr_assert_eq(truncate(path_of(name), 100), 0);
    OK(xft_run_find(path_of("out"), &state, &step));
    cr_assert_lt(step, newest);
    options.keep = options.save_every = 1;
    stop_after = step + 1;
    cr_assert_eq(xft_run(&options, NULL), XFT_ERROR_CANCELLED, "%s", xft_error());
    uint64_t saved;
    OK(xft_run_find(path_of("out"), &state, &saved));
    cr_expect_gt(saved, step);
    snprintf(name, sizeof name,
             "ls %s | grep -qx step-%08llu.unreadable && ls %s | grep -cx 'step-[0-9]*' | grep -qx 1",
             path_of("out/checkpoints"), (unsigned long long)newest, path_of("out/checkpoints"));
    cr_expect_eq(system(name), 0);
    options.event = NULL;
    OK(xft_run(&options, NULL));
}

Test(run, a_resume_takes_device_and_choices_of_the_checkpoint) {
    xft_run_options options = stopped_run("out");
    xft_run_state state;
    uint64_t step;
    char name[200];
    OK(xft_run_find(path_of("out"), &state, &step));
    snprintf(name, sizeof name, "out/checkpoints/step-%08llu/state.json", (unsigned long long)step);
    options.opened = NULL;
    options.device = "auto";
    edit(name, "s/\"workgroup\": \"[0-9]*\"/\"workgroup\": 128/"); /* no choices that a device could take */
    REFUSED(options, "options.choices has no object");
    edit(name, "s/\"workgroup\": 128/\"workgroup\": \"128\"/"); /* another choice than any rule's on a CPU device */
    stop_after = step + 1;
    options.event = stop_event;
    options.save_every = 1;
    cr_assert_eq(xft_run(&options, NULL), XFT_ERROR_CANCELLED, "%s", xft_error());
    json_t *run = json_load_file(path_of("out/run.json"), 0, NULL);
    const json_t *choices = json_object_get(json_object_get(run, "choices"), "choices");
    cr_expect_str_eq(json_string_value(json_object_get(choices, "workgroup")), "128");
    cr_expect_gt(json_object_size(choices), 10, "products and attention are missing");
    json_decref(run);
    options.event = NULL;
    OK(xft_run_find(path_of("out"), &state, &step));
    snprintf(name, sizeof name, "out/checkpoints/step-%08llu/state.json", (unsigned long long)step);
    edit(name, "s/\"name\": \"/\"name\": \"Other /");
    REFUSED(options, "the run was on Other", "name a device");
    options.device = xft_device_get_info(device)->id;
    OK(xft_run(&options, NULL));
    cr_expect(strstr(told, "instead of Other"), "%s", told);
}
