/* Recordings: a kernel object per dispatch with its arguments set once, enqueued in order at every submit. */
#include "clblast.h"

#include <stdlib.h>
#include <string.h>

/* program->impl. Arrays run parallel to program->commands. */
typedef struct recording {
    cl_kernel *kernels; /* NULL where the command is no dispatch of ours */
    cl_event *events;   /* [slots][count] with timers: of the slot's last submit */
    cl_event *begins;   /* likewise: markers before the dispatches that are several kernels (CLBlast) */
} recording;

/* A queue that measures costs more on some GPUs, so there is one from the first recording with timers on. */
static xft_status start_profiling(xft_device *device) {
    xft_cl_device *cl = device->impl;
    if (cl->profiling) return XFT_OK;
    XFT_FAIL_IF(cl->adopted, XFT_ERROR_UNSUPPORTED,
                "timers: the application's queue was made without CL_QUEUE_PROFILING_ENABLE");
    device->counters.waits++;
    XFT_TRY(CL(clFinish(cl->queue)));
    cl_int code;
    cl_command_queue queue = xft_cl.clCreateCommandQueue(cl->context, cl->id, CL_QUEUE_PROFILING_ENABLE, &code);
    XFT_TRY(xft_cl_status(code, "clCreateCommandQueue"));
    xft_cl.clReleaseCommandQueue(cl->queue);
    cl->queue = queue;
    cl->profiling = true;
    return XFT_OK;
}

/* Arguments: base and offset in 16 bytes of every buffer, then the parameters by value. */
static xft_status make_kernel(const xft_command *command, cl_kernel *kernel) {
    const xft_op_info *op = xft_op_get_info(command->kernel->source->op);
    cl_int code;
    *kernel = xft_cl.clCreateKernel(command->kernel->impl, op->name, &code);
    XFT_TRY(xft_cl_status(code, "clCreateKernel"));
    cl_uint at = 0;
    for (uint32_t i = 0; i < op->buffer_count; i++) {
        const xft_argument *argument = &command->arguments[i];
        cl_mem memory = argument->buffer ? argument->buffer->impl : NULL;
        cl_uint offset = (cl_uint)(argument->offset / 16);
        XFT_TRY(CL(clSetKernelArg(*kernel, at++, sizeof memory, argument->buffer ? &memory : NULL)));
        XFT_TRY(CL(clSetKernelArg(*kernel, at++, sizeof offset, &offset)));
    }
    if (op->param_words) XFT_TRY(CL(clSetKernelArg(*kernel, at, 4 * op->param_words, command->params)));
    return XFT_OK;
}

static void release_events(cl_event *events, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (events[i]) xft_cl.clReleaseEvent(events[i]);
        events[i] = NULL;
    }
}

