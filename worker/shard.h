/* worker/shard.h
 * The weights of one rank: packed ternary tiles, dense head rows and norms, read from the mapped
 * file in parallel, each thread packing (and so first touching) what it will read in a step. */
#ifndef TRIREME_WORKER_SHARD_H
#define TRIREME_WORKER_SHARD_H

#include "base/arena.h"
#include "base/status.h"
#include "comm/comm.h"
#include "model/model.h"
#include "partition/plan.h"
#include "worker/kernels/kernel.h"
#include "worker/team.h"

/* A packed ternary matrix, rows x cols of the shard. Threads take whole tiles (or pairs). */
typedef struct {
    uint8_t *data; /* n_tiles * tile_bytes */
    size_t   rows, cols;
    size_t   n_tiles, granules, tile_bytes;
    float    scale; /* one for the whole tensor, the same on every shard */
} worker_tern_t;

typedef enum {
    WORKER_Q,
    WORKER_K,
    WORKER_V,
    WORKER_O,
    WORKER_GATE,
    WORKER_UP,
    WORKER_DOWN,
    WORKER_TERN_COUNT
} worker_tern_id_t;

typedef struct {
    part_slice_t  slice;
    uint32_t      n_heads, n_kv_heads, ffn; /* of the whole layer */
    worker_tern_t m[WORKER_TERN_COUNT];
    float        *attn_norm;     /* [width] */
    float        *ffn_norm;      /* [width] */
    float        *attn_sub_norm; /* [own heads * head_dim] */
    float        *ffn_sub_norm;  /* [own ffn] */
} worker_layer_t;

typedef struct {
    const kern_format_t *format;
    uint32_t             layer0, n_layers; /* of this stage */
    worker_layer_t      *layers;           /* n_layers */
    bool                 has_embed, has_head;
    part_range_t         vocab;    /* rows of embedding and head on this rank */
    float               *out_norm; /* [width], with the head */
    uint8_t             *head;     /* rows of the head in file layout, with the head */
    size_t               head_row_bytes;
    kern_dense_t         head_type;
    base_arena_t         arena;
    uint64_t             bytes; /* weights held */
} worker_shard_t;

/* The tiles [*t0, *t1) of matrix `id` that thread `thread` of `n_threads` packs and multiplies. q,
 * k and v are shared out as one run of tiles; gate and up alike and in pairs of tiles, so that a
 * block of 32 FFN activations (NUMERICS 2) belongs to one thread. */
void worker_tern_share(const worker_layer_t *layer, worker_tern_id_t id, int thread, int n_threads,
                       size_t *t0, size_t *t1);

/* Load this rank's slices. `progress`: report on stderr.
 * Status: OK | INPUT (a weight is damaged) | UNSUPPORTED (types, differing scales) | MEMORY | PEER.
 * Collective over the shard group (scales are compared), but a rank that fails does not leave the
 * others waiting: they meet in the same exchange first. */
base_status_t worker_shard_load(const model_desc_t *desc, const model_source_t *source,
                                const part_plan_t *plan, comm_grid_t *grid,
                                const kern_format_t *format, worker_team_t *team, bool progress,
                                worker_shard_t **out, base_err_t *err);
void          worker_shard_destroy(worker_shard_t **shard); /* accepts NULL */

#endif
