/* Suite `runtime`: wrong arguments of every op. Each tensor of each small case is replaced by one that is absent, of
 * another dtype, another shape, another device, or larger than its memory; the op must refuse it by name. What an op
 * may take after all stands in the table. On the test driver: the checks lie in front of all drivers. */
#include "driver_test.h"
#include "fixture.h"
#include "op_case.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

/* ---- What an op accepts ---- */

/* `accepts` names tensors with letters: n may be NULL; r, c any number of rows, of columns (while others fit them);
 * b also bf16, h also f16, f also f32, u also u32. All else must be refused. A case may still be stricter. */
static const struct row {
    const char *op, *accepts;
} table[] = {
    {"fill", "y:bhfurc"},
    {"cast", "x:bhf y:bhf step:n"},
    {"add", "a:bf b:bf y:bf"},
    {"accumulate", "x:bf y:bf"},
    {"bias", "y:bfr"},
    {"column_sum", "x:bfr scratch:r"},
    {"reduce_sum", "x:rc"},
    {"random_normal", "y:rc"},
    {"embedding", "w:bfr y:bf"},
    {"embedding_backward", "dy:bf dw:bfr"},
    {"rms_norm", "x:bf y:bf"},
    {"rms_norm_backward", "dy:bf x:bf dx:bf scratch:nr dw:n"},
    {"layer_norm", "x:bf y:bf"},
    {"layer_norm_backward", "dy:bf x:bf dx:bf scratch:nr dw:n db:n"},
    {"rope", "table:rc x:bf"},
    {"swiglu", "g:bf u:bf h:bf"},
    {"swiglu_backward", "dh:bf g:bf u:bf h:nbf weights:rc offsets:c"},
    {"gemm", "a:bhf b:bhf c:bhf"},
    {"grouped_gemm", "a:bhf b:bhf c:bhf"},
    {"segments", "segments:r"},
    {"attention", "q:bf k:bf v:bf o:bf"},
    {"attention_backward", "q:bf k:bf v:bf o:bf do_:bf dq:bf dk:bf dv:bf"},
    {"kv_append", "k:bf v:bf k_cache:bf v_cache:bf"},
    {"attention_decode", "q:bf k_cache:bf v_cache:bf o:bf"},
    {"router", ""},
    {"router_balance", "scratch:r"},
    {"router_backward", ""},
    {"expert_group", "scratch:r used:n"},
    {"gather_rows", "x:bfr offsets:c y:bf"},
    {"combine", "x:bf weights:n y:bf"},
    {"cross_entropy", "logits:bfc"},
    {"sample", "logits:bfc"},
    {"mix_softmax", ""},
    {"mix", "experts:bf w:bf"},
    {"mix_backward", "experts:bf dw:bf scratch:r"},
    {"mix_softmax_backward", ""},
    {"sum_squares", "g:bfrc partial:c"},
    {"step_begin", "partial:c"},
    {"step_advance", "used:n t:c"},
    {"adamw", "g:bf used:n w:bf master:n"},
    {"adafactor_statistics", "g:bf scratch:c"},
    {"adafactor_update", "g:bf used:n w:bf master:n scratch:c"},
    {"adafactor_vector", ""},
    {"fma_peak", ""},
};
enum { TABLE_ROWS = sizeof table / sizeof *table };

static const char *const functions[] = {
#define FUNCTION(name) #name,
#include "op_functions.def"
#undef FUNCTION
};

static const struct row *row_of(const char *op) {
    for (uint32_t i = 0; i < TABLE_ROWS; i++)
        if (!strcmp(table[i].op, op)) return &table[i];
    return NULL;
}

static bool accepts(const struct row *row, const char *name, char letter) {
    size_t length = strlen(name);
    for (const char *p = row->accepts; *p; p += strcspn(p, " "), p += *p == ' ')
        if (!strncmp(p, name, length) && p[length] == ':')
            return memchr(p + length + 1, letter, strcspn(p + length + 1, " ")) != NULL;
    return false;
}

