/* The network as a whole: memory, inputs, and the walk through the layers, forward and backward. */
#include "network.h"

#include "error.h"
#include "rope.h"

#include <stdlib.h>
#include <string.h>

const xft_tensor *xft_present(const xft_tensor *tensor) {
    return tensor->rank ? tensor : NULL;
}

xft_tensor xft_slice(const xft_tensor *vector, uint32_t first, uint32_t count) {
    xft_tensor slice = *vector;
    slice.offset += (uint64_t)first * xft_dtype_size(vector->dtype);
    slice.shape[0] = count;
    slice.pitch = (count + 3) / 4 * 4;
    return slice;
}

/* The reference's MoE rotates with this base whatever its config says. */
double xft_network_theta(const xft_config *c, bool official) {
    return official && c->num_experts ? 10000 : c->rope_theta;
}

xft_router_config xft_network_router(const xft_config *c, xft_noise noise, bool official) {
    return (xft_router_config){.num_experts = c->num_experts,
                               .top_k = c->top_k,
                               .gate = c->gate,
                               .mlp = c->gate_mlp,
                               .noise = noise,
                               .noise_epsilon = c->noise_epsilon,
                               .balance_weight = c->balance_weight,
                               .official = official};
}

/* ---- Memory ---- */

enum { SUM_PARTS = 32, CHUNK_ELEMENTS = 16 << 20 };

/* Enough rows to keep a product busy, few enough that their logits stay below 64 MiB. */
static uint32_t choose_chunk(const xft_network_options *o, uint32_t vocabulary) {
    if (o->all_logits) return o->tokens;
    uint32_t chunk = o->head_chunk ? o->head_chunk : CHUNK_ELEMENTS / vocabulary;
    chunk = chunk < 64 && !o->head_chunk ? 64 : (chunk + 3) / 4 * 4;
    return chunk < o->tokens ? chunk : o->tokens;
}

static void take_attention(const xft_network *n, xft_room *room, xft_layer_activations *a) {
    const xft_config *c = n->config;
    uint32_t T = n->options.tokens, H = c->hidden_size, A = c->num_heads * c->head_size,
             G = c->num_kv_heads * c->head_size;
    bool layer_norm = c->family == XFT_FAMILY_STABLELM;
    a->y1 = xft_room_take(room, n->dtype, T, H, 0);
    a->stats1 = xft_room_take(room, XFT_F32, T, layer_norm ? 2 : 0, 0);
    a->q = xft_room_take(room, n->dtype, T, A, 0);
    a->k = xft_room_take(room, n->dtype, T, G, 0);
    a->v = xft_room_take(room, n->dtype, T, G, 0);
    a->o = xft_room_take(room, n->dtype, T, A, 0);
    a->lse = xft_room_take(room, XFT_F32, c->num_heads, T, 0);
    a->x_mid = xft_room_take(room, XFT_F32, T, H, 0);
    a->y2 = xft_room_take(room, n->dtype, T, H, 0);
    a->stats2 = xft_room_take(room, XFT_F32, T, layer_norm ? 2 : 0, 0);
}

static void take_ffn(const xft_network *n, xft_room *room, xft_layer_activations *a) {
    const xft_config *c = n->config;
    uint32_t T = n->options.tokens, E = c->num_experts, K = c->top_k, R = E ? T * K : T;
    a->g = xft_room_take(room, n->dtype, R, c->intermediate_size, 0);
    a->u = xft_room_take(room, n->dtype, R, c->intermediate_size, 0);
    if (!E) return;
    a->state = xft_room_take(room, XFT_F32, T, xft_router_state_width(&n->router), 0);
    a->picks = xft_room_take(room, XFT_U32, T, xft_config_picks(c), 0);
    a->weights = xft_room_take(room, XFT_F32, T, K, 0);
    a->offsets = xft_room_take(room, XFT_U32, E + 1, 0, 0);
    a->source = xft_room_take(room, XFT_U32, R, 0, 0);
    a->inverse = xft_room_take(room, XFT_U32, T, K, 0);
}

/* Every layer its own activations; or, with recomputation, its own input and one set for all; or, forward only, one
 * set and two inputs in turn. */
