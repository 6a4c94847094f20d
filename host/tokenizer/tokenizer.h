/* Inside the tokenizer. A text goes through lists of steps (normalizers, pre-tokenizers; decoders on the way back),
 * each of which turns pieces of text into other pieces; the model turns a piece into ids.
 *
 *   array.c       growing arrays, UTF-8, character classes
 *   vocabulary.c  token <-> id, merges
 *   added.c       added tokens, cut out of a text before anything else
 *   pattern.c     what Split, Replace and the like look for
 *   step.c        normalizers, pre-tokenizers        decoder.c   decoders
 *   bpe.c         the model: merging
 *   load.c        tokenizer.json and tokenizer_config.json
 *   ../tokenizer.c  the public functions
 */
#ifndef XFT_HOST_TOKENIZER_H
#define XFT_HOST_TOKENIZER_H

#include "xft/tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* ---- Arrays and text ---- */

/* A growing array. When memory runs out, `failed` is set and the array stays as it is, so that loops need no checks:
 * whoever hands the content on asks xft_array_check first. */
typedef struct array {
    char *data;
    size_t size, room; /* bytes */
    bool failed;
} array;

/* Room for `bytes` more at the end, or NULL. */
void *xft_array_extend(array *a, size_t bytes);
void xft_array_append(array *a, const void *data, size_t bytes);
void xft_array_append_u32(array *a, uint32_t value);
void xft_array_free(array *a);
xft_status xft_array_check(const array *a);

/* Bytes of the first character of valid UTF-8. */
size_t xft_utf8_length(const char *text);
/* The first character of valid UTF-8; its length goes to *bytes. */
uint32_t xft_utf8_read(const char *text, size_t *bytes);
/* The start of the character that ends before `end`; end > 0. */
size_t xft_utf8_before(const char *text, size_t end);
/* Appends a character. */
void xft_utf8_append(array *a, uint32_t character);
/* Bytes at the start of `text` that are valid UTF-8. *bad: how many bytes after them form one invalid part (a character
 * that breaks off, or one byte); 0 at the end of the text. */
size_t xft_utf8_valid(const char *text, size_t size, size_t *bad);

bool xft_is_white_space(uint32_t character); /* White_Space */
bool xft_is_word(uint32_t character);        /* \w: Alphabetic, marks, Nd, connectors, joiners */
bool xft_is_number(uint32_t character);      /* Nd, Nl, No */

/* The 256 characters that byte-level tokens write bytes with. */
uint32_t xft_byte_to_character(uint8_t byte);
/* -1 when the character stands for no byte. */
int xft_character_to_byte(uint32_t character);

/* ---- Vocabulary ---- */

typedef struct token {
    char *text; /* NULL: a hole between ids */
    uint32_t size;
    bool special;
    bool outside_model; /* added behind the model's vocabulary: the model does not know it */
} token;

typedef struct merge {
    uint32_t left, right, rank, result; /* rank NO_ID: an empty slot */
} merge;

#define NO_ID UINT32_MAX

typedef struct vocabulary {
    token *tokens; /* by id */
    uint32_t size, room;
    uint32_t *slots; /* hash table of ids, size a power of two */
    size_t slot_count;
    merge *merges; /* hash table by left and right */
    size_t merge_slots;
    uint32_t characters[0x400]; /* id of the token that is this one character, NO_ID: none */
    uint32_t bytes[256];        /* id of "<0x..>", NO_ID: none */
} vocabulary;

/* Room for a vocabulary whose greatest id is below `size`. */
xft_status xft_vocabulary_reserve(vocabulary *v, uint32_t size);
/* Adds a token; the caller has made sure that neither text nor id is taken. */
xft_status xft_vocabulary_add(vocabulary *v, const char *text, size_t size, uint32_t id);
/* NO_ID when there is no such token. */
uint32_t xft_vocabulary_find(const vocabulary *v, const char *text, size_t size);
uint32_t xft_vocabulary_find_in_model(const vocabulary *v, const char *text, size_t size);
/* Fills `characters` and `bytes`; to be called when all of the model's tokens are in. */
void xft_vocabulary_index_characters(vocabulary *v);
xft_status xft_vocabulary_reserve_merges(vocabulary *v, size_t count);
/* A pair that is there already gets the new rank. */
void xft_vocabulary_add_merge(vocabulary *v, uint32_t left, uint32_t right, uint32_t rank, uint32_t result);
const merge *xft_vocabulary_find_merge(const vocabulary *v, uint32_t left, uint32_t right);
void xft_vocabulary_free(vocabulary *v);

/* ---- Added tokens ---- */

typedef struct added_token {
    uint32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
} added_token;

/* The added tokens of one pass (raw or normalized text) as a tree of bytes. */
typedef struct added_tree {
    uint32_t roots[256]; /* by first byte */
    array nodes;
    array tokens; /* added_token */
} added_tree;

/* The first of two tokens with the same content stays. */
void xft_added_tree_put(added_tree *tree, const char *content, size_t size, const added_token *token);
void xft_added_tree_free(added_tree *tree);

