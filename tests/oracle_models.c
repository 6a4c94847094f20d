/* Cases that run a model once: dense, packed, moe_train, merge, moe_eval, upcycle, generate. */
#include "oracle.h"

#include "error.h"
#include "evaluator.h"
#include "model.h"
#include "trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Pieces ---- */

/* The parts of one expert or matrix under its checkpoint name, from the tensors of a weight-shaped structure. */
static xft_status compare_weights(oracle *o, const xft_model *model, const xft_weights *weights, const char *prefix) {
    for (uint32_t i = 0; i < model->parameters.count; i++) {
        const xft_parameter *p = &model->parameters.list[i];
        if (!xft_parameter_store(p, weights)->rank) continue;
        xft_tensor whole = xft_parameter_view(p, weights);
        for (uint32_t e = 0; e < (p->experts ? model->config.num_experts : 1); e++) {
            char name[2 * XFT_NAME_SIZE];
            xft_tensor part = whole;
            const char *number = strstr(p->name, "%u");
            if (number) {
                snprintf(name, sizeof name, "%.*s%u%s", (int)(number - p->name), p->name, e, number + 2);
                XFT_TRY(xft_tensor_at(&whole, e, &part));
            } else {
                snprintf(name, sizeof name, "%s", p->name);
            }
            XFT_TRY(oracle_compare_tensor(o, &part, "%s%s", prefix, name));
        }
    }
    return XFT_OK;
}

/* Logits of the last forward pass of a network, into memory of their own. */
static xft_status compare_logits(oracle *o, const xft_network *n, uint32_t rows) {
    xft_arena *arena = NULL;
    xft_stream *s = NULL;
    xft_tensor logits, used;
    const uint32_t shape[] = {n->options.tokens, n->config->vocab_size};
    xft_status status = xft_arena_create(o->device, "logits", 0, &arena);
    if (status == XFT_OK) status = xft_tensor_create(arena, XFT_F32, 2, shape, &logits);
    if (status == XFT_OK) status = xft_stream_create(o->device, NULL, &s);
    if (status == XFT_OK) {
        xft_network with = *n;
        with.logits = logits;
        xft_head_logits(&with, s);
        status = xft_stream_run(s);
    }
    if (status == XFT_OK) status = xft_tensor_rows(&logits, 0, rows, &used);
    if (status == XFT_OK) status = oracle_compare_tensor(o, &used, "logits");
    xft_stream_destroy(s);
    xft_arena_destroy(arena);
    return status;
}

/* g, picks and weights of every layer for the first `rows` tokens. Layers must not share their activations. */
static xft_status compare_routing(oracle *o, const xft_network *n, uint32_t rows) {
    if (!n->config->num_experts) return XFT_OK;
    uint32_t routed = xft_config_routed(n->config);
    for (uint32_t l = 0; l < n->config->num_layers; l++) {
        const xft_layer_activations *a = &n->layers[l];
        xft_tensor state, picks, weights;
        XFT_TRY(xft_tensor_rows(&a->state, 0, rows, &state));
        XFT_TRY(xft_tensor_rows(&a->picks, 0, rows, &picks));
        XFT_TRY(xft_tensor_rows(&a->weights, 0, rows, &weights));
        uint32_t width = xft_cols(&state);
        float *values = malloc((size_t)rows * width * sizeof *values);
        double *g = malloc((size_t)rows * routed * sizeof *g);
        xft_status status = xft_tensor_read(&state, XFT_F32, values);
        for (uint32_t t = 0; t < rows; t++)
            for (uint32_t e = 0; e < routed; e++) g[t * routed + e] = values[t * width + routed + e]; /* a, then g */
        if (status == XFT_OK) oracle_compare(o, g, (uint64_t)rows * routed, "layers.%u.router_logits", l);
        free(g);
        free(values);
        XFT_TRY(status);
        XFT_TRY(oracle_compare_tensor(o, &picks, "layers.%u.topk", l));
        XFT_TRY(oracle_compare_tensor(o, &weights, "layers.%u.weights", l));
    }
    return XFT_OK;
}

/* Importance, load, and the balance loss of each layer by itself. */
static xft_status compare_balance(oracle *o, const xft_network *n) {
    if (!n->config->num_experts || !oracle_wants(o, "layers.0.balance")) return XFT_OK;
    for (uint32_t l = 0; l < n->config->num_layers; l++) {
        const xft_layer_activations *a = &n->layers[l];
        xft_stream *s;
        XFT_TRY(xft_stream_create(o->device, NULL, &s));
        xft_router_config router = n->router;
        router.layer = l;
        xft_fill(s, &n->balance, 0);
        xft_router_balance(s, &router, &a->state, &n->segments, &n->step, &n->statistics, &a->stats, &a->coefficients,
                           &n->balance);
        xft_status status = xft_stream_run(s);
        xft_stream_destroy(s);
        XFT_TRY(status);
        xft_tensor importance, load;
        XFT_TRY(xft_tensor_at(&a->stats, 0, &importance));
        XFT_TRY(xft_tensor_at(&a->stats, 1, &load));
        XFT_TRY(oracle_compare_tensor(o, &n->balance, "layers.%u.balance", l));
        XFT_TRY(oracle_compare_tensor(o, &importance, "layers.%u.importance", l));
        XFT_TRY(oracle_compare_tensor(o, &load, "layers.%u.load", l));
    }
    return XFT_OK;
}

