/* worker/forward.c
 * One step through the layers of this rank, run by all threads of the team (SPMD).
 *
 * Phases are parted by barriers; communication is thread 0's, between two of them. The order
 * of a layer: norm and quantise, q k v, heads into the cache, attention, exchange of the sub-norm's
 * statistics, quantise, o (summed over shards), the same again for the FFN. All float rules:
 * docs/NUMERICS.md. */
#include <string.h>
#include <time.h>

#include "base/checked.h"
#include "worker/linear.h"

enum { AHEAD_BYTES = 384 * 1024, AHEAD_TOKENS = 8 };

/* Products that follow each other with one input. */
static const worker_matrix_id_t QKV[] = {WORKER_Q, WORKER_K, WORKER_V}, OUT[] = {WORKER_O},
                                GATE_UP[] = {WORKER_GATE, WORKER_UP}, DOWN[] = {WORKER_DOWN};

/* --- where the time goes --- */

static uint64_t clock_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void worker_lap(worker_t *w, int thread, worker_part_t part)
{
    uint64_t now = 0;
    if (thread != 0) return;
    now = clock_ns();
    w->part_ns[part] += now - w->lap_ns;
    w->lap_ns = now;
}

void worker_meet(worker_t *w, int thread, worker_part_t part)
{
    worker_lap(w, thread, part);
    worker_team_barrier_ahead(w->config.team, &w->scratch[thread].ahead);
    worker_lap(w, thread, WORKER_PART_WAIT);
}

void worker_times(worker_t *w, uint64_t *ns, bool reset)
{
    memcpy(ns, w->part_ns, sizeof(w->part_ns));
    if (reset) memset(w->part_ns, 0, sizeof(w->part_ns));
}

/* The products that come next, n of them after each other: their shares are whole again, and this
 * thread's tiles of the first may be asked for, as many as fit its cache beside the step's vectors.
 * A few tokens only: many have enough to do with each tile. */
static void look_ahead(worker_t *w, uint32_t l, const worker_matrix_id_t *ids, size_t n, int thread,
                       int n_threads)
{
    worker_ahead_t *ahead = &w->scratch[thread].ahead;
    size_t          t0    = 0;
    size_t          t1    = 0;
    *ahead                = (worker_ahead_t){NULL, 0};
    if (l >= w->shard->n_layers) return;
    const worker_layer_t  *layer = &w->shard->layers[l];
    const worker_matrix_t *m     = &layer->m[ids[0]];
    for (size_t i = 0; i < n; i++) worker_share_reset(w, layer, ids[i], thread, n_threads);
    worker_tile_share(layer, ids[0], thread, n_threads, &t0, &t1);
    if (t0 == t1 || w->n_tok > AHEAD_TOKENS) return;
    size_t tile = m->kind == WORKER_DENSE ? KERN_TILE_ROWS * m->row_bytes : m->tile_bytes;
    *ahead = (worker_ahead_t){m->data + t0 * tile, base_min_size((t1 - t0) * tile, AHEAD_BYTES)};
}

/* --- norms and products --- */

float worker_hidden_rms(const worker_t *w, const float *x, float eps, worker_scratch_t *s)
{
    size_t width = w->config.desc->width;
    size_t n     = (width + WORKER_NORM_BLOCK - 1) / WORKER_NORM_BLOCK;
    w->kern.sumsq_f32(s->blocks, x, width, WORKER_NORM_BLOCK);
    return worker_inverse_rms(w->kern.sum_f32(s->blocks, n), width, eps);
}

/* Norm this thread's tokens of the hidden stream into the forms that are needed. `own`: a second
 * norm, of what the first gave; or NULL. */
static void prepare_hidden(worker_t *w, const float *norm, const float *own, unsigned needs,
                           int thread, int n_threads)
{
    size_t width = w->config.desc->width;
    size_t b     = 0;
    size_t e     = 0;
    worker_share(w->n_tok, 1, thread, n_threads, &b, &e);
    for (size_t t = b; t < e; t++) {
        const float *x = w->x + t * width;
        float        r = worker_hidden_rms(w, x, w->config.desc->norm_eps, &w->scratch[thread]);
        const float *v = norm;
        if (own != NULL) {
            float *h = w->hidden + t * width;
            w->kern.norm_f32(h, x, norm, r, width);
            x = h;
            v = own;
            r = worker_hidden_rms(w, x, w->config.desc->sub_norm_eps, &w->scratch[thread]);
        }
        if ((needs & WORKER_NEED_INT8) != 0)
            worker_quantise(w, needs, t, x, v, r, w->kern.absmax_f32(x, v, width), width);
        if ((needs & WORKER_NEED_FLOAT) != 0)
            w->kern.norm_f32(w->hidden + t * width, x, v, r, width);
    }
}

