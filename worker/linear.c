/* worker/linear.c
 * Products of the layers: ternary with one scale, ternary with a scale for each block, dense;
 * inputs in the forms that they need. docs/NUMERICS.md sections 3 to 5. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/checked.h"
#include "worker/linear.h"

float worker_quant_step(float max, float r, float *undo)
{
    float a = max * r;
    if (isnan(a)) {
        *undo = a;
        return 1;
    }
    *undo = (a > 1e-5f ? a : 1e-5f) / 127.0f;
    return a > 1e-5f ? max / 127.0f : 1e-5f / 127.0f / r;
}

float worker_inverse_rms(float sumsq, size_t n, float eps)
{
    float mean = sumsq / (float)n;
    float root = sqrtf(mean + eps);
    return 1.0f / root;
}

unsigned worker_needs(const worker_matrix_t *m)
{
    switch (m->kind) {
    case WORKER_TERN: return WORKER_NEED_INT8;
    case WORKER_BLOCK: return WORKER_NEED_INT8 | WORKER_NEED_SUMS;
    case WORKER_DENSE: return WORKER_NEED_FLOAT;
    }
    return 0;
}

void worker_quantise(worker_t *w, unsigned needs, size_t t, const float *x, const float *norm,
                     float r, float max, size_t n)
{
    size_t  stride = kern_q_stride(n);
    int8_t *q      = w->q8 + t * stride;
    float   step   = worker_quant_step(max, r, &w->q_undo[t]);
    w->q_sum[t]    = w->kern.quant_f32_i8(q, x, norm, step, n, stride);
    if ((needs & WORKER_NEED_SUMS) != 0) {
        size_t granules = kern_granules(kern_format(KERN_T2), n);
        kern_block_sums(w->q_blocks + t * kern_blocks(granules), q, granules * KERN_T2_K);
    }
}

/* Tiles [c, c + n) of a matrix with one scale, stored or added, for tokens [t0, t0 + n_tok). */
static void run_tern(worker_t *w, const worker_matrix_t *m, const worker_run_t *run,
                     worker_scratch_t *s, size_t c, size_t n, size_t t0, size_t n_tok)
{
    const kern_format_t *f        = w->shard->format;
    kern_tern_fn        *fn       = w->n_tok == 1 ? f->gemv(&w->kern) : f->gemm(&w->kern);
    kern_scale_fn       *scale    = run->add ? w->kern.scale_add_i32_f32 : w->kern.scale_i32_f32;
    size_t               q_stride = kern_q_stride(m->cols);
    size_t               row      = c * KERN_TILE_ROWS;
    size_t               rows     = base_min_size(n * KERN_TILE_ROWS, m->rows - row);
    fn(s->acc, n * KERN_TILE_ROWS, m->data + c * m->tile_bytes, n, m->granules,
       w->q8 + t0 * q_stride, q_stride, w->q_sum + t0, n_tok);
    for (size_t t = 0; t < n_tok; t++) {
        float *out = run->out + (t0 + t) * run->out_stride + row;
        scale(out, s->acc + t * n * KERN_TILE_ROWS, m->scale * w->q_undo[t0 + t], rows);
        if (m->bias != NULL) w->kern.add_f32(out, m->bias + row, rows);
    }
}

/* The same for the kinds whose kernels give floats. */
static void run_float(worker_t *w, const worker_matrix_t *m, const worker_run_t *run,
                      worker_scratch_t *s, size_t c, size_t n)
{
    float *y      = (float *)(void *)s->acc;
    size_t stride = n * KERN_TILE_ROWS;
    size_t row    = c * KERN_TILE_ROWS;
    size_t rows   = base_min_size(stride, m->rows - row);
    if (m->kind == WORKER_DENSE) {
        kern_dense(&w->kern, m->dense)(y, stride, m->data + row * m->row_bytes, m->row_bytes, rows,
                                       m->cols, run->x, run->x_stride, w->n_tok);
    } else {
        kern_tern_block_fn *fn = w->n_tok == 1 ? w->kern.gemv_t2b_i8 : w->kern.gemm_t2b_i8;
        fn(y, stride, m->data + c * m->tile_bytes, m->scales + c * m->blocks * KERN_TILE_ROWS, n,
           m->granules, w->q8, kern_q_stride(m->cols), w->q_blocks, w->n_tok);
    }
    for (size_t t = 0; t < w->n_tok; t++) {
        float *v      = y + t * stride;
        float *out    = run->out + t * run->out_stride + row;
        float  factor = m->kind == WORKER_BLOCK ? m->out_scale * w->q_undo[t] : m->out_scale;
        if (m->kind == WORKER_BLOCK || factor != 1) w->kern.scale_f32(v, factor, rows);
        if (m->bias != NULL) w->kern.add_f32(v, m->bias + row, rows);
        if (run->add)
            w->kern.add_f32(out, v, rows);
        else
            memcpy(out, v, rows * sizeof(float));
    }
}

/* ---- who does which tiles ---- */

