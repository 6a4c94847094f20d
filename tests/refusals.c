#include "refusals.h"

#include "driver_test.h"
#include "fixture.h"
#include "small_model.h"

#include <stdio.h>
#include <stdlib.h>

/* One of everything, on the test driver. */
static struct {
    xft_device *device;
    xft_arena *arena;
    xft_tensor tensor;
    xft_stream *stream, *finished;
    xft_model *dense, *moe;
    xft_trainer *trainer;
    xft_evaluator *evaluator;
    xft_generator *generator;
    xft_safetensors *file;
    xft_tokenizer *tokenizer;
    xft_dataset *dataset;
    xft_loader *loader;
    small_data data;
    char folder[256], path[300];
} scene;
static uint64_t anything[1 << 13];

static xft_config config;
static xft_router_config router = {.num_experts = 4, .top_k = 3, .gate = XFT_GATE_XFT, .mlp = true};
static xft_train_options training = {.tokens = 23, .sequences = 2, .max_norm = 1, .head_chunk = 8};
static xft_generator_options generation = {.batch = 2, .capacity = 16};
static xft_sampling sampling = {.new_tokens = 2};
static xft_upcycle_options upcycling = {.num_experts = 4, .top_k = 3, .gate = XFT_GATE_XFT};
static uint32_t shape[] = {4, 8, 1, 1}, lengths[] = {2, 2}, prompt[] = {1, 2};
static const uint32_t *prompts[] = {prompt, prompt};

static const char *files[1];
static xft_data_options reading = {.files = files, .file_count = 1, .length = 32};
static xft_loader_options loading = {.batch = 1, .micro_batch = 1};
static xft_chat_message message = {XFT_ROLE_USER, "text", 4};

static void write_samples(void) {
    static char path[300];
    snprintf(path, sizeof path, "%s/samples.jsonl", scene.folder);
    files[0] = path;
    FILE *file = fopen(path, "w");
    cr_assert(file);
    for (int i = 0; i < 2; i++) fputs("{\"prompt\": \"one\", \"completion\": \"two\"}\n", file);
    cr_assert_eq(fclose(file), 0);
}

void refusals_open(void) {
    test_driver = (test_driver_settings){0};
    OK(test_device_open(&(xft_device_options){.cache_dir = ""}, &scene.device));
    OK(xft_arena_create(scene.device, "refusals", 0, &scene.arena));
    OK(xft_tensor_create(scene.arena, XFT_F32, 2, shape, &scene.tensor));
    OK(xft_stream_create(scene.device, NULL, &scene.stream));
    OK(xft_stream_create(scene.device, NULL, &scene.finished));
    OK(xft_fill(scene.finished, &scene.tensor, 1));
    OK(xft_stream_finish(scene.finished));
    config = small_config(XFT_FAMILY_LLAMA);
    const xft_config moe = small_moe(XFT_FAMILY_LLAMA, 4, 3, XFT_GATE_XFT, true);
    OK(xft_model_create(scene.device, &config, NULL, &scene.dense));
    OK(xft_model_init(scene.dense, 1));
    OK(xft_model_create(scene.device, &moe, &(xft_model_options){.mixing = true}, &scene.moe));
    OK(xft_model_init(scene.moe, 1));
    small_data_make(&scene.data, 2, 9, true, 3);
    OK(xft_trainer_create(scene.moe, &training, &scene.trainer));
    OK(xft_evaluator_create(scene.dense, 23, 2, true, false, &scene.evaluator));
    OK(xft_generator_create(scene.dense, &generation, &scene.generator));
    snprintf(scene.folder, sizeof scene.folder, "%s", fixture_folder("refusals"));
    OK(xft_checkpoint_save(scene.dense, scene.folder, &(xft_save_options){.dtype = XFT_F32}));
    snprintf(scene.path, sizeof scene.path, "%s/model.safetensors", scene.folder);
    OK(xft_safetensors_open(scene.path, &scene.file));
    write_samples();
    OK(xft_tokenizer_load(XFT_TOKENIZER_ORACLE_DEFAULT "/gpt2", &scene.tokenizer));
    OK(xft_dataset_load(scene.tokenizer, &reading, &scene.dataset));
    OK(xft_loader_create(scene.dataset, &loading, &scene.loader));
}

