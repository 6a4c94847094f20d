#include "stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

xft_status xft_stream_create(xft_device *device, const xft_stream_options *options, xft_stream **stream) {
    XFT_NEED(stream);
    *stream = NULL;
    XFT_NEED(device);
    xft_stream_options o = options ? *options : (xft_stream_options){0};
    XFT_FAIL_IF(o.slots > XFT_MOST_SLOTS, XFT_ERROR_INVALID_ARGUMENT,
                "xft_stream_create: slots is %u; expected 1 to %d", o.slots, XFT_MOST_SLOTS);
    xft_stream *s = calloc(1, sizeof *s);
    XFT_FAIL_IF(!s, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a stream");
    s->device = device;
    s->slots = o.slots ? o.slots : 2;
    s->timers = o.timers && device->info.timestamps;
    snprintf(s->name, sizeof s->name, "%s", o.name ? o.name : "stream");
    *stream = s;
    return XFT_OK;
}

/* The ticket of the last submit, behind all others; 0: none. */
static uint64_t latest(const xft_stream *s) {
    return s->tickets[(s->slot + s->slots - 1) % s->slots];
}

/* Waits for every replay and frees what the recording holds. */
static xft_status forget(xft_stream *s) {
    const uint64_t last = latest(s);
    const xft_status status = last ? s->device->driver->wait(s->device, last) : XFT_OK;
    if (s->has_program) {
        s->device->driver->program_destroy(&s->program);
        s->device->counters.programs--;
    }
    if (s->has_staging) {
        s->device->driver->buffer_destroy(&s->staging);
        s->device->counters.buffers--;
        s->device->counters.buffer_bytes -= s->staging.size;
        s->device->counters.staging_bytes -= s->staging.size;
    }
    free(s->ops);
    free(s->commands);
    free(s->cuts);
    free(s->message);
    xft_stream kept = *s;
    memset(s, 0, sizeof *s);
    s->device = kept.device;
    s->slots = kept.slots;
    s->timers = kept.timers;
    memcpy(s->name, kept.name, sizeof s->name);
    return status;
}

void xft_stream_destroy(xft_stream *s) {
    if (!s) return;
    forget(s);
    free(s);
}

xft_status xft_stream_reset(xft_stream *s) {
    XFT_FAIL_IF(!s, XFT_ERROR_INVALID_ARGUMENT, "xft_stream_reset: stream is NULL");
    return forget(s);
}

/* ---- Finishing: barriers, splitting, cuts ---- */

static xft_status append(xft_stream *s, const xft_command *command) {
    if (s->command_count == s->command_room) {
        uint32_t room = s->command_room ? 2 * s->command_room : 128;
        xft_command *commands = realloc(s->commands, room * sizeof *commands);
        if (commands) s->commands = commands;
        uint32_t *cuts = realloc(s->cuts, (room + 1) * sizeof *cuts);
        if (cuts) s->cuts = cuts;
        XFT_FAIL_IF(!commands || !cuts, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the commands of %s", s->name);
        s->command_room = room;
    }
    s->commands[s->command_count++] = *command;
    return XFT_OK;
}

/* Work of one submit in estimated milliseconds; negative: no limit. The first stream with a limit measures how far
 * estimates are from the truth on this device; CPU devices have no watchdog, and a limit there is for tests. */
static xft_status find_budget(xft_device *device, double *budget) {
    bool cpu = device->info.device_class == XFT_CLASS_CPU;
    *budget = device->options.submit_budget_ms;
    if (*budget == 0) *budget = cpu ? -1 : 200;
    if (*budget < 0 || cpu) return XFT_OK;
    XFT_TRY(xft_calibrate(device));
    *budget /= device->cost_scale;
    return XFT_OK;
}

static void cut(xft_stream *s) {
    if (s->cut_count && s->cuts[s->cut_count - 1] == s->command_count) return;
    s->cuts[s->cut_count++] = s->command_count;
}

/* A dispatch whose estimate exceeds the budget goes out in parts along its widest dimension: every work-group computes
 * what it would have computed, so no sum changes. */
static xft_status append_op(xft_stream *s, const xft_recorded *op, double budget, double *spent) {
    uint32_t widest = 0, parts = 1;
    if (op->command.kind == XFT_COMMAND_DISPATCH && budget > 0 && op->cost_ms > budget) {
        for (uint32_t i = 1; i < 3; i++)
            if (op->command.groups[i] > op->command.groups[widest]) widest = i;
        double wanted = op->cost_ms / budget + 1;
        parts = wanted < op->command.groups[widest] ? (uint32_t)wanted : op->command.groups[widest];
    }
    for (uint32_t i = 0; i < parts; i++) {
        double cost = op->cost_ms / parts;
        if (budget > 0 && *spent > 0 && *spent + cost > budget) {
            cut(s);
            *spent = 0;
        }
        xft_command command = op->command;
        if (parts > 1) {
            uint32_t n = command.groups[widest];
            uint32_t first = (uint32_t)((uint64_t)n * i / parts), end = (uint32_t)((uint64_t)n * (i + 1) / parts);
            command.base[widest] = first;
            command.groups[widest] = end - first;
        }
        XFT_TRY(append(s, &command));
        *spent += cost;
    }
    return XFT_OK;
}

static bool conflicts(const xft_recorded *a, const xft_recorded *b) {
    for (uint32_t i = 0; i < a->range_count; i++)
        for (uint32_t j = 0; j < b->range_count; j++)
            if (xft_ranges_conflict(&a->ranges[i], &b->ranges[j])) return true;
    return false;
}

/* A barrier goes in front of an op that conflicts with one recorded since the last barrier: no more are needed, and by
 * waiting as long as possible each one serves as many pairs as it can. */
static xft_status place_barriers(xft_stream *s) {
    double budget, spent = 0;
    XFT_TRY(find_budget(s->device, &budget));
    uint32_t since = 0;
    for (uint32_t i = 0; i < s->op_count; i++) {
        for (uint32_t j = i; j-- > since;)
            if (conflicts(&s->ops[j], &s->ops[i])) {
                xft_command barrier = {.kind = XFT_COMMAND_BARRIER, .op_index = i};
                XFT_TRY(append(s, &barrier));
                since = i;
                break;
            }
        XFT_TRY(append_op(s, &s->ops[i], budget, &spent));
    }
    if (s->command_count) cut(s);
    return XFT_OK;
}

static xft_status make_staging(xft_stream *s) {
    if (s->staging_bytes == 0) return XFT_OK;
    uint64_t stride = (s->staging_bytes + 511) / 512 * 512;
    s->staging = (xft_buffer){.device = s->device, .size = stride * s->slots};
    xft_status status = s->device->driver->buffer_create(s->device, s->staging.size, true, &s->staging);
    if (status != XFT_OK)
        return xft_fail_in(status, "staging of %s, %llu bytes", s->name, (unsigned long long)s->staging.size);
    s->has_staging = true;
    s->device->counters.buffers++;
    s->device->counters.buffer_bytes += s->staging.size;
    s->device->counters.staging_bytes += s->staging.size;
    for (uint32_t i = 0; i < s->op_count; i++) {
        xft_command *c = &s->ops[i].command;
        if (c->kind != XFT_COMMAND_COPY) continue;
        if (!c->from) c->from = &s->staging;
        if (!c->to) c->to = &s->staging;
    }
    return XFT_OK;
}

xft_status xft_stream_finish(xft_stream *s) {
    XFT_FAIL_IF(!s, XFT_ERROR_INVALID_ARGUMENT, "xft_stream_finish: stream is NULL");
    XFT_TRY(xft_stream_state(s));
    XFT_FAIL_IF(s->phase == XFT_FINISHED, XFT_ERROR_INVALID_ARGUMENT, "xft_stream_finish: %s is finished already",
                s->name);
    XFT_TRY(xft_stream_stick(s, make_staging(s)));
    XFT_TRY(xft_stream_stick(s, place_barriers(s)));
    s->program = (xft_program){.device = s->device,
                               .commands = s->commands,
                               .count = s->command_count,
                               .cuts = s->cuts,
                               .cut_count = s->cut_count,
                               .slots = s->slots,
                               .slot_stride = s->has_staging ? s->staging.size / s->slots : 0,
                               .timers = s->timers,
                               .op_count = s->op_count};
    xft_status status = s->device->driver->program_create(&s->program);
    if (status != XFT_OK) return xft_stream_stick(s, xft_fail_in(status, "stream %s", s->name));
    s->has_program = true;
    s->device->counters.programs++;
    s->phase = XFT_FINISHED;
    if (s->device->options.debug & XFT_DEBUG_HAZARDS)
        return xft_stream_stick(s, xft_stream_check_hazards(s, UINT32_MAX, NULL));
    return XFT_OK;
}

/* ---- Replaying ---- */

static xft_status check_finished(const xft_stream *s, const char *function) {
    XFT_FAIL_IF(!s, XFT_ERROR_INVALID_ARGUMENT, "%s: stream is NULL", function);
    XFT_TRY(xft_stream_state(s));
    XFT_FAIL_IF(s->phase != XFT_FINISHED, XFT_ERROR_INVALID_ARGUMENT, "%s: %s is not finished", function, s->name);
    return XFT_OK;
}

/* The slot whose last submit was `ticket`, or -1. */
static int slot_of(const xft_stream *s, uint64_t ticket) {
    for (uint32_t i = 0; i < s->slots; i++)
        if (s->tickets[i] == ticket) return (int)i;
    return -1;
}

/* What a lost device has done counts for nothing, though its submits may seem to have ended. */
static xft_status await_ticket(xft_stream *s, uint64_t ticket) {
    if (ticket && !s->device->driver->done(s->device, ticket)) XFT_TRY(s->device->driver->wait(s->device, ticket));
    return xft_check_alive(s->device);
}

/* Makes the current slot free: its last reader has ended. */
static xft_status free_slot(xft_stream *s) {
    return await_ticket(s, s->tickets[s->slot]);
}

xft_status xft_stream_inputs(xft_stream *s, void **slot) {
    XFT_NEED(slot);
    *slot = NULL;
    XFT_TRY(check_finished(s, "xft_stream_inputs"));
    XFT_FAIL_IF(!s->has_staging, XFT_ERROR_INVALID_ARGUMENT, "xft_stream_inputs: %s declares no input", s->name);
    XFT_TRY(free_slot(s));
    *slot = (unsigned char *)s->staging.host + s->slot * s->program.slot_stride;
    return XFT_OK;
}

xft_status xft_stream_submit(xft_stream *s, uint64_t *ticket) {
    XFT_TRY(check_finished(s, "xft_stream_submit"));
    XFT_TRY(free_slot(s));
    uint64_t t;
    XFT_TRY(s->device->driver->submit(&s->program, s->slot, &t));
    s->tickets[s->slot] = t;
    s->slot = (s->slot + 1) % s->slots;
    if (ticket) *ticket = t;
    return XFT_OK;
}

xft_status xft_stream_wait(xft_stream *s, uint64_t ticket) {
    XFT_TRY(check_finished(s, "xft_stream_wait"));
    XFT_FAIL_IF(ticket > latest(s), XFT_ERROR_INVALID_ARGUMENT, "xft_stream_wait: ticket %llu; the last of %s was %llu",
                (unsigned long long)ticket, s->name, (unsigned long long)latest(s));
    return await_ticket(s, ticket);
}

xft_status xft_stream_outputs(xft_stream *s, uint64_t ticket, const void **values) {
    XFT_NEED(values);
    *values = NULL;
    XFT_TRY(check_finished(s, "xft_stream_outputs"));
    int slot = ticket ? slot_of(s, ticket) : -1;
    XFT_FAIL_IF(slot < 0 || !s->has_staging, XFT_ERROR_INVALID_ARGUMENT,
                "xft_stream_outputs: ticket %llu is not one of the last %u submits of %s", (unsigned long long)ticket,
                s->slots, s->name);
    XFT_TRY(xft_stream_wait(s, ticket));
    *values = (const unsigned char *)s->staging.host + (uint32_t)slot * s->program.slot_stride;
    return XFT_OK;
}

xft_status xft_stream_run(xft_stream *s) {
    XFT_FAIL_IF(!s, XFT_ERROR_INVALID_ARGUMENT, "xft_stream_run: stream is NULL");
    if (s->phase != XFT_FINISHED) XFT_TRY(xft_stream_finish(s));
    uint64_t ticket;
    XFT_TRY(xft_stream_submit(s, &ticket));
    return xft_stream_wait(s, ticket);
}

xft_status xft_stream_timings(xft_stream *s, uint32_t *count, double *ms, const char **names) {
    XFT_NEED(count);
    XFT_TRY(check_finished(s, "xft_stream_timings"));
    XFT_FAIL_IF(!s->timers, XFT_ERROR_UNSUPPORTED, "xft_stream_timings: %s has no timers%s", s->name,
                s->device->info.timestamps ? "; ask for them in xft_stream_options" : ": the device has none");
    uint32_t room = *count;
    *count = s->op_count;
    if (!ms && !names) return XFT_OK;
    XFT_FAIL_IF(room < s->op_count, XFT_ERROR_INVALID_ARGUMENT, "xft_stream_timings: room for %u of %u ops", room,
                s->op_count);
    uint32_t last = (s->slot + s->slots - 1) % s->slots;
    XFT_FAIL_IF(!s->tickets[last], XFT_ERROR_INVALID_ARGUMENT, "xft_stream_timings: %s was never submitted", s->name);
    XFT_TRY(xft_stream_wait(s, s->tickets[last]));
    for (uint32_t i = 0; names && i < s->op_count; i++) names[i] = s->ops[i].name;
    return ms ? s->device->driver->timings(&s->program, last, ms) : XFT_OK;
}
