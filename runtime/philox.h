/* Counter-based random numbers, Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
 * The same functions exist in shaders/philox.glsl and opencl/philox.clh; here they serve the host and the references.
 *
 * Layout, for every use. One call gives four words, those of the elements 4*quad to 4*quad+3 of a row:
 *     key     = (seed low, seed high)
 *     counter = (stream << 29 | quad, row, key, step)
 * stream: an xft_random_stream; quad: element / 4, below 2^29, which no tensor reaches; row: row of the tensor, or
 * token (padding too) counted over the whole step; key: layer, or whatever else tells users of one stream apart; step:
 * optimizer step. A number so depends on what it is for and on nothing else: not on pitch, work-groups, or the cut into
 * micro-batches. Only gradients are rounded once in every micro-batch: the seed's upper half is then xored with the
 * number of its first token.
 */
#ifndef XFT_RUNTIME_PHILOX_H
#define XFT_RUNTIME_PHILOX_H

#include <stdint.h>

void xft_philox(uint64_t seed, uint32_t stream, uint32_t step, uint32_t key, uint32_t row, uint32_t quad,
                uint32_t words[4]);

/* A word as a number in (0,1): an odd multiple of 2^-24, the same bits in f32. */
double xft_philox_uniform(uint32_t word);

/* Four words as four independent standard normal numbers (Box-Muller on the pairs 0,1 and 2,3). The device's agree with
 * these to a few units of f32 rounding; the largest magnitude is 5.77. */
void xft_philox_normals(const uint32_t words[4], double normals[4]);

/* Bits of bf16 for value: rounded up in magnitude with the probability of the part cut off, by the upper half of word.
 * Infinities and NaN stay. */
uint16_t xft_philox_bf16(float value, uint32_t word);

#endif
