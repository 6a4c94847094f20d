/* Suite `files`: safetensors, config.json and checkpoint folders: what is read comes back, what is broken is refused
 * with place and reason, and no half file is left. Needs no device but for checkpoints (XFT_TEST_DEVICE). */
#include "fixture.h"
#include "small_model.h"

#include "xft/checkpoint.h"
#include "xft/safetensors.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(files, .init = fixture_begin, .fini = fixture_end, .timeout = 120);

static void write_file(const char *name, const void *data, size_t bytes) {
    FILE *f = fopen(path_of(name), "wb");
    cr_assert(f && fwrite(data, 1, bytes, f) == bytes && !fclose(f));
}

/* A file of that header and so many bytes of data. */
static void write_safetensors(const char *name, const char *header, size_t data_bytes) {
    size_t length = strlen(header), bytes = 8 + length + data_bytes;
    unsigned char *file = calloc(1, bytes + 1);
    for (int i = 0; i < 8; i++) file[i] = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(file + 8, header, length);
    write_file(name, file, bytes);
    free(file);
}

/* ---- safetensors ---- */

static const struct {
    const char *header;
    size_t data;
    const char *reason; /* a part of the message */
} broken[] = {
    {"", 0, "does not begin with {"},
    {"[]", 0, "does not begin with {"},
    {"{\"a\":", 0, "header"},
    {"{\"a\":1}", 0, "tensor a: not a JSON object"},
    {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "tensor a: no dtype"},
    {"{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype \"F31\""},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "shape is no array"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "shape entry 0"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "shape entry 0"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "rank 9"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}", 4, "overflows"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets is no pair"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "data_offsets is no pair"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8, "hold 8 bytes"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "outside"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "outside"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "outside"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, "unknown key \"x\""},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_"
     "offsets\":[4,8]}}",
     8, "overlaps"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_"
     "offsets\":[8,12]}}",
     12, "4 bytes in front of tensor b"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "in front of tensor a"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 7, "last 3 bytes"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_"
     "offsets\":[4,8]}}",
     8, "duplicate"},
    {"{\"__metadata__\":{\"format\":1}}", 0, "format is no string"},
    {"{\"__metadata__\":[]}", 0, "__metadata__ is no object"},
};

Test(files, broken_safetensors_are_refused) {
    xft_safetensors *file;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        write_safetensors("x.safetensors", broken[i].header, broken[i].data);
        cr_expect_eq(xft_safetensors_open(path_of("x.safetensors"), &file), XFT_ERROR_FORMAT, "%s", broken[i].header);
        cr_expect(strstr(xft_error(), broken[i].reason) && strstr(xft_error(), "x.safetensors"), "%s: %s",
                  broken[i].header, xft_error());
    }
    unsigned char huge[16] = {1, 0xe1, 0xf5, 5}; /* 100,000,001 */
    write_file("huge.safetensors", huge, sizeof huge);
    cr_expect_eq(xft_safetensors_open(path_of("huge.safetensors"), &file), XFT_ERROR_FORMAT);
    cr_expect(strstr(xft_error(), "header of 100000001 bytes"), "%s", xft_error());
    unsigned char cut[16] = {200, 0};
    write_file("cut.safetensors", cut, sizeof cut);
    cr_expect_eq(xft_safetensors_open(path_of("cut.safetensors"), &file), XFT_ERROR_FORMAT);
    cr_expect(strstr(xft_error(), "cut short"), "%s", xft_error());
    write_file("short.safetensors", cut, 3);
    cr_expect_eq(xft_safetensors_open(path_of("short.safetensors"), &file), XFT_ERROR_FORMAT);
    cr_expect_eq(xft_safetensors_open(path_of("absent.safetensors"), &file), XFT_ERROR_IO);
    cr_expect_eq(xft_safetensors_open(folder, &file), XFT_ERROR_IO);
}

static xft_status fail_late(void *user, uint32_t index, void *data, uint64_t bytes) {
    memset(data, (int)index, bytes);
    return index == *(uint32_t *)user ? XFT_ERROR_IO : XFT_OK;
}

