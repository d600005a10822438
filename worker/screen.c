/* worker/screen.c
 * Two passes over the coarse rows' results. The first finds, by coarse products, rows that are
 * probably the largest, and reads those: the k-th largest of their true logits is a floor that the
 * k-th largest logit of all cannot be below. The second reads every row whose upper bound reaches
 * the floor; a row left out has a logit below it. So nothing rests on the guess but the number of
 * rows read. Rows equal to the floor are read: ties go by id. */
#include "worker/screen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"
#include "worker/kernels/screen.h"
#include "worker/team.h"

enum {
    CHUNK_TILES = 4,   /* coarse tiles at a time: small against L2, for several vectors in turn */
    PREFETCH    = 512, /* bytes of the next true row asked for ahead */
};

/* The best rows that a thread knows of a vector, ordered. */
typedef struct {
    uint32_t      n;
    worker_best_t best[WORKER_SCREEN_K_MAX];
} list_t;

typedef struct {
    kern_screen_x_t q;
    const float    *x;
    uint32_t        k;
    bool            screened; /* else all rows are read */
    float          *high;     /* [rows in tiles] upper bound; -infinity: read already */
} slot_t;

struct worker_screen {
    worker_screen_config_t config;
    base_arena_t           arena;
    size_t                 n_blocks, tile_bytes, n_tiles;
    uint8_t               *tiles;
    slot_t                *slots;
    list_t                *lists; /* [slot][thread] */
    uint64_t              *read;  /* [thread * READ_STRIDE] rows read */
    bool                  *unfit; /* [thread * 64] its rows cannot be screened */
};

enum { READ_STRIDE = 8, UNFIT_STRIDE = 64 }; /* a cache line for each thread */

/* --- ordered lists --- */

/* What is no number comes first, so that it is not lost: the sampler must see it. */
static inline bool before(worker_best_t a, worker_best_t b)
{
    const bool odd_a = !isfinite(a.value), odd_b = !isfinite(b.value);
    if (odd_a || odd_b) return odd_a && (!odd_b || a.id < b.id);
    return a.value > b.value || (a.value == b.value && a.id < b.id);
}

uint32_t worker_best_insert(worker_best_t *best, uint32_t n, uint32_t k, worker_best_t c)
{
    uint32_t i = n;
    if (i == k) {
        if (!before(c, best[k - 1])) return n;
        i--;
    } else {
        n++;
    }
    for (; i > 0 && before(c, best[i - 1]); i--) best[i] = best[i - 1];
    best[i] = c;
    return n;
}

/* Keep the k best. */
static void insert(list_t *l, uint32_t k, worker_best_t c)
{
    l->n = worker_best_insert(l->best, l->n, k, c);
}

uint32_t worker_best_merge(worker_best_t *out, uint32_t k, const worker_best_t *a, uint32_t n_a,
                           const worker_best_t *b, uint32_t n_b)
{
    uint32_t n = 0;
    for (uint32_t i = 0, j = 0; n < k && (i < n_a || j < n_b); n++)
        out[n] = j == n_b || (i < n_a && before(a[i], b[j])) ? a[i++] : b[j++];
    return n;
}

/* --- sizes --- */

uint64_t worker_screen_coarse_bytes(size_t rows, size_t cols)
{
    return (uint64_t)kern_tiles(rows) * kern_screen_tile_bytes(kern_screen_blocks(cols));
}

/* Place everything, or only count: the arena without memory counts. */
static void *take(base_arena_t *arena, size_t *total, size_t n, size_t size)
{
    const size_t bytes = base_round_up(n * size, 64);
    *total += bytes;
    return arena->base == NULL ? NULL : base_arena_take(arena, bytes);
}

static size_t lay_out(worker_screen_t *s)
{
    const size_t n_slots = s->config.n_vectors, threads = (size_t)s->config.n_threads;
    size_t       total = 0;

    s->tiles = take(&s->arena, &total, s->n_tiles, s->tile_bytes);
    s->slots = take(&s->arena, &total, n_slots, sizeof(*s->slots));
    s->lists = take(&s->arena, &total, n_slots * threads, sizeof(*s->lists));
    s->read  = take(&s->arena, &total, threads * READ_STRIDE, sizeof(*s->read));
    s->unfit = take(&s->arena, &total, threads * UNFIT_STRIDE, sizeof(*s->unfit));
    for (size_t i = 0; i < n_slots; i++) {
        kern_screen_x_t q    = {0};
        float          *high = take(&s->arena, &total, s->n_tiles * KERN_TILE_ROWS, sizeof(float));
        q.hi                 = take(&s->arena, &total, s->n_blocks * KERN_SCREEN_K, 1);
        q.lo                 = take(&s->arena, &total, s->n_blocks * KERN_SCREEN_K, 1);
        q.bias               = take(&s->arena, &total, s->n_blocks, sizeof(*q.bias));
        q.scale              = take(&s->arena, &total, s->n_blocks, sizeof(*q.scale));
        q.norm               = take(&s->arena, &total, s->n_blocks, sizeof(*q.norm));
        if (s->slots == NULL) continue;
        s->slots[i].q    = q;
        s->slots[i].high = high;
    }
    return total;
}

