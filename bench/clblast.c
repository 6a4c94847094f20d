/* Tuning of CLBlast for a CPU device: candidates for the parameters of each of its kernels that a product runs (the
 * product itself, and those that copy and transpose its factors; sizes of the benchmark are multiples of its tiles, so
 * that nothing is padded), tried one after the other by measuring products in all three forms; the fastest stay. A GPU
 * keeps CLBlast's own database, which was tuned on GPUs. */
#include <stdio.h>

#include "bench.h"
#include "opencl/clblast.h"
#include "ops/gemm_choice.h"

enum { MOST_NAMES = 16, MOST_CANDIDATES = 4 };
static const struct {
    const char *kernel;
    uint32_t names_count, candidates;
    const char *names[MOST_NAMES];
    size_t values[MOST_CANDIDATES][MOST_NAMES];
} kernels[] = {
    {"Xgemm",
     16,
     4,
     {"GEMMK", "KREG", "KWG", "KWI", "MDIMA", "MDIMC", "MWG", "NDIMB", "NDIMC", "NWG", "SA", "SB", "STRM", "STRN",
      "VWM", "VWN"},
     {{0, 1, 32, 8, 8, 8, 64, 8, 8, 64, 1, 1, 0, 0, 8, 8},
      {0, 1, 32, 2, 8, 8, 64, 8, 8, 64, 1, 1, 0, 0, 8, 8},
      {0, 1, 32, 8, 8, 8, 128, 8, 8, 64, 1, 1, 0, 0, 8, 8},
      {0, 1, 32, 8, 4, 4, 64, 4, 4, 64, 1, 1, 0, 0, 8, 8}}},
    {"Copy", 4, 3, {"COPY_DIMX", "COPY_DIMY", "COPY_VW", "COPY_WPT"}, {{8, 8, 4, 1}, {16, 8, 8, 1}, {8, 8, 8, 4}}},
    {"Transpose", 4, 3, {"TRA_DIM", "TRA_PAD", "TRA_SHUFFLE", "TRA_WPT"}, {{4, 0, 0, 4}, {8, 0, 0, 8}, {16, 1, 0, 4}}},
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

/* Milliseconds of three products with the parameters as they stand; negative: CLBlast cannot do it. */
static double products_ms(xft_device *device) {
    enum { N = 768 };
    op_case c;
    case_begin(&c, "gemm", "CLBlast");
    case_random r = case_seed("CLBlast");
    for (int i = 0; i < 3; i++) case_add(&c, &r, "abc", CASE_IN, XFT_F32, 1, 2, N, N);
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
    double ms = products_ms(device);
    printf("CLBlast on %s: %.1f ms as shipped", xft_device_get_info(device)->id, ms);
    for (size_t k = 0; k < sizeof kernels / sizeof *kernels; k++) {
        uint32_t best = 0;
        double best_ms = -1;
        for (uint32_t i = 0; i < kernels[k].candidates; i++) {
            XFT_TRY(xft_clblast_override(device, kernels[k].kernel, kernels[k].names_count, kernels[k].names,
                                         kernels[k].values[i]));
            const double tried = products_ms(device);
            if (tried > 0 && (best_ms < 0 || tried < best_ms)) {
                best = i;
                best_ms = tried;
            }
        }
        XFT_TRY(xft_clblast_override(device, kernels[k].kernel, kernels[k].names_count, kernels[k].names,
                                     kernels[k].values[best]));
        printf(", %s %.1f", kernels[k].kernel, best_ms);
        fflush(stdout);
    }
    printf("\n");
    return XFT_OK;
}
