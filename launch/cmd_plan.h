/* launch/cmd_plan.h
 * `trireme plan`: which layout of which nodes fits and is fastest, what each rank will hold, how
 * fast it should be, and how that grows with the cluster.
 * No MPI is started, and of a model only the headers are read. */
#ifndef TRIREME_LAUNCH_CMD_PLAN_H
#define TRIREME_LAUNCH_CMD_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "model/model.h"

/* As given on the command line: NULL or 0 where an option is absent. launch_plan checks everything
 * and words every error, so the option table only has to fill this in. */
typedef struct {
    /* The model: exactly one of the two. */
    const char *model_path; /* -m */
    const char *shape;      /* --shape llama-70b */
    const char *type;       /* --type tq1_0|tq2_0: stored type of a --shape; NULL: tq2_0 */
    /* The cluster: a file, or like nodes by numbers (not both). */
    const char *cluster; /* --cluster F.json: see partition/cluster.h */
    uint32_t    nodes;   /* --nodes; 0: 1 */
    const char *mem;     /* --mem 24G: of each node; required without a file */
    uint32_t    cores;   /* --cores of each node; 0: not given */
    double   membw_gbs;  /* --membw GB/s of each node; 0: not given, then no times are predicted */
    double   latency_us; /* --latency of the network, one way */
    double   net_gbit;   /* --netbw of the network */
    uint32_t ranks_per_node; /* --ranks-per-node; 0: 1. With a file: that of nodes that name none */
    /* The wishes, as for `run`. */
    uint32_t     n_ctx;                              /* -c; 0: the model's context */
    uint32_t     n_seq;                              /* -np; 0: 1 */
    model_type_t type_k, type_v;                     /* -ctk, -ctv */
    uint32_t     n_batch;                            /* -b; 0: 512 */
    const char  *layout;                             /* --layout; NULL: the best */
    uint32_t     pipeline_parallel, tensor_parallel; /* aliases */
    const char  *split;                              /* --split */
    const char  *pack;     /* --pack t2|t3|auto; NULL: auto: t2, or t3 where only that fits */
    const char  *head;     /* --head auto|full|screened; NULL: full */
    const char  *optimize; /* --optimize decode|prefill|throughput; NULL: decode */
    uint32_t     depth;    /* --n-depth */
    uint32_t     n_prompt; /* --n-prompt; 0: 512 */
    uint32_t     streams;  /* --streams */
    const char  *files;    /* --files first|all; NULL: first */
    bool         explain;  /* --explain */
    /* --scale: numbers of nodes like the first. With them --weak, and --output
     * text|json|csv|svg. */
    const int64_t *scale;
    uint32_t       n_scale;
    bool           weak;
    const char    *format; /* NULL: text */
    bool           json;
} launch_plan_args_t;

/* Print the plan to stdout: a table, or with `json` one JSON value (layout, stages,
 * memory_per_rank, fits, predicted, and the figures behind them). Errors go to stderr, one line.
 * Exit status: 0 it fits, 1 nothing fits (the nearest plan is printed all the same) or a failure of
 * the system, 2 usage, 3 bad model or cluster file. Local. */
int launch_plan(const launch_plan_args_t *args);

#endif
