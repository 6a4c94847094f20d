/* The hazard checker: proof, apart from the code that places barriers, that they suffice. It walks the commands as the
 * driver gets them and compares every pair of ops between which no barrier lies. */
#include "stream.h"

static xft_status check_pair(const xft_stream *s, const xft_recorded *a, const xft_recorded *b) {
    for (uint32_t i = 0; i < a->range_count; i++)
        for (uint32_t j = 0; j < b->range_count; j++) {
            const xft_range *x = &a->ranges[i], *y = &b->ranges[j];
            if (x->buffer != y->buffer || !((x->access | y->access) & XFT_WRITE)) continue;
            uint64_t begin = x->begin > y->begin ? x->begin : y->begin, end = x->end < y->end ? x->end : y->end;
            XFT_FAIL_IF(begin < end, XFT_ERROR_INVALID_ARGUMENT,
                        "hazard in %s: op %u (%s) %s and op %u (%s) %s the bytes %llu to %llu of one buffer, and no "
                        "barrier lies between them",
                        s->name, a->command.op_index, a->name, x->access & XFT_WRITE ? "writes" : "reads",
                        b->command.op_index, b->name, y->access & XFT_WRITE ? "writes" : "reads",
                        (unsigned long long)begin, (unsigned long long)end);
        }
    return XFT_OK;
}

xft_status xft_stream_check_hazards(const xft_stream *s, uint32_t without, uint32_t *barriers) {
    XFT_FAIL_IF(!s, XFT_ERROR_INVALID_ARGUMENT, "xft_stream_check_hazards: stream is NULL");
    XFT_TRY(xft_stream_state(s));
    XFT_FAIL_IF(s->phase != XFT_FINISHED, XFT_ERROR_INVALID_ARGUMENT, "xft_stream_check_hazards: %s is not finished",
                s->name);
    uint32_t count = 0, start = 0;
    for (uint32_t i = 0; i < s->command_count; i++) {
        if (s->commands[i].kind != XFT_COMMAND_BARRIER) continue;
        count++;
    }
    if (barriers) *barriers = count;
    count = 0;
    for (uint32_t i = 0; i < s->command_count; i++) {
        if (s->commands[i].kind == XFT_COMMAND_BARRIER) {
            if (count++ != without) start = i + 1;
            continue;
        }
        const xft_recorded *op = &s->ops[s->commands[i].op_index];
        for (uint32_t j = start; j < i; j++) {
            if (s->commands[j].kind == XFT_COMMAND_BARRIER) continue;
            const xft_recorded *before = &s->ops[s->commands[j].op_index];
            if (before != op) XFT_TRY(check_pair(s, before, op)); /* parts of one split op are independent */
        }
    }
    return XFT_OK;
}
