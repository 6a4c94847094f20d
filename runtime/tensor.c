#include "xft/tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

/* ---- Element conversions ---- */

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

float xft_bf16_to_f32(uint16_t bits) {
    return float_of((uint32_t)bits << 16);
}

uint16_t xft_f32_to_bf16(float value) {
    uint32_t u = bits_of(value);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float xft_f16_to_f32(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
    if (exponent == 0) return float_of(bits_of((float)mantissa * 0x1p-24f) | sign);
    if (exponent == 31) return float_of(sign | 0x7f800000 | mantissa << 13);
    return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t xft_f32_to_f16(float value) {
    uint32_t u = bits_of(value), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* rounds to 65536 or more */
    if (a < 0x38800000) {                                  /* subnormal: let the addition round at 2^-24 */
        float shifted = float_of(a) + 0.5f;
        return (uint16_t)(sign | (bits_of(shifted) - bits_of(0.5f)));
    }
    uint32_t r = a - 0x38000000;
    return (uint16_t)(sign | (r + 0xfff + (r >> 13 & 1)) >> 13);
}

/* ---- Shapes ---- */

static uint64_t round_up(uint64_t value, uint64_t step) {
    return (value + step - 1) / step * step;
}

uint32_t xft_rows(const xft_tensor *t) {
    uint32_t rows = 1;
    for (uint32_t i = 0; t && i + 1 < t->rank; i++) rows *= t->shape[i];
    return t ? rows : 0;
}

uint32_t xft_cols(const xft_tensor *t) {
    return t ? t->shape[t->rank - 1] : 0;
}

uint64_t xft_bytes(const xft_tensor *t) {
    return !t ? 0 : (uint64_t)xft_rows(t) * t->pitch * xft_dtype_size(t->dtype);
}

static uint32_t pitch_of(xft_dtype dtype, uint32_t cols) {
    return (uint32_t)round_up(cols, xft_dtype_size(dtype) == 2 ? 8 : 4);
}

/* A tensor without memory; checks rank, dtype, extents, and that it stays below 4 GiB. */
static xft_status describe(const char *function, xft_dtype dtype, uint32_t rank, const uint32_t *shape, xft_tensor *t) {
    XFT_FAIL_IF(xft_dtype_size(dtype) == 0, XFT_ERROR_INVALID_ARGUMENT, "%s: dtype is %d, which is none", function,
                (int)dtype);
    XFT_FAIL_IF(rank < 1 || rank > 4, XFT_ERROR_INVALID_ARGUMENT, "%s: rank is %u; expected 1 to 4", function, rank);
    XFT_FAIL_IF(!shape, XFT_ERROR_INVALID_ARGUMENT, "%s: shape is NULL", function);
    *t = (xft_tensor){.dtype = dtype, .rank = rank, .shape = {1, 1, 1, 1}};
    uint64_t rows = 1;
    for (uint32_t i = 0; i < rank; i++) {
        XFT_FAIL_IF(shape[i] == 0 || shape[i] > INT32_MAX, XFT_ERROR_INVALID_ARGUMENT,
                    "%s: shape[%u] is %u; expected 1 to 2147483647", function, i, shape[i]);
        t->shape[i] = shape[i];
        if (i + 1 < rank) rows *= shape[i];
        XFT_FAIL_IF(rows > UINT32_MAX, XFT_ERROR_UNSUPPORTED, "%s: more than 2^32 rows", function);
    }
    t->pitch = pitch_of(dtype, shape[rank - 1]);
    XFT_FAIL_IF(rows * t->pitch > (UINT64_C(1) << 32) / xft_dtype_size(dtype) - 512, XFT_ERROR_UNSUPPORTED,
                "%s: a tensor of %llu x %u %s takes %.2f GiB; one tensor must stay below 4 GiB", function,
                (unsigned long long)rows, shape[rank - 1], xft_dtype_name(dtype),
                (double)rows * t->pitch * xft_dtype_size(dtype) / 0x1p30);
    return XFT_OK;
}

/* What lies behind a tensor in an arena of this device before the next one begins. */
static uint64_t footprint(const xft_device *device, const xft_tensor *t) {
    uint64_t canary = device->options.debug & XFT_DEBUG_CANARIES ? device->info.alignment : 0;
    return round_up(xft_bytes(t), device->info.alignment) + canary;
}

uint64_t xft_tensor_footprint(const xft_device *device, xft_dtype dtype, uint32_t rank, const uint32_t *shape) {
    xft_tensor t;
    if (!device || describe("xft_tensor_footprint", dtype, rank, shape, &t) != XFT_OK) return 0;
    return footprint(device, &t);
}

xft_status xft_tensor_check(const char *function, const char *name, const xft_tensor *t) {
    XFT_FAIL_IF(!t, XFT_ERROR_INVALID_ARGUMENT, "%s: %s is NULL", function, name);
    XFT_FAIL_IF(!t->buffer, XFT_ERROR_INVALID_ARGUMENT, "%s: %s has no memory", function, name);
    uint32_t size = xft_dtype_size(t->dtype);
    XFT_FAIL_IF(!size, XFT_ERROR_INVALID_ARGUMENT, "%s: the dtype of %s is %d, which is none", function, name,
                (int)t->dtype);
    XFT_FAIL_IF(t->rank < 1 || t->rank > 4, XFT_ERROR_INVALID_ARGUMENT, "%s: %s has rank %u; expected 1 to 4", function,
                name, t->rank);
    uint64_t rows = 1, most = t->buffer->size; /* of one element each: no product below can overflow */
    for (uint32_t i = 0; i < t->rank; i++) {
        XFT_FAIL_IF(t->shape[i] == 0, XFT_ERROR_INVALID_ARGUMENT, "%s: shape[%u] of %s is 0", function, i, name);
        if (i + 1 < t->rank && rows <= most) rows *= t->shape[i];
    }
    XFT_FAIL_IF(t->pitch < xft_cols(t) || t->pitch % (16 / size), XFT_ERROR_INVALID_ARGUMENT,
                "%s: the pitch of %s is %u; expected a multiple of %u from %u columns on", function, name, t->pitch,
                16 / size, xft_cols(t));
    XFT_FAIL_IF(t->offset % 16, XFT_ERROR_INVALID_ARGUMENT, "%s: the offset of %s is %llu; expected a multiple of 16",
                function, name, (unsigned long long)t->offset);
    XFT_FAIL_IF(t->offset > most || rows > (most - t->offset) / size / t->pitch, XFT_ERROR_INVALID_ARGUMENT,
                "%s: %s, %llu rows of %u %s, reaches beyond its memory of %llu bytes", function, name,
                (unsigned long long)rows, t->pitch, xft_dtype_name(t->dtype), (unsigned long long)most);
    return XFT_OK;
}

static xft_status check_view(const char *function, const xft_tensor *t, const xft_tensor *view) {
    XFT_TRY(xft_tensor_check(function, "tensor", t));
    XFT_FAIL_IF(!view, XFT_ERROR_INVALID_ARGUMENT, "%s: view is NULL", function);
    return XFT_OK;
}

xft_status xft_tensor_rows(const xft_tensor *t, uint32_t first, uint32_t count, xft_tensor *view) {
    XFT_TRY(check_view("xft_tensor_rows", t, view));
    uint32_t rows = xft_rows(t);
    XFT_FAIL_IF(count == 0 || first >= rows || count > rows - first, XFT_ERROR_INVALID_ARGUMENT,
                "xft_tensor_rows: first %u and count %u of a tensor of %u rows", first, count, rows);
    *view = (xft_tensor){.buffer = t->buffer,
                         .offset = t->offset + (uint64_t)first * t->pitch * xft_dtype_size(t->dtype),
                         .dtype = t->dtype,
                         .rank = 2,
                         .shape = {count, xft_cols(t), 1, 1},
                         .pitch = t->pitch};
    return XFT_OK;
}

xft_status xft_tensor_at(const xft_tensor *t, uint32_t index, xft_tensor *view) {
    XFT_TRY(check_view("xft_tensor_at", t, view));
    XFT_FAIL_IF(t->rank < 2, XFT_ERROR_INVALID_ARGUMENT, "xft_tensor_at: tensor has rank %u; expected 2 to 4", t->rank);
    XFT_FAIL_IF(index >= t->shape[0], XFT_ERROR_INVALID_ARGUMENT, "xft_tensor_at: index is %u; expected below %u",
                index, t->shape[0]);
    xft_tensor entry = *t;
    entry.rank = t->rank - 1;
    for (uint32_t i = 0; i < 4; i++) entry.shape[i] = i + 1 < 4 ? t->shape[i + 1] : 1;
    entry.offset += index * xft_bytes(&entry);
    *view = entry;
    return XFT_OK;
}

xft_status xft_tensor_reshape(const xft_tensor *t, uint32_t rank, const uint32_t *shape, xft_tensor *view) {
    XFT_TRY(check_view("xft_tensor_reshape", t, view));
    xft_tensor other;
    XFT_TRY(describe("xft_tensor_reshape", t->dtype, rank, shape, &other));
    XFT_FAIL_IF(xft_rows(&other) != xft_rows(t) || xft_cols(&other) != xft_cols(t), XFT_ERROR_INVALID_ARGUMENT,
                "xft_tensor_reshape: %u rows of %u asked of a tensor of %u rows of %u", xft_rows(&other),
                xft_cols(&other), xft_rows(t), xft_cols(t));
    other.buffer = t->buffer;
    other.offset = t->offset;
    other.pitch = t->pitch;
    *view = other;
    return XFT_OK;
}

/* ---- Arenas ---- */

static const uint32_t canary_word = 0xca9a21e5;

typedef struct placed {
    xft_tensor tensor;
    uint64_t end; /* arena bytes used once it was placed */
} placed;

struct xft_arena {
    xft_device *device;
    char name[48];
    uint64_t limit; /* 0: none */
    uint64_t used;  /* bytes of tensors, padding and canaries included */
    /* Buffers are filled one after the other; a tensor that does not fit the rest of one goes to the next. */
    struct chunk {
        xft_buffer buffer;
        uint64_t used, start; /* start: arena bytes used when it became current */
    } * *chunks;
    uint32_t chunk_count, chunk_room, current;
    placed *tensors;
    uint32_t tensor_count, tensor_room;
};

xft_status xft_arena_create(xft_device *device, const char *name, uint64_t bytes, xft_arena **arena) {
    XFT_NEED(arena);
    *arena = NULL;
    XFT_NEED(device);
    xft_arena *a = calloc(1, sizeof *a);
    XFT_FAIL_IF(!a, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for an arena");
    a->device = device;
    a->limit = bytes;
    snprintf(a->name, sizeof a->name, "%s", name ? name : "arena");
    *arena = a;
    return XFT_OK;
}

static void drop_chunk(xft_arena *a) {
    struct chunk *c = a->chunks[--a->chunk_count];
    a->device->driver->buffer_destroy(&c->buffer);
    a->device->counters.buffers--;
    a->device->counters.buffer_bytes -= c->buffer.size;
    free(c);
}

void xft_arena_destroy(xft_arena *a) {
    if (!a) return;
    while (a->chunk_count) drop_chunk(a);
    free(a->chunks);
    free(a->tensors);
    free(a);
}

static xft_status add_chunk(xft_arena *a, uint64_t size) {
    if (a->chunk_count == a->chunk_room) {
        uint32_t room = a->chunk_room ? 2 * a->chunk_room : 8;
        void *grown = realloc(a->chunks, room * sizeof *a->chunks);
        XFT_FAIL_IF(!grown, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the list of buffers of arena %s", a->name);
        a->chunks = grown;
        a->chunk_room = room;
    }
    struct chunk *c = calloc(1, sizeof *c);
    XFT_FAIL_IF(!c, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a buffer of arena %s", a->name);
    c->buffer.device = a->device;
    c->buffer.size = size;
    xft_status status = a->device->driver->buffer_create(a->device, size, false, &c->buffer);
    if (status != XFT_OK) {
        free(c);
        return xft_fail_in(status, "arena %s, %llu bytes beside %llu in use", a->name, (unsigned long long)size,
                           (unsigned long long)a->used);
    }
    a->device->counters.buffers++;
    a->device->counters.buffer_bytes += size;
    a->chunks[a->chunk_count++] = c;
    return XFT_OK;
}

static bool separates(const xft_arena *a) {
    return a->device->options.debug & XFT_DEBUG_SEPARATE_BUFFERS;
}

xft_status xft_arena_reserve(xft_arena *a, uint64_t bytes) {
    XFT_FAIL_IF(!a, XFT_ERROR_INVALID_ARGUMENT, "xft_arena_reserve: arena is NULL");
    const uint64_t most = a->device->info.max_allocation_bytes;
    uint64_t held = 0;
    for (uint32_t i = 0; i < a->chunk_count; i++) held += a->chunks[i]->buffer.size;
    XFT_FAIL_IF(!bytes || bytes > most, XFT_ERROR_INVALID_ARGUMENT,
                "xft_arena_reserve: bytes is %llu; one allocation on %s holds 1 to %llu", (unsigned long long)bytes,
                a->device->info.id, (unsigned long long)most);
    XFT_FAIL_IF(a->limit && (held > a->limit || bytes > a->limit - held), XFT_ERROR_OUT_OF_DEVICE_MEMORY,
                "xft_arena_reserve: %llu bytes beside %llu; arena %s is limited to %llu", (unsigned long long)bytes,
                (unsigned long long)held, a->name, (unsigned long long)a->limit);
    return separates(a) ? XFT_OK : add_chunk(a, bytes);
}

/* Finds room for `bytes`: in the current buffer, a later one that a release left empty, or a new one. */
static xft_status find_room(xft_arena *a, uint64_t bytes, struct chunk **room) {
    bool separate = separates(a);
    for (; a->current < a->chunk_count; a->current++) {
        struct chunk *c = a->chunks[a->current];
        if (c->used == 0) c->start = a->used;
        if (c->buffer.size - c->used >= bytes && !(separate && c->used)) {
            *room = c;
            return XFT_OK;
        }
        if (c->used == 0 && a->current + 1 == a->chunk_count) { /* too small and empty: replace it */
            drop_chunk(a);
            break;
        }
    }
    uint64_t size = bytes, most = a->device->info.max_allocation_bytes;
    if (!separate) {
        size = a->limit ? a->limit - a->used : UINT64_C(64) << 20;
        if (size < bytes) size = bytes;
        if (size > most) size = most / a->device->info.alignment * a->device->info.alignment;
    }
    XFT_TRY(add_chunk(a, size));
    a->current = a->chunk_count - 1;
    a->chunks[a->current]->start = a->used;
    *room = a->chunks[a->current];
    return XFT_OK;
}

static xft_status fill_words(xft_buffer *buffer, uint64_t offset, uint64_t bytes, uint32_t word) {
    uint32_t block[1024];
    for (size_t i = 0; i < sizeof block / 4; i++) block[i] = word;
    for (uint64_t at = 0; at < bytes; at += sizeof block) {
        uint64_t n = bytes - at < sizeof block ? bytes - at : sizeof block;
        XFT_TRY(buffer->device->driver->buffer_write(buffer, offset + at, block, n));
    }
    return XFT_OK;
}

xft_status xft_tensor_create(xft_arena *a, xft_dtype dtype, uint32_t rank, const uint32_t *shape, xft_tensor *tensor) {
    XFT_NEED(tensor);
    XFT_FAIL_IF(!a, XFT_ERROR_INVALID_ARGUMENT, "xft_tensor_create: arena is NULL");
    xft_tensor t;
    XFT_TRY(describe("xft_tensor_create", dtype, rank, shape, &t));
    uint64_t bytes = footprint(a->device, &t), most = a->device->info.max_allocation_bytes;
    XFT_FAIL_IF(bytes > most, XFT_ERROR_OUT_OF_DEVICE_MEMORY,
                "arena %s: a tensor of %llu bytes; one allocation on %s holds at most %llu", a->name,
                (unsigned long long)bytes, a->device->info.id, (unsigned long long)most);
    XFT_FAIL_IF(a->limit && bytes > a->limit - a->used, XFT_ERROR_OUT_OF_DEVICE_MEMORY,
                "arena %s: a tensor of %llu bytes does not fit: %llu of %llu bytes are in use", a->name,
                (unsigned long long)bytes, (unsigned long long)a->used, (unsigned long long)a->limit);
    if (a->tensor_count == a->tensor_room) {
        uint32_t room = a->tensor_room ? 2 * a->tensor_room : 64;
        placed *grown = realloc(a->tensors, room * sizeof *grown);
        XFT_FAIL_IF(!grown, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the list of tensors of arena %s", a->name);
        a->tensors = grown;
        a->tensor_room = room;
    }
    struct chunk *chunk;
    XFT_TRY(find_room(a, bytes, &chunk));
    t.buffer = &chunk->buffer;
    t.offset = chunk->used;
    if (a->device->options.debug & XFT_DEBUG_POISON)
        XFT_TRY(fill_words(t.buffer, t.offset, round_up(xft_bytes(&t), 4), 0x7fc07fc0)); /* NaN as f32, bf16, f16 */
    if (a->device->options.debug & XFT_DEBUG_CANARIES) {
        uint64_t behind = t.offset + xft_bytes(&t);
        XFT_TRY(fill_words(t.buffer, behind, t.offset + bytes - behind, canary_word));
    }
    chunk->used += bytes;
    a->used += bytes;
    a->tensors[a->tensor_count++] = (placed){.tensor = t, .end = a->used};
    *tensor = t;
    return XFT_OK;
}

uint64_t xft_arena_mark(const xft_arena *a) {
    return a ? a->used : 0;
}

uint64_t xft_arena_used(const xft_arena *a) {
    return a ? a->used : 0;
}

void xft_arena_release(xft_arena *a, uint64_t mark) {
    if (!a || mark >= a->used) return;
    while (a->tensor_count && a->tensors[a->tensor_count - 1].end > mark) a->tensor_count--;
    for (uint32_t i = 0; i < a->chunk_count; i++) {
        struct chunk *c = a->chunks[i];
        if (i > a->current || c->used == 0) continue;
        if (c->start >= mark) {
            c->used = 0;
        } else if (c->start + c->used > mark) {
            c->used = mark - c->start;
        }
    }
    while (a->current > 0 && a->chunks[a->current]->used == 0) a->current--;
    a->used = mark;
}

xft_status xft_arena_check(xft_arena *a) {
    XFT_FAIL_IF(!a, XFT_ERROR_INVALID_ARGUMENT, "xft_arena_check: arena is NULL");
    XFT_FAIL_IF(!(a->device->options.debug & XFT_DEBUG_CANARIES), XFT_ERROR_INVALID_ARGUMENT,
                "xft_arena_check: device %s was opened without XFT_DEBUG_CANARIES", a->device->info.id);
    for (uint32_t i = 0; i < a->tensor_count; i++) {
        const xft_tensor *t = &a->tensors[i].tensor;
        uint64_t behind = t->offset + xft_bytes(t), end = t->offset + footprint(a->device, t);
        for (uint64_t at = behind; at < end;) {
            uint32_t block[256];
            uint64_t n = end - at < sizeof block ? end - at : sizeof block;
            XFT_TRY(a->device->driver->buffer_read(t->buffer, at, block, n));
            for (uint64_t w = 0; w < n / 4; w++)
                XFT_FAIL_IF(block[w] != canary_word, XFT_ERROR_INVALID_ARGUMENT,
                            "arena %s: something was written %llu bytes behind tensor %u [%u,%u,%u,%u] %s", a->name,
                            (unsigned long long)(at + 4 * w - behind), i, t->shape[0], t->shape[1], t->shape[2],
                            t->shape[3], xft_dtype_name(t->dtype));
            at += n;
        }
    }
    return XFT_OK;
}

/* ---- Data in and out ---- */

static xft_status check_transfer(const char *function, const xft_tensor *t, xft_dtype dtype, const void *data) {
    XFT_TRY(xft_tensor_check(function, "tensor", t));
    XFT_FAIL_IF(!data, XFT_ERROR_INVALID_ARGUMENT, "%s: data is NULL", function);
    XFT_FAIL_IF(dtype != t->dtype && (dtype != XFT_F32 || t->dtype == XFT_U32), XFT_ERROR_INVALID_ARGUMENT,
                "%s: dtype is %s; expected %s%s", function, xft_dtype_name(dtype), xft_dtype_name(t->dtype),
                t->dtype == XFT_U32 ? "" : " or f32");
    return xft_check_alive(t->buffer->device);
}

/* Rows that go through one block of host memory at a time. */
static uint32_t rows_per_block(const xft_tensor *t) {
    uint64_t row = (uint64_t)t->pitch * xft_dtype_size(t->dtype), rows = (UINT64_C(16) << 20) / row;
    return rows < 1 ? 1 : rows > xft_rows(t) ? xft_rows(t) : (uint32_t)rows;
}

static void convert_in(const float *from, uint16_t *to, uint32_t count, xft_dtype dtype) {
    for (uint32_t i = 0; i < count; i++) to[i] = dtype == XFT_BF16 ? xft_f32_to_bf16(from[i]) : xft_f32_to_f16(from[i]);
}

static void convert_out(const uint16_t *from, float *to, uint32_t count, xft_dtype dtype) {
    for (uint32_t i = 0; i < count; i++) to[i] = dtype == XFT_BF16 ? xft_bf16_to_f32(from[i]) : xft_f16_to_f32(from[i]);
}

xft_status xft_tensor_write(const xft_tensor *t, xft_dtype dtype, const void *data) {
    XFT_TRY(check_transfer("xft_tensor_write", t, dtype, data));
    const xft_driver *driver = t->buffer->device->driver;
    uint32_t rows = xft_rows(t), cols = xft_cols(t), size = xft_dtype_size(t->dtype);
    if (dtype == t->dtype && cols == t->pitch) return driver->buffer_write(t->buffer, t->offset, data, xft_bytes(t));
    uint32_t step = rows_per_block(t);
    uint64_t pitch = (uint64_t)t->pitch * size;
    unsigned char *block = calloc(step, pitch);
    XFT_FAIL_IF(!block, XFT_ERROR_OUT_OF_HOST_MEMORY, "xft_tensor_write: no memory for %u rows", step);
    xft_status status = XFT_OK;
    for (uint32_t first = 0; first < rows && status == XFT_OK; first += step) {
        uint32_t count = rows - first < step ? rows - first : step;
        for (uint32_t r = 0; r < count; r++) {
            size_t element = (size_t)(first + r) * cols;
            if (dtype == t->dtype)
                memcpy(block + r * pitch, (const unsigned char *)data + element * size, (size_t)cols * size);
            else
                convert_in((const float *)data + element, (uint16_t *)(void *)(block + r * pitch), cols, t->dtype);
        }
        status = driver->buffer_write(t->buffer, t->offset + first * pitch, block, count * pitch);
    }
    free(block);
    return status;
}

xft_status xft_tensor_read(const xft_tensor *t, xft_dtype dtype, void *data) {
    XFT_TRY(check_transfer("xft_tensor_read", t, dtype, data));
    const xft_driver *driver = t->buffer->device->driver;
    uint32_t rows = xft_rows(t), cols = xft_cols(t), size = xft_dtype_size(t->dtype);
    if (dtype == t->dtype && cols == t->pitch) return driver->buffer_read(t->buffer, t->offset, data, xft_bytes(t));
    uint32_t step = rows_per_block(t);
    uint64_t pitch = (uint64_t)t->pitch * size;
    unsigned char *block = malloc(step * pitch);
    XFT_FAIL_IF(!block, XFT_ERROR_OUT_OF_HOST_MEMORY, "xft_tensor_read: no memory for %u rows", step);
    xft_status status = XFT_OK;
    for (uint32_t first = 0; first < rows && status == XFT_OK; first += step) {
        uint32_t count = rows - first < step ? rows - first : step;
        status = driver->buffer_read(t->buffer, t->offset + first * pitch, block, count * pitch);
        for (uint32_t r = 0; r < count && status == XFT_OK; r++) {
            size_t element = (size_t)(first + r) * cols;
            if (dtype == t->dtype)
                memcpy((unsigned char *)data + element * size, block + r * pitch, (size_t)cols * size);
            else
                convert_out((const uint16_t *)(const void *)(block + r * pitch), (float *)data + element, cols,
                            t->dtype);
        }
    }
    free(block);
    return status;
}
