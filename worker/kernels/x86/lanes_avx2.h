/* worker/kernels/x86/lanes_avx2.h
 * The 16 virtual lanes of docs/NUMERICS.md in two AVX2 registers: lanes 0..7 and 8..15.
 *
 * The *_body.inc files write every float kernel once, over these operations; lanes_avx512.h offers
 * the same in one register. Only what must be bitwise is here, so a body cannot leave the contract.
 */
#ifndef TRIREME_KERN_X86_LANES_H
#define TRIREME_KERN_X86_LANES_H

#include "worker/kernels/exp_const.h"
#include "worker/kernels/kernel_decl.h"

#include <immintrin.h>
#include <string.h>

#define LANES_FN(slot) kern_##slot##__avx2
#define INLINE         static inline __attribute__((always_inline))

typedef struct {
    __m256 lo, hi;
} lanes_t;

INLINE lanes_t lanes_set1(float f)
{
    return (lanes_t){_mm256_set1_ps(f), _mm256_set1_ps(f)};
}

/* a in lanes 0..7, b in lanes 8..15. */
INLINE lanes_t lanes_set2(float a, float b)
{
    return (lanes_t){_mm256_set1_ps(a), _mm256_set1_ps(b)};
}

INLINE lanes_t lanes_zero(void)
{
    return lanes_set1(0.0f);
}

INLINE lanes_t lanes_load(const float *p)
{
    return (lanes_t){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

INLINE void lanes_store(float *p, lanes_t a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}

/* The first n (0..16) lanes from memory, +0 in the rest. */
INLINE lanes_t lanes_load_n(const float *p, size_t n)
{
    float buf[KERN_LANES] = {0};

    memcpy(buf, p, n * sizeof *p);
    return lanes_load(buf);
}

INLINE void lanes_store_n(float *p, lanes_t a, size_t n)
{
    float buf[KERN_LANES];

    lanes_store(buf, a);
    memcpy(p, buf, n * sizeof *p);
}

#define LANES_OP2(name, op)                                                                        \
    INLINE lanes_t lanes_##name(lanes_t a, lanes_t b)                                              \
    {                                                                                              \
        return (lanes_t){_mm256_##op##_ps(a.lo, b.lo), _mm256_##op##_ps(a.hi, b.hi)};              \
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
    return (lanes_t){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

/* fma(a, b, -c) */
INLINE lanes_t lanes_fms(lanes_t a, lanes_t b, lanes_t c)
{
    return (lanes_t){_mm256_fmsub_ps(a.lo, b.lo, c.lo), _mm256_fmsub_ps(a.hi, b.hi, c.hi)};
}

INLINE lanes_t lanes_neg(lanes_t a)
{
    return lanes_xor(a, lanes_set1(-0.0f));
}

/* Lanes l and l + 8 as the fold's first step pairs them. */
INLINE __m256 lanes_fold8(lanes_t a)
{
    return _mm256_add_ps(a.lo, a.hi);
}

INLINE __m256 lanes_max8(lanes_t a)
{
    return _mm256_max_ps(a.lo, a.hi);
}

INLINE lanes_t lanes_from_f16(const uint8_t *p)
{
    return (lanes_t){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p)),
                     _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p + 16)))};
}

INLINE __m256 bf16_to_8(const uint8_t *p)
{
    const __m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);

    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

INLINE lanes_t lanes_from_bf16(const uint8_t *p)
{
    return (lanes_t){bf16_to_8(p), bf16_to_8(p + 16)};
}

INLINE lanes_t lanes_from_i8(__m128i b)
{
    return (lanes_t){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
                     _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8)))};
}

INLINE lanes_t lanes_from_i32(const int32_t *p)
{
    return (lanes_t){
        _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)p)),
        _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p + 8)))};
}

/* clamp(rint(a), -128, 127), NaN to 0: clamped as floats, as a conversion out of range is
 * undefined. */
INLINE __m256i quant8(__m256 a)
{
    const __m256 v =
        _mm256_min_ps(_mm256_max_ps(a, _mm256_set1_ps(-128.0f)), _mm256_set1_ps(127.0f));
    const __m256 ordered = _mm256_cmp_ps(a, a, _CMP_ORD_Q);

    return _mm256_cvtps_epi32(_mm256_and_ps(v, ordered));
}

INLINE __m128i lanes_to_i8(lanes_t a)
{
    const __m256i w =
        _mm256_permute4x64_epi64(_mm256_packs_epi32(quant8(a.lo), quant8(a.hi)), 0xd8);

    return _mm_packs_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
}

