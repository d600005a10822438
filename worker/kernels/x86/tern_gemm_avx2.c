/* worker/kernels/x86/tern_gemm_avx2.c
 * Ternary products for several tokens with VPMADDUBSW: one tile x 5 tokens of 16-bit sums in
 * registers. A block is short enough that they cannot wrap, so a block is also the interval of
 * widening. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/x86/t3_avx2.h"
#include "worker/kernels/x86/tern_few.h"
#include "worker/kernels/x86/tern_gemm.h"

#include <immintrin.h>
#include <string.h>

enum {
    TOKENS      = 5,
    AHEAD_BYTES = 2048,
    FEW         = 4, /* tokens of a tile at once without planes in memory */
    T2_MOST     = 8, /* up to so many tokens that is faster (measured) */
    T3_MOST     = 4,
    T2_FLUSH    = 16, /* granules after which the sums of a few tokens are widened */
    T3_FLUSH    = 12,
};

/* One VPMADDUBSW adds up to 2 * 2 * 128 in magnitude. */
_Static_assert(GEMM_PLANES * 512 <= 32768, "sums of a block would wrap in 16 bits");
_Static_assert(T2_FLUSH * 4 * 512 <= 32768, "t2 sums would wrap in 16 bits");
_Static_assert(T3_FLUSH * 5 * 512 <= 32768, "t3 sums would wrap in 16 bits");

#define INLINE static inline __attribute__((always_inline))

INLINE __m256i load_half(const uint8_t *p)
{
    return _mm256_load_si256((const __m256i *)(const void *)p);
}

INLINE void store_half(uint8_t *p, __m256i v)
{
    _mm256_store_si256((__m256i *)(void *)p, v);
}

static inline void t2_unpack(gemm_plane_t *plane, const uint8_t *w, size_t n)
{
    const __m256i three = _mm256_set1_epi8(3);

    for (size_t g = 0; g < n; g++, w += 64, plane += 4) {
        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        for (size_t half = 0; half < 64; half += 32) {
            const __m256i v = load_half(w + half);

            store_half(plane[0] + half, _mm256_and_si256(v, three));
            store_half(plane[1] + half, _mm256_and_si256(_mm256_srli_epi16(v, 2), three));
            store_half(plane[2] + half, _mm256_and_si256(_mm256_srli_epi16(v, 4), three));
            store_half(plane[3] + half, _mm256_and_si256(_mm256_srli_epi16(v, 6), three));
        }
    }
}

static inline void t3_unpack(gemm_plane_t *plane, const uint8_t *w, size_t n)
{
    for (size_t g = 0; g < n; g++, w += 64, plane += 5) {
        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        for (size_t half = 0; half < 64; half += 32) {
            const __m256i v = load_half(w + half), x = t3_mod(v, KERN_T3_UNIT_0);
            const __m256i y = t3_mod(x, KERN_T3_UNIT_1), z = t3_mod(y, KERN_T3_UNIT_2);

            store_half(plane[0] + half, t3_digit(v, x));
            store_half(plane[1] + half, t3_digit(x, y));
            store_half(plane[2] + half, t3_digit(y, z));
            store_half(plane[3] + half, t3_digit3(z));
            store_half(plane[4] + half, t3_digit4(z));
        }
    }
}

/* Named variables of the element type in use, for the reason given in tern_gemm_avx512vnni.c. */
typedef int16_t v16h_t __attribute__((vector_size(32)));

/* The empty assembly keeps the additions in order: GCC would gather them at the end of a loop, and
 * spill what waits. */
INLINE v16h_t dot2(v16h_t sum, __m256i codes, __m256i q4)
{
    sum = (v16h_t)_mm256_add_epi16((__m256i)sum, _mm256_maddubs_epi16(codes, q4));
    __asm__("" : "+x"(sum));
    return sum;
}

INLINE __m256i load_q4(const int8_t *q)
{
    int32_t v = 0;

    memcpy(&v, q, 4);
    return _mm256_set1_epi32(v);
}

/* Widen the sums of a block and add them to 8 rows of acc. */
INLINE void add_half(int32_t *acc, v16h_t sum)
{
    __m256i *p = (__m256i *)(void *)acc;

    _mm256_storeu_si256(p, _mm256_add_epi32(_mm256_loadu_si256(p),
                                            _mm256_madd_epi16((__m256i)sum, _mm256_set1_epi16(1))));
}

#define EACH_TOKEN(X)                                                                              \
    X(0)                                                                                           \
    if (n_tok > 1) X(1)                                                                            \
    if (n_tok > 2) X(2)                                                                            \
    if (n_tok > 3) X(3)                                                                            \
    if (n_tok > 4) X(4)

