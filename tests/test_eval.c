/* Suite `eval`: problem files and the prompts made of them, samples of a model, programs that must not do what they
 * try, pass@k. Needs Python 3; samples need a device (XFT_TEST_DEVICE). */
#include "xft/score.h"

#include "fixture.h"
#include "small_model.h"
#include "xft/train.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#define OWN XFT_TESTS_DIR "/problems/own.jsonl"

static char temporary[300];

static void begin(void) {
    fixture_begin();
    snprintf(temporary, sizeof temporary, "%s/tmp", folder);
    cr_assert_eq(mkdir(temporary, 0777), 0);
    setenv("TMPDIR", temporary, 1);
}
TestSuite(eval, .init = begin, .fini = fixture_end, .timeout = 300);

static const char *write_text(const char *name, const char *text) {
    const char *path = path_of(name);
    FILE *f = fopen(path, "wb");
    cr_assert(f && fputs(text, f) >= 0 && !fclose(f));
    return path;
}

static char *read_text(const char *path) {
    char *text = calloc(1, 1 << 20);
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s", path);
    cr_assert_lt(fread(text, 1, 1 << 20, f), 1 << 20);
    fclose(f);
    return text;
}

static xft_problems *load(const char *path) {
    xft_problems *problems;
    OK(xft_problems_load(path, &problems));
    return problems;
}

/* ---- Problems ---- */

Test(eval, prompts_are_those_of_the_reference) {
    static const struct {
        const char *task_id, *instruction, *response, *prompt;
    } expected[] = {
        {"own/halve",
         "Write a solution to the following problem:\n```python\ndef halve(numbers):\n    \"\"\" Half of every "
         "number.\n"
         "    >>> halve([2, 5])\n    [1.0, 2.5]\n    \"\"\"\n```",
         "```python\ndef halve(numbers):\n    \"\"\" Half of every number.\n    >>> halve([2, 5])\n    [1.0, 2.5]\n"
         "    \"\"\"",
         "\n\ndef halve(numbers):\n    \"\"\" Half of every number.\n    >>> halve([2, 5])\n    [1.0, 2.5]\n    "
         "\"\"\"\n"},
        {"own/total",
         "Write a solution to the following problem:\n```python\ndef total(numbers):\n    \"\"\" The sum of a list, "
         "über "
         "alles. \"\"\"\n```",
         "```python\ndef total(numbers):\n    \"\"\" The sum of a list, über alles. \"\"\"",
         "def total(numbers):\n    \"\"\" The sum of a list, über alles. \"\"\"\n"},
        {"Mbpp/9001",
         "Write a function to join two words with a dash. Your code should satisfy the following "
         "assertion:\n```python\n"
         "assert dash('a', 'b') == 'a-b'\n```",
         "```python",
         "\"\"\"\nWrite a function to join two words with a dash\nassert dash('a', 'b') == 'a-b'\n\"\"\"\n"},
        {"own/largest", "Write largest(numbers), which returns the largest of a list, or None for an empty one.", "",
         ""},
        {"own/square", "Write square(n).", "```python\n", ""},
    };
    xft_problems *problems = load(OWN);
    cr_assert_eq(xft_problems_count(problems), 5);
    for (uint32_t i = 0; i < 5; i++) {
        const xft_problem *p = xft_problems_at(problems, i);
        cr_expect_str_eq(p->task_id, expected[i].task_id);
        cr_expect_str_eq(p->instruction, expected[i].instruction);
        cr_expect_str_eq(p->response, expected[i].response);
        cr_expect_str_eq(p->prompt, expected[i].prompt);
        cr_expect(p->test && p->solution && p->entry_point);
    }
    cr_expect_null(xft_problems_at(problems, 5));
    xft_problems_free(problems);
}

Test(eval, problems_are_read_from_gzip_too) {
    char *text = read_text(OWN);
    gzFile file = gzopen(path_of("own.jsonl.gz"), "wb");
    cr_assert(file && gzputs(file, text) > 0 && gzclose(file) == Z_OK);
    xft_problems *problems = load(path_of("own.jsonl.gz"));
    cr_expect_eq(xft_problems_count(problems), 5);
    xft_problems_free(problems);
    free(text);
}

