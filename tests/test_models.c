/* Suite `models`, on the device XFT_TEST_DEVICE: what holds for every model and has no oracle case. */
#include "small_model.h"

#include "evaluator.h"
#include "generator.h"
#include "model.h"
#include "xft/generate.h"
#include "xft/plan.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert_eq(call, XFT_OK, "%s", xft_error())

static xft_device *device;

static void open_device(void) {
    const char *name = getenv("XFT_TEST_DEVICE");
    xft_device_options options = {.debug = XFT_DEBUG_HAZARDS | XFT_DEBUG_POISON};
    OK(xft_device_open(name ? name : "auto", &options, &device));
}
static void close_device(void) {
    xft_device_close(device);
}
TestSuite(models, .init = open_device, .fini = close_device, .timeout = 1200);

/* Normalised mean squared difference. */
static double nmse(const float *a, const float *b, uint64_t n) {
    double difference = 0, square = 0;
    for (uint64_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        square += (double)b[i] * b[i];
    }
    return difference / square;
}

static float *logits_of(xft_model *model, const small_data *d) {
    xft_evaluator *e;
    float *logits = malloc((size_t)d->batch.tokens * SMALL_VOCABULARY * sizeof *logits);
    OK(xft_evaluator_create(model, d->batch.tokens, d->batch.sequences, true, false, &e));
    OK(xft_evaluator_run(e, &d->batch, NULL, NULL, logits));
    xft_evaluator_destroy(e);
    return logits;
}

/* ---- Upcycling ---- */

static void keep_text(void *user, xft_log_level level, const char *text) {
    if (level == XFT_LOG_WARNING) snprintf(user, 200, "%s", text);
}

Test(models, identity_at_step_0) {
    xft_config c = small_config(XFT_FAMILY_LLAMA);
    xft_model *dense, *moe;
    small_data d;
    small_data_make(&d, 2, 20, false, 1);
    OK(small_model(device, &c, XFT_F32, 2, &dense));
    float *expected = logits_of(dense, &d);
    double worst = 0;
    static const uint32_t experts[] = {2, 4, 8, 16};
    for (int i = 0; i < 4; i++)
        for (uint32_t K = 2; K <= experts[i]; K++) {
            xft_upcycle_options options = {
                .num_experts = experts[i], .top_k = K, .router_init = XFT_ROUTER_OFFICIAL, .seed = K};
            OK(xft_model_upcycle(dense, &options, &moe));
            float *logits = logits_of(moe, &d);
            double error = nmse(logits, expected, 40 * SMALL_VOCABULARY);
            cr_expect_leq(error, 1e-12, "E %u K %u: %g", experts[i], K, error);
            worst = fmax(worst, error);
            free(logits);
            xft_model_destroy(moe);
        }
    printf("identity at step 0, E in {2,4,8,16}, K from 2 to E: worst %.1e\n", worst);
    char warning[200] = "";
    xft_callbacks callbacks = {.user = warning, .log = keep_text};
    OK(xft_model_upcycle(dense, &(xft_upcycle_options){.num_experts = 2, .top_k = 2, .callbacks = &callbacks}, &moe));
    cr_expect(strstr(warning, "never trains"), "%s", warning);
    xft_model_destroy(moe);
    static const uint32_t wrong[][2] = {{1, 1}, {4, 1}, {4, 5}, {65, 2}, {0, 0}, {128, 6}};
    for (int i = 0; i < 6; i++) {
        xft_upcycle_options options = {.num_experts = wrong[i][0], .top_k = wrong[i][1]};
        cr_expect_neq(xft_model_upcycle(dense, &options, &moe), XFT_OK, "E %u K %u", wrong[i][0], wrong[i][1]);
        cr_expect(strstr(xft_error(), "num_"), "%s", xft_error());
    }
    free(expected);
    small_data_free(&d);
    xft_model_destroy(dense);
}

/* ---- Mixing to dense ---- */

static float *values_of(const xft_model *model, uint64_t *count, const char *format, uint32_t layer, uint32_t expert) {
    char name[120];
    xft_tensor tensor;
    snprintf(name, sizeof name, format, layer, expert);
    OK(xft_model_find(model, name, &tensor));
    *count = (uint64_t)xft_rows(&tensor) * xft_cols(&tensor);
    float *values = malloc(*count * sizeof *values);
    OK(xft_tensor_read(&tensor, XFT_F32, values));
    return values;
}

