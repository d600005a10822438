/* worker/shard.h
 * The weights of one rank: packed ternary tiles, dense head rows and norms, read from the file
 * or from another rank in parallel, each thread packing (and so first touching) what it will read
 * in a step. */
#ifndef TRIREME_WORKER_SHARD_H
#define TRIREME_WORKER_SHARD_H

#include "base/arena.h"
#include "base/status.h"
#include "comm/comm.h"
#include "model/model.h"
#include "partition/plan.h"
#include "worker/feed.h"
#include "worker/kernels/kernel.h"
#include "worker/team.h"

/* How a matrix is held and multiplied. */
typedef enum {
    WORKER_TERN,  /* packed ternary, one scale for the tensor */
    WORKER_BLOCK, /* packed ternary, a scale for each 256 columns of a row */
    WORKER_DENSE, /* rows in stored form, float products */
} worker_kind_t;

typedef enum {
    WORKER_Q,
    WORKER_K,
    WORKER_V,
    WORKER_O,
    WORKER_GATE,
    WORKER_UP,
    WORKER_DOWN,
    WORKER_MATRIX_COUNT
} worker_matrix_id_t;

/* The shard's part of a matrix: rows [row0, row0 + rows), columns [col0, col0 + cols) of the
 * tensor. Threads take tiles of 16 rows, whatever the kind. */
typedef struct {
    worker_kind_t kind;
    size_t        row0, col0;
    size_t        rows, cols;
    size_t        n_tiles;
    uint8_t      *data;                 /* tiles, or rows in stored form */
    size_t        granules, tile_bytes; /* ternary */
    float        *scales;               /* BLOCK: [n_tiles][blocks][16] */
    size_t        blocks;
    float        scale; /* TERN: of the whole tensor, out_scale included, the same on every shard */
    float        out_scale; /* BLOCK, DENSE: a factor of the product; 1 mostly */
    kern_dense_t dense;     /* DENSE */
    size_t       row_bytes;
    float       *bias; /* [rows], or NULL */
} worker_matrix_t;

/* o and down of kind TERN are cut by columns and summed over the shards as integers; of another
 * kind they are cut by rows: the whole input is gathered before, the rows after. */
typedef struct {
    part_slice_t    slice;
    uint32_t        n_heads, n_kv_heads, ffn; /* of the whole layer */
    worker_matrix_t m[WORKER_MATRIX_COUNT];
    float          *in_norm[WORKER_MATRIX_COUNT]; /* [width] of q, k, v, gate, up; NULL mostly */
    float          *attn_norm;                    /* [width] */
    float          *ffn_norm;                     /* [width] */
    float *attn_sub_norm; /* own heads * head_dim, all heads when o is cut by rows; or NULL */
    float *ffn_sub_norm;  /* own FFN rows, all when down is cut by rows; or NULL */
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
    /* rows of the embedding, where there is no file to read them from and they are not the
     * head's */
    uint8_t            *embed;
    size_t              embed_row_bytes;
    base_arena_t        arena;
    uint64_t            bytes;    /* weights held */
    worker_feed_stats_t feed;     /* where they came from */
    bool                restored; /* read from a file of packed weights, or */
    bool                kept;     /* written to one */
} worker_shard_t;

/* The tiles [*t0, *t1) of matrix `id` that thread `thread` of `n_threads` loads and multiplies. q,
 * k and v are shared out as one run of tiles; gate and up alike and in pairs of tiles, so that a
 * block of 32 FFN activations (NUMERICS 2) belongs to one thread. */
void worker_tile_share(const worker_layer_t *layer, worker_matrix_id_t id, int thread,
                       int n_threads, size_t *t0, size_t *t1);

/* Rows of o and down that shard `shard` holds when they are cut by rows. */
part_range_t worker_out_rows(const part_plan_t *plan, const model_desc_t *desc, uint32_t shard);

static inline bool worker_by_rows(const worker_matrix_t *m)
{
    return m->kind != WORKER_TERN;
}

/* Load this rank's slices from a mapped file or from another rank (worker/feed.h). origin is the
 * caller's. `progress`: report on stderr. keep_dir: a folder of packed weights
 * (--pack-cache) to read them from if they are there, else to keep them in; NULL: none. Given on
 * all ranks of the group or on none.
 * Status: OK | INPUT (a weight is damaged) | UNSUPPORTED (types, differing scales) | MEMORY | PEER.
 * Collective over the world; then over the shard group (scales are compared), where a rank that
 * fails does not leave the others waiting: they meet in the same exchange first. */
base_status_t worker_shard_load(const model_desc_t *desc, const worker_origin_t *origin,
                                const part_plan_t *plan, comm_grid_t *grid,
                                const kern_format_t *format, worker_team_t *team,
                                const char *keep_dir, bool progress, worker_shard_t **out,
                                base_err_t *err);
void          worker_shard_destroy(worker_shard_t **shard); /* accepts NULL */

#endif
