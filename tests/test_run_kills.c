/* Suite `run_kills`: runs that die, or whose disk fills up, at every call that changes a file, and at random moments.
 */
#include "small_model.h"
#include "small_run.h"

#include "xft/checkpoint.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OK(call) cr_assert_eq(call, XFT_OK, "%s: %s", #call, xft_error())
#define DEVICE   (getenv("XFT_TEST_DEVICE") ? getenv("XFT_TEST_DEVICE") : "auto")

static char folder[200];

__attribute__((format(printf, 1, 2))) static int shell(const char *format, ...) {
    char command[2000];
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof command, format, list);
    va_end(list);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static const char *at(const char *name) {
    return small_run_path(folder, name);
}

static void begin(void) {
    xft_device *device;
    /* memory where there is some: hundreds of checkpoints would wait for a disk */
    snprintf(folder, sizeof folder, "%s/xft-kills-XXXXXX", access("/dev/shm", W_OK) ? P_tmpdir : "/dev/shm");
    cr_assert(mkdtemp(folder));
    OK(xft_device_open(DEVICE, NULL, &device));
    OK(small_run_make(device, folder));
    xft_device_close(device);
    /* the run to compare with, and one that was stopped after 4 steps or 5 */
    cr_assert_eq(shell("%s %s tune whole", XFT_WORKER, folder), 0);
    cr_assert_eq(shell("%s %s tune begun 4 2>/dev/null", XFT_WORKER, folder), 3);
}

static void end(void) {
    cr_expect_eq(shell("rm -rf %s", folder), 0);
}
TestSuite(run_kills, .init = begin, .fini = end, .timeout = 600);

/* A copy of the run that was stopped goes on under the shim; returns the worker's exit code, 137 for SIGKILL. */
static int go_on(const char *shim) {
    cr_assert_eq(shell("rm -rf %s/victim; cp -r %s/begun %s/victim", folder, folder, folder), 0);
    return shell("SHIM_FOLDER=%s/victim %s LD_PRELOAD=%s %s %s tune victim 2>%s/message", folder, shim, XFT_SHIM,
                 XFT_WORKER, folder, folder);
}

/* The victim ends as the run that nothing happened to, and leaves nothing half written. */
static void expect_recovery(const char *what, int number) {
    cr_expect_eq(shell("%s %s tune victim", XFT_WORKER, folder), 0, "%s %d: it cannot go on", what, number);
    char hex[33] = "", whole[33];
    cr_expect_eq(xft_fingerprint(at("victim"), hex), XFT_OK, "%s %d: %s", what, number, xft_error());
    OK(xft_fingerprint(at("whole"), whole));
    cr_expect_str_eq(hex, whole, "%s %d: other weights", what, number);
    cr_expect_eq(shell("ls -R %s/victim | grep -qE '[.](tmp|old)-|^model[.](new|moving)'", folder), 1,
                 "%s %d: left-over files", what, number);
    cr_expect_eq(shell("ls %s/victim/checkpoints | grep -c step- | grep -qx 2", folder), 0, "%s %d: keep", what,
                 number);
}

/* Calls of a save that change files. */
static int count_calls(const char *scope, const char *only) {
    char shim[400];
    snprintf(shim, sizeof shim, "%s SHIM_COUNT=%s/calls", scope, folder);
    cr_assert_eq(shell("rm -f %s/calls", folder), 0);
    cr_assert_eq(go_on(shim), 0);
    expect_recovery("nothing", 0);
    char command[300];
    snprintf(command, sizeof command, "grep -cE '%s' %s/calls", only, folder);
    FILE *pipe = popen(command, "r");
    int calls = 0;
    cr_assert(pipe && fscanf(pipe, "%d", &calls) == 1);
    pclose(pipe);
    return calls;
}

static const char checkpoint[] = "SHIM_FROM=step-00000006.tmp SHIM_UNTIL=log.jsonl",
                  model[] = "SHIM_FROM=model.tmp SHIM_UNTIL=run.json.tmp";

static void kill_at_each(const char *scope, int least, int first, int stride) {
    int calls = count_calls(scope, ".");
    cr_assert_geq(calls, least);
    for (int n = first; n <= calls; n += stride) {
        char shim[400];
        snprintf(shim, sizeof shim, "%s SHIM_KILL=%d", scope, n);
        cr_assert_eq(go_on(shim), 128 + SIGKILL, "call %d of %d does not kill", n, calls);
        expect_recovery("killed at call", n);
    }
}

/* Halves of one test, for two processors. */
Test(run_kills, at_each_call_of_a_checkpoint_odd) {
    kill_at_each(checkpoint, 35, 1, 2);
}
Test(run_kills, at_each_call_of_a_checkpoint_even) {
    kill_at_each(checkpoint, 35, 2, 2);
}

