/* coordinator/step.h
 * What the coordinator knows of an engine: one function (launch/engine.h provides it). */
#ifndef TRIREME_COORDINATOR_STEP_H
#define TRIREME_COORDINATOR_STEP_H

#include "base/status.h"

/* Run n (1 .. n_batch) ids at positions pos .. pos + n - 1 of the one sequence, on top of positions
 * 0 .. pos - 1 that earlier steps left (a smaller pos than before forgets the rest).
 * n_out   logits are wanted for the last n_out of them (0 .. n).
 * *logits n_out rows of n_vocab floats, the callee's, valid until the next step; untouched if
 *         n_out is 0.
 * Any status but OK ends the work that called it, with err passed on. */
typedef base_status_t coord_step_fn(void *ctx, const int32_t *ids, uint32_t n, uint32_t pos,
                                    uint32_t n_out, const float **logits, base_err_t *err);

#endif
