/* config.json: one reader for every family and both forms of the RoPE fields, one writer. */
#include "xft/config.h"

#include "error.h"

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *model_type, *architecture;
} families[] = {
    [XFT_FAMILY_LLAMA] = {"llama", "LlamaForCausalLM"},
    [XFT_FAMILY_QWEN2] = {"qwen2", "Qwen2ForCausalLM"},
    [XFT_FAMILY_STABLELM] = {"stablelm", "StableLmForCausalLM"},
};
enum { FAMILIES = sizeof families / sizeof *families };

static const char *const gate_names[] = {
    [XFT_GATE_XFT] = "TopKUniversalBalancedNoisyGate",
    [XFT_GATE_UNNORMALISED] = "TopKUniversalBalancedNoNormalizationNoisyGate",
    [XFT_GATE_VANILLA] = "TopKBalancedNoisyGate",
};
enum { GATES = sizeof gate_names / sizeof *gate_names };

static const char official_type[] = "llama_moe_upscaling", own_type[] = "xft_moe";

const char *xft_gate_name(xft_gate gate) {
    return (unsigned)gate < GATES ? gate_names[gate] : "?";
}

uint32_t xft_config_routed(const xft_config *c) {
    return c ? c->num_experts - (c->gate != XFT_GATE_VANILLA) : 0;
}
uint32_t xft_config_picks(const xft_config *c) {
    return c ? c->top_k - (c->gate != XFT_GATE_VANILLA) : 0;
}

/* ---- Reading ---- */

/* A field being read: where messages point. */
typedef struct reader {
    const char *path;
    json_t *root;
} reader;

static json_t *field(const reader *r, const char *name) {
    json_t *value = json_object_get(r->root, name);
    return json_is_null(value) ? NULL : value;
}

static xft_status refuse(const reader *r, xft_status status, const char *name, const json_t *found,
                         const char *expected) {
    char *text = json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT);
    xft_fail(status, "%s: %s is %.60s; expected %s", r->path, name, text ? text : "?", expected);
    free(text);
    return status;
}

static xft_status read_count(const reader *r, const char *name, bool required, uint32_t *value) {
    json_t *v = field(r, name);
    if (!v && !required) return XFT_OK;
    XFT_FAIL_IF(!v, XFT_ERROR_FORMAT, "%s: %s is missing", r->path, name);
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > INT32_MAX)
        return refuse(r, XFT_ERROR_FORMAT, name, v, "a whole number from 1 to 2^31-1");
    *value = (uint32_t)json_integer_value(v);
    return XFT_OK;
}

static xft_status read_number(const reader *r, json_t *in, const char *name, bool required, double *value) {
    json_t *v = json_object_get(in, name);
    if ((!v || json_is_null(v)) && !required) return XFT_OK;
    XFT_FAIL_IF(!v || json_is_null(v), XFT_ERROR_FORMAT, "%s: %s is missing", r->path, name);
    if (!json_is_number(v) || !isfinite(json_number_value(v))) return refuse(r, XFT_ERROR_FORMAT, name, v, "a number");
    *value = json_number_value(v);
    return XFT_OK;
}

static xft_status read_float(const reader *r, const char *name, bool required, float *value) {
    double number = *value;
    XFT_TRY(read_number(r, r->root, name, required, &number));
    if (fabs(number) > (double)FLT_MAX)
        return refuse(r, XFT_ERROR_FORMAT, name, field(r, name), "a number of single precision");
    *value = (float)number;
    return XFT_OK;
}

static xft_status read_bool(const reader *r, const char *name, bool *value) {
    json_t *v = field(r, name);
    if (!v) return XFT_OK;
    if (!json_is_boolean(v)) return refuse(r, XFT_ERROR_FORMAT, name, v, "true or false");
    *value = json_is_true(v);
    return XFT_OK;
}

