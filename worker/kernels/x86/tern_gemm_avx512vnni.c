/* worker/kernels/x86/tern_gemm_avx512vnni.c
 * Ternary products for several tokens with VPDPBUSD: 4 tiles x 6 tokens of sums in registers. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/x86/tern_gemm.h"

#include <immintrin.h>
#include <string.h>

enum {
    TOKENS      = 6,
    AHEAD_BYTES = 2048,
    /* Up to so many tokens the gemv, one token after the other, is faster (measured). */
    T2_FEW = 6,
    T3_FEW = 3,
};

static inline void t2_unpack(gemm_plane_t *plane, const uint8_t *w, size_t n)
{
    const __m512i three = _mm512_set1_epi8(3);

    for (size_t g = 0; g < n; g++, w += 64, plane += 4) {
        const __m512i v = _mm512_load_si512(w);

        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        _mm512_store_si512(plane[0], _mm512_and_si512(v, three));
        _mm512_store_si512(plane[1], _mm512_and_si512(_mm512_srli_epi16(v, 2), three));
        _mm512_store_si512(plane[2], _mm512_and_si512(_mm512_srli_epi16(v, 4), three));
        _mm512_store_si512(plane[3], _mm512_and_si512(_mm512_srli_epi16(v, 6), three));
    }
}

/* The digit is the top two bits of 3/4 of the byte: two averages make it, after a subtraction that
 * takes back their rounding up (85 must give 0, and 170 must give 1). Three times the byte drops
 * it. */
static inline void t3_unpack(gemm_plane_t *plane, const uint8_t *w, size_t n)
{
    const __m512i three = _mm512_set1_epi8(3), zero = _mm512_setzero_si512();
    const __m512i one = _mm512_set1_epi8(1);

    for (size_t g = 0; g < n; g++, w += 64, plane += 5) {
        __m512i x = _mm512_load_si512(w);

        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        for (size_t i = 0; i < 5; i++) {
            const __m512i y = _mm512_subs_epu8(x, one);
            const __m512i d = _mm512_avg_epu8(y, _mm512_avg_epu8(y, zero));
            _mm512_store_si512(plane[i], _mm512_and_si512(_mm512_srli_epi16(d, 6), three));
            x = _mm512_add_epi8(_mm512_add_epi8(x, x), x);
        }
    }
}

/* The sums are 24 named variables of the type that VPDPBUSD works on, and the loop over tokens is
 * written out. GCC keeps arrays and structs of vectors in memory, and a sum of type __m512i (eight
 * 64-bit elements) in two registers, one for each view of it. Conditions on nt and n_tok are
 * constants. */
typedef int32_t v16i_t __attribute__((vector_size(64)));

#define INLINE static inline __attribute__((always_inline))

INLINE __m512i load_q4(const int8_t *q)
{
    int32_t v = 0;

    memcpy(&v, q, 4);
    return _mm512_set1_epi32(v);
}

INLINE v16i_t load_sum(const int32_t *acc)
{
    return (v16i_t)_mm512_loadu_si512(acc);
}

INLINE v16i_t dot4(v16i_t sum, __m512i w, __m512i q4)
{
    return (v16i_t)_mm512_dpbusd_epi32((__m512i)sum, w, q4);
}

INLINE void store_sum(int32_t *acc, v16i_t sum)
{
    _mm512_storeu_si512(acc, (__m512i)sum);
}

#define EACH_TOKEN(X)                                                                              \
    X(0)                                                                                           \
    if (n_tok > 1) X(1)                                                                            \
    if (n_tok > 2) X(2)                                                                            \
    if (n_tok > 3) X(3)                                                                            \
    if (n_tok > 4) X(4)                                                                            \
    if (n_tok > 5) X(5)

#define DECLARE(t) v16i_t s##t##0 = {0}, s##t##1 = {0}, s##t##2 = {0}, s##t##3 = {0}
#define BEGIN(t)                                                                                   \
    {                                                                                              \
        s##t##0 = load_sum(acc + t * acc_stride);                                                  \
        if (nt > 1) {                                                                              \
            s##t##1 = load_sum(acc + t * acc_stride + 16);                                         \
            s##t##2 = load_sum(acc + t * acc_stride + 32);                                         \
            s##t##3 = load_sum(acc + t * acc_stride + 48);                                         \
        }                                                                                          \
    }
#define STEP(t)                                                                                    \
    {                                                                                              \
        const __m512i q4 = load_q4(q + t * q_stride);                                              \
        s##t##0          = dot4(s##t##0, w0, q4);                                                  \
        if (nt > 1) {                                                                              \
            s##t##1 = dot4(s##t##1, w1, q4);                                                       \
            s##t##2 = dot4(s##t##2, w2, q4);                                                       \
            s##t##3 = dot4(s##t##3, w3, q4);                                                       \
        }                                                                                          \
    }
