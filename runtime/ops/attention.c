/* Attention of ops.h: segments, causal attention forward and backward, the key/value cache. */
#include "choice.h"
#include "lanes.h"
#include "record.h"

#include <stdio.h>
#include <string.h>

/* Positions travel through f32 in the kernels, exactly up to 2^24. */
enum { MAX_TOKENS = 1 << 24 };

static uint32_t blocks(uint32_t items, uint32_t size) {
    return items / size + (items % size != 0);
}

static _Thread_local const char *forced;

void xft_lanes_force(const char *form) {
    forced = form;
}

uint32_t xft_form_lanes(const xft_device *device) {
    const uint32_t lanes = xft_lanes_for(device);
    if (!forced) return lanes;
    const bool cpu = device->info.api == XFT_API_OPENCL && device->info.device_class == XFT_CLASS_CPU;
    return strcmp(forced, "cpu") || !cpu ? 0 : lanes ? lanes : 8;
}

xft_status xft_segments(xft_stream *stream, const xft_tensor *cu_seqlens, const xft_tensor *lengths, bool count_padding,
                        const xft_tensor *segments) {
    XFT_ARG(stream, "segments", lengths, XFT_U32_ONLY, 1, 0);
    const uint32_t sequences = xft_cols(lengths);
    XFT_ARG(stream, "segments", cu_seqlens, XFT_U32_ONLY, 1, sequences + 1);
    XFT_ARG(stream, "segments", segments, XFT_U32_ONLY, 0, 4);
    const uint32_t tokens = xft_rows(segments);
    const xft_device *device = xft_stream_device(stream);
    const uint32_t wg = xft_workgroup_for(device), groups = xft_groups_for(device, blocks(tokens, wg));
    const xft_segments_params params = {
        .tokens = tokens, .sequences = sequences, .count_padding = count_padding, .groups = groups};
    return xft_record(stream, &(xft_dispatch){.op = XFT_OP_segments,
                                              .tensors = {cu_seqlens, lengths, segments},
                                              .params = &params,
                                              .param_size = sizeof params,
                                              .constants = {wg},
                                              .groups = {groups, 1, 1}});
}

/* ---- Causal attention over packed sequences ---- */

typedef struct shape {
    uint32_t tokens, heads, kv_heads, head_size;
} shape;

/* Checks q, k, v, segments, head_size; fills the shape. */
static xft_status check_inputs(xft_stream *stream, const char *op, const xft_tensor *q, const xft_tensor *k,
                               const xft_tensor *v, const xft_tensor *segments, uint32_t head_size, shape *s) {
    XFT_TRY(xft_check_argument(stream, op, "q", q, XFT_DATA, 0, 0));
    const uint32_t tokens = xft_rows(q);
    XFT_TRY(xft_check_argument(stream, op, "k", k, 1u << q->dtype, tokens, 0));
    XFT_TRY(xft_check_argument(stream, op, "v", v, 1u << q->dtype, tokens, xft_cols(k)));
    XFT_TRY(xft_check_argument(stream, op, "segments", segments, XFT_U32_ONLY, tokens, 4));
    XFT_OP_FAIL_IF(head_size < 4 || head_size > 256 || head_size % 2, stream,
                   "%s: head_size is %u, must be even, from 4 to 256", op, head_size);
    XFT_OP_FAIL_IF(xft_cols(q) % head_size || xft_cols(k) % head_size, stream,
                   "%s: q has %u columns and k %u, which must be multiples of head_size %u", op, xft_cols(q),
                   xft_cols(k), head_size);
    *s = (shape){tokens, xft_cols(q) / head_size, xft_cols(k) / head_size, head_size};
    XFT_OP_FAIL_IF(s->heads % s->kv_heads, stream, "%s: %u query heads cannot share %u key/value heads", op, s->heads,
                   s->kv_heads);
    XFT_OP_FAIL_IF(tokens > MAX_TOKENS, stream, "%s: %u tokens, must be at most %u", op, tokens, MAX_TOKENS);
    return XFT_OK;
}

