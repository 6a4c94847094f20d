/* xft plan */
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "xft/checkpoint.h"
#include "xft/stage.h"

static const char *const part_names[] = {"weights", "gradients", "optimizer", "activations",
                                         "scratch", "cache",     "total"};
enum { PARTS = sizeof part_names / sizeof *part_names };

static uint64_t part_of(const xft_plan *p, int part) {
    const uint64_t parts[PARTS] = {p->weights, p->gradients, p->optimizer, p->activations,
                                   p->scratch, p->cache,     p->total};
    return parts[part];
}

/* ---- Stages ---- */

static json_t *stage_json(xft_stage stage, const xft_stage_needs *n) {
    json_t *o = json_pack("{s:s}", "stage", xft_stage_name(stage));
    for (int i = 0; i < PARTS; i++)
        json_object_set_new(o, part_names[i], json_integer((json_int_t)part_of(&n->plan, i)));
    json_object_set_new(o, "disk", json_integer((json_int_t)n->disk));
    json_object_set_new(o, "fits", json_boolean(n->fits));
    if (!n->fits) json_object_set_new(o, "advice", json_string(n->advice));
    return o;
}

static void print_stage(xft_stage stage, const xft_stage_needs *n) {
    printf("%-9s", xft_stage_name(stage));
    for (int i = 0; i < PARTS; i++) printf(" %11s", part_of(&n->plan, i) ? size_text(part_of(&n->plan, i)) : "-");
    printf(" %10s  %s\n", n->disk ? size_text(n->disk) : "-", n->fits ? "fits" : "does not fit");
    if (!n->fits && *n->advice) printf("%9s %s\n", "", n->advice);
}

/* Generation: micro_batch prompts at once, of 1024 tokens where the model can, and their answers. */
static xft_status plan_generation(const call *call, xft_device *device, const xft_config *config,
                                  xft_stage_needs *needs) {
    xft_values v;
    *needs = (xft_stage_needs){.advice = "a smaller micro_batch or max_new_tokens, or dtype bf16"};
    xft_status status = xft_settings_resolve(call->settings, XFT_STAGE_GENERATE, &v);
    if (status) return status;
    const uint64_t tokens = 1024 + v.max_new_tokens;
    const xft_generator_options options = {.batch = (uint32_t)v.micro_batch,
                                           .capacity = tokens < config->max_positions ? (uint32_t)tokens
                                                                                      : config->max_positions};
    status = xft_device_memory(device, NULL, &needs->memory_available, &needs->memory_told);
    if (status == XFT_OK) status = xft_plan_generation(config, (xft_dtype)v.dtype, &options, device, &needs->plan);
    needs->fits = needs->plan.total <= needs->memory_available;
    return status;
}

/* The stages that can begin with the model: all from a dense one, those of a MoE from a MoE. */
static xft_status plan_stages(const call *call, xft_device *device, const xft_config *config, json_t *rows) {
    const xft_stage stages[] = {XFT_STAGE_SFT, XFT_STAGE_UPCYCLE, XFT_STAGE_TUNE, XFT_STAGE_MERGE, XFT_STAGE_GENERATE};
    const xft_stage_options options = {.device = device};
    if (!call->json) {
        printf("%-9s", "");
        for (int i = 0; i < PARTS; i++) printf(" %11s", part_names[i]);
        printf(" %10s\n", "disk");
    }
    for (size_t i = config->num_experts ? 2 : 0; i < sizeof stages / sizeof *stages; i++) {
        xft_stage_needs needs;
        const xft_status status = stages[i] == XFT_STAGE_GENERATE
                                      ? plan_generation(call, device, config, &needs)
                                      : xft_stage_plan(call->settings, stages[i], &options, &needs);
        if (status) return status;
        if (call->json)
            json_array_append_new(rows, stage_json(stages[i], &needs));
        else
            print_stage(stages[i], &needs);
    }
    return XFT_OK;
}

/* ---- What fits ---- */

static bool same_way(const xft_fit *a, const xft_fit *b) {
    return a->num_experts == b->num_experts && a->top_k == b->top_k && a->precision == b->precision &&
           a->grad_dtype == b->grad_dtype;
}