/* ---- Mutations ---- */

typedef struct bench {
    xft_device *device, *foreign;
    xft_arena *arena, *foreign_arena;
    uint32_t cases, calls;
} bench;

static bool is_word(const char *text, const char *word) {
    size_t length = strlen(word);
    for (const char *p = text; (p = strstr(p, word)); p++)
        if ((p == text || !(isalnum((unsigned char)p[-1]) || p[-1] == '_')) &&
            !(isalnum((unsigned char)p[length]) || p[length] == '_'))
            return true;
    return false;
}

static xft_tensor make(xft_arena *arena, xft_dtype dtype, uint32_t rank, const uint32_t *shape) {
    xft_tensor t;
    OK(xft_tensor_create(arena, dtype, rank, shape, &t));
    return t;
}

/* Records the case with `changed` (NULL: none) as tensor `which`. `strict`: the message must name that very tensor;
 * else any tensor of the case, as either of two that do not fit each other may be at fault. */
static void refuses(bench *b, const op_case *c, const xft_tensor *tensors, uint32_t which, const xft_tensor *changed,
                    bool may_pass, bool strict, const char *what) {
    const xft_tensor *arguments[CASE_MAX_BUFFERS] = {0};
    xft_stream *stream;
    for (uint32_t i = 0; i < c->count; i++) arguments[i] = c->buffers[i].rank ? &tensors[i] : NULL;
    arguments[which] = changed;
    OK(xft_stream_create(b->device, NULL, &stream));
    xft_status status = c->record(stream, c, arguments);
    const char *name = c->buffers[which].name;
    b->calls++;
    if (status == XFT_OK) {
        cr_expect(may_pass, "%s %s: takes %s %s", c->op, c->label, name, what);
    } else {
        bool named = is_word(xft_error(), name) || (!strict && is_word(xft_error(), "value")); /* of fill */
        for (uint32_t i = 0; i < c->count && !strict; i++) named = named || is_word(xft_error(), c->buffers[i].name);
        cr_expect_eq(status, XFT_ERROR_INVALID_ARGUMENT, "%s with %s %s gives %s", c->op, name, what,
                     xft_status_name(status));
        cr_expect(named, "%s with %s %s: \"%s\" does not name it", c->op, name, what, xft_error());
    }
    xft_stream_destroy(stream);
}

static void check_dtypes(bench *b, const op_case *c, const xft_tensor *tensors, uint32_t i, const struct row *row) {
    static const char letters[] = {'f', 'b', 'h', 'u'};
    for (int dtype = 0; dtype < 4; dtype++) {
        xft_tensor t = make(b->arena, (xft_dtype)dtype, tensors[i].rank, tensors[i].shape);
        char what[32];
        snprintf(what, sizeof what, "of dtype %s", xft_dtype_name(t.dtype));
        if (t.dtype != tensors[i].dtype)
            refuses(b, c, tensors, i, &t, accepts(row, c->buffers[i].name, letters[dtype]), false, what);
    }
    xft_tensor t = tensors[i];
    t.dtype = (xft_dtype)9;
    refuses(b, c, tensors, i, &t, false, true, "of no dtype");
}