/* A form of a tiled pass and its tile: queries (keys in the kv pass) x keys (queries). `rows_constant` is ROWS of the
 * plain forms and VW, half the rows, of the CPU forms. */
typedef struct form {
    const char *variant;
    uint32_t wg, rows, rows_constant, cols, simd;
} form;

/* The passes, and the forms of each as the text of choices says them: "plain ROWSxCOLS WG", "cpu VWxCOLS". */
typedef enum pass { FORWARD, QUERIES, KEYS } pass;
static const struct {
    const char *name, *forms[6];
} passes[] = {
    [FORWARD] = {"attention", {"cpu 16x32", "cpu 8x32", "plain 64x32 256", "plain 32x32 256"}},
    [QUERIES] = {"attention_backward_q",
                 {"cpu 16x32", "cpu 8x32", "plain 64x32 256", "plain 32x32 256", "plain 64x16 256"}},
    [KEYS] = {"attention_backward_kv",
              {"cpu 16x32", "cpu 8x32", "plain 32x32 128", "plain 32x32 256", "plain 16x64 256"}},
};

static bool is_intel(const xft_device_info *info) {
    return strstr(info->name, "Intel") != NULL;
}

/* 128 registers of a lane are enough for every tile; with 32 lanes Xe-HPC has half as many. */
static uint32_t simd_of(const xft_device_info *info) {
    return is_intel(info) && strstr(info->name, "Max") ? 16 : 0;
}

/* Wide vectors on CPU devices, when the `heads` head-sized arrays of rows, `copies` of columns and two of scores that a
 * CPU form keeps fit local memory; else NULL. */
static const char *cpu_rule(const xft_device *device, uint32_t head_size, uint32_t heads, uint32_t copies) {
    const uint32_t cols = 32, width = (head_size + 7) / 8 * 8;
    for (uint32_t vw = xft_form_lanes(device); vw >= 8; vw /= 2)
        if (8 * vw * (heads * width + 2 * cols + 8) + 4 * copies * cols * width <= device->info.local_memory_bytes)
            return vw == 16 ? "cpu 16x32" : "cpu 8x32";
    return NULL;
}

/* Tiles that no compiler spills (tests/portability.sh). Intel's have the fewest registers. */
static const char *rule_of(const xft_device *device, pass pass, uint32_t head_size) {
    static const uint32_t heads[] = {[FORWARD] = 2, [QUERIES] = 3, [KEYS] = 4};
    const bool intel = is_intel(&device->info);
    const char *cpu = cpu_rule(device, head_size, heads[pass], pass == FORWARD ? 1 : 2);
    if (cpu) return cpu;
    switch (pass) {
    case FORWARD:
        return intel && head_size > 96 && head_size < 256 ? "plain 32x32 256" : "plain 64x32 256";
    case QUERIES:
        /* 32 x 32 spills there at head size 64, of all */
        if (intel && head_size == 64 && !simd_of(&device->info)) return "plain 64x16 256";
        return intel ? "plain 32x32 256" : "plain 64x32 256";
    default: /* two results; 256 invocations halve each one's share for the widest heads, at the price of reuse */
        return intel ? "plain 16x64 256" : head_size > 128 ? "plain 32x32 256" : "plain 32x32 128";
    }
}

static form form_for(const xft_device *device, pass pass, uint32_t head_size) {
    const char *text = rule_of(device, pass, head_size);
    if (!forced) {
        char key[40];
        snprintf(key, sizeof key, "%s %u", passes[pass].name, head_size);
        const char *known = xft_choice_get(device, key);
        for (int i = xft_lanes_for(device) ? 0 : 2; known && passes[pass].forms[i]; i++) /* the first two need lanes */
            if (!strcmp(known, passes[pass].forms[i])) text = passes[pass].forms[i];
        xft_choice_note(device, key, text);
    }
    form f = {.wg = 1, .simd = simd_of(&device->info)};
    if (sscanf(text, "cpu %ux%u", &f.rows_constant, &f.cols) == 2) {
        f.variant = "cpu";
        f.rows = 2 * f.rows_constant;
    } else if (sscanf(text, "plain %ux%u %u", &f.rows_constant, &f.cols, &f.wg) == 3) {
        f.rows = f.rows_constant;
    }
    return f;
}

