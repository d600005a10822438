/* worker/attention.c: RoPE, KV cache, and attention page by page (NUMERICS 6 and 7). */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/detmath.h"
#include "worker/state.h"

void worker_rope_tables(worker_t *w, int thread, int n_threads)
{
    const model_desc_t *desc = w->config.desc;
    size_t              half = desc->rope_dims / 2;
    size_t              b    = 0;
    size_t              e    = 0;
    worker_share(w->n_tok, 1, thread, n_threads, &b, &e);
    for (size_t t = b; t < e; t++) {
        double position = (double)w->tok_pos[t];
        for (size_t j = 0; j < half; j++) {
            double s = 0;
            double c = 0;
            base_sincos(position * desc->rope_freq[j], &s, &c);
            w->rope_cos[t * half + j] = (float)(c * desc->rope_magnitude);
            w->rope_sin[t * half + j] = (float)(s * desc->rope_magnitude);
        }
    }
}

/* Copy one head to its padded place and rotate it there. */
static void store_head(worker_t *w, float *to, const float *from, size_t token, bool rotate)
{
    const model_desc_t *desc = w->config.desc;
    size_t              half = desc->rope_dims / 2;
    memcpy(to, from, desc->head_dim * sizeof(float));
    memset(to + desc->head_dim, 0, (w->hd_pad - desc->head_dim) * sizeof(float));
    if (!rotate) return;
    kern_rope_fn *rope =
        desc->rope == MODEL_ROPE_HALF ? w->kern.rope_half_f32 : w->kern.rope_pair_f32;
    rope(to, w->rope_cos + token * half, w->rope_sin + token * half, desc->rope_dims);
}

/* Position of a KV head of token t's sequence; n_kv heads of this rank. */
static float *kv_at(const worker_t *w, float *base, size_t t, size_t n_kv, size_t head,
                    size_t position)
{
    size_t row = (w->tok_seq[t] * n_kv + head) * w->kv_positions + position;
    return base + row * w->hd_pad;
}

void worker_store_heads(worker_t *w, uint32_t l, int thread, int n_threads)
{
    const worker_layer_t *layer = &w->shard->layers[l];
    size_t                hd    = w->config.desc->head_dim;
    size_t                n_q   = layer->slice.q.end - layer->slice.q.begin;
    size_t                n_kv  = layer->slice.kv.end - layer->slice.kv.begin;
    size_t                n_all = n_q + 2 * n_kv;
    size_t                b     = 0;
    size_t                e     = 0;
    worker_share(w->n_tok * n_all, 1, thread, n_threads, &b, &e);
    for (size_t i = b; i < e; i++) {
        size_t       t    = i / n_all;
        size_t       h    = i % n_all;
        const float *from = w->flat + i * hd;
        if (h < n_q)
            store_head(w, w->heads + (t * n_q + h) * w->hd_pad, from, t, true);
        else if (h < n_q + n_kv)
            store_head(w, kv_at(w, w->kv[l].k, t, n_kv, h - n_q, w->tok_pos[t]), from, t, true);
        else
            store_head(w, kv_at(w, w->kv[l].v, t, n_kv, h - n_q - n_kv, w->tok_pos[t]), from, t,
                       false);
    }
}

/* The heads' results, and the statistics of the sub-norm where o is cut by columns. */
static void finish_heads(worker_t *w, uint32_t l, size_t t, size_t h, size_t n,
                         const worker_scratch_t *s)
{
    const worker_layer_t *layer   = &w->shard->layers[l];
    bool                  by_rows = worker_by_rows(&layer->m[WORKER_O]);
    size_t                hd      = w->config.desc->head_dim;
    size_t                n_q     = layer->slice.q.end - layer->slice.q.begin;
    const float          *z       = s->merged + KERN_MAX_GROUP;
    const float          *o       = z + KERN_MAX_GROUP;
    float                *attn    = worker_attn_out(w, l);
    for (size_t i = 0; i < n; i++) {
        float       *out  = attn + (t * n_q + h + i) * hd;
        const float *norm = layer->attn_sub_norm;
        w->kern.div_f32(out, o + i * w->hd_pad, z[i], hd);
        if (by_rows) continue;
        if (norm != NULL) norm += (h + i) * hd;
        w->kern.sumsq_f32(worker_stat_row(w, 0, l, (uint32_t)t) + h + i, out, hd, hd);
        worker_stat_max(w, 0, l, (uint32_t)t)[h + i] = w->kern.absmax_f32(out, norm, hd);
    }
}

