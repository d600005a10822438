/* worker/attention.c: RoPE, KV cache, and attention page by page (NUMERICS 6 and 7).
 *
 * The work is cut into items: a block of tokens of one sequence with the query heads that share a
 * KV head, so that a page is loaded once for all of their rows. A block never crosses a page, so
 * only its last page is ragged. Items are shared out by cost (rows * pages): causal work grows with
 * the position. An item of one token may be cut between threads: its later pages are then kept
 * apart and merged in order afterwards, as NUMERICS 7 wants. */
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

/* --- queries, and the KV cache --- */

/* The own query heads that share the KV head of own head h: [first, first + n). */
typedef struct {
    size_t first, n;
} group_t;

static group_t group_of(const worker_layer_t *layer, size_t h)
{
    const part_range_t *q     = &layer->slice.q;
    size_t              group = layer->n_heads / layer->n_kv_heads;
    size_t              kv    = (q->begin + h) / group;
    size_t              begin = base_max_size(kv * group, q->begin);
    size_t              end   = base_min_size((kv + 1) * group, q->end);
    return (group_t){begin - q->begin, end - begin};
}

/* Rotated query of own head h of token t. A group's rows lie together: [group][token][its
 * heads]. */
static float *query_at(const worker_t *w, group_t g, size_t t, size_t h)
{
    return w->heads + (w->n_tok * g.first + t * g.n + (h - g.first)) * w->hd_pad;
}

/* The page of own KV head `kv` that holds a position of token t's sequence; elem: bytes of one
 * element. */
static uint8_t *kv_at(const worker_t *w, uint8_t *base, size_t elem, size_t t, size_t n_kv,
                      size_t kv, size_t position)
{
    size_t row = (w->tok_seq[t] * n_kv + kv) * w->kv_positions + position;
    return base + row * w->hd_pad * elem;
}

/* Copy one head to its padded place and rotate it there. */
static void take_head(worker_t *w, float *to, const float *from, size_t token, bool rotate)
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

static void store_kv(worker_t *w, uint8_t *to, const float *from, model_type_t type)
{
    if (type == MODEL_F16)
        w->kern.narrow_f16((uint16_t *)(void *)to, from, w->hd_pad);
    else
        memcpy(to, from, w->hd_pad * sizeof(float));
}

void worker_store_heads(worker_t *w, uint32_t l, int thread, int n_threads)
{
    const worker_layer_t  *layer = &w->shard->layers[l];
    const worker_config_t *c     = &w->config;
    float                 *head  = w->scratch[thread].head;
    size_t                 n_q   = layer->slice.q.end - layer->slice.q.begin;
    size_t                 n_kv  = layer->slice.kv.end - layer->slice.kv.begin;
    size_t                 n_all = n_q + 2 * n_kv;
    size_t                 b     = 0;
    size_t                 e     = 0;
    worker_share(w->n_tok * n_all, 1, thread, n_threads, &b, &e);
    for (size_t i = b; i < e; i++) {
        size_t       t    = i / n_all;
        size_t       h    = i % n_all;
        size_t       pos  = w->tok_pos[t];
        const float *from = w->flat + i * c->desc->head_dim;
        if (h < n_q) {
            take_head(w, query_at(w, group_of(layer, h), t, h), from, t, true);
        } else if (h < n_q + n_kv) {
            take_head(w, head, from, t, true);
            store_kv(w, kv_at(w, w->kv[l].k, w->k_elem, t, n_kv, h - n_q, pos), head, c->type_k);
        } else {
            take_head(w, head, from, t, false);
            store_kv(w, kv_at(w, w->kv[l].v, w->v_elem, t, n_kv, h - n_q - n_kv, pos), head,
                     c->type_v);
        }
    }
}

/* --- items --- */

typedef struct {
    size_t  tok, n_tok; /* tokens of the step, of one sequence and one page */
    size_t  head, n;    /* own query heads [head, head + n) of one group */
    group_t group;
    size_t  kv; /* their own KV head */
    size_t  pages;
} item_t;

/* How items are made for a layer and shared out; the same on every thread. */
typedef struct {
    size_t heads;  /* of an item, at most */
    size_t tokens; /* a power of two: blocks begin at multiples of it */
    size_t cost;   /* of all items */
    size_t at;     /* cost of the items before the one at hand */
    size_t cuts;   /* items cut so far */
} sharing_t;

static size_t cost_of(const item_t *item)
{
    return item->n_tok * item->n * item->pages;
}

