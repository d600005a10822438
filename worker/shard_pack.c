/* worker/shard_pack.c: stored rows into the shard's memory, each thread its own tiles, task by
 * task. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/log.h"
#include "worker/shard_internal.h"

_Static_assert(PART_FFN_BLOCK == 2 * KERN_TILE_ROWS, "a block of FFN activations is two tiles");

void worker_tile_share(const worker_layer_t *layer, worker_matrix_id_t id, int thread,
                       int n_threads, size_t *t0, size_t *t1)
{
    const worker_matrix_t *m     = layer->m;
    size_t                 first = 0; /* of this matrix in the run of tiles shared out */
    size_t                 total = m[id].n_tiles;
    size_t                 unit  = id == WORKER_GATE || id == WORKER_UP ? 2 : 1;
    size_t                 b     = 0;
    size_t                 e     = 0;
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

void worker_shard_fail(load_t *job, base_status_t st, const base_err_t *err)
{
    (void)pthread_mutex_lock(&job->lock);
    if (job->st == BASE_OK) {
        job->st  = st;
        job->err = *err;
    }
    (void)pthread_mutex_unlock(&job->lock);
    atomic_store(&job->failed, true);
}

static void progress(load_t *job, uint64_t bytes, int thread)
{
    uint64_t done = atomic_fetch_add(&job->bytes_done, bytes) + bytes;
    if (job->progress && thread == 0)
        base_progress_bytes("loading weights", done, job->bytes_total + 1);
}

static void damaged_row(load_t *job, uint32_t l, worker_matrix_id_t id, size_t row)
{
    base_err_t err;
    char       name[64];
    (void)base_fail(
        &err, BASE_ERR_INPUT,
        "%s: %s row %zu holds an invalid ternary code or scale; the file is damaged",
        model_source_path(worker_feed_source(job->feed), job->tensors[shard_at(l, id)].file),
        worker_shard_tensor_name(job, l, id, name, sizeof(name)), row);
    worker_shard_fail(job, BASE_ERR_INPUT, &err);
}

/* One row with a scale for each block: trits, and scales strided by the tile's rows. */
static bool read_block_row(const model_source_t *source, const model_tensor_t *t,
                           const worker_matrix_t *m, size_t row, int8_t *trits, float *scales)
{
    for (size_t b = 0; b < m->blocks; b++) {
        scale_span_t span = {INFINITY, 0};
        size_t       col  = b * SHARD_BLOCK;
        size_t       n    = base_min_size(SHARD_BLOCK, m->cols - col);
        if (!model_row_trits(source, t, row, m->col0 + col, n, trits + col, &span.lo, &span.hi))
            return false;
        scales[b * KERN_TILE_ROWS] = span.hi; /* 0: a block of zeros */
    }
    return true;
}

/* Tiles [t0, t1) of one ternary matrix. */
static bool pack_ternary(load_t *job, const model_source_t *source, uint32_t l,
                         worker_matrix_id_t id, size_t t0, size_t t1, int thread)
{
    worker_shard_t       *shard = job->shard;
    worker_matrix_t      *m     = &shard->layers[l].m[id];
    const model_tensor_t *t     = &job->tensors[shard_at(l, id)];
    const kern_format_t  *f     = m->kind == WORKER_BLOCK ? kern_format(KERN_T2) : shard->format;
    int8_t               *trits = job->scratch + (size_t)thread * job->scratch_bytes;
    scale_span_t         *span =
        &job->spans[(size_t)thread * shard->n_layers * WORKER_MATRIX_COUNT + shard_at(l, id)];

    for (size_t tile = t0; tile < t1; tile++) {
        size_t n = base_min_size(KERN_TILE_ROWS, m->rows - tile * KERN_TILE_ROWS);
        for (size_t r = 0; r < n; r++) {
            size_t  row   = m->row0 + tile * KERN_TILE_ROWS + r;
            int8_t *to    = trits + r * m->cols;
            size_t  first = tile * m->blocks * KERN_TILE_ROWS + r; /* its scales */
            if (m->kind == WORKER_BLOCK
                    ? read_block_row(source, t, m, row, to, m->scales + first)
                    : model_row_trits(source, t, row, m->col0, m->cols, to, &span->lo, &span->hi))
                continue;
            damaged_row(job, l, id, row);
            return false;
        }
        f->pack_tile(m->data + tile * m->tile_bytes, trits, m->cols, n, m->cols);
    }
    progress(job, (t1 - t0) * m->tile_bytes, thread);
    return true;
}

static void copy_dense(load_t *job, const model_source_t *source, uint32_t l, worker_matrix_id_t id,
                       size_t t0, size_t t1, int thread)
{
    worker_matrix_t      *m   = &job->shard->layers[l].m[id];
    const model_tensor_t *t   = &job->tensors[shard_at(l, id)];
    size_t                end = base_min_size(t1 * KERN_TILE_ROWS, m->rows);
    for (size_t i = t0 * KERN_TILE_ROWS; i < end; i++)
        model_row_copy(source, t, m->row0 + i, m->data + i * m->row_bytes);
    progress(job, (t1 - t0) * KERN_TILE_ROWS * m->row_bytes, thread);
}

