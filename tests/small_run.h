/* Folders for runs: tiny models with a tokenizer, and data. */
#ifndef XFT_TESTS_SMALL_RUN_H
#define XFT_TESTS_SMALL_RUN_H

#include "xft/run.h"

/* Writes folder/dense, folder/moe (E=4, K=2) with a tokenizer of letters, and folder/data.jsonl, folder/eval.jsonl, in
 * which the next letter mostly follows from the last one. */
xft_status small_run_make(xft_device *device, const char *folder);

/* "folder/name"; the last few results stay valid. */
const char *small_run_path(const char *folder, const char *name);

/* Options of a run of 12 steps with a checkpoint every 3 of the model folder/NAME ("dense" or "moe") into
 * folder/OUTPUT, on the device XFT_TEST_DEVICE. */
xft_run_options small_run_options(const char *folder, xft_run_stage stage, const char *output);

#endif
