/* The safetensors format: a checked map for reading, an atomic writer. */
#include "xft/safetensors.h"

#include "error.h"
#include "files.h"
#include "xft/tensor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_LIMIT = 100000000 };

static const struct {
    const char *name;
    uint32_t size;
} dtypes[XFT_STORED_DTYPE_COUNT] = {
    [XFT_STORED_BOOL] = {"BOOL", 1},       [XFT_STORED_U8] = {"U8", 1},           [XFT_STORED_I8] = {"I8", 1},
    [XFT_STORED_F8_E5M2] = {"F8_E5M2", 1}, [XFT_STORED_F8_E4M3] = {"F8_E4M3", 1}, [XFT_STORED_I16] = {"I16", 2},
    [XFT_STORED_U16] = {"U16", 2},         [XFT_STORED_F16] = {"F16", 2},         [XFT_STORED_BF16] = {"BF16", 2},
    [XFT_STORED_I32] = {"I32", 4},         [XFT_STORED_U32] = {"U32", 4},         [XFT_STORED_F32] = {"F32", 4},
    [XFT_STORED_F64] = {"F64", 8},         [XFT_STORED_I64] = {"I64", 8},         [XFT_STORED_U64] = {"U64", 8},
};

struct xft_safetensors {
    char *path;
    const unsigned char *map;
    uint64_t size;
    json_t *header;             /* owns the names */
    xft_stored_tensor *tensors; /* in the order of their data */
    const xft_stored_tensor **by_name;
    uint32_t count;
};

const char *xft_stored_dtype_name(xft_stored_dtype dtype) {
    return (unsigned)dtype < XFT_STORED_DTYPE_COUNT ? dtypes[dtype].name : "?";
}

uint32_t xft_stored_dtype_size(xft_stored_dtype dtype) {
    return (unsigned)dtype < XFT_STORED_DTYPE_COUNT ? dtypes[dtype].size : 0;
}

/* ---- Reading ---- */

/* One entry of the header into *t; begin and end are its data_offsets. */
static xft_status parse_entry(const char *path, const char *name, json_t *entry, uint64_t data_bytes,
                              const unsigned char *data, xft_stored_tensor *t) {
    XFT_FAIL_IF(!json_is_object(entry), XFT_ERROR_FORMAT, "%s: tensor %s: not a JSON object", path, name);
    const char *key;
    json_t *value;
    json_object_foreach(entry, key, value) {
        XFT_FAIL_IF(strcmp(key, "dtype") && strcmp(key, "shape") && strcmp(key, "data_offsets"), XFT_ERROR_FORMAT,
                    "%s: tensor %s: unknown key \"%s\" (expected dtype, shape, data_offsets)", path, name, key);
    }
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    XFT_FAIL_IF(!dtype, XFT_ERROR_FORMAT, "%s: tensor %s: no dtype", path, name);
    uint32_t d = 0;
    while (d < XFT_STORED_DTYPE_COUNT && strcmp(dtypes[d].name, dtype)) d++;
    XFT_FAIL_IF(d == XFT_STORED_DTYPE_COUNT, XFT_ERROR_FORMAT, "%s: tensor %s: unknown dtype \"%s\"", path, name,
                dtype);
    json_t *shape = json_object_get(entry, "shape");
    XFT_FAIL_IF(!json_is_array(shape), XFT_ERROR_FORMAT, "%s: tensor %s: shape is no array", path, name);
    XFT_FAIL_IF(json_array_size(shape) > XFT_STORED_MAX_RANK, XFT_ERROR_FORMAT,
                "%s: tensor %s: rank %zu, at most %d supported", path, name, json_array_size(shape),
                XFT_STORED_MAX_RANK);
    *t = (xft_stored_tensor){.name = name, .dtype = (xft_stored_dtype)d, .rank = (uint32_t)json_array_size(shape)};
    t->bytes = dtypes[d].size;
    for (uint32_t i = 0; i < t->rank; i++) {
        json_t *n = json_array_get(shape, i);
        XFT_FAIL_IF(!json_is_integer(n) || json_integer_value(n) < 0, XFT_ERROR_FORMAT,
                    "%s: tensor %s: shape entry %u is no count", path, name, i);
        t->shape[i] = (uint64_t)json_integer_value(n);
        XFT_FAIL_IF(__builtin_mul_overflow(t->bytes, t->shape[i], &t->bytes), XFT_ERROR_FORMAT,
                    "%s: tensor %s: shape overflows 64 bits", path, name);
    }
    json_t *offsets = json_object_get(entry, "data_offsets");
    json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    XFT_FAIL_IF(json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end), XFT_ERROR_FORMAT,
                "%s: tensor %s: data_offsets is no pair of integers", path, name);
    int64_t b = json_integer_value(begin), e = json_integer_value(end);
    XFT_FAIL_IF(b < 0 || e < b || (uint64_t)e > data_bytes, XFT_ERROR_FORMAT,
                "%s: tensor %s: data_offsets [%" PRId64 ", %" PRId64 "] outside the %" PRIu64 " bytes of data", path,
                name, b, e, data_bytes);
    XFT_FAIL_IF((uint64_t)(e - b) != t->bytes, XFT_ERROR_FORMAT,
                "%s: tensor %s: data_offsets hold %" PRId64 " bytes, shape and dtype %s need %" PRIu64, path, name,
                e - b, dtype, t->bytes);
    t->data = data + b;
    return XFT_OK;
}

