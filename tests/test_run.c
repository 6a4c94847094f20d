/* Suite `run`: training runs in folders. On the device XFT_TEST_DEVICE. */
#include "small_model.h"
#include "small_run.h"

#include "xft/checkpoint.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(call) cr_assert_eq(call, XFT_OK, "%s: %s", #call, xft_error())

static char folder[200];
static xft_device *device;

static void begin(void) {
    snprintf(folder, sizeof folder, "%s/xft-run-XXXXXX", P_tmpdir);
    cr_assert(mkdtemp(folder));
    OK(xft_device_open(getenv("XFT_TEST_DEVICE") ? getenv("XFT_TEST_DEVICE") : "auto", NULL, &device));
    OK(small_run_make(device, folder));
}

static void end(void) {
    char command[300];
    xft_device_counters alive;
    xft_device_get_counters(device, &alive);
    cr_expect_eq(alive.buffers, 0, "%llu buffers are alive", (unsigned long long)alive.buffers);
    xft_device_close(device);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_expect_eq(system(command), 0);
}
TestSuite(run, .init = begin, .fini = end, .timeout = 300);

static const char *at(const char *name) {
    return small_run_path(folder, name);
}

static xft_run_options options_for(xft_run_stage stage, const char *output) {
    xft_run_options options = small_run_options(folder, stage, output);
    options.opened = device;
    return options;
}

/* The weights of a model folder, as bits. */
static void expect_same_model(const char *a, const char *b) {
    char command[600];
    snprintf(command, sizeof command,
             "cmp %s/model.safetensors %s/model.safetensors && cmp %s/config.json %s/config.json", at(a), at(b), at(a),
             at(b));
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
    FILE *f = fopen(at(name), "r");
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
    options.output = at("parts");
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
