/* tests/kernels/check.c
 * Every row of kernel_list.inc against ref/, byte for byte (any NaN equals any NaN), over edge
 * sizes and data meant to hurt. Inputs and outputs end at a page that faults; bytes before and
 * between outputs are compared too. */
#include "tests/kernels/kern_test.h"

/* Where a failure happened: row, and the parameters of the case. */
static struct {
    const char *slot, *variant;
    char        params[160];
    size_t      cases;
} now;

static region_t in_a, in_b, in_c, in_d, in_e, out_want, out_got;

#define CASE(...)                                                                                  \
    do {                                                                                           \
        (void)snprintf(now.params, sizeof now.params, __VA_ARGS__);                                \
        now.cases++;                                                                               \
    } while (0)

static void fail_at(const char *what, size_t i)
{
    fail_msg("%s.%s: %s %zu differs: %s", now.slot, now.variant, what, i, now.params);
}

/* Whole output buffers, with the guard before them. */
static void same_bytes(const void *want, const void *got, size_t bytes)
{
    const uint8_t *a = (const uint8_t *)want - GUARD_BYTES, *b = (const uint8_t *)got - GUARD_BYTES;

    if (memcmp(a, b, bytes + GUARD_BYTES) == 0) return;
    for (size_t i = 0; i < bytes + GUARD_BYTES; i++) {
        if (a[i] != b[i]) fail_at("byte (256 of guard first)", i);
    }
}

static void same_float(float want, float got, size_t i)
{
    if (memcmp(&want, &got, sizeof want) == 0 || (isnan(want) && isnan(got))) return;
    printf("want %a got %a\n", (double)want, (double)got);
    fail_at("float", i);
}

static void same_floats(const float *want, const float *got, size_t n)
{
    same_bytes(want, got, 0);
    if (memcmp(want, got, n * sizeof *want) == 0) return;
    for (size_t i = 0; i < n; i++) same_float(want[i], got[i], i);
}

/* ---- Ternary products ---- */

typedef enum {
    TERN_RANDOM,
    TERN_UP_LOW,
    TERN_DOWN_LOW,
    TERN_UP_HIGH,
    TERN_ALTERNATE,
    TERN_ZERO,
    TERN_KINDS
} tern_kind_t;

static void tern_data(int8_t *trits, size_t n, int8_t *q, size_t nq, tern_kind_t kind)
{
    for (size_t i = 0; i < n; i++) {
        switch (kind) {
        case TERN_RANDOM: trits[i] = (int8_t)((int)(rng_u32() % 3) - 1); break;
        case TERN_DOWN_LOW: trits[i] = -1; break;
        case TERN_ALTERNATE: trits[i] = i % 2 != 0 ? 1 : -1; break;
        case TERN_ZERO: trits[i] = 0; break;
        default: trits[i] = 1; break;
        }
    }
    for (size_t i = 0; i < nq; i++) {
        switch (kind) {
        case TERN_UP_LOW:
        case TERN_DOWN_LOW: q[i] = -128; break;
        case TERN_UP_HIGH: q[i] = 127; break;
        case TERN_ALTERNATE: q[i] = i % 2 != 0 ? 127 : -128; break;
        default: q[i] = (int8_t)rng_u32(); break;
        }
    }
}

static void tern_case(kern_tern_fn *fn, kern_tern_fn *ref, const kern_format_t *f, size_t k,
                      size_t n_tiles, size_t n_tok, size_t more, tern_kind_t kind)
{
    const size_t tile     = kern_tile_bytes(f, k);
    const size_t q_stride = kern_q_stride(k) + KERN_Q_PAD * more;
    const size_t stride   = 16 * n_tiles + 3 * more;
    int8_t      *trits    = region_take(&in_a, 16 * k);
    int8_t      *q        = region_take(&in_b, n_tok * q_stride);
    uint8_t     *w        = region_take(&in_c, n_tiles * tile);
    int32_t     *qsum     = region_take(&in_d, n_tok * sizeof *qsum);
    int32_t     *want     = region_take(&out_want, n_tok * stride * sizeof *want);
    int32_t     *got      = region_take(&out_got, n_tok * stride * sizeof *got);

    CASE("k %zu, tiles %zu, tokens %zu, spare stride %zu, data %d", k, n_tiles, n_tok, more,
         (int)kind);
    tern_data(trits, 16 * k, q, n_tok * q_stride, kind);
    for (size_t i = 0; i < n_tiles; i++) {
        /* The last tile is short. */
        f->pack_tile(w + i * tile, trits, k, i + 1 == n_tiles ? 11 : 16, k);
        if (kind == TERN_RANDOM && k > 0) trits[rng_u32() % (16 * k)] = 0;
    }
    for (size_t t = 0; t < n_tok; t++) {
        memset(q + t * q_stride + k, 0, q_stride - k);
        qsum[t] = 0;
        for (size_t j = 0; j < k; j++) qsum[t] += q[t * q_stride + j];
    }
    ref(want, stride, w, n_tiles, kern_granules(f, k), q, q_stride, qsum, n_tok);
    fn(got, stride, w, n_tiles, kern_granules(f, k), q, q_stride, qsum, n_tok);
    same_bytes(want, got, n_tok * stride * sizeof *want);
}

