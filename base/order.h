/* base/order.h
 * Samples of a measurement in order. Local, any thread; no NaN. */
#ifndef TRIREME_BASE_ORDER_H
#define TRIREME_BASE_ORDER_H

#include <stddef.h>

/* v[n], smallest first. */
void base_sort_f64(double *v, size_t n);

/* Sorts v[n], n > 0: the middle one; of an even number the mean of the two in the middle. */
double base_median_f64(double *v, size_t n);

#endif
