/* worker/kernels/x86/screen_avx2.c
 * Coarse rows of the head with VPMADDUBSW, 8 rows of a tile at a time. A code times a byte is at
 * most 63 * 128 in magnitude, so the sum of four stays within 16 bits. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/pack.h"

#include <float.h>
#include <immintrin.h>
#include <string.h>

enum { AHEAD_BYTES = 4096, HALF = 8, PAIRS_A_SUM = 2 };

_Static_assert(PAIRS_A_SUM * 2 * 63 * 128 <= INT16_MAX, "two VPMADDUBSW add up in 16 bits");

static inline __m256i four(const int8_t *q)
{
    int32_t v = 0;

    memcpy(&v, q, 4);
    return _mm256_set1_epi32(v);
}

static inline __m256i load(const uint8_t *w)
{
    return _mm256_load_si256((const __m256i *)(const void *)w);
}

/* Sums of 16 columns of one plane of x, in 32 bits. */
static inline __m256i plane(__m256i c0, __m256i c1, __m256i c2, __m256i c3, const int8_t *q)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const __m256i s =
        _mm256_add_epi16(_mm256_maddubs_epi16(c0, four(q)), _mm256_maddubs_epi16(c1, four(q + 4)));
    const __m256i t = _mm256_add_epi16(_mm256_maddubs_epi16(c2, four(q + 8)),
                                       _mm256_maddubs_epi16(c3, four(q + 12)));
    return _mm256_add_epi32(_mm256_madd_epi16(s, ones), _mm256_madd_epi16(t, ones));
}

/* 256 * sum of code * hi + sum of code * lo over one block for 8 rows, code in 0..63. w points at
 * their half of the first vector. */
static inline __m256i block_sum(const uint8_t *w, const int8_t *hi, const int8_t *lo)
{
    const __m256i six = _mm256_set1_epi8(63), m0 = _mm256_set1_epi8(3);
    const __m256i m1 = _mm256_set1_epi8(12), m2 = _mm256_set1_epi8(48);
    __m256i       high = _mm256_setzero_si256(), rest = high;

    /* Unrolled, GCC keeps what the halves have in common on the stack, at a loss. */
#pragma GCC unroll 1
    for (size_t g = 0; g < KERN_SCREEN_BLOCK_BYTES; g += 192, w += 192, hi += 16, lo += 16) {
        const __m256i a = load(w), b = load(w + 64), c = load(w + 128);
        const __m256i c0 = _mm256_and_si256(a, six), c1 = _mm256_and_si256(b, six);
        const __m256i c2 = _mm256_and_si256(c, six);
        const __m256i ab = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi32(a, 6), m0),
                                           _mm256_and_si256(_mm256_srli_epi32(b, 4), m1));
        const __m256i c3 = _mm256_or_si256(ab, _mm256_and_si256(_mm256_srli_epi32(c, 2), m2));

        high = _mm256_add_epi32(high, plane(c0, c1, c2, c3, hi));
        rest = _mm256_add_epi32(rest, plane(c0, c1, c2, c3, lo));
    }
    return _mm256_add_epi32(_mm256_slli_epi32(high, 8), rest);
}

/* S and A of a tile's halves. */
typedef struct {
    __m256 sum, a;
} half_t;

static inline half_t half_block(half_t h, __m256i all, const uint8_t *m, const kern_screen_x_t *x,
                                size_t b)
{
    const __m256  dot   = _mm256_cvtepi32_ps(_mm256_sub_epi32(all, _mm256_set1_epi32(x->bias[b])));
    const __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)m);
    const __m256  mb    = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));

    h.sum = _mm256_fmadd_ps(dot, _mm256_mul_ps(mb, _mm256_set1_ps(x->scale[b])), h.sum);
    h.a   = _mm256_fmadd_ps(mb, _mm256_set1_ps(x->norm[b]), h.a);
    return h;
}

static inline void half_end(float *mid, float *high, half_t h, const float *row,
                            const kern_screen_x_t *x)
{
    const __m256 s = _mm256_load_ps(row), p = _mm256_load_ps(row + KERN_TILE_ROWS);
    const __m256 n    = _mm256_load_ps(row + 2 * KERN_TILE_ROWS);
    const __m256 rest = _mm256_mul_ps(s, _mm256_mul_ps(_mm256_set1_ps(x->slack), h.a));
    const __m256 e =
        _mm256_min_ps(_mm256_mul_ps(p, h.a), _mm256_fmadd_ps(n, _mm256_set1_ps(x->total), rest));
    const __m256 c = _mm256_mul_ps(s, h.sum);

    _mm256_storeu_ps(mid, c);
    _mm256_storeu_ps(high, _mm256_add_ps(_mm256_add_ps(c, e), _mm256_set1_ps(FLT_MIN)));
}

void kern_screen_6__avx2(float *mid, float *high, const uint8_t *w, size_t n_tiles, size_t n_blocks,
                         const kern_screen_x_t *x)
{
    const size_t codes_at = kern_screen_codes_at(n_blocks);

    for (size_t tile = 0; tile < n_tiles; tile++, mid += KERN_TILE_ROWS, high += KERN_TILE_ROWS) {
        const float   *row   = (const float *)(const void *)w;
        const uint8_t *m     = w + KERN_SCREEN_M_AT;
        const uint8_t *codes = w + codes_at;
        const half_t   zero  = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        half_t         h0 = zero, h1 = zero;

        for (size_t b = 0; b < n_blocks; b++, codes += KERN_SCREEN_BLOCK_BYTES) {
            const int8_t *hi = x->hi + KERN_SCREEN_K * b, *lo = x->lo + KERN_SCREEN_K * b;

            for (size_t i = 0; i < KERN_SCREEN_BLOCK_BYTES; i += 64) {
                _mm_prefetch((const char *)codes + AHEAD_BYTES + i, _MM_HINT_T0);
            }
            h0 = half_block(h0, block_sum(codes, hi, lo), m, x, b);
            h1 = half_block(h1, block_sum(codes + 32, hi, lo), m + HALF, x, b);
            m += KERN_TILE_ROWS;
        }
        half_end(mid, high, h0, row, x);
        half_end(mid + HALF, high + HALF, h1, row + HALF, x);
        w = codes;
    }
}