void refusals_close(void) {
    xft_stream_destroy(scene.finished);
    xft_loader_destroy(scene.loader);
    xft_dataset_free(scene.dataset);
    xft_tokenizer_free(scene.tokenizer);
    xft_safetensors_close(scene.file);
    xft_generator_destroy(scene.generator);
    xft_evaluator_destroy(scene.evaluator);
    xft_trainer_destroy(scene.trainer);
    xft_model_destroy(scene.moe);
    xft_model_destroy(scene.dense);
    small_data_free(&scene.data);
    fixture_close(scene.device, scene.arena, scene.stream);
}

/* NULL matches all. The first line that fits counts. */
static bool fits(const char *pattern, const char *text) {
    return !pattern || !strcmp(pattern, text);
}

void *right_pointer(const char *function, const char *argument, const char *type) {
    const struct {
        const char *function, *argument, *type;
        const void *value;
    } right[] = {
        {"model_upcycle", "dense", NULL, scene.dense},
        {"model_merge", "moe", NULL, scene.moe},
        {"stream_wait", "stream", NULL, scene.finished},
        {"stream_outputs", "stream", NULL, scene.finished},
        {NULL, NULL, "xft_device *", scene.device},
        {NULL, NULL, "xft_arena *", scene.arena},
        {NULL, NULL, "xft_tensor *", &scene.tensor},
        {NULL, NULL, "xft_stream *", scene.stream},
        {NULL, NULL, "xft_model *", scene.moe},
        {NULL, NULL, "xft_trainer *", scene.trainer},
        {NULL, NULL, "xft_evaluator *", scene.evaluator},
        {NULL, NULL, "xft_generator *", scene.generator},
        {NULL, NULL, "xft_safetensors *", scene.file},
        {NULL, NULL, "xft_stored_tensor *", xft_safetensors_at(scene.file, 0)},
        {NULL, NULL, "xft_tokenizer *", scene.tokenizer},
        {NULL, NULL, "xft_dataset *", scene.dataset},
        {NULL, NULL, "xft_loader *", scene.loader},
        {NULL, NULL, "xft_data_options *", &reading},
        {NULL, NULL, "xft_loader_options *", &loading},
        {NULL, NULL, "xft_chat_message *", &message},
        {"template_check", "name", NULL, "magicoder"},
        {"template_prompt", "name", NULL, "magicoder"},
        {NULL, NULL, "xft_batch *", &scene.data.batch},
        {NULL, NULL, "xft_config *", &config},
        {NULL, NULL, "xft_router_config *", &router},
        {NULL, NULL, "xft_train_options *", &training},
        {NULL, NULL, "xft_generator_options *", &generation},
        {NULL, NULL, "xft_upcycle_options *", &upcycling},
        {NULL, NULL, "xft_sampling *", &sampling},
        {NULL, "shape", NULL, shape},
        {NULL, "lengths", NULL, lengths},
        {NULL, "prompts", NULL, prompts},
        {"device_open", "name", NULL, "auto"},
        {"tokenizer_decode", "ids", NULL, prompt},
        {"settings_need", "key", NULL, "model"},
        {"settings_set", "key", NULL, "model"},
        {NULL, "json", "char *", "{}"},
        {NULL, "path", "char *", scene.path},
        {NULL, "folder", "char *", scene.folder},
        {NULL, NULL, "char *", "text"},
    };
    if (!strncmp(type, "const ", 6)) type += 6;
    if (!strcmp(type, "xft_stream *")) OK(xft_stream_reset(scene.stream)); /* a failed op sticks to a recording */
    for (size_t i = 0; i < sizeof right / sizeof *right; i++)
        if (fits(right[i].function, function) && fits(right[i].argument, argument) && fits(right[i].type, type))
            return (void *)(uintptr_t)right[i].value;
    memset(anything, 0, sizeof anything);
    return anything;
}

