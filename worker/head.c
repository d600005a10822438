/* worker/head.c
 * The output head: final norm, then whole rows of logits, or only the best of each row by way of
 * the screen; and their way to the root. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "worker/state.h"

#define NO_ID UINT32_MAX /* in a list: no row; its value is PART_LOGIT_UNSEEN, behind all others */
#define WHOLE UINT32_MAX /* in n_seen: every logit of the row stands there */

/* --- start --- */

typedef struct {
    worker_t *w;
    float    *rows; /* [threads][16][width] */
} pack_t;

static void read_row(void *ctx, size_t row, float *out)
{
    const worker_t *w = ctx;
    model_row_f32(w->head_rows.source, &w->config.desc->head, w->shard->vocab.begin + row, 0,
                  w->config.desc->width, out);
}

static void pack(void *ctx, int thread, int n_threads)
{
    pack_t *p    = ctx;
    size_t  room = KERN_TILE_ROWS * (size_t)p->w->config.desc->width;
    worker_screen_pack(p->w->head.screen, read_row, p->w, p->rows + (size_t)thread * room, thread,
                       n_threads);
}

base_status_t worker_head_create(worker_t *w, base_err_t *err)
{
    const worker_config_t *c = &w->config;
    const worker_shard_t  *s = w->shard;
    pack_t                 p = {.w = w};
    base_status_t          st;
    if (w->head.n_seen != NULL)
        for (uint32_t i = 0; i < c->limits.n_out; i++) w->head.n_seen[i] = WHOLE;
    if (!c->screen || !s->has_head) return BASE_OK;
    worker_screen_config_t config = {.kern      = &w->kern,
                                     .head      = s->head,
                                     .row_bytes = s->head_row_bytes,
                                     .type      = s->head_type,
                                     .rows      = s->vocab.end - s->vocab.begin,
                                     .cols      = c->desc->width,
                                     .first_id  = s->vocab.begin,
                                     .n_vectors = w->head.slots,
                                     .n_threads = worker_team_size(c->team)};
    st                            = worker_screen_create(&config, &w->head.screen, err);
    if (st == BASE_OK)
        st = base_alloc((void **)&p.rows, (size_t)config.n_threads * KERN_TILE_ROWS,
                        c->desc->width * sizeof(float), "screen of the head", err);
    if (st == BASE_OK) worker_team_run(c->team, pack, &p);
    free(p.rows);
    return st;
}

/* --- whole rows --- */

/* The final norm of this thread's share of the vectors of rows [first, first + n). */
static void norm_share(worker_t *w, uint32_t first, uint32_t n, int thread, int n_threads,
                       size_t *b, size_t *e)
{
    size_t width = w->config.desc->width;
    worker_share(n, 1, thread, n_threads, b, e);
    for (size_t i = first + *b; i < first + *e; i++) {
        const float *x = w->x + (size_t)w->out_tok[i] * width;
        w->kern.norm_f32(w->normed + i * width, x, w->shard->out_norm,
                         worker_hidden_rms(w, x, w->config.desc->norm_eps, &w->scratch[thread]),
                         width);
    }
}

/* Rows to take from a share at a time: long enough for a stream of memory, short enough that the
 * last to end is not late. */
static size_t rows_at_once(size_t share, size_t row_bytes)
{
    enum { BYTES = 1 << 20, PARTS = 16 };
    size_t n = base_min_size(BYTES / row_bytes, share / PARTS);
    return base_max_size(n / KERN_TILE_ROWS, 1) * KERN_TILE_ROWS;
}

/* One product, so that each row of the head is read once for all of the vectors. Threads begin with
 * their own shares, whose pages lie near them, and then help those that are slower. */
static void whole_rows(worker_t *w, int thread, int n_threads)
{
    const worker_shard_t *s     = w->shard;
    size_t                width = w->config.desc->width;
    size_t                rows  = s->vocab.end - s->vocab.begin;
    kern_dense_fn        *dense = kern_dense(&w->kern, s->head_type);
    size_t                b     = 0;
    size_t                e     = 0;
    norm_share(w, 0, w->n_out, thread, n_threads, &b, &e);
    worker_share(rows, KERN_TILE_ROWS, thread, n_threads, &b, &e);
    atomic_store_explicit(&w->cursors[thread].head, b, memory_order_relaxed);
    worker_meet(w, thread, WORKER_PART_HEAD);
    for (int i = 0; i < n_threads; i++) {
        int of = (thread + i) % n_threads;
        worker_share(rows, KERN_TILE_ROWS, of, n_threads, &b, &e);
        size_t step = rows_at_once(e - b, s->head_row_bytes);
        for (;;) {
            b = atomic_fetch_add_explicit(&w->cursors[of].head, step, memory_order_relaxed);
            if (b >= e) break;
            dense(w->rows + b, rows, s->head + b * s->head_row_bytes, s->head_row_bytes,
                  base_min_size(step, e - b), width, w->normed, width, w->n_out);
        }
    }
}

