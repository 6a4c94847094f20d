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

xft_gemm_choice xft_gemm_choose(const xft_device *device, const xft_gemm_problem *problem) {
    (void)forced;
    return plain_for(&device->info, problem);
}