static int by_data(const void *a, const void *b) {
    const xft_stored_tensor *x = a, *y = b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* empty tensors first */
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const xft_stored_tensor *const *)a)->name, (*(const xft_stored_tensor *const *)b)->name);
}

static xft_status check_metadata(const char *path, json_t *metadata) {
    const char *key;
    json_t *value;
    XFT_FAIL_IF(!json_is_object(metadata), XFT_ERROR_FORMAT, "%s: __metadata__ is no object", path);
    json_object_foreach(metadata, key, value) {
        XFT_FAIL_IF(!json_is_string(value), XFT_ERROR_FORMAT, "%s: __metadata__: %s is no string", path, key);
    }
    return XFT_OK;
}

static xft_status parse(xft_safetensors *file) {
    const char *path = file->path;
    XFT_FAIL_IF(file->size < 8, XFT_ERROR_FORMAT, "%s: %" PRIu64 " bytes, too short for a safetensors file", path,
                file->size);
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | file->map[i];
    XFT_FAIL_IF(length > HEADER_LIMIT, XFT_ERROR_FORMAT, "%s: header of %" PRIu64 " bytes, at most %d allowed", path,
                length, HEADER_LIMIT);
    XFT_FAIL_IF(length > file->size - 8, XFT_ERROR_FORMAT,
                "%s: header of %" PRIu64 " bytes in a file of %" PRIu64 ": the file is cut short", path, length,
                file->size);
    XFT_FAIL_IF(length == 0 || file->map[8] != '{', XFT_ERROR_FORMAT, "%s: the header does not begin with {", path);
    json_error_t error;
    file->header = json_loadb((const char *)file->map + 8, length, JSON_REJECT_DUPLICATES, &error);
    XFT_FAIL_IF(!file->header, XFT_ERROR_FORMAT, "%s: header: %s (byte %d)", path, error.text, error.position);

    uint64_t data_bytes = file->size - 8 - length;
    const unsigned char *data = file->map + 8 + length;
    size_t entries = json_object_size(file->header);
    file->tensors = calloc(entries + 1, sizeof *file->tensors);
    file->by_name = calloc(entries + 1, sizeof *file->by_name);
    XFT_FAIL_IF(!file->tensors || !file->by_name, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for %zu tensors", path,
                entries);
    const char *name;
    json_t *entry;
    json_object_foreach(file->header, name, entry) {
        if (!strcmp(name, "__metadata__")) {
            XFT_TRY(check_metadata(path, entry));
            continue;
        }
        XFT_TRY(parse_entry(path, name, entry, data_bytes, data, &file->tensors[file->count]));
        file->count++;
    }

    /* Sorted by place, the tensors must tile the data: neither overlap nor hole, to the last byte. */
    qsort(file->tensors, file->count, sizeof *file->tensors, by_data);
    const unsigned char *at = data;
    for (uint32_t i = 0; i < file->count; i++) {
        const xft_stored_tensor *t = &file->tensors[i];
        const unsigned char *begin = t->data;
        XFT_FAIL_IF(begin < at, XFT_ERROR_FORMAT, "%s: tensor %s overlaps tensor %s", path, t->name,
                    file->tensors[i ? i - 1 : 0].name);
        XFT_FAIL_IF(begin > at, XFT_ERROR_FORMAT, "%s: %td bytes in front of tensor %s belong to no tensor", path,
                    begin - at, t->name);
        at += t->bytes;
        file->by_name[i] = t;
    }
    XFT_FAIL_IF(at != data + data_bytes, XFT_ERROR_FORMAT, "%s: the last %td bytes belong to no tensor", path,
                data + data_bytes - at);
    qsort(file->by_name, file->count, sizeof *file->by_name, by_name);
    return XFT_OK;
}