static void check_kern_tern_fn(kern_tern_fn *fn, kern_tern_fn *ref)
{
    static const size_t ks[]  = {0,  1,  15, 16,  17,  19,  20,  21,  31,  32,  33,  63,  64,  65,
                                 79, 80, 81, 127, 128, 129, 159, 161, 240, 241, 255, 256, 257, 321};
    static const size_t big[] = {2560, 6912}, many[] = {23, 24, 25, 36, 47, 48, 49, 73};
    /* Past every interval after which a variant must widen, and the largest K of the contract. */
    static const size_t  extreme[] = {28672, 32000, 32020, 131072, 524288 - 8};
    const kern_format_t *f   = kern_format(strstr(now.slot, "_t3_") != NULL ? KERN_T3 : KERN_T2);
    const bool           one = strncmp(now.slot, "gemv", 4) == 0;

    for (size_t i = 0; i < COUNT(ks); i++) {
        for (size_t tiles = 0; tiles <= 5; tiles++)
            for (size_t tok = 1; tok <= (one ? 1 : 12); tok++)
                tern_case(fn, ref, f, ks[i], tiles, tok, tok % 2, TERN_RANDOM);
        for (int kind = 0; kind < TERN_KINDS; kind++) {
            tern_case(fn, ref, f, ks[i], 5, one ? 1 : 17, 1, (tern_kind_t)kind);
        }
    }
    for (size_t i = 0; i < COUNT(big); i++) { /* more tokens than a variant may pass to its gemv */
        tern_case(fn, ref, f, big[i], 5, one ? 1 : 9, 0, TERN_RANDOM);
        tern_case(fn, ref, f, big[i], 3, one ? 1 : 8, 0, TERN_UP_LOW);
    }
    /* Many tokens for few tiles and for many, at the edges of the groups they may be cut to. */
    for (size_t i = 0; i < COUNT(many) && !one; i++)
        for (size_t tiles = 7; tiles <= 9; tiles++)
            tern_case(fn, ref, f, 321, tiles, many[i], i % 2, i < 4 ? TERN_RANDOM : TERN_UP_LOW);
    for (size_t i = 0; i < COUNT(many) && !one; i++) /* whole panels, chunks that end anywhere */
        tern_case(fn, ref, f, 180 + ks[i + 9], 31 + i, many[i], 1, (tern_kind_t)(i % TERN_KINDS));
    for (size_t i = 0; i < COUNT(extreme); i++) {
        const tern_kind_t last = extreme[i] < 100000 ? TERN_ALTERNATE : TERN_DOWN_LOW;
        for (int kind = TERN_UP_LOW; kind <= (int)last; kind++) {
            tern_case(fn, ref, f, extreme[i], 1, one ? 1 : 7, 0, (tern_kind_t)kind);
        }
    }
}

/* ---- Block-scaled ternary products ---- */

static void block_case(kern_tern_block_fn *fn, kern_tern_block_fn *ref, size_t k, size_t n_tiles,
                       size_t n_tok, size_t more, tern_kind_t kind, float_kind_t scale_kind)
{
    const kern_format_t *f    = kern_format(KERN_T2);
    const size_t         tile = kern_tile_bytes(f, k), granules = kern_granules(f, k);
    const size_t         n_blocks = kern_blocks(granules);
    const size_t         q_stride = kern_q_stride(k) + KERN_Q_PAD * more;
    const size_t         stride   = 16 * n_tiles + 3 * more;
    int8_t              *trits    = region_take(&in_a, 16 * k);
    int8_t              *q        = region_take(&in_b, n_tok * q_stride);
    uint8_t             *w        = region_take(&in_c, n_tiles * tile);
    float               *scales   = float_take(&in_d, n_tiles * n_blocks * 16, scale_kind);
    int32_t             *qsum     = region_take(&in_e, n_tok * n_blocks * sizeof *qsum);
    float               *want     = region_take(&out_want, n_tok * stride * sizeof *want);
    float               *got      = region_take(&out_got, n_tok * stride * sizeof *got);

    CASE("k %zu, tiles %zu, tokens %zu, spare stride %zu, data %d, scales %d", k, n_tiles, n_tok,
         more, (int)kind, (int)scale_kind);
    for (size_t i = 0; i < n_tiles; i++) {
        tern_data(trits, 16 * k, q, n_tok * q_stride, kind);
        f->pack_tile(w + i * tile, trits, k, i + 1 == n_tiles ? 11 : 16, k);
    }
    for (size_t t = 0; t < n_tok; t++) {
        if (n_tiles == 0) tern_data(trits, 0, q + t * q_stride, k, kind);
        memset(q + t * q_stride + k, 0, q_stride - k);
        kern_block_sums(qsum + t * n_blocks, q + t * q_stride, granules * KERN_T2_K);
    }
    ref(want, stride, w, scales, n_tiles, granules, q, q_stride, qsum, n_tok);
    fn(got, stride, w, scales, n_tiles, granules, q, q_stride, qsum, n_tok);
    same_floats(want, got, n_tok * stride);
}

