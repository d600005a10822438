/* worker/kernels/x86/tern_gemm_avx512vnni.c
 * Ternary products for several tokens with VPDPBUSD: 4 tiles x 6 tokens of sums in registers. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/x86/tern_gemm.h"

#include <immintrin.h>
#include <string.h>

enum { TOKENS = 6, AHEAD_BYTES = 2048 };

static inline void t2_unpack(uint8_t (*plane)[64], const uint8_t *w, size_t n)
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

/* The digit is the top two bits of about 3/4 of the byte; three times the byte drops it. */
static inline void t3_unpack(uint8_t (*plane)[64], const uint8_t *w, size_t n)
{
    const __m512i three = _mm512_set1_epi8(3), zero = _mm512_setzero_si512();

    for (size_t g = 0; g < n; g++, w += 64, plane += 5) {
        __m512i x = _mm512_load_si512(w);

        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        for (size_t i = 0; i < 5; i++) {
            const __m512i d = _mm512_avg_epu8(x, _mm512_avg_epu8(x, zero));
            _mm512_store_si512(plane[i], _mm512_and_si512(_mm512_srli_epi16(d, 6), three));
            x = _mm512_add_epi8(_mm512_add_epi8(x, x), x);
        }
    }
}

/* The sums are 24 named variables, and the loops over tokens are written out: GCC keeps arrays and structs
 * of vectors in memory, stored anew in every step. Conditions on nt and n_tok are constants. */
#define EACH_TOKEN(X)                                                                             \
    X(0)                                                                                          \
    if (n_tok > 1) X(1)                                                                           \
    if (n_tok > 2) X(2)                                                                           \
    if (n_tok > 3) X(3)                                                                           \
    if (n_tok > 4) X(4)                                                                           \
    if (n_tok > 5) X(5)

#define DECLARE(t)                                                                                \
    __m512i s##t##0 = _mm512_setzero_si512(), s##t##1 = s##t##0, s##t##2 = s##t##0,               \
            s##t##3 = s##t##0;
#define BEGIN(t)                                                                                  \
    {                                                                                             \
        s##t##0 = begin(acc + t * acc_stride, qsum, t);                                           \
        if (nt > 1) {                                                                             \
            s##t##1 = begin(acc + t * acc_stride + 16, qsum, t);                                  \
            s##t##2 = begin(acc + t * acc_stride + 32, qsum, t);                                  \
            s##t##3 = begin(acc + t * acc_stride + 48, qsum, t);                                  \
        }                                                                                         \
    }
#define STEP(t)                                                                                   \
    {                                                                                             \
        const __m512i q4 = load_q4(q + t * q_stride);                                             \
        s##t##0          = _mm512_dpbusd_epi32(s##t##0, w0, q4);                                  \
        if (nt > 1) {                                                                             \
            s##t##1 = _mm512_dpbusd_epi32(s##t##1, w1, q4);                                       \
            s##t##2 = _mm512_dpbusd_epi32(s##t##2, w2, q4);                                       \
            s##t##3 = _mm512_dpbusd_epi32(s##t##3, w3, q4);                                       \
        }                                                                                         \
    }
