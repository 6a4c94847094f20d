/* Suite `data`: what becomes of the lines of a JSONL file, and how samples become micro-batches. Tokenizers are those
 * of tests/oracle_tokenizer. Needs no device. */
#include "xft/data.h"

#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

static xft_tokenizer *tokenizer;

static void end(void) {
    xft_tokenizer_free(tokenizer);
    tokenizer = NULL;
    fixture_end();
}
TestSuite(data, .init = fixture_begin, .fini = end, .timeout = 120);

static const char *write_bytes(const char *name, const void *text, size_t bytes) {
    const char *path = path_of(name);
    FILE *f = fopen(path, "wb");
    cr_assert(f && fwrite(text, 1, bytes, f) == bytes && !fclose(f));
    return path;
}
static const char *write_text(const char *name, const char *text) {
    return write_bytes(name, text, strlen(text));
}

static void use(const char *family) {
    char path[400];
    snprintf(path, sizeof path, "%s/%s", XFT_TOKENIZER_ORACLE_DEFAULT, family);
    xft_tokenizer_free(tokenizer);
    OK(xft_tokenizer_load(path, &tokenizer));
}

static xft_status load(const char *path, xft_data_options options, xft_dataset **data) {
    if (!options.files) {
        options.files = &path;
        options.file_count = 1;
    }
    if (!options.length) options.length = 512;
    return xft_dataset_load(tokenizer, &options, data);
}

static xft_data_counts counts_of(const xft_dataset *data) {
    xft_data_counts counts;
    xft_dataset_get_counts(data, &counts);
    return counts;
}

/* ---- Templates and forms ---- */

/* Texts that are encoded one by one; a label is a text that is learned. */
typedef struct part {
    const char *text; /* NULL: the end */
    bool label;
} part;

#define MAGICODER                                                                                                      \
    "You are an exceptionally intelligent coding assistant that consistently delivers accurate and reliable "          \
    "responses to user instructions.\n\n"
#define DEEPSEEK                                                                                                       \
    "You are an AI programming assistant, utilizing the Deepseek Coder model, developed by Deepseek Company, and you " \
    "only answer questions related to computer science. For politically sensitive questions, security and privacy "    \
    "issues, and other non-computer science questions, you will refuse to answer\n"
#define LONG_CHAT                                                                                                      \
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be kind.\"},{\"role\":\"user\",\"content\":\" Hi \"},"          \
    "{\"role\":\"assistant\",\"content\":\"Hello!\"},{\"role\":\"user\",\"content\":\"2+2?\"},"                        \
    "{\"role\":\"assistant\",\"content\":\" 4\\n\"},{\"role\":\"user\",\"content\":\"left out\"}]}"

/* "<BOS>" and "<EOS>" alone stand for the ids of these. */
static const struct template_case {
    const char *name, *family, *line;
    part parts[8];
} template_cases[] = {
    {"magicoder",
     "deepseek-coder",
     "{\"instruction\":\"Add 1 and 2.\",\"response\":\"print(1 + 2)\"}",
     {{"<BOS>", 0}, {MAGICODER "@@ Instruction\nAdd 1 and 2.\n\n@@ Response\n", 0}, {"print(1 + 2)", 1}, {"<EOS>", 1}}},
    {"magicoder", /* no BOS, so the first token is of the text */
     "qwen2",
     "{\"instruction\":\"Sort.\",\"input\":\"[3, 1]\",\"output\":\"[1, 3]\",\"id\":7}",
     {{MAGICODER "@@ Instruction\nSort.\n[3, 1]\n\n@@ Response\n", 0}, {"[1, 3]", 1}, {"<EOS>", 1}}},
    {"magicoder", /* SentencePiece style: each text gets its own space in front */
     "tinyllama",
     "{\"instruction\":\"Grüße\",\"input\":\"\",\"output\":\"ü\"}",
     {{"<BOS>", 0}, {MAGICODER "@@ Instruction\nGrüße\n\n@@ Response\n", 0}, {"ü", 1}, {"<EOS>", 1}}},
    {"magicoder",
     "smollm2",
     LONG_CHAT,
     {{"<BOS>", 0},
      {"Be kind.\n\n@@ Instruction\n Hi \n\n@@ Response\n", 0},
      {"Hello!", 1},
      {"<EOS>", 1},
      {"\n\n@@ Instruction\n2+2?\n\n@@ Response\n", 0},
      {" 4\n", 1},
      {"<EOS>", 1}}},
    {"magicoder",
     "llama3",
     "{\"prompt\":\"def f(\",\"completion\":\"x):\\n  return x\"}",
     {{"<BOS>", 0}, {"def f(", 0}, {"x):\n  return x", 1}, {"<EOS>", 1}}},
    {"chatml",
     "smollm2",
     LONG_CHAT,
     {{"<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n", 0},
      {"Hello!<|im_end|>", 1},
      {"\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n", 0},
      {" 4\n<|im_end|>", 1}}},
    {"chatml",
     "qwen2",
     "{\"instruction\":\"Sort.\",\"input\":null,\"response\":\"ok\",\"output\":\"not this\"}",
     {{"<|im_start|>user\nSort.<|im_end|>\n<|im_start|>assistant\n", 0}, {"ok<|im_end|>", 1}}},
    {"llama3",
     "llama3",
     LONG_CHAT,
     {{"<BOS>", 0},
      {"<|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
       "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
       0},
      {"Hello!<|eot_id|>", 1},
      {"<|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
       0},
      {"4<|eot_id|>", 1}}},
    {"deepseek-coder",
     "deepseek-coder",
     LONG_CHAT,
     {{"<BOS>", 0},
      {"Be kind.### Instruction:\n Hi \n### Response:\n", 0},
      {"Hello!\n<|EOT|>", 1},
      {"\n### Instruction:\n2+2?\n### Response:\n", 0},
      {" 4\n\n<|EOT|>", 1}}},
    {"deepseek-coder",
     "deepseek-coder",
     "{\"instruction\":\"Sort.\",\"response\":\"ok\"}",
     {{"<BOS>", 0}, {DEEPSEEK "### Instruction:\nSort.\n### Response:\n", 0}, {"ok\n<|EOT|>", 1}}},
};
enum { TEMPLATE_CASES = sizeof template_cases / sizeof *template_cases };

