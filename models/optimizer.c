#include "optimizer.h"

#include "error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool factored(const xft_optimization *o, const xft_trained *p) {
    return o->options->optimizer == XFT_ADAFACTOR && p->parameter->matrix;
}

/* Parts of a gradient whose sums of squares are taken apart: enough to be fast, the same on every device. */
static uint32_t square_parts(const xft_parameter *p) {
    uint64_t elements = 1;
    for (uint32_t i = 0; i < p->rank; i++) elements *= p->shape[i];
    return elements < 4096 ? 1 : elements / 4096 < 256 ? (uint32_t)(elements / 4096) : 256;
}

static uint32_t rows_of(const xft_parameter *p) {
    return p->rank == 3 ? p->shape[0] * p->shape[1] : p->shape[0];
}

static void take_state(xft_optimization *o, xft_room *room, xft_trained *p) {
    const xft_parameter *q = p->parameter;
    const uint32_t *n = q->shape;
    uint32_t d0 = n[0], d1 = q->rank > 1 ? n[1] : 0, d2 = q->rank > 2 ? n[2] : 0;
    if (o->options->precision == XFT_PRECISION_MASTER && !q->small)
        p->master = xft_room_take(room, XFT_F32, d0, d1, d2);
    if (factored(o, p)) {
        uint32_t entries = q->rank == 3 ? n[0] : 1;
        p->r = xft_room_take(room, XFT_F32, entries, n[q->rank - 2], 0);
        p->c = xft_room_take(room, XFT_F32, entries, n[q->rank - 1], 0);
        p->columns = xft_room_take(room, XFT_F32, entries, n[q->rank - 1], 0);
        return;
    }
    if (o->options->optimizer == XFT_ADAMW) p->m = xft_room_take(room, XFT_F32, d0, d1, d2);
    p->v = xft_room_take(room, XFT_F32, d0, d1, d2);
}

