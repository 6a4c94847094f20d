/* For tests and the benchmark: which forms of attention a recording uses. */
#ifndef XFT_RUNTIME_OPS_ATTENTION_H
#define XFT_RUNTIME_OPS_ATTENTION_H

#include <stdbool.h>

/* Until called with false, ops recorded by this thread use the plain forms, also where a device has faster ones. */
void xft_attention_force_plain(bool plain);

#endif
