/* launch/cores.h: which cores each rank of a host takes. */
#ifndef TRIREME_LAUNCH_CORES_H
#define TRIREME_LAUNCH_CORES_H

#include "comm/comm.h"
#include "worker/topology.h"

/* Bindings of all ranks to all ranks, so that ranks which share cores split them
 * (worker_topology_share). Status: OK | MEMORY | PEER. Collective over the world. */
base_status_t launch_share_cores(comm_world_t *world, worker_topology_t *topology, base_err_t *err);

/* Tell comm how many CPUs control groups allow here (comm_world_set_quota). Local. */
void launch_set_quota(comm_world_t *world);

#endif
