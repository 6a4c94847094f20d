#include "small_run.h"

#include "error.h"
#include "small_model.h"
#include "xft/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FIRST_LETTER = 3, LETTERS = 52, SAMPLES = 40 };

const char *small_run_path(const char *folder, const char *name) {
    static char paths[16][600];
    static unsigned next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof *paths, "%s/%s", folder, name);
    return path;
}

static char letter(uint32_t i) {
    return (char)(i < 26 ? 'a' + i : 'A' + i - 26);
}

static xft_status write_text(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    bool ok = f && fputs(text, f) >= 0 && !fclose(f);
    return ok ? XFT_OK : xft_fail(XFT_ERROR_IO, "%s: cannot be written", path);
}

static xft_status write_tokenizer(const char *folder) {
    char json[4000], vocabulary[2000] = "\"<unk>\":0,\"<s>\":1,\"</s>\":2";
    for (uint32_t i = 0; i < LETTERS; i++)
        snprintf(vocabulary + strlen(vocabulary), 20, ",\"%c\":%u", letter(i), FIRST_LETTER + i);
    snprintf(json, sizeof json,
             "{\"version\":\"1.0\",\"added_tokens\":["
             "{\"id\":0,\"content\":\"<unk>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
             "\"normalized\":false,\"special\":true},"
             "{\"id\":1,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
             "\"normalized\":false,\"special\":true},"
             "{\"id\":2,\"content\":\"</s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
             "\"normalized\":false,\"special\":true}],"
             "\"normalizer\":null,\"pre_tokenizer\":null,\"post_processor\":null,\"decoder\":null,"
             "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"vocab\":{%s},\"merges\":[]}}",
             vocabulary);
    XFT_TRY(write_text(small_run_path(folder, "tokenizer.json"), json));
    return write_text(small_run_path(folder, "tokenizer_config.json"),
                      "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"unk_token\":\"<unk>\"}");
}

static xft_status write_data(const char *path, uint32_t samples, uint64_t seed) {
    FILE *f = fopen(path, "w");
    XFT_FAIL_IF(!f, XFT_ERROR_IO, "%s: cannot be written", path);
    for (uint32_t i = 0; i < samples; i++) {
        uint32_t length = 6 + (uint32_t)(small_uniform(&seed) * 14), at = (uint32_t)(small_uniform(&seed) * LETTERS);
        fprintf(f, "{\"prompt\":\"%c\",\"completion\":\"", letter(at));
        for (uint32_t k = 0; k < length; k++) {
            at = small_uniform(&seed) < 0.1 ? (uint32_t)(small_uniform(&seed) * LETTERS) : (7 * at + 3) % LETTERS;
            fputc(letter(at), f);
        }
        fputs("\"}\n", f);
    }
    XFT_FAIL_IF(fclose(f), XFT_ERROR_IO, "%s: cannot be written", path);
    return XFT_OK;
}

static xft_status write_model(xft_device *device, const xft_config *config, const char *folder) {
    xft_model *model;
    XFT_TRY(small_model(device, config, XFT_F32, 7, &model));
    xft_status status = xft_checkpoint_save(model, folder, NULL);
    xft_model_destroy(model);
    return status == XFT_OK ? write_tokenizer(folder) : status;
}

xft_status small_run_make(xft_device *device, const char *folder) {
    xft_config dense = small_config(XFT_FAMILY_LLAMA), moe = small_moe(XFT_FAMILY_LLAMA, 4, 2, XFT_GATE_XFT, true);
    mkdir(folder, 0777);
    XFT_TRY(write_model(device, &dense, small_run_path(folder, "dense")));
    XFT_TRY(write_model(device, &moe, small_run_path(folder, "moe")));
    XFT_TRY(write_data(small_run_path(folder, "data.jsonl"), SAMPLES, 1));
    return write_data(small_run_path(folder, "eval.jsonl"), 6, 2);
}

xft_run_options small_run_options(const char *folder, xft_run_stage stage, const char *output) {
    static const char *data[1], *eval_data[1];
    data[0] = small_run_path(folder, "data.jsonl");
    eval_data[0] = small_run_path(folder, "eval.jsonl");
    return (xft_run_options){.stage = stage,
                             .model = small_run_path(folder, stage == XFT_RUN_SFT ? "dense" : "moe"),
                             .output = small_run_path(folder, output),
                             .device = getenv("XFT_TEST_DEVICE"),
                             .data = data,
                             .data_count = 1,
                             .eval_data = eval_data,
                             .eval_data_count = 1,
                             .length = 24,
                             .batch = 6,
                             .micro_batch = 4,
                             .max_steps = 12,
                             .lr = 3e-3,
                             .warmup = 2,
                             .seed = 5,
                             .save_every = 3,
                             .eval_every = 4,
                             .keep = 2};
}
