/* Choice of form and tile for products: rules by class of device and size, the same on every run. */
#include "gemm_choice.h"

#include <string.h>

static _Thread_local const char *forced;

void xft_gemm_force(const char *variant) {
    forced = variant;
}

/* Plain form: constants BM BN BK TM TN. */
static xft_gemm_choice plain(uint32_t bm, uint32_t bn, uint32_t tm, uint32_t tn) {
    return (xft_gemm_choice){
        .variant = "", .wg = bm / tm * (bn / tn), .tile = {bm, bn, 16, tm, tn}, .rows = bm, .columns = bn};
}

/* Registers of one invocation: Intel's Xe-HPC runs 32 invocations on one register file and holds 4x4 outputs, its other
 * GPUs 8x4; everyone else 8x8. More would spill (tests/portability.sh). */
static xft_gemm_choice plain_for(const xft_device_info *info, const xft_gemm_problem *p) {
    uint64_t outputs = (uint64_t)p->M * p->N;
    if (p->experts > 0 && p->form == XFT_TN) outputs *= p->experts;
    if (info->device_class == XFT_CLASS_CPU || outputs < 256 * 256) return plain(32, 32, 4, 4);
    if (strstr(info->name, "Intel")) {
        if (strstr(info->name, "Max")) return plain(32, 32, 4, 4);
        return plain(64, 32, 8, 4);
    }
    return outputs < 2048 * 2048 || p->experts > 0 ? plain(64, 64, 8, 8) : plain(128, 128, 8, 8);
}

/* CPU form of OpenCL: constants VW MR BM KC. */
static bool has_cpu(const xft_device_info *info) {
    return info->api == XFT_API_OPENCL && info->device_class == XFT_CLASS_CPU && info->native_vector_width >= 4;
}

static uint32_t blocks(uint32_t items, uint32_t size) {
    return items / size + (items % size != 0);
}

static uint32_t round_up(uint32_t x, uint32_t to) {
    return blocks(x, to) * to;
}

/* Slabs as deep as the first-level cache holds a panel of b; rows as many as pay for packing it, with a's copy within
 * the second-level cache; columns as many as pay for that copy. */
static xft_gemm_choice cpu(const xft_device_info *info, const xft_gemm_problem *p) {
    const bool wide = info->native_vector_width >= 16, packs_a = p->form == XFT_TN || p->a != XFT_F32;
    const uint32_t vw = wide ? 16 : 8, mr = wide ? 12 : 6, nr = 2 * vw;
    uint32_t kc = p->form == XFT_TN ? 512 : 640;
    uint32_t bm = p->form != XFT_TN ? 516 : p->M >= 1024 || p->experts > 0 ? 192 : 96;
    uint32_t pc = p->c == XFT_F32 ? nr : p->form == XFT_TN ? 16 * nr : packs_a ? 4 * nr : nr;
    while (bm > mr && 4ull * (kc * nr + bm * pc + (packs_a ? kc * (bm + mr) : 1)) > info->local_memory_bytes)
        bm = round_up(bm / 2, mr);

    /* Row blocks of equal size, and enough work-groups for every core. */
    uint32_t rows = bm, columns = p->c != XFT_F32 ? pc : p->form == XFT_TN ? round_up(p->N, nr) : packs_a ? 4 * nr : nr;
    if (p->experts == 0 || p->form == XFT_TN) rows = round_up(blocks(p->M, blocks(p->M, bm)), mr);
    const uint32_t enough = 4 * (info->compute_units ? info->compute_units : 1);
    const uint32_t matrices = p->experts > 0 && p->form == XFT_TN ? p->experts : 1;
    while (columns > nr && matrices * blocks(p->M, rows) * blocks(p->N, columns) < enough)
        columns = round_up(columns / 2, nr);
    while (rows > mr && matrices * blocks(p->M, rows) * blocks(p->N, columns) < enough) rows = round_up(rows / 2, mr);
    return (xft_gemm_choice){
        .variant = "cpu", .wg = 1, .tile = {vw, mr, bm, kc, pc}, .rows = rows, .columns = columns, .rows_first = true};
}

/* CLBlast: the whole product in one dispatch; only when it is forced. */
static bool has_clblast(const xft_device_info *info, const xft_gemm_problem *p) {
    return info->api == XFT_API_OPENCL && p->experts == 0 && p->a == XFT_F32 && p->b == XFT_F32 && p->c == XFT_F32;
}

static bool is(const char *variant) {
    return !forced || !strcmp(forced, variant);
}

xft_gemm_choice xft_gemm_choose(const xft_device *device, const xft_gemm_problem *problem) {
    const xft_device_info *info = &device->info;
    if (forced && is("clblast") && has_clblast(info, problem))
        return (xft_gemm_choice){.variant = "clblast", .wg = 1, .rows = problem->M, .columns = problem->N};
    if (is("cpu") && has_cpu(info)) return cpu(info, problem);
    return plain_for(info, problem);
}