/* A token id, or the first of a list of them. */
static xft_status read_token(const reader *r, const char *name, uint32_t *value) {
    json_t *v = field(r, name);
    if (json_is_array(v)) v = json_array_get(v, 0);
    if (!v) return XFT_OK;
    if (!json_is_integer(v) || json_integer_value(v) > INT32_MAX)
        return refuse(r, XFT_ERROR_FORMAT, name, v, "a token id");
    if (json_integer_value(v) >= 0) *value = (uint32_t)json_integer_value(v); /* some files say -1 for none */
    return XFT_OK;
}

/* A field that must have one value if it is there at all. */
static xft_status refuse_true(const reader *r, const char *name) {
    bool value = false;
    XFT_TRY(read_bool(r, name, &value));
    XFT_FAIL_IF(value, XFT_ERROR_UNSUPPORTED, "%s: %s: true is not supported", r->path, name);
    return XFT_OK;
}

static xft_status refuse_other_text(const reader *r, const char *name, const char *only) {
    json_t *v = field(r, name);
    if (!v || (json_is_string(v) && !strcmp(json_string_value(v), only))) return XFT_OK;
    return refuse(r, XFT_ERROR_UNSUPPORTED, name, v, only);
}

static xft_status refuse_other_number(const reader *r, const char *name, double only) {
    char expected[32];
    json_t *v = field(r, name);
    if (!v || (json_is_number(v) && json_number_value(v) == only)) return XFT_OK;
    snprintf(expected, sizeof expected, "%g", only);
    return refuse(r, XFT_ERROR_UNSUPPORTED, name, v, expected);
}

/* rope_theta and the scaling: beside each other, or together in rope_parameters. */
static xft_status read_rope(const reader *r, xft_config *c, double *partial) {
    json_t *parameters = field(r, "rope_parameters"), *scaling = parameters ? parameters : field(r, "rope_scaling");
    XFT_FAIL_IF(scaling && !json_is_object(scaling), XFT_ERROR_FORMAT, "%s: %s must be an object or null", r->path,
                parameters ? "rope_parameters" : "rope_scaling");
    bool inside = json_object_get(parameters, "rope_theta") != NULL;
    XFT_TRY(read_number(r, inside ? parameters : r->root, "rope_theta", true, &c->rope_theta));
    XFT_TRY(read_number(r, parameters, "partial_rotary_factor", false, partial));
    if (!scaling) return XFT_OK;
    json_t *type = json_object_get(scaling, "rope_type");
    if (!type) type = json_object_get(scaling, "type");
    const char *name = json_string_value(type);
    XFT_FAIL_IF(!name, XFT_ERROR_FORMAT, "%s: rope_scaling without a type", r->path);
    if (!strcmp(name, "default")) return XFT_OK;
    if (!strcmp(name, "linear"))
        c->rope_scaling = XFT_ROPE_LINEAR;
    else if (!strcmp(name, "dynamic"))
        c->rope_scaling = XFT_ROPE_DYNAMIC;
    else if (!strcmp(name, "llama3"))
        c->rope_scaling = XFT_ROPE_LLAMA3;
    else
        return xft_fail(XFT_ERROR_UNSUPPORTED,
                        "%s: rope_scaling type \"%s\" is not supported (linear, dynamic, llama3 are)", r->path, name);
    XFT_TRY(read_number(r, scaling, "factor", true, &c->rope_factor));
    if (c->rope_scaling != XFT_ROPE_LLAMA3) return XFT_OK;
    double length = 0;
    XFT_TRY(read_number(r, scaling, "low_freq_factor", true, &c->rope_low_freq_factor));
    XFT_TRY(read_number(r, scaling, "high_freq_factor", true, &c->rope_high_freq_factor));
    XFT_TRY(read_number(r, scaling, "original_max_position_embeddings", true, &length));
    XFT_FAIL_IF(length < 1 || length > INT32_MAX, XFT_ERROR_FORMAT, "%s: original_max_position_embeddings %g", r->path,
                length);
    c->rope_original_length = (uint32_t)length;
    return XFT_OK;
}

