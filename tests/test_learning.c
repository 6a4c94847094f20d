/* Suite `learning`: runs of many steps. On the device XFT_TEST_DEVICE, but for the comparison of both APIs. */
#include "small_model.h"

#include "model.h"
#include "xft/checkpoint.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(call) cr_assert_eq(call, XFT_OK, "%s", xft_error())
enum { STEPS = 100, BATCHES = 8 };

TestSuite(learning, .timeout = 1200);

static xft_device *open_device(const char *name, const char *cache) {
    xft_device *device;
    if (!name) name = getenv("XFT_TEST_DEVICE") ? getenv("XFT_TEST_DEVICE") : "auto";
    OK(xft_device_open(name, &(xft_device_options){.cache_dir = cache}, &device));
    return device;
}

static void make_batches(small_data batches[BATCHES], uint32_t sequences, uint32_t length) {
    for (uint32_t i = 0; i < BATCHES; i++) small_data_make(&batches[i], sequences, length, i % 2, 100 + i);
}

static void free_batches(small_data batches[BATCHES]) {
    for (uint32_t i = 0; i < BATCHES; i++) small_data_free(&batches[i]);
}

static xft_train_options options_for(const small_data *batches) {
    return (xft_train_options){.tokens = batches[1].batch.tokens, .sequences = batches[1].batch.sequences, .seed = 9};
}

/* Mean loss of the last 8 steps of a run. */
static double run(xft_trainer *t, const small_data *batches, uint32_t steps, double lr, double *first) {
    double sum = 0;
    xft_metrics m;
    for (uint32_t step = 0; step < steps; step++) {
        OK(xft_trainer_step(t, &batches[step % BATCHES].batch, 1, lr));
        OK(xft_trainer_flush(t, &m));
        cr_assert(!m.skipped);
        if (step == 0 && first) *first = m.loss;
        if (step + BATCHES >= steps) sum += m.loss / BATCHES;
    }
    return sum;
}

/* ---- Precisions ---- */

Test(learning, bf16_follows_f32) {
    xft_device *device = open_device(NULL, NULL);
    xft_config c = small_moe(XFT_FAMILY_LLAMA, 4, 2, XFT_GATE_XFT, true);
    small_data batches[BATCHES];
    make_batches(batches, 4, 24);
    static const char *const names[] = {"f32", "bf16 with masters", "bf16 stochastic", "bf16 to nearest",
                                        "bf16, gradients too"};
    double final[5], first = 0;
    for (int number = 0; number < 5; number++) {
        int precision = number < 4 ? number : XFT_PRECISION_STOCHASTIC;
        xft_model *model;
        xft_trainer *t;
        OK(small_model(device, &c, precision ? XFT_BF16 : XFT_F32, 11, &model));
        xft_train_options options = options_for(batches);
        options.precision = (xft_precision)precision;
        options.grad_dtype = number == 4 ? XFT_BF16 : XFT_F32;
        OK(xft_trainer_create(model, &options, &t));
        final[number] = run(t, batches, STEPS, 1e-3, &first);
        printf("%-18s loss %.4f -> %.4f after %d steps\n", names[number], first, final[number], STEPS);
        xft_trainer_destroy(t);
        xft_model_destroy(model);
    }
    cr_expect_lt(final[0], 0.8 * first);
    for (int number = 1; number < 5; number++)
        if (number != XFT_PRECISION_NEAREST)
            cr_expect_leq(fabs(final[number] / final[0] - 1), 0.02, "%s: %g, f32 %g", names[number], final[number],
                          final[0]);
    free_batches(batches);
    xft_device_close(device);
}

/* ---- Resuming ---- */

/* All bits of a run: weights, and the trainer's state. */
typedef struct snapshot {
    float *weights;
    uint64_t weight_count;
    unsigned char **state;
    uint64_t *bytes;
    uint32_t states;
} snapshot;

static snapshot take_snapshot(const xft_model *model, const xft_trainer *t) {
    snapshot s = {.states = xft_trainer_state_count(t)};
    s.weights = small_weights(model, &s.weight_count);
    s.state = calloc(s.states, sizeof *s.state);
    s.bytes = calloc(s.states, sizeof *s.bytes);
    for (uint32_t i = 0; i < s.states; i++) {
        char name[160];
        xft_tensor tensor;
        OK(xft_trainer_state(t, i, name, &tensor));
        s.bytes[i] = (uint64_t)xft_rows(&tensor) * xft_cols(&tensor) * xft_dtype_size(tensor.dtype);
        s.state[i] = malloc(s.bytes[i]);
        OK(xft_tensor_read(&tensor, tensor.dtype, s.state[i]));
    }
    return s;
}