/* Loop turns of an invocation for one tile of a pass that makes `dots` score tiles and adds up `adds` results, see
 * shaders/attention_tiles.glsl: each loop counts once more than it turns. */
static uint32_t turns_of_tile(const form *f, uint32_t head_size, uint32_t dots, uint32_t adds) {
    const uint32_t pairs = (head_size + 3) / 4 * 2, most = (f->rows + f->cols) * 9 / pairs;
    const uint32_t whole = most < f->cols ? most : f->cols; /* head rows staged at once */
    const uint32_t staging = blocks(4 * f->rows, f->wg) + blocks(4 * f->cols, f->wg) + 2;
    const uint32_t dot = blocks(head_size, 16) * (1 + staging) + 1;
    const uint32_t add = blocks(f->cols, whole) * (blocks(whole * pairs / 2, f->wg) + whole + 3) + 1;
    return dots * dot + adds * add + 1;
}

static uint32_t longest(const form *f, uint32_t turns) {
    const uint32_t tiles = 60000 / turns, beside = 2 * f->rows; /* tiles may begin and end in other sequences */
    return tiles * f->cols > beside ? tiles * f->cols - beside : 1;
}

uint32_t xft_attention_longest(const xft_device *device, uint32_t head_size, uint32_t heads, uint32_t kv_heads,
                               bool backward) {
    if (!device || !head_size || !kv_heads || !strstr(device->info.name, "llvmpipe")) return MAX_TOKENS;
    const form f = form_for(device, FORWARD, head_size), q = form_for(device, QUERIES, head_size);
    const form k = form_for(device, KEYS, head_size);
    const uint32_t softmax = f.cols + 1 + blocks(f.cols * f.rows, f.wg) + 1;
    const uint32_t forward = longest(&f, turns_of_tile(&f, head_size, 1, 1) + softmax);
    if (!backward) return forward;
    const uint32_t queries = longest(&q, turns_of_tile(&q, head_size, 2, 1));
    const uint32_t keys = longest(&k, heads / kv_heads * (turns_of_tile(&k, head_size, 2, 2) + 1));
    return keys < queries && keys < forward ? keys : queries < forward ? queries : forward;
}

/* Multiply-adds of one product of [T,T] with [T,D] over all heads, were all tokens one sequence. */
static double triangle(const shape *s) {
    return (double)s->tokens * s->tokens * s->heads * s->head_size;
}

xft_status xft_attention(xft_stream *stream, const xft_tensor *q, const xft_tensor *k, const xft_tensor *v,
                         const xft_tensor *segments, uint32_t head_size, float scale, const xft_tensor *o,
                         const xft_tensor *lse) {
    shape s;
    XFT_TRY(check_inputs(stream, "attention", q, k, v, segments, head_size, &s));
    XFT_FINITE(stream, "attention", scale);
    XFT_ARG(stream, "attention", o, XFT_DATA, s.tokens, xft_cols(q));
    XFT_ARG(stream, "attention", lse, XFT_F32_ONLY, s.heads, s.tokens);
    const xft_attention_params params = {.tokens = s.tokens,
                                         .heads = s.heads,
                                         .kv_heads = s.kv_heads,
                                         .scale = scale,
                                         .ld_q = q->pitch,
                                         .ld_k = k->pitch,
                                         .ld_v = v->pitch,
                                         .ld_o = o->pitch,
                                         .ld_lse = lse->pitch};
    const form f = form_for(xft_stream_device(stream), FORWARD, head_size);
    return xft_record(
        stream, &(xft_dispatch){.op = XFT_OP_attention,
                                .variant = f.variant,
                                .tensors = {q, k, v, segments, o, lse},
                                .params = &params,
                                .param_size = sizeof params,
                                .constants = {f.wg, q->dtype, o->dtype, head_size, f.rows_constant, f.cols, f.simd},
                                .groups = {blocks(s.tokens, f.rows), s.heads, 1},
                                .flops = 2 * triangle(&s)});
}

