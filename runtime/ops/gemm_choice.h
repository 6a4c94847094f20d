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

/* The choice for this problem on this device: an earlier run's, else what the tuner has measured for its class, else a
 * rule that depends on the device's info and the problem only. Noted among the device's choices. */
xft_gemm_choice xft_gemm_choose(const xft_device *device, const xft_gemm_problem *problem);

/* Tests, benchmark and tuner: products that this thread records from now on take the form `choice` where device and
 * problem permit it; NULL: the rules again. "plain", a variant's name in ops.def, or with a tile: "plain 64x64 8x8" (BM
 * BN TM TN), "subgroup 8x32" (RM BN), "cpu 640" (KC). Such a choice is not noted. The text must stay valid. */
void xft_gemm_force(const char *choice);

/* ---- For the tuner ---- */

enum { XFT_GEMM_KEY = 96, XFT_GEMM_SIZES = 4 };

/* Sizes of products by M N K: up to `below`; a cube of side `side` stands for them. */
typedef struct xft_gemm_size {
    const char *name;
    uint64_t below;
    uint32_t side;
} xft_gemm_size;
extern const xft_gemm_size xft_gemm_sizes[XFT_GEMM_SIZES];

/* The class of a problem, under which the tuner's choice is remembered: "gemm nt f32 f32 f32 large". false: it measures
 * none (few rows or columns). */
bool xft_gemm_class(const xft_gemm_problem *problem, char key[XFT_GEMM_KEY]);

/* Candidate number i in the form that xft_gemm_force takes; NULL behind the last. */
const char *xft_gemm_candidate(uint32_t i);

/* A choice in that form: forced, it gives the same sums in the same order. */
void xft_gemm_describe(const xft_gemm_choice *choice, char text[XFT_GEMM_KEY]);

/* Measures one class on the device, by a problem that stands for it, and remembers its fastest candidate where that is
 * at least 5% faster than the rule's and gives the same result to rounding. */
xft_status xft_tune_class(xft_device *device, const xft_gemm_problem *problem, xft_tune_report report, void *user);

#endif
