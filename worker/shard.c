/* worker/shard.c: read, check and pack the weights of one rank. */
#include "worker/shard.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/log.h"

_Static_assert(PART_FFN_BLOCK == 2 * KERN_TILE_ROWS, "a block of FFN activations is two tiles");

typedef struct {
    float lo, hi; /* of the block scales seen; lo > hi: only zero weights so far */
} scale_span_t;

/* One load, shared by the team. */
typedef struct {
    const model_desc_t   *desc;
    const model_source_t *source;
    worker_shard_t       *shard;
    bool                  progress;
    scale_span_t         *spans;   /* [n_threads][n_layers][WORKER_TERN_COUNT] */
    int8_t               *scratch; /* [n_threads] tiles of trits */
    size_t                scratch_bytes;
    _Atomic uint64_t      bytes_done;
    uint64_t              bytes_total;
    _Atomic bool          failed;
    pthread_mutex_t       lock; /* guards st, err */
    base_status_t         st;
    base_err_t            err;
} load_t;

static const model_layer_tensor_t tern_tensor[WORKER_TERN_COUNT] = {
    [WORKER_Q] = MODEL_ATTN_Q,     [WORKER_K] = MODEL_ATTN_K,      [WORKER_V] = MODEL_ATTN_V,
    [WORKER_O] = MODEL_ATTN_OUT,   [WORKER_GATE] = MODEL_FFN_GATE, [WORKER_UP] = MODEL_FFN_UP,
    [WORKER_DOWN] = MODEL_FFN_DOWN};

/* Rows and columns of the stored tensor that make up the shard's matrix. */
static void tern_window(const worker_layer_t *layer, worker_tern_id_t id, size_t head_dim,
                        size_t *row0, size_t *col0)
{
    const part_slice_t *s = &layer->slice;
    *row0                 = 0;
    *col0                 = 0;
    switch (id) {
    case WORKER_Q: *row0 = s->q.begin * head_dim; break;
    case WORKER_K:
    case WORKER_V: *row0 = s->kv.begin * head_dim; break;
    case WORKER_GATE:
    case WORKER_UP: *row0 = s->ffn.begin; break;
    case WORKER_O: *col0 = s->q.begin * head_dim; break;
    case WORKER_DOWN: *col0 = s->ffn.begin; break;
    case WORKER_TERN_COUNT: break;
    }
}

void worker_tern_share(const worker_layer_t *layer, worker_tern_id_t id, int thread, int n_threads,
                       size_t *t0, size_t *t1)
{
    const worker_tern_t *m     = layer->m;
    size_t               first = 0; /* of this matrix in the run of tiles shared out */
    size_t               total = m[id].n_tiles;
    size_t               unit  = id == WORKER_GATE || id == WORKER_UP ? 2 : 1;
    size_t               b     = 0;
    size_t               e     = 0;
    if (id == WORKER_Q || id == WORKER_K || id == WORKER_V) {
        total = m[WORKER_Q].n_tiles + m[WORKER_K].n_tiles + m[WORKER_V].n_tiles;
        if (id != WORKER_Q) first += m[WORKER_Q].n_tiles;
        if (id == WORKER_V) first += m[WORKER_K].n_tiles;
    }
    worker_share(total, unit, thread, n_threads, &b, &e);
    size_t last = first + m[id].n_tiles;
    b           = b < first ? first : b > last ? last : b;
    e           = e < first ? first : e > last ? last : e;
    *t0         = b - first;
    *t1         = e - first;
}

static void load_fail(load_t *job, base_status_t st, const base_err_t *err)
{
    (void)pthread_mutex_lock(&job->lock);
    if (job->st == BASE_OK) {
        job->st  = st;
        job->err = *err;
    }
    (void)pthread_mutex_unlock(&job->lock);
    atomic_store(&job->failed, true);
}

static void load_progress(load_t *job, uint64_t bytes, int thread)
{
    uint64_t done = atomic_fetch_add(&job->bytes_done, bytes) + bytes;
    if (job->progress && thread == 0) base_progress("loading weights", done, job->bytes_total + 1);
}

