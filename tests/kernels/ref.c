/* tests/kernels/ref.c
 * ref/ and the packing against something else than themselves: bytes worked out by hand, naive
 * integers, double arithmetic, libm, a second decoder of the GGUF blocks, and what the gguf package
 * makes of them (tests/golden/dense). check.c carries the result over to all variants. */
#include "tests/kernels/kern_test.h"
#include "worker/kernels/ref/half.h"

static region_t in_a, in_b, in_c, in_d, out_a, out_b, out_c;

/* ---- Packing ---- */

static void t2_bytes_by_hand(void **state)
{
    const kern_format_t *f              = kern_format(KERN_T2);
    int8_t               trits[16 * 16] = {0};
    uint8_t              tile[64];

    (void)state;
    assert_int_equal(kern_tile_bytes(f, 16), 64);
    trits[0]           = 1; /* row 0: columns 0, 4, 8, 12 share byte 0, lowest bits first */
    trits[4]           = -1;
    trits[12]          = 1;
    trits[15 * 16 + 3] = -1; /* row 15, column 3: byte 4 * 15 + 3, lowest bits */
    f->pack_tile(tile, trits, 16, 16, 16);
    assert_int_equal(tile[0], 2 | 0 << 2 | 1 << 4 | 2 << 6);
    assert_int_equal(tile[63], 0 | 1 << 2 | 1 << 4 | 1 << 6);
    for (size_t i = 1; i < 63; i++) assert_int_equal(tile[i], 0x55);
}

static void t3_bytes_by_hand(void **state)
{
    const kern_format_t *f              = kern_format(KERN_T3);
    int8_t               trits[16 * 20] = {0};
    uint8_t              tile[64];

    (void)state;
    assert_int_equal(kern_tile_bytes(f, 20), 64);
    trits[0]           = 1; /* row 0, columns 0, 4, 8, 12, 16: digits 2 0 1 2 0 */
    trits[4]           = -1;
    trits[12]          = 1;
    trits[16]          = -1;
    trits[15 * 20 + 3] = -1;                              /* row 15, column 3: digits 0 1 1 1 1 */
    for (size_t n = 0; n < 5; n++) trits[20 + 4 * n] = 1; /* row 1 */
    for (size_t n = 0; n < 5; n++) trits[20 + 4 * n + 1] = -1;
    f->pack_tile(tile, trits, 20, 16, 20);
    assert_int_equal(tile[0], 2 * 85 + 0 * 29 + 1 * 9 + 2 * 3 + 0);
    assert_int_equal(tile[63], 0 * 85 + 1 * 29 + 1 * 9 + 1 * 3 + 1);
    assert_int_equal(tile[4], 2 * (85 + 29 + 9 + 3 + 1));
    assert_int_equal(tile[5], 0);
    assert_int_equal(tile[30], 85 + 29 + 9 + 3 + 1); /* zero weights */
}

static void unpack_is_the_inverse_of_pack(void **state)
{
    (void)state;
    for (int id = 0; id < KERN_FORMAT_COUNT; id++) {
        const kern_format_t *f = kern_format((kern_format_id_t)id);

        for (size_t k = 1; k < 700; k += 1 + k / 16) {
            const size_t n_rows = 1 + k % 16, stride = k + 3;
            const size_t k_pad = kern_granules(f, k) * f->k_granule;
            int8_t      *trits = region_take(&in_a, 16 * stride);
            uint8_t     *tile  = region_take(&out_a, kern_tile_bytes(f, k));
            int8_t      *back  = region_take(&out_b, 16 * k_pad);

            for (size_t i = 0; i < 16 * stride; i++) trits[i] = (int8_t)((int)(rng_u32() % 3) - 1);
            f->pack_tile(tile, trits, stride, n_rows, k);
            f->unpack_tile(back, k_pad, tile, k);
            for (size_t r = 0; r < 16; r++) {
                for (size_t j = 0; j < k_pad; j++) {
                    const int want = r < n_rows && j < k ? trits[r * stride + j] : 0;
                    assert_int_equal(back[r * k_pad + j], want);
                }
            }
        }
    }
}

/* ---- Ternary products ---- */

