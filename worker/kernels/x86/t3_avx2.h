/* worker/kernels/x86/t3_avx2.h
 * Decoding t3 bytes with AVX2. */
#ifndef TRIREME_KERN_X86_T3_AVX2_H
#define TRIREME_KERN_X86_T3_AVX2_H

#include "worker/kernels/kernel.h"

#include <immintrin.h>

/* x modulo `unit`, for bytes x < 3 * unit <= 255: what falls below zero wraps to a larger byte. */
static inline __attribute__((always_inline)) __m256i t3_mod(__m256i x, uint8_t unit)
{
    const __m256i u = _mm256_set1_epi8((char)unit);

    x = _mm256_min_epu8(x, _mm256_sub_epi8(x, u));
    return _mm256_min_epu8(x, _mm256_sub_epi8(x, u));
}

/* The digit of one of the first three units, from what is left before and after it: the units are 1
 * modulo 4. */
static inline __attribute__((always_inline)) __m256i t3_digit(__m256i before, __m256i after)
{
    return _mm256_and_si256(_mm256_sub_epi8(before, after), _mm256_set1_epi8(3));
}

/* The last two digits, of what is left after the first three. */
static inline __attribute__((always_inline)) __m256i t3_digit3(__m256i rest)
{
    const __m128i d3 = _mm_setr_epi8(0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0);

    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(d3), rest);
}

static inline __attribute__((always_inline)) __m256i t3_digit4(__m256i rest)
{
    const __m128i d4 = _mm_setr_epi8(0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0);

    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(d4), rest);
}

#endif