static void check_kern_tern_block_fn(kern_tern_block_fn *fn, kern_tern_block_fn *ref)
{
    static const size_t ks[] = {0,   1,   16,  17,  128, 255, 256,  257,  272, 273,
                                511, 512, 513, 768, 784, 800, 1024, 1100, 2560};
    const bool          one  = strncmp(now.slot, "gemv", 4) == 0;

    for (size_t i = 0; i < COUNT(ks); i++) {
        for (size_t tiles = 0; tiles <= 5; tiles++) {
            for (size_t tok = 1; tok <= (one ? 1 : 12); tok++) {
                block_case(fn, ref, ks[i], tiles, tok, tok % 2, TERN_RANDOM, FLOAT_UNIT);
            }
        }
        for (int kind = 0; kind < TERN_KINDS * FLOAT_KINDS; kind++) {
            block_case(fn, ref, ks[i], 5, one ? 1 : 9, 1, (tern_kind_t)(kind % TERN_KINDS),
                       (float_kind_t)(kind / TERN_KINDS));
        }
    }
    block_case(fn, ref, 6912, 5, one ? 1 : 29, 0, TERN_RANDOM, FLOAT_UNIT);
    block_case(fn, ref, 28672, 2, one ? 1 : 7, 0, TERN_DOWN_LOW, FLOAT_UNIT);
}

/* ---- Dense rows ---- */

/* Elements and bytes of a block; the high bytes of its halves (scale, minimum). */
typedef struct {
    const char *slot;
    size_t      k, bytes, half, minimum;
} dense_unit_t;

static const dense_unit_t DENSE_UNITS[] = {
    {"dense_f32", 1, 4, 0, 0},        {"dense_f16", 1, 2, 0, 0},
    {"dense_bf16", 1, 2, 0, 0},       {"dense_q8_0", 32, 34, 1, 0},
    {"dense_q4_0", 32, 18, 1, 0},     {"dense_q4_1", 32, 20, 1, 3},
    {"dense_q5_0", 32, 22, 1, 0},     {"dense_q5_1", 32, 24, 1, 3},
    {"dense_q2_k", 256, 84, 81, 83},  {"dense_q3_k", 256, 110, 109, 0},
    {"dense_q4_k", 256, 144, 1, 3},   {"dense_q5_k", 256, 176, 1, 3},
    {"dense_q6_k", 256, 210, 209, 0}, {"dense_tq1_0", 256, 54, 53, 0},
    {"dense_tq2_0", 256, 66, 65, 0},
};

/* Random bytes make any bit pattern, NaN too; `tame` keeps halves and floats finite and near 1. */
static void dense_data(const dense_unit_t *u, uint8_t *w, size_t row_bytes, size_t n_rows, size_t k,
                       bool tame)
{
    for (size_t i = 0; i < row_bytes * n_rows; i++) w[i] = (uint8_t)rng_u32();
    if (!tame) return;
    for (size_t r = 0; r < n_rows; r++) {
        uint8_t *row = w + r * row_bytes;

        for (size_t j = 0; j < k; j++) {
            const float unit = rng_unit();
            if (strstr(now.slot, "_f32") != NULL) memcpy(row + 4 * j, &unit, 4);
            if (strstr(now.slot, "_f16") != NULL) row[2 * j + 1] = (uint8_t)(0x30 + rng_u32() % 12);
            if (strstr(now.slot, "_bf16") != NULL) row[2 * j + 1] = 0x3e + rng_u32() % 2;
        }
        for (size_t at = 0; at + u->bytes <= u->bytes * (k / u->k) && u->half > 0; at += u->bytes) {
            row[at + u->half] = u->k == 32 ? 0x2c : 0x1c;
            if (u->minimum > 0) row[at + u->minimum] = u->k == 32 ? 0x2c : 0x1c;
        }
    }
}

static void dense_case(kern_dense_fn *fn, kern_dense_fn *ref, const dense_unit_t *u, size_t k,
                       size_t n_rows, size_t n_tok, size_t more, bool tame, float_kind_t kind)
{
    const size_t bytes     = k / u->k * u->bytes;
    const size_t row_bytes = bytes + more, x_stride = k + more, stride = n_rows + more;
    /* The last row ends with the region, hence no spare bytes after it. */
    const size_t w_bytes = n_rows > 0 ? row_bytes * n_rows - more : 0;
    uint8_t     *w       = region_take(&in_a, w_bytes + more);
    float       *x       = float_take(&in_b, x_stride * n_tok - more, kind);
    float       *want    = region_take(&out_want, n_tok * stride * sizeof *want);
    float       *got     = region_take(&out_got, n_tok * stride * sizeof *got);

    CASE("k %zu, rows %zu, tokens %zu, spare stride %zu, tame %d, x %d", k, n_rows, n_tok, more,
         tame, (int)kind);
    dense_data(u, w, row_bytes, n_rows, k, tame);
    memmove(w + more, w, w_bytes);
    ref(want, stride, w + more, row_bytes, n_rows, k, x, x_stride, n_tok);
    fn(got, stride, w + more, row_bytes, n_rows, k, x, x_stride, n_tok);
    same_floats(want, got, n_tok * stride);
}