/* Appends the ids of one part and returns how many. */
static size_t expect_part(const part *p, uint32_t *ids, bool *labels) {
    bool bos = !strcmp(p->text, "<BOS>"), eos = !strcmp(p->text, "<EOS>");
    uint32_t *encoded = NULL;
    size_t count = 1;
    if (bos || eos)
        cr_assert(xft_tokenizer_role(tokenizer, bos ? XFT_TOKEN_BOS : XFT_TOKEN_EOS, ids));
    else {
        OK(xft_tokenizer_encode(tokenizer, p->text, strlen(p->text), false, &encoded, &count));
        memcpy(ids, encoded, count * sizeof *ids);
    }
    for (size_t i = 0; i < count; i++) labels[i] = p->label;
    free(encoded);
    return count;
}

Test(data, every_template_gives_its_text_and_labels) {
    for (size_t c = 0; c < TEMPLATE_CASES; c++) {
        const struct template_case *t = &template_cases[c];
        uint32_t expected[512], ids[512], count;
        bool expected_labels[512], labels[512];
        size_t n = 0;
        xft_dataset *data;
        use(t->family);
        for (const part *p = t->parts; p->text; p++) n += expect_part(p, expected + n, expected_labels + n);
        OK(load(write_text("a.jsonl", t->line), (xft_data_options){.chat_template = t->name}, &data));
        cr_assert(xft_dataset_sample(data, 0, ids, labels, &count));
        cr_assert_eq(count, n, "case %zu: %u tokens, expected %zu", c, count, n);
        cr_expect_arr_eq(ids, expected, n * sizeof *ids, "case %zu", c);
        cr_expect_arr_eq(labels, expected_labels, n * sizeof *labels, "case %zu", c);
        uint64_t learned = 0;
        for (size_t i = 1; i < n; i++) learned += labels[i];
        xft_data_counts counts = counts_of(data);
        cr_expect_eq(counts.samples, 1);
        cr_expect_eq(counts.tokens, n);
        cr_expect_eq(counts.labels, learned);
        cr_expect_eq(counts.longest, n);
        cr_expect_not(xft_dataset_sample(data, 1, ids, labels, &count));
        xft_dataset_free(data);
    }
}

Test(data, training_on_the_prompt_labels_all_of_it) {
    xft_dataset *data;
    bool labels[512];
    uint32_t count;
    use("smollm2");
    OK(load(write_text("a.jsonl", template_cases[0].line), (xft_data_options){.train_on_prompt = true}, &data));
    cr_assert(xft_dataset_sample(data, 0, NULL, labels, &count));
    for (uint32_t i = 0; i < count; i++) cr_expect(labels[i]);
    cr_expect_eq(counts_of(data).labels, count - 1);
    xft_dataset_free(data);
}

Test(data, templates_are_named_and_checked) {
    const char *names[] = {"magicoder", "chatml", "llama3", "deepseek-coder"};
    uint32_t stop, id;
    for (uint32_t i = 0; i < 4; i++) cr_expect_str_eq(xft_template_name(i), names[i]);
    cr_expect_null(xft_template_name(4));
    use("smollm2");
    cr_expect_eq(xft_template_check("alpaca", tokenizer, NULL), XFT_ERROR_INVALID_ARGUMENT);
    cr_expect_str_eq(xft_error(),
                     "template \"alpaca\" is unknown; there are magicoder, chatml, llama3, deepseek-coder");
    cr_expect_eq(xft_template_check("llama3", tokenizer, NULL), XFT_ERROR_FORMAT);
    cr_expect(strstr(xft_error(), "<|start_header_id|>"), "%s", xft_error());
    use("gpt2");
    cr_expect_eq(xft_template_check("chatml", tokenizer, NULL), XFT_ERROR_FORMAT);
    cr_expect(strstr(xft_error(), "<|im_start|>"), "%s", xft_error());
    OK(xft_template_check(NULL, tokenizer, &stop));
    cr_assert(xft_tokenizer_role(tokenizer, XFT_TOKEN_EOS, &id));
    cr_expect_eq(stop, id);
    use("deepseek-coder");
    OK(xft_template_check("deepseek-coder", tokenizer, &stop));
    cr_expect_str_eq(xft_tokenizer_token(tokenizer, stop, NULL), "<|EOT|>");
}