#define DECLARE(t) v16h_t lo##t = {0}, hi##t = {0}
#define STEP(t)                                                                                    \
    {                                                                                              \
        const __m256i q4 = load_q4(q + t * q_stride);                                              \
        lo##t            = dot2(lo##t, w_lo, q4);                                                  \
        hi##t            = dot2(hi##t, w_hi, q4);                                                  \
    }
#define END(t)                                                                                     \
    {                                                                                              \
        add_half(acc + t * acc_stride, lo##t);                                                     \
        add_half(acc + t * acc_stride + 8, hi##t);                                                 \
    }

typedef void mul_fn(int32_t *acc, size_t acc_stride, const gemm_plane_t *plane, size_t n_planes,
                    const int8_t *q, size_t q_stride);

/* One tile x n_tok (1..5) tokens, a constant after inlining. */
INLINE void mul_fixed(int32_t *acc, size_t acc_stride, const gemm_plane_t *plane, size_t n_planes,
                      const int8_t *q, size_t q_stride, size_t n_tok)
{
    DECLARE(0);
    DECLARE(1);
    DECLARE(2);
    DECLARE(3);
    DECLARE(4);

#pragma GCC unroll 4
    for (size_t p = 0; p < n_planes; p++, q += 4) {
        const __m256i w_lo = load_half(plane[p]), w_hi = load_half(plane[p] + 32);

        EACH_TOKEN(STEP);
    }
    EACH_TOKEN(END);
}

/* Not inlined: one function holds one loop, and its registers. */
#define MUL(n_tok)                                                                                 \
    static __attribute__((noinline)) void mul_##n_tok(int32_t *acc, size_t acc_stride,             \
                                                      const gemm_plane_t *plane, size_t n_planes,  \
                                                      const int8_t *q, size_t q_stride)            \
    {                                                                                              \
        mul_fixed(acc, acc_stride, plane, n_planes, q, q_stride, n_tok);                           \
    }
MUL(1)
MUL(2)
MUL(3)
MUL(4)
MUL(5)

static mul_fn *const MUL_FNS[TOKENS] = {mul_1, mul_2, mul_3, mul_4, mul_5};

static void mul_block(int32_t *acc, size_t acc_stride, const gemm_block_t *block, size_t n_tiles,
                      size_t n_planes, const int8_t *q, size_t q_stride, size_t n_tok)
{
    for (size_t t = 0; t < n_tok; t += TOKENS) {
        const size_t n = n_tok - t < TOKENS ? n_tok - t : TOKENS;

        for (size_t i = 0; i < n_tiles; i++) {
            MUL_FNS[n - 1](acc + t * acc_stride + KERN_TILE_ROWS * i, acc_stride, block->plane[i],
                           n_planes, q + t * q_stride, q_stride);
        }
    }
}

/* ---- A few tokens ---- */

#define EACH_OF_FEW(X)                                                                             \
    X(0)                                                                                           \
    if (n_tok > 1) X(1)                                                                            \
    if (n_tok > 2) X(2)                                                                            \
    if (n_tok > 3) X(3)

/* A plane, in halves, times the tokens. */
#define FEW_STEP(t)                                                                                \
    {                                                                                              \
        const __m256i q4 = load_q4(q + k_granule * t + at);                                        \
        lo##t            = dot2(lo##t, w_lo, q4);                                                  \
        hi##t            = dot2(hi##t, w_hi, q4);                                                  \
    }
#define PLANE(p, half_lo, half_hi)                                                                 \
    {                                                                                              \
        const __m256i w_lo = half_lo, w_hi = half_hi;                                              \
        const size_t  at = 4 * (p);                                                                \
        EACH_OF_FEW(FEW_STEP)                                                                      \
    }

/* At most T2_FLUSH granules; n_tok (1..4) is a constant after inlining. */
INLINE void t2_few_run(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t ahead,
                       const uint8_t *end, ptrdiff_t jump, size_t n, const int8_t *q, size_t n_tok)
{
    const __m256i three     = _mm256_set1_epi8(3);
    const size_t  k_granule = KERN_T2_K;

    DECLARE(0);
    DECLARE(1);
    DECLARE(2);
    DECLARE(3);
    for (size_t g = 0; g < n; g++, w += 64, q += k_granule * n_tok) {
        const __m256i a = load_half(w), b = load_half(w + 32);

        few_ahead(w, ahead, end, jump);
        PLANE(0, _mm256_and_si256(a, three), _mm256_and_si256(b, three));
        PLANE(1, _mm256_and_si256(_mm256_srli_epi16(a, 2), three),
              _mm256_and_si256(_mm256_srli_epi16(b, 2), three));
        PLANE(2, _mm256_and_si256(_mm256_srli_epi16(a, 4), three),
              _mm256_and_si256(_mm256_srli_epi16(b, 4), three));
        PLANE(3, _mm256_and_si256(_mm256_srli_epi16(a, 6), three),
              _mm256_and_si256(_mm256_srli_epi16(b, 6), three));
    }
    EACH_OF_FEW(END);
}

/* At most T3_FLUSH granules. */
INLINE void t3_few_run(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t ahead,
                       const uint8_t *end, ptrdiff_t jump, size_t n, const int8_t *q, size_t n_tok)
{
    const size_t k_granule = KERN_T3_K;

    DECLARE(0);
    DECLARE(1);
    DECLARE(2);
    DECLARE(3);
    for (size_t g = 0; g < n; g++, w += 64, q += k_granule * n_tok) {
        const __m256i v_lo = load_half(w), v_hi = load_half(w + 32);
        const __m256i x_lo = t3_mod(v_lo, KERN_T3_UNIT_0), x_hi = t3_mod(v_hi, KERN_T3_UNIT_0);
        const __m256i y_lo = t3_mod(x_lo, KERN_T3_UNIT_1), y_hi = t3_mod(x_hi, KERN_T3_UNIT_1);
        const __m256i z_lo = t3_mod(y_lo, KERN_T3_UNIT_2), z_hi = t3_mod(y_hi, KERN_T3_UNIT_2);

        few_ahead(w, ahead, end, jump);
        PLANE(0, t3_digit(v_lo, x_lo), t3_digit(v_hi, x_hi));
        PLANE(1, t3_digit(x_lo, y_lo), t3_digit(x_hi, y_hi));
        PLANE(2, t3_digit(y_lo, z_lo), t3_digit(y_hi, z_hi));
        PLANE(3, t3_digit3(z_lo), t3_digit3(z_hi));
        PLANE(4, t3_digit4(z_lo), t3_digit4(z_hi));
    }
    EACH_OF_FEW(END);
}

#define FEW_FN(format, run, flush, k_granule, n_tok)                                               \
    static __attribute__((noinline)) void format##_few_##n_tok(int32_t *acc, size_t acc_stride,    \
                                                               const uint8_t *w, ptrdiff_t jump,   \
                                                               size_t n, const int8_t *q)          \
    {                                                                                              \
        for (size_t g = 0; g < n; g += flush) {                                                    \
            run(acc, acc_stride, w + 64 * g, few_distance(n), w + 64 * n, jump,                    \
                n - g < flush ? n - g : flush, q + g * k_granule * n_tok, n_tok);                  \
        }                                                                                          \
    }
