/* A recording: what record.c appends to and stream.c finishes, and hazard.c walks. */
#ifndef XFT_RUNTIME_STREAM_H
#define XFT_RUNTIME_STREAM_H

#include "driver.h"
#include "record.h"

/* Bytes that an op reads or writes. */
typedef struct xft_range {
    const xft_buffer *buffer;
    uint64_t begin, end;
    xft_access access;
} xft_range;

/* A recorded op: one dispatch (perhaps split later) or one copy, and what it touches. */
typedef struct xft_recorded {
    const char *name;
    xft_command command;
    xft_range ranges[XFT_MAX_BUFFERS];
    uint32_t range_count;
    double cost_ms; /* estimate */
} xft_recorded;

typedef enum xft_stream_phase {
    XFT_RECORDING_INPUTS,
    XFT_RECORDING_OPS,
    XFT_RECORDING_OUTPUTS,
    XFT_FINISHED
} xft_stream_phase;

struct xft_stream {
    xft_device *device;
    char name[48];
    uint32_t slots;
    bool timers;
    xft_stream_phase phase;
    xft_status status; /* first error of the recording */
    char *message;
    xft_recorded *ops;
    uint32_t op_count, op_room;
    uint64_t staging_bytes; /* of one slot */
    /* finished */
    xft_buffer staging;
    xft_command *commands;
    uint32_t command_count, command_room;
    uint32_t *cuts;
    uint32_t cut_count;
    xft_program program;
    bool has_staging, has_program;
    uint32_t slot;                    /* the next submit's */
    uint64_t tickets[XFT_MOST_SLOTS]; /* last submit of each slot; 0: none */
};

bool xft_ranges_conflict(const xft_range *a, const xft_range *b);

#endif