/* The prompt to go on from is what a sample has before its answer. */
Test(data, a_prompt_is_the_beginning_of_a_sample) {
    for (size_t c = 0; c < TEMPLATE_CASES; c++) {
        const struct template_case *t = &template_cases[c];
        if (strcmp(t->line, LONG_CHAT)) continue;
        xft_chat_message m[] = {{XFT_ROLE_SYSTEM, "Be kind.", 8},
                                {XFT_ROLE_USER, " Hi ", 4},
                                {XFT_ROLE_ASSISTANT, "Hello!", 6},
                                {XFT_ROLE_USER, "2+2?", 4}};
        xft_dataset *data;
        uint32_t sample[512], count, *ids, last = 0;
        bool labels[512];
        size_t n;
        use(t->family);
        OK(load(write_text("a.jsonl", LONG_CHAT), (xft_data_options){.chat_template = t->name}, &data));
        cr_assert(xft_dataset_sample(data, 0, sample, labels, &count));
        for (uint32_t i = 1; i < count; i++)
            if (labels[i] && !labels[i - 1]) last = i; /* where the last answer begins */
        OK(xft_template_prompt(t->name, tokenizer, m, 4, NULL, &ids, &n));
        cr_assert_eq(n, last, "case %zu: %zu ids, expected %u", c, n, last);
        cr_expect_arr_eq(ids, sample, n * sizeof *ids);
        free(ids);
        xft_dataset_free(data);

        char *text;
        OK(xft_template_prompt(t->name, tokenizer, m, 2, "```python\nimport", &ids, &n));
        OK(xft_tokenizer_decode(tokenizer, ids, n, false, &text, NULL));
        cr_expect(strstr(text, "\n```python\nimport") && strlen(strstr(text, "\n```python\nimport")) == 17, "%s", text);
        free(text);
        free(ids);
        cr_expect_eq(xft_template_prompt(t->name, tokenizer, m, 3, NULL, &ids, &n), XFT_ERROR_INVALID_ARGUMENT);
        cr_expect_eq(xft_template_prompt(t->name, tokenizer, m, 0, NULL, &ids, &n), XFT_ERROR_INVALID_ARGUMENT);
    }
}

/* ---- Files ---- */

#define SAMPLE(a, b) "{\"prompt\":\"" a "\",\"completion\":\"" b "\"}"

Test(data, line_ends_blank_lines_and_several_files) {
    use("smollm2");
    xft_dataset *plain, *other;
    const char *files[3];
    OK(load(write_text("a.jsonl", SAMPLE("a", "b") "\n" SAMPLE("c", "d") "\n" SAMPLE("e", "f") "\n"),
            (xft_data_options){0}, &plain));
    cr_expect_eq(counts_of(plain).samples, 3);
    OK(load(
        write_text("b.jsonl", "\xef\xbb\xbf" SAMPLE("a", "b") "\r\n\r\n \t\n" SAMPLE("c", "d") "\r\n" SAMPLE("e", "f")),
        (xft_data_options){0}, &other));
    cr_expect_eq(xft_dataset_fingerprint(other), xft_dataset_fingerprint(plain));
    xft_dataset_free(other);

    files[0] = write_text("1.jsonl", SAMPLE("a", "b"));
    files[1] = path_of("2.jsonl.gz");
    gzFile packed = gzopen(files[1], "wb");
    cr_assert(gzputs(packed, SAMPLE("c", "d") "\n") > 0 && gzclose(packed) == Z_OK);
    files[2] = write_text("3.jsonl", "\n" SAMPLE("e", "f"));
    OK(load(NULL, (xft_data_options){.files = files, .file_count = 3}, &other));
    cr_expect_eq(xft_dataset_fingerprint(other), xft_dataset_fingerprint(plain));
    xft_dataset_free(other);

    files[0] = write_text("1.jsonl", SAMPLE("a", "B"));
    OK(load(NULL, (xft_data_options){.files = files, .file_count = 3}, &other));
    cr_expect_neq(xft_dataset_fingerprint(other), xft_dataset_fingerprint(plain));
    xft_dataset_free(other);
    xft_dataset_free(plain);
}