/* Calls `found` for what lies between matches (token NULL) and for the matches, in order. */
typedef xft_status (*added_found)(void *user, const char *text, size_t start, size_t end, const added_token *token);
xft_status xft_added_tree_scan(const added_tree *tree, const char *text, size_t size, added_found found, void *user);

/* ---- Patterns ---- */

typedef enum pattern_kind { PATTERN_NONE, PATTERN_STRING, PATTERN_REGEX, PATTERN_NUMBER } pattern_kind;

typedef struct pattern {
    pattern_kind kind;
    char *string;
    size_t size;
    pcre2_code *regex;
} pattern;

/* Where a search stands. */
typedef struct search {
    const char *text;
    size_t size, position, last_end;
    pcre2_match_data *match;
} search;

/* Compiles Oniguruma's syntax as far as PCRE2 means the same by it. The message says what is wrong with it. */
xft_status xft_pattern_compile(pattern *p, const char *regex, size_t size);
void xft_pattern_free(pattern *p);
search xft_search_begin(const char *text, size_t size, pcre2_match_data *match);
/* The next match, which may be empty; *found is false at the end. */
xft_status xft_pattern_next(const pattern *p, search *s, bool *found, size_t *start, size_t *end);

/* ---- Steps ---- */

/* A part of the text at work. */
typedef struct piece {
    size_t start, end;
    bool first; /* lies at the very start of the text that was given */
} piece;

/* Text and pieces at work; a step that rewrites the text builds the next ones. */
typedef struct work {
    array text, pieces, next_text, next_pieces;
    pcre2_match_data *match;
} work;

typedef enum split_behavior {
    SPLIT_REMOVED,
    SPLIT_ISOLATED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS
} split_behavior;

typedef enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } prepend_scheme;

typedef struct step step;
typedef xft_status (*step_function)(const step *s, work *w);

struct step {
    step_function run;
    pattern pattern;         /* Split, Replace, Digits, ByteLevel (the words), Metaspace (the mark) */
    split_behavior behavior; /* Split, Digits */
    bool invert;             /* Split: what does not match is what is looked for */
    bool split;              /* ByteLevel, Metaspace: cut into words */
    bool prefix_space;       /* ByteLevel */
    prepend_scheme scheme;   /* Metaspace */
    char *content;           /* Replace, Prepend, Metaspace (the mark), Strip: the text put in or taken off */
    size_t content_size;
    size_t strip_start, strip_stop; /* Strip: how often at most */
};

typedef struct step_list {
    step *steps;
    size_t count;
} step_list;

xft_status xft_work_begin(work *w);
void xft_work_end(work *w);
/* One piece: the whole of a text. */
void xft_work_set(work *w, const char *text, size_t size, bool first);
void xft_work_add_piece(array *pieces, size_t start, size_t end, bool first);
const piece *xft_work_pieces(const work *w, size_t *count);
/* Makes the next text and pieces the current ones. */
xft_status xft_work_next(work *w);
xft_status xft_step_list_run(const step_list *list, work *w);
void xft_step_list_free(step_list *list);

xft_status xft_normalize_nfc(const step *s, work *w);
xft_status xft_normalize_prepend(const step *s, work *w);
xft_status xft_replace_matches(const step *s, work *w); /* normalizer and decoder */
xft_status xft_split_pieces(const step *s, work *w);
xft_status xft_split_byte_level(const step *s, work *w);
xft_status xft_split_metaspace(const step *s, work *w);
xft_status xft_decode_byte_level(const step *s, work *w);
xft_status xft_decode_byte_fallback(const step *s, work *w);
xft_status xft_decode_fuse(const step *s, work *w);
xft_status xft_decode_join(const step *s, work *w); /* no decoder: tokens with spaces between */
xft_status xft_decode_metaspace(const step *s, work *w);
xft_status xft_decode_strip(const step *s, work *w);

/* ---- Model ---- */

typedef struct bpe {
    vocabulary vocabulary;
    uint32_t unk; /* NO_ID: characters without a token vanish */
    bool fuse_unk, byte_fallback, ignore_merges;
} bpe;

/* Memory of the merging, kept from piece to piece. */
typedef struct bpe_work {
    array symbols, queue;
} bpe_work;

/* Appends the ids of one piece. */
xft_status xft_bpe_encode(const bpe *model, bpe_work *w, const char *text, size_t size, array *ids);

/* ---- The whole ---- */

struct xft_tokenizer {
    bpe model;
    added_tree raw, normalized;
    step_list normalizers, pre_tokenizers, decoders;
    array prefix, suffix; /* ids put around a text */
    bool has_template;
    uint32_t roles[XFT_TOKEN_ROLE_COUNT];
    char *chat_template;
};

/* Fills a zeroed tokenizer; the caller frees it when this fails. */
xft_status xft_tokenizer_read(xft_tokenizer *t, const char *json, size_t bytes, const char *file);
xft_status xft_tokenizer_read_config(xft_tokenizer *t, const char *json, size_t bytes, const char *file);

#endif