/* Pack this thread's tiles of one matrix. */
static void load_tern(load_t *job, uint32_t l, worker_tern_id_t id, int thread, int n_threads)
{
    worker_shard_t       *shard  = job->shard;
    worker_layer_t       *layer  = &shard->layers[l];
    worker_tern_t        *m      = &layer->m[id];
    const model_tensor_t *tensor = &job->desc->layers[shard->layer0 + l].t[tern_tensor[id]];
    int8_t               *trits  = job->scratch + (size_t)thread * job->scratch_bytes;
    scale_span_t         *span =
        &job->spans[((size_t)thread * shard->n_layers + l) * WORKER_TERN_COUNT + id];
    size_t row0 = 0;
    size_t col0 = 0;
    size_t t0   = 0;
    size_t t1   = 0;

    tern_window(layer, id, job->desc->head_dim, &row0, &col0);
    worker_tern_share(layer, id, thread, n_threads, &t0, &t1);
    for (size_t t = t0; t < t1; t++) {
        size_t n = base_min_size(KERN_TILE_ROWS, m->rows - t * KERN_TILE_ROWS);
        for (size_t r = 0; r < n; r++) {
            size_t row = row0 + t * KERN_TILE_ROWS + r;
            if (model_row_trits(job->source, tensor, row, col0, m->cols, trits + r * m->cols,
                                &span->lo, &span->hi))
                continue;
            base_err_t err;
            char       name[64];
            (void)base_fail(
                &err, BASE_ERR_INPUT,
                "%s: %s row %zu holds an invalid ternary code or scale; the file is "
                "damaged",
                model_source_path(job->source, tensor->file),
                model_layer_tensor_name(shard->layer0 + l, tern_tensor[id], name, sizeof(name)),
                row);
            load_fail(job, BASE_ERR_INPUT, &err);
            return;
        }
        shard->format->pack_tile(m->data + t * m->tile_bytes, trits, m->cols, n, m->cols);
    }
    load_progress(job, (t1 - t0) * m->tile_bytes, thread);
}

static void load_norm(load_t *job, const model_tensor_t *tensor, size_t col0, size_t n, float *out)
{
    model_row_f32(job->source, tensor, 0, col0, n, out);
}

/* Norms are small: thread 0 reads them. */
static void load_norms(load_t *job, uint32_t l)
{
    worker_layer_t      *layer = &job->shard->layers[l];
    const model_layer_t *src   = &job->desc->layers[job->shard->layer0 + l];
    size_t               hd    = job->desc->head_dim;
    size_t               width = job->desc->width;
    const part_slice_t  *s     = &layer->slice;
    load_norm(job, &src->t[MODEL_ATTN_NORM], 0, width, layer->attn_norm);
    load_norm(job, &src->t[MODEL_FFN_NORM], 0, width, layer->ffn_norm);
    load_norm(job, &src->t[MODEL_ATTN_SUB_NORM], s->q.begin * hd, (s->q.end - s->q.begin) * hd,
              layer->attn_sub_norm);
    load_norm(job, &src->t[MODEL_FFN_SUB_NORM], s->ffn.begin, s->ffn.end - s->ffn.begin,
              layer->ffn_sub_norm);
}

static void load_head(load_t *job, int thread, int n_threads)
{
    worker_shard_t *shard = job->shard;
    size_t          n     = shard->vocab.end - shard->vocab.begin;
    size_t          b     = 0;
    size_t          e     = 0;
    worker_share(n, KERN_TILE_ROWS, thread, n_threads, &b, &e);
    for (size_t i = b; i < e; i++) /* rows may be unaligned in the file, not here */
        model_row_copy(job->source, &job->desc->head, shard->vocab.begin + i,
                       shard->head + i * shard->head_row_bytes);
    load_progress(job, (e - b) * shard->head_row_bytes, thread);
}

