/* Scoring models: loss on a dataset; problems whose answer is code, samples of a model for them, the tests run on the
 * samples, pass@k.
 *
 *     xft_problems *problems;
 *     XFT_TRY(xft_problems_load("HumanEval.jsonl.gz", &problems));
 *     XFT_TRY(xft_problems_sample(problems, model, tokenizer, &(xft_sample_options){.samples = 1}, "samples.jsonl"));
 *     XFT_TRY(xft_problems_score(problems, "samples.jsonl", &(xft_score_options){.k = {1}}, "results.json", &score));
 *     xft_problems_free(problems);
 *
 * Problem files are JSONL, plain or .gz, one object per line, in any of these forms:
 *   HumanEval, HumanEval+  task_id, prompt (code to be continued), entry_point, test; canonical_solution
 *   MBPP+                  task_id "Mbpp/…", prompt (a docstring that ends in an assertion), entry_point; test, if any
 *   instructions           task_id, instruction, entry_point, test; optionally response: how the answer is begun, and
 *                          prompt: what of it is code, in front of a completion when the tests run
 * Where HumanEval+ gives base_input and plus_input, an answer must return what canonical_solution returns (floats
 * within atol) for all of these inputs. The inputs of MBPP+ have lost their types in JSON: without a test,
 * its samples are scored by EvalPlus alone. test is Python; when it defines check(candidate), this is called with the
 * function named by entry_point; when it does not, it has passed when it runs to its end.
 *
 * Samples are lines {"task_id", "completion"}: what follows the prompt of the problem, as EvalPlus and human-eval score
 * it (for instructions: the whole program).
 *
 * Threads: problems do not change once they are loaded; sampling belongs to the thread of the model's device.
 */
#ifndef XFT_SCORE_H
#define XFT_SCORE_H

#include "xft/callbacks.h"
#include "xft/data.h"
#include "xft/model.h"
#include "xft/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Loss ---- */

/* Mean cross-entropy over the labels of a dataset, and their number; exp(loss) is the perplexity. A router adds no
 * noise. micro_batch: rows on the device at once, from 1; packing: several samples in a row. callbacks: progress by
 * steps ("evaluating"); or NULL. Fails when the loss is not finite. */
XFT_API xft_status xft_score_loss(xft_model *model, const xft_dataset *data, uint32_t micro_batch, bool packing,
                                  bool official, const xft_callbacks *callbacks, double *loss, uint64_t *labels);

/* ---- Problems ---- */

typedef struct xft_problem {
    const char *task_id;
    const char *instruction; /* what is put into the prompt template */
    const char *response;    /* how the response is begun: an opening fence and the code to be continued, or "" */
    const char *prompt;      /* code in front of a completion when the tests run, or "" */
    const char *entry_point; /* name of the function that is tested */
    const char *test;        /* Python, run after prompt and completion; NULL: for EvalPlus only */
    const char *solution;    /* a completion that passes, or NULL */
} xft_problem;

typedef struct xft_problems xft_problems;

/* Reads a file of problems. Refuses, with file and line: what is no JSON object, missing fields, a task_id used twice,
 * a form that is none of the above, an empty file. */
XFT_API xft_status xft_problems_load(const char *path, xft_problems **problems);
/* NULL is accepted. */
XFT_API void xft_problems_free(xft_problems *problems);
XFT_API uint32_t xft_problems_count(const xft_problems *problems);
/* In the order of the file, valid as long as the problems; NULL when index is out of range. */
XFT_API const xft_problem *xft_problems_at(const xft_problems *problems, uint32_t index);

/* ---- Samples ---- */

typedef struct xft_sample_options {
    const char *chat_template; /* NULL: "magicoder" */
    uint32_t max_problems;     /* only the first so many problems; 0: all */
    uint32_t samples;          /* of each problem; 0: 1 */
    float temperature, top_p;  /* 0: greedy; 0 or 1: all ids */
    uint32_t max_new_tokens;   /* 0: 512 */
    uint32_t batch;            /* samples made at once; 0: 8 */
    uint64_t seed;
    bool official;                  /* --compat official */
    const uint32_t *stop;           /* ids that end an answer beside the template's and EOS (see checkpoint.h) */
    uint32_t stop_count;            /* at most 16 */
    const char *identity;           /* what else the samples depend on, such as a hash of the model; or NULL */
    const xft_callbacks *callbacks; /* progress by samples ("sampling"); or NULL */
} xft_sample_options;

