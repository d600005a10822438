/* worker/shard_scales.c
 * Scales that all shards must agree on: the absolute mean of tensors made ternary at load, and the
 * one scale of a ternary-trained tensor, of which each shard saw its own blocks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "worker/shard_internal.h"

static size_t n_matrices(const load_t *job)
{
    return (size_t)job->shard->n_layers * WORKER_MATRIX_COUNT;
}

base_status_t worker_shard_exchange(const load_t *job, float *all, size_t n, base_err_t *err)
{
    const uint32_t shards = comm_grid_shards(job->grid);
    for (uint32_t s = 0; s < shards; s++) {
        job->counts[s]          = (uint32_t)n;
        job->counts[shards + s] = (uint32_t)(n * s);
    }
    return comm_gather_apart(job->grid, all, job->counts, job->counts + shards, err);
}

/* --- absolute means --- */

typedef struct {
    load_t          *job;
    model_abs_sum_t *parts; /* [n_threads] of the tensor at hand */
    uint32_t         l;
    int              id;
} mean_t;

/* Rows are shared out over all shards, whoever will hold them, so that each is read once. */
static bool next_rows(void *ctx, int thread, int n_threads, size_t most, worker_cursor_t *c,
                      worker_task_t *task)
{
    const mean_t            *mean   = ctx;
    const load_t            *job    = mean->job;
    const worker_matrix_id_t id     = (worker_matrix_id_t)mean->id;
    const model_tensor_t    *t      = &job->tensors[shard_at(mean->l, id)];
    int                      shards = (int)comm_grid_shards(job->grid);
    int                      shard  = (int)comm_grid_shard(job->grid);
    const size_t             bytes  = model_row_bytes(t->type, t->n_cols);
    size_t                   b = 0, e = 0;
    worker_share(t->n_rows, MODEL_UNIT_ROWS, shard * n_threads + thread, shards * n_threads, &b,
                 &e);
    b += c->at;
    if (b >= e) return false;
    size_t n = most / (bytes * MODEL_UNIT_ROWS) * MODEL_UNIT_ROWS;
    *task    = (worker_task_t){.tensor = t,
                               .strips = worker_shard_strips(t, id),
                               .row    = b,
                               .rows   = base_min_size(n == 0 ? MODEL_UNIT_ROWS : n, e - b),
                               .cols   = t->n_cols,
                               .layer  = (int32_t)(job->shard->layer0 + mean->l),
                               .name   = model_layer_tensor_label(worker_shard_tensor(id))};
    c->at += task->rows;
    return true;
}

static bool sum_rows(void *ctx, const worker_task_t *task, const model_source_t *source, int thread,
                     int n_threads)
{
    mean_t *mean = ctx;
    (void)n_threads;
    for (size_t i = 0; i < task->rows; i++)
        model_absmean_accumulate(source, task->tensor, task->row + i, 0, task->cols,
                                 &mean->parts[thread]);
    return true;
}

/* This shard's sums of all online tensors. */
static void sum_tensors(load_t *job, model_abs_sum_t *parts, model_abs_sum_t *sums)
{
    int        n_threads = worker_team_size(job->team);
    base_err_t err       = {0};
    for (uint32_t l = 0; l < job->shard->n_layers; l++)
        for (int id = 0; id < WORKER_MATRIX_COUNT; id++) {
            size_t at   = shard_at(l, (worker_matrix_id_t)id);
            mean_t mean = {.job = job, .parts = parts, .l = l, .id = id};
            if (!job->tensors[at].online || job->tensors[at].unit) continue;
            memset(parts, 0, (size_t)n_threads * sizeof(*parts));
            base_status_t st = worker_feed_run(job->feed, next_rows, sum_rows, &mean, &err);
            if (st != BASE_OK) {
                worker_shard_fail(job, st, &err);
                return;
            }
            for (int t = 0; t < n_threads; t++) model_abs_sum_merge(&sums[at], &parts[t]);
        }
}

static bool any_online(const load_t *job)
{
    for (size_t i = 0; i < n_matrices(job); i++)
        if (job->tensors[i].online && !job->tensors[i].unit) return true;
    return false;
}