#define END(t)                                                                                     \
    {                                                                                              \
        store_sum(acc + t * acc_stride, s##t##0);                                                  \
        if (nt > 1) {                                                                              \
            store_sum(acc + t * acc_stride + 16, s##t##1);                                         \
            store_sum(acc + t * acc_stride + 32, s##t##2);                                         \
            store_sum(acc + t * acc_stride + 48, s##t##3);                                         \
        }                                                                                          \
    }

/* nt (1 or 4) tiles x n_tok (1..6) tokens, both constant after inlining. */
INLINE void mul_fixed(int32_t *acc, size_t acc_stride, const gemm_plane_t (*plane)[GEMM_PLANES],
                      size_t nt, size_t n_planes, const int8_t *q, size_t q_stride, size_t n_tok)
{
    DECLARE(0);
    DECLARE(1);
    DECLARE(2);
    DECLARE(3);
    DECLARE(4);
    DECLARE(5);

    EACH_TOKEN(BEGIN);
    size_t p = 0;
    do {
        const __m512i w0 = _mm512_load_si512(plane[0][p]);
        const __m512i w1 = nt > 1 ? _mm512_load_si512(plane[1][p]) : w0;
        const __m512i w2 = nt > 1 ? _mm512_load_si512(plane[2][p]) : w0;
        const __m512i w3 = nt > 1 ? _mm512_load_si512(plane[3][p]) : w0;

        EACH_TOKEN(STEP);
        q += 4;
    } while (++p < n_planes);
    EACH_TOKEN(END);
}

typedef void mul_fn(int32_t *acc, size_t acc_stride, const gemm_plane_t (*plane)[GEMM_PLANES],
                    size_t n_planes, const int8_t *q, size_t q_stride);

/* Not inlined: one function holds one loop, and its registers. */
#define MUL(nt, n_tok)                                                                             \
    static __attribute__((noinline)) void mul_##nt##x##n_tok(                                      \
        int32_t *acc, size_t acc_stride, const gemm_plane_t(*plane)[GEMM_PLANES], size_t n_planes, \
        const int8_t *q, size_t q_stride)                                                          \
    {                                                                                              \
        mul_fixed(acc, acc_stride, plane, nt, n_planes, q, q_stride, n_tok);                       \
    }
MUL(1, 1)
MUL(1, 2)
MUL(1, 3)
MUL(1, 4)
MUL(1, 5)
MUL(1, 6)
MUL(4, 1)
MUL(4, 2)
MUL(4, 3)
MUL(4, 4)
MUL(4, 5)
MUL(4, 6)

static mul_fn *const MUL_1[TOKENS] = {mul_1x1, mul_1x2, mul_1x3, mul_1x4, mul_1x5, mul_1x6};
static mul_fn *const MUL_4[TOKENS] = {mul_4x1, mul_4x2, mul_4x3, mul_4x4, mul_4x5, mul_4x6};

static void mul_block(int32_t *acc, size_t acc_stride, const gemm_block_t *block, size_t n_tiles,
                      size_t n_planes, const int8_t *q, size_t q_stride, size_t n_tok)
{
    for (size_t t = 0; t < n_tok; t += TOKENS) {
        const size_t  n  = n_tok - t < TOKENS ? n_tok - t : TOKENS;
        const int8_t *qt = q + t * q_stride;
        int32_t      *a  = acc + t * acc_stride;

        if (n_tiles == GEMM_TILES) {
            MUL_4[n - 1](a, acc_stride, block->plane, n_planes, qt, q_stride);
            continue;
        }
        for (size_t i = 0; i < n_tiles; i++) {
            MUL_1[n - 1](a + 16 * i, acc_stride, block->plane + i, n_planes, qt, q_stride);
        }
    }
}

void kern_gemm_t2_i8__avx512vnni(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                                 size_t k_granules, const int8_t *q, size_t q_stride,
                                 const int32_t *qsum, size_t n_tok)
{
    if (n_tok <= T2_FEW) {
        kern_gemv_t2_i8__avx512vnni(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum,
                                    n_tok);
        return;
    }
    gemm_loops(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T2_K,
               GEMM_T2_BLOCK, t2_unpack, mul_block);
}

void kern_gemm_t3_i8__avx512vnni(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                                 size_t k_granules, const int8_t *q, size_t q_stride,
                                 const int32_t *qsum, size_t n_tok)
{
    if (n_tok <= T3_FEW) {
        kern_gemv_t3_i8__avx512vnni(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum,
                                    n_tok);
        return;
    }
    gemm_loops(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T3_K,
               GEMM_T3_BLOCK, t3_unpack, mul_block);
}

void kern_gemm_t2b_i8__avx512vnni(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                                  size_t n_tiles, size_t k_granules, const int8_t *q,
                                  size_t q_stride, const int32_t *qsum_blocks, size_t n_tok)
{
    if (n_tok <= T2_FEW) {
        kern_gemv_t2b_i8__avx512vnni(y, y_stride, w, scales, n_tiles, k_granules, q, q_stride,
                                     qsum_blocks, n_tok);
        return;
    }
    gemm_scaled_loops(y, y_stride, w, scales, n_tiles, k_granules, q, q_stride, qsum_blocks, n_tok,
                      t2_unpack, mul_block);
}