#define END(t)                                                                                    \
    {                                                                                             \
        _mm512_storeu_si512(acc + t * acc_stride, s##t##0);                                       \
        if (nt > 1) {                                                                             \
            _mm512_storeu_si512(acc + t * acc_stride + 16, s##t##1);                              \
            _mm512_storeu_si512(acc + t * acc_stride + 32, s##t##2);                              \
            _mm512_storeu_si512(acc + t * acc_stride + 48, s##t##3);                              \
        }                                                                                         \
    }

#define INLINE static inline __attribute__((always_inline))

INLINE __m512i load_q4(const int8_t *q)
{
    int32_t v = 0;

    memcpy(&v, q, 4);
    return _mm512_set1_epi32(v);
}

INLINE __m512i begin(const int32_t *acc, const int32_t *qsum, size_t t)
{
    return qsum != NULL ? _mm512_set1_epi32(-qsum[t]) : _mm512_loadu_si512(acc);
}

/* nt (1 or 4) tiles x n_tok (1..6) tokens, both constant after inlining. */
INLINE void mul_fixed(int32_t *acc, size_t acc_stride, const uint8_t (*plane)[GEMM_PLANES][64],
                      size_t nt, size_t n_planes, const int8_t *q, size_t q_stride,
                      const int32_t *qsum, size_t n_tok)
{
    DECLARE(0) DECLARE(1) DECLARE(2) DECLARE(3) DECLARE(4) DECLARE(5)

    EACH_TOKEN(BEGIN)
    for (size_t p = 0; p < n_planes; p++, q += 4) {
        const __m512i w0 = _mm512_load_si512(plane[0][p]);
        const __m512i w1 = nt > 1 ? _mm512_load_si512(plane[1][p]) : w0;
        const __m512i w2 = nt > 1 ? _mm512_load_si512(plane[2][p]) : w0;
        const __m512i w3 = nt > 1 ? _mm512_load_si512(plane[3][p]) : w0;

        EACH_TOKEN(STEP)
    }
    EACH_TOKEN(END)
}

#define MUL_CASE(nt, n)                                                                           \
    case n: mul_fixed(acc, acc_stride, plane, nt, n_planes, q, q_stride, qsum, n); break;
#define MUL_TOKENS(nt)                                                                            \
    switch (n_tok) {                                                                              \
        MUL_CASE(nt, 6)                                                                           \
        MUL_CASE(nt, 5)                                                                           \
        MUL_CASE(nt, 4)                                                                           \
        MUL_CASE(nt, 3)                                                                           \
        MUL_CASE(nt, 2)                                                                           \
        MUL_CASE(nt, 1)                                                                           \
    default: break;                                                                               \
    }

static void mul_4(int32_t *acc, size_t acc_stride, const uint8_t (*plane)[GEMM_PLANES][64],
                  size_t n_planes, const int8_t *q, size_t q_stride, const int32_t *qsum,
                  size_t n_tok)
{
    MUL_TOKENS(4)
}

static void mul_1(int32_t *acc, size_t acc_stride, const uint8_t (*plane)[GEMM_PLANES][64],
                  size_t n_planes, const int8_t *q, size_t q_stride, const int32_t *qsum,
                  size_t n_tok)
{
    MUL_TOKENS(1)
}

static void mul_block(int32_t *acc, size_t acc_stride, const gemm_block_t *block, size_t n_tiles,
                      size_t n_planes, const int8_t *q, size_t q_stride, const int32_t *qsum,
                      size_t n_tok)
{
    for (size_t t = 0; t < n_tok; t += TOKENS) {
        const size_t   n  = n_tok - t < TOKENS ? n_tok - t : TOKENS;
        const int32_t *qs = qsum != NULL ? qsum + t : NULL;
        int32_t       *a  = acc + t * acc_stride;

        if (n_tiles == GEMM_TILES) {
            mul_4(a, acc_stride, block->plane, n_planes, q + t * q_stride, q_stride, qs, n);
            continue;
        }
        for (size_t i = 0; i < n_tiles; i++) {
            mul_1(a + 16 * i, acc_stride, block->plane + i, n_planes, q + t * q_stride, q_stride, qs,
                  n);
        }
    }
}

void kern_gemm_t2_i8__avx512vnni(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                                 size_t k_granules, const int8_t *q, size_t q_stride,
                                 const int32_t *qsum, size_t n_tok)
{
    gemm_loops(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T2_K,
               GEMM_T2_BLOCK, t2_unpack, mul_block);
}

void kern_gemm_t3_i8__avx512vnni(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                                 size_t k_granules, const int8_t *q, size_t q_stride,
                                 const int32_t *qsum, size_t n_tok)
{
    gemm_loops(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T3_K,
               GEMM_T3_BLOCK, t3_unpack, mul_block);
}