static void check_kern_dense_fn(kern_dense_fn *fn, kern_dense_fn *ref)
{
    static const size_t ks[]    = {1,  2,  15,  16,  17,  31,  32,  33, 47,
                                   48, 79, 127, 128, 129, 255, 256, 257};
    static const size_t toks[]  = {1, 2, 3, 4, 5, 9};
    static const size_t edges[] = {6, 7, 8, 11, 12, 13, 23, 24, 25, 30, 64, 65, 95, 96, 97, 127};
    const dense_unit_t *u       = DENSE_UNITS;

    while (strcmp(u->slot, now.slot) != 0) u++;
    for (size_t i = 0; i < COUNT(ks); i++) {
        /* Blocks: whole numbers of them, 1..5 and 10. */
        const size_t n = u->k == 1 ? ks[i] : i < 5 ? i + 1 : 10;

        if (u->k > 1 && i > 5) break;
        for (size_t n_rows = 0; n_rows <= 9; n_rows++) {
            const size_t tok = toks[(i + n_rows) % COUNT(toks)];
            dense_case(fn, ref, u, n * u->k, n_rows, tok, n_rows % 4, true, FLOAT_UNIT);
        }
        for (int kind = 0; kind < FLOAT_KINDS; kind++) {
            dense_case(fn, ref, u, n * u->k, 5, 5, 2, kind % 2 == 0, (float_kind_t)kind);
        }
    }
    dense_case(fn, ref, u, 2560, 7, 6, 0, true, FLOAT_UNIT);
    /* Past the pieces of columns, rows and tokens that a variant may cut, and at their edges. */
    dense_case(fn, ref, u, u->k == 1 ? 1043 : 1280, 6, 29, 1, true, FLOAT_UNIT);
    dense_case(fn, ref, u, u->k == 1 ? 1555 : 1792, 17, 99, 3, true, FLOAT_UNIT);
    for (size_t i = 0; i < COUNT(edges); i++) {
        for (size_t n_rows = 15; n_rows <= 18; n_rows++) {
            dense_case(fn, ref, u, 256, n_rows, edges[i], i % 3, true, FLOAT_UNIT);
        }
        dense_case(fn, ref, u, u->k == 1 ? 783 + i : 1024, 4, edges[i], 1, true, FLOAT_UNIT);
    }
}

/* ---- Coarse rows of the head ---- */

static void screen_case(kern_screen_fn *fn, kern_screen_fn *ref, size_t n_blocks, size_t n_tiles,
                        int extreme, float_kind_t kind)
{
    const size_t    bytes = kern_screen_tile_bytes(n_blocks), n = 16 * n_tiles;
    const size_t    k    = KERN_SCREEN_K * n_blocks;
    uint8_t        *w    = region_take(&in_a, bytes * n_tiles);
    int8_t         *q    = region_take(&in_b, 2 * k);
    int32_t        *bias = region_take(&in_c, n_blocks * sizeof *bias);
    float          *f    = float_take(&in_d, 2 * n_blocks, kind);
    kern_screen_x_t x    = {q, q + k, bias, f, f + n_blocks, float_make(kind), float_make(kind)};
    float          *want = region_take(&out_want, 2 * n * sizeof *want);
    float          *got  = region_take(&out_got, 2 * n * sizeof *got);

    CASE("blocks %zu, tiles %zu, extreme %d, floats %d", n_blocks, n_tiles, extreme, (int)kind);
    for (size_t i = 0; i < bytes * n_tiles; i++) w[i] = extreme != 0 ? 0xff : (uint8_t)rng_u32();
    for (size_t i = 0; i < n_tiles; i++) {
        for (size_t r = 0; r < 48; r++) {
            const float v = float_make(kind);
            memcpy(w + bytes * i + 4 * r, &v, sizeof v);
        }
    }
    for (size_t i = 0; i < 2 * k; i++) {
        q[i] = (int8_t)(extreme == 0 ? (int)(rng_u32() & 255u) - 128 : extreme < 0 ? -128 : 127);
    }
    memset(bias, 0, n_blocks * sizeof *bias);
    for (size_t i = 0; i < k; i++) bias[i / KERN_SCREEN_K] += 32 * (256 * q[i] + q[k + i]);
    ref(want, want + n, w, n_tiles, n_blocks, &x);
    fn(got, got + n, w, n_tiles, n_blocks, &x);
    same_floats(want, got, 2 * n);
}

