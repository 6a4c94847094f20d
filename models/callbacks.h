/* Calling the callbacks of xft/callbacks.h; NULL stands for none. */
#ifndef XFT_MODELS_CALLBACKS_H
#define XFT_MODELS_CALLBACKS_H

#include "xft/callbacks.h"

void xft_log(const xft_callbacks *callbacks, xft_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* XFT_OK, or XFT_ERROR_CANCELLED when the caller wants to stop. */
xft_status xft_progress(const xft_callbacks *callbacks, const char *what, uint64_t done, uint64_t total);

#endif
