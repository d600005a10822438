/* worker/kernels/x86/ternary_avx512vbmi.c
 * The product of t3 for one token where a register can be a table of 128 bytes (VPERMI2B): what the
 * first digit of a byte leaves, 0..84, is looked up, and gives the other four in the form of t2. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/x86/tern_avx512.h"

enum { AHEAD_BYTES = 4096 };

/* Digit n of the rest 29 d1 + 9 d2 + 3 d3 + d4 at bits 2(n - 1). */
#define CODES(d1, d2, d3, d4) (d1) | (d2) << 2 | (d3) << 4 | (d4) << 6
#define CODES_3(d1, d2, d3)   CODES(d1, d2, d3, 0), CODES(d1, d2, d3, 1), CODES(d1, d2, d3, 2)
#define CODES_9(d1, d2)       CODES_3(d1, d2, 0), CODES_3(d1, d2, 1), CODES_3(d1, d2, 2)
#define CODES_27(d1)          CODES_9(d1, 0), CODES_9(d1, 1), CODES_9(d1, 2)
static const uint8_t TABLE[128] __attribute__((aligned(64))) = {
    CODES_27(0), [KERN_T3_UNIT_1] = CODES_27(1), [2 * KERN_T3_UNIT_1] = CODES_27(2)};

/* The first digit: 85 * sum digit_0 q_0 = sum v q_0 - sum rest q_0, as in ternary_avx512vnni.c. The
 * others: 4^s times a sum each, in the range of t2 there. */
static inline v16i_t t3_tile(const uint8_t *w, size_t k_granules, const int8_t *q)
{
    const __m512i low = _mm512_load_si512(TABLE), high = _mm512_load_si512(TABLE + 64);
    const __m512i m1 = _mm512_set1_epi8(0x03), m2 = _mm512_set1_epi8(0x0c);
    const __m512i m3 = _mm512_set1_epi8(0x30), m4 = _mm512_set1_epi8((char)0xc0);
    v16i_t        a = {0}, b = a, s1 = a, s2 = a, s3 = a, s4 = a;

    for (size_t g = 0; g < k_granules; g++, w += 64, q += KERN_T3_K) {
        const __m512i v = load_granule(w), rest = t3_mod(v, KERN_T3_UNIT_0);
        const __m512i codes = _mm512_permutex2var_epi8(low, rest, high);

        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        a  = dot4(a, v, load_q4(q));
        b  = dot4(b, rest, load_q4(q));
        s1 = dot4(s1, _mm512_and_si512(codes, m1), load_q4(q + 4));
        s2 = dot4(s2, _mm512_and_si512(codes, m2), load_q4(q + 8));
        s3 = dot4(s3, _mm512_and_si512(codes, m3), load_q4(q + 12));
        s4 = dot4(s4, _mm512_and_si512(codes, m4), load_q4(q + 16));
    }
    return divide(less(a, b), KERN_T3_UNIT_0) + s1 + (s2 >> 2) + (s3 >> 4) + (s4 >> 6);
}

void kern_gemv_t3_i8__avx512vbmi(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                                 size_t k_granules, const int8_t *q, size_t q_stride,
                                 const int32_t *qsum, size_t n_tok)
{
    (void)acc_stride, (void)q_stride, (void)n_tok;
    for (size_t tile = 0; tile < n_tiles; tile++, w += 64 * k_granules, acc += KERN_TILE_ROWS) {
        store_sum(acc, t3_tile(w, k_granules, q) - qsum[0]);
    }
}