static void ternary_is_the_naive_sum(void **state)
{
    static const size_t ks[] = {1, 16, 20, 37, 80, 300, 1111};
    kern_table_t        table;

    (void)state;
    kern_table_init(&table, 0);
    for (int id = 0; id < KERN_FORMAT_COUNT; id++) {
        const kern_format_t *f = kern_format((kern_format_id_t)id);

        for (size_t c = 0; c < COUNT(ks); c++) {
            const size_t k = ks[c], qs = kern_q_stride(k);
            int8_t      *trits = region_take(&in_a, 16 * k), *q = region_take(&in_b, 2 * qs);
            uint8_t     *tile    = region_take(&in_c, kern_tile_bytes(f, k));
            int32_t      acc[32] = {0}, qsum[2] = {0, 0};

            for (size_t i = 0; i < 16 * k; i++) trits[i] = (int8_t)((int)(rng_u32() % 3) - 1);
            for (size_t i = 0; i < 2 * qs; i++) q[i] = (int8_t)(i % qs < k ? rng_u32() : 0);
            for (size_t i = 0; i < 2 * qs; i++) qsum[i / qs] += q[i];
            f->pack_tile(tile, trits, k, 16, k);
            f->gemm (&table)(acc, 16, tile, 1, kern_granules(f, k), q, qs, qsum, 2);
            for (size_t t = 0; t < 2; t++) {
                for (size_t r = 0; r < 16; r++) {
                    int64_t sum = 0;
                    for (size_t j = 0; j < k; j++) sum += trits[r * k + j] * q[t * qs + j];
                    assert_int_equal(acc[16 * t + r], sum);
                }
            }
        }
    }
}

/* Closed form at the extremes, for every mask that this CPU has: where 16-bit sums would wrap
 * first. */
static void ternary_extremes_have_a_closed_form(void **state)
{
    enum { TOK = 7 }; /* more than a variant may pass to its gemv */
    static const size_t  ks[]       = {240, 256, 960, 28672, 32000, 32020, 65536, 524288 - 8};
    static const uint8_t kinds[][2] = {{2, 128}, {0, 128}, {2, 127}, {0, 127}};

    (void)state;
    for (uint32_t mask = 0; mask < 4; mask++) {
        kern_table_t table;
        kern_table_init(&table, mask & kern_cpu_features());
        for (size_t c = 0; c < COUNT(ks) * COUNT(kinds) * KERN_FORMAT_COUNT; c++) {
            const kern_format_t *f = kern_format((kern_format_id_t)(c % KERN_FORMAT_COUNT));
            const size_t         k = ks[c / KERN_FORMAT_COUNT % COUNT(ks)], qs = kern_q_stride(k);
            const uint8_t       *kind = kinds[c / KERN_FORMAT_COUNT / COUNT(ks)];
            const int            trit = kind[0] - 1, value = kind[1] == 128 ? -128 : 127;
            int8_t              *trits = region_take(&in_a, k), *q = region_take(&in_b, TOK * qs);
            uint8_t             *tile = region_take(&in_c, kern_tile_bytes(f, k));
            int32_t              acc[TOK * 16], qsum[TOK];

            memset(trits, trit, k);
            memset(q, 0, TOK * qs);
            for (size_t t = 0; t < TOK; t++) {
                memset(q + t * qs, value, k);
                qsum[t] = value * (int32_t)k;
            }
            f->pack_tile(tile, trits, k, 1, k);
            f->gemv (&table)(acc, 16, tile, 1, kern_granules(f, k), q, qs, qsum, 1);
            assert_int_equal(acc[0], trit * value * (int32_t)k);
            assert_int_equal(acc[1], 0);
            f->gemm (&table)(acc, 16, tile, 1, kern_granules(f, k), q, qs, qsum, TOK);
            for (size_t t = 0; t < TOK; t++) {
                assert_int_equal(acc[16 * t], trit * value * (int32_t)k);
                assert_int_equal(acc[16 * t + 15], 0);
            }
        }
    }
}

/* ---- Block-scaled ternary products ---- */