static void load_job(void *ctx, int thread, int n_threads)
{
    load_t *job = ctx;
    for (uint32_t l = 0; l < job->shard->n_layers; l++) {
        for (int id = 0; id < WORKER_TERN_COUNT; id++) {
            if (atomic_load(&job->failed)) return;
            load_tern(job, l, (worker_tern_id_t)id, thread, n_threads);
        }
        if (thread == 0) load_norms(job, l);
    }
    if (!job->shard->has_head) return;
    if (thread == 0)
        load_norm(job, &job->desc->out_norm, 0, job->desc->width, job->shard->out_norm);
    load_head(job, thread, n_threads);
}

/* --- sizes --- */

static base_status_t dense_type(model_type_t type, kern_dense_t *out)
{
    switch (type) {
    case MODEL_F32: *out = KERN_F32; return BASE_OK;
    case MODEL_F16: *out = KERN_F16; return BASE_OK;
    case MODEL_BF16: *out = KERN_BF16; return BASE_OK;
    case MODEL_Q8_0: *out = KERN_Q8_0; return BASE_OK;
    case MODEL_Q6_K: *out = KERN_Q6_K; return BASE_OK;
    default: return BASE_ERR_UNSUPPORTED;
    }
}

static void shape_tern(worker_tern_t *m, const kern_format_t *f, size_t rows, size_t cols)
{
    m->rows       = rows;
    m->cols       = cols;
    m->n_tiles    = cols == 0 ? 0 : kern_tiles(rows);
    m->granules   = kern_granules(f, cols);
    m->tile_bytes = kern_tile_bytes(f, cols);
}

static base_status_t shape_layer(const model_desc_t *desc, const part_plan_t *plan, uint32_t index,
                                 uint32_t shard_index, const kern_format_t *format,
                                 worker_layer_t *layer, base_err_t *err)
{
    const model_layer_t *src = &desc->layers[index];
    size_t               hd  = desc->head_dim;

    for (int id = 0; id < WORKER_TERN_COUNT; id++) {
        const model_tensor_t *t = &src->t[tern_tensor[id]];
        char                  name[64];
        if (model_type_info(t->type)->ternary) continue;
        return base_fail(err, BASE_ERR_UNSUPPORTED,
                         "%s is stored as %s: this version runs ternary layers (TQ1_0, TQ2_0)",
                         model_layer_tensor_name(index, tern_tensor[id], name, sizeof(name)),
                         model_type_info(t->type)->name);
    }
    layer->slice      = part_slice(plan, src, shard_index);
    layer->n_heads    = src->n_heads;
    layer->n_kv_heads = src->n_kv_heads;
    layer->ffn        = src->ffn;
    size_t q          = (layer->slice.q.end - layer->slice.q.begin) * hd;
    size_t kv         = (layer->slice.kv.end - layer->slice.kv.begin) * hd;
    size_t ffn        = layer->slice.ffn.end - layer->slice.ffn.begin;
    shape_tern(&layer->m[WORKER_Q], format, q, desc->width);
    shape_tern(&layer->m[WORKER_K], format, kv, desc->width);
    shape_tern(&layer->m[WORKER_V], format, kv, desc->width);
    shape_tern(&layer->m[WORKER_O], format, desc->width, q);
    shape_tern(&layer->m[WORKER_GATE], format, ffn, desc->width);
    shape_tern(&layer->m[WORKER_UP], format, ffn, desc->width);
    shape_tern(&layer->m[WORKER_DOWN], format, desc->width, ffn);
    return BASE_OK;
}

static float *take_floats(base_arena_t *arena, size_t n)
{
    return base_arena_take(arena, n * sizeof(float));
}

static size_t padded(size_t bytes)
{
    return base_round_up(bytes, 64);
}

static size_t layer_bytes(const worker_layer_t *layer, size_t width)
{
    size_t bytes = 2 * padded(width * 4) + padded(layer->m[WORKER_O].cols * 4) +
                   padded(layer->m[WORKER_DOWN].cols * 4);
    for (int id = 0; id < WORKER_TERN_COUNT; id++)
        bytes += padded(layer->m[id].n_tiles * layer->m[id].tile_bytes);
    return bytes;
}

