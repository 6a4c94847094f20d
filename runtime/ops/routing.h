/* What the ops of router and experts share: a config, checked, as the numbers the kernels want. */
#ifndef XFT_RUNTIME_OPS_ROUTING_H
#define XFT_RUNTIME_OPS_ROUTING_H

#include "../record.h"

typedef struct xft_routing {
    uint32_t routed;         /* E' */
    uint32_t picks;          /* k */
    uint32_t shared_experts; /* 1; vanilla gate: 0 */
} xft_routing;

/* Refuses a missing or impossible config; the failure sticks to the stream. */
xft_status xft_routing_check(xft_stream *stream, const char *op, const xft_router_config *config, xft_routing *routing);

/* Cuts `tokens` into stretches, one for each work-group and row of a scratch tensor, which must have rows enough. */
typedef struct xft_stretches {
    uint32_t count, tokens;
} xft_stretches;
xft_status xft_stretches_of(xft_stream *stream, const char *op, uint32_t tokens, const xft_tensor *scratch,
                            xft_stretches *stretches);

#endif
