/* tests/worker/screen.c
 * timeout: 300
 * labels: threads
 * The screened head against brute force: its k best rows are those of the full product, ids and
 * bits, over heads meant to hurt; the bound holds against exact arithmetic and is not idle. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "partition/plan.h"
#include "worker/kernels/screen.h"
#include "worker/screen.h"
#include "worker/team.h"

enum { MAX_ROWS = 6000, MAX_COLS = 2560, MAX_SLOTS = 3 };

static uint64_t rng_state = 0x9e3779b97f4a7c15u;

static double uniform(void) /* 0..1, never 0 */
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return ((double)(rng_state >> 11) + 0.5) * 0x1p-53;
}

static double normal(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

/* --- heads and vectors --- */

typedef enum {
    GAUSS,      /* what random weights are */
    HEAVY,      /* a few huge columns and elements */
    EQUAL,      /* all rows the same: ties alone */
    ULP_APART,  /* rows that differ by one unit in the last place of one element */
    ZERO_ROWS,  /* most rows zero, the others tiny */
    MIXED_NORM, /* norms over twelve decades */
    SUBNORMAL,  /* weights that are subnormal floats */
    HUGE_ROWS,  /* logits near 2^67 */
    TURNED,     /* each row +- the vector itself, scaled: large sums */
    DISTS
} dist_t;

static const char *const NAMES[DISTS] = {"gauss",     "heavy",     "equal",
                                         "ulp",       "zero rows", "mixed norm",
                                         "subnormal", "huge rows", "turned"};

static void make_row(dist_t d, size_t r, float *w, size_t n, const float *x, const float *first)
{
    for (size_t j = 0; j < n; j++) {
        double v = normal();
        if (d == HEAVY) v *= (j % 97 == 3 ? 50 : 1) * (uniform() < 0.01 ? 30 : 1);
        if (d == MIXED_NORM) v *= pow(10, (double)(r % 13) - 6);
        if (d == SUBNORMAL) v *= 1e-39;
        if (d == HUGE_ROWS) v *= 0x1p37;
        if (d == ZERO_ROWS) v *= r % 5 == 0 ? 1e-20 : 0;
        if (d == TURNED) v = (r % 2 ? -1.0 : 1.0) * (1 + (double)(r / 2) * 1e-4) * (double)x[j];
        w[j] = (float)v;
        if (r > 0 && (d == EQUAL || d == ULP_APART)) w[j] = first[j];
    }
    if (d != ULP_APART) return;
    float *at = &w[r % n];
    *at       = nextafterf(*at, r % 3 == 0 ? INFINITY : -INFINITY);
}

static void make_vector(dist_t d, float *x, size_t n)
{
    for (size_t j = 0; j < n; j++) {
        x[j] = (float)(normal() * (d == HEAVY && j % 61 == 7 ? 80 : 1));
        if (d == HUGE_ROWS) x[j] *= 0x1p30f;
        if (d == MIXED_NORM && j % 3 == 0) x[j] *= 1e-12f;
        if (d == ZERO_ROWS && j % 64 < 32) x[j] = 0;
    }
}

static float         *head; /* [MAX_ROWS][cols] */
static float         *x;    /* [MAX_SLOTS][cols] */
static float         *full; /* [MAX_ROWS] */
static worker_best_t *got;  /* [MAX_SLOTS][K_MAX] */

static int by_order(const void *a, const void *b)
{
    const worker_best_t *l = a, *r = b;
    const bool           odd = !isfinite(l->value);
    if (odd != !isfinite(r->value)) return odd ? -1 : 1;
    if (odd) return l->id < r->id ? -1 : l->id > r->id;
    if (l->value != r->value) return l->value > r->value ? -1 : 1;
    return l->id < r->id ? -1 : l->id > r->id;
}

/* --- a step by a team --- */

typedef struct {
    worker_team_t   *team;
    worker_screen_t *screen;
    size_t           rows, cols;
    const float     *head;
    float           *rows16; /* [threads][16][cols] */
    uint32_t         slots, k, n[MAX_SLOTS];
    float            floor[MAX_SLOTS];
    float            other_floor; /* as if from another rank */
} job_t;

static void read_row(void *ctx, size_t row, float *out)
{
    const job_t *j = ctx;
    memcpy(out, j->head + row * j->cols, j->cols * sizeof(float));
}

static void pack(void *ctx, int thread, int n)
{
    job_t *j = ctx;
    worker_screen_pack(j->screen, read_row, j, j->rows16 + (size_t)thread * 16 * j->cols, thread,
                       n);
}

static void step(void *ctx, int thread, int n)
{
    job_t *j = ctx;
    for (uint32_t i = 0; i < j->slots; i++)
        if (i % (uint32_t)n == (uint32_t)thread)
            worker_screen_put(j->screen, i, x + i * j->cols, j->k);
    worker_team_barrier(j->team);
    worker_screen_scan(j->screen, j->slots, thread, n);
    worker_team_barrier(j->team);
    for (uint32_t i = 0; thread == 0 && i < j->slots; i++)
        j->floor[i] = fmaxf(worker_screen_floor(j->screen, i), j->other_floor);
    worker_team_barrier(j->team);
    for (uint32_t i = 0; i < j->slots; i++)
        worker_screen_refine(j->screen, i, j->floor[i], thread, n);
    worker_team_barrier(j->team);
    for (uint32_t i = 0; thread == 0 && i < j->slots; i++)
        j->n[i] = worker_screen_best(j->screen, i, got + i * WORKER_SCREEN_K_MAX);
}

/* The full product, sorted. */
static void brute(const kern_table_t *t, const job_t *j, const float *v, worker_best_t *out)
{
    t->dense_f32(full, MAX_ROWS, j->head, j->cols * sizeof(float), j->rows, j->cols, v, j->cols, 1);
    for (size_t r = 0; r < j->rows; r++) out[r] = (worker_best_t){full[r], (uint32_t)r + 1000};
    qsort(out, j->rows, sizeof(*out), by_order);
}

static void compare(const job_t *j, uint32_t slot, const worker_best_t *want, const char *name)
{
    const worker_best_t *g = got + slot * WORKER_SCREEN_K_MAX;
    const uint32_t       n = j->k < j->rows ? j->k : (uint32_t)j->rows;
    assert_int_equal(j->n[slot], n);
    for (uint32_t i = 0; i < n; i++)
        if (g[i].id != want[i].id || memcmp(&g[i].value, &want[i].value, sizeof(float)) != 0)
            fail_msg("%s, %zu x %zu, k %u: place %u is row %u (%a), not %u (%a)", name, j->rows,
                     j->cols, j->k, i, g[i].id, (double)g[i].value, want[i].id,
                     (double)want[i].value);
}

static double run_head(const kern_table_t *t, dist_t d, size_t rows, size_t cols, int threads,
                       uint32_t slots, worker_best_t *want)
{
    static const uint32_t  ks[] = {1, 2, 40, 100, WORKER_SCREEN_K_MAX};
    job_t                  j    = {.rows = rows, .cols = cols, .head = head, .slots = slots};
    worker_screen_config_t c    = {.kern      = t,
                                   .head      = (const uint8_t *)head,
                                   .type      = KERN_F32,
                                   .row_bytes = cols * sizeof(float),
                                   .rows      = rows,
                                   .cols      = cols,
                                   .first_id  = 1000,
                                   .n_vectors = slots,
                                   .n_threads = threads};
    double                 read = 0;
    base_err_t             err  = {0};

    for (uint32_t i = 0; i < slots; i++) make_vector(d, x + i * cols, cols);
    for (size_t r = 0; r < rows; r++) make_row(d, r, head + r * cols, cols, x, head);
    j.other_floor = -INFINITY;
    j.rows16      = calloc((size_t)threads * 16 * cols, sizeof(float));
    assert_non_null(j.rows16);
    assert_int_equal(worker_team_create(threads, NULL, false, false, &j.team, &err), BASE_OK);
    assert_int_equal(worker_screen_create(&c, &j.screen, &err), BASE_OK);
    worker_team_run(j.team, pack, &j);
    for (size_t i = 0; i < sizeof(ks) / sizeof(ks[0]); i++) {
        j.k             = ks[i];
        uint64_t before = worker_screen_rows_read(j.screen);
        worker_team_run(j.team, step, &j);
        if (i == 0) read = (double)(worker_screen_rows_read(j.screen) - before) / slots;
        for (uint32_t s = 0; s < slots; s++) {
            brute(t, &j, x + s * cols, want);
            compare(&j, s, want, NAMES[d]);
        }
        /* Another rank's floor, the k-th of all: nothing of the k best may be lost. */
        if (slots > 1 || j.k > rows) continue;
        j.other_floor = want[j.k - 1].value;
        worker_team_run(j.team, step, &j);
        compare(&j, 0, want, NAMES[d]);
        j.other_floor = -INFINITY;
    }
    worker_screen_destroy(&j.screen);
    worker_team_destroy(&j.team);
    free(j.rows16);
    return read;
}

static void the_best_rows_are_those_of_the_full_product(void **state)
{
    static const size_t shapes[][2] = {{1, 1},      {15, 7},    {17, 33},   {100, 64},
                                       {1003, 100}, {2048, 96}, {777, 576}, {6000, 128}};
    worker_best_t      *want        = calloc(MAX_ROWS, sizeof(*want));
    assert_non_null(want);
    (void)state;
    for (uint32_t features = 0; features < 4; features = features * 2 + 1) {
        kern_table_t t;
        if ((features & kern_cpu_features()) != features) continue;
        kern_table_init(&t, features);
        for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
            /* ref is slow: every other shape. */
            if (features == 0 && i % 2 == 0) continue;
            for (int d = 0; d < DISTS; d++) {
                int    threads = 1 + (int)(i + (size_t)d) % 3;
                double read    = run_head(&t, (dist_t)d, shapes[i][0], shapes[i][1], threads,
                                          1 + (uint32_t)(i % MAX_SLOTS), want);
                if (shapes[i][0] == 6000)
                    printf("%s, %s: %.0f of 6000 rows read for the best\n", kern_cpu_name(features),
                           NAMES[d], read);
                /* Not idle: where rows differ, few are read. */
                if (shapes[i][0] == 6000 && d == GAUSS) assert_true(read < 600);
            }
        }
    }
    free(want);
}

