/* Configuration of a model: config.json of Hugging Face folders, read and written (llama, qwen2, stablelm; any of them
 * as XFT MoE, in the official layout llama_moe_upscaling or as xft_moe).
 *
 *     xft_config config;
 *     XFT_TRY(xft_config_parse(text, "model/config.json", &config));
 *
 * Both forms are read: rope_theta + rope_scaling, and rope_parameters of transformers 5. What is not supported is
 * refused by the name of its field; nothing is guessed: a missing rope_theta is an error.
 */
#ifndef XFT_CONFIG_H
#define XFT_CONFIG_H

#include "xft/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum xft_family { XFT_FAMILY_LLAMA = 0, XFT_FAMILY_QWEN2 = 1, XFT_FAMILY_STABLELM = 2 } xft_family;

typedef enum xft_rope_scaling {
    XFT_ROPE_NONE = 0,
    XFT_ROPE_LINEAR = 1,  /* positions divided by factor */
    XFT_ROPE_DYNAMIC = 2, /* NTK: the base grows with the length of the sequence beyond max_positions */
    XFT_ROPE_LLAMA3 = 3   /* low frequencies divided by factor, smoothly between two wavelengths */
} xft_rope_scaling;

typedef struct xft_config {
    xft_family family;
    uint32_t hidden_size;       /* H */
    uint32_t intermediate_size; /* I */
    uint32_t num_layers;
    uint32_t num_heads, num_kv_heads;
    uint32_t head_size;  /* D = H / num_heads */
    uint32_t rotary;     /* leading dimensions of a head that are rotated; even */
    uint32_t vocab_size; /* V */
    uint32_t max_positions;
    float norm_eps; /* of RMSNorm or LayerNorm */
    bool qkv_bias, tied_head;
    double rope_theta;
    xft_rope_scaling rope_scaling;
    double rope_factor, rope_low_freq_factor, rope_high_freq_factor; /* the last two: llama3 */
    uint32_t rope_original_length;                                   /* llama3 */
    float initializer_range;
    uint32_t pad_token_id, bos_token_id, eos_token_id; /* UINT32_MAX: none (of several eos ids: the first) */
    xft_dtype dtype;                                   /* of the stored weights: torch_dtype or dtype */

    /* MoE; num_experts 0: a dense model */
    uint32_t num_experts; /* E, the shared one included */
    uint32_t top_k;       /* K, the shared one included */
    xft_gate gate;
    bool gate_mlp;   /* gate_network: mlp, or linear */
    bool gate_noise; /* gate_add_noise: there is a weight_noise tensor */
    float noise_epsilon, balance_weight;
    float noise_scale;          /* router_noise_scale; 1 */
    float shared_expert_weight; /* lambda of the merge; 0.75 */
} xft_config;

/* E' and k of the routed experts: E-1 and K-1; E and K with the vanilla gate. */
XFT_API uint32_t xft_config_routed(const xft_config *config);
XFT_API uint32_t xft_config_picks(const xft_config *config);

/* Parses the text of a config.json; `path` is for messages. */
XFT_API xft_status xft_config_parse(const char *json, const char *path, xft_config *config);

/* Checks every field; xft_config_parse and the functions that make models call it. */
XFT_API xft_status xft_config_check(const xft_config *config);

/* Name of a gate as files spell it. */
XFT_API const char *xft_gate_name(xft_gate gate);

/* The text of a config.json for `config`: the fields of `base` (text of the model it came from; NULL: none), with what
 * config says written over them: a dense config keeps no MoE field, a MoE gets every field of its layout
 * (llama_moe_upscaling where that can hold it, else xft_moe). *json is to be freed with free(). */
XFT_API xft_status xft_config_write(const xft_config *config, const char *base, char **json);

#ifdef __cplusplus
}
#endif
#endif
