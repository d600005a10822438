/* worker/kernels/x86/ternary_avx512vnni.c
 * Ternary products for one token with VPDPBUSD: a stream of weights, a little arithmetic.
 *
 * A granule (64 bytes) fills one register. VPDPBUSD wants unsigned x signed bytes, so the codes
 * (trit + 1) are multiplied and the sum of q is subtracted at the end. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/x86/tern_avx512.h"

/* How far ahead of use the weights of t3 are asked for: a few pages, past what the hardware's own
 * prefetcher reaches, far below the size of L1. Those of t2 are not: with so little work for each
 * line the hardware alone reads faster (docs/DECISIONS.md). */
enum { AHEAD_BYTES = 4096, BLOCK = KERN_BLOCK_K / KERN_T2_K };

/* One tile of t2. The bit pairs are masked but not shifted: accumulator s holds 4^s times its sum
 * and is shifted at the end, which is exact. Range: a granule adds at most 4 * 128 * 128 = 2^16 in
 * magnitude to the largest of them, and the 2^15 granules of K = 2^19 reach -2^31, which still fits
 * (the positive side stays below, as q <= 127). */
static inline v16i_t t2_tile(const uint8_t *w, size_t k_granules, const int8_t *q)
{
    const __m512i m0 = _mm512_set1_epi8(0x03), m1 = _mm512_set1_epi8(0x0c);
    const __m512i m2 = _mm512_set1_epi8(0x30), m3 = _mm512_set1_epi8((char)0xc0);
    v16i_t        a0 = {0}, a1 = a0, a2 = a0, a3 = a0;

    for (size_t g = 0; g < k_granules; g++, w += 64, q += KERN_T2_K) {
        const __m512i v = load_granule(w);

        a0 = dot4(a0, _mm512_and_si512(v, m0), load_q4(q));
        a1 = dot4(a1, _mm512_and_si512(v, m1), load_q4(q + 4));
        a2 = dot4(a2, _mm512_and_si512(v, m2), load_q4(q + 8));
        a3 = dot4(a3, _mm512_and_si512(v, m3), load_q4(q + 12));
    }
    return a0 + (a1 >> 2) + (a2 >> 4) + (a3 >> 6);
}

void kern_gemv_t2_i8__avx512vnni(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                                 size_t k_granules, const int8_t *q, size_t q_stride,
                                 const int32_t *qsum, size_t n_tok)
{
    (void)acc_stride, (void)q_stride, (void)n_tok;
    for (size_t tile = 0; tile < n_tiles; tile++, w += 64 * k_granules, acc += KERN_TILE_ROWS) {
        store_sum(acc, t2_tile(w, k_granules, q) - qsum[0]);
    }
}

/* One tile of block-scaled t2. */
static inline __m512 t2b_tile(const uint8_t *w, const float *scales, size_t k_granules,
                              const int8_t *q, const int32_t *qsum_blocks)
{
    __m512 y = _mm512_setzero_ps();

    for (size_t g = 0; g < k_granules; g += BLOCK, scales += KERN_TILE_ROWS) {
        const size_t n   = k_granules - g < BLOCK ? k_granules - g : BLOCK;
        const v16i_t acc = t2_tile(w + 64 * g, n, q + KERN_T2_K * g) - *qsum_blocks++;

        y = _mm512_fmadd_ps(_mm512_cvtepi32_ps((__m512i)acc), _mm512_loadu_ps(scales), y);
    }
    return y;
}

void kern_gemv_t2b_i8__avx512vnni(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                                  size_t n_tiles, size_t k_granules, const int8_t *q,
                                  size_t q_stride, const int32_t *qsum_blocks, size_t n_tok)
{
    const size_t n_blocks = kern_blocks(k_granules);

    (void)y_stride, (void)q_stride, (void)n_tok;
    for (size_t tile = 0; tile < n_tiles; tile++, w += 64 * k_granules, y += KERN_TILE_ROWS) {
        _mm512_storeu_ps(y, t2b_tile(w, scales, k_granules, q, qsum_blocks));
        scales += n_blocks * KERN_TILE_ROWS;
    }
}

/* One tile of t3. With r0, r1, r2 what is left of the byte v after each of its first three digits,
 * v - r0 = 85 digit_0, r0 - r1 = 29 digit_1, r1 - r2 = 9 digit_2. No digit is extracted:
 *   85 * sum digit_0 q_0 = sum v q_0 - sum r0 q_0
 * and so on. Those sums may wrap, as the division is exact (tern_avx512.h). */
static inline v16i_t t3_tile(const uint8_t *w, size_t k_granules, const int8_t *q)
{
    const __m512i t3 = t3_table(1), t4 = t3_table(0);
    v16i_t        a0 = {0}, b0 = a0, a1 = a0, b1 = a0, a2 = a0, b2 = a0, s3 = a0, s4 = a0;

    for (size_t g = 0; g < k_granules; g++, w += 64, q += KERN_T3_K) {
        const __m512i v  = load_granule(w);
        const __m512i r0 = t3_mod(v, KERN_T3_UNIT_0), r1 = t3_mod(r0, KERN_T3_UNIT_1);
        const __m512i r2 = t3_mod(r1, KERN_T3_UNIT_2);

        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        a0 = dot4(a0, v, load_q4(q));
        b0 = dot4(b0, r0, load_q4(q));
        a1 = dot4(a1, r0, load_q4(q + 4));
        b1 = dot4(b1, r1, load_q4(q + 4));
        a2 = dot4(a2, r1, load_q4(q + 8));
        b2 = dot4(b2, r2, load_q4(q + 8));
        s3 = dot4(s3, _mm512_shuffle_epi8(t3, r2), load_q4(q + 12));
        s4 = dot4(s4, _mm512_shuffle_epi8(t4, r2), load_q4(q + 16));
    }
    return divide(less(a0, b0), KERN_T3_UNIT_0) + divide(less(a1, b1), KERN_T3_UNIT_1) +
           divide(less(a2, b2), KERN_T3_UNIT_2) + s3 + s4;
}

void kern_gemv_t3_i8__avx512vnni(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                                 size_t k_granules, const int8_t *q, size_t q_stride,
                                 const int32_t *qsum, size_t n_tok)
{
    (void)acc_stride, (void)q_stride, (void)n_tok;
    for (size_t tile = 0; tile < n_tiles; tile++, w += 64 * k_granules, acc += KERN_TILE_ROWS) {
        store_sum(acc, t3_tile(w, k_granules, q) - qsum[0]);
    }
}
