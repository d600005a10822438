/* comm/between.h
 * Sums and gathers between the hosts of a shard group, by messages. Only for comm's own files. */
#ifndef TRIREME_COMM_BETWEEN_H
#define TRIREME_COMM_BETWEEN_H

#include "comm/internal.h"

enum { COMM_SUM_CHUNK = 1 << 16 }; /* values of a round at most: a slot of local.c */

/* Values that one call of comm_between_sum takes at most. */
size_t comm_between_most(const comm_grid_t *grid, bool slices);

/* What grid->pack and grid->work must hold. */
size_t comm_between_pack_bytes(const comm_grid_t *grid);
size_t comm_between_work_bytes(const comm_grid_t *grid);

/* Sum n <= comm_between_most values over one rank of each host: those whose place among their mates
 * is this rank's. slices: each sums a part and hands it on, two rounds; else everyone sends all to
 * all. Adds what was sent to *sent. */
base_status_t comm_between_sum(comm_grid_t *grid, int32_t *buf, size_t n, bool slices,
                               uint64_t *sent, base_err_t *err);

/* Values [done, done + room) of every piece of the first mate of each host, whose mates' pieces lie
 * in buf, to the first mates of the other hosts. */
base_status_t comm_between_gather(comm_grid_t *grid, float *buf, const uint32_t *counts,
                                  const uint32_t *offsets, uint32_t done, uint32_t room,
                                  uint64_t *sent, base_err_t *err);

#endif