xft_status xft_cl_program_create(xft_program *program) {
    recording *r = calloc(1, sizeof *r);
    program->impl = r;
    XFT_FAIL_IF(!r, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a recording");
    xft_status status = XFT_OK;
    r->kernels = calloc(program->count + 1, sizeof *r->kernels);
    if (program->timers) {
        r->events = calloc((size_t)program->slots * program->count + 1, sizeof *r->events);
        r->begins = calloc((size_t)program->slots * program->count + 1, sizeof *r->begins);
    }
    if (!r->kernels || (program->timers && (!r->events || !r->begins)))
        status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a recording of %u commands", program->count);
    if (status == XFT_OK && program->timers) status = start_profiling(program->device);
    for (uint32_t i = 0; status == XFT_OK && i < program->count; i++) {
        const xft_command *command = &program->commands[i];
        if (command->kind != XFT_COMMAND_DISPATCH || xft_clblast_serves(command->kernel)) continue;
        status = make_kernel(command, &r->kernels[i]);
        if (status != XFT_OK) xft_fail_in(status, "kernel %s", xft_op_get_info(command->kernel->source->op)->name);
    }
    if (status != XFT_OK) xft_cl_program_destroy(program);
    return xft_cl_note(program->device, status);
}

void xft_cl_program_destroy(xft_program *program) {
    recording *r = program->impl;
    if (!r) return;
    for (uint32_t i = 0; r->kernels && i < program->count; i++)
        if (r->kernels[i]) xft_cl.clReleaseKernel(r->kernels[i]);
    if (r->events) release_events(r->events, program->slots * program->count);
    if (r->begins) release_events(r->begins, program->slots * program->count);
    free(r->kernels);
    free(r->events);
    free(r->begins);
    free(r);
    program->impl = NULL;
}

static xft_status dispatch(const xft_cl_device *cl, const xft_command *command, cl_kernel kernel, cl_event *begin,
                           cl_event *event) {
    if (!kernel) {
        if (begin) XFT_TRY(CL(clEnqueueMarkerWithWaitList(cl->queue, 0, NULL, begin)));
        return xft_clblast_enqueue(cl, command, event);
    }
    const size_t wg = command->kernel->constants[0];
    const size_t local[3] = {wg, 1, 1};
    const size_t global[3] = {wg * command->groups[0], command->groups[1], command->groups[2]};
    const size_t base[3] = {wg * command->base[0], command->base[1], command->base[2]};
    return CL(clEnqueueNDRangeKernel(cl->queue, kernel, 3, base, global, local, 0, NULL, event));
}

static xft_status copy(const xft_cl_device *cl, const xft_command *command, uint64_t slot_offset, cl_event *event) {
    const xft_buffer *from = command->from, *to = command->to;
    uint64_t source = command->from_offset + (from->host ? slot_offset : 0);
    uint64_t target = command->to_offset + (to->host ? slot_offset : 0);
    size_t bytes = (size_t)command->bytes;
    if (from->host && to->host) return xft_fail(XFT_ERROR_INVALID_ARGUMENT, "a copy between two staging buffers");
    if (from->host)
        return CL(clEnqueueWriteBuffer(cl->queue, to->impl, CL_FALSE, (size_t)target, bytes,
                                       (const char *)from->host + source, 0, NULL, event));
    if (to->host)
        return CL(clEnqueueReadBuffer(cl->queue, from->impl, CL_FALSE, (size_t)source, bytes, (char *)to->host + target,
                                      0, NULL, event));
    return CL(
        clEnqueueCopyBuffer(cl->queue, from->impl, to->impl, (size_t)source, (size_t)target, bytes, 0, NULL, event));
}

static xft_status enqueue(xft_program *program, uint32_t slot) {
    xft_device *device = program->device;
    const xft_cl_device *cl = device->impl;
    const recording *r = program->impl;
    uint32_t at = 0;
    for (uint32_t cut = 0; cut < program->cut_count; cut++) {
        for (; at < program->cuts[cut]; at++) {
            const xft_command *command = &program->commands[at];
            const size_t place = (size_t)slot * program->count + at;
            cl_event *event = program->timers ? &r->events[place] : NULL;
            cl_event *begin = program->timers ? &r->begins[place] : NULL;
            xft_status status = XFT_OK;
            switch (command->kind) {
            case XFT_COMMAND_DISPATCH:
                status = dispatch(cl, command, r->kernels[at], begin, event);
                if (status != XFT_OK)
                    return xft_fail_in(status, "kernel %s", xft_op_get_info(command->kernel->source->op)->name);
                device->counters.dispatches++;
                break;
            case XFT_COMMAND_COPY:
                XFT_TRY(copy(cl, command, slot * program->slot_stride, event));
                break;
            case XFT_COMMAND_BARRIER:
                device->counters.barriers++;
                break; /* the queue runs in order */
            }
        }
        XFT_TRY(CL(clFlush(cl->queue)));
        device->counters.submits++;
    }
    return XFT_OK;
}

/* The event's status: CL_COMPLETE, one of the positive ones, or an error of the command. */
static cl_int state_of(cl_event event) {
    cl_int state = CL_COMPLETE;
    cl_int code = xft_cl.clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL);
    return code == CL_SUCCESS ? state : code;
}

/* Drops the first `count` submits. */
static void drop_pending(xft_cl_device *cl, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) xft_cl.clReleaseEvent(cl->pending[i].event);
    cl->pending_count -= count;
    if (count) memmove(cl->pending, cl->pending + count, cl->pending_count * sizeof *cl->pending);
}

