/* The table of parameters of each family, under the names of Hugging Face checkpoints. */
#include "weights.h"

#include "error.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(member)  offsetof(xft_layer_weights, member)
#define TOP(member) offsetof(xft_weights, member)
#define NO_LAYER    UINT32_MAX
enum { MOST_PER_LAYER = 20, MOST_ELSEWHERE = 4 };

/* Appends a parameter of shape [n] (cols 0), [n,cols] or [experts,n,cols]. */
static xft_parameter *add(xft_parameters *p, uint32_t layer, size_t member, const char *name, uint32_t experts,
                          uint32_t n, uint32_t cols) {
    xft_parameter *q = &p->list[p->count++];
    *q = (xft_parameter){.layer = layer,
                         .member = member,
                         .experts = experts != 0,
                         .matrix = cols != 0,
                         .decayed = cols != 0,
                         .small = !cols};
    if (layer == NO_LAYER)
        snprintf(q->name, sizeof q->name, "%s", name);
    else
        snprintf(q->name, sizeof q->name, "model.layers.%u.%s", layer, name);
    if (experts) q->shape[q->rank++] = experts;
    q->shape[q->rank++] = n;
    if (cols) q->shape[q->rank++] = cols;
    q->stored_rows = (experts ? experts : 1) * (cols ? n : 1);
    return q;
}

static void add_ffn(xft_parameters *p, const xft_config *c, uint32_t l) {
    uint32_t H = c->hidden_size, I = c->intermediate_size;
    add(p, l, AT(gate), "mlp.gate_proj.weight", 0, I, H);
    add(p, l, AT(up), "mlp.up_proj.weight", 0, I, H);
    add(p, l, AT(down), "mlp.down_proj.weight", 0, H, I);
}

static void add_moe(xft_parameters *p, const xft_config *c, uint32_t l, bool merge) {
    uint32_t H = c->hidden_size, I = c->intermediate_size, E = c->num_experts, routed = xft_config_routed(c);
    add(p, l, AT(gate), "mlp.calculator.experts.weight_gate.%u.weight", E, I, H);
    add(p, l, AT(up), "mlp.calculator.experts.weight_up.%u.weight", E, I, H);
    add(p, l, AT(down), "mlp.calculator.experts.weight_down.%u.weight", E, H, I);
    xft_parameter *w1 =
        add(p, l, AT(router), c->gate_mlp ? "mlp.gate.gate_network.0.weight" : "mlp.gate.gate_network.weight", 0,
            routed, H);
    w1->small = true;
    w1->stored_rows = c->gate_noise ? 2 * routed : routed;
    if (c->gate_noise) {
        xft_parameter *wn = add(p, l, AT(router), "mlp.gate.weight_noise.weight", 0, routed, H);
        wn->small = true;
        wn->stored_rows = 0;
        wn->first_row = routed;
    }
    if (c->gate_mlp) add(p, l, AT(w2), "mlp.gate.gate_network.2.weight", 0, routed, routed)->small = true;
    if (merge) add(p, l, AT(mixing), "mlp.average_weights", 0, routed, 0);
}

xft_status xft_parameters_make(const xft_config *c, bool merge, xft_parameters *p) {
    uint32_t H = c->hidden_size, A = c->num_heads * c->head_size, G = c->num_kv_heads * c->head_size;
    bool norm_bias = c->family == XFT_FAMILY_STABLELM;
    p->count = 0;
    p->list = calloc((size_t)c->num_layers * MOST_PER_LAYER + MOST_ELSEWHERE, sizeof *p->list);
    XFT_FAIL_IF(!p->list, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the parameters of %u layers", c->num_layers);
    add(p, NO_LAYER, TOP(embed), "model.embed_tokens.weight", 0, c->vocab_size, H);
    for (uint32_t l = 0; l < c->num_layers; l++) {
        add(p, l, AT(norm1), "input_layernorm.weight", 0, H, 0);
        if (norm_bias) add(p, l, AT(norm1_bias), "input_layernorm.bias", 0, H, 0);
        add(p, l, AT(q), "self_attn.q_proj.weight", 0, A, H);
        if (c->qkv_bias) add(p, l, AT(q_bias), "self_attn.q_proj.bias", 0, A, 0);
        add(p, l, AT(k), "self_attn.k_proj.weight", 0, G, H);
        if (c->qkv_bias) add(p, l, AT(k_bias), "self_attn.k_proj.bias", 0, G, 0);
        add(p, l, AT(v), "self_attn.v_proj.weight", 0, G, H);
        if (c->qkv_bias) add(p, l, AT(v_bias), "self_attn.v_proj.bias", 0, G, 0);
        add(p, l, AT(o), "self_attn.o_proj.weight", 0, H, A);
        add(p, l, AT(norm2), "post_attention_layernorm.weight", 0, H, 0);
        if (norm_bias) add(p, l, AT(norm2_bias), "post_attention_layernorm.bias", 0, H, 0);
        if (c->num_experts)
            add_moe(p, c, l, merge);
        else
            add_ffn(p, c, l);
    }
    add(p, NO_LAYER, TOP(norm), "model.norm.weight", 0, H, 0);
    if (norm_bias) add(p, NO_LAYER, TOP(norm_bias), "model.norm.bias", 0, H, 0);
    if (!c->tied_head) add(p, NO_LAYER, TOP(head), "lm_head.weight", 0, c->vocab_size, H);
    return XFT_OK;
}

xft_tensor *xft_parameter_store(const xft_parameter *p, const xft_weights *w) {
    const char *base = p->layer == NO_LAYER ? (const char *)w : (const char *)&w->layers[p->layer];
    return (xft_tensor *)(uintptr_t)(base + p->member);
}

xft_tensor xft_parameter_view(const xft_parameter *p, const xft_weights *w) {
    xft_tensor *store = xft_parameter_store(p, w), view = *store;
    if (!view.buffer) { /* of a plan */
        view.shape[0] = view.rank ? p->shape[0] : 0;
        return view;
    }
    if (store->rank == 2 && store->shape[0] != p->shape[0] &&
        xft_tensor_rows(store, p->first_row, p->shape[0], &view) != XFT_OK)
        view = (xft_tensor){0};
    return view;
}

xft_status xft_weights_take(xft_room *room, const xft_config *config, const xft_parameters *parameters, xft_dtype dtype,
                            xft_dtype outer, bool (*wanted)(const xft_parameter *), xft_weights *weights) {
    *weights = (xft_weights){.layers = calloc(config->num_layers, sizeof(xft_layer_weights))};
    XFT_FAIL_IF(!weights->layers, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u layers", config->num_layers);
    for (uint32_t i = 0; i < parameters->count; i++) {
        const xft_parameter *p = &parameters->list[i];
        if (!p->stored_rows || (wanted && !wanted(p))) continue;
        xft_dtype type = p->small ? XFT_F32 : p->layer == NO_LAYER ? outer : dtype;
        xft_tensor *tensor = xft_parameter_store(p, weights);
        if (p->rank == 3)
            *tensor = xft_room_take(room, type, p->shape[0], p->shape[1], p->shape[2]);
        else if (p->rank == 2)
            *tensor = xft_room_take(room, type, p->stored_rows, p->shape[1], 0);
        else
            *tensor = xft_room_take(room, type, p->shape[0], 0, 0);
    }
    return room->status;
}

void xft_weights_free(xft_weights *weights) {
    free(weights->layers);
    weights->layers = NULL;
}
