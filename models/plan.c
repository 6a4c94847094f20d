/* Plans: the allocation code of models, trainers and generators, run in a room without an arena. */
#include "xft/plan.h"

#include "error.h"
#include "evaluator.h"
#include "generator.h"
#include "model.h"
#include "trainer.h"

#include <stdlib.h>

static void sum_up(const xft_room *room, xft_plan *plan) {
    const uint64_t *b = room->bytes;
    *plan = (xft_plan){.weights = b[XFT_ROOM_WEIGHTS],
                       .gradients = b[XFT_ROOM_GRADIENTS],
                       .optimizer = b[XFT_ROOM_OPTIMIZER],
                       .activations = b[XFT_ROOM_ACTIVATIONS],
                       .scratch = b[XFT_ROOM_SCRATCH],
                       .cache = b[XFT_ROOM_CACHE]};
    plan->total = xft_room_total(room);
}

/* The weights of a model, counted; their shapes stay in *weights. */
static xft_status count_weights(const xft_config *config, bool merge, xft_dtype dtype, xft_room *room,
                                xft_parameters *parameters, xft_weights *weights) {
    XFT_TRY(xft_config_check(config));
    XFT_FAIL_IF(dtype != XFT_F32 && dtype != XFT_BF16, XFT_ERROR_INVALID_ARGUMENT,
                "plan: dtype %s, must be f32 or bf16", xft_dtype_name(dtype));
    XFT_TRY(xft_parameters_make(config, merge, parameters));
    room->kind = XFT_ROOM_WEIGHTS;
    return xft_weights_take(room, config, parameters, dtype, dtype, NULL, weights);
}

xft_status xft_plan_training(const xft_config *config, xft_dtype dtype, const xft_train_options *options,
                             const xft_device *device, xft_plan *plan) {
    XFT_NEED(config, options, plan);
    xft_room room = {.device = device};
    xft_parameters parameters = {0};
    xft_weights weights = {0};
    xft_trainer *t = calloc(1, sizeof *t);
    XFT_FAIL_IF(!t, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a plan");
    t->options = *options;
    xft_status status = count_weights(config, options->merge, dtype, &room, &parameters, &weights);
    if (status == XFT_OK) status = xft_train_options_check(&t->options, dtype, options->merge);
    if (status == XFT_OK) status = xft_trainer_take(t, config, &parameters, &weights, dtype, &room);
    if (status == XFT_OK) sum_up(&room, plan);
    xft_trainer_destroy(t);
    xft_weights_free(&weights);
    free(parameters.list);
    return status;
}

xft_status xft_plan_generation(const xft_config *config, xft_dtype dtype, const xft_generator_options *options,
                               const xft_device *device, xft_plan *plan) {
    XFT_NEED(config, options, plan);
    xft_room room = {.device = device};
    xft_parameters parameters = {0};
    xft_weights weights = {0};
    xft_generator *g = calloc(1, sizeof *g);
    XFT_FAIL_IF(!g, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a plan");
    xft_status status = xft_generator_options_check(options, &g->options);
    if (status == XFT_OK) status = count_weights(config, false, dtype, &room, &parameters, &weights);
    if (status == XFT_OK) status = xft_generator_take(g, config, &weights, dtype, &room);
    if (status == XFT_OK) sum_up(&room, plan);
    xft_generator_destroy(g);
    xft_weights_free(&weights);
    free(parameters.list);
    return status;
}

xft_status xft_plan_evaluation(const xft_config *config, xft_dtype dtype, uint32_t tokens, uint32_t sequences,
                               const xft_device *device, xft_plan *plan) {
    XFT_NEED(config, plan);
    XFT_TRY(xft_batch_room_check("xft_plan_evaluation", tokens, sequences));
    xft_room room = {.device = device};
    xft_parameters parameters = {0};
    xft_weights weights = {0};
    xft_network network = {0};
    xft_status status = count_weights(config, false, dtype, &room, &parameters, &weights);
    if (status == XFT_OK) {
        network = xft_evaluator_network(config, &weights, dtype, tokens, sequences, false, false);
        status = xft_network_take(&network, &room);
    }
    if (status == XFT_OK) sum_up(&room, plan);
    xft_network_free(&network);
    xft_weights_free(&weights);
    free(parameters.list);
    return status;
}

/* The largest micro-batch of one way of training that fits; 0 when not even one sequence does. */
static uint32_t largest_fit(const xft_config *config, xft_train_options options, uint32_t length, uint64_t bytes,
                            xft_plan *plan) {
    const xft_dtype dtype = options.precision == XFT_PRECISION_F32 ? XFT_F32 : XFT_BF16;
    uint32_t found = 0;
    for (uint32_t sequences = 1; sequences <= 64; sequences *= 2) {
        xft_plan larger;
        options.sequences = sequences;
        options.tokens = sequences * length;
        if (xft_plan_training(config, dtype, &options, NULL, &larger) != XFT_OK || larger.total > bytes) break;
        *plan = larger;
        found = sequences;
    }
    return found;
}

xft_status xft_plan_fit(const xft_config *dense, const xft_train_options *options, uint32_t length, uint64_t bytes,
                        xft_fit *fits, uint32_t *count) {
    XFT_NEED(dense, options, fits, count);
    XFT_FAIL_IF(!length || length > UINT32_MAX / 64, XFT_ERROR_INVALID_ARGUMENT, "xft_plan_fit: length is %u", length);
    XFT_FAIL_IF(dense->num_experts, XFT_ERROR_INVALID_ARGUMENT, "xft_plan_fit: the model is a MoE already");
    static const uint32_t experts[][2] = {{16, 12}, {16, 2}, {8, 6}, {8, 2}, {4, 3}, {4, 2}, {2, 2}};
    static const struct {
        xft_precision precision;
        xft_dtype grad_dtype;
    } types[] = {{XFT_PRECISION_F32, XFT_F32},
                 {XFT_PRECISION_MASTER, XFT_F32},
                 {XFT_PRECISION_MASTER, XFT_BF16},
                 {XFT_PRECISION_STOCHASTIC, XFT_F32},
                 {XFT_PRECISION_STOCHASTIC, XFT_BF16}};
    const uint32_t room = *count;
    *count = 0;
    for (size_t e = 0; e < sizeof experts / sizeof *experts; e++)
        for (size_t p = 0; p < sizeof types / sizeof *types; p++) {
            xft_config moe = *dense;
            xft_train_options o = *options;
            moe.num_experts = experts[e][0];
            moe.top_k = experts[e][1];
            moe.gate_mlp = moe.gate_noise = true;
            moe.noise_epsilon = moe.balance_weight = 1e-2f;
            moe.noise_scale = 1;
            moe.shared_expert_weight = 0.75f;
            o.precision = types[p].precision;
            o.grad_dtype = types[p].grad_dtype;
            for (uint32_t recompute = 0, least = 0; recompute < 2 && *count < room; recompute++) {
                xft_fit *fit = &fits[*count];
                *fit = (xft_fit){moe.num_experts, moe.top_k, o.precision, o.grad_dtype, recompute, 0, {0}};
                o.recompute = recompute;
                fit->sequences = largest_fit(&moe, o, length, bytes, &fit->plan);
                *count += fit->sequences > least;
                least = fit->sequences;
            }
        }
    return XFT_OK;
}
