#include "op_case.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* case_families.def is made by tests/CMakeLists.txt: one FAMILY(name) per tests/cases_<name>.c. */
#define FAMILY(name) void cases_##name(case_set set, const char *only, case_visitor visit, void *user);
#include "case_families.def"
#undef FAMILY

const case_family case_families[] = {
#define FAMILY(name) cases_##name,
#include "case_families.def"
#undef FAMILY
};
const uint32_t case_family_count = sizeof case_families / sizeof *case_families;

/* ---- Random numbers: splitmix64 ---- */

static uint64_t next(case_random *r) {
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

case_random case_seed(const char *text) {
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    return (case_random){hash};
}

double case_uniform(case_random *r) {
    return (double)(next(r) >> 11) * 0x1p-53;
}

double case_normal(case_random *r) {
    double u = 1 - case_uniform(r), v = case_uniform(r);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

uint32_t case_below(case_random *r, uint32_t n) {
    return (uint32_t)(case_uniform(r) * n);
}

double case_round(double value, xft_dtype dtype) {
    switch (dtype) {
    case XFT_F32:
        return (float)value;
    case XFT_BF16:
        return xft_bf16_to_f32(xft_f32_to_bf16((float)value));
    case XFT_F16:
        return xft_f16_to_f32(xft_f32_to_f16((float)value));
    case XFT_U32:
        return floor(fabs(value));
    }
    return value;
}

/* ---- Building a case ---- */

static void *take(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) abort();
    return memory;
}

bool case_wanted(const char *only, const char *op) {
    return !only || !strcmp(only, op);
}

void case_begin(op_case *c, const char *op, const char *format, ...) {
    memset(c, 0, sizeof *c);
    snprintf(c->op, sizeof c->op, "%s", op);
    va_list args;
    va_start(args, format);
    vsnprintf(c->label, sizeof c->label, format, args);
    va_end(args);
}

uint64_t case_elements(const case_buffer *b) {
    if (b->rank == 0) return 0;
    uint64_t n = 1;
    for (uint32_t i = 0; i < b->rank; i++) n *= b->shape[i];
    return n;
}

static case_buffer *append(op_case *c, const char *name) {
    if (c->count == CASE_MAX_BUFFERS) abort();
    case_buffer *b = &c->buffers[c->count++];
    *b = (case_buffer){.name = name};
    return b;
}

case_buffer *case_add(op_case *c, case_random *r, const char *name, case_role role, xft_dtype dtype, double deviation,
                      uint32_t rank, ...) {
    case_buffer *b = append(c, name);
    b->role = role;
    b->dtype = dtype;
    b->rank = rank;
    va_list args;
    va_start(args, rank);
    for (uint32_t i = 0; i < 4; i++) b->shape[i] = i < rank ? va_arg(args, uint32_t) : 1;
    va_end(args);
    uint64_t n = case_elements(b);
    if (role == CASE_IN || role == CASE_INOUT) {
        b->values = take(n, sizeof(double));
        for (uint64_t i = 0; deviation != 0 && i < n; i++) b->values[i] = case_round(deviation * case_normal(r), dtype);
    }
    if (role == CASE_OUT || role == CASE_INOUT) b->expected = take(n, sizeof(double));
    return b;
}

void case_add_null(op_case *c, const char *name) {
    append(c, name);
}

uint32_t *case_u32(const case_buffer *b) {
    uint64_t n = case_elements(b);
    uint32_t *u = take(n, sizeof *u);
    for (uint64_t i = 0; i < n; i++) u[i] = (uint32_t)b->values[i];
    return u;
}

double *case_start(case_buffer *b) {
    if (b->values) memcpy(b->expected, b->values, case_elements(b) * sizeof(double));
    return b->expected;
}

void case_work(op_case *c, double flops) {
    c->flops = flops;
    c->bytes = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        const case_buffer *b = &c->buffers[i];
        if (b->role == CASE_SCRATCH) continue;
        c->bytes += (double)case_elements(b) * xft_dtype_size(b->dtype) * (b->role == CASE_INOUT ? 2 : 1);
    }
}

void case_free(op_case *c) {
    for (uint32_t i = 0; i < c->count; i++) {
        free(c->buffers[i].values);
        free(c->buffers[i].expected);
    }
    c->count = 0;
}