static void check_shapes(bench *b, const op_case *c, const xft_tensor *tensors, uint32_t i, const struct row *row) {
    const char *name = c->buffers[i].name;
    for (uint32_t d = 0; d < tensors[i].rank; d++) {
        bool column = d + 1 == tensors[i].rank;
        for (int change = -1; change < 2; change += 2) {
            uint32_t shape[4];
            memcpy(shape, tensors[i].shape, sizeof shape);
            shape[d] += (uint32_t)change;
            if (shape[d] == 0) continue;
            xft_tensor t = make(b->arena, tensors[i].dtype, tensors[i].rank, shape);
            char what[48];
            snprintf(what, sizeof what, "with %s %s", change < 0 ? "less" : "more",
                     column                     ? "columns"
                     : d + 2 == tensors[i].rank ? "rows"
                                                : "entries");
            refuses(b, c, tensors, i, &t, accepts(row, name, column ? 'c' : 'r'), false, what);
        }
    }
    xft_tensor t = tensors[i];
    t.rank = 5;
    refuses(b, c, tensors, i, &t, false, true, "of rank 5");
    t.rank = 0;
    refuses(b, c, tensors, i, &t, false, true, "of rank 0");
    t = tensors[i];
    t.shape[0] = 0;
    refuses(b, c, tensors, i, &t, false, true, "without elements");
    t = tensors[i];
    t.pitch++;
    refuses(b, c, tensors, i, &t, false, true, "of odd pitch");
    t = tensors[i];
    t.offset += 2;
    refuses(b, c, tensors, i, &t, false, true, "of odd offset");
}

/* Shapes that no memory holds: beyond the buffer, and beyond 32 bits. */
static void check_size(bench *b, const op_case *c, const xft_tensor *tensors, uint32_t i) {
    xft_tensor t = tensors[i];
    t.offset = t.buffer->size - 16;
    if (xft_bytes(&t) > 16) refuses(b, c, tensors, i, &t, false, true, "that reaches beyond its memory");
    t = tensors[i];
    t.rank = 4;
    for (uint32_t d = 0; d < 3; d++) t.shape[d] = UINT32_MAX;
    t.shape[3] = t.pitch;
    refuses(b, c, tensors, i, &t, false, true, "with 2^96 rows");
}

static void check_case(const op_case *c, void *user) {
    bench *b = user;
    const struct row *row = row_of(c->op);
    cr_expect(row, "%s has no row in the table of test_arguments.c", c->op);
    if (!row) return;
    b->cases++;
    xft_tensor tensors[CASE_MAX_BUFFERS];
    uint64_t mark = xft_arena_mark(b->arena), foreign_mark = xft_arena_mark(b->foreign_arena);
    for (uint32_t i = 0; i < c->count; i++)
        if (c->buffers[i].rank)
            tensors[i] = make(b->arena, c->buffers[i].dtype, c->buffers[i].rank, c->buffers[i].shape);
    for (uint32_t i = 0; i < c->count; i++) {
        const case_buffer *buffer = &c->buffers[i];
        if (buffer->rank == 0) continue;
        refuses(b, c, tensors, i, NULL, accepts(row, buffer->name, 'n'), true, "NULL");
        xft_tensor t = make(b->foreign_arena, buffer->dtype, buffer->rank, buffer->shape);
        refuses(b, c, tensors, i, &t, false, true, "of a foreign device");
        t = tensors[i];
        t.buffer = NULL;
        refuses(b, c, tensors, i, &t, false, true, "without memory");
        check_dtypes(b, c, tensors, i, row);
        check_shapes(b, c, tensors, i, row);
        check_size(b, c, tensors, i);
        for (uint32_t j = 0; j < c->count; j++) /* an output that overlaps another argument */
            if (j != i && c->buffers[j].rank && c->buffers[j].role != CASE_IN && tensors[j].dtype == tensors[i].dtype &&
                xft_bytes(&tensors[j]) == xft_bytes(&tensors[i]) && xft_cols(&tensors[j]) == xft_cols(&tensors[i]))
                refuses(b, c, tensors, i, &tensors[j], false, true, "that is an output as well");
    }
    xft_arena_release(b->arena, mark);
    xft_arena_release(b->foreign_arena, foreign_mark);
}

