/* The description of a folder (xft_inspect) for a person. */
#include "error.h"
#include "xft/inspect.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double number(const json_t *o, const char *key) {
    const json_t *value = json_object_get(o, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static const char *word(const json_t *o, const char *key) {
    const char *text = json_string_value(json_object_get(o, key));
    return text ? text : "?";
}

static void print_config(FILE *out, const json_t *c) {
    if (!json_object_size(c)) return;
    fprintf(out, "%s: %g layers, hidden size %g, FFN %g, %g heads on %g of size %g, vocabulary %g, %g positions\n",
            word(c, "family"), number(c, "num_layers"), number(c, "hidden_size"), number(c, "intermediate_size"),
            number(c, "num_heads"), number(c, "num_kv_heads"), number(c, "head_size"), number(c, "vocab_size"),
            number(c, "max_positions"));
    fprintf(out, "RoPE theta %g, scaling %s; %s head; stored as %s\n", number(c, "rope_theta"), word(c, "rope_scaling"),
            json_is_true(json_object_get(c, "tied_head")) ? "tied" : "own", word(c, "dtype"));
    if (json_object_get(c, "num_experts"))
        fprintf(out, "mixture of %g experts, %g per token; gate %s (%s), router noise %s, lambda %g\n",
                number(c, "num_experts"), number(c, "top_k"), word(c, "gate"), word(c, "gate_network"),
                json_is_true(json_object_get(c, "noise")) ? "on" : "off", number(c, "lambda"));
}

static void print_tensors(FILE *out, const json_t *list, bool all) {
    const json_t *t;
    size_t index, width = 6;
    bool headed = false;
    json_array_foreach(list, index, t) if (strlen(word(t, "name")) > width) width = strlen(word(t, "name"));
    json_array_foreach(list, index, t) {
        double nan = number(t, "nan"), inf = number(t, "inf");
        if (!all && !(nan > 0) && !(inf > 0)) continue;
        if (!headed)
            fprintf(out, "\n%-*s  %-5s %-16s %8s %10s %10s %10s  %s\n", (int)width, "tensor", "dtype", "shape", "MB",
                    "norm", "mean", "largest", "NaN/inf");
        headed = true;
        char *shape = json_dumps(json_object_get(t, "shape"), JSON_COMPACT);
        fprintf(out, "%-*s  %-5s %-16s %8.2f %10.4g %10.2e %10.4g  %g/%g\n", (int)width, word(t, "name"),
                word(t, "dtype"), shape ? shape : "", number(t, "bytes") / 1e6, number(t, "norm"), number(t, "mean"),
                number(t, "largest"), nan, inf);
        free(shape);
    }
}

/* Smallest and greatest cosine of two different experts. */
static void extremes(const json_t *cosine, double *least, double *greatest) {
    const json_t *row;
    size_t e;
    *least = INFINITY;
    *greatest = -INFINITY;
    json_array_foreach(cosine, e, row) for (size_t f = 0; f < e; f++) {
        double x = json_number_value(json_array_get(row, f));
        *least = fmin(*least, x);
        *greatest = fmax(*greatest, x);
    }
}

static void print_alpha(FILE *out, size_t layer, const json_t *alpha) {
    const json_t *x;
    size_t i;
    fprintf(out, "%5zu ", layer);
    json_array_foreach(alpha, i, x) fprintf(out, " %.4f", json_number_value(x));
    fputc('\n', out);
}

static void print_layers(FILE *out, const json_t *layers) {
    const json_t *layer;
    size_t index;
    fprintf(out, "\nlayer  |W1|     |W2|     |Wn|     noise   cosine of experts    distance of expert 1, 2, … from the "
                 "shared one\n");
    json_array_foreach(layers, index, layer) {
        const json_t *router = json_object_get(layer, "router"), *distance = json_object_get(layer, "distance"), *x;
        double least, greatest;
        size_t e;
        extremes(json_object_get(layer, "cosine"), &least, &greatest);
        fprintf(out, "%5g  %-7.4g  %-7.4g  %-7.4g  %-6.3g  %.6f-%.6f  ", number(layer, "layer"),
                number(router, "w1_norm"), number(router, "w2_norm"), number(router, "noise_norm"),
                number(router, "noise"), least, greatest);
        json_array_foreach(distance, e, x) if (e) fprintf(out, " %.2e", json_number_value(x));
        fputc('\n', out);
    }
    if (!json_object_get(json_array_get(layers, 0), "alpha")) return;
    fprintf(out, "\nlayer  mixing coefficients alpha of expert 1, 2, …\n");
    json_array_foreach(layers, index, layer) print_alpha(out, index, json_object_get(layer, "alpha"));
}

static void print_merge(FILE *out, const json_t *merge) {
    const json_t *loss = json_object_get(merge, "loss"), *row;
    size_t layer;
    fprintf(out,
            "\nmerged with %s coefficients, lambda %g; loss %.4f, with uniform ones %.4f, shared expert alone %.4f\n",
            word(merge, "kind"), number(merge, "lambda"), number(loss, "mixed"), number(loss, "uniform"),
            number(loss, "shared"));
    fprintf(out, "layer  alpha of expert 1, 2, …\n");
    json_array_foreach(json_object_get(merge, "alpha"), layer, row) print_alpha(out, layer, row);
}

static void print_problems(FILE *out, const json_t *problems) {
    const json_t *x;
    size_t i;
    if (json_array_size(problems)) fprintf(out, "\nproblems:\n");
    json_array_foreach(problems, i, x) fprintf(out, "  %s\n", json_string_value(x));
}

xft_status xft_inspect_text(const char *json, bool tensors, char **text) {
    XFT_FAIL_IF(!json || !text, XFT_ERROR_INVALID_ARGUMENT, "xft_inspect_text: json and text must not be NULL");
    json_error_t error;
    json_t *root = json_loads(json, 0, &error);
    XFT_FAIL_IF(!root, XFT_ERROR_FORMAT, "xft_inspect_text: line %d: %s", error.line, error.text);
    size_t size;
    *text = NULL;
    FILE *out = open_memstream(text, &size);
    if (!out) {
        json_decref(root);
        return xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the description");
    }
    const json_t *totals = json_object_get(root, "totals");
    fprintf(out, "%s: %.4g million parameters in %g tensors, %.1f MB; %g NaN, %g infinite\n", word(root, "folder"),
            number(root, "parameters") / 1e6, number(totals, "tensors"), number(root, "bytes") / 1e6,
            number(totals, "nan"), number(totals, "inf"));
    print_config(out, json_object_get(root, "config"));
    print_tensors(out, json_object_get(root, "tensors"), tensors);
    if (json_object_get(root, "layers")) print_layers(out, json_object_get(root, "layers"));
    if (json_object_get(root, "merge")) print_merge(out, json_object_get(root, "merge"));
    print_problems(out, json_object_get(root, "problems"));
    bool ok = fclose(out) == 0;
    json_decref(root);
    XFT_FAIL_IF(!ok || !*text, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the description");
    return XFT_OK;
}
