/* worker/kernels/x86/ternary_avx2.c
 * Ternary products for one token with VPMADDUBSW: unsigned codes (trit + 1) times signed q, pairs
 * summed in 16 bits; the sum of q is subtracted at the end.
 *
 * 16 bits hold only a few granules, so the sums are widened every so often (the FLUSH counts). The
 * bound is tight on the negative side, at -32768: q may be -128, but never +128. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/x86/t3_avx2.h"

#include <immintrin.h>
#include <string.h>

enum {
    AHEAD_BYTES = 4096,
    BLOCK       = KERN_BLOCK_K / KERN_T2_K, /* granules of one scale */
    /* A code is at most 2: one VPMADDUBSW adds up to 2 * 2 * 128 = 512. t2 feeds two planes into a
     * sum, one kind of sum at four times the value; t3 feeds five planes into one sum. */
    T2_FLUSH = 8,
    T3_FLUSH = 12,
};
_Static_assert(T2_FLUSH * 2 * 4 * 512 <= 32768, "t2 sums would wrap in 16 bits");
_Static_assert(T3_FLUSH % 2 == 0 && T3_FLUSH * 5 * 512 <= 32768, "t3 sums would wrap in 16 bits");

/* 16 rows: rows 0..7 in lo, 8..15 in hi. */
typedef struct {
    __m256i lo, hi;
} tile_sum_t;

static inline __m256i load_q4(const int8_t *q)
{
    int32_t v = 0;

    memcpy(&v, q, 4);
    return _mm256_set1_epi32(v);
}

static inline __m256i load_half(const uint8_t *p)
{
    return _mm256_load_si256((const __m256i *)(const void *)p);
}

/* 16 sums of pairs to 8 sums of four columns, added to total. */
static inline __m256i widen(__m256i total, __m256i sum16)
{
    return _mm256_add_epi32(total, _mm256_madd_epi16(sum16, _mm256_set1_epi16(1)));
}

/* The empty assembly keeps the additions in order: GCC would gather them at the end of a loop, and
 * spill what waits. */
static inline __m256i dot2(__m256i sum, __m256i codes, __m256i q4)
{
    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, q4));
    __asm__("" : "+x"(sum));
    return sum;
}

/* At most T2_FLUSH granules. The planes 0 and 2 are summed as they are, 1 and 3 at four times their
 * value, which saves their shift: x1 and x4 keep the two kinds apart. */
static inline void t2_run(tile_sum_t *x1, tile_sum_t *x4, const uint8_t *w, size_t k_granules,
                          const int8_t *q)
{
    const __m256i m0 = _mm256_set1_epi8(0x03), m1 = _mm256_set1_epi8(0x0c);
    __m256i       a_lo = _mm256_setzero_si256(), a_hi = a_lo, b_lo = a_lo, b_hi = a_lo;

    for (size_t g = 0; g < k_granules; g++, w += 64, q += KERN_T2_K) {
        const __m256i lo  = load_half(w);
        const __m256i hi  = load_half(w + 32);
        const __m256i lo4 = _mm256_srli_epi16(lo, 4), hi4 = _mm256_srli_epi16(hi, 4);
        const __m256i q0 = load_q4(q), q1 = load_q4(q + 4);
        const __m256i q2 = load_q4(q + 8), q3 = load_q4(q + 12);

        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        a_lo = dot2(a_lo, _mm256_and_si256(lo, m0), q0);
        a_hi = dot2(a_hi, _mm256_and_si256(hi, m0), q0);
        b_lo = dot2(b_lo, _mm256_and_si256(lo, m1), q1);
        b_hi = dot2(b_hi, _mm256_and_si256(hi, m1), q1);
        a_lo = dot2(a_lo, _mm256_and_si256(lo4, m0), q2);
        a_hi = dot2(a_hi, _mm256_and_si256(hi4, m0), q2);
        b_lo = dot2(b_lo, _mm256_and_si256(lo4, m1), q3);
        b_hi = dot2(b_hi, _mm256_and_si256(hi4, m1), q3);
    }
    x1->lo = widen(x1->lo, a_lo);
    x1->hi = widen(x1->hi, a_hi);
    x4->lo = widen(x4->lo, b_lo);
    x4->hi = widen(x4->hi, b_hi);
}

