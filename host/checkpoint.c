#include "xft/checkpoint.h"

#include "callbacks.h"
#include "error.h"
#include "xft/safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Files of a folder ---- */

static xft_status join(const char *folder, const char *name, char **path) {
    if (asprintf(path, "%s/%s", folder, name) < 0) {
        *path = NULL;
        return xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a path");
    }
    return XFT_OK;
}

static xft_status read_text(const char *path, char **text) {
    *text = NULL;
    FILE *file = fopen(path, "rb");
    XFT_FAIL_IF(!file, XFT_ERROR_IO, "%s: %s", path, strerror(errno));
    size_t size = 0, room = 0;
    xft_status status = XFT_OK;
    for (;;) {
        if (size + 4096 > room) {
            char *grown = realloc(*text, room = 2 * room + 8192);
            if (!grown) {
                status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory to read it", path);
                break;
            }
            *text = grown;
        }
        size_t n = fread(*text + size, 1, room - size - 1, file);
        size += n;
        (*text)[size] = 0;
        if (n == 0) break;
    }
    if (status == XFT_OK && ferror(file)) status = xft_fail(XFT_ERROR_IO, "%s: read: %s", path, strerror(errno));
    if (status == XFT_OK && strlen(*text) != size) status = xft_fail(XFT_ERROR_FORMAT, "%s: holds a zero byte", path);
    fclose(file);
    if (status != XFT_OK) {
        free(*text);
        *text = NULL;
    }
    return status;
}

/* The open files of a checkpoint: one, or the shards of an index. */
typedef struct shards {
    xft_safetensors **files;
    size_t count;
} shards;

static void close_shards(shards *s) {
    for (size_t i = 0; i < s->count; i++) xft_safetensors_close(s->files[i]);
    free(s->files);
    *s = (shards){0};
}

static xft_status open_shard(shards *s, const char *folder, const char *name) {
    XFT_FAIL_IF(strchr(name, '/') || !strcmp(name, ".."), XFT_ERROR_FORMAT, "%s: shard \"%s\" is no plain file name",
                folder, name);
    xft_safetensors **files = realloc(s->files, (s->count + 1) * sizeof *files);
    XFT_FAIL_IF(!files, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %zu shards", s->count + 1);
    s->files = files;
    char *path;
    XFT_TRY(join(folder, name, &path));
    xft_status status = xft_safetensors_open(path, &s->files[s->count]);
    free(path);
    if (status == XFT_OK) s->count++;
    return status;
}

/* Every shard that weight_map names, and every name in the shard it is promised in. */
static xft_status open_index(shards *s, const char *folder, const char *path) {
    char *text;
    XFT_TRY(read_text(path, &text));
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error), *map = json_object_get(root, "weight_map");
    free(text);
    xft_status status = XFT_OK;
    if (!json_is_object(map)) status = xft_fail(XFT_ERROR_FORMAT, "%s: %s", path, root ? "no weight_map" : error.text);
    json_t *opened = json_object(), *value;
    const char *name;
    json_object_foreach(map, name, value) {
        const char *file = json_string_value(value);
        if (status != XFT_OK) break;
        if (!file) {
            status = xft_fail(XFT_ERROR_FORMAT, "%s: tensor %s: no file name", path, name);
            break;
        }
        if (!json_object_get(opened, file)) {
            status = open_shard(s, folder, file);
            if (status != XFT_OK) break;
            json_object_set_new(opened, file, json_integer((json_int_t)s->count - 1));
        }
        if (!xft_safetensors_find(s->files[json_integer_value(json_object_get(opened, file))], name))
            status = xft_fail(XFT_ERROR_FORMAT, "%s: tensor %s is not in %s", path, name, file);
    }
    json_decref(opened);
    json_decref(root);
    return status;
}

static xft_status open_shards(shards *s, const char *folder) {
    char *index;
    XFT_TRY(join(folder, "model.safetensors.index.json", &index));
    xft_status status =
        access(index, F_OK) == 0 ? open_index(s, folder, index) : open_shard(s, folder, "model.safetensors");
    free(index);
    if (status != XFT_OK) close_shards(s);
    return status;
}

static const xft_stored_tensor *find(const shards *s, const char *name, const char **path) {
    for (size_t i = 0; i < s->count; i++) {
        const xft_stored_tensor *t = xft_safetensors_find(s->files[i], name);
        if (path) *path = xft_safetensors_path(s->files[i]);
        if (t) return t;
    }
    return NULL;
}

/* ---- Loading ---- */

