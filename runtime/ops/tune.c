/* The tuner: measures candidates of ops/gemm_choice.h, class by class. Products alone are worth it: all other kernels
 * keep to their rules. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "choice.h"
#include "gemm_choice.h"

enum { EXPERTS = 8, A = 0, B, C, OFFSETS, TENSORS };

/* Tensors of a class and what the rule computes on them. */
typedef struct bench {
    xft_device *device;
    xft_gemm_problem problem;
    xft_arena *arena;
    xft_tensor t[TENSORS];
    float *expected, *result; /* [count] of c */
    uint64_t count;
} bench;

/* Shapes of a [.,.] or [E,.,.], b and c; returns the rank of each in rank[]. */
static void shapes_of(const xft_gemm_problem *p, uint32_t shape[3][3], uint32_t rank[3]) {
    const uint32_t E = p->experts;
    const uint32_t plain[3][3][2] = {{{p->M, p->K}, {p->N, p->K}, {p->M, p->N}},
                                     {{p->M, p->K}, {p->K, p->N}, {p->M, p->N}},
                                     {{p->K, p->M}, {p->K, p->N}, {p->M, p->N}}};
    const int stacked = p->form == XFT_TN ? C : B; /* the tensor with a matrix per expert */
    for (int i = A; i <= C; i++) {
        const bool experts = E > 0 && i == stacked;
        rank[i] = experts ? 3 : 2;
        if (experts) shape[i][0] = E;
        memcpy(shape[i] + experts, plain[p->form][i], sizeof plain[p->form][i]);
    }
}

