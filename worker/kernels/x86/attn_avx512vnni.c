/* worker/kernels/x86/attn_avx512vnni.c
 * attn_body.inc in AVX-512. */
#include "worker/kernels/x86/lanes_avx512.h"

enum { ATTN_ROWS = 4 };

typedef struct {
    lanes_t at[4];
} four_t;

/* Of each pair the halves of the fold's first step, one sum's beside the other's. */
INLINE __m512 fold_pair(__m512 a, __m512 b)
{
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
}

/* Four sums, each folded to four lanes: sum i in quarter i. */
INLINE __m512 fold_quarters(__m512 a, __m512 b, __m512 c, __m512 d)
{
    const __m512 ab = fold_pair(a, b), cd = fold_pair(c, d);

    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

/* Sums of four rows for four positions, folded, times scale, to e, rows of KERN_PAGE. Sums of one
 * position share a register, so the last two steps bring the positions of a row together. */
INLINE void fold_16(float *e, four_t s0, four_t s1, four_t s2, four_t s3, float scale)
{
    const __m512 p0 = fold_quarters(s0.at[0], s1.at[0], s2.at[0], s3.at[0]);
    const __m512 p1 = fold_quarters(s0.at[1], s1.at[1], s2.at[1], s3.at[1]);
    const __m512 p2 = fold_quarters(s0.at[2], s1.at[2], s2.at[2], s3.at[2]);
    const __m512 p3 = fold_quarters(s0.at[3], s1.at[3], s2.at[3], s3.at[3]);
    const __m512 a =
        _mm512_add_ps(_mm512_shuffle_ps(p0, p1, 0x44), _mm512_shuffle_ps(p0, p1, 0xee));
    const __m512 b =
        _mm512_add_ps(_mm512_shuffle_ps(p2, p3, 0x44), _mm512_shuffle_ps(p2, p3, 0xee));
    const __m512 f = _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
    const __m512 y = _mm512_mul_ps(f, _mm512_set1_ps(scale));

    _mm_storeu_ps(e, _mm512_castps512_ps128(y));
    _mm_storeu_ps(e + KERN_PAGE, _mm512_extractf32x4_ps(y, 1));
    _mm_storeu_ps(e + 2 * KERN_PAGE, _mm512_extractf32x4_ps(y, 2));
    _mm_storeu_ps(e + 3 * KERN_PAGE, _mm512_extractf32x4_ps(y, 3));
}

INLINE void narrow_16(uint16_t *y, lanes_t x)
{
    _mm256_storeu_si256((__m256i *)(void *)y, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

#include "worker/kernels/x86/attn_body.inc"
