/* worker/machine.h
 * What the system says of this machine and of what this process may take of it: memory, swap,
 * control groups (v1 and v2), huge pages, network interfaces. */
#ifndef TRIREME_WORKER_MACHINE_H
#define TRIREME_WORKER_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

enum { WORKER_MACHINE_TEXT = 64, WORKER_MACHINE_NETS = 8 };

typedef struct {
    char     name[32];  /* "eth0" */
    char     ipv4[16];  /* "10.0.0.3" */
    uint32_t mbit;      /* of the link, as the driver says; 0: not known (virtual ones) */
    bool     plausible; /* up, not loopback, not a bridge of containers or virtual machines */
} worker_net_t;

/* A plain record: ranks send it to each other as it is. Zero: not known, unless said otherwise. */
typedef struct {
    char         host[WORKER_MACHINE_TEXT];
    char         cpu[WORKER_MACHINE_TEXT];
    char         kernel[WORKER_MACHINE_TEXT]; /* "Linux 6.1.0" */
    char         huge_pages[16];              /* "always", "madvise", "never" */
    char         governor[16];  /* "performance", "powersave"; "" where there is none */
    uint64_t     mem_total;     /* of the machine */
    uint64_t     mem_available; /* without pushing anything out */
    uint64_t     mem_limit;     /* the lowest limit of this process's control groups; 0: none */
    uint64_t     mem_used;      /* by the group of that limit */
    uint64_t     swap_total;    /* of the machine */
    uint64_t     swap_used;
    uint64_t     self_swapped; /* bytes of this process */
    double       cpu_quota;    /* CPUs that control groups allow at a time; 0: no limit */
    uint32_t     n_nets;
    worker_net_t nets[WORKER_MACHINE_NETS];
} worker_machine_t;

/* Read it all. root: "" for this machine, or a folder that holds copies of /proc and /sys (tests);
 * with a folder the host's own name, CPU and interfaces are left out. What cannot be read stays
 * zero. Local, any thread. */
void worker_machine_read(const char *root, worker_machine_t *out);

/* Memory that programs may take here: the machine's, or the control group's where that is less. */
uint64_t worker_machine_allowed(const worker_machine_t *machine);
/* Whole CPUs that control groups allow each of n_ranks ranks of this host, at least 1; 0: no limit.
 * More threads than that would be stopped in turns. */
int worker_machine_quota_threads(const worker_machine_t *machine, int n_ranks);
/* Memory that is free for this process now. */
uint64_t worker_machine_free(const worker_machine_t *machine);

#endif
