/* worker/kernels/x86/attn_avx2.c
 * attn_body.inc in AVX2. */
#include "worker/kernels/x86/lanes_avx2.h"

enum { ATTN_ROWS = 1 };

typedef struct {
    lanes_t at[4];
} four_t;

/* Sums of four rows for four positions: never so many here. */
INLINE void fold_16(float *e, four_t s0, four_t s1, four_t s2, four_t s3, float scale)
{
    const __m128 f    = _mm_set1_ps(scale);
    const four_t s[4] = {s0, s1, s2, s3};

    for (size_t r = 0; r < 4; r++) {
        const __m128 sum = lanes_fold4(s[r].at[0], s[r].at[1], s[r].at[2], s[r].at[3]);
        _mm_storeu_ps(e + r * KERN_PAGE, _mm_mul_ps(sum, f));
    }
}

INLINE void narrow_16(uint16_t *y, lanes_t x)
{
    _mm_storeu_si128((__m128i *)(void *)y, _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(void *)(y + 8), _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT));
}

#include "worker/kernels/x86/attn_body.inc"