base_status_t worker_shard_room(load_t *job, base_err_t *err)
{
    const size_t  n      = n_matrices(job);
    const size_t  shards = comm_grid_shards(job->grid);
    base_status_t st =
        base_alloc((void **)&job->counts, 3 * shards, sizeof(uint32_t), "scales", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&job->all_spans, n * shards, sizeof(*job->all_spans), "scales",
                        err);
    if (st != BASE_OK || !any_online(job)) return st;
    st = base_alloc((void **)&job->sums, n * shards, sizeof(*job->sums), "absolute means", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&job->parts, (size_t)worker_team_size(job->team),
                        sizeof(*job->parts), "absolute means", err);
    return st;
}

base_status_t worker_shard_absmeans(load_t *job, base_err_t *err)
{
    size_t           n      = n_matrices(job);
    uint32_t         shards = comm_grid_shards(job->grid);
    model_abs_sum_t *all    = job->sums;
    base_status_t    st     = BASE_OK;

    _Static_assert(sizeof(model_abs_sum_t) % sizeof(float) == 0, "sums travel as whole words");
    if (all == NULL) return BASE_OK;
    if (job->st == BASE_OK) sum_tensors(job, job->parts, all + n * comm_grid_shard(job->grid));
    st = worker_shard_exchange(job, (float *)(void *)all, n * sizeof(*all) / sizeof(float), err);
    for (size_t i = 0; st == BASE_OK && i < n; i++) {
        model_tensor_t *t = &job->tensors[i];
        if (!t->online || t->unit) continue;
        for (uint32_t s = 1; s < shards; s++) model_abs_sum_merge(&all[i], &all[n * s + i]);
        t->scale = model_abs_sum_scale(&all[i], t->n_rows * t->n_cols);
    }
    free(job->sums);
    free(job->parts);
    job->sums  = NULL;
    job->parts = NULL;
    return st;
}

/* --- scales of blocks --- */

static void merge_span(scale_span_t *into, scale_span_t from)
{
    into->lo = fminf(into->lo, from.lo);
    into->hi = fmaxf(into->hi, from.hi);
}

/* One tensor's scale from what all saw; false if its blocks differ. */
static bool settle(load_t *job, size_t at, scale_span_t sum)
{
    worker_matrix_t *m = &job->shard->layers[at / WORKER_MATRIX_COUNT].m[at % WORKER_MATRIX_COUNT];
    float            known = job->tensors[at].scale; /* 0: it is in the blocks */
    if (m->kind != WORKER_TERN) return true;
    if (known == 0 && sum.lo < sum.hi) return false;
    m->scale = (known != 0 ? known : sum.hi) * m->out_scale; /* 0 when every weight is 0 */
    return true;
}

base_status_t worker_shard_agree(load_t *job, bool *again, base_err_t *err)
{
    size_t        n         = n_matrices(job);
    uint32_t      shards    = comm_grid_shards(job->grid);
    int           n_threads = worker_team_size(job->team);
    scale_span_t *all       = job->all_spans;
    scale_span_t *own       = all + n * comm_grid_shard(job->grid);
    base_status_t st        = BASE_OK;
    for (size_t i = 0; i < n; i++) {
        own[i] = (scale_span_t){INFINITY, 0};
        for (int t = 0; t < n_threads; t++) merge_span(&own[i], job->spans[(size_t)t * n + i]);
    }
    /* A shard that failed says so here: then none goes for a second attempt and its exchange. */
    bool failed = false;
    if (job->st != BASE_OK) own[0].lo = NAN;
    st = worker_shard_exchange(job, (float *)(void *)all, n * 2, err);
    for (uint32_t s = 0; s < shards; s++) failed = failed || isnan(all[n * s].lo);
    for (size_t i = 0; st == BASE_OK && !failed && i < n; i++) {
        scale_span_t sum = {INFINITY, 0};
        for (uint32_t s = 0; s < shards; s++) merge_span(&sum, all[n * s + i]);
        if (settle(job, i, sum)) continue;
        job->kinds[i] = WORKER_BLOCK;
        *again        = true;
    }
    return st;
}