/* Scales that are small powers of two leave nothing to round: the naive sum in 64 bits. */
static void block_scaled_is_the_naive_sum(void **state)
{
    static const size_t  ks[] = {1, 16, 255, 256, 257, 300, 1111};
    const kern_format_t *f    = kern_format(KERN_T2);

    (void)state;
    for (size_t c = 0; c < COUNT(ks); c++) {
        const size_t k = ks[c], qs = kern_q_stride(k), granules = kern_granules(f, k);
        const size_t n_blocks = kern_blocks(granules);
        int8_t      *trits = region_take(&in_a, 16 * k), *q = region_take(&in_b, 2 * qs);
        uint8_t     *tile     = region_take(&in_c, kern_tile_bytes(f, k));
        float       *scales   = region_take(&in_d, 16 * n_blocks * sizeof *scales);
        float        y[32]    = {0};
        int32_t      sums[16] = {0};

        assert_int_equal(n_blocks, (k + 255) / 256);
        for (size_t i = 0; i < 16 * k; i++) trits[i] = (int8_t)((int)(rng_u32() % 3) - 1);
        for (size_t i = 0; i < 2 * qs; i++) q[i] = (int8_t)(i % qs < k ? rng_u32() : 0);
        for (size_t i = 0; i < 16 * n_blocks; i++) scales[i] = (float)(1 << rng_u32() % 4);
        for (size_t t = 0; t < 2; t++)
            kern_block_sums(sums + t * n_blocks, q + t * qs, 16 * granules);
        f->pack_tile(tile, trits, k, 16, k);
        kern_gemm_t2b_i8__ref(y, 16, tile, scales, 1, granules, q, qs, sums, 2);
        for (size_t t = 0; t < 2; t++) {
            for (size_t r = 0; r < 16; r++) {
                int64_t sum = 0;
                for (size_t j = 0; j < k; j++) {
                    const int64_t scale = (int64_t)scales[j / 256 * 16 + r];
                    sum += scale * trits[r * k + j] * q[t * qs + j];
                }
                assert_true((double)y[16 * t + r] == (double)sum);
            }
            for (size_t b = 0; b < n_blocks; b++) {
                int32_t sum = 0;
                for (size_t j = 256 * b; j < k && j < 256 * (b + 1); j++) sum += q[t * qs + j];
                assert_int_equal(sums[t * n_blocks + b], sum);
            }
        }
    }
}

/* The blocks are added in rising order: 1 is lost beside 1e8 unless it comes after -1e8. And each
 * with one rounding. */
static void block_scales_are_added_in_order(void **state)
{
    enum { K = 3 * 256, GRANULES = K / 16 };
    const kern_format_t *f = kern_format(KERN_T2);

    (void)state;
    int8_t  *trits = region_take(&in_a, K), *q = region_take(&in_b, kern_q_stride(K));
    uint8_t *tile  = region_take(&in_c, kern_tile_bytes(f, K));
    float    y[16] = {0}, scales[3 * 16] = {0};
    int32_t  sums[3] = {1, 1, 1};

    memset(trits, 0, K);
    memset(q, 0, kern_q_stride(K));
    for (size_t b = 0; b < 3; b++) trits[256 * b] = q[256 * b] = 1;
    f->pack_tile(tile, trits, K, 1, K);
    scales[0] = 1e8f, scales[16] = -1e8f, scales[32] = 1.0f;
    kern_gemv_t2b_i8__ref(y, 16, tile, scales, 1, GRANULES, q, kern_q_stride(K), sums, 1);
    assert_true(y[0] == 1.0f && y[1] == 0.0f);
    scales[16] = 1.0f, scales[32] = -1e8f;
    kern_gemv_t2b_i8__ref(y, 16, tile, scales, 1, GRANULES, q, kern_q_stride(K), sums, 1);
    assert_true(y[0] == 0.0f);
    /* 3 * (1/3) - 1: what one rounding leaves of the product. */
    q[256] = 3, sums[1] = 3;
    scales[0] = -1.0f, scales[16] = 1.0f / 3.0f, scales[32] = 0.0f;
    kern_gemv_t2b_i8__ref(y, 16, tile, scales, 1, GRANULES, q, kern_q_stride(K), sums, 1);
    assert_true((double)y[0] == 3.0 * (double)(1.0f / 3.0f) - 1.0 && y[0] != 0.0f);
}

/* ---- Lane sums ---- */

static void sums_are_near_their_double(void **state)
{
    (void)state;
    for (size_t n = 0; n < 3000; n = n * 5 / 4 + 1) {
        const float *a = float_take(&in_a, n, FLOAT_UNIT), *b = float_take(&in_b, n, FLOAT_UNIT);
        double       dot = 0, dot_abs = 0, sum = 0, sum_abs = 0, sq = 0;
        float        y = 0, s = 0;

        for (size_t i = 0; i < n; i++) {
            dot += (double)a[i] * (double)b[i];
            dot_abs += fabs((double)a[i] * (double)b[i]);
            sum += (double)a[i];
            sum_abs += fabs((double)a[i]);
            sq += (double)a[i] * (double)a[i];
        }
        const double bound = 0x1p-24 * ((double)n / 16 + 6); /* additions on an element's way */
        kern_dense_f32__ref(&y, 1, a, 0, 1, n, b, n, 1);
        assert_true(fabs((double)y - dot) <= bound * dot_abs);
        assert_true(fabs((double)kern_sum_f32__ref(a, n) - sum) <= bound * sum_abs);
        if (n > 0) {
            kern_sumsq_f32__ref(&s, a, n, n);
            assert_true(fabs((double)s - sq) <= bound * sq);
        }
    }
}

