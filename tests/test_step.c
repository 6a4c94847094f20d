/* Suite `runtime`: the recordings of real training steps of a small MoE and of its merge stage, on the test driver,
 * which runs what no barrier orders in any order. */
#include "driver_test.h"
#include "fixture.h"
#include "small_model.h"
#include "stream.h"
#include "xft/plan.h"

#include <stdlib.h>

typedef struct step {
    xft_device *device;
    xft_model *model;
    xft_trainer *trainer;
    small_data data;
} step;

static step make_step(test_driver_settings settings, bool merge, xft_optimizer optimizer, xft_dtype dtype) {
    step s = {0};
    test_driver = settings;
    /* without a limit of submits nothing need be timed, in arenas that a small allocation_limit does not allow */
    const double budget = settings.allocation_limit ? -1 : 0;
    OK(test_device_open(&(xft_device_options){.debug = XFT_DEBUG_HAZARDS, .cache_dir = "", .submit_budget_ms = budget},
                        &s.device));
    const xft_config config = small_moe(merge ? XFT_FAMILY_LLAMA : XFT_FAMILY_STABLELM, 4, 3, XFT_GATE_XFT, true);
    OK(xft_model_create(s.device, &config, &(xft_model_options){.dtype = dtype, .mixing = merge}, &s.model));
    OK(xft_model_init(s.model, 5));
    small_data_make(&s.data, 2, 9, true, 3);
    OK(xft_trainer_create(s.model,
                          &(xft_train_options){.tokens = s.data.batch.tokens,
                                               .sequences = 2,
                                               .merge = merge,
                                               .optimizer = optimizer,
                                               .precision = dtype == XFT_BF16 ? XFT_PRECISION_STOCHASTIC : 0,
                                               .max_norm = 1,
                                               .head_chunk = 8},
                          &s.trainer));
    return s;
}

static void close_step(step *s) {
    xft_trainer_destroy(s->trainer);
    xft_model_destroy(s->model);
    small_data_free(&s->data);
    fixture_close(s->device, NULL, NULL);
    cr_expect_eq(test_counts.buffers + test_counts.kernels + test_counts.programs + test_counts.devices, 0);
}

/* ---- A planted bug: each barrier of a step removed in turn ---- */

static void check_barriers(const xft_stream *stream, uint32_t at_least) {
    uint32_t barriers;
    OK(xft_stream_check_hazards(stream, UINT32_MAX, &barriers));
    cr_expect_geq(barriers, at_least, "%s has %u barriers", stream->name, barriers);
    for (uint32_t i = 0; i < barriers; i++)
        REFUSES(xft_stream_check_hazards(stream, i, NULL), XFT_ERROR_INVALID_ARGUMENT, "hazard");
}

Test(step, every_barrier_is_missed) {
    for (int merge = 0; merge < 2; merge++)
        for (int dtype = 0; dtype < 2; dtype++) {
            step s = make_step((test_driver_settings){0}, merge, dtype ? XFT_ADAMW : XFT_ADAFACTOR,
                               dtype && !merge ? XFT_BF16 : XFT_F32);
            xft_batch batches[] = {s.data.batch, s.data.batch};
            OK(xft_trainer_step(s.trainer, batches, 2, 1e-3));
            check_barriers(s.trainer->first_stream, 50); /* forward and backward; gradients set */
            check_barriers(s.trainer->rest_stream, 50);  /* the same, gradients added to */
            check_barriers(s.trainer->update_stream, 3);
            close_step(&s);
        }
}

/* ---- Barriers suffice ---- */

/* Weights after two steps of two micro-batches. */
static float *train(test_driver_settings settings, bool merge, uint64_t *count) {
    step s = make_step(settings, merge, XFT_ADAFACTOR, XFT_F32);
    xft_batch batches[] = {s.data.batch, s.data.batch};
    xft_metrics metrics;
    for (int i = 0; i < 2; i++) OK(xft_trainer_step(s.trainer, batches, 2, 1e-2));
    OK(xft_trainer_flush(s.trainer, &metrics));
    cr_expect(!metrics.skipped && metrics.loss > 0, "loss %g", metrics.loss);
    float *weights = small_weights(s.model, count);
    close_step(&s);
    return weights;
}