Test(eval, broken_problem_files_are_refused) {
    static const char *const broken[][2] = {
        {"", "holds no problem"},
        {"\n\n", "holds no problem"},
        {"[]", "expected a JSON object"},
        {"{\"task_id\":\"a\"", "x.jsonl:1"},
        {"{\"base_input\":[1,2", "x.jsonl:1"},
        {"{\"entry_point\":\"f\"}", "no task_id"},
        {"{\"task_id\":7}", "task_id is no string"},
        {"{\"task_id\":\"a\\u0000b\"}", "zero byte"},
        {"{\"task_id\":\"a\"}", "no entry_point"},
        {"{\"task_id\":\"a\",\"entry_point\":\"f\"}", "no prompt"},
        {"{\"task_id\":\"a\",\"entry_point\":\"f\",\"instruction\":\"x\"}", "no test"},
        {"{\"task_id\":\"a\",\"entry_point\":\"f\",\"prompt\":\"\\\"\\\"\\\" x \\\"\\\"\\\"\",\"test\":\"\"}",
         "no assertion"},
        {"{\"task_id\":\"a\",\"entry_point\":\"f\",\"prompt\":\"\\\"\\\"\\\" assert x\",\"test\":\"\"}", "no end"},
        {"{\"task_id\":\"a\",\"entry_point\":\"f\",\"prompt\":\"x\",\"base_input\":[]}", "no canonical_solution"},
        {"{\"task_id\":\"a\",\"entry_point\":\"f\",\"prompt\":\"x\",\"test\":\"\"}\n"
         "{\"task_id\":\"a\",\"entry_point\":\"f\",\"prompt\":\"x\",\"test\":\"\"}",
         "x.jsonl:2: task_id a is there twice"},
    };
    xft_problems *problems;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        xft_status status = xft_problems_load(write_text("x.jsonl", broken[i][0]), &problems);
        cr_expect_eq(status, XFT_ERROR_FORMAT, "%s", broken[i][0]);
        cr_expect(strstr(xft_error(), broken[i][1]) && strstr(xft_error(), "x.jsonl"), "%s: %s", broken[i][0],
                  xft_error());
    }
    cr_expect_eq(xft_problems_load(path_of("absent.jsonl"), &problems), XFT_ERROR_IO);
}

/* ---- Tests of samples ---- */

static void add_sample(FILE *f, const char *task_id, const char *completion) {
    json_t *line = json_pack("{s:s,s:s}", "task_id", task_id, "completion", completion);
    cr_assert_eq(json_dumpf(line, f, 0), 0);
    fputc('\n', f);
    json_decref(line);
}

/* A file with the canonical solution of every problem. */
static const char *write_solutions(const xft_problems *problems) {
    const char *path = path_of("solutions.jsonl");
    FILE *f = fopen(path, "w");
    cr_assert(f);
    for (uint32_t i = 0; i < xft_problems_count(problems); i++) {
        const xft_problem *p = xft_problems_at(problems, i);
        add_sample(f, p->task_id, p->solution);
    }
    fclose(f);
    return path;
}

/* A line of MBPP+: no test, and inputs whose types are lost. */
static const char mbpp_plus[] =
    "{\"task_id\": \"Mbpp/9002\", \"prompt\": \"\\\"\\\"\\\"\\nWrite a function to find what two tuples "
    "share.\\nassert "
    "shared((1, 2), (2, 3)) == (2,)\\n\\\"\\\"\\\"\\n\", \"entry_point\": \"shared\", \"canonical_solution\": \"\\ndef "
    "shared(a, b):\\n    return tuple(set(a) & set(b))\\n\", \"base_input\": [[[1, 2], [2, 3]]], \"atol\": 0, "
    "\"plus_input\": [[[], []], [[1], [1]]], \"contract\": \"\\n    assert isinstance(a, tuple)\\n\"}\n";

