/* Tables of rotation angles for xft_rope, made on the host in double precision. */
#ifndef XFT_MODELS_ROPE_H
#define XFT_MODELS_ROPE_H

#include "xft/config.h"

/* row [rotary]: cosines, then sines, of position `position` in a sequence of `length` tokens (dynamic scaling depends
 * on it). theta: the base, config->rope_theta but for --compat official. */
void xft_rope_row(const xft_config *config, double theta, uint32_t position, uint32_t length, float *row);

/* Does the rotation of a position depend on the length of its sequence? Then every token has its own row. */
bool xft_rope_per_token(const xft_config *config);

#endif
