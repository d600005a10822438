/* coordinator/step.h
 * What the coordinator knows of an engine: a function that runs a step, or the same in two halves
 * (launch/engine.h provides them). */
#ifndef TRIREME_COORDINATOR_STEP_H
#define TRIREME_COORDINATOR_STEP_H

#include "partition/batch.h"

/* Run the runs of a batch (partition/batch.h), within the engine's limits.
 * *logits part_batch_rows(batch) rows of n_vocab floats, those of the first run first, the
 *         callee's, valid until the next step; untouched if there are none.
 * Any status but OK ends the work that called it, with err passed on. */
typedef base_status_t coord_step_fn(void *ctx, const part_batch_t *batch, const float **logits,
                                    base_err_t *err);

/* Begin a step: of the batch nothing is needed after the return. */
typedef base_status_t coord_submit_fn(void *ctx, const part_batch_t *batch, base_err_t *err);
/* *logits the rows of the oldest step that has rows and was not collected, valid until the next
 *         step begins. */
typedef base_status_t coord_collect_fn(void *ctx, const float **logits, base_err_t *err);

#endif
