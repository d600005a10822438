/* worker/kernels/x86/ternary_avx512vnni.c
 * Ternary products for one token, or a few in turn while a tile lies in L1, with VPDPBUSD: a stream
 * of weights, a little arithmetic.
 *
 * A granule (64 bytes) fills one register. VPDPBUSD wants unsigned x signed bytes, so the codes
 * (trit + 1) are multiplied and the sum of q is subtracted at the end. */
#include "worker/kernels/kernel_decl.h"

#include <immintrin.h>
#include <string.h>

/* How far ahead of use the weights are asked for: a few pages, past what the hardware's own
 * prefetcher reaches, far below the size of L1. */
enum { AHEAD_BYTES = 4096, BLOCK = KERN_BLOCK_K / KERN_T2_K };

static inline __m512i load_q4(const int8_t *q)
{
    int32_t v = 0;

    memcpy(&v, q, 4);
    return _mm512_set1_epi32(v);
}

/* One tile of t2. The bit pairs are masked but not shifted: accumulator s holds 4^s times its sum
 * and is shifted at the end, which is exact. Range: a granule adds at most 4 * 128 * 128 = 2^16 in
 * magnitude to the largest of them, and the 2^15 granules of K = 2^19 reach -2^31, which still fits
 * (the positive side stays below, as q <= 127). */
static inline __m512i t2_tile(const uint8_t *w, size_t k_granules, const int8_t *q)
{
    const __m512i m0 = _mm512_set1_epi8(0x03), m1 = _mm512_set1_epi8(0x0c);
    const __m512i m2 = _mm512_set1_epi8(0x30), m3 = _mm512_set1_epi8((char)0xc0);
    __m512i       a0 = _mm512_setzero_si512(), a1 = a0, a2 = a0, a3 = a0;

    for (size_t g = 0; g < k_granules; g++, w += 64, q += KERN_T2_K) {
        const __m512i v = _mm512_load_si512(w);

        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        a0 = _mm512_dpbusd_epi32(a0, _mm512_and_si512(v, m0), load_q4(q));
        a1 = _mm512_dpbusd_epi32(a1, _mm512_and_si512(v, m1), load_q4(q + 4));
        a2 = _mm512_dpbusd_epi32(a2, _mm512_and_si512(v, m2), load_q4(q + 8));
        a3 = _mm512_dpbusd_epi32(a3, _mm512_and_si512(v, m3), load_q4(q + 12));
    }
    a0 = _mm512_add_epi32(a0, _mm512_srai_epi32(a1, 2));
    a2 = _mm512_add_epi32(_mm512_srai_epi32(a2, 4), _mm512_srai_epi32(a3, 6));
    return _mm512_add_epi32(a0, a2);
}

void kern_gemv_t2_i8__avx512vnni(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                                 size_t k_granules, const int8_t *q, size_t q_stride,
                                 const int32_t *qsum, size_t n_tok)
{
    for (size_t tile = 0; tile < n_tiles; tile++, w += 64 * k_granules, acc += KERN_TILE_ROWS) {
        for (size_t t = 0; t < n_tok; t++) {
            const __m512i total = t2_tile(w, k_granules, q + t * q_stride);
            const __m512i sum   = _mm512_set1_epi32(qsum[t]);
            _mm512_storeu_si512(acc + t * acc_stride, _mm512_sub_epi32(total, sum));
        }
    }
}

/* One tile of block-scaled t2. */
static inline __m512 t2b_tile(const uint8_t *w, const float *scales, size_t k_granules,
                              const int8_t *q, const int32_t *qsum_blocks)
{
    __m512 y = _mm512_setzero_ps();

    for (size_t g = 0; g < k_granules; g += BLOCK, scales += KERN_TILE_ROWS) {
        const size_t  n     = k_granules - g < BLOCK ? k_granules - g : BLOCK;
        const __m512i total = t2_tile(w + 64 * g, n, q + KERN_T2_K * g);
        const __m512i acc   = _mm512_sub_epi32(total, _mm512_set1_epi32(*qsum_blocks++));

        y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(scales), y);
    }
    return y;
}