Test(files, safetensors_come_back_and_failures_leave_nothing) {
    float a[6] = {1, -2, 3.5f, INFINITY, 0, 7};
    int32_t b[2] = {-5, 6};
    xft_stored_tensor list[] = {{.name = "w.a", .dtype = XFT_STORED_F32, .rank = 2, .shape = {2, 3}, .data = a},
                                {.name = "b", .dtype = XFT_STORED_I32, .rank = 1, .shape = {2}, .data = b},
                                {.name = "none", .dtype = XFT_STORED_BF16, .rank = 2, .shape = {0, 3}, .data = a}};
    const char *extra[] = {"step", "12", NULL};
    const char *path = path_of("y.safetensors");
    OK(xft_safetensors_write(path, list, 3, extra, NULL, NULL));
    xft_safetensors *file;
    OK(xft_safetensors_open(path, &file));
    cr_expect_eq(xft_safetensors_count(file), 3);
    cr_expect_str_eq(xft_safetensors_metadata(file, "format"), "pt");
    cr_expect_str_eq(xft_safetensors_metadata(file, "step"), "12");
    const xft_stored_tensor *t = xft_safetensors_find(file, "w.a");
    float back[6];
    int64_t integers[2];
    OK(xft_stored_read_f32(t, 0, 6, back));
    cr_expect(!memcmp(a, back, sizeof a));
    OK(xft_stored_read_i64(xft_safetensors_find(file, "b"), 0, 2, integers));
    cr_expect(integers[0] == -5 && integers[1] == 6);
    cr_expect_neq(xft_stored_read_i64(t, 0, 2, integers), XFT_OK);
    cr_expect_neq(xft_stored_read_f32(t, 5, 2, back), XFT_OK);
    cr_expect_null(xft_safetensors_find(file, "w"));
    cr_expect_eq((uintptr_t)t->data % 4, 0, "data is aligned");
    xft_safetensors_close(file);

    struct stat before, after;
    cr_assert(!stat(path, &before));
    list[0].data = list[1].data = NULL;
    for (uint32_t at = 0; at < 2; at++)
        cr_expect_neq(xft_safetensors_write(path, list, 3, NULL, fail_late, &at), XFT_OK);
    list[1].name = "w.a";
    cr_expect_neq(xft_safetensors_write(path, list, 3, NULL, fail_late, &(uint32_t){9}), XFT_OK);
    cr_assert(!stat(path, &after));
    cr_expect(before.st_ino == after.st_ino && before.st_size == after.st_size, "a failed write touched the file");
    char command[200];
    snprintf(command, sizeof command, "test $(ls %s | wc -l) = 1", folder);
    cr_expect_eq(system(command), 0, "a temporary file was left");
    cr_expect_neq(xft_safetensors_write(path_of("no/such/z"), list, 1, NULL, fail_late, &(uint32_t){9}), XFT_OK);
}

/* ---- config.json ---- */

static const char llama[] =
    "{\"model_type\":\"llama\",\"hidden_size\":32,\"intermediate_size\":24,\"num_hidden_layers\":2,\"num_attention_"
    "heads\":4,"
    "\"vocab_size\":61,\"max_position_embeddings\":64,\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0}";

/* llama with one more field (the last of two equal names would be a duplicate, so `key` is taken out first). */
static char *with(const char *base, const char *key, const char *value) {
    json_t *o = json_loads(base, 0, NULL), *v = value ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    if (v)
        json_object_set_new(o, key, v);
    else
        json_object_del(o, key);
    char *text = json_dumps(o, 0);
    json_decref(o);
    return text;
}

