/* Finite differences, for the checks of every backward's reference (suite `gradients`). */
#ifndef XFT_TESTS_GRADIENTS_H
#define XFT_TESTS_GRADIENTS_H

#include <stddef.h>

/* Compares `gradient` with the central differences (of fourth order) of `loss` in each of the n values of x, which loss
 * reads through `context` and which are as before afterwards. Returns the largest difference relative to the largest
 * gradient; 0 / 0 is 0. */
double gradient_error(double (*loss)(void *context), void *context, double *x, const double *gradient, size_t n);

#endif