/* The input of o (kind 0) or down (kind 1) where the matrix is cut by columns: this rank quantises
 * its own part by statistics of the whole. */
static void prepare_part(worker_t *w, int kind, uint32_t l, const float *v, int thread,
                         int n_threads)
{
    const worker_layer_t *layer = &w->shard->layers[l];
    const float          *norm  = kind == 0 ? layer->attn_sub_norm : layer->ffn_sub_norm;
    size_t                n_own = layer->m[kind == 0 ? WORKER_O : WORKER_DOWN].cols;
    size_t n_all = kind == 0 ? (size_t)layer->n_heads * w->config.desc->head_dim : layer->ffn;
    float *row   = w->row + (size_t)thread * w->row_stride;
    size_t b     = 0;
    size_t e     = 0;
    worker_share(w->n_tok, 1, thread, n_threads, &b, &e);
    for (size_t t = b; t < e; t++) {
        float sumsq = 0;
        float max   = 0;
        worker_stats_total(w, kind, l, (uint32_t)t, row, &sumsq, &max);
        float r = norm == NULL ? 1 : worker_inverse_rms(sumsq, n_all, w->config.desc->sub_norm_eps);
        worker_quantise(w, WORKER_NEED_INT8, t, v + t * n_own, norm, r, max, n_own);
    }
}

/* The same where it is cut by rows: every rank has the whole vector. Leaves floats in w->whole. */
static void prepare_whole(worker_t *w, int kind, uint32_t l, const float *v, int thread,
                          int n_threads)
{
    const worker_layer_t  *layer = &w->shard->layers[l];
    const worker_matrix_t *m     = &layer->m[kind == 0 ? WORKER_O : WORKER_DOWN];
    const float           *norm  = kind == 0 ? layer->attn_sub_norm : layer->ffn_sub_norm;
    size_t                 n     = m->cols;
    size_t                 block = kind == 0 ? w->config.desc->head_dim : PART_FFN_BLOCK;
    float                 *row   = w->row + (size_t)thread * w->row_stride;
    unsigned               needs = worker_needs(m);
    size_t                 b     = 0;
    size_t                 e     = 0;
    worker_share(w->n_tok, 1, thread, n_threads, &b, &e);
    for (size_t t = b; t < e; t++) {
        float *x = w->whole + t * n;
        float  r = 1;
        if (w->shards == 1)
            memcpy(x, v + t * n, n * sizeof(float));
        else
            worker_assemble(w, kind, l, (uint32_t)t, x);
        if (norm != NULL) {
            w->kern.sumsq_f32(row, x, n, block);
            float sumsq = w->kern.sum_f32(row, (n + block - 1) / block);
            r           = worker_inverse_rms(sumsq, n, w->config.desc->sub_norm_eps);
        }
        if ((needs & WORKER_NEED_INT8) != 0)
            worker_quantise(w, needs, t, x, norm, r, w->kern.absmax_f32(x, norm, n), n);
        if ((needs & WORKER_NEED_FLOAT) != 0 && norm != NULL) w->kern.norm_f32(x, x, norm, r, n);
    }
}

/* Between two barriers: what shards must tell each other before o (kind 0) or down (kind 1), then
 * the product itself, added to the stream. False when the communication failed. */
static bool close_half(worker_t *w, int kind, uint32_t l, int thread, int n_threads)
{
    worker_matrix_id_t     id  = kind == 0 ? WORKER_O : WORKER_DOWN;
    const worker_matrix_t *m   = &w->shard->layers[l].m[id];
    const float           *v   = kind == 0 ? worker_attn_out(w, l) : worker_ffn_out(w, l);
    worker_run_t           run = {.x = w->whole, .x_stride = m->cols};
    worker_meet(w, thread, kind == 0 ? WORKER_PART_ATTENTION : WORKER_PART_NORMS);
    if (thread == 0 && worker_by_rows(m)) worker_gather(w, kind, l);
    if (thread == 0 && !worker_by_rows(m)) worker_stats_exchange(w, kind, l);
    worker_meet(w, thread, WORKER_PART_COMM);
    if (w->stop) return false;
    if (worker_by_rows(m))
        prepare_whole(w, kind, l, v, thread, n_threads);
    else
        prepare_part(w, kind, l, v, thread, n_threads);
    worker_meet(w, thread, WORKER_PART_NORMS);
    if (kind == 0)
        look_ahead(w, l, GATE_UP, 2, thread, n_threads);
    else
        look_ahead(w, l + 1, QKV, 3, thread, n_threads);
    return worker_add_product(w, l, id, run, thread, n_threads);
}

