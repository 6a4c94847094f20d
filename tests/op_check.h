/* Runs a case on a device and judges it. Used by the Criterion suite (test_ops.c) and by the plain program xft_opcheck.
 *
 * A case passes when, with the padding of every row and all memory to be written filled with poison,
 *   - recording and running succeed, and the hazard checker of the runtime is content;
 *   - every compared element is finite and the normalised mean squared error against double is within tolerance;
 *   - inputs are unchanged bit for bit, their padding included, and the canaries between tensors stand;
 *   - a replay from the same start, with another poison, gives the same bits;
 *   - its dispatches, run one at a time, change no memory that they do not declare as written, and give the same bits
 *     when all memory that they do not declare as read holds NaN (up to a limit of size, as it moves all memory often);
 *   - under a submit budget that splits its dispatches the bits are the same (up to that limit).
 */
#ifndef XFT_TESTS_OP_CHECK_H
#define XFT_TESTS_OP_CHECK_H

#include "op_case.h"

typedef struct op_checker {
    xft_device *device;
    xft_arena *arena;
    bool verbose; /* a line per case with its time; set after opening */
} op_checker;

typedef struct op_result {
    bool passed;
    bool not_run;            /* its form is forced, and the device or the build has no such kernel */
    double error, tolerance; /* of the buffer where error / tolerance is worst */
    char message[600];       /* why not passed */
} op_result;

/* device: as for xft_device_open, or "test": the test driver, which runs late and out of order. debug: xft_debug_flags
 * beside hazards, canaries and poison. */
xft_status op_checker_open(op_checker *checker, const char *device, uint32_t debug);
/* Closes the device; XFT_ERROR_DRIVER when an object of it was left alive. */
xft_status op_checker_close(op_checker *checker);
void op_check(op_checker *checker, const op_case *c, op_result *result);

/* What the cases of one op on one device came to. */
typedef struct op_summary {
    uint32_t cases, failed;  /* that ran; that failed */
    double error, tolerance; /* worst of all cases by their quotient */
    char not_run[120];       /* forms of the cases that did not run: "cpu, coopmat" */
} op_summary;

/* Checks every case of `op` in `set`; each failure goes to `fail` with the case's label. */
op_summary op_check_all(op_checker *checker, const char *op, case_set set,
                        void (*fail)(const op_case *c, const op_result *result));

/* Prints the kernels that cases have run since the process began, and those for the checker's API that none has run;
 * returns how many of the latter the device could run. */
uint32_t op_print_coverage(const op_checker *checker);

/* The functions of ops.h, NULL-terminated. */
extern const char *const op_functions[];

/* Prints the table of tolerances that are looser than the default, with the reason. */
void op_print_exceptions(void);

#endif
