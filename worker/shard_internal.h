/* worker/shard_internal.h
 * What the files that load a shard share: shard.c (order of events), shard_shape.c (sizes),
 * shard_pack.c (rows to memory), shard_scales.c (scales that all shards must agree on). */
#ifndef TRIREME_WORKER_SHARD_INTERNAL_H
#define TRIREME_WORKER_SHARD_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "worker/feed.h"
#include "worker/shard.h"

enum { SHARD_BLOCK = 256 }; /* columns of a block of ternary weights with a scale of its own */

typedef struct {
    float lo, hi; /* of the block scales seen; lo > hi: only zero weights so far */
} scale_span_t;

/* One load, shared by the team. */
typedef struct {
    const model_desc_t    *desc;
    const worker_origin_t *origin; /* no source in it: there is no file here */
    worker_feed_t         *feed;   /* NULL until weights are read from there */
    const part_plan_t     *plan;
    comm_grid_t           *grid;
    worker_team_t         *team;
    worker_shard_t        *shard;
    worker_kind_t         *kinds; /* [n_layers][WORKER_MATRIX_COUNT], the same on every shard */
    model_tensor_t *tensors; /* the same; copies, with the scales of online tensors filled in */
    scale_span_t   *spans;   /* [n_threads][n_layers][WORKER_MATRIX_COUNT] */
    int8_t         *scratch; /* [n_threads] tiles of trits */
    size_t          scratch_bytes;
    /* what exchanges need, so that none of them fails on one rank alone */
    uint32_t        *counts;    /* [3][n_shards] counts, offsets, a word of each shard */
    scale_span_t    *all_spans; /* [n_shards][n_layers][WORKER_MATRIX_COUNT] */
    model_abs_sum_t *sums;      /* the same; NULL without online tensors, and when they are known */
    model_abs_sum_t *parts;     /* [n_threads], with sums */
    bool             progress;
    _Atomic uint64_t bytes_done;
    uint64_t         bytes_total;
    _Atomic bool     failed;
    pthread_mutex_t  lock; /* guards st, err */
    base_status_t    st;   /* of this rank alone; others learn of it when all agree */
    base_err_t       err;
} load_t;

model_layer_tensor_t worker_shard_tensor(worker_matrix_id_t id);
model_layer_tensor_t worker_shard_bias(worker_matrix_id_t id);
/* The norm of this matrix's input alone; MODEL_LAYER_TENSOR_COUNT: o and down, whose is the
 * sub-norm */
model_layer_tensor_t worker_shard_in_norm(worker_matrix_id_t id);
/* "blk.3.attn_q" of layer l of this stage. */
const char *worker_shard_tensor_name(const load_t *job, uint32_t l, worker_matrix_id_t id,
                                     char *buf, size_t buf_bytes);
void        worker_shard_empty(worker_shard_t *shard); /* give the memory back, keep the list */
void        worker_shard_fail(load_t *job, base_status_t st, const base_err_t *err);

static inline size_t shard_at(uint32_t l, worker_matrix_id_t id)
{
    return (size_t)l * WORKER_MATRIX_COUNT + id;
}

/* shard_shape.c: what this rank holds, and room for it. Fill job->shard. */
base_status_t worker_shard_kinds(load_t *job, base_err_t *err); /* kinds by stored type */
base_status_t worker_shard_shape(load_t *job, base_err_t *err);
base_status_t worker_shard_place(load_t *job, base_err_t *err);

/* shard_pack.c: the load as tasks of a feed (worker_next_fn, worker_run_fn). */
bool worker_shard_next(void *ctx, int thread, int n_threads, size_t most, worker_cursor_t *cursor,
                       worker_task_t *task);
bool worker_shard_task(void *ctx, const worker_task_t *task, const model_source_t *source,
                       int thread, int n_threads);
/* Is the matrix cut by columns when it travels? As its stored type says, whatever its kind. */
bool worker_shard_strips(const model_tensor_t *tensor, worker_matrix_id_t id);

/* shard_scales.c. Room for what follows; its failure is agreed on before. */
base_status_t worker_shard_room(load_t *job, base_err_t *err);
/* Every shard's n floats to every shard: all[shard][n], the own part in place. */
base_status_t worker_shard_exchange(const load_t *job, float *all, size_t n, base_err_t *err);
/* Collective over the shard group, whatever job->st says.
 * Online tensors: the absolute mean of the whole tensor becomes its scale. */
base_status_t worker_shard_absmeans(load_t *job, base_err_t *err);
/* Compare the scales seen; *again: some tensors have blocks that differ, and kinds says so now. */
base_status_t worker_shard_agree(load_t *job, bool *again, base_err_t *err);

#endif
