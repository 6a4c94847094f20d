/* Making models: from a configuration, from a dense model (upcycling), from a MoE (mixing to dense). */
#include "model.h"

#include "callbacks.h"
#include "error.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

xft_config xft_config_dense(const xft_config *moe) {
    xft_config c = *moe;
    c.num_experts = c.top_k = 0;
    c.gate = XFT_GATE_XFT;
    c.gate_mlp = c.gate_noise = false;
    c.noise_epsilon = c.balance_weight = c.noise_scale = c.shared_expert_weight = 0;
    return c;
}

/* ---- Life ---- */

static xft_status name_tensors(xft_model *m) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->parameters.count; i++)
        count += m->parameters.list[i].experts ? m->config.num_experts : 1;
    m->tensors = calloc(count, sizeof *m->tensors);
    XFT_FAIL_IF(!m->tensors, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the names of %u tensors", count);
    for (uint32_t i = 0; i < m->parameters.count; i++) {
        const xft_parameter *p = &m->parameters.list[i];
        xft_tensor whole = xft_parameter_view(p, &m->weights);
        for (uint32_t e = 0; e < (p->experts ? m->config.num_experts : 1); e++) {
            xft_named_tensor *t = &m->tensors[m->tensor_count++];
            t->tensor = whole;
            if (!p->experts) {
                memcpy(t->name, p->name, sizeof t->name);
                continue;
            }
            const char *number = strstr(p->name, "%u");
            snprintf(t->name, sizeof t->name, "%.*s%u%s", (int)(number - p->name), p->name, e, number + 2);
            XFT_TRY(xft_tensor_at(&whole, e, &t->tensor));
        }
    }
    return XFT_OK;
}

static xft_status build(xft_model *m) {
    XFT_TRY(xft_parameters_make(&m->config, m->options.mixing, &m->parameters));
    xft_room count = {.device = m->device}; /* so that the arena takes no more than it needs */
    xft_status status =
        xft_weights_take(&count, &m->config, &m->parameters, m->options.dtype, m->options.dtype, NULL, &m->weights);
    xft_weights_free(&m->weights);
    XFT_TRY(status);
    XFT_TRY(xft_room_arena(&count, m->device, "weights", &m->arena));
    xft_room room = {.device = m->device, .arena = m->arena};
    XFT_TRY(xft_weights_take(&room, &m->config, &m->parameters, m->options.dtype, m->options.dtype, NULL, &m->weights));
    XFT_TRY(name_tensors(m));
    for (uint32_t l = 0; m->options.mixing && l < m->config.num_layers; l++) {
        float ones[64];
        for (uint32_t i = 0; i < 64; i++) ones[i] = 1;
        XFT_TRY(xft_tensor_write(&m->weights.layers[l].mixing, XFT_F32, ones));
    }
    return XFT_OK;
}