static void place_layer(base_arena_t *arena, worker_layer_t *layer, size_t width)
{
    layer->attn_norm     = take_floats(arena, width);
    layer->ffn_norm      = take_floats(arena, width);
    layer->attn_sub_norm = take_floats(arena, layer->m[WORKER_O].cols);
    layer->ffn_sub_norm  = take_floats(arena, layer->m[WORKER_DOWN].cols);
    for (int id = 0; id < WORKER_TERN_COUNT; id++)
        layer->m[id].data = base_arena_take(arena, layer->m[id].n_tiles * layer->m[id].tile_bytes);
}

static base_status_t shard_shape(const model_desc_t *desc, const part_plan_t *plan,
                                 comm_grid_t *grid, worker_shard_t *shard, base_err_t *err)
{
    uint32_t      stage = comm_grid_stage(grid);
    part_range_t  range = part_stage_layers(plan, stage);
    base_status_t st    = BASE_OK;

    shard->layer0    = range.begin;
    shard->n_layers  = range.end - range.begin;
    shard->has_embed = stage == 0;
    shard->has_head  = stage + 1 == plan->stages;
    shard->vocab     = part_vocab(plan, desc, comm_grid_shard(grid));
    st =
        base_alloc((void **)&shard->layers, shard->n_layers, sizeof(worker_layer_t), "layers", err);
    if (st != BASE_OK) return st;
    for (uint32_t l = 0; l < shard->n_layers; l++) {
        st = shape_layer(desc, plan, shard->layer0 + l, comm_grid_shard(grid), shard->format,
                         &shard->layers[l], err);
        if (st != BASE_OK) return st;
        shard->bytes += layer_bytes(&shard->layers[l], desc->width);
    }
    if (!shard->has_head) return BASE_OK;
    if (dense_type(desc->head.type, &shard->head_type) != BASE_OK)
        return base_fail(err, BASE_ERR_UNSUPPORTED,
                         "the output head is stored as %s: this version runs F32, F16, BF16, Q8_0 "
                         "and Q6_K heads",
                         model_type_info(desc->head.type)->name);
    shard->head_row_bytes = model_row_bytes(desc->head.type, desc->width);
    shard->bytes += padded((shard->vocab.end - shard->vocab.begin) * shard->head_row_bytes) +
                    padded(desc->width * 4);
    return BASE_OK;
}

static base_status_t shard_place(const model_desc_t *desc, worker_shard_t *shard, base_err_t *err)
{
    base_status_t st = base_arena_create(&shard->arena, shard->bytes + 64, "weights", err);
    if (st != BASE_OK) return st;
    for (uint32_t l = 0; l < shard->n_layers; l++)
        place_layer(&shard->arena, &shard->layers[l], desc->width);
    if (!shard->has_head) return BASE_OK;
    size_t rows     = shard->vocab.end - shard->vocab.begin;
    shard->out_norm = take_floats(&shard->arena, desc->width);
    shard->head     = base_arena_take(&shard->arena, rows * shard->head_row_bytes);
    return BASE_OK;
}

/* --- scales: one per tensor, agreed on by all shards --- */

