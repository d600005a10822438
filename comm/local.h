/* comm/local.h
 * What the ranks of one host do through shared memory instead of messages. Only for comm's own
 * files. */
#ifndef TRIREME_COMM_LOCAL_H
#define TRIREME_COMM_LOCAL_H

#include "comm/internal.h"

enum { COMM_LOCAL_VALUES = 1 << 16 }; /* int32 or float of a slot */

/* Set grid->shm, the mates (shards of this host that share memory with this one) and the hosts of
 * the group; without `shared` every rank is a host of its own. Collective over the world. */
base_status_t comm_local_create(comm_grid_t *grid, bool shared, base_err_t *err);
void          comm_local_destroy(comm_grid_t *grid);

/* --- over the mates; nothing when there is one --- */

/* Sums of all mates; pieces of all mates, as in comm_sum_i32 and comm_gather_f32. */
void comm_local_sum(comm_grid_t *grid, int32_t *buf, size_t n);
void comm_local_gather(comm_grid_t *grid, float *buf, const uint32_t *counts,
                       const uint32_t *offsets);
/* n <= COMM_LOCAL_VALUES. Mate k < lanes gets the sums of slice k (of `lanes`) into its buf; the
 * rest of buf keeps. Each call is followed by comm_local_share of the same n and lanes. */
void comm_local_reduce(comm_grid_t *grid, int32_t *buf, size_t n, uint32_t lanes);
/* Every mate gets slice k of buf from mate k < lanes. */
void comm_local_share(comm_grid_t *grid, int32_t *buf, size_t n, uint32_t lanes);
/* Every mate gets buf of mate 0. */
void comm_local_spread(comm_grid_t *grid, void *buf, size_t bytes);

/* One-way stream from a rank to another of this host; each rank has one receiver (the next stage,
 * or rank 0 for the last). false: `peer` (a world rank) is elsewhere, use a message. */
/* Rings that hold `bytes` of stream. Where there is no memory for them the small ones remain.
 * Collective over the ranks of the host. Status: OK | MEMORY | PEER. */
base_status_t comm_local_rings(comm_grid_t *grid, size_t bytes, base_err_t *err);
bool          comm_local_reaches(const comm_grid_t *grid, int peer);
void          comm_local_send(comm_grid_t *grid, const float *buf, size_t n, int to);
void          comm_local_recv(comm_grid_t *grid, float *buf, size_t n, int from);

#endif