/* n products of the normed hidden vector, to outs[i]. It is made ready once, or again for each
 * matrix whose input has a norm of its own. Threads do their own shares of all before they help. */
static void hidden_products(worker_t *w, const worker_layer_t *layer, const float *norm,
                            const worker_matrix_id_t *ids, float *const *outs, size_t n,
                            size_t out_stride, int thread, int n_threads)
{
    size_t       width = w->config.desc->width;
    worker_run_t run   = {.x = w->hidden, .x_stride = width, .out_stride = out_stride};
    unsigned     needs = 0;
    size_t       first = 0;
    for (size_t i = 0; i < n; i++) needs |= worker_needs(&layer->m[ids[i]]);
    for (size_t i = 0; i < n; i++) {
        const float *own = layer->in_norm[ids[i]];
        if (i > 0 && own != layer->in_norm[ids[i - 1]]) worker_meet(w, thread, WORKER_PART_WEIGHTS);
        if (i == 0 || own != layer->in_norm[ids[i - 1]]) {
            prepare_hidden(w, norm, own, needs, thread, n_threads);
            worker_meet(w, thread, WORKER_PART_NORMS);
            first = i;
        }
        run.out = outs[i];
        worker_product(w, layer, ids[i], &run, false, thread, n_threads);
        bool more = i + 1 < n && own == layer->in_norm[ids[i + 1]];
        for (size_t j = first; j <= i && !more; j++) {
            run.out = outs[j];
            worker_product(w, layer, ids[j], &run, true, thread, n_threads);
        }
    }
}

static bool attention_half(worker_t *w, uint32_t l, int thread, int n_threads)
{
    const worker_layer_t *layer  = &w->shard->layers[l];
    size_t                hd     = w->config.desc->head_dim;
    size_t                n_q    = (layer->slice.q.end - layer->slice.q.begin) * hd;
    size_t                n_kv   = (layer->slice.kv.end - layer->slice.kv.begin) * hd;
    float *const          outs[] = {w->flat, w->flat + n_q, w->flat + n_q + n_kv};

    hidden_products(w, layer, layer->attn_norm, QKV, outs, 3, n_q + 2 * n_kv, thread, n_threads);
    look_ahead(w, l, OUT, 1, thread, n_threads);
    worker_meet(w, thread, WORKER_PART_WEIGHTS);
    worker_store_heads(w, l, thread, n_threads);
    worker_meet(w, thread, WORKER_PART_NORMS);
    worker_attention(w, l, thread, n_threads);
    return close_half(w, 0, l, thread, n_threads);
}

/* The activation of this thread's rows [b, e), and the statistics of its blocks where down is cut
 * by columns. */
static void activate(worker_t *w, uint32_t l, size_t b, size_t e)
{
    const worker_layer_t *layer   = &w->shard->layers[l];
    size_t                ffn     = layer->slice.ffn.end - layer->slice.ffn.begin;
    bool                  by_rows = worker_by_rows(&layer->m[WORKER_DOWN]);
    float                *out     = worker_ffn_out(w, l);
    kern_glu_fn          *glu =
        w->config.desc->act == MODEL_ACT_SILU ? w->kern.silu_mul_f32 : w->kern.relu2_mul_f32;
    for (uint32_t t = 0; b < e && t < w->n_tok; t++) {
        float *f = out + t * ffn + b;
        glu(f, w->gate + t * ffn + b, w->up + t * ffn + b, e - b);
        if (by_rows) continue;
        float *maxima = worker_stat_max(w, 1, l, t);
        w->kern.sumsq_f32(worker_stat_row(w, 1, l, t) + b / PART_FFN_BLOCK, f, e - b,
                          PART_FFN_BLOCK);
        for (size_t i = b; i < e; i += PART_FFN_BLOCK) {
            const float *norm = layer->ffn_sub_norm == NULL ? NULL : layer->ffn_sub_norm + i;
            maxima[i / PART_FFN_BLOCK] =
                w->kern.absmax_f32(f + (i - b), norm, base_min_size(PART_FFN_BLOCK, e - i));
        }
    }
}