/* --- the best alone --- */

/* Does the step bring lists of the best instead of whole rows? All ranks decide alike. A lone rank
 * that computes whole rows has nothing to save. */
static bool brings_lists(const worker_t *w)
{
    const bool lone = w->shards == 1 && w->config.plan->stages == 1;
    return w->n_top > 0 && w->n_top <= WORKER_SCREEN_K_MAX && (w->config.screen || !lone);
}

/* Without a screen: the best of this shard's whole rows, this thread's share of them. Nearly all
 * values lose against the last of the list. */
static void list_rows(worker_t *w, int thread, int n_threads)
{
    const part_range_t ids  = w->shard->vocab;
    const size_t       rows = ids.end - ids.begin;
    size_t             b    = 0;
    size_t             e    = 0;
    worker_share(w->n_out, 1, thread, n_threads, &b, &e);
    for (size_t i = b; i < e; i++) {
        const float   *row  = w->rows + i * rows;
        worker_best_t *list = w->head.list + i * w->n_top;
        uint32_t       n    = 0;
        for (uint32_t k = 0; k < rows; k++)
            if (n < w->n_top || !(row[k] <= list[n - 1].value) || !isfinite(row[k]))
                n = worker_best_insert(list, n, w->n_top, (worker_best_t){row[k], ids.begin + k});
        for (; n < w->n_top; n++) list[n] = (worker_best_t){PART_LOGIT_UNSEEN, NO_ID};
    }
}

static float *as_floats(worker_best_t *list)
{
    return (float *)(void *)list;
}

/* This shard's best rows of a slot so far, n_top of them. */
static void fill_list(worker_t *w, uint32_t slot, worker_best_t *list)
{
    uint32_t n = worker_screen_best(w->head.screen, slot, list);
    for (; n < w->n_top; n++) list[n] = (worker_best_t){PART_LOGIT_UNSEEN, NO_ID};
}

/* All shards' lists, n_top long and `stride` apart, into one, in `best`. */
static void merge_lists(uint32_t shards, uint32_t n_top, const worker_best_t *lists, size_t stride,
                        worker_best_t *best)
{
    worker_best_t some[WORKER_SCREEN_K_MAX];
    memcpy(best, lists, n_top * sizeof(*best));
    for (uint32_t s = 1; s < shards; s++) {
        memcpy(some, best, n_top * sizeof(*best));
        (void)worker_best_merge(best, n_top, some, n_top, lists + s * stride, n_top);
    }
}

static void set_pieces(worker_t *w, uint32_t floats)
{
    for (uint32_t s = 0; s < w->shards; s++) {
        w->counts[s]  = floats;
        w->offsets[s] = s * floats;
    }
}

/* Thread 0: what each vector's best logits cannot be below. The shards tell each other their lists,
 * as the best rows may all be on one of them. */
static void find_floors(worker_t *w, uint32_t n)
{
    worker_head_t *h      = &w->head;
    const size_t   stride = (size_t)n * w->n_top;
    worker_best_t *own    = h->floors + w->my_shard * stride;
    worker_best_t  best[WORKER_SCREEN_K_MAX];
    for (uint32_t i = 0; i < n; i++) fill_list(w, i, own + (size_t)i * w->n_top);
    if (w->shards > 1) {
        set_pieces(w, (uint32_t)(2 * stride));
        w->st =
            comm_gather_f32(w->config.grid, as_floats(h->floors), w->counts, w->offsets, &w->err);
        w->stop = w->st != BASE_OK;
    }
    for (uint32_t i = 0; i < n && !w->stop; i++) {
        merge_lists(w->shards, w->n_top, h->floors + (size_t)i * w->n_top, stride, best);
        h->floor[i] = best[w->n_top - 1].value;
    }
}