void kern_gemv_t2b_i8__avx512vnni(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                                  size_t n_tiles, size_t k_granules, const int8_t *q,
                                  size_t q_stride, const int32_t *qsum_blocks, size_t n_tok)
{
    const size_t n_blocks = kern_blocks(k_granules);

    for (size_t tile = 0; tile < n_tiles; tile++, w += 64 * k_granules, y += KERN_TILE_ROWS) {
        for (size_t t = 0; t < n_tok; t++) {
            _mm512_storeu_ps(y + t * y_stride,
                             t2b_tile(w, scales + tile * n_blocks * KERN_TILE_ROWS, k_granules,
                                      q + t * q_stride, qsum_blocks + t * n_blocks));
        }
    }
}

/* 3 x mod 256: drops the leading digit of a t3 byte. */
static inline __m512i t3_next(__m512i x)
{
    return _mm512_add_epi8(_mm512_add_epi8(x, x), x);
}

/* One run of granules of t3. With x_0 the stored byte and x_(n+1) = 3 x_n mod 256, digit n is
 * floor(3 x_n / 256) = (3 x_n - x_(n+1)) / 256. So no digit is ever extracted:
 *   256 * sum digit_n q_n = 3 * sum x_n q_n - sum x_(n+1) q_n
 * where the parts may wrap in 32 bits as long as the whole fits: see T3_RUN. Two VPDPBUSD and two
 * additions a digit are fewer than extraction takes. */
static inline __m512i t3_run(const uint8_t *w, size_t k_granules, const int8_t *q)
{
    __m512i a0 = _mm512_setzero_si512(), a1 = a0, a2 = a0, b0 = a0, b1 = a0, b2 = a0;

    for (size_t g = 0; g < k_granules; g++, w += 64, q += KERN_T3_K) {
        const __m512i x0 = _mm512_load_si512(w);
        const __m512i q0 = load_q4(q), q1 = load_q4(q + 4), q2 = load_q4(q + 8);
        const __m512i q3 = load_q4(q + 12), q4 = load_q4(q + 16);
        const __m512i x1 = t3_next(x0), x2 = t3_next(x1), x3 = t3_next(x2), x4 = t3_next(x3);

        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        a0 = _mm512_dpbusd_epi32(a0, x0, q0);
        b0 = _mm512_dpbusd_epi32(b0, x1, q0);
        a1 = _mm512_dpbusd_epi32(a1, x1, q1);
        b1 = _mm512_dpbusd_epi32(b1, x2, q1);
        a2 = _mm512_dpbusd_epi32(a2, x2, q2);
        b2 = _mm512_dpbusd_epi32(b2, x3, q2);
        a0 = _mm512_dpbusd_epi32(a0, x3, q3);
        b0 = _mm512_dpbusd_epi32(b0, x4, q3);
        a1 = _mm512_dpbusd_epi32(a1, x4, q4);
        b1 = _mm512_dpbusd_epi32(b1, t3_next(x4), q4);
    }
    a0 = _mm512_add_epi32(_mm512_add_epi32(a0, a1), a2);
    b0 = _mm512_add_epi32(_mm512_add_epi32(b0, b1), b2);
    a1 = _mm512_add_epi32(_mm512_add_epi32(a0, a0), a0);
    return _mm512_srai_epi32(_mm512_sub_epi32(a1, b0), 8);
}

/* Granules per run: |256 * sum digit q| <= 256 * 2 * 128 * 20 * T3_RUN must not pass 2^31. */
enum { T3_RUN = 1600 };
_Static_assert((int64_t)256 * 2 * 128 * KERN_T3_K * T3_RUN <= (int64_t)1 << 31,
               "t3 sums would wrap");

static inline __m512i t3_tile(const uint8_t *w, size_t k_granules, const int8_t *q)
{
    __m512i total = _mm512_setzero_si512();

    for (size_t g = 0; g < k_granules; g += T3_RUN) {
        const size_t n = k_granules - g < T3_RUN ? k_granules - g : T3_RUN;
        total          = _mm512_add_epi32(total, t3_run(w + 64 * g, n, q + KERN_T3_K * g));
    }
    return total;
}

void kern_gemv_t3_i8__avx512vnni(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                                 size_t k_granules, const int8_t *q, size_t q_stride,
                                 const int32_t *qsum, size_t n_tok)
{
    for (size_t tile = 0; tile < n_tiles; tile++, w += 64 * k_granules, acc += KERN_TILE_ROWS) {
        for (size_t t = 0; t < n_tok; t++) {
            const __m512i total = t3_tile(w, k_granules, q + t * q_stride);
            const __m512i sum   = _mm512_set1_epi32(qsum[t]);
            _mm512_storeu_si512(acc + t * acc_stride, _mm512_sub_epi32(total, sum));
        }
    }
}