/* Largest difference of a merged model from lambda W_0 + (1-lambda) sum_i alpha_i W_i, alpha = softmax(a). */
static double mixing_error(const xft_model *moe, const xft_model *dense, const float *a, double lambda) {
    static const char *const mixed[] = {"model.layers.%u.mlp.gate_proj.weight", "model.layers.%u.mlp.up_proj.weight",
                                        "model.layers.%u.mlp.down_proj.weight"};
    static const char *const experts[] = {"model.layers.%u.mlp.calculator.experts.weight_gate.%u.weight",
                                          "model.layers.%u.mlp.calculator.experts.weight_up.%u.weight",
                                          "model.layers.%u.mlp.calculator.experts.weight_down.%u.weight"};
    const xft_config *c = xft_model_get_config(moe);
    const uint32_t routed = xft_config_routed(c);
    double worst = 0;
    for (uint32_t l = 0; l < c->num_layers; l++)
        for (int m = 0; m < 3; m++) {
            uint64_t n;
            double sum = 0;
            float *w = values_of(dense, &n, mixed[m], l, 0);
            double *expected = calloc(n, sizeof *expected);
            for (uint32_t i = 0; i < routed; i++) sum += exp((double)a[l * routed + i]);
            for (uint32_t e = 0; e <= routed; e++) {
                const double share = e ? (1 - lambda) * exp((double)a[l * routed + e - 1]) / sum : lambda;
                float *x = values_of(moe, &n, experts[m], l, e);
                for (uint64_t k = 0; k < n; k++) expected[k] += share * (double)x[k];
                free(x);
            }
            for (uint64_t k = 0; k < n; k++) worst = fmax(worst, fabs((double)w[k] - expected[k]));
            free(expected);
            free(w);
        }
    return worst;
}

/* Uniform and given coefficients against the formula; lambda 1 gives expert 0; experts that are equal give the dense
 * model back. */
Test(models, mixing_to_dense) {
    static const float zero[6] = {0}, given[] = {2, -1, 0.5f, -3, 0, 1};
    static const struct {
        xft_merge_kind kind;
        const float *a;
        double lambda, means; /* what was asked for, and what it stands for */
    } kinds[] = {{XFT_MERGE_UNIFORM, zero, 0.3, 0.3},
                 {XFT_MERGE_UNIFORM, zero, -1, 0.75},
                 {XFT_MERGE_GIVEN, given, 0.3, 0.3},
                 {XFT_MERGE_GIVEN, given, 0, 0},
                 {XFT_MERGE_GIVEN, given, 1, 1}};
    xft_model *dense, *moe, *merged;
    xft_config c = small_moe(XFT_FAMILY_QWEN2, 4, 2, XFT_GATE_XFT, true);
    OK(small_model(device, &c, XFT_F32, 11, &moe));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        OK(xft_model_merge(moe, kinds[i].kind, given, kinds[i].lambda, NULL, &merged));
        const double error = mixing_error(moe, merged, kinds[i].a, kinds[i].means);
        cr_expect_leq(error, kinds[i].lambda == 1 ? 0 : 1e-6, "mixing %zu: %g", i, error);
        xft_model_destroy(merged);
    }
    xft_model_destroy(moe);
    c = small_config(XFT_FAMILY_STABLELM);
    OK(small_model(device, &c, XFT_F32, 11, &dense));
    OK(xft_model_upcycle(dense, &(xft_upcycle_options){.num_experts = 4, .top_k = 2}, &moe));
    OK(xft_model_merge(moe, XFT_MERGE_GIVEN, given, -1, NULL, &merged));
    uint64_t n, m;
    float *before = small_weights(dense, &n), *after = small_weights(merged, &m);
    cr_assert_eq(n, m);
    for (uint64_t k = 0; k < n; k++)
        cr_assert_leq(fabsf(after[k] - before[k]), 1e-6f * fabsf(before[k]), "%g became %g", (double)before[k],
                      (double)after[k]);
    free(before);
    free(after);
    xft_model_destroy(dense);
    xft_model_destroy(moe);
    xft_model_destroy(merged);
}

/* ---- Gradients in bf16 ---- */

/* Rounded by the same numbers in every micro-batch, the errors of a gradient would add up in one direction: after 32
 * micro-batches to 4.6 units of its last place, instead of 1.4. */