/* A part is one LEFTth of what is left of a share, but not less than LEAST tiles: threads that end
 * together wait for no large one. HELPED other threads are helped, those that come next.
 * With MANY tokens the first part is large, as kernels build tables of the tokens for each. With
 * GROUPS times WORKER_TOKENS, a part is all tiles of the matrix for WORKER_TOKENS of the tokens, as
 * many parts for each thread; of the groups of tokens that are left over, all tiles of a share. */
enum { LEFT = 2, LEAST = 16, HELPED = 3, MANY = 16, GROUPS = 4 };

/* Who is helped, `helped` places on, not beyond `last`; tiles [begin, end), for tokens [tok, tok +
 * n_tok). */
typedef struct {
    int    helped, last;
    size_t begin, end, tok, n_tok;
} turn_t;

static const turn_t OWN = {.last = 0}, HELP = {.helped = 1, .last = HELPED}, ALL = {.last = HELPED};

void worker_share_reset(worker_t *w, const worker_layer_t *layer, worker_matrix_id_t id, int thread,
                        int n_threads)
{
    size_t t0 = 0;
    size_t t1 = 0;
    worker_tile_share(layer, id, thread, n_threads, &t0, &t1);
    atomic_store_explicit(&w->cursors[thread].tile[id], t0, memory_order_relaxed);
}

/* Are parts groups of tokens, for this matrix? */
static bool by_tokens(const worker_t *w, const worker_layer_t *layer, worker_matrix_id_t id)
{
    return layer->m[id].kind == WORKER_TERN && w->n_tok >= GROUPS * WORKER_TOKENS;
}

/* The next part of tiles [t0, t1): some of the tiles, for all tokens. False: none is left. */
static bool next_tiles(const worker_t *w, _Atomic size_t *cursor, size_t t0, size_t t1, bool alone,
                       turn_t *turn)
{
    size_t at = atomic_load_explicit(cursor, memory_order_relaxed);
    if (at >= t1) return false;
    size_t step = base_max_size((t1 - at) / LEFT, LEAST);
    if (w->n_tok >= MANY) step = base_max_size(step, (t1 - at) * 3 / 4);
    if (alone) step = t1 - t0;
    turn->begin = atomic_fetch_add_explicit(cursor, step, memory_order_relaxed);
    turn->end   = base_min_size(turn->begin + step, t1);
    turn->tok   = 0;
    turn->n_tok = w->n_tok;
    return turn->begin < t1;
}

/* The next part of thread `of`, whose share of `all` tiles is [t0, t1). The cursor counts from t0:
 * first groups of tokens for all tiles, of + n_threads * i, then those left over for the share. */
static bool next_tokens(const worker_t *w, _Atomic size_t *cursor, size_t t0, size_t t1, size_t all,
                        size_t of, size_t n_threads, turn_t *turn)
{
    size_t whole = (w->n_tok + WORKER_TOKENS - 1) / WORKER_TOKENS / n_threads;
    size_t i     = atomic_fetch_add_explicit(cursor, 1, memory_order_relaxed) - t0;
    bool   own   = i < whole;
    turn->tok    = (own ? of + n_threads * i : n_threads * whole + (i - whole)) * WORKER_TOKENS;
    turn->begin  = own ? 0 : t0;
    turn->end    = own ? all : t1;
    if (turn->tok >= w->n_tok || turn->begin == turn->end) return false;
    turn->n_tok = base_min_size(w->n_tok - turn->tok, WORKER_TOKENS);
    return true;
}

/* False: nothing is left to do. */
static bool next_turn(worker_t *w, const worker_layer_t *layer, worker_matrix_id_t id, int thread,
                      int n_threads, turn_t *turn)
{
    bool tokens = by_tokens(w, layer, id);
    for (; turn->helped <= turn->last && turn->helped < n_threads; turn->helped++) {
        int             of     = (thread + turn->helped) % n_threads;
        _Atomic size_t *cursor = &w->cursors[of].tile[id];
        size_t          t0     = 0;
        size_t          t1     = 0;
        worker_tile_share(layer, id, of, n_threads, &t0, &t1);
        if (tokens ? next_tokens(w, cursor, t0, t1, layer->m[id].n_tiles, (size_t)of,
                                 (size_t)n_threads, turn)
                   : next_tiles(w, cursor, t0, t1, n_threads == 1, turn))
            return true;
    }
    return false;
}

void worker_product(worker_t *w, const worker_layer_t *layer, worker_matrix_id_t id,
                    const worker_run_t *run, bool help, int thread, int n_threads)
{
    const worker_matrix_t *m     = &layer->m[id];
    worker_scratch_t      *s     = &w->scratch[thread];
    bool                   tern  = m->kind == WORKER_TERN;
    size_t                 n_tok = tern ? base_min_size(w->n_tok, WORKER_TOKENS) : w->n_tok;
    size_t                 most  = base_max_size(1, s->n_acc / (KERN_TILE_ROWS * n_tok));
    turn_t                 turn  = help ? HELP : OWN;
    while (next_turn(w, layer, id, thread, n_threads, &turn)) {
        size_t n      = turn.end - turn.begin;
        size_t pieces = (n + most - 1) / most;
        size_t piece  = (n + pieces - 1) / pieces; /* even ones: small ones are slow */
        for (size_t c = turn.begin; c < turn.end; c += piece) {
            n = base_min_size(piece, turn.end - c);
            if (!tern) run_float(w, m, run, s, c, n);
            for (size_t t = 0; tern && t < turn.n_tok; t += n_tok)
                run_tern(w, m, run, s, c, n, turn.tok + t, base_min_size(n_tok, turn.n_tok - t));
        }
    }
}

