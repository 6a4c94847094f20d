/* Suite `ops`: every function of ops.h on the device named by XFT_TEST_DEVICE, over the cases of XFT_TEST_SET (full
 * unless "small"). One Criterion test per op; a line per op goes to the file XFT_TEST_REPORT for run.sh's table. */
#include "kernel.h"
#include "op_check.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct op_name {
    char name[40];
} op_name;

static const char *device_name(void) {
    const char *device = getenv("XFT_TEST_DEVICE");
    return device ? device : "auto";
}

static void report(const char *op, const op_summary *s) {
    const char *path = getenv("XFT_TEST_REPORT"), *label = getenv("XFT_TEST_LABEL");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file) return;
    fprintf(file, "%s %s %u %u %.2e %.0e %s\n", op, label ? label : device_name(), s->cases, s->failed, s->error,
            s->tolerance, s->not_run);
    fclose(file);
}

static void fail_test(const op_case *c, const op_result *result) {
    cr_expect_fail("%s %s on %s: %s", c->op, c->label, device_name(), result->message);
}

ParameterizedTestParameters(ops, every_op) {
    size_t count = 0;
    while (op_functions[count]) count++;
    op_name *names = cr_calloc(count, sizeof *names);
    for (size_t i = 0; i < count; i++) strncpy(names[i].name, op_functions[i], sizeof names[i].name - 1);
    return cr_make_param_array(op_name, names, count, NULL);
}

ParameterizedTest(op_name *op, ops, every_op) {
    const char *set = getenv("XFT_TEST_SET");
    op_checker checker;
    cr_assert_eq(op_checker_open(&checker, device_name(), 0), XFT_OK, "%s", xft_error());
    op_summary s = op_check_all(&checker, op->name, set && !strcmp(set, "small") ? CASES_SMALL : CASES_FULL, fail_test);
    report(op->name, &s);
    cr_expect_gt(s.cases, 0, "%s has no case", op->name);
    cr_expect_eq(op_checker_close(&checker), XFT_OK, "%s", xft_error());
}

/* ---- Planted bugs: the checker sees a row of ops.def that lies ---- */

static op_result first_failure;

static void keep_failure(const op_case *c, const op_result *result) {
    (void)c;
    if (first_failure.message[0] == 0) first_failure = *result;
}

static void check_lie(uint32_t buffer, xft_access access, const char *message) {
    xft_op_info *info = (xft_op_info *)xft_op_get_info(XFT_OP_add);
    xft_access truth = info->access[buffer];
    op_checker checker;
    first_failure = (op_result){0};
    info->access[buffer] = access;
    cr_assert_eq(op_checker_open(&checker, device_name(), 0), XFT_OK, "%s", xft_error());
    /* The test driver stores what is declared and nothing else: there the result is missing. */
    if (access == XFT_READ && xft_device_get_info(checker.device)->api == XFT_API_OTHER) message = "nan";
    op_summary s = op_check_all(&checker, "add", CASES_SMALL, keep_failure);
    cr_expect_eq(op_checker_close(&checker), XFT_OK, "%s", xft_error());
    info->access[buffer] = truth;
    cr_expect_eq(s.failed, s.cases, "%u of %u cases fail", s.failed, s.cases);
    cr_expect(strstr(first_failure.message, message), "\"%s\" does not say \"%s\"", first_failure.message, message);
}

Test(planted, false_declarations) {
    check_lie(0, XFT_WRITE, "no dispatch declares as read"); /* a is read, and not declared so */
    check_lie(2, XFT_READ, "does not declare as written");   /* y is written, and not declared so */
}