static xft_status read_family(const reader *r, xft_config *c, bool *moe, bool *official) {
    const char *type = json_string_value(field(r, "model_type"));
    XFT_FAIL_IF(!type, XFT_ERROR_FORMAT, "%s: model_type is missing", r->path);
    *official = !strcmp(type, official_type);
    *moe = *official || !strcmp(type, own_type);
    const char *base = *official ? "llama" : *moe ? json_string_value(field(r, "base_model_type")) : type;
    XFT_FAIL_IF(!base, XFT_ERROR_FORMAT, "%s: base_model_type is missing", r->path);
    for (uint32_t f = 0; f < FAMILIES; f++)
        if (!strcmp(base, families[f].model_type)) {
            c->family = (xft_family)f;
            return XFT_OK;
        }
    return xft_fail(XFT_ERROR_UNSUPPORTED, "%s: %s \"%s\" is not supported (llama, qwen2, stablelm, %s, %s are)",
                    r->path, *moe && !*official ? "base_model_type" : "model_type", base, official_type, own_type);
}

static xft_status read_dtype(const reader *r, xft_config *c) {
    const char *name = json_string_value(field(r, "dtype"));
    if (!name) name = json_string_value(field(r, "torch_dtype"));
    if (!name || !strcmp(name, "float32"))
        c->dtype = XFT_F32;
    else if (!strcmp(name, "bfloat16"))
        c->dtype = XFT_BF16;
    else if (!strcmp(name, "float16"))
        c->dtype = XFT_F16;
    else
        return xft_fail(XFT_ERROR_UNSUPPORTED,
                        "%s: torch_dtype \"%s\" is not supported (float32, bfloat16, float16 are)", r->path, name);
    return XFT_OK;
}

static xft_status read_moe(const reader *r, xft_config *c) {
    XFT_TRY(read_count(r, "num_experts", true, &c->num_experts));
    XFT_TRY(read_count(r, "num_selects", true, &c->top_k));
    const char *gate = json_string_value(field(r, "gate_type")), *network = json_string_value(field(r, "gate_network"));
    XFT_FAIL_IF(!gate, XFT_ERROR_FORMAT, "%s: gate_type is missing", r->path);
    uint32_t g = 0;
    while (g < GATES && strcmp(gate_names[g], gate)) g++;
    XFT_FAIL_IF(g == GATES, XFT_ERROR_UNSUPPORTED, "%s: gate_type \"%s\" is not supported (%s, %s, %s are)", r->path,
                gate, gate_names[0], gate_names[1], gate_names[2]);
    c->gate = (xft_gate)g;
    XFT_FAIL_IF(!network || (strcmp(network, "mlp") && strcmp(network, "linear")), XFT_ERROR_UNSUPPORTED,
                "%s: gate_network must be \"mlp\" or \"linear\"", r->path);
    c->gate_mlp = !strcmp(network, "mlp");
    c->gate_noise = true;
    c->noise_epsilon = 1e-2f;
    c->balance_weight = 1e-2f;
    c->noise_scale = 1.0f;
    c->shared_expert_weight = 0.75f;
    XFT_TRY(read_bool(r, "gate_add_noise", &c->gate_noise));
    XFT_TRY(read_float(r, "gate_noise_epsilon", false, &c->noise_epsilon));
    XFT_TRY(read_float(r, "gate_balance_loss_weight", false, &c->balance_weight));
    XFT_TRY(read_float(r, "router_noise_scale", false, &c->noise_scale));
    XFT_TRY(read_float(r, "shared_expert_weight", false, &c->shared_expert_weight));
    bool balance = true, softmax = true, multiply = true;
    XFT_TRY(read_bool(r, "gate_use_balance", &balance));
    XFT_TRY(read_bool(r, "gate_use_softmax", &softmax));
    XFT_TRY(read_bool(r, "multiply_gate_scores", &multiply));
    if (!balance) c->balance_weight = 0;
    XFT_FAIL_IF(!softmax, XFT_ERROR_UNSUPPORTED, "%s: gate_use_softmax: false is not supported", r->path);
    XFT_FAIL_IF(!multiply, XFT_ERROR_UNSUPPORTED, "%s: multiply_gate_scores: false is not supported", r->path);
    XFT_TRY(refuse_other_number(r, "score_scale_factor", 1.0));
    XFT_TRY(refuse_true(r, "add_weight_norm"));
    return refuse_other_text(r, "calculator_type", "UniversalCalculator");
}

