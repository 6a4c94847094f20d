/* xft_fit_table: the README's table of what can be trained in how much memory. tests/run.sh holds the README to it. */
#include "xft/plan.h"

#include <stdio.h>

enum { LENGTH = 1024, MEMORIES = 4, PRECISIONS = 3 };

#define LLAMA(H, I, L, heads, kv, V, tied)                                                                             \
    {                                                                                                                  \
        .family = XFT_FAMILY_LLAMA, .hidden_size = H, .intermediate_size = I, .num_layers = L, .num_heads = heads,     \
        .num_kv_heads = kv, .head_size = H / heads, .rotary = H / heads, .vocab_size = V, .max_positions = 4096,       \
        .norm_eps = 1e-5f, .tied_head = tied, .rope_theta = 10000, .initializer_range = 0.02f,                         \
        .pad_token_id = UINT32_MAX, .bos_token_id = UINT32_MAX, .eos_token_id = UINT32_MAX                             \
    }
static const struct {
    const char *name;
    xft_config config;
} models[] = {
    {"1.3B (deepseek-coder-1.3b)", LLAMA(2048, 5504, 24, 16, 16, 32256, false)},
    {"1.1B (TinyLlama)", LLAMA(2048, 5632, 22, 32, 4, 32000, false)},
    {"0.36B (SmolLM2-360M)", LLAMA(960, 2560, 32, 15, 5, 49152, true)},
    {"0.13B (SmolLM2-135M)", LLAMA(576, 1536, 30, 9, 3, 49152, true)},
};
static const uint64_t gib[MEMORIES] = {16, 24, 48, 80};

/* How f32, masters and stochastic rounding fit with `experts`: sequences, *: with recomputation, -: not at all. */
static bool cell(const xft_config *config, uint64_t bytes, uint32_t experts, char *text, size_t size) {
    int at = 0;
    bool any = false;
    for (int p = 0; p < PRECISIONS; p++) {
        const xft_train_options options = {.optimizer = XFT_ADAFACTOR, .max_norm = 1};
        const xft_dtype grad_dtype = p == XFT_PRECISION_STOCHASTIC ? XFT_BF16 : XFT_F32;
        xft_fit fits[XFT_MOST_FITS];
        uint32_t count = XFT_MOST_FITS, i = 0;
        if (xft_plan_fit(config, &options, LENGTH, bytes, fits, &count) != XFT_OK) return false;
        while (i < count && !(fits[i].num_experts == experts && fits[i].top_k == experts * 3 / 4 &&
                              fits[i].precision == (xft_precision)p && fits[i].grad_dtype == grad_dtype))
            i++;
        any |= i < count;
        at += i < count ? snprintf(text + at, size - (size_t)at, "%s%u%s", p ? " / " : "", fits[i].sequences,
                                   fits[i].recompute ? "\\*" : "")
                        : snprintf(text + at, size - (size_t)at, "%s-", p ? " / " : "");
    }
    return any;
}

int main(void) {
    printf("| MoE | 16 GiB | 24 GiB | 48 GiB | 80 GiB |\n|---|---|---|---|---|\n");
    for (size_t m = 0; m < sizeof models / sizeof *models; m++)
        for (uint32_t experts = 8; experts >= 4; experts /= 2) {
            printf("| %ux%s |", experts, models[m].name);
            for (int i = 0; i < MEMORIES; i++) {
                char text[64];
                printf(" %s |", cell(&models[m].config, gib[i] << 30, experts, text, sizeof text) ? text : "-");
            }
            printf("\n");
        }
    return 0;
}