FEW_FN(t2, t2_few_run, T2_FLUSH, KERN_T2_K, 1)
FEW_FN(t2, t2_few_run, T2_FLUSH, KERN_T2_K, 2)
FEW_FN(t2, t2_few_run, T2_FLUSH, KERN_T2_K, 3)
FEW_FN(t2, t2_few_run, T2_FLUSH, KERN_T2_K, 4)
FEW_FN(t3, t3_few_run, T3_FLUSH, KERN_T3_K, 1)
FEW_FN(t3, t3_few_run, T3_FLUSH, KERN_T3_K, 2)
FEW_FN(t3, t3_few_run, T3_FLUSH, KERN_T3_K, 3)

static tern_few_fn *const T2_FEW[FEW] = {t2_few_1, t2_few_2, t2_few_3, t2_few_4};
static tern_few_fn *const T3_FEW[3]   = {t3_few_1, t3_few_2, t3_few_3};

void kern_gemm_t2_i8__avx2(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                           size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                           size_t n_tok)
{
    if (n_tok <= T2_MOST) {
        few_loops(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T2_K, FEW,
                  T2_FEW);
        return;
    }
    gemm_loops(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T2_K,
               GEMM_T2_BLOCK, t2_unpack, mul_block);
}

void kern_gemm_t3_i8__avx2(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                           size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                           size_t n_tok)
{
    if (n_tok <= T3_MOST) {
        few_loops(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T3_K, 3,
                  T3_FEW);
        return;
    }
    gemm_loops(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T3_K,
               GEMM_T3_BLOCK, t3_unpack, mul_block);
}

void kern_gemm_t2b_i8__avx2(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                            size_t n_tiles, size_t k_granules, const int8_t *q, size_t q_stride,
                            const int32_t *qsum_blocks, size_t n_tok)
{
    if (n_tok <= T2_MOST) {
        few_scaled_loops(y, y_stride, w, scales, n_tiles, k_granules, q, q_stride, qsum_blocks,
                         n_tok, FEW, T2_FEW);
        return;
    }
    gemm_scaled_loops(y, y_stride, w, scales, n_tiles, k_granules, q, q_stride, qsum_blocks, n_tok,
                      t2_unpack, mul_block);
}
