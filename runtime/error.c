#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[1024];

const char *xft_error(void) {
    return message;
}

xft_status xft_fail(xft_status status, const char *format, ...) {
    char text[sizeof message]; /* an argument may be the old message itself */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(message, text, sizeof message);
    return status;
}

xft_status xft_fail_in(xft_status status, const char *format, ...) {
    char place[256], text[sizeof message];
    va_list args;
    va_start(args, format);
    vsnprintf(place, sizeof place, format, args);
    va_end(args);
    memcpy(text, message, sizeof text);
    snprintf(message, sizeof message, "%s: %.*s", place, (int)(sizeof message - sizeof place - 3), text);
    return status;
}

xft_status xft_need(const char *function, const char *names, const bool *given, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const size_t length = strcspn(names, ",");
        if (!given[i]) return xft_fail(XFT_ERROR_INVALID_ARGUMENT, "%s: %.*s is NULL", function, (int)length, names);
        names += length + strspn(names + length, ", ");
    }
    return XFT_OK;
}

const char *xft_status_name(xft_status status) {
    static const char *const names[] = {
        [XFT_OK] = "XFT_OK",
        [XFT_ERROR_INVALID_ARGUMENT] = "XFT_ERROR_INVALID_ARGUMENT",
        [XFT_ERROR_OUT_OF_HOST_MEMORY] = "XFT_ERROR_OUT_OF_HOST_MEMORY",
        [XFT_ERROR_OUT_OF_DEVICE_MEMORY] = "XFT_ERROR_OUT_OF_DEVICE_MEMORY",
        [XFT_ERROR_DEVICE_LOST] = "XFT_ERROR_DEVICE_LOST",
        [XFT_ERROR_NO_DEVICE] = "XFT_ERROR_NO_DEVICE",
        [XFT_ERROR_UNSUPPORTED] = "XFT_ERROR_UNSUPPORTED",
        [XFT_ERROR_COMPILE] = "XFT_ERROR_COMPILE",
        [XFT_ERROR_DRIVER] = "XFT_ERROR_DRIVER",
        [XFT_ERROR_IO] = "XFT_ERROR_IO",
        [XFT_ERROR_FORMAT] = "XFT_ERROR_FORMAT",
        [XFT_ERROR_CANCELLED] = "XFT_ERROR_CANCELLED",
    };
    if ((unsigned)status >= sizeof names / sizeof *names) return "unknown status";
    return names[status];
}

#define XFT_TEXT_(x) #x
#define XFT_TEXT(x)  XFT_TEXT_(x)

const char *xft_version(void) {
    return XFT_TEXT(XFT_VERSION_MAJOR) "." XFT_TEXT(XFT_VERSION_MINOR) "." XFT_TEXT(XFT_VERSION_PATCH);
}

uint32_t xft_dtype_size(xft_dtype dtype) {
    switch (dtype) {
    case XFT_F32:
    case XFT_U32:
        return 4;
    case XFT_BF16:
    case XFT_F16:
        return 2;
    }
    return 0;
}

const char *xft_dtype_name(xft_dtype dtype) {
    switch (dtype) {
    case XFT_F32:
        return "f32";
    case XFT_BF16:
        return "bf16";
    case XFT_F16:
        return "f16";
    case XFT_U32:
        return "u32";
    }
    return "?";
}
