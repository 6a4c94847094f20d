#include "xft/inspect.h"

#include "callbacks.h"
#include "error.h"
#include "files.h"
#include "shards.h"
#include "weights.h"
#include "xft/checkpoint.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 1 << 16 }; /* elements read at once */

static json_t *real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

/* ---- Configuration ---- */

static json_t *describe_config(const xft_config *c) {
    static const char *const families[] = {"llama", "qwen2", "stablelm"};
    static const char *const scalings[] = {"none", "linear", "dynamic", "llama3"};
    json_t *o =
        json_pack("{s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:b,s:f,s:s,s:s}", "family", families[c->family], "hidden_size",
                  c->hidden_size, "intermediate_size", c->intermediate_size, "num_layers", c->num_layers, "num_heads",
                  c->num_heads, "num_kv_heads", c->num_kv_heads, "head_size", c->head_size, "vocab_size", c->vocab_size,
                  "max_positions", c->max_positions, "tied_head", c->tied_head, "rope_theta", c->rope_theta,
                  "rope_scaling", scalings[c->rope_scaling], "dtype", xft_dtype_name(c->dtype));
    if (!c->num_experts) return o;
    json_t *moe =
        json_pack("{s:i,s:i,s:s,s:s,s:b,s:f,s:f}", "num_experts", c->num_experts, "top_k", c->top_k, "gate",
                  xft_gate_name(c->gate), "gate_network", c->gate_mlp ? "mlp" : "linear", "noise", c->gate_noise,
                  "noise_scale", (double)c->noise_scale, "lambda", (double)c->shared_expert_weight);
    json_object_update(o, moe);
    json_decref(moe);
    return o;
}

/* name -> shape of every tensor that the configuration asks for. */
static xft_status expected_tensors(const xft_config *c, json_t *expected) {
    xft_parameters parameters;
    XFT_TRY(xft_parameters_make(c, false, &parameters));
    for (uint32_t i = 0; i < parameters.count; i++) {
        const xft_parameter *p = &parameters.list[i];
        const char *number = p->experts ? strstr(p->name, "%u") : NULL;
        json_t *shape = json_array();
        for (uint32_t d = number ? 1 : 0; d < p->rank; d++) json_array_append_new(shape, json_integer(p->shape[d]));
        for (uint32_t e = 0; number && e < c->num_experts; e++) {
            char name[XFT_NAME_SIZE + 16];
            snprintf(name, sizeof name, "%.*s%u%s", (int)(number - p->name), p->name, e, number + 2);
            json_object_set(expected, name, shape);
        }
        if (!number) json_object_set(expected, p->name, shape);
        json_decref(shape);
    }
    free(parameters.list);
    return XFT_OK;
}

static json_t *shape_of(const xft_stored_tensor *t) {
    json_t *shape = json_array();
    for (uint32_t d = 0; d < t->rank; d++) json_array_append_new(shape, json_integer((json_int_t)t->shape[d]));
    return shape;
}

/* What is missing or has another shape than config.json asks for. */
static xft_status check_names(const xft_config *c, const xft_shards *shards, json_t *problems) {
    json_t *expected = json_object(), *shape;
    const char *name;
    xft_status status = expected_tensors(c, expected);
    json_object_foreach(expected, name, shape) {
        const xft_stored_tensor *t = xft_shards_find(shards, name, NULL);
        json_t *stored = t ? shape_of(t) : NULL;
        if (!json_equal(shape, stored)) {
            char *wanted = json_dumps(shape, JSON_COMPACT), *found = stored ? json_dumps(stored, JSON_COMPACT) : NULL;
            json_array_append_new(problems, json_sprintf("tensor %s: %s; config.json asks for %s", name,
                                                         found ? found : "missing", wanted));
            free(wanted);
            free(found);
        }
        json_decref(stored);
    }
    json_decref(expected);
    return status;
}

/* ---- Tensors ---- */

typedef struct tensor_numbers {
    uint64_t nan, inf;
    double squares, sum, largest;
} tensor_numbers;

static xft_status measure(const xft_stored_tensor *t, tensor_numbers *n, float *room) {
    uint64_t elements = t->bytes / xft_stored_dtype_size(t->dtype);
    *n = (tensor_numbers){0};
    for (uint64_t at = 0; at < elements; at += CHUNK) {
        uint64_t count = elements - at < CHUNK ? elements - at : CHUNK;
        double squares = 0, sum = 0;
        XFT_TRY(xft_stored_read_f32(t, at, count, room));
        for (uint64_t i = 0; i < count; i++) {
            double x = room[i];
            if (!isfinite(room[i])) {
                n->nan += isnan(room[i]) != 0;
                n->inf += isinf(room[i]) != 0;
                continue;
            }
            squares += x * x;
            sum += x;
            if (fabs(x) > n->largest) n->largest = fabs(x);
        }
        n->squares += squares;
        n->sum += sum;
    }
    return XFT_OK;
}

