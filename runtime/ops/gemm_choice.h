/* Which form of a product runs, and with which tile: the one place that decides it. */
#ifndef XFT_RUNTIME_OPS_GEMM_CHOICE_H
#define XFT_RUNTIME_OPS_GEMM_CHOICE_H

#include "record.h"

/* A product as the choice sees it. Grouped products: M (NT, NN) or K (TN) is the rows of all experts together. */
typedef struct xft_gemm_problem {
    xft_form form;
    xft_dtype a, b, c;
    uint32_t M, N, K;
    uint32_t experts; /* 0: a plain product */
} xft_gemm_problem;

enum { XFT_GEMM_TILE_CONSTANTS = 8 };

typedef struct xft_gemm_choice {
    const char *variant;                    /* as in ops.def; "" for the plain form */
    uint32_t wg;                            /* constant WG */
    uint32_t tile[XFT_GEMM_TILE_CONSTANTS]; /* the row's constants after DT_C, in its order */
    uint32_t rows, columns;                 /* of c, per work-group */
    bool rows_first;                        /* grid: row blocks (of every expert) x column blocks, else the reverse */
} xft_gemm_choice;

/* The choice for this problem on this device. Depends on the device's info and the problem only. */
xft_gemm_choice xft_gemm_choose(const xft_device *device, const xft_gemm_problem *problem);

/* Tests, benchmark and tuner: products that this thread records from now on take the form `choice` where device and
 * problem permit it; NULL: the rules again. "plain", a variant's name in ops.def, or with a tile: "plain 64x64 8x8" (BM
 * BN TM TN), "subgroup 8x32" (RM BN). The text must stay valid. */
void xft_gemm_force(const char *choice);

#endif