/* Rows [first, first + n) of logits: the best rows of this shard. */
static bool best_group(worker_t *w, uint32_t first, uint32_t n, int thread, int n_threads)
{
    worker_screen_t *screen = w->head.screen;
    size_t           b      = 0;
    size_t           e      = 0;
    norm_share(w, first, n, thread, n_threads, &b, &e);
    for (size_t i = b; i < e; i++)
        worker_screen_put(screen, (uint32_t)i, w->normed + (first + i) * w->config.desc->width,
                          w->n_top);
    worker_meet(w, thread, WORKER_PART_HEAD);
    worker_screen_scan(screen, n, thread, n_threads);
    worker_meet(w, thread, WORKER_PART_HEAD);
    if (thread == 0) find_floors(w, n);
    worker_meet(w, thread, w->shards > 1 ? WORKER_PART_COMM : WORKER_PART_HEAD);
    if (w->stop) return false;
    for (uint32_t i = 0; i < n; i++)
        worker_screen_refine(screen, i, w->head.floor[i], thread, n_threads);
    worker_meet(w, thread, WORKER_PART_HEAD);
    for (uint32_t i = 0; thread == 0 && i < n; i++)
        fill_list(w, i, w->head.list + (size_t)(first + i) * w->n_top);
    worker_meet(w, thread, WORKER_PART_HEAD);
    return true;
}

/* Root: a row of logits of which only the list, n_top long, is known. What the row held before is
 * put back to unseen, so that a step writes no more than it knows. */
static void write_row(worker_t *w, uint32_t i, uint32_t n_top, const worker_best_t *best)
{
    const uint32_t n_vocab = w->config.desc->n_vocab;
    float         *row     = w->logits + (size_t)i * n_vocab;
    uint32_t      *seen    = w->head.seen + (size_t)i * WORKER_SCREEN_K_MAX;
    uint32_t      *n       = &w->head.n_seen[i];
    for (uint32_t k = 0; *n == WHOLE && k < n_vocab; k++) row[k] = PART_LOGIT_UNSEEN;
    for (uint32_t k = 0; *n != WHOLE && k < *n; k++) row[seen[k]] = PART_LOGIT_UNSEEN;
    *n = 0;
    for (uint32_t k = 0; k < n_top; k++) {
        if (best[k].id >= n_vocab) continue; /* no row; or a peer that is out of its mind */
        row[best[k].id] = best[k].value;
        seen[(*n)++]    = best[k].id;
    }
}

/* --- the way to the root --- */

/* Root: n lists of every shard, n_top long, become rows row0 .. of logits. The lists of a row are
 * by_row apart, those of a shard by_shard. */
static void take_lists(worker_t *w, const worker_best_t *lists, size_t by_row, size_t by_shard,
                       uint32_t row0, uint32_t n, uint32_t n_top)
{
    worker_best_t best[WORKER_SCREEN_K_MAX];
    for (uint32_t i = 0; i < n; i++) {
        merge_lists(w->shards, n_top, lists + i * by_row, by_shard, best);
        write_row(w, row0 + i, n_top, best);
    }
}

static void note_whole(worker_t *w, uint32_t row0, uint32_t n)
{
    for (uint32_t i = row0; w->head.n_seen != NULL && i < row0 + n; i++) w->head.n_seen[i] = WHOLE;
}

/* One stage: the root waits. */
static void bring_rows(worker_t *w, bool best)
{
    const worker_config_t *c      = &w->config;
    worker_head_t         *h      = &w->head;
    const size_t           stride = 2 * (size_t)w->n_top;
    worker_best_t         *lists  = w->shards == 1 ? h->list : h->lists;
    if (w->shards > 1 && best) {
        set_pieces(w, (uint32_t)stride);
        w->st = comm_logits_to_root(c->grid, as_floats(h->list), w->n_out, w->counts, w->offsets,
                                    as_floats(h->lists), stride * w->shards, w->staging, &w->err);
    } else if (w->shards > 1) { /* a lone rank computes in place */
        w->st = comm_logits_to_root(c->grid, w->piece, w->n_out, w->vocab_counts, w->vocab_offsets,
                                    w->logits, c->desc->n_vocab, w->staging, &w->err);
    }
    if (w->st != BASE_OK || !c->is_root) return;
    if (best)
        take_lists(w, lists, (size_t)w->shards * w->n_top, w->n_top, 0, w->n_out, w->n_top);
    else
        note_whole(w, 0, w->n_out);
}

static worker_best_t *pending_lists(const worker_t *w, uint32_t row0)
{
    return w->head.lists + (size_t)row0 * w->shards * WORKER_SCREEN_K_MAX;
}

