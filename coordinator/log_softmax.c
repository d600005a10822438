/* coordinator/log_softmax.c */
#include "coordinator/log_softmax.h"

#include <math.h>

#include "base/detmath.h"
#include "base/status.h"

uint32_t coord_not_finite(const float *logits, uint32_t n_vocab)
{
    uint32_t i = 0;

    while (i < n_vocab && isfinite(logits[i])) i++;
    return i;
}

bool coord_nll(const float *logits, uint32_t n_vocab, int32_t id, double *nll)
{
    float  top = 0;
    double sum = 0;

    base_assert(id >= 0 && (uint32_t)id < n_vocab);
    if (coord_not_finite(logits, n_vocab) < n_vocab) return false;
    top = logits[0];
    for (uint32_t i = 1; i < n_vocab; i++)
        if (logits[i] > top) top = logits[i];
    for (uint32_t i = 0; i < n_vocab; i++) sum += base_exp((double)logits[i] - (double)top);
    *nll = base_ln(sum) - ((double)logits[id] - (double)top);
    return true;
}
