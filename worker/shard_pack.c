/* worker/shard_pack.c: rows of the mapped file into the shard's memory, each thread its own
 * tiles. */
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
    (void)base_fail(&err, BASE_ERR_INPUT,
                    "%s: %s row %zu holds an invalid ternary code or scale; the file is damaged",
                    model_source_path(job->source, job->tensors[shard_at(l, id)].file),
                    worker_shard_tensor_name(job, l, id, name, sizeof(name)), row);
    worker_shard_fail(job, BASE_ERR_INPUT, &err);
}

/* One row with a scale for each block: trits, and scales strided by the tile's rows. */
static bool read_block_row(const load_t *job, const model_tensor_t *t, const worker_matrix_t *m,
                           size_t row, int8_t *trits, float *scales)
{
    for (size_t b = 0; b < m->blocks; b++) {
        scale_span_t span = {INFINITY, 0};
        size_t       col  = b * SHARD_BLOCK;
        size_t       n    = base_min_size(SHARD_BLOCK, m->cols - col);
        if (!model_row_trits(job->source, t, row, m->col0 + col, n, trits + col, &span.lo,
                             &span.hi))
            return false;
        scales[b * KERN_TILE_ROWS] = span.hi; /* 0: a block of zeros */
    }
    return true;
}

/* This thread's tiles of one ternary matrix. */
static void pack_ternary(load_t *job, uint32_t l, worker_matrix_id_t id, int thread, int n_threads)
{
    worker_shard_t       *shard = job->shard;
    worker_matrix_t      *m     = &shard->layers[l].m[id];
    const model_tensor_t *t     = &job->tensors[shard_at(l, id)];
    const kern_format_t  *f     = m->kind == WORKER_BLOCK ? kern_format(KERN_T2) : shard->format;
    int8_t               *trits = job->scratch + (size_t)thread * job->scratch_bytes;
    scale_span_t         *span =
        &job->spans[(size_t)thread * shard->n_layers * WORKER_MATRIX_COUNT + shard_at(l, id)];
    size_t t0 = 0;
    size_t t1 = 0;

    worker_tile_share(&shard->layers[l], id, thread, n_threads, &t0, &t1);
    for (size_t tile = t0; tile < t1; tile++) {
        size_t n = base_min_size(KERN_TILE_ROWS, m->rows - tile * KERN_TILE_ROWS);
        for (size_t r = 0; r < n; r++) {
            size_t  row   = m->row0 + tile * KERN_TILE_ROWS + r;
            int8_t *to    = trits + r * m->cols;
            size_t  first = tile * m->blocks * KERN_TILE_ROWS + r; /* its scales */
            if (m->kind == WORKER_BLOCK ? read_block_row(job, t, m, row, to, m->scales + first)
                                        : model_row_trits(job->source, t, row, m->col0, m->cols, to,
                                                          &span->lo, &span->hi))
                continue;
            damaged_row(job, l, id, row);
            return;
        }
        f->pack_tile(m->data + tile * m->tile_bytes, trits, m->cols, n, m->cols);
    }
    progress(job, (t1 - t0) * m->tile_bytes, thread);
}

static void copy_dense(load_t *job, uint32_t l, worker_matrix_id_t id, int thread, int n_threads)
{
    worker_matrix_t      *m  = &job->shard->layers[l].m[id];
    const model_tensor_t *t  = &job->tensors[shard_at(l, id)];
    size_t                t0 = 0;
    size_t                t1 = 0;
    worker_tile_share(&job->shard->layers[l], id, thread, n_threads, &t0, &t1);
    size_t end = base_min_size(t1 * KERN_TILE_ROWS, m->rows);
    for (size_t i = t0 * KERN_TILE_ROWS; i < end; i++)
        model_row_copy(job->source, t, m->row0 + i, m->data + i * m->row_bytes);
    progress(job, (t1 - t0) * KERN_TILE_ROWS * m->row_bytes, thread);
}

static void read_floats(load_t *job, const model_tensor_t *tensor, size_t col0, size_t n,
                        float *out)
{
    if (n > 0) model_row_f32(job->source, tensor, 0, col0, n, out);
}

/* Norms and biases are small: thread 0 reads them. */
static void read_vectors(load_t *job, uint32_t l)
{
    worker_layer_t      *layer = &job->shard->layers[l];
    const model_layer_t *src   = &job->desc->layers[job->shard->layer0 + l];
    size_t               width = job->desc->width;
    worker_matrix_t     *o     = &layer->m[WORKER_O];
    worker_matrix_t     *down  = &layer->m[WORKER_DOWN];
    read_floats(job, &src->t[MODEL_ATTN_NORM], 0, width, layer->attn_norm);
    read_floats(job, &src->t[MODEL_FFN_NORM], 0, width, layer->ffn_norm);
    if (layer->attn_sub_norm != NULL)
        read_floats(job, &src->t[MODEL_ATTN_SUB_NORM], o->col0, o->cols, layer->attn_sub_norm);
    if (layer->ffn_sub_norm != NULL)
        read_floats(job, &src->t[MODEL_FFN_SUB_NORM], down->col0, down->cols, layer->ffn_sub_norm);
    for (int i = 0; i < WORKER_MATRIX_COUNT; i++) {
        const worker_matrix_id_t id   = (worker_matrix_id_t)i;
        worker_matrix_t         *m    = &layer->m[id];
        const model_tensor_t    *bias = &src->t[worker_shard_bias(id)];
        if (layer->in_norm[id] != NULL)
            read_floats(job, &src->t[worker_shard_in_norm(id)], 0, width, layer->in_norm[id]);
        if (m->bias == NULL) continue;
        read_floats(job, bias, m->row0, m->rows, m->bias);
        for (size_t r = 0; bias->out_scale != 0 && r < m->rows; r++) m->bias[r] *= bias->out_scale;
    }
}

static void copy_head(load_t *job, int thread, int n_threads)
{
    worker_shard_t *shard = job->shard;
    size_t          n     = shard->vocab.end - shard->vocab.begin;
    size_t          b     = 0;
    size_t          e     = 0;
    worker_share(n, KERN_TILE_ROWS, thread, n_threads, &b, &e);
    for (size_t i = b; i < e; i++)
        model_row_copy(job->source, &job->desc->head, shard->vocab.begin + i,
                       shard->head + i * shard->head_row_bytes);
    progress(job, (e - b) * shard->head_row_bytes, thread);
}

void worker_shard_pack(void *ctx, int thread, int n_threads)
{
    load_t *job = ctx;
    for (uint32_t l = 0; l < job->shard->n_layers; l++) {
        for (int i = 0; i < WORKER_MATRIX_COUNT; i++) {
            worker_matrix_id_t id = (worker_matrix_id_t)i;
            if (atomic_load(&job->failed)) return;
            if (job->shard->layers[l].m[id].kind == WORKER_DENSE)
                copy_dense(job, l, id, thread, n_threads);
            else
                pack_ternary(job, l, id, thread, n_threads);
        }
        if (thread == 0) read_vectors(job, l);
    }
    if (!job->shard->has_head) return;
    if (thread == 0)
        read_floats(job, &job->desc->out_norm, 0, job->desc->width, job->shard->out_norm);
    copy_head(job, thread, n_threads);
}
