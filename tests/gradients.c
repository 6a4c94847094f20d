#include "gradients.h"

#include <math.h>

double gradient_error(double (*loss)(void *context), void *context, double *x, const double *gradient, size_t n) {
    double worst = 0, scale = 0;
    for (size_t i = 0; i < n; i++) scale = fmax(scale, fabs(gradient[i]));
    for (size_t i = 0; i < n; i++) {
        const double x0 = x[i], step = 1e-3 * fmax(1, fabs(x0));
        double f[4];
        for (int k = 0; k < 4; k++) {
            x[i] = x0 + step * (double[]){-2, -1, 1, 2}[k];
            f[k] = loss(context);
        }
        x[i] = x0;
        const double slope = (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * step);
        const double size = fmax(fmax(fabs(slope), fabs(gradient[i])), 1e-3 * scale);
        const double error = slope == gradient[i] ? 0 : fabs(slope - gradient[i]) / size;
        if (!(error <= worst)) worst = error; /* NaN is the worst */
    }
    return worst;
}
