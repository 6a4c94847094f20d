/* Problem files: HumanEval, HumanEval+, MBPP+ and instructions with tests, and the prompts made of them. */
#include "xft/score.h"

#include "error.h"
#include "jsonl.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct xft_problems {
    xft_problem *list;
    uint32_t count, room;
};

/* ---- Text ---- */

__attribute__((format(printf, 2, 3))) static xft_status print(const char **text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *made = NULL;
    int length = vasprintf(&made, format, args);
    va_end(args);
    *text = length < 0 ? NULL : made;
    XFT_FAIL_IF(length < 0, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the text of a problem");
    return XFT_OK;
}

/* A stretch of text, without the white space at its ends (as Python's strip). */
typedef struct stretch {
    const char *at;
    int length;
} stretch;

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f);
}

static stretch strip(const char *at, const char *end) {
    while (at < end && is_space(*at)) at++;
    while (end > at && is_space(end[-1])) end--;
    return (stretch){at, (int)(end - at)};
}

static const char *find_last(const char *text, const char *word) {
    const char *found = NULL;
    for (const char *at = text; (at = strstr(at, word)); at++) found = at;
    return found;
}

/* ---- The line of a file ---- */

typedef struct line {
    const char *path;
    uint64_t number;
    char *inputs[2]; /* JSON of base_input and plus_input */
} line;

__attribute__((format(printf, 2, 3))) static xft_status refuse(const line *l, const char *format, ...) {
    char words[400];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    return xft_fail(XFT_ERROR_FORMAT, "%s:%" PRIu64 ": %s", l->path, l->number, words);
}

/* The end of the JSON value at `at`. */
static char *skip_value(char *at, const char *end) {
    int depth = 0;
    for (bool quoted = false; at < end; at++) {
        if (quoted && *at == '\\')
            at++;
        else if (*at == '"')
            quoted = !quoted;
        else if (quoted)
            continue;
        else if (*at == '[' || *at == '{')
            depth++;
        else if (depth == 0 && (*at == ',' || *at == ']' || *at == '}'))
            break;
        else if (*at == ']' || *at == '}')
            depth--;
    }
    return at < end ? at : (char *)end;
}

/* Takes the inputs of EvalPlus out of a line and leaves 0 in their place: they hold integers of any size and NaN, which
 * Python writes, but which are no JSON. */
