/* worker/measure.h
 * What this machine and its kernels can do, measured here and now: memory bandwidth, peaks of
 * arithmetic. All functions are local, called by the team's creator while the team is idle, and
 * hold memory of their own only while they run. */
#ifndef TRIREME_WORKER_MEASURE_H
#define TRIREME_WORKER_MEASURE_H

#include "base/status.h"
#include "worker/team.h"

/* Bytes per second that n_threads threads of the team (1 .. its size; the others wait) read from
 * memory, all together: the best of several spans, so that a disturbance does not count, and of
 * several loops (wide loads, with prefetch instructions, short loads).
 * cpu     strongest kernel variant to use, as in worker_config_t; NULL: the best there is.
 * Each thread reads memory that it touched first, so pages lie on its NUMA node.
 * Time: 0.2 s, and the touching (0.1 s at 256 MiB on two cores).
 * Memory: worker_measure_bytes(n_threads), given back at once.
 * Ranks of one host share its memory: let all call at the same time (comm_agree before), and add.
 * Status: OK | MEMORY. */
base_status_t worker_measure_bandwidth(worker_team_t *team, int n_threads, const char *cpu,
                                       double *bytes_per_s, base_err_t *err);

/* Memory that the measurements walk through, far more than the last caches of so many cores hold:
 * 16 MiB a thread, at least 256 MiB, at most 768 MiB. */
size_t worker_measure_bytes(int n_threads);

#endif