static void measure(worker_screen_t *s)
{
    s->n_blocks   = kern_screen_blocks(s->config.cols);
    s->tile_bytes = kern_screen_tile_bytes(s->n_blocks);
    s->n_tiles    = kern_tiles(s->config.rows);
}

uint64_t worker_screen_bytes(size_t rows, size_t cols, uint32_t n_vectors, int n_threads)
{
    worker_screen_t s = {
        .config = {.rows = rows, .cols = cols, .n_vectors = n_vectors, .n_threads = n_threads}};
    measure(&s);
    return lay_out(&s);
}

base_status_t worker_screen_create(const worker_screen_config_t *config, worker_screen_t **out,
                                   base_err_t *err)
{
    worker_screen_t *s = NULL;
    base_assert(config->cols >= 1 && config->cols <= KERN_SCREEN_MAX_COLS);
    base_assert(config->n_vectors >= 1 && config->n_threads >= 1);
    base_status_t st = base_alloc((void **)&s, 1, sizeof(*s), "screen of the head", err);
    if (st != BASE_OK) goto out;
    s->config = *config;
    measure(s);
    st = base_arena_create(&s->arena, lay_out(s), "screen of the head", err);
    if (st != BASE_OK) goto out;
    (void)lay_out(s);
    *out = s;
    s    = NULL;
out:
    worker_screen_destroy(&s);
    return st;
}

void worker_screen_destroy(worker_screen_t **screen)
{
    worker_screen_t *s = screen == NULL ? NULL : *screen;
    if (s == NULL) return;
    base_arena_destroy(&s->arena);
    free(s);
    *screen = NULL;
}

/* --- packing --- */

void worker_screen_pack(worker_screen_t *screen, worker_screen_row_fn *row, void *ctx,
                        float *rows16, int thread, int n_threads)
{
    const worker_screen_config_t *c = &screen->config;
    size_t                        b = 0;
    size_t                        e = 0;
    worker_share(screen->n_tiles, 1, thread, n_threads, &b, &e);
    for (size_t t = b; t < e; t++) {
        size_t n = base_min_size(KERN_TILE_ROWS, c->rows - t * KERN_TILE_ROWS);
        for (size_t r = 0; r < n; r++) row(ctx, t * KERN_TILE_ROWS + r, rows16 + r * c->cols);
        if (kern_screen_pack_tile(screen->tiles + t * screen->tile_bytes, rows16, c->cols, n,
                                  c->cols))
            continue;
        screen->unfit[(size_t)thread * UNFIT_STRIDE] = true;
        return;
    }
}

void worker_screen_share(const worker_screen_t *screen, int thread, int n_threads,
                         const uint8_t **begin, const uint8_t **end)
{
    size_t b = 0;
    size_t e = 0;
    worker_share(screen->n_tiles, 1, thread, n_threads, &b, &e);
    *begin = screen->tiles + b * screen->tile_bytes;
    *end   = screen->tiles + e * screen->tile_bytes;
}

/* --- the step --- */

void worker_screen_put(worker_screen_t *screen, uint32_t slot, const float *x, uint32_t k)
{
    slot_t *s = &screen->slots[slot];
    base_assert(slot < screen->config.n_vectors && k >= 1 && k <= WORKER_SCREEN_K_MAX);
    s->x        = x;
    s->k        = k;
    s->screened = kern_screen_quant(&s->q, x, screen->config.cols);
    for (int t = 0; t < screen->config.n_threads; t++)
        if (screen->unfit[(size_t)t * UNFIT_STRIDE]) s->screened = false;
}

/* The true logit of a row. */
static float logit(worker_screen_t *screen, const slot_t *s, size_t row, int thread)
{
    const worker_screen_config_t *c = &screen->config;
    float                         y = 0;
    kern_dense(c->kern, c->type)(&y, 1, c->head + row * c->row_bytes, c->row_bytes, 1, c->cols,
                                 s->x, c->cols, 1);
    screen->read[(size_t)thread * READ_STRIDE]++;
    return y;
}

static void touch(const worker_screen_t *screen, size_t row)
{
    const uint8_t *p = screen->config.head + row * screen->config.row_bytes;
    for (size_t i = 0; i < base_min_size(PREFETCH, screen->config.row_bytes); i += 64)
        __builtin_prefetch(p + i);
}

/* Without a screen: all of this thread's rows. */
static void read_all(worker_screen_t *screen, slot_t *s, list_t *l, size_t b, size_t e, int thread)
{
    const worker_screen_config_t *c = &screen->config;
    kern_dense(c->kern, c->type)(s->high + b, 1, c->head + b * c->row_bytes, c->row_bytes, e - b,
                                 c->cols, s->x, c->cols, 1);
    screen->read[(size_t)thread * READ_STRIDE] += e - b;
    for (size_t i = b; i < e; i++)
        insert(l, s->k, (worker_best_t){s->high[i], c->first_id + (uint32_t)i});
    for (size_t i = b; i < e; i++) s->high[i] = -INFINITY;
}

