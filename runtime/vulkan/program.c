#include <stdlib.h>
#include <string.h>

#include "vk.h"

/* A recording: command buffers, made once and submitted at every replay. */
typedef struct vk_program {
    VkCommandPool pool;
    VkQueryPool queries;      /* with timers: two per op and slot, begin and end */
    VkCommandBuffer *buffers; /* [segments][slots]; one for all slots where nothing depends on the slot */
    uint32_t segments;
    uint64_t dispatches, barriers;
    uint64_t submitted; /* ticket of the last submit */
} vk_program;

static bool at_staging(const xft_command *c) {
    return c->kind == XFT_COMMAND_COPY && (c->from->host || c->to->host);
}

/* ---- Recording ---- */

/* Where the recording of one slot stands. */
typedef struct recorder {
    vk_device *vk;
    const xft_program *program;
    vk_program *p;
    VkCommandBuffer commands;
    uint32_t slot;
    uint32_t op; /* being timed; UINT32_MAX: none */
} recorder;

static uint32_t begin_of(const recorder *r, uint32_t op) {
    return 2 * (r->slot * r->program->op_count + op);
}

/* Both times of an op are those at which everything before is done, so that the times of ops without a barrier between
 * them add up to the whole. */
static void stamp(const recorder *r, uint32_t query) {
    r->vk->api.vkCmdWriteTimestamp(r->commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, r->p->queries, query);
}

/* Ends the timer of the op before and begins that of `op`; UINT32_MAX ends only. */
static void time_op(recorder *r, uint32_t op) {
    if (!r->p->queries || op == r->op) return;
    if (r->op != UINT32_MAX) stamp(r, begin_of(r, r->op) + 1);
    if (op != UINT32_MAX) stamp(r, begin_of(r, op));
    r->op = op;
}

static void record_dispatch(const recorder *r, const xft_command *c) {
    const vk_loader *api = &r->vk->api;
    const vk_kernel *kernel = c->kernel->impl;
    unsigned char push[XFT_ARGUMENT_BYTES];
    for (uint32_t i = 0; i < kernel->buffers; i++) {
        const vk_buffer *b = c->arguments[i].buffer ? c->arguments[i].buffer->impl : NULL;
        uint64_t address = b ? b->address + c->arguments[i].offset : 0;
        memcpy(push + 8 * i, &address, sizeof address);
    }
    memcpy(push + 8 * kernel->buffers, c->params, kernel->push_bytes - 8 * kernel->buffers);
    api->vkCmdBindPipeline(r->commands, VK_PIPELINE_BIND_POINT_COMPUTE, kernel->pipeline);
    api->vkCmdPushConstants(r->commands, r->vk->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, kernel->push_bytes, push);
    if (c->base[0] || c->base[1] || c->base[2])
        api->vkCmdDispatchBase(r->commands, c->base[0], c->base[1], c->base[2], c->groups[0], c->groups[1],
                               c->groups[2]);
    else
        api->vkCmdDispatch(r->commands, c->groups[0], c->groups[1], c->groups[2]);
}

static void record_copy(const recorder *r, const xft_command *c) {
    const vk_buffer *from = c->from->impl, *to = c->to->impl;
    const uint64_t in_slot = r->slot * r->program->slot_stride;
    const VkBufferCopy region = {.srcOffset = c->from_offset + (c->from->host ? in_slot : 0),
                                 .dstOffset = c->to_offset + (c->to->host ? in_slot : 0),
                                 .size = c->bytes};
    r->vk->api.vkCmdCopyBuffer(r->commands, from->handle, to->handle, 1, &region);
}

/* Records the commands [begin, end): segment number `segment` of the program. */
static xft_status record(recorder *r, uint32_t segment, uint32_t begin, uint32_t end) {
    const vk_loader *api = &r->vk->api;
    const VkCommandBufferAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                                  .commandPool = r->p->pool,
                                                  .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                                  .commandBufferCount = 1};
    VK(api->vkAllocateCommandBuffers(r->vk->device, &allocate, &r->commands));
    /* The same buffer may be pending for several slots. */
    const VkCommandBufferBeginInfo start = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                            .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT};
    VK(api->vkBeginCommandBuffer(r->commands, &start));
    if (segment == 0) {
        /* Earlier submits, of any stream, may still use what this one does. */
        xft_vk_barrier(r->vk, r->commands, false);
        if (r->p->queries)
            api->vkCmdResetQueryPool(r->commands, r->p->queries, begin_of(r, 0), 2 * r->program->op_count);
    }
    for (const xft_command *c = r->program->commands + begin; c < r->program->commands + end; c++) {
        if (c->kind != XFT_COMMAND_BARRIER) time_op(r, c->op_index);
        switch (c->kind) {
        case XFT_COMMAND_DISPATCH:
            record_dispatch(r, c);
            break;
        case XFT_COMMAND_COPY:
            record_copy(r, c);
            break;
        case XFT_COMMAND_BARRIER:
            xft_vk_barrier(r->vk, r->commands, false);
            break;
        }
    }
    if (segment + 1 == r->p->segments) {
        time_op(r, UINT32_MAX);
        xft_vk_barrier(r->vk, r->commands, true); /* the host reads the outputs */
    }
    VK(api->vkEndCommandBuffer(r->commands));
    return XFT_OK;
}

