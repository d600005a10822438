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
};

/* Int8 products per second of a core, where a node gives its cores and no measured rate: AVX-512
 * VNNI with the 2-bit unpacking. */
#define PART_CORE_OPS 150e9

/* What a plan shall be best at. */
typedef enum {
    PART_FOR_DECODE,    /* the tokens a second of one sequence */
    PART_FOR_PREFILL,   /* a prompt of n_prompt tokens, in chunks of n_batch */
    PART_FOR_THROUGHPUT /* n_seq sequences at once */
} part_optimize_t;

/* What is to be run. */
typedef struct {
    double          ternary_bits;                 /* of the packed format: 2 or 1.6 */
    uint32_t        n_ctx, n_seq, n_batch, n_out; /* n_ctx of each sequence; n_seq 0 counts as 1 */
    model_type_t    type_k, type_v;               /* of the KV cache; NONE counts as F32 */
    bool            screen;                       /* coarse rows of the head (part_screen_pays) */
    const char     *layout; /* as in part_wish_t: NULL or "auto" lets part_plan_choose look */
    uint32_t        pipeline_parallel, tensor_parallel;
    const char     *split; /* NULL or "auto": what is best; without figures even, or by memory */
    part_optimize_t optimize;
    uint32_t        depth;    /* positions that are in each cache already */
    uint32_t        n_prompt; /* 0: n_batch */
    /* Groups of sequences, or chunks of a prompt, under way at the same time in different stages.
     * 0: as the engine does; 1: a step leaves the last stage before the next one starts. */
    uint32_t streams;
    bool     all_nodes; /* use every node, in the order given: ranks that are started already */
    /* Only rank 0's node has the model's file: other ranks of the first stage hold their rows of
     * the embedding, which they would read from it. */
    bool file_first;
} part_ask_t;

/* Is one layout asked for: by `layout` (not "auto") or its aliases? */
bool part_layout_asked(const part_ask_t *ask);

/* Predicted times. Weights are read at the nodes' bandwidth or computed at their rate, whichever is
 * slower, by the slowest shard of each half layer; exchanges by latency and bytes. Seconds; what a
 * missing figure would need is 0 and left out: `known` says which. */
typedef struct {
    bool   known; /* bandwidth of every node given: decode_tps and prefill_tps mean something */
    bool   comm_known;     /* latency and link given, or not needed */
    double weights;        /* of one token: packed weights and norms, all stages */
    double attention;      /* reading the KV cache at ask.depth */
    double head;           /* reading the head */
    double communication;  /* exchanges in a stage, hops between them, logits */
    double overhead;       /* cluster.step, cluster.layer */
    double attention_full; /* reading the KV cache once when it is full: not part of the rates */
    double decode_tps;     /* 1 / (the five parts) */
    double prefill_tps;
    double throughput_tps; /* of ask.n_seq sequences together */
    double sum, slowest;   /* of the step that is optimized: all stages, the slowest stage */
    double value;          /* seconds a token of what is optimized */
} part_time_t;

/* One plan on the cluster. */
typedef struct {
    part_plan_t    plan;  /* owned */
    part_cluster_t used;  /* the nodes that take part, by rank; owned */
    uint32_t      *order; /* used.n_nodes places in the cluster asked about; owned */
    char           split[PART_SPLIT_BYTES]; /* "even" or shares: what --split would have to say */
    uint32_t       n_ranks, n_nodes;
    part_memory_t *memory;      /* of each rank; owned */
    uint64_t      *node_bytes;  /* of each node: its ranks with their overhead; owned */
    uint32_t       worst_node;  /* the one with the largest share of its usable memory */
    double         worst_share; /* above 1: does not fit */
    bool           fits;
    part_time_t    time;
} part_choice_t;

/* The best plan of one layout on so many nodes. */
typedef struct {
    uint32_t stages, shards, n_nodes;
    bool     fits;
    uint64_t rank_bytes_max; /* the fullest rank */
    double   worst_share;
    double   decode_tps; /* 0: not known (by_value: value is) */
    double   value;      /* as part_time_t */
} part_tried_t;

/* Layouts that were looked at: by value where speeds are known, else in the order of preference. */
typedef struct {
    uint32_t     n;
    bool         by_value;
    bool         exact; /* no plan of the search space is better */
    uint64_t     plans; /* how many were compared */
    part_tried_t list[PART_TRIED_MAX];
} part_trials_t;

/* Memory that ranks may take on a node. */
uint64_t part_node_usable(const part_node_t *node);

/* Choose. Where the bandwidth of every node is known, and latency and link if there are several,
 * the plan of the least value that fits: over nodes used and their order, layouts, shares and cuts
 * (partition/search.h says how far it looks). Else the first that fits of: the layout that `run`
 * takes by itself (one stage per node); layouts whose shards stay inside a node, fewest stages
 * first; the others, fewest stages first. A layout or split in `ask` is kept; a layout of fewer
 * ranks than the cluster's is laid on the best of its nodes (by speeds that are not known, or with
 * a split: on the largest). When none fits, the one that comes nearest, with fits == false. trials
 * may be NULL. Status: OK | USAGE, INPUT as part_plan_make | MEMORY. part_choice_free accepts
 * zeroed ones. */
base_status_t part_plan_choose(const part_cluster_t *cluster, const model_desc_t *desc,
                               const part_ask_t *ask, part_choice_t *choice, part_trials_t *trials,
                               base_err_t *err);
void          part_choice_free(part_choice_t *choice);

/* Are the figures there that a comparison of speeds needs? */
bool part_speeds_known(const part_cluster_t *cluster);

/* The times of a plan on a cluster of plan->stages * plan->shards ranks. Status: OK | MEMORY. */
base_status_t part_time(const part_cluster_t *cluster, const model_desc_t *desc,
                        const part_plan_t *plan, const part_ask_t *ask, part_time_t *time,
                        base_err_t *err);

#endif
