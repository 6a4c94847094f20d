#include "checkpoint.h"

#include "callbacks.h"
#include "error.h"
#include "files.h"
#include "model_folder.h"
#include "shards.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Loading ---- */

xft_status xft_checkpoint_config(const char *folder, char **json, xft_config *config) {
    XFT_NEED(folder, json, config);
    char *path;
    *json = NULL;
    XFT_TRY(xft_model_settle(folder));
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
    XFT_NEED(device, folder, model);
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

/* The tensors of a model in the order of its files. */
typedef struct save_request {
    const xft_model *model;
    const xft_save_options *options;
    uint32_t first; /* tensor of the model that the file at work begins with */
    xft_stored_tensor *list;
    uint32_t count;
    uint64_t total; /* bytes */
} save_request;

/* Text between the layer's number and the end: "model.layers.3.mlp.up_proj.weight" -> 3, "mlp.up_proj.weight". */
static const char *in_layer(const char *name, unsigned *layer) {
    int end = 0;
    return sscanf(name, "model.layers.%u.%n", layer, &end) == 1 && end ? name + end : NULL;
}

/* The tensor of the other kind of model that a tensor of the FFN comes from or goes to; "" when there is none. */
static void counterpart(const char *name, char other[160]) {
    static const char *const kinds[] = {"gate", "up", "down"};
    unsigned layer, expert;
    const char *rest = in_layer(name, &layer);
    other[0] = 0;
    for (size_t i = 0; rest && i < sizeof kinds / sizeof *kinds; i++) {
        char pattern[80], dense[40];
        int end = 0;
        snprintf(dense, sizeof dense, "mlp.%s_proj.weight", kinds[i]);
        snprintf(pattern, sizeof pattern, "mlp.calculator.experts.weight_%s.%%u.weight%%n", kinds[i]);
        if (!strcmp(rest, dense))
            snprintf(other, 160, "model.layers.%u.mlp.calculator.experts.weight_%s.0.weight", layer, kinds[i]);
        else if (sscanf(rest, pattern, &expert, &end) == 1 && end && !rest[end])
            snprintf(other, 160, "model.layers.%u.%s", layer, dense);
    }
}

/* The number format in `like` (may be empty), else `otherwise`. */
static xft_stored_dtype format_of(const char *name, const xft_shards *like, xft_stored_dtype otherwise) {
    char other[160];
    counterpart(name, other);
    const xft_stored_tensor *t = xft_shards_find(like, name, NULL);
    if (!t && other[0]) t = xft_shards_find(like, other, NULL);
    bool ours = t && (t->dtype == XFT_STORED_F32 || t->dtype == XFT_STORED_BF16 || t->dtype == XFT_STORED_F16);
    return ours ? t->dtype : otherwise;
}

static xft_status describe(const xft_model *model, const xft_save_options *options, save_request *r) {
    static const xft_stored_dtype stored[] = {
        [XFT_F32] = XFT_STORED_F32, [XFT_BF16] = XFT_STORED_BF16, [XFT_F16] = XFT_STORED_F16};
    XFT_FAIL_IF((unsigned)options->dtype > XFT_F16, XFT_ERROR_INVALID_ARGUMENT, "xft_checkpoint_save: dtype %d",
                (int)options->dtype);
    XFT_FAIL_IF(options->like && !options->carry, XFT_ERROR_INVALID_ARGUMENT,
                "xft_checkpoint_save: like what? carry is NULL");
    *r = (save_request){.model = model, .options = options, .count = xft_model_tensor_count(model)};
    xft_shards like = {0};
    if (options->like) XFT_TRY(xft_shards_open(options->carry, &like));
    r->list = calloc(r->count, sizeof *r->list);
    xft_status status = r->list ? XFT_OK : xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u tensors", r->count);
    for (uint32_t i = 0; i < r->count && status == XFT_OK; i++) {
        xft_stored_tensor *t = &r->list[i];
        xft_tensor tensor;
        status = xft_model_tensor(model, i, &t->name, &tensor);
        if (status != XFT_OK) break;
        t->dtype = format_of(t->name, &like, stored[options->dtype]);
        t->rank = tensor.rank;
        t->bytes = xft_stored_dtype_size(t->dtype);
        for (uint32_t d = 0; d < tensor.rank; d++) t->bytes *= t->shape[d] = tensor.shape[d];
        r->total += t->bytes;
    }
    xft_shards_close(&like);
    if (status != XFT_OK) free(r->list);
    return status;
}

/* No one could load it again. */
static xft_status check_finite(const char *name, xft_dtype dtype, const void *data, uint64_t elements) {
    const float *wide = data;
    const uint16_t *narrow = data, mask = dtype == XFT_BF16 ? 0x7f80 : 0x7c00; /* the exponent */
    for (uint64_t i = 0; i < elements; i++)
        XFT_FAIL_IF(dtype == XFT_F32 ? !isfinite(wide[i]) : (narrow[i] & mask) == mask, XFT_ERROR_FORMAT,
                    "tensor %s: element %" PRIu64 " is not finite%s, so it is not saved", name, i,
                    dtype == XFT_F16 ? " in f16, which ends at 65504" : "");
    return XFT_OK;
}

static xft_status download(void *user, uint32_t index, void *data, uint64_t bytes) {
    const save_request *r = user;
    const char *name = r->list[r->first + index].name;
    const xft_stored_dtype stored = r->list[r->first + index].dtype;
    const xft_dtype dtype = stored == XFT_STORED_F32 ? XFT_F32 : stored == XFT_STORED_BF16 ? XFT_BF16 : XFT_F16;
    const uint64_t elements = bytes / xft_dtype_size(dtype);
    xft_tensor tensor;
    XFT_TRY(xft_progress(r->options->callbacks, "saving", r->first + index, r->count));
    XFT_TRY(xft_model_tensor(r->model, r->first + index, NULL, &tensor));
    if (dtype == XFT_F32 || dtype == tensor.dtype) {
        XFT_TRY(xft_tensor_read(&tensor, dtype, data));
        return check_finite(name, dtype, data, elements);
    }
    float *values = malloc(elements * sizeof *values);
    XFT_FAIL_IF(!values, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %" PRIu64 " elements", elements);
    xft_status status = xft_tensor_read(&tensor, XFT_F32, values);
    uint16_t *narrow = data;
    for (uint64_t i = 0; i < elements && status == XFT_OK; i++)
        narrow[i] = dtype == XFT_BF16 ? xft_f32_to_bf16(values[i]) : xft_f32_to_f16(values[i]);
    free(values);
    return status == XFT_OK ? check_finite(name, dtype, data, elements) : status;
}

/* Text of folder/name; NULL when there is no such file. */
static xft_status read_optional(const char *folder, const char *name, char **text) {
    char *path;
    *text = NULL;
    XFT_TRY(xft_path_join(folder, name, &path));
    xft_status status = access(path, F_OK) == 0 ? xft_read_file(path, text, NULL) : XFT_OK;
    free(path);
    return status;
}

static xft_status write_text(const char *folder, const char *name, const char *text) {
    char *path;
    XFT_TRY(xft_path_join(folder, name, &path));
    xft_status status = xft_write_file(path, text, strlen(text));
    free(path);
    return status;
}

/* config.json of the dense model that `carry` is or was made from. */
static xft_status base_text(const char *carry, char **text) {
    *text = NULL;
    if (!carry) return XFT_OK;
    XFT_TRY(read_optional(carry, XFT_BASE_NAME, text));
    return *text ? XFT_OK : read_optional(carry, "config.json", text);
}

/* Whether `text` says of a model what `config` does: then it is kept byte for byte. */
static bool says_the_same(const char *text, const char *place, const xft_config *config) {
    xft_config own;
    char *a = NULL, *b = NULL;
    bool same = xft_config_parse(text, place, &own) == XFT_OK && xft_config_write(&own, text, &a) == XFT_OK &&
                xft_config_write(config, text, &b) == XFT_OK && !strcmp(a, b);
    free(a);
    free(b);
    return same;
}

static bool is_dense(const char *text, const char *place) {
    xft_config config;
    return xft_config_parse(text, place, &config) == XFT_OK && !config.num_experts;
}

static xft_status save_config(const xft_model *model, const char *folder, const xft_save_options *options) {
    xft_config config = *xft_model_get_config(model);
    char *json = NULL, *text = NULL, *base;
    XFT_TRY(base_text(options->carry, &base));
    bool moe = config.num_experts != 0;
    if (!options->like) config.dtype = options->dtype; /* what is written, not what was read */
    xft_status status = XFT_OK;
    if (!moe && base && says_the_same(base, options->carry, &config)) {
        status = write_text(folder, "config.json", base);
    } else {
        if (!base || moe) status = xft_model_config_json(model, &json);
        if (status == XFT_OK) status = xft_config_write(&config, json ? json : base, &text);
        if (status == XFT_OK) status = write_text(folder, "config.json", text);
    }
    if (status == XFT_OK && moe && base && is_dense(base, options->carry))
        status = write_text(folder, XFT_BASE_NAME, base);
    free(json);
    free(text);
    free(base);
    return status;
}

static xft_status write_shard(save_request *r, const char *folder, const char *name, uint32_t first, uint32_t count) {
    char *path;
    XFT_TRY(xft_path_join(folder, name, &path));
    r->first = first;
    xft_status status = xft_safetensors_write(path, r->list + first, count, NULL, download, r);
    free(path);
    return status;
}

/* Tensors from `first` on that go into one file. */
static uint32_t shard_length(const save_request *r, uint32_t first) {
    uint64_t bytes = r->list[first].bytes, most = r->options->shard_size ? r->options->shard_size : UINT64_MAX;
    uint32_t end = first + 1;
    while (end < r->count && bytes + r->list[end].bytes <= most) bytes += r->list[end++].bytes;
    return end - first;
}

static xft_status write_index(const save_request *r, const char *folder, json_t *map) {
    json_t *root = json_pack("{s:{s:I},s:O}", "metadata", "total_size", (json_int_t)r->total, "weight_map", map);
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL, *path = NULL;
    json_decref(root);
    XFT_FAIL_IF(!text, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for the index of the shards", folder);
    xft_status status = xft_path_join(folder, XFT_INDEX_NAME, &path);
    if (status == XFT_OK) status = xft_write_file(path, text, strlen(text));
    free(text);
    free(path);
    return status;
}

static xft_status write_weights(save_request *r, const char *folder) {
    uint32_t shards = 0, number = 0;
    for (uint32_t i = 0; i < r->count; i += shard_length(r, i)) shards++;
    if (shards <= 1) return write_shard(r, folder, XFT_SINGLE_NAME, 0, r->count);
    json_t *map = json_object();
    xft_status status = XFT_OK;
    for (uint32_t i = 0, n; i < r->count && status == XFT_OK; i += n) {
        char name[64];
        n = shard_length(r, i);
        snprintf(name, sizeof name, "model-%05u-of-%05u.safetensors", ++number, shards);
        status = write_shard(r, folder, name, i, n);
        for (uint32_t k = i; k < i + n && status == XFT_OK; k++)
            json_object_set_new(map, r->list[k].name, json_string(name));
    }
    if (status == XFT_OK) status = write_index(r, folder, map);
    json_decref(map);
    return status;
}

static xft_status carry(const char *from, const char *to) {
    xft_status status = XFT_OK;
    for (size_t i = 0; from && xft_carried_names[i] && status == XFT_OK; i++) {
        char *source = NULL, *target = NULL;
        status = xft_path_join(from, xft_carried_names[i], &source);
        if (status == XFT_OK) status = xft_path_join(to, xft_carried_names[i], &target);
        if (status == XFT_OK && access(source, F_OK) == 0) status = xft_copy_file(source, target);
        free(source);
        free(target);
    }
    return status;
}

xft_status xft_checkpoint_write(const xft_model *model, const char *folder, const xft_save_options *options) {
    save_request r;
    XFT_TRY(describe(model, options, &r));
    xft_status status = carry(options->carry, folder);
    if (status == XFT_OK) status = save_config(model, folder, options);
    if (status == XFT_OK) status = write_weights(&r, folder);
    free(r.list);
    return status;
}

xft_status xft_checkpoint_save(const xft_model *model, const char *folder, const xft_save_options *options) {
    XFT_NEED(model, folder);
    char *temporary;
    uint64_t bytes;
    XFT_TRY(xft_checkpoint_size(model, options, &bytes));
    XFT_TRY(xft_make_folder(folder));
    XFT_TRY(xft_model_tidy(folder));
    XFT_TRY(xft_check_space(folder, bytes, "the model"));
    if (asprintf(&temporary, "%s/model.tmp-%ld", folder, (long)getpid()) < 0)
        return xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for a path", folder);
    xft_status status = xft_make_folder(temporary);
    if (status == XFT_OK) status = xft_checkpoint_write(model, temporary, options ? options : &(xft_save_options){0});
    if (status == XFT_OK) status = xft_model_commit(temporary, folder);
    if (status != XFT_OK) { /* the reason outlives the clean-up */
        char reason[800];
        snprintf(reason, sizeof reason, "%s", xft_error());
        xft_remove_all(temporary);
        status = xft_fail(status, "%s", reason);
    }
    free(temporary);
    return status;
}

xft_status xft_checkpoint_size(const xft_model *model, const xft_save_options *options, uint64_t *bytes) {
    XFT_NEED(model, bytes);
    save_request r;
    XFT_TRY(describe(model, options ? options : &(xft_save_options){0}, &r));
    *bytes = r.total;
    for (uint32_t i = 0; i < r.count; i++) *bytes += strlen(r.list[i].name) + 100; /* its line in header and index */
    for (size_t i = 0; options && options->carry && xft_carried_names[i]; i++) {
        char *path;
        if (xft_path_join(options->carry, xft_carried_names[i], &path) == XFT_OK) *bytes += xft_size_on_disk(path);
        free(path);
    }
    free(r.list);
    return XFT_OK;
}