/* --- vectors: norms and biases. They are small: thread 0 reads them. --- */

enum { VECTORS = 4 + 2 * WORKER_MATRIX_COUNT }; /* of a layer */

/* Vector `which` of a layer: where its floats go, and which part of it; false: there is none. */
static bool vector_at(load_t *job, uint32_t l, uint32_t which, worker_task_t *task, float **to,
                      float *factor)
{
    worker_layer_t      *layer  = &job->shard->layers[l];
    worker_matrix_t     *o      = &layer->m[WORKER_O];
    worker_matrix_t     *down   = &layer->m[WORKER_DOWN];
    model_layer_tensor_t tensor = MODEL_LAYER_TENSOR_COUNT;
    size_t               col = 0, cols = job->desc->width;
    worker_matrix_id_t   id = (worker_matrix_id_t)(which < 4 ? 0 : (which - 4) / 2);
    *factor                 = 0;
    switch (which) {
    case 0:
        tensor = MODEL_ATTN_NORM;
        *to    = layer->attn_norm;
        break;
    case 1:
        tensor = MODEL_FFN_NORM;
        *to    = layer->ffn_norm;
        break;
    case 2:
        tensor = MODEL_ATTN_SUB_NORM;
        *to    = layer->attn_sub_norm;
        col    = o->col0;
        cols   = o->cols;
        break;
    case 3:
        tensor = MODEL_FFN_SUB_NORM;
        *to    = layer->ffn_sub_norm;
        col    = down->col0;
        cols   = down->cols;
        break;
    default:
        if (which % 2 == 0) {
            tensor = worker_shard_in_norm(id);
            *to    = layer->in_norm[id];
            break;
        }
        tensor = worker_shard_bias(id);
        *to    = layer->m[id].bias;
        col    = layer->m[id].row0;
        cols   = layer->m[id].rows;
    }
    if (*to == NULL || cols == 0) return false;
    task->tensor = &job->desc->layers[job->shard->layer0 + l].t[tensor];
    task->name   = model_layer_tensor_label(tensor);
    task->row    = 0;
    task->rows   = 1;
    task->col    = col;
    task->cols   = cols;
    if (model_layer_tensor_is_bias(tensor)) *factor = task->tensor->out_scale;
    return true;
}

static void read_vector(load_t *job, const worker_task_t *task, const model_source_t *source)
{
    worker_task_t same   = {0};
    float        *to     = NULL;
    float         factor = 0;
    if (!vector_at(job, task->l, (uint32_t)task->begin, &same, &to, &factor)) return;
    model_row_f32(source, task->tensor, 0, task->col, task->cols, to);
    for (size_t r = 0; factor != 0 && r < task->cols; r++) to[r] *= factor;
}

/* --- the list of tasks --- */

/* What a task is, in its id: a matrix, or: */
enum {
    TASK_VECTOR = WORKER_MATRIX_COUNT,
    TASK_OUT_NORM,
    TASK_HEAD,
    TASK_EMBED,
    TASK_KINDS,
};

/* How many items of `bytes` each fit; at least one. */
static size_t batch(size_t most, size_t bytes)
{
    return bytes == 0 || most / bytes == 0 ? 1 : most / bytes;
}

static size_t stored_bytes(const model_tensor_t *t, size_t cols)
{
    const model_type_info_t *info = model_type_info(t->type);
    if (info->shared) return (cols + 3) / 4;
    return (cols / info->block_elems + 1) * info->block_bytes;
}

bool worker_shard_strips(const model_tensor_t *t, worker_matrix_id_t id)
{
    return (id == WORKER_O || id == WORKER_DOWN) &&
           (t->online || model_type_info(t->type)->ternary);
}

static bool next_matrix(const load_t *job, int thread, int n_threads, size_t most,
                        worker_cursor_t *c, worker_task_t *task)
{
    const worker_layer_t    *layer = &job->shard->layers[c->l];
    const worker_matrix_id_t id    = (worker_matrix_id_t)c->id;
    const worker_matrix_t   *m     = &layer->m[id];
    const model_tensor_t    *t     = &job->tensors[shard_at(c->l, id)];
    size_t                   t0 = 0, t1 = 0;
    worker_tile_share(layer, id, thread, n_threads, &t0, &t1);
    t0 += c->at;
    if (t0 >= t1) return false;
    size_t n     = batch(most, KERN_TILE_ROWS * stored_bytes(t, m->cols));
    task->begin  = t0;
    task->end    = base_min_size(t1, t0 + n);
    task->tensor = t;
    task->name   = model_layer_tensor_label(worker_shard_tensor(id));
    task->strips = worker_shard_strips(t, id);
    task->row    = m->row0 + t0 * KERN_TILE_ROWS;
    task->rows   = base_min_size(task->end * KERN_TILE_ROWS, m->rows) - t0 * KERN_TILE_ROWS;
    task->col    = m->col0;
    task->cols   = m->cols;
    c->at += task->end - t0;
    return true;
}