static xft_status record_delta(xft_stream *stream, const shape *s, const xft_tensor *o, const xft_tensor *do_,
                               const xft_tensor *delta) {
    const xft_device *device = xft_stream_device(stream);
    const uint32_t wg = xft_workgroup_for(device), groups = xft_groups_for(device, blocks(s->tokens * s->heads, wg));
    const xft_attention_delta_params params = {.tokens = s->tokens,
                                               .heads = s->heads,
                                               .ld_o = o->pitch,
                                               .ld_do = do_->pitch,
                                               .ld_delta = delta->pitch,
                                               .groups = groups};
    return xft_record(stream, &(xft_dispatch){.op = XFT_OP_attention_delta,
                                              .tensors = {o, do_, delta},
                                              .params = &params,
                                              .param_size = sizeof params,
                                              .constants = {wg, o->dtype, do_->dtype, s->head_size},
                                              .groups = {groups, 1, 1}});
}

xft_status xft_attention_backward(xft_stream *stream, const xft_tensor *q, const xft_tensor *k, const xft_tensor *v,
                                  const xft_tensor *o, const xft_tensor *do_, const xft_tensor *lse,
                                  const xft_tensor *segments, uint32_t head_size, float scale, const xft_tensor *delta,
                                  const xft_tensor *dq, const xft_tensor *dk, const xft_tensor *dv) {
    shape s;
    const char *op = "attention_backward";
    XFT_TRY(check_inputs(stream, op, q, k, v, segments, head_size, &s));
    XFT_FINITE(stream, op, scale);
    XFT_ARG(stream, op, o, XFT_DATA, s.tokens, xft_cols(q));
    XFT_ARG(stream, op, do_, XFT_DATA, s.tokens, xft_cols(q));
    XFT_ARG(stream, op, lse, XFT_F32_ONLY, s.heads, s.tokens);
    XFT_ARG(stream, op, delta, XFT_F32_ONLY, s.heads, s.tokens);
    XFT_ARG(stream, op, dq, XFT_DATA, s.tokens, xft_cols(q));
    XFT_ARG(stream, op, dk, XFT_DATA, s.tokens, xft_cols(k));
    XFT_ARG(stream, op, dv, 1u << dk->dtype, s.tokens, xft_cols(k));
    XFT_APART(stream, op, 4, XFT_NAMED(delta), XFT_NAMED(dq), XFT_NAMED(dk), XFT_NAMED(dv), XFT_NAMED(q), XFT_NAMED(k),
              XFT_NAMED(v), XFT_NAMED(o), XFT_NAMED(do_), XFT_NAMED(lse), XFT_NAMED(segments));
    XFT_TRY(record_delta(stream, &s, o, do_, delta));
    const xft_attention_backward_q_params q_params = {.tokens = s.tokens,
                                                      .heads = s.heads,
                                                      .kv_heads = s.kv_heads,
                                                      .scale = scale,
                                                      .ld_q = q->pitch,
                                                      .ld_k = k->pitch,
                                                      .ld_v = v->pitch,
                                                      .ld_do = do_->pitch,
                                                      .ld_lse = lse->pitch,
                                                      .ld_delta = delta->pitch,
                                                      .ld_dq = dq->pitch};
    const form qf = form_for(xft_stream_device(stream), QUERIES, head_size);
    const form kf = form_for(xft_stream_device(stream), KEYS, head_size);
    XFT_TRY(xft_record(stream, &(xft_dispatch){.op = XFT_OP_attention_backward_q,
                                               .variant = qf.variant,
                                               .tensors = {q, k, v, do_, lse, delta, segments, dq},
                                               .params = &q_params,
                                               .param_size = sizeof q_params,
                                               .constants = {qf.wg, q->dtype, do_->dtype, dq->dtype, head_size,
                                                             qf.rows_constant, qf.cols, qf.simd},
                                               .groups = {blocks(s.tokens, qf.rows), s.heads, 1},
                                               .flops = 3 * triangle(&s)}));
    const xft_attention_backward_kv_params kv_params = {.tokens = s.tokens,
                                                        .heads = s.heads,
                                                        .kv_heads = s.kv_heads,
                                                        .scale = scale,
                                                        .ld_q = q->pitch,
                                                        .ld_k = k->pitch,
                                                        .ld_v = v->pitch,
                                                        .ld_do = do_->pitch,
                                                        .ld_lse = lse->pitch,
                                                        .ld_delta = delta->pitch,
                                                        .ld_dk = dk->pitch,
                                                        .ld_dv = dv->pitch};
    return xft_record(stream, &(xft_dispatch){.op = XFT_OP_attention_backward_kv,
                                              .variant = kf.variant,
                                              .tensors = {q, k, v, do_, lse, delta, segments, dk, dv},
                                              .params = &kv_params,
                                              .param_size = sizeof kv_params,
                                              .constants = {kf.wg, q->dtype, do_->dtype, dk->dtype, head_size,
                                                            kf.rows_constant, kf.cols, kf.simd},
                                              .groups = {blocks(s.tokens, kf.rows), s.kv_heads, 1},
                                              .flops = 4 * triangle(&s)});
}

