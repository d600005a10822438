/* worker/kernels/x86/tern_gemm_avx2.c
 * Ternary products for several tokens with VPMADDUBSW: one tile x 4 tokens of 16-bit sums in
 * registers. A block is short enough that they cannot wrap, so a block is also the interval of
 * widening. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/x86/t3_avx2.h"
#include "worker/kernels/x86/tern_gemm.h"

#include <immintrin.h>
#include <string.h>

enum {
    TOKENS      = 4,
    AHEAD_BYTES = 2048,
    /* Up to so many tokens the gemv, one token after the other, is faster (measured). */
    T2_FEW = 4,
    T3_FEW = 1,
};

/* One VPMADDUBSW adds up to 2 * 2 * 128 in magnitude. */
_Static_assert(GEMM_PLANES * 512 <= 32768, "sums of a block would wrap in 16 bits");

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
    const __m256i flip = _mm256_set1_epi8((char)0x80);

    for (size_t g = 0; g < n; g++, w += 64, plane += 5) {
        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        for (size_t half = 0; half < 64; half += 32) {
            __m256i x = _mm256_xor_si256(load_half(w + half), flip);

            for (size_t i = 0; i < 5; i++) {
                store_half(plane[i] + half, t3_digit(x));
                x = t3_next(x);
            }
        }
    }
}

/* Named variables of the element type in use, for the reason given in tern_gemm_avx512vnni.c. */
typedef int16_t v16h_t __attribute__((vector_size(32)));

INLINE v16h_t dot2(v16h_t sum, __m256i codes, __m256i q4)
{
    return (v16h_t)_mm256_add_epi16((__m256i)sum, _mm256_maddubs_epi16(codes, q4));
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
    if (n_tok > 3) X(3)

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

/* One tile x n_tok (1..4) tokens, a constant after inlining. */
INLINE void mul_fixed(int32_t *acc, size_t acc_stride, const gemm_plane_t *plane, size_t n_planes,
                      const int8_t *q, size_t q_stride, size_t n_tok)
{
    DECLARE(0);
    DECLARE(1);
    DECLARE(2);
    DECLARE(3);

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

static mul_fn *const MUL_FNS[TOKENS] = {mul_1, mul_2, mul_3, mul_4};

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

void kern_gemm_t2_i8__avx2(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                           size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                           size_t n_tok)
{
    if (n_tok <= T2_FEW) {
        kern_gemv_t2_i8__avx2(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok);
        return;
    }
    gemm_loops(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T2_K,
               GEMM_T2_BLOCK, t2_unpack, mul_block);
}

void kern_gemm_t3_i8__avx2(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                           size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                           size_t n_tok)
{
    if (n_tok <= T3_FEW) {
        kern_gemv_t3_i8__avx2(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok);
        return;
    }
    gemm_loops(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T3_K,
               GEMM_T3_BLOCK, t3_unpack, mul_block);
}

void kern_gemm_t2b_i8__avx2(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                            size_t n_tiles, size_t k_granules, const int8_t *q, size_t q_stride,
                            const int32_t *qsum_blocks, size_t n_tok)
{
    if (n_tok <= T2_FEW) {
        kern_gemv_t2b_i8__avx2(y, y_stride, w, scales, n_tiles, k_granules, q, q_stride,
                               qsum_blocks, n_tok);
        return;
    }
    gemm_scaled_loops(y, y_stride, w, scales, n_tiles, k_granules, q, q_stride, qsum_blocks, n_tok,
                      t2_unpack, mul_block);
}