static inline tile_sum_t t2_tile(const uint8_t *w, size_t k_granules, const int8_t *q)
{
    const __m256i zero = _mm256_setzero_si256();
    tile_sum_t    x1 = {zero, zero}, x4 = {zero, zero};

    for (size_t g = 0; g < k_granules; g += T2_FLUSH) {
        const size_t n = k_granules - g < T2_FLUSH ? k_granules - g : T2_FLUSH;
        t2_run(&x1, &x4, w + 64 * g, n, q + KERN_T2_K * g);
    }
    x1.lo = _mm256_add_epi32(x1.lo, _mm256_srai_epi32(x4.lo, 2));
    x1.hi = _mm256_add_epi32(x1.hi, _mm256_srai_epi32(x4.hi, 2));
    return x1;
}

/* acc = total - sum of q, 16 rows. */
static inline void store_tile(int32_t *acc, tile_sum_t total, int32_t qsum)
{
    const __m256i sum = _mm256_set1_epi32(qsum);

    _mm256_storeu_si256((__m256i *)(void *)acc, _mm256_sub_epi32(total.lo, sum));
    _mm256_storeu_si256((__m256i *)(void *)(acc + 8), _mm256_sub_epi32(total.hi, sum));
}

void kern_gemv_t2_i8__avx2(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                           size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                           size_t n_tok)
{
    (void)acc_stride, (void)q_stride, (void)n_tok;
    for (size_t tile = 0; tile < n_tiles; tile++, w += 64 * k_granules, acc += KERN_TILE_ROWS) {
        store_tile(acc, t2_tile(w, k_granules, q), qsum[0]);
    }
}

/* y += acc * scales, 8 rows. */
static inline __m256 add_scaled(__m256 y, __m256i total, __m256i sum, const float *scales)
{
    const __m256 acc = _mm256_cvtepi32_ps(_mm256_sub_epi32(total, sum));

    return _mm256_fmadd_ps(acc, _mm256_loadu_ps(scales), y);
}

/* One tile of block-scaled t2. */
static inline void t2b_tile(float *y, const uint8_t *w, const float *scales, size_t k_granules,
                            const int8_t *q, const int32_t *qsum_blocks)
{
    __m256 y_lo = _mm256_setzero_ps(), y_hi = y_lo;

    for (size_t g = 0; g < k_granules; g += BLOCK, scales += KERN_TILE_ROWS) {
        const size_t     n     = k_granules - g < BLOCK ? k_granules - g : BLOCK;
        const tile_sum_t total = t2_tile(w + 64 * g, n, q + KERN_T2_K * g);
        const __m256i    sum   = _mm256_set1_epi32(*qsum_blocks++);

        y_lo = add_scaled(y_lo, total.lo, sum, scales);
        y_hi = add_scaled(y_hi, total.hi, sum, scales + 8);
    }
    _mm256_storeu_ps(y, y_lo);
    _mm256_storeu_ps(y + 8, y_hi);
}

void kern_gemv_t2b_i8__avx2(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                            size_t n_tiles, size_t k_granules, const int8_t *q, size_t q_stride,
                            const int32_t *qsum_blocks, size_t n_tok)
{
    const size_t n_blocks = kern_blocks(k_granules);

    (void)y_stride, (void)q_stride, (void)n_tok;
    for (size_t tile = 0; tile < n_tiles; tile++, w += 64 * k_granules, y += KERN_TILE_ROWS) {
        t2b_tile(y, w, scales, k_granules, q, qsum_blocks);
        scales += n_blocks * KERN_TILE_ROWS;
    }
}

/* One stage of decoding, of two granules in halves: four chains side by side, as each is longer
 * than the processor looks ahead. */
#define T3_REST(to, from, unit)                                                                    \
    const __m256i to##0 = t3_mod(from##0, unit), to##1 = t3_mod(from##1, unit);                    \
    const __m256i to##2 = t3_mod(from##2, unit), to##3 = t3_mod(from##3, unit);