xft_status xft_optimization_take(xft_optimization *o, xft_room *room, const xft_train_options *options,
                                 const xft_config *config, const xft_parameters *parameters, const xft_weights *w,
                                 const xft_weights *d, const xft_tensor *used, bool (*wanted)(const xft_parameter *)) {
    *o = (xft_optimization){.options = options, .layers = config->num_layers, .experts = config->num_experts};
    o->list = calloc(parameters->count, sizeof *o->list);
    XFT_FAIL_IF(!o->list, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the optimizer of %u tensors", parameters->count);
    o->t = xft_room_take(room, XFT_U32, 1, 0, 0);
    o->state = xft_room_take(room, XFT_U32, sizeof(xft_step_state) / 4, 0, 0);
    if (used && used->rank) o->expert_t = xft_room_take(room, XFT_U32, o->layers, o->experts, 0);
    uint32_t parts = 0;
    uint64_t scratch = 0;
    for (uint32_t i = 0; i < parameters->count; i++) {
        const xft_parameter *q = &parameters->list[i];
        if (!wanted(q)) continue;
        xft_trained *p = &o->list[o->count++];
        *p = (xft_trained){.parameter = q, .key = i, .t = o->t};
        if (w) p->w = xft_parameter_view(q, w);
        p->d_w = xft_parameter_view(q, d);
        if (q->experts && room->arena) {
            XFT_TRY(xft_tensor_at(&o->expert_t, q->layer, &p->t));
            XFT_TRY(xft_tensor_at(used, q->layer, &p->used));
        }
        take_state(o, room, p);
        if (factored(o, p) && xft_adafactor_scratch(&p->d_w) > scratch) scratch = xft_adafactor_scratch(&p->d_w);
        p->squares.offset = parts; /* until `partial` is there */
        p->squares.shape[0] = factored(o, p) ? rows_of(q) : square_parts(q);
        parts += (p->squares.shape[0] + 3) / 4 * 4; /* views start on 16 bytes */
    }
    o->partial = xft_room_take(room, XFT_F32, parts, 0, 0);
    if (scratch) o->scratch = xft_room_take(room, XFT_F32, (uint32_t)scratch, 0, 0);
    if (room->status != XFT_OK || !room->arena) return room->status;
    for (uint32_t i = 0; i < o->count; i++) {
        xft_tensor view = o->partial;
        view.offset += 4 * o->list[i].squares.offset;
        view.shape[0] = o->list[i].squares.shape[0];
        view.pitch = (view.shape[0] + 3) / 4 * 4;
        o->list[i].squares = view;
    }
    return XFT_OK;
}

void xft_optimization_free(xft_optimization *o) {
    free(o->list);
    o->list = NULL;
}

/* Tensors of the state of a parameter with the endings of their names: moments, then copies of weights. NULL where it
 * has none. */
enum { MOMENTS = 4, STATES = 6 };
static const xft_tensor *state_of(const xft_optimization *o, const xft_trained *p, uint32_t i, const char **ending) {
    static const char *const endings[STATES] = {"exp_avg",        "exp_avg_sq", "exp_avg_sq_row",
                                                "exp_avg_sq_col", "master",     "weight"};
    const xft_tensor *all[STATES] = {&p->m, &p->v, &p->r, &p->c, &p->master, &p->w};
    if (ending) *ending = endings[i];
    /* f32 weights of a bf16 model: a checkpoint in bf16 would round them */
    if (all[i] == &p->w && !(p->parameter->small && o->options->precision != XFT_PRECISION_F32)) return NULL;
    return all[i]->rank ? all[i] : NULL;
}

bool xft_optimization_state(const xft_optimization *o, uint32_t index, char name[160], xft_tensor *tensor) {
    const xft_tensor *common[] = {&o->t, &o->state, &o->expert_t};
    static const char *const names[] = {"t", "state", "expert_t"};
    uint32_t at = 0;
    for (uint32_t i = 0; i < 3; i++) {
        if (!common[i]->rank || at++ != index) continue;
        snprintf(name, 160, "optimizer.%s", names[i]);
        *tensor = *common[i];
        return true;
    }
    for (uint32_t i = 0; i < o->count; i++)
        for (uint32_t k = 0; k < STATES; k++) {
            const char *ending, *q = o->list[i].parameter->name, *number = strstr(q, "%u.");
            const xft_tensor *found = state_of(o, &o->list[i], k, &ending);
            if (!found || at++ != index) continue;
            if (number) /* all experts of the layer together */
                snprintf(name, 160, "optimizer.%.*s%s.%s", (int)(number - q), q, number + 3, ending);
            else
                snprintf(name, 160, "optimizer.%s.%s", q, ending);
            *tensor = *found;
            return true;
        }
    return false;
}

xft_status xft_optimization_start(const xft_optimization *o, xft_device *device) {
    xft_stream *s;
    XFT_TRY(xft_stream_create(device, &(xft_stream_options){.name = "optimizer start"}, &s));
    xft_fill(s, &o->partial, 0); /* the gaps between its parts stay 0 */
    xft_fill(s, &o->t, 0);
    xft_fill(s, &o->state, 0);
    if (o->expert_t.rank) xft_fill(s, &o->expert_t, 0);
    for (uint32_t i = 0; i < o->count; i++)
        for (uint32_t k = 0; k < MOMENTS; k++) {
            const xft_tensor *moment = state_of(o, &o->list[i], k, NULL);
            if (moment) xft_fill(s, moment, 0);
        }
    for (uint32_t i = 0; i < o->count; i++)
        if (o->list[i].master.rank) xft_cast(s, &o->list[i].w, &o->list[i].master, XFT_ROUND_NEAREST, NULL, 0);
    xft_status status = xft_stream_run(s);
    xft_stream_destroy(s);
    return status;
}

static const xft_tensor *present(const xft_tensor *tensor) {
    return tensor->rank ? tensor : NULL;
}

static void update(const xft_optimization *o, xft_stream *s, const xft_trained *p, const xft_tensor *step) {
    const xft_train_options *q = o->options;
    const float decay = p->parameter->decayed ? q->weight_decay : 0;
    const xft_adamw_config adamw = {.beta1 = q->beta1, .beta2 = q->beta2, .eps = q->eps, .weight_decay = decay};
    bool stochastic = q->precision == XFT_PRECISION_STOCHASTIC && p->w.dtype == XFT_BF16;
    xft_rounding rounding = stochastic ? XFT_ROUND_STOCHASTIC : XFT_ROUND_NEAREST;
    const xft_tensor *used = present(&p->used), *master = present(&p->master);
    if (q->optimizer == XFT_ADAMW)
        xft_adamw(s, &adamw, &p->d_w, step, &o->state, &p->t, used, &p->w, master, &p->m, &p->v, rounding, p->key);
    else if (p->parameter->matrix)
        xft_adafactor_update(s, decay, &p->d_w, &p->squares, &p->columns, &o->scratch, step, &o->state, &p->t, used,
                             &p->w, master, &p->r, &p->c, rounding, p->key);
    else
        xft_adafactor_vector(s, decay, &p->d_w, step, &o->state, &p->t, &p->w, &p->v);
}

void xft_optimization_record(const xft_optimization *o, xft_stream *s, const xft_tensor *step, const xft_tensor *loss,
                             const xft_tensor *balance) {
    for (uint32_t i = 0; i < o->count; i++) {
        const xft_trained *p = &o->list[i];
        if (factored(o, p))
            xft_adafactor_statistics(s, &p->d_w, &o->scratch, &p->squares, &p->columns);
        else
            xft_sum_squares(s, &p->d_w, &p->squares);
    }
    xft_step_begin(s, &o->partial, loss, balance, step, &o->state);
    xft_step_advance(s, &o->state, NULL, &o->t);
    const xft_tensor *advanced = NULL;
    for (uint32_t i = 0; i < o->count; i++) { /* once per layer: gate, up and down of an expert are used together */
        const xft_trained *p = &o->list[i];
        if (!p->used.rank || (advanced && advanced->offset == p->t.offset)) continue;
        xft_step_advance(s, &o->state, &p->used, &p->t);
        advanced = &p->t;
    }
    for (uint32_t i = 0; i < o->count; i++) update(o, s, &o->list[i], step);
}
