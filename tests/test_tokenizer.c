/* Suite `tokenizer`: every family of XFT_TOKENIZER_ORACLE (tests/oracle_tokenizer of the sources; its README says what
 * the files hold), one line per family: texts, right ids, right decodings. Rows `unicode-version/…` depend on Unicode
 * tables of another age than those of PCRE2 and utf8proc and are counted apart. */
#include "xft/tokenizer.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define OK(call) cr_assert_eq(call, XFT_OK, "%s", xft_error())

typedef struct family {
    char name[96];
} family;

static const char *root(void) {
    const char *folder = getenv("XFT_TOKENIZER_ORACLE");
    return folder && *folder ? folder : XFT_TOKENIZER_ORACLE_DEFAULT;
}

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

/* Adds the folders of root/sub that hold `file`. */
static size_t list_folders(const char *sub, const char *file, family *list, size_t count, size_t room) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", root(), sub);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && count < room && (entry = readdir(dir));) {
        snprintf(list[count].name, sizeof list->name, "%.20s%s%.60s", sub, *sub ? "/" : "", entry->d_name);
        snprintf(path, sizeof path, "%s/%s/%s", root(), list[count].name, file);
        count += access(path, R_OK) == 0;
    }
    if (dir) closedir(dir);
    qsort(list, count, sizeof *list, by_name);
    return count;
}

static struct criterion_test_params parameters(const family *list, size_t count) {
    family *copy = cr_calloc(count ? count : 1, sizeof *copy);
    memcpy(copy, list, count * sizeof *copy);
    return cr_make_param_array(family, copy, count, NULL);
}

static char *read_file(const char *name, const char *file, size_t *size) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/%s", root(), name, file);
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s: cannot open it", path);
    cr_assert_eq(fseek(f, 0, SEEK_END), 0);
    *size = (size_t)ftell(f);
    rewind(f);
    char *text = malloc(*size + 1);
    cr_assert(text && fread(text, 1, *size, f) == *size, "%s: cannot read it", path);
    text[*size] = 0;
    fclose(f);
    return text;
}

static xft_tokenizer *load(const char *name) {
    char path[1024];
    xft_tokenizer *tokenizer;
    snprintf(path, sizeof path, "%s/%s", root(), name);
    OK(xft_tokenizer_load(path, &tokenizer));
    return tokenizer;
}

/* ---- Rows ---- */

typedef struct score {
    unsigned rows, ids, ids_right, decodings, decodings_right, unicode_rows, unicode_wrong;
    char first_wrong[160];
} score;

static void count_wrong(score *s, bool unicode, const char *name, const char *what) {
    if (unicode)
        s->unicode_wrong++;
    else if (!*s->first_wrong)
        snprintf(s->first_wrong, sizeof s->first_wrong, "%.100s: %s", name, what);
}

static void check_ids(score *s, const xft_tokenizer *t, const json_t *row, const char *name, bool unicode,
                      bool special) {
    const json_t *text = json_object_get(row, "text"),
                 *expected = json_object_get(row, special ? "ids_special" : "ids");
    uint32_t *ids;
    size_t count;
    OK(xft_tokenizer_encode(t, json_string_value(text), json_string_length(text), special, &ids, &count));
    bool right = count == json_array_size(expected);
    for (size_t i = 0; right && i < count; i++) right = json_integer_value(json_array_get(expected, i)) == ids[i];
    free(ids);
    if (!unicode) s->ids++, s->ids_right += right;
    if (!right) count_wrong(s, unicode, name, special ? "ids_special" : "ids");
}