Test(models, bf16_gradients_are_rounded_anew_in_every_micro_batch) {
    enum { MICRO = 32 };
    xft_config c = small_config(XFT_FAMILY_LLAMA);
    small_data d;
    small_data_make(&d, 2, 16, false, 3);
    xft_batch batches[MICRO];
    for (int i = 0; i < MICRO; i++) batches[i] = d.batch;
    float *gradients[2];
    uint64_t n = 0, count = 0;
    for (int narrow = 0; narrow < 2; narrow++) {
        xft_model *model;
        xft_trainer *t;
        OK(small_model(device, &c, XFT_F32, 11, &model));
        xft_train_options options = {
            .tokens = 32, .sequences = 2, .grad_dtype = narrow ? XFT_BF16 : XFT_F32, .seed = 4};
        OK(xft_trainer_create(model, &options, &t));
        double loss;
        OK(small_loss(t, batches, MICRO, &loss));
        gradients[narrow] = small_gradients(t, &n);
        xft_trainer_destroy(t);
        xft_model_destroy(model);
    }
    double squares = 0, sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t bits;
        int exponent;
        memcpy(&bits, &gradients[1][i], sizeof bits);
        if (bits & 0xffff || !gradients[0][i]) continue; /* not of a matrix of a layer */
        frexp((double)gradients[0][i], &exponent);
        const double error = ldexp((double)gradients[1][i] - gradients[0][i], 8 - exponent);
        squares += error * error;
        sum += error;
        count++;
    }
    const double rms = sqrt(squares / (double)count), mean = sum / (double)count;
    printf("bf16 gradients of %d micro-batches: %llu elements, error %.2f, mean %.3f units of the last place\n", MICRO,
           (unsigned long long)count, rms, mean);
    cr_expect_gt(count, 10000);
    cr_expect(rms > 0.5 && rms < 2.5, "%g", rms);
    cr_expect_lt(fabs(mean), 4 * rms / sqrt((double)count), "%g", mean);
    free(gradients[0]);
    free(gradients[1]);
    small_data_free(&d);
}

/* ---- Noise ---- */

/* The noise of rows of a layer in the last micro-batch, [count,E']. */
static float *drawn_noise(const xft_trainer *t, uint32_t layer, uint32_t first, uint32_t count) {
    const uint32_t routed = xft_config_routed(t->network.config), width = xft_cols(&t->network.layers[layer].state);
    xft_tensor rows;
    OK(xft_tensor_rows(&t->network.layers[layer].state, first, count, &rows));
    float *values = malloc((size_t)count * width * sizeof *values), *noise = malloc(count * routed * sizeof *noise);
    OK(xft_tensor_read(&rows, XFT_F32, values));
    for (uint32_t i = 0; i < count * routed; i++) /* a, g, s, then n */
        noise[i] = values[i / routed * width + 3 * routed + i % routed];
    free(values);
    return noise;
}

Test(models, noise_does_not_depend_on_the_cut) {
    xft_config c = small_moe(XFT_FAMILY_LLAMA, 4, 2, XFT_GATE_XFT, true);
    xft_model *model;
    small_data whole, half[2];
    uint32_t length = 16, routed = 3;
    small_data_make(&whole, 2, length, false, 3);
    for (int i = 0; i < 2; i++) {
        small_data_make(&half[i], 1, length, false, 3);
        memcpy(half[i].ids, whole.ids + (uint32_t)i * length, length * sizeof *half[i].ids);
        memcpy(half[i].labels, whole.labels + (uint32_t)i * length, length * sizeof *half[i].labels);
    }
    OK(small_model(device, &c, XFT_F32, 11, &model));
    float *noise[2];
    for (int cut = 0; cut < 2; cut++) {
        xft_trainer *t;
        xft_train_options options = {.tokens = cut ? length : 2 * length, .sequences = 2, .seed = 77};
        xft_batch batches[] = {half[0].batch, half[1].batch};
        OK(xft_trainer_create(model, &options, &t));
        double loss;
        OK(small_loss(t, cut ? batches : &whole.batch, cut ? 2 : 1, &loss));
        noise[cut] = drawn_noise(t, 1, cut ? 0 : length, length); /* of the second sequence */
        xft_trainer_destroy(t);
    }
    cr_expect(!memcmp(noise[0], noise[1], length * routed * sizeof(float)));
    double square = 0;
    for (uint32_t i = 0; i < length * routed; i++) square += (double)noise[0][i] * noise[0][i];
    cr_expect_gt(square, 1, "the noise is not there");
    for (int i = 0; i < 2; i++) {
        free(noise[i]);
        small_data_free(&half[i]);
    }
    small_data_free(&whole);
    xft_model_destroy(model);
}

