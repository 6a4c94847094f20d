/* run_worker FOLDER STAGE OUTPUT [STOP [STEPS]]: a run of tests/small_run.h in a process of its own, for tests that
 * kill it. Exit code 0 when it is done, 3 when it was stopped after step STOP, 1 otherwise. */
#include "small_run.h"
#include "xft/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t stop_at = UINT64_MAX;

static bool watch(void *user, const xft_run_event *event) {
    (void)user;
    return event->kind != XFT_RUN_EVENT_STEP || event->step < stop_at;
}

static int end(xft_status status) {
    if (status == XFT_OK) return 0;
    fprintf(stderr, "%s\n", xft_error());
    return status == XFT_ERROR_CANCELLED ? 3 : 1;
}

static xft_status make(char **argv, xft_stage stage) {
    xft_settings *settings;
    char lambda[40];
    snprintf(lambda, sizeof lambda, "%g", 1 / atof(argv[5]));
    xft_stage_options options = {.model = small_run_path(argv[1], stage == XFT_STAGE_UPCYCLE ? "dense" : "moe"),
                                 .output = small_run_path(argv[1], argv[3]),
                                 .uniform = stage == XFT_STAGE_MERGE,
                                 .replace = true};
    const char *device = getenv("XFT_TEST_DEVICE");
    const struct {
        const char *key, *value;
    } set[] = {{"device", device ? device : "auto"},
               {"shard_size", argv[4]},
               {"upcycle.seed", argv[5]},
               {"upcycle.experts", "4"},
               {"upcycle.top_k", argv[5]},
               {"merge.lambda", lambda}};
    xft_status status = xft_settings_create(&settings);
    for (size_t i = 0; i < sizeof set / sizeof *set && status == XFT_OK; i++)
        status = xft_settings_set(settings, set[i].key, set[i].value);
    if (status == XFT_OK) status = xft_stage_run(settings, stage, &options, NULL);
    xft_settings_destroy(settings);
    return status;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    const bool upcycle = !strcmp(argv[2], "upcycle");
    if (upcycle || !strcmp(argv[2], "uniform"))
        return argc < 6 ? 2 : end(make(argv, upcycle ? XFT_STAGE_UPCYCLE : XFT_STAGE_MERGE));
    xft_run_stage stage = !strcmp(argv[2], "sft")     ? XFT_RUN_SFT
                          : !strcmp(argv[2], "merge") ? XFT_RUN_MERGE
                                                      : XFT_RUN_TUNE;
    xft_run_options options = small_run_options(argv[1], stage, argv[3]);
    xft_run_result result;
    options.event = watch;
    options.keep_best = true;
    if (getenv("XFT_SHARD_SIZE")) options.shard_size = strtoull(getenv("XFT_SHARD_SIZE"), NULL, 10);
    if (argc > 4) stop_at = strtoull(argv[4], NULL, 10);
    if (argc > 5) options.max_steps = strtoull(argv[5], NULL, 10);
    return end(xft_run(&options, &result));
}
