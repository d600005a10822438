/* base/detmath.h
 * exp, log, sin and cos in double that give the same bits on every machine: libm may differ
 * between systems and CPUs. Only IEEE operations and fma are used, in a fixed order. Errors are a
 * few units in the last place of double, far below the float results made from them.
 * Local, any thread, no state. */
#ifndef TRIREME_BASE_DETMATH_H
#define TRIREME_BASE_DETMATH_H

/* exp(x): 0 below -745.2, +inf above 709.8. */
double base_exp(double x);
/* Natural logarithm of a normal positive x. */
double base_ln(double x);
/* sin and cos of x, |x| < 2^30. */
void base_sincos(double x, double *sin_p, double *cos_p);

#endif
