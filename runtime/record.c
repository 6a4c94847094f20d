#include "record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "choice.h"
#include "stream.h"

xft_device *xft_stream_device(const xft_stream *stream) {
    return stream->device;
}

xft_status xft_stream_state(const xft_stream *stream) {
    XFT_FAIL_IF(!stream, XFT_ERROR_INVALID_ARGUMENT, "stream is NULL");
    if (stream->status != XFT_OK)
        return xft_fail(stream->status, "%s", stream->message ? stream->message : "an earlier op failed");
    return XFT_OK;
}

xft_status xft_stream_stick(xft_stream *stream, xft_status status) {
    if (status != XFT_OK && stream->status == XFT_OK) {
        stream->status = status;
        stream->message = strdup(xft_error());
    }
    return status;
}

xft_status xft_check_argument(xft_stream *stream, const char *op, const char *name, const xft_tensor *tensor,
                              uint32_t dtypes, uint32_t rows, uint32_t cols) {
    XFT_TRY(xft_stream_state(stream));
    XFT_TRY(xft_stream_stick(stream, xft_tensor_check(op, name, tensor)));
    XFT_OP_FAIL_IF(tensor->buffer->device != stream->device, stream, "%s: %s lies on device %s, the stream on %s", op,
                   name, tensor->buffer->device->info.id, stream->device->info.id);
    XFT_OP_FAIL_IF(!(dtypes >> tensor->dtype & 1), stream, "%s: %s is %s, which this argument cannot be", op, name,
                   xft_dtype_name(tensor->dtype));
    XFT_OP_FAIL_IF(rows && xft_rows(tensor) != rows, stream, "%s: %s has %u rows; expected %u", op, name,
                   xft_rows(tensor), rows);
    XFT_OP_FAIL_IF(cols && xft_cols(tensor) != cols, stream, "%s: %s has %u columns; expected %u", op, name,
                   xft_cols(tensor), cols);
    return XFT_OK;
}

uint32_t xft_groups_for(const xft_device *device, uint32_t items) {
    uint32_t most = 16384;
    if (device->info.device_class == XFT_CLASS_CPU) {
        const uint32_t few = 4 * (device->info.compute_units ? device->info.compute_units : 8), needed = items / 32;
        most = few > needed ? few : needed;
    }
    return items < 1 ? 1 : items < most ? items : most;
}

/* One of the `count` numbers for `key`: the one that is known, else the rule's. */
static uint32_t choose_number(const xft_device *device, const char *key, const uint32_t *numbers, uint32_t count,
                              uint32_t rule) {
    const char *known = xft_choice_get(device, key);
    char text[16];
    for (uint32_t i = 0; i < count && known; i++) {
        snprintf(text, sizeof text, "%u", numbers[i]);
        if (!strcmp(known, text)) rule = numbers[i];
    }
    snprintf(text, sizeof text, "%u", rule);
    xft_choice_note(device, key, text);
    return rule;
}

uint32_t xft_workgroup_for(const xft_device *device) {
    static const uint32_t sizes[] = {64, 128, 256};
    const bool cpu = device->info.device_class == XFT_CLASS_CPU;
    return choose_number(device, "workgroup", sizes, 3, cpu ? 64 : device->info.max_workgroup_size < 256 ? 128 : 256);
}

uint32_t xft_lanes_for(const xft_device *device) {
    static const uint32_t lanes[] = {0, 8, 16};
    const uint32_t native = device->info.native_vector_width;
    if (device->info.api != XFT_API_OPENCL || device->info.device_class != XFT_CLASS_CPU) return 0;
    return choose_number(device, "lanes", lanes, 3, native >= 16 ? 16 : native >= 4 ? 8 : 0);
}

bool xft_ranges_conflict(const xft_range *a, const xft_range *b) {
    return a->buffer == b->buffer && a->begin < b->end && b->begin < a->end && ((a->access | b->access) & XFT_WRITE);
}

