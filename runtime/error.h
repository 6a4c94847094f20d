/* How every room of the library reports a failure: one line, return xft_fail(status, "format", …). */
#ifndef XFT_RUNTIME_ERROR_H
#define XFT_RUNTIME_ERROR_H

#include "xft/base.h"

/* Stores the message for this thread and returns `status`. */
xft_status xft_fail(xft_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "text: " before this thread's message and returns `status`: adds the place to an error from below. */
xft_status xft_fail_in(xft_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Behind XFT_NEED: names as "a, b, c", and which of them are given. */
xft_status xft_need(const char *function, const char *names, const bool *given, size_t count);

/* Leaves the function with `status` and the message when `condition` holds. */
#define XFT_FAIL_IF(condition, status, ...)                                                                            \
    do {                                                                                                               \
        if (condition) return xft_fail(status, __VA_ARGS__);                                                           \
    } while (0)

/* Leaves a public function when one of these arguments is NULL; the message names the function and the argument, so
 * they bear their names of the header. */
#define XFT_NEED(...)                                                                                                  \
    XFT_TRY(xft_need(__func__, #__VA_ARGS__, (const bool[]){__VA_ARGS__}, sizeof((bool[]){__VA_ARGS__})))

/* Leaves the function with the status of a call that failed; its message stands. */
#define XFT_TRY(call)                                                                                                  \
    do {                                                                                                               \
        xft_status xft_try_status = (call);                                                                            \
        if (xft_try_status != XFT_OK) return xft_try_status;                                                           \
    } while (0)

/* The same for functions that clean up at a label; needs a local `xft_status status`. */
#define XFT_TRY_GOTO(call, label)                                                                                      \
    do {                                                                                                               \
        status = (call);                                                                                               \
        if (status != XFT_OK) goto label;                                                                              \
    } while (0)

#endif