Test(files, configs_are_refused_by_the_name_of_the_field) {
    static const struct {
        const char *key, *value, *reason;
    } fields[] = {
        {"model_type", "\"gpt2\"", "gpt2"},
        {"model_type", NULL, "model_type is missing"},
        {"hidden_size", NULL, "hidden_size is missing"},
        {"hidden_size", "\"32\"", "hidden_size"},
        {"hidden_size", "33", "no multiple"},
        {"hidden_size", "-32", "hidden_size"},
        {"num_attention_heads", "16", "head size 2"},
        {"num_key_value_heads", "3", "num_key_value_heads 3"},
        {"vocab_size", "0", "vocab_size"},
        {"rope_theta", NULL, "rope_theta is missing"},
        {"rope_theta", "\"big\"", "rope_theta"},
        {"rms_norm_eps", NULL, "rms_norm_eps is missing"},
        {"mlp_bias", "true", "mlp_bias"},
        {"attention_bias", "true", "attention_bias"},
        {"hidden_act", "\"gelu\"", "hidden_act"},
        {"sliding_window", "128", "sliding_window"},
        {"use_sliding_window", "true", "use_sliding_window"},
        {"pretraining_tp", "2", "pretraining_tp"},
        {"head_dim", "16", "head_dim 16"},
        {"qk_layernorm", "true", "qk_layernorm"},
        {"use_parallel_residual", "true", "use_parallel_residual"},
        {"rope_scaling", "{\"type\":\"yarn\",\"factor\":2.0}", "\"yarn\""},
        {"rope_scaling", "{\"factor\":2.0}", "without a type"},
        {"rope_scaling", "{\"type\":\"linear\"}", "factor is missing"},
        {"rope_scaling", "{\"type\":\"linear\",\"factor\":0.5}", "factor 0.5"},
        {"rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":8.0}", "low_freq_factor is missing"},
        {"rope_scaling", "3", "rope_scaling must be an object"},
        {"rope_parameters", "{\"rope_type\":\"default\",\"rope_theta\":1e4,\"partial_rotary_factor\":0.5}",
         "StableLM only"},
        {"rope_parameters", "{\"rope_type\":\"default\",\"rope_theta\":1e4,\"partial_rotary_factor\":1e80}",
         "partial_rotary_factor 1e+80"},
        {"torch_dtype", "\"int8\"", "int8"},
        {"tie_word_embeddings", "1", "tie_word_embeddings"},
        {"initializer_range", "1e99", "initializer_range"},
        {"initializer_range", "-0.1", "initializer_range -0.1"},
    };
    xft_config c;
    OK(xft_config_parse(llama, "config.json", &c));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        char *text = with(llama, fields[i].key, fields[i].value);
        cr_expect_neq(xft_config_parse(text, "config.json", &c), XFT_OK, "%s", text);
        cr_expect(strstr(xft_error(), fields[i].reason) && strstr(xft_error(), "config.json"), "%s: %s", text,
                  xft_error());
        free(text);
    }
    cr_expect_eq(xft_config_parse("{", "config.json", &c), XFT_ERROR_FORMAT);
    cr_expect_eq(xft_config_parse("[]", "config.json", &c), XFT_ERROR_FORMAT);
    cr_expect_eq(xft_config_parse("{\"a\":1,\"a\":2}", "config.json", &c), XFT_ERROR_FORMAT);
}

Test(files, moe_configs_go_round_and_are_refused) {
    static const struct {
        const char *key, *value;
    } fields[] = {{"num_experts", "1"},
                  {"num_experts", "65"},
                  {"num_selects", "1"},
                  {"num_selects", "5"},
                  {"num_selects", NULL},
                  {"gate_type", "\"Other\""},
                  {"gate_network", "\"cnn\""},
                  {"gate_use_softmax", "false"},
                  {"multiply_gate_scores", "false"},
                  {"score_scale_factor", "2"},
                  {"add_weight_norm", "true"},
                  {"calculator_type", "\"Switch\""},
                  {"attention_bias", "true"},
                  {"num_key_value_heads", NULL},
                  {"shared_expert_weight", "1.5"},
                  {"gate_balance_loss_weight", "1e68"}};
    xft_config c, back;
    char *text;
    for (int family = 0; family < 3; family++)
        for (int scaling = 0; scaling < 4; scaling++) {
            c = small_moe((xft_family)family, 4, 2, XFT_GATE_UNNORMALISED, scaling % 2);
            c.rope_scaling = (xft_rope_scaling)scaling;
            if (family == XFT_FAMILY_STABLELM && scaling == XFT_ROPE_DYNAMIC) c.rotary = 4;
            if (scaling) c.rope_factor = 2;
            if (scaling == XFT_ROPE_LLAMA3) {
                c.rope_low_freq_factor = 1;
                c.rope_high_freq_factor = 4;
                c.rope_original_length = 32;
            }
            c.noise_scale = 0.5f;
            OK(xft_config_write(&c, NULL, &text));
            OK(xft_config_parse(text, "written", &back));
            cr_expect(!memcmp(&c, &back, sizeof c), "family %d scaling %d: %s", family, scaling, text);
            cr_expect_eq(strstr(text, "llama_moe_upscaling") != NULL, family == 0 && scaling != 3);
            cr_expect(strstr(text, "\"rope_scaling\""), "must be there, null or not");
            free(text);
        }
    c = small_moe(XFT_FAMILY_LLAMA, 4, 2, XFT_GATE_XFT, true);
    OK(xft_config_write(&c, NULL, &text));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        char *changed = with(text, fields[i].key, fields[i].value);
        cr_expect_neq(xft_config_parse(changed, "config.json", &c), XFT_OK, "%s = %s", fields[i].key, fields[i].value);
        cr_expect(strstr(xft_error(), fields[i].key), "%s: %s", fields[i].key, xft_error());
        free(changed);
    }
    free(text);
}