xft_status xft_check_apart(xft_stream *stream, const char *op, uint32_t outputs, const xft_named_argument *arguments,
                           uint32_t count) {
    for (uint32_t i = 0; i < outputs; i++)
        for (uint32_t j = i + 1; j < count; j++) {
            const xft_tensor *a = arguments[i].tensor, *b = arguments[j].tensor;
            if (!a || !b) continue;
            XFT_OP_FAIL_IF(
                a->buffer == b->buffer && a->offset < b->offset + xft_bytes(b) && b->offset < a->offset + xft_bytes(a),
                stream, "%s: %s and %s overlap, and one of them is written", op, arguments[i].name, arguments[j].name);
        }
    return XFT_OK;
}

static xft_recorded *next_op(xft_stream *stream) {
    if (stream->op_count == stream->op_room) {
        uint32_t room = stream->op_room ? 2 * stream->op_room : 64;
        xft_recorded *grown = realloc(stream->ops, room * sizeof *grown);
        if (!grown) return NULL;
        stream->ops = grown;
        stream->op_room = room;
    }
    xft_recorded *op = &stream->ops[stream->op_count];
    memset(op, 0, sizeof *op);
    return op;
}

double xft_estimate_ms(const xft_device *device, double flops, double bytes) {
    bool cpu = device->info.device_class == XFT_CLASS_CPU;
    double compute = flops / (cpu ? 5e6 : 2e8), traffic = bytes / (cpu ? 2e6 : 2e7);
    return 0.005 + (compute > traffic ? compute : traffic);
}

static xft_status fill_ranges(xft_stream *stream, const xft_op_info *info, const xft_dispatch *d, xft_recorded *op) {
    for (uint32_t i = 0; i < info->buffer_count; i++) {
        const xft_tensor *t = d->tensors[i];
        XFT_OP_FAIL_IF(!t && !info->optional[i], stream, "%s: %s is NULL", info->name, info->buffer_names[i]);
        if (!t) continue;
        XFT_TRY(xft_check_argument(stream, info->name, info->buffer_names[i], t, ~0u, 0, 0));
        op->command.arguments[i] = (xft_argument){t->buffer, t->offset, xft_bytes(t), t->dtype};
        xft_range range = {t->buffer, t->offset, t->offset + xft_bytes(t), info->access[i]};
        for (uint32_t j = 0, k = 0; j < i; j++) {
            if (!d->tensors[j]) continue;
            XFT_OP_FAIL_IF(xft_ranges_conflict(&range, &op->ranges[k]), stream,
                           "%s: %s and %s overlap, and one of them is written", info->name, info->buffer_names[j],
                           info->buffer_names[i]);
            k++;
        }
        op->ranges[op->range_count++] = range;
    }
    return XFT_OK;
}

