/* partition/plan.h
 * Who holds what. Pure functions: model shape and wishes in, plan out; no MPI, clock, environment.
 *
 * Ranks are numbered stage * shards + shard. A stage is a run of consecutive layers; the first also
 * holds the embedding, the last the output norm and the head, both cut by vocabulary rows over its
 * shards. A shard is a slice of every layer of its stage:
 *   query heads [q0, q1) with the KV heads they use [kv0, kv1) (KV heads replicate when several
 *   shards share one), FFN rows [f0, f1) with f0, f1 multiples of PART_FFN_BLOCK or the width
 * itself. Slices may be empty (more shards than heads): such a rank still takes part in the
 * exchanges. */
#ifndef TRIREME_PARTITION_PLAN_H
#define TRIREME_PARTITION_PLAN_H

#include "base/status.h"
#include "model/model.h"

enum {
    PART_FFN_BLOCK   = 32, /* equals the norm block of docs/NUMERICS.md section 2 */
    PART_VOCAB_BLOCK = 16, /* vocabulary rows are cut at multiples of this: 64 bytes of logits */
    PART_WEIGHT_MAX  = 1000000,
    PART_SPLIT_BYTES = 32768, /* a text of --split: LIMIT_RANKS shares of three digits */
};

typedef struct {
    uint32_t  stages;
    uint32_t  shards;
    uint32_t *stage_layer;  /* stages + 1 boundaries: stage s holds layers [s], [s+1); owned */
    uint32_t *shard_weight; /* shards shares, each 1..PART_WEIGHT_MAX, in every stage; owned */
} part_plan_t;

typedef struct {
    uint32_t begin, end;
} part_range_t;

typedef struct {
    part_range_t q;   /* query heads */
    part_range_t kv;  /* KV heads */
    part_range_t ffn; /* rows of gate and up, columns of down */
} part_slice_t;

/* Cut n items into shares proportional to weights, at multiples of `granule` (the last boundary is
 * n): the boundary after share i is round(n * cumulative / total) to the granule. Exact integers,
 * monotone. */
void part_cut(uint64_t n, uint64_t granule, const uint32_t *weights, uint32_t n_weights,
              uint32_t index, uint64_t *begin, uint64_t *end);

part_slice_t part_slice(const part_plan_t *plan, const model_layer_t *layer, uint32_t shard);
part_range_t part_vocab(const part_plan_t *plan, const model_desc_t *desc, uint32_t shard);
part_range_t part_stage_layers(const part_plan_t *plan, uint32_t stage);

/* What a user may ask. */
typedef struct {
    uint32_t    n_ranks;
    uint32_t    n_hosts; /* for the automatic layout: shards inside a host, stages between */
    const char *layout;  /* "2x4" (stages x shards) or NULL: automatic */
    uint32_t    pipeline_parallel; /* 0: not given; aliases of the two numbers of layout */
    uint32_t    tensor_parallel;
    /* "auto", "even" or "3,1,1": shares of the shards, or of the stages when shards == 1. With the
     * layers of each stage behind a slash ("3,1/20,12", "/20,12") the shares are of the shards. */
    const char *split;
} part_wish_t;

/* Make the plan. Without a layout: one host takes 1xN; several take one stage each if the ranks and
 * the layers allow it, else Nx1 while there are layers enough, else 1xN. The layers are laid over
 * the stages so that the fullest holds as few bytes as can be, the head counting with the last (not
 * the embedding: its rows are read from the mapped file).
 * Status: OK | USAGE (text says which wish does not fit and names the layouts that do) | INPUT (a
 * shape that cannot be cut) | MEMORY. part_plan_free accepts zeroed plans. */
base_status_t part_plan_make(const part_wish_t *wish, const model_desc_t *desc, part_plan_t *plan,
                             base_err_t *err);
void          part_plan_free(part_plan_t *plan);
/* "2x4" into buf. */
const char *part_layout_name(const part_plan_t *plan, char *buf, size_t buf_bytes);

/* What decides a rank's memory besides model and plan. */
typedef struct {
    double       ternary_bits;   /* what the packed format stores per weight: 2 or 1.6 */
    uint32_t     n_ctx;          /* positions of each sequence's KV cache */
    uint32_t     n_seq;          /* sequences; 0 counts as 1 */
    uint32_t     n_batch;        /* tokens of one step */
    uint32_t     n_out;          /* rows of logits kept */
    model_type_t type_k, type_v; /* of the KV cache; NONE counts as F32 */
    bool         screen;         /* coarse rows of the head besides (part_screen_pays) */
} part_sizes_t;

/* Predicted bytes of one rank. The layers of the rank's own stage must be there, others may be
 * empty. */
typedef struct {
    uint64_t ternary;     /* packed ternary weights, with tile padding */
    uint64_t dense;       /* head and norms of this rank (the embedding stays in the file) */
    uint64_t screen;      /* coarse rows of the head */
    uint64_t kv;          /* pages of the KV cache */
    uint64_t activations; /* step arena, without the buffers of each thread */
    uint64_t total;
    uint64_t embed; /* rows of the embedding; held, and in total, only where there is no file */
    bool     embed_held; /* part_memory: false; part_plan_choose knows (part_ask_t.file_first) */
} part_memory_t;

/* The screened head (NUMERICS 9): bytes of the coarse rows of `rows` rows of the head; can the head
 * be screened; does it pay: the coarse rows must save a fifth of the bytes read, and the vocabulary
 * be large. */
uint64_t part_screen_bytes(uint64_t rows, uint64_t cols);
bool     part_screen_possible(const model_desc_t *desc);
bool     part_screen_pays(const model_desc_t *desc);

part_memory_t part_memory(const part_plan_t *plan, const model_desc_t *desc, uint32_t rank,
                          const part_sizes_t *sizes);

#endif
