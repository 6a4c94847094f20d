/* Status codes, error messages, data types: what every other header of libxftgpu builds on.
 *
 * Every function that can fail returns an xft_status. When it is not XFT_OK, xft_error() gives a sentence that names
 * the argument, file, field or device, its value, and what was expected. The message belongs to the calling thread
 * and lives until that thread's next failing call. The library never exits, aborts or prints.
 */
#ifndef XFT_BASE_H
#define XFT_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define XFT_API __declspec(dllexport)
#else
#define XFT_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define XFT_VERSION_MAJOR 0
#define XFT_VERSION_MINOR 1
#define XFT_VERSION_PATCH 0

typedef enum xft_status {
    XFT_OK = 0,
    XFT_ERROR_INVALID_ARGUMENT,     /* an argument is null, out of range, of the wrong shape, dtype or device */
    XFT_ERROR_OUT_OF_HOST_MEMORY,   /* the host has no memory left */
    XFT_ERROR_OUT_OF_DEVICE_MEMORY, /* the device, or the limit of one allocation, is too small */
    XFT_ERROR_DEVICE_LOST,          /* the driver lost the device: close it and open it again */
    XFT_ERROR_NO_DEVICE,            /* no loader, no driver, or no device of that name */
    XFT_ERROR_UNSUPPORTED,          /* a limit of the device or of this library */
    XFT_ERROR_COMPILE,              /* a kernel does not compile on this driver */
    XFT_ERROR_DRIVER,               /* any other error code of a driver; the message names call and code */
    XFT_ERROR_IO,                   /* reading or writing a file */
    XFT_ERROR_FORMAT,               /* a file or setting whose content is wrong */
    XFT_ERROR_CANCELLED             /* a callback asked to stop */
} xft_status;

/* The message of this thread's last failing call; "" when none failed. Never NULL. */
XFT_API const char *xft_error(void);

/* "XFT_ERROR_…" for a status; "unknown status" for a number that is none. */
XFT_API const char *xft_status_name(xft_status status);

/* "0.1.0" */
XFT_API const char *xft_version(void);

/* Storage types. Arithmetic is always f32. */
typedef enum xft_dtype { XFT_F32 = 0, XFT_BF16 = 1, XFT_F16 = 2, XFT_U32 = 3 } xft_dtype;

/* Bytes of one element: 4 or 2; 0 for a number that is no dtype. */
XFT_API uint32_t xft_dtype_size(xft_dtype dtype);

/* "f32", "bf16", "f16", "u32"; "?" for a number that is no dtype. */
XFT_API const char *xft_dtype_name(xft_dtype dtype);

#ifdef __cplusplus
}
#endif
#endif
