/* worker/measure_kernels.c: every kernel that streams weights, all threads of the team at once. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/order.h"
#include "model/model.h"
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/many.h"
#include "worker/kernels/probe.h"
#include "worker/kernels/screen.h"
#include "worker/measure.h"
#include "worker/measure_internal.h"

enum {
    COLS       = WORKER_MEASURE_COLS,
    TILES      = 8, /* of one call */
    ROWS       = TILES * KERN_TILE_ROWS,
    MANY_TILES = 64, /* of one ternary call with many tokens, as a share of a layer has */
    MANY_TOK   = 16,
    MAX_TOK    = 512,
    HEAD_DIM   = 128,
    PAIRS      = 5, /* of a row: looks at the bandwidth and spans of the kernel in turns */
    LOOK_US    = 6000,
    BATCH      = 8,  /* calls between two looks at the clock, where they are short */
    BATCH_TOK  = 16, /* up to so many tokens they are */
    FEW_ROWS   = 4,  /* query rows of attention: the heads of one token */
    MANY_ROWS  = 64, /* of a prompt */
    CHUNK      = 4,  /* tiles of the coarse head that all vectors take before the next (screen.c) */
    MAC_ROUNDS = 2000, /* of a probe between two looks at the clock */
    PEAK_SPANS = 8,    /* of the arithmetic peaks */
    PEAK_US    = 15000,
};
enum { DOCTOR_TURNS = 8, FEW_TURNS = 3 }; /* who asks for all has time */
#define QUICK_S 0.024                     /* of a row */
#define SLOW_S  1.0                       /* of a row, in spans of a fifth */
_Static_assert(ROWS *COLS * 4 + 64 <= WORKER_MEASURE_LEAST, "a call stays in its thread's part");
_Static_assert((int)MANY_TILES >= (int)KERN_MANY_TILES, "kernels do what they do in a step");
_Static_assert(MANY_TILES *KERN_TILE_ROWS *COLS / 4 + 64 <= WORKER_MEASURE_LEAST, "likewise");
_Static_assert(COLS % KERN_BLOCK_K == 0 && COLS % KERN_Q_PAD == 0, "no padding in the figures");

/* The types of slots that are measured; the others touch vectors, not weights. */
typedef enum {
    K_none,
    K_kern_tern_fn,
    K_kern_tern_block_fn,
    K_kern_dense_fn,
    K_kern_screen_fn,
    K_kern_attn_scores_fn,
    K_kern_attn_values_fn,
    K_kern_sumsq_fn      = K_none,
    K_kern_sum_fn        = K_none,
    K_kern_absmax_fn     = K_none,
    K_kern_quant_fn      = K_none,
    K_kern_norm_fn       = K_none,
    K_kern_scale_fn      = K_none,
    K_kern_add_fn        = K_none,
    K_kern_mul_fn        = K_none,
    K_kern_glu_fn        = K_none,
    K_kern_rope_fn       = K_none,
    K_kern_attn_merge_fn = K_none,
    K_kern_narrow_fn     = K_none,
    K_kern_div_fn        = K_none,
    K_kern_exp_fn        = K_none,
} kind_t;

enum {
#define X(slot, type) KIND_##slot = (int)K_##type,
    KERN_SLOTS(X)
#undef X
};

typedef void any_fn(void);

typedef struct {
    const char *slot, *variant;
    uint32_t    cpu_bits;
    int         kind;
    any_fn     *fn; /* of the kind's type */
} entry_t;

