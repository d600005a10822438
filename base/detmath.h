/* base/detmath.h
 * exp, log, sin and cos in double that give the same bits on every machine: libm may differ
 * between systems and CPUs. exp and log are IEEE additions, multiplications and divisions alone:
 * a softmax calls exp once for each token of the vocabulary, and fma is a library call in a build
 * for any x86-64. sin and cos use fma, in a fixed order. Compile with -ffp-contract=off.
 * Local, any thread, no state. */
#ifndef TRIREME_BASE_DETMATH_H
#define TRIREME_BASE_DETMATH_H

/* e^x. Error below 1 unit in the last place for normal results; 0 below -745.2, infinity above
 * 709.8, NaN for NaN. At most 1 for x <= 0. */
double base_exp(double x);
/* Natural logarithm. Error below 1 unit in the last place; -infinity for 0, NaN for x < 0. */
double base_ln(double x);
/* sin and cos of x, |x| < 2^30, to a few units in the last place of 1. */
void base_sincos(double x, double *sin_p, double *cos_p);

#endif