/* Replace the guesses of a list by the true logits of the same rows. */
static void confirm(worker_screen_t *screen, slot_t *s, list_t *l, int thread)
{
    const uint32_t first = screen->config.first_id;
    list_t         known;
    known.n = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        const size_t row = l->best[i].id - first;
        if (i + 1 < l->n) touch(screen, l->best[i + 1].id - first);
        s->high[row] = -INFINITY;
        insert(&known, s->k, (worker_best_t){logit(screen, s, row, thread), l->best[i].id});
    }
    l->n = known.n;
    memcpy(l->best, known.best, known.n * sizeof(known.best[0]));
}

/* Tiles [t0, t1) against one vector; candidates by coarse product. */
static void coarse(worker_screen_t *screen, slot_t *s, list_t *l, size_t t0, size_t t1, size_t end)
{
    float        mid[CHUNK_TILES * KERN_TILE_ROWS];
    const size_t b = t0 * KERN_TILE_ROWS, e = base_min_size(t1 * KERN_TILE_ROWS, end);
    screen->config.kern->screen_6(mid, s->high + b, screen->tiles + t0 * screen->tile_bytes,
                                  t1 - t0, screen->n_blocks, &s->q);
    for (size_t i = b; i < e; i++) {
        if (l->n == s->k && mid[i - b] <= l->best[s->k - 1].value) continue;
        insert(l, s->k, (worker_best_t){mid[i - b], screen->config.first_id + (uint32_t)i});
    }
}

void worker_screen_scan(worker_screen_t *screen, uint32_t n_slots, int thread, int n_threads)
{
    list_t *lists = screen->lists;
    size_t  rows  = screen->config.rows;
    size_t  b     = 0;
    size_t  e     = 0;
    base_assert(n_slots <= screen->config.n_vectors && n_threads == screen->config.n_threads);
    worker_share(screen->n_tiles, 1, thread, n_threads, &b, &e);
    for (uint32_t i = 0; i < n_slots; i++) {
        list_t *l = &lists[i * (size_t)n_threads + (size_t)thread];
        l->n      = 0;
        if (!screen->slots[i].screened)
            read_all(screen, &screen->slots[i], l, b * KERN_TILE_ROWS,
                     base_min_size(e * KERN_TILE_ROWS, rows), thread);
    }
    for (size_t t = b; t < e; t += CHUNK_TILES) {
        for (uint32_t i = 0; i < n_slots; i++) {
            if (!screen->slots[i].screened) continue;
            coarse(screen, &screen->slots[i], &lists[i * (size_t)n_threads + (size_t)thread], t,
                   base_min_size(t + CHUNK_TILES, e), rows);
        }
    }
    for (uint32_t i = 0; i < n_slots; i++)
        if (screen->slots[i].screened)
            confirm(screen, &screen->slots[i], &lists[i * (size_t)n_threads + (size_t)thread],
                    thread);
}

/* The k best of all threads' lists. */
static uint32_t gather(const worker_screen_t *screen, uint32_t slot, worker_best_t *out)
{
    const size_t  threads = (size_t)screen->config.n_threads;
    const list_t *l       = screen->lists + slot * threads;
    uint32_t      n       = 0;
    worker_best_t some[WORKER_SCREEN_K_MAX];
    for (size_t t = 0; t < threads; t++) {
        memcpy(some, out, n * sizeof(*out));
        n = worker_best_merge(out, screen->slots[slot].k, some, n, l[t].best, l[t].n);
    }
    return n;
}

float worker_screen_floor(const worker_screen_t *screen, uint32_t slot)
{
    worker_best_t  best[WORKER_SCREEN_K_MAX];
    const uint32_t k = screen->slots[slot].k;
    return gather(screen, slot, best) < k ? -INFINITY : best[k - 1].value;
}

void worker_screen_refine(worker_screen_t *screen, uint32_t slot, float floor, int thread,
                          int n_threads)
{
    slot_t *s = &screen->slots[slot];
    list_t *l = &screen->lists[slot * (size_t)n_threads + (size_t)thread];
    size_t  b = 0;
    size_t  e = 0;
    worker_share(screen->n_tiles, 1, thread, n_threads, &b, &e);
    e = base_min_size(e * KERN_TILE_ROWS, screen->config.rows);
    for (size_t i = b * KERN_TILE_ROWS; i < e; i++) {
        if (s->high[i] < floor || s->high[i] == -INFINITY) continue;
        insert(l, s->k,
               (worker_best_t){logit(screen, s, i, thread), screen->config.first_id + (uint32_t)i});
        /* k logits of this thread alone may be a better floor. */
        if (l->n == s->k && l->best[s->k - 1].value > floor) floor = l->best[s->k - 1].value;
    }
}

uint32_t worker_screen_best(const worker_screen_t *screen, uint32_t slot, worker_best_t *out)
{
    return gather(screen, slot, out);
}

uint64_t worker_screen_rows_read(const worker_screen_t *screen)
{
    uint64_t n = 0;
    for (int t = 0; t < screen->config.n_threads; t++) n += screen->read[(size_t)t * READ_STRIDE];
    return n;
}
