/* launch/scratch_model.h
 * The synthetic model of `bench --shape`: a temporary file, one on each machine, gone afterwards
 * however the run ends (short of SIGKILL before it is loaded). */
#ifndef TRIREME_LAUNCH_SCRATCH_MODEL_H
#define TRIREME_LAUNCH_SCRATCH_MODEL_H

#include "comm/comm.h"
#include "launch/options.h"

typedef struct scratch_model scratch_model_t;

/* Write it (--shape, --type, --seed) into a new folder under $TMPDIR or /tmp, by one rank of each
 * machine, or by one of all where they share that folder. The path is the same everywhere.
 * Status: OK | IO | MEMORY | ..., agreed on by all ranks. One at a time. Collective over the
 * world. */
base_status_t scratch_model_make(comm_world_t *world, const options_t *options,
                                 scratch_model_t **out, base_err_t *err);
const char   *scratch_model_path(const scratch_model_t *scratch);
/* Remove the file now, where this rank wrote it: those who have mapped it keep it. Local. */
void scratch_model_remove(scratch_model_t *scratch);
/* The same, and free. Accepts NULL. Local. */
void scratch_model_destroy(scratch_model_t **scratch);

#endif
