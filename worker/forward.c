/* worker/forward.c
 * One step through the layers of this rank, run by all threads of the team (SPMD).
 *
 * Phases are parted by barriers; communication is thread 0's, between two of them. The order
 * of a layer: norm and quantise, q k v, heads into the cache, attention, exchange of the sub-norm's
 * statistics, quantise, o (summed over shards), the same again for the FFN. All float rules:
 * docs/NUMERICS.md. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "worker/state.h"

/* The step of the codes and the factor that undoes them (NUMERICS 3). */
static float quant_step(float max, float r, float *undo)
{
    float a = max * r;
    if (isnan(a)) {
        *undo = a;
        return 1;
    }
    *undo = (a > 1e-5f ? a : 1e-5f) / 127.0f;
    return a > 1e-5f ? max / 127.0f : 1e-5f / 127.0f / r;
}

static float inverse_rms(float sumsq, size_t n, float eps)
{
    float mean = sumsq / (float)n;
    float root = sqrtf(mean + eps);
    return 1.0f / root;
}

/* r of a hidden vector, which every rank holds whole. */
static float hidden_rms(const worker_t *w, const float *x, worker_scratch_t *s)
{
    size_t width = w->config.desc->width;
    size_t n     = (width + WORKER_NORM_BLOCK - 1) / WORKER_NORM_BLOCK;
    w->kern.sumsq_f32(s->blocks, x, width, WORKER_NORM_BLOCK);
    return inverse_rms(w->kern.sum_f32(s->blocks, n), width, w->config.desc->norm_eps);
}

/* Norm and quantise this thread's tokens of the hidden stream. */
static void quant_hidden(worker_t *w, const float *norm, int thread, int n_threads)
{
    size_t width  = w->config.desc->width;
    size_t stride = kern_q_stride(width);
    size_t b      = 0;
    size_t e      = 0;
    worker_share(w->n_tok, 1, thread, n_threads, &b, &e);
    for (size_t t = b; t < e; t++) {
        const float *x   = w->x + t * width;
        float        r   = hidden_rms(w, x, &w->scratch[thread]);
        float        max = w->kern.absmax_f32(x, norm, width);
        float        d   = quant_step(max, r, &w->q_undo[t]);
        w->q_sum[t]      = w->kern.quant_f32_i8(w->q8 + t * stride, x, norm, d, width, stride);
    }
}

/* Sub-norm and quantise this thread's tokens of a vector of which this rank holds n_own elements of
 * n_all. kind as in exchange.c. */
static void quant_sub(worker_t *w, int kind, uint32_t l, const float *v, const float *norm,
                      size_t n_own, size_t n_all, int thread, int n_threads)
{
    size_t stride = kern_q_stride(n_own);
    float *row    = w->row + (size_t)thread * w->row_stride;
    size_t b      = 0;
    size_t e      = 0;
    worker_share(w->n_tok, 1, thread, n_threads, &b, &e);
    for (size_t t = b; t < e; t++) {
        float sumsq = 0;
        float max   = 0;
        worker_stats_total(w, kind, l, (uint32_t)t, row, &sumsq, &max);
        float r = inverse_rms(sumsq, n_all, w->config.desc->norm_eps);
        float d = quant_step(max, r, &w->q_undo[t]);
        w->q_sum[t] =
            w->kern.quant_f32_i8(w->q8 + t * stride, v + t * n_own, norm, d, n_own, stride);
    }
}

typedef enum { OUT_STORE, OUT_ADD } out_mode_t;

/* This thread's tiles of matrix `id` times the quantised activations, scaled into out (row 0 of the
 * matrix at out, tokens out_stride apart). */
