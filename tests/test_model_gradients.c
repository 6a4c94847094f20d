/* Suite `model_gradients`, on the device XFT_TEST_DEVICE: gradients of whole models against differences of the loss,
 * for every combination that has no oracle case, and recomputation, which changes no bit of them. */
#include "small_model.h"

#include "fixture.h"
#include "model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static xft_device *device;

static void open_device(void) {
    device = fixture_open(&(xft_device_options){.debug = XFT_DEBUG_HAZARDS | XFT_DEBUG_POISON});
}
static void close_device(void) {
    xft_device_close(device);
}
TestSuite(model_gradients, .init = open_device, .fini = close_device, .timeout = 1200);

/* ---- Directions ---- */

/* Tensors of one kind in all layers: parameters in the same place of a layer, or of the model. */
static bool same_kind(const xft_parameter *a, const xft_parameter *b) {
    return a->member == b->member && a->first_row == b->first_row &&
           (a->layer == UINT32_MAX) == (b->layer == UINT32_MAX);
}

/* What a configuration is checked with. Trained parameters and their gradients lie one after the other. */
typedef struct setting {
    xft_model *model;
    xft_trainer *t, *probe; /* the probe keeps the picks of all layers; NULL: nothing is picked */
    small_data d[2];
    uint32_t micro, count;             /* micro-batches; trained parameters */
    const xft_parameter *trained[100]; /* in the model's order */
    uint64_t first[101];               /* of its elements */
    float *w, *g;
    uint64_t random;
} setting;

static xft_tensor view_of(const setting *s, uint32_t i) {
    return xft_parameter_view(s->trained[i], &s->model->weights);
}

static void write_weights(setting *s, const float *values) {
    for (uint32_t i = 0; i < s->count; i++) {
        xft_tensor w = view_of(s, i);
        OK(xft_tensor_write(&w, XFT_F32, values + s->first[i]));
    }
    OK(xft_trainer_refresh(s->t));
}

static double loss_of(setting *s, xft_trainer *t, uint32_t first, uint32_t count) {
    double loss;
    xft_batch batches[] = {s->d[0].batch, s->d[1].batch};
    OK(small_loss(t, batches + first, count, &loss));
    return loss;
}

/* Picks of all layers and micro-batches, or NULL. */
static uint32_t *picks_of(setting *s, uint64_t *count) {
    *count = 0;
    if (!s->probe) return NULL;
    const xft_network *n = &s->probe->network;
    uint64_t each = (uint64_t)n->options.tokens * xft_config_picks(n->config);
    uint32_t *picks = malloc(s->micro * n->config->num_layers * each * sizeof *picks);
    for (uint32_t i = 0; i < s->micro; i++) {
        loss_of(s, s->probe, i, 1);
        for (uint32_t l = 0; l < n->config->num_layers; l++, *count += each)
            OK(xft_tensor_read(&n->layers[l].picks, XFT_U32, picks + *count));
    }
    return picks;
}

/* Root mean square of the gradient's elements. */
static double rms_of(const setting *s, uint64_t begin, uint64_t end) {
    double squares = 0;
    for (uint64_t k = begin; k < end; k++) squares += (double)s->g[k] * s->g[k];
    return sqrt(squares / (double)(end - begin));
}

/* A random direction v, in tensors of one kind (NULL: in all), with enough of the gradient in it that the loss moves:
 * (L(w + v) - L(w - v)) against <gradient, 2v>, v scaled to move the loss by `move`. NaN when a pick changes on the
 * way. */
