#include "oracle.h"

#include "error.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Opening ---- */

xft_status oracle_open(oracle *o, const char *folder, xft_device *device) {
    *o = (oracle){.device = device, .prefix = ""};
    snprintf(o->folder, sizeof o->folder, "%s", folder);
    char path[600];
    snprintf(path, sizeof path, "%s/case.json", folder);
    json_error_t error;
    o->root = json_load_file(path, 0, &error);
    XFT_FAIL_IF(!o->root, XFT_ERROR_FORMAT, "%s: %s", path, error.text);
    o->kind = json_string_value(json_object_get(o->root, "kind"));
    o->params = json_object_get(o->root, "params");
    o->checks = json_object_get(o->root, "checks");
    XFT_FAIL_IF(!o->kind || !json_array_size(o->checks), XFT_ERROR_FORMAT, "%s: no kind or no checks", path);
    o->seen = calloc(json_array_size(o->checks), sizeof *o->seen);
    snprintf(path, sizeof path, "%s/inputs.safetensors", folder);
    XFT_TRY(xft_safetensors_open(path, &o->inputs));
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    return xft_safetensors_open(path, &o->expected);
}

void oracle_close(oracle *o) {
    xft_safetensors_close(o->inputs);
    xft_safetensors_close(o->expected);
    json_decref(o->root);
    free(o->seen);
}

/* ---- Inputs ---- */

static uint64_t elements(const xft_stored_tensor *t) {
    return t->bytes / xft_stored_dtype_size(t->dtype);
}

int64_t *oracle_integers(const oracle *o, const char *name, uint64_t *count) {
    const xft_stored_tensor *t = xft_safetensors_find(o->inputs, name);
    if (!t) return NULL;
    int64_t *values = malloc(elements(t) * sizeof *values + 8);
    if (xft_stored_read_i64(t, 0, elements(t), values)) abort();
    if (count) *count = elements(t);
    return values;
}

float *oracle_floats(const oracle *o, const char *name, uint64_t *count) {
    const xft_stored_tensor *t = xft_safetensors_find(o->inputs, name);
    if (!t) return NULL;
    float *values = malloc(elements(t) * sizeof *values + 8);
    if (xft_stored_read_f32(t, 0, elements(t), values)) abort();
    if (count) *count = elements(t);
    return values;
}

double oracle_number(const oracle *o, const char *name, double absent) {
    json_t *value = json_object_get(o->params, name);
    return json_is_number(value) ? json_number_value(value) : absent;
}

const char *oracle_text(const oracle *o, const char *name) {
    const char *text = json_string_value(json_object_get(o->params, name));
    return text ? text : "";
}

xft_status oracle_model(const oracle *o, const char *name, bool mixing, xft_model **model) {
    char path[600];
    snprintf(path, sizeof path, "%s/%s", o->folder, name);
    return xft_checkpoint_load(o->device, path, &(xft_load_options){.mixing = mixing}, model);
}

/* Labels of the files are not shifted: row t predicts labels[t+1] of its own sequence. */
static void shift_labels(oracle_batch *b, const int64_t *labels) {
    for (uint32_t t = 0; t < b->batch.tokens; t++) b->labels[t] = UINT32_MAX;
    for (uint32_t i = 0; i < b->batch.sequences; i++)
        for (uint32_t t = b->cu_seqlens[i]; t + 1 < b->cu_seqlens[i + 1]; t++) {
            if (labels[t + 1] < 0) continue;
            b->labels[t] = (uint32_t)labels[t + 1];
            b->label_count++;
        }
}