/* Sums that come out only with the lanes and the tree of NUMERICS 1. */
static void lanes_fold_by_halves(void **state)
{
    float x[33] = {0};

    (void)state;
    x[0] = 1e8f, x[1] = 1.0f, x[8] = -1e8f; /* 0 and 8 meet first */
    assert_true(kern_sum_f32__ref(x, 16) == 1.0f);
    x[8] = 0, x[4] = -1e8f; /* then 0 and 4 */
    assert_true(kern_sum_f32__ref(x, 16) == 1.0f);
    x[4] = 0, x[2] = -1e8f; /* then 0 and 2 */
    assert_true(kern_sum_f32__ref(x, 16) == 1.0f);
    x[2] = 0, x[16] = -1e8f, x[0] = 1e8f; /* 16 is in lane 0 */
    assert_true(kern_sum_f32__ref(x, 17) == 1.0f);
    x[16] = 0, x[3] = -1e8f; /* 0 and 3 meet last: 1 is lost against lane 3 */
    assert_true(kern_sum_f32__ref(x, 16) == 0.0f);
}

/* ---- exp_ ---- */

static double ulp_of(double x)
{
    int e = 0;

    (void)frexp(x, &e);
    return ldexp(1.0, e - 24 < -149 ? -149 : e - 24);
}

static void exp_is_within_two_ulp(void **state)
{
    double worst = 0;

    (void)state;
    for (int i = -8733; i <= 8872; i++) {
        for (int j = 0; j < 20; j++) {
            const float x = (float)i * 0.01f + rng_unit() * 0.005f;
            float       y = 0;
            if (x < -87.3365f || x > 88.7228f) continue;
            kern_exp_f32__ref(&y, &x, 1);
            const double want = exp((double)x), off = fabs((double)y - want) / ulp_of(want);
            if (off > worst) worst = off;
        }
    }
    printf("exp_ is off by %.3f ulp at most\n", worst);
    assert_true(worst <= 2.0);

    const float edge[] = {0.0f,     -0.0f, -INFINITY,  -1000.0f, 1000.0f,
                          INFINITY, NAN,   -87.33654f, 88.72283f};
    float       y[COUNT(edge)];
    kern_exp_f32__ref(y, edge, COUNT(edge));
    assert_true(y[0] == 1.0f && y[1] == 1.0f);
    assert_true(y[2] == y[7] && y[3] == y[7] && y[7] > 1.17e-38f && y[7] < 1.18e-38f);
    assert_true(y[4] == y[8] && y[5] == y[8] && y[8] > 3.4e38f);
    assert_true(y[6] == y[7]); /* max(NaN, low) is low, as in SSE */
}

/* ---- Dense types ---- */

static float one_weight(kern_dense_fn *fn, const void *row, size_t k, size_t j)
{
    float x[256] = {0}, y = 0;

    x[j] = 1.0f;
    fn(&y, 1, row, 0, 1, k, x, k, 1);
    return y;
}

static double half_value(uint16_t h)
{
    const int    exp = h >> 10 & 31, man = h & 1023;
    const double sign = (h & 0x8000) != 0 ? -1.0 : 1.0;

    if (exp == 31) return man != 0 ? (double)NAN : sign * (double)INFINITY;
    return sign * (exp == 0 ? ldexp(man, -24) : ldexp(1024 + man, exp - 25));
}

static void all_halves_widen_exactly(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const uint16_t half = (uint16_t)h;
        const uint32_t bits = h << 16;
        const double   want = half_value(half);
        const float    got  = one_weight(kern_dense_f16__ref, &half, 1, 0);
        const float    bf   = one_weight(kern_dense_bf16__ref, &half, 1, 0);
        float          f    = 0;

        memcpy(&f, &bits, sizeof f);
        assert_true(isnan(want) ? isnan(got) : (double)got == want);
        assert_true(isnan(f) ? isnan(bf) : bf == f);
    }
}