xft_status xft_checkpoint_config(const char *folder, char **json, xft_config *config) {
    XFT_FAIL_IF(!folder || !json || !config, XFT_ERROR_INVALID_ARGUMENT, "xft_checkpoint_config: an argument is NULL");
    char *path;
    *json = NULL;
    XFT_TRY(join(folder, "config.json", &path));
    xft_status status = read_text(path, json);
    if (status == XFT_OK) status = xft_config_parse(*json, path, config);
    free(path);
    if (status != XFT_OK) {
        free(*json);
        *json = NULL;
    }
    return status;
}

static xft_status check_shape(const char *path, const xft_stored_tensor *from, const xft_tensor *to) {
    bool same = from->rank == to->rank;
    for (uint32_t i = 0; same && i < to->rank; i++) same = from->shape[i] == to->shape[i];
    XFT_FAIL_IF(!same, XFT_ERROR_FORMAT,
                "%s: tensor %s has rank %u and %" PRIu64 " elements; config.json asks for [%u%s%.0d]", path, from->name,
                from->rank, from->bytes / xft_stored_dtype_size(from->dtype), to->shape[0], to->rank > 1 ? "," : "",
                to->rank > 1 ? (int)to->shape[1] : 0);
    return XFT_OK;
}

static xft_status upload(const char *path, const xft_stored_tensor *from, const xft_tensor *to) {
    uint64_t elements = from->bytes / xft_stored_dtype_size(from->dtype);
    float *values = malloc(elements * sizeof *values);
    XFT_FAIL_IF(!values, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: tensor %s: no memory for %" PRIu64 " elements", path,
                from->name, elements);
    xft_status status = xft_stored_read_f32(from, 0, elements, values);
    for (uint64_t i = 0; i < elements && status == XFT_OK; i++)
        if (!isfinite(values[i]))
            status = xft_fail(XFT_ERROR_FORMAT, "tensor %s: element %" PRIu64 " is not finite", from->name, i);
    if (status == XFT_OK) status = xft_tensor_write(to, XFT_F32, values);
    free(values);
    return status == XFT_OK ? status : xft_fail_in(status, "%s", path);
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* Names that some files hold and no model of ours needs. */
static bool may_ignore(const xft_config *c, const char *name) {
    return ends_with(name, ".rotary_emb.inv_freq") || ends_with(name, ".mlp.average_weights") ||
           (c->tied_head && !strcmp(name, "lm_head.weight"));
}

static xft_status load_tensors(const shards *s, const char *folder, const xft_callbacks *callbacks, xft_model *model) {
    const xft_config *c = xft_model_get_config(model);
    const char *name, *path;
    xft_tensor tensor;
    for (uint32_t i = 0; i < xft_model_tensor_count(model); i++) {
        XFT_TRY(xft_progress(callbacks, "loading", i, xft_model_tensor_count(model)));
        XFT_TRY(xft_model_tensor(model, i, &name, &tensor));
        const xft_stored_tensor *from = find(s, name, &path);
        if (!from && ends_with(name, ".mlp.average_weights")) continue; /* keeps its 1 */
        XFT_FAIL_IF(!from, XFT_ERROR_FORMAT, "%s: tensor %s is missing", folder, name);
        XFT_TRY(check_shape(path, from, &tensor));
        XFT_TRY(upload(path, from, &tensor));
    }
    for (size_t f = 0; f < s->count; f++)
        for (uint32_t i = 0; i < xft_safetensors_count(s->files[f]); i++) {
            name = xft_safetensors_at(s->files[f], i)->name;
            XFT_FAIL_IF(xft_model_find(model, name, &tensor) != XFT_OK && !may_ignore(c, name), XFT_ERROR_FORMAT,
                        "%s: tensor %s belongs to no part of this model", xft_safetensors_path(s->files[f]), name);
        }
    return XFT_OK;
}

xft_status xft_checkpoint_load(xft_device *device, const char *folder, const xft_load_options *options,
                               xft_model **model) {
    XFT_FAIL_IF(!device || !folder || !model, XFT_ERROR_INVALID_ARGUMENT, "xft_checkpoint_load: an argument is NULL");
    *model = NULL;
    char *json;
    xft_config config;
    shards s = {0};
    xft_model *m = NULL;
    XFT_TRY(xft_checkpoint_config(folder, &json, &config));
    xft_model_options o = {
        .dtype = options ? options->dtype : XFT_F32, .mixing = options && options->mixing, .config_json = json};
    xft_status status = open_shards(&s, folder);
    if (status == XFT_OK) status = xft_model_create(device, &config, &o, &m);
    if (status == XFT_OK) status = load_tensors(&s, folder, options ? options->callbacks : NULL, m);
    close_shards(&s);
    free(json);
    if (status != XFT_OK) {
        xft_model_destroy(m);
        return status;
    }
    *model = m;
    return XFT_OK;
}

/* ---- Saving ---- */

static xft_status write_text(const char *path, const char *text) {
    char *temporary;
    if (asprintf(&temporary, "%s.tmp-%ld", path, (long)getpid()) < 0)
        return xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", path);
    FILE *file = fopen(temporary, "wb");
    bool ok = file && fputs(text, file) >= 0 && fflush(file) == 0 && fsync(fileno(file)) == 0;
    if (file && fclose(file) != 0) ok = false;
    ok = ok && rename(temporary, path) == 0;
    xft_status status = ok ? XFT_OK : xft_fail(XFT_ERROR_IO, "%s: %s", path, strerror(errno));
    if (!ok) unlink(temporary);
    free(temporary);
    return status;
}

typedef struct save_request {
    const xft_model *model;
    xft_dtype dtype;
    const xft_callbacks *callbacks;
} save_request;

static xft_status download(void *user, uint32_t index, void *data, uint64_t bytes) {
    const save_request *r = user;
    xft_tensor tensor;
    XFT_TRY(xft_progress(r->callbacks, "saving", index, xft_model_tensor_count(r->model)));
    XFT_TRY(xft_model_tensor(r->model, index, NULL, &tensor));
    if (r->dtype == XFT_F32 || r->dtype == tensor.dtype) return xft_tensor_read(&tensor, r->dtype, data);
    uint64_t elements = bytes / 2;
    float *values = malloc(elements * sizeof *values);
    XFT_FAIL_IF(!values, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %" PRIu64 " elements", elements);
    xft_status status = xft_tensor_read(&tensor, XFT_F32, values);
    for (uint64_t i = 0; i < elements && status == XFT_OK; i++)
        ((uint16_t *)data)[i] = r->dtype == XFT_BF16 ? xft_f32_to_bf16(values[i]) : xft_f32_to_f16(values[i]);
    free(values);
    return status;
}

static xft_status save_config(const xft_model *model, const char *folder, xft_dtype dtype) {
    /* The text must name the type that is written, not the one that was read. */
    char *json = NULL, *text = NULL, *path = NULL;
    xft_config config = *xft_model_get_config(model);
    config.dtype = dtype;
    xft_status status = xft_model_config_json(model, &json);
    if (status == XFT_OK) status = xft_config_write(&config, json, &text);
    if (status == XFT_OK) status = join(folder, "config.json", &path);
    if (status == XFT_OK) status = write_text(path, text);
    free(json);
    free(text);
    free(path);
    return status;
}

xft_status xft_checkpoint_save(const xft_model *model, const char *folder, xft_dtype dtype,
                               const xft_callbacks *callbacks) {
    static const xft_stored_dtype stored[] = {
        [XFT_F32] = XFT_STORED_F32, [XFT_BF16] = XFT_STORED_BF16, [XFT_F16] = XFT_STORED_F16};
    XFT_FAIL_IF(!model || !folder, XFT_ERROR_INVALID_ARGUMENT, "xft_checkpoint_save: an argument is NULL");
    XFT_FAIL_IF((unsigned)dtype > XFT_F16, XFT_ERROR_INVALID_ARGUMENT, "xft_checkpoint_save: dtype %d", (int)dtype);
    uint32_t count = xft_model_tensor_count(model);
    xft_stored_tensor *list = calloc(count, sizeof *list);
    XFT_FAIL_IF(!list, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u tensors", count);
    xft_status status = XFT_OK;
    for (uint32_t i = 0; i < count && status == XFT_OK; i++) {
        xft_tensor tensor;
        status = xft_model_tensor(model, i, &list[i].name, &tensor);
        list[i].dtype = stored[dtype];
        list[i].rank = tensor.rank;
        for (uint32_t d = 0; d < tensor.rank; d++) list[i].shape[d] = tensor.shape[d];
    }
    char *path = NULL;
    save_request request = {model, dtype, callbacks};
    if (status == XFT_OK) status = join(folder, "model.safetensors", &path);
    if (status == XFT_OK) status = xft_safetensors_write(path, list, count, NULL, download, &request);
    if (status == XFT_OK) status = save_config(model, folder, dtype);
    free(path);
    free(list);
    return status;
}