static bool is_float(xft_stored_dtype dtype) {
    return dtype == XFT_STORED_F16 || dtype == XFT_STORED_BF16 || dtype == XFT_STORED_F32 || dtype == XFT_STORED_F64;
}

static xft_status describe_tensor(const char *path, const xft_stored_tensor *t, float *room, json_t *list,
                                  uint64_t *nan, uint64_t *inf) {
    const char *slash = strrchr(path, '/');
    uint64_t elements = t->bytes / xft_stored_dtype_size(t->dtype);
    json_t *o = json_pack("{s:s,s:s,s:s,s:o,s:I}", "name", t->name, "file", slash ? slash + 1 : path, "dtype",
                          xft_stored_dtype_name(t->dtype), "shape", shape_of(t), "bytes", (json_int_t)t->bytes);
    json_array_append_new(list, o);
    if (!is_float(t->dtype)) return XFT_OK;
    tensor_numbers n;
    XFT_TRY(measure(t, &n, room));
    uint64_t finite = elements - n.nan - n.inf;
    json_object_set_new(o, "nan", json_integer((json_int_t)n.nan));
    json_object_set_new(o, "inf", json_integer((json_int_t)n.inf));
    json_object_set_new(o, "norm", real(sqrt(n.squares)));
    json_object_set_new(o, "mean", real(finite ? n.sum / (double)finite : 0));
    json_object_set_new(o, "largest", real(n.largest));
    *nan += n.nan;
    *inf += n.inf;
    return XFT_OK;
}

/* ---- Layers of a MoE ---- */

/* What all weights of the experts of a layer, each as one vector, are to each other. */
typedef struct similarity {
    double *gram;   /* [E,E] inner products */
    double *square; /* [E] |W_e - W_0|^2 */
    float *rows;    /* [E,CHUNK] */
} similarity;

static xft_status compare_matrix(const xft_shards *shards, uint32_t layer, const char *kind, uint32_t E,
                                 similarity *s) {
    const xft_stored_tensor *t[64];
    uint64_t elements = 0;
    for (uint32_t e = 0; e < E; e++) {
        char name[160];
        snprintf(name, sizeof name, "model.layers.%u.mlp.calculator.experts.weight_%s.%u.weight", layer, kind, e);
        t[e] = xft_shards_find(shards, name, NULL);
        XFT_FAIL_IF(!t[e], XFT_ERROR_FORMAT, "tensor %s is missing", name);
        uint64_t n = t[e]->bytes / xft_stored_dtype_size(t[e]->dtype);
        XFT_FAIL_IF(e && n != elements, XFT_ERROR_FORMAT, "tensor %s has another size than that of expert 0", name);
        elements = n;
    }
    for (uint64_t at = 0; at < elements; at += CHUNK) {
        uint64_t count = elements - at < CHUNK ? elements - at : CHUNK;
        for (uint32_t e = 0; e < E; e++) {
            const float *x = s->rows + (size_t)e * CHUNK;
            XFT_TRY(xft_stored_read_f32(t[e], at, count, s->rows + (size_t)e * CHUNK));
            double square = 0;
            for (uint64_t i = 0; i < count; i++) square += ((double)x[i] - s->rows[i]) * ((double)x[i] - s->rows[i]);
            s->square[e] += square;
            for (uint32_t f = 0; f <= e; f++) {
                const float *y = s->rows + (size_t)f * CHUNK;
                double dot = 0;
                for (uint64_t i = 0; i < count; i++) dot += (double)x[i] * y[i];
                s->gram[e * E + f] += dot;
            }
        }
    }
    return XFT_OK;
}

static xft_status describe_experts(const xft_shards *shards, const xft_config *c, uint32_t layer, json_t *o) {
    static const char *const kinds[] = {"gate", "up", "down"};
    uint32_t E = c->num_experts;
    similarity s = {calloc((size_t)E * E, sizeof *s.gram), calloc(E, sizeof *s.square),
                    malloc((size_t)E * CHUNK * sizeof *s.rows)};
    xft_status status =
        s.gram && s.square && s.rows ? XFT_OK : xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u experts", E);
    for (uint32_t k = 0; k < 3 && status == XFT_OK; k++) status = compare_matrix(shards, layer, kinds[k], E, &s);
    if (status == XFT_OK) {
        json_t *cosine = json_array(), *distance = json_array();
        for (uint32_t e = 0; e < E; e++) {
            json_t *row = json_array();
            for (uint32_t f = 0; f < E; f++)
                json_array_append_new(
                    row, real(s.gram[e > f ? e * E + f : f * E + e] / sqrt(s.gram[e * E + e] * s.gram[f * E + f])));
            json_array_append_new(cosine, row);
            json_array_append_new(distance, real(sqrt(s.square[e] / s.gram[0])));
        }
        json_object_set_new(o, "cosine", cosine);
        json_object_set_new(o, "distance", distance);
    }
    free(s.gram);
    free(s.square);
    free(s.rows);
    return status;
}