/* A line per way of training: the micro-batch without and with recomputation. */
static void print_fits(const xft_fit *fits, uint32_t count, const char *const *precisions) {
    printf("%8s %6s  %-18s %-9s %11s %10s %15s %10s\n", "experts", "top-k", "precision", "gradients", "micro-batch",
           "total", "with recompute", "total");
    for (uint32_t i = 0; i < count; i++) {
        const xft_fit *f = &fits[i], *with = f->recompute ? f : i + 1 < count && same_way(f, f + 1) ? f + 1 : NULL;
        printf("%8u %6u  %-18s %-9s", f->num_experts, f->top_k, precisions[f->precision],
               f->grad_dtype == XFT_BF16 ? "bf16" : "f32");
        if (f->recompute)
            printf(" %11s %10s", "-", "");
        else
            printf(" %11u %10s", f->sequences, size_text(f->plan.total));
        if (with) printf(" %15u %10s", with->sequences, size_text(with->plan.total));
        printf("\n");
        i += with == f + 1;
    }
    if (!count) printf("nothing, not even one sequence\n");
}

static xft_status plan_fit(const call *call, const xft_config *config, uint64_t bytes, json_t *rows) {
    static const char *const precisions[] = {"f32", "bf16, f32 masters", "bf16, stochastic", "bf16, nearest"};
    xft_values v;
    xft_fit fits[XFT_MOST_FITS];
    uint32_t count = XFT_MOST_FITS;
    xft_status status = xft_settings_resolve(call->settings, XFT_STAGE_TUNE, &v);
    if (status) return status;
    const uint32_t length = v.length < config->max_positions ? (uint32_t)v.length : config->max_positions;
    const xft_train_options options = {.optimizer = (xft_optimizer)v.optimizer, .max_norm = (float)v.max_norm};
    status = xft_plan_fit(config, &options, length, bytes, fits, &count);
    if (status) return status;
    if (!call->json) {
        printf("\nTuning a MoE within %s, sequences of %u tokens, %s:\n", size_text(bytes), length,
               v.optimizer ? "adamw" : "adafactor");
        print_fits(fits, count, precisions);
        return XFT_OK;
    }
    for (uint32_t i = 0; i < count; i++) {
        const xft_fit *f = &fits[i];
        json_array_append_new(rows, json_pack("{s:i,s:i,s:s,s:s,s:b,s:i,s:I}", "experts", (int)f->num_experts, "top_k",
                                              (int)f->top_k, "precision", precisions[f->precision], "grad_dtype",
                                              f->grad_dtype == XFT_BF16 ? "bf16" : "f32", "recompute", f->recompute,
                                              "micro_batch", (int)f->sequences, "total", (json_int_t)f->plan.total));
    }
    return XFT_OK;
}

/* ---- The command ---- */

static xft_status plan(call *call, const xft_values *v, const xft_config *config, uint64_t fit, xft_device *device,
                       json_t *o) {
    uint64_t total, available;
    bool told;
    json_t *stages = json_array(), *fits = json_array();
    json_object_set_new(o, "stages", stages);
    if (fit) json_object_set_new(o, "fit", fits);
    const xft_device_info *info = xft_device_get_info(device);
    xft_status status = xft_device_memory(device, &total, &available, &told);
    if (status) return status;
    json_object_set_new(o, "device", json_string(info->id));
    json_object_set_new(o, "memory", json_integer((json_int_t)total));
    json_object_set_new(o, "memory_available", json_integer((json_int_t)available));
    if (!call->json)
        printf("%s on %s %s: %s of %s free%s\n", v->model, info->id, info->name, size_text(available), size_text(total),
               told ? "" : " (an estimate)");
    status = plan_stages(call, device, config, stages);
    if (status == XFT_OK && fit) status = plan_fit(call, config, fit, fits);
    if (!fit) json_decref(fits);
    return status;
}

int run_plan(call *call) {
    xft_values v;
    xft_config config;
    xft_device *device = NULL;
    uint64_t fit = 0;
    char *json = NULL;
    const char *size = call_option(call, OPTION_FIT);
    if ((size && xft_parse_bytes(size, &fit)) || xft_settings_need(call->settings, XFT_STAGE_TUNE, "model") ||
        xft_settings_resolve(call->settings, XFT_STAGE_TUNE, &v))
        return fail(EXIT_USAGE, "%s%s", size && !fit ? "--fit: " : "", xft_error());
    xft_status status = xft_checkpoint_config(v.model, &json, &config);
    if (status == XFT_OK && fit && config.num_experts)
        return free(json), fail(EXIT_USAGE, "--fit is for a dense model; %s is a MoE", v.model);
    if (status == XFT_OK) status = xft_device_open(v.device, NULL, &device);
    json_t *o = json_pack("{s:s}", "model", v.model);
    if (status == XFT_OK) status = plan(call, &v, &config, fit, device, o);
    xft_device_close(device);
    free(json);
    if (status == XFT_OK && call->json) return print_json(o);
    json_decref(o);
    return status == XFT_OK ? EXIT_DONE : fail_status(status);
}
