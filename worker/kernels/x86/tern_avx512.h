/* worker/kernels/x86/tern_avx512.h
 * What the AVX-512 ternary products share: VPDPBUSD on sums, and unpacking.
 *
 * Sums are of a vector type with int32 elements, and named one by one: GCC keeps arrays and structs
 * of vectors in memory, and a sum of type __m512i (eight 64-bit elements) in two registers, one for
 * each view of it. */
#ifndef TRIREME_KERN_X86_TERN_AVX512_H
#define TRIREME_KERN_X86_TERN_AVX512_H

#include "worker/kernels/kernel.h"

#include <immintrin.h>
#include <string.h>

typedef int32_t v16i_t __attribute__((vector_size(64)));

#define INLINE static inline __attribute__((always_inline))

/* A granule. The empty assembly keeps it in its register: GCC would read memory again for each use,
 * and reads of 64 bytes are as scarce as products. */
INLINE __m512i load_granule(const uint8_t *w)
{
    __m512i v = _mm512_load_si512(w);

    __asm__("" : "+v"(v));
    return v;
}

/* 4 activations for all 16 rows. */
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

INLINE void store_sum(int32_t *acc, v16i_t sum)
{
    _mm512_storeu_si512(acc, (__m512i)sum);
}

INLINE v16i_t dot4(v16i_t sum, __m512i w, __m512i q4)
{
    return (v16i_t)_mm512_dpbusd_epi32((__m512i)sum, w, q4);
}

/* a - b modulo 2^32. */
INLINE v16i_t less(v16i_t a, v16i_t b)
{
    return (v16i_t)_mm512_sub_epi32((__m512i)a, (__m512i)b);
}

/* The exact quotient of sums that are multiples of an odd number: they are multiplied by its
 * inverse modulo 2^32. Only the quotient must fit 32 bits; the sums may have wrapped. */
INLINE v16i_t divide(v16i_t sums, uint32_t by)
{
    uint32_t inverse = by; /* right in 3 bits; each step doubles them */

    for (int i = 0; i < 4; i++) inverse *= 2 - by * inverse;
    return (v16i_t)_mm512_mullo_epi32((__m512i)sums, _mm512_set1_epi32((int32_t)inverse));
}

/* x modulo `unit`, for bytes x < 3 * unit <= 255: what falls below zero wraps to a larger byte. */
INLINE __m512i t3_mod(__m512i x, uint8_t unit)
{
    const __m512i u = _mm512_set1_epi8((char)unit);

    x = _mm512_min_epu8(x, _mm512_sub_epi8(x, u));
    return _mm512_min_epu8(x, _mm512_sub_epi8(x, u));
}

/* A table of 16 bytes that holds one digit of the last two of t3, for VPSHUFB. */
INLINE __m512i t3_table(int first)
{
    const __m128i d3 = _mm_setr_epi8(0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0);
    const __m128i d4 = _mm_setr_epi8(0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0);

    return _mm512_broadcast_i32x4(first ? d3 : d4);
}

/* The four planes of a granule of t2: codes of the columns 4s .. 4s + 3. */
INLINE void t2_planes(__m512i v, __m512i *p0, __m512i *p1, __m512i *p2, __m512i *p3)
{
    const __m512i three = _mm512_set1_epi8(3);

    *p0 = _mm512_and_si512(v, three);
    *p1 = _mm512_and_si512(_mm512_srli_epi16(v, 2), three);
    *p2 = _mm512_and_si512(_mm512_srli_epi16(v, 4), three);
    *p3 = _mm512_and_si512(_mm512_srli_epi16(v, 6), three);
}

/* The five planes of a granule of t3. A digit is what its remainder took away, a multiple of 85, 29
 * or 9, all of which are 1 modulo 4. */
INLINE void t3_planes(__m512i v, __m512i *p0, __m512i *p1, __m512i *p2, __m512i *p3, __m512i *p4)
{
    const __m512i three = _mm512_set1_epi8(3);
    const __m512i r0 = t3_mod(v, KERN_T3_UNIT_0), r1 = t3_mod(r0, KERN_T3_UNIT_1);
    const __m512i r2 = t3_mod(r1, KERN_T3_UNIT_2);

    *p0 = _mm512_and_si512(_mm512_sub_epi8(v, r0), three);
    *p1 = _mm512_and_si512(_mm512_sub_epi8(r0, r1), three);
    *p2 = _mm512_and_si512(_mm512_sub_epi8(r1, r2), three);
    *p3 = _mm512_shuffle_epi8(t3_table(1), r2);
    *p4 = _mm512_shuffle_epi8(t3_table(0), r2);
}

#endif
