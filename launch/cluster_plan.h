/* launch/cluster_plan.h
 * The plan of ranks that are started already, by a description of their cluster. */
#ifndef TRIREME_LAUNCH_CLUSTER_PLAN_H
#define TRIREME_LAUNCH_CLUSTER_PLAN_H

#include "comm/comm.h"
#include "partition/assignment_wire.h"

/* Fill a->plan: the fastest for decoding that the cluster file says of the wish's ranks; layout and
 * split of the wish are kept. Where ranks run on hosts that the file names, its nodes are taken in
 * the order of the ranks, and only those: mpirun has an order of its own. Where it names none of
 * them, they are taken to be its nodes in its order. Of the world the names of its hosts are read,
 * of *a the model, the numbers and the pack; file_first: as in part_ask_t.
 * Status: OK | USAGE (the file has another number of ranks) | what part_cluster_load and
 * part_plan_choose say. Local. */
base_status_t cluster_plan(const char *path, const comm_world_t *world, const part_wish_t *wish,
                           bool file_first, part_assignment_t *a, base_err_t *err);

#endif