static xft_status read_config(const reader *r, xft_config *c) {
    bool moe = false, official = false;
    XFT_TRY(read_family(r, c, &moe, &official));
    XFT_TRY(read_count(r, "hidden_size", true, &c->hidden_size));
    XFT_TRY(read_count(r, "intermediate_size", true, &c->intermediate_size));
    XFT_TRY(read_count(r, "num_hidden_layers", true, &c->num_layers));
    XFT_TRY(read_count(r, "num_attention_heads", true, &c->num_heads));
    c->num_kv_heads = c->num_heads;
    XFT_TRY(read_count(r, "num_key_value_heads", official, &c->num_kv_heads));
    XFT_TRY(read_count(r, "vocab_size", true, &c->vocab_size));
    XFT_TRY(read_count(r, "max_position_embeddings", true, &c->max_positions));
    XFT_FAIL_IF(c->hidden_size % c->num_heads, XFT_ERROR_FORMAT, "%s: hidden_size %u is no multiple of %u heads",
                r->path, c->hidden_size, c->num_heads);
    c->head_size = c->hidden_size / c->num_heads;
    uint32_t head_dim = c->head_size;
    XFT_TRY(read_count(r, "head_dim", false, &head_dim));
    XFT_FAIL_IF(head_dim != c->head_size, XFT_ERROR_UNSUPPORTED,
                "%s: head_dim %u is not supported, only hidden_size / heads = %u", r->path, head_dim, c->head_size);
    bool stablelm = c->family == XFT_FAMILY_STABLELM;
    XFT_TRY(read_float(r, stablelm ? "layer_norm_eps" : "rms_norm_eps", true, &c->norm_eps));
    c->initializer_range = 0.02f;
    XFT_TRY(read_float(r, "initializer_range", false, &c->initializer_range));
    XFT_TRY(read_bool(r, "tie_word_embeddings", &c->tied_head));
    c->pad_token_id = c->bos_token_id = c->eos_token_id = UINT32_MAX;
    XFT_TRY(read_token(r, "pad_token_id", &c->pad_token_id));
    XFT_TRY(read_token(r, "bos_token_id", &c->bos_token_id));
    XFT_TRY(read_token(r, "eos_token_id", &c->eos_token_id));
    double partial = stablelm ? 0.25 : 1.0;
    if (stablelm) XFT_TRY(read_number(r, r->root, "partial_rotary_factor", false, &partial));
    XFT_TRY(read_rope(r, c, &partial));
    XFT_FAIL_IF(!(partial > 0 && partial <= 1), XFT_ERROR_FORMAT, "%s: partial_rotary_factor %g, expected above 0 to 1",
                r->path, partial);
    XFT_FAIL_IF(!stablelm && partial != 1, XFT_ERROR_UNSUPPORTED,
                "%s: partial_rotary_factor %g is supported in StableLM only", r->path, partial);
    c->rotary = (uint32_t)(c->head_size * partial);
    XFT_TRY(read_dtype(r, c));

    XFT_TRY(refuse_other_text(r, "hidden_act", "silu"));
    XFT_TRY(refuse_true(r, "mlp_bias"));
    XFT_TRY(refuse_true(r, "attention_bias"));
    XFT_TRY(refuse_true(r, "use_sliding_window"));
    XFT_TRY(refuse_true(r, "qk_layernorm"));
    XFT_TRY(refuse_true(r, "use_parallel_residual"));
    XFT_TRY(refuse_other_number(r, "pretraining_tp", 1));
    XFT_FAIL_IF(c->family != XFT_FAMILY_QWEN2 && field(r, "sliding_window"), XFT_ERROR_UNSUPPORTED,
                "%s: sliding_window is not supported", r->path);
    c->qkv_bias = c->family == XFT_FAMILY_QWEN2;
    if (stablelm) XFT_TRY(read_bool(r, "use_qkv_bias", &c->qkv_bias));
    if (moe) XFT_TRY(read_moe(r, c));
    return XFT_OK;
}

