/* worker/locality.h
 * Do the weights lie where they are read? Pages lie where the thread that first wrote them ran
 * (docs/ARCHITECTURE.md, three memory lives); this looks where they are. */
#ifndef TRIREME_WORKER_LOCALITY_H
#define TRIREME_WORKER_LOCALITY_H

#include "worker/topology.h"
#include "worker/worker.h"

typedef struct {
    uint32_t pages; /* looked at */
    uint32_t local; /* on the memory domain of the core whose thread reads them */
    uint32_t unknown;
} worker_locality_t;

/* Look at a page of each thread's part of each matrix. Threads must be pinned, thread i to core i
 * of the topology's part: else everything is unknown. One system call a page. Local, team idle. */
worker_locality_t worker_locality(const worker_t *worker, const worker_topology_t *topology);

#endif