static uint16_t tame_half(void)
{
    return (uint16_t)(rng_u32() & 0xbfffu); /* finite, either sign, subnormals too */
}

static void q8_0_is_its_block(void **state)
{
    uint8_t block[34];

    (void)state;
    for (int round = 0; round < 100; round++) {
        const uint16_t d = tame_half();
        for (size_t i = 0; i < sizeof block; i++) block[i] = (uint8_t)rng_u32();
        memcpy(block, &d, 2);
        for (size_t j = 0; j < 32; j++) {
            const double want = half_value(d) * (int8_t)block[2 + j];
            assert_true((double)one_weight(kern_dense_q8_0__ref, block, 32, j) == want);
        }
    }
}

/* ggml's own order: two halves of 128, from which four runs of 32 are made at once. No rounding: 11
 * bits times 8 times 6 fit a float. */
static void q6_k_is_its_block(void **state)
{
    uint8_t block[210];

    (void)state;
    for (int round = 0; round < 40; round++) {
        const uint16_t d = tame_half();
        double         want[256];
        const uint8_t *ql = block, *qh = block + 128;
        const int8_t  *sc = (const int8_t *)block + 192;
        double        *y  = want;

        for (size_t i = 0; i < sizeof block; i++) block[i] = (uint8_t)rng_u32();
        memcpy(block + 208, &d, 2);
        for (int n = 0; n < 256; n += 128, y += 128, ql += 64, qh += 32, sc += 8) {
            for (int l = 0; l < 32; l++) {
                const int is = l / 16;
                const int q1 = ((ql[l] & 15) | (qh[l] >> 0 & 3) << 4) - 32;
                const int q2 = ((ql[l + 32] & 15) | (qh[l] >> 2 & 3) << 4) - 32;
                const int q3 = (ql[l] >> 4 | (qh[l] >> 4 & 3) << 4) - 32;
                const int q4 = (ql[l + 32] >> 4 | (qh[l] >> 6 & 3) << 4) - 32;
                y[l]         = half_value(d) * sc[is] * q1;
                y[l + 32]    = half_value(d) * sc[is + 2] * q2;
                y[l + 64]    = half_value(d) * sc[is + 4] * q3;
                y[l + 96]    = half_value(d) * sc[is + 6] * q4;
            }
        }
        for (size_t j = 0; j < 256; j++) {
            assert_true((double)one_weight(kern_dense_q6_k__ref, block, 256, j) == want[j]);
        }
    }
}

/* A file of tests/golden/dense, whole, into a region. */
static size_t golden_load(region_t *region, uint8_t **data_p, const char *type, const char *ending)
{
    const char *root = getenv("TRIREME_SOURCE");
    char        path[4096];
    long        bytes = 0;

    (void)snprintf(path, sizeof path, "%s/tests/golden/dense/%s.%s", root == NULL ? "." : root,
                   type, ending);
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail_msg("%s: cannot open", path);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    bytes = ftell(file);
    assert_true(bytes > 0 && fseek(file, 0, SEEK_SET) == 0);
    *data_p = region_take(region, (size_t)bytes);
    assert_int_equal(fread(*data_p, 1, (size_t)bytes, file), bytes);
    (void)fclose(file);
    return (size_t)bytes;
}

/* Every weight is the float that the gguf package gives, bit for bit but for the sign of a zero. */
static void dense_blocks_are_those_of_the_gguf_package(void **state)
{
    static const struct {
        const char    *type;
        kern_dense_fn *fn;
        size_t         k, bytes;
    } types[] = {
        {"Q8_0", kern_dense_q8_0__ref, 32, 34},    {"Q4_0", kern_dense_q4_0__ref, 32, 18},
        {"Q4_1", kern_dense_q4_1__ref, 32, 20},    {"Q5_0", kern_dense_q5_0__ref, 32, 22},
        {"Q5_1", kern_dense_q5_1__ref, 32, 24},    {"Q2_K", kern_dense_q2_k__ref, 256, 84},
        {"Q3_K", kern_dense_q3_k__ref, 256, 110},  {"Q4_K", kern_dense_q4_k__ref, 256, 144},
        {"Q5_K", kern_dense_q5_k__ref, 256, 176},  {"Q6_K", kern_dense_q6_k__ref, 256, 210},
        {"TQ1_0", kern_dense_tq1_0__ref, 256, 54}, {"TQ2_0", kern_dense_tq2_0__ref, 256, 66},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(types); i++) {
        uint8_t     *stored = NULL, *values = NULL;
        const size_t n = golden_load(&in_a, &stored, types[i].type, "bin") / types[i].bytes;

        assert_int_equal(golden_load(&in_b, &values, types[i].type, "f32"),
                         n * types[i].k * sizeof(float));
        for (size_t j = 0; j < n * types[i].k; j++) {
            const uint8_t *block = stored + j / types[i].k * types[i].bytes;
            const float    got   = one_weight(types[i].fn, block, types[i].k, j % types[i].k);
            float          want  = 0;

            memcpy(&want, values + j * sizeof want, sizeof want);
            if (got != want)
                fail_msg("%s weight %zu: %a, not %a", types[i].type, j, (double)got, (double)want);
        }
    }
}