/* Writes `samples` completions of each problem to `path`. A response is cut at the next fence or at EOS. A file that is
 * there is gone on with, unless PATH.json beside it says that its samples were made with other options, which is an
 * error. The same options give the same samples, also across a resume. options may be NULL. */
XFT_API xft_status xft_problems_sample(const xft_problems *problems, xft_model *model, const xft_tokenizer *tokenizer,
                                       const xft_sample_options *options, const char *path);

/* ---- Tests ---- */

/* Limits of one run of a program. It gets an empty temporary folder, can start no process, write no file, open no
 * socket, send no signal and gain no privilege (Linux seccomp, which needs none itself). */
typedef struct xft_sandbox {
    double timeout;         /* seconds; 0: 10 */
    uint32_t memory;        /* MiB of address space; 0: 2048 */
    const char *python;     /* program, looked up in PATH; NULL: "python3" */
    bool allow_unprotected; /* run also where the kernel has no seccomp: only with the limits on time and memory */
} xft_sandbox;

typedef enum xft_outcome {
    XFT_OUTCOME_PASSED = 0,
    XFT_OUTCOME_FAILED = 1, /* an exception, an exit before the end of the tests, a signal */
    XFT_OUTCOME_TIMEOUT = 2
} xft_outcome;

typedef struct xft_verdict {
    xft_outcome outcome;
    double seconds;
    char message[200]; /* of a failure: the last line the program wrote to stderr, its exit status or signal */
} xft_verdict;

/* Whether this system has the filters that keep a program from files, network and processes. */
XFT_API bool xft_sandbox_isolates(void);

/* Runs a Python program and waits for it. Passed: it ran to its end. A program that cannot be run at all (no Python, no
 * seccomp) is an error and no verdict. sandbox may be NULL. Any thread may call it. */
XFT_API xft_status xft_sandbox_run(const xft_sandbox *sandbox, const char *program, xft_verdict *verdict);

/* ---- Scores ---- */

enum { XFT_PASS_AT_COUNT = 4 };

typedef struct xft_score_options {
    xft_sandbox sandbox;
    uint32_t jobs;                  /* programs run at once; 0: one per processor */
    uint32_t max_problems;          /* only the first so many problems are to have samples; 0: all */
    uint32_t k[XFT_PASS_AT_COUNT];  /* of pass@k, 0: unused; all 0: 1, 10, 100 */
    const xft_callbacks *callbacks; /* progress by samples ("testing"); or NULL */
} xft_score_options;

typedef struct xft_score {
    uint32_t problems;                 /* that have samples */
    uint32_t missing;                  /* that have none, but should; they do not count */
    uint32_t samples, passed;          /* in all */
    uint32_t solved;                   /* problems with a sample that passed */
    uint32_t k[XFT_PASS_AT_COUNT];     /* 0: no value, also where a problem has fewer than k samples */
    double pass_at[XFT_PASS_AT_COUNT]; /* mean over the problems, 0 to 1 */
    bool isolated;                     /* false: the tests ran without protection, by allow_unprotected */
} xft_score;

/* Runs the tests on every sample of a file. results: NULL, or a JSON file to write: the score, the limits, and for each
 * problem the outcome, message and seconds of each sample. Refuses samples of unknown problems and of problems without
 * test. options may be NULL. */
XFT_API xft_status xft_problems_score(const xft_problems *problems, const char *samples,
                                      const xft_score_options *options, const char *results, xft_score *score);

/* Unbiased estimate of pass@k from n samples of which c are correct: 1 - C(n-c, k) / C(n, k). NAN unless c <= n and
 * 1 <= k <= n. */
XFT_API double xft_pass_at_k(uint64_t n, uint64_t c, uint64_t k);

#ifdef __cplusplus
}
#endif
#endif