static void product(worker_t *w, const worker_layer_t *layer, worker_tern_id_t id, float *out,
                    size_t out_stride, out_mode_t mode, int thread, int n_threads)
{
    const worker_tern_t *m  = &layer->m[id];
    const kern_format_t *f  = w->shard->format;
    worker_scratch_t    *s  = &w->scratch[thread];
    kern_tern_fn        *fn = w->n_tok == 1 ? f->gemv(&w->kern) : f->gemm(&w->kern);
    kern_scale_fn *scale    = mode == OUT_ADD ? w->kern.scale_add_i32_f32 : w->kern.scale_i32_f32;
    size_t         chunk    = base_max_size(1, s->n_acc / (KERN_TILE_ROWS * (size_t)w->n_tok));
    size_t         t0       = 0;
    size_t         t1       = 0;
    worker_tern_share(layer, id, thread, n_threads, &t0, &t1);
    for (size_t c = t0; c < t1; c += chunk) {
        size_t n    = base_min_size(chunk, t1 - c);
        size_t row  = c * KERN_TILE_ROWS;
        size_t rows = base_min_size(n * KERN_TILE_ROWS, m->rows - row);
        fn(s->acc, n * KERN_TILE_ROWS, m->data + c * m->tile_bytes, n, m->granules, w->q8,
           kern_q_stride(m->cols), w->q_sum, w->n_tok);
        for (size_t t = 0; t < w->n_tok; t++)
            scale(out + t * out_stride + row, s->acc + t * n * KERN_TILE_ROWS,
                  m->scale * w->q_undo[t], rows);
    }
}

/* A column-split product: this rank's share of every row as int32, to be summed over the shards. */
static void product_partial(worker_t *w, const worker_layer_t *layer, worker_tern_id_t id,
                            int thread, int n_threads)
{
    const worker_tern_t *m      = &layer->m[id];
    const kern_format_t *f      = w->shard->format;
    kern_tern_fn        *fn     = w->n_tok == 1 ? f->gemv(&w->kern) : f->gemm(&w->kern);
    size_t               stride = kern_tiles(m->rows) * KERN_TILE_ROWS;
    size_t               t0     = 0;
    size_t               t1     = 0;
    if (m->cols == 0) { /* a shard without heads or FFN rows adds nothing */
        if (thread == 0) memset(w->partial, 0, (size_t)w->n_tok * stride * sizeof(int32_t));
        return;
    }
    worker_tern_share(layer, id, thread, n_threads, &t0, &t1);
    if (t0 < t1)
        fn(w->partial + t0 * KERN_TILE_ROWS, stride, m->data + t0 * m->tile_bytes, t1 - t0,
           m->granules, w->q8, kern_q_stride(m->cols), w->q_sum, w->n_tok);
}

static void add_partial(worker_t *w, float tensor_scale, int thread, int n_threads)
{
    size_t width  = w->config.desc->width;
    size_t stride = kern_tiles(width) * KERN_TILE_ROWS;
    size_t b      = 0;
    size_t e      = 0;
    worker_share(width, KERN_TILE_ROWS, thread, n_threads, &b, &e);
    for (size_t t = 0; t < w->n_tok; t++)
        w->kern.scale_add_i32_f32(w->x + t * width + b, w->partial + t * stride + b,
                                  tensor_scale * w->q_undo[t], e - b);
}

/* x += m * q8 for o_proj and down_proj: added at once by a lone shard, summed first otherwise.
 * False when the communication failed. */
static bool add_product(worker_t *w, const worker_layer_t *layer, worker_tern_id_t id, int thread,
                        int n_threads)
{
    size_t width = w->config.desc->width;
    if (w->shards == 1) {
        product(w, layer, id, w->x, width, OUT_ADD, thread, n_threads);
        return true;
    }
    product_partial(w, layer, id, thread, n_threads);
    worker_team_barrier(w->config.team);
    if (thread == 0) {
        w->st   = comm_sum_i32(w->config.grid, w->partial,
                               (size_t)w->n_tok * kern_tiles(width) * KERN_TILE_ROWS, &w->err);
        w->stop = w->st != BASE_OK;
    }
    worker_team_barrier(w->config.team);
    if (w->stop) return false;
    add_partial(w, layer->m[id].scale, thread, n_threads);
    return true;
}