xft_status xft_config_parse(const char *json, const char *path, xft_config *config) {
    XFT_NEED(json, path, config);
    json_error_t error;
    reader r = {path, json_loads(json, JSON_REJECT_DUPLICATES, &error)};
    XFT_FAIL_IF(!r.root, XFT_ERROR_FORMAT, "%s: line %d: %s", path, error.line, error.text);
    memset(config, 0, sizeof *config);
    xft_status status =
        json_is_object(r.root) ? read_config(&r, config) : xft_fail(XFT_ERROR_FORMAT, "%s: not a JSON object", path);
    json_decref(r.root);
    if (status != XFT_OK) return status;
    status = xft_config_check(config);
    return status == XFT_OK ? status : xft_fail_in(status, "%s", path);
}

static bool at_least(double value, double least) {
    return isfinite(value) && value >= least;
}

xft_status xft_config_check(const xft_config *c) {
    XFT_FAIL_IF(!c, XFT_ERROR_INVALID_ARGUMENT, "xft_config_check: config is NULL");
#define CHECK(condition, ...) XFT_FAIL_IF(!(condition), XFT_ERROR_FORMAT, __VA_ARGS__)
    CHECK((unsigned)c->family < FAMILIES, "family %d is unknown", (int)c->family);
    CHECK(c->hidden_size && c->intermediate_size && c->num_layers && c->vocab_size && c->max_positions,
          "hidden_size, intermediate_size, num_hidden_layers, vocab_size and max_position_embeddings must be from 1");
    CHECK(c->num_layers <= 1024, "num_hidden_layers %u, at most 1024", c->num_layers);
    CHECK(c->num_heads && c->num_heads * c->head_size == c->hidden_size, "hidden_size %u is not %u heads of %u",
          c->hidden_size, c->num_heads, c->head_size);
    CHECK(c->num_kv_heads && c->num_heads % c->num_kv_heads == 0,
          "num_attention_heads %u is no multiple of num_key_value_heads %u", c->num_heads, c->num_kv_heads);
    CHECK(c->head_size % 2 == 0 && c->head_size >= 4 && c->head_size <= 256,
          "head size %u is not supported (even, 4 to 256)", c->head_size);
    CHECK(c->rotary >= 2 && c->rotary % 2 == 0 && c->rotary <= c->head_size, "%u rotated dimensions of heads of %u",
          c->rotary, c->head_size);
    CHECK(c->norm_eps >= 0 && c->norm_eps < 1, "norm epsilon %g, expected from 0 to below 1", (double)c->norm_eps);
    CHECK(at_least(c->initializer_range, 0), "initializer_range %g must be a number from 0",
          (double)c->initializer_range);
    CHECK(c->rope_theta > 1 && isfinite(c->rope_theta), "rope_theta %g must be a number above 1", c->rope_theta);
    CHECK(c->rope_scaling == XFT_ROPE_NONE || at_least(c->rope_factor, 1),
          "rope_scaling factor %g must be a number from 1", c->rope_factor);
    CHECK(c->rope_scaling != XFT_ROPE_LLAMA3 || c->rope_high_freq_factor > c->rope_low_freq_factor,
          "high_freq_factor %g must be above low_freq_factor %g", c->rope_high_freq_factor, c->rope_low_freq_factor);
    CHECK(c->rope_scaling != XFT_ROPE_DYNAMIC || c->rotary > 2,
          "dynamic rope_scaling needs more than 2 rotated dimensions");
    if (!c->num_experts) return XFT_OK;
    CHECK(c->num_experts >= 2 && c->num_experts <= 64, "num_experts %u must be from 2 to 64", c->num_experts);
    CHECK(c->top_k <= c->num_experts, "num_selects %u must not exceed num_experts %u", c->top_k, c->num_experts);
    CHECK(c->top_k >= (c->gate == XFT_GATE_VANILLA ? 1u : 2u),
          "num_selects %u must be at least 2 (1 with the vanilla gate): the shared expert is one of them", c->top_k);
    CHECK((unsigned)c->gate < GATES, "gate %d is unknown", (int)c->gate);
    CHECK(at_least(c->noise_epsilon, 0) && c->noise_epsilon > 0, "gate_noise_epsilon %g must be a number above 0",
          (double)c->noise_epsilon);
    CHECK(at_least(c->balance_weight, 0), "gate_balance_loss_weight %g must be a number from 0",
          (double)c->balance_weight);
    CHECK(at_least(c->noise_scale, 0), "router_noise_scale %g must be a number from 0", (double)c->noise_scale);
    CHECK(c->shared_expert_weight >= 0 && c->shared_expert_weight <= 1, "shared_expert_weight %g must be from 0 to 1",
          (double)c->shared_expert_weight);
#undef CHECK
    return XFT_OK;
}