uint64_t right_number(const char *function, const char *argument) {
    static const struct {
        const char *function, *argument;
        uint64_t value;
    } right[] = {
        {NULL, "rank", 2},      {NULL, "message_count", 1}, {NULL, "count", 1},       {NULL, "tokens", 16},
        {NULL, "sequences", 1}, {NULL, "length", 16},       {NULL, "bytes", 1 << 20},
    };
    for (size_t i = 0; i < sizeof right / sizeof *right; i++)
        if (fits(right[i].function, function) && fits(right[i].argument, argument)) return right[i].value;
    return 0;
}

static struct {
    const char *function, *argument; /* NULL: every function that has the argument */
    bool asked;
} list[] = {
    {NULL, "user", false},
    {NULL, "seed", false},
    /* options with defaults */
    {"checkpoint_load", "options", false},
    {"checkpoint_save", "options", false},
    {"checkpoint_stops", "tokenizer", false},
    {"checkpoint_size", "options", false},
    {"device_open", "options", false},
    {"device_adopt_vulkan", "options", false},
    {"device_adopt_opencl", "options", false},
    {"model_create", "options", false},
    {"stream_create", "options", false},
    {"problems_sample", "options", false},
    {"problems_score", "options", false},
    {"sandbox_run", "sandbox", false},
    {"report_write", "title", false},
    /* wanted or not */
    {"device_tune", "report", false},
    {"device_memory", "total", false},
    {"device_memory", "available", false},
    {"device_memory", "told", false},
    {"evaluator_run", "loss_sum", false},
    {"evaluator_run", "labels", false},
    {"evaluator_run", "logits", false},
    {"generate", "callback", false},
    {"model_tensor", "name", false},
    {"model_tensor", "tensor", false},
    {"stream_submit", "ticket", false},
    {"stream_timings", "ms", false},
    {"stream_timings", "names", false},
    {"stream_check_hazards", "barriers", false},
    {"template_check", "stop", false},
    {"tokenizer_decode", "bytes", false},
    {"inspect", "callbacks", false},
    {"model_merge", "callbacks", false},
    {"score_loss", "callbacks", false},
    {"problems_score", "results", false},
    {"run", "result", false},
    {"run_find", "step", false},
    {"stage_run", "options", false},
    {"stage_run", "result", false},
    {"stage_plan", "options", false},
    {"pipeline_run", "options", false},
    /* absent for a reason that the header gives */
    {"config_write", "base", false},
    {"model_merge", "coefficients", false},
    {"plan_training", "device", false},
    {"plan_generation", "device", false},
    {"plan_evaluation", "device", false},
    {"safetensors_write", "extra", false},
    {"safetensors_write", "source", false},
    {"tokenizer_parse", "config", false},
    {"template_check", "name", false}, /* magicoder */
    {"template_prompt", "name", false},
    {"template_prompt", "begun", false},
    {"arena_create", "name", false},
    /* any number is one */
    {"arena_create", "bytes", false}, /* a limit */
    {"plan_fit", "bytes", false},
    {"loader_seek", "position", false},
    {"score_loss", "micro_batch", false}, /* more than there are: all */
    {"stream_check_hazards", "without", false},
    /* how many there are behind a pointer, which a function has to believe */
    {"safetensors_write", "count", false},
    {"settings_parse", "bytes", false},
    {"tokenizer_parse", "json_bytes", false},
    {"tokenizer_parse", "config_bytes", false},
    {"tokenizer_encode", "bytes", false},
    {"tokenizer_decode", "count", false},
    {"template_prompt", "message_count", false},
    {"trainer_step", "count", false},
};

bool may_be_anything(const char *function, const char *argument) {
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (fits(list[i].function, function) && fits(list[i].argument, argument)) return list[i].asked = true;
    return false;
}

void check_list_of_free_arguments(void) {
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        cr_expect(list[i].asked, "no function %s has an argument %s", list[i].function ? list[i].function : "",
                  list[i].argument);
}