/* --- the bound --- */

/* dot16 of the row lies at or below high; and how much of the bound the coarse error uses. */
static void the_bound_holds(void **state)
{
    enum { TILES = 40, VECTORS = 60 };
    static const size_t cols[] = {1, 31, 32, 100, 576, 2560};
    double              use = 0, used = 0;
    uint64_t            pairs = 0;
    kern_table_t        t;
    (void)state;
    kern_table_init(&t, kern_cpu_features());
    for (size_t ci = 0; ci < sizeof(cols) / sizeof(cols[0]); ci++) {
        size_t          n = cols[ci], blocks = kern_screen_blocks(n);
        size_t          bytes = kern_screen_tile_bytes(blocks), rows = 16 * TILES;
        uint8_t        *tiles = aligned_alloc(64, TILES * bytes);
        int8_t         *q     = calloc(2, KERN_SCREEN_K * blocks);
        float          *f     = calloc(2 * blocks, sizeof(float));
        int32_t        *bias  = calloc(blocks, sizeof(int32_t));
        float          *mid = calloc(2 * rows, sizeof(float)), *high = mid + rows;
        kern_screen_x_t s = {q, q + KERN_SCREEN_K * blocks, bias, f, f + blocks, 0, 0};
        assert_true(tiles != NULL && q != NULL && f != NULL && bias != NULL && mid != NULL);
        for (int d = 0; d < DISTS; d++) {
            make_vector((dist_t)d, x, n);
            for (size_t r = 0; r < rows; r++) make_row((dist_t)d, r, head + r * n, n, x, head);
            for (size_t i = 0; i < TILES; i++)
                assert_true(kern_screen_pack_tile(tiles + i * bytes, head + 16 * i * n, n, 16, n));
            for (int v = 0; v < VECTORS; v++) {
                if (v > 0) make_vector((dist_t)d, x, n);
                /* The vector that a row's errors love most: the row's own residual signs. */
                if (v % 4 == 3)
                    for (size_t j = 0; j < n; j++) x[j] = copysignf(x[j], head[(size_t)v * n + j]);
                if (!kern_screen_quant(&s, x, n)) continue;
                t.screen_6(mid, high, tiles, TILES, blocks, &s);
                t.dense_f32(full, rows, head, n * sizeof(float), rows, n, x, n, 1);
                for (size_t r = 0; r < rows; r++) {
                    if (!(full[r] <= high[r]) || !isfinite(high[r]))
                        fail_msg("%s, %zu columns, row %zu: %a above %a", NAMES[d], n, r,
                                 (double)full[r], (double)high[r]);
                    /* the same distance below: errors have no side */
                    double e    = (double)high[r] - (double)mid[r];
                    double lost = fabs((double)full[r] - (double)mid[r]);
                    if (lost > e * (1 + 1e-6) + 1e-37)
                        fail_msg("%s, %zu columns, row %zu: off by %a, bound %a", NAMES[d], n, r,
                                 lost, e);
                    if (d == GAUSS && n == 2560) use = fmax(use, lost / e), used += lost / e;
                }
                pairs += rows;
            }
        }
        free(mid), free(bias), free(f), free(q), free(tiles);
    }
    printf("%llu pairs; gauss, 2560 columns: error over bound %.3f at most, %.3f on average\n",
           (unsigned long long)pairs, use, used / (VECTORS * 16.0 * TILES));
    assert_true(use > 0.03);
}