/* ---- Key/value cache ---- */

/* Checks k_cache, v_cache (called name) of `cols` columns (0: any), and that rows is a multiple of their B. */
static xft_status check_caches(xft_stream *stream, const char *op, const xft_tensor *k_cache, const xft_tensor *v_cache,
                               uint32_t rows, uint32_t cols) {
    XFT_ARG(stream, op, k_cache, XFT_DATA, 0, cols);
    XFT_ARG(stream, op, v_cache, 1u << k_cache->dtype, xft_rows(k_cache), xft_cols(k_cache));
    XFT_OP_FAIL_IF(k_cache->rank != 3 || v_cache->rank != 3 || k_cache->shape[0] != v_cache->shape[0], stream,
                   "%s: k_cache and v_cache must be [B,capacity,kv_heads*D], both of the same shape", op);
    XFT_OP_FAIL_IF(rows % k_cache->shape[0], stream,
                   "%s: %u rows of new tokens are no multiple of the %u sequences of k_cache", op, rows,
                   k_cache->shape[0]);
    return XFT_OK;
}

xft_status xft_kv_append(xft_stream *stream, const xft_tensor *k, const xft_tensor *v, const xft_tensor *lengths,
                         const xft_tensor *k_cache, const xft_tensor *v_cache) {
    XFT_ARG(stream, "kv_append", k, XFT_DATA, 0, 0);
    const uint32_t rows = xft_rows(k), cols = xft_cols(k);
    XFT_ARG(stream, "kv_append", v, 1u << k->dtype, rows, cols);
    XFT_TRY(check_caches(stream, "kv_append", k_cache, v_cache, rows, cols));
    const uint32_t sequences = k_cache->shape[0];
    XFT_ARG(stream, "kv_append", lengths, XFT_U32_ONLY, 1, sequences);
    const xft_device *device = xft_stream_device(stream);
    const xft_kv_append_params params = {.rows = rows,
                                         .cols = cols,
                                         .new_tokens = rows / sequences,
                                         .capacity = k_cache->shape[1],
                                         .ld_k = k->pitch,
                                         .ld_v = v->pitch,
                                         .ld_k_cache = k_cache->pitch,
                                         .ld_v_cache = v_cache->pitch,
                                         .groups = xft_groups_for(device, rows)};
    return xft_record(stream, &(xft_dispatch){.op = XFT_OP_kv_append,
                                              .tensors = {k, v, lengths, k_cache, v_cache},
                                              .params = &params,
                                              .param_size = sizeof params,
                                              .constants = {xft_workgroup_for(device), k->dtype, k_cache->dtype},
                                              .groups = {params.groups, 1, 1},
                                              .bytes = 2.0 * rows * cols *
                                                       (xft_dtype_size(k->dtype) + xft_dtype_size(k_cache->dtype))});
}

