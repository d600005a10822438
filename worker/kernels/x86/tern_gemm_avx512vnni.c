/* worker/kernels/x86/tern_gemm_avx512vnni.c
 * Ternary products for several tokens with VPDPBUSD. A few: a tile x up to 12 tokens, planes and
 * sums in registers. Many: planes of 4 tiles in L1, 4 tiles x 6 tokens of sums in registers. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/x86/tern_avx512.h"
#include "worker/kernels/x86/tern_few.h"
#include "worker/kernels/x86/tern_gemm.h"

enum {
    TOKENS      = 6,
    AHEAD_BYTES = 2048,
    FEW         = 12, /* tokens of a tile at once without planes in memory */
    FEW_MOST    = 24, /* up to so many tokens that is faster (measured) */
    FEW_TILES   = 8, /* and for more, in groups, if so many tiles share their activations' layout */
    SCALED_MOST = 8,
};

static inline void t2_unpack(gemm_plane_t *plane, const uint8_t *w, size_t n)
{
    for (size_t g = 0; g < n; g++, w += 64, plane += 4) {
        __m512i p0, p1, p2, p3;

        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        t2_planes(load_granule(w), &p0, &p1, &p2, &p3);
        _mm512_store_si512(plane[0], p0);
        _mm512_store_si512(plane[1], p1);
        _mm512_store_si512(plane[2], p2);
        _mm512_store_si512(plane[3], p3);
    }
}

static inline void t3_unpack(gemm_plane_t *plane, const uint8_t *w, size_t n)
{
    for (size_t g = 0; g < n; g++, w += 64, plane += 5) {
        __m512i p0, p1, p2, p3, p4;

        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        t3_planes(load_granule(w), &p0, &p1, &p2, &p3, &p4);
        _mm512_store_si512(plane[0], p0);
        _mm512_store_si512(plane[1], p1);
        _mm512_store_si512(plane[2], p2);
        _mm512_store_si512(plane[3], p3);
        _mm512_store_si512(plane[4], p4);
    }
}

/* ---- Many tokens ---- */

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

/* ---- A few tokens ---- */

#define EACH_OF_FEW(X)                                                                             \
    X(0)                                                                                           \
    if (n_tok > 1) X(1)                                                                            \
    if (n_tok > 2) X(2)                                                                            \
    if (n_tok > 3) X(3)                                                                            \
    if (n_tok > 4) X(4)                                                                            \
    if (n_tok > 5) X(5)                                                                            \
    if (n_tok > 6) X(6)                                                                            \
    if (n_tok > 7) X(7)                                                                            \
    if (n_tok > 8) X(8)                                                                            \
    if (n_tok > 9) X(9)                                                                            \
    if (n_tok > 10) X(10)                                                                          \
    if (n_tok > 11) X(11)
#define EACH_OF_SIX(X)                                                                             \
    X(0)                                                                                           \
    if (n_tok > 1) X(1)                                                                            \
    if (n_tok > 2) X(2)                                                                            \
    if (n_tok > 3) X(3)                                                                            \
    if (n_tok > 4) X(4)                                                                            \
    if (n_tok > 5) X(5)

#define FEW_BEGIN(t) s##t = load_sum(acc + t * acc_stride);
#define FEW_END(t)   store_sum(acc + t * acc_stride, s##t);
#define FEW_SUMS                                                                                   \
    v16i_t s0 = {0}, s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0, s8 = s0,       \
           s9 = s0, s10 = s0, s11 = s0;

/* A granule's plane p times the tokens. */
#define T2_STEP(t) s##t = dot4(s##t, w, load_q4(q + KERN_T2_K * t + at));
#define T3_STEP(t) s##t = dot4(s##t, w, load_q4(q + KERN_T3_K * t + at));
#define PLANE(i, STEP)                                                                             \
    {                                                                                              \
        const __m512i w  = p##i;                                                                   \
        const size_t  at = 4 * (i);                                                                \
        EACH_OF_FEW(STEP)                                                                          \
    }

/* n_tok (1..12) is a constant after inlining. */
INLINE void t2_few(int32_t *acc, size_t acc_stride, const uint8_t *w64, ptrdiff_t jump, size_t n,
                   const int8_t *q, size_t n_tok)
{
    const uint8_t *const end   = w64 + 64 * n;
    const size_t         ahead = few_distance(n);
    FEW_SUMS;

    EACH_OF_FEW(FEW_BEGIN);
    for (size_t g = 0; g < n; g++, w64 += 64, q += KERN_T2_K * n_tok) {
        __m512i p0, p1, p2, p3;

        few_ahead(w64, ahead, end, jump);
        t2_planes(load_granule(w64), &p0, &p1, &p2, &p3);
        PLANE(0, T2_STEP);
        PLANE(1, T2_STEP);
        PLANE(2, T2_STEP);
        PLANE(3, T2_STEP);
    }
    EACH_OF_FEW(FEW_END);
}