Test(eval, problems_of_mbpp_plus_are_not_scored_here) {
    xft_problems *problems = load(write_text("mbpp.jsonl", mbpp_plus));
    const xft_problem *p = xft_problems_at(problems, 0);
    cr_expect(!p->test && strstr(p->instruction, "assert shared((1, 2), (2, 3)) == (2,)\n```"));
    FILE *f = fopen(path_of("samples.jsonl"), "w");
    cr_assert(f);
    add_sample(f, p->task_id, p->solution);
    fclose(f);
    xft_score score;
    cr_expect_eq(xft_problems_score(problems, path_of("samples.jsonl"), NULL, NULL, &score), XFT_ERROR_UNSUPPORTED);
    cr_expect(strstr(xft_error(), "Mbpp/9002 has no test"), "%s", xft_error());
    xft_problems_free(problems);
}

/* XFT_HUMANEVAL=FILE: that file's solutions instead of our own. */
Test(eval, canonical_solutions_pass) {
    const char *file = getenv("XFT_HUMANEVAL");
    xft_problems *problems = load(file ? file : OWN);
    xft_score score;
    OK(xft_problems_score(problems, write_solutions(problems), NULL, path_of("results.json"), &score));
    char *results = read_text(path_of("results.json"));
    cr_expect_eq(score.passed, xft_problems_count(problems), "%u of %u passed:\n%.3000s", score.passed,
                 xft_problems_count(problems), results);
    cr_expect(score.samples == xft_problems_count(problems) && score.problems == score.samples && !score.missing);
    cr_expect(score.solved == score.samples && score.isolated && score.k[0] == 1 && score.k[1] == 0);
    cr_expect_eq(score.pass_at[0], 1);
    free(results);
    xft_problems_free(problems);
}

Test(eval, samples_are_scored_and_results_written) {
    xft_problems *problems = load(OWN);
    FILE *f = fopen(path_of("samples.jsonl"), "w");
    cr_assert(f);
    static const char *const samples[][2] = {
        {"own/square", "def square(n):\n    return n * n"},
        {"own/total", "    return sum(numbers) + 0.0\n"}, /* loses the digits of a great integer */
        {"own/square", "def square(n):\n    return n + n"},
        {"own/total", "    t = 0\n    for n in numbers: t += n\n    return t\n\nif __name__ == '__main__': 1/0"},
        {"own/square", "def square(n): return n ** 2\nraise SystemExit(0)"},
        {"own/total", "    return None\n"},
        {"own/square", "lambda: )"},
        {"own/total", "    return sum(reversed(numbers)) + 1e-9\n"},
    };
    for (size_t i = 0; i < 8; i++) add_sample(f, samples[i][0], samples[i][1]);
    fputs("{\"task_id\":\"own/square\",\"completion\":\"def square(n): return n*n\\u0000\"}\n", f);
    fclose(f);
    xft_score score;
    xft_score_options options = {.k = {1, 3, 4, 5}, .jobs = 3};
    OK(xft_problems_score(problems, path_of("samples.jsonl"), &options, path_of("results.json"), &score));
    json_t *root = json_load_file(path_of("results.json"), 0, NULL);
    cr_assert(root);
    json_t *total = json_array_get(json_object_get(root, "results"), 0),
           *square = json_array_get(json_object_get(root, "results"), 1);
    static const char *const outcomes[2][5] = {{"failed", "passed", "failed", "failed"},
                                               {"passed", "failed", "failed", "failed", "failed"}};
    for (int p = 0; p < 2; p++)
        for (int i = 0; i < 4 + p; i++) {
            json_t *one = json_array_get(json_object_get(p ? square : total, "samples"), (size_t)i);
            cr_expect_str_eq(json_string_value(json_object_get(one, "outcome")), outcomes[p][i], "%d %d: %s", p, i,
                             json_string_value(json_object_get(one, "message")));
        }
    cr_expect(score.problems == 2 && score.missing == 3 && score.samples == 9 && score.passed == 2 &&
              score.solved == 2);
    cr_expect(score.k[2] == 4 && score.k[3] == 0, "no pass@5 of 4 samples");
    options.max_problems = 4;
    OK(xft_problems_score(problems, path_of("samples.jsonl"), &options, path_of("results.json"), &score));
    cr_expect_eq(score.missing, 2, "only those that were to have samples");
    cr_expect_float_eq(score.pass_at[0], (0.25 + 0.2) / 2, 1e-12);
    cr_expect_float_eq(json_number_value(json_object_get(root, "pass@3")), (0.75 + 0.6) / 2, 1e-12);
    json_decref(root);

    struct stat before, after;
    cr_assert(!stat(path_of("results.json"), &before));
    static const char *const broken[][2] = {
        {"{\"task_id\":\"nobody\",\"completion\":\"\"}", "none of the problems"},
        {"{\"task_id\":\"own/square\"}", "no completion"},
        {"7", "expected a JSON object"},
        {"", "holds no sample"},
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        cr_expect_eq(
            xft_problems_score(problems, write_text("b.jsonl", broken[i][0]), NULL, path_of("results.json"), &score),
            XFT_ERROR_FORMAT);
        cr_expect(strstr(xft_error(), broken[i][1]), "%s: %s", broken[i][0], xft_error());
    }
    cr_assert(!stat(path_of("results.json"), &after));
    cr_expect_eq(before.st_ino, after.st_ino, "earlier results are left");
    xft_problems_free(problems);
}