static double directional_error(setting *s, const xft_parameter *kind, double move) {
    uint64_t n = s->first[s->count], picks;
    float *v = calloc(n, sizeof *v), *up = malloc(n * sizeof *up), *down = malloc(n * sizeof *down);
    double slope = 0, squares = 0;
    for (uint32_t i = 0; i < s->count; i++)
        for (uint64_t k = s->first[i]; k < s->first[i + 1]; k++)
            if (!kind || same_kind(kind, s->trained[i])) squares += (double)s->g[k] * s->g[k];
    cr_assert_gt(squares, 0, "no gradient in %s", kind ? kind->name : "any tensor");
    while (slope < squares / 4) { /* at once, but for a few numbers */
        slope = 0;
        for (uint32_t i = 0; i < s->count; i++) {
            if (kind && !same_kind(kind, s->trained[i])) continue;
            double size = kind ? rms_of(s, s->first[i], s->first[i + 1]) : rms_of(s, 0, n);
            for (uint64_t k = s->first[i]; k < s->first[i + 1]; k++) {
                v[k] = (float)(2 * small_uniform(&s->random) * s->g[k] + size * small_normal(&s->random));
                slope += (double)v[k] * s->g[k];
            }
        }
    }
    double step = move / slope, error = NAN;
    for (int attempt = 0; attempt < 2 && isnan(error); attempt++, step /= 2) {
        double expected = 0;
        for (uint64_t i = 0; i < n; i++) {
            up[i] = (float)(s->w[i] + step * v[i]);
            down[i] = (float)(s->w[i] - step * v[i]);
            expected += ((double)up[i] - down[i]) * s->g[i];
        }
        write_weights(s, up);
        double above = loss_of(s, s->t, 0, s->micro);
        uint32_t *picks_up = picks_of(s, &picks);
        write_weights(s, down);
        double below = loss_of(s, s->t, 0, s->micro);
        uint32_t *picks_down = picks_of(s, &picks);
        bool same = !picks || !memcmp(picks_up, picks_down, picks * sizeof *picks_up);
        free(picks_up);
        free(picks_down);
        if (same) error = fabs((above - below) - expected) / fabs(expected); /* else the loss jumps in between */
    }
    write_weights(s, s->w);
    free(v);
    free(up);
    free(down);
    return error;
}

static void take_gradient(setting *s) {
    loss_of(s, s->t, 0, s->micro);
    for (uint32_t i = 0; i < s->count; i++) {
        xft_tensor g = xft_parameter_view(s->trained[i], &s->t->d);
        OK(xft_tensor_read(&g, XFT_F32, s->g + s->first[i]));
    }
}

/* The worst of `count` directions. Where a token is undecided, other noise decides it. */
static double worst_direction(setting *s, const xft_parameter *kind, int count, double move) {
    double worst = 0;
    for (int found = 0, drawn = 0; found < count; drawn++) {
        double error = directional_error(s, kind, move);
        cr_assert_lt(drawn, 400, "picks change along every direction");
        if (isnan(error)) {
            for (uint32_t i = 0; i < 2; i++)
                small_data_noise(&s->d[i], &s->model->config, (uint64_t)(1e9 * small_uniform(&s->random)));
            take_gradient(s);
            continue;
        }
        worst = fmax(worst, error);
        found++;
    }
    return worst;
}