Test(arguments, every_op_refuses_wrong_tensors) {
    bench b = {0};
    OK(test_device_open(&(xft_device_options){.cache_dir = ""}, &b.device));
    OK(test_device_open(&(xft_device_options){.cache_dir = ""}, &b.foreign));
    OK(xft_arena_create(b.device, "arguments", 0, &b.arena));
    OK(xft_arena_create(b.foreign, "foreign", 0, &b.foreign_arena));
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        b.cases = 0;
        for (uint32_t f = 0; f < case_family_count; f++) case_families[f](CASES_SMALL, functions[i], check_case, &b);
        cr_expect_gt(b.cases, 0, "%s: no wrong argument was tried", functions[i]);
    }
    cr_expect_gt(b.calls, 1000, "%u calls", b.calls);
    fixture_close(b.foreign, b.foreign_arena, NULL);
    fixture_close(b.device, b.arena, NULL);
}

/* ---- Settings ---- */

/* The call on a fresh stream `s` is refused with `word`. */
#define WRONG(call, word)                                                                                              \
    do {                                                                                                               \
        xft_stream *s;                                                                                                 \
        OK(xft_stream_create(device, NULL, &s));                                                                       \
        REFUSES(call, XFT_ERROR_INVALID_ARGUMENT, word);                                                               \
        xft_stream_destroy(s);                                                                                         \
    } while (0)

static void check_router_config(xft_device *device, const xft_router_config *config, const char *word) {
    const xft_tensor *n = NULL;
    WRONG(xft_router(s, config, n, n, n, n, n, n, n, n), word);
    WRONG(xft_router_balance(s, config, n, n, n, n, n, n, n), word);
    WRONG(xft_router_backward(s, config, n, n, n, n, n, n, n, n), word);
    WRONG(xft_expert_group(s, config, n, n, n, n, n, n, n), word);
}

Test(arguments, routing_refuses_wrong_settings) {
    xft_device *device;
    OK(test_device_open(&(xft_device_options){.cache_dir = ""}, &device));
    const xft_router_config right = {.num_experts = 8, .top_k = 3, .noise_epsilon = 1e-2f, .balance_weight = 1e-2f};
    xft_router_config c = right;
    check_router_config(device, NULL, "config");
    c.gate = (xft_gate)7;
    check_router_config(device, &c, "gate");
    c = right;
    c.noise = (xft_noise)9;
    check_router_config(device, &c, "noise");
    c = right;
    c.num_experts = 1;
    check_router_config(device, &c, "num_experts");
    c.num_experts = 65;
    check_router_config(device, &c, "num_experts");
    c = right;
    c.top_k = 0;
    check_router_config(device, &c, "top_k");
    c.top_k = 9;
    check_router_config(device, &c, "top_k");
    c = right;
    c.noise_epsilon = NAN;
    check_router_config(device, &c, "noise_epsilon");
    c = right;
    c.balance_weight = INFINITY;
    check_router_config(device, &c, "balance_weight");
    cr_expect_eq(xft_router_state_width(NULL), 0);
    cr_expect_eq(xft_adafactor_scratch(NULL), 0);
    fixture_close(device, NULL, NULL);
}

