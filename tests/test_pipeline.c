/* Suite `pipeline`: the whole of XFT on a tiny model, stopped everywhere, changed everywhere. On XFT_TEST_DEVICE. */
#include "fixture.h"
#include "small_model.h"
#include "small_run.h"

#include "xft/checkpoint.h"
#include "xft/pipeline.h"
#include "xft/safetensors.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static xft_device *device;

static void setup(void) {
    fixture_begin();
    device = fixture_open(NULL);
    OK(small_run_make(device, folder));
}
static void cleanup(void) {
    fixture_close(device, NULL, NULL);
    fixture_end();
}
TestSuite(pipeline, .init = setup, .fini = cleanup, .timeout = 300);

static bool there(const char *name) {
    return access(path_of(name), F_OK) == 0;
}

static json_t *json_of(const char *name) {
    json_error_t error;
    json_t *o = json_load_file(path_of(name), 0, &error);
    cr_assert(o, "%s: %s", name, error.text);
    return o;
}

static double number(const json_t *o, const char *key) {
    cr_assert(json_is_number(json_object_get(o, key)), "no number %s", key);
    return json_number_value(json_object_get(o, key));
}

static char yaml[3000];

static xft_settings *settings_for(const char *output) {
    xft_settings *settings;
    snprintf(yaml, sizeof yaml,
             "model: %s\noutput: %s\ndevice: %s\ndata: [%s]\neval_data: [%s]\n"
             "length: 24\nbatch: 6\nmicro_batch: 4\nmax_steps: 6\nlr: 3e-3\nsave_every: 2\neval_every: 3\n"
             "upcycle: {experts: 4, top_k: 2}\nmerge: {lr: 0.1, max_steps: 6}\n",
             path_of("dense"), path_of(output), xft_device_get_info(device)->id, path_of("data.jsonl"),
             path_of("eval.jsonl"));
    OK(xft_settings_create(&settings));
    OK(xft_settings_parse(settings, yaml, strlen(yaml), "test.yaml"));
    return settings;
}

/* What a pipeline did: names of its parts in order, with a + for each that ran. */
typedef struct story {
    char text[600];
    uint32_t events, stop_at; /* steps and progress; 0: never */
    char reason[300];         /* why the part that began last did */
} story;

static bool tell_part(void *user, const xft_part_event *event) {
    story *s = user;
    if (event->status == XFT_PART_STARTED) snprintf(s->reason, sizeof s->reason, "%s", event->why);
    if (event->status == XFT_PART_STARTED && event->stage != XFT_STAGE_RUN) return true;
    snprintf(s->text + strlen(s->text), sizeof s->text - strlen(s->text), "%s%s ", event->name,
             event->status == XFT_PART_DONE ? "+" : "");
    return true;
}

static bool tell_event(void *user, const xft_run_event *event) {
    story *s = user;
    if (event->kind == XFT_RUN_EVENT_STEP) s->events++;
    return !s->stop_at || s->events < s->stop_at;
}

static bool tell_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    story *s = user;
    (void)what;
    (void)done;
    (void)total;
    s->events++;
    return !s->stop_at || s->events < s->stop_at;
}

static xft_status run(const xft_settings *settings, story *s) {
    *s = (story){.stop_at = s->stop_at};
    return xft_pipeline_run(
        settings, &(xft_pipeline_options){.device = device, .user = s, .part = tell_part, .event = tell_event});
}

static const char everything[] = "sft+ upcycled+ moe+ merged+ uniform+ eval/base+ eval/sft+ eval/moe+ eval/uniform+ "
                                 "eval/merged+ report+ ";
static const char nothing[] = "sft upcycled moe merged uniform eval/base eval/sft eval/moe eval/uniform eval/merged "
                              "report ";

static void expect_same_file(const char *a, const char *b, const char *name) {
    char command[1500], first[700], second[700];
    snprintf(first, sizeof first, "%s/%s", path_of(a), name);
    snprintf(second, sizeof second, "%s/%s", path_of(b), name);
    snprintf(command, sizeof command, "cmp %s %s", first, second);
    cr_expect_eq(system(command), 0, "%s and %s differ in %s", a, b, name);
}

