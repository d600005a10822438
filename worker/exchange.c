/* worker/exchange.c
 * What shards tell each other within a layer.
 *
 * Statistics that a sub-norm needs from all shards: block sums of squares and the maximum. For
 * n_tok tokens the buffer w->stats holds one piece per shard, in shard order: n_tok rows of the
 * shard's block sums, then n_tok maxima. So one gather serves both, and adding in index order needs
 * no knowledge of who held what. */
#include <math.h>
#include <string.h>

#include "worker/state.h"

static const uint32_t *blocks_of(const worker_t *w, int kind, uint32_t l)
{
    return w->blocks[kind] + (size_t)l * w->shards;
}

/* Start of a shard's piece. */
static size_t piece_at(const worker_t *w, const uint32_t *blocks, uint32_t shard)
{
    size_t at = 0;
    for (uint32_t s = 0; s < shard; s++) at += (size_t)w->n_tok * (blocks[s] + 1);
    return at;
}

float *worker_stat_row(worker_t *w, int kind, uint32_t l, uint32_t token)
{
    const uint32_t *blocks = blocks_of(w, kind, l);
    return w->stats + piece_at(w, blocks, w->my_shard) + (size_t)token * blocks[w->my_shard];
}

float *worker_stat_max(worker_t *w, int kind, uint32_t l, uint32_t token)
{
    return w->maxima + (size_t)token * blocks_of(w, kind, l)[w->my_shard];
}

static float max_or_nan(float a, float b)
{
    if (isnan(a) || isnan(b)) return NAN;
    return a > b ? a : b;
}

/* --- whole vectors, for products that are cut by rows --- */

static const uint32_t *lengths_of(const worker_t *w, int which, uint32_t l)
{
    return w->lengths[which] + (size_t)l * w->shards;
}

static size_t vector_at(const worker_t *w, int which, uint32_t l, uint32_t shard)
{
    size_t at = 0;
    for (uint32_t s = 0; s < shard; s++) at += (size_t)w->n_tok * lengths_of(w, which, l)[s];
    return at;
}

float *worker_own_piece(worker_t *w, int which, uint32_t l)
{
    return w->pieces + vector_at(w, which, l, w->my_shard);
}

void worker_gather(worker_t *w, int which, uint32_t l)
{
    uint32_t at = 0;
    if (w->shards == 1) return;
    for (uint32_t s = 0; s < w->shards; s++) {
        w->counts[s]  = w->n_tok * lengths_of(w, which, l)[s];
        w->offsets[s] = at;
        at += w->counts[s];
    }
    w->st   = comm_gather_f32(w->config.grid, w->pieces, w->counts, w->offsets, &w->err);
    w->stop = w->st != BASE_OK;
}

void worker_assemble(const worker_t *w, int which, uint32_t l, uint32_t token, float *out)
{
    const float *piece = w->pieces;
    for (uint32_t s = 0; s < w->shards; s++) {
        uint32_t n = lengths_of(w, which, l)[s];
        memcpy(out, piece + (size_t)token * n, n * sizeof(float));
        out += n;
        piece += (size_t)w->n_tok * n;
    }
}

float *worker_attn_out(worker_t *w, uint32_t l)
{
    bool gathered = w->shards > 1 && worker_by_rows(&w->shard->layers[l].m[WORKER_O]);
    return gathered ? worker_own_piece(w, 0, l) : w->attn;
}

float *worker_ffn_out(worker_t *w, uint32_t l)
{
    bool gathered = w->shards > 1 && worker_by_rows(&w->shard->layers[l].m[WORKER_DOWN]);
    return gathered ? worker_own_piece(w, 1, l) : w->gate;
}

/* --- statistics --- */

void worker_stats_exchange(worker_t *w, int kind, uint32_t l)
{
    const uint32_t *blocks = blocks_of(w, kind, l);
    uint32_t        own    = blocks[w->my_shard];
    float          *max    = w->stats + piece_at(w, blocks, w->my_shard) + (size_t)w->n_tok * own;
    for (uint32_t t = 0; t < w->n_tok; t++) {
        float m = 0;
        for (uint32_t b = 0; b < own; b++) m = max_or_nan(m, w->maxima[(size_t)t * own + b]);
        max[t] = m;
    }
    if (w->shards == 1) return;
    uint32_t at = 0;
    for (uint32_t s = 0; s < w->shards; s++) {
        w->counts[s]  = w->n_tok * (blocks[s] + 1);
        w->offsets[s] = at;
        at += w->counts[s];
    }
    w->st   = comm_gather_f32(w->config.grid, w->stats, w->counts, w->offsets, &w->err);
    w->stop = w->st != BASE_OK;
}

void worker_stats_total(const worker_t *w, int kind, uint32_t l, uint32_t token, float *row,
                        float *sumsq, float *max)
{
    const uint32_t *blocks = blocks_of(w, kind, l);
    const float    *piece  = w->stats;
    size_t          n      = 0;
    float           m      = 0;
    for (uint32_t s = 0; s < w->shards; s++) {
        memcpy(row + n, piece + (size_t)token * blocks[s], blocks[s] * sizeof(float));
        n += blocks[s];
        m = max_or_nan(m, piece[(size_t)w->n_tok * blocks[s] + token]);
        piece += (size_t)w->n_tok * (blocks[s] + 1);
    }
    *sumsq = w->kern.sum_f32(row, n);
    *max   = m;
}
