/* Suite `runtime`: wrong arguments of every public function. The build makes a call of each function of xft/table.h for
 * each of its arguments (public_calls.awk): NULL for pointers, the largest number, NaN, while the others are right. The
 * function refuses it, with a message that names the argument, or the argument stands in the list of those that may be
 * anything. So a function that is added is tested, or fails here. Tensors of ops: test_arguments.c. */
#include "driver_test.h"
#include "fixture.h"
#include "refusals.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum { ALL = 1000, MOST_ARGUMENTS = 16 };
typedef enum kind { POINTER, FUNCTION, NUMBER, REAL, BOOL } kind;

typedef struct public_function {
    const char *name;
    bool status; /* it gives one */
    xft_status (*call)(uint32_t wrong);
    uint32_t count;
    struct {
        const char *name;
        kind kind;
    } arguments[MOST_ARGUMENTS];
} public_function;

static const uint64_t wrong_number = UINT64_MAX;
static void do_nothing(void) {}

/* ---- Every public function ---- */

#include "public_calls.inc"

/* ---- Calls that may crash or never end ---- */

static sigjmp_buf escape;

static void on_signal(int number) {
    siglongjmp(escape, number);
}

/* The signal that ended the call, or 0. */
static int protected_call(const public_function *f, uint32_t wrong, xft_status *status) {
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGALRM};
    struct sigaction old[5], action = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};
    for (int i = 0; i < 5; i++) sigaction(signals[i], &action, &old[i]);
    int number = sigsetjmp(escape, 1);
    if (number == 0) {
        alarm(10);
        *status = f->call(wrong);
    }
    alarm(0);
    for (int i = 0; i < 5; i++) sigaction(signals[i], &old[i], NULL);
    return number;
}

/* What ops take beside stream and config: test_arguments.c has their tensors, with the shapes they need. */
static bool is_of_op(const public_function *f, uint32_t i) {
    static const char *const ops[] = {
#define FUNCTION(name) #name,
#include "op_functions.def"
#undef FUNCTION
    };
    if (!strcmp(f->arguments[i].name, "config") || !strcmp(f->arguments[i].name, "stream")) return false;
    for (size_t k = 0; k < sizeof ops / sizeof *ops; k++)
        if (!strcmp(ops[k], f->name)) return true;
    return false;
}

static void try_argument(const public_function *f, uint32_t i) {
    xft_status status = XFT_OK;
    const char *argument = f->arguments[i].name;
    int number = protected_call(f, i, &status);
    if (number)
        cr_expect_fail("xft_%s: a wrong %s ends in signal %d (%s)", f->name, argument, number, strsignal(number));
    else if (status == XFT_OK)
        cr_expect_fail("xft_%s: a wrong %s is taken; if it may be anything, say so in refusals.c", f->name, argument);
    else
        cr_expect(strstr(xft_error(), argument), "xft_%s: a wrong %s: the message does not name it: %s", f->name,
                  argument, xft_error());
}

Test(refusals, every_argument_of_every_function) {
    uint32_t calls = 0, accepted = 0;
    refusals_open();
    for (size_t k = 0; k < sizeof functions / sizeof *functions; k++) {
        const public_function *f = &functions[k];
        for (uint32_t i = 0; i < f->count && f->status; i++) {
            if (f->arguments[i].kind == BOOL || is_of_op(f, i)) continue;
            if (may_be_anything(f->name, f->arguments[i].name)) {
                accepted++;
                continue;
            }
            calls++;
            try_argument(f, i);
        }
    }
    cr_log_info("%u wrong arguments refused; %u arguments may be anything", calls, accepted);
    cr_expect_gt(calls, 200);
    check_list_of_free_arguments();
    refusals_close();
}

/* Nothing at all: a status function says so; the others, which cannot, do not fall over. */
Test(refusals, nothing_at_all) {
    refusals_open();
    for (size_t k = 0; k < sizeof functions / sizeof *functions; k++) {
        xft_status status = XFT_OK;
        int number = protected_call(&functions[k], ALL, &status);
        cr_expect_eq(number, 0, "xft_%s with NULL and nonsense ends in signal %d", functions[k].name, number);
        if (functions[k].status && !number && functions[k].count)
            cr_expect_neq(status, XFT_OK, "xft_%s with NULL and nonsense succeeds", functions[k].name);
    }
    refusals_close();
}