/* The next item in the order of heads, then tokens. `item` all 0 begins; false at the end. */
static bool next_item(const worker_t *w, const worker_layer_t *layer, const sharing_t *s,
                      item_t *item)
{
    size_t n_q = layer->slice.q.end - layer->slice.q.begin;
    size_t tok = item->tok + item->n_tok;
    size_t h   = item->head;
    if (tok == w->n_tok) {
        tok = 0;
        h += item->n;
    }
    if (h == n_q) return false;
    item->head  = h;
    item->group = group_of(layer, h);
    item->n     = base_min_size(s->heads, item->group.first + item->group.n - h);
    item->kv =
        (layer->slice.q.begin + h) / (layer->n_heads / layer->n_kv_heads) - layer->slice.kv.begin;
    item->tok   = tok;
    item->n_tok = 1;
    while (tok + item->n_tok < w->n_tok && w->tok_seq[tok + item->n_tok] == w->tok_seq[tok] &&
           w->tok_pos[tok + item->n_tok] / s->tokens == w->tok_pos[tok] / s->tokens)
        item->n_tok++;
    item->pages = w->tok_pos[tok] / KERN_PAGE + 1;
    return true;
}

static size_t units_of(const worker_t *w, const worker_layer_t *layer, sharing_t *s)
{
    item_t item  = {0};
    size_t units = 0;
    s->cost      = 0;
    while (next_item(w, layer, s, &item)) {
        units += item.pages;
        s->cost += cost_of(&item);
    }
    return units;
}

/* Whole groups and blocks of tokens, unless that leaves threads without work. */
static sharing_t share_work(const worker_t *w, const worker_layer_t *layer, int n_threads)
{
    size_t    group = layer->n_heads / layer->n_kv_heads;
    sharing_t s     = {.heads = base_min_size(group, KERN_MAX_GROUP), .tokens = 1};
    while (2 * s.tokens * s.heads <= KERN_MAX_GROUP) s.tokens *= 2;
    if (units_of(w, layer, &s) >= (size_t)n_threads) return s;
    s.heads = s.tokens = 1;
    (void)units_of(w, layer, &s);
    return s;
}

/* The thread that does the work at a cost. */
static size_t thread_at(const sharing_t *s, size_t cost, int n_threads)
{
    return ((cost + 1) * (size_t)n_threads - 1) / s->cost;
}

/* --- one item --- */

/* Maxima, sums and outputs of an item's rows, in one run of floats. */
typedef struct {
    float *m, *z, *o;
} result_t;

static result_t result_at(float *base, size_t rows)
{
    return (result_t){base, base + rows, base + 2 * rows};
}

/* Page p of an item. */
static void attend_page(worker_t *w, uint32_t l, const item_t *item, size_t p, result_t r,
                        worker_scratch_t *s)
{
    const worker_layer_t  *layer = &w->shard->layers[l];
    const worker_config_t *c     = &w->config;
    kern_attn_scores_fn   *scores =
        c->type_k == MODEL_F16 ? w->kern.attn_scores_f16 : w->kern.attn_scores_f32;
    kern_attn_values_fn *values =
        c->type_v == MODEL_F16 ? w->kern.attn_values_f16 : w->kern.attn_values_f32;
    size_t         rows  = item->n_tok * item->n;
    size_t         n_kv  = layer->slice.kv.end - layer->slice.kv.begin;
    float          scale = (float)(1.0 / sqrt((double)c->desc->head_dim));
    const float   *q     = query_at(w, item->group, item->tok, item->head);
    const uint8_t *k = kv_at(w, w->kv[l].k, w->k_elem, item->tok, n_kv, item->kv, p * KERN_PAGE);
    const uint8_t *v = kv_at(w, w->kv[l].v, w->v_elem, item->tok, n_kv, item->kv, p * KERN_PAGE);
    uint32_t       ends[KERN_MAX_GROUP];
    for (size_t i = 0; i < rows; i++)
        ends[i] =
            p + 1 < item->pages ? KERN_PAGE : w->tok_pos[item->tok + i / item->n] % KERN_PAGE + 1;
    scores(s->weights, r.m, r.z, q, rows, k, ends, w->hd_pad, scale);
    values(r.o, s->weights, rows, v, ends, w->hd_pad);
}

/* Pages [p, end), merged in order; p is the item's first or follows what `r` holds. */
static void attend(worker_t *w, uint32_t l, const item_t *item, size_t p, size_t end, result_t r,
                   worker_scratch_t *s)
{
    size_t   rows = item->n_tok * item->n;
    result_t page = result_at(s->page, rows);
    for (; p < end; p++) {
        attend_page(w, l, item, p, p == 0 ? r : page, s);
        if (p > 0) w->kern.attn_merge_f32(r.m, r.z, r.o, page.m, page.z, page.o, rows, w->hd_pad);
    }
}