static void restore_state(const snapshot *s, const xft_trainer *t) {
    cr_assert_eq(s->states, xft_trainer_state_count(t));
    for (uint32_t i = 0; i < s->states; i++) {
        char name[160];
        xft_tensor tensor;
        OK(xft_trainer_state(t, i, name, &tensor));
        OK(xft_tensor_write(&tensor, tensor.dtype, s->state[i]));
    }
}

static void expect_equal(const snapshot *a, const snapshot *b, const char *label) {
    cr_expect(!memcmp(a->weights, b->weights, a->weight_count * sizeof(float)), "%s: weights differ", label);
    for (uint32_t i = 0; i < a->states; i++)
        cr_expect(!memcmp(a->state[i], b->state[i], a->bytes[i]), "%s: state %u differs", label, i);
}

static void free_snapshot(snapshot *s) {
    for (uint32_t i = 0; i < s->states; i++) free(s->state[i]);
    free(s->state);
    free(s->bytes);
    free(s->weights);
}

/* Steps `from` to `to` of the run of `precision`, on a device opened afresh; starts from `before` and the folder's
 * checkpoint when from > 0, and leaves one there. */
static snapshot run_part(int precision, xft_optimizer optimizer, uint32_t from, uint32_t to, const snapshot *before,
                         const char *folder, const char *cache) {
    xft_device *device = open_device(NULL, cache);
    xft_config c = small_moe(XFT_FAMILY_LLAMA, 4, 2, XFT_GATE_XFT, true);
    xft_dtype dtype = precision ? XFT_BF16 : XFT_F32;
    small_data batches[BATCHES];
    make_batches(batches, 4, 24);
    xft_model *model;
    xft_trainer *t;
    if (from)
        OK(xft_checkpoint_load(device, folder, &(xft_load_options){.dtype = dtype}, &model));
    else
        OK(small_model(device, &c, dtype, 11, &model));
    xft_train_options options = options_for(batches);
    options.precision = (xft_precision)precision;
    options.optimizer = optimizer;
    options.weight_decay = 0.01f;
    options.max_norm = 1;
    OK(xft_trainer_create(model, &options, &t));
    if (from) {
        restore_state(before, t);
        xft_trainer_set_steps(t, from);
    }
    xft_metrics m;
    for (uint32_t step = from; step < to; step++) {
        xft_batch two[] = {batches[step % BATCHES].batch, batches[(step + 3) % BATCHES].batch};
        OK(xft_trainer_step(t, two, 2, 1e-3));
        OK(xft_trainer_flush(t, &m));
    }
    snapshot s = take_snapshot(model, t);
    OK(xft_checkpoint_save(model, folder, &(xft_save_options){.dtype = dtype}));
    xft_trainer_destroy(t);
    xft_model_destroy(model);
    free_batches(batches);
    xft_device_close(device);
    return s;
}

Test(learning, a_resumed_run_has_the_same_bits) {
    char folder[100], cache[120], command[200];
    snprintf(folder, sizeof folder, "%s/xft-learning-XXXXXX", P_tmpdir);
    cr_assert(mkdtemp(folder));
    snprintf(cache, sizeof cache, "%s/cache", folder);
    static const struct {
        int precision;
        xft_optimizer optimizer;
        const char *label;
    } runs[] = {{XFT_PRECISION_F32, XFT_ADAFACTOR, "f32 Adafactor"},
                {XFT_PRECISION_STOCHASTIC, XFT_ADAMW, "bf16 stochastic AdamW"},
                {XFT_PRECISION_MASTER, XFT_ADAFACTOR, "bf16 masters Adafactor"}};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        int p = runs[i].precision;
        snapshot whole = run_part(p, runs[i].optimizer, 0, 20, NULL, folder, cache);
        snapshot again = run_part(p, runs[i].optimizer, 0, 20, NULL, folder, cache);
        snapshot half = run_part(p, runs[i].optimizer, 0, 10, NULL, folder, cache);
        snprintf(command, sizeof command, "rm -rf %s", cache); /* a lost cache of kernels must not change the bits */
        cr_assert_eq(system(command), 0);
        snapshot rest = run_part(p, runs[i].optimizer, 10, 20, &half, folder, cache);
        expect_equal(&whole, &again, runs[i].label);
        expect_equal(&whole, &rest, runs[i].label);
        printf("%s: 20 steps twice, and 10 + save + load + 10 without the cache: same bits\n", runs[i].label);
        free_snapshot(&whole);
        free_snapshot(&again);
        free_snapshot(&half);
        free_snapshot(&rest);
    }
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_expect_eq(system(command), 0);
}

