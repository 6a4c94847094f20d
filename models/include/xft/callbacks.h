/* What a long call tells its caller, and how it is stopped. Callbacks run on the thread that made the call, inside it;
 * they must not use the objects of that call. Any of them may be NULL, and so may a pointer to the structure. */
#ifndef XFT_CALLBACKS_H
#define XFT_CALLBACKS_H

#include "xft/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum xft_log_level { XFT_LOG_INFO = 0, XFT_LOG_WARNING = 1 } xft_log_level;

typedef struct xft_callbacks {
    void *user;
    /* A line for a person, without line break; `text` lives until the callback returns. */
    void (*log)(void *user, xft_log_level level, const char *text);
    /* `done` of `total` parts of `what` ("loading", "saving", "upcycling", "merging", "micro-batch", "reading
     * prompts"). false: stop; the call then returns XFT_ERROR_CANCELLED and has freed what it made. */
    bool (*progress)(void *user, const char *what, uint64_t done, uint64_t total);
} xft_callbacks;

#ifdef __cplusplus
}
#endif
#endif
