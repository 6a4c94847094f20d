/* Samples -> rows -> micro-batches. */
#include "dataset.h"
#include "error.h"

#include <stdlib.h>
#include <string.h>

struct xft_loader {
    const xft_dataset *data;
    xft_loader_options options;
    uint32_t rows;
    uint32_t *row_starts; /* [rows+1]: row r holds the samples members[row_starts[r]] to members[row_starts[r+1]-1] */
    uint32_t *members;    /* [samples] */
    uint32_t *order;      /* [rows] of the epoch `order_epoch`; NULL: none yet */
    uint64_t order_epoch, steps, position;
    uint32_t tokens, sequences; /* of a micro-batch at the most */
    xft_batch *batches;         /* of a step; their arrays lie in `memory` */
    uint32_t *memory;
};

/* ---- Rows ---- */

#define NONE UINT32_MAX

/* Rows with the same room left as lists, and a bit for every room that has one. */
typedef struct packer {
    uint32_t *heads;   /* [length+1]: first row with that room left */
    uint64_t *present; /* bit per room */
    uint32_t *next;    /* [samples]: next row with the same room */
    uint32_t *row_of;  /* [samples] */
    uint32_t length;
} packer;

/* The least room of at least `need` tokens that a row has; NONE: there is no such row. */
static uint32_t best_room(const packer *p, uint32_t need) {
    uint64_t word = need / 64, words = p->length / 64 + 1, bits = p->present[word] & ~(uint64_t)0 << need % 64;
    while (!bits && ++word < words) bits = p->present[word];
    return bits ? (uint32_t)(word * 64 + (uint64_t)__builtin_ctzll(bits)) : NONE;
}

static void put_row(packer *p, uint32_t row, uint32_t room) {
    p->next[row] = p->heads[room];
    p->heads[room] = row;
    p->present[room / 64] |= (uint64_t)1 << room % 64;
}

static void take_row(packer *p, uint32_t room) {
    p->heads[room] = p->next[p->heads[room]];
    if (p->heads[room] == NONE) p->present[room / 64] &= ~((uint64_t)1 << room % 64);
}

/* Best fit, sample by sample: each goes to the fullest row it still fits into. Returns the number of rows. */
static uint32_t pack(packer *p, const xft_dataset *data) {
    uint32_t rows = 0;
    for (uint32_t i = 0; i < data->counts.samples; i++) {
        uint32_t need;
        xft_dataset_tokens(data, i, &need);
        uint32_t room = best_room(p, need), row;
        if (room == NONE) {
            row = rows++;
            room = p->length;
        } else {
            row = p->heads[room];
            take_row(p, room);
        }
        p->row_of[i] = row;
        put_row(p, row, room - need);
    }
    return rows;
}