/* Lines longer than the pieces a file is read in, and lines that end where a piece ends. */
Test(data, lines_of_any_length) {
    use("smollm2");
    enum { LINES = 40 };
    size_t room = 8 << 20, size = 0;
    char *text = malloc(room);
    for (int i = 0; i < LINES; i++) {
        size_t line = i % 4 == 0 ? (1 << 18) - 1 : (size_t)(1 << 17) + (size_t)i * 7;
        size_t start = size;
        size += (size_t)sprintf(text + size, "{\"pad\":\"");
        while (size - start < line - 60) text[size++] = 'x';
        size += (size_t)sprintf(text + size, "\",\"prompt\":\"%02d\",\"completion\":\"%02d", i, i);
        while (size - start < line - 3) text[size++] = 'y';
        size += (size_t)sprintf(text + size, "\"}\n");
        cr_assert(size - start == line && size < room);
    }
    xft_dataset *data;
    uint32_t ids[512], count;
    OK(load(write_bytes("a.jsonl", text, size), (xft_data_options){0}, &data));
    cr_expect_eq(counts_of(data).samples, LINES);
    for (int i = 0; i < LINES; i++) {
        char *back, begin[8];
        cr_assert(xft_dataset_sample(data, (uint64_t)i, ids, NULL, &count));
        OK(xft_tokenizer_decode(tokenizer, ids, count, true, &back, NULL));
        snprintf(begin, sizeof begin, "%02d%02d", i, i);
        cr_expect(!strncmp(back, begin, 4), "line %d: %s", i, back);
        free(back);
    }
    xft_dataset_free(data);
    free(text);
}

static const struct {
    const char *line, *reason;
} broken[] = {
    {"{\"instruction\":\"a\"", "no JSON"},
    {"hello", "no JSON"},
    {"{\"prompt\":\"a\",\"completion\":\"b\"} x", "no JSON"},
    {"{\"prompt\":\"a\",\"prompt\":\"b\",\"completion\":\"c\"}", "duplicate"},
    {"[{\"prompt\":\"a\",\"completion\":\"b\"}]", "an array; expected a JSON object on each line"},
    {"[", "no JSON"},
    {"\"text\"", "a string; expected a JSON object"},
    {"17", "a number; expected a JSON object"},
    {"null", "null; expected a JSON object"},
    {"{}", "no sample: expected messages"},
    {"{\"text\":\"a\"}", "no sample: expected messages"},
    {"{\"response\":\"a\"}", "no sample: expected messages"},
    {"{\"prompt\":\"a\"}", "field completion is missing"},
    {"{\"prompt\":\"a\",\"completion\":1}", "field completion is a number; expected a string"},
    {"{\"prompt\":null,\"completion\":\"a\"}", "field prompt is null; expected a string"},
    {"{\"instruction\":\"a\"}", "field response (or output) is missing"},
    {"{\"instruction\":[\"a\"],\"response\":\"b\"}", "field instruction is an array; expected a string"},
    {"{\"instruction\":\"a\",\"output\":true}", "field output is a boolean; expected a string"},
    {"{\"instruction\":\"a\",\"input\":{},\"output\":\"b\"}", "field input is an object; expected a string"},
    {"{\"messages\":\"a\"}", "field messages is a string; expected an array"},
    {"{\"messages\":[\"a\"]}", "messages[0]: a string; expected an object"},
    {"{\"messages\":[{\"role\":\"user\"}]}", "messages[0]: field content is missing"},
    {"{\"messages\":[{\"content\":\"a\"}]}", "messages[0]: field role is missing"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[]}]}", "messages[0]: field content is an array"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"\"},{\"role\":\"tool\",\"content\":\"\"}]}",
     "messages[1]: role is \"tool\"; expected system, user or assistant"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"\"},{\"role\":\"system\",\"content\":\"\"}]}",
     "messages[1]: role is system; only the first"},
    {"{\"prompt\":\"\xff\",\"completion\":\"b\"}", "byte 0xff in column 12 is no UTF-8"},
    {"{\"prompt\":\"\xc3\",\"completion\":\"b\"}", "byte 0xc3 in column 12 is no UTF-8"},
    {"{\"prompt\":\"\\ud800\",\"completion\":\"b\"}", "no JSON"},
};

Test(data, broken_lines_are_refused_with_file_line_and_field) {
    use("smollm2");
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char text[512], place[400];
        xft_dataset *data = (xft_dataset *)&data;
        snprintf(text, sizeof text, SAMPLE("a", "b") "\n\n%s\n" SAMPLE("c", "d") "\n", broken[i].line);
        const char *path = write_text("broken.jsonl", text);
        cr_expect_eq(load(path, (xft_data_options){0}, &data), XFT_ERROR_FORMAT, "%s was taken", broken[i].line);
        cr_expect_null(data);
        snprintf(place, sizeof place, "%s:3: ", path);
        cr_expect(!strncmp(xft_error(), place, strlen(place)) && strstr(xft_error(), broken[i].reason),
                  "%s: expected \"%s\" in \"%s\"", broken[i].line, broken[i].reason, xft_error());
    }
}

