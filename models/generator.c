/* Generation: prompts are read in chunks of n tokens into the caches, then one token of every sequence at a time. Ids
 * go from the sampler to the embedding on the device; the host reads them one token late. */
#include "generator.h"

#include "callbacks.h"
#include "error.h"
#include "model.h"
#include "rope.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_CHUNK = 64, SLOTS = 4 };

/* ---- Memory ---- */

static xft_status take_decoder(xft_generator *g, xft_decoder *d, uint32_t n, const xft_config *c, const xft_weights *w,
                               xft_dtype dtype, xft_room *room) {
    uint32_t B = g->options.batch, H = c->hidden_size;
    d->n = n;
    d->network = (xft_network){
        .config = c,
        .w = w,
        .options = {.tokens = B * n, .sequences = B, .head_chunk = B},
        .dtype = dtype,
        .rope_theta = xft_network_theta(c, g->options.official),
        .router = xft_network_router(c, XFT_NOISE_NONE, false),
    };
    XFT_TRY(xft_network_take(&d->network, room));
    d->network.table = g->table;
    d->past = xft_room_take(room, XFT_U32, B, 0, 0);
    d->last = xft_room_take(room, XFT_U32, B, 0, 0);
    d->x_last = xft_room_take(room, XFT_F32, B, H, 0);
    d->y_last = xft_room_take(room, dtype, B, H, 0);
    d->stats_last = xft_room_take(room, XFT_F32, B, c->family == XFT_FAMILY_STABLELM ? 2 : 0, 0);
    return room->status;
}

