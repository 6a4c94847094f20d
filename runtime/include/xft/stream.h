/* Streams: ops are recorded once, then replayed as often as one likes.
 *
 *     xft_stream_create(device, NULL, &stream);
 *     xft_stream_input(stream, &ids, &ids_at);           // copied in from a staging slot at every replay
 *     xft_embedding(stream, &ids, &weight, &x);          // ops.h
 *     …
 *     xft_stream_output(stream, &loss, &loss_at);        // copied out at every replay
 *     xft_stream_finish(stream);                         // barriers are placed, the driver's objects are made
 *     for (…) {
 *         xft_stream_inputs(stream, &slot);              // host memory of the next slot
 *         memcpy(slot + ids_at, …);
 *         xft_stream_submit(stream, &ticket);            // returns at once
 *         xft_stream_outputs(stream, previous, &values); // one step late: the host does not wait inside a step
 *     }
 *
 * Errors while recording stick: ops after a failed one do nothing, and xft_stream_finish reports the first failure,
 * so model code need not check each op.
 *
 * Submits of all streams of one device run in the order of submission.
 */
#ifndef XFT_STREAM_H
#define XFT_STREAM_H

#include "xft/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct xft_stream xft_stream;

enum { XFT_MOST_SLOTS = 1024 };

typedef struct xft_stream_options {
    const char *name; /* for messages; NULL: "stream" */
    uint32_t slots;   /* of the staging ring, 1 to XFT_MOST_SLOTS; 0: 2 */
    bool timers;      /* device time of every op; see xft_stream_timings. Costs a little */
} xft_stream_options;

XFT_API xft_status xft_stream_create(xft_device *device, const xft_stream_options *options, xft_stream **stream);

/* Waits until the stream's last submit is done, then frees it. NULL is accepted. */
XFT_API void xft_stream_destroy(xft_stream *stream);

/* Forgets what was recorded (waiting for its last submit) and starts afresh. */
XFT_API xft_status xft_stream_reset(xft_stream *stream);

/* Declares that a replay begins with a copy of xft_bytes(tensor) bytes from the staging slot into the tensor; *at is
 * the byte position in the slot. Rows lie in the slot with the tensor's pitch. Before the first op only. */
XFT_API xft_status xft_stream_input(xft_stream *stream, const xft_tensor *tensor, uint64_t *at);

/* Declares that a replay ends with a copy of the tensor into the slot's output part; *at likewise. */
XFT_API xft_status xft_stream_output(xft_stream *stream, const xft_tensor *tensor, uint64_t *at);

/* Ends the recording: places barriers, splits it under the submit budget, makes the driver's objects. Reports the
 * first error of the recording. */
XFT_API xft_status xft_stream_finish(xft_stream *stream);

/* Host memory of the next replay's inputs. Waits only if the replay that last used this slot has not ended. */
XFT_API xft_status xft_stream_inputs(xft_stream *stream, void **slot);

/* Replays the recording with the current slot; returns at once. *ticket (may be NULL) names the replay. */
XFT_API xft_status xft_stream_submit(xft_stream *stream, uint64_t *ticket);

/* Waits for that replay. */
XFT_API xft_status xft_stream_wait(xft_stream *stream, uint64_t ticket);

/* Waits for that replay and gives its outputs, valid until the slot is used again (`slots` submits later). */
XFT_API xft_status xft_stream_outputs(xft_stream *stream, uint64_t ticket, const void **values);

/* finish + submit + wait: for tests and one-off work. */
XFT_API xft_status xft_stream_run(xft_stream *stream);

/* Device time of op number i of the last finished replay in milliseconds, and the op's name; with options.timers.
 * *count in: room of the arrays, out: number of ops. Arrays may be NULL to ask for the number. */
XFT_API xft_status xft_stream_timings(xft_stream *stream, uint32_t *count, double *ms, const char **names);

/* Walks the finished recording and proves that a barrier lies between any two ops with conflicting byte ranges.
 * Ok, or XFT_ERROR_INVALID_ARGUMENT with the two ops and the range. `without`: pretend that barrier number `without`
 * were not there (UINT32_MAX: none); *barriers (may be NULL) gets their number. */
XFT_API xft_status xft_stream_check_hazards(const xft_stream *stream, uint32_t without, uint32_t *barriers);

#ifdef __cplusplus
}
#endif
#endif