static xft_status take_inputs(line *l, char *text, const char *end) {
    static const char *const keys[] = {"\"base_input\":", "\"plus_input\":"};
    char *at = memchr(text, '{', (size_t)(end - text));
    while (at && at + 1 < end && (*at == '{' || *at == ',')) {
        char *key = at + 1;
        while (key < end && is_space(*key)) key++;
        at = skip_value(key, end);
        for (int i = 0; i < 2; i++) {
            size_t length = strlen(keys[i]);
            if ((size_t)(at - key) <= length || memcmp(key, keys[i], length) != 0) continue;
            free(l->inputs[i]);
            l->inputs[i] = strndup(key + length, (size_t)(at - key) - length);
            XFT_FAIL_IF(!l->inputs[i], XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for inputs of tests");
            memset(key + length, ' ', (size_t)(at - key) - length);
            key[length] = '0';
        }
    }
    return XFT_OK;
}

static xft_status get(const line *l, const json_t *object, const char *key, bool needed, const char **text) {
    const json_t *value = json_object_get(object, key);
    *text = json_string_value(value);
    if (value && !json_is_null(value) && !*text) return refuse(l, "%s is no string", key);
    if (*text && strlen(*text) != json_string_length(value)) return refuse(l, "%s holds a zero byte", key);
    if (needed && !*text) return refuse(l, "no %s", key);
    return XFT_OK;
}

/* ---- Prompts ---- */

static xft_status human_eval(xft_problem *p, const char *prompt) {
    stretch s = strip(prompt, prompt + strlen(prompt));
    XFT_TRY(print(&p->prompt, "%s", prompt));
    XFT_TRY(print(&p->response, "```python\n%.*s", s.length, s.at));
    return print(&p->instruction, "Write a solution to the following problem:\n```python\n%.*s\n```", s.length, s.at);
}

/* """ description, assertions """ */
static xft_status mbpp(const line *l, xft_problem *p, const char *prompt) {
    const char *from = strstr(prompt, "\"\"\"") + 3, *to = find_last(prompt, "\"\"\""), *assertion;
    if (to < from) return refuse(l, "the docstring of prompt has no end");
    assertion = strstr(from, "assert");
    if (!assertion || assertion >= to) return refuse(l, "the docstring of prompt holds no assertion");
    stretch words = strip(from, assertion), code = strip(assertion, to);
    bool stop = words.length && words.at[words.length - 1] == '.';
    XFT_TRY(print(&p->prompt, "%s", prompt));
    XFT_TRY(print(&p->response, "```python"));
    return print(&p->instruction, "%.*s%s Your code should satisfy the following assertion:\n```python\n%.*s\n```",
                 words.length, words.at, stop ? "" : ".", code.length, code.at);
}

/* ---- Tests ---- */

/* What an answer must do, in EvalPlus's sense: return what the canonical solution returns, floats within atol. */
static const char compare[] =
    "def check(candidate):\n"
    "    import copy, json, math\n"
    "    names = {}\n"
    "    exec(%s, names)\n"
    "    reference = names[%s]\n"
    "    def close(a, b):\n"
    "        return a == b or math.isclose(a, b, rel_tol=1e-7, abs_tol=atol) or (a != a and b != b)\n"
    "    def equal(a, b):\n"
    "        if isinstance(b, float) and isinstance(a, (int, float)): return close(a, b)\n"
    "        if isinstance(b, (list, tuple)) and type(a) is type(b):\n"
    "            return len(a) == len(b) and all(map(equal, a, b))\n"
    "        return a == b\n"
    "    atol = %.17g or 1e-6\n"
    "    for values in json.loads(%s) + json.loads(%s):\n"
    "        if candidate.__name__ == 'find_zero':\n" /* HumanEval/32: any root will do */
    "            x = candidate(*copy.deepcopy(values))\n"
    "            assert abs(sum(c * x ** i for i, c in enumerate(values[0]))) <= atol\n"
    "            continue\n"
    "        expected = reference(*copy.deepcopy(values))\n"
    "        assert equal(candidate(*copy.deepcopy(values)), expected), str(values)[:100]\n";

/* A text as a literal of Python, to be freed with free(). */
static char *literal(const char *text) {
    json_t *value = json_string(text);
    char *made = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    json_decref(value);
    return made;
}

static xft_status input_test(const line *l, xft_problem *p, double atol) {
    char *whole = NULL;
    if (!p->solution) return refuse(l, "inputs of tests, but no canonical_solution to give the results");
    if (asprintf(&whole, "%s%s", p->prompt, p->solution) < 0) whole = NULL;
    char *code = whole ? literal(whole) : NULL, *name = literal(p->entry_point);
    char *base = literal(l->inputs[0] ? l->inputs[0] : "[]"), *plus = literal(l->inputs[1] ? l->inputs[1] : "[]");
    xft_status status = XFT_OK;
    if (code && name && base && plus)
        status = print(&p->test, compare, code, name, atol, base, plus);
    else
        status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for the test of %s", p->task_id);
    free(whole);
    free(code);
    free(name);
    free(base);
    free(plus);
    return status;
}

static xft_status read_problem(const line *l, const json_t *object, xft_problem *p) {
    const char *text;
    XFT_TRY(get(l, object, "task_id", true, &text));
    XFT_TRY(print(&p->task_id, "%s", text));
    XFT_TRY(get(l, object, "entry_point", true, &text));
    XFT_TRY(print(&p->entry_point, "%s", text));
    XFT_TRY(get(l, object, "canonical_solution", false, &text));
    if (text) XFT_TRY(print(&p->solution, "%s", text));
    XFT_TRY(get(l, object, "instruction", false, &text));
    if (text) {
        XFT_TRY(print(&p->instruction, "%s", text));
        XFT_TRY(get(l, object, "prompt", false, &text));
        XFT_TRY(print(&p->prompt, "%s", text ? text : ""));
        XFT_TRY(get(l, object, "response", false, &text));
        XFT_TRY(print(&p->response, "%s", text ? text : ""));
    } else {
        XFT_TRY(get(l, object, "prompt", true, &text));
        bool docstring = !strncmp(strip(text, text + strlen(text)).at, "\"\"\"", 3);
        XFT_TRY(docstring ? mbpp(l, p, text) : human_eval(p, text));
    }
    XFT_TRY(get(l, object, "test", false, &text));
    const bool mbpp_plus = !strncmp(p->task_id, "Mbpp/", 5);
    if (text && (mbpp_plus || !l->inputs[1])) return print(&p->test, "%s", text);
    if (l->inputs[0] && mbpp_plus) return XFT_OK;
    if (l->inputs[0] || l->inputs[1]) return input_test(l, p, json_number_value(json_object_get(object, "atol")));
    return refuse(l, "no test");
}

static void free_problem(xft_problem *p) {
    const char *texts[] = {p->task_id, p->instruction, p->response, p->prompt, p->entry_point, p->test, p->solution};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free((char *)texts[i]);
}

static xft_status make_room(xft_problems *problems) {
    if (problems->count < problems->room) return XFT_OK;
    uint32_t room = 2 * problems->room + 64;
    xft_problem *list = realloc(problems->list, room * sizeof *list);
    XFT_FAIL_IF(!list, XFT_ERROR_OUT_OF_HOST_MEMORY, "no memory for %u problems", room);
    problems->list = list;
    problems->room = room;
    return XFT_OK;
}

static xft_status add_line(xft_problems *problems, const xft_jsonl *file, line *l, char *text, size_t bytes,
                           json_t *known) {
    XFT_TRY(make_room(problems));
    XFT_TRY(take_inputs(l, text, text + bytes));
    json_t *object;
    XFT_TRY(xft_jsonl_parse(file, text, bytes, &object));
    xft_problem *p = &problems->list[problems->count];
    *p = (xft_problem){0};
    xft_status status = read_problem(l, object, p);
    json_decref(object);
    if (status == XFT_OK && json_object_get(known, p->task_id))
        status = refuse(l, "task_id %s is there twice", p->task_id);
    if (status == XFT_OK && json_object_set_new(known, p->task_id, json_true()))
        status = xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", l->path);
    if (status == XFT_OK)
        problems->count++;
    else
        free_problem(p);
    return status;
}

static xft_status read_lines(xft_problems *problems, xft_jsonl *file, const char *path, json_t *known) {
    for (;;) {
        char *text;
        size_t bytes;
        XFT_TRY(xft_jsonl_next_text(file, &text, &bytes));
        if (!text) break;
        line l = {.path = path, .number = xft_jsonl_line(file)};
        xft_status status = add_line(problems, file, &l, text, bytes, known);
        free(l.inputs[0]);
        free(l.inputs[1]);
        if (status != XFT_OK) return status;
    }
    XFT_FAIL_IF(problems->count == 0, XFT_ERROR_FORMAT, "%s: holds no problem", path);
    return XFT_OK;
}

xft_status xft_problems_load(const char *path, xft_problems **problems) {
    XFT_NEED(path, problems);
    *problems = NULL;
    xft_jsonl *file;
    XFT_TRY(xft_jsonl_open(path, &file));
    xft_problems *p = calloc(1, sizeof *p);
    json_t *known = json_object();
    xft_status status =
        p && known ? read_lines(p, file, path, known) : xft_fail(XFT_ERROR_OUT_OF_HOST_MEMORY, "%s: no memory", path);
    json_decref(known);
    xft_jsonl_close(file);
    if (status != XFT_OK)
        xft_problems_free(p);
    else
        *problems = p;
    return status;
}

void xft_problems_free(xft_problems *problems) {
    if (!problems) return;
    for (uint32_t i = 0; i < problems->count; i++) free_problem(&problems->list[i]);
    free(problems->list);
    free(problems);
}

uint32_t xft_problems_count(const xft_problems *problems) {
    return problems ? problems->count : 0;
}

const xft_problem *xft_problems_at(const xft_problems *problems, uint32_t index) {
    return problems && index < problems->count ? &problems->list[index] : NULL;
}
