/* launch/cores.h: which cores each rank of a host takes. */
#ifndef TRIREME_LAUNCH_CORES_H
#define TRIREME_LAUNCH_CORES_H

#include "comm/comm.h"
#include "worker/topology.h"

/* Bindings of all ranks to all ranks, so that ranks which share cores split them
 * (worker_topology_share). Status: OK | MEMORY | PEER. Collective over the world. */
base_status_t launch_share_cores(comm_world_t *world, worker_topology_t *topology, base_err_t *err);

/* Threads of this rank where no -t is given: SLURM_CPUS_PER_TASK or its own cores, no more than
 * control groups allow; 1 to LIMIT_THREADS. After launch_share_cores. Local. */
uint32_t launch_default_threads(const comm_world_t *world, const worker_topology_t *topology);

/* Tell comm how many CPUs control groups allow here (comm_world_set_quota). Local. */
void launch_set_quota(comm_world_t *world);

#endif