/* head_size * (rotary / head_size) is below rotary for 30 of 44 in double precision: what is written must be read as 30
 * again, from both forms of the base, dense and as the MoE, which always writes the older form. */
Test(files, partial_rotary_factors_go_round) {
    static const char *const bases[] = {
        "{}", "{\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":1e4,\"partial_rotary_factor\":0.5}}"};
    for (int moe = 0; moe < 2; moe++)
        for (size_t base = 0; base < 2; base++)
            for (uint32_t rotary = 2; rotary <= 44; rotary += 2) {
                xft_config c = moe ? small_moe(XFT_FAMILY_STABLELM, 4, 2, XFT_GATE_XFT, true)
                                   : small_config(XFT_FAMILY_STABLELM),
                           back;
                char *text;
                c.hidden_size = 4 * 44;
                c.head_size = 44;
                c.rotary = rotary;
                OK(xft_config_write(&c, bases[base], &text));
                OK(xft_config_parse(text, "written", &back));
                cr_expect_eq(back.rotary, rotary, "%u of 44: %u, %s", rotary, back.rotary, text);
                free(text);
            }
}

/* ---- Checkpoints ---- */

static bool exists(const char *name) {
    return access(path_of(name), F_OK) == 0;
}

/* One file, shards, other shards, one file again: each time the folder holds this model and no file of the last. */
Test(files, shards_come_back_in_every_dtype) {
    const char *name = getenv("XFT_TEST_DEVICE");
    xft_device *device;
    xft_model *model, *back;
    OK(xft_device_open(name ? name : "auto", NULL, &device));
    xft_config c = small_config(XFT_FAMILY_LLAMA);
    static const struct {
        uint64_t shard_size;
        xft_dtype dtype;
        const char *there, *gone;
    } rows[] = {{0, XFT_F32, "model.safetensors", "model.safetensors.index.json"},
                {20000, XFT_F32, "model-00001-of-00004.safetensors", "model.safetensors"},
                {20000, XFT_BF16, "model-00002-of-00002.safetensors", "model-00001-of-00004.safetensors"},
                {9000, XFT_F16, "model-00004-of-00004.safetensors", "model-00002-of-00002.safetensors"},
                {1 << 30, XFT_F32, "model.safetensors", "model.safetensors.index.json"}};
    write_file("tokenizer.json", "tokens", 6);
    write_file("notes.txt", "notes", 5);
    char target[200];
    snprintf(target, sizeof target, "%s/a/b", folder);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        xft_save_options options = {.dtype = rows[i].dtype, .shard_size = rows[i].shard_size, .carry = folder};
        char there[80], gone[80];
        snprintf(there, sizeof there, "a/b/%s", rows[i].there);
        snprintf(gone, sizeof gone, "a/b/%s", rows[i].gone);
        OK(small_model(device, &c, XFT_F32, 3 + i, &model));
        OK(xft_checkpoint_save(model, target, &options));
        OK(xft_checkpoint_load(device, target, NULL, &back));
        uint64_t n, size;
        float *a = small_weights(model, &n), *b = small_weights(back, NULL);
        for (uint64_t k = 0; k < n; k++) {
            float x = rows[i].dtype == XFT_BF16  ? xft_bf16_to_f32(xft_f32_to_bf16(a[k]))
                      : rows[i].dtype == XFT_F16 ? xft_f16_to_f32(xft_f32_to_f16(a[k]))
                                                 : a[k];
            cr_assert_eq(x, b[k]);
        }
        cr_expect_eq(xft_model_get_config(back)->dtype, rows[i].dtype);
        cr_expect(exists(there) && !exists(gone) && exists("a/b/tokenizer.json") && !exists("a/b/notes.txt"), "row %zu",
                  i);
        OK(xft_checkpoint_size(model, &options, &size));
        cr_expect(size > n * xft_dtype_size(rows[i].dtype) && size < n * xft_dtype_size(rows[i].dtype) + 6000);
        a[7] = 1e6f;
        OK(small_write_weights(model, a));
        options.dtype = XFT_F16;
        cr_expect_eq(xft_checkpoint_save(model, target, &options), XFT_ERROR_FORMAT);
        cr_expect(strstr(xft_error(), "which ends at 65504") && exists(there), "%s", xft_error());
        free(a);
        free(b);
        xft_model_destroy(model);
        xft_model_destroy(back);
    }
    xft_device_close(device);
}

static bool stop_after(void *user, const char *what, uint64_t done, uint64_t total) {
    cr_expect(done < total, "%s", what);
    return done < *(uint64_t *)user;
}