xft_status xft_attention_decode(xft_stream *stream, const xft_tensor *q, const xft_tensor *k_cache,
                                const xft_tensor *v_cache, const xft_tensor *lengths, uint32_t head_size, float scale,
                                const xft_tensor *o) {
    const char *op = "attention_decode";
    XFT_ARG(stream, op, q, XFT_DATA, 0, 0);
    const uint32_t rows = xft_rows(q);
    XFT_TRY(check_caches(stream, op, k_cache, v_cache, rows, 0));
    XFT_FINITE(stream, op, scale);
    const uint32_t sequences = k_cache->shape[0], new_tokens = rows / sequences;
    XFT_ARG(stream, op, lengths, XFT_U32_ONLY, 1, sequences);
    XFT_ARG(stream, op, o, XFT_DATA, rows, xft_cols(q));
    XFT_OP_FAIL_IF(head_size < 4 || head_size > 256 || head_size % 2, stream,
                   "%s: head_size is %u, must be even, from 4 to 256", op, head_size);
    XFT_OP_FAIL_IF(xft_cols(q) % head_size || xft_cols(k_cache) % head_size, stream,
                   "%s: q has %u columns and k_cache %u, which must be multiples of head_size %u", op, xft_cols(q),
                   xft_cols(k_cache), head_size);
    const uint32_t heads = xft_cols(q) / head_size, kv_heads = xft_cols(k_cache) / head_size;
    XFT_OP_FAIL_IF(heads % kv_heads, stream, "%s: %u query heads cannot share %u key/value heads", op, heads, kv_heads);
    const xft_attention_decode_params params = {.sequences = sequences,
                                                .new_tokens = new_tokens,
                                                .heads = heads,
                                                .kv_heads = kv_heads,
                                                .capacity = k_cache->shape[1],
                                                .scale = scale,
                                                .ld_q = q->pitch,
                                                .ld_k_cache = k_cache->pitch,
                                                .ld_v_cache = v_cache->pitch,
                                                .ld_o = o->pitch};
    /* As many rows as share a cache row, but no more than the queries and sums of a wide head leave room for. */
    const xft_device *device = xft_stream_device(stream);
    const uint32_t shared = new_tokens * (heads / kv_heads), most = head_size > 128 ? 4 : 8;
    const uint32_t types[] = {q->dtype, k_cache->dtype, o->dtype};
    uint32_t block = 1, vw = xft_form_lanes(device);
    while (block < shared && block < most) block *= 2;
    while (vw >= 4 && head_size % vw) vw /= 2;
    xft_dispatch d = {.op = XFT_OP_attention_decode,
                      .tensors = {q, k_cache, v_cache, lengths, o},
                      .params = &params,
                      .param_size = sizeof params,
                      .constants = {256, types[0], types[1], types[2], head_size, block, simd_of(&device->info)},
                      .groups = {blocks(shared, block), kv_heads, sequences},
                      .flops = 4.0 * xft_rows(k_cache) * new_tokens * heads * head_size};
    if (vw >= 4) {
        if (shared < most) block = shared; /* no lanes to share: any number of rows */
        d.variant = "cpu";
        d.constants[0] = 1;
        d.constants[5] = vw;
        d.constants[6] = block;
    }
    return xft_record(stream, &d);
}