static void refuse(const char *path, xft_data_options options, xft_status status, const char *reason) {
    xft_dataset *data = NULL;
    cr_expect_eq(load(path, options, &data), status, "%s", xft_error());
    cr_expect(strstr(xft_error(), reason), "expected \"%s\" in \"%s\"", reason, xft_error());
    cr_expect_null(data);
}

Test(data, files_without_samples_are_refused) {
    use("smollm2");
    refuse(path_of("none.jsonl"), (xft_data_options){0}, XFT_ERROR_IO, "none.jsonl: No such file");
    refuse(folder, (xft_data_options){0}, XFT_ERROR_IO, "Is a directory");
    refuse(write_text("empty.jsonl", ""), (xft_data_options){0}, XFT_ERROR_FORMAT, "empty.jsonl: holds no sample");
    refuse(write_text("blank.jsonl", "\n \n\r\n"), (xft_data_options){0}, XFT_ERROR_FORMAT, "blank.jsonl: holds no");
    refuse(write_text("empty.jsonl", SAMPLE("a", "")), (xft_data_options){0}, XFT_ERROR_FORMAT,
           "every sample was skipped: 0 messages without an answer, 1 empty answer, 0 no label");
    const char *files[] = {write_text("full.jsonl", SAMPLE("a", "b")), write_text("void.jsonl", "")};
    refuse(NULL, (xft_data_options){.files = files, .file_count = 2}, XFT_ERROR_FORMAT, "void.jsonl: holds no sample");
    refuse(NULL, (xft_data_options){.files = files}, XFT_ERROR_INVALID_ARGUMENT, "no file");
    refuse(files[0], (xft_data_options){.length = 1}, XFT_ERROR_INVALID_ARGUMENT, "length 1");
    refuse(files[0], (xft_data_options){.chat_template = "vicuna"}, XFT_ERROR_INVALID_ARGUMENT, "deepseek-coder");
    refuse(files[0], (xft_data_options){.vocab_size = 50}, XFT_ERROR_FORMAT, "full.jsonl:1: token \"");

    size_t bytes;
    char packed[200];
    gzFile gz = gzopen(path_of("whole.gz"), "wb");
    cr_assert(gzputs(gz, SAMPLE("a long prompt, so that there is something to cut off", "b") "\n") > 0);
    cr_assert_eq(gzclose(gz), Z_OK);
    FILE *f = fopen(path_of("whole.gz"), "rb");
    bytes = fread(packed, 1, sizeof packed, f);
    fclose(f);
    refuse(write_bytes("cut.gz", packed, bytes - 12), (xft_data_options){0}, XFT_ERROR_FORMAT, "broken gzip");

    use("added-flags"); /* no token ends an answer of chatml */
    refuse(files[0], (xft_data_options){.chat_template = "chatml"}, XFT_ERROR_FORMAT, "needs the token <|im_start|>");
}

static bool stop_now(void *user, const char *what, uint64_t done, uint64_t total) {
    (void)what;
    ++*(int *)user;
    return done > total; /* never */
}

Test(data, reading_can_be_stopped) {
    use("smollm2");
    int calls = 0;
    xft_callbacks callbacks = {.user = &calls, .progress = stop_now};
    xft_dataset *data;
    const char *path = write_text("a.jsonl", SAMPLE("a", "b"));
    cr_expect_eq(load(path, (xft_data_options){.callbacks = &callbacks}, &data), XFT_ERROR_CANCELLED);
    cr_expect_eq(calls, 1);
    cr_expect_null(data);
}

Test(data, skipped_and_cut_samples_are_counted) {
    use("smollm2");
    xft_dataset *data;
    uint32_t ids[32], count;
    bool labels[32];
    const char *path = write_text(
        "a.jsonl", SAMPLE("1 2 3 4 5 6 7 8 9", "b") "\n" /* the prompt fills the length */
        SAMPLE("a", "1 2 3 4 5 6 7 8") "\n"              /* cut */
        SAMPLE("a", "b") "\n"                            /* whole */
        SAMPLE("a", " \\n") "\n" SAMPLE(
            "",
            "") "\n"                                                       /* empty */
                "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n" /* no answer */
                "{\"messages\":[]}\n"
                "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"\"}]}\n");
    OK(load(path, (xft_data_options){.length = 8}, &data));
    xft_data_counts c = counts_of(data);
    cr_expect_eq(c.samples, 2);
    cr_expect_eq(c.truncated, 1);
    cr_expect_eq(c.longest, 8);
    cr_expect_eq(c.skipped[XFT_SKIP_NO_LABEL], 1);
    cr_expect_eq(c.skipped[XFT_SKIP_EMPTY_ANSWER], 3);
    cr_expect_eq(c.skipped[XFT_SKIP_NO_ANSWER], 2);
    cr_assert(xft_dataset_sample(data, 0, ids, labels, &count));
    cr_expect_eq(count, 8);
    cr_expect(labels[7]);
    cr_assert(xft_dataset_sample(data, 1, ids, labels, &count));
    cr_expect_eq(count, 4); /* BOS a b EOS */
    cr_expect(!labels[0] && !labels[1] && labels[2] && labels[3]);
    xft_dataset_free(data);
    for (int i = 0; i < XFT_SKIP_REASON_COUNT; i++) cr_expect(strlen(xft_skip_reason_name((xft_skip_reason)i)) > 5);
    cr_expect_str_eq(xft_skip_reason_name(XFT_SKIP_REASON_COUNT), "?");
}