/* Room for one more submit. Ended ones are dropped; one that ended in an error stays until it is waited for. */
static xft_status reserve_pending(xft_cl_device *cl) {
    uint32_t ended = 0;
    while (ended < cl->pending_count && state_of(cl->pending[ended].event) == CL_COMPLETE) ended++;
    drop_pending(cl, ended);
    if (cl->pending_count < cl->pending_room) return XFT_OK;
    uint32_t room = cl->pending_room ? 2 * cl->pending_room : 16;
    xft_cl_pending *grown = realloc(cl->pending, room * sizeof *grown);
    XFT_FAIL_IF(!grown, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a submit");
    cl->pending = grown;
    cl->pending_room = room;
    return XFT_OK;
}

xft_status xft_cl_submit(xft_program *program, uint32_t slot, uint64_t *ticket) {
    xft_cl_device *cl = program->device->impl;
    const recording *r = program->impl;
    if (program->timers) {
        release_events(r->events + (size_t)slot * program->count, program->count);
        release_events(r->begins + (size_t)slot * program->count, program->count);
    }
    XFT_TRY(reserve_pending(cl));
    cl_event event = NULL;
    xft_cl_lock(cl);
    xft_status status = enqueue(program, slot);
    if (status == XFT_OK) status = CL(clEnqueueMarkerWithWaitList(cl->queue, 0, NULL, &event));
    if (status == XFT_OK) status = CL(clFlush(cl->queue));
    if (status != XFT_OK) { /* what was enqueued must not go on in memory that the caller may free now */
        program->device->counters.waits++;
        xft_cl.clFinish(cl->queue);
        if (event) xft_cl.clReleaseEvent(event);
    }
    xft_cl_unlock(cl);
    if (status != XFT_OK) return xft_cl_note(program->device, status);
    cl->pending[cl->pending_count++] = (xft_cl_pending){++cl->last_ticket, event};
    *ticket = cl->last_ticket;
    return XFT_OK;
}

xft_status xft_cl_wait(xft_device *device, uint64_t ticket) {
    xft_cl_device *cl = device->impl;
    uint32_t count = 0;
    while (count < cl->pending_count && cl->pending[count].ticket <= ticket) count++;
    if (count == 0) return XFT_OK;
    device->counters.waits++;
    cl_int code = xft_cl.clWaitForEvents(1, &cl->pending[count - 1].event);
    for (uint32_t i = 0; i < count; i++) { /* the command's own error says more than the wait's */
        cl_int state = state_of(cl->pending[i].event);
        if (state < 0) {
            code = state;
            break;
        }
    }
    xft_status status = xft_cl_status(code, "clWaitForEvents");
    if (status != XFT_OK) { /* nothing may still run in memory that the caller frees now */
        xft_cl_lock(cl);
        xft_cl.clFinish(cl->queue);
        xft_cl_unlock(cl);
    }
    drop_pending(cl, count);
    return xft_cl_note(device, status);
}

/* A submit that failed is not done: the wait tells. */
bool xft_cl_done(xft_device *device, uint64_t ticket) {
    const xft_cl_device *cl = device->impl;
    for (uint32_t i = 0; i < cl->pending_count && cl->pending[i].ticket <= ticket; i++)
        if (state_of(cl->pending[i].event) != CL_COMPLETE) return false;
    return true;
}

static xft_status add_timings(const xft_program *program, uint32_t slot, double *ms) {
    const recording *r = program->impl;
    for (uint32_t i = 0; i < program->count; i++) {
        const size_t place = (size_t)slot * program->count + i;
        cl_event event = program->timers ? r->events[place] : NULL;
        if (!event) continue;
        cl_event begin = r->begins[place];
        cl_ulong start = 0, end = 0;
        XFT_TRY(CL(clGetEventProfilingInfo(begin ? begin : event,
                                           begin ? CL_PROFILING_COMMAND_END : CL_PROFILING_COMMAND_START, sizeof start,
                                           &start, NULL)));
        XFT_TRY(CL(clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL)));
        if (end > start) ms[program->commands[i].op_index] += (double)(end - start) * 1e-6;
    }
    return XFT_OK;
}

xft_status xft_cl_timings(xft_program *program, uint32_t slot, double *ms) {
    for (uint32_t i = 0; i < program->op_count; i++) ms[i] = 0;
    return xft_cl_note(program->device, add_timings(program, slot, ms));
}