static xft_status record_segment(recorder *r, uint32_t segment, uint32_t begin, uint32_t end) {
    bool per_slot = r->p->queries != VK_NULL_HANDLE;
    for (uint32_t i = begin; i < end && !per_slot; i++) per_slot = at_staging(&r->program->commands[i]);
    VkCommandBuffer *buffers = r->p->buffers + (size_t)segment * r->program->slots;
    const uint32_t op = r->op;
    for (r->slot = 0; r->slot < r->program->slots; r->slot++) {
        if (r->slot == 0 || per_slot) {
            r->op = op; /* an op may go on from one segment to the next */
            XFT_TRY(record(r, segment, begin, end));
        }
        buffers[r->slot] = r->commands;
    }
    return XFT_OK;
}

static xft_status create(xft_program *program, vk_program *p) {
    vk_device *vk = xft_vk(program->device);
    /* An empty recording is one empty segment: its ticket still marks a place in the queue. */
    p->segments = program->cut_count ? program->cut_count : 1;
    p->buffers = calloc((size_t)p->segments * program->slots, sizeof(VkCommandBuffer));
    XFT_FAIL_IF(!p->buffers, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u command buffers", p->segments);
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .queueFamilyIndex = vk->physical.queue_family};
    VK(vk->api.vkCreateCommandPool(vk->device, &pool, NULL, &p->pool));
    if (program->timers && program->op_count) {
        const VkQueryPoolCreateInfo queries = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                               .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                               .queryCount = 2 * program->op_count * program->slots};
        VK(vk->api.vkCreateQueryPool(vk->device, &queries, NULL, &p->queries));
    }
    for (uint32_t i = 0; i < program->count; i++) {
        p->dispatches += program->commands[i].kind == XFT_COMMAND_DISPATCH;
        p->barriers += program->commands[i].kind == XFT_COMMAND_BARRIER;
    }
    recorder r = {.vk = vk, .program = program, .p = p, .op = UINT32_MAX};
    uint32_t begin = 0;
    for (uint32_t i = 0; i < p->segments; i++) {
        uint32_t end = program->cut_count ? program->cuts[i] : 0;
        XFT_TRY(record_segment(&r, i, begin, end));
        begin = end;
    }
    return XFT_OK;
}

xft_status xft_vk_program_create(xft_program *program) {
    program->impl = calloc(1, sizeof(vk_program));
    XFT_FAIL_IF(!program->impl, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a recording");
    xft_status status = create(program, program->impl);
    if (status != XFT_OK) xft_vk_program_destroy(program);
    return status;
}

void xft_vk_program_destroy(xft_program *program) {
    vk_program *p = program->impl;
    if (!p) return;
    vk_device *vk = xft_vk(program->device);
    xft_vk_wait(program->device, p->submitted);
    if (p->queries) vk->api.vkDestroyQueryPool(vk->device, p->queries, NULL);
    if (p->pool) vk->api.vkDestroyCommandPool(vk->device, p->pool, NULL);
    free(p->buffers);
    free(p);
    program->impl = NULL;
}

/* ---- Replaying ---- */

xft_status xft_vk_submit(xft_program *program, uint32_t slot, uint64_t *ticket) {
    vk_device *vk = xft_vk(program->device);
    vk_program *p = program->impl;
    for (uint32_t i = 0; i < p->segments; i++) {
        xft_status status =
            xft_vk_queue_submit(vk, p->buffers[(size_t)i * program->slots + slot], i + 1 == p->segments);
        if (status == XFT_OK) continue;
        if (i > 0) xft_vk_queue_drain(vk);
        return status;
    }
    program->device->counters.dispatches += p->dispatches;
    program->device->counters.barriers += p->barriers;
    *ticket = p->submitted = vk->submitted;
    return XFT_OK;
}

xft_status xft_vk_timings(xft_program *program, uint32_t slot, double *ms) {
    vk_device *vk = xft_vk(program->device);
    const vk_program *p = program->impl;
    XFT_TRY(xft_check_alive(vk->front));
    XFT_FAIL_IF(!p->queries, XFT_ERROR_UNSUPPORTED, "the recording has no timers");
    const uint32_t bits = vk->physical.timestamp_bits;
    const uint64_t mask = bits < 64 ? (UINT64_C(1) << bits) - 1 : UINT64_MAX;
    const double ms_per_tick = vk->physical.properties.properties.limits.timestampPeriod * 1e-6;
    for (uint32_t op = 0; op < program->op_count; op++) {
        struct {
            uint64_t time, available;
        } stamps[2] = {{0, 0}, {0, 0}};
        VkResult result = vk->api.vkGetQueryPoolResults(vk->device, p->queries, 2 * (slot * program->op_count + op), 2,
                                                        sizeof stamps, stamps, sizeof *stamps,
                                                        VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WITH_AVAILABILITY_BIT);
        XFT_TRY(xft_vk_queue_result(vk, result, "vkGetQueryPoolResults"));
        bool known = stamps[0].available && stamps[1].available;
        ms[op] = known ? (double)((stamps[1].time - stamps[0].time) & mask) * ms_per_tick : 0;
    }
    return XFT_OK;
}
