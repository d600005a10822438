/* worker/kernels/x86/t3_avx2.h
 * Decoding t3 bytes with AVX2, which compares signed bytes only. So bytes are taken with their top
 * bit flipped, s = x - 128, and 3 s mod 256 is 3 x mod 256 flipped again. */
#ifndef TRIREME_KERN_X86_T3_AVX2_H
#define TRIREME_KERN_X86_T3_AVX2_H

#include <immintrin.h>

/* The leading digit: (x >= 86) + (x >= 171), a true comparison being -1. */
static inline __m256i t3_digit(__m256i s)
{
    const __m256i one = _mm256_cmpgt_epi8(s, _mm256_set1_epi8(85 - 128));
    const __m256i two = _mm256_cmpgt_epi8(s, _mm256_set1_epi8(170 - 128));

    return _mm256_sub_epi8(_mm256_sub_epi8(_mm256_setzero_si256(), one), two);
}

/* Drops the leading digit. */
static inline __m256i t3_next(__m256i s)
{
    return _mm256_add_epi8(_mm256_add_epi8(s, s), s);
}

#endif