/* ---- Quantisation and elementwise ---- */

static void quant_rounds_and_clamps(void **state)
{
    static const float  x[]    = {0.5f,     1.5f,      2.5f,   -0.5f,   -1.5f,   -2.5f,
                                  126.5f,   127.4f,    127.5f, 128.0f,  1e30f,   -1e30f,
                                  INFINITY, -INFINITY, NAN,    -127.5f, -128.5f, -0.0f};
    static const int8_t want[] = {0,   2,   2,    0,   -2,   -2, 126,  127,  127,
                                  127, 127, -128, 127, -128, 0,  -128, -128, 0};
    int8_t              q[COUNT(x) + 3];
    int32_t             sum = 0;

    (void)state;
    memset(q, 77, sizeof q);
    for (size_t i = 0; i < COUNT(x); i++) sum += want[i];
    assert_int_equal(kern_quant_f32_i8__ref(q, x, NULL, 1.0f, COUNT(x), COUNT(x) + 2), sum);
    assert_memory_equal(q, want, sizeof want);
    assert_int_equal(q[COUNT(x)], 0);
    assert_int_equal(q[COUNT(x) + 1], 0);
    assert_int_equal(q[COUNT(x) + 2], 77);

    /* Divided, not multiplied by a reciprocal: n * d gives n, and (n + 0.5) * d a tie, wherever the
     * product is exact. */
    for (int i = 0; i < 1000; i++) {
        const float d    = (float)(1024 + rng_u32() % 1024) / 131072.0f;
        const int   n    = (int)(rng_u32() % 254) - 127;
        const float u[2] = {(float)n * d, ((float)n + 0.5f) * d};
        (void)kern_quant_f32_i8__ref(q, u, NULL, d, 2, 2);
        assert_int_equal(q[0], n);
        assert_int_equal(q[1], n + (n % 2 != 0));
    }
    /* The weight multiplies before: (3 * 0.5) / 1 is a tie. */
    const float three = 3.0f, w = 0.5f;
    assert_int_equal(kern_quant_f32_i8__ref(q, &three, &w, 1.0f, 1, 1), 2);
}

static void absmax_shows_nan(void **state)
{
    const float x[] = {-3.0f, 2.0f, NAN, 1.0f}, w[] = {1.0f, -2.0f, 1.0f, 1.0f};

    (void)state;
    assert_true(kern_absmax_f32__ref(x, NULL, 0) == 0.0f);
    assert_true(kern_absmax_f32__ref(x, NULL, 2) == 3.0f);
    assert_true(kern_absmax_f32__ref(x, w, 2) == 4.0f);
    assert_true(isnan(kern_absmax_f32__ref(x, w, 4)));
}

static bool near(float got, double want, double relative)
{
    return fabs((double)got - want) <= relative * fabs(want) + 1e-38;
}

