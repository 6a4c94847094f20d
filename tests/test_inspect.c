/* Suite `pipeline`, inspection: its numbers against direct computation on the model; what a folder made from another
 * one takes along. */
#include "fixture.h"
#include "small_model.h"

#include "xft/checkpoint.h"
#include "xft/inspect.h"
#include "xft/safetensors.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static xft_device *device;

static void setup(void) {
    fixture_begin();
    device = fixture_open(NULL);
}
static void cleanup(void) {
    fixture_close(device, NULL, NULL);
    fixture_end();
}
TestSuite(inspect, .init = setup, .fini = cleanup, .timeout = 120);

static char *text_of(const char *path) {
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s", path);
    char *text = calloc(1, 1 << 16);
    cr_assert(fread(text, 1, (1 << 16) - 1, f) > 0);
    fclose(f);
    return text;
}

static void write_text(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    cr_assert(f && fputs(text, f) >= 0 && !fclose(f));
}

static double number(const json_t *o, const char *key) {
    cr_assert(json_is_number(json_object_get(o, key)), "no number %s", key);
    return json_number_value(json_object_get(o, key));
}

/* All elements of a tensor of a model; to be freed. */
static float *values_of(const xft_model *model, const char *name, uint64_t *count) {
    xft_tensor t;
    OK(xft_model_find(model, name, &t));
    *count = (uint64_t)xft_rows(&t) * xft_cols(&t);
    float *values = malloc(*count * sizeof *values);
    OK(xft_tensor_read(&t, XFT_F32, values));
    return values;
}

static json_t *inspect(const char *path) {
    char *json, *text;
    OK(xft_inspect(path, NULL, &json));
    json_t *root = json_loads(json, 0, NULL);
    cr_assert(root);
    OK(xft_inspect_text(json, true, &text));
    cr_expect(strstr(text, path));
    free(text);
    free(json);
    return root;
}

static const json_t *tensor_of(const json_t *root, const char *name) {
    const json_t *t;
    size_t i;
    json_array_foreach(json_object_get(root, "tensors"), i,
                       t) if (!strcmp(json_string_value(json_object_get(t, "name")), name)) return t;
    cr_assert_fail("no tensor %s", name);
    return NULL;
}