/* The same seed and step give the same noise; another seed, in either half, step or layer another one. */
Test(models, noise_follows_seed_and_step) {
    static const struct {
        uint64_t seed;
        uint32_t step, layer;
    } draws[] = {{7, 0, 0}, {7, 0, 0}, {8, 0, 0}, {7 + (1ull << 32), 0, 0}, {7, 1, 0}, {7, 0, 1}};
    enum { DRAWS = sizeof draws / sizeof *draws };
    xft_config c = small_moe(XFT_FAMILY_LLAMA, 4, 2, XFT_GATE_XFT, true);
    xft_model *model;
    small_data d;
    small_data_make(&d, 1, 16, false, 3);
    OK(small_model(device, &c, XFT_F32, 11, &model));
    float *noise[DRAWS];
    for (uint32_t i = 0; i < DRAWS; i++) {
        xft_trainer *t;
        double loss;
        OK(xft_trainer_create(model, &(xft_train_options){.tokens = 16, .sequences = 1, .seed = draws[i].seed}, &t));
        for (uint32_t step = 0; step <= draws[i].step; step++) OK(small_loss(t, &d.batch, 1, &loss));
        noise[i] = drawn_noise(t, draws[i].layer, 0, 16);
        xft_trainer_destroy(t);
        for (uint32_t k = 0; k < i; k++) {
            uint32_t same = 0;
            for (uint32_t j = 0; j < 16 * 3; j++) same += noise[i][j] == noise[k][j];
            cr_expect_eq(same, i == 1 && k == 0 ? 16u * 3 : 0u, "draws %u and %u: %u numbers are the same", k, i, same);
        }
    }
    for (uint32_t i = 0; i < DRAWS; i++) free(noise[i]);
    small_data_free(&d);
    xft_model_destroy(model);
}

/* ---- Waiting, and steps that are not finite ---- */

/* Counted from the first step on, in steps of all sizes. How often the host would wait for a device that is always late
 * is counted in suite `runtime`. */
Test(models, one_wait_per_step) {
    static const uint32_t counts[] = {1, 2, 8, 8, 3, 1, 100, 100, 1};
    xft_config c = small_moe(XFT_FAMILY_LLAMA, 4, 2, XFT_GATE_XFT, true);
    xft_model *model;
    xft_trainer *t;
    xft_metrics m;
    small_data d;
    small_data_make(&d, 1, 8, false, 3);
    xft_batch batches[100];
    for (int i = 0; i < 100; i++) batches[i] = d.batch;
    OK(small_model(device, &c, XFT_F32, 11, &model));
    OK(xft_trainer_create(model, &(xft_train_options){.tokens = 8, .sequences = 1}, &t));
    for (uint32_t step = 0; step < sizeof counts / sizeof *counts; step++) {
        xft_device_counters before, after;
        xft_device_get_counters(device, &before);
        OK(xft_trainer_step(t, batches, counts[step], 1e-3));
        OK(xft_trainer_metrics(t, &m));
        xft_device_get_counters(device, &after);
        const uint32_t waits = (uint32_t)(after.waits - before.waits);
        printf("host waits in step %u, of %u micro-batches: %u\n", step, counts[step], waits);
        cr_expect_leq(waits, 1, "step %u of %u micro-batches: %u waits", step, counts[step], waits);
        if (step) cr_expect_eq(m.step, step - 1);
    }
    OK(xft_trainer_flush(t, &m));
    xft_trainer_destroy(t);
    xft_model_destroy(model);
    small_data_free(&d);
}

/* Every tensor of a trainer's state, read as bits. */
static uint32_t *state_bits(const xft_trainer *t, uint64_t *count) {
    uint32_t *bits = NULL;
    *count = 0;
    for (uint32_t i = 0; i < xft_trainer_state_count(t); i++) {
        char name[160];
        xft_tensor tensor;
        OK(xft_trainer_state(t, i, name, &tensor));
        uint64_t n = (uint64_t)xft_rows(&tensor) * xft_cols(&tensor);
        if (!strcmp(name, "optimizer.state")) continue; /* loss and counters of the step */
        bits = realloc(bits, (*count + n) * sizeof *bits);
        OK(xft_tensor_read(&tensor, tensor.dtype == XFT_U32 ? XFT_U32 : XFT_F32, bits + *count));
        *count += n;
    }
    return bits;
}

/* NaN in the middle of all weights, or in the row of one token, which the head does not share. */
static void spoil(xft_model *model, uint32_t token) {
    uint64_t n;
    float *weights = small_weights(model, &n);
    weights[n / 2] = NAN;
    if (token == UINT32_MAX) OK(small_write_weights(model, weights));
    free(weights);
    if (token == UINT32_MAX) return;
    xft_tensor embedding;
    OK(xft_model_find(model, "model.embed_tokens.weight", &embedding));
    const uint64_t cols = xft_cols(&embedding);
    float *values = malloc(xft_rows(&embedding) * cols * sizeof *values);
    OK(xft_tensor_read(&embedding, XFT_F32, values));
    values[token * cols] = NAN;
    OK(xft_tensor_write(&embedding, XFT_F32, values));
    free(values);
}

