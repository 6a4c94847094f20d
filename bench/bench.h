/* What the benchmarks share: times of ops on devices, rooflines, the peers (OpenBLAS), and the JSON they leave. */
#ifndef XFT_BENCH_H
#define XFT_BENCH_H

#include <jansson.h>

#include "error.h"
#include "op_case.h"

double bench_now_ms(void);

/* Median, and half the distance between the quartiles. Sorts the samples. */
typedef struct bench_time {
    double ms, spread;
} bench_time;
bench_time bench_summary(double *samples, uint32_t count);

/* An op case in the memory of a device, recorded so often in one stream that one replay takes a few milliseconds. */
typedef struct bench_op {
    xft_device *device;
    xft_arena *arena;
    xft_stream *stream;
    xft_tensor tensors[CASE_MAX_BUFFERS];
    uint32_t inner;   /* times the op is recorded */
    bool device_time; /* timers of the device; else the host's clock around submit and wait */
} bench_op;

/* Makes and warms it up. On failure nothing is left. */
xft_status bench_op_create(xft_device *device, const op_case *c, bench_op *op);
void bench_op_destroy(bench_op *op);

/* One sample: milliseconds of one execution. Negative on failure. */
double bench_op_sample(bench_op *op);

/* How many samples of `ms` milliseconds each are a fair share of time: 3 to 9. */
enum { BENCH_MOST_REPEATS = 9 };
uint32_t bench_repeats(double ms);

/* ---- OpenBLAS ---- */

/* "SkylakeX", "Haswell", …; NULL and a message on stderr when the library runs kernels for an older processor than it
 * could: OPENBLAS_CORETYPE must be set before the program starts, as bench/run.sh does. */
const char *bench_blas_core(void);

/* c = product of that form in f32, unpadded. */
void bench_blas(xft_form form, uint32_t M, uint32_t N, uint32_t K, const float *a, const float *b, float *c);

/* GFLOP/s at 1024^3, best of 5 after a warm-up. */
double bench_blas_gflops(void);

/* ---- CLBlast ---- */

/* Gives CLBlast its fastest parameters on a CPU device, until the process ends; prints how far each kernel helped. */
xft_status bench_tune_clblast(xft_device *device);

/* ---- Rooflines ---- */

typedef struct bench_roof {
    double gflops, gbs;
} bench_roof;

/* Best multiply-add rate and best copy rate of the device's own kernels. */
xft_status bench_measure_roof(xft_device *device, bench_roof *roof);

/* memcpy of the host on two threads, GB/s counting reads and writes. */
double bench_memcpy_gbs(void);

/* ---- Report ---- */

/* "NAME (PLATFORM VERSION)" */
void bench_device_name(const xft_device_info *info, char *text, size_t room);

/* Commit of the sources (XFT_BENCH_COMMIT, set by bench/run.sh) and today's date, added to a row. */
void bench_stamp(json_t *row);

#endif
