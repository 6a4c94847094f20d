/* Finite differences, for the checks of every backward's reference (suite `gradients`). */
#ifndef XFT_TESTS_GRADIENTS_H
#define XFT_TESTS_GRADIENTS_H

#include <stddef.h>

/* Compares `gradient` with the central differences (of fourth order) of `loss` in each of the n values of x, which loss
 * reads through `context` and which are as before afterwards. Returns the largest difference relative to the element's
 * own gradient, or to a thousandth of the largest where it is smaller: below that the differences are rounding. */
double gradient_error(double (*loss)(void *context), void *context, double *x, const double *gradient, size_t n);

#endif