/* Same names, shapes and formats. */
static void expect_same_layout(const char *a, const char *b) {
    char path[2][700];
    xft_safetensors *x, *y;
    snprintf(path[0], sizeof *path, "%s/model.safetensors", path_of(a));
    snprintf(path[1], sizeof *path, "%s/model.safetensors", path_of(b));
    OK(xft_safetensors_open(path[0], &x));
    OK(xft_safetensors_open(path[1], &y));
    cr_expect_eq(xft_safetensors_count(x), xft_safetensors_count(y));
    for (uint32_t i = 0; i < xft_safetensors_count(x); i++) {
        const xft_stored_tensor *s = xft_safetensors_at(x, i), *t = xft_safetensors_find(y, s->name);
        cr_assert(t, "%s", s->name);
        cr_expect(s->dtype == t->dtype && s->rank == t->rank && !memcmp(s->shape, t->shape, sizeof s->shape), "%s",
                  s->name);
    }
    xft_safetensors_close(x);
    xft_safetensors_close(y);
}

/* What is trained in f32 is stored in the format of the base. */
static void store_base_as_bf16(void) {
    xft_model *model;
    OK(xft_checkpoint_load(device, path_of("dense"), NULL, &model));
    OK(xft_checkpoint_save(model, path_of("dense"), &(xft_save_options){.dtype = XFT_BF16}));
    xft_model_destroy(model);
}

Test(pipeline, whole_then_nothing_then_what_changed) {
    store_base_as_bf16();
    xft_settings *settings = settings_for("out");
    story s = {0};
    OK(run(settings, &s));
    cr_expect_str_eq(s.text, everything);

    /* what is there */
    expect_same_layout("dense", "out/sft");
    expect_same_layout("dense", "out/merged");
    expect_same_layout("dense", "out/uniform");
    expect_same_file("dense", "out/merged", "config.json");
    expect_same_file("dense", "out/merged", "tokenizer.json");
    expect_same_file("dense", "out/sft", "config.json");
    json_t *scores = json_of("out/scores.json"), *merge = json_of("out/merged/merge.json");
    const json_t *loss = json_object_get(merge, "loss"), *rows = json_object_get(scores, "scores");
    cr_expect_eq(json_array_size(rows), 5);
    double of[5];
    for (size_t i = 0; i < 5; i++) of[i] = number(json_array_get(rows, i), "loss");
    cr_expect_lt(of[1], of[0], "sft %g, base %g", of[1], of[0]);
    cr_expect_lt(of[2], of[0], "moe %g, base %g", of[2], of[0]);
    cr_expect_float_eq(number(loss, "uniform"), of[3], 2e-3);
    cr_expect_float_eq(number(loss, "mixed"), of[4], 2e-3);
    cr_expect_gt(number(merge, "most_moved"), 0.05);
    cr_expect(there("out/report.html"));
    cr_expect(!there("out/merged.part") && !there("out/moe.part"));
    json_decref(scores);
    json_decref(merge);

    OK(run(settings, &s));
    cr_expect_str_eq(s.text, nothing, "%s", s.reason);

    /* another learning rate of the merge: that part, and what depends on it */
    OK(xft_settings_set(settings, "merge.lr", "0.2"));
    OK(run(settings, &s));
    cr_expect_str_eq(s.text,
                     "sft upcycled moe merged+ uniform eval/base eval/sft eval/moe eval/uniform eval/merged+ report+ "
                     "");
    /* what only concerns the process changes nothing */
    OK(xft_settings_set(settings, "save_every", "3"));
    OK(xft_settings_set(settings, "keep_best", "yes"));
    OK(run(settings, &s));
    cr_expect_str_eq(s.text, nothing);
    /* what is to be made again is checked as at the first time, and so is all that comes after it */
    xft_settings *wrong = settings_for("out");
    OK(xft_settings_set(wrong, "sft.lr", "1e-3"));
    OK(xft_settings_set(wrong, "eval.problems", "nowhere.gz"));
    cr_expect_eq(run(wrong, &s), XFT_ERROR_IO);
    xft_settings_destroy(wrong);
    cr_expect(strstr(xft_error(), "nowhere.gz") && !*s.text, "%s: %s", s.text, xft_error());
    cr_expect(!there("out/sft.part") && there("out/report.html"));
    /* a lost output is made again, with the same bits: what depends on it stays */
    cr_assert_eq(unlink(path_of("out/upcycled/model.safetensors")), 0);
    OK(run(settings, &s));
    cr_expect_str_eq(s.text,
                     "sft upcycled+ moe merged uniform eval/base eval/sft eval/moe eval/uniform eval/merged report+ "
                     "");
    /* other evaluation data */
    FILE *f = fopen(path_of("eval.jsonl"), "a");
    cr_assert(f && fputs("{\"prompt\":\"a\",\"completion\":\"bcd\"}\n", f) >= 0 && !fclose(f));
    OK(run(settings, &s));
    cr_expect_str_eq(s.text, "sft upcycled moe merged+ uniform+ eval/base+ eval/sft+ eval/moe+ eval/uniform+ "
                             "eval/merged+ report+ ");
    cr_expect(strstr(s.reason, "inputs changed: eval_data"), "%s", s.reason);
    xft_settings_destroy(settings);
}