/* The finished model is made of shards. */
static void want_shards(void) {
    cr_assert_eq(setenv("XFT_SHARD_SIZE", "60000", 1), 0);
    cr_assert_eq(shell("rm -rf %s/whole && %s %s tune whole", folder, XFT_WORKER, folder), 0);
    cr_assert(access(at("whole/model-00002-of-00002.safetensors"), F_OK) == 0);
}

Test(run_kills, at_each_call_of_the_finished_model) {
    want_shards();
    kill_at_each(model, 30, 1, 1);
}

/* From the n-th call on nothing can be written any more. */
static void fail_at_each(const char *scope, int stride, const char *stays) {
    int calls = count_calls(scope, ".");
    for (int n = 1; n <= calls; n += stride) {
        char shim[400];
        snprintf(shim, sizeof shim, "%s SHIM_FAIL=%d", scope, n);
        int code = go_on(shim);
        cr_expect_eq(code, 1, "failure from call %d on: exit code %d", n, code);
        cr_expect_eq(shell("grep -qE 'victim.*(No space left on device|Input/output error)' %s/message", folder), 0,
                     "failure from call %d on: no message", n);
        cr_expect_eq(shell("test -d %s/victim/checkpoints/%s", folder, stays), 0, "an earlier checkpoint is gone");
        expect_recovery("failure from call", n);
    }
}

Test(run_kills, a_disk_that_fills_up_or_breaks) {
    fail_at_each(checkpoint, 3, "step-00000004");
}
Test(run_kills, a_disk_that_fills_up_at_the_finished_model) {
    want_shards();
    fail_at_each(model, 3, "step-00000009");
}

/* ---- One finished model in place of another ---- */

typedef struct replacement {
    const char *stage, *shards; /* of the new model, made of a whole one or of shards */
    const char *old;            /* what it replaces */
    uint32_t calls;             /* at least */
} replacement;

static char hex_old[33], hex_new[33];

static int replace(const replacement *r, const char *shim) {
    cr_assert_eq(shell("rm -rf %s/victim; cp -r %s/%s %s/victim", folder, folder, r->old, folder), 0);
    return shell("SHIM_FOLDER=%s/victim SHIM_FROM=model.tmp %s LD_PRELOAD=%s %s %s %s victim %s 3 2>%s/message", folder,
                 shim, XFT_SHIM, XFT_WORKER, folder, r->stage, r->shards, folder);
}

/* Who knows only the layout of Hugging Face finds the old model, the new one, or none. */
static bool expect_no_mixture(const char *what, int number) {
    char hex[33];
    cr_assert_eq(shell("rm -rf %s/plain; cp -r %s/victim %s/plain; rm -rf %s/plain/model.new %s/plain/model.moving",
                       folder, folder, folder, folder, folder),
                 0);
    if (access(at("plain/config.json"), F_OK) != 0) return false;
    OK(xft_fingerprint(at("plain"), hex));
    cr_expect(!strcmp(hex, hex_old) || !strcmp(hex, hex_new), "%s %d: a mixture of two models", what, number);
    return true;
}

/* Whoever reads with the library finds the old model or the new one, whole, as often as he looks. */
static bool expect_old_or_new(const char *what, int number) {
    char hex[33], again[33];
    bool there;
    OK(xft_checkpoint_exists(at("victim"), &there));
    cr_expect(there, "%s %d: no model", what, number);
    OK(xft_fingerprint(at("victim"), hex));
    bool new = !strcmp(hex, hex_new);
    cr_expect(new || !strcmp(hex, hex_old), "%s %d: neither the old nor the new model", what, number);
    OK(xft_fingerprint(at("victim"), again));
    cr_expect_str_eq(hex, again);
    return new;
}