Test(step, any_order_that_barriers_allow_gives_the_same_bits) {
    for (int merge = 0; merge < 2; merge++) {
        uint64_t count;
        float *expected = train((test_driver_settings){0}, merge, &count);
        for (uint64_t shuffle = 1; shuffle < 4; shuffle++) {
            float *weights = train((test_driver_settings){.late = true, .shuffle = shuffle}, merge, &count);
            cr_expect(!memcmp(weights, expected, count * sizeof *weights), "order %d", (int)shuffle);
            free(weights);
        }
        free(expected);
    }
}

/* ---- Waiting ---- */

/* Nothing is done before the host waits for it. The ring of inputs grows in the middle of the run, and is too short for
 * two steps of 520 micro-batches. */
Test(step, the_host_waits_at_most_once) {
    static const uint32_t counts[] = {1, 2, 8, 8, 1, 520, 520, 8, 1};
    enum { STEPS = sizeof counts / sizeof *counts, MOST = 520 };
    xft_batch *batches = malloc(MOST * sizeof *batches);
    for (int merge = 0; merge < 2; merge++) {
        step s = make_step((test_driver_settings){.late = true}, merge, XFT_ADAFACTOR, XFT_F32);
        xft_metrics m;
        for (int i = 0; i < MOST; i++) batches[i] = s.data.batch;
        for (uint32_t i = 0; i < (merge ? 5 : STEPS); i++) {
            const uint64_t before = s.device->counters.waits;
            OK(xft_trainer_step(s.trainer, batches, counts[i], 1e-3));
            OK(xft_trainer_metrics(s.trainer, &m));
            const uint32_t waits = (uint32_t)(s.device->counters.waits - before);
            cr_expect_eq(waits, i ? 1u : 0u, "step %u of %u micro-batches: %u waits", i, counts[i], waits);
        }
        OK(xft_trainer_flush(s.trainer, &m));
        cr_expect(!m.skipped);
        close_step(&s);
    }
    free(batches);
}

/* ---- Several buffers ---- */

Test(step, buffers_of_a_small_allocation_take_what_is_planned) {
    for (int merge = 0; merge < 2; merge++) {
        step s = make_step((test_driver_settings){0}, merge, XFT_ADAMW, XFT_F32);
        const xft_train_options options = s.trainer->options;
        xft_plan whole, packed;
        OK(xft_plan_training(&s.model->config, XFT_F32, &options, s.device, &whole));
        const uint64_t held = s.device->counters.buffer_bytes;
        const uint32_t buffers = s.device->counters.buffers;
        close_step(&s);
        for (uint64_t limit = 16384; limit <= 65536; limit *= 2) {
            s = make_step((test_driver_settings){.allocation_limit = limit}, merge, XFT_ADAMW, XFT_F32);
            OK(xft_plan_training(&s.model->config, XFT_F32, &options, s.device, &packed));
            cr_expect_eq(packed.total, whole.total);
            cr_expect_eq(s.device->counters.buffer_bytes, held, "%u bytes in buffers of at most %u; %u in large ones",
                         (uint32_t)s.device->counters.buffer_bytes, (uint32_t)limit, (uint32_t)held);
            cr_expect_gt(s.device->counters.buffers, buffers);
            close_step(&s);
        }
    }
}

Test(step, a_tensor_larger_than_an_allocation_is_refused_before_anything_is_taken) {
    test_driver = (test_driver_settings){.allocation_limit = 4096};
    xft_device *device;
    xft_model *model;
    xft_plan plan;
    OK(test_device_open(&(xft_device_options){.cache_dir = ""}, &device));
    const xft_config config = small_moe(XFT_FAMILY_LLAMA, 4, 3, XFT_GATE_XFT, true);
    REFUSES(xft_model_create(device, &config, NULL, &model), XFT_ERROR_OUT_OF_DEVICE_MEMORY, "holds at most 4096");
    REFUSES(xft_plan_generation(&config, XFT_F32, &(xft_generator_options){.batch = 1, .capacity = 8}, device, &plan),
            XFT_ERROR_OUT_OF_DEVICE_MEMORY, "holds at most 4096");
    cr_expect_eq(test_counts.buffers, 0);
    fixture_close(device, NULL, NULL);
}