/* No half-written file of a killed process. */
static void expect_nothing_left(const char *output) {
    char command[700];
    snprintf(command, sizeof command, "find %s | grep -E '[.](tmp|old)-|/model[.](new|moving)|[.]part$'",
             path_of(output));
    cr_expect_neq(system(command), 0);
}

/* Steps of 3 trained stages and progress of everything: stopped at one event after another, it goes on each time. */
Test(pipeline, stopped_in_every_stage) {
    xft_settings *whole = settings_for("whole"), *parts = settings_for("parts");
    story s = {0};
    OK(xft_settings_set(whole, "stages", "upcycle"));
    OK(xft_settings_set(whole, "stages", "tune"));
    OK(xft_settings_set(whole, "stages", "merge"));
    OK(xft_settings_set(parts, "stages", "upcycle"));
    OK(xft_settings_set(parts, "stages", "tune"));
    OK(xft_settings_set(parts, "stages", "merge"));
    OK(run(whole, &s));
    uint32_t stops = 0;
    for (uint32_t i = 0; i < 40; i++) {
        s = (story){.stop_at = 3 + 40 * (i % 4)};
        xft_callbacks callbacks = {.user = &s, .progress = tell_progress};
        xft_status status = xft_pipeline_run(
            parts, &(xft_pipeline_options){
                       .device = device, .user = &s, .part = tell_part, .event = tell_event, .callbacks = &callbacks});
        if (status == XFT_OK) break;
        cr_assert_eq(status, XFT_ERROR_CANCELLED, "%s", xft_error());
        json_t *summary = json_of("parts/pipeline.json");
        cr_expect_str_eq(json_string_value(json_object_get(summary, "status")), "stopped");
        json_decref(summary);
        stops++;
        char command[900]; /* as if it had been killed */
        snprintf(command, sizeof command,
                 "for p in %s/*.part; do [ ! -d $p ] || mkdir -p $p/model.tmp-1 || exit 1; done", path_of("parts"));
        cr_assert_eq(system(command), 0);
        snprintf(command, sizeof command, "touch %s", path_of("parts/pipeline.json.tmp-1"));
        cr_assert_eq(system(command), 0);
    }
    cr_expect(stops >= 3, "%u stops", stops);
    s = (story){0};
    OK(run(parts, &s));
    expect_same_file("whole", "parts", "moe/model.safetensors");
    expect_same_file("whole", "parts", "merged/model.safetensors");
    expect_same_file("whole", "parts", "uniform/model.safetensors");
    expect_nothing_left("parts");
    xft_settings_destroy(whole);
    xft_settings_destroy(parts);
}