static xft_status make_packed_rows(xft_loader *l) {
    uint32_t samples = (uint32_t)l->data->counts.samples, length = l->data->length;
    packer p = {.heads = malloc((length + 1u) * sizeof *p.heads),
                .present = calloc(length / 64 + 1, sizeof *p.present),
                .next = malloc(samples * sizeof *p.next),
                .row_of = malloc(samples * sizeof *p.row_of),
                .length = length};
    bool there = p.heads && p.present && p.next && p.row_of;
    if (there) {
        for (uint32_t i = 0; i <= length; i++) p.heads[i] = NONE;
        l->rows = pack(&p, l->data);
        for (uint32_t i = 0; i < samples; i++) l->row_starts[p.row_of[i] + 1]++;
        for (uint32_t r = 0; r < l->rows; r++) l->row_starts[r + 1] += l->row_starts[r];
        uint32_t *at = p.next; /* where the next member of a row goes */
        memcpy(at, l->row_starts, l->rows * sizeof *at);
        for (uint32_t i = 0; i < samples; i++) l->members[at[p.row_of[i]]++] = i;
    }
    free(p.heads);
    free(p.present);
    free(p.next);
    free(p.row_of);
    XFT_FAIL_IF(!there, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory to pack %u samples", samples);
    return XFT_OK;
}

static xft_status make_rows(xft_loader *l) {
    uint32_t samples = (uint32_t)l->data->counts.samples;
    l->row_starts = calloc(samples + 1u, sizeof *l->row_starts);
    l->members = malloc(samples * sizeof *l->members);
    XFT_FAIL_IF(!l->row_starts || !l->members, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u samples", samples);
    if (l->options.packing) return make_packed_rows(l);
    l->rows = samples;
    for (uint32_t i = 0; i < samples; i++) l->row_starts[i + 1] = (l->members[i] = i) + 1;
    return XFT_OK;
}

static uint32_t row_tokens(const xft_loader *l, uint32_t row) {
    uint32_t sum = 0, count;
    for (uint32_t m = l->row_starts[row]; m < l->row_starts[row + 1]; m++) {
        xft_dataset_tokens(l->data, l->members[m], &count);
        sum += count;
    }
    return sum;
}

static int descending(const void *a, const void *b) {
    const uint32_t *x = a, *y = b;
    return *x < *y ? 1 : *x > *y ? -1 : 0;
}

/* The `count` greatest of `values`, summed. */
static uint64_t sum_of_greatest(uint32_t *values, uint32_t size, uint32_t count) {
    uint64_t sum = 0;
    qsort(values, size, sizeof *values, descending);
    for (uint32_t i = 0; i < count && i < size; i++) sum += values[i];
    return sum;
}

/* Whatever rows a shuffle puts together, a micro-batch needs no more room than this. */
static xft_status measure(xft_loader *l) {
    uint32_t most = l->options.micro_batch < l->rows ? l->options.micro_batch : l->rows;
    uint32_t *values = malloc(l->rows * sizeof *values);
    XFT_FAIL_IF(!values, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u rows", l->rows);
    for (uint32_t r = 0; r < l->rows; r++) values[r] = row_tokens(l, r);
    uint64_t tokens = sum_of_greatest(values, l->rows, most);
    if (l->options.padding) tokens = (uint64_t)most * values[0];
    for (uint32_t r = 0; r < l->rows; r++) values[r] = l->row_starts[r + 1] - l->row_starts[r];
    uint64_t sequences = sum_of_greatest(values, l->rows, most);
    free(values);
    XFT_FAIL_IF(tokens > INT32_MAX, XFT_ERROR_UNSUPPORTED, "micro-batches of %u rows have up to %llu tokens",
                l->options.micro_batch, (unsigned long long)tokens);
    l->tokens = (uint32_t)tokens;
    l->sequences = (uint32_t)sequences;
    return XFT_OK;
}

/* ---- Life ---- */

/* Ids and labels [tokens], cu_seqlens [sequences+1] and lengths [sequences] of a micro-batch. */
static size_t batch_words(const xft_loader *l) {
    return 2 * (size_t)l->tokens + 2 * (size_t)l->sequences + 1;
}

/* Room for the micro-batches of a step. */
static xft_status take_batches(xft_loader *l) {
    uint32_t rows = l->options.batch < l->rows ? l->options.batch : l->rows;
    uint32_t count = (rows - 1) / l->options.micro_batch + 1;
    l->batches = calloc(count, sizeof *l->batches);
    l->memory = malloc(count * batch_words(l) * sizeof *l->memory);
    XFT_FAIL_IF(!l->batches || !l->memory, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u micro-batches of %u tokens",
                count, l->tokens);
    return XFT_OK;
}

xft_status xft_loader_create(const xft_dataset *data, const xft_loader_options *o, xft_loader **loader) {
    XFT_FAIL_IF(!data, XFT_ERROR_INVALID_ARGUMENT, "xft_loader_create: dataset is NULL");
    XFT_FAIL_IF(!o, XFT_ERROR_INVALID_ARGUMENT, "xft_loader_create: options is NULL");
    XFT_NEED(loader);
    *loader = NULL;
    XFT_FAIL_IF(!o->batch || !o->micro_batch, XFT_ERROR_INVALID_ARGUMENT,
                "loader options: batch %u and micro_batch %u must be at least 1", o->batch, o->micro_batch);
    XFT_FAIL_IF(o->packing && o->padding, XFT_ERROR_INVALID_ARGUMENT,
                "loader options: packing and padding exclude each other");
    xft_loader *l = calloc(1, sizeof *l);
    XFT_FAIL_IF(!l, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for a loader");
    l->data = data;
    l->options = *o;
    if (l->options.micro_batch > o->batch) l->options.micro_batch = o->batch;
    xft_status status = make_rows(l);
    if (status == XFT_OK) status = measure(l);
    if (status == XFT_OK) status = take_batches(l);
    if (status != XFT_OK) {
        xft_loader_destroy(l);
        return status;
    }
    l->steps = (l->rows + (uint64_t)o->batch - 1) / o->batch;
    *loader = l;
    return XFT_OK;
}

void xft_loader_destroy(xft_loader *l) {
    if (!l) return;
    free(l->row_starts);
    free(l->members);
    free(l->order);
    free(l->batches);
    free(l->memory);
    free(l);
}

uint32_t xft_loader_tokens(const xft_loader *l) {
    return l ? l->tokens : 0;
}
uint32_t xft_loader_sequences(const xft_loader *l) {
    return l ? l->sequences : 0;
}
uint64_t xft_loader_rows(const xft_loader *l) {
    return l ? l->rows : 0;
}
uint64_t xft_loader_steps(const xft_loader *l) {
    return l ? l->steps : 0;
}
uint64_t xft_loader_position(const xft_loader *l) {
    return l ? l->position : 0;
}

xft_status xft_loader_seek(xft_loader *l, uint64_t position) {
    XFT_FAIL_IF(!l, XFT_ERROR_INVALID_ARGUMENT, "xft_loader_seek: loader must not be NULL");
    XFT_FAIL_IF(position / l->steps > UINT32_MAX, XFT_ERROR_INVALID_ARGUMENT,
                "xft_loader_seek: position %llu lies beyond epoch %u", (unsigned long long)position, UINT32_MAX);
    l->position = position;
    return XFT_OK;
}

/* ---- Micro-batches ---- */

/* One sample at the rows from `at` on, with padding up to `width` rows of tokens. */
static void put_sample(const xft_loader *l, const uint32_t *tokens, uint32_t count, uint32_t width, uint32_t *ids,
                       uint32_t *labels) {
    for (uint32_t i = 0; i < width; i++) {
        ids[i] = i < count ? tokens[i] & ~TOKEN_LABEL : l->options.pad_id;
        labels[i] = i + 1 < count && tokens[i + 1] & TOKEN_LABEL ? tokens[i + 1] & ~TOKEN_LABEL : UINT32_MAX;
    }
}

/* `count` rows as micro-batch `index` of the step. */
static void fill_batch(const xft_loader *l, uint32_t index, const uint32_t *rows, uint32_t count) {
    uint32_t *ids = l->memory + index * batch_words(l), *labels = ids + l->tokens, *cu = labels + l->tokens;
    uint32_t *lengths = cu + l->sequences + 1, width = 0, sequences = 0;
    for (uint32_t r = 0; l->options.padding && r < count; r++) {
        uint32_t tokens = row_tokens(l, rows[r]);
        if (tokens > width) width = tokens;
    }
    cu[0] = 0;
    for (uint32_t r = 0; r < count; r++)
        for (uint32_t m = l->row_starts[rows[r]]; m < l->row_starts[rows[r] + 1]; m++, sequences++) {
            const uint32_t *tokens = xft_dataset_tokens(l->data, l->members[m], &lengths[sequences]);
            uint32_t at = cu[sequences], taken = l->options.padding ? width : lengths[sequences];
            put_sample(l, tokens, lengths[sequences], taken, ids + at, labels + at);
            cu[sequences + 1] = at + taken;
        }
    l->batches[index] = (xft_batch){.tokens = cu[sequences],
                                    .sequences = sequences,
                                    .ids = ids,
                                    .labels = labels,
                                    .cu_seqlens = cu,
                                    .lengths = lengths};
}

/* The order of the rows in an epoch. */
static xft_status prepare_order(xft_loader *l, uint64_t epoch) {
    if (l->order && (!l->options.shuffle || epoch == l->order_epoch)) return XFT_OK;
    uint32_t *order = NULL;
    if (l->options.shuffle)
        XFT_TRY(xft_shuffled(l->options.seed, (uint32_t)epoch, 0, l->rows, &order));
    else {
        order = malloc(l->rows * sizeof *order);
        XFT_FAIL_IF(!order, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u rows", l->rows);
        for (uint32_t i = 0; i < l->rows; i++) order[i] = i;
    }
    free(l->order);
    l->order = order;
    l->order_epoch = epoch;
    return XFT_OK;
}

xft_status xft_loader_next(xft_loader *l, const xft_batch **batches, uint32_t *count) {
    XFT_FAIL_IF(!l, XFT_ERROR_INVALID_ARGUMENT, "xft_loader_next: loader is NULL");
    XFT_NEED(batches, count);
    XFT_TRY(prepare_order(l, l->position / l->steps));
    uint32_t first = (uint32_t)(l->position % l->steps * l->options.batch), left = l->rows - first;
    if (left > l->options.batch) left = l->options.batch;
    *count = 0;
    for (uint32_t done = 0; done < left; done += l->options.micro_batch) {
        uint32_t n = left - done < l->options.micro_batch ? left - done : l->options.micro_batch;
        fill_batch(l, (*count)++, l->order + first + done, n);
    }
    *batches = l->batches;
    l->position++;
    return XFT_OK;
}