/* ---- Micro-batches ---- */

/* Samples of 4 to 43 tokens; the third token tells them apart. */
static xft_dataset *make_samples(uint32_t samples) {
    char *text = malloc((size_t)samples * 200), *at = text;
    xft_dataset *data;
    for (uint32_t i = 0; i < samples; i++) {
        at += sprintf(at, "{\"prompt\":\"a\",\"completion\":\"%c%c%c", 'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 676);
        for (uint32_t w = i * 2654435761u >> 26; w; w--) at += sprintf(at, " a");
        at += sprintf(at, "\"}\n");
    }
    use("smollm2");
    OK(load(write_bytes("samples.jsonl", text, (size_t)(at - text)), (xft_data_options){.length = 48}, &data));
    free(text);
    cr_assert_eq(counts_of(data).samples, samples);
    return data;
}

static xft_loader *make_loader(const xft_dataset *data, xft_loader_options options) {
    xft_loader *loader;
    OK(xft_loader_create(data, &options, &loader));
    return loader;
}

/* Which sample lies in the rows of a sequence, with its labels; -1: none. */
static int64_t find_sample(const xft_dataset *data, const xft_batch *b, uint32_t sequence) {
    uint32_t ids[48], count, begin = b->cu_seqlens[sequence], end = b->cu_seqlens[sequence + 1];
    bool labels[48];
    for (uint64_t s = 0; xft_dataset_sample(data, s, ids, labels, &count); s++) {
        if (count != b->lengths[sequence] || memcmp(ids, b->ids + begin, count * sizeof *ids)) continue;
        for (uint32_t i = 0; i < end - begin; i++) {
            uint32_t expected = i + 1 < count && labels[i + 1] ? ids[i + 1] : UINT32_MAX;
            cr_assert_eq(b->labels[begin + i], expected, "sample %d, token %u", (int)s, i);
        }
        return (int64_t)s;
    }
    return -1;
}

/* One epoch: every sample once, steps and micro-batches of the right size, within the room that was promised. */
static void check_epoch(const xft_dataset *data, xft_loader *loader, const xft_loader_options *o) {
    uint64_t samples = counts_of(data).samples, rows = 0;
    uint32_t *seen = calloc(samples, sizeof *seen), most_tokens = 0, most_sequences = 0;
    for (uint64_t step = 0; step < xft_loader_steps(loader); step++) {
        const xft_batch *b;
        uint32_t count;
        OK(xft_loader_next(loader, &b, &count));
        uint64_t left = xft_loader_rows(loader) - rows, now = left < o->batch ? left : o->batch;
        cr_assert_eq(count, (now + o->micro_batch - 1) / o->micro_batch);
        rows += now;
        for (uint32_t i = 0; i < count; i++) {
            cr_assert(b[i].tokens <= xft_loader_tokens(loader) && b[i].sequences <= xft_loader_sequences(loader));
            cr_assert_eq(b[i].cu_seqlens[0], 0);
            cr_assert_eq(b[i].cu_seqlens[b[i].sequences], b[i].tokens);
            if (b[i].tokens > most_tokens) most_tokens = b[i].tokens;
            if (b[i].sequences > most_sequences) most_sequences = b[i].sequences;
            if (!o->packing)
                cr_assert_eq(b[i].sequences, i + 1 < count ? o->micro_batch : now - (uint64_t)i * o->micro_batch);
            for (uint32_t s = 0; s < b[i].sequences; s++) {
                int64_t found = find_sample(data, &b[i], s);
                cr_assert(found >= 0);
                seen[found]++;
            }
        }
    }
    cr_expect_eq(rows, xft_loader_rows(loader));
    for (uint64_t s = 0; s < samples; s++) cr_expect_eq(seen[s], 1, "sample %d: %u times", (int)s, seen[s]);
    cr_expect(most_tokens * 4 > xft_loader_tokens(loader) && most_sequences * 4 > xft_loader_sequences(loader));
    free(seen);
}

Test(data, an_epoch_has_every_sample_once) {
    static const xft_loader_options options[] = {
        {.batch = 8, .micro_batch = 3},
        {.batch = 8, .micro_batch = 3, .shuffle = true, .seed = 5},
        {.batch = 1, .micro_batch = 1, .shuffle = true},
        {.batch = 500, .micro_batch = 500, .shuffle = true},
        {.batch = 5, .micro_batch = 2, .packing = true, .shuffle = true},
        {.batch = 8, .micro_batch = 4, .padding = true, .pad_id = 2, .shuffle = true},
    };
    xft_dataset *data = make_samples(101);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        xft_loader *loader = make_loader(data, options[i]);
        cr_expect_eq(xft_loader_steps(loader), (xft_loader_rows(loader) + options[i].batch - 1) / options[i].batch);
        for (int epoch = 0; epoch < 3; epoch++) check_epoch(data, loader, &options[i]);
        cr_expect_eq(xft_loader_position(loader), 3 * xft_loader_steps(loader));
        xft_loader_destroy(loader);
    }
    xft_dataset_free(data);
}