/* `xft run` on the file of settings in a process of its own; its exit code, or -1 when it was killed after `ms`. */
static int run_command(const char *config, double ms) {
    int status = 0;
    pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0) {
        if (!freopen(path_of("command.log"), "w", stdout) || !freopen(path_of("command.log"), "w", stderr)) _exit(9);
        execl(XFT_COMMAND, "xft", "run", config, (char *)NULL);
        _exit(9);
    }
    for (double waited = 0; waitpid(child, &status, WNOHANG) == 0; waited += 2) {
        usleep(2000);
        if (waited < ms) continue;
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        break;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static const char *write_yaml(const char *output) {
    char name[100];
    xft_settings_destroy(settings_for(output));
    snprintf(name, sizeof name, "%s.yaml", output);
    const char *path = path_of(name);
    FILE *f = fopen(path, "w");
    cr_assert(f && fputs(yaml, f) >= 0 && !fclose(f));
    return path;
}

/* SIGKILL at random moments: what is there at the end is what a pipeline that nobody disturbed has made. */
Test(pipeline, killed) {
    const char *whole = write_yaml("whole"), *parts = write_yaml("parts");
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    cr_assert_eq(run_command(whole, 1e6), 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double ms = 1e3 * (double)(end.tv_sec - begin.tv_sec) + 1e-6 * (double)(end.tv_nsec - begin.tv_nsec);
    uint64_t random = 7;
    int kills = 0, code = -1;
    for (; code == -1 && kills < 12; kills++) code = run_command(parts, ms * small_uniform(&random) * 0.4);
    if (code == -1) code = run_command(parts, 1e6);
    cr_assert_eq(code, 0, "exit code %d after %d kills", code, kills);
    cr_expect_gt(kills, 2);
    static const char *const files[] = {"sft/model.safetensors",     "upcycled/model.safetensors",
                                        "moe/model.safetensors",     "merged/model.safetensors",
                                        "uniform/model.safetensors", "scores.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) expect_same_file("whole", "parts", files[i]);
    expect_nothing_left("parts");
}

/* ---- Disk ---- */

/* A number that a command prints. */
__attribute__((format(printf, 1, 2))) static double output_of(const char *format, ...) {
    char command[1500];
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof command, format, list);
    va_end(list);
    double value = NAN;
    FILE *pipe = popen(command, "r");
    cr_assert(pipe);
    if (fscanf(pipe, "%lf", &value) != 1) value = NAN;
    pclose(pipe);
    return value;
}

static double size_of(const char *name) {
    return output_of("find %s -type f -printf '%%s\\n' | awk '{n += $1} END {print n}'", path_of(name));
}

/* Bytes that `xft WHAT` says it needs on a disk that is all but full; 0 when it goes through. */
static double needed(const char *what) {
    double mb = output_of("SHIM_FREE=4096 LD_PRELOAD=%s %s %s 2>&1 >/dev/null | "
                          "sed -nE 's/.* needs ([0-9.]+) MB of disk space.*/\\1/p;'",
                          XFT_SHIM, XFT_COMMAND, what);
    return isnan(mb) ? 0 : 1e6 * mb;
}

/* What a stage is said to write, but for logs, within 20 % of what it writes. */
static void expect_estimate(const xft_settings *settings, xft_stage stage, const char *from, const char *to,
                            double (*written)(const char *name)) {
    xft_stage_needs needs;
    xft_stage_options o = {.model = path_of(from), .output = path_of(to), .device = device};
    OK(xft_stage_plan(settings, stage, &o, &needs));
    OK(xft_stage_run(settings, stage, &o, NULL));
    double told = (double)needs.disk - 0x1p20, is = written(to);
    cr_expect(told > 0.8 * is && told < 1.2 * is + 5000, "%s: %.0f bytes told, %.0f written", to, told, is);
}

/* The model, and three checkpoints: two are kept, and another one is begun before the older one goes. */
static double model_and_checkpoints(const char *name) {
    char checkpoints[60];
    snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", name);
    return size_of(name) + size_of(checkpoints) / 2;
}

Test(pipeline, disk_that_is_needed) {
    store_base_as_bf16();
    xft_settings *settings = settings_for("none");
    expect_estimate(settings, XFT_STAGE_UPCYCLE, "dense", "up", size_of);
    expect_estimate(settings, XFT_STAGE_TUNE, "up", "tuned", model_and_checkpoints);
    expect_estimate(settings, XFT_STAGE_MERGE, "up", "merged", model_and_checkpoints);
    OK(xft_settings_set(settings, "save_dtype", "f32"));
    expect_estimate(settings, XFT_STAGE_UPCYCLE, "dense", "wide", size_of);
    /* a run that is not to leave checkpoints leaves one when it is stopped */
    xft_stage_needs often, once;
    xft_stage_options o = {.model = path_of("up"), .device = device};
    OK(xft_stage_plan(settings, XFT_STAGE_TUNE, &o, &often));
    OK(xft_settings_set(settings, "save_every", "0"));
    OK(xft_stage_plan(settings, XFT_STAGE_TUNE, &o, &once));
    cr_expect_lt(once.disk - (1 << 20), (often.disk - (1 << 20)) / 2);
    xft_settings_destroy(settings);
}

/* What a run has on the disk already it does not need again, and one that is done needs nothing. */
Test(pipeline, disk_in_use) {
    char what[700];
    const char *config = write_yaml("out");
    xft_settings *settings = settings_for("out");
    story s = {.stop_at = 5};
    snprintf(what, sizeof what, "run %s", config);
    double before = needed(what);
    cr_expect_gt(before, 2e6);
    OK(xft_settings_set(settings, "stages", "sft"));
    cr_expect_eq(run(settings, &s), XFT_ERROR_CANCELLED);
    double begun = size_of("out/sft.part");
    cr_expect_float_eq(before - needed(what), begun, 1.1e5); /* it says tenths of MB */
    cr_expect_gt(begun, 1.5e5);
    cr_assert_eq(run_command(config, 1e6), 0);
    cr_expect_eq(needed(what), 0);

    /* the same of one stage */
    snprintf(what, sizeof what, "train --config %s --model %s --output %s", config, path_of("moe"), path_of("tuned"));
    before = needed(what);
    cr_expect_gt(before, 4e5);
    xft_stage_options o = {
        .model = path_of("moe"), .output = path_of("tuned"), .device = device, .user = &s, .event = tell_event};
    s = (story){.stop_at = 5};
    cr_expect_eq(xft_stage_run(settings, XFT_STAGE_TUNE, &o, NULL), XFT_ERROR_CANCELLED);
    cr_expect_float_eq(before - needed(what), size_of("tuned/checkpoints"), 1.1e5);
    o.event = NULL;
    OK(xft_stage_run(settings, XFT_STAGE_TUNE, &o, NULL));
    cr_expect_eq(needed(what), 0);
    xft_settings_destroy(settings);
}

/* Data that changed while there is an earlier output: that one stays until the new one is complete. */
Test(pipeline, earlier_output_stays) {
    xft_settings *settings = settings_for("out");
    story s = {0};
    OK(xft_settings_set(settings, "stages", "sft"));
    OK(run(settings, &s));
    cr_expect_str_eq(s.text, "sft+ report+ ");
    char command[900];
    snprintf(command, sizeof command, "cp -r %s %s", path_of("out/sft"), path_of("before"));
    cr_assert_eq(system(command), 0);
    OK(xft_settings_set(settings, "sft.lr", "1e-3"));
    cr_expect(there("out/report.html"));
    s.stop_at = 2;
    cr_expect_eq(run(settings, &s), XFT_ERROR_CANCELLED);
    cr_expect(!there("out/report.html"), "the page told of what is there no longer");
    cr_expect_str_eq(s.reason, "settings changed: lr");
    expect_same_file("before", "out/sft", "model.safetensors");
    cr_expect(there("out/sft.part"));
    s.stop_at = 0;
    OK(run(settings, &s));
    cr_expect_str_eq(s.text, "sft+ report+ ");
    cr_expect_str_eq(s.reason, "goes on");
    snprintf(command, sizeof command, "cmp -s %s/model.safetensors %s/model.safetensors", path_of("before"),
             path_of("out/sft"));
    cr_expect_neq(system(command), 0);
    xft_settings_destroy(settings);
}

/* What would fail after hours fails before the first. */
Test(pipeline, refused_at_once) {
    char moe[300];
    snprintf(moe, sizeof moe, "%s/moe", folder); /* path_of() forgets it */
    const struct {
        const char *key, *value, *reason;
    } wrong[] = {
        {"eval.eval_data", "nowhere.jsonl", "eval_data: nowhere.jsonl: No such file"},
        {"eval.problems", "nowhere.gz", "nowhere.gz"},
        {"eval.problems", XFT_TESTS_DIR "/problems/own.jsonl", "own.jsonl: own/halve: a prompt of "},
        {"merge.merge_kind", "given", "coefficients"},
        {"stages", "tun", "did you mean tune?"},
        {"model", moe, "mixture of 4 experts already"},
        {"model", "nowhere", "nowhere/config.json: No such file"},
        {"device", "no-such-device", "no-such-device"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        story s = {0};
        xft_settings *settings = settings_for("never");
        OK(xft_settings_set(settings, wrong[i].key, wrong[i].value));
        cr_expect_neq(xft_pipeline_run(settings, &(xft_pipeline_options){.user = &s, .part = tell_part}), XFT_OK);
        cr_expect(strstr(xft_error(), wrong[i].reason), "%s: %s", wrong[i].key, xft_error());
        cr_expect(!*s.text && !there("never/sft.part"), "%s: began with %s", wrong[i].key, s.text);
        xft_settings_destroy(settings);
    }
    /* one pipeline in a folder at a time */
    xft_settings *settings = settings_for("never");
    int fd = open(path_of("never"), O_RDONLY | O_DIRECTORY);
    cr_assert(fd >= 0 && flock(fd, LOCK_EX) == 0);
    cr_expect_eq(xft_pipeline_run(settings, NULL), XFT_ERROR_IO);
    cr_expect(strstr(xft_error(), "another pipeline"), "%s", xft_error());
    close(fd);
    xft_settings_destroy(settings);
}

/* ---- Stages by themselves ---- */

static void keep_text(void *user, xft_log_level level, const char *line) {
    if (level == XFT_LOG_WARNING) snprintf(user, 300, "%s", line);
}

/* A problem of MBPP+ has inputs but no test: its samples are written, the loss is told, and so are pipelines. */
Test(pipeline, problems_without_tests) {
    xft_config c = small_config(XFT_FAMILY_LLAMA);
    xft_model *model;
    c.max_positions = 1024;
    OK(small_model(device, &c, XFT_F32, 7, &model));
    OK(xft_checkpoint_save(model, path_of("long"), &(xft_save_options){.carry = path_of("dense")}));
    xft_model_destroy(model);
    FILE *f = fopen(path_of("mbpp.jsonl"), "w");
    cr_assert(
        f &&
        fputs(
            "{\"task_id\": \"Mbpp/2\", \"prompt\": \"\\\"\\\"\\\"\\nAdd\\nassert add((1,)) == 1\\n\\\"\\\"\\\"\\n\", "
            "\"entry_point\": \"add\", \"canonical_solution\": \"def add(a): return sum(a)\", \"base_input\": [[[1]]], "
            "\"plus_input\": [[[]]], \"atol\": 0, \"contract\": \"\"}\n",
            f) >= 0 &&
        !fclose(f));
    char warning[300] = "";
    xft_callbacks callbacks = {.user = warning, .log = keep_text};
    xft_settings *settings = settings_for("moe-made");
    xft_stage_result r;
    OK(xft_settings_set(settings, "problems", path_of("mbpp.jsonl")));
    OK(xft_settings_set(settings, "max_new_tokens", "4"));
    xft_stage_options o = {
        .model = path_of("long"), .output = path_of("scores"), .device = device, .callbacks = &callbacks};
    OK(xft_stage_run(settings, XFT_STAGE_EVAL, &o, &r));
    cr_expect(strstr(warning, "without test"), "%s", warning);
    *warning = 0;
    cr_expect(isfinite(r.loss) && r.score.problems == 0);
    cr_expect(there("scores/samples.jsonl") && !there("scores/results.json"));
    json_t *scores = json_of("scores/eval.json");
    cr_expect(number(scores, "loss") > 0 && !json_object_get(scores, "pass@1"));
    json_decref(scores);
    OK(xft_settings_set(settings, "model", path_of("long")));
    OK(xft_settings_set(settings, "stages", "eval"));
    OK(xft_pipeline_run(settings, &(xft_pipeline_options){.device = device, .callbacks = &callbacks}));
    cr_expect(strstr(warning, "without test") && there("moe-made/eval/base/samples.jsonl"), "%s", warning);
    xft_settings_destroy(settings);
    /* samples that nobody could find are refused before the model is loaded */
    OK(xft_settings_create(&settings));
    OK(xft_settings_set(settings, "problems", path_of("mbpp.jsonl")));
    o.output = NULL;
    cr_expect_eq(xft_stage_run(settings, XFT_STAGE_EVAL, &o, &r), XFT_ERROR_INVALID_ARGUMENT);
    cr_expect(strstr(xft_error(), "set output"), "%s", xft_error());
    xft_settings_destroy(settings);
}

/* What there is to measure on: the losses of a merge are never left out where there is data. */
Test(pipeline, merges_are_measured) {
    xft_settings *settings = settings_for("moe-made"), *training;
    xft_stage_result r;
    xft_stage_options o = {.model = path_of("moe"), .output = path_of("one"), .device = device, .uniform = true};
    OK(xft_settings_create(&training));
    OK(xft_settings_set(training, "data", path_of("data.jsonl")));
    OK(xft_settings_set(training, "length", "24"));
    OK(xft_settings_set(training, "max_steps", "3"));
    OK(xft_stage_run(training, XFT_STAGE_MERGE, &o, &r));
    cr_expect(isfinite(r.loss_uniform) && isfinite(r.loss_shared) && isnan(r.loss_mixed) && r.labels);
    json_t *merge = json_of("one/merge.json");
    cr_expect_str_eq(json_string_value(json_object_get(merge, "measured_on")), "training data");
    json_decref(merge);
    o.output = path_of("two");
    OK(xft_stage_run(settings, XFT_STAGE_MERGE, &o, &r));
    merge = json_of("two/merge.json");
    cr_expect_str_eq(json_string_value(json_object_get(merge, "measured_on")), "evaluation data");
    json_decref(merge);
    /* learned; an older summary beside a run that begins anew is not taken for its own */
    o = (xft_stage_options){.model = path_of("moe"), .output = path_of("three"), .device = device};
    OK(xft_stage_run(training, XFT_STAGE_MERGE, &o, &r));
    cr_expect(isfinite(r.loss_mixed) && isfinite(r.loss_uniform));
    cr_expect(there("three/merge.json"));
    /* without its summary, a finished merge is described from its log, whose last coefficients must be there */
    cr_assert_eq(unlink(path_of("three/merge.json")), 0);
    OK(xft_stage_run(training, XFT_STAGE_MERGE, &o, &r));
    cr_expect(r.run.was_done && there("three/merge.json"));
    cr_assert_eq(unlink(path_of("three/merge.json")), 0);
    char command[1500];
    snprintf(command, sizeof command, "sed -i '/\"mixing\".*\"step\":%u,/d' %s", (unsigned)r.run.steps,
             path_of("three/log.jsonl"));
    cr_assert_eq(system(command), 0);
    cr_expect_eq(xft_stage_run(training, XFT_STAGE_MERGE, &o, &r), XFT_ERROR_FORMAT);
    cr_expect(strstr(xft_error(), "three/log.jsonl: the last coefficients are those of step"), "%s", xft_error());
    cr_expect(!there("three/merge.json"));
    OK(xft_settings_set(training, "resume", "no"));
    story s = {.stop_at = 1};
    o.user = &s;
    o.event = tell_event;
    cr_expect_eq(xft_stage_run(training, XFT_STAGE_MERGE, &o, &r), XFT_ERROR_CANCELLED);
    cr_expect(!there("three/merge.json"));
    xft_settings_destroy(training);
    xft_settings_destroy(settings);
}

/* Packing is a choice under compat: official, too, where it is off by default. */
Test(pipeline, packed_and_official) {
    xft_settings *settings = settings_for("out");
    OK(xft_settings_set(settings, "compat", "official"));
    OK(xft_settings_set(settings, "packing", "yes"));
    xft_stage_result r;
    xft_stage_options o = {.model = path_of("moe"), .output = path_of("packed"), .device = device};
    OK(xft_stage_run(settings, XFT_STAGE_TUNE, &o, &r));
    cr_expect(r.run.steps == 6 && isfinite(r.run.loss) && isfinite(r.loss));
    xft_settings_destroy(settings);
}

Test(pipeline, single_stages) {
    xft_settings *settings = settings_for("moe-made");
    xft_stage_result r;
    OK(xft_stage_run(settings, XFT_STAGE_UPCYCLE, &(xft_stage_options){.device = device}, &r));
    cr_expect(there("moe-made/base_config.json"));
    xft_stage_options o = {.model = path_of("moe-made"), .output = path_of("given"), .device = device};
    OK(xft_settings_set(settings, "merge_kind", "given"));
    cr_expect_eq(xft_stage_run(settings, XFT_STAGE_MERGE, &o, &r), XFT_ERROR_INVALID_ARGUMENT);
    FILE *f = fopen(path_of("alpha.json"), "w");
    cr_assert(f && fputs("[[0.5, 0.25, 0.25], [1, 0, 0]]", f) >= 0 && !fclose(f));
    OK(xft_settings_set(settings, "coefficients", path_of("alpha.json")));
    OK(xft_stage_run(settings, XFT_STAGE_MERGE, &o, &r));
    cr_expect_float_eq(r.most_moved, 2.0 / 3, 1e-6);
    /* experts are equal: every mixture is the base */
    expect_same_layout("dense", "given");
    cr_expect_float_eq(r.loss_mixed, r.loss_shared, 1e-6);
    xft_stage_result base;
    OK(xft_stage_run(settings, XFT_STAGE_EVAL, &(xft_stage_options){.device = device, .output = path_of("scores")},
                     &base));
    cr_expect_float_eq(r.loss_mixed, base.loss, 1e-6);
    cr_expect_float_eq(base.perplexity, exp(base.loss), 1e-9);
    cr_expect(there("scores/eval.json"));
    f = fopen(path_of("alpha.json"), "w");
    cr_assert(f && fputs("[[0.5, -0.25, 0.25], [1, 0, 0]]", f) >= 0 && !fclose(f));
    /* a model is not overwritten unasked */
    cr_expect_eq(xft_stage_run(settings, XFT_STAGE_MERGE, &o, &r), XFT_ERROR_INVALID_ARGUMENT);
    cr_expect(strstr(xft_error(), "given holds a model"), "%s", xft_error());
    OK(xft_settings_set(settings, "merge.resume", "no"));
    cr_expect_eq(xft_stage_run(settings, XFT_STAGE_MERGE, &o, &r), XFT_ERROR_FORMAT);
    cr_expect(strstr(xft_error(), "alpha.json: layer 0, coefficient 1"), "%s", xft_error());
    /* wrong kinds of model */
    o.model = path_of("dense");
    cr_expect_eq(xft_stage_run(settings, XFT_STAGE_TUNE, &o, &r), XFT_ERROR_INVALID_ARGUMENT);
    cr_expect_eq(xft_stage_run(settings, XFT_STAGE_MERGE, &o, &r), XFT_ERROR_INVALID_ARGUMENT);
    o.output = path_of("dense");
    cr_expect_eq(xft_stage_run(settings, XFT_STAGE_UPCYCLE, &o, &r), XFT_ERROR_INVALID_ARGUMENT);
    cr_expect(strstr(xft_error(), "own folder"), "%s", xft_error());
    xft_settings_destroy(settings);
}

Test(pipeline, plans) {
    xft_settings *settings = settings_for("out");
    xft_stage_options o = {.device = device};
    xft_stage_needs sft, tune, merge, upcycle, eval;
    OK(xft_stage_plan(settings, XFT_STAGE_SFT, &o, &sft));
    OK(xft_stage_plan(settings, XFT_STAGE_TUNE, &o, &tune)); /* of the dense model: as if upcycled */
    OK(xft_stage_plan(settings, XFT_STAGE_MERGE, &o, &merge));
    OK(xft_stage_plan(settings, XFT_STAGE_UPCYCLE, &o, &upcycle));
    OK(xft_stage_plan(settings, XFT_STAGE_EVAL, &o, &eval));
    cr_expect(sft.fits && sft.plan.gradients && sft.plan.optimizer && !*sft.advice);
    cr_expect_gt(tune.plan.total, sft.plan.total);
    cr_expect_gt(upcycle.plan.total, upcycle.plan.weights / 2);
    cr_expect_gt(merge.plan.weights, upcycle.plan.weights / 2);
    /* sequences of an evaluation are those at once on the device, however few make a step of training */
    OK(xft_settings_set(settings, "batch", "1"));
    xft_stage_needs same;
    OK(xft_stage_plan(settings, XFT_STAGE_EVAL, &o, &same));
    cr_expect_eq(same.plan.total, eval.plan.total);
    OK(xft_settings_set(settings, "batch", "6"));
    cr_expect(eval.plan.total < sft.plan.total && !eval.plan.gradients);
    cr_expect_gt(tune.disk, upcycle.disk);
    /* what cannot fit is refused with numbers, and nothing is written */
    OK(xft_settings_set(settings, "sft.length", "64"));
    OK(xft_settings_set(settings, "sft.batch", "65536"));
    OK(xft_settings_set(settings, "sft.micro_batch", "4096"));
    xft_stage_needs huge;
    OK(xft_stage_plan(settings, XFT_STAGE_SFT, &o, &huge));
    cr_expect_gt(huge.plan.total, sft.plan.total * 50);
    xft_settings_destroy(settings);
}
