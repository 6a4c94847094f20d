#include "small_model.h"

#include "error.h"
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double small_uniform(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

double small_normal(uint64_t *state) {
    double u = 1 - small_uniform(state), v = small_uniform(state);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* ---- Models ---- */

xft_config small_config(xft_family family) {
    bool stablelm = family == XFT_FAMILY_STABLELM;
    return (xft_config){.family = family,
                        .hidden_size = 32,
                        .intermediate_size = 24,
                        .num_layers = 2,
                        .num_heads = 4,
                        .num_kv_heads = 2,
                        .head_size = 8,
                        .rotary = stablelm ? 2 : 8,
                        .vocab_size = SMALL_VOCABULARY,
                        .max_positions = 64,
                        .norm_eps = 1e-5f,
                        .qkv_bias = family != XFT_FAMILY_LLAMA,
                        .tied_head = family == XFT_FAMILY_QWEN2,
                        .rope_theta = 10000,
                        .initializer_range = 0.1f,
                        .pad_token_id = UINT32_MAX,
                        .bos_token_id = UINT32_MAX,
                        .eos_token_id = UINT32_MAX};
}

xft_config small_moe(xft_family family, uint32_t num_experts, uint32_t top_k, xft_gate gate, bool mlp) {
    xft_config c = small_config(family);
    c.num_experts = num_experts;
    c.top_k = top_k;
    c.gate = gate;
    c.gate_mlp = mlp;
    c.gate_noise = true;
    c.noise_epsilon = c.balance_weight = 1e-2f;
    c.noise_scale = 1;
    c.shared_expert_weight = 0.75f;
    return c;
}

static xft_status make_model(xft_device *device, const xft_config *config, const xft_model_options *options,
                             uint64_t seed, xft_model **model) {
    XFT_TRY(xft_model_create(device, config, options, model));
    xft_status status = xft_model_init(*model, seed);
    for (uint32_t i = 0; i < (*model)->parameters.count && status == XFT_OK; i++) {
        const xft_parameter *p = &(*model)->parameters.list[i];
        if (!p->small || !p->matrix) continue;
        xft_tensor w = xft_parameter_view(p, &(*model)->weights);
        uint64_t count = (uint64_t)xft_rows(&w) * xft_cols(&w), state = seed + i;
        float *values = malloc(count * sizeof *values);
        for (uint64_t k = 0; k < count; k++) values[k] = (float)(0.4 * small_normal(&state));
        status = xft_tensor_write(&w, XFT_F32, values);
        free(values);
    }
    return status;
}

xft_status small_model(xft_device *device, const xft_config *config, xft_dtype dtype, uint64_t seed,
                       xft_model **model) {
    return make_model(device, config, &(xft_model_options){.dtype = dtype}, seed, model);
}

xft_status small_merge_model(xft_device *device, const xft_config *config, xft_dtype dtype, uint64_t seed,
                             xft_model **model) {
    return make_model(device, config, &(xft_model_options){.dtype = dtype, .mixing = true}, seed, model);
}

/* ---- Data ---- */

void small_data_make(small_data *d, uint32_t sequences, uint32_t length, bool packed, uint64_t seed) {
    uint32_t T = sequences * length + (packed ? 5 : 0), V = SMALL_VOCABULARY;
    *d = (small_data){0};
    d->ids = calloc(T, sizeof *d->ids);
    d->labels = calloc(T, sizeof *d->labels);
    d->cu_seqlens = calloc(sequences + 1, sizeof *d->cu_seqlens);
    d->lengths = calloc(sequences, sizeof *d->lengths);
    for (uint32_t t = 0; t < T; t++) {
        bool jump = t == 0 || small_uniform(&seed) < 0.1;
        d->ids[t] = jump ? (uint32_t)(small_uniform(&seed) * V) : (7 * d->ids[t - 1] + 3) % V;
        d->labels[t] = UINT32_MAX;
    }
    for (uint32_t i = 0; i < sequences; i++) {
        uint32_t shift = packed && i % 2 ? length / 3 : 0; /* uneven lengths */
        d->cu_seqlens[i + 1] = (i + 1) * length - (packed && i % 2 == 0 && i + 1 < sequences ? length / 3 : 0);
        d->lengths[i] = d->cu_seqlens[i + 1] - d->cu_seqlens[i] - (packed && shift ? 2 : 0); /* some padding */
        for (uint32_t t = 0; t + 1 < d->lengths[i]; t++)
            d->labels[d->cu_seqlens[i] + t] = d->ids[d->cu_seqlens[i] + t + 1];
    }
    d->batch = (xft_batch){.tokens = T,
                           .sequences = sequences,
                           .ids = d->ids,
                           .labels = d->labels,
                           .cu_seqlens = d->cu_seqlens,
                           .lengths = d->lengths};
}

void small_data_noise(small_data *d, const xft_config *c, uint64_t seed) {
    uint32_t routed = xft_config_routed(c), T = d->batch.tokens;
    free(d->noise);
    free(d->noise_rows);
    d->noise = calloc((size_t)c->num_layers * T * routed, sizeof *d->noise);
    d->noise_rows = calloc(c->num_layers, sizeof *d->noise_rows);
    for (size_t i = 0; i < (size_t)c->num_layers * T * routed; i++) d->noise[i] = (float)small_normal(&seed);
    for (uint32_t l = 0; l < c->num_layers; l++) d->noise_rows[l] = d->noise + (size_t)l * T * routed;
    d->batch.noise = d->noise_rows;
}

void small_data_free(small_data *d) {
    free(d->ids);
    free(d->labels);
    free(d->cu_seqlens);
    free(d->lengths);
    free(d->noise);
    free(d->noise_rows);
    *d = (small_data){0};
}

/* ---- Everything of a model ---- */

static uint64_t elements(const xft_tensor *t) {
    return (uint64_t)xft_rows(t) * xft_cols(t);
}

static float *read_all(const xft_model *model, const xft_weights *from, uint64_t *count) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < model->parameters.count; i++) {
        xft_tensor view = xft_parameter_view(&model->parameters.list[i], from);
        if (view.rank) total += elements(&view);
    }
    float *values = malloc(total * sizeof *values), *at = values;
    for (uint32_t i = 0; i < model->parameters.count; i++) {
        xft_tensor view = xft_parameter_view(&model->parameters.list[i], from);
        if (!view.rank) continue;
        if (xft_tensor_read(&view, XFT_F32, at)) abort();
        at += elements(&view);
    }
    if (count) *count = total;
    return values;
}

float *small_weights(const xft_model *model, uint64_t *count) {
    return read_all(model, &model->weights, count);
}

float *small_gradients(const xft_trainer *trainer, uint64_t *count) {
    return read_all(trainer->model, &trainer->d, count);
}

xft_status small_write_weights(xft_model *model, const float *values) {
    for (uint32_t i = 0; i < model->parameters.count; i++) {
        xft_tensor view = xft_parameter_view(&model->parameters.list[i], &model->weights);
        XFT_TRY(xft_tensor_write(&view, XFT_F32, values));
        values += elements(&view);
    }
    return XFT_OK;
}

xft_status small_loss(xft_trainer *trainer, const xft_batch *batches, uint32_t count, double *loss) {
    xft_metrics m;
    XFT_TRY(xft_trainer_step(trainer, batches, count, 0));
    XFT_TRY(xft_trainer_flush(trainer, &m));
    XFT_FAIL_IF(m.skipped, XFT_ERROR_FORMAT, "loss %g, balance loss %g, norm %g", m.loss, m.balance, m.grad_norm);
    *loss = m.loss + m.balance;
    return XFT_OK;
}
