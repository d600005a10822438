/* worker/kernels/x86/lanes_avx512.h
 * The 16 virtual lanes of docs/NUMERICS.md in one AVX-512 register: the operations of lanes_avx2.h.
 */
#ifndef TRIREME_KERN_X86_LANES_H
#define TRIREME_KERN_X86_LANES_H

#include "worker/kernels/exp_const.h"
#include "worker/kernels/kernel_decl.h"

#include <immintrin.h>
#include <string.h>

#define LANES_FN(slot) kern_##slot##__avx512vnni
#define INLINE         static inline __attribute__((always_inline))

typedef __m512 lanes_t;

INLINE lanes_t lanes_set1(float f)
{
    return _mm512_set1_ps(f);
}

/* a in lanes 0..7, b in lanes 8..15. */
INLINE lanes_t lanes_set2(float a, float b)
{
    return _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(a), _mm512_set1_ps(b));
}

INLINE lanes_t lanes_zero(void)
{
    return _mm512_setzero_ps();
}

INLINE lanes_t lanes_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

INLINE void lanes_store(float *p, lanes_t a)
{
    _mm512_storeu_ps(p, a);
}

INLINE __mmask16 first_n(size_t n)
{
    return (__mmask16)((1u << n) - 1u);
}

INLINE lanes_t lanes_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(first_n(n), p);
}

INLINE void lanes_store_n(float *p, lanes_t a, size_t n)
{
    _mm512_mask_storeu_ps(p, first_n(n), a);
}

#define LANES_OP2(name, op)                                                                        \
    INLINE lanes_t lanes_##name(lanes_t a, lanes_t b)                                              \
    {                                                                                              \
        return _mm512_##op##_ps(a, b);                                                             \
    }
LANES_OP2(add, add)
LANES_OP2(sub, sub)
LANES_OP2(mul, mul)
LANES_OP2(div, div)
LANES_OP2(max, max) /* a > b ? a : b */
LANES_OP2(min, min)
LANES_OP2(xor, xor)

INLINE lanes_t lanes_fma(lanes_t a, lanes_t b, lanes_t c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE lanes_t lanes_fms(lanes_t a, lanes_t b, lanes_t c)
{
    return _mm512_fmsub_ps(a, b, c);
}

INLINE lanes_t lanes_neg(lanes_t a)
{
    return lanes_xor(a, lanes_set1(-0.0f));
}

INLINE __m256 lanes_fold8(lanes_t a)
{
    return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}

INLINE __m256 lanes_max8(lanes_t a)
{
    return _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}

INLINE lanes_t lanes_from_f16(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

INLINE lanes_t lanes_from_bf16(const uint8_t *p)
{
    const __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)p);

    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

INLINE lanes_t lanes_from_i8(__m128i b)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b));
}

INLINE lanes_t lanes_from_i32(const int32_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_loadu_si512(p));
}

INLINE __m128i lanes_to_i8(lanes_t a)
{
    const __m512 v =
        _mm512_min_ps(_mm512_max_ps(a, _mm512_set1_ps(-128.0f)), _mm512_set1_ps(127.0f));
    const __mmask16 ordered = _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q);

    return _mm512_cvtepi32_epi8(_mm512_maskz_cvtps_epi32(ordered, v));
}

INLINE lanes_t lanes_absmax(lanes_t m, lanes_t a)
{
    const __m512i abs = _mm512_and_si512(_mm512_set1_epi32(0x7fffffff), _mm512_castps_si512(a));

    return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(m), abs));
}

/* One rounding instead of two: the same, as the first factor of NUMERICS 6 is always exact. */
INLINE lanes_t lanes_scale2(lanes_t x, lanes_t n)
{
    return _mm512_scalef_ps(x, n);
}

INLINE lanes_t lanes_rint(lanes_t a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE __m512 each_twice(const float *p)
{
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);

    return _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}

INLINE lanes_t lanes_rotate_pairs(lanes_t x, const float *c, const float *s)
{
    const __m512 t = _mm512_mul_ps(_mm512_permute_ps(x, 0xb1), each_twice(s));

    return _mm512_fmaddsub_ps(x, each_twice(c), t);
}

/* The values of a block's codes, in order. */
typedef struct {
    __m512 low, high; /* of codes 0..15, 16..31 */
} levels_t;

INLINE __m512 first_codes(void)
{
    return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

/* d * (code - bias) */
INLINE levels_t levels_times(float d, float bias)
{
    const __m512 dv = _mm512_set1_ps(d), low = _mm512_sub_ps(first_codes(), _mm512_set1_ps(bias));

    return (levels_t){_mm512_mul_ps(dv, low),
                      _mm512_mul_ps(dv, _mm512_add_ps(low, _mm512_set1_ps(16.0f)))};
}

/* d * code + m: one rounding for two, as the product is exact. */
INLINE levels_t levels_plus(float d, float m)
{
    const __m512 dv = _mm512_set1_ps(d), mv = _mm512_set1_ps(m), low = first_codes();

    return (levels_t){_mm512_fmadd_ps(dv, low, mv),
                      _mm512_fmadd_ps(dv, _mm512_add_ps(low, _mm512_set1_ps(16.0f)), mv)};
}

/* Of 16 codes in the low 4 or 5 bits of bytes, whatever is above. */
INLINE lanes_t levels_4(levels_t levels, __m128i codes)
{
    return _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(codes), levels.low);
}

/* Those in the low halves of the bytes, and those in the high ones. */
INLINE void levels_4_4(levels_t levels, levels_t levels_high, __m128i codes, lanes_t *low,
                       lanes_t *high)
{
    const __m512i c = _mm512_cvtepu8_epi32(codes);

    *low  = _mm512_permutexvar_ps(c, levels.low);
    *high = _mm512_permutexvar_ps(_mm512_srli_epi32(c, 4), levels_high.low);
}

INLINE lanes_t levels_5(levels_t levels, __m128i codes)
{
    return _mm512_permutex2var_ps(levels.low, _mm512_cvtepu8_epi32(codes), levels.high);
}

/* Bit i to bit 4 of byte i. */
INLINE __m256i bits_to_bytes(uint32_t bits)
{
    return _mm256_maskz_set1_epi8(bits, 16);
}

/* The lanes that one register holds. */
enum { LANES_PART = 16 };
typedef __m512 part_t;

INLINE part_t part_zero(void)
{
    return _mm512_setzero_ps();
}

INLINE part_t part_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

INLINE void part_store(float *p, part_t a)
{
    _mm512_storeu_ps(p, a);
}

INLINE part_t part_fma(part_t a, part_t b, part_t c)
{
    return _mm512_fmadd_ps(a, b, c);
}

#include "worker/kernels/x86/lanes_common.inc"

/* Four sums go to memory, or are folded into y unless that is NULL. */
INLINE void part_put4(float (*sum)[KERN_LANES], size_t part, part_t a, part_t b, part_t c, part_t d,
                      float *y)
{
    (void)part;
    if (y != NULL) {
        _mm_storeu_ps(y, lanes_fold4(a, b, c, d));
        return;
    }
    part_store(sum[0], a);
    part_store(sum[1], b);
    part_store(sum[2], c);
    part_store(sum[3], d);
}

#endif
