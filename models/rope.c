#include "rope.h"

#include <math.h>

bool xft_rope_per_token(const xft_config *c) {
    return c->rope_scaling == XFT_ROPE_DYNAMIC;
}

/* Llama 3: wavelengths beyond original_length / low are stretched by factor, those below original_length / high kept,
 * and blended linearly in 1 / wavelength in between. */
static double llama3_frequency(const xft_config *c, double frequency) {
    double turns = c->rope_original_length * frequency / (2 * 3.14159265358979323846); /* within the original length */
    double low = c->rope_low_freq_factor, high = c->rope_high_freq_factor;
    if (turns < low) return frequency / c->rope_factor;
    if (turns > high) return frequency;
    double kept = (turns - low) / (high - low);
    return (1 - kept) * frequency / c->rope_factor + kept * frequency;
}

void xft_rope_row(const xft_config *c, double theta, uint32_t position, uint32_t length, float *row) {
    double d = c->rotary, t = position;
    if (c->rope_scaling == XFT_ROPE_LINEAR) t /= c->rope_factor;
    if (c->rope_scaling == XFT_ROPE_DYNAMIC && length > c->max_positions)
        theta *= pow(c->rope_factor * length / c->max_positions - (c->rope_factor - 1), d / (d - 2));
    for (uint32_t i = 0; i < c->rotary / 2; i++) {
        double frequency = pow(theta, -2.0 * i / d);
        if (c->rope_scaling == XFT_ROPE_LLAMA3) frequency = llama3_frequency(c, frequency);
        row[i] = (float)cos(t * frequency);
        row[c->rotary / 2 + i] = (float)sin(t * frequency);
    }
}
