/* CLBlast as the form "clblast" of gemm: f32, a whole product per dispatch (groups 1 x 1 x 1). A yardstick for the
 * benchmark, and on a GPU without a tuned tile perhaps the faster form. */
#ifndef XFT_OPENCL_CLBLAST_H
#define XFT_OPENCL_CLBLAST_H

#include "opencl.h"

/* Whether this kernel is the clblast form: then it has no program (kernel->impl is NULL). */
bool xft_clblast_serves(const xft_kernel *kernel);

/* Opens the library at the first call and refuses what it cannot compute: another type than f32. */
xft_status xft_clblast_prepare(xft_cl_device *cl, const xft_kernel *kernel);

/* Enqueues the product. *event (event may be NULL): of its last kernel. */
xft_status xft_clblast_enqueue(const xft_cl_device *cl, const xft_command *command, cl_event *event);

/* When a device closes that used it: frees the programs that CLBlast keeps, which hold contexts alive. */
void xft_clblast_release(const xft_cl_device *cl);

/* Replaces CLBlast's tuning parameters of one of its kernels ("Xgemm", "XgemmDirect"; f32) on this device, until the
 * process ends. All parameters of the kernel must be named. */
xft_status xft_clblast_override(xft_device *device, const char *kernel, uint32_t count, const char *const *names,
                                const size_t *values);

#endif
