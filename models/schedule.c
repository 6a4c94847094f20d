#include "xft/train.h"

#include <math.h>

double xft_schedule_rate(xft_schedule schedule, double peak, uint64_t warmup, uint64_t steps, uint64_t step) {
    if (step < warmup) return peak * (double)step / (double)warmup;
    if (schedule == XFT_SCHEDULE_CONSTANT) return peak;
    if (step >= steps) return 0;
    double done = (double)(step - warmup) / (double)(steps - warmup);
    return schedule == XFT_SCHEDULE_LINEAR ? peak * (1 - done) : peak * 0.5 * (1 + cos(3.14159265358979323846 * done));
}