/* At each call that writes the new model and puts it in place: killed, or failing from there on. */
static void replace_cut_off(const replacement *r) {
    char shim[400];
    OK(xft_fingerprint(at(r->old), hex_old));
    snprintf(shim, sizeof shim, "SHIM_COUNT=%s/calls", folder);
    cr_assert_eq(shell("rm -f %s/calls", folder), 0);
    cr_assert_eq(replace(r, shim), 0, "%s", r->stage);
    OK(xft_fingerprint(at("victim"), hex_new));
    cr_assert_str_neq(hex_old, hex_new);
    uint32_t calls = 0, old = 0, new = 0, none = 0;
    FILE *f = fopen(at("calls"), "r");
    for (int c; f && (c = fgetc(f)) != EOF;) calls += c == '\n';
    cr_assert(f && !fclose(f));
    cr_assert_geq(calls, r->calls);
    for (uint32_t n = 1; n <= calls; n++) {
        snprintf(shim, sizeof shim, "SHIM_KILL=%u", n);
        cr_assert_eq(replace(r, shim), 128 + SIGKILL, "call %u of %u does not kill", n, calls);
        none += !expect_no_mixture("killed at call", (int)n);
        *(expect_old_or_new("killed at call", (int)n) ? &new : &old) += 1;
        snprintf(shim, sizeof shim, "SHIM_FAIL=%u", n);
        int code = replace(r, shim);
        bool harmless = n == calls && !strcmp(r->stage, "upcycle"); /* an empty folder is removed, which still works */
        cr_expect_eq(code, !harmless, "failure from call %u on: exit code %d", n, code);
        cr_expect_eq(shell("grep -qE 'victim.*(No space left on device|Input/output error)' %s/message", folder), !code,
                     "failure from call %u on: no message", n);
        expect_no_mixture("failure from call", (int)n);
        expect_old_or_new("failure from call", (int)n);
        if (n % 8 != 1) continue;
        cr_expect_eq(shell("%s %s %s victim %s 3", XFT_WORKER, folder, r->stage, r->shards), 0);
        cr_expect(expect_old_or_new("made again", (int)n));
        cr_expect_eq(shell("ls -R %s/victim | grep -qE '[.](tmp|old)-|^model[.](new|moving)'", folder), 1,
                     "failure from call %u on: left-over files", n);
    }
    cr_log_info("%s over %s: killed at %u calls: %u times the old model, %u the new one; %u for others none", r->stage,
                r->old, calls, old, new, none);
    cr_expect(old > 10 && new > 5 && none > 0);
}

/* Shards over as many of the same names and shapes, and a whole model over shards. */
Test(run_kills, replacing_shards_by_shards) {
    cr_assert_eq(shell("%s %s upcycle first 60000 2", XFT_WORKER, folder), 0);
    replace_cut_off(&(replacement){"upcycle", "60000", "first", 40});
}
Test(run_kills, replacing_shards_by_one_file) {
    cr_assert_eq(shell("%s %s upcycle first 60000 2", XFT_WORKER, folder), 0);
    replace_cut_off(&(replacement){"uniform", "0", "first", 30});
}

Test(run_kills, too_little_space_is_said_before_the_run) {
    cr_expect_eq(
        shell("SHIM_FREE=100000 LD_PRELOAD=%s %s %s tune fresh 2>%s/message", XFT_SHIM, XFT_WORKER, folder, folder), 1);
    cr_expect_eq(shell("grep -qE 'needs [0-9.]+ MB of disk space, [0-9.]+ MB are free' %s/message", folder), 0);
    cr_expect_eq(shell("test -e %s/fresh/checkpoints -o -e %s/fresh/log.jsonl", folder, folder), 1);
}

/* ---- SIGKILL from outside ---- */

enum { KILLS = 20, LONG = 150 };

static pid_t start_worker(const char *output) {
    pid_t child = fork();
    if (child == 0) {
        execl(XFT_WORKER, XFT_WORKER, folder, "tune", output, "100000", "150", (char *)NULL);
        _exit(127);
    }
    return child;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The run of that name has ended by itself. */
static void expect_whole(const char *output) {
    cr_expect_eq(shell("cmp %s/%s/model.safetensors %s/long/model.safetensors", folder, output, folder), 0,
                 "other weights");
    cr_expect_eq(shell("grep -c '\"event\":\"step\"' %s/%s/log.jsonl | grep -qx %d", folder, output, LONG), 0,
                 "the log holds a step twice, or not at all");
}

/* Runs of 150 steps that are killed 20 times in all, any time within a third of what one takes. */
Test(run_kills, at_random_moments) {
    double took = seconds();
    cr_assert_eq(shell("%s %s tune long 100000 %d", XFT_WORKER, folder, LONG), 0);
    took = seconds() - took;
    uint64_t seed = (uint64_t)time(NULL), step;
    uint32_t kills = 0, runs = 1, within = 0;
    char name[40], path[400];
    cr_log_info("seed %llu", (unsigned long long)seed);
    while (kills < KILLS) {
        snprintf(name, sizeof name, "shot%u", runs);
        snprintf(path, sizeof path, "%s/%s", folder, name);
        pid_t child = start_worker(name);
        cr_assert_gt(child, 0);
        usleep((useconds_t)(small_uniform(&seed) * took / 3 * 1e6));
        kill(child, SIGKILL);
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        if (WIFSIGNALED(status)) {
            kills++;
            xft_run_state state;
            OK(xft_run_find(path, &state, &step));
            within += state == XFT_RUN_STOPPED && step > 0;
        } else { /* it was faster */
            cr_assert_eq(WEXITSTATUS(status), 0);
            expect_whole(name);
            runs++;
        }
    }
    cr_log_info("%u kills of %u runs, %u of them with a checkpoint to go on from", kills, runs, within);
    cr_expect_gt(within, 5);
    snprintf(name, sizeof name, "shot%u", runs);
    cr_expect_eq(shell("%s %s tune %s 100000 %d", XFT_WORKER, folder, name, LONG), 0);
    expect_whole(name);
}