Test(files, checkpoints_come_back_and_disagreements_are_refused) {
    const char *name = getenv("XFT_TEST_DEVICE");
    xft_device *device;
    xft_model *model, *back;
    OK(xft_device_open(name ? name : "auto", NULL, &device));
    xft_config c = small_moe(XFT_FAMILY_QWEN2, 3, 2, XFT_GATE_XFT, true);
    OK(small_model(device, &c, XFT_F32, 3, &model));
    OK(xft_checkpoint_save(model, folder, NULL));
    OK(xft_checkpoint_load(device, folder, NULL, &back));
    uint64_t n;
    float *a = small_weights(model, &n), *b = small_weights(back, NULL);
    cr_expect(!memcmp(a, b, n * sizeof *a), "weights differ after a round trip");
    cr_expect(!memcmp(xft_model_get_config(back), &c, sizeof c));
    free(b);
    xft_model_destroy(back);

    OK(xft_checkpoint_load(device, folder, &(xft_load_options){.mixing = true}, &back)); /* coefficients start at 1 */
    xft_tensor mixing;
    float ones[2];
    OK(xft_model_find(back, "model.layers.1.mlp.average_weights", &mixing));
    OK(xft_tensor_read(&mixing, XFT_F32, ones));
    cr_expect(ones[0] == 1 && ones[1] == 1);
    xft_model_destroy(back);

    xft_callbacks stop = {.user = &(uint64_t){5}, .progress = stop_after};
    cr_expect_eq(xft_checkpoint_load(device, folder, &(xft_load_options){.callbacks = &stop}, &back),
                 XFT_ERROR_CANCELLED);
    cr_expect_eq(xft_checkpoint_save(model, folder, &(xft_save_options){.callbacks = &stop}), XFT_ERROR_CANCELLED);

    char *json, *other;
    OK(xft_model_config_json(model, &json));
    static const struct {
        const char *key, *value, *reason;
    } changes[] = {{"num_experts", "4", "is missing"},
                   {"num_hidden_layers", "1", "belongs to no part"},
                   {"intermediate_size", "16", "config.json asks for"},
                   {"gate_add_noise", "false", "weight_noise.weight belongs to no part"},
                   {"vocab_size", "60", "embed_tokens"}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        other = with(json, changes[i].key, changes[i].value);
        write_file("config.json", other, strlen(other));
        cr_expect_neq(xft_checkpoint_load(device, folder, NULL, &back), XFT_OK);
        cr_expect(strstr(xft_error(), changes[i].reason), "%s: %s", changes[i].key, xft_error());
        free(other);
    }
    write_file("config.json", json, strlen(json));
    a[n / 2] = NAN;
    OK(small_write_weights(model, a));
    cr_expect_eq(xft_checkpoint_save(model, folder, NULL), XFT_ERROR_FORMAT);
    cr_expect(strstr(xft_error(), "not finite"), "%s", xft_error());
    FILE *file = fopen(path_of("model.safetensors"), "r+b");
    cr_assert(file && !fseek(file, -4, SEEK_END) && fwrite(&a[n / 2], 4, 1, file) == 1 && !fclose(file));
    cr_expect_neq(xft_checkpoint_load(device, folder, NULL, &back), XFT_OK);
    cr_expect(strstr(xft_error(), "not finite"), "%s", xft_error());

    /* shards: an index that names a file that is not there, then one that is */
    const char *index = "{\"weight_map\":{\"model.norm.weight\":\"gone.safetensors\"}}";
    write_file("model.safetensors.index.json", index, strlen(index));
    cr_expect_neq(xft_checkpoint_load(device, folder, NULL, &back), XFT_OK);
    cr_expect(strstr(xft_error(), "gone.safetensors"), "%s", xft_error());
    index = "{\"weight_map\":{\"model.other.weight\":\"model.safetensors\"}}";
    write_file("model.safetensors.index.json", index, strlen(index));
    cr_expect_neq(xft_checkpoint_load(device, folder, NULL, &back), XFT_OK);
    cr_expect(strstr(xft_error(), "model.other.weight is not in"), "%s", xft_error());
    index = "{\"weight_map\":{\"model.norm.weight\":\"../model.safetensors\"}}";
    write_file("model.safetensors.index.json", index, strlen(index));
    cr_expect_neq(xft_checkpoint_load(device, folder, NULL, &back), XFT_OK);
    cr_expect(strstr(xft_error(), "plain file name"), "%s", xft_error());
    free(json);
    free(a);
    xft_model_destroy(model);
    xft_device_close(device);
}