Test(models, a_step_that_is_not_finite_is_not_applied) {
    static const struct {
        const char *name;
        xft_optimizer optimizer;
        xft_precision precision;
        bool merge, second; /* the NaN is met in the second of two micro-batches only */
    } kinds[] = {{"f32, AdamW", XFT_ADAMW, XFT_PRECISION_F32, false, false},
                 {"f32, Adafactor", XFT_ADAFACTOR, XFT_PRECISION_F32, false, true},
                 {"masters, AdamW", XFT_ADAMW, XFT_PRECISION_MASTER, false, true},
                 {"stochastic, Adafactor", XFT_ADAFACTOR, XFT_PRECISION_STOCHASTIC, false, true},
                 {"merge", XFT_ADAMW, XFT_PRECISION_F32, true, false}};
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        xft_config c = small_moe(XFT_FAMILY_LLAMA, 4, 2, XFT_GATE_XFT, true);
        c.tied_head = false;
        xft_model *model;
        xft_trainer *t;
        xft_metrics m;
        small_data d[2];
        xft_batch batches[2];
        const uint32_t last = c.vocab_size - 1, count = 2;
        for (uint32_t i = 0; i < count; i++) {
            small_data_make(&d[i], 2, 16, false, 3 + i);
            for (uint32_t k = 0; k < d[i].batch.tokens; k++)
                if (d[i].ids[k] == last) d[i].ids[k] = last - 1;
            if (i == 1) d[i].ids[3] = last;
            batches[i] = d[i].batch;
        }
        OK((kinds[kind].merge ? small_merge_model : small_model)(device, &c, kinds[kind].precision ? XFT_BF16 : XFT_F32,
                                                                 11, &model));
        xft_train_options options = {.tokens = 32,
                                     .sequences = 2,
                                     .optimizer = kinds[kind].optimizer,
                                     .precision = kinds[kind].precision,
                                     .merge = kinds[kind].merge,
                                     .weight_decay = 0.1f,
                                     .max_norm = 1,
                                     .max_skipped = 3};
        OK(xft_trainer_create(model, &options, &t));
        for (int step = 0; step < 3; step++) OK(xft_trainer_step(t, batches, count, 1e-3));
        OK(xft_trainer_flush(t, &m));
        cr_expect(!m.skipped, "%s", kinds[kind].name);
        uint64_t n, states, again;
        float *good = small_weights(model, &n);
        uint32_t *state = state_bits(t, &states);
        spoil(model, kinds[kind].second ? last : UINT32_MAX);
        float *bad = small_weights(model, NULL);
        for (uint32_t k = 1; k <= 2; k++) {
            OK(xft_trainer_step(t, batches, count, 1e-3));
            OK(xft_trainer_flush(t, &m));
            cr_expect(m.skipped, "%s", kinds[kind].name);
            cr_expect_eq(m.skipped_in_row, k);
        }
        OK(xft_trainer_step(t, batches, count, 1e-3));
        cr_expect_neq(xft_trainer_flush(t, &m), XFT_OK);
        cr_expect(strstr(xft_error(), "step 5"), "%s", xft_error());
        float *weights = small_weights(model, NULL);
        uint32_t *after = state_bits(t, &again);
        cr_expect(!memcmp(weights, bad, n * sizeof *bad), "%s: weights changed", kinds[kind].name);
        cr_expect(states == again && !memcmp(state, after, states * sizeof *state), "%s: moments or t changed",
                  kinds[kind].name);
        OK(small_write_weights(model, good));
        OK(xft_trainer_step(t, batches, count, 1e-3));
        OK(xft_trainer_flush(t, &m));
        cr_expect(!m.skipped && m.skipped_in_row == 0 && m.skipped_in_all == 3, "%s", kinds[kind].name);
        free(weights);
        free(after);
        free(state);
        free(good);
        free(bad);
        for (uint32_t i = 0; i < count; i++) small_data_free(&d[i]);
        xft_trainer_destroy(t);
        xft_model_destroy(model);
    }
}

/* ---- Generation ---- */

enum { NEW = 8 };

/* Logits of every step of a generation. */
typedef struct decoded {
    const xft_generator *g;
    uint32_t seen[2];
    float logits[2][NEW][SMALL_VOCABULARY];
} decoded;

