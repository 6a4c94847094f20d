/* Suite `rounding`, on the device XFT_TEST_DEVICE: stochastic rounding has no bias. */
#include "fixture.h"
#include "op_params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 128, STEPS = 8, DRAWS = SIDE * SIDE * STEPS };

/* Numbers between two neighbours in bf16 come out as the one or the other, and as themselves in the mean: over elements
 * and steps, within 4 standard deviations. */
Test(rounding, stochastic_has_no_bias) {
    static const float fractions[] = {0.01f, 0.25f, 1 / 3.0f, 0.5f, 0.9f}, bases[] = {1, -3, 0.0078125f};
    xft_device *device = fixture_open(NULL);
    xft_arena *arena;
    OK(xft_arena_create(device, "rounding", 0, &arena));
    xft_tensor x = fixture_tensor(arena, SIDE, SIDE, 0, 0), y, step;
    OK(xft_tensor_create(arena, XFT_BF16, 2, (const uint32_t[]){SIDE, SIDE}, &y));
    OK(xft_tensor_create(arena, XFT_U32, 1, (const uint32_t[]){16}, &step));
    xft_stream *stream;
    OK(xft_stream_create(device, NULL, &stream));
    OK(xft_cast(stream, &x, &y, XFT_ROUND_STOCHASTIC, &step, 5));
    float *values = malloc(SIDE * SIDE * sizeof *values);
    double worst = 0;
    for (size_t b = 0; b < sizeof bases / sizeof *bases; b++)
        for (size_t f = 0; f < sizeof fractions / sizeof *fractions; f++) {
            int exponent;
            frexp((double)bases[b], &exponent);
            const double unit = copysign(ldexp(1, exponent - 8), (double)bases[b]);
            const float value = (float)(bases[b] + fractions[f] * unit);
            const double p = (value - (double)bases[b]) / unit;
            uint32_t up = 0;
            for (int i = 0; i < SIDE * SIDE; i++) values[i] = value;
            OK(xft_tensor_write(&x, XFT_F32, values));
            for (uint32_t s = 0; s < STEPS; s++) {
                OK(xft_tensor_write(&step, XFT_U32, &(xft_step_block){.step = s, .seed_low = 9}));
                OK(xft_stream_run(stream));
                OK(xft_tensor_read(&y, XFT_F32, values));
                for (int i = 0; i < SIDE * SIDE; i++) {
                    const double steps = (values[i] - (double)bases[b]) / unit;
                    cr_assert(steps == 0 || steps == 1, "%g became %g", (double)value, (double)values[i]);
                    up += steps == 1;
                }
            }
            const double sigmas = fabs(up - DRAWS * p) / sqrt(DRAWS * p * (1 - p));
            cr_expect_leq(sigmas, 4, "%g: rounded up in %g of the draws, expected %g", (double)value,
                          (double)up / DRAWS, p);
            worst = fmax(worst, sigmas);
        }
    printf("stochastic rounding: %d draws of 15 numbers, at most %.1f standard deviations off the mean\n", DRAWS,
           worst);
    free(values);
    fixture_close(device, arena, stream);
}