/* ---- Writing ---- */

/* The official class takes only {type, factor} with a factor above 1, and no biases. */
static bool official_layout_holds(const xft_config *c) {
    return c->family == XFT_FAMILY_LLAMA && c->rope_scaling != XFT_ROPE_LLAMA3 &&
           (c->rope_scaling == XFT_ROPE_NONE || c->rope_factor > 1);
}

/* Short decimals: 0.01f as 0.01, not 0.0099999997764825821. */
static json_t *real_of_float(float value) {
    char text[32];
    snprintf(text, sizeof text, "%.7g", (double)value);
    return json_real(strtod(text, NULL));
}

static json_t *token(uint32_t id) {
    return id == UINT32_MAX ? json_null() : json_integer(id);
}

/* The fields of the base, the same in every layout; ids the base text already has stay as they are (lists of eos). */
static void write_base(const xft_config *c, json_t *o) {
    static const char *const dtype_names[] = {[XFT_F32] = "float32", [XFT_BF16] = "bfloat16", [XFT_F16] = "float16"};
    bool stablelm = c->family == XFT_FAMILY_STABLELM;
    json_object_set_new(o, "hidden_size", json_integer(c->hidden_size));
    json_object_set_new(o, "intermediate_size", json_integer(c->intermediate_size));
    json_object_set_new(o, "num_hidden_layers", json_integer(c->num_layers));
    json_object_set_new(o, "num_attention_heads", json_integer(c->num_heads));
    json_object_set_new(o, "num_key_value_heads", json_integer(c->num_kv_heads));
    json_object_set_new(o, "vocab_size", json_integer(c->vocab_size));
    json_object_set_new(o, "max_position_embeddings", json_integer(c->max_positions));
    json_object_set_new(o, "tie_word_embeddings", json_boolean(c->tied_head));
    json_object_set_new(o, "hidden_act", json_string("silu"));
    if (!json_object_get(o, "initializer_range"))
        json_object_set_new(o, "initializer_range", real_of_float(c->initializer_range));
    const char *eps = stablelm ? "layer_norm_eps" : "rms_norm_eps";
    if ((float)json_number_value(json_object_get(o, eps)) != c->norm_eps)
        json_object_set_new(o, eps, real_of_float(c->norm_eps));
    if (!json_object_get(o, "pad_token_id")) json_object_set_new(o, "pad_token_id", token(c->pad_token_id));
    if (!json_object_get(o, "bos_token_id")) json_object_set_new(o, "bos_token_id", token(c->bos_token_id));
    if (!json_object_get(o, "eos_token_id")) json_object_set_new(o, "eos_token_id", token(c->eos_token_id));
    if (!json_object_get(o, "use_cache")) json_object_set_new(o, "use_cache", json_true());
    const char *dtype = json_object_get(o, "dtype") ? "dtype" : "torch_dtype";
    json_object_set_new(o, dtype, json_string(dtype_names[c->dtype == XFT_U32 ? XFT_F32 : c->dtype]));
    if (stablelm) json_object_set_new(o, "use_qkv_bias", json_boolean(c->qkv_bias));
}