Test(eval, pass_at_k_is_the_closed_form) {
    for (uint64_t n = 1; n <= 30; n++)
        for (uint64_t c = 0; c <= n; c++)
            for (uint64_t k = 1; k <= n; k++) {
                double log_ratio = lgamma((double)(n - c) + 1) - lgamma((double)(n - c) - (double)k + 1) -
                                   lgamma((double)n + 1) + lgamma((double)(n - k) + 1);
                double expected = n - c < k ? 1 : 1 - exp(log_ratio);
                cr_expect_float_eq(xft_pass_at_k(n, c, k), expected, 1e-12, "%d %d %d", (int)n, (int)c, (int)k);
            }
    cr_expect_float_eq(xft_pass_at_k(200, 3, 1), 3.0 / 200, 1e-14);
    cr_expect(isnan(xft_pass_at_k(3, 4, 1)) && isnan(xft_pass_at_k(3, 1, 4)) && isnan(xft_pass_at_k(3, 1, 0)));
}

/* ---- Programs that must not do what they try ---- */

/* Processes that have a folder of ours as their own. */
static int processes_left(void) {
    int count = 0;
    DIR *proc = opendir("/proc");
    cr_assert(proc);
    for (struct dirent *e; (e = readdir(proc));) {
        char link[300], at[400];
        snprintf(link, sizeof link, "/proc/%s/cwd", e->d_name);
        ssize_t length = readlink(link, at, sizeof at - 1);
        at[length > 0 ? length : 0] = 0;
        count += strstr(at, temporary) != NULL;
    }
    closedir(proc);
    return count;
}

static void expect_nothing_left(const char *program) {
    DIR *dir = opendir(temporary);
    int entries = 0;
    while (readdir(dir)) entries++;
    closedir(dir);
    cr_expect_eq(entries, 2, "a file is left of: %s", program);
    cr_expect_eq(processes_left(), 0, "a process is left of: %s", program);
    cr_expect(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD, "a child is left of: %s", program);
}