static void check_decoding(score *s, const xft_tokenizer *t, const json_t *row, const char *name, bool unicode,
                           const char *ids_key, const char *text_key, bool skip) {
    const json_t *list = json_object_get(row, ids_key), *expected = json_object_get(row, text_key);
    size_t count = json_array_size(list), size;
    uint32_t *ids = malloc((count + 1) * sizeof *ids);
    cr_assert(ids);
    for (size_t i = 0; i < count; i++) ids[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    char *text;
    OK(xft_tokenizer_decode(t, ids, count, skip, &text, &size));
    bool right = size == json_string_length(expected) && !memcmp(text, json_string_value(expected), size);
    free(ids);
    free(text);
    if (!unicode) s->decodings++, s->decodings_right += right;
    if (!right) count_wrong(s, unicode, name, text_key);
}

/* Calls for each row of a file of JSON lines. */
static void check_rows(score *s, const xft_tokenizer *t, const char *folder, const char *file) {
    size_t size;
    char *text = read_file(folder, file, &size);
    for (char *line = text, *end; line < text + size; line = end + 1) {
        end = memchr(line, '\n', (size_t)(text + size - line));
        if (!end) end = text + size;
        json_error_t error;
        json_t *row = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, &error);
        cr_assert(row, "%s/%s: %s", folder, file, error.text);
        const char *name = json_string_value(json_object_get(row, "name"));
        bool unicode = strncmp(name, "unicode-version/", 16) == 0, texts = json_object_get(row, "text") != NULL;
        if (unicode)
            s->unicode_rows++;
        else
            s->rows++;
        if (texts) {
            check_ids(s, t, row, name, unicode, false);
            check_ids(s, t, row, name, unicode, true);
        }
        check_decoding(s, t, row, name, unicode, "ids", "decoded", false);
        check_decoding(s, t, row, name, unicode, texts ? "ids_special" : "ids", "decoded_skip_special", true);
        json_decref(row);
    }
    free(text);
}

ParameterizedTestParameters(tokenizer, every_family) {
    static family list[512];
    size_t count = list_folders("", "cases.jsonl", list, 0, 512);
    count += list_folders("components", "cases.jsonl", list + count, 0, 512 - count);
    return parameters(list, count);
}

ParameterizedTest(family *f, tokenizer, every_family) {
    score s = {0};
    xft_tokenizer *t = load(f->name);
    check_rows(&s, t, f->name, "cases.jsonl");
    check_rows(&s, t, f->name, "decode.jsonl");
    xft_tokenizer_free(t);
    printf("%-42s %3u rows, ids %u/%u, decodings %u/%u", f->name, s.rows, s.ids_right, s.ids, s.decodings_right,
           s.decodings);
    if (s.unicode_rows) printf("; other Unicode tables: %u checks of %u rows differ", s.unicode_wrong, s.unicode_rows);
    printf("%s%s\n", *s.first_wrong ? "  FAILED: " : "", s.first_wrong);
    fflush(stdout);
    cr_expect(s.rows > 0, "%s: no rows", f->name);
    cr_expect(!*s.first_wrong, "%s: first wrong: %s", f->name, s.first_wrong);
}

/* ---- Files that must be refused ---- */

ParameterizedTestParameters(tokenizer, refuse) {
    static family list[512];
    return parameters(list, list_folders("refuse", "expected.json", list, 0, 512));
}

ParameterizedTest(family *f, tokenizer, refuse) {
    char path[1024];
    size_t size;
    char *text = read_file(f->name, "expected.json", &size);
    json_t *expected = json_loadb(text, size, 0, NULL);
    const char *component = json_string_value(json_object_get(expected, "component"));
    const char *value = json_string_value(json_object_get(expected, "value"));
    xft_tokenizer *tokenizer = NULL;
    snprintf(path, sizeof path, "%s/%s", root(), f->name);
    xft_status status = xft_tokenizer_load(path, &tokenizer);
    printf("%-42s %s\n", f->name, xft_error() + (strncmp(xft_error(), path, strlen(path)) ? 0 : strlen(path) + 1));
    fflush(stdout);
    cr_expect_eq(status, XFT_ERROR_FORMAT, "%s", xft_status_name(status));
    cr_expect_null(tokenizer);
    cr_expect(component && strstr(xft_error(), component), "no \"%s\" in: %s", component, xft_error());
    cr_expect(!value || strstr(xft_error(), value), "no \"%s\" in: %s", value, xft_error());
    json_decref(expected);
    free(text);
}