/* Numbers in [-0.5, 0.5) that any mistake in an index mixes up. */
static xft_status write_noise(const xft_tensor *t, uint32_t rank, const uint32_t *shape, uint32_t salt) {
    uint64_t count = 1;
    for (uint32_t i = 0; i < rank; i++) count *= shape[i];
    float *values = malloc(count * sizeof *values);
    XFT_FAIL_IF(!values, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %llu values", (unsigned long long)count);
    for (uint64_t i = 0; i < count; i++) values[i] = (float)((uint32_t)(i + salt) * 2654435761u >> 8) * 0x1p-24f - 0.5f;
    const xft_status status = xft_tensor_write(t, XFT_F32, values);
    free(values);
    return status;
}

static xft_status bench_create(bench *b) {
    const xft_gemm_problem *p = &b->problem;
    const xft_dtype dtype[3] = {p->a, p->b, p->c};
    const uint32_t ends[1] = {EXPERTS + 1};
    uint32_t shape[3][3], rank[3], offsets[EXPERTS + 1];
    uint64_t bytes = xft_tensor_footprint(b->device, XFT_U32, 1, ends);
    shapes_of(p, shape, rank);
    for (int i = A; i <= C; i++) bytes += xft_tensor_footprint(b->device, dtype[i], rank[i], shape[i]);
    XFT_TRY(xft_arena_create(b->device, "tuning", bytes, &b->arena));
    for (int i = A; i <= C; i++) XFT_TRY(xft_tensor_create(b->arena, dtype[i], rank[i], shape[i], &b->t[i]));
    XFT_TRY(xft_tensor_create(b->arena, XFT_U32, 1, ends, &b->t[OFFSETS]));
    const uint32_t rows = p->form == XFT_TN ? p->K : p->M;
    for (uint32_t e = 0; e <= EXPERTS; e++) offsets[e] = (uint32_t)((uint64_t)rows * e / EXPERTS);
    XFT_TRY(xft_tensor_write(&b->t[OFFSETS], XFT_U32, offsets));
    for (int i = A; i <= B; i++) XFT_TRY(write_noise(&b->t[i], rank[i], shape[i], (uint32_t)i * 12345));
    b->count = 1;
    for (uint32_t i = 0; i < rank[C]; i++) b->count *= shape[C][i];
    b->expected = malloc(2 * b->count * sizeof *b->expected);
    XFT_FAIL_IF(!b->expected, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the results of a product");
    b->result = b->expected + b->count;
    return XFT_OK;
}

static void bench_destroy(bench *b) {
    free(b->expected);
    xft_arena_destroy(b->arena);
}

/* Time and result of the problem by a candidate, NULL: by the rule; enough_ms: see xft_time_stream. */
static xft_status time_candidate(bench *b, const char *candidate, float *result, double enough_ms, double *ms) {
    const xft_gemm_problem *p = &b->problem;
    const xft_tensor *t = b->t;
    xft_stream *stream = NULL;
    XFT_TRY(xft_stream_create(b->device, NULL, &stream));
    xft_gemm_force(candidate);
    xft_status status = p->experts > 0 ? xft_grouped_gemm(stream, p->form, &t[A], &t[B], &t[OFFSETS], &t[C], false)
                                       : xft_gemm(stream, p->form, &t[A], &t[B], &t[C], false);
    xft_gemm_force(NULL);
    if (status == XFT_OK) status = xft_time_stream(stream, 3, enough_ms, ms);
    if (status == XFT_OK) status = xft_tensor_read(&t[C], XFT_F32, result);
    xft_stream_destroy(stream);
    return status;
}

/* Equal but for the rounding of c and of sums in another order. */
static bool agrees(const bench *b) {
    double difference = 0, size = 0;
    for (uint64_t i = 0; i < b->count; i++) {
        const double d = (double)b->result[i] - b->expected[i];
        difference += d * d;
        size += (double)b->expected[i] * b->expected[i];
    }
    return difference <= (b->problem.c == XFT_F32 ? 1e-9 : 1e-4) * size; /* false for NaN */
}

static xft_status measure(bench *b, const char *key, xft_tune_report report, void *user) {
    enum { SLOW_MS = 1500 }; /* a class so slow is left to the rule */
    double rule_ms, best_ms, ms;
    char name[XFT_GEMM_KEY], rule[XFT_GEMM_KEY], best[XFT_GEMM_KEY];
    XFT_TRY(xft_choice_set(b->device, key, "")); /* no candidate: the rule, also on a device that was tuned before */
    xft_gemm_choice choice = xft_gemm_choose(b->device, &b->problem);
    xft_gemm_describe(&choice, rule);
    XFT_TRY(time_candidate(b, NULL, b->expected, SLOW_MS, &rule_ms));
    memcpy(best, rule, sizeof best);
    best_ms = rule_ms;
    for (uint32_t i = 0; xft_gemm_candidate(i) && rule_ms < SLOW_MS; i++) {
        const char *candidate = xft_gemm_candidate(i);
        xft_gemm_force(candidate);
        choice = xft_gemm_choose(b->device, &b->problem);
        xft_gemm_force(NULL);
        xft_gemm_describe(&choice, name);
        if (strncmp(name, candidate, strlen(candidate)) || !strcmp(name, rule))
            continue; /* the device has no such form; or it is the rule */
        const xft_status status = time_candidate(b, candidate, b->result, 2 * best_ms + 1, &ms);
        if (status == XFT_ERROR_DEVICE_LOST || status == XFT_ERROR_OUT_OF_HOST_MEMORY) return status;
        if (status != XFT_OK || ms > 0.95 * best_ms || !agrees(b)) continue;
        memcpy(best, name, sizeof best);
        best_ms = ms;
    }
    if (strcmp(best, rule)) XFT_TRY(xft_choice_set(b->device, key, best));
    xft_gemm_choose(b->device, &b->problem); /* what was noted while measuring is so no longer */
    if (report) report(user, key, best, best_ms, rule_ms);
    return XFT_OK;
}

xft_status xft_tune_class(xft_device *device, const xft_gemm_problem *problem, xft_tune_report report, void *user) {
    char key[XFT_GEMM_KEY];
    bench b = {.device = device, .problem = *problem};
    if (!xft_gemm_class(problem, key)) return XFT_OK;
    xft_status status = bench_create(&b);
    if (status == XFT_OK) status = measure(&b, key, report, user);
    bench_destroy(&b);
    return status == XFT_OK ? XFT_OK : xft_fail_in(status, "tuning %s", key);
}

xft_status xft_device_tune(xft_device *device, xft_tune_report report, void *user) {
    static const xft_dtype dtypes[] = {XFT_F32, XFT_BF16, XFT_F16};
    const uint32_t dtype_count = device && device->info.cooperative_matrix ? 3 : 2; /* the form for f16 is for those */
    XFT_FAIL_IF(!device, XFT_ERROR_INVALID_ARGUMENT, "device is NULL");
    for (uint32_t experts = 0; experts <= EXPERTS; experts += EXPERTS)
        for (int form = XFT_NT; form <= XFT_TN; form++)
            for (uint32_t d = 0; d < (experts ? 2 : dtype_count); d++)
                for (uint32_t i = 0; i < XFT_GEMM_SIZES; i++) {
                    const uint32_t n = xft_gemm_sizes[i].side;
                    /* weight gradients are f32 */
                    const xft_dtype t = dtypes[d], c = form == XFT_TN ? XFT_F32 : t;
                    const xft_gemm_problem problem = {(xft_form)form, t, t, c, n, n, n, experts};
                    XFT_TRY(xft_tune_class(device, &problem, report, user));
                }
    return XFT_OK;
}
