/* launch/doctor.h
 * What is wrong with a cluster, judged from what its ranks report. Pure: no MPI, no output. */
#ifndef TRIREME_LAUNCH_DOCTOR_H
#define TRIREME_LAUNCH_DOCTOR_H

#include "base/status.h"
#include "comm/comm.h"
#include "partition/cluster.h"
#include "worker/machine.h"

/* Bytes of packed (t2, t3) and float16 weights and coarse rows a second from memory; int8
 * multiply-adds a second in a prompt, and multiply-adds of a few vectors. Of all ranks of the host
 * at the same time. */
typedef struct {
    double     t2, t3, dense, screen, products;
    part_few_t few;
} doctor_rates_t;

/* One rank's report, sent as it is. */
typedef struct {
    int32_t          host;              /* number of its host */
    int32_t          n_threads;         /* that it would compute with */
    int32_t          cores_bound;       /* cores of its binding */
    int32_t          cores_own;         /* its part of them; 0: fewer cores than ranks */
    int32_t          cores_machine;     /* cores of the machine */
    int32_t          n_numa;            /* memory domains of the machine */
    bool             pinned;            /* threads are bound to cores */
    char             version[48];       /* of the program, with the commit */
    char             variant[16];       /* kernels: "avx512vnni" */
    double           alone_bytes_per_s; /* t2, of the host's first rank while the others rest */
    doctor_rates_t   rates;
    worker_machine_t machine;
} doctor_rank_t;

/* Between two ranks. */
typedef struct {
    int32_t     a, b;
    bool        between_hosts;
    comm_link_t link;
} doctor_link_t;

/* One host: its ranks together. */
typedef struct {
    uint32_t                n_ranks;
    int32_t                 n_threads;
    doctor_rates_t          rates; /* sums */
    const doctor_rank_t    *first; /* its lowest rank */
    const worker_machine_t *machine;
} doctor_host_t;

typedef struct {
    bool problem;     /* else advice */
    char text[400];   /* what was seen, with the values */
    char remedy[400]; /* what to do */
} doctor_finding_t;

typedef struct {
    const doctor_rank_t *ranks; /* n_ranks, in rank order */
    uint32_t             n_ranks;
    const doctor_link_t *links; /* n_links */
    uint32_t             n_links;
    bool                 net_named; /* the user told MPI which network to take */
    const doctor_host_t *hosts;     /* doctor_hosts of these ranks */
    uint32_t             n_hosts;
} doctor_report_t;

enum { DOCTOR_FINDINGS_MAX = 64 };
#define DOCTOR_RATE_MAX 1e18 /* bytes or products a second of one rank */

/* Reports came from other processes: every host has a number below n_hosts and every host a rank,
 * counts are in their limits, texts end, and rates are numbers from 0. Status: OK | PEER (which
 * rank, what). */
base_status_t doctor_ranks_check(const doctor_rank_t *ranks, uint32_t n_ranks, uint32_t n_hosts,
                                 base_err_t *err);

/* Fill hosts[0 .. number of hosts): the largest host number of a rank, plus 1. */
void doctor_hosts(const doctor_rank_t *ranks, uint32_t n_ranks, doctor_host_t *hosts);

/* Problems first, then advice. Returns how many; what exceeds DOCTOR_FINDINGS_MAX is left out. */
uint32_t doctor_judge(const doctor_report_t *report,
                      doctor_finding_t       findings[DOCTOR_FINDINGS_MAX]);

/* Median link between hosts; zeros when there is none. */
comm_link_t doctor_network(const doctor_report_t *report);

#endif