/* ---- Speed ---- */

enum { SPEED_BYTES = 4 << 20 };

/* The texts of the cases, one after the other, as often as they fit. For families without a pre-tokenizer that is one
 * piece, which only merging in n log n does in time. */
static char *long_text(const char *name) {
    size_t size, done = 0;
    char *rows = read_file(name, "cases.jsonl", &size), *text = malloc(SPEED_BYTES);
    cr_assert(text);
    while (done < SPEED_BYTES) {
        for (char *line = rows, *end; (end = strchr(line, '\n')); line = end + 1) {
            json_t *row = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
            const json_t *part = json_object_get(row, "text");
            size_t n = json_string_length(part);
            if (done + n > SPEED_BYTES)
                memset(text + done, ' ', SPEED_BYTES - done), done = SPEED_BYTES;
            else
                memcpy(text + done, json_string_value(part), n), done += n;
            json_decref(row);
        }
    }
    free(rows);
    return text;
}

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

ParameterizedTestParameters(tokenizer, speed) {
    static family list[512];
    return parameters(list, list_folders("", "cases.jsonl", list, 0, 512));
}

ParameterizedTest(family *f, tokenizer, speed) {
    xft_tokenizer *t = load(f->name);
    char *text = long_text(f->name), *decoded;
    uint32_t *ids;
    size_t count;
    double start = cpu_seconds();
    OK(xft_tokenizer_encode(t, text, SPEED_BYTES, false, &ids, &count));
    double middle = cpu_seconds();
    OK(xft_tokenizer_decode(t, ids, count, false, &decoded, NULL));
    double end = cpu_seconds();
    printf("%-42s encodes %.1f MB/s, decodes %.1f MB/s\n", f->name, SPEED_BYTES / (middle - start) / 1e6,
           SPEED_BYTES / (end - middle) / 1e6);
    fflush(stdout);
#if !defined(__SANITIZE_ADDRESS__)
    cr_expect_gt(SPEED_BYTES / (middle - start), 2e6, "slower than 2 MB/s of one core");
#endif
    free(ids);
    free(decoded);
    free(text);
    xft_tokenizer_free(t);
}

/* ---- The interface ---- */

Test(tokenizer, roles_and_tokens) {
    xft_tokenizer *t = load("deepseek-coder");
    uint32_t bos, eos, pad, id;
    cr_assert(xft_tokenizer_role(t, XFT_TOKEN_BOS, &bos) && xft_tokenizer_role(t, XFT_TOKEN_EOS, &eos));
    cr_assert(xft_tokenizer_role(t, XFT_TOKEN_PAD, &pad));
    cr_expect_not(xft_tokenizer_role(t, XFT_TOKEN_UNK, &id));
    cr_expect_str_eq(xft_tokenizer_token(t, eos, NULL), "<|EOT|>");
    cr_expect(xft_tokenizer_is_special(t, bos));
    cr_expect(xft_tokenizer_find(t, "<|EOT|>", 7, &id) && id == eos);
    cr_expect_not(xft_tokenizer_find(t, "<|EOT|", 6, &id));
    cr_expect_null(xft_tokenizer_token(t, xft_tokenizer_size(t), NULL));
    xft_tokenizer_free(t);
    t = load("qwen2");
    cr_expect_not(xft_tokenizer_role(t, XFT_TOKEN_BOS, &id));
    cr_expect_not_null(strstr(xft_tokenizer_chat_template(t), "<|im_start|>"));
    xft_tokenizer_free(t);
    xft_tokenizer_free(NULL);
}

#define MODEL "\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"<s>\":2,\"</s>\":3},\"merges\":[]}"

