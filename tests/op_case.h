/* A case of an op, described once: data, how to record it, what must come out, how much work it is. The correctness
 * test (tests/test_ops.c) and the benchmark (bench/) both consume it. */
#ifndef XFT_TESTS_OP_CASE_H
#define XFT_TESTS_OP_CASE_H

#include "xft/ops.h"

enum { CASE_MAX_BUFFERS = 20 };

typedef enum case_role { CASE_IN, CASE_OUT, CASE_INOUT, CASE_SCRATCH } case_role;

typedef struct case_buffer {
    const char *name; /* the argument's name in ops.h */
    case_role role;
    xft_dtype dtype;
    uint32_t rank, shape[4]; /* rank 0: the argument is NULL in this case */
    double *values;   /* rows*cols, unpadded; content before the op, representable in dtype. OUT: NULL (poisoned) */
    double *expected; /* rows*cols after the op in double, unrounded; NaN: not compared. IN: NULL, must be unchanged */
    double tolerance; /* normalised mean squared error; 0: the default of the dtype; negative: every bit equal.
                         A looser one than the default must stand in the table of exceptions in op_check.c */
    double magnitude; /* size of the terms that an element sums, where they cancel: the error is normalised by
                         it where it is larger than the result; 0: by the result alone */
    uint32_t float_columns; /* U32 only (step block, step state): bit i: column i holds the bits of a float, and
                               values and expected are that float */
} case_buffer;

typedef struct op_case op_case;
struct op_case {
    char op[40];     /* function of ops.h without xft_: "rms_norm_backward" */
    char label[120]; /* shape and options, for messages */
    case_buffer buffers[CASE_MAX_BUFFERS];
    uint32_t count;
    uint32_t u[16]; /* settings for `record` */
    float f[8];
    const void *config;
    const char *form; /* forced, "VARIANT" or "VARIANT TILE", "plain": of no variant; where the device or the build has
                         no such kernel the case is not run. NULL: the device's own choice */
    /* Calls the op. t[i] is the tensor of buffers[i], NULL where rank is 0. */
    xft_status (*record)(xft_stream *stream, const op_case *c, const xft_tensor *const *t);
    bool product;        /* tolerance class of products (1e-10) instead of 1e-9 */
    double flops, bytes; /* of one execution, as the benchmark counts them */
};

/* Which cases a family shall produce. */
typedef enum case_set {
    CASES_SMALL, /* at least one per op and dtype, tiny: for slow devices, validation layers, oclgrind */
    CASES_FULL,  /* the grid with the awkward shapes, small included: for lavapipe and PoCL */
    CASES_BENCH, /* shapes of real models; expected may be NULL */
    CASES_LONG   /* a few, as long as models get: loops that turn very often; minutes of reference arithmetic */
} case_set;

/* Gets one case at a time; the case and its arrays are freed by case_free after the visit. */
typedef void (*case_visitor)(const op_case *c, void *user);

/* A family of ops: calls visit for every case of `set` whose op matches `only` (NULL: all). */
typedef void (*case_family)(case_set set, const char *only, case_visitor visit, void *user);

/* One function `cases_<family>` per family file tests/cases_<family>.c; the build collects them. */
extern const case_family case_families[];
extern const uint32_t case_family_count;

/* ---- Helpers to build cases (op_case.c) ---- */

/* Deterministic random numbers: uniform in [0,1), standard normal, integer below n; seeded by text so that each case
 * has its own. */
typedef struct case_random {
    uint64_t state;
} case_random;
case_random case_seed(const char *text);
double case_uniform(case_random *r);
double case_normal(case_random *r);
uint32_t case_below(case_random *r, uint32_t n);

/* `value` rounded to nearest even in dtype. */
double case_round(double value, xft_dtype dtype);

/* Whether cases of `op` are asked for. */
bool case_wanted(const char *only, const char *op);

/* Starts a case; adds a buffer (shape entries follow, `rank` of them; the arrays are allocated, values filled with
 * normal numbers of that standard deviation rounded to dtype, expected zeroed for OUT/INOUT) and returns it. */
void case_begin(op_case *c, const char *op, const char *format, ...) __attribute__((format(printf, 3, 4)));
case_buffer *case_add(op_case *c, case_random *r, const char *name, case_role role, xft_dtype dtype, double deviation,
                      uint32_t rank, ...);
/* An argument that is NULL in this case. */
void case_add_null(op_case *c, const char *name);
/* values of a u32 buffer as integers for references; allocated, caller frees. */
uint32_t *case_u32(const case_buffer *b);
uint64_t case_elements(const case_buffer *b);
/* expected of a buffer, filled with its values where it has any: for references that work in place. */
double *case_start(case_buffer *b);
/* Sets flops and bytes: every argument moved once, scratch not at all, INOUT twice. */
void case_work(op_case *c, double flops);
void case_free(op_case *c);

#endif