/* A vector along the residual of a row makes the bound tight: an error the bound must cover, close
 * to all of it. */
static void the_bound_is_nearly_reached(void **state)
{
    enum { N = 576, BLOCKS = N / KERN_SCREEN_K };
    double          best = 0;
    kern_table_t    t;
    uint8_t        *tile = aligned_alloc(64, kern_screen_tile_bytes(BLOCKS));
    static int8_t   q[2 * N];
    static int32_t  bias[BLOCKS];
    static float    f[2 * BLOCKS], mid[16], high[16], w[16 * N];
    kern_screen_x_t s = {q, q + N, bias, f, f + BLOCKS, 0, 0};
    (void)state;
    assert_non_null(tile);
    kern_table_init(&t, kern_cpu_features());
    for (int round = 0; round < 20; round++) {
        for (size_t j = 0; j < (size_t)16 * N; j++) w[j] = (float)normal();
        assert_true(kern_screen_pack_tile(tile, w, N, 16, N));
        /* The residual of row 0, by its products with unit vectors. */
        static float left[N];
        for (size_t j = 0; j < N; j++) {
            memset(x, 0, N * sizeof(float));
            x[j] = 1;
            assert_true(kern_screen_quant(&s, x, N));
            t.screen_6(mid, high, tile, 1, BLOCKS, &s);
            left[j] = w[j] - mid[0];
        }
        assert_true(kern_screen_quant(&s, left, N));
        t.screen_6(mid, high, tile, 1, BLOCKS, &s);
        float y = 0;
        t.dense_f32(&y, 1, w, sizeof(float) * N, 1, N, left, N, 1);
        assert_true(y <= high[0]);
        best = fmax(best, ((double)y - (double)mid[0]) / ((double)high[0] - (double)mid[0]));
    }
    printf("along a row's residual the error is %.3f of the bound\n", best);
    assert_true(best > 0.85);
    free(tile);
}

