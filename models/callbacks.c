#include "callbacks.h"

#include <stdarg.h>
#include <stdio.h>

#include "error.h"

void xft_log(const xft_callbacks *callbacks, xft_log_level level, const char *format, ...) {
    if (!callbacks || !callbacks->log) return;
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    callbacks->log(callbacks->user, level, text);
}

xft_status xft_progress(const xft_callbacks *callbacks, const char *what, uint64_t done, uint64_t total) {
    if (!callbacks || !callbacks->progress || callbacks->progress(callbacks->user, what, done, total)) return XFT_OK;
    return xft_fail(XFT_ERROR_CANCELLED, "%s was cancelled at %llu of %llu", what, (unsigned long long)done,
                    (unsigned long long)total);
}
