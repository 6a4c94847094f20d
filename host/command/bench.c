/* xft bench: runs the installed benchmarks, compares their results. */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

/* ---- Running ---- */

/* The program beside this one: installed in libexec, or where the build leaves it. */
static bool find_program(const char *name, char *path, size_t room) {
    static const char *const places[] = {XFT_LIBEXEC, "bench"};
    char self[PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0) return false;
    self[length] = 0;
    const char *folder = dirname(self);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, room, "%s/%s/%s", folder, places[i], name);
        if (access(path, X_OK) == 0) return true;
    }
    return false;
}

/* What the peers need to run at their speed; bench/run.sh does the same. */
static void prepare_peers(void) {
    char threads[16];
    snprintf(threads, sizeof threads, "%ld", sysconf(_SC_NPROCESSORS_ONLN));
#if defined(__x86_64__)
    /* OpenBLAS of Debian 12 takes recent processors for a Prescott. */
    if (__builtin_cpu_supports("avx512f"))
        setenv("OPENBLAS_CORETYPE", "SkylakeX", 0);
    else if (__builtin_cpu_supports("avx2"))
        setenv("OPENBLAS_CORETYPE", "Haswell", 0);
#endif
    setenv("OPENBLAS_NUM_THREADS", threads, 0);
    setenv("POCL_AFFINITY", "1", 0); /* else its workers may share a core after an idle moment */
    setenv("XFT_BENCH_COMMIT", xft_version(), 0);
}

static void say_tuned(void *user, const char *products, const char *choice, double ms, double rule_ms) {
    (void)user;
    printf("%-32s %-20s %10.3f ms  x%.2f of the rule's\n", products, choice, ms, rule_ms / ms);
    fflush(stdout);
}

/* xft bench tune [--device NAME] */
static int tune(char **arguments) {
    const char *name = "auto";
    if (arguments[1]) {
        if (strcmp(arguments[1], "--device") || !arguments[2] || arguments[3])
            return fail(EXIT_USAGE, "xft bench tune takes --device NAME and nothing else, not \"%s\"",
                        arguments[strcmp(arguments[1], "--device") || !arguments[2] ? 1 : 3]);
        name = arguments[2];
    }
    xft_device *device = NULL;
    xft_status status = xft_device_open(name, NULL, &device);
    if (status == XFT_OK) {
        printf("%s, %s\n", xft_device_get_info(device)->id, xft_device_get_info(device)->name);
        status = xft_device_tune(device, say_tuned, NULL);
    }
    xft_device_close(device);
    return status == XFT_OK ? EXIT_DONE : fail(EXIT_FAILED, "%s", xft_error());
}

static int run_benchmark(call *call) {
    char name[32], path[PATH_MAX + 64];
    const char *what = call->operands[0];
    if (!strcmp(what, "tune")) return tune(call->operands);
    if (strcmp(what, "ops") && strcmp(what, "step"))
        return fail(EXIT_USAGE, "there is no benchmark \"%s\"; expected ops, step or tune", what);
    snprintf(name, sizeof name, "xft_bench_%s", what);
    if (!find_program(name, path, sizeof path))
        return fail(EXIT_FAILED, "%s is not installed: the build leaves it out where there is no OpenBLAS", name);
    prepare_peers();
    call->operands[0] = name;
    execv(path, call->operands); /* operands end with the NULL of argv */
    return fail(EXIT_FAILED, "%s: %s", path, strerror(errno));
}

/* ---- Comparing ---- */

/* What tells one row of results from another. */
static const char *const identity[] = {"op", "model", "stage", "form", "label", "api", "device", "dtype"};
enum { IDENTITY = sizeof identity / sizeof *identity };

static const char *text_of(const json_t *row, const char *key) {
    const char *text = json_string_value(json_object_get(row, key));
    return text ? text : "";
}

static bool same_row(const json_t *a, const json_t *b) {
    for (int i = 0; i < IDENTITY; i++)
        if (strcmp(text_of(a, identity[i]), text_of(b, identity[i]))) return false;
    return true;
}

/* Work per time of a row, and its spread as a share: ops say ms and their spread, steps tokens/s and a share. */
static bool speed_of(const json_t *row, double *speed, double *spread) {
    const double ms = json_number_value(json_object_get(row, "ms"));
    const double tokens = json_number_value(json_object_get(row, "tokens_per_s"));
    *spread = json_number_value(json_object_get(row, "spread"));
    if (ms > 0) *spread /= ms;
    *speed = ms > 0 ? 1 / ms : tokens;
    return *speed > 0;
}

static void row_name(const json_t *row, char *name, size_t room) {
    size_t used = 0;
    for (int i = 0; i < IDENTITY && used < room; i++)
        if (*text_of(row, identity[i]) && strcmp(identity[i], "device"))
            used += (size_t)snprintf(name + used, room - used, "%s%s", used ? " " : "", text_of(row, identity[i]));
}

static json_t *load_results(const char *path) {
    json_error_t error;
    json_t *rows = json_load_file(path, 0, &error);
    if (!rows) {
        if (error.line < 0) /* not opened: the text names the file */
            fail(EXIT_FAILED, "%s", error.text);
        else
            fail(EXIT_FAILED, "%s:%d: %s", path, error.line, error.text);
    } else if (!json_is_array(rows)) {
        fail(EXIT_FAILED, "%s: expected an array of results, as xft bench --json writes it", path);
        json_decref(rows);
        rows = NULL;
    }
    return rows;
}

/* Ratios above 1: the second file is faster. The spread of a ratio is that of both times together. */
static int compare(const json_t *before, const json_t *after) {
    size_t i, k, matched = 0;
    double log_sum = 0;
    json_t *row, *other = NULL;
    json_array_foreach(after, i, row) {
        double new_speed, old_speed, new_spread, old_spread;
        char name[200];
        json_array_foreach(before, k, other) if (same_row(row, other)) break;
        if (k == json_array_size(before) || !speed_of(row, &new_speed, &new_spread) ||
            !speed_of(other, &old_speed, &old_spread))
            continue;
        const double ratio = new_speed / old_speed, spread = ratio * hypot(new_spread, old_spread);
        row_name(row, name, sizeof name);
        printf("x%-6.2f ± %.2f %s  %s\n", ratio, spread,
               fabs(ratio - 1) <= 2 * spread ? "      "
               : ratio > 1                   ? "faster"
                                             : "SLOWER",
               name);
        log_sum += log(ratio);
        matched++;
    }
    if (!matched) return fail(EXIT_FAILED, "no row of one file is in the other: another device, driver, or benchmark");
    printf("%zu rows in both, geometric mean x%.3f; %zu only before, %zu only now\n", matched,
           exp(log_sum / (double)matched), json_array_size(before) - matched, json_array_size(after) - matched);
    return EXIT_DONE;
}

int run_bench(call *call) {
    const char *first = call_option(call, OPTION_COMPARE);
    if (!first && call->operand_count == 0)
        return fail(EXIT_USAGE, "expected ops, step, or --compare; see xft help bench");
    if (!first) return run_benchmark(call);
    if (call->operand_count != 1) return fail(EXIT_USAGE, "--compare needs two files");
    json_t *before = load_results(first), *after = before ? load_results(call->operands[0]) : NULL;
    const int code = after ? compare(before, after) : EXIT_FAILED;
    json_decref(before);
    json_decref(after);
    return code;
}