/* The same for up to 6 tokens, which leave registers for four sums a token: bit pairs need no
 * shift then (ternary_avx512vnni.c), and no sum waits for the one before. A chunk is short enough
 * for any multiple. */
#define SUMS4(t) v16i_t a##t = {0}, b##t = {0}, c##t = {0}, d##t = {0};
#define T2_STEP4(t)                                                                                \
    {                                                                                              \
        a##t = dot4(a##t, p0, load_q4(q + KERN_T2_K * t));                                         \
        b##t = dot4(b##t, p1, load_q4(q + KERN_T2_K * t + 4));                                     \
        c##t = dot4(c##t, p2, load_q4(q + KERN_T2_K * t + 8));                                     \
        d##t = dot4(d##t, p3, load_q4(q + KERN_T2_K * t + 12));                                    \
    }
#define T2_END4(t)                                                                                 \
    store_sum(acc + t * acc_stride,                                                                \
              load_sum(acc + t * acc_stride) + a##t + (b##t >> 2) + (c##t >> 4) + (d##t >> 6));

INLINE void t2_six(int32_t *acc, size_t acc_stride, const uint8_t *w, ptrdiff_t jump, size_t n,
                   const int8_t *q, size_t n_tok)
{
    const uint8_t *const end   = w + 64 * n;
    const size_t         ahead = few_distance(n);
    SUMS4(0)
    SUMS4(1)
    SUMS4(2)
    SUMS4(3)
    SUMS4(4)
    SUMS4(5)

    for (size_t g = 0; g < n; g++, w += 64, q += KERN_T2_K * n_tok) {
        const __m512i v  = load_granule(w);
        const __m512i p0 = _mm512_and_si512(v, _mm512_set1_epi8(0x03));
        const __m512i p1 = _mm512_and_si512(v, _mm512_set1_epi8(0x0c));
        const __m512i p2 = _mm512_and_si512(v, _mm512_set1_epi8(0x30));
        const __m512i p3 = _mm512_and_si512(v, _mm512_set1_epi8((char)0xc0));

        few_ahead(w, ahead, end, jump);
        EACH_OF_SIX(T2_STEP4);
    }
    EACH_OF_SIX(T2_END4);
}

INLINE void t3_few(int32_t *acc, size_t acc_stride, const uint8_t *w64, ptrdiff_t jump, size_t n,
                   const int8_t *q, size_t n_tok)
{
    const uint8_t *const end   = w64 + 64 * n;
    const size_t         ahead = few_distance(n);
    FEW_SUMS;

    EACH_OF_FEW(FEW_BEGIN);
    for (size_t g = 0; g < n; g++, w64 += 64, q += KERN_T3_K * n_tok) {
        __m512i p0, p1, p2, p3, p4;

        few_ahead(w64, ahead, end, jump);
        t3_planes(load_granule(w64), &p0, &p1, &p2, &p3, &p4);
        PLANE(0, T3_STEP);
        PLANE(1, T3_STEP);
        PLANE(2, T3_STEP);
        PLANE(3, T3_STEP);
        PLANE(4, T3_STEP);
    }
    EACH_OF_FEW(FEW_END);
}

/* And for up to 6 tokens: the multiples of 85, 29 and 9 are multiplied as they are. */
#define T3_STEP4(t)                                                                                \
    {                                                                                              \
        a##t = dot4(a##t, p0, load_q4(q + KERN_T3_K * t));                                         \
        b##t = dot4(b##t, p1, load_q4(q + KERN_T3_K * t + 4));                                     \
        c##t = dot4(c##t, p2, load_q4(q + KERN_T3_K * t + 8));                                     \
        d##t = dot4(d##t, p3, load_q4(q + KERN_T3_K * t + 12));                                    \
        d##t = dot4(d##t, p4, load_q4(q + KERN_T3_K * t + 16));                                    \
    }
#define T3_END4(t)                                                                                 \
    store_sum(acc + t * acc_stride,                                                                \
              load_sum(acc + t * acc_stride) + divide(a##t, KERN_T3_UNIT_0) +                      \
                  divide(b##t, KERN_T3_UNIT_1) + divide(c##t, KERN_T3_UNIT_2) + d##t);

INLINE void t3_six(int32_t *acc, size_t acc_stride, const uint8_t *w, ptrdiff_t jump, size_t n,
                   const int8_t *q, size_t n_tok)
{
    const uint8_t *const end   = w + 64 * n;
    const size_t         ahead = few_distance(n);
    SUMS4(0)
    SUMS4(1)
    SUMS4(2)
    SUMS4(3)
    SUMS4(4)
    SUMS4(5)

    for (size_t g = 0; g < n; g++, w += 64, q += KERN_T3_K * n_tok) {
        const __m512i v  = load_granule(w);
        const __m512i r0 = t3_mod(v, KERN_T3_UNIT_0), r1 = t3_mod(r0, KERN_T3_UNIT_1);
        const __m512i r2 = t3_mod(r1, KERN_T3_UNIT_2);
        const __m512i p0 = _mm512_sub_epi8(v, r0), p1 = _mm512_sub_epi8(r0, r1);
        const __m512i p2 = _mm512_sub_epi8(r1, r2);
        const __m512i p3 = _mm512_shuffle_epi8(t3_table(1), r2);
        const __m512i p4 = _mm512_shuffle_epi8(t3_table(0), r2);

        few_ahead(w, ahead, end, jump);
        EACH_OF_SIX(T3_STEP4);
    }
    EACH_OF_SIX(T3_END4);
}

#define FEW_FN(format, body, n_tok)                                                                \
    static __attribute__((noinline)) void format##_few_##n_tok(int32_t *acc, size_t acc_stride,    \
                                                               const uint8_t *w, ptrdiff_t jump,   \
                                                               size_t n, const int8_t *q)          \
    {                                                                                              \
        body(acc, acc_stride, w, jump, n, q, n_tok);                                               \
    }
#define FEW_FNS(format)                                                                            \
    FEW_FN(format, format##_six, 1)                                                                \
    FEW_FN(format, format##_six, 2)                                                                \
    FEW_FN(format, format##_six, 3)                                                                \
    FEW_FN(format, format##_six, 4)                                                                \
    FEW_FN(format, format##_six, 5)                                                                \
    FEW_FN(format, format##_six, 6)                                                                \
    FEW_FN(format, format##_few, 7)                                                                \
    FEW_FN(format, format##_few, 8)                                                                \
    FEW_FN(format, format##_few, 9)                                                                \
    FEW_FN(format, format##_few, 10)                                                               \
    FEW_FN(format, format##_few, 11)                                                               \
    FEW_FN(format, format##_few, 12)                                                               \
    static tern_few_fn *const format##_few_fns[FEW] = {                                            \
        format##_few_1, format##_few_2,  format##_few_3,  format##_few_4,                          \
        format##_few_5, format##_few_6,  format##_few_7,  format##_few_8,                          \
        format##_few_9, format##_few_10, format##_few_11, format##_few_12};
FEW_FNS(t2)
FEW_FNS(t3)

INLINE bool use_few(size_t n_tiles, size_t n_tok)
{
    return n_tok <= FEW_MOST || n_tiles >= FEW_TILES;
}

void kern_gemm_t2_i8__avx512vnni(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                                 size_t k_granules, const int8_t *q, size_t q_stride,
                                 const int32_t *qsum, size_t n_tok)
{
    for (size_t n = 0; use_few(n_tiles, n_tok) && n_tok > 0; n_tok -= n) {
        n = few_group(0, n_tok, FEW_MOST);
        few_loops(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n, KERN_T2_K, FEW,
                  t2_few_fns);
        acc += n * acc_stride;
        q += n * q_stride;
        qsum += n;
    }
    if (n_tok == 0) return;
    gemm_loops(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T2_K,
               GEMM_T2_BLOCK, t2_unpack, mul_block);
}

void kern_gemm_t3_i8__avx512vnni(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                                 size_t k_granules, const int8_t *q, size_t q_stride,
                                 const int32_t *qsum, size_t n_tok)
{
    for (size_t n = 0; use_few(n_tiles, n_tok) && n_tok > 0; n_tok -= n) {
        n = few_group(0, n_tok, FEW_MOST);
        few_loops(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n, KERN_T3_K, FEW,
                  t3_few_fns);
        acc += n * acc_stride;
        q += n * q_stride;
        qsum += n;
    }
    if (n_tok == 0) return;
    gemm_loops(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T3_K,
               GEMM_T3_BLOCK, t3_unpack, mul_block);
}

void kern_gemm_t2b_i8__avx512vnni(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                                  size_t n_tiles, size_t k_granules, const int8_t *q,
                                  size_t q_stride, const int32_t *qsum_blocks, size_t n_tok)
{
    if (n_tok <= SCALED_MOST) {
        few_scaled_loops(y, y_stride, w, scales, n_tiles, k_granules, q, q_stride, qsum_blocks,
                         n_tok, FEW, t2_few_fns);
        return;
    }
    gemm_scaled_loops(y, y_stride, w, scales, n_tiles, k_granules, q, q_stride, qsum_blocks, n_tok,
                      t2_unpack, mul_block);
}