/* The rows' results, and the statistics of the sub-norm where o is cut by columns. */
static void finish(worker_t *w, uint32_t l, const item_t *item, result_t r)
{
    const worker_layer_t *layer   = &w->shard->layers[l];
    bool                  by_rows = worker_by_rows(&layer->m[WORKER_O]);
    size_t                hd      = w->config.desc->head_dim;
    size_t                n_q     = layer->slice.q.end - layer->slice.q.begin;
    float                *attn    = worker_attn_out(w, l);
    for (size_t i = 0; i < item->n_tok * item->n; i++) {
        size_t       t    = item->tok + i / item->n;
        size_t       h    = item->head + i % item->n;
        float       *out  = attn + (t * n_q + h) * hd;
        const float *norm = layer->attn_sub_norm;
        w->kern.div_f32(out, r.o + i * w->hd_pad, r.z[i], hd);
        if (by_rows) continue;
        if (norm != NULL) norm += h * hd;
        w->kern.sumsq_f32(worker_stat_row(w, 0, l, (uint32_t)t) + h, out, hd, hd);
        worker_stat_max(w, 0, l, (uint32_t)t)[h] = w->kern.absmax_f32(out, norm, hd);
    }
}

/* --- items cut between threads --- */

/* Where page p of the cut item `cut` is kept. */
static result_t part_at(const worker_t *w, size_t cut, size_t p, size_t rows)
{
    return result_at(w->parts + (cut * w->kv_positions / KERN_PAGE + p) * w->part_floats, rows);
}

/* This thread's pages [p, end) of a cut item: the first ones merged, each later one by itself. */
static void attend_part(worker_t *w, uint32_t l, const item_t *item, size_t cut, size_t p,
                        size_t end, worker_scratch_t *s)
{
    if (p == 0) {
        attend(w, l, item, 0, end, part_at(w, cut, 0, item->n), s);
        return;
    }
    for (; p < end; p++) attend_page(w, l, item, p, part_at(w, cut, p, item->n), s);
}

/* The thread that has the first pages puts the others after them. */
static void join_parts(worker_t *w, uint32_t l, const item_t *item, size_t cut, size_t p)
{
    result_t r = part_at(w, cut, 0, item->n);
    for (; p < item->pages; p++) {
        result_t page = part_at(w, cut, p, item->n);
        w->kern.attn_merge_f32(r.m, r.z, r.o, page.m, page.z, page.o, item->n, w->hd_pad);
    }
    finish(w, l, item, r);
}

/* One thread's share of the items: first all pages, with `join` what was cut. Returns how many are
 * cut. */
static size_t walk(worker_t *w, uint32_t l, sharing_t s, bool join, int thread, int n_threads)
{
    const worker_layer_t *layer   = &w->shard->layers[l];
    worker_scratch_t     *scratch = &w->scratch[thread];
    item_t                item    = {0};
    for (; next_item(w, layer, &s, &item); s.at += cost_of(&item)) {
        size_t rows  = item.n_tok * item.n;
        size_t first = thread_at(&s, s.at, n_threads);
        size_t last  = thread_at(&s, s.at + cost_of(&item) - rows, n_threads);
        if (first == last || item.n_tok > 1 || s.cuts == w->n_parts) {
            size_t middle = thread_at(&s, s.at + cost_of(&item) / 2, n_threads);
            if (middle != (size_t)thread || join) continue;
            result_t r = result_at(scratch->merged, rows);
            attend(w, l, &item, 0, item.pages, r, scratch);
            finish(w, l, &item, r);
            continue;
        }
        size_t p = 0;
        while (p < item.pages && thread_at(&s, s.at + p * rows, n_threads) < (size_t)thread) p++;
        size_t end = p;
        while (end < item.pages && thread_at(&s, s.at + end * rows, n_threads) == (size_t)thread)
            end++;
        if (!join) attend_part(w, l, &item, s.cuts, p, end, scratch);
        if (join && p == 0 && end > 0) join_parts(w, l, &item, s.cuts, end);
        s.cuts++;
    }
    return s.cuts;
}

void worker_attention(worker_t *w, uint32_t l, int thread, int n_threads)
{
    const sharing_t s = share_work(w, &w->shard->layers[l], n_threads);
    if (s.cost == 0) return; /* a shard without heads */
    if (walk(w, l, s, false, thread, n_threads) == 0) return;
    worker_meet(w, thread, WORKER_PART_ATTENTION);
    (void)walk(w, l, s, true, thread, n_threads);
}
