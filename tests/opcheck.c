/* xft_opcheck: the op cases without a test framework, for kernel authors and for tools that watch a program.
 *
 *     --device NAME     as for xft_device_open, or "test"; default "auto"
 *     --op NAME         one function of ops.h
 *     --part I/N        of all ops, those whose number leaves I when divided by N: to share the work among processes
 *     --set small|full|long  default full
 *     --separate        every tensor in a driver buffer of its own, so that a tool sees an overrun
 *     --verbose         a line per case, with its time
 *     --missing         ops without a case are failures
 *     --coverage        lists the kernels that ran; one that could run and did not is a failure
 *     --exceptions      prints the table of tolerances instead
 */
#include "op_check.h"

#include <stdio.h>
#include <string.h>

static uint32_t shown;

static void print_failure(const op_case *c, const op_result *result) {
    if (shown++ < 8) printf("    FAILED %s %s: %s\n", c->op, c->label, result->message);
}

int main(int argc, char **argv) {
    const char *device = "auto", *only = NULL;
    case_set set = CASES_FULL;
    uint32_t debug = 0;
    uint32_t part = 0, parts = 1;
    bool missing = false, coverage = false, verbose = false;
    for (int i = 1; i < argc; i++) {
        bool value = i + 1 < argc;
        if (!strcmp(argv[i], "--device") && value)
            device = argv[++i];
        else if (!strcmp(argv[i], "--op") && value)
            only = argv[++i];
        else if (!strcmp(argv[i], "--part") && value && sscanf(argv[i + 1], "%u/%u", &part, &parts) == 2 && parts)
            i++;
        else if (!strcmp(argv[i], "--set") && value)
            i++, set = !strcmp(argv[i], "small") ? CASES_SMALL : !strcmp(argv[i], "long") ? CASES_LONG : CASES_FULL;
        else if (!strcmp(argv[i], "--separate"))
            debug |= XFT_DEBUG_SEPARATE_BUFFERS;
        else if (!strcmp(argv[i], "--missing"))
            missing = true;
        else if (!strcmp(argv[i], "--verbose"))
            verbose = true;
        else if (!strcmp(argv[i], "--coverage"))
            coverage = true;
        else if (!strcmp(argv[i], "--exceptions"))
            return op_print_exceptions(), 0;
        else {
            fprintf(
                stderr,
                "usage: %s [--device NAME] [--op NAME] [--part I/N] [--set small|full|long] [--separate] [--verbose] "
                "[--missing] [--coverage] "
                "[--exceptions]\n",
                argv[0]);
            return 2;
        }
    }
    op_checker checker;
    if (op_checker_open(&checker, device, debug)) {
        fprintf(stderr, "%s\n", xft_error());
        return 2;
    }
    checker.verbose = verbose;
    const xft_device_info *info = xft_device_get_info(checker.device);
    printf("%s: %s (%s %s)\n", info->id, info->name, info->platform, info->driver);
    uint32_t cases = 0, failed = 0;
    for (const char *const *op = op_functions; *op; op++) {
        if ((only && strcmp(only, *op)) || (uint32_t)(op - op_functions) % parts != part) continue;
        shown = 0;
        op_summary s = op_check_all(&checker, *op, set, print_failure);
        if (s.cases == 0) {
            if (missing || only) printf("%-28s no case\n", *op), failed++;
            continue;
        }
        printf("%-28s %4u cases  %4u failed  worst error %.2e / %.0e", *op, s.cases, s.failed, s.error, s.tolerance);
        printf("%s%s\n", *s.not_run ? "  not run: " : "", s.not_run);
        fflush(stdout);
        cases += s.cases;
        failed += s.failed;
    }
    if (coverage) failed += op_print_coverage(&checker);
    if (op_checker_close(&checker)) {
        printf("%s\n", xft_error());
        failed++;
    }
    printf("%u cases, %u failed\n", cases, failed);
    return failed || cases == 0;
}