static void check_kern_screen_fn(kern_screen_fn *fn, kern_screen_fn *ref)
{
    for (size_t n_blocks = 1; n_blocks <= 21; n_blocks++) {
        for (size_t tiles = 0; tiles <= 4; tiles++) {
            screen_case(fn, ref, n_blocks, tiles, 0, FLOAT_UNIT);
        }
        for (int kind = 0; kind < FLOAT_KINDS; kind++) {
            screen_case(fn, ref, n_blocks, 3, kind % 3 - 1, (float_kind_t)kind);
        }
    }
    screen_case(fn, ref, 80, 5, 0, FLOAT_UNIT);
    screen_case(fn, ref, KERN_SCREEN_MAX_COLS / KERN_SCREEN_K, 1, 1, FLOAT_UNIT);
}

/* ---- Vectors ---- */

static const size_t LENGTHS[] = {0,  1,  2,  7,   8,   9,   15,  16,  17,  31,  32,  33,   47,  48,
                                 49, 79, 80, 127, 128, 129, 255, 256, 257, 640, 641, 2560, 6912};
#define EACH_VECTOR(n, kind)                                                                       \
    for (size_t l_ = 0, n = 0; l_ < COUNT(LENGTHS) && (n = LENGTHS[l_], true); l_++)               \
        for (float_kind_t kind = FLOAT_UNIT; kind < FLOAT_KINDS; kind = (float_kind_t)(kind + 1))

static float *take_want(size_t n)
{
    return region_take(&out_want, n * sizeof(float));
}

static float *take_got(size_t n)
{
    return region_take(&out_got, n * sizeof(float));
}

static void check_kern_sumsq_fn(kern_sumsq_fn *fn, kern_sumsq_fn *ref)
{
    static const size_t blocks[] = {1, 16, 32, 64, 80, 100, 128};

    EACH_VECTOR(n, kind)
    {
        for (size_t b = 0; b < COUNT(blocks); b++) {
            const size_t n_out = (n + blocks[b] - 1) / blocks[b];
            const float *x     = float_take(&in_a, n, kind);
            float       *want = take_want(n_out), *got = take_got(n_out);

            CASE("n %zu, block %zu, x %d", n, blocks[b], (int)kind);
            ref(want, x, n, blocks[b]);
            fn(got, x, n, blocks[b]);
            same_floats(want, got, n_out);
        }
    }
}

static void check_kern_sum_fn(kern_sum_fn *fn, kern_sum_fn *ref)
{
    EACH_VECTOR(n, kind)
    {
        const float *x = float_take(&in_a, n, kind);

        CASE("n %zu, x %d", n, (int)kind);
        same_float(ref(x, n), fn(x, n), 0);
    }
}

static void check_kern_absmax_fn(kern_absmax_fn *fn, kern_absmax_fn *ref)
{
    EACH_VECTOR(n, kind)
    {
        float       *x = float_take(&in_a, n, kind);
        const float *w = float_take(&in_b, n, kind == FLOAT_WILD ? FLOAT_UNIT : kind);

        CASE("n %zu, x %d", n, (int)kind);
        same_float(ref(x, w, n), fn(x, w, n), 0);
        same_float(ref(x, NULL, n), fn(x, NULL, n), 1);
        for (size_t i = 0; i < n; i += 37) {
            const float old = x[i];
            x[i]            = NAN; /* one anywhere must show */
            assert_true(isnan(ref(x, w, n)) && isnan(fn(x, w, n)) && isnan(fn(x, NULL, n)));
            x[i] = old;
        }
    }
}

static void check_kern_quant_fn(kern_quant_fn *fn, kern_quant_fn *ref)
{
    static const float steps[] = {0.01f, 0.0f, 1e-30f, 2.0f, 1e38f, INFINITY, NAN};

    EACH_VECTOR(n, kind)
    {
        for (size_t s = 0; s < COUNT(steps); s++) {
            const size_t n_pad = n + s * 5;
            float       *x     = float_take(&in_a, n, kind);
            const float *w     = s % 2 != 0 ? float_take(&in_b, n, FLOAT_UNIT) : NULL;
            int8_t      *want = region_take(&out_want, n_pad), *got = region_take(&out_got, n_pad);

            /* Ties to even. */
            for (size_t i = 0; i < n && steps[s] == 2.0f; i += 3) {
                x[i] = (float)(rng_u32() % 600) - 301.0f;
            }
            CASE("n %zu, n_pad %zu, x %d, w %d, d %g", n, n_pad, (int)kind, w != NULL,
                 (double)steps[s]);
            if (ref(want, x, w, steps[s], n, n_pad) != fn(got, x, w, steps[s], n, n_pad)) {
                fail_at("sum", 0);
            }
            same_bytes(want, got, n_pad);
        }
    }
}

static void check_kern_norm_fn(kern_norm_fn *fn, kern_norm_fn *ref)
{
    EACH_VECTOR(n, kind)
    {
        const float *x = float_take(&in_a, n, kind), *w = float_take(&in_b, n, FLOAT_UNIT);
        float       *want = take_want(n), *got = take_got(n);

        CASE("n %zu, x %d", n, (int)kind);
        ref(want, x, w, 0.37f, n);
        fn(got, x, w, 0.37f, n);
        same_floats(want, got, n);
        memcpy(got, x, n * sizeof *x);
        fn(got, got, w, 0.37f, n); /* in place */
        same_floats(want, got, n);
    }
}