/* Sum of the cross-entropy of every sequence. */
static xft_status compare_sequences(oracle *o, const xft_network *n, const oracle_batch *b) {
    if (!oracle_wants(o, "ce_sum")) return XFT_OK;
    float *loss = malloc(n->options.tokens * sizeof *loss);
    double *sums = calloc(b->batch.sequences, sizeof *sums);
    xft_status status = xft_tensor_read(&n->row_loss, XFT_F32, loss);
    for (uint32_t i = 0; i < b->batch.sequences; i++)
        for (uint32_t t = b->cu_seqlens[i]; t < b->cu_seqlens[i + 1]; t++)
            sums[i] += (double)loss[t] * (double)b->label_count;
    if (status == XFT_OK) oracle_compare(o, sums, b->batch.sequences, "ce_sum");
    free(sums);
    free(loss);
    return status;
}

static xft_status compare_merged(oracle *o, const xft_merge *m, uint32_t layers, const char *prefix) {
    for (uint32_t l = 0; l < layers; l++) {
        XFT_TRY(oracle_compare_tensor(o, &m->merged.layers[l].gate, "%smerged.layers.%u.gate_proj", prefix, l));
        XFT_TRY(oracle_compare_tensor(o, &m->merged.layers[l].up, "%smerged.layers.%u.up_proj", prefix, l));
        XFT_TRY(oracle_compare_tensor(o, &m->merged.layers[l].down, "%smerged.layers.%u.down_proj", prefix, l));
    }
    return XFT_OK;
}

/* The evaluation path: logits and cross-entropy of `model`. */
static xft_status compare_evaluation(oracle *o, xft_model *model, const oracle_batch *b, bool logits_only) {
    xft_evaluator *e;
    bool official = !strcmp(o->prefix, "official.");
    uint32_t T = b->batch.tokens, V = model->config.vocab_size;
    XFT_TRY(xft_evaluator_create(model, T, b->batch.sequences, true, official, &e));
    float *logits = malloc((size_t)T * V * sizeof *logits);
    double *wide = malloc((size_t)T * V * sizeof *wide), sum = 0, ce;
    uint64_t labels = 0;
    xft_status status = xft_evaluator_run(e, &b->batch, &sum, &labels, logits);
    for (size_t i = 0; i < (size_t)T * V && status == XFT_OK; i++) wide[i] = logits[i];
    if (status == XFT_OK) {
        oracle_compare(o, wide, (uint64_t)T * V, "logits");
        ce = sum / (double)labels;
        if (!logits_only) oracle_compare(o, &ce, 1, "ce");
    }
    free(wide);
    free(logits);
    xft_evaluator_destroy(e);
    return status;
}

/* ---- dense, packed, moe_train, merge: one training step at rate 0 ---- */

xft_status oracle_write_mixing(const oracle *o, xft_model *model) {
    for (uint32_t l = 0; l < model->config.num_layers; l++) {
        char name[40];
        snprintf(name, sizeof name, "average_weights.%u", l);
        float *a = oracle_floats(o, name, NULL);
        XFT_FAIL_IF(!a, XFT_ERROR_FORMAT, "%s: no %s", o->folder, name);
        xft_status status = xft_tensor_write(&model->weights.layers[l].mixing, XFT_F32, a);
        free(a);
        XFT_TRY(status);
    }
    return XFT_OK;
}

static xft_status step_once(oracle *o, xft_model *model, bool merge) {
    oracle_batch b = {0};
    xft_trainer *t = NULL;
    xft_metrics metrics;
    bool official = !strcmp(o->prefix, "official.");
    xft_status status = oracle_batch_make(o, 0, &model->config, false, &b);
    xft_train_options options = {.tokens = b.batch.tokens,
                                 .sequences = b.batch.sequences,
                                 .merge = merge,
                                 .official = official,
                                 .stored_noise = true,
                                 .optimizer = XFT_ADAMW,
                                 .head_chunk = 16}; /* several chunks also in small cases */
    if (status == XFT_OK) status = xft_trainer_create(model, &options, &t);
    if (status == XFT_OK) status = xft_trainer_step(t, &b.batch, 1, 0);
    if (status == XFT_OK) status = xft_trainer_flush(t, &metrics);
    if (status == XFT_OK) {
        uint32_t rows = b.cu_seqlens[b.batch.sequences];
        double total = metrics.loss + metrics.balance;
        oracle_compare(o, &metrics.loss, 1, "ce");
        oracle_compare(o, &total, 1, "total");
        status = compare_sequences(o, &t->network, &b);
        if (status == XFT_OK) status = compare_weights(o, model, &t->d, "grad.");
        if (status == XFT_OK) status = compare_logits(o, &t->network, rows);
        if (!official) o->hidden = "attention_mask"; /* ours routes no padding */
        if (status == XFT_OK) status = compare_routing(o, &t->network, rows);
        o->hidden = NULL;
        if (status == XFT_OK) status = compare_balance(o, &t->network);
    }
    for (uint32_t l = 0; merge && status == XFT_OK && l < model->config.num_layers; l++)
        status = oracle_compare_tensor(o, &t->d.layers[l].mixing, "grad.average_weights.%u", l);
    if (merge && status == XFT_OK) status = compare_merged(o, &t->merge, model->config.num_layers, "");
    xft_trainer_destroy(t);
    oracle_batch_free(&b);
    return status;
}