/* --- what cannot be screened --- */

static void odd_numbers_fall_back(void **state)
{
    kern_table_t   t;
    base_err_t     err  = {0};
    job_t          j    = {.rows = 300, .cols = 64, .head = head, .slots = 1, .k = 5};
    worker_best_t *want = calloc(MAX_ROWS, sizeof(*want));
    (void)state;
    assert_non_null(want);
    kern_table_init(&t, kern_cpu_features());
    worker_screen_config_t c = {.kern      = &t,
                                .head      = (const uint8_t *)head,
                                .type      = KERN_F32,
                                .row_bytes = 64 * sizeof(float),
                                .rows      = 300,
                                .cols      = 64,
                                .first_id  = 1000,
                                .n_vectors = 1,
                                .n_threads = 2};
    j.other_floor            = -INFINITY;
    j.rows16                 = calloc(2 * 16 * 64, sizeof(float));
    assert_int_equal(worker_team_create(2, NULL, false, false, &j.team, &err), BASE_OK);
    for (int odd = 0; odd < 6; odd++) {
        make_vector(GAUSS, x, 64);
        for (size_t r = 0; r < 300; r++) make_row(GAUSS, r, head + r * 64, 64, x, head);
        if (odd == 0) head[200 * 64 + 3] = INFINITY;
        if (odd == 1) head[17 * 64] = 3e38f;
        if (odd == 2) memset(x, 0, 64 * sizeof(float));
        if (odd == 3) x[5] = 1e30f;
        if (odd == 4) x[5] = INFINITY;
        if (odd == 5)
            for (size_t i = 0; i < 64; i++) x[i] *= 1e-30f;
        assert_int_equal(worker_screen_create(&c, &j.screen, &err), BASE_OK);
        worker_team_run(j.team, pack, &j);
        worker_team_run(j.team, step, &j);
        assert_int_equal(worker_screen_rows_read(j.screen), 300);
        brute(&t, &j, x, want);
        compare(&j, 0, want, "odd numbers");
        worker_screen_destroy(&j.screen);
    }
    worker_team_destroy(&j.team);
    free(j.rows16);
    free(want);
}