static void check_kern_scale_fn(kern_scale_fn *fn, kern_scale_fn *ref)
{
    EACH_VECTOR(n, kind)
    {
        int32_t *acc  = region_take(&in_a, n * sizeof *acc);
        float   *want = take_want(n), *got = take_got(n);

        for (size_t i = 0; i < n; i++) acc[i] = (int32_t)(rng_u32() >> (rng_u32() % 32));
        if (n > 3) acc[0] = INT32_MIN, acc[1] = INT32_MAX, acc[2] = (1 << 24) + 1;
        float_fill(want, n, kind);
        memcpy(got, want, n * sizeof *want);
        CASE("n %zu, y %d", n, (int)kind);
        ref(want, acc, 1.7e-3f, n);
        fn(got, acc, 1.7e-3f, n);
        same_floats(want, got, n);
    }
}

static void check_kern_add_fn(kern_add_fn *fn, kern_add_fn *ref)
{
    EACH_VECTOR(n, kind)
    {
        const float *x    = float_take(&in_a, n, kind);
        float       *want = take_want(n), *got = take_got(n);

        CASE("n %zu, x %d", n, (int)kind);
        float_fill(want, n, kind);
        memcpy(got, want, n * sizeof *want);
        ref(want, x, n);
        fn(got, x, n);
        same_floats(want, got, n);
        ref(want, want, n);
        fn(got, got, n);
        same_floats(want, got, n);
    }
}

static void check_kern_mul_fn(kern_mul_fn *fn, kern_mul_fn *ref)
{
    EACH_VECTOR(n, kind)
    {
        const float s    = float_make(kind);
        float      *want = take_want(n), *got = take_got(n);

        CASE("n %zu, y %d", n, (int)kind);
        float_fill(want, n, kind);
        memcpy(got, want, n * sizeof *want);
        ref(want, s, n);
        fn(got, s, n);
        same_floats(want, got, n);
    }
}

static void check_kern_glu_fn(kern_glu_fn *fn, kern_glu_fn *ref)
{
    EACH_VECTOR(n, kind)
    {
        float       *gate = float_take(&in_a, n, kind);
        const float *up   = float_take(&in_b, n, FLOAT_UNIT);
        float       *want = take_want(n), *got = take_got(n);

        for (size_t i = 0; i < n && kind == FLOAT_UNIT; i++) gate[i] *= 100.0f;
        CASE("n %zu, gate %d", n, (int)kind);
        ref(want, gate, up, n);
        fn(got, gate, up, n);
        same_floats(want, got, n);
        memcpy(got, up, n * sizeof *up);
        fn(got, gate, got, n);
        same_floats(want, got, n);
        fn(gate, gate, up, n);
        for (size_t i = 0; i < n; i++) same_float(want[i], gate[i], i);
    }
}

static void check_kern_rope_fn(kern_rope_fn *fn, kern_rope_fn *ref)
{
    for (size_t rot = 0; rot <= 260; rot += 2) {
        for (float_kind_t kind = FLOAT_UNIT; kind < FLOAT_KINDS; kind = (float_kind_t)(kind + 1)) {
            const float *c    = float_take(&in_a, rot / 2, FLOAT_UNIT);
            const float *s    = float_take(&in_b, rot / 2, FLOAT_UNIT);
            float       *want = take_want(rot), *got = take_got(rot);

            float_fill(want, rot, kind);
            memcpy(got, want, rot * sizeof *want);
            CASE("rot %zu, x %d", rot, (int)kind);
            ref(want, c, s, rot);
            fn(got, c, s, rot);
            same_floats(want, got, rot);
        }
    }
}

/* ---- Attention ---- */

/* How the rows of one call end: all alike, as tokens of one page do, or anyhow. */
static const uint32_t *ends_make(size_t n_rows, size_t n_pos, int how)
{
    static uint32_t ends[KERN_MAX_GROUP];

    for (size_t r = 0; r < n_rows; r++) {
        size_t end = how == 0   ? n_pos
                     : how == 1 ? n_pos + r / 3
                                : 1 + (n_pos * 7 + r * 29) % KERN_PAGE;
        ends[r]    = (uint32_t)(end < KERN_PAGE ? end : KERN_PAGE);
    }
    return ends;
}

/* A whole page of a slot's type. */
static const void *page_make(region_t *r, bool half, size_t hd, float_kind_t kind)
{
    const float *x = float_take(r, KERN_PAGE * hd, kind);
    uint16_t    *h = NULL;

    if (!half) return x;
    h = region_take(&in_e, 2 * KERN_PAGE * hd);
    kern_narrow_f16__ref(h, x, KERN_PAGE * hd);
    return h;
}