/* When a sequence's id i is told, the replay behind it is queued: reading waits for that one. */
static bool keep_logits(void *user, uint32_t sequence, uint32_t id) {
    decoded *d = user;
    const uint32_t i = d->seen[sequence]++;
    cr_assert(sequence < 2 && i < NEW && id < SMALL_VOCABULARY);
    const xft_tensor *sources[] = {&d->g->prompt.network.logits, &d->g->token.network.logits};
    for (uint32_t later = i ? 1 : 0; later < 2 && i + later < NEW; later++) {
        xft_tensor row;
        OK(xft_tensor_rows(sources[later], sequence, 1, &row));
        OK(xft_tensor_read(&row, XFT_F32, d->logits[sequence][i + later]));
    }
    return true;
}

/* Two prompts of different lengths in a batch: every step's logits are those of a forward over prompt and new ids. */
static double cached_error(const xft_config *c, const char *name) {
    static const uint32_t lengths[] = {13, 6};
    xft_model *model;
    xft_generator *g;
    small_data d;
    small_data_make(&d, 1, 24, false, 3);
    OK(small_model(device, c, XFT_F32, 11, &model));
    OK(xft_generator_create(model, &(xft_generator_options){.batch = 2, .capacity = 24, .chunk = 5}, &g));
    const uint32_t *prompts[] = {d.ids, d.ids + 4};
    uint32_t ids[2][NEW], counts[2];
    decoded cached = {.g = g};
    OK(xft_generate(g, prompts, lengths, 2, &(xft_sampling){.new_tokens = NEW}, &ids[0][0], counts, keep_logits,
                    &cached));
    double worst = 0;
    for (uint32_t b = 0; b < 2; b++) {
        small_data full;
        small_data_make(&full, 1, lengths[b] + NEW, false, 1);
        memcpy(full.ids, prompts[b], lengths[b] * sizeof *full.ids);
        memcpy(full.ids + lengths[b], ids[b], sizeof ids[b]);
        float *logits = logits_of(model, &full);
        cr_expect_eq(cached.seen[b], NEW);
        for (uint32_t i = 0; i < NEW; i++) {
            const float *row = logits + (size_t)(lengths[b] + i - 1) * SMALL_VOCABULARY;
            const double error = nmse(cached.logits[b][i], row, SMALL_VOCABULARY);
            cr_expect_leq(error, 1e-10, "%s, prompt %u, new id %u: %g", name, b, i, error);
            worst = fmax(worst, error);
            for (uint32_t v = 0; v < SMALL_VOCABULARY; v++) /* and the id leads */
                cr_expect_leq(row[v], row[ids[b][i]] + 1e-4f, "%s, prompt %u, new id %u", name, b, i);
        }
        free(logits);
        small_data_free(&full);
    }
    xft_generator_destroy(g);
    xft_model_destroy(model);
    small_data_free(&d);
    return worst;
}

Test(models, cached_logits_equal_the_full_forward) {
    static const char *const families[] = {"llama", "qwen2", "stablelm"};
    static const char *const gates[] = {"xft", "unnormalised", "vanilla"};
    char name[80];
    for (uint32_t family = 0; family < 3; family++) {
        xft_config c = small_config((xft_family)family);
        if (family == XFT_FAMILY_LLAMA) { /* rotation by the length of each sequence */
            c.rope_scaling = XFT_ROPE_DYNAMIC;
            c.rope_factor = 2;
            c.max_positions = 8;
        }
        printf("logits with the cache, %s: worst %.1e\n", families[family], cached_error(&c, families[family]));
        for (uint32_t mlp = 0; mlp < 2; mlp++) { /* every gate with both networks; every family with two gates */
            const uint32_t gate = (family + mlp) % 3;
            c = small_moe((xft_family)family, 4, 2 + mlp, (xft_gate)gate, mlp);
            snprintf(name, sizeof name, "%s %s %s", families[family], gates[gate], mlp ? "mlp" : "linear");
            printf("logits with the cache, %s: worst %.1e\n", name, cached_error(&c, name));
        }
    }
}

enum { DRAWN = 64, SEEDS = 10 };

/* How often each id follows the same prompt, in batches with different seeds. */
static void draw_ids(xft_model *model, const small_data *d, xft_sampling sampling, uint32_t counts[SMALL_VOCABULARY]) {
    const uint32_t *prompts[DRAWN];
    uint32_t lengths[DRAWN], ids[DRAWN], made[DRAWN];
    xft_generator *g;
    const xft_generator_options options = {.batch = DRAWN, .capacity = d->batch.tokens + 1, .chunk = d->batch.tokens};
    OK(xft_generator_create(model, &options, &g));
    for (uint32_t b = 0; b < DRAWN; b++) prompts[b] = d->ids, lengths[b] = d->batch.tokens;
    memset(counts, 0, SMALL_VOCABULARY * sizeof *counts);
    sampling.new_tokens = 1;
    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        sampling.seed = seed;
        OK(xft_generate(g, prompts, lengths, DRAWN, &sampling, ids, made, NULL, NULL));
        for (uint32_t b = 0; b < DRAWN; b++) counts[ids[b]]++;
    }
    xft_generator_destroy(g);
}