Test(eval, programs_stay_within_their_limits) {
    static const struct {
        const char *program;
        xft_outcome outcome;
        const char *message; /* a part */
    } cases[] = {
        {"x = 1", XFT_OUTCOME_PASSED, ""},
        {"import math, json, re, collections, itertools, random, datetime, decimal", XFT_OUTCOME_PASSED, ""},
        {"import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()", XFT_OUTCOME_PASSED, ""},
        {"assert 1 + 1 == 3, 'wrong sum'", XFT_OUTCOME_FAILED, "AssertionError: wrong sum"},
        {"while True: pass", XFT_OUTCOME_TIMEOUT, "stopped after"},
        {"import time\ntime.sleep(1000)", XFT_OUTCOME_TIMEOUT, "stopped after"},
        {"import signal\nfor s in range(1, 32):\n  try: signal.signal(s, signal.SIG_IGN)\n  except OSError: pass\n"
         "while True: pass",
         XFT_OUTCOME_TIMEOUT, "stopped after"},
        {"input()", XFT_OUTCOME_FAILED, "EOFError"},
        {"a = [0] * 10 ** 11", XFT_OUTCOME_FAILED, "MemoryError"},
        {"a = []\nwhile True: a.append(bytearray(1 << 20))", XFT_OUTCOME_FAILED, "MemoryError"},
        {"import mmap\na = [mmap.mmap(-1, 1 << 28) for i in range(100)]", XFT_OUTCOME_FAILED, "Cannot allocate"},
        {"def f(): return f()\nf()", XFT_OUTCOME_FAILED, "RecursionError"},
        {"import os\nwhile True: os.fork()", XFT_OUTCOME_FAILED, "PermissionError"},
        {"import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", XFT_OUTCOME_TIMEOUT, "stopped after"},
        {"import subprocess\nsubprocess.Popen(['sleep', '1000'])", XFT_OUTCOME_FAILED, "Error"},
        {"import os\nos.posix_spawn('/bin/sleep', ['sleep', '1000'], {})", XFT_OUTCOME_FAILED, "Error"},
        {"import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(1000,)).start()",
         XFT_OUTCOME_TIMEOUT, "stopped after"},
        {"import os\nos.execv('/bin/true', ['true'])", XFT_OUTCOME_FAILED, "exit status 0"},
        {"import socket\nsocket.socket()", XFT_OUTCOME_FAILED, "PermissionError"},
        {"import socket\nsocket.socket(socket.AF_UNIX)", XFT_OUTCOME_FAILED, "PermissionError"},
        {"import urllib.request\nurllib.request.urlopen('http://127.0.0.1/')", XFT_OUTCOME_FAILED, "URLError"},
        {"open('here', 'w')", XFT_OUTCOME_FAILED, "Read-only"},
        {"import os\nos.mkdir('here')", XFT_OUTCOME_FAILED, "Read-only"},
        {"open('/dev/shm/xft-there', 'w')", XFT_OUTCOME_FAILED, "Read-only"},
        {"open('/proc/self/mem', 'r+b')", XFT_OUTCOME_FAILED, "Read-only"},
        {"import tempfile\ntempfile.TemporaryFile()", XFT_OUTCOME_FAILED, "Error"},
        {"import os\nos.remove(__import__('json').__file__)", XFT_OUTCOME_FAILED, "Read-only"},
        {"import os\nos.rename('/tmp', '/tmpp')", XFT_OUTCOME_FAILED, "Read-only"},
        {"import os\nos.chmod('.', 0)", XFT_OUTCOME_FAILED, "Read-only"},
        {"import shutil, os\nshutil.rmtree(os.environ['HOME'] + '/../..')", XFT_OUTCOME_FAILED, "Error"},
        {"import os\nos.kill(os.getppid(), 9)", XFT_OUTCOME_FAILED, "PermissionError"},
        {"import os\nos.kill(-1, 9)", XFT_OUTCOME_FAILED, "PermissionError"},
        {"import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0", XFT_OUTCOME_FAILED, "AssertionError"},
        {"import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", XFT_OUTCOME_FAILED, "Error"},
        {"assert int([l for l in open('/proc/self/status') if l[:6] == 'CapEff'][0].split()[1], 16) == 0",
         XFT_OUTCOME_PASSED, ""},
        {"import os\nassert os.listdir('.') == [] and len(os.listdir('/proc/self/fd')) < 7", XFT_OUTCOME_PASSED, ""},
        {"import os\nos._exit(0)", XFT_OUTCOME_FAILED, "exit status 0 before the end"},
        {"import sys\nsys.exit()", XFT_OUTCOME_FAILED, "exit status 0 before the end"},
        {"quit(7)", XFT_OUTCOME_FAILED, "exit status 7"},
        {"import os\nos.abort()", XFT_OUTCOME_FAILED, "killed by signal"},
        {"import ctypes\nctypes.string_at(0)", XFT_OUTCOME_FAILED, "SEGV"},
        {"def f(:", XFT_OUTCOME_FAILED, "SyntaxError"},
        {"'unfinished", XFT_OUTCOME_FAILED, "SyntaxError"},
        {"\x80", XFT_OUTCOME_FAILED, "SyntaxError"},
        {"while True: print('x' * 100000)", XFT_OUTCOME_TIMEOUT, "stopped after"},
        {"import sys\nwhile True: print('x' * 100000, file=sys.stderr)", XFT_OUTCOME_TIMEOUT, "stopped after"},
        {"import os\nos.close(2)\nos.close(3)\nwhile True: pass", XFT_OUTCOME_TIMEOUT, "stopped after"},
        {"import os\nos.closerange(0, 100)", XFT_OUTCOME_FAILED, "exit status"},
        {"raise Exception('ü' * 1000)", XFT_OUTCOME_FAILED, "Exception: üüü"},
        {"import atexit, time\natexit.register(time.sleep, 1000)", XFT_OUTCOME_PASSED, ""},
    };
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    cr_assert_eq(listen(listener, 5), 0);
    struct sockaddr_in address;
    getsockname(listener, (struct sockaddr *)&address, &(socklen_t){sizeof address});
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        xft_verdict v;
        OK(xft_sandbox_run(
            &(xft_sandbox){.timeout = cases[i].outcome == XFT_OUTCOME_TIMEOUT ? 0.7 : 20, .memory = 512 << 20},
            cases[i].program, &v));
        cr_expect_eq(v.outcome, cases[i].outcome, "%s: outcome %d, %s", cases[i].program, v.outcome, v.message);
        cr_expect(strstr(v.message, cases[i].message), "%s: %s", cases[i].program, v.message);
        cr_expect_lt(v.seconds, 20);
        expect_nothing_left(cases[i].program);
    }
    char program[200];
    snprintf(program, sizeof program, "import socket\nsocket.create_connection(('127.0.0.1', %d))",
             ntohs(address.sin_port));
    xft_verdict v;
    OK(xft_sandbox_run(NULL, program, &v));
    cr_expect(v.outcome == XFT_OUTCOME_FAILED && accept(listener, NULL, NULL) < 0, "a connection came: %s", v.message);
    close(listener);
}

