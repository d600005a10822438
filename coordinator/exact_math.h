/* coordinator/exact_math.h
 * exp and log in double from IEEE additions, multiplications and divisions alone, so that sampled
 * text and printed figures are the same on every machine; libm's may differ in the last bit from
 * one version to the next. A softmax calls exp once for each token of the vocabulary: without fma,
 * which is a library call in a build for any x86-64, it is several times as fast as base/detmath.h.
 * Pure functions, any thread. Compile with -ffp-contract=off. */
#ifndef TRIREME_COORDINATOR_EXACT_MATH_H
#define TRIREME_COORDINATOR_EXACT_MATH_H

#include <stdbool.h>
#include <stdint.h>

/* e^x. Error below 1 unit in the last place for normal results; 0 below -745.2, infinity above
 * 709.8, NaN for NaN. At most 1 for x <= 0. */
double coord_exp(double x);

/* Natural logarithm. Error below 1 unit in the last place; -infinity for 0, NaN for x < 0. */
double coord_log(double x);

/* *nll = -log softmax(logits)[id], summed in id order. id < n_vocab.
 * False, *nll untouched: a logit is NaN or infinite. */
bool coord_nll(const float *logits, uint32_t n_vocab, int32_t id, double *nll);

/* The first id whose logit is NaN or infinite; n_vocab if there is none. */
uint32_t coord_not_finite(const float *logits, uint32_t n_vocab);

#endif