/* Merge the spans of the threads, exchange them with the other shards, and set the scales. */
static base_status_t scales_agree(load_t *job, comm_grid_t *grid, int n_threads, base_err_t *err)
{
    worker_shard_t *shard  = job->shard;
    uint32_t        shards = comm_grid_shards(grid);
    size_t          n      = (size_t)shard->n_layers * WORKER_TERN_COUNT;
    scale_span_t   *all    = NULL;
    uint32_t       *counts = NULL; /* shards counts, then shards offsets */
    base_status_t   st     = BASE_OK;
    base_status_t   mine   = job->st;

    st = base_alloc((void **)&all, n * shards, sizeof(*all), "scales", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&counts, 2 * (size_t)shards, sizeof(*counts), "scales", err);
    if (st != BASE_OK) goto out;
    scale_span_t *own = all + n * comm_grid_shard(grid);
    for (size_t i = 0; i < n; i++) {
        own[i] = (scale_span_t){INFINITY, 0};
        for (int t = 0; t < n_threads; t++) {
            own[i].lo = fminf(own[i].lo, job->spans[(size_t)t * n + i].lo);
            own[i].hi = fmaxf(own[i].hi, job->spans[(size_t)t * n + i].hi);
        }
    }
    for (uint32_t s = 0; s < shards; s++) {
        counts[s]          = (uint32_t)(n * 2);
        counts[shards + s] = (uint32_t)(n * 2 * s);
    }
    st = comm_gather_f32(grid, (float *)all, counts, counts + shards, err);
    if (st != BASE_OK || mine != BASE_OK) goto out;
    for (size_t i = 0; i < n; i++) {
        scale_span_t sum = {INFINITY, 0};
        for (uint32_t s = 0; s < shards; s++) {
            sum.lo = fminf(sum.lo, all[n * s + i].lo);
            sum.hi = fmaxf(sum.hi, all[n * s + i].hi);
        }
        worker_tern_id_t id = (worker_tern_id_t)(i % WORKER_TERN_COUNT);
        uint32_t         l  = (uint32_t)(i / WORKER_TERN_COUNT);
        char             name[64];
        if (sum.lo < sum.hi) {
            st = base_fail(
                err, BASE_ERR_UNSUPPORTED,
                "%s: the blocks' scales differ (%.9g to %.9g): not a ternary-trained "
                "tensor with one scale, which is what this version runs",
                model_layer_tensor_name(shard->layer0 + l, tern_tensor[id], name, sizeof(name)),
                (double)sum.lo, (double)sum.hi);
            goto out;
        }
        shard->layers[l].m[id].scale = sum.hi; /* 0 when every weight is 0 */
    }
out:
    free(all);
    free(counts);
    return st;
}

static size_t widest_row(const worker_shard_t *shard)
{
    size_t widest = 1;
    for (uint32_t l = 0; l < shard->n_layers; l++)
        for (int id = 0; id < WORKER_TERN_COUNT; id++)
            widest = base_max_size(widest, shard->layers[l].m[id].cols);
    return widest;
}

base_status_t worker_shard_load(const model_desc_t *desc, const model_source_t *source,
                                const part_plan_t *plan, comm_grid_t *grid,
                                const kern_format_t *format, worker_team_t *team, bool progress,
                                worker_shard_t **out, base_err_t *err)
{
    int           n_threads = worker_team_size(team);
    load_t        job       = {.desc = desc, .source = source, .progress = progress};
    base_status_t st        = BASE_OK;
    size_t        n_span    = 0;

    (void)pthread_mutex_init(&job.lock, NULL);
    st = base_alloc((void **)&job.shard, 1, sizeof(worker_shard_t), "shard", err);
    if (st != BASE_OK) goto out;
    job.shard->format = format;
    job.st            = shard_shape(desc, plan, grid, job.shard, &job.err);
    if (job.st == BASE_OK) job.st = shard_place(desc, job.shard, &job.err);
    n_span = (size_t)n_threads * job.shard->n_layers * WORKER_TERN_COUNT;
    st     = base_alloc((void **)&job.spans, n_span, sizeof(scale_span_t), "scales", err);
    if (st != BASE_OK) goto out;
    for (size_t i = 0; i < n_span; i++) job.spans[i] = (scale_span_t){INFINITY, 0};
    if (job.st == BASE_OK) {
        job.scratch_bytes = base_round_up(KERN_TILE_ROWS * widest_row(job.shard), 64);
        job.bytes_total   = job.shard->bytes;
        job.st = base_alloc((void **)&job.scratch, (size_t)n_threads, job.scratch_bytes, "packing",
                            &job.err);
    }
    if (job.st == BASE_OK) worker_team_run(team, load_job, &job);
    if (progress && job.st == BASE_OK) base_progress("loading weights", 1, 1);
    st = scales_agree(&job, grid, n_threads, err);
    if (st == BASE_OK && job.st != BASE_OK) {
        st = job.st;
        if (err != NULL) *err = job.err;
    }
    if (st != BASE_OK) goto out;
    *out      = job.shard;
    job.shard = NULL;
out:
    worker_shard_destroy(&job.shard);
    free(job.spans);
    free(job.scratch);
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
