/* base/order.c: samples in order. */
#include "base/order.h"

#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

void base_sort_f64(double *v, size_t n)
{
    qsort(v, n, sizeof(*v), by_value);
}

double base_median_f64(double *v, size_t n)
{
    base_sort_f64(v, n);
    return (v[(n - 1) / 2] + v[n / 2]) / 2;
}
