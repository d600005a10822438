/* worker/locality.h
 * Do weights and KV cache lie where they are read? Pages lie where the thread that first wrote them
 * ran (docs/ARCHITECTURE.md, three memory lives); this looks where they are. Threads must be
 * pinned, thread i to core i of the topology's part: else everything is unknown. */
#ifndef TRIREME_WORKER_LOCALITY_H
#define TRIREME_WORKER_LOCALITY_H

#include "worker/topology.h"
#include "worker/worker.h"

typedef struct {
    uint32_t pages; /* looked at */
    uint32_t local; /* on the memory domain of the core whose thread reads them */
    uint32_t unknown;
} worker_locality_t;

/* Look at a page of each thread's part of each matrix, of the head and of its screen. One system
 * call a page. Local, team idle. */
worker_locality_t worker_locality(const worker_t *worker, const worker_topology_t *topology);

/* The same for the KV cache: the first page of keys and of values of each KV head, sequence 0.
 * Those not written yet lie nowhere: unknown. Any thread may read them, so local is a domain of any
 * core of the part that a thread runs on. */
worker_locality_t worker_locality_kv(const worker_t *worker, const worker_topology_t *topology);

#endif
