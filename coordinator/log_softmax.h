/* coordinator/log_softmax.h
 * Log-probabilities of logits in double, with base/detmath.h: the same figures on every machine.
 * Pure functions, any thread. */
#ifndef TRIREME_COORDINATOR_LOG_SOFTMAX_H
#define TRIREME_COORDINATOR_LOG_SOFTMAX_H

#include <stdbool.h>
#include <stdint.h>

/* *nll = -log softmax(logits)[id], summed in id order. id < n_vocab.
 * False, *nll untouched: a logit is NaN or infinite. */
bool coord_nll(const float *logits, uint32_t n_vocab, int32_t id, double *nll);

/* The first id whose logit is NaN or infinite; n_vocab if there is none. */
uint32_t coord_not_finite(const float *logits, uint32_t n_vocab);

#endif