/* Several stages: the last one sends and goes on, the root notes what will come. */
static void announce_rows(worker_t *w, bool best)
{
    const worker_config_t *c      = &w->config;
    const size_t           stride = 2 * (size_t)w->n_top;
    if (w->shard->has_head) {
        size_t rows = w->shard->vocab.end - w->shard->vocab.begin;
        w->st =
            best ? comm_logits_send(c->grid, as_floats(w->head.list), 1, w->n_out * stride, &w->err)
                 : comm_logits_send(c->grid, w->rows, w->n_out, rows, &w->err);
    }
    if (!c->is_root) return;
    base_assert(w->pending_n < COMM_LOGITS_AHEAD);
    w->pending[(w->pending_first + w->pending_n++) % COMM_LOGITS_AHEAD] =
        (worker_pending_t){.row0 = w->row0, .n_out = w->n_out, .n_top = best ? w->n_top : 0};
    if (best) set_pieces(w, (uint32_t)(w->n_out * stride)); /* a shard's lists together */
    w->st = best ? comm_logits_expect(c->grid, 1, w->counts, w->offsets,
                                      as_floats(pending_lists(w, w->row0)),
                                      w->n_out * stride * w->shards, &w->err)
                 : comm_logits_expect(c->grid, w->n_out, w->vocab_counts, w->vocab_offsets,
                                      w->logits + (size_t)w->row0 * c->desc->n_vocab,
                                      c->desc->n_vocab, &w->err);
}

base_status_t worker_collect(worker_t *w, base_err_t *err)
{
    const worker_pending_t p  = w->pending[w->pending_first];
    base_status_t          st = BASE_OK;
    base_assert(w->pending_n > 0);
    w->pending_first = (w->pending_first + 1) % COMM_LOGITS_AHEAD;
    w->pending_n--;
    st = comm_logits_collect(w->config.grid, err);
    if (st != BASE_OK) return st;
    if (p.n_top > 0)
        take_lists(w, pending_lists(w, p.row0), p.n_top, (size_t)p.n_out * p.n_top, p.row0, p.n_out,
                   p.n_top);
    else
        note_whole(w, p.row0, p.n_out);
    return BASE_OK;
}

const float *worker_logits(const worker_t *w)
{
    return w->logits;
}

/* --- the step --- */

/* Thread 0: where this step's rows go. Those of the step before may still be on their way from
 * another part of the piece; lists of the best are small, and have one place. */
static void settle(worker_t *w, bool best)
{
    const uint32_t begin = w->row_begin, end = w->row_end, most = w->config.limits.n_out;
    uint32_t       at   = w->n_out <= most - end ? end : 0;
    const bool     keep = !best && (at > 0 || end == 0 || w->n_out <= begin);
    if (!keep) at = 0;
    w->row_begin = best ? 0 : at;
    w->row_end   = best ? 0 : at + w->n_out;
    w->rows      = w->piece + at * (size_t)(w->shard->vocab.end - w->shard->vocab.begin);
    w->st        = comm_logits_settle(w->config.grid, keep ? COMM_LOGITS_OUT - 1 : 0, &w->err);
    w->stop      = w->st != BASE_OK;
}

/* What earlier steps sent from here must have left. False: it did not. */
static bool head_free(worker_t *w, bool best, int thread)
{
    if (w->config.plan->stages == 1 || w->n_out == 0) return true;
    if (thread == 0) settle(w, best);
    worker_meet(w, thread, WORKER_PART_COMM);
    return !w->stop;
}

void worker_output(worker_t *w, int thread, int n_threads)
{
    const worker_config_t *c      = &w->config;
    const bool             best   = brings_lists(w);
    const bool             screen = best && c->screen;
    if (w->shard->has_head && !head_free(w, best, thread)) return;
    for (uint32_t i = 0; w->shard->has_head && screen && i < w->n_out; i += w->head.slots)
        if (!best_group(w, i, (uint32_t)base_min_size(w->head.slots, w->n_out - i), thread,
                        n_threads))
            return;
    if (w->shard->has_head && !screen && w->n_out > 0) {
        whole_rows(w, thread, n_threads);
        if (best) {
            worker_meet(w, thread, WORKER_PART_HEAD);
            list_rows(w, thread, n_threads);
        }
    }
    worker_meet(w, thread, WORKER_PART_HEAD);
    if (thread != 0) return;
    if (!w->shard->has_head)
        w->st = comm_stage_send(c->grid, w->x, (size_t)w->n_tok * c->desc->width, &w->err);
    if (w->st != BASE_OK || w->n_out == 0) return;
    if (c->plan->stages == 1)
        bring_rows(w, best);
    else
        announce_rows(w, best);
}
