#include "bench.h"

#include <cblas.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

char *openblas_get_corename(void);

/* ---- Time ---- */

double bench_now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

bench_time bench_summary(double *samples, uint32_t count) {
    qsort(samples, count, sizeof *samples, ascending);
    return (bench_time){samples[count / 2], (samples[3 * count / 4] - samples[count / 4]) / 2};
}

uint32_t bench_repeats(double ms) {
    double fit = 1500 / (ms > 0.1 ? ms : 0.1);
    return fit < 3 ? 3 : fit > BENCH_MOST_REPEATS ? BENCH_MOST_REPEATS : (uint32_t)fit;
}

/* ---- Ops ---- */

static xft_status upload(const case_buffer *b, const xft_tensor *t) {
    uint64_t n = case_elements(b);
    uint32_t *words = malloc(n * 4);
    if (!words) return XFT_ERROR_OUT_OF_HOST_MEMORY;
    for (uint64_t i = 0; i < n; i++) {
        double value = b->values ? b->values[i] : 0;
        float single = (float)value;
        if (b->dtype == XFT_U32)
            words[i] = (uint32_t)value;
        else
            memcpy(&words[i], &single, 4);
    }
    xft_status status = xft_tensor_write(t, b->dtype == XFT_U32 ? XFT_U32 : XFT_F32, words);
    free(words);
    return status;
}

static xft_status record(bench_op *op, const op_case *c, uint32_t inner) {
    const xft_tensor *arguments[CASE_MAX_BUFFERS];
    for (uint32_t i = 0; i < c->count; i++) arguments[i] = c->buffers[i].rank ? &op->tensors[i] : NULL;
    xft_stream_destroy(op->stream);
    op->inner = inner;
    op->device_time = xft_device_get_info(op->device)->timestamps;
    xft_stream_options options = {.name = c->op, .timers = op->device_time};
    xft_status status = xft_stream_create(op->device, &options, &op->stream);
    for (uint32_t i = 0; i < inner && status == XFT_OK; i++) status = c->record(op->stream, c, arguments);
    return status == XFT_OK ? xft_stream_run(op->stream) : status;
}

xft_status bench_op_create(xft_device *device, const op_case *c, bench_op *op) {
    *op = (bench_op){.device = device};
    xft_status status = xft_arena_create(device, "bench", 0, &op->arena);
    for (uint32_t i = 0; i < c->count && status == XFT_OK; i++) {
        const case_buffer *b = &c->buffers[i];
        if (b->rank == 0) continue;
        status = xft_tensor_create(op->arena, b->dtype, b->rank, b->shape, &op->tensors[i]);
        if (status == XFT_OK) status = upload(b, &op->tensors[i]);
    }
    if (status == XFT_OK) status = record(op, c, 1); /* compiles */
    double ms = status == XFT_OK ? bench_op_sample(op) : 0;
    if (status == XFT_OK && ms < 3) status = record(op, c, ms > 0.05 ? (uint32_t)(5 / ms) + 1 : 50);
    if (status != XFT_OK) bench_op_destroy(op);
    return status;
}

void bench_op_destroy(bench_op *op) {
    xft_stream_destroy(op->stream);
    xft_arena_destroy(op->arena);
    op->stream = NULL;
    op->arena = NULL;
}

double bench_op_sample(bench_op *op) {
    double start = bench_now_ms();
    if (xft_stream_run(op->stream) != XFT_OK) return -1;
    double spent = bench_now_ms() - start;
    if (op->device_time) {
        uint32_t count = 0;
        if (xft_stream_timings(op->stream, &count, NULL, NULL) != XFT_OK) return -1;
        double *ms = calloc(count, sizeof *ms);
        if (!ms || xft_stream_timings(op->stream, &count, ms, NULL) != XFT_OK) {
            free(ms);
            return -1;
        }
        spent = 0;
        for (uint32_t i = 0; i < count; i++) spent += ms[i];
        free(ms);
    }
    return spent / op->inner;
}

/* ---- OpenBLAS ---- */

const char *bench_blas_core(void) {
    const char *core = openblas_get_corename();
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && (!strcmp(core, "Prescott") || !strcmp(core, "prescott"))) {
        fprintf(stderr, "OpenBLAS runs its Prescott kernels on a processor with AVX2: set OPENBLAS_CORETYPE "
                        "(bench/run.sh does)\n");
        return NULL;
    }
#endif
    return core;
}

void bench_blas(xft_form form, uint32_t M, uint32_t N, uint32_t K, const float *a, const float *b, float *c) {
    cblas_sgemm(CblasRowMajor, form == XFT_TN ? CblasTrans : CblasNoTrans, form == XFT_NT ? CblasTrans : CblasNoTrans,
                (int)M, (int)N, (int)K, 1, a, (int)(form == XFT_TN ? M : K), b, (int)(form == XFT_NT ? K : N), 0, c,
                (int)N);
}