static xft_status map_file(xft_safetensors *file) {
    int fd = open(file->path, O_RDONLY | O_CLOEXEC);
    XFT_FAIL_IF(fd < 0, XFT_ERROR_IO, "%s: %s", file->path, strerror(errno));
    struct stat info;
    xft_status status = XFT_OK;
    if (fstat(fd, &info) != 0)
        status = xft_fail(XFT_ERROR_IO, "%s: %s", file->path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = xft_fail(XFT_ERROR_IO, "%s: not a regular file", file->path);
    else if (info.st_size > 0) {
        void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED)
            status = xft_fail(XFT_ERROR_IO, "%s: mmap: %s", file->path, strerror(errno));
        else {
            file->map = map;
            file->size = (uint64_t)info.st_size;
        }
    }
    close(fd);
    return status;
}

xft_status xft_safetensors_open(const char *path, xft_safetensors **file) {
    XFT_FAIL_IF(!path || !file, XFT_ERROR_INVALID_ARGUMENT, "xft_safetensors_open: path and file must not be NULL");
    *file = NULL;
    xft_safetensors *f = calloc(1, sizeof *f);
    XFT_FAIL_IF(!f || !(f->path = strdup(path)), XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory to open it", path);
    xft_status status = map_file(f);
    if (status == XFT_OK) status = parse(f);
    if (status != XFT_OK) {
        xft_safetensors_close(f);
        return status;
    }
    *file = f;
    return XFT_OK;
}

void xft_safetensors_close(xft_safetensors *file) {
    if (!file) return;
    if (file->map) munmap((void *)(uintptr_t)file->map, file->size);
    json_decref(file->header);
    free(file->tensors);
    free(file->by_name);
    free(file->path);
    free(file);
}

const char *xft_safetensors_path(const xft_safetensors *file) {
    return file ? file->path : NULL;
}
uint32_t xft_safetensors_count(const xft_safetensors *file) {
    return file ? file->count : 0;
}

const xft_stored_tensor *xft_safetensors_at(const xft_safetensors *file, uint32_t index) {
    return file && index < file->count ? &file->tensors[index] : NULL;
}

const xft_stored_tensor *xft_safetensors_find(const xft_safetensors *file, const char *name) {
    if (!file || !name) return NULL;
    const xft_stored_tensor key = {.name = name}, *k = &key;
    const xft_stored_tensor **found = bsearch(&k, file->by_name, file->count, sizeof *file->by_name, by_name);
    return found ? *found : NULL;
}

const char *xft_safetensors_metadata(const xft_safetensors *file, const char *key) {
    if (!file || !key) return NULL;
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}

/* ---- Values ---- */

static xft_status check_range(const xft_stored_tensor *t, uint64_t first, uint64_t count, const void *values) {
    XFT_FAIL_IF(!t, XFT_ERROR_INVALID_ARGUMENT, "reading a tensor: tensor is NULL");
    XFT_FAIL_IF(!values, XFT_ERROR_INVALID_ARGUMENT, "tensor %s: values is NULL", t->name);
    uint64_t elements = t->bytes / xft_stored_dtype_size(t->dtype);
    XFT_FAIL_IF(first > elements || count > elements - first, XFT_ERROR_INVALID_ARGUMENT,
                "tensor %s: first %" PRIu64 " and count %" PRIu64 " of %" PRIu64 " elements", t->name, first, count,
                elements);
    return XFT_OK;
}

xft_status xft_stored_read_f32(const xft_stored_tensor *t, uint64_t first, uint64_t count, float *values) {
    XFT_TRY(check_range(t, first, count, values));
    const unsigned char *data = t->data;
    switch (t->dtype) {
    case XFT_STORED_F32:
        memcpy(values, data + 4 * first, 4 * count);
        return XFT_OK;
    case XFT_STORED_F16:
    case XFT_STORED_BF16:
        for (uint64_t i = 0; i < count; i++) {
            uint16_t bits;
            memcpy(&bits, data + 2 * (first + i), 2);
            values[i] = t->dtype == XFT_STORED_BF16 ? xft_bf16_to_f32(bits) : xft_f16_to_f32(bits);
        }
        return XFT_OK;
    case XFT_STORED_F64:
        for (uint64_t i = 0; i < count; i++) {
            double value;
            memcpy(&value, data + 8 * (first + i), 8);
            values[i] = (float)value;
        }
        return XFT_OK;
    default:
        return xft_fail(XFT_ERROR_FORMAT, "tensor %s: dtype %s, expected F32, BF16, F16 or F64", t->name,
                        xft_stored_dtype_name(t->dtype));
    }
}

xft_status xft_stored_read_i64(const xft_stored_tensor *t, uint64_t first, uint64_t count, int64_t *values) {
    XFT_TRY(check_range(t, first, count, values));
    uint32_t size = xft_stored_dtype_size(t->dtype);
    const unsigned char *data = t->data;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t bits = 0;
        memcpy(&bits, data + size * (first + i), size);
        switch (t->dtype) {
        case XFT_STORED_BOOL:
        case XFT_STORED_U8:
        case XFT_STORED_U16:
        case XFT_STORED_U32:
        case XFT_STORED_I64:
            values[i] = (int64_t)bits;
            break;
        case XFT_STORED_I8:
            values[i] = (int8_t)bits;
            break;
        case XFT_STORED_I16:
            values[i] = (int16_t)bits;
            break;
        case XFT_STORED_I32:
            values[i] = (int32_t)bits;
            break;
        case XFT_STORED_U64:
            XFT_FAIL_IF(bits > INT64_MAX, XFT_ERROR_FORMAT, "tensor %s: value %" PRIu64 " is too large", t->name, bits);
            values[i] = (int64_t)bits;
            break;
        default:
            return xft_fail(XFT_ERROR_FORMAT, "tensor %s: dtype %s, expected an integer type", t->name,
                            xft_stored_dtype_name(t->dtype));
        }
    }
    return XFT_OK;
}