static void open_setting(setting *s, const xft_config *c, xft_train_options options) {
    s->random = 4; /* of a few seeds the one with the fewest undecided picks: each costs a new gradient */
    for (uint32_t i = 0; i < 2; i++) {
        small_data_make(&s->d[i], 3, 18, true, 5 + i);
        if (c->num_experts && !options.merge) small_data_noise(&s->d[i], c, 15 + i);
    }
    options.tokens = s->d[0].batch.tokens;
    options.sequences = 3;
    options.stored_noise = !options.merge;
    options.optimizer = XFT_ADAMW;
    options.head_chunk = 20;
    OK((options.merge ? small_merge_model : small_model)(device, c, XFT_F32, 11, &s->model));
    OK(xft_trainer_create(s->model, &options, &s->t));
    options.recompute = false; /* layers would share the memory of their picks */
    if (c->num_experts && !options.merge) OK(xft_trainer_create(s->model, &options, &s->probe));
    for (uint32_t i = 0; i < s->model->parameters.count; i++) {
        const xft_parameter *p = &s->model->parameters.list[i];
        xft_tensor g = xft_parameter_view(p, &s->t->d);
        if (!g.rank) continue;
        s->trained[s->count] = p;
        s->first[s->count + 1] = s->first[s->count] + (uint64_t)xft_rows(&g) * xft_cols(&g);
        s->count++;
    }
    s->w = malloc(s->first[s->count] * sizeof *s->w);
    s->g = malloc(s->first[s->count] * sizeof *s->g);
    for (uint32_t i = 0; i < s->count; i++) {
        xft_tensor w = view_of(s, i);
        OK(xft_tensor_read(&w, XFT_F32, s->w + s->first[i]));
        for (uint64_t k = s->first[i]; k < s->first[i + 1]; k++) /* norms are 1, biases 0, coefficients equal */
            if (!s->trained[i]->matrix) s->w[k] += (float)(0.3 * small_normal(&s->random));
    }
    write_weights(s, s->w);
    take_gradient(s);
}

static void close_setting(setting *s) {
    xft_trainer_destroy(s->probe);
    xft_trainer_destroy(s->t);
    xft_model_destroy(s->model);
    for (uint32_t i = 0; i < 2; i++) small_data_free(&s->d[i]);
    free(s->w);
    free(s->g);
}

/* Five directions through all tensors; then one through the tensors of each kind, whose share of those may be small.
 * The latter move the loss less, so that a router's picks stay, and see more of its rounding. */
static void check_directions(const char *label, const xft_config *c, uint32_t micro, bool merge, bool recompute) {
    setting s = {.micro = micro};
    open_setting(&s, c, (xft_train_options){.merge = merge, .recompute = recompute});
    double worst = worst_direction(&s, NULL, 5, 1.4e-3), worst_kind = 0;
    const char *name = "";
    for (uint32_t i = 0; i < s.count; i++) {
        bool seen = false;
        for (uint32_t k = 0; k < i && !seen; k++) seen = same_kind(s.trained[k], s.trained[i]);
        if (seen) continue;
        double error = worst_direction(&s, s.trained[i], 1, 4e-4);
        if (error > worst_kind) worst_kind = error, name = s.trained[i]->name;
    }
    printf("directional gradients, %-44s worst %.1e / 1e-03, of one kind %.1e / 1e-02 (%s)\n", label, worst, worst_kind,
           name);
    cr_expect_leq(worst, 1e-3, "%s: %g", label, worst);
    cr_expect_leq(worst_kind, 1e-2, "%s: %g in %s", label, worst_kind, name);
    close_setting(&s);
}

/* Every family dense, with every gate and network of its own, and in the merge stage. Recomputation and accumulation
 * meet each gate, each network, and each other. */
static void check_family(xft_family family, const char *name) {
    static const char *const gates[] = {"xft", "unnormalised", "vanilla"};
    char label[100];
    xft_config dense = small_config(family);
    for (uint32_t again = 0; again < 2; again++) {
        snprintf(label, sizeof label, "%s dense, %u micro%s", name, 2 - again, again ? ", recomputed" : "");
        check_directions(label, &dense, 2 - again, false, again);
        xft_config merge = small_moe(family, 5, 3, XFT_GATE_XFT, true);
        merge.initializer_range = 0.4f; /* experts that differ, and count */
        merge.shared_expert_weight = 0.25f;
        snprintf(label, sizeof label, "%s merge, %u micro%s", name, 1 + again, again ? ", recomputed" : "");
        check_directions(label, &merge, 1 + again, true, again);
    }
    for (uint32_t g = 0; g < 3; g++)
        for (uint32_t mlp = 0; mlp < 2; mlp++) {
            uint32_t recompute = ((uint32_t)family + mlp) % 2, micro = 1 + ((uint32_t)family + g) % 2;
            xft_config moe = small_moe(family, 5, 3, (xft_gate)g, mlp);
            snprintf(label, sizeof label, "%s %s %s, %u micro%s", name, gates[g], mlp ? "mlp" : "linear", micro,
                     recompute ? ", recomputed" : "");
            check_directions(label, &moe, micro, false, recompute);
        }
}