/* The larger of |a| and m, by their bits: a NaN is above infinity and stays. */
INLINE lanes_t lanes_absmax(lanes_t m, lanes_t a)
{
    const __m256i abs = _mm256_set1_epi32(0x7fffffff);

    return (lanes_t){
        _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(m.lo),
                                             _mm256_and_si256(abs, _mm256_castps_si256(a.lo)))),
        _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(m.hi),
                                             _mm256_and_si256(abs, _mm256_castps_si256(a.hi))))};
}

/* x * 2^n for whole n, as two factors. */
INLINE __m256 scale8(__m256 x, __m256 n)
{
    const __m256i ni = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(ni, 1);
    const __m256i bias = _mm256_set1_epi32(127);
    const __m256i f    = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i g    = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(ni, half), bias), 23);

    return _mm256_mul_ps(_mm256_mul_ps(x, _mm256_castsi256_ps(f)), _mm256_castsi256_ps(g));
}

INLINE lanes_t lanes_scale2(lanes_t x, lanes_t n)
{
    return (lanes_t){scale8(x.lo, n.lo), scale8(x.hi, n.hi)};
}

INLINE lanes_t lanes_rint(lanes_t a)
{
    return (lanes_t){_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                     _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

/* Four pairs (x0, x1): fma(x0, c, -(x1 * s)), fma(x1, c, x0 * s). */
INLINE __m256 rotate4(__m256 x, const float *c, const float *s)
{
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    const __m256  c2    = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(c)), twice);
    const __m256  s2    = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(s)), twice);

    return _mm256_fmaddsub_ps(x, c2, _mm256_mul_ps(_mm256_permute_ps(x, 0xb1), s2));
}

/* Eight pairs. */
INLINE lanes_t lanes_rotate_pairs(lanes_t x, const float *c, const float *s)
{
    return (lanes_t){rotate4(x.lo, c, s), rotate4(x.hi, c + 4, s + 4)};
}

/* The values of a block's codes, as what makes them. `product` is a constant. */
typedef struct {
    lanes_t d, term;
    bool    product; /* d * (code + term), else d * code + term */
} levels_t;

/* d * (code - bias) */
INLINE levels_t levels_times(float d, float bias)
{
    return (levels_t){lanes_set1(d), lanes_set1(-bias), true};
}

/* d * code + m: one rounding for two, as the product is exact. */
INLINE levels_t levels_plus(float d, float m)
{
    return (levels_t){lanes_set1(d), lanes_set1(m), false};
}

INLINE lanes_t levels_of(levels_t levels, __m128i codes)
{
    const lanes_t c = lanes_from_i8(codes);

    return levels.product ? lanes_mul(levels.d, lanes_add(c, levels.term))
                          : lanes_fma(levels.d, c, levels.term);
}

/* Of 16 codes in the low 4 or 5 bits of bytes, whatever is above. */
INLINE lanes_t levels_4(levels_t levels, __m128i codes)
{
    return levels_of(levels, _mm_and_si128(codes, _mm_set1_epi8(15)));
}

/* Those in the low halves of the bytes, and those in the high ones. */
INLINE void levels_4_4(levels_t levels, levels_t levels_high, __m128i codes, lanes_t *low,
                       lanes_t *high)
{
    *low  = levels_4(levels, codes);
    *high = levels_4(levels_high, _mm_srli_epi16(codes, 4));
}

INLINE lanes_t levels_5(levels_t levels, __m128i codes)
{
    return levels_of(levels, _mm_and_si128(codes, _mm_set1_epi8(31)));
}

/* Bit i to bit 4 of byte i. */
INLINE __m256i bits_to_bytes(uint32_t bits)
{
    const __m256i byte =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit    = _mm256_set1_epi64x((long long)0x8040201008040201);
    const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte);

    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit),
                            _mm256_set1_epi8(16));
}

/* The lanes that one register holds. */
enum { LANES_PART = 8 };
typedef __m256 part_t;

INLINE part_t part_zero(void)
{
    return _mm256_setzero_ps();
}

INLINE part_t part_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

INLINE void part_store(float *p, part_t a)
{
    _mm256_storeu_ps(p, a);
}

INLINE part_t part_fma(part_t a, part_t b, part_t c)
{
    return _mm256_fmadd_ps(a, b, c);
}

#include "worker/kernels/x86/lanes_common.inc"

/* Lanes part .. of four sums go to memory; with the last part the sums are whole, and are folded
 * into y, unless that is NULL. */
INLINE void part_put4(float (*sum)[KERN_LANES], size_t part, part_t a, part_t b, part_t c, part_t d,
                      float *y)
{
    part_store(sum[0] + part, a);
    part_store(sum[1] + part, b);
    part_store(sum[2] + part, c);
    part_store(sum[3] + part, d);
    if (y == NULL || part == 0) return;
    _mm_storeu_ps(y, lanes_fold4(lanes_load(sum[0]), lanes_load(sum[1]), lanes_load(sum[2]),
                                 lanes_load(sum[3])));
}

#endif