/* A column-split product: this rank's share of every row as int32, to be summed over the shards. */
static void product_partial(worker_t *w, const worker_layer_t *layer, worker_matrix_id_t id,
                            int thread, int n_threads)
{
    const worker_matrix_t *m        = &layer->m[id];
    const kern_format_t   *f        = w->shard->format;
    kern_tern_fn          *fn       = w->n_tok == 1 ? f->gemv(&w->kern) : f->gemm(&w->kern);
    size_t                 stride   = kern_tiles(m->rows) * KERN_TILE_ROWS;
    size_t                 q_stride = kern_q_stride(m->cols);
    turn_t                 turn     = ALL;
    if (m->cols == 0) { /* a shard without heads or FFN rows adds nothing */
        if (thread == 0) memset(w->partial, 0, (size_t)w->n_tok * stride * sizeof(int32_t));
        return;
    }
    while (next_turn(w, layer, id, thread, n_threads, &turn))
        fn(w->partial + turn.tok * stride + turn.begin * KERN_TILE_ROWS, stride,
           m->data + turn.begin * m->tile_bytes, turn.end - turn.begin, m->granules,
           w->q8 + turn.tok * q_stride, q_stride, w->q_sum + turn.tok, turn.n_tok);
}

static void add_partial(worker_t *w, const worker_matrix_t *m, int thread, int n_threads)
{
    size_t width  = w->config.desc->width;
    size_t stride = kern_tiles(width) * KERN_TILE_ROWS;
    size_t b      = 0;
    size_t e      = 0;
    worker_share(width, KERN_TILE_ROWS, thread, n_threads, &b, &e);
    for (size_t t = 0; b < e && t < w->n_tok; t++) {
        float *x = w->x + t * width + b;
        w->kern.scale_add_i32_f32(x, w->partial + t * stride + b, m->scale * w->q_undo[t], e - b);
        if (m->bias != NULL) w->kern.add_f32(x, m->bias + b, e - b);
    }
}

static bool add_by_columns(worker_t *w, const worker_layer_t *layer, worker_matrix_id_t id,
                           int thread, int n_threads)
{
    product_partial(w, layer, id, thread, n_threads);
    worker_meet(w, thread, WORKER_PART_WEIGHTS);
    if (thread == 0) {
        size_t n = (size_t)w->n_tok * kern_tiles(w->config.desc->width) * KERN_TILE_ROWS;
        w->st    = comm_sum_i32(w->config.grid, w->partial, n, &w->err);
        w->stop  = w->st != BASE_OK;
    }
    worker_meet(w, thread, WORKER_PART_COMM);
    if (w->stop) return false;
    add_partial(w, &layer->m[id], thread, n_threads);
    return true;
}

static bool add_by_rows(worker_t *w, uint32_t l, worker_matrix_id_t id, worker_run_t run,
                        int thread, int n_threads)
{
    const worker_layer_t *layer = &w->shard->layers[l];
    size_t                width = w->config.desc->width;
    size_t                b     = 0;
    size_t                e     = 0;
    run.out                     = worker_own_piece(w, 2, l);
    run.out_stride              = layer->m[id].rows;
    run.add                     = false;
    worker_product(w, layer, id, &run, false, thread, n_threads);
    worker_product(w, layer, id, &run, true, thread, n_threads);
    worker_meet(w, thread, WORKER_PART_WEIGHTS);
    if (thread == 0) worker_gather(w, 2, l);
    worker_meet(w, thread, WORKER_PART_COMM);
    if (w->stop) return false;
    worker_share(w->n_tok, 1, thread, n_threads, &b, &e);
    for (size_t t = b; t < e; t++) {
        float *y = w->hidden + t * width;
        worker_assemble(w, 2, l, (uint32_t)t, y);
        w->kern.add_f32(w->x + t * width, y, width);
    }
    return true;
}

bool worker_add_product(worker_t *w, uint32_t l, worker_matrix_id_t id, worker_run_t run,
                        int thread, int n_threads)
{
    const worker_layer_t *layer = &w->shard->layers[l];
    if (w->shards > 1 && worker_by_rows(&layer->m[id]))
        return add_by_rows(w, l, id, run, thread, n_threads);
    if (w->shards > 1) return add_by_columns(w, layer, id, thread, n_threads);
    run.out        = w->x;
    run.out_stride = w->config.desc->width;
    run.add        = true;
    worker_product(w, layer, id, &run, false, thread, n_threads);
    worker_product(w, layer, id, &run, true, thread, n_threads);
    return true;
}
