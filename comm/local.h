/* comm/local.h
 * What the ranks of one host do through shared memory instead of messages. Only for comm's own
 * files. */
#ifndef TRIREME_COMM_LOCAL_H
#define TRIREME_COMM_LOCAL_H

#include "comm/internal.h"

/* Set grid->shm and which of the grid's paths may use it. Collective over the world. */
base_status_t comm_local_create(comm_grid_t *grid, base_err_t *err);
void          comm_local_destroy(comm_grid_t *grid);

/* comm_sum_i32, comm_gather_f32 where grid->local_group holds. */
void comm_local_sum(comm_grid_t *grid, int32_t *buf, size_t n);
void comm_local_gather(comm_grid_t *grid, float *buf, const uint32_t *counts,
                       const uint32_t *offsets);

/* One-way stream from a rank to another of this host; each rank has one receiver (the next stage,
 * or rank 0 for the last). false: `peer` (a world rank) is elsewhere, use a message. */
/* Rings that hold `bytes` of stream. Where there is no memory for them the small ones remain.
 * Collective over the ranks of the host. Status: OK | MEMORY | PEER. */
base_status_t comm_local_rings(comm_grid_t *grid, size_t bytes, base_err_t *err);
bool          comm_local_reaches(const comm_grid_t *grid, int peer);
void          comm_local_send(comm_grid_t *grid, const float *buf, size_t n);
void          comm_local_recv(comm_grid_t *grid, float *buf, size_t n, int from);

#endif