static void elementwise_is_near_its_double(void **state)
{
    enum { N = 500 };

    (void)state;
    float       *gate = float_take(&in_a, N, FLOAT_UNIT);
    const float *up   = float_take(&in_b, N, FLOAT_UNIT);
    float       *y = region_take(&out_a, 4 * N), *z = region_take(&out_b, 4 * N);
    int32_t      acc[N];

    for (size_t i = 0; i < N; i++) gate[i] *= 30.0f, acc[i] = (int32_t)(rng_u32() % 100000) - 50000;
    kern_silu_mul_f32__ref(y, gate, up, N);
    kern_relu2_mul_f32__ref(z, gate, up, N);
    for (size_t i = 0; i < N; i++) {
        const double g = (double)gate[i], u = (double)up[i];
        assert_true(near(y[i], g / (1 + exp(-g)) * u, 1e-6));
        assert_true(near(z[i], g > 0 ? g * g * u : 0, 1e-6));
    }
    kern_norm_f32__ref(y, gate, up, 0.3f, N);
    kern_div_f32__ref(z, gate, 0.7f, N);
    for (size_t i = 0; i < N; i++) {
        assert_true(near(y[i], (double)gate[i] * (double)up[i] * (double)0.3f, 2e-7));
        assert_true(near(z[i], (double)gate[i] / (double)0.7f, 1e-7));
    }
    memcpy(y, gate, N * sizeof *y);
    memcpy(z, gate, N * sizeof *z);
    kern_add_f32__ref(y, up, N);
    kern_scale_f32__ref(z, 0.3f, N);
    for (size_t i = 0; i < N; i++) {
        assert_true(near(y[i], (double)gate[i] + (double)up[i], 1e-7));
        assert_true(near(z[i], (double)gate[i] * (double)0.3f, 1e-7));
    }
    kern_scale_i32_f32__ref(y, acc, 1e-3f, N);
    memcpy(z, up, N * sizeof *z);
    kern_scale_add_i32_f32__ref(z, acc, 1e-3f, N);
    for (size_t i = 0; i < N; i++) {
        const double p = acc[i] * (double)1e-3f;
        assert_true(near(y[i], p, 1e-7));
        assert_true(fabs((double)z[i] - (p + (double)up[i])) <= 1e-7 * (fabs(p) + 1));
    }
}

static void rope_turns_by_the_angle(void **state)
{
    enum { ROT = 20 };
    float c[ROT / 2], s[ROT / 2];

    (void)state;
    const float *x = float_take(&in_a, ROT + 1, FLOAT_UNIT);
    float       *h = region_take(&out_a, 4 * (ROT + 1)), *p = region_take(&out_b, 4 * (ROT + 1));

    for (int j = 0; j < ROT / 2; j++) c[j] = (float)cos(0.3 * j), s[j] = (float)sin(0.3 * j);
    memcpy(h, x, 4 * (ROT + 1));
    memcpy(p, x, 4 * (ROT + 1));
    kern_rope_half_f32__ref(h, c, s, ROT);
    kern_rope_pair_f32__ref(p, c, s, ROT);
    for (int j = 0; j < ROT / 2; j++) {
        const double cj = (double)c[j], sj = (double)s[j];
        const double h0 = (double)x[j], h1 = (double)x[j + ROT / 2];
        const double p0 = (double)x[2 * j], p1 = (double)x[2 * j + 1];
        assert_true(fabs((double)h[j] - (h0 * cj - h1 * sj)) < 2e-7);
        assert_true(fabs((double)h[j + ROT / 2] - (h1 * cj + h0 * sj)) < 2e-7);
        assert_true(fabs((double)p[2 * j] - (p0 * cj - p1 * sj)) < 2e-7);
        assert_true(fabs((double)p[2 * j + 1] - (p1 * cj + p0 * sj)) < 2e-7);
    }
    assert_true(h[ROT] == x[ROT] && p[ROT] == x[ROT]);
}

/* ---- Attention ---- */

/* Every half against 2^e * (1 + m / 1024), and rounding at and around each middle of two. */
static void halves_round_to_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        const int      e    = (int)(h >> 10);
        const double   man  = (double)(h & 1023) / 1024;
        const double   want = e == 0 ? ldexp(man, -14) : ldexp(1 + man, e - 15);
        const double   next = h == 0x7bff ? 65536 : (double)ref_from_f16((uint16_t)(h + 1));
        const float    mid  = (float)((want + next) / 2);
        const uint32_t even = h + (h & 1);

        assert_true((double)ref_from_f16((uint16_t)h) == want);
        assert_true((double)ref_from_f16((uint16_t)(h | 0x8000)) == -want);
        assert_int_equal(ref_to_f16((float)want), h);
        assert_int_equal(ref_to_f16(mid), even);
        assert_int_equal(ref_to_f16(-mid), even | 0x8000);
        assert_int_equal(ref_to_f16(nextafterf(mid, 0)), h);
        assert_int_equal(ref_to_f16(nextafterf(mid, 1e9f)), h + 1);
    }
    assert_int_equal(ref_to_f16(INFINITY), 0x7c00);
    assert_int_equal(ref_to_f16(-1e30f), 0xfc00);
    assert_int_equal(ref_to_f16(-0.0f), 0x8000);
    assert_true(isnan(ref_from_f16(ref_to_f16(NAN))));
    assert_true(isinf(ref_from_f16(0x7c00)) && isnan(ref_from_f16(0x7c01)));
}