/* Attention of query heads [h, h + n) of token t, which share KV head `kv` of this rank. */
static void attend(worker_t *w, uint32_t l, size_t t, size_t h, size_t n, size_t kv,
                   worker_scratch_t *s)
{
    const worker_layer_t *layer = &w->shard->layers[l];
    size_t                hd    = w->config.desc->head_dim;
    size_t                n_q   = layer->slice.q.end - layer->slice.q.begin;
    size_t                n_kv  = layer->slice.kv.end - layer->slice.kv.begin;
    size_t                end   = (size_t)w->tok_pos[t] + 1;
    float                 scale = (float)(1.0 / sqrt((double)hd));
    const float          *q     = w->heads + (t * n_q + h) * w->hd_pad;
    float                *m     = s->merged;
    float                *z     = m + KERN_MAX_GROUP;
    float                *o     = z + KERN_MAX_GROUP;
    float                *mp    = s->page;
    float                *zp    = mp + KERN_MAX_GROUP;
    float                *op    = zp + KERN_MAX_GROUP;
    for (size_t p = 0; p < end; p += KERN_PAGE) {
        size_t       n_pos = base_min_size(KERN_PAGE, end - p);
        const float *k     = kv_at(w, w->kv[l].k, t, n_kv, kv, p);
        const float *v     = kv_at(w, w->kv[l].v, t, n_kv, kv, p);
        if (p == 0) {
            w->kern.attn_page_f32(m, z, o, w->hd_pad, q, w->hd_pad, n, k, v, n_pos, w->hd_pad,
                                  scale);
            continue;
        }
        w->kern.attn_page_f32(mp, zp, op, w->hd_pad, q, w->hd_pad, n, k, v, n_pos, w->hd_pad,
                              scale);
        for (size_t i = 0; i < n; i++)
            w->kern.attn_merge_f32(&m[i], &z[i], o + i * w->hd_pad, mp[i], zp[i],
                                   op + i * w->hd_pad, w->hd_pad);
    }
    finish_heads(w, l, t, h, n, s);
}

void worker_attention(worker_t *w, uint32_t l, int thread, int n_threads)
{
    const worker_layer_t *layer = &w->shard->layers[l];
    const part_slice_t   *s     = &layer->slice;
    size_t                n_q   = s->q.end - s->q.begin;
    size_t                group = layer->n_heads / layer->n_kv_heads;
    size_t                n_kv  = s->kv.end - s->kv.begin;
    bool   whole = w->n_tok * n_kv >= (size_t)n_threads; /* enough groups for all threads? */
    size_t step  = whole ? base_min_size(group, KERN_MAX_GROUP) : 1;
    size_t item  = 0;
    for (size_t t = 0; t < w->n_tok; t++) {
        for (size_t h = 0; h < n_q;) {
            /* Heads h .. h + n share a KV head; a group may be cut by the shard's boundary. */
            size_t kv        = (s->q.begin + h) / group;
            size_t group_end = (kv + 1) * group - s->q.begin;
            size_t n         = base_min_size(step, base_min_size(group_end, n_q) - h);
            if (item++ % (size_t)n_threads == (size_t)thread)
                attend(w, l, t, h, n, kv - s->kv.begin, &w->scratch[thread]);
            h += n;
        }
    }
}