static void scores_case(kern_attn_scores_fn *fn, kern_attn_scores_fn *ref, size_t n_rows,
                        size_t n_pos, int how, size_t hd, float_kind_t kind)
{
    const bool      half = ref == kern_attn_scores_f16__ref;
    const size_t    n = n_rows * (KERN_PAGE + 2), z = n_rows * (KERN_PAGE + 1);
    const size_t    m    = n_rows * KERN_PAGE;
    const uint32_t *ends = ends_make(n_rows, n_pos, how);
    const float    *q    = float_take(&in_a, n_rows * hd, kind);
    const void     *k    = page_make(&in_b, half, hd, kind == FLOAT_WILD ? FLOAT_UNIT : kind);
    float          *want = take_want(n), *got = take_got(n);

    CASE("rows %zu, positions %zu (%d), hd %zu, data %d", n_rows, n_pos, how, hd, (int)kind);
    ref(want, want + m, want + z, q, n_rows, k, ends, hd, 3.7f);
    fn(got, got + m, got + z, q, n_rows, k, ends, hd, 3.7f);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t j = ends[r]; j < KERN_PAGE; j++)
            want[r * KERN_PAGE + j] = got[r * KERN_PAGE + j] = 0; /* undefined */
    same_floats(want, got, n);
}

static void values_case(kern_attn_values_fn *fn, kern_attn_values_fn *ref, size_t n_rows,
                        size_t n_pos, int how, size_t hd, float_kind_t kind)
{
    const bool      half = ref == kern_attn_values_f16__ref;
    const uint32_t *ends = ends_make(n_rows, n_pos, how);
    const float    *e    = float_take(&in_a, n_rows * KERN_PAGE, FLOAT_UNIT);
    const void     *v    = page_make(&in_b, half, hd, kind);
    float          *want = take_want(n_rows * hd), *got = take_got(n_rows * hd);

    CASE("rows %zu, positions %zu (%d), hd %zu, data %d", n_rows, n_pos, how, hd, (int)kind);
    ref(want, e, n_rows, v, ends, hd);
    fn(got, e, n_rows, v, ends, hd);
    same_floats(want, got, n_rows * hd);
}

/* Rows, positions, ends, head sizes, data. */
#define EACH_PAGE(run)                                                                             \
    do {                                                                                           \
        static const size_t hds[] = {16, 32, 48, 64, 80, 96, 128, 144, 256};                       \
        for (size_t n_pos = 1; n_pos <= KERN_PAGE; n_pos++) {                                      \
            for (size_t n = 1; n <= 9; n++)                                                        \
                run(fn, ref, n, n_pos, (int)(n_pos + n) % 3, hds[(n_pos + n) % COUNT(hds)],        \
                    FLOAT_UNIT);                                                                   \
            for (int kind = 0; kind < FLOAT_KINDS; kind++)                                         \
                run(fn, ref, 5, n_pos, kind % 3, 80, (float_kind_t)kind);                          \
        }                                                                                          \
        for (int how = 0; how < 3; how++)                                                          \
            run(fn, ref, KERN_MAX_GROUP, KERN_PAGE / 2, how, 128, FLOAT_UNIT);                     \
    } while (0)

static void check_kern_attn_scores_fn(kern_attn_scores_fn *fn, kern_attn_scores_fn *ref)
{
    EACH_PAGE(scores_case);
}

static void check_kern_attn_values_fn(kern_attn_values_fn *fn, kern_attn_values_fn *ref)
{
    EACH_PAGE(values_case);
}

static void check_kern_attn_merge_fn(kern_attn_merge_fn *fn, kern_attn_merge_fn *ref)
{
    for (size_t i = 0; i < 400; i++) {
        const float_kind_t kind = (float_kind_t)(i % FLOAT_KINDS);
        const size_t       hd = 16 * (1 + i % 17), rows = 1 + i % 37;
        const size_t       n    = rows * (hd + 2);
        float             *p    = float_take(&in_a, n, kind);
        float             *want = take_want(n), *got = take_got(n);

        float_fill(want, n, kind);
        for (size_t r = 0; r < rows; r++) p[r] *= 30.0f, want[r] *= 30.0f;
        memcpy(got, want, n * sizeof *want);
        CASE("rows %zu, hd %zu, data %d", rows, hd, (int)kind);
        ref(want, want + rows, want + 2 * rows, p, p + rows, p + 2 * rows, rows, hd);
        fn(got, got + rows, got + 2 * rows, p, p + rows, p + 2 * rows, rows, hd);
        same_floats(want, got, n);
    }
}

/* Bits, not values: halves that are no numbers count too. */
static void check_kern_narrow_fn(kern_narrow_fn *fn, kern_narrow_fn *ref)
{
    enum { N = 1 << 16 };
    uint32_t *bits = region_take(&in_a, 4 * N);

    for (uint32_t round = 0; round < 64; round++) {
        uint16_t *want = region_take(&out_want, 2 * N), *got = region_take(&out_got, 2 * N);
        /* Every upper half with lower halves around the ties. */
        static const uint32_t low[] = {0, 1, 0xfff, 0x1000, 0x1001, 0x1fff, 0x2fff, 0x3000, 0x3001};
        for (uint32_t i = 0; i < N; i++) {
            const uint32_t pick = (i + round) % (COUNT(low) + 1);
            bits[i] = i << 16 | (pick < COUNT(low) ? low[pick] : (i * 2654435761u + round) >> 16);
        }
        CASE("round %u", round);
        ref(want, (const float *)(const void *)bits, N);
        fn(got, (const float *)(const void *)bits, N);
        assert_memory_equal(want, got, 2 * N);
    }
    for (size_t n = 16; n <= 256; n += 16) {
        const float *x    = float_take(&in_a, n, FLOAT_UNIT);
        uint16_t    *want = region_take(&out_want, 2 * n), *got = region_take(&out_got, 2 * n);
        CASE("n %zu", n);
        ref(want, x, n);
        fn(got, x, n);
        assert_memory_equal(want, got, 2 * n);
    }
}