Test(arguments, ops_refuse_wrong_settings) {
    xft_device *device;
    xft_arena *arena;
    OK(test_device_open(&(xft_device_options){.cache_dir = ""}, &device));
    OK(xft_arena_create(device, "settings", 0, &arena));
    const uint32_t matrix[] = {6, 12}, vector[] = {12}, one[] = {1}, two[] = {2}, block[] = {16}, eight[] = {8},
                   caches[] = {2, 5, 12}, row[] = {6}, lse[] = {3, 6}, pairs[] = {6, 2}, segments[] = {6, 4},
                   table[] = {9, 4};
    const xft_tensor x = make(arena, XFT_F32, 2, matrix), y = make(arena, XFT_F32, 2, matrix);
    const xft_tensor z = make(arena, XFT_F32, 2, matrix), half = make(arena, XFT_BF16, 2, matrix);
    const xft_tensor w = make(arena, XFT_F32, 1, vector), b = make(arena, XFT_F32, 1, vector);
    const xft_tensor ids = make(arena, XFT_U32, 1, row), rstd = make(arena, XFT_F32, 1, row);
    const xft_tensor step = make(arena, XFT_U32, 1, block), state = make(arena, XFT_U32, 1, eight);
    const xft_tensor t = make(arena, XFT_U32, 1, one), lengths = make(arena, XFT_U32, 1, two),
                     l = make(arena, XFT_F32, 2, lse), stats = make(arena, XFT_F32, 2, pairs);
    const xft_tensor seg = make(arena, XFT_U32, 2, segments), angles = make(arena, XFT_F32, 2, table);
    const xft_tensor k_cache = make(arena, XFT_F32, 3, caches), v_cache = make(arena, XFT_F32, 3, caches);
    const xft_tensor *n = NULL;

    WRONG(xft_cast(s, &x, &half, (xft_rounding)2, &step, 0), "rounding");
    WRONG(xft_cast(s, &half, &x, XFT_ROUND_STOCHASTIC, &step, 0), "stochastic");
    WRONG(xft_cast(s, &x, &half, XFT_ROUND_STOCHASTIC, n, 0), "step");
    WRONG(xft_fill(s, &ids, -1), "value");
    WRONG(xft_fill(s, &ids, NAN), "value");
    WRONG(xft_rms_norm(s, &x, &w, -1, &y, &rstd), "eps");
    WRONG(xft_rms_norm(s, &x, &w, NAN, &y, &rstd), "eps");
    WRONG(xft_layer_norm(s, &x, &w, &b, -1, &y, &stats), "eps");
    WRONG(xft_rope(s, &angles, &ids, 0, false, &x), "head_size");
    WRONG(xft_rope(s, &angles, &ids, 5, false, &x), "head_size");
    WRONG(xft_rope(s, &angles, &ids, 2, false, &x), "head_size");
    WRONG(xft_gemm(s, (xft_form)3, &x, &y, &z, false), "form");
    WRONG(xft_grouped_gemm(s, (xft_form)3, &x, &k_cache, &ids, &z, false), "form");
    static const uint32_t sizes[] = {0, 2, 3, 258};
    for (int i = 0; i < 4; i++) {
        WRONG(xft_attention(s, &x, &x, &x, &seg, sizes[i], 1, &y, &l), "head_size");
        WRONG(xft_attention_backward(s, &x, &x, &x, &x, &y, &l, &seg, sizes[i], 1, &l, &z, &z, &z), "head_size");
        WRONG(xft_attention_decode(s, &x, &k_cache, &v_cache, &lengths, sizes[i], 1, &y), "head_size");
    }
    WRONG(xft_gather_rows(s, &x, &ids, &ids, 0, &y), "top_k");
    WRONG(xft_mix(s, &k_cache, &w, NAN, &x), "lambda");
    WRONG(xft_mix_backward(s, &k_cache, &x, INFINITY, &l, &w, false), "lambda");
    WRONG(xft_swiglu_backward(s, &x, n, &ids, n, &y, &z, n, n), "weights");
    WRONG(xft_swiglu_backward(s, &x, &y, n, n, &y, &z, n, n), "source");
    WRONG(xft_adamw(s, NULL, &x, &step, &state, &t, n, &y, n, &z, &z, XFT_ROUND_NEAREST, 0), "config");
    const xft_adamw_config adamw = {0.9f, 0.999f, 1e-8f, 0}, bad = {1.5f, 0.999f, 1e-8f, 0};
    WRONG(xft_adamw(s, &bad, &x, &step, &state, &t, n, &y, n, &z, &z, XFT_ROUND_NEAREST, 0), "beta1");
    WRONG(xft_adamw(s, &adamw, &x, &step, &state, &t, n, &y, n, &z, &z, (xft_rounding)4, 0), "rounding");
    WRONG(xft_adamw(s, &adamw, &x, &step, &state, &t, n, &y, n, &z, &z, XFT_ROUND_STOCHASTIC, 0), "stochastic");
    fixture_close(device, arena, NULL);
}