static void sizes_are_those_of_the_plan(void **state)
{
    static const size_t shapes[][2] = {{1, 1}, {16, 64}, {1003, 100}, {49152, 576}, {128256, 2560}};
    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        assert_int_equal(worker_screen_coarse_bytes(shapes[i][0], shapes[i][1]),
                         part_screen_bytes(shapes[i][0], shapes[i][1]));
    /* 6 bits a weight, 8 a block of 64, 96 a row, as the layout says */
    assert_int_equal(worker_screen_coarse_bytes(128256, 2560),
                     (uint64_t)128256 * (2560 * 6 / 8 + 2560 / 64 + 12));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_rows_are_those_of_the_full_product),
        cmocka_unit_test(the_bound_holds),
        cmocka_unit_test(the_bound_is_nearly_reached),
        cmocka_unit_test(odd_numbers_fall_back),
        cmocka_unit_test(sizes_are_those_of_the_plan),
    };
    head = calloc((size_t)MAX_ROWS * 640, sizeof(float));
    x    = calloc((size_t)MAX_SLOTS * MAX_COLS, sizeof(float));
    full = calloc(MAX_ROWS, sizeof(float));
    got  = calloc((size_t)MAX_SLOTS * WORKER_SCREEN_K_MAX, sizeof(*got));
    if (head == NULL || x == NULL || full == NULL || got == NULL) return 1;
    int failed = cmocka_run_group_tests_name("worker.screen", tests, NULL, NULL);
    free(head), free(x), free(full), free(got);
    return failed;
}
