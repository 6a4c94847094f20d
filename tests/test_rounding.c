/* Suite `rounding`, on the device XFT_TEST_DEVICE: stochastic rounding has no bias. */
#include "fixture.h"
#include "model.h"
#include "small_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 128, STEPS = 8, DRAWS = SIDE * SIDE * STEPS };

/* Numbers between two neighbours in bf16 come out as the one or the other, and as themselves in the mean: over elements
 * and steps, within 4 standard deviations. */
Test(rounding, stochastic_has_no_bias) {
    static const float fractions[] = {0.01f, 0.25f, 1 / 3.0f, 0.5f, 0.9f}, bases[] = {1, -3, 0.0078125f};
    xft_device *device = fixture_open(NULL);
    xft_arena *arena;
    OK(xft_arena_create(device, "rounding", 0, &arena));
    xft_tensor x = fixture_tensor(arena, SIDE, SIDE, 0, 0), y, step;
    OK(xft_tensor_create(arena, XFT_BF16, 2, (const uint32_t[]){SIDE, SIDE}, &y));
    OK(xft_tensor_create(arena, XFT_U32, 1, (const uint32_t[]){16}, &step));
    xft_stream *stream;
    OK(xft_stream_create(device, NULL, &stream));
    OK(xft_cast(stream, &x, &y, XFT_ROUND_STOCHASTIC, &step, 5));
    float *values = malloc(SIDE * SIDE * sizeof *values);
    double worst = 0;
    for (size_t b = 0; b < sizeof bases / sizeof *bases; b++)
        for (size_t f = 0; f < sizeof fractions / sizeof *fractions; f++) {
            int exponent;
            frexp((double)bases[b], &exponent);
            const double unit = copysign(ldexp(1, exponent - 8), (double)bases[b]);
            const float value = (float)(bases[b] + fractions[f] * unit);
            const double p = (value - (double)bases[b]) / unit;
            uint32_t up = 0;
            for (int i = 0; i < SIDE * SIDE; i++) values[i] = value;
            OK(xft_tensor_write(&x, XFT_F32, values));
            for (uint32_t s = 0; s < STEPS; s++) {
                OK(xft_tensor_write(&step, XFT_U32, &(xft_step_block){.step = s, .seed_low = 9}));
                OK(xft_stream_run(stream));
                OK(xft_tensor_read(&y, XFT_F32, values));
                for (int i = 0; i < SIDE * SIDE; i++) {
                    const double steps = (values[i] - (double)bases[b]) / unit;
                    cr_assert(steps == 0 || steps == 1, "%g became %g", (double)value, (double)values[i]);
                    up += steps == 1;
                }
            }
            const double sigmas = fabs(up - DRAWS * p) / sqrt(DRAWS * p * (1 - p));
            cr_expect_leq(sigmas, 4, "%g: rounded up in %g of the draws, expected %g", (double)value,
                          (double)up / DRAWS, p);
            worst = fmax(worst, sigmas);
        }
    printf("stochastic rounding: %d draws of 15 numbers, at most %.1f standard deviations off the mean\n", DRAWS,
           worst);
    free(values);
    fixture_close(device, arena, stream);
}

/* ---- Through the optimizers ---- */

enum { UPDATES = 16 };

/* A trainer of a small MoE in bf16. All its weights are 1.5, all gradients 1: an update is the rate, in both
 * optimizers. */
static xft_trainer *constant_trainer(xft_device *device, xft_optimizer optimizer, xft_precision precision,
                                     xft_model **model) {
    const xft_config c = small_moe(XFT_FAMILY_LLAMA, 4, 2, XFT_GATE_XFT, true);
    const xft_train_options options = {.tokens = 8, .sequences = 1, .optimizer = optimizer, .precision = precision};
    xft_trainer *t;
    OK(small_model(device, &c, XFT_BF16, 11, model));
    OK(xft_trainer_create(*model, &options, &t));
    for (uint32_t i = 0; i < t->optimization.count; i++) {
        const xft_trained *p = &t->optimization.list[i];
        const uint64_t n = (uint64_t)xft_rows(&p->w) * xft_cols(&p->w);
        float *values = malloc(2 * n * sizeof *values);
        for (uint64_t k = 0; k < n; k++) values[k] = 1.5f, values[n + k] = 1;
        OK(xft_tensor_write(&p->w, XFT_F32, values));
        OK(xft_tensor_write(&p->d_w, XFT_F32, values + n));
        free(values);
    }
    OK(xft_tensor_write(&t->network.loss, XFT_F32, (const float[]){0}));
    OK(xft_tensor_write(&t->network.balance, XFT_F32, (const float[]){0}));
    const xft_tensor *used = &t->network.used; /* every expert has tokens */
    uint32_t *ones = malloc(xft_rows(used) * xft_cols(used) * sizeof *ones);
    for (uint32_t i = 0; i < xft_rows(used) * xft_cols(used); i++) ones[i] = 1;
    OK(xft_tensor_write(used, XFT_U32, ones));
    free(ones);
    return t;
}

