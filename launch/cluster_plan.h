/* launch/cluster_plan.h
 * The plan of ranks that are started already, by a description of their cluster. */
#ifndef TRIREME_LAUNCH_CLUSTER_PLAN_H
#define TRIREME_LAUNCH_CLUSTER_PLAN_H

#include "partition/assignment_wire.h"

/* Fill a->plan: the fastest for decoding that the cluster file says of all its ranks, in its order;
 * layout and split of the wish are kept. file_first: as in part_ask_t. Of *a the model, the numbers
 * and the pack are read.
 * Status: OK | USAGE (the file has another number of ranks) | what part_cluster_load and
 * part_plan_choose say. Local. */
base_status_t cluster_plan(const char *path, const part_wish_t *wish, bool file_first,
                           part_assignment_t *a, base_err_t *err);

#endif