Test(eval, what_cannot_run_is_an_error) {
    xft_verdict v;
    cr_expect_eq(xft_sandbox_run(&(xft_sandbox){.python = "no-such-python"}, "x = 1", &v), XFT_ERROR_IO);
    cr_expect(strstr(xft_error(), "no-such-python"), "%s", xft_error());
    cr_expect_eq(xft_sandbox_run(&(xft_sandbox){.python = "/bin/true"}, "x = 1", &v), XFT_ERROR_IO);
    cr_expect_eq(xft_sandbox_run(&(xft_sandbox){.timeout = -1}, "x = 1", &v), XFT_ERROR_INVALID_ARGUMENT);
    cr_expect_eq(xft_sandbox_run(&(xft_sandbox){.memory = 2048}, "x = 1", &v), XFT_ERROR_INVALID_ARGUMENT);
    OK(xft_sandbox_run(&(xft_sandbox){.memory = 64000000}, "x = 1", &v));
    cr_expect_eq(v.outcome, XFT_OUTCOME_PASSED, "%s", v.message);
    cr_expect_eq(xft_sandbox_run(NULL, NULL, &v), XFT_ERROR_INVALID_ARGUMENT);
    setenv("TMPDIR", "/nowhere", 1);
    cr_expect_eq(xft_sandbox_run(NULL, "x = 1", &v), XFT_ERROR_IO);
    setenv("TMPDIR", temporary, 1);
    char *const script = (char *)write_text("python", "#!/bin/sh\nls / >/dev/null\nexec /usr/bin/env python3 \"$@\"\n");
    cr_assert_eq(chmod(script, 0755), 0);
    OK(xft_sandbox_run(&(xft_sandbox){.python = script}, "x = 1", &v)); /* as version managers install them */
    cr_expect_eq(v.outcome, XFT_OUTCOME_PASSED, "%s", v.message);
}

static bool stop_soon(void *user, const char *what, uint64_t done, uint64_t total) {
    cr_assert(!strcmp(what, "testing") && done <= total);
    return done < *(uint64_t *)user;
}

Test(eval, scoring_can_be_cancelled) {
    xft_problems *problems = load(OWN);
    xft_score score;
    uint64_t limit = 2;
    xft_score_options options = {.callbacks = &(xft_callbacks){.user = &limit, .progress = stop_soon}, .jobs = 1};
    cr_expect_eq(xft_problems_score(problems, write_solutions(problems), &options, path_of("r.json"), &score),
                 XFT_ERROR_CANCELLED);
    cr_expect_neq(access(path_of("r.json"), F_OK), 0);
    expect_nothing_left("a cancelled scoring");
    xft_problems_free(problems);
}