xft_status oracle_batch_make(const oracle *o, uint32_t m, const xft_config *c, bool zero_noise, oracle_batch *b) {
    const xft_stored_tensor *stored = xft_safetensors_find(o->inputs, "input_ids");
    XFT_FAIL_IF(!stored, XFT_ERROR_FORMAT, "%s: no input_ids", o->folder);
    *b = (oracle_batch){.rows = 1};
    b->length = (uint32_t)stored->shape[stored->rank - 1];
    if (stored->rank > 1) b->rows = (uint32_t)stored->shape[stored->rank - 2];
    uint32_t T = b->rows * b->length;
    uint64_t sequences = b->rows;
    int64_t *cu = oracle_integers(o, "cu_seqlens", &sequences);
    if (cu) sequences--;
    b->batch = (xft_batch){.tokens = T, .sequences = (uint32_t)sequences};
    b->ids = calloc(T, sizeof *b->ids);
    b->labels = calloc(T, sizeof *b->labels);
    b->cu_seqlens = calloc(sequences + 1, sizeof *b->cu_seqlens);
    b->lengths = calloc(sequences, sizeof *b->lengths);
    b->mask = oracle_integers(o, "attention_mask", NULL);
    int64_t *ids = oracle_integers(o, "input_ids", NULL), *labels = oracle_integers(o, "labels", NULL);
    for (uint32_t t = 0; t < T; t++) b->ids[t] = (uint32_t)ids[(size_t)m * T + t];
    for (uint32_t i = 0; i <= sequences; i++) b->cu_seqlens[i] = cu ? (uint32_t)cu[i] : i * b->length;
    for (uint32_t i = 0; i < sequences; i++)
        for (uint32_t t = b->cu_seqlens[i]; t < b->cu_seqlens[i + 1]; t++)
            b->lengths[i] += b->mask ? (uint32_t)b->mask[t] : 1;
    if (labels) shift_labels(b, labels + (size_t)m * T);
    free(ids);
    free(labels);
    free(cu);
    b->batch.ids = b->ids;
    b->batch.labels = b->labels;
    b->batch.cu_seqlens = b->cu_seqlens;
    b->batch.lengths = b->lengths;
    if (!c->num_experts || !(xft_safetensors_find(o->inputs, "noise.0") || zero_noise)) return XFT_OK;
    uint32_t routed = xft_config_routed(c);
    b->noise = calloc((size_t)c->num_layers * T * routed, sizeof *b->noise);
    b->noise_rows = calloc(c->num_layers, sizeof *b->noise_rows);
    for (uint32_t l = 0; l < c->num_layers; l++) {
        char name[40];
        snprintf(name, sizeof name, "noise.%u", l);
        float *noise = oracle_floats(o, name, NULL), *to = b->noise + (size_t)l * T * routed;
        if (noise) memcpy(to, noise + (size_t)m * T * routed, (size_t)T * routed * sizeof *to);
        free(noise);
        b->noise_rows[l] = to;
    }
    b->batch.noise = b->noise_rows;
    return XFT_OK;
}

void oracle_batch_free(oracle_batch *b) {
    free(b->ids);
    free(b->labels);
    free(b->cu_seqlens);
    free(b->lengths);
    free(b->noise);
    free(b->noise_rows);
    free(b->mask);
    *b = (oracle_batch){0};
}

/* ---- Judging ---- */

static const char *field(json_t *check, const char *name) {
    const char *text = json_string_value(json_object_get(check, name));
    return text ? text : "";
}

/* Does check `name` stand for quantity `wanted` in the variant at hand? */
static bool stands_for(const oracle *o, const char *name, const char *wanted) {
    size_t n = strlen(o->prefix);
    if (!strcmp(name, wanted)) return true;
    if (n && !strncmp(name, "both.", 5) && !strcmp(name + 5, wanted)) return true;
    return n && !strncmp(name, o->prefix, n) && !strcmp(name + n, wanted);
}

static double tolerance_of(json_t *check, uint64_t i) {
    json_t *tolerance = json_object_get(check, "tolerance");
    return json_number_value(json_is_array(tolerance) ? json_array_get(tolerance, i) : tolerance);
}

/* metric / tolerance; infinite where the tolerance is 0 and the metric is not. */
static double ratio(double metric, double tolerance) {
    if (!isfinite(metric)) return INFINITY;
    return metric == 0 ? 0 : metric / tolerance;
}

/* Worst metric / tolerance of a check, and the metric at that place. */
static double judge(json_t *check, const double *a, const double *b, uint64_t n, double *metric) {
    const char *kind = field(check, "metric");
    double worst = 0, squares = 0, expected = 0, differing = 0;
    *metric = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (!isfinite(a[i])) {
            *metric = a[i];
            return INFINITY;
        }
        double difference = fabs(a[i] - b[i]), value = 0;
        if (!strcmp(kind, "rel")) value = difference == 0 ? 0 : difference / fabs(b[i]);
        if (!strcmp(kind, "abs")) value = difference;
        squares += difference * difference;
        expected += b[i] * b[i];
        differing += difference != 0;
        if (ratio(value, tolerance_of(check, i)) > worst) {
            worst = ratio(value, tolerance_of(check, i));
            *metric = value;
        }
    }
    if (!strcmp(kind, "nmse")) worst = ratio(*metric = squares == 0 ? 0 : squares / expected, tolerance_of(check, 0));
    if (!strcmp(kind, "exact")) worst = ratio(*metric = differing, 0);
    return worst;
}