Test(inspect, numbers_equal_direct_computation) {
    xft_config c = small_moe(XFT_FAMILY_LLAMA, 4, 3, XFT_GATE_XFT, true);
    xft_model *model;
    OK(xft_model_create(device, &c, &(xft_model_options){.mixing = true}, &model));
    OK(xft_model_init(model, 3));
    xft_tensor mixing;
    OK(xft_model_find(model, "model.layers.1.mlp.average_weights", &mixing));
    OK(xft_tensor_write(&mixing, XFT_F32, (float[]){0, 1, -1}));
    OK(xft_checkpoint_save(model, path_of("moe"), NULL));
    json_t *root = inspect(path_of("moe")), *layer = json_array_get(json_object_get(root, "layers"), 1);
    cr_expect_eq(json_array_size(json_object_get(root, "problems")), 0);
    cr_expect_eq(json_array_size(json_object_get(root, "layers")), 2);

    /* norms of one tensor */
    uint64_t n;
    float *w = values_of(model, "model.embed_tokens.weight", &n);
    double squares = 0, sum = 0, largest = 0;
    for (uint64_t i = 0; i < n; i++) {
        squares += (double)w[i] * w[i];
        sum += w[i];
        largest = fmax(largest, fabs(w[i]));
    }
    free(w);
    const json_t *embed = tensor_of(root, "model.embed_tokens.weight");
    cr_expect_float_eq(number(embed, "norm"), sqrt(squares), 1e-6);
    cr_expect_float_eq(number(embed, "mean"), sum / (double)n, 1e-8);
    cr_expect_float_eq(number(embed, "largest"), largest, 1e-8);
    cr_expect_eq(number(embed, "bytes"), (double)n * 4);

    /* experts 0, 1 and 2 of layer 1 */
    static const char *const kinds[] = {"gate", "up", "down"};
    double dot = 0, one = 0, two = 0, zero = 0, away = 0;
    for (int k = 0; k < 3; k++) {
        float *e[3];
        for (int i = 0; i < 3; i++) {
            char name[120];
            snprintf(name, sizeof name, "model.layers.1.mlp.calculator.experts.weight_%s.%d.weight", kinds[k], i);
            e[i] = values_of(model, name, &n);
        }
        for (uint64_t i = 0; i < n; i++) {
            dot += (double)e[1][i] * e[2][i];
            one += (double)e[1][i] * e[1][i];
            two += (double)e[2][i] * e[2][i];
            zero += (double)e[0][i] * e[0][i];
            away += ((double)e[2][i] - e[0][i]) * ((double)e[2][i] - e[0][i]);
        }
        for (int i = 0; i < 3; i++) free(e[i]);
    }
    const json_t *cosine = json_object_get(layer, "cosine"), *distance = json_object_get(layer, "distance");
    cr_expect_float_eq(json_number_value(json_array_get(json_array_get(cosine, 1), 2)), dot / sqrt(one * two), 1e-7);
    cr_expect_float_eq(json_number_value(json_array_get(json_array_get(cosine, 2), 1)), dot / sqrt(one * two), 1e-7);
    cr_expect_float_eq(json_number_value(json_array_get(json_array_get(cosine, 3), 3)), 1, 1e-9);
    cr_expect_float_eq(json_number_value(json_array_get(distance, 2)), sqrt(away / zero), 1e-7);
    cr_expect_eq(json_number_value(json_array_get(distance, 0)), 0);

    /* router and mixing */
    w = values_of(model, "model.layers.1.mlp.gate.gate_network.2.weight", &n);
    squares = 0;
    for (uint64_t i = 0; i < n; i++) squares += (double)w[i] * w[i];
    free(w);
    cr_expect_float_eq(number(json_object_get(layer, "router"), "w2_norm"), sqrt(squares), 1e-6);
    double total = 1 + exp(1) + exp(-1);
    cr_expect_float_eq(json_number_value(json_array_get(json_object_get(layer, "alpha"), 1)), exp(1) / total, 1e-7);
    cr_expect_gt(number(json_object_get(layer, "router"), "noise"), 0.69);
    json_decref(root);
    xft_model_destroy(model);
}

/* One NaN and two infinities at the beginning of a tensor of f32. */
static void plant(const char *path, const char *name) {
    static const float values[] = {NAN, INFINITY, -INFINITY};
    xft_safetensors *file;
    xft_stored_tensor list[64];
    OK(xft_safetensors_open(path, &file));
    uint32_t count = xft_safetensors_count(file);
    cr_assert_leq(count, 64);
    char *changed = NULL;
    for (uint32_t i = 0; i < count; i++) {
        list[i] = *xft_safetensors_at(file, i);
        if (strcmp(list[i].name, name) != 0) continue;
        changed = malloc(list[i].bytes);
        memcpy(changed, list[i].data, list[i].bytes);
        memcpy(changed, values, sizeof values);
        list[i].data = changed;
    }
    OK(xft_safetensors_write(path, list, count, NULL, NULL, NULL));
    xft_safetensors_close(file);
    free(changed);
}

Test(inspect, broken_folders_are_described) {
    xft_config c = small_config(XFT_FAMILY_LLAMA);
    xft_model *model;
    OK(small_model(device, &c, XFT_F32, 1, &model));
    OK(xft_checkpoint_save(model, path_of("dense"), NULL));
    xft_model_destroy(model);
    plant(path_of("dense/model.safetensors"), "model.norm.weight");
    json_t *root = inspect(path_of("dense")), *totals = json_object_get(root, "totals");
    cr_expect_eq(number(totals, "nan"), 1);
    cr_expect_eq(number(totals, "inf"), 2);
    cr_expect_eq(number(tensor_of(root, "model.norm.weight"), "nan"), 1);
    cr_expect_eq(json_object_get(root, "layers"), NULL);
    json_decref(root);

    /* a configuration that asks for more */
    char *text = text_of(path_of("dense/config.json"));
    char *at = strstr(text, "\"num_hidden_layers\": 2");
    cr_assert(at);
    at[strlen("\"num_hidden_layers\": ")] = '3';
    write_text(path_of("dense/config.json"), text);
    root = inspect(path_of("dense"));
    cr_expect_eq(json_array_size(json_object_get(root, "problems")), 9); /* the tensors of a layer */
    const char *first = json_string_value(json_array_get(json_object_get(root, "problems"), 0));
    cr_expect(strstr(first, "model.layers.2.") && strstr(first, "missing"), "%s", first);
    json_decref(root);
    free(text);
    char *json;
    cr_expect_eq(xft_inspect(path_of("absent"), NULL, &json), XFT_ERROR_IO);
}