xft_status oracle_run_model(oracle *o) {
    xft_model *model, *dense = NULL;
    oracle_batch b = {0};
    bool merge = !strcmp(o->kind, "merge");
    XFT_TRY(oracle_model(o, "model", merge, &model));
    xft_status status = XFT_OK;
    if (merge) {
        status = oracle_write_mixing(o, model);
        if (status == XFT_OK)
            status = xft_model_set_shared_weight(model, (float)oracle_number(o, "shared_expert_weight", 0.75));
    }
    if (status == XFT_OK) status = step_once(o, model, merge);
    /* and what is written as the merged model */
    if (merge && status == XFT_OK) status = xft_model_merge(model, XFT_MERGE_LEARNED, NULL, -1, NULL, &dense);
    if (merge && status == XFT_OK) status = oracle_batch_make(o, 0, &dense->config, false, &b);
    if (merge && status == XFT_OK) status = compare_evaluation(o, dense, &b, false);
    oracle_batch_free(&b);
    xft_model_destroy(dense);
    xft_model_destroy(model);
    return status;
}

/* ---- moe_eval ---- */

/* Layer 0's block alone: its input in place of norm2's output. */
static xft_status compare_block(oracle *o, const xft_network *n) {
    float *x = oracle_floats(o, "block.0.x", NULL);
    if (!x) return XFT_OK;
    xft_stream *s = NULL;
    xft_status status = xft_tensor_write(&n->layers[0].y2, XFT_F32, x);
    free(x);
    if (status == XFT_OK) status = xft_stream_create(o->device, NULL, &s);
    if (status == XFT_OK) {
        xft_moe_block_forward(n, s, 0, false, &n->x_end);
        status = xft_stream_run(s);
    }
    if (status == XFT_OK) status = oracle_compare_tensor(o, &n->x_end, "block.0.y");
    xft_stream_destroy(s);
    return status;
}

xft_status oracle_run_moe_eval(oracle *o) {
    xft_model *model;
    oracle_batch b = {0};
    xft_trainer *t = NULL;
    bool official = !strcmp(o->prefix, "official.");
    XFT_TRY(oracle_model(o, "model", false, &model));
    xft_status status = oracle_batch_make(o, 0, &model->config, true, &b);
    if (status == XFT_OK) status = compare_evaluation(o, model, &b, false);
    /* a trainer keeps the routing of every layer; noise of 0 gives what evaluation gives */
    xft_train_options options = {
        .tokens = b.batch.tokens, .sequences = b.batch.sequences, .official = official, .stored_noise = true};
    if (status == XFT_OK) status = xft_trainer_create(model, &options, &t);
    if (status == XFT_OK) status = xft_trainer_step(t, &b.batch, 1, 0);
    if (status == XFT_OK) status = compare_routing(o, &t->network, b.batch.tokens);
    if (status == XFT_OK) status = compare_block(o, &t->network);
    xft_trainer_destroy(t);
    oracle_batch_free(&b);
    xft_model_destroy(model);
    return status;
}

/* ---- upcycle ---- */

xft_status oracle_run_upcycle(oracle *o) {
    xft_model *models[3] = {0}; /* the dense one, the stored MoE, our own upcycling */
    oracle_batch b = {0};
    xft_status status = oracle_model(o, "model", false, &models[0]);
    if (status == XFT_OK) status = oracle_model(o, "moe", false, &models[1]);
    if (status == XFT_OK) {
        xft_upcycle_options options = {.num_experts = (uint32_t)oracle_number(o, "num_experts", 0),
                                       .top_k = (uint32_t)oracle_number(o, "num_selects", 0),
                                       .seed = 7};
        status = xft_model_upcycle(models[0], &options, &models[2]);
    }
    if (status == XFT_OK) status = oracle_batch_make(o, 0, &models[0]->config, false, &b);
    for (int i = 0; i < 3 && status == XFT_OK; i++) status = compare_evaluation(o, models[i], &b, true);
    oracle_batch_free(&b);
    for (int i = 0; i < 3; i++) xft_model_destroy(models[i]);
    return status;
}