/* ---- Samples of a model ---- */

/* Where a test of samples works: a model of a few layers that can learn five answers, with a small tokenizer. */
typedef struct place {
    xft_device *device;
    xft_model *model;
    xft_tokenizer *tokenizer;
    xft_problems *problems;
} place;

static place make_place(void) {
    place p = {0};
    const char *device = getenv("XFT_TEST_DEVICE");
    OK(xft_device_open(device ? device : "auto", NULL, &p.device));
    OK(xft_tokenizer_load(XFT_TESTS_DIR "/oracle_tokenizer/deepseek-coder", &p.tokenizer));
    xft_config c = small_config(XFT_FAMILY_LLAMA);
    c.vocab_size = xft_tokenizer_size(p.tokenizer);
    c.max_positions = 400;
    c.initializer_range = 0.05f;
    c.tied_head = true;
    OK(small_model(p.device, &c, XFT_F32, 3, &p.model));
    p.problems = load(OWN);
    return p;
}

static void free_place(place *p) {
    xft_problems_free(p->problems);
    xft_model_destroy(p->model);
    xft_tokenizer_free(p->tokenizer);
    xft_device_close(p->device);
}

/* The answers that make the tests pass, as a dataset. */
static xft_dataset *make_answers(const place *p) {
    const char *path = path_of("answers.jsonl");
    FILE *f = fopen(path, "w");
    cr_assert(f);
    for (uint32_t i = 0; i < xft_problems_count(p->problems); i++) {
        const xft_problem *problem = xft_problems_at(p->problems, i);
        char response[800];
        snprintf(response, sizeof response, "%s%s%s```\nThat is all.",
                 i == 3 ? "Here it is:\n```python\n" : problem->response, i < 2 ? "\n" : "", problem->solution);
        json_t *line = json_pack("{s:s,s:s}", "instruction", problem->instruction, "response", response);
        cr_assert_eq(json_dumpf(line, f, 0), 0);
        fputc('\n', f);
        json_decref(line);
    }
    fclose(f);
    xft_dataset *data;
    OK(xft_dataset_load(p->tokenizer, &(xft_data_options){.files = &path, .file_count = 1, .length = 400}, &data));
    return data;
}

static void learn(const place *p, const xft_dataset *data, uint32_t steps) {
    xft_loader *loader;
    xft_trainer *trainer;
    const xft_batch *batches;
    uint32_t count;
    OK(xft_loader_create(data, &(xft_loader_options){.batch = 5, .micro_batch = 5}, &loader));
    OK(xft_trainer_create(p->model,
                          &(xft_train_options){.tokens = xft_loader_tokens(loader),
                                               .sequences = xft_loader_sequences(loader),
                                               .optimizer = XFT_ADAMW},
                          &trainer));
    for (uint32_t step = 0; step < steps; step++) {
        OK(xft_loader_next(loader, &batches, &count));
        OK(xft_trainer_step(trainer, batches, count, xft_schedule_rate(XFT_SCHEDULE_COSINE, 0.01, 10, steps, step)));
    }
    xft_metrics metrics;
    OK(xft_trainer_flush(trainer, &metrics));
    xft_trainer_destroy(trainer);
    xft_loader_destroy(loader);
}

static bool stop_sampling(void *user, const char *what, uint64_t done, uint64_t total) {
    (void)total;
    return strcmp(what, "sampling") != 0 || done < *(uint64_t *)user;
}