static xft_status take_layers(xft_network *n, xft_room *room) {
    const xft_config *c = n->config;
    uint32_t T = n->options.tokens, L = c->num_layers, routed = c->num_experts ? xft_config_routed(c) : 0;
    bool shared = n->options.recompute || !n->options.backward;
    n->layers = calloc(L, sizeof *n->layers);
    XFT_FAIL_IF(!n->layers, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u layers", L);
    for (uint32_t l = 0; l < L; l++) {
        xft_layer_activations *a = &n->layers[l];
        if (l && shared) {
            *a = n->layers[0];
        } else {
            take_attention(n, room, a);
            take_ffn(n, room, a);
        }
        if (n->options.backward || l < 2)
            a->x = xft_room_take(room, XFT_F32, T, c->hidden_size, 0);
        else
            a->x = n->layers[l % 2].x;
        if (routed && n->options.backward) {
            a->stats = xft_room_take(room, XFT_F32, 3, routed, 0);
            a->coefficients = xft_room_take(room, XFT_F32, 2, routed, 0);
        }
    }
    return XFT_OK;
}

static void take_inputs(xft_network *n, xft_room *room) {
    const xft_config *c = n->config;
    uint32_t T = n->options.tokens;
    n->step = xft_room_take(room, XFT_U32, sizeof(xft_step_block) / 4, 0, 0);
    n->ids = xft_room_take(room, XFT_U32, T, 0, 0);
    n->labels = xft_room_take(room, XFT_U32, T, 0, 0);
    n->rows = xft_room_take(room, XFT_U32, T, 0, 0);
    n->cu_seqlens = xft_room_take(room, XFT_U32, n->options.sequences + 1, 0, 0);
    n->lengths = xft_room_take(room, XFT_U32, n->options.sequences, 0, 0);
    n->table = xft_room_take(room, XFT_F32, T, c->rotary, 0);
    if (c->num_experts && n->options.noise == XFT_NOISE_STORED)
        n->noise = xft_room_take(room, XFT_F32, c->num_layers, T, xft_config_routed(c));
    n->segments = xft_room_take(room, XFT_U32, T, 4, 0);
}

static void take_scratch(xft_network *n, xft_room *room) {
    const xft_config *c = n->config;
    uint32_t T = n->options.tokens, H = c->hidden_size, E = c->num_experts, R = E ? T * c->top_k : T;
    uint32_t A = c->num_heads * c->head_size, G = c->num_kv_heads * c->head_size;
    uint32_t routed = E ? xft_config_routed(c) : 0, width = n->options.noise == XFT_NOISE_NONE ? routed : 2 * routed;
    n->h = xft_room_take(room, n->dtype, R, c->intermediate_size, 0);
    if (E) {
        n->grouped_x = xft_room_take(room, n->dtype, R, H, 0);
        n->grouped_y = xft_room_take(room, n->dtype, R, H, 0);
        n->router_h = xft_room_take(room, XFT_F32, T, width, 0);
        uint32_t parts = T < 16384 ? T / 64 + 1 : T / 256 + 256; /* a row of scratch for 64 tokens, later for 256 */
        n->statistics = xft_room_take(room, XFT_F32, parts, 3 * routed, 0);
        n->counts = xft_room_take(room, XFT_U32, parts, E, 0);
        n->used = xft_room_take(room, XFT_U32, c->num_layers, E, 0);
    }
    /* Rows of logits begin in different sets of the caches, also where V is a multiple of a page. */
    n->logits = xft_room_take(room, XFT_F32, n->options.head_chunk, c->vocab_size + (c->vocab_size % 256 ? 0 : 16), 0);
    n->logits.shape[1] = c->vocab_size;
    n->row_loss = xft_room_take(room, XFT_F32, T, 0, 0);
    n->loss = xft_room_take(room, XFT_F32, 1, 0, 0);
    n->balance = xft_room_take(room, XFT_F32, 1, 0, 0);
    if (!n->options.backward) return;
    if (n->options.grad_dtype != XFT_F32) {
        uint32_t inner = H > c->intermediate_size ? H : c->intermediate_size;
        uint32_t outer = inner == H ? c->intermediate_size : H;
        uint32_t least = A > outer ? A : outer; /* the largest of [H,A], [I,H] and [E,I,H], whichever way it lies */
        n->wide = xft_room_take(room, XFT_F32, (E ? E : 1) * ((least + 3) / 4 * 4), (inner + 3) / 4 * 4, 0);
    }
    n->d_x = xft_room_take(room, XFT_F32, T, H, 0);
    n->d_y = xft_room_take(room, XFT_F32, T, H, 0);
    n->d_o = xft_room_take(room, n->dtype, T, A, 0);
    n->d_q = xft_room_take(room, n->dtype, T, A, 0);
    n->d_k = xft_room_take(room, n->dtype, T, G, 0);
    n->d_v = xft_room_take(room, n->dtype, T, G, 0);
    n->delta = xft_room_take(room, XFT_F32, c->num_heads, T, 0);
    n->d_h = xft_room_take(room, n->dtype, R, c->intermediate_size, 0);
    n->sums = xft_room_take(room, XFT_F32, 2 * SUM_PARTS, H, 0);
    n->sums_kv = xft_room_take(room, XFT_F32, SUM_PARTS, G, 0);
    if (!E) return;
    n->dots = xft_room_take(room, XFT_F32, R, 0, 0);
    n->d_router_h = xft_room_take(room, XFT_F32, T, width, 0);
    n->d_g = xft_room_take(room, XFT_F32, T, routed, 0);
}

xft_status xft_network_take(xft_network *n, xft_room *room) {
    const xft_config *c = n->config;
    XFT_FAIL_IF(!n->options.tokens || !n->options.sequences, XFT_ERROR_INVALID_ARGUMENT,
                "a micro-batch of %u tokens in %u sequences", n->options.tokens, n->options.sequences);
    n->options.head_chunk = choose_chunk(&n->options, c->vocab_size);
    room->kind = XFT_ROOM_ACTIVATIONS;
    take_inputs(n, room);
    XFT_TRY(take_layers(n, room));
    n->x_end = xft_room_take(room, XFT_F32, n->options.tokens, c->hidden_size, 0);
    n->y_end = xft_room_take(room, n->dtype, n->options.tokens, c->hidden_size, 0);
    n->stats_end = xft_room_take(room, XFT_F32, n->options.tokens, c->family == XFT_FAMILY_STABLELM ? 2 : 0, 0);
    room->kind = XFT_ROOM_SCRATCH;
    take_scratch(n, room);
    return room->status;
}

void xft_network_free(xft_network *n) {
    free(n->layers);
    n->layers = NULL;
}

xft_status xft_network_upload(const xft_network *n) {
    if (xft_rope_per_token(n->config)) return XFT_OK;
    uint32_t rotary = n->config->rotary, T = n->options.tokens;
    float *table = malloc((size_t)T * rotary * sizeof *table);
    XFT_FAIL_IF(!table, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a rope table of %u positions", T);
    for (uint32_t t = 0; t < T; t++) xft_rope_row(n->config, n->rope_theta, t, T, table + (size_t)t * rotary);
    xft_status status = xft_tensor_write(&n->table, XFT_F32, table);
    free(table);
    return status;
}

/* ---- Inputs ---- */

xft_status xft_network_inputs(const xft_network *n, xft_stream *s, xft_input_layout *at) {
    xft_stream_input(s, &n->step, &at->step);
    xft_stream_input(s, &n->ids, &at->ids);
    xft_stream_input(s, &n->labels, &at->labels);
    xft_stream_input(s, &n->rows, &at->rows);
    xft_stream_input(s, &n->cu_seqlens, &at->cu_seqlens);
    xft_status status = xft_stream_input(s, &n->lengths, &at->lengths);
    if (xft_rope_per_token(n->config)) status = xft_stream_input(s, &n->table, &at->table);
    if (n->noise.rank) status = xft_stream_input(s, &n->noise, &at->noise);
    return status;
}

xft_status xft_batch_room_check(const char *what, uint32_t tokens, uint32_t sequences) {
    enum { MOST = 1 << 24 }; /* positions travel through f32 */
    XFT_FAIL_IF(!tokens || !sequences || tokens > MOST || sequences > MOST, XFT_ERROR_INVALID_ARGUMENT,
                "%s: tokens %u and sequences %u must be from 1 to %d", what, tokens, sequences, MOST);
    return XFT_OK;
}

xft_status xft_batch_check(const xft_network *n, const xft_device *device, const xft_batch *b) {
    const xft_network_options *o = &n->options;
    XFT_FAIL_IF(!b || !b->ids || !b->cu_seqlens, XFT_ERROR_INVALID_ARGUMENT,
                "batch: ids and cu_seqlens must not be NULL");
    XFT_FAIL_IF(b->tokens > o->tokens || b->sequences > o->sequences, XFT_ERROR_INVALID_ARGUMENT,
                "batch: %u tokens in %u sequences; made for at most %u in %u", b->tokens, b->sequences, o->tokens,
                o->sequences);
    XFT_FAIL_IF(n->noise.rank && !b->noise, XFT_ERROR_INVALID_ARGUMENT,
                "batch: noise must be given (XFT_NOISE_STORED)");
    XFT_FAIL_IF(b->cu_seqlens[0] != 0 || b->cu_seqlens[b->sequences] > b->tokens, XFT_ERROR_INVALID_ARGUMENT,
                "batch: cu_seqlens must start at 0 and end at most at %u", b->tokens);
    const uint32_t longest =
        xft_attention_longest(device, n->config->head_size, n->config->num_heads, n->config->num_kv_heads, o->backward);
    for (uint32_t i = 0; i < b->sequences; i++) {
        uint32_t rows = b->cu_seqlens[i + 1] - b->cu_seqlens[i];
        XFT_FAIL_IF(b->cu_seqlens[i + 1] < b->cu_seqlens[i] || (b->lengths && b->lengths[i] > rows),
                    XFT_ERROR_INVALID_ARGUMENT, "batch: sequence %u: rows %u to %u, length %u", i, b->cu_seqlens[i],
                    b->cu_seqlens[i + 1], b->lengths ? b->lengths[i] : rows);
        XFT_FAIL_IF(
            rows > longest, XFT_ERROR_UNSUPPORTED,
            "batch: sequence %u has %u tokens; on this device attention takes at most %u (xft_attention_longest)", i,
            rows, longest);
    }
    for (uint32_t t = 0; t < b->tokens; t++) {
        XFT_FAIL_IF(b->ids[t] >= n->config->vocab_size, XFT_ERROR_INVALID_ARGUMENT,
                    "batch: id %u of token %u; the vocabulary has %u", b->ids[t], t, n->config->vocab_size);
        XFT_FAIL_IF(b->labels && b->labels[t] != UINT32_MAX && b->labels[t] >= n->config->vocab_size,
                    XFT_ERROR_INVALID_ARGUMENT, "batch: label %u of token %u; the vocabulary has %u", b->labels[t], t,
                    n->config->vocab_size);
    }
    return XFT_OK;
}

static void fill_noise(const xft_network *n, const xft_batch *b, float *to) {
    uint32_t T = n->options.tokens, routed = n->noise.shape[2], pitch = n->noise.pitch;
    for (uint32_t l = 0; l < n->config->num_layers; l++)
        for (uint32_t t = 0; t < T; t++) {
            float *row = to + ((size_t)l * T + t) * pitch;
            if (t < b->tokens)
                memcpy(row, b->noise[l] + (size_t)t * routed, routed * sizeof *row);
            else
                memset(row, 0, routed * sizeof *row);
        }
}

void xft_network_fill(const xft_network *n, const xft_input_layout *at, const xft_batch *b, const xft_step_block *step,
                      void *slot) {
    unsigned char *base = slot;
    uint32_t T = n->options.tokens, most = n->options.sequences;
    uint32_t *ids = (uint32_t *)(base + at->ids), *labels = (uint32_t *)(base + at->labels);
    uint32_t *rows = (uint32_t *)(base + at->rows), *cu = (uint32_t *)(base + at->cu_seqlens);
    uint32_t *lengths = (uint32_t *)(base + at->lengths);
    bool per_token = xft_rope_per_token(n->config);
    float *table = per_token ? (float *)(base + at->table) : NULL;

    memcpy(base + at->step, step, sizeof *step);
    for (uint32_t t = 0; t < T; t++) {
        ids[t] = t < b->tokens ? b->ids[t] : 0;
        labels[t] = t < b->tokens && b->labels ? b->labels[t] : UINT32_MAX;
        rows[t] = per_token ? t : 0;
    }
    for (uint32_t i = 0; i < most; i++) {
        bool real = i < b->sequences;
        uint32_t begin = b->cu_seqlens[real ? i : b->sequences], end = b->cu_seqlens[real ? i + 1 : b->sequences];
        uint32_t length = real && b->lengths ? b->lengths[i] : end - begin;
        cu[i] = begin;
        lengths[i] = length;
        for (uint32_t t = begin; t < end; t++) {
            if (per_token)
                xft_rope_row(n->config, n->rope_theta, t - begin, length, table + (size_t)t * n->table.pitch);
            else
                rows[t] = t - begin;
        }
    }
    cu[most] = b->cu_seqlens[b->sequences];
    for (uint32_t t = cu[most]; per_token && t < T; t++)
        xft_rope_row(n->config, n->rope_theta, 0, 1, table + (size_t)t * n->table.pitch);
    if (n->noise.rank) fill_noise(n, b, (float *)(base + at->noise));
}

/* ---- Gradients of matrices ---- */

enum { GRADIENT_KEYS = 1 << 24 }; /* keys of rounding below are those of the optimizer */

void xft_weight_gradient(const xft_network *n, xft_stream *s, const xft_tensor *d_out, const xft_tensor *x,
                         const xft_tensor *offsets, const xft_tensor *d_w) {
    bool narrow = d_w->dtype != XFT_F32;
    xft_tensor sum = *d_w;
    if (narrow) { /* summed in f32, rounded stochastically at the end */
        sum.buffer = n->wide.buffer;
        sum.offset = n->wide.offset;
        sum.dtype = XFT_F32;
        sum.pitch = (xft_cols(d_w) + 3) / 4 * 4;
        if (n->accumulate) xft_cast(s, d_w, &sum, XFT_ROUND_NEAREST, NULL, 0);
    }
    if (offsets)
        xft_grouped_gemm(s, XFT_TN, d_out, x, offsets, &sum, n->accumulate);
    else
        xft_gemm(s, XFT_TN, d_out, x, &sum, n->accumulate);
    if (!narrow) return;
    size_t index = (size_t)((const char *)d_w - (const char *)n->d->layers) / sizeof *d_w; /* unlike any other's */
    xft_cast(s, &sum, d_w, XFT_ROUND_STOCHASTIC, &n->step, GRADIENT_KEYS + (uint32_t)index);
}

/* ---- Norms ---- */

void xft_norm_forward(const xft_network *n, xft_stream *s, const xft_tensor *x, const xft_tensor *w,
                      const xft_tensor *b, const xft_tensor *y, const xft_tensor *stats) {
    if (n->config->family == XFT_FAMILY_STABLELM)
        xft_layer_norm(s, x, w, b, n->config->norm_eps, y, stats);
    else
        xft_rms_norm(s, x, w, n->config->norm_eps, y, stats);
}

void xft_norm_backward(const xft_network *n, xft_stream *s, const xft_tensor *d_y, const xft_tensor *x,
                       const xft_tensor *w, const xft_tensor *stats, bool accumulate_d_x, const xft_tensor *d_w,
                       const xft_tensor *d_b) {
    if (n->options.frozen) d_w = d_b = NULL;
    if (n->config->family == XFT_FAMILY_STABLELM)
        xft_layer_norm_backward(s, d_y, x, w, stats, &n->d_x, accumulate_d_x, &n->sums, d_w, d_b, n->accumulate);
    else
        xft_rms_norm_backward(s, d_y, x, w, stats, &n->d_x, accumulate_d_x, &n->sums, d_w, n->accumulate);
}

/* ---- The walk ---- */

static void layer_forward(const xft_network *n, xft_stream *s, uint32_t l, bool again) {
    xft_attention_block_forward(n, s, l);
    if (n->config->num_experts)
        xft_moe_forward(n, s, l, again);
    else
        xft_ffn_forward(n, s, l, again);
}

void xft_network_forward(const xft_network *n, xft_stream *s) {
    if (!n->accumulate) { /* the first micro-batch of a step */
        xft_fill(s, &n->loss, 0);
        xft_fill(s, &n->balance, 0);
        if (n->config->num_experts) xft_fill(s, &n->used, 0);
    }
    xft_segments(s, &n->cu_seqlens, &n->lengths, n->options.official, &n->segments);
    xft_embedding(s, &n->ids, &n->w->embed, &n->layers[0].x); // x_0 [T,H]
    for (uint32_t l = 0; l < n->config->num_layers; l++) layer_forward(n, s, l, false);
    xft_norm_forward(n, s, &n->x_end, &n->w->norm, &n->w->norm_bias, &n->y_end, &n->stats_end);
}

void xft_network_backward(const xft_network *n, xft_stream *s) {
    uint32_t last = n->config->num_layers - 1;
    bool frozen = n->options.frozen;
    xft_norm_backward(n, s, &n->d_y, &n->x_end, &n->w->norm, &n->stats_end, false, &n->d->norm,
                      &n->d->norm_bias); // d_x =
    for (uint32_t l = last + 1; l-- > 0;) {
        if (n->options.recompute && l < last) layer_forward(n, s, l, true); /* the last one's are still there */
        if (n->config->num_experts)
            xft_moe_backward(n, s, l);
        else
            xft_ffn_backward(n, s, l);
        if (!frozen || l) xft_attention_block_backward(n, s, l);
    }
    if (frozen) return;
    bool head_wrote = !n->w->head.rank; /* a tied head has set the gradient already */
    if (!n->accumulate && !head_wrote) xft_fill(s, &n->d->embed, 0);
    xft_embedding_backward(s, &n->ids, &n->d_x, &n->d->embed,
                           n->options.official ? n->config->pad_token_id : UINT32_MAX); // d_embed +=
}
