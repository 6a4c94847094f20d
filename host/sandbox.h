/* Runs of many programs by the same interpreter. */
#ifndef XFT_HOST_SANDBOX_H
#define XFT_HOST_SANDBOX_H

#include "xft/score.h"

/* Checks the limits and that this system can keep them, and puts in those that are 0; the interpreter behind
 * sandbox->python, to be freed with free(). */
xft_status xft_sandbox_prepare(xft_sandbox *sandbox, char **interpreter);

/* xft_sandbox_run after it; the program may hold zero bytes, which Python refuses. */
xft_status xft_sandbox_execute(const xft_sandbox *sandbox, const char *interpreter, const char *program, size_t bytes,
                               xft_verdict *verdict);

#endif
