/* Tuning of CLBlast for a CPU device: candidates for the parameters of each of its kernels that a product runs (the
 * product itself, and those that copy and transpose its factors; sizes of the benchmark are multiples of its tiles, so
 * that nothing is padded), tried one after the other by measuring products in all three forms; the fastest stay. Last,
 * whether small products take these kernels too, or XgemmDirect as CLBlast ships it. A GPU keeps CLBlast's own
 * database, which was tuned on GPUs. */
#include <stdio.h>

#include "bench.h"
#include "opencl/clblast.h"
#include "ops/gemm_choice.h"

enum { MOST_NAMES = 16, MOST_CANDIDATES = 4, SMALL = 512, LARGE = 768 };
static const struct {
    const char *kernel;
    uint32_t size, names_count, candidates; /* products of size^3 are measured */
    const char *names[MOST_NAMES];
    size_t values[MOST_CANDIDATES][MOST_NAMES];
} kernels[] = {
    {"GemmRoutine", LARGE, 1, 1, {"XGEMM_MIN_INDIRECT_SIZE"}, {{1}}}, /* none is small */
    {"Xgemm",
     LARGE,
     16,
     4,
     {"GEMMK", "KREG", "KWG", "KWI", "MDIMA", "MDIMC", "MWG", "NDIMB", "NDIMC", "NWG", "SA", "SB", "STRM", "STRN",
      "VWM", "VWN"},
     {{0, 1, 32, 8, 8, 8, 64, 8, 8, 64, 1, 1, 0, 0, 8, 8},
      {0, 1, 32, 2, 8, 8, 64, 8, 8, 64, 1, 1, 0, 0, 8, 8},
      {0, 1, 32, 8, 8, 8, 128, 8, 8, 64, 1, 1, 0, 0, 8, 8},
      {0, 1, 32, 8, 4, 4, 64, 4, 4, 64, 1, 1, 0, 0, 8, 8}}},
    {"Copy",
     LARGE,
     4,
     3,
     {"COPY_DIMX", "COPY_DIMY", "COPY_VW", "COPY_WPT"},
     {{8, 8, 4, 1}, {16, 8, 8, 1}, {8, 8, 8, 4}}},
    {"Transpose",
     LARGE,
     4,
     3,
     {"TRA_DIM", "TRA_PAD", "TRA_SHUFFLE", "TRA_WPT"},
     {{4, 0, 0, 4}, {8, 0, 0, 8}, {16, 1, 0, 4}}},
    {"GemmRoutine", SMALL, 1, 2, {"XGEMM_MIN_INDIRECT_SIZE"}, {{1}, {LARGE}}},
};

static xft_status record(xft_stream *stream, const op_case *c, const xft_tensor *const *t) {
    xft_gemm_force("clblast");
    xft_status status = XFT_OK;
    for (uint32_t form = XFT_NT; form <= XFT_TN && status == XFT_OK; form++)
        status = xft_gemm(stream, (xft_form)form, t[0], t[1], t[2], false);
    xft_gemm_force(NULL);
    (void)c;
    return status;
}

/* Milliseconds of three products of n^3 with the parameters as they stand; negative: CLBlast cannot do it. */
static double products_ms(xft_device *device, uint32_t n) {
    op_case c;
    case_begin(&c, "gemm", "CLBlast");
    case_random r = case_seed("CLBlast");
    for (int i = 0; i < 3; i++) case_add(&c, &r, "abc", CASE_IN, XFT_F32, 1, 2, n, n);
    c.record = record;
    bench_op op;
    double best = -1;
    if (bench_op_create(device, &c, &op) == XFT_OK) {
        for (int i = 0; i < 3; i++) {
            const double ms = bench_op_sample(&op);
            if (ms > 0 && (best < 0 || ms < best)) best = ms;
        }
        bench_op_destroy(&op);
    }
    case_free(&c);
    return best;
}

xft_status bench_tune_clblast(xft_device *device) {
    const double small = products_ms(device, SMALL), large = products_ms(device, LARGE);
    printf("CLBlast on %s: %.1f ms of %d^3, %.1f ms of %d^3 as shipped", xft_device_get_info(device)->id, small, SMALL,
           large, LARGE);
    for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
        uint32_t best = 0;
        double best_ms = -1;
        for (uint32_t i = 0; i < kernels[k].candidates; i++) {
            XFT_TRY(xft_clblast_override(device, kernels[k].kernel, kernels[k].names_count, kernels[k].names,
                                         kernels[k].values[i]));
            const double tried = products_ms(device, kernels[k].size);
            if (tried > 0 && (best_ms < 0 || tried < best_ms)) {
                best = i;
                best_ms = tried;
            }
        }
        XFT_TRY(xft_clblast_override(device, kernels[k].kernel, kernels[k].names_count, kernels[k].names,
                                     kernels[k].values[best]));
        if (kernels[k].candidates > 1) printf(", %s %.1f (%u)", kernels[k].kernel, best_ms, best);
        fflush(stdout);
    }
    printf("\n");
    return XFT_OK;
}
