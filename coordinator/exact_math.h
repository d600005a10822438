/* coordinator/exact_math.h
 * exp and log in double from IEEE additions, multiplications and divisions alone, so that sampled
 * text and printed figures are the same on every machine; libm's may differ in the last bit from
 * one version to the next. Pure functions, any thread. Compile without contraction. */
#ifndef TRIREME_COORDINATOR_EXACT_MATH_H
#define TRIREME_COORDINATOR_EXACT_MATH_H

/* e^x. Error below 1 unit in the last place for normal results; 0 below -745.2, infinity above
 * 709.8, NaN for NaN. Never returns more than 1 for x <= 0. */
double coord_exp(double x);

/* Natural logarithm. Error below 1 unit in the last place; -infinity for 0, NaN for x < 0 or NaN. */
double coord_log(double x);

#endif