/* Softmax over all positions in double against pages and their merge. */
static void attention_is_softmax(void **state)
{
    static const size_t lengths[] = {1, 5, 63, 64, 65, 128, 150, 300};
    enum { HD = 80, N_Q = 3 };

    (void)state;
    for (size_t c = 0; c < COUNT(lengths); c++) {
        const size_t n    = lengths[c];
        const float *q    = float_take(&in_a, N_Q * HD, FLOAT_UNIT);
        const size_t room = (n + KERN_PAGE - 1) / KERN_PAGE * KERN_PAGE; /* whole pages */
        const float *k    = float_take(&in_b, room * HD, FLOAT_UNIT);
        const float *v    = float_take(&in_c, room * HD, FLOAT_UNIT);
        float       *o = region_take(&out_a, 4 * N_Q * HD), *op = region_take(&out_b, 4 * N_Q * HD);
        double      *e = region_take(&in_d, n * sizeof *e);
        float        m[N_Q], z[N_Q], mp[N_Q], zp[N_Q];

        for (size_t at = 0; at < n; at += KERN_PAGE) {
            const uint32_t n_pos     = (uint32_t)(n - at < KERN_PAGE ? n - at : KERN_PAGE);
            const uint32_t ends[N_Q] = {n_pos, n_pos, n_pos};
            float          e_page[N_Q * KERN_PAGE];
            kern_attn_scores_f32__ref(e_page, at == 0 ? m : mp, at == 0 ? z : zp, q, N_Q,
                                      k + at * HD, ends, HD, 1.5f);
            kern_attn_values_f32__ref(at == 0 ? o : op, e_page, N_Q, v + at * HD, ends, HD);
            if (at > 0) kern_attn_merge_f32__ref(m, z, o, mp, zp, op, N_Q, HD);
        }
        for (size_t h = 0; h < N_Q; h++) {
            float *out = region_take(&out_c, 4 * HD);
            double top = -1e300, sum = 0;

            kern_div_f32__ref(out, o + h * HD, z[h], HD);
            for (size_t j = 0; j < n; j++) {
                e[j] = 0;
                for (size_t i = 0; i < HD; i++)
                    e[j] += (double)q[h * HD + i] * (double)k[j * HD + i];
                e[j] *= 1.5;
                if (e[j] > top) top = e[j];
            }
            for (size_t j = 0; j < n; j++) sum += e[j] = exp(e[j] - top);
            for (size_t i = 0; i < HD; i++) {
                double want = 0;
                for (size_t j = 0; j < n; j++) want += e[j] / sum * (double)v[j * HD + i];
                assert_true(fabs((double)out[i] - want) < 1e-5);
            }
            assert_true(fabs((double)m[h] - top) < 1e-5);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(t2_bytes_by_hand),
        cmocka_unit_test(t3_bytes_by_hand),
        cmocka_unit_test(unpack_is_the_inverse_of_pack),
        cmocka_unit_test(ternary_is_the_naive_sum),
        cmocka_unit_test(ternary_extremes_have_a_closed_form),
        cmocka_unit_test(block_scaled_is_the_naive_sum),
        cmocka_unit_test(block_scales_are_added_in_order),
        cmocka_unit_test(sums_are_near_their_double),
        cmocka_unit_test(lanes_fold_by_halves),
        cmocka_unit_test(exp_is_within_two_ulp),
        cmocka_unit_test(all_halves_widen_exactly),
        cmocka_unit_test(q8_0_is_its_block),
        cmocka_unit_test(q6_k_is_its_block),
        cmocka_unit_test(dense_blocks_are_those_of_the_gguf_package),
        cmocka_unit_test(quant_rounds_and_clamps),
        cmocka_unit_test(absmax_shows_nan),
        cmocka_unit_test(elementwise_is_near_its_double),
        cmocka_unit_test(rope_turns_by_the_angle),
        cmocka_unit_test(halves_round_to_even),
        cmocka_unit_test(attention_is_softmax),
    };

    rng_seed();
    return cmocka_run_group_tests_name("kernels.ref", tests, NULL, NULL);
}
