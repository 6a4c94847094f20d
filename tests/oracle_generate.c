/* Cases of greedy continuation: every prompt alone, then all of them as one batch, whose chunks split the longer ones.
 */
#include "oracle.h"

#include "error.h"
#include "xft/generate.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_PROMPTS = 16 };

typedef struct prompts {
    uint32_t *ids[MOST_PROMPTS], lengths[MOST_PROMPTS], count, longest;
} prompts;

static void read_prompts(const oracle *o, prompts *p) {
    *p = (prompts){0};
    while (p->count < MOST_PROMPTS) {
        char name[40];
        uint64_t length;
        snprintf(name, sizeof name, "prompt.%u", p->count);
        int64_t *values = oracle_integers(o, name, &length);
        if (!values) return;
        p->ids[p->count] = calloc(length, sizeof(uint32_t));
        for (uint64_t i = 0; i < length; i++) p->ids[p->count][i] = (uint32_t)values[i];
        p->lengths[p->count++] = (uint32_t)length;
        if (length > p->longest) p->longest = (uint32_t)length;
        free(values);
    }
}

/* `count` prompts from `first` at once. */
static xft_status continue_prompts(oracle *o, xft_model *model, const prompts *p, uint32_t first, uint32_t count,
                                   uint32_t chunk) {
    const uint32_t new_tokens = (uint32_t)oracle_number(o, "new_tokens", 0);
    const xft_generator_options options = {.batch = count, .capacity = p->longest + new_tokens, .chunk = chunk};
    uint32_t *ids = calloc((size_t)count * new_tokens, sizeof *ids), counts[MOST_PROMPTS];
    double *values = calloc(new_tokens, sizeof *values);
    xft_generator *g;
    xft_status status = xft_generator_create(model, &options, &g);
    if (status == XFT_OK)
        status = xft_generate(g, (const uint32_t *const *)&p->ids[first], &p->lengths[first], count,
                              &(xft_sampling){.new_tokens = new_tokens}, ids, counts, NULL, NULL);
    for (uint32_t b = 0; b < count && status == XFT_OK; b++) {
        for (uint32_t i = 0; i < new_tokens; i++) values[i] = ids[(size_t)b * new_tokens + i];
        oracle_compare(o, values, counts[b], "ids.%u", first + b);
    }
    xft_generator_destroy(g);
    free(values);
    free(ids);
    return status;
}

xft_status oracle_run_generate(oracle *o) {
    xft_model *model;
    prompts p;
    XFT_TRY(oracle_model(o, "model", false, &model));
    read_prompts(o, &p);
    xft_status status = XFT_OK;
    for (uint32_t i = 0; i < p.count && status == XFT_OK; i++) status = continue_prompts(o, model, &p, i, 1, 0);
    if (status == XFT_OK) status = continue_prompts(o, model, &p, 0, p.count, 4);
    for (uint32_t i = 0; i < p.count; i++) free(p.ids[i]);
    xft_model_destroy(model);
    return status;
}