xft_status xft_model_create(xft_device *device, const xft_config *config, const xft_model_options *options,
                            xft_model **model) {
    XFT_FAIL_IF(!device || !config || !model, XFT_ERROR_INVALID_ARGUMENT,
                "xft_model_create: device, config and model must not be NULL");
    *model = NULL;
    xft_model_options o = options ? *options : (xft_model_options){0};
    XFT_TRY(xft_config_check(config));
    XFT_FAIL_IF(o.dtype != XFT_F32 && o.dtype != XFT_BF16, XFT_ERROR_INVALID_ARGUMENT,
                "xft_model_create: dtype %s, must be f32 or bf16", xft_dtype_name(o.dtype));
    XFT_FAIL_IF(o.mixing && (!config->num_experts || config->gate == XFT_GATE_VANILLA), XFT_ERROR_INVALID_ARGUMENT,
                "xft_model_create: mixing needs a MoE with a shared expert");
    xft_model *m = calloc(1, sizeof *m);
    XFT_FAIL_IF(!m, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a model");
    m->device = device;
    m->config = *config;
    m->options = o;
    m->options.config_json = o.config_json ? strdup(o.config_json) : NULL;
    xft_status status = build(m);
    if (status != XFT_OK) {
        xft_model_destroy(m);
        return status;
    }
    *model = m;
    return XFT_OK;
}

void xft_model_destroy(xft_model *m) {
    if (!m) return;
    xft_arena_destroy(m->arena);
    xft_weights_free(&m->weights);
    free(m->parameters.list);
    free(m->tensors);
    free((char *)(uintptr_t)m->options.config_json);
    free(m);
}

const xft_config *xft_model_get_config(const xft_model *m) {
    return m ? &m->config : NULL;
}
xft_device *xft_model_device(const xft_model *m) {
    return m ? m->device : NULL;
}
xft_dtype xft_model_dtype(const xft_model *m) {
    return m ? m->options.dtype : XFT_F32;
}
bool xft_model_has_mixing(const xft_model *m) {
    return m && m->options.mixing;
}
uint64_t xft_model_bytes(const xft_model *m) {
    return m ? xft_arena_used(m->arena) : 0;
}

xft_status xft_model_config_json(const xft_model *m, char **json) {
    XFT_FAIL_IF(!m, XFT_ERROR_INVALID_ARGUMENT, "xft_model_config_json: model is NULL");
    return xft_config_write(&m->config, m->options.config_json, json);
}

xft_status xft_model_set_shared_weight(xft_model *m, float lambda) {
    XFT_FAIL_IF(!m, XFT_ERROR_INVALID_ARGUMENT, "xft_model_set_shared_weight: model is NULL");
    XFT_FAIL_IF(!m->config.num_experts || !(lambda >= 0 && lambda <= 1), XFT_ERROR_INVALID_ARGUMENT,
                "xft_model_set_shared_weight: lambda %g of a %s; expected 0 to 1 of a MoE", (double)lambda,
                m->config.num_experts ? "MoE" : "dense model");
    m->config.shared_expert_weight = lambda;
    return XFT_OK;
}

uint32_t xft_model_tensor_count(const xft_model *m) {
    return m ? m->tensor_count : 0;
}

xft_status xft_model_tensor(const xft_model *m, uint32_t index, const char **name, xft_tensor *tensor) {
    XFT_FAIL_IF(!m, XFT_ERROR_INVALID_ARGUMENT, "xft_model_tensor: model is NULL");
    XFT_FAIL_IF(index >= m->tensor_count, XFT_ERROR_INVALID_ARGUMENT, "xft_model_tensor: index %u of %u tensors", index,
                m->tensor_count);
    if (name) *name = m->tensors[index].name;
    if (tensor) *tensor = m->tensors[index].tensor;
    return XFT_OK;
}

xft_status xft_model_find(const xft_model *m, const char *name, xft_tensor *tensor) {
    XFT_FAIL_IF(!m, XFT_ERROR_INVALID_ARGUMENT, "xft_model_find: model is NULL");
    XFT_NEED(name, tensor);
    for (uint32_t i = 0; i < m->tensor_count; i++)
        if (!strcmp(m->tensors[i].name, name)) {
            *tensor = m->tensors[i].tensor;
            return XFT_OK;
        }
    return xft_fail(XFT_ERROR_INVALID_ARGUMENT, "the model has no tensor %s", name);
}

/* ---- Recording into a model ---- */

/* N(0, std) into a tensor of any storage type; `room` is f32 memory for the largest matrix that is not f32. */
static void random_matrix(xft_stream *s, const xft_tensor *y, const xft_tensor *room, float std, uint64_t seed,
                          uint32_t key) {
    if (y->dtype == XFT_F32) {
        xft_random_normal(s, y, std, seed, key);
        return;
    }
    xft_tensor x = *room;
    x.rank = y->rank;
    memcpy(x.shape, y->shape, sizeof x.shape);
    x.pitch = (xft_cols(y) + 3) / 4 * 4;
    xft_random_normal(s, &x, std, seed, key);
    xft_cast(s, &x, y, XFT_ROUND_NEAREST, NULL, 0);
}

static bool is_bias(const xft_parameter *p) {
    size_t length = strlen(p->name);
    return length > 5 && !strcmp(p->name + length - 5, ".bias");
}

static bool is_router(const xft_parameter *p) {
    return p->small && p->matrix;
}
static bool is_noise(const xft_parameter *p) {
    return is_router(p) && p->first_row;
}

/* Random content for the parameters that `wanted` takes; zero_noise: Wn = 0. */
static xft_status randomise(xft_model *m, bool (*wanted)(const xft_parameter *), bool zero_noise, uint64_t seed) {
    xft_arena *arena = NULL;
    xft_stream *s = NULL;
    xft_tensor room = {0};
    uint32_t largest = 0;
    for (uint32_t i = 0; i < m->parameters.count; i++) {
        const xft_parameter *p = &m->parameters.list[i];
        uint32_t entries = p->rank == 3 ? p->shape[0] * p->shape[1] : p->shape[0];
        uint32_t elements = entries * ((p->shape[p->rank - 1] + 3) / 4 * 4);
        if (!p->small && wanted(p) && elements > largest) largest = elements;
    }
    xft_status status = xft_arena_create(m->device, "initialisation", 0, &arena);
    if (status == XFT_OK && m->options.dtype != XFT_F32 && largest)
        status = xft_tensor_create(arena, XFT_F32, 1, &largest, &room);
    if (status == XFT_OK) status = xft_stream_create(m->device, &(xft_stream_options){.name = "initialisation"}, &s);
    for (uint32_t i = 0; i < m->parameters.count && status == XFT_OK; i++) {
        const xft_parameter *p = &m->parameters.list[i];
        if (!wanted(p)) continue;
        xft_tensor view = xft_parameter_view(p, &m->weights);
        if (!p->matrix)
            xft_fill(s, &view, is_bias(p) ? 0.0f : 1.0f);
        else if (is_noise(p) && zero_noise)
            xft_fill(s, &view, 0);
        else
            random_matrix(s, &view, &room, m->config.initializer_range, seed, i);
    }
    if (status == XFT_OK) status = xft_stream_run(s);
    xft_stream_destroy(s);
    xft_arena_destroy(arena);
    return status;
}

static bool every(const xft_parameter *p) {
    return p != NULL;
}

xft_status xft_model_init(xft_model *m, uint64_t seed) {
    XFT_FAIL_IF(!m, XFT_ERROR_INVALID_ARGUMENT, "xft_model_init: model must not be NULL");
    return randomise(m, every, false, seed);
}

/* Everything but the FFN and the router is the same on both sides. */
static void copy_common(xft_stream *s, const xft_model *from, const xft_model *to) {
    for (uint32_t i = 0; i < to->parameters.count; i++) {
        const xft_parameter *p = &to->parameters.list[i];
        xft_tensor x;
        if (p->experts || is_router(p) || strstr(p->name, ".mlp.") || xft_model_find(from, p->name, &x)) continue;
        xft_tensor y = xft_parameter_view(p, &to->weights);
        xft_cast(s, &x, &y, XFT_ROUND_NEAREST, NULL, 0);
    }
}

/* ---- Upcycling ---- */

static xft_status copy_experts(const xft_model *dense, const xft_callbacks *callbacks, xft_model *moe) {
    xft_stream *s;
    XFT_TRY(xft_stream_create(dense->device, &(xft_stream_options){.name = "upcycle"}, &s));
    copy_common(s, dense, moe);
    xft_status status = XFT_OK;
    for (uint32_t l = 0; l < dense->config.num_layers && status == XFT_OK; l++) {
        status = xft_progress(callbacks, "upcycling", l, dense->config.num_layers);
        const xft_layer_weights *x = &dense->weights.layers[l], *y = &moe->weights.layers[l];
        const xft_tensor *from[] = {&x->gate, &x->up, &x->down}, *to[] = {&y->gate, &y->up, &y->down};
        for (uint32_t i = 0; i < 3; i++)
            for (uint32_t e = 0; e < moe->config.num_experts && status == XFT_OK; e++) {
                xft_tensor expert;
                status = xft_tensor_at(to[i], e, &expert);
                if (status == XFT_OK) xft_cast(s, from[i], &expert, XFT_ROUND_NEAREST, NULL, 0);
            }
    }
    if (status == XFT_OK) status = xft_stream_run(s);
    xft_stream_destroy(s);
    return status;
}

xft_status xft_model_upcycle(const xft_model *dense, const xft_upcycle_options *options, xft_model **moe) {
    XFT_NEED(dense, options, moe);
    *moe = NULL;
    XFT_FAIL_IF(dense->config.num_experts, XFT_ERROR_INVALID_ARGUMENT, "xft_model_upcycle: the model is a MoE already");
    xft_config c = dense->config;
    c.num_experts = options->num_experts;
    c.top_k = options->top_k;
    c.gate = options->gate;
    c.gate_mlp = !options->linear_gate;
    c.gate_noise = !options->no_noise;
    c.noise_epsilon = c.balance_weight = 1e-2f;
    c.noise_scale = options->noise_scale < 0 ? 0 : options->noise_scale > 0 ? options->noise_scale : 1;
    c.shared_expert_weight = 0.75f;
    if (options->official) {
        c.rope_theta = 10000;
        c.rope_scaling = XFT_ROPE_LINEAR;
        c.rope_factor = 4;
    }
    XFT_FAIL_IF(!c.num_experts, XFT_ERROR_INVALID_ARGUMENT, "xft_model_upcycle: num_experts 0 must be from 2 to 64");
    if (c.num_experts == 2 && c.top_k == 2 && c.gate == XFT_GATE_XFT)
        xft_log(options->callbacks, XFT_LOG_WARNING,
                "num_experts 2 and num_selects 2: the one routed expert always has weight 1, so the shared expert "
                "never trains");
    xft_model *m;
    xft_model_options o = {.dtype = dense->options.dtype, .config_json = dense->options.config_json};
    XFT_TRY(xft_model_create(dense->device, &c, &o, &m));
    xft_status status = copy_experts(dense, options->callbacks, m);
    if (status == XFT_OK) status = randomise(m, is_router, options->router_init == XFT_ROUTER_INTENDED, options->seed);
    if (status != XFT_OK) {
        xft_model_destroy(m);
        return status;
    }
    *moe = m;
    return XFT_OK;
}

/* ---- Mixing to dense ---- */

/* a [E'] of layer l, from where `kind` says. */
static xft_status mixing_of(const xft_model *moe, xft_merge_kind kind, const float *given, uint32_t l, float *a) {
    uint32_t routed = xft_config_routed(&moe->config);
    if (kind == XFT_MERGE_LEARNED) return xft_tensor_read(&moe->weights.layers[l].mixing, XFT_F32, a);
    for (uint32_t i = 0; i < routed; i++) a[i] = kind == XFT_MERGE_GIVEN ? given[l * routed + i] : 0;
    return XFT_OK;
}

static xft_status mix(const xft_model *moe, xft_merge_kind kind, const float *given, float lambda,
                      const xft_callbacks *callbacks, xft_arena *arena, xft_stream *s, xft_model *dense) {
    uint32_t routed = xft_config_routed(&moe->config);
    copy_common(s, moe, dense);
    for (uint32_t l = 0; l < moe->config.num_layers; l++) {
        XFT_TRY(xft_progress(callbacks, "merging", l, moe->config.num_layers));
        const xft_layer_weights *x = &moe->weights.layers[l], *y = &dense->weights.layers[l];
        xft_tensor a, alpha;
        float values[64];
        XFT_TRY(xft_tensor_create(arena, XFT_F32, 1, &routed, &a));
        XFT_TRY(xft_tensor_create(arena, XFT_F32, 1, &routed, &alpha));
        XFT_TRY(mixing_of(moe, kind, given, l, values));
        XFT_TRY(xft_tensor_write(&a, XFT_F32, values));
        xft_mix_softmax(s, &a, &alpha);
        xft_mix(s, &x->gate, &alpha, lambda, &y->gate);
        xft_mix(s, &x->up, &alpha, lambda, &y->up);
        xft_mix(s, &x->down, &alpha, lambda, &y->down);
        XFT_TRY(xft_stream_run(s));
        XFT_TRY(xft_stream_reset(s));
    }
    return xft_progress(callbacks, "merging", moe->config.num_layers, moe->config.num_layers);
}

xft_status xft_model_merge(const xft_model *moe, xft_merge_kind kind, const float *coefficients, double lambda,
                           const xft_callbacks *callbacks, xft_model **dense) {
    XFT_NEED(moe, dense);
    *dense = NULL;
    XFT_FAIL_IF(!moe->config.num_experts || moe->config.gate == XFT_GATE_VANILLA, XFT_ERROR_INVALID_ARGUMENT,
                "xft_model_merge: needs a MoE with a shared expert");
    XFT_FAIL_IF((unsigned)kind > XFT_MERGE_GIVEN, XFT_ERROR_INVALID_ARGUMENT, "xft_model_merge: kind is %d", (int)kind);
    XFT_FAIL_IF(kind == XFT_MERGE_LEARNED && !moe->options.mixing, XFT_ERROR_INVALID_ARGUMENT,
                "xft_model_merge: the model has no mixing coefficients");
    XFT_FAIL_IF(kind == XFT_MERGE_GIVEN && !coefficients, XFT_ERROR_INVALID_ARGUMENT,
                "xft_model_merge: coefficients must be given");
    XFT_FAIL_IF(!(lambda <= 1), XFT_ERROR_INVALID_ARGUMENT, "xft_model_merge: lambda %g must be at most 1", lambda);
    float weight = lambda < 0 ? moe->config.shared_expert_weight : (float)lambda;
    xft_config c = xft_config_dense(&moe->config);
    xft_model_options o = {.dtype = moe->options.dtype, .config_json = moe->options.config_json};
    xft_model *m;
    xft_arena *arena = NULL;
    xft_stream *s = NULL;
    XFT_TRY(xft_model_create(moe->device, &c, &o, &m));
    xft_status status = xft_arena_create(moe->device, "mixing", 0, &arena);
    if (status == XFT_OK) status = xft_stream_create(moe->device, &(xft_stream_options){.name = "mixing"}, &s);
    if (status == XFT_OK) status = mix(moe, kind, coefficients, weight, callbacks, arena, s, m);
    xft_stream_destroy(s);
    xft_arena_destroy(arena);
    if (status != XFT_OK) {
        xft_model_destroy(m);
        return status;
    }
    *dense = m;
    return XFT_OK;
}