/* The share of a head that is rotated, in the 15 digits of a config, such that head_size * share, cut to a whole
 * number, is rotary again (30 of 44 would come back as 29). */
static json_t *partial_factor(const xft_config *c) {
    double share = (double)c->rotary / c->head_size;
    char text[32];
    snprintf(text, sizeof text, "%.15g", share);
    return json_real(strtod(text, NULL) * c->head_size < c->rotary ? share * (1 + 1e-14) : share);
}

static json_t *scaling_object(const xft_config *c, const char *type_key) {
    static const char *const names[] = {[XFT_ROPE_NONE] = "default",
                                        [XFT_ROPE_LINEAR] = "linear",
                                        [XFT_ROPE_DYNAMIC] = "dynamic",
                                        [XFT_ROPE_LLAMA3] = "llama3"};
    json_t *o = json_pack("{s:s}", type_key, names[c->rope_scaling]);
    if (c->rope_scaling != XFT_ROPE_NONE) json_object_set_new(o, "factor", json_real(c->rope_factor));
    if (c->rope_scaling == XFT_ROPE_LLAMA3) {
        json_object_set_new(o, "low_freq_factor", json_real(c->rope_low_freq_factor));
        json_object_set_new(o, "high_freq_factor", json_real(c->rope_high_freq_factor));
        json_object_set_new(o, "original_max_position_embeddings", json_integer(c->rope_original_length));
    }
    return o;
}

/* In the form the base had; the official class reads only rope_theta and rope_scaling. */
static void write_rope(const xft_config *c, json_t *o, bool official) {
    if (json_object_get(o, "rope_parameters") && !official) {
        json_t *p = scaling_object(c, "rope_type");
        json_object_set_new(p, "rope_theta", json_real(c->rope_theta));
        if (c->family == XFT_FAMILY_STABLELM) json_object_set_new(p, "partial_rotary_factor", partial_factor(c));
        json_object_set_new(o, "rope_parameters", p);
        return;
    }
    json_object_del(o, "rope_parameters");
    json_object_set_new(o, "rope_theta", json_real(c->rope_theta));
    if (c->family == XFT_FAMILY_STABLELM) json_object_set_new(o, "partial_rotary_factor", partial_factor(c));
    const char *key = c->rope_scaling == XFT_ROPE_LLAMA3 ? "rope_type" : "type";
    json_object_set_new(o, "rope_scaling", c->rope_scaling == XFT_ROPE_NONE ? json_null() : scaling_object(c, key));
}

/* What the official class has beside the model's own MoE fields; all are written, since it fills absent ones with the
 * values of DeepSeek-Coder-1.3B. */
static void write_official(json_t *o) {
    json_object_set_new(o, "size_experts", json_null());
    json_object_set_new(o, "calculator_type", json_string("UniversalCalculator"));
    json_object_set_new(o, "multiply_gate_scores", json_true());
    json_object_set_new(o, "score_scale_factor", json_real(1.0));
    json_object_set_new(o, "add_weight_norm", json_false());
    json_object_set_new(o, "drop_tokens", json_true());
    json_object_set_new(o, "dropped_padding", json_string("zero"));
    json_object_set_new(o, "capacity_factor", json_real(1.25));
    json_object_set_new(o, "ffn_folder_path", json_string(""));
    json_object_set_new(o, "pretraining_tp", json_integer(1));
    json_object_set_new(o, "attention_bias", json_false());
    json_object_set_new(o, "attention_dropout", json_real(0.0));
}

