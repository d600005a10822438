/* launch/host_load.h
 * What the ranks of a host ask of it together: threads against cores and CPU quota, memory and KV
 * cache against what is free. Rank 0 warns, once, before weights are loaded. */
#ifndef TRIREME_LAUNCH_HOST_LOAD_H
#define TRIREME_LAUNCH_HOST_LOAD_H

#include "comm/comm.h"
#include "partition/assignment_wire.h"
#include "worker/topology.h"

enum { HOST_LOAD_TEXT = 700 };

/* A plain record, one of each rank. */
typedef struct {
    char     name[64]; /* of the host */
    int32_t  host;
    int32_t  cores;         /* that the ranks of this host may use, together */
    int32_t  cores_machine; /* of the whole machine */
    uint32_t threads;       /* of this rank */
    int32_t  pinned;        /* has each thread a core of its own? */
    double   quota;         /* CPUs that control groups allow; 0: no limit */
    uint64_t kv, total;     /* bytes of this rank: KV cache; all, that included */
    uint64_t free;          /* bytes that are free on the host; 0: not known */
} host_load_t;

/* What is wrong with the threads, into text[HOST_LOAD_TEXT]; false: nothing. Pure. */
bool host_load_threads(const host_load_t *all, int n, char *text);

/* The same of memory: a host where ranks do not fit (*fits: false), or whose KV cache takes more
 * than a quarter of what is free. n_ctx: positions of a sequence; halves: whether the cache has
 * them already. Pure. */
bool host_load_memory(const host_load_t *all, int n, uint32_t n_ctx, bool halves, bool *fits,
                      char *text);

/* Gather and warn. a: the rank's part, threads and packed format known. quiet: of threads nothing
 * is said. Status: OK | MEMORY | PEER. Collective over the world. */
base_status_t host_load_check(comm_world_t *world, const worker_topology_t *topology,
                              const part_assignment_t *a, bool pinned, bool quiet, base_err_t *err);

#endif