/* Parses a file that is all MODEL but for `rest`. */
static xft_status parse(const char *rest, const char *config, xft_tokenizer **t) {
    char json[2048];
    snprintf(json, sizeof json, "{%s%s" MODEL "}", rest, *rest ? "," : "");
    return xft_tokenizer_parse(json, strlen(json), config, config ? strlen(config) : 0, "x/", t);
}

Test(tokenizer, bos_and_eos_of_the_configuration) {
    xft_tokenizer *t;
    uint32_t *ids;
    size_t count;
    OK(parse("",
             "{\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"</s>\",\"add_bos_token\":true,"
             "\"add_eos_token\":true}",
             &t));
    OK(xft_tokenizer_encode(t, "ab", 2, true, &ids, &count));
    cr_assert_eq(count, 4);
    cr_expect_arr_eq(ids, ((uint32_t[]){2, 0, 1, 3}), 4 * sizeof *ids);
    free(ids);
    OK(xft_tokenizer_encode(t, NULL, 0, false, &ids, &count));
    cr_expect(count == 0 && ids);
    free(ids);
    cr_expect_eq(xft_tokenizer_encode(t, "ab\xc3", 3, true, &ids, &count), XFT_ERROR_FORMAT);
    cr_expect_str_eq(xft_error(), "the text is no UTF-8: byte 0xc3 at offset 2");
    xft_tokenizer_free(t);
}

/* What a file holds, or a configuration, and the words that refuse it. */
static const struct {
    const char *rest, *config, *words;
} refused[] = {
    {"\"version\":\"2.0\"", NULL, "x/tokenizer.json: version: must be \"1.0\""},
    {"\"normalizer\":7", NULL, "normalizer: must be an object, found integer"},
    {"\"normalizer\":{\"type\":\"NFKC\"}", NULL, "normalizer.type: unknown normalizer \"NFKC\""},
    {"\"decoder\":{\"type\":\"CTC\"}", NULL, "decoder.type: unknown decoder \"CTC\""},
    {"\"post_processor\":{\"type\":\"RobertaProcessing\"}", NULL, "unknown post-processor \"RobertaProcessing\""},
    {"\"pre_tokenizer\":{\"type\":\"Digits\"}", NULL, "individual_digits must be true or false, found nothing"},
    {"\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"\"}}", NULL, "pattern: String is empty"},
    {"\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"}}", NULL, "&& inside []"},
    {"\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a[b]]\"}}", NULL, "a class inside []"},
    {"\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Apart\"}", NULL,
     "unknown behavior \"Apart\""},
    {"\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}", NULL, "replacement must be one character"},
    {"\"added_tokens\":[{\"id\":9,\"content\":\"c\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
     "\"normalized\":false,\"special\":false}]",
     NULL, "added_tokens[0].id: \"c\" has the id 9; the next free one is 4"},
    {"\"added_tokens\":[{\"id\":4,\"content\":\"c\"}]", NULL, "added_tokens[0]: single_word must be true or false"},
    {"", "{\"bos_token\":\"<bos>\"}", "x/tokenizer_config.json: bos_token: \"<bos>\" is no token of tokenizer.json"},
    {"", "{\"add_bos_token\":true}", "add_bos_token: is true, but no such token is named"},
    {"", "[]", "x/tokenizer_config.json: json: expected an object, found array"},
};

Test(tokenizer, refused_with_words) {
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        xft_tokenizer *t = NULL;
        cr_expect_eq(parse(refused[i].rest, refused[i].config, &t), XFT_ERROR_FORMAT, "%s", refused[i].rest);
        cr_expect_not_null(strstr(xft_error(), refused[i].words), "\"%s\" instead of \"%s\"", xft_error(),
                           refused[i].words);
        cr_expect_null(t);
    }
    xft_tokenizer *t;
    cr_expect_eq(xft_tokenizer_load("/nowhere", &t), XFT_ERROR_IO);
    cr_expect_not_null(strstr(xft_error(), "/nowhere/tokenizer.json: "));
}