xft_status xft_record(xft_stream *stream, const xft_dispatch *d) {
    XFT_TRY(xft_stream_state(stream));
    const xft_op_info *info = xft_op_get_info(d->op);
    xft_device *device = stream->device;
    XFT_TRY(xft_stream_stick(stream, xft_choices_noted(device)));
    XFT_OP_FAIL_IF(stream->phase > XFT_RECORDING_OPS, stream, "%s: recorded after %s", info->name,
                   stream->phase == XFT_FINISHED ? "xft_stream_finish" : "xft_stream_output");
    XFT_OP_FAIL_IF(d->param_size != 4 * info->param_words, stream, "%s: %u bytes of parameters; expected %u",
                   info->name, d->param_size, 4 * info->param_words);
    const char *variant = d->variant ? d->variant : "";
    const xft_kernel_source *source = xft_kernel_find(d->op, variant, device->info.api);
    if (!source && device->info.api == XFT_API_OTHER) source = xft_kernel_find(d->op, "", XFT_API_VULKAN);
    if (!source || source->size == 0)
        return xft_stream_stick(stream, xft_fail(XFT_ERROR_UNSUPPORTED, "%s: there is no form \"%s\" for %s",
                                                 info->name, variant, device->driver->name));
    for (int i = 0; i < 3; i++) {
        if (d->groups[i] == 0) return XFT_OK; /* nothing to do */
        XFT_OP_FAIL_IF(d->groups[i] > device->info.max_groups[i], stream,
                       "%s: %u work-groups in dimension %d; %s allows %u", info->name, d->groups[i], i, device->info.id,
                       device->info.max_groups[i]);
    }
    XFT_OP_FAIL_IF(d->constants[0] == 0 || d->constants[0] > device->info.max_workgroup_size, stream,
                   "%s: work-groups of %u; %s allows %u", info->name, d->constants[0], device->info.id,
                   device->info.max_workgroup_size);
    xft_recorded *op = next_op(stream);
    if (!op)
        return xft_stream_stick(stream, xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory to record %s", info->name));
    op->name = info->name;
    op->command.kind = XFT_COMMAND_DISPATCH;
    XFT_TRY(fill_ranges(stream, info, d, op));
    XFT_TRY(xft_stream_stick(stream, xft_kernel_get(device, source, d->constants, &op->command.kernel)));
    memcpy(op->command.params, d->params, d->param_size);
    memcpy(op->command.groups, d->groups, sizeof op->command.groups);
    op->command.op_index = stream->op_count;
    double bytes = d->bytes;
    if (bytes == 0)
        for (uint32_t i = 0; i < op->range_count; i++) bytes += (double)(op->ranges[i].end - op->ranges[i].begin);
    op->cost_ms = xft_estimate_ms(device, d->flops, bytes);
    stream->phase = XFT_RECORDING_OPS;
    stream->op_count++;
    return XFT_OK;
}

/* A copy between a tensor and the staging slot; the staging buffer is filled in when the stream is finished. */
static xft_status record_copy(xft_stream *stream, const xft_tensor *tensor, bool in, uint64_t *at) {
    const char *function = in ? "xft_stream_input" : "xft_stream_output";
    XFT_TRY(xft_check_argument(stream, function, "tensor", tensor, ~0u, 0, 0));
    XFT_OP_FAIL_IF(!at, stream, "%s: at is NULL", function);
    XFT_OP_FAIL_IF(in && stream->phase != XFT_RECORDING_INPUTS, stream, "%s: after the first op", function);
    XFT_OP_FAIL_IF(stream->phase == XFT_FINISHED, stream, "%s: after xft_stream_finish", function);
    xft_recorded *op = next_op(stream);
    if (!op) return xft_stream_stick(stream, xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory to record a copy"));
    uint64_t bytes = xft_bytes(tensor);
    op->name = in ? "input" : "output";
    op->command.kind = XFT_COMMAND_COPY;
    op->command.bytes = bytes;
    op->command.op_index = stream->op_count;
    if (in) {
        op->command.to = tensor->buffer;
        op->command.to_offset = tensor->offset;
        op->command.from_offset = stream->staging_bytes;
    } else {
        op->command.from = tensor->buffer;
        op->command.from_offset = tensor->offset;
        op->command.to_offset = stream->staging_bytes;
        stream->phase = XFT_RECORDING_OUTPUTS;
    }
    op->ranges[0] = (xft_range){tensor->buffer, tensor->offset, tensor->offset + bytes, in ? XFT_WRITE : XFT_READ};
    op->range_count = 1;
    op->cost_ms = xft_estimate_ms(stream->device, 0, 2 * (double)bytes);
    *at = stream->staging_bytes;
    stream->staging_bytes += (bytes + 63) / 64 * 64;
    stream->op_count++;
    return XFT_OK;
}

xft_status xft_stream_input(xft_stream *stream, const xft_tensor *tensor, uint64_t *at) {
    return record_copy(stream, tensor, true, at);
}

xft_status xft_stream_output(xft_stream *stream, const xft_tensor *tensor, uint64_t *at) {
    return record_copy(stream, tensor, false, at);
}