/* Exchange of statistics between two barriers. False when it failed. */
static bool exchange(worker_t *w, int kind, uint32_t l, int thread)
{
    worker_team_barrier(w->config.team);
    if (thread == 0) worker_stats_exchange(w, kind, l);
    worker_team_barrier(w->config.team);
    return !w->stop;
}

static bool attention_half(worker_t *w, uint32_t l, int thread, int n_threads)
{
    const worker_layer_t *layer = &w->shard->layers[l];
    size_t                hd    = w->config.desc->head_dim;
    size_t                n_q   = (layer->slice.q.end - layer->slice.q.begin) * hd;
    size_t                n_kv  = (layer->slice.kv.end - layer->slice.kv.begin) * hd;
    size_t                row   = n_q + 2 * n_kv;

    quant_hidden(w, layer->attn_norm, thread, n_threads);
    worker_team_barrier(w->config.team);
    product(w, layer, WORKER_Q, w->flat, row, OUT_STORE, thread, n_threads);
    product(w, layer, WORKER_K, w->flat + n_q, row, OUT_STORE, thread, n_threads);
    product(w, layer, WORKER_V, w->flat + n_q + n_kv, row, OUT_STORE, thread, n_threads);
    worker_team_barrier(w->config.team);
    worker_store_heads(w, l, thread, n_threads);
    worker_team_barrier(w->config.team);
    worker_attention(w, l, thread, n_threads);
    if (!exchange(w, 0, l, thread)) return false;
    quant_sub(w, 0, l, w->attn, layer->attn_sub_norm, n_q, layer->n_heads * hd, thread, n_threads);
    worker_team_barrier(w->config.team);
    return add_product(w, layer, WORKER_O, thread, n_threads);
}

/* gate and up of this thread's rows, the activation, and the statistics of its blocks. */
static void gated(worker_t *w, uint32_t l, int thread, int n_threads)
{
    const worker_layer_t *layer = &w->shard->layers[l];
    size_t                ffn   = layer->slice.ffn.end - layer->slice.ffn.begin;
    kern_glu_fn          *glu =
        w->config.desc->act == MODEL_ACT_SILU ? w->kern.silu_mul_f32 : w->kern.relu2_mul_f32;
    size_t t0 = 0;
    size_t t1 = 0;
    product(w, layer, WORKER_GATE, w->gate, ffn, OUT_STORE, thread, n_threads);
    product(w, layer, WORKER_UP, w->up, ffn, OUT_STORE, thread, n_threads);
    worker_tern_share(layer, WORKER_GATE, thread, n_threads, &t0, &t1);
    size_t b = base_min_size(t0 * KERN_TILE_ROWS, ffn);
    size_t e = base_min_size(t1 * KERN_TILE_ROWS, ffn);
    for (uint32_t t = 0; b < e && t < w->n_tok; t++) {
        float *f      = w->gate + t * ffn + b;
        float *maxima = worker_stat_max(w, 1, l, t);
        glu(f, f, w->up + t * ffn + b, e - b);
        w->kern.sumsq_f32(worker_stat_row(w, 1, l, t) + b / PART_FFN_BLOCK, f, e - b,
                          PART_FFN_BLOCK);
        for (size_t i = b; i < e; i += PART_FFN_BLOCK)
            maxima[i / PART_FFN_BLOCK] = w->kern.absmax_f32(f + (i - b), layer->ffn_sub_norm + i,
                                                            base_min_size(PART_FFN_BLOCK, e - i));
    }
}

static bool ffn_half(worker_t *w, uint32_t l, int thread, int n_threads)
{
    const worker_layer_t *layer = &w->shard->layers[l];
    size_t                ffn   = layer->slice.ffn.end - layer->slice.ffn.begin;

    quant_hidden(w, layer->ffn_norm, thread, n_threads);
    worker_team_barrier(w->config.team);
    gated(w, l, thread, n_threads);
    if (!exchange(w, 1, l, thread)) return false;
    quant_sub(w, 1, l, w->gate, layer->ffn_sub_norm, ffn, layer->ffn, thread, n_threads);
    worker_team_barrier(w->config.team);
    return add_product(w, layer, WORKER_DOWN, thread, n_threads);
}

