/* Suite `updates`, on the device XFT_TEST_DEVICE: the updates of a trainer on weights and gradients that are the same
 * everywhere. */
#include "fixture.h"
#include "model.h"
#include "small_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

TestSuite(updates, .timeout = 600);

static void write_all(const xft_tensor *tensor, float value) {
    const uint32_t n = xft_rows(tensor) * xft_cols(tensor);
    float *values = malloc(n * sizeof *values);
    for (uint32_t k = 0; k < n; k++) values[k] = value;
    OK(xft_tensor_write(tensor, XFT_F32, values));
    free(values);
}

/* A trainer of a small MoE, all of whose weights are 1.5. */
static xft_trainer *make_trainer(xft_device *device, xft_train_options options, xft_model **model) {
    const xft_config c = small_moe(XFT_FAMILY_LLAMA, 4, 2, XFT_GATE_XFT, true);
    xft_trainer *t;
    options.tokens = 8;
    options.sequences = 1;
    OK(small_model(device, &c, options.precision ? XFT_BF16 : XFT_F32, 11, model));
    OK(xft_trainer_create(*model, &options, &t));
    for (uint32_t i = 0; i < t->optimization.count; i++) write_all(&t->optimization.list[i].w, 1.5f);
    write_all(&t->network.loss, 0);
    write_all(&t->network.balance, 0);
    const xft_tensor *used = &t->network.used; /* every expert has tokens */
    uint32_t *ones = malloc(xft_rows(used) * xft_cols(used) * sizeof *ones);
    for (uint32_t i = 0; i < xft_rows(used) * xft_cols(used); i++) ones[i] = 1;
    OK(xft_tensor_write(used, XFT_U32, ones));
    free(ones);
    return t;
}

static void set_gradients(const xft_trainer *t, float value) {
    for (uint32_t i = 0; i < t->optimization.count; i++) write_all(&t->optimization.list[i].d_w, value);
}

static void update(xft_trainer *t, uint32_t step, double rate) {
    void *slot;
    const xft_step_block block = {.step = step, .seed_low = 12, .lr = (float)rate};
    OK(xft_stream_inputs(t->update_stream, &slot));
    memcpy((unsigned char *)slot + t->step_at, &block, sizeof block);
    OK(xft_stream_run(t->update_stream));
}

/* ---- What was asked for ---- */

/* Two updates of AdamW with betas, eps and decay far from the defaults, against the formulas. */
Test(updates, adamw_takes_its_options) {
    static const double gradients[] = {1, -0.5}, b1 = 0.5, b2 = 0.75, eps = 0.25, decay = 0.125, rate = 0.0625;
    const xft_train_options options = {.optimizer = XFT_ADAMW,
                                       .beta1 = (float)b1,
                                       .beta2 = (float)b2,
                                       .eps = (float)eps,
                                       .weight_decay = (float)decay};
    xft_device *device = fixture_open(NULL);
    xft_model *model;
    xft_trainer *t = make_trainer(device, options, &model);
    double m = 0, v = 0, expected[2] = {1.5, 1.5}; /* not decayed, decayed */
    for (uint32_t step = 0; step < 2; step++) {
        const double g = gradients[step];
        set_gradients(t, (float)g);
        update(t, step, rate);
        m = b1 * m + (1 - b1) * g;
        v = b2 * v + (1 - b2) * g * g;
        const double u = m / (1 - pow(b1, step + 1)) / (sqrt(v / (1 - pow(b2, step + 1))) + eps);
        expected[0] -= rate * u;
        expected[1] -= rate * decay * expected[1] + rate * u;
    }
    for (uint32_t i = 0; i < t->optimization.count; i++) {
        const xft_trained *p = &t->optimization.list[i];
        const uint32_t n = xft_rows(&p->w) * xft_cols(&p->w);
        float *values = malloc(n * sizeof *values);
        OK(xft_tensor_read(&p->w, XFT_F32, values));
        for (uint32_t k = 0; k < n; k++)
            cr_assert_lt(fabs((double)values[k] - expected[p->parameter->matrix]), 1e-6, "%s: %.8g, expected %.8g",
                         p->parameter->name, (double)values[k], expected[p->parameter->matrix]);
        free(values);
    }
    xft_trainer_destroy(t);
    xft_model_destroy(model);
    fixture_close(device, NULL, NULL);
}

/* ---- Stochastic rounding ---- */

enum { UPDATES = 16 };

/* How far the weights of the model went in 16 updates, in units of their last place: number, sum, and squares around
 * the `expected` one. */
static uint32_t displacements(xft_trainer *t, double rate, double unit, double expected, double *sum, double *squares) {
    set_gradients(t, 1); /* an update is the rate, in both optimizers */
    for (uint32_t step = 0; step < UPDATES; step++) update(t, step, rate);
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
Test(updates, stochastic_ones_have_no_bias) {
    static const float fractions[] = {0.02f, 1 / 3.0f, 0.45f};
    static const char *const names[] = {"Adafactor", "AdamW"};
    const double unit = 0x1p-7;
    xft_device *device = fixture_open(NULL);
    for (int optimizer = 0; optimizer < 2; optimizer++)
        for (size_t f = 0; f < sizeof fractions / sizeof *fractions; f++) {
            const double p = (double)fractions[f], expected = UPDATES * p, variance = UPDATES * p * (1 - p);
            double sum, squares;
            xft_model *model;
            xft_train_options options = {.optimizer = (xft_optimizer)optimizer, .precision = XFT_PRECISION_STOCHASTIC};
            xft_trainer *t = make_trainer(device, options, &model);
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
            options.precision = XFT_PRECISION_NEAREST;
            t = make_trainer(device, options, &model);
            displacements(t, p * unit, unit, 0, &sum, &squares);
            cr_expect_eq(squares, 0, "to nearest, something moved");
            xft_trainer_destroy(t);
            xft_model_destroy(model);
        }
    fixture_close(device, NULL, NULL);
}
