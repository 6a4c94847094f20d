/* Prompts of problems, before a model is there. */
#ifndef XFT_HOST_SAMPLES_H
#define XFT_HOST_SAMPLES_H

#include "xft/score.h"

/* Refuses what xft_problems_sample would: a template that is not the tokenizer's, prompts that leave a model with
 * `max_positions` no room for an answer. Of the options only chat_template and max_problems count. */
xft_status xft_samples_check(const xft_problems *problems, const xft_tokenizer *tokenizer,
                             const xft_sample_options *options, uint32_t max_positions);

#endif