/* How far the weights of the model went in 16 updates, in units of their last place: number, sum, and squares around
 * the `expected` one. */
static uint32_t displacements(xft_trainer *t, double rate, double unit, double expected, double *sum, double *squares) {
    for (uint32_t step = 0; step < UPDATES; step++) {
        void *slot;
        const xft_step_block block = {.step = step, .seed_low = 12, .lr = (float)rate};
        OK(xft_stream_inputs(t->update_stream, &slot));
        memcpy((unsigned char *)slot + t->step_at, &block, sizeof block);
        OK(xft_stream_run(t->update_stream));
    }
    uint32_t count = 0;
    *sum = *squares = 0;
    for (uint32_t i = 0; i < t->optimization.count; i++) {
        const xft_tensor *w = &t->optimization.list[i].w;
        if (w->dtype != XFT_BF16) continue; /* norms and the router are f32 */
        const uint32_t n = xft_rows(w) * xft_cols(w);
        float *values = malloc(n * sizeof *values);
        OK(xft_tensor_read(w, XFT_F32, values));
        for (uint32_t k = 0; k < n; k++) {
            const double moved = (1.5 - (double)values[k]) / unit;
            *sum += moved;
            *squares += (moved - expected) * (moved - expected);
        }
        count += n;
        free(values);
    }
    return count;
}

/* Updates smaller than a unit of the last place happen in the mean over all weights, within 4 standard deviations; one
 * step's draws do not depend on another's, or the variance of 16 would not be the sum of theirs. To nearest, nothing
 * moves. */
Test(rounding, updates_of_the_optimizers_have_no_bias) {
    static const float fractions[] = {0.02f, 1 / 3.0f, 0.45f};
    static const char *const names[] = {"Adafactor", "AdamW"};
    const double unit = 0x1p-7;
    xft_device *device = fixture_open(NULL);
    for (int optimizer = 0; optimizer < 2; optimizer++)
        for (size_t f = 0; f < sizeof fractions / sizeof *fractions; f++) {
            const double p = (double)fractions[f], expected = UPDATES * p, variance = UPDATES * p * (1 - p);
            double sum, squares;
            xft_model *model;
            xft_trainer *t = constant_trainer(device, (xft_optimizer)optimizer, XFT_PRECISION_STOCHASTIC, &model);
            const uint32_t n = displacements(t, p * unit, unit, expected, &sum, &squares);
            xft_trainer_destroy(t);
            xft_model_destroy(model);
            const double sigmas = (sum - n * expected) / sqrt(n * variance), spread = squares / (n * variance);
            printf("%s, %d updates of %.2f units on %u weights: mean %.4f, %+.1f standard deviations off, variance "
                   "%.3f of independent draws\n",
                   names[optimizer], UPDATES, p, n, sum / (n * expected), sigmas, spread);
            cr_expect_gt(n, 10000);
            cr_expect_leq(fabs(sigmas), 4, "%s: %g", names[optimizer], sigmas);
            cr_expect(spread > 0.95 && spread < 1.05, "%s: %g", names[optimizer], spread);
            t = constant_trainer(device, (xft_optimizer)optimizer, XFT_PRECISION_NEAREST, &model);
            displacements(t, p * unit, unit, 0, &sum, &squares);
            cr_expect_eq(squares, 0, "to nearest, something moved");
            xft_trainer_destroy(t);
            xft_model_destroy(model);
        }
    fixture_close(device, NULL, NULL);
}