/* ---- The merge stage ---- */

/* A dense model that has learned something; its MoE with expert 2 and the shared one as they are and noise on the
 * others; then only the coefficients train. */
static void merge_in(xft_dtype dtype) {
    xft_device *device = open_device(NULL, NULL);
    xft_config c = small_config(XFT_FAMILY_LLAMA);
    small_data batches[BATCHES];
    make_batches(batches, 4, 24);
    xft_train_options options = options_for(batches);
    xft_model *dense, *upcycled, *moe;
    xft_trainer *t;
    OK(small_model(device, &c, XFT_F32, 11, &dense));
    OK(xft_trainer_create(dense, &options, &t));
    run(t, batches, 150, 3e-3, NULL);
    xft_trainer_destroy(t);
    OK(xft_model_upcycle(dense, &(xft_upcycle_options){.num_experts = 4, .top_k = 2}, &upcycled));
    xft_config moe_config = *xft_model_get_config(upcycled);
    OK(xft_model_create(device, &moe_config, &(xft_model_options){.mixing = true, .dtype = dtype}, &moe));
    uint64_t state = 5;
    for (uint32_t i = 0; i < xft_model_tensor_count(upcycled); i++) {
        const char *name;
        xft_tensor from, to;
        OK(xft_model_tensor(upcycled, i, &name, &from));
        OK(xft_model_find(moe, name, &to));
        uint64_t n = (uint64_t)xft_rows(&from) * xft_cols(&from);
        float *values = malloc(n * sizeof *values);
        OK(xft_tensor_read(&from, XFT_F32, values));
        bool perturbed = strstr(name, ".experts.") && (strstr(name, ".1.weight") || strstr(name, ".3.weight")) &&
                         !strstr(name, "layers.1.weight");
        for (uint64_t k = 0; k < n && perturbed; k++) values[k] += (float)(0.3 * small_normal(&state));
        OK(xft_tensor_write(&to, XFT_F32, values));
        free(values);
    }
    OK(xft_model_set_shared_weight(moe, 0.25f)); /* so that the routed experts matter */
    options.merge = true;
    OK(xft_trainer_create(moe, &options, &t));
    /* the same batches at both ends, at rates of 0 */
    const double uniform = run(t, batches, BATCHES, 0, NULL);
    run(t, batches, 150, 0.1, NULL);
    const double learned = run(t, batches, BATCHES, 0, NULL);
    double alpha_least = 1;
    for (uint32_t l = 0; l < c.num_layers; l++) {
        float alpha[3];
        OK(xft_tensor_read(&t->merge.alpha[l], XFT_F32, alpha));
        alpha_least = fmin(alpha_least, alpha[1]); /* of expert 2 */
    }
    printf("merging in %s: loss %.4f uniform -> %.4f learned, alpha of the useful expert at least %.3f\n",
           xft_dtype_name(dtype), uniform, learned, alpha_least);
    cr_expect_gt(alpha_least, 0.8);
    cr_expect_lt(learned, uniform);
    xft_trainer_destroy(t);
    xft_model_destroy(moe);
    xft_model_destroy(upcycled);
    xft_model_destroy(dense);
    free_batches(batches);
    xft_device_close(device);
}

Test(learning, merging_finds_the_useful_expert) {
    merge_in(XFT_F32);
}
Test(learning, merging_works_on_bf16_experts) {
    merge_in(XFT_BF16);
}

/* ---- Vulkan and OpenCL ---- */

/* Smallest distance in z between the last picked and the first not picked expert, over real tokens and layers. */
static double least_margin(const xft_trainer *t) {
    const xft_network *n = &t->network;
    uint32_t T = n->options.tokens, routed = xft_config_routed(n->config), k = xft_config_picks(n->config);
    double least = INFINITY;
    for (uint32_t l = 0; l < n->config->num_layers; l++) {
        const xft_tensor *state = &n->layers[l].state;
        uint32_t width = xft_cols(state);
        float *values = malloc((size_t)T * width * sizeof *values);
        uint32_t *picks = malloc((size_t)T * k * sizeof *picks);
        OK(xft_tensor_read(state, XFT_F32, values));
        OK(xft_tensor_read(&n->layers[l].picks, XFT_U32, picks));
        for (uint32_t i = 0; i < T; i++) {
            const float *z = values + (size_t)i * width + 4 * routed; /* a, g, s, n, then z */
            if (picks[i * k] == UINT32_MAX) continue;
            double sorted[64];
            for (uint32_t e = 0; e < routed; e++) {
                uint32_t at = e;
                for (; at && sorted[at - 1] < (double)z[e]; at--) sorted[at] = sorted[at - 1];
                sorted[at] = (double)z[e];
            }
            for (uint32_t j = 0; j < k && j + 1 < routed; j++) least = fmin(least, sorted[j] - sorted[j + 1]);
        }
        free(picks);
        free(values);
    }
    return least;
}

