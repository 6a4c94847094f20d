/* run_worker FOLDER STAGE OUTPUT [STOP [STEPS]]: a run of tests/small_run.h in a process of its own, for tests that
 * kill it. Exit code 0 when it is done, 3 when it was stopped after step STOP, 1 otherwise. */
#include "small_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t stop_at = UINT64_MAX;

static bool watch(void *user, const xft_run_event *event) {
    (void)user;
    return event->kind != XFT_RUN_EVENT_STEP || event->step < stop_at;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    xft_run_stage stage = !strcmp(argv[2], "sft")     ? XFT_RUN_SFT
                          : !strcmp(argv[2], "merge") ? XFT_RUN_MERGE
                                                      : XFT_RUN_TUNE;
    xft_run_options options = small_run_options(argv[1], stage, argv[3]);
    xft_run_result result;
    options.event = watch;
    options.keep_best = true;
    if (argc > 4) stop_at = strtoull(argv[4], NULL, 10);
    if (argc > 5) options.max_steps = strtoull(argv[5], NULL, 10);
    xft_status status = xft_run(&options, &result);
    if (status == XFT_OK) return 0;
    fprintf(stderr, "%s\n", xft_error());
    return status == XFT_ERROR_CANCELLED ? 3 : 1;
}
