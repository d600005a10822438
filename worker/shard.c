/* worker/shard.c: the weights of one rank, in the order of events: shape, place, pack, agree. */
#include "worker/shard.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/log.h"
#include "worker/shard_internal.h"
#include "worker/shard_keep.h"

void worker_shard_empty(worker_shard_t *shard)
{
    base_arena_destroy(&shard->arena);
    shard->bytes = 0;
}

/* The parts of a load that do not change with the kinds. */
static base_status_t load_open(load_t *job, const kern_format_t *format, base_err_t *err)
{
    worker_shard_t *shard = NULL;
    uint32_t        stage = comm_grid_stage(job->grid);
    part_range_t    range = part_stage_layers(job->plan, stage);
    base_status_t   st    = base_alloc((void **)&job->shard, 1, sizeof(*shard), "shard", err);
    if (st != BASE_OK) return st;
    shard            = job->shard;
    shard->format    = format;
    shard->layer0    = range.begin;
    shard->n_layers  = range.end - range.begin;
    shard->has_embed = stage == 0;
    shard->has_head  = stage + 1 == job->plan->stages;
    shard->vocab     = part_vocab(job->plan, job->desc, comm_grid_shard(job->grid));
    size_t n         = (size_t)shard->n_layers * WORKER_MATRIX_COUNT;
    size_t spans     = n * (size_t)worker_team_size(job->team);
    st =
        base_alloc((void **)&shard->layers, shard->n_layers, sizeof(worker_layer_t), "layers", err);
    if (st == BASE_OK) st = base_alloc((void **)&job->kinds, n, sizeof(*job->kinds), "layers", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&job->tensors, n, sizeof(*job->tensors), "layers", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&job->spans, spans, sizeof(*job->spans), "scales", err);
    for (uint32_t l = 0; st == BASE_OK && l < shard->n_layers; l++)
        for (int id = 0; id < WORKER_MATRIX_COUNT; id++)
            job->tensors[shard_at(l, (worker_matrix_id_t)id)] =
                job->desc->layers[shard->layer0 + l].t[worker_shard_tensor((worker_matrix_id_t)id)];
    return st == BASE_OK ? worker_shard_room(job, err) : st;
}

static size_t widest_row(const worker_shard_t *shard)
{
    size_t widest = 1;
    for (uint32_t l = 0; l < shard->n_layers; l++)
        for (int id = 0; id < WORKER_MATRIX_COUNT; id++)
            widest = base_max_size(widest, shard->layers[l].m[id].cols);
    return widest;
}

/* One attempt with the kinds as they are; errors of this rank alone go to job->st. */
static void load_attempt(load_t *job)
{
    size_t n = (size_t)job->shard->n_layers * WORKER_MATRIX_COUNT;
    for (size_t i = 0; i < n * (size_t)worker_team_size(job->team); i++)
        job->spans[i] = (scale_span_t){INFINITY, 0};
    if (job->st == BASE_OK) job->st = worker_shard_shape(job, &job->err);
    if (job->st == BASE_OK) job->st = worker_shard_place(job, &job->err);
    if (job->st != BASE_OK) return;
    free(job->scratch);
    job->scratch       = NULL;
    job->scratch_bytes = base_round_up(KERN_TILE_ROWS * widest_row(job->shard), 64);
    job->bytes_total   = job->shard->bytes;
    job->bytes_done    = 0;
    job->st            = base_alloc((void **)&job->scratch, (size_t)worker_team_size(job->team),
                                    job->scratch_bytes, "packing", &job->err);
    if (job->st != BASE_OK) return;
    base_err_t    err = {0};
    base_status_t st  = worker_feed_run(job->feed, worker_shard_next, worker_shard_task, job, &err);
    if (st != BASE_OK) worker_shard_fail(job, st, &err);
    if (job->progress && job->st == BASE_OK) base_progress_bytes("loading weights", 1, 1);
}

/* Twice at most: files of ternary-trained models have one scale a tensor, and are packed as such;
 * if blocks turn out to differ, those tensors are packed again with a scale for each block. */
static base_status_t load_all(load_t *job, base_err_t *err)
{
    bool          again = false;
    base_status_t st    = BASE_OK;
    if (job->st == BASE_OK) job->st = worker_shard_kinds(job, &job->err);
    st = worker_shard_absmeans(job, err);
    if (st != BASE_OK) return st;
    load_attempt(job);
    st = worker_shard_agree(job, &again, err);
    if (st != BASE_OK || !again) return st;
    worker_shard_empty(job->shard);
    again = false;
    load_attempt(job);
    st = worker_shard_agree(job, &again, err);
    base_assert(!again || job->st != BASE_OK);
    return st;
}

base_status_t worker_shard_load(const model_desc_t *desc, const worker_origin_t *origin,
                                const part_plan_t *plan, comm_grid_t *grid,
                                const kern_format_t *format, worker_team_t *team,
                                const char *keep_dir, bool progress, worker_shard_t **out,
                                base_err_t *err)
{
    load_t job      = {.desc     = desc,
                       .origin   = origin,
                       .plan     = plan,
                       .grid     = grid,
                       .team     = team,
                       .progress = progress};
    bool   restored = false;
    (void)pthread_mutex_init(&job.lock, NULL);
    base_status_t st = load_open(&job, format, err);
    if (st == BASE_OK) st = worker_feed_create(origin, team, &job.feed, err);
    /* From here on the shards meet: none may be missing. All have looked into their --cache before
     * anyone writes there. */
    st = comm_grid_agree(grid, st, err);
    if (origin->source != NULL && model_source_generated(origin->source)) keep_dir = NULL;
    if (st == BASE_OK && keep_dir != NULL)
        st = worker_shard_restore(&job, keep_dir, &restored, err);
    if (st == BASE_OK && !restored) st = load_all(&job, err);
    if (st == BASE_OK && job.st != BASE_OK) {
        st = job.st;
        if (err != NULL) *err = job.err;
    }
    if (st == BASE_OK && keep_dir != NULL && !restored) worker_shard_keep(&job, keep_dir);
    if (st == BASE_OK) {
        job.shard->restored = restored;
        if (!restored) job.shard->feed = worker_feed_stats(job.feed);
        *out      = job.shard;
        job.shard = NULL;
    }
    worker_shard_destroy(&job.shard);
    worker_feed_destroy(&job.feed);
    free(job.kinds);
    free(job.tensors);
    free(job.spans);
    free(job.scratch);
    free(job.counts);
    free(job.all_spans);
    free(job.sums);
    free(job.parts);
    (void)pthread_mutex_destroy(&job.lock);
    return st;
}

void worker_shard_destroy(worker_shard_t **shard)
{
    if (shard == NULL || *shard == NULL) return;
    free((*shard)->layers);
    base_arena_destroy(&(*shard)->arena);
    free(*shard);
    *shard = NULL;
}
