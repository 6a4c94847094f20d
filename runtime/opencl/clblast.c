/* CLBlast is opened at run time, because it links OpenCL itself. */
#include "clblast.h"

#include "op_params.h"
#include "xft/ops.h"

#include <pthread.h>
#include <string.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

/* The text of the form, where ops.def expects an embedded .cl file: CLBlast brings its own kernels. */
extern const unsigned char xft_cl_gemm__clblast[];
extern const unsigned long long xft_cl_gemm__clblast_size;
const unsigned char xft_cl_gemm__clblast[] = "CLBlast";
const unsigned long long xft_cl_gemm__clblast_size = sizeof "CLBlast" - 1;

/* Of CLBlast's C interface, version 1. */
enum { ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112, SINGLE = 32 };
typedef int sgemm_function(int layout, int a_transpose, int b_transpose, size_t m, size_t n, size_t k, float alpha,
                           cl_mem a, size_t a_offset, size_t a_ld, cl_mem b, size_t b_offset, size_t b_ld, float beta,
                           cl_mem c, size_t c_offset, size_t c_ld, cl_command_queue *queue, cl_event *event);
typedef int override_function(cl_device_id device, const char *kernel, int precision, size_t count, const char **names,
                              const size_t *values);
typedef int clear_function(void);

static struct {
    sgemm_function *sgemm;
    override_function *override;
    clear_function *clear;
} clblast;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void) {
#ifdef _WIN32
    HMODULE library = LoadLibraryA("clblast.dll");
    if (!library) return;
#define SYMBOL(name) (void *)GetProcAddress(library, name)
#else
    void *library = dlopen("libclblast.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return;
#define SYMBOL(name) dlsym(library, name)
#endif
    *(void **)&clblast.sgemm = SYMBOL("CLBlastSgemm");
    *(void **)&clblast.override = SYMBOL("CLBlastOverrideParameters");
    *(void **)&clblast.clear = SYMBOL("CLBlastClearCache");
}

static xft_status need_library(void) {
    pthread_once(&once, load);
    XFT_FAIL_IF(!clblast.sgemm || !clblast.override || !clblast.clear, XFT_ERROR_UNSUPPORTED,
                "CLBlast (libclblast.so.1) is missing: install libclblast1");
    return XFT_OK;
}

/* Its codes below -1000 are its own; the others are OpenCL's. */
static xft_status status_of(int code, const char *call) {
    if (code > -1000) return xft_cl_status(code, call);
    return xft_fail(XFT_ERROR_DRIVER, "%s: CLBlast's code %d (see clblast_c.h)", call, code);
}

bool xft_clblast_serves(const xft_kernel *kernel) {
    return kernel->source->data == xft_cl_gemm__clblast;
}

/* Constants: WG FORM DT_A DT_B DT_C. */
xft_status xft_clblast_prepare(xft_cl_device *cl, const xft_kernel *kernel) {
    for (uint32_t i = 2; i < 5; i++)
        XFT_FAIL_IF(kernel->constants[i] != XFT_F32, XFT_ERROR_UNSUPPORTED, "CLBlast: %s is %s, only f32 is served",
                    kernel->source->constants[i], xft_dtype_name((xft_dtype)kernel->constants[i]));
    XFT_TRY(need_library());
    cl->uses_clblast = true;
    return XFT_OK;
}

xft_status xft_clblast_enqueue(const xft_cl_device *cl, const xft_command *command, cl_event *event) {
    const xft_form form = (xft_form)command->kernel->constants[1];
    const xft_argument *a = &command->arguments[0], *b = &command->arguments[1], *c = &command->arguments[2];
    xft_gemm_params p;
    memcpy(&p, command->params, sizeof p);
    cl_command_queue queue = cl->queue;
    int code = clblast.sgemm(ROW_MAJOR, form == XFT_TN ? TRANSPOSED : PLAIN, form == XFT_NT ? TRANSPOSED : PLAIN, p.M,
                             p.N, p.K, 1.0f, a->buffer->impl, (size_t)(a->offset / 4), p.ld_a, b->buffer->impl,
                             (size_t)(b->offset / 4), p.ld_b, p.accumulate ? 1.0f : 0.0f, c->buffer->impl,
                             (size_t)(c->offset / 4), p.ld_c, &queue, event);
    return status_of(code, "CLBlastSgemm");
}

void xft_clblast_release(const xft_cl_device *cl) {
    if (cl->uses_clblast) clblast.clear();
}

xft_status xft_clblast_override(xft_device *device, const char *kernel, uint32_t count, const char *const *names,
                                const size_t *values) {
    XFT_FAIL_IF(device->info.api != XFT_API_OPENCL, XFT_ERROR_UNSUPPORTED, "CLBlast: %s is no OpenCL device",
                device->info.id);
    XFT_TRY(need_library());
    const xft_cl_device *cl = device->impl;
    int code = clblast.override(cl->id, kernel, SINGLE, count, (const char **)names, values);
    return status_of(code, "CLBlastOverrideParameters");
}
