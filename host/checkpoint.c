#include "xft/checkpoint.h"

#include "callbacks.h"
#include "error.h"
#include "files.h"
#include "shards.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Loading ---- */

xft_status xft_checkpoint_config(const char *folder, char **json, xft_config *config) {
    XFT_FAIL_IF(!folder || !json || !config, XFT_ERROR_INVALID_ARGUMENT, "xft_checkpoint_config: an argument is NULL");
    char *path;
    *json = NULL;
    XFT_TRY(xft_path_join(folder, "config.json", &path));
    xft_status status = xft_read_file(path, json, NULL);
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

static xft_status load_tensors(const xft_shards *s, const char *folder, const xft_callbacks *callbacks,
                               xft_model *model) {
    const xft_config *c = xft_model_get_config(model);
    const char *name, *path;
    xft_tensor tensor;
    for (uint32_t i = 0; i < xft_model_tensor_count(model); i++) {
        XFT_TRY(xft_progress(callbacks, "loading", i, xft_model_tensor_count(model)));
        XFT_TRY(xft_model_tensor(model, i, &name, &tensor));
        const xft_stored_tensor *from = xft_shards_find(s, name, &path);
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
    xft_shards s = {0};
    xft_model *m = NULL;
    XFT_TRY(xft_checkpoint_config(folder, &json, &config));
    xft_model_options o = {
        .dtype = options ? options->dtype : XFT_F32, .mixing = options && options->mixing, .config_json = json};
    xft_status status = xft_shards_open(folder, &s);
    if (status == XFT_OK) status = xft_model_create(device, &config, &o, &m);
    if (status == XFT_OK) status = load_tensors(&s, folder, options ? options->callbacks : NULL, m);
    xft_shards_close(&s);
    free(json);
    if (status != XFT_OK) {
        xft_model_destroy(m);
        return status;
    }
    *model = m;
    return XFT_OK;
}

/* ---- Saving ---- */

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
    if (status == XFT_OK) status = xft_path_join(folder, "config.json", &path);
    if (status == XFT_OK) status = xft_write_file(path, text, strlen(text));
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
    if (status == XFT_OK) status = xft_path_join(folder, "model.safetensors", &path);
    if (status == XFT_OK) status = xft_safetensors_write(path, list, count, NULL, download, &request);
    if (status == XFT_OK) status = save_config(model, folder, dtype);
    free(path);
    free(list);
    return status;
}