Test(eval, a_model_that_knows_the_answers_passes) {
    place p = make_place();
    xft_dataset *data = make_answers(&p);
    double loss, untrained;
    uint64_t labels, same;
    OK(xft_score_loss(p.model, data, 2, false, false, NULL, &untrained, &labels));
    xft_data_counts counts;
    xft_dataset_get_counts(data, &counts);
    cr_expect_eq(labels, counts.labels);
    cr_expect(fabs(untrained - log(xft_model_get_config(p.model)->vocab_size)) < 1, "%g", untrained);
    learn(&p, data, 160);
    OK(xft_score_loss(p.model, data, 3, true, false, NULL, &loss, &same));
    cr_expect(loss < 0.1 && same == labels, "loss %g", loss);

    const char *path = path_of("samples.jsonl");
    xft_sample_options options = {.max_new_tokens = 100, .batch = 4};
    OK(xft_problems_sample(p.problems, p.model, p.tokenizer, &options, path));
    char *whole = read_text(path), *at = whole;
    for (uint32_t i = 0; i < 5; i++) {
        char *end = strchr(at, '\n');
        cr_assert(end);
        json_t *line = json_loadb(at, (size_t)(end - at), 0, NULL);
        const xft_problem *problem = xft_problems_at(p.problems, i);
        char expected[400];
        snprintf(expected, sizeof expected, "%s%s", i < 2 ? "\n" : "", problem->solution);
        cr_expect_str_eq(json_string_value(json_object_get(line, "task_id")), problem->task_id);
        cr_expect_str_eq(json_string_value(json_object_get(line, "completion")), expected);
        json_decref(line);
        at = end + 1;
    }
    cr_expect_eq(*at, 0);
    xft_score score;
    OK(xft_problems_score(p.problems, path, NULL, NULL, &score));
    cr_expect(score.passed == 5 && score.pass_at[0] == 1, "%u passed", score.passed);

    /* cut within the third line: gone on with, to the same bytes */
    char *third = strchr(strchr(whole, '\n') + 1, '\n') + 5;
    cr_assert_eq(truncate(path, third - whole), 0);
    OK(xft_problems_sample(p.problems, p.model, p.tokenizer, &options, path));
    char *again = read_text(path);
    cr_expect_str_eq(again, whole);
    free(again);
    options.max_new_tokens = 50;
    cr_expect_eq(xft_problems_sample(p.problems, p.model, p.tokenizer, &options, path), XFT_ERROR_INVALID_ARGUMENT);
    cr_expect(strstr(xft_error(), "max_new_tokens 100, now it is 50"), "%s", xft_error());
    options.chat_template = "no-such-template";
    cr_expect_neq(xft_problems_sample(p.problems, p.model, p.tokenizer, &options, path), XFT_OK);
    again = read_text(path);
    cr_expect_str_eq(again, whole, "a refusal leaves the samples");
    free(again);
    free(whole);
    xft_dataset_free(data);
    free_place(&p);
}

Test(eval, samples_are_reproducible_and_resumable) {
    place p = make_place();
    xft_sample_options options = {
        .max_problems = 3, .samples = 3, .temperature = 1, .top_p = 0.9f, .max_new_tokens = 12, .batch = 4, .seed = 5};
    OK(xft_problems_sample(p.problems, p.model, p.tokenizer, &options, path_of("a.jsonl")));
    char *whole = read_text(path_of("a.jsonl"));
    int lines = 0;
    for (char *at = whole; (at = strchr(at, '\n')); at++) lines++;
    cr_expect_eq(lines, 9);
    uint64_t limit = 4;
    options.callbacks = &(xft_callbacks){.user = &limit, .progress = stop_sampling};
    cr_expect_eq(xft_problems_sample(p.problems, p.model, p.tokenizer, &options, path_of("b.jsonl")),
                 XFT_ERROR_CANCELLED);
    char *part = read_text(path_of("b.jsonl"));
    cr_expect(strlen(part) < strlen(whole) && !strncmp(part, whole, strlen(part)) && *part);
    limit = 100;
    OK(xft_problems_sample(p.problems, p.model, p.tokenizer, &options, path_of("b.jsonl")));
    char *resumed = read_text(path_of("b.jsonl"));
    cr_expect_str_eq(resumed, whole);
    options.seed = 6;
    OK(xft_problems_sample(p.problems, p.model, p.tokenizer, &options, path_of("c.jsonl")));
    char *other = read_text(path_of("c.jsonl"));
    cr_expect_str_neq(other, whole);
    write_text("d.jsonl", "{\"task_id\":\"own/halve\",\"completion\":\"\"}\n");
    cr_expect_eq(xft_problems_sample(p.problems, p.model, p.tokenizer, &options, path_of("d.jsonl")),
                 XFT_ERROR_INVALID_ARGUMENT);
    cr_expect(strstr(xft_error(), "d.jsonl.json"), "%s", xft_error());
    free(whole);
    free(part);
    free(resumed);
    free(other);
    free_place(&p);
}