/* Ids come as often as the softmax of the logits over the temperature says, and with top-p no others than the most
 * probable ones whose sum reaches it. */
Test(models, sampling_follows_temperature_and_top_p) {
    static const float temperatures[] = {1, 2.5f};
    xft_config c = small_config(XFT_FAMILY_LLAMA);
    xft_model *model;
    small_data d;
    uint32_t counts[SMALL_VOCABULARY];
    small_data_make(&d, 1, 4, false, 3);
    OK(small_model(device, &c, XFT_F32, 11, &model));
    float *logits = logits_of(model, &d), *last = logits + (size_t)3 * SMALL_VOCABULARY;
    const double n = DRAWN * SEEDS;
    for (int i = 0; i < 2; i++) {
        double p[SMALL_VOCABULARY], sum = 0, chi2 = 0, reached = 0;
        for (uint32_t v = 0; v < SMALL_VOCABULARY; v++) sum += p[v] = exp((double)last[v] / (double)temperatures[i]);
        for (uint32_t v = 0; v < SMALL_VOCABULARY; v++) p[v] /= sum;
        draw_ids(model, &d, (xft_sampling){.temperature = temperatures[i]}, counts);
        for (uint32_t v = 0; v < SMALL_VOCABULARY; v++)
            chi2 += (counts[v] - n * p[v]) * (counts[v] - n * p[v]) / (n * p[v]);
        printf("sampling at temperature %g: chi squared %.0f of 60 degrees\n", (double)temperatures[i], chi2);
        cr_expect_lt(chi2, 60 + 5 * sqrt(2 * 60.0), "temperature %g: %g", (double)temperatures[i], chi2);
        draw_ids(model, &d, (xft_sampling){.temperature = temperatures[i], .top_p = 0.3f}, counts);
        uint32_t kinds = 0;
        while (reached < 0.3) { /* the most probable one left */
            uint32_t best = 0;
            for (uint32_t v = 1; v < SMALL_VOCABULARY; v++)
                if (p[v] > p[best]) best = v;
            reached += p[best];
            p[best] = 0;
            kinds += counts[best] > 0;
            counts[best] = 0;
        }
        for (uint32_t v = 0; v < SMALL_VOCABULARY; v++) cr_expect_eq(counts[v], 0, "id %u is not among them", v);
        cr_expect_gt(kinds, 1);
    }
    free(logits);
    small_data_free(&d);
    xft_model_destroy(model);
}

/* ---- Cancelling ---- */

typedef struct progress {
    const char *what;
    uint64_t calls, stop_at; /* done at which the caller wants to stop */
} progress;

static bool count_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    progress *p = user;
    cr_expect(!strcmp(what, p->what) && done <= total && done == p->calls, "%s %llu", what, (unsigned long long)done);
    p->calls++;
    return done != p->stop_at;
}

Test(models, merging_and_reading_prompts_tell_progress_and_stop) {
    xft_config c = small_moe(XFT_FAMILY_LLAMA, 4, 2, XFT_GATE_XFT, true);
    xft_model *moe;
    small_data d;
    small_data_make(&d, 1, 24, false, 3);
    OK(small_model(device, &c, XFT_F32, 11, &moe));
    for (int stops = 0; stops < 2; stops++) {
        xft_model *dense;
        progress p = {"merging", 0, stops ? 1 : UINT64_MAX};
        xft_callbacks callbacks = {.user = &p, .progress = count_progress};
        xft_status expected = stops ? XFT_ERROR_CANCELLED : XFT_OK;
        cr_expect_eq(xft_model_merge(moe, XFT_MERGE_UNIFORM, NULL, -1, &callbacks, &dense), expected);
        cr_expect_eq(p.calls, stops ? 2 : c.num_layers + 1);
        cr_expect((dense == NULL) == (stops != 0));
        xft_model_destroy(dense);
        xft_generator *g;
        OK(xft_generator_create(moe, &(xft_generator_options){.batch = 1, .capacity = 24, .chunk = 4}, &g));
        p = (progress){"reading prompts", 0, stops ? 2 : UINT64_MAX};
        uint32_t length = 18, ids[2], count;
        xft_sampling sampling = {.new_tokens = 2, .callbacks = &callbacks};
        cr_expect_eq(xft_generate(g, (const uint32_t *[]){d.ids}, &length, 1, &sampling, ids, &count, NULL, NULL),
                     expected);
        cr_expect_eq(p.calls, stops ? 3 : 5 + 1);
        cr_expect_eq(count, stops ? 0 : 2);
        xft_generator_destroy(g);
    }
    small_data_free(&d);
    xft_model_destroy(moe);
}

