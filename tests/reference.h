/* References in plain C and double precision: ref_<op> for every row of ops.def, with the row's buffers and parameter
 * struct. A row without one breaks the build of the tests. Used by the op cases (expected values) and by the test
 * driver (execution). */
#ifndef XFT_TESTS_REFERENCE_H
#define XFT_TESTS_REFERENCE_H

#include "kernel.h"
#include "op_params.h"

/* A call of a kernel. Buffer i of the row is d[i] when its elements are floats (whatever their storage type), u[i] when
 * they are u32 (ids, picks, step block, step state: floats in those are read with ref_float). Absent buffers: both
 * NULL. Element (row, col) lies at row * ld + col with the ld of the parameters. Constants in the order of the row. */
typedef struct ref_call {
    double *d[XFT_MAX_BUFFERS];
    uint32_t *u[XFT_MAX_BUFFERS];
    const void *params;
    const uint32_t *constants;
} ref_call;

static inline float ref_float(uint32_t bits) {
    union {
        uint32_t u;
        float f;
    } x = {bits};
    return x.f;
}
static inline uint32_t ref_bits(float value) {
    union {
        float f;
        uint32_t u;
    } x = {value};
    return x.u;
}

typedef void (*ref_function)(const ref_call *call);
#define OP(name, buffers, constants) void ref_##name(const ref_call *call);
#define VARIANT(op, name, api, constants)
#include "ops.def"
#undef OP
#undef VARIANT

/* The reference of an op. */
ref_function ref_find(xft_op op);

#endif