static void compare_one(oracle *o, json_t *check, const double *values, uint64_t count) {
    const char *name = field(check, "name");
    const xft_stored_tensor *t = xft_safetensors_find(o->expected, name);
    double metric = NAN, worst = INFINITY;
    if (t && elements(t) == count) {
        double *a = malloc(count * sizeof *a), *b = malloc(count * sizeof *b);
        float *floats = malloc(count * sizeof *floats);
        int64_t *integers = malloc(count * sizeof *integers);
        bool real = xft_stored_read_f32(t, 0, count, floats) == XFT_OK;
        if (!real && xft_stored_read_i64(t, 0, count, integers)) abort();
        uint64_t mask_count = 0;
        const char *rows = *field(check, "rows") ? field(check, "rows") : o->hidden;
        int64_t *mask = rows ? oracle_integers(o, rows, &mask_count) : NULL;
        for (uint64_t i = 0; i < count; i++) {
            bool hidden = mask && !mask[i / (count / mask_count)]; /* padding: expected is 0, or of the other variant */
            a[i] = hidden ? 0 : values[i];
            b[i] = hidden ? 0 : real ? (double)floats[i] : (double)integers[i];
        }
        worst = judge(check, a, b, count, &metric);
        free(mask);
        free(integers);
        free(floats);
        free(b);
        free(a);
    }
    if (worst > o->worst || !*o->worst_name) {
        o->worst = worst;
        snprintf(o->worst_name, sizeof o->worst_name, "%s %.1e/%.0e", name, metric, tolerance_of(check, 0));
    }
    if (worst <= 1) return;
    if (!o->failed++)
        snprintf(o->message, sizeof o->message, "%s%s%s: %s %g, tolerance %g (%llu values computed, %llu expected)",
                 o->prefix, *o->prefix ? " run: " : "", name, field(check, "metric"), metric, tolerance_of(check, 0),
                 (unsigned long long)count, (unsigned long long)(t ? elements(t) : 0));
}

static void compare(oracle *o, const double *values, uint64_t count, const char *wanted) {
    for (size_t i = 0; i < json_array_size(o->checks); i++) {
        json_t *check = json_array_get(o->checks, i);
        if (!stands_for(o, field(check, "name"), wanted)) continue;
        o->seen[i] = true;
        compare_one(o, check, values, count);
    }
}

#define FORMATTED(name)                                                                                                \
    char name[200];                                                                                                    \
    va_list arguments;                                                                                                 \
    va_start(arguments, format);                                                                                       \
    vsnprintf(name, sizeof name, format, arguments);                                                                   \
    va_end(arguments)

void oracle_compare(oracle *o, const double *values, uint64_t count, const char *format, ...) {
    FORMATTED(wanted);
    compare(o, values, count, wanted);
}

xft_status oracle_compare_tensor(oracle *o, const xft_tensor *tensor, const char *format, ...) {
    FORMATTED(wanted);
    uint64_t count = (uint64_t)xft_rows(tensor) * xft_cols(tensor);
    float *values = malloc(count * sizeof *values);
    double *wide = malloc(count * sizeof *wide);
    xft_status status = xft_tensor_read(tensor, tensor->dtype == XFT_U32 ? XFT_U32 : XFT_F32, values);
    for (uint64_t i = 0; i < count && status == XFT_OK; i++) {
        int32_t integer;
        memcpy(&integer, &values[i], 4);
        wide[i] = tensor->dtype == XFT_U32 ? (double)integer : (double)values[i];
    }
    if (status == XFT_OK) compare(o, wide, count, wanted);
    free(wide);
    free(values);
    return status;
}

bool oracle_wants(const oracle *o, const char *format, ...) {
    FORMATTED(wanted);
    for (size_t i = 0; i < json_array_size(o->checks); i++)
        if (stands_for(o, field(json_array_get(o->checks, i), "name"), wanted)) return true;
    return false;
}

/* ---- Running ---- */

static const struct {
    const char *kind;
    xft_status (*run)(oracle *o);
} kinds[] = {
    {"dense", oracle_run_model},          {"packed", oracle_run_model},         {"moe_train", oracle_run_model},
    {"merge", oracle_run_model},          {"moe_eval", oracle_run_moe_eval},    {"upcycle", oracle_run_upcycle},
    {"generate", oracle_run_generate},    {"train_dense", oracle_run_training}, {"train_moe", oracle_run_training},
    {"train_merge", oracle_run_training}, {"optimizer", oracle_run_optimizer},  {"schedule", oracle_run_schedule},
    {"clipping", oracle_run_clipping},
};

xft_status oracle_run(oracle *o) {
    size_t k = 0;
    while (k < sizeof kinds / sizeof *kinds && strcmp(kinds[k].kind, o->kind)) k++;
    XFT_FAIL_IF(k == sizeof kinds / sizeof *kinds, XFT_ERROR_FORMAT, "%s: kind %s is unknown", o->folder, o->kind);
    json_t *variants = json_object_get(o->params, "variants");
    size_t count = json_array_size(variants);
    for (size_t i = 0; i < (count ? count : 1); i++) {
        const char *variant = json_string_value(json_array_get(variants, i));
        /* both: the variants agree, and each of them is held to that */
        bool both = variant && !strcmp(variant, "both");
        for (int pass = 0; pass < (both ? 2 : 1); pass++) {
            if (both) variant = pass ? "official" : "corrected";
            o->prefix = !variant ? "" : !strcmp(variant, "official") ? "official." : "corrected.";
            XFT_TRY(kinds[k].run(o));
        }
    }
    for (size_t i = 0; i < json_array_size(o->checks); i++)
        if (!o->seen[i] && !o->failed++)
            snprintf(o->message, sizeof o->message, "%s was not computed", field(json_array_get(o->checks, i), "name"));
    return XFT_OK;
}