/* ---- Memory ---- */

/* What the driver was asked for: the plan, and staging slots. */
static void check_buffers(uint64_t planned) {
    xft_device_counters counters;
    xft_device_get_counters(device, &counters);
    cr_expect_lt(fabs((double)counters.buffer_bytes / (double)planned - 1), 0.02, "%llu bytes of buffers, %llu planned",
                 (unsigned long long)counters.buffer_bytes, (unsigned long long)planned);
}

Test(models, plans_are_what_is_allocated) {
    for (int kind = 0; kind < 6; kind++) {
        bool bf16 = kind == 2 || kind == 3, merge = kind == 4;
        xft_config c = kind ? small_moe(XFT_FAMILY_LLAMA, 4, 3, XFT_GATE_XFT, true) : small_config(XFT_FAMILY_STABLELM);
        c.hidden_size = 128;
        c.head_size = c.rotary = 32;
        c.intermediate_size = 192;
        if (!kind) c.rotary = 8;
        xft_dtype dtype = bf16 ? XFT_BF16 : XFT_F32;
        xft_model *model;
        xft_plan plan;
        OK(xft_model_create(device, &c, &(xft_model_options){.dtype = dtype, .mixing = merge}, &model));
        OK(xft_model_init(model, 1));
        uint64_t used;
        if (kind == 5) {
            xft_generator *g;
            xft_generator_options options = {.batch = 3, .capacity = 100};
            OK(xft_plan_generation(&c, dtype, &options, device, &plan));
            OK(xft_generator_create(model, &options, &g));
            used = xft_model_bytes(model) + xft_generator_bytes(g);
            check_buffers(plan.total);
            xft_generator_destroy(g);
        } else {
            xft_trainer *t;
            xft_train_options options = {.tokens = 128,
                                         .sequences = 4,
                                         .merge = merge,
                                         .recompute = kind == 3,
                                         .optimizer = kind % 2 ? XFT_ADAMW : XFT_ADAFACTOR,
                                         .precision = kind == 2 ? XFT_PRECISION_MASTER
                                                      : bf16    ? XFT_PRECISION_STOCHASTIC
                                                                : XFT_PRECISION_F32};
            OK(xft_plan_training(&c, dtype, &options, device, &plan));
            OK(xft_trainer_create(model, &options, &t));
            used = xft_model_bytes(model) + xft_trainer_bytes(t);
            check_buffers(plan.total);
            xft_trainer_destroy(t);
        }
        printf("plan %d: %llu bytes planned, %llu allocated\n", kind, (unsigned long long)plan.total,
               (unsigned long long)used);
        cr_expect_lt(fabs((double)used / (double)plan.total - 1), 0.02);
        xft_model_destroy(model);
    }
}

Test(models, what_does_not_fit_is_refused_with_numbers) {
    xft_config c = small_config(XFT_FAMILY_LLAMA);
    xft_model *model;
    xft_trainer *t;
    OK(small_model(device, &c, XFT_F32, 1, &model));
    xft_train_options options = {.tokens = 1 << 24, .sequences = 1};
    cr_expect_neq(xft_trainer_create(model, &options, &t), XFT_OK);
    cr_expect(strstr(xft_error(), "GiB"), "%s", xft_error());
    puts(xft_error());
    xft_model_destroy(model);
    xft_fit fits[XFT_MOST_FITS];
    uint32_t count = XFT_MOST_FITS;
    OK(xft_plan_fit(&c, &(xft_train_options){.optimizer = XFT_ADAFACTOR}, 64, 768 << 10, fits, &count));
    cr_expect(count > 0 && count < XFT_MOST_FITS, "%u", count);
    bool recomputed = false;
    for (uint32_t i = 0; i < count; i++) {
        cr_expect_leq(fits[i].plan.total, 768u << 10);
        /* a row with recomputation is there where it allows more */
        recomputed |= fits[i].recompute;
        if (fits[i].recompute && i > 0 && !fits[i - 1].recompute && fits[i - 1].top_k == fits[i].top_k &&
            fits[i - 1].num_experts == fits[i].num_experts && fits[i - 1].precision == fits[i].precision &&
            fits[i - 1].grad_dtype == fits[i].grad_dtype)
            cr_expect_gt(fits[i].sequences, fits[i - 1].sequences);
    }
    cr_expect(recomputed);
}