/* --- the ends: embedding or the previous stage; head or the next stage --- */

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
            model_row_f32(c->source, &c->desc->embed, id, 0, width, w->x + t * width);
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
    worker_team_barrier(w->config.team);
    if (thread == 0) {
        if (!w->shard->has_embed)
            w->st = comm_stage_recv(w->config.grid, w->x, n, &w->err);
        else if (w->shards > 1)
            w->st = comm_sum_i32(w->config.grid, (int32_t *)(void *)w->x, n, &w->err);
        w->stop = w->st != BASE_OK;
    }
    worker_team_barrier(w->config.team);
    return !w->stop;
}

/* Final norm and head rows for the last n_out tokens. */
static void head(worker_t *w, int thread, int n_threads)
{
    const worker_shard_t *s     = w->shard;
    size_t                width = w->config.desc->width;
    size_t                rows  = s->vocab.end - s->vocab.begin;
    kern_dense_fn        *dense = kern_dense(&w->kern, s->head_type);
    size_t                b     = 0;
    size_t                e     = 0;
    worker_share(w->n_out, 1, thread, n_threads, &b, &e);
    for (size_t i = b; i < e; i++) {
        const float *x = w->x + (w->n_tok - w->n_out + i) * width;
        w->kern.norm_f32(w->normed + i * width, x, s->out_norm,
                         hidden_rms(w, x, &w->scratch[thread]), width);
    }
    worker_team_barrier(w->config.team);
    worker_share(rows, KERN_TILE_ROWS, thread, n_threads, &b, &e);
    if (b < e)
        dense(w->piece + b, rows, s->head + b * s->head_row_bytes, s->head_row_bytes, e - b, width,
              w->normed, width, w->n_out);
}

static void output(worker_t *w, int thread, int n_threads)
{
    const worker_config_t *c = &w->config;
    if (w->shard->has_head && w->n_out > 0) head(w, thread, n_threads);
    worker_team_barrier(c->team);
    if (thread != 0) return;
    if (!w->shard->has_head)
        w->st = comm_stage_send(c->grid, w->x, (size_t)w->n_tok * c->desc->width, &w->err);
    if (w->st != BASE_OK || w->n_out == 0) return;
    if (w->shards == 1 && c->plan->stages == 1) return; /* a lone rank computes in place */
    w->st = comm_logits_to_root(c->grid, w->piece, w->n_out, w->vocab_counts, w->vocab_offsets,
                                w->logits, c->desc->n_vocab, w->staging, &w->err);
}

static void step(void *ctx, int thread, int n_threads)
{
    worker_t *w = ctx;
    if (!input(w, thread, n_threads)) return;
    for (uint32_t l = 0; l < w->shard->n_layers; l++) {
        if (!attention_half(w, l, thread, n_threads)) return;
        worker_team_barrier(w->config.team);
        if (!ffn_half(w, l, thread, n_threads)) return;
        worker_team_barrier(w->config.team);
    }
    output(w, thread, n_threads);
}

base_status_t worker_step(worker_t *w, const int32_t *ids, uint32_t n_tokens, uint32_t pos,
                          uint32_t n_out, const float **logits, base_err_t *err)
{
    const worker_config_t *c = &w->config;
    base_assert(n_tokens >= 1 && n_tokens <= c->n_batch && n_out <= n_tokens);
    base_assert(n_out <= c->n_out_max && pos <= c->n_ctx && n_tokens <= c->n_ctx - pos);
    for (uint32_t i = 0; i < n_tokens; i++)
        base_assert(ids[i] >= 0 && (uint32_t)ids[i] < c->desc->n_vocab);
    w->ids   = ids;
    w->n_tok = n_tokens;
    w->pos   = pos;
    w->n_out = n_out;
    w->st    = BASE_OK;
    w->stop  = false;
    worker_team_run(c->team, step, w);
    if (w->st != BASE_OK) {
        if (err != NULL) *err = w->err;
        return w->st;
    }
    if (logits != NULL) *logits = w->logits;
    return BASE_OK;
}