#define T3_DOT(n, d0, d1, d2, d3)                                                                  \
    {                                                                                              \
        const __m256i qa = load_q4(q + 4 * (n)), qb = load_q4(q + KERN_T3_K + 4 * (n));            \
        lo = dot2(lo, d0, qa);                                                                     \
        hi = dot2(hi, d1, qa);                                                                     \
        lo = dot2(lo, d2, qb);                                                                     \
        hi = dot2(hi, d3, qb);                                                                     \
    }
#define T3_DIGIT(n, before, after)                                                                 \
    T3_DOT(n, t3_digit(before##0, after##0), t3_digit(before##1, after##1),                        \
           t3_digit(before##2, after##2), t3_digit(before##3, after##3))

/* n_pairs pairs of granules, at most T3_FLUSH / 2. */
static inline void t3_run(tile_sum_t *total, const uint8_t *w, size_t n_pairs, const int8_t *q)
{
    __m256i lo = _mm256_setzero_si256(), hi = lo;

    for (size_t g = 0; g < n_pairs; g++, w += 128, q += 2 * KERN_T3_K) {
        const __m256i v0 = load_half(w), v1 = load_half(w + 32);
        const __m256i v2 = load_half(w + 64), v3 = load_half(w + 96);

        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        _mm_prefetch((const char *)w + AHEAD_BYTES + 64, _MM_HINT_T0);
        T3_REST(x, v, KERN_T3_UNIT_0);
        T3_DIGIT(0, v, x);
        T3_REST(y, x, KERN_T3_UNIT_1);
        T3_DIGIT(1, x, y);
        T3_REST(z, y, KERN_T3_UNIT_2);
        T3_DIGIT(2, y, z);
        T3_DOT(3, t3_digit3(z0), t3_digit3(z1), t3_digit3(z2), t3_digit3(z3));
        T3_DOT(4, t3_digit4(z0), t3_digit4(z1), t3_digit4(z2), t3_digit4(z3));
    }
    total->lo = widen(total->lo, lo);
    total->hi = widen(total->hi, hi);
}

/* The last granule of an odd number. */
static inline void t3_last(tile_sum_t *total, const uint8_t *w, const int8_t *q)
{
    for (size_t half = 0; half < 2; half++) {
        const __m256i v = load_half(w + 32 * half), x = t3_mod(v, KERN_T3_UNIT_0);
        const __m256i y = t3_mod(x, KERN_T3_UNIT_1), z = t3_mod(y, KERN_T3_UNIT_2);
        __m256i      *sum = half == 0 ? &total->lo : &total->hi;
        __m256i       s   = _mm256_maddubs_epi16(t3_digit(v, x), load_q4(q));

        s    = dot2(s, t3_digit(x, y), load_q4(q + 4));
        s    = dot2(s, t3_digit(y, z), load_q4(q + 8));
        s    = dot2(s, t3_digit3(z), load_q4(q + 12));
        s    = dot2(s, t3_digit4(z), load_q4(q + 16));
        *sum = widen(*sum, s);
    }
}

static inline tile_sum_t t3_tile(const uint8_t *w, size_t k_granules, const int8_t *q)
{
    const __m256i zero  = _mm256_setzero_si256();
    const size_t  pairs = k_granules / 2;
    tile_sum_t    total = {zero, zero};

    for (size_t p = 0; p < pairs; p += T3_FLUSH / 2) {
        const size_t n = pairs - p < T3_FLUSH / 2 ? pairs - p : T3_FLUSH / 2;
        t3_run(&total, w + 128 * p, n, q + 2 * KERN_T3_K * p);
    }
    if (k_granules % 2 != 0) {
        t3_last(&total, w + 64 * (k_granules - 1), q + KERN_T3_K * (k_granules - 1));
    }
    return total;
}

void kern_gemv_t3_i8__avx2(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                           size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                           size_t n_tok)
{
    (void)acc_stride, (void)q_stride, (void)n_tok;
    for (size_t tile = 0; tile < n_tiles; tile++, w += 64 * k_granules, acc += KERN_TILE_ROWS) {
        store_tile(acc, t3_tile(w, k_granules, q), qsum[0]);
    }
}
