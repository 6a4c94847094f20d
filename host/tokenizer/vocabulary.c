#include "tokenizer/tokenizer.h"

#include "error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t x) {
    x ^= x >> 32;
    x *= 0x9e3779b97f4a7c15u;
    return x ^ x >> 29;
}

static uint64_t hash_text(const char *text, size_t size) {
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return mix(hash);
}

/* Slots of a hash table that is at most half full. */
static size_t slots_for(size_t count) {
    size_t slots = 16;
    while (slots < 2 * count) slots *= 2;
    return slots;
}

xft_status xft_vocabulary_reserve(vocabulary *v, uint32_t size) {
    v->slot_count = slots_for(size);
    v->tokens = calloc(size ? size : 1, sizeof *v->tokens);
    v->slots = malloc(v->slot_count * sizeof *v->slots);
    XFT_FAIL_IF(!v->tokens || !v->slots, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a vocabulary of %u", size);
    memset(v->slots, 0xff, v->slot_count * sizeof *v->slots); /* NO_ID */
    v->room = size;
    return XFT_OK;
}

/* The slot that holds a token, or the empty one where it belongs. */
static uint32_t *find_slot(const vocabulary *v, const char *text, size_t size) {
    for (size_t i = hash_text(text, size);; i++) {
        uint32_t *slot = &v->slots[i & (v->slot_count - 1)];
        if (*slot == NO_ID) return slot;
        const token *t = &v->tokens[*slot];
        if (t->size == size && memcmp(t->text, text, size) == 0) return slot;
    }
}

xft_status xft_vocabulary_add(vocabulary *v, const char *text, size_t size, uint32_t id) {
    char *copy = malloc(size + 1);
    XFT_FAIL_IF(!copy, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a token of %zu bytes", size);
    memcpy(copy, text, size);
    copy[size] = 0;
    *find_slot(v, text, size) = id;
    v->tokens[id] = (token){.text = copy, .size = (uint32_t)size};
    if (id >= v->size) v->size = id + 1;
    return XFT_OK;
}

uint32_t xft_vocabulary_find(const vocabulary *v, const char *text, size_t size) {
    return *find_slot(v, text, size);
}

uint32_t xft_vocabulary_find_in_model(const vocabulary *v, const char *text, size_t size) {
    uint32_t id = xft_vocabulary_find(v, text, size);
    return id != NO_ID && v->tokens[id].outside_model ? NO_ID : id;
}

void xft_vocabulary_index_characters(vocabulary *v) {
    char text[8];
    for (uint32_t c = 0; c < sizeof v->characters / sizeof *v->characters; c++) {
        array a = {.data = text, .room = sizeof text};
        xft_utf8_append(&a, c);
        v->characters[c] = xft_vocabulary_find(v, text, a.size);
    }
    for (int byte = 0; byte < 256; byte++)
        v->bytes[byte] = xft_vocabulary_find(v, text, (size_t)snprintf(text, sizeof text, "<0x%02X>", byte));
}

/* ---- Merges ---- */

xft_status xft_vocabulary_reserve_merges(vocabulary *v, size_t count) {
    v->merge_slots = slots_for(count);
    v->merges = malloc(v->merge_slots * sizeof *v->merges);
    XFT_FAIL_IF(!v->merges, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %zu merges", count);
    memset(v->merges, 0xff, v->merge_slots * sizeof *v->merges);
    return XFT_OK;
}

static merge *find_merge(const vocabulary *v, uint32_t left, uint32_t right) {
    for (size_t i = mix((uint64_t)left << 32 | right);; i++) {
        merge *m = &v->merges[i & (v->merge_slots - 1)];
        if (m->rank == NO_ID || (m->left == left && m->right == right)) return m;
    }
}

void xft_vocabulary_add_merge(vocabulary *v, uint32_t left, uint32_t right, uint32_t rank, uint32_t result) {
    *find_merge(v, left, right) = (merge){left, right, rank, result};
}

const merge *xft_vocabulary_find_merge(const vocabulary *v, uint32_t left, uint32_t right) {
    const merge *m = find_merge(v, left, right);
    return m->rank == NO_ID ? NULL : m;
}

void xft_vocabulary_free(vocabulary *v) {
    for (uint32_t id = 0; id < v->size; id++) free(v->tokens[id].text);
    free(v->tokens);
    free(v->slots);
    free(v->merges);
    *v = (vocabulary){0};
}