static double softplus(double x) {
    return x > 30 ? x : log1p(exp(x));
}

/* Mean of softplus(deviation n) over n ~ N(0,1), by the trapezoid rule. */
static double mean_softplus(double deviation) {
    double sum = 0, weights = 0;
    for (int i = -800; i <= 800; i++) {
        double n = i / 100.0, w = exp(-n * n / 2);
        sum += w * softplus(deviation * n);
        weights += w;
    }
    return sum / weights;
}

/* A router tensor of a layer as f32, or NULL where there is none; to be freed. */
static xft_status router_tensor(const xft_shards *shards, uint32_t layer, const char *part, uint64_t *count,
                                float **values) {
    char name[160];
    *values = NULL;
    snprintf(name, sizeof name, "model.layers.%u.mlp.%s", layer, part);
    const xft_stored_tensor *t = xft_shards_find(shards, name, NULL);
    if (!t) return XFT_OK;
    *count = t->bytes / xft_stored_dtype_size(t->dtype);
    *values = malloc(*count * sizeof **values + 1);
    XFT_FAIL_IF(!*values, XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", name);
    xft_status status = xft_stored_read_f32(t, 0, *count, *values);
    if (status == XFT_OK) return XFT_OK;
    free(*values);
    *values = NULL;
    return status;
}

static double norm_of(const float *values, uint64_t count) {
    double squares = 0;
    for (uint64_t i = 0; i < count; i++) squares += (double)values[i] * values[i];
    return sqrt(squares);
}

static xft_status add_norm(const xft_shards *shards, uint32_t layer, const char *part, const char *key, json_t *o) {
    float *values;
    uint64_t count;
    XFT_TRY(router_tensor(shards, layer, part, &count, &values));
    if (values) json_object_set_new(o, key, real(norm_of(values, count)));
    free(values);
    return XFT_OK;
}

static xft_status describe_router(const xft_shards *shards, const xft_config *c, uint32_t layer, json_t *o) {
    json_t *router = json_object();
    json_object_set_new(o, "router", router);
    XFT_TRY(add_norm(shards, layer, c->gate_mlp ? "gate.gate_network.0.weight" : "gate.gate_network.weight", "w1_norm",
                     router));
    if (c->gate_mlp) XFT_TRY(add_norm(shards, layer, "gate.gate_network.2.weight", "w2_norm", router));
    if (!c->gate_noise) return XFT_OK;
    float *noise;
    uint64_t count, E = xft_config_routed(c);
    XFT_TRY(router_tensor(shards, layer, "gate.weight_noise.weight", &count, &noise));
    if (!noise || count % E) {
        free(noise);
        return XFT_OK; /* among the problems */
    }
    double scale = 0;
    for (uint64_t e = 0; e < E; e++)
        scale += (mean_softplus(norm_of(noise + e * (count / E), count / E)) + c->noise_epsilon) / (double)E;
    json_object_set_new(router, "noise_norm", real(norm_of(noise, count)));
    json_object_set_new(router, "noise", real(scale * c->noise_scale));
    free(noise);
    return XFT_OK;
}

static xft_status describe_mixing(const xft_shards *shards, uint32_t layer, json_t *o) {
    float *a;
    uint64_t count;
    XFT_TRY(router_tensor(shards, layer, "average_weights", &count, &a));
    if (!a) return XFT_OK;
    double top = -INFINITY, sum = 0;
    json_t *alpha = json_array();
    for (uint64_t i = 0; i < count; i++) top = a[i] > top ? a[i] : top;
    for (uint64_t i = 0; i < count; i++) sum += exp(a[i] - top);
    for (uint64_t i = 0; i < count; i++) json_array_append_new(alpha, real(exp(a[i] - top) / sum));
    json_object_set_new(o, "alpha", alpha);
    free(a);
    return XFT_OK;
}

/* ---- The whole ---- */

typedef struct inspection {
    xft_shards shards;
    xft_config config;
    bool understood; /* config holds what config.json says */
    char *config_text;
    const xft_callbacks *callbacks;
    json_t *root, *problems;
} inspection;

static xft_status inspect_tensors(inspection *in) {
    uint64_t bytes = 0, parameters = 0, nan = 0, inf = 0, count = 0, done = 0;
    json_t *list = json_array();
    json_object_set_new(in->root, "tensors", list);
    for (size_t f = 0; f < in->shards.count; f++) count += xft_safetensors_count(in->shards.files[f]);
    float *room = malloc(CHUNK * sizeof *room);
    XFT_FAIL_IF(!room, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %d elements", CHUNK);
    xft_status status = XFT_OK;
    for (size_t f = 0; f < in->shards.count; f++)
        for (uint32_t i = 0; i < xft_safetensors_count(in->shards.files[f]) && status == XFT_OK; i++) {
            const xft_stored_tensor *t = xft_safetensors_at(in->shards.files[f], i);
            status = xft_progress(in->callbacks, "inspecting", done++, count);
            if (status == XFT_OK)
                status = describe_tensor(xft_safetensors_path(in->shards.files[f]), t, room, list, &nan, &inf);
            bytes += t->bytes;
            parameters += t->bytes / xft_stored_dtype_size(t->dtype);
        }
    free(room);
    json_object_set_new(in->root, "bytes", json_integer((json_int_t)bytes));
    json_object_set_new(in->root, "parameters", json_integer((json_int_t)parameters));
    json_object_set_new(
        in->root, "totals",
        json_pack("{s:I,s:I,s:I}", "tensors", (json_int_t)count, "nan", (json_int_t)nan, "inf", (json_int_t)inf));
    return status;
}

static xft_status inspect_layers(inspection *in) {
    json_t *layers = json_array();
    json_object_set_new(in->root, "layers", layers);
    for (uint32_t l = 0; l < in->config.num_layers; l++) {
        json_t *o = json_pack("{s:i}", "layer", (int)l);
        json_array_append_new(layers, o);
        XFT_TRY(xft_progress(in->callbacks, "comparing experts", l, in->config.num_layers));
        XFT_TRY(describe_router(&in->shards, &in->config, l, o));
        XFT_TRY(describe_experts(&in->shards, &in->config, l, o));
        XFT_TRY(describe_mixing(&in->shards, l, o));
    }
    return XFT_OK;
}

/* How a merged model was mixed. */
static xft_status inspect_merge(inspection *in, const char *folder) {
    char *path, *text = NULL;
    XFT_TRY(xft_path_join(folder, "merge.json", &path));
    xft_status status = access(path, F_OK) == 0 ? xft_read_file(path, &text, NULL) : XFT_OK;
    json_t *merge = text ? json_loads(text, 0, NULL) : NULL;
    if (text && !merge) json_array_append_new(in->problems, json_sprintf("%s: is not JSON", path));
    if (merge) json_object_set_new(in->root, "merge", merge);
    free(text);
    free(path);
    return status;
}

static xft_status inspect(inspection *in, const char *folder) {
    json_object_set_new(in->root, "folder", json_string(folder));
    xft_status status = xft_checkpoint_config(folder, &in->config_text, &in->config);
    if (status == XFT_ERROR_IO || status == XFT_ERROR_OUT_OF_HOST_MEMORY) return status;
    in->understood = status == XFT_OK;
    json_object_set_new(in->root, "config", in->understood ? describe_config(&in->config) : json_object());
    if (!in->understood) json_array_append_new(in->problems, json_string(xft_error()));
    XFT_TRY(xft_shards_open(folder, &in->shards));
    XFT_TRY(inspect_tensors(in));
    XFT_TRY(inspect_merge(in, folder));
    if (in->understood) XFT_TRY(check_names(&in->config, &in->shards, in->problems));
    /* experts of a broken folder are not compared */
    if (in->understood && in->config.num_experts && !json_array_size(in->problems)) XFT_TRY(inspect_layers(in));
    return XFT_OK;
}

xft_status xft_inspect(const char *folder, const xft_callbacks *callbacks, char **json) {
    XFT_FAIL_IF(!folder || !json, XFT_ERROR_INVALID_ARGUMENT, "xft_inspect: folder and json must not be NULL");
    inspection in = {.callbacks = callbacks, .root = json_object(), .problems = json_array()};
    *json = NULL;
    xft_status status = inspect(&in, folder);
    json_object_set_new(in.root, "problems", in.problems);
    if (status == XFT_OK) {
        *json = json_dumps(in.root, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
        if (!*json) status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory for its description", folder);
    }
    xft_shards_close(&in.shards);
    free(in.config_text);
    json_decref(in.root);
    return status;
}