xft_status xft_generator_take(xft_generator *g, const xft_config *c, const xft_weights *w, xft_dtype dtype,
                              xft_room *room) {
    uint32_t B = g->options.batch, capacity = g->options.capacity, G = c->num_kv_heads * c->head_size;
    g->k_cache = calloc(2 * (size_t)c->num_layers, sizeof *g->k_cache);
    XFT_FAIL_IF(!g->k_cache, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the caches of %u layers", c->num_layers);
    g->v_cache = g->k_cache + c->num_layers;
    room->kind = XFT_ROOM_CACHE;
    for (uint32_t l = 0; l < c->num_layers; l++) {
        g->k_cache[l] = xft_room_take(room, dtype, B, capacity, G);
        g->v_cache[l] = xft_room_take(room, dtype, B, capacity, G);
    }
    g->table = xft_room_take(room, XFT_F32, xft_rope_per_token(c) ? B * capacity : capacity, c->rotary, 0);
    g->next = xft_room_take(room, XFT_U32, B, 0, 0);
    XFT_TRY(take_decoder(g, &g->prompt, g->options.chunk, c, w, dtype, room));
    return take_decoder(g, &g->token, 1, c, w, dtype, room);
}

/* ---- Recording ---- */

static xft_status record(const xft_generator *g, xft_decoder *d) {
    const xft_network *n = &d->network;
    const xft_config *c = n->config;
    bool from_prompt = d == &g->prompt;
    xft_stream *s;
    XFT_TRY(
        xft_stream_create(g->model->device, &(xft_stream_options){.name = "generation", .slots = SLOTS}, &d->stream));
    s = d->stream;
    xft_stream_input(s, &n->step, &d->step_at);
    if (from_prompt) xft_stream_input(s, &n->ids, &d->ids_at);
    xft_stream_input(s, &n->rows, &d->rows_at);
    xft_stream_input(s, &n->cu_seqlens, &d->cu_at);
    xft_stream_input(s, &n->lengths, &d->counts_at);
    xft_stream_input(s, &d->past, &d->past_at);
    xft_stream_input(s, &d->last, &d->last_at);

    xft_segments(s, &n->cu_seqlens, &n->lengths, false, &n->segments);
    xft_embedding(s, from_prompt ? &n->ids : &g->next, &n->w->embed, &n->layers[0].x); // x_0 [B*n,H]
    for (uint32_t l = 0; l < c->num_layers; l++) {
        xft_attention_block_decode(n, s, l, &d->past, &g->k_cache[l], &g->v_cache[l]);
        if (c->num_experts)
            xft_moe_forward(n, s, l, false);
        else
            xft_ffn_forward(n, s, l, false);
    }
    xft_embedding(s, &d->last, &n->x_end, &d->x_last); // the newest row of every sequence, [B,H]
    xft_norm_forward(n, s, &d->x_last, &n->w->norm, &n->w->norm_bias, &d->y_last, &d->stats_last);
    xft_tensor logits;
    XFT_TRY(xft_tensor_rows(&n->logits, 0, g->options.batch, &logits));
    xft_gemm(s, XFT_NT, &d->y_last, n->w->head.rank ? &n->w->head : &n->w->embed, &logits, false); // [B,V]
    xft_sample(s, &logits, &n->step, &g->next);
    xft_stream_output(s, &g->next, &d->output_at);
    return xft_stream_finish(s);
}

/* ---- Life ---- */

/* Rows of the rotation table: by position, or by sequence and position with that sequence's length. */
static xft_status upload_table(const xft_generator *g, const uint32_t *lengths, uint32_t count) {
    const xft_config *c = &g->model->config;
    uint32_t capacity = g->options.capacity, sequences = xft_rows(&g->table) / capacity;
    float *table = malloc((size_t)xft_rows(&g->table) * c->rotary * sizeof *table);
    XFT_FAIL_IF(!table, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a rope table of %u positions", capacity);
    for (uint32_t b = 0; b < sequences; b++)
        for (uint32_t t = 0; t < capacity; t++)
            xft_rope_row(c, g->token.network.rope_theta, t, lengths && b < count ? lengths[b] : 1,
                         table + ((size_t)b * capacity + t) * c->rotary);
    xft_status status = xft_tensor_write(&g->table, XFT_F32, table);
    free(table);
    return status;
}

xft_status xft_generator_options_check(const xft_generator_options *options, xft_generator_options *checked) {
    XFT_FAIL_IF(!options->batch || !options->capacity, XFT_ERROR_INVALID_ARGUMENT,
                "generator options: batch %u and capacity %u must be at least 1", options->batch, options->capacity);
    *checked = *options;
    if (!checked->chunk) checked->chunk = DEFAULT_CHUNK;
    if (checked->chunk > checked->capacity) checked->chunk = checked->capacity;
    return XFT_OK;
}

static xft_status count_generator(const xft_model *model, const xft_generator_options *options, xft_room *count) {
    xft_generator *counted = calloc(1, sizeof *counted);
    XFT_FAIL_IF(!counted, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a generator");
    counted->options = *options;
    const xft_status status = xft_generator_take(counted, &model->config, &model->weights, model->options.dtype, count);
    xft_generator_destroy(counted);
    return status;
}

xft_status xft_generator_create(xft_model *model, const xft_generator_options *options, xft_generator **generator) {
    XFT_NEED(model, options, generator);
    *generator = NULL;
    xft_generator_options checked;
    XFT_TRY(xft_generator_options_check(options, &checked));
    xft_generator *g = calloc(1, sizeof *g);
    XFT_FAIL_IF(!g, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a generator");
    g->model = model;
    g->options = checked;
    xft_room count = {.device = model->device};
    xft_status status = count_generator(model, &checked, &count);
    if (status == XFT_OK) status = xft_room_arena(&count, model->device, "generation", &g->arena);
    xft_room room = {.device = model->device, .arena = g->arena};
    if (status == XFT_OK) status = xft_generator_take(g, &model->config, &model->weights, model->options.dtype, &room);
    if (status == XFT_OK && !xft_rope_per_token(&model->config)) status = upload_table(g, NULL, 0);
    if (status == XFT_OK) status = record(g, &g->prompt);
    if (status == XFT_OK) status = record(g, &g->token);
    if (status != XFT_OK) {
        xft_generator_destroy(g);
        return status;
    }
    *generator = g;
    return XFT_OK;
}

void xft_generator_destroy(xft_generator *g) {
    if (!g) return;
    xft_stream_destroy(g->prompt.stream);
    xft_stream_destroy(g->token.stream);
    xft_arena_destroy(g->arena);
    xft_network_free(&g->prompt.network);
    xft_network_free(&g->token.network);
    free(g->k_cache);
    free(g);
}

uint64_t xft_generator_bytes(const xft_generator *g) {
    return g ? xft_arena_used(g->arena) : 0;
}

/* ---- Running ---- */

/* One call of xft_generate. */
typedef struct run {
    xft_generator *g;
    const uint32_t *const *prompts;
    const uint32_t *lengths;
    uint32_t count;
    const xft_sampling *sampling;
    uint32_t *ids, *counts;
    uint32_t ended;         /* sequences that met a stop id */
    uint32_t *stopped;      /* per sequence: 1 behind a stop id */
    uint32_t *past, *added; /* per sequence: rows in the caches, rows that a replay adds */
    xft_token_callback callback;
    void *user;
} run;

/* Fills a slot and queues a replay, which adds added[b] rows behind past[b]. */
static xft_status submit(const run *r, xft_decoder *d, uint32_t step, uint64_t *ticket) {
    void *slot;
    XFT_TRY(xft_stream_inputs(d->stream, &slot));
    unsigned char *base = slot;
    const xft_sampling *q = r->sampling;
    const uint32_t *past = r->past, *added = r->added;
    uint32_t B = r->g->options.batch, n = d->n, capacity = r->g->options.capacity;
    bool per_token = xft_rows(&r->g->table) != capacity;
    uint32_t *rows = (uint32_t *)(base + d->rows_at), *cu = (uint32_t *)(base + d->cu_at);
    uint32_t *ids = d == &r->g->prompt ? (uint32_t *)(base + d->ids_at) : NULL;
    xft_step_block block = {.step = step,
                            .seed_low = (uint32_t)q->seed,
                            .seed_high = (uint32_t)(q->seed >> 32),
                            .temperature = q->temperature,
                            .top_p = q->top_p > 0 ? q->top_p : 1};
    memcpy(base + d->step_at, &block, sizeof block);
    memcpy(base + d->counts_at, added, B * sizeof *added);
    memcpy(base + d->past_at, past, B * sizeof *past);
    for (uint32_t b = 0; b < B; b++) {
        cu[b] = b * n;
        ((uint32_t *)(base + d->last_at))[b] = b * n + (added[b] ? added[b] - 1 : 0);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t position = past[b] + i < capacity ? past[b] + i : capacity - 1;
            rows[b * n + i] = position + (per_token ? b * capacity : 0);
            if (ids) ids[b * n + i] = i < added[b] ? r->prompts[b][past[b] + i] : 0;
        }
    }
    cu[B] = B * n;
    XFT_TRY(xft_stream_submit(d->stream, ticket));
    for (uint32_t b = 0; b < B; b++) r->past[b] += added[b];
    return XFT_OK;
}

/* Reads the ids of a replay as token `index` of every sequence. */
static xft_status collect(run *r, const xft_decoder *d, uint64_t ticket, uint32_t index) {
    const void *outputs;
    XFT_TRY(xft_stream_outputs(d->stream, ticket, &outputs));
    const uint32_t *next = (const uint32_t *)(const void *)((const unsigned char *)outputs + d->output_at);
    for (uint32_t b = 0; b < r->count; b++) {
        if (r->stopped[b]) continue;
        r->ids[(size_t)b * r->sampling->new_tokens + index] = next[b];
        r->counts[b] = index + 1;
        for (uint32_t i = 0; i < r->sampling->stop_count; i++) r->stopped[b] |= next[b] == r->sampling->stop[i];
        r->ended += r->stopped[b];
        XFT_FAIL_IF(r->callback && !r->callback(r->user, b, next[b]), XFT_ERROR_CANCELLED, "generation was cancelled");
    }
    return XFT_OK;
}

/* Chunks are aligned to the ends of the prompts, so that all of them end in the last one. */
static xft_status read_prompts(run *r, uint64_t *ticket) {
    uint32_t n = r->g->prompt.n, longest = 1;
    for (uint32_t b = 0; b < r->count; b++) longest = r->lengths[b] > longest ? r->lengths[b] : longest;
    const uint32_t chunks = (longest + n - 1) / n;
    for (uint32_t left = chunks; left-- > 0;) {
        XFT_TRY(xft_progress(r->sampling->callbacks, "reading prompts", chunks - 1 - left, chunks));
        for (uint32_t b = 0; b < r->count; b++) {
            uint32_t end = r->lengths[b] > left * n ? r->lengths[b] - left * n : 0;
            r->added[b] = end - r->past[b];
        }
        XFT_TRY(submit(r, &r->g->prompt, 0, ticket));
    }
    return xft_progress(r->sampling->callbacks, "reading prompts", chunks, chunks);
}

static xft_status generate(run *r) {
    const xft_decoder *of = &r->g->prompt;
    uint64_t before, ticket;
    XFT_TRY(read_prompts(r, &before));
    for (uint32_t b = 0; b < r->count; b++) r->added[b] = 1;
    for (uint32_t i = 0; r->ended < r->count; i++) { /* `before` computes token i; token i+1 is queued behind it */
        bool more = i + 1 < r->sampling->new_tokens;
        if (more) XFT_TRY(submit(r, &r->g->token, i + 1, &ticket));
        XFT_TRY(collect(r, of, before, i));
        if (!more) break;
        before = ticket;
        of = &r->g->token;
    }
    return XFT_OK;
}

xft_status xft_generate(xft_generator *g, const uint32_t *const *prompts, const uint32_t *lengths, uint32_t count,
                        const xft_sampling *sampling, uint32_t *ids, uint32_t *counts, xft_token_callback callback,
                        void *user) {
    XFT_FAIL_IF(!g, XFT_ERROR_INVALID_ARGUMENT, "xft_generate: generator is NULL");
    XFT_NEED(prompts, lengths, sampling, ids, counts);
    XFT_FAIL_IF(!count || count > g->options.batch || !sampling->new_tokens, XFT_ERROR_INVALID_ARGUMENT,
                "xft_generate: count of prompts is %u, new_tokens %u; made for 1 to %u prompts", count,
                sampling->new_tokens, g->options.batch);
    XFT_FAIL_IF(!(sampling->temperature >= 0) || !(sampling->top_p >= 0 && sampling->top_p <= 1),
                XFT_ERROR_INVALID_ARGUMENT,
                "xft_generate: temperature %g must not be negative, top_p %g be from 0 to 1",
                (double)sampling->temperature, (double)sampling->top_p);
    uint32_t B = g->options.batch, *work = calloc(4 * (size_t)B, sizeof *work);
    XFT_FAIL_IF(!work, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u sequences", count);
    uint32_t *whole = work + 3 * B; /* lengths in the end */
    xft_status status = XFT_OK;
    for (uint32_t b = 0; b < count && status == XFT_OK; b++) {
        whole[b] = lengths[b] + sampling->new_tokens;
        if (!prompts[b] || !lengths[b] || whole[b] > g->options.capacity)
            status =
                xft_fail(XFT_ERROR_INVALID_ARGUMENT, "xft_generate: prompt %u of %u ids and %u new ones; capacity %u",
                         b, lengths[b], sampling->new_tokens, g->options.capacity);
        for (uint32_t i = 0; i < lengths[b] && status == XFT_OK; i++)
            if (prompts[b][i] >= g->model->config.vocab_size)
                status = xft_fail(XFT_ERROR_INVALID_ARGUMENT, "xft_generate: prompt %u: id %u; the vocabulary has %u",
                                  b, prompts[b][i], g->model->config.vocab_size);
        counts[b] = 0;
    }
    run r = {.g = g,
             .prompts = prompts,
             .lengths = lengths,
             .count = count,
             .sampling = sampling,
             .ids = ids,
             .counts = counts,
             .callback = callback,
             .user = user,
             .past = work,
             .added = work + B,
             .stopped = work + 2 * B};
    if (status == XFT_OK && xft_rope_per_token(&g->model->config)) status = upload_table(g, whole, count);
    if (status == XFT_OK) status = generate(&r);
    free(work);
    return status;
}