static const entry_t ENTRIES[] = {
#define KERN(slot, variant, cpu_bits)                                                              \
    {#slot, #variant, cpu_bits, KIND_##slot, (any_fn *)kern_##slot##__##variant},
#include "worker/kernels/kernel_list.inc"
#undef KERN
};
enum { N_ENTRIES = sizeof(ENTRIES) / sizeof(ENTRIES[0]) };

static const struct {
    const char *slot;
    size_t      k, bytes; /* a block of the stored type */
} DENSE[] = {
    {"dense_f32", 1, 4},      {"dense_f16", 1, 2},      {"dense_bf16", 1, 2},
    {"dense_q8_0", 32, 34},   {"dense_q6_k", 256, 210}, {"dense_q4_0", 32, 18},
    {"dense_q4_1", 32, 20},   {"dense_q5_0", 32, 22},   {"dense_q5_1", 32, 24},
    {"dense_q2_k", 256, 84},  {"dense_q3_k", 256, 110}, {"dense_q4_k", 256, 144},
    {"dense_q5_k", 256, 176}, {"dense_tq1_0", 256, 54}, {"dense_tq2_0", 256, 66},
};

typedef struct {
    worker_team_t          *team;
    const worker_measure_t *config;
    base_arena_t            arena;
    worker_meter_t         *meter;   /* whose memory the weights are */
    uint64_t                look_us; /* of plain reading before and after a span; 0: none */
    uint8_t                *weights;
    size_t                  weight_bytes;
    float                  *xs; /* inputs, shared by all threads */
    int8_t                 *qs;
    int32_t                *sums;
    uint32_t               *positions; /* [MANY_ROWS] KERN_PAGE */
    float                  *outs;      /* OUT_FLOATS a thread */
    double                 *rates;     /* rows of one value a thread, one a span */
    double                  mac_peak, fma_peak;
    bool                    cpu_time; /* spans end by the CPU time of each thread */
    /* the case under measurement */
    const entry_t *entry;
    size_t         n_tok, n_tiles, call_bytes; /* call_bytes: weights of a call, without padding */
} kernels_t;

enum { OUT_FLOATS = MAX_TOK * MANY_TILES * KERN_TILE_ROWS };
_Static_assert(OUT_FLOATS >= MANY_ROWS * (HEAD_DIM + KERN_PAGE + 2), "attention's outputs");

/* ---- one call ---- */

static const kern_format_t *format_of(const entry_t *e)
{
    return kern_format(strstr(e->slot, "_t3_") != NULL ? KERN_T3 : KERN_T2);
}

static size_t dense_row_bytes(const entry_t *e)
{
    for (size_t i = 0; i < sizeof(DENSE) / sizeof(DENSE[0]); i++)
        if (strcmp(e->slot, DENSE[i].slot) == 0) return COLS / DENSE[i].k * DENSE[i].bytes;
    base_assert(false); /* a stored type without a row in DENSE */
    return 0;
}

static size_t scale_bytes(void)
{
    return ROWS * (COLS / KERN_BLOCK_K) * sizeof(float);
}

/* ref does the same whatever the number, and would take seconds a call. */
static size_t tiles_of(const entry_t *e, size_t n_tok)
{
    const bool many = e->kind == K_kern_tern_fn && e->cpu_bits != 0 && n_tok >= MANY_TOK;

    return many ? MANY_TILES : TILES;
}

/* Bytes that a call of n tiles reads, and weights among them. */
static size_t call_bytes(const entry_t *e, size_t n, size_t *weights)
{
    const bool half = strstr(e->slot, "f16") != NULL;

    *weights = n * KERN_TILE_ROWS * COLS;
    switch (e->kind) {
    case K_kern_tern_fn: return n * kern_tile_bytes(format_of(e), COLS);
    case K_kern_tern_block_fn:
        return TILES * kern_tile_bytes(kern_format(KERN_T2), COLS) + scale_bytes();
    case K_kern_dense_fn: return ROWS * dense_row_bytes(e);
    case K_kern_screen_fn: return TILES * kern_screen_tile_bytes(kern_screen_blocks(COLS));
    default: *weights = KERN_PAGE * HEAD_DIM; return *weights * (half ? 2 : 4);
    }
}

static void call_screen(const kernels_t *k, const uint8_t *w, float *out)
{
    const size_t n = kern_screen_blocks(COLS), chunk = k->n_tok == 1 ? TILES : CHUNK;

    for (size_t t = 0; t < TILES; t += chunk) {
        for (size_t v = 0; v < k->n_tok; v++) {
            int8_t               *q = k->qs + 2 * v * COLS;
            const kern_screen_x_t x = {q, q + COLS, k->sums, k->xs, k->xs + n, 1, 1};
            ((kern_screen_fn *)k->entry->fn)(out, out + ROWS, w + t * kern_screen_tile_bytes(n),
                                             chunk, n, &x);
        }
    }
}

static void call(const kernels_t *k, const uint8_t *w, float *out)
{
    const entry_t *e     = k->entry;
    const size_t   n_tok = k->n_tok;

    switch (e->kind) {
    case K_kern_tern_fn:
        ((kern_tern_fn *)e->fn)((int32_t *)(void *)out, k->n_tiles * KERN_TILE_ROWS, w, k->n_tiles,
                                kern_granules(format_of(e), COLS), k->qs, COLS, k->sums, n_tok);
        break;
    case K_kern_tern_block_fn:
        ((kern_tern_block_fn *)e->fn)(out, ROWS, w + scale_bytes(), (const float *)(const void *)w,
                                      TILES, COLS / KERN_T2_K, k->qs, COLS, k->sums, n_tok);
        break;
    case K_kern_dense_fn:
        ((kern_dense_fn *)e->fn)(out, ROWS, w, dense_row_bytes(e), ROWS, COLS, k->xs, COLS, n_tok);
        break;
    case K_kern_screen_fn: call_screen(k, w, out); break;
    case K_kern_attn_scores_fn: {
        float *m = out + MANY_ROWS * KERN_PAGE;
        ((kern_attn_scores_fn *)e->fn)(out, m, m + MANY_ROWS, k->xs, n_tok, w, k->positions,
                                       HEAD_DIM, 0.088f);
        break;
    }
    case K_kern_attn_values_fn:
        ((kern_attn_values_fn *)e->fn)(out, k->xs, n_tok, w, k->positions, HEAD_DIM);
        break;
    default: break;
    }
}

/* ---- one row ---- */

static uint64_t span_clock_us(const kernels_t *k)
{
    struct timespec t;

    if (!k->cpu_time) return base_clock_us();
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* Calls per second of this thread for a while, going on at *at. */
static double row_span(const kernels_t *k, float *out, uint64_t span_us, size_t begin, size_t end,
                       size_t *at)
{
    const size_t   step  = (k->call_bytes + 63) / 64 * 64;
    const size_t   n     = k->n_tok <= BATCH_TOK && k->n_tiles == TILES ? BATCH : 1;
    const uint64_t start = span_clock_us(k);
    uint64_t       spent = 0, calls = 0;

    while (spent < span_us || spent == 0) {
        for (size_t i = 0; i < n; i++, *at += step) {
            if (*at + step > end) *at = begin;
            call(k, k->weights + *at, out);
        }
        calls += n;
        spent = span_clock_us(k) - start;
    }
    return (double)calls * 1e6 / (double)spent;
}

/* An odd number of them, each of 20 ms or more. */
static int pairs_of(const worker_measure_t *config)
{
    const int n = config->seconds < 0.02 * PAIRS ? (int)(config->seconds / 0.02) : PAIRS;

    return n < 1 ? 1 : n - 1 + n % 2;
}

static void row_thread(void *ctx, int thread, int n_threads)
{
    kernels_t     *k     = ctx;
    float         *out   = k->outs + (size_t)thread * OUT_FLOATS;
    const int      pairs = pairs_of(k->config);
    const uint64_t span  = (uint64_t)(k->config->seconds * 1e6 / pairs);
    const int      way   = worker_meter_way(k->meter);
    double        *looks = k->rates + PAIRS * n_threads;
    size_t         begin, end, at;

    worker_share(k->weight_bytes, 64, thread, n_threads, &begin, &end);
    at = begin;
    call(k, k->weights + at, out); /* code and inputs come into the caches */
    for (int s = 0; s <= pairs; s++) {
        worker_team_barrier(k->team);
        looks[s * n_threads + thread] =
            k->look_us > 0 ? worker_meter_span(k->meter, thread, way, k->look_us) : 1;
        worker_team_barrier(k->team);
        if (s < pairs) k->rates[s * n_threads + thread] = row_span(k, out, span, begin, end, &at);
    }
}

static double sum_of(const double *v, int n)
{
    double sum = 0;

    for (int i = 0; i < n; i++) sum += v[i];
    return sum;
}

/* The best span: calls per second of all threads together. */
static double best_rate(const kernels_t *k, int n_threads, int n_spans)
{
    double best = 0;

    for (int s = 0; s < n_spans; s++) {
        const double sum = sum_of(k->rates + s * n_threads, n_threads);
        if (sum > best) best = sum;
    }
    return best;
}

/* Calls per second, and bytes that plain reading took before and after them, of the pair with the
 * median ratio. */
static double median_pair(const kernels_t *k, int n_threads, double *read)
{
    const double *looks = k->rates + PAIRS * n_threads;
    const int     pairs = pairs_of(k->config);
    double        rate[PAIRS], around[PAIRS];

    for (int s = 0; s < pairs; s++) {
        const double r = sum_of(k->rates + s * n_threads, n_threads);
        const double a = sum_of(looks + s * n_threads, 2 * n_threads) / 2;
        int          i = s;

        for (; i > 0 && rate[i - 1] * a > r * around[i - 1]; i--)
            rate[i] = rate[i - 1], around[i] = around[i - 1];
        rate[i] = r, around[i] = a;
    }
    *read = around[pairs / 2];
    return rate[pairs / 2];
}

static worker_measure_row_t measure_row(kernels_t *k, const entry_t *e, size_t n_tok)
{
    const int            n       = worker_team_size(k->team);
    const bool           whole   = e->kind == K_kern_tern_fn || e->kind == K_kern_tern_block_fn;
    const bool           ints    = whole || e->kind == K_kern_screen_fn;
    const double         peak    = ints ? k->mac_peak : k->fma_peak;
    size_t               weights = 0;
    worker_measure_row_t row     = {.slot = e->slot, .variant = e->variant};

    row.n_threads = (uint32_t)n;
    row.n_tok     = (uint32_t)n_tok;
    k->entry      = e;
    k->n_tok      = n_tok;
    k->n_tiles    = tiles_of(e, n_tok);
    k->call_bytes = call_bytes(e, k->n_tiles, &weights);
    worker_team_run(k->team, row_thread, k);
    const double rate   = median_pair(k, n, &row.read_bytes_per_s);
    row.n_weights       = weights;
    row.bytes_per_s     = rate * (double)k->call_bytes;
    row.products_per_s  = rate * (double)weights * (double)n_tok;
    row.bits_per_weight = 8.0 * (double)k->call_bytes / (double)weights;
    row.bandwidth_share = row.bytes_per_s / row.read_bytes_per_s;
    row.peak_share      = row.products_per_s / peak;
    return row;
}

/* ---- the probes ---- */

typedef struct {
    kernels_t    *k;
    kern_probes_t probes;
    int           n_active;
    bool          floats;
    float        *sink;
} peak_t;

static void peak_thread(void *ctx, int thread, int n_threads)
{
    const peak_t *p = ctx;

    (void)n_threads;
    for (int s = 0; s < PEAK_SPANS; s++) {
        worker_team_barrier(p->k->team);
        if (thread >= p->n_active) continue;
        const uint64_t start = base_clock_us();
        uint64_t       spent = 0, rounds = 0;

        while (spent < PEAK_US) {
            p->sink[thread] += p->floats ? p->probes.probe_fma(MAC_ROUNDS, 1.0f, 1.0f)
                                         : (float)p->probes.probe_mac(MAC_ROUNDS, 3, -5);
            rounds += MAC_ROUNDS;
            spent = base_clock_us() - start;
        }
        p->k->rates[s * p->n_active + thread] = (double)rounds * 1e6 / (double)spent;
    }
}

static double measure_peak(kernels_t *k, kern_probes_t probes, int n_active, bool floats)
{
    peak_t p = {k, probes, n_active, floats, k->xs};

    worker_team_run(k->team, peak_thread, &p);
    return best_rate(k, n_active, PEAK_SPANS) * (floats ? KERN_PROBE_FMAS : KERN_PROBE_MACS);
}

enum { N_PROBES = 3 };

static uint32_t probe_rows(int n_threads)
{
    return n_threads > 1 ? 2 * N_PROBES : N_PROBES;
}

/* Those of one thread, then of all: the figures that the rows are set against. */
static base_status_t measure_probes(kernels_t *k, uint32_t total, base_err_t *err)
{
    const kern_probes_t probes = kern_probes(worker_measure_features(k->config->cpu));
    const int           n      = worker_team_size(k->team);
    double              read   = 0;
    uint32_t            done   = 0;
    base_status_t       st     = BASE_OK;

    for (int active = 1; st == BASE_OK; active = n) {
        st = worker_measure_bandwidth(k->team, active, k->config->cpu, &read, err);
        if (st != BASE_OK) break;
        k->mac_peak                               = measure_peak(k, probes, active, false);
        k->fma_peak                               = measure_peak(k, probes, active, true);
        const worker_measure_row_t rows[N_PROBES] = {
            {.slot        = "probe_read",
             .variant     = probes.name.probe_read,
             .n_threads   = (uint32_t)active,
             .bytes_per_s = read},
            {.slot           = "probe_mac",
             .variant        = probes.name.probe_mac,
             .n_threads      = (uint32_t)active,
             .products_per_s = k->mac_peak},
            {.slot           = "probe_fma",
             .variant        = probes.name.probe_fma,
             .n_threads      = (uint32_t)active,
             .products_per_s = k->fma_peak},
        };
        for (int i = 0; i < N_PROBES && st == BASE_OK; i++)
            st = k->config->row(k->config->ctx, &rows[i], ++done, total, err);
        if (active == n) break;
    }
    return st;
}

/* ---- all of them ---- */

/* The numbers of tokens that a slot is measured with, ended by 0. */
static const uint16_t *tokens_of(const entry_t *e)
{
    static const uint16_t none[] = {0}, one[] = {1, 0}, few[] = {4, 16, 64, MAX_TOK, 0};
    static const uint16_t dense[] = {1, 64, 0}, attention[] = {FEW_ROWS, MANY_ROWS, 0};

    switch (e->kind) {
    case K_kern_tern_fn:
    case K_kern_tern_block_fn: return strncmp(e->slot, "gemv", 4) == 0 ? one : few;
    case K_kern_dense_fn: return dense;
    case K_kern_screen_fn: return one;
    case K_kern_attn_scores_fn:
    case K_kern_attn_values_fn: return attention;
    default: return none;
    }
}

static bool wanted(const worker_measure_t *config, const entry_t *e)
{
    const uint32_t have = worker_measure_features(config->cpu);
    char           name[128];

    (void)snprintf(name, sizeof(name), "%s.%s", e->slot, e->variant);
    return (have & e->cpu_bits) == e->cpu_bits &&
           (config->filter == NULL || strstr(name, config->filter) != NULL);
}

/* Slot after slot, the variants of each weak to strong: the list has all of one variant together.
 * count: only do that. */
static base_status_t walk(kernels_t *k, uint32_t *done, uint32_t total, bool count, base_err_t *err)
{
    base_status_t st = BASE_OK;

    for (int i = 0; i < N_ENTRIES; i++) {
        if (ENTRIES[i].cpu_bits != 0) continue; /* ref/ comes first and names the slot */
        for (int j = i; j < N_ENTRIES && st == BASE_OK; j++) {
            const entry_t *e = &ENTRIES[j];
            if (strcmp(e->slot, ENTRIES[i].slot) != 0 || !wanted(k->config, e)) continue;
            for (const uint16_t *n = tokens_of(e); *n != 0 && st == BASE_OK; n++) {
                (*done)++;
                if (count) continue;
                const worker_measure_row_t row = measure_row(k, e, *n);
                st = k->config->row(k->config->ctx, &row, *done, total, err);
            }
        }
    }
    return st;
}

enum {
    X_BYTES    = 64 * COLS * (int)sizeof(float),
    Q_BYTES    = MAX_TOK * COLS,
    SUM_BYTES  = MAX_TOK * (COLS / KERN_BLOCK_K) * (int)sizeof(int32_t),
    N_RATES    = 2 * PAIRS + 1 > PEAK_SPANS ? 2 * PAIRS + 1 : PEAK_SPANS,
    SMALL_SLOP = 4096, /* rounding to 64 bytes */
};
_Static_assert(MANY_ROWS *HEAD_DIM <= 64 * COLS, "queries lie in xs");

static base_status_t inputs(kernels_t *k, base_err_t *err)
{
    const size_t  n     = (size_t)worker_team_size(k->team);
    const size_t  rates = N_RATES * n * sizeof(double);
    const size_t  ends  = MANY_ROWS * sizeof(uint32_t);
    base_status_t st =
        base_arena_create(&k->arena, X_BYTES + Q_BYTES + SUM_BYTES + rates + ends + SMALL_SLOP,
                          "kernels' inputs", err);

    if (st != BASE_OK) return st;
    k->xs        = base_arena_take(&k->arena, X_BYTES);
    k->qs        = base_arena_take(&k->arena, Q_BYTES);
    k->sums      = base_arena_take(&k->arena, SUM_BYTES);
    k->rates     = base_arena_take(&k->arena, rates);
    k->positions = base_arena_take(&k->arena, ends);
    for (size_t i = 0; i < 64 * COLS; i++) k->xs[i] = (float)(i % 97) * 0.02f - 1.0f;
    for (size_t i = 0; i < Q_BYTES; i++) k->qs[i] = (int8_t)(i * 37 % 255 - 127);
    for (size_t i = 0; i < MANY_ROWS; i++) k->positions[i] = KERN_PAGE;
    return BASE_OK;
}

/* The meter, whose memory are the weights of all rows, and outputs. */
static base_status_t open_kernels(kernels_t *k, base_arena_t *arena, base_err_t *err)
{
    const int     n    = worker_team_size(k->team);
    const size_t  outs = (size_t)n * OUT_FLOATS * sizeof(float);
    base_status_t st   = worker_meter_create(k->team, n, k->config->cpu, &k->meter, err);

    if (st == BASE_OK) st = base_arena_create(arena, outs + SMALL_SLOP, "kernels' outputs", err);
    if (st != BASE_OK) return st;
    k->weights = worker_meter_memory(k->meter, &k->weight_bytes);
    k->outs    = base_arena_take(arena, outs);
    if (k->look_us > 0) (void)worker_meter_look(k->meter); /* finds the way */
    return BASE_OK;
}

base_status_t worker_measure_kernels(worker_team_t *team, const worker_measure_t *config,
                                     base_err_t *err)
{
    kernels_t     k     = {.team = team, .config = config, .look_us = LOOK_US};
    base_arena_t  arena = {0};
    uint32_t      total = probe_rows(worker_team_size(team));
    uint32_t      done  = total;
    base_status_t st    = BASE_OK;

    base_assert(config->row != NULL && config->seconds > 0);
    (void)walk(&k, &total, 0, true, err);
    st = inputs(&k, err);
    if (st == BASE_OK) st = measure_probes(&k, total, err);
    if (st == BASE_OK) st = open_kernels(&k, &arena, err);
    if (st == BASE_OK) st = walk(&k, &done, total, false, err);
    worker_meter_destroy(&k.meter);
    base_arena_destroy(&arena);
    base_arena_destroy(&k.arena);
    return st;
}

/* ---- the packed formats alone ---- */

/* The strongest variant of a slot that may be used. */
static const entry_t *strongest(const worker_measure_t *config, const char *slot)
{
    const entry_t *best = NULL;

    for (int i = 0; i < N_ENTRIES; i++)
        if (strcmp(ENTRIES[i].slot, slot) == 0 && wanted(config, &ENTRIES[i])) best = &ENTRIES[i];
    base_assert(best != NULL);
    return best;
}

static double best(const double *v, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++)
        if (v[i] > most) most = v[i];
    return most;
}

static const char *const gemv[WORKER_PACKS] = {"gemv_t2_i8", "gemv_t3_i8"};
static const char *const gemm[WORKER_PACKS] = {"gemm_t2_i8", "gemm_t3_i8"};

/* Of a slot, with many tokens. */
static double products_of(kernels_t *k, const char *slot, size_t n_tok)
{
    return measure_row(k, strongest(k->config, slot), n_tok).products_per_s;
}

/* seen[]: what is measured in turns, each the median of its own. */
enum {
    SEEN_GEMV,
    SEEN_GEMM  = SEEN_GEMV + WORKER_PACKS,
    SEEN_DENSE = SEEN_GEMM + WORKER_PACKS,
    SEEN
};

static void measure_one_and_many(kernels_t *k, int turns, worker_pack_rate_t *rates,
                                 worker_plan_rate_t *plan)
{
    double seen[SEEN][DOCTOR_TURNS];

    for (int i = 0; i < turns; i++) {
        for (int p = 0; p < WORKER_PACKS; p++) {
            seen[SEEN_GEMV + p][i] = products_of(k, gemv[p], 1);
            seen[SEEN_GEMM + p][i] = products_of(k, gemm[p], WORKER_PACK_TOKENS);
        }
        if (plan == NULL) continue;
        seen[SEEN_DENSE][i] = measure_row(k, strongest(k->config, "dense_f16"), 1).bytes_per_s;
    }
    for (int p = 0; p < WORKER_PACKS; p++) {
        const double *one = seen[SEEN_GEMV + p], *many = seen[SEEN_GEMM + p];
        rates[p].gemv =
            plan != NULL ? base_median_f64(seen[SEEN_GEMV + p], (size_t)turns) : best(one, turns);
        rates[p].gemm =
            plan != NULL ? base_median_f64(seen[SEEN_GEMM + p], (size_t)turns) : best(many, turns);
    }
    if (plan != NULL) plan->dense = base_median_f64(seen[SEEN_DENSE], (size_t)turns);
}

/* What few vectors reach, and one of the coarse head. portion: of the CPU time that the threads get
 * when spans are by CPU time; else 1. */
static void measure_few(kernels_t *k, int turns, double portion, worker_plan_rate_t *plan)
{
    const struct {
        const char *slot;
        double     *out;
    } rows[] = {{gemm[WORKER_PACK_T2], plan->few.t2},
                {gemm[WORKER_PACK_T3], plan->few.t3},
                {"dense_f16", plan->few.dense},
                {"screen_6", plan->few.screen}};
    enum { ROWS_FEW = sizeof(rows) / sizeof(rows[0]) };
    double seen[ROWS_FEW][PART_FEW][FEW_TURNS], screen[FEW_TURNS];

    for (int i = 0; i < turns; i++) {
        screen[i] = measure_row(k, strongest(k->config, "screen_6"), 1).bytes_per_s;
        for (int r = 0; r < ROWS_FEW; r++)
            for (int f = 0; f < PART_FEW; f++)
                seen[r][f][i] = products_of(k, rows[r].slot, part_few_vectors[f]);
    }
    plan->screen = portion * base_median_f64(screen, (size_t)turns);
    for (int r = 0; r < ROWS_FEW; r++)
        for (int f = 0; f < PART_FEW; f++)
            rows[r].out[f] = portion * base_median_f64(seen[r][f], (size_t)turns);
}

base_status_t worker_measure_packs(worker_team_t *team, const char *cpu, bool slow,
                                   worker_pack_rate_t *rates, worker_plan_rate_t *plan,
                                   base_err_t *err)
{
    const worker_measure_t config  = {.cpu = cpu, .seconds = slow ? SLOW_S : QUICK_S};
    const worker_measure_t quick   = {.cpu = cpu, .seconds = QUICK_S};
    kernels_t              k       = {.team = team, .config = &config, .mac_peak = 1};
    base_arena_t           arena   = {0};
    double                 portion = 1;
    base_status_t          st      = inputs(&k, err);

    memset(rates, 0, WORKER_PACKS * sizeof(*rates));
    if (plan != NULL) *plan = (worker_plan_rate_t){.want_few = plan->want_few};
    if (st == BASE_OK) st = open_kernels(&k, &arena, err);
    if (st != BASE_OK) goto out;
    measure_one_and_many(&k, slow ? 1 : plan != NULL ? DOCTOR_TURNS : 3, rates, plan);
    if (plan == NULL || !plan->want_few) goto out;
    k.config = &quick;
    if (slow) {
        k.cpu_time = true;
        portion =
            rates[WORKER_PACK_T2].gemm / products_of(&k, gemm[WORKER_PACK_T2], WORKER_PACK_TOKENS);
    }
    measure_few(&k, slow ? 1 : FEW_TURNS, portion, plan);
out:
    worker_meter_destroy(&k.meter);
    base_arena_destroy(&arena);
    base_arena_destroy(&k.arena);
    return st;
}

uint64_t worker_kernels_version(void)
{
    static const char names[] =
#define KERN(slot, variant, cpu_bits) #slot "." #variant " "
#include "worker/kernels/kernel_list.inc"
#undef KERN
        ;
    return model_bytes_hash64(names, sizeof(names) - 1);
}
