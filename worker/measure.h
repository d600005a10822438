/* worker/measure.h
 * What this machine and its kernels can do, measured here and now: memory bandwidth, peaks of
 * arithmetic. All functions are local, called by the team's creator while the team is idle, and
 * hold memory of their own only while they run. */
#ifndef TRIREME_WORKER_MEASURE_H
#define TRIREME_WORKER_MEASURE_H

#include "base/status.h"
#include "partition/cluster.h"
#include "worker/team.h"

/* Memory for looks at the bandwidth, kept between them: a machine that is shared reads half as fast
 * in some minutes as in others, so what is set against the bandwidth wants a look before and after.
 * Each thread reads memory that it touched first, so pages lie on its NUMA node.
 * n_threads  of the team (1 .. its size), the others wait; the team outlives the meter.
 * cpu        strongest kernel variant to use, as in worker_config_t; NULL: the best there is.
 * Memory: worker_measure_bytes(n_threads). Time: that of touching it, 0.1 s at 256 MiB on two
 * cores. Status: OK | MEMORY. */
typedef struct worker_meter worker_meter_t;

base_status_t worker_meter_create(worker_team_t *team, int n_threads, const char *cpu,
                                  worker_meter_t **out, base_err_t *err);
void          worker_meter_destroy(worker_meter_t **meter); /* accepts NULL */

/* Bytes per second that the threads read from memory now, all together: the best of several loops
 * (wide loads, with prefetch instructions, short loads), each the mean of its time. 30 ms.
 * Ranks of one host share its memory: let all look at the same time, and add. */
double worker_meter_look(worker_meter_t *meter);

/* The best of several looks with a meter of its own: 0.2 s and the touching.
 * Status: OK | MEMORY. */
base_status_t worker_measure_bandwidth(worker_team_t *team, int n_threads, const char *cpu,
                                       double *bytes_per_s, base_err_t *err);

/* Memory that the measurements walk through, far more than the last caches of so many cores hold:
 * 16 MiB a thread, at least 256 MiB, at most 768 MiB or 2 MiB a thread. */
size_t worker_measure_bytes(int n_threads);

/* One row of worker_measure_kernels: all threads of the team together, each on weights of its own
 * that come from memory (the columns of a row: WORKER_MEASURE_COLS). The kernel and plain reading
 * take turns; of the pairs the one with the median ratio is told. */
typedef struct {
    const char *slot, *variant; /* as in worker/kernels/kernel_list.inc or probe_list.inc; static */
    uint32_t    n_threads;
    uint32_t    n_tok;            /* vectors at once; of attention query rows; of a probe 0 */
    uint64_t    n_weights;        /* of one call; of a probe 0 */
    double      bytes_per_s;      /* of weights with their scales (of keys or values); 0: none */
    double      products_per_s;   /* multiply-adds; 0: none */
    double      bits_per_weight;  /* of a probe 0 */
    double      read_bytes_per_s; /* what probe_read reads with all threads at the same time */
    double      bandwidth_share;  /* bytes_per_s / read_bytes_per_s */
    double      peak_share;       /* products_per_s / what probe_mac or probe_fma does likewise */
} worker_measure_row_t;

/* Take a row; done of total are measured. A status other than OK ends the measurement. */
typedef base_status_t worker_measure_row_fn(void *ctx, const worker_measure_row_t *row,
                                            uint32_t done, uint32_t total, base_err_t *err);

typedef struct {
    const char            *cpu;     /* strongest variant, also of the probes; NULL: the best */
    const char            *filter;  /* only rows whose "slot.variant" contains it; NULL: all */
    double                 seconds; /* of each row; a row of slow calls takes one call at least */
    worker_measure_row_fn *row;
    void                  *ctx;
} worker_measure_t;

enum { WORKER_MEASURE_COLS = 2560 };

/* First the probes (one thread, then all; whatever the filter), then every variant of the matrix,
 * screen and attention kernels that this CPU runs, weak to strong.
 * Memory: worker_measure_bytes(size of the team), at least 2 MiB a thread; 4 MiB and 2 MiB a
 * thread besides.
 * Status: OK | MEMORY | that of `row`. */
base_status_t worker_measure_kernels(worker_team_t *team, const worker_measure_t *config,
                                     base_err_t *err);

/* The packed ternary formats side by side, as this machine multiplies them. */
enum { WORKER_PACK_T2, WORKER_PACK_T3, WORKER_PACKS };

typedef struct {
    double gemv; /* weights a second from memory, one vector, all threads of the team together */
    double gemm; /* products a second, WORKER_PACK_TOKENS vectors at once */
} worker_pack_rate_t;

enum { WORKER_PACK_TOKENS = 64 };

/* What a plan wants to know besides. */
typedef struct {
    bool       want_few;      /* in: measure `screen` and `few`, too */
    double     dense, screen; /* bytes a second from memory, one vector: float16, coarse head */
    part_few_t few;
} worker_plan_rate_t;

/* rates[WORKER_PACKS]. Of several short spans, the formats by turns: the best, as the choice of a
 * format compares them; with `plan` the median, as a plan predicts what a long run will see.
 * cpu     strongest kernel variant to use, as in worker_config_t; NULL: the best there is.
 * slow    the machine gets its CPU time in portions (a control group's quota): a long span of each
 *         instead, 1 s, in which many portions come. The rates of few vectors are taken by CPU time
 *         then, and the portion from one of the long spans.
 * plan    NULL: not asked.
 * Time: 0.4 s, 1 s with `plan`, 2.5 s with want_few (if slow 4, 5 and 8 s), and the touching of
 * memory (0.1 s at 256 MiB on two cores). Memory: as worker_measure_kernels.
 * Ranks of one host share its memory: let all call at the same time. Status: OK | MEMORY. */
base_status_t worker_measure_packs(worker_team_t *team, const char *cpu, bool slow,
                                   worker_pack_rate_t *rates, worker_plan_rate_t *plan,
                                   base_err_t *err);

/* A number that changes with the list of kernels: what was measured with another says nothing. */
uint64_t worker_kernels_version(void);

#endif