/* Rows of the vocabulary. */
static bool next_rows(const load_t *job, const model_tensor_t *t, int thread, int n_threads,
                      size_t most, worker_cursor_t *c, worker_task_t *task)
{
    const worker_shard_t *shard = job->shard;
    size_t                b = 0, e = 0;
    worker_share(shard->vocab.end - shard->vocab.begin, KERN_TILE_ROWS, thread, n_threads, &b, &e);
    b += c->at;
    if (b >= e) return false;
    size_t n     = KERN_TILE_ROWS * batch(most, KERN_TILE_ROWS * stored_bytes(t, t->n_cols));
    task->begin  = b;
    task->end    = base_min_size(e, b + n);
    task->tensor = t;
    task->row    = shard->vocab.begin + b;
    task->rows   = task->end - b;
    task->cols   = t->n_cols;
    c->at += task->rows;
    return true;
}

/* Behind the layers: c->id goes on. */
static bool next_outside(const load_t *job, int thread, int n_threads, size_t most,
                         worker_cursor_t *c, worker_task_t *task)
{
    const model_desc_t *d = job->desc;
    task->layer           = -1;
    switch (c->id) {
    case TASK_OUT_NORM:
        if (!job->shard->has_head || thread != 0 || c->at++ != 0) return false;
        task->tensor = &d->out_norm;
        task->name   = "output_norm";
        task->rows   = 1;
        task->cols   = d->width;
        return true;
    case TASK_HEAD:
        task->name = "output";
        return job->shard->has_head && next_rows(job, &d->head, thread, n_threads, most, c, task);
    case TASK_EMBED:
        task->name = "token_embd";
        return job->shard->embed != NULL &&
               next_rows(job, &d->embed, thread, n_threads, most, c, task);
    default: return false;
    }
}

bool worker_shard_next(void *ctx, int thread, int n_threads, size_t most, worker_cursor_t *c,
                       worker_task_t *task)
{
    load_t        *job = ctx;
    const uint32_t n   = job->shard->n_layers;
    for (;;) {
        float *to     = NULL;
        float  factor = 0;
        *task =
            (worker_task_t){.l = c->l, .id = c->id, .layer = (int32_t)(job->shard->layer0 + c->l)};
        if (c->l < n && c->id < WORKER_MATRIX_COUNT) {
            if (next_matrix(job, thread, n_threads, most, c, task)) return true;
            c->id++;
            c->at = 0;
        } else if (c->l < n) {
            if (thread == 0 && c->at < VECTORS) {
                task->begin = c->at++;
                if (vector_at(job, c->l, (uint32_t)task->begin, task, &to, &factor)) return true;
                continue;
            }
            c->l++;
            c->id = c->l < n ? 0 : TASK_OUT_NORM;
            c->at = 0;
        } else {
            if (c->id < TASK_OUT_NORM) c->id = TASK_OUT_NORM; /* a stage without layers */
            task->id = c->id;
            if (next_outside(job, thread, n_threads, most, c, task)) return true;
            if (++c->id >= TASK_KINDS) return false;
            c->at = 0;
        }
    }
}

static void copy_rows(load_t *job, const worker_task_t *task, const model_source_t *source,
                      uint8_t *to, size_t row_bytes, int thread)
{
    for (size_t i = 0; i < task->rows; i++)
        model_row_copy(source, task->tensor, task->row + i, to + (task->begin + i) * row_bytes);
    progress(job, task->rows * row_bytes, thread);
}

bool worker_shard_task(void *ctx, const worker_task_t *task, const model_source_t *source,
                       int thread, int n_threads)
{
    load_t         *job   = ctx;
    worker_shard_t *shard = job->shard;
    (void)n_threads;
    switch (task->id) {
    case TASK_VECTOR: read_vector(job, task, source); break;
    case TASK_OUT_NORM:
        model_row_f32(source, task->tensor, 0, 0, task->cols, shard->out_norm);
        break;
    case TASK_HEAD: copy_rows(job, task, source, shard->head, shard->head_row_bytes, thread); break;
    case TASK_EMBED:
        copy_rows(job, task, source, shard->embed, shard->embed_row_bytes, thread);
        break;
    default:
        if (shard->layers[task->l].m[task->id].kind != WORKER_DENSE)
            return pack_ternary(job, source, task->l, (worker_matrix_id_t)task->id, task->begin,
                                task->end, thread);
        copy_dense(job, source, task->l, (worker_matrix_id_t)task->id, task->begin, task->end,
                   thread);
    }
    return true;
}