static bool ffn_half(worker_t *w, uint32_t l, int thread, int n_threads)
{
    const worker_layer_t *layer  = &w->shard->layers[l];
    size_t                ffn    = layer->slice.ffn.end - layer->slice.ffn.begin;
    float *const          outs[] = {w->gate, w->up};
    size_t                b      = 0;
    size_t                e      = 0;

    hidden_products(w, layer, layer->ffn_norm, GATE_UP, outs, 2, ffn, thread, n_threads);
    look_ahead(w, l, DOWN, 1, thread, n_threads);
    worker_meet(w, thread, WORKER_PART_WEIGHTS);
    worker_share(ffn, PART_FFN_BLOCK, thread, n_threads, &b, &e);
    activate(w, l, b, e);
    return close_half(w, 1, l, thread, n_threads);
}

/* --- the beginning: embedding or the previous stage (the end: head.c) --- */

static void embed_rows(worker_t *w, int thread, int n_threads)
{
    const worker_config_t *c     = &w->config;
    size_t                 width = c->desc->width;
    size_t                 b     = 0;
    size_t                 e     = 0;
    worker_share(w->n_tok, 1, thread, n_threads, &b, &e);
    for (size_t t = b; t < e; t++) {
        uint32_t id = (uint32_t)w->ids[t];
        if (id >= w->shard->vocab.begin && id < w->shard->vocab.end)
            model_row_f32(w->embed_source, &c->desc->embed, id, 0, width, w->x + t * width);
        else
            memset(w->x + t * width, 0, width * sizeof(float));
    }
}

/* The hidden vectors come in: embedding rows, each from the shard that holds it (a sum of bit
 * patterns of which all but one are 0), or the previous stage. */
static bool input(worker_t *w, int thread, int n_threads)
{
    size_t n = (size_t)w->n_tok * w->config.desc->width;
    worker_rope_tables(w, thread, n_threads);
    if (w->shard->has_embed) embed_rows(w, thread, n_threads);
    worker_meet(w, thread, WORKER_PART_HEAD);
    if (thread == 0) {
        if (!w->shard->has_embed)
            w->st = comm_stage_recv(w->config.grid, w->x, n, &w->err);
        else if (w->shards > 1)
            w->st = comm_sum_i32(w->config.grid, (int32_t *)(void *)w->x, n, &w->err);
        w->stop = w->st != BASE_OK;
    }
    worker_meet(w, thread, WORKER_PART_COMM);
    return !w->stop;
}

static void step(void *ctx, int thread, int n_threads)
{
    worker_t *w = ctx;
    look_ahead(w, 0, QKV, 3, thread, n_threads);
    if (!input(w, thread, n_threads)) return;
    for (uint32_t l = 0; l < w->shard->n_layers; l++) {
        if (!attention_half(w, l, thread, n_threads)) return;
        worker_meet(w, thread, WORKER_PART_WEIGHTS);
        if (!ffn_half(w, l, thread, n_threads)) return;
        if (thread == 0) comm_poke(w->config.grid);
        worker_meet(w, thread, WORKER_PART_WEIGHTS);
    }
    worker_output(w, thread, n_threads);
}

/* What each token is, and which of them give rows of logits. */
static void take_batch(worker_t *w, const part_batch_t *batch)
{
    uint32_t t = 0;
    uint32_t o = 0;
    for (uint32_t i = 0; i < batch->n_runs; i++) {
        const part_run_t *run = &batch->runs[i];
        for (uint32_t k = 0; k < run->n; k++, t++) {
            w->tok_seq[t] = run->seq;
            w->tok_pos[t] = run->pos + k;
            if (k + run->n_out >= run->n) w->out_tok[o++] = t;
        }
    }
    w->ids   = batch->ids;
    w->n_tok = t;
    w->n_out = o;
    w->n_top = batch->n_top;
}

base_status_t worker_step(worker_t *w, const part_batch_t *batch, uint32_t row0, base_err_t *err)
{
    base_assert(part_batch_check(batch, &w->config.limits, NULL) == BASE_OK);
    take_batch(w, batch);
    base_assert(!w->config.is_root || row0 + w->n_out <= w->config.limits.n_out);
    base_assert(row0 == 0 || w->config.plan->stages > 1);
    w->row0   = row0;
    w->st     = BASE_OK;
    w->stop   = false;
    w->lap_ns = clock_ns();
    worker_team_run(w->config.team, step, w);
    worker_lap(w, 0, WORKER_PART_COMM); /* the way of the logits to the root */
    if (w->st != BASE_OK && err != NULL) *err = w->err;
    return w->st;
}