/* Where the picks of two trainers differ first, for a person; "" where they are the same. */
static const char *first_difference(const xft_trainer *a, const xft_trainer *b) {
    static char place[80];
    const xft_network *n = &a->network;
    const uint32_t k = xft_config_picks(n->config), count = n->options.tokens * k;
    uint32_t *x = malloc(count * sizeof *x), *y = malloc(count * sizeof *y);
    *place = 0;
    for (uint32_t l = 0; l < n->config->num_layers && !*place; l++) {
        OK(xft_tensor_read(&n->layers[l].picks, XFT_U32, x));
        OK(xft_tensor_read(&b->network.layers[l].picks, XFT_U32, y));
        for (uint32_t i = 0; i < count && !*place; i++)
            if (x[i] != y[i])
                snprintf(place, sizeof place, "layer %u, token %u, pick %u: expert %u and %u", l, i / k, i % k,
                         x[i] + 1, y[i] + 1);
    }
    free(x);
    free(y);
    return place;
}

Test(learning, vulkan_and_opencl_agree) {
    xft_device *devices[] = {open_device("vulkan", NULL), open_device("opencl", NULL)};
    xft_config c = small_moe(XFT_FAMILY_LLAMA, 4, 3, XFT_GATE_XFT, true);
    small_data batches[BATCHES];
    make_batches(batches, 2, 12);
    xft_train_options stored = options_for(batches), free_noise = stored;
    stored.stored_noise = true;
    for (int pass = 0; pass < 2; pass++) { /* stored noise with clear picks, then Philox's */
        xft_model *models[2];
        xft_trainer *t[2], *probe;
        for (int i = 0; i < 2; i++) {
            OK(small_model(devices[i], &c, XFT_F32, 11, &models[i]));
            OK(xft_trainer_create(models[i], pass ? &free_noise : &stored, &t[i]));
        }
        OK(xft_trainer_create(models[0], &stored, &probe)); /* tries noise at rate 0 */
        double worst = 0, first = 0, last = 0;
        char different[120] = "";
        uint32_t draws = 0;
        for (uint32_t step = 0; step < STEPS; step++) {
            small_data *d = &batches[step % BATCHES];
            xft_metrics m[2];
            while (!pass) {
                small_data_noise(d, &c, 1000 + draws++);
                OK(xft_trainer_step(probe, &d->batch, 1, 0));
                OK(xft_trainer_flush(probe, &m[0]));
                if (least_margin(probe) > 1e-3) break;
            }
            for (int i = 0; i < 2; i++) {
                OK(xft_trainer_step(t[i], &d->batch, 1, 1e-3));
                OK(xft_trainer_flush(t[i], &m[i]));
            }
            const char *place = *different ? "" : first_difference(t[0], t[1]);
            if (*place) snprintf(different, sizeof different, "step %u, %s", step, place);
            worst = fmax(worst, fabs(m[0].loss - m[1].loss));
            if (step == 0) first = m[0].loss;
            if (step + BATCHES >= STEPS) last += m[0].loss / BATCHES;
        }
        printf("Vulkan and OpenCL, %s: loss %.4f -> %.4f, worst difference %.1e, ",
               pass ? "free noise" : "stored noise", first, last, worst);
        printf("%s%s\n", *different ? "first differing pick in " : "picks identical", different);
        if (!pass) {
            cr_expect_lt(last, 0.8 * first);
            cr_expect_leq(worst, 1e-4);
            cr_expect_str_empty(different, "%s", different);
        }
        xft_trainer_destroy(probe);
        for (int i = 0; i < 2; i++) {
            xft_trainer_destroy(t[i]);
            xft_model_destroy(models[i]);
        }
    }
    free_batches(batches);
    for (int i = 0; i < 2; i++) xft_device_close(devices[i]);
}