/* ---- Writing ---- */

/* The header as JSON text, padded with blanks to 8 bytes so that the data is aligned; sizes get each tensor's bytes. */
static xft_status make_header(const char *path, const xft_stored_tensor *tensors, uint32_t count,
                              const char *const *extra, uint64_t *sizes, char **text, uint64_t *length) {
    json_t *header = json_object(), *metadata = json_object();
    xft_status status = XFT_OK;
    json_object_set_new(header, "__metadata__", metadata);
    json_object_set_new(metadata, "format", json_string("pt"));
    for (; extra && extra[0]; extra += 2) json_object_set_new(metadata, extra[0], json_string(extra[1]));
    uint64_t at = 0;
    for (uint32_t i = 0; i < count && status == XFT_OK; i++) {
        const xft_stored_tensor *t = &tensors[i];
        json_t *shape = json_array();
        sizes[i] = xft_stored_dtype_size(t->dtype);
        for (uint32_t d = 0; d < t->rank; d++) {
            json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
            sizes[i] *= t->shape[d];
        }
        if (json_object_get(header, t->name))
            status = xft_fail(XFT_ERROR_INVALID_ARGUMENT, "%s: two tensors named %s", path, t->name);
        json_object_set_new(header, t->name,
                            json_pack("{s:s,s:o,s:[I,I]}", "dtype", xft_stored_dtype_name(t->dtype), "shape", shape,
                                      "data_offsets", (json_int_t)at, (json_int_t)(at + sizes[i])));
        at += sizes[i];
    }
    char *json = status == XFT_OK ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    if (status != XFT_OK) return status;
    XFT_FAIL_IF(!json, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for the header", path);
    *length = (strlen(json) + 7) / 8 * 8;
    *text = malloc(*length + 1);
    if (*text) snprintf(*text, *length + 1, "%-*s", (int)*length, json);
    free(json);
    XFT_FAIL_IF(!*text, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for the header", path);
    return XFT_OK;
}

/* Small tensors are gathered: one write for many of them. */
enum { GATHERED = 1 << 20 };

typedef struct gathering {
    int fd;
    const char *path;
    unsigned char *room;
    uint64_t size, used;
} gathering;

static xft_status write_gathered(gathering *g) {
    uint64_t used = g->used;
    g->used = 0;
    return xft_write_all(g->fd, g->path, g->room, used);
}

/* Room for `bytes` bytes, aligned for f32. */
static xft_status gather(gathering *g, uint64_t bytes, unsigned char **at) {
    if (g->used % 4 || g->used + bytes > g->size) XFT_TRY(write_gathered(g));
    *at = g->room + g->used;
    g->used += bytes;
    return XFT_OK;
}

static xft_status write_content(int fd, const char *path, const xft_stored_tensor *tensors, uint32_t count,
                                const uint64_t *sizes, const char *header, uint64_t length, xft_stored_source source,
                                void *user) {
    uint64_t largest = length + 8;
    for (uint32_t i = 0; i < count; i++)
        if (sizes[i] > largest) largest = sizes[i];
    gathering g = {.fd = fd, .path = path, .size = largest > GATHERED ? largest : GATHERED};
    g.room = malloc(g.size);
    XFT_FAIL_IF(!g.room, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for a tensor of %" PRIu64 " bytes", path,
                largest);
    unsigned char *at = g.room;
    xft_status status = gather(&g, 8 + length, &at);
    for (int i = 0; i < 8; i++) at[i] = (unsigned char)(length >> 8 * i);
    memcpy(at + 8, header, length);
    for (uint32_t i = 0; i < count && status == XFT_OK; i++) {
        status = gather(&g, sizes[i], &at);
        if (status != XFT_OK) break;
        if (tensors[i].data)
            memcpy(at, tensors[i].data, sizes[i]);
        else
            status = source(user, i, at, sizes[i]);
    }
    if (status == XFT_OK) status = write_gathered(&g);
    free(g.room);
    return status;
}

xft_status xft_safetensors_write(const char *path, const xft_stored_tensor *tensors, uint32_t count,
                                 const char *const *extra, xft_stored_source source, void *user) {
    XFT_FAIL_IF(!path || (count && !tensors), XFT_ERROR_INVALID_ARGUMENT,
                "xft_safetensors_write: path and tensors must not be NULL");
    for (uint32_t i = 0; i < count; i++)
        XFT_FAIL_IF(!tensors[i].name || !xft_stored_dtype_size(tensors[i].dtype) ||
                        tensors[i].rank > XFT_STORED_MAX_RANK || (!tensors[i].data && !source),
                    XFT_ERROR_INVALID_ARGUMENT, "%s: tensor %u: no name, no data, a bad dtype or rank", path, i);
    char *temporary = NULL, *header = NULL;
    int fd = -1;
    uint64_t length = 0, *sizes = calloc(count + 1, sizeof *sizes);
    XFT_FAIL_IF(!sizes, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", path);
    xft_status status = make_header(path, tensors, count, extra, sizes, &header, &length);
    if (status == XFT_OK) status = xft_write_begin(path, &temporary, &fd);
    if (status == XFT_OK)
        status = xft_write_finish(path, temporary, fd,
                                  write_content(fd, path, tensors, count, sizes, header, length, source, user));
    free(header);
    free(sizes);
    return status;
}
