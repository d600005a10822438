/* worker/topology.h
 * Which cores this rank may use, and pinning threads to them. The only home of hwloc.
 *
 * A rank's cores are those of its binding (the launcher's choice). Ranks of one host whose bindings
 * overlap share the common cores out: each takes a part of its own. */
#ifndef TRIREME_WORKER_TOPOLOGY_H
#define TRIREME_WORKER_TOPOLOGY_H

#include "base/status.h"

enum { WORKER_CPUSET_BYTES = 256 }; /* 2048 logical CPUs */

/* What a rank tells the others, a fixed-size record without padding surprises. */
typedef struct {
    int32_t host;
    int32_t n_cores; /* cores in the binding */
    uint8_t cpus[WORKER_CPUSET_BYTES];
} worker_binding_t;

typedef struct worker_topology worker_topology_t;

/* Detect the machine and this process's binding. Status: OK | SYSTEM. Local. */
base_status_t worker_topology_open(int host, worker_topology_t **out, base_err_t *err);
void          worker_topology_close(worker_topology_t **topology); /* accepts NULL */

worker_binding_t worker_topology_binding(const worker_topology_t *topology);

/* Take this rank's part of the cores, given the bindings of all ranks. Pure but for the stored
 * result. Afterwards worker_topology_cores tells the width of the part, 0 when there are fewer
 * cores than ranks that share them. */
void worker_topology_share(worker_topology_t *topology, const worker_binding_t *all, int n_ranks,
                           int my_rank);
int  worker_topology_cores(const worker_topology_t *topology);
/* Cores that the ranks of this host may use together, as of worker_topology_share. */
int worker_topology_host_cores(const worker_topology_t *topology);
int worker_topology_machine(const worker_topology_t *topology); /* cores of the whole machine */
int worker_topology_numa(const worker_topology_t *topology);    /* its memory domains */
/* Are there at least as many cores as threads, all ranks of the host counted? */
bool worker_topology_fits(const worker_topology_t *topology, int n_threads);

/* Memory domain (number, from 0) of core `index` of this rank's part; -1: no such core. */
int worker_topology_domain(const worker_topology_t *topology, int index);
/* Memory domain of the page that holds an address of this process; -1: not known (never touched,
 * or the system does not say). Any thread. */
int worker_topology_page_domain(const worker_topology_t *topology, const void *address);

/* Pin the calling thread to core `index` of this rank's part (one hardware thread of it). False,
 * with no change, when the part has no such core or the system refuses. */
bool worker_topology_pin(const worker_topology_t *topology, int index);
/* Give the calling thread the whole binding of the process back. */
void worker_topology_unpin(const worker_topology_t *topology);

#endif