Test(data, packed_rows_are_full_but_not_over) {
    xft_dataset *data = make_samples(400);
    xft_loader *loader = make_loader(data, (xft_loader_options){.batch = 1, .micro_batch = 1, .packing = true});
    uint64_t rows = xft_loader_rows(loader), tokens = 0, several = 0;
    for (uint64_t r = 0; r < rows; r++) {
        const xft_batch *b;
        uint32_t count;
        OK(xft_loader_next(loader, &b, &count));
        cr_assert_eq(count, 1);
        cr_assert_leq(b->tokens, 48);
        tokens += b->tokens;
        several += b->sequences > 1;
    }
    cr_expect_eq(tokens, counts_of(data).tokens);
    cr_expect_gt(several, rows / 4);
    cr_expect_gt(tokens * 100, rows * 48 * 93, "%d tokens in %d rows", (int)tokens, (int)rows);
    cr_expect_lt(rows, 400);
    xft_loader_destroy(loader);
    xft_dataset_free(data);
}

Test(data, padding_is_what_the_reference_does) {
    xft_dataset *data = make_samples(50);
    xft_loader *loader =
        make_loader(data, (xft_loader_options){.batch = 8, .micro_batch = 4, .padding = true, .pad_id = 77});
    const xft_batch *b;
    uint32_t count;
    OK(xft_loader_next(loader, &b, &count));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t longest = 0, padded = 0;
        for (uint32_t s = 0; s < 4; s++) longest = b[i].lengths[s] > longest ? b[i].lengths[s] : longest;
        cr_expect_eq(b[i].tokens, 4 * longest);
        for (uint32_t s = 0; s < 4; s++) {
            cr_expect_eq(b[i].cu_seqlens[s], s * longest);
            for (uint32_t t = b[i].lengths[s]; t < longest; t++, padded++) {
                cr_expect_eq(b[i].ids[s * longest + t], 77);
                cr_expect_eq(b[i].labels[s * longest + t], UINT32_MAX);
            }
        }
        cr_expect_gt(padded, 0);
    }
    xft_loader_destroy(loader);
    xft_dataset_free(data);
}

/* ---- Order ---- */

/* Everything in a step, as one number. */
static uint64_t hash_step(xft_loader *loader) {
    const xft_batch *b;
    uint32_t count;
    uint64_t hash = 1469598103934665603u;
    OK(xft_loader_next(loader, &b, &count));
    for (uint32_t i = 0; i < count; i++) {
        hash = (hash ^ b[i].tokens) * 1099511628211u;
        for (uint32_t t = 0; t < b[i].tokens; t++)
            hash = ((hash ^ b[i].ids[t]) * 1099511628211u ^ b[i].labels[t]) * 1099511628211u;
        for (uint32_t s = 0; s < b[i].sequences; s++) hash = (hash ^ b[i].cu_seqlens[s + 1]) * 1099511628211u;
    }
    return hash;
}

Test(data, a_resumed_loader_goes_on_with_the_same_batches) {
    enum { STEPS = 40 }; /* more than two epochs of each */
    static const xft_loader_options options[] = {{.batch = 6, .micro_batch = 4, .shuffle = true, .seed = 3},
                                                 {.batch = 3, .micro_batch = 2, .packing = true, .shuffle = true},
                                                 {.batch = 6, .micro_batch = 4}};
    xft_dataset *data = make_samples(101);
    for (size_t o = 0; o < 3; o++) {
        xft_loader *loader = make_loader(data, options[o]);
        uint64_t steps[STEPS];
        for (uint64_t i = 0; i < STEPS; i++) {
            cr_expect_eq(xft_loader_position(loader), i);
            steps[i] = hash_step(loader);
        }
        xft_loader_destroy(loader);
        for (uint64_t from = 0; from < STEPS; from += 3) {
            xft_loader *again = make_loader(data, options[o]);
            OK(xft_loader_seek(again, from));
            for (uint64_t i = from; i < STEPS; i++) cr_assert_eq(hash_step(again), steps[i]);
            OK(xft_loader_seek(again, from)); /* backwards, too */
            cr_expect_eq(hash_step(again), steps[from]);
            xft_loader_destroy(again);
        }
    }
    xft_dataset_free(data);
}