/* base -> MoE -> dense: names, formats and config.json of the base come back, whatever is between. */
Test(inspect, a_folder_like_another) {
    xft_config c = small_config(XFT_FAMILY_LLAMA);
    xft_model *base, *moe, *merged;
    OK(small_model(device, &c, XFT_F32, 1, &base));
    OK(xft_checkpoint_save(base, path_of("base"), &(xft_save_options){.dtype = XFT_BF16}));
    xft_model_destroy(base);
    /* fields that mean nothing to this library, in an order of their own */
    char *text = text_of(path_of("base/config.json")), *odd;
    cr_assert(asprintf(&odd, "{ \"zeta\": [1, 2],%s", strchr(text, '{') + 1) > 0);
    write_text(path_of("base/config.json"), odd);
    write_text(path_of("base/tokenizer.json"), "{}");

    OK(xft_checkpoint_load(device, path_of("base"), NULL, &base));
    OK(xft_model_upcycle(base, &(xft_upcycle_options){.num_experts = 4, .top_k = 2}, &moe));
    xft_model_destroy(base);
    OK(xft_checkpoint_save(moe, path_of("moe"),
                           &(xft_save_options){.dtype = XFT_F32, .carry = path_of("base"), .like = true}));
    xft_model_destroy(moe);
    json_t *root = inspect(path_of("moe"));
    static const char *const formats[][2] = {{"model.layers.0.self_attn.q_proj.weight", "BF16"},
                                             {"model.layers.1.mlp.calculator.experts.weight_down.3.weight", "BF16"},
                                             {"model.layers.1.mlp.gate.gate_network.0.weight", "F32"}};
    for (int i = 0; i < 3; i++)
        cr_expect_str_eq(json_string_value(json_object_get(tensor_of(root, formats[i][0]), "dtype")), formats[i][1]);
    json_decref(root);

    OK(xft_checkpoint_load(device, path_of("moe"), &(xft_load_options){.mixing = true}, &moe));
    OK(xft_model_merge(moe, XFT_MERGE_LEARNED, NULL, -1, NULL, &merged));
    OK(xft_checkpoint_save(merged, path_of("merged"), &(xft_save_options){.carry = path_of("moe"), .like = true}));
    xft_model_destroy(merged);
    xft_model_destroy(moe);
    char *config = text_of(path_of("merged/config.json"));
    cr_expect_str_eq(config, odd);
    cr_expect_neq(access(path_of("merged/base_config.json"), F_OK), 0);
    cr_expect_eq(access(path_of("merged/tokenizer.json"), F_OK), 0);
    free(config);
    free(odd);
    free(text);
    xft_safetensors *a, *b; /* equal experts: the base itself, byte for byte */
    OK(xft_safetensors_open(path_of("base/model.safetensors"), &a));
    OK(xft_safetensors_open(path_of("merged/model.safetensors"), &b));
    cr_assert_eq(xft_safetensors_count(a), xft_safetensors_count(b));
    for (uint32_t i = 0; i < xft_safetensors_count(a); i++) {
        const xft_stored_tensor *x = xft_safetensors_at(a, i), *y = xft_safetensors_find(b, x->name);
        cr_assert(y, "%s", x->name);
        cr_expect(x->dtype == y->dtype && x->bytes == y->bytes && !memcmp(x->data, y->data, x->bytes), "%s", x->name);
    }
    xft_safetensors_close(a);
    xft_safetensors_close(b);
}