static void check_kern_div_fn(kern_div_fn *fn, kern_div_fn *ref)
{
    EACH_VECTOR(n, kind)
    {
        const float *x    = float_take(&in_a, n, kind);
        const float  z    = float_make(kind);
        float       *want = take_want(n), *got = take_got(n);

        CASE("n %zu, x %d", n, (int)kind);
        ref(want, x, z, n);
        fn(got, x, z, n);
        same_floats(want, got, n);
    }
}

static void check_kern_exp_fn(kern_exp_fn *fn, kern_exp_fn *ref)
{
    enum { N = 1 << 16 };

    EACH_VECTOR(n, kind)
    {
        const float *x    = float_take(&in_a, n, kind);
        float       *want = take_want(n), *got = take_got(n);

        CASE("n %zu, x %d", n, (int)kind);
        ref(want, x, n);
        fn(got, x, n);
        same_floats(want, got, n);
    }
    /* Floats of every exponent and sign, among them the edges of the clamp. */
    for (uint32_t part = 0; part < 16; part++) {
        float *x    = region_take(&in_a, N * sizeof *x);
        float *want = take_want(N), *got = take_got(N);

        for (uint32_t i = 0; i < N; i++) {
            const uint32_t bits = (part << 28) + (i << 12) + (rng_u32() & 0xfffu);
            memcpy(x + i, &bits, sizeof bits);
            if (i % 4 == 0) x[i] = rng_unit() * 90.0f;
        }
        CASE("sweep %u", (unsigned)part);
        ref(want, x, N);
        fn(got, x, N);
        same_floats(want, got, N);
    }
}

/* ---- The loop over the list ---- */

/* TRIREME_TEST_VARIANT: the rows of this variant alone, for slow processors. */
static const char *only_variant;

#define X(slot_, type)                                                                             \
    static void check_##slot_(const char *variant, uint32_t cpu_bits, type *fn)                    \
    {                                                                                              \
        now.slot    = #slot_;                                                                      \
        now.variant = variant;                                                                     \
        now.cases   = 0;                                                                           \
        if (only_variant != NULL && strcmp(only_variant, variant) != 0) return;                    \
        if ((kern_cpu_features() & cpu_bits) != cpu_bits) {                                        \
            printf("%s.%s skipped: cpu lacks %s\n", #slot_, variant, kern_cpu_name(cpu_bits));     \
            return;                                                                                \
        }                                                                                          \
        check_##type(fn, kern_##slot_##__ref);                                                     \
        printf("%s.%s: %zu cases\n", #slot_, variant, now.cases);                                  \
    }
KERN_SLOTS(X)
#undef X

static void every_row_gives_the_bytes_of_ref(void **state)
{
    (void)state;
#define KERN(slot, variant, cpu_bits) check_##slot(#variant, cpu_bits, kern_##slot##__##variant);
#include "worker/kernels/kernel_list.inc"
#undef KERN
}

/* Any feature mask fills the whole table, and a mask of nothing is ref. */
static void dispatch_fills_every_slot(void **state)
{
    kern_table_t table;
    uint32_t     mask = 0;

    (void)state;
    for (uint32_t features = 0; features < 4; features++) {
        kern_table_init(&table, features);
        for (int type = 0; type < KERN_DENSE_COUNT; type++) {
            assert_non_null(kern_dense(&table, (kern_dense_t)type));
        }
    }
    kern_table_init(&table, 0);
    assert_true(table.gemv_t2_i8 == kern_gemv_t2_i8__ref);
    assert_true(kern_format(KERN_T3)->gemm(&table) == kern_gemm_t3_i8__ref);
    assert_true(kern_cpu_mask_parse("ref", &mask) && mask == 0);
    assert_true(kern_cpu_mask_parse("avx512vnni", &mask) &&
                mask == (KERN_CPU_AVX2 | KERN_CPU_AVX512VNNI));
    assert_string_equal(kern_cpu_name(mask), "avx512vnni");
    assert_true(kern_cpu_mask_parse("avx2", &mask) && mask == KERN_CPU_AVX2);
    assert_string_equal(kern_cpu_name(mask), "avx2");
    assert_false(kern_cpu_mask_parse("sse9", &mask));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dispatch_fills_every_slot),
        cmocka_unit_test(every_row_gives_the_bytes_of_ref),
    };

    rng_seed();
    only_variant = getenv("TRIREME_TEST_VARIANT");
    return cmocka_run_group_tests_name("kernels.check", tests, NULL, NULL);
}