double bench_blas_gflops(void) {
    enum { N = 1024 };
    float *matrices = calloc(3 * N * N, sizeof *matrices);
    double best = 1e30;
    if (!matrices) return 0;
    for (int i = 0; i < 6; i++) {
        double start = bench_now_ms();
        bench_blas(XFT_NT, N, N, N, matrices, matrices + N * N, matrices + 2 * N * N);
        double spent = bench_now_ms() - start;
        if (i > 0 && spent < best) best = spent;
    }
    free(matrices);
    return 2e-6 * N * N * N / best;
}

/* ---- Rooflines ---- */

static xft_status record_fma(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    return xft_fma_peak(stream, t[0], c->u[0], t[1]);
}

static xft_status record_copy(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    (void)c;
    return xft_copy(stream, t[0], t[1]);
}

static xft_status best_ms(xft_device *device, const op_case *c, double *best) {
    bench_op op;
    *best = 0;
    XFT_TRY(bench_op_create(device, c, &op));
    for (int i = 0; i < 7; i++) {
        double ms = bench_op_sample(&op);
        if (ms > 0 && (*best == 0 || ms < *best)) *best = ms;
    }
    bench_op_destroy(&op);
    return XFT_OK;
}

xft_status bench_measure_roof(xft_device *device, bench_roof *roof) {
    *roof = (bench_roof){0};
    op_case fma, copy;
    bool cpu = xft_device_get_info(device)->device_class == XFT_CLASS_CPU;
    uint32_t elements = cpu ? 1 << 16 : 1 << 22, cols = cpu ? 1 << 24 : 1 << 26;
    case_random r = case_seed("roofline");
    case_begin(&fma, "fma_peak", "roofline");
    case_add(&fma, &r, "x", CASE_IN, XFT_F32, 0, 1, elements);
    case_add(&fma, &r, "y", CASE_IN, XFT_F32, 0, 1, elements);
    fma.u[0] = 2048;
    fma.record = record_fma;
    case_begin(&copy, "copy", "roofline");
    case_add(&copy, &r, "x", CASE_IN, XFT_F32, 0, 1, cols);
    case_add(&copy, &r, "y", CASE_IN, XFT_F32, 0, 1, cols);
    copy.record = record_copy;
    double fma_ms, copy_ms;
    xft_status status = best_ms(device, &fma, &fma_ms);
    if (status == XFT_OK && fma_ms > 0) roof->gflops = 16.0 * fma.u[0] * elements / fma_ms * 1e-6;
    if (status == XFT_OK) status = best_ms(device, &copy, &copy_ms);
    if (status == XFT_OK && copy_ms > 0) roof->gbs = 8.0 * cols / copy_ms * 1e-6;
    case_free(&fma);
    case_free(&copy);
    return status;
}

enum { COPY_BYTES = 1 << 27, COPY_THREADS = 2 };
typedef struct copy_part {
    unsigned char *to;
    const unsigned char *from;
} copy_part;

static void *copy_one(void *part) {
    copy_part *p = part;
    memcpy(p->to, p->from, COPY_BYTES / COPY_THREADS);
    return NULL;
}

double bench_memcpy_gbs(void) {
    unsigned char *from = malloc(COPY_BYTES), *to = malloc(COPY_BYTES);
    double best = 0;
    if (from && to) {
        memset(from, 1, COPY_BYTES);
        memset(to, 2, COPY_BYTES);
    }
    for (int i = 0; i < 7 && from && to; i++) {
        pthread_t threads[COPY_THREADS];
        copy_part parts[COPY_THREADS];
        double start = bench_now_ms();
        for (int k = 0; k < COPY_THREADS; k++) {
            parts[k] = (copy_part){to + k * (COPY_BYTES / COPY_THREADS), from + k * (COPY_BYTES / COPY_THREADS)};
            if (pthread_create(&threads[k], NULL, copy_one, &parts[k])) return 0;
        }
        for (int k = 0; k < COPY_THREADS; k++) pthread_join(threads[k], NULL);
        double gbs = 2.0 * COPY_BYTES / (bench_now_ms() - start) * 1e-6;
        if (gbs > best) best = gbs;
    }
    free(from);
    free(to);
    return best;
}

/* ---- Report ---- */

void bench_device_name(const xft_device_info *info, char *text, size_t room) {
    snprintf(text, room, "%s (%s %s)", info->name, info->platform, info->driver);
}

void bench_stamp(json_t *row) {
    const char *commit = getenv("XFT_BENCH_COMMIT");
    char date[32];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(date, sizeof date, "%Y-%m-%d", &utc);
    json_object_set_new(row, "commit", json_string(commit && *commit ? commit : "unknown"));
    json_object_set_new(row, "date", json_string(date));
}
