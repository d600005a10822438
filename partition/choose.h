/* partition/choose.h
 * Which layout for a cluster: what each rank and node would hold, whether it fits, and a bound on
 * the speed. Pure, like plan.h. */
#ifndef TRIREME_PARTITION_CHOOSE_H
#define TRIREME_PARTITION_CHOOSE_H

#include "partition/cluster.h"
#include "partition/plan.h"

enum {
    PART_RANK_OVERHEAD = 64 << 20,  /* program, MPI, thread stacks and buffers of one rank */
    PART_NODE_RESERVE  = 512 << 20, /* left to the operating system, but no more than a twentieth */
    PART_TRIED_MAX     = 64,        /* layouts of up to LIMIT_RANKS ranks: at most 48 divisors */
    PART_SPLIT_BYTES   = 1024,
};

/* Products per second of a core at most: two 512-bit units of 64 int8 products, at 4 GHz. */
#define PART_CORE_MACS 512e9

/* What is to be run. */
typedef struct {
    double       ternary_bits;                 /* of the packed format: 2 or 1.6 */
    uint32_t     n_ctx, n_seq, n_batch, n_out; /* n_ctx of each sequence; n_seq 0 counts as 1 */
    model_type_t type_k, type_v;               /* of the KV cache; NONE counts as F32 */
    bool         screen;                       /* coarse rows of the head (part_screen_pays) */
    const char  *layout; /* as in part_wish_t: NULL or "auto" lets part_plan_choose look */
    uint32_t     pipeline_parallel, tensor_parallel;
    const char  *split; /* NULL or "auto": even, then by the nodes' memory if that is what fits */
} part_ask_t;

/* Times that no run can beat: every byte of weights read once per step at the given bandwidth,
 * every product computed at the peak of the strongest core there is (PART_CORE_MACS), every
 * exchange between nodes at the given latency and link. Nothing is known of exchanges inside a
 * node, of clocks and load. Seconds; all are 0 where a figure was missing: `known` says which. */
typedef struct {
    bool   known; /* bandwidth of every node given: decode_tps and prefill_tps mean something */
    bool   comm_known;     /* latency and link given, or not needed */
    double weights;        /* packed weights and norms, the slowest shard of each stage, summed */
    double head;           /* reading the head */
    double communication;  /* of one token */
    double attention_full; /* reading the KV cache once when it is full: not part of the rates */
    double decode_tps;
    double prefill_tps; /* steps of n_batch tokens */
} part_bound_t;

/* One plan on the cluster. */
typedef struct {
    part_plan_t    plan;                    /* owned */
    char           split[PART_SPLIT_BYTES]; /* "even" or shares: what --split would have to say */
    uint32_t       n_ranks, n_nodes;
    part_memory_t *memory;      /* of each rank; owned */
    uint64_t      *node_bytes;  /* of each node: its ranks with their overhead; owned */
    uint32_t       worst_node;  /* the one with the largest share of its usable memory */
    double         worst_share; /* above 1: does not fit */
    bool           fits;
    part_bound_t   bound;
} part_choice_t;

typedef struct {
    uint32_t stages, shards;
    bool     fits;
    uint64_t rank_bytes_max; /* the fullest rank */
    double   worst_share, decode_tps;
} part_tried_t;

/* Every layout that was looked at, in the order of preference. */
typedef struct {
    uint32_t     n;
    part_tried_t list[PART_TRIED_MAX];
} part_trials_t;

/* Memory that ranks may take on a node. */
uint64_t part_node_usable(const part_node_t *node);

/* Choose. With a layout in `ask` there is nothing to choose but whether it fits. Without, the first
 * that fits of: the layout that `run` takes by itself (one stage per node); layouts whose shards
 * stay inside a node, fewest stages first; the others, fewest stages first. When none fits, the one
 * that comes nearest, with fits == false. trials may be NULL. Status: OK | USAGE, INPUT as
 * part_plan_make | MEMORY. part_choice_free accepts zeroed ones. */
base_status_t part_plan_choose(const part_cluster_t *cluster, const model_desc_t *desc,
                               const part_ask_t *ask, part_choice_t *choice, part_trials_t *trials,
                               base_err_t *err);
void          part_choice_free(part_choice_t *choice);

/* The bound for a plan whose memory is known. Where a node's cores are not given, computing takes
 * no time. */
part_bound_t part_bound(const part_cluster_t *cluster, const model_desc_t *desc,
                        const part_plan_t *plan, const part_memory_t *memory,
                        const part_ask_t *ask);

#endif
