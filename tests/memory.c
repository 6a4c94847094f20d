/* xft_memory: what a plan promises against what is taken. One measurement per process: peak resident memory never
 * falls.
 *
 *     xft_memory DEVICE sft|moe|bf16|merge|decode small|large     (bf16: the MoE with least memory)
 *
 * prints: bytes planned, bytes the allocator holds, peak resident bytes of the process. `small` is a model of the same
 * kernels that takes next to nothing; tests/run.sh takes what is resident beyond its plan as the driver's own share.
 */
#include "xft/generate.h"
#include "xft/plan.h"
#include "xft/train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { LENGTH = 32 };

static xft_config config_of(bool large, bool moe, bool bf16) {
    const uint32_t heads = large ? 8 : 1;
    xft_config c = {.family = XFT_FAMILY_LLAMA,
                    .hidden_size = 64 * heads,
                    .intermediate_size = large ? 1536 : 64,
                    .num_layers = !large ? 1
                                  : bf16 ? 8
                                         : 4,
                    .num_heads = heads,
                    .num_kv_heads = large ? 2 : 1,
                    .head_size = 64,
                    .rotary = 64,
                    .vocab_size = large ? 16384 : 64,
                    .max_positions = large ? 4096 : 64,
                    .norm_eps = 1e-5f,
                    .rope_theta = 10000,
                    .initializer_range = 0.02f,
                    .pad_token_id = UINT32_MAX,
                    .bos_token_id = UINT32_MAX,
                    .eos_token_id = UINT32_MAX};
    if (!moe) return c;
    c.num_experts = 8;
    c.top_k = 6;
    c.gate_mlp = c.gate_noise = true;
    c.noise_epsilon = c.balance_weight = 1e-2f;
    c.noise_scale = 1;
    c.shared_expert_weight = 0.75f;
    return c;
}

static xft_status two_steps(xft_model *model, const xft_train_options *options) {
    xft_trainer *trainer;
    xft_metrics metrics;
    uint32_t ids[LENGTH], labels[LENGTH];
    const uint32_t cu[] = {0, LENGTH};
    for (uint32_t i = 0; i < LENGTH; i++) {
        ids[i] = 7 * i % 61;
        labels[i] = i + 1 < LENGTH ? 7 * (i + 1) % 61 : UINT32_MAX;
    }
    const xft_batch batch = {.tokens = LENGTH, .sequences = 1, .ids = ids, .labels = labels, .cu_seqlens = cu};
    xft_status status = xft_trainer_create(model, options, &trainer);
    for (int i = 0; i < 2 && status == XFT_OK; i++) status = xft_trainer_step(trainer, &batch, 1, 1e-4);
    if (status == XFT_OK) status = xft_trainer_flush(trainer, &metrics);
    return status; /* the trainer stays: what it holds is to be counted */
}

/* The whole cache is filled, so that all of it is resident. */
static xft_status generate(xft_model *model, const xft_generator_options *options) {
    xft_generator *generator;
    uint32_t count, *prompt = calloc(options->capacity, sizeof *prompt), id;
    if (!prompt) return XFT_ERROR_OUT_OF_HOST_MEMORY;
    const uint32_t length = options->capacity - 1, *prompts[] = {prompt};
    xft_status status = xft_generator_create(model, options, &generator);
    if (status == XFT_OK)
        status =
            xft_generate(generator, prompts, &length, 1, &(xft_sampling){.new_tokens = 1}, &id, &count, NULL, NULL);
    free(prompt);
    return status;
}

static xft_status measure(const char *name, const char *stage, bool large) {
    const bool merge = !strcmp(stage, "merge"), bf16 = !strcmp(stage, "bf16");
    const xft_config config = config_of(large, merge || bf16 || !strcmp(stage, "moe"), bf16);
    const xft_dtype dtype = bf16 ? XFT_BF16 : XFT_F32;
    xft_train_options training = {.tokens = LENGTH, .sequences = 1, .merge = merge, .optimizer = XFT_ADAMW};
    if (bf16) {
        training.optimizer = XFT_ADAFACTOR;
        training.precision = XFT_PRECISION_STOCHASTIC;
        training.grad_dtype = XFT_BF16;
        training.recompute = true;
    }
    const xft_generator_options generation = {.batch = 1, .capacity = large ? 256 : 32};
    xft_device *device;
    xft_model *model;
    xft_plan plan;
    xft_status status = xft_device_open(name, NULL, &device);
    if (status == XFT_OK)
        status = !strcmp(stage, "decode") ? xft_plan_generation(&config, XFT_F32, &generation, device, &plan)
                                          : xft_plan_training(&config, dtype, &training, device, &plan);
    const xft_model_options options = {.mixing = merge, .dtype = dtype};
    if (status == XFT_OK) status = xft_model_create(device, &config, &options, &model);
    if (status == XFT_OK) status = xft_model_init(model, 1);
    if (status == XFT_OK)
        status = !strcmp(stage, "decode") ? generate(model, &generation) : two_steps(model, &training);
    if (status != XFT_OK) return status;
    xft_device_counters counters;
    struct rusage usage;
    xft_device_get_counters(device, &counters);
    getrusage(RUSAGE_SELF, &usage);
    printf("%llu %llu %llu\n", (unsigned long long)plan.total, (unsigned long long)counters.buffer_bytes,
           1024ull * (unsigned long long)usage.ru_maxrss);
    return XFT_OK;
}

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "usage: %s DEVICE sft|moe|bf16|merge|decode small|large\n", argv[0]), 2;
    if (measure(argv[1], argv[2], !strcmp(argv[3], "large")) == XFT_OK) return 0;
    fprintf(stderr, "%s\n", xft_error());
    return 1;
}
