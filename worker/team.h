/* worker/team.h
 * A pinned thread team that runs one function on all its threads (SPMD), with a barrier inside.
 *
 * The caller is thread 0, so MPI calls made by thread 0 stay in the process's MPI thread. Waiting
 * threads spin for a short while when every thread has a core of its own, then sleep in a futex: an
 * idle team costs no CPU. */
#ifndef TRIREME_WORKER_TEAM_H
#define TRIREME_WORKER_TEAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "worker/topology.h"

typedef struct worker_team worker_team_t;
typedef void               worker_team_fn(void *ctx, int thread, int n_threads);

/* Start n_threads - 1 threads (1..LIMIT_THREADS in all). topology NULL or !pin: no pinning.
 * spin: wait actively at first (false when cores are shared). The calling thread is pinned too.
 * Status: OK | SYSTEM | MEMORY. Local. */
base_status_t worker_team_create(int n_threads, const worker_topology_t *topology, bool pin,
                                 bool spin, worker_team_t **out, base_err_t *err);
void          worker_team_destroy(worker_team_t **team); /* joins; accepts NULL */

/* Run fn(ctx, i, n) on all threads; returns when all have returned. Called by the creator only. */
void worker_team_run(worker_team_t *team, worker_team_fn *fn, void *ctx);

/* Inside fn: all threads of the team meet. Writes before it are seen by all after it. */
void worker_team_barrier(worker_team_t *team);

/* Memory that a thread reads soon. */
typedef struct {
    const uint8_t *at;
    size_t         bytes;
} worker_ahead_t;

/* The same; a thread that waits asks for its `ahead` meanwhile, line by line into its own cache,
 * and takes off what it asked for. */
void worker_team_barrier_ahead(worker_team_t *team, worker_ahead_t *ahead);

int worker_team_size(const worker_team_t *team);

/* Share n items (of `granule`) of thread `thread` of `n_threads`: [*begin, *end). */
static inline void worker_share(size_t n, size_t granule, int thread, int n_threads, size_t *begin,
                                size_t *end)
{
    size_t g = (n + granule - 1) / granule;
    size_t b = g * (size_t)thread / (size_t)n_threads * granule;
    size_t e = g * (size_t)(thread + 1) / (size_t)n_threads * granule;
    *begin   = b < n ? b : n;
    *end     = e < n ? e : n;
}

#endif
