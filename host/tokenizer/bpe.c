#include "tokenizer/tokenizer.h"

#include "error.h"

/* Symbols are a linked list; those merged into their left neighbour have id NO_ID. */
typedef struct symbol {
    uint32_t id, previous, next; /* NO_ID at the ends */
} symbol;

/* A merge that was possible when it was queued. Lower keys go first: rank, then position. */
typedef struct candidate {
    uint64_t key; /* rank << 32 | position of the left symbol */
    uint32_t result;
} candidate;

static symbol *symbols_of(const bpe_work *w) {
    return (symbol *)(void *)w->symbols.data;
}

static void add_symbol(bpe_work *w, uint32_t id) {
    uint32_t at = (uint32_t)(w->symbols.size / sizeof(symbol));
    symbol s = {id, at ? at - 1 : NO_ID, NO_ID};
    xft_array_append(&w->symbols, &s, sizeof s);
    if (at && !w->symbols.failed) symbols_of(w)[at - 1].next = at;
}

/* ---- A binary heap ---- */

static void push(array *queue, candidate c) {
    size_t at = queue->size / sizeof c;
    if (!xft_array_extend(queue, sizeof c)) return;
    candidate *heap = (candidate *)(void *)queue->data;
    for (; at && heap[(at - 1) / 2].key > c.key; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    heap[at] = c;
}

static candidate pop(array *queue) {
    candidate *heap = (candidate *)(void *)queue->data, top = heap[0];
    queue->size -= sizeof top;
    size_t count = queue->size / sizeof top, at = 0;
    candidate last = heap[count];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && heap[child + 1].key < heap[child].key) child++;
        if (heap[child].key >= last.key) break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return top;
}

/* ---- Merging ---- */

static void queue_merge(const bpe *model, bpe_work *w, uint32_t at) {
    const symbol *s = symbols_of(w);
    const merge *m = xft_vocabulary_find_merge(&model->vocabulary, s[at].id, s[s[at].next].id);
    if (m) push(&w->queue, (candidate){(uint64_t)m->rank << 32 | at, m->result});
}

static void merge_symbols(const bpe *model, bpe_work *w) {
    symbol *s = symbols_of(w);
    w->queue.size = 0;
    for (uint32_t at = 0; s[at].next != NO_ID; at++) queue_merge(model, w, at);
    while (w->queue.size && !w->queue.failed) {
        candidate c = pop(&w->queue);
        uint32_t at = (uint32_t)c.key, next = s[at].next;
        if (s[at].id == NO_ID || next == NO_ID) continue;
        /* Stale entries are told by the result alone, as the reference does: one left from another pair with the same
         * result is still good. */
        const merge *m = xft_vocabulary_find_merge(&model->vocabulary, s[at].id, s[next].id);
        if (!m || m->result != c.result) continue;
        s[at].id = c.result;
        s[at].next = s[next].next;
        if (s[at].next != NO_ID) s[s[at].next].previous = at;
        s[next].id = NO_ID;
        if (s[at].previous != NO_ID) queue_merge(model, w, s[at].previous);
        if (s[at].next != NO_ID) queue_merge(model, w, at);
    }
}

static bool add_bytes(const bpe *model, bpe_work *w, const char *text, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (model->vocabulary.bytes[(uint8_t)text[i]] == NO_ID) return false;
    for (size_t i = 0; i < size; i++) add_symbol(w, model->vocabulary.bytes[(uint8_t)text[i]]);
    return true;
}

/* One symbol per character. An unknown one waits, so that further ones can be fused with it, until the next character
 * that has a token of its own: bytes that come meanwhile go first, as in the reference. */
static void add_symbols(const bpe *model, bpe_work *w, const char *text, size_t size) {
    const vocabulary *v = &model->vocabulary;
    bool waiting = false;
    w->symbols.size = 0;
    for (size_t i = 0, length; i < size; i += length) {
        uint32_t c = xft_utf8_read(text + i, &length);
        uint32_t id = c < sizeof v->characters / sizeof *v->characters
                          ? v->characters[c]
                          : xft_vocabulary_find_in_model(v, text + i, length);
        if (id == NO_ID && model->byte_fallback && add_bytes(model, w, text + i, length)) continue;
        if (id == NO_ID && model->unk == NO_ID) continue;
        if (waiting && (id != NO_ID || !model->fuse_unk)) add_symbol(w, model->unk);
        waiting = id == NO_ID;
        if (!waiting) add_symbol(w, id);
    }
    if (waiting) add_symbol(w, model->unk);
}

xft_status xft_bpe_encode(const bpe *model, bpe_work *w, const char *text, size_t size, array *ids) {
    XFT_FAIL_IF(size >= NO_ID, XFT_ERROR_UNSUPPORTED, "tokenizer: a piece of %zu bytes; at most %u can be merged", size,
                NO_ID - 1);
    uint32_t whole = model->ignore_merges ? xft_vocabulary_find_in_model(&model->vocabulary, text, size) : NO_ID;
    if (whole != NO_ID) {
        xft_array_append_u32(ids, whole);
        return XFT_OK;
    }
    add_symbols(model, w, text, size);
    XFT_TRY(xft_array_check(&w->symbols));
    if (w->symbols.size == 0) return XFT_OK;
    merge_symbols(model, w);
    XFT_TRY(xft_array_check(&w->queue));
    const symbol *s = symbols_of(w);
    for (uint32_t at = 0; at != NO_ID; at = s[at].next) xft_array_append_u32(ids, s[at].id);
    return XFT_OK;
}
