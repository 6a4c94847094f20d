/* Tokenizers: tokenizer.json of Hugging Face, byte-pair encoding models (byte-level and SentencePiece style).
 *
 *     xft_tokenizer *tokenizer;
 *     XFT_TRY(xft_tokenizer_load("model", &tokenizer));
 *     uint32_t *ids;
 *     size_t count;
 *     XFT_TRY(xft_tokenizer_encode(tokenizer, "Hello", 5, true, &ids, &count));
 *     … free(ids);
 *     xft_tokenizer_free(tokenizer);
 *
 * Ids and decodings are those of Hugging Face's `tokenizers`. Understood: normalizers NFC, Prepend, Replace, Sequence;
 * pre-tokenizers ByteLevel, Digits, Metaspace, Split, Sequence; the BPE model; post-processors ByteLevel,
 * TemplateProcessing, Sequence; decoders ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip, Sequence; added
 * tokens with all their flags. Anything else is refused with XFT_ERROR_FORMAT; the message names file, key and value.
 *
 * Not taken from the file: `truncation` and `padding`, which belong to whoever makes batches. Letters, digits and
 * composition follow the Unicode tables of PCRE2 and utf8proc.
 *
 * Threads: a tokenizer does not change once it is loaded; any number of threads may use it at once.
 */
#ifndef XFT_TOKENIZER_H
#define XFT_TOKENIZER_H

#include "xft/base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct xft_tokenizer xft_tokenizer;

/* Loads folder/tokenizer.json and, where there is one, folder/tokenizer_config.json. */
XFT_API xft_status xft_tokenizer_load(const char *folder, xft_tokenizer **tokenizer);

/* The same from texts in memory. json: the content of tokenizer.json; config: of tokenizer_config.json, or NULL;
 * name: what error messages call them, a prefix such as "model/". */
XFT_API xft_status xft_tokenizer_parse(const char *json, size_t json_bytes, const char *config, size_t config_bytes,
                                       const char *name, xft_tokenizer **tokenizer);

/* NULL is accepted. */
XFT_API void xft_tokenizer_free(xft_tokenizer *tokenizer);

/* Ids of a UTF-8 text of `bytes` bytes, which may hold zero bytes. Special tokens written in the text are recognised.
 * add_special: with the tokens that the post-processor puts around the text; where the file has no template, with BOS
 * and EOS if tokenizer_config.json sets add_bos_token and add_eos_token. *ids is to be freed with free(); it is never
 * NULL on success. Refuses invalid UTF-8 (XFT_ERROR_FORMAT, with the offset). */
XFT_API xft_status xft_tokenizer_encode(const xft_tokenizer *tokenizer, const char *text, size_t bytes,
                                        bool add_special, uint32_t **ids, size_t *count);

/* The text of ids: valid UTF-8, zero-terminated, *bytes without the terminator (bytes may be NULL), to be freed with
 * free(). Bytes that are no UTF-8 become U+FFFD. Ids outside the vocabulary are skipped, and with skip_special the
 * tokens marked as special, too. */
XFT_API xft_status xft_tokenizer_decode(const xft_tokenizer *tokenizer, const uint32_t *ids, size_t count,
                                        bool skip_special, char **text, size_t *bytes);

/* One more than the greatest id: the least number of rows an embedding needs. */
XFT_API uint32_t xft_tokenizer_size(const xft_tokenizer *tokenizer);

/* The token of an id as the file writes it (a space may be "Ġ" or "▁"), valid as long as the tokenizer; NULL when the
 * id has none. bytes may be NULL. */
XFT_API const char *xft_tokenizer_token(const xft_tokenizer *tokenizer, uint32_t id, size_t *bytes);

/* The id of a token as the file writes it; false when there is none. */
XFT_API bool xft_tokenizer_find(const xft_tokenizer *tokenizer, const char *token, size_t bytes, uint32_t *id);

/* Whether decoding with skip_special leaves this id out. */
XFT_API bool xft_tokenizer_is_special(const xft_tokenizer *tokenizer, uint32_t id);

/* Tokens with a task, which tokenizer_config.json names (bos_token and so on). */
typedef enum xft_token_role {
    XFT_TOKEN_BOS, /* begins a text */
    XFT_TOKEN_EOS, /* ends an answer */
    XFT_TOKEN_UNK, /* stands for what has no token */
    XFT_TOKEN_PAD, /* fills batches */
    XFT_TOKEN_ROLE_COUNT
} xft_token_role;

/* The id of the token with this task; false when the configuration names none. */
XFT_API bool xft_tokenizer_role(const xft_tokenizer *tokenizer, xft_token_role role, uint32_t *id);

/* chat_template of tokenizer_config.json (the one named "default" of several), or NULL. */
XFT_API const char *xft_tokenizer_chat_template(const xft_tokenizer *tokenizer);

#ifdef __cplusplus
}
#endif
#endif
