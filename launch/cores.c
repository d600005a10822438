/* launch/cores.c: bindings to all ranks, and everyone's part. */
#include "launch/cores.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/limits.h"
#include "worker/machine.h"

base_status_t launch_share_cores(comm_world_t *world, worker_topology_t *topology, base_err_t *err)
{
    int               n    = comm_size(world);
    worker_binding_t  mine = worker_topology_binding(topology);
    worker_binding_t *all  = NULL;
    base_status_t     st   = base_alloc((void **)&all, (size_t)n, sizeof(*all), "bindings", err);
    st                     = comm_agree(world, st, err);
    if (st != BASE_OK) goto out;
    if (n == 1) {
        all[0] = mine;
    } else {
        size_t bytes = (size_t)n * sizeof(*all);
        st           = comm_gather_records(world, &mine, sizeof(mine), all, err);
        if (st != BASE_OK) goto out;
        st = comm_control_share(world, "the bindings of all ranks", all, bytes, err);
        if (st != BASE_OK) goto out;
    }
    worker_topology_share(topology, all, n, comm_rank(world));
out:
    free(all);
    return st;
}

uint32_t launch_default_threads(const comm_world_t *world, const worker_topology_t *topology)
{
    const char      *slurm = getenv("SLURM_CPUS_PER_TASK");
    long             given = slurm == NULL ? 0 : strtol(slurm, NULL, 10);
    int              cores = worker_topology_cores(topology);
    int              allowed;
    worker_machine_t machine;

    if (given > 0 && given <= LIMIT_THREADS) cores = (int)given;
    worker_machine_read("", &machine);
    allowed = worker_machine_quota_threads(&machine, comm_local_size(world));
    if (allowed > 0 && allowed < cores) cores = allowed;
    return cores < 1 ? 1 : cores > LIMIT_THREADS ? LIMIT_THREADS : (uint32_t)cores;
}

void launch_set_quota(comm_world_t *world)
{
    worker_machine_t machine;

    worker_machine_read("", &machine);
    comm_world_set_quota(world, machine.cpu_quota);
}