Test(data, seed_and_epoch_fix_the_order) {
    xft_dataset *data = make_samples(101);
    xft_loader_options o = {.batch = 101, .micro_batch = 101, .shuffle = true, .seed = 1};
    xft_loader *a = make_loader(data, o), *b = make_loader(data, o);
    o.seed = 2;
    xft_loader *c = make_loader(data, o);
    o.shuffle = false;
    xft_loader *d = make_loader(data, o);
    uint64_t first = hash_step(a), second = hash_step(a);
    cr_expect_neq(first, second);
    cr_expect_eq(hash_step(b), first);
    cr_expect_eq(hash_step(b), second);
    cr_expect_neq(hash_step(c), first);
    uint64_t still = hash_step(d);
    cr_expect_neq(still, first);
    cr_expect_eq(hash_step(d), still);
    xft_loader_destroy(a);
    xft_loader_destroy(b);
    xft_loader_destroy(c);
    xft_loader_destroy(d);
    xft_dataset_free(data);
}

/* The third token of every sample, which tells them apart. */
static uint64_t mark_samples(const xft_dataset *data, uint32_t *seen, size_t room) {
    uint32_t ids[48], count;
    uint64_t i = 0;
    for (; xft_dataset_sample(data, i, ids, NULL, &count); i++)
        for (uint32_t t = 2; t < 5 && t < count; t++) seen[(ids[t] * 31 + t) % room]++;
    return i;
}

Test(data, a_split_moves_samples) {
    enum { ROOM = 1 << 16 };
    static uint32_t whole[ROOM], parts[ROOM];
    xft_dataset *data = make_samples(101), *part, *again = make_samples(101), *part_again, *other = make_samples(101);
    mark_samples(data, whole, ROOM);
    xft_data_counts before = counts_of(data);
    OK(xft_dataset_split(data, 0.1, 7, &part));
    cr_expect_eq(mark_samples(part, parts, ROOM), 10);
    cr_expect_eq(mark_samples(data, parts, ROOM), 91);
    cr_expect_arr_eq(whole, parts, sizeof whole);
    xft_data_counts a = counts_of(data), b = counts_of(part);
    cr_expect(a.samples + b.samples == before.samples && a.tokens + b.tokens == before.tokens &&
              a.labels + b.labels == before.labels);
    cr_expect_eq(a.truncated, before.truncated);

    OK(xft_dataset_split(again, 0.1, 7, &part_again));
    cr_expect_eq(xft_dataset_fingerprint(part), xft_dataset_fingerprint(part_again));
    cr_expect_eq(xft_dataset_fingerprint(data), xft_dataset_fingerprint(again));
    xft_dataset_free(part_again);
    OK(xft_dataset_split(other, 0.1, 8, &part_again));
    cr_expect_neq(xft_dataset_fingerprint(part), xft_dataset_fingerprint(part_again));

    xft_dataset *rest, *one;
    OK(xft_dataset_split(part, 0.999, 1, &rest)); /* never all of it */
    cr_expect_eq(counts_of(part).samples, 1);
    cr_expect_eq(counts_of(rest).samples, 9);
    cr_expect_eq(xft_dataset_split(part, 0.5, 1, &one), XFT_ERROR_FORMAT);
    cr_expect_eq(xft_dataset_split(rest, 0, 1, &one), XFT_ERROR_INVALID_ARGUMENT);
    cr_expect_eq(xft_dataset_split(rest, 1, 1, &one), XFT_ERROR_INVALID_ARGUMENT);
    cr_expect_null(one);
    xft_dataset *all[] = {data, part, again, part_again, other, rest};
    for (size_t i = 0; i < 6; i++) xft_dataset_free(all[i]);
}

Test(data, loader_options_are_checked) {
    xft_dataset *data = make_samples(3);
    xft_loader *loader = NULL;
    cr_expect_eq(xft_loader_create(data, &(xft_loader_options){.micro_batch = 1}, &loader), XFT_ERROR_INVALID_ARGUMENT);
    cr_expect_eq(xft_loader_create(data, &(xft_loader_options){.batch = 1}, &loader), XFT_ERROR_INVALID_ARGUMENT);
    cr_expect_eq(
        xft_loader_create(data, &(xft_loader_options){.batch = 1, .micro_batch = 1, .packing = true, .padding = true},
                          &loader),
        XFT_ERROR_INVALID_ARGUMENT);
    cr_expect(strstr(xft_error(), "packing and padding"));
    cr_expect_null(loader);
    loader = make_loader(data, (xft_loader_options){.batch = UINT32_MAX, .micro_batch = UINT32_MAX});
    cr_expect_eq(xft_loader_steps(loader), 1);
    cr_expect_eq(xft_loader_seek(loader, UINT64_MAX), XFT_ERROR_INVALID_ARGUMENT);
    hash_step(loader);
    xft_loader_destroy(loader);
    xft_loader_destroy(NULL);
    xft_dataset_free(data);
    xft_dataset_free(NULL);
}