static void write_moe(const xft_config *c, json_t *o) {
    json_object_set_new(o, "num_experts", json_integer(c->num_experts));
    json_object_set_new(o, "num_selects", json_integer(c->top_k));
    json_object_set_new(o, "gate_type", json_string(xft_gate_name(c->gate)));
    json_object_set_new(o, "gate_network", json_string(c->gate_mlp ? "mlp" : "linear"));
    json_object_set_new(o, "gate_use_softmax", json_true());
    json_object_set_new(o, "gate_use_balance", json_boolean(c->balance_weight > 0));
    json_object_set_new(o, "gate_add_noise", json_boolean(c->gate_noise));
    json_object_set_new(o, "gate_noise_epsilon", real_of_float(c->noise_epsilon));
    json_object_set_new(o, "gate_balance_loss_weight", real_of_float(c->balance_weight));
    json_object_set_new(o, "shared_expert_weight", real_of_float(c->shared_expert_weight));
    if (c->noise_scale != 1.0f) json_object_set_new(o, "router_noise_scale", real_of_float(c->noise_scale));
}

/* Fields of MoE configs that a dense one must not keep. */
static const char *const moe_fields[] = {"num_experts",          "num_selects",        "gate_type",
                                         "gate_network",         "gate_use_softmax",   "gate_use_balance",
                                         "gate_add_noise",       "gate_noise_epsilon", "gate_balance_loss_weight",
                                         "shared_expert_weight", "router_noise_scale", "base_model_type",
                                         "size_experts",         "calculator_type",    "multiply_gate_scores",
                                         "score_scale_factor",   "add_weight_norm",    "drop_tokens",
                                         "dropped_padding",      "capacity_factor",    "ffn_folder_path"};

xft_status xft_config_write(const xft_config *config, const char *base, char **json) {
    XFT_FAIL_IF(!config || !json, XFT_ERROR_INVALID_ARGUMENT, "xft_config_write: config and json must not be NULL");
    XFT_TRY(xft_config_check(config));
    json_error_t error;
    json_t *o = base ? json_loads(base, 0, &error) : json_object();
    XFT_FAIL_IF(base && !json_is_object(o), XFT_ERROR_FORMAT, "xft_config_write: base is no JSON object: %s",
                o ? "" : error.text);
    XFT_FAIL_IF(!o, XFT_ERROR_OUT_OF_HOST_MEMORY, "xft_config_write: no memory");
    for (size_t i = 0; i < sizeof moe_fields / sizeof *moe_fields; i++) json_object_del(o, moe_fields[i]);
    bool moe = config->num_experts != 0, official = moe && official_layout_holds(config);
    const char *type = families[config->family].model_type, *architecture = families[config->family].architecture;
    if (moe) {
        type = official ? official_type : own_type;
        architecture = official ? "LlamaMoEUpscalingForCausalLM" : "XftMoEForCausalLM";
        write_moe(config, o);
        if (official)
            write_official(o);
        else
            json_object_set_new(o, "base_model_type", json_string(families[config->family].model_type));
    }
    json_object_set_new(o, "model_type", json_string(type));
    json_object_set_new(o, "architectures", json_pack("[s]", architecture));
    write_base(config, o);
    write_rope(config, o, official);
    if (official && json_object_get(o, "dtype")) { /* it knows the older name only */
        json_object_set(o, "torch_dtype", json_object_get(o, "dtype"));
        json_object_del(o, "dtype");
    }
    *json = json_dumps(o, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    json_decref(o);
    XFT_FAIL_IF(!*json, XFT_ERROR_OUT_OF_HOST_MEMORY, "xft_config_write: no memory");
    return XFT_OK;
}