Test(model_gradients, llama) {
    check_family(XFT_FAMILY_LLAMA, "llama");
}
Test(model_gradients, qwen2) {
    check_family(XFT_FAMILY_QWEN2, "qwen2");
}
Test(model_gradients, stablelm) {
    check_family(XFT_FAMILY_STABLELM, "stablelm");
}

/* ---- Recomputation ---- */

/* All bits of two micro-batches' gradients. */
static float *gradients_of(const xft_config *c, xft_train_options options, bool recompute, uint64_t *count) {
    xft_model *model;
    xft_trainer *t;
    small_data d[2];
    double loss;
    for (uint32_t i = 0; i < 2; i++) small_data_make(&d[i], 3, 18, true, 3 + i);
    bool bf16 = options.precision != XFT_PRECISION_F32;
    options.tokens = d[0].batch.tokens;
    options.sequences = 3;
    options.seed = 4;
    options.recompute = recompute;
    OK((options.merge ? small_merge_model : small_model)(device, c, bf16 ? XFT_BF16 : XFT_F32, 11, &model));
    OK(xft_trainer_create(model, &options, &t));
    OK(small_loss(t, (const xft_batch[]){d[0].batch, d[1].batch}, 2, &loss));
    float *gradients = small_gradients(t, count);
    xft_trainer_destroy(t);
    xft_model_destroy(model);
    for (uint32_t i = 0; i < 2; i++) small_data_free(&d[i]);
    return gradients;
}

Test(model_gradients, recomputation_changes_no_bit) {
    static const struct {
        const char *name;
        bool moe;
        xft_family family;
        xft_gate gate;
        bool merge;
        xft_precision precision;
        xft_dtype grad_dtype;
    } kinds[] = {
        {"dense", false, XFT_FAMILY_STABLELM, 0, false, XFT_PRECISION_F32, XFT_F32},
        {"MoE", true, XFT_FAMILY_LLAMA, XFT_GATE_XFT, false, XFT_PRECISION_F32, XFT_F32},
        {"MoE unnormalised, bf16", true, XFT_FAMILY_STABLELM, XFT_GATE_UNNORMALISED, false, XFT_PRECISION_MASTER,
         XFT_F32},
        {"MoE vanilla, bf16 and its gradients", true, XFT_FAMILY_QWEN2, XFT_GATE_VANILLA, false,
         XFT_PRECISION_STOCHASTIC, XFT_BF16},
        {"dense bf16", false, XFT_FAMILY_QWEN2, 0, false, XFT_PRECISION_STOCHASTIC, XFT_F32},
        {"merge", true, XFT_FAMILY_STABLELM, XFT_GATE_XFT, true, XFT_PRECISION_F32, XFT_F32},
        {"merge bf16", true, XFT_FAMILY_QWEN2, XFT_GATE_XFT, true, XFT_PRECISION_STOCHASTIC, XFT_F32},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        xft_config c =
            kinds[i].moe ? small_moe(kinds[i].family, 4, 2, kinds[i].gate, i % 2) : small_config(kinds[i].family);
        c.num_layers = 3;
        xft_train_options options = {
            .merge = kinds[i].merge, .precision = kinds[i].precision, .grad_dtype = kinds[i].grad_dtype};
        uint64_t n = 0, m = 0;
        float *kept = gradients_of(&c, options, false, &n), *again = gradients_of(&c, options, true, &m);
        cr_expect(n == m && !memcmp(kept, again, n * sizeof *kept), "%s", kinds[i].name);
        free(kept);
        free(again);
    }
}
