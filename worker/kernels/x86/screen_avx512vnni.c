/* worker/kernels/x86/screen_avx512vnni.c
 * Coarse rows of the head: a stream of 6-bit codes against two planes of int8 with VPDPBUSD. A
 * register holds 4 columns of each of the 16 rows. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/pack.h"

#include <float.h>
#include <immintrin.h>
#include <string.h>

enum { AHEAD_BYTES = 4096 };

static inline __m512i four(const int8_t *q)
{
    int32_t v = 0;

    memcpy(&v, q, 4);
    return _mm512_set1_epi32(v);
}

/* 256 * sum of code * hi + sum of code * lo over one block, code in 0..63. */
static inline __m512i block_sum(const uint8_t *w, const int8_t *hi, const int8_t *lo)
{
    const __m512i six = _mm512_set1_epi8(63), m1 = _mm512_set1_epi8(3), m2 = _mm512_set1_epi8(12);
    __m512i       high = _mm512_setzero_si512(), rest = high;

    for (size_t g = 0; g < KERN_SCREEN_BLOCK_BYTES; g += 192, w += 192, hi += 16, lo += 16) {
        const __m512i a = _mm512_load_si512(w), b = _mm512_load_si512(w + 64);
        const __m512i c  = _mm512_load_si512(w + 128);
        const __m512i c0 = _mm512_and_si512(a, six), c1 = _mm512_and_si512(b, six);
        const __m512i c2 = _mm512_and_si512(c, six);
        /* 0xca: the second where the first has a bit, else the third */
        __m512i c3 =
            _mm512_ternarylogic_epi32(m2, _mm512_srli_epi32(b, 4), _mm512_srli_epi32(c, 2), 0xca);
        c3 = _mm512_ternarylogic_epi32(m1, _mm512_srli_epi32(a, 6), c3, 0xca);
        c3 = _mm512_and_si512(c3, six);

        _mm_prefetch((const char *)w + AHEAD_BYTES, _MM_HINT_T0);
        _mm_prefetch((const char *)w + AHEAD_BYTES + 64, _MM_HINT_T0);
        _mm_prefetch((const char *)w + AHEAD_BYTES + 128, _MM_HINT_T0);
        high = _mm512_dpbusd_epi32(high, c0, four(hi));
        rest = _mm512_dpbusd_epi32(rest, c0, four(lo));
        high = _mm512_dpbusd_epi32(high, c1, four(hi + 4));
        rest = _mm512_dpbusd_epi32(rest, c1, four(lo + 4));
        high = _mm512_dpbusd_epi32(high, c2, four(hi + 8));
        rest = _mm512_dpbusd_epi32(rest, c2, four(lo + 8));
        high = _mm512_dpbusd_epi32(high, c3, four(hi + 12));
        rest = _mm512_dpbusd_epi32(rest, c3, four(lo + 12));
    }
    return _mm512_add_epi32(_mm512_slli_epi32(high, 8), rest);
}

static inline void tile_products(float *mid, float *high, const uint8_t *w, size_t n_blocks,
                                 const kern_screen_x_t *x)
{
    const uint8_t *m = w + KERN_SCREEN_M_AT, *codes = w + kern_screen_codes_at(n_blocks);
    __m512         sum = _mm512_setzero_ps(), a = sum;

    for (size_t b = 0; b < n_blocks; b++, codes += KERN_SCREEN_BLOCK_BYTES) {
        const __m512i all = block_sum(codes, x->hi + KERN_SCREEN_K * b, x->lo + KERN_SCREEN_K * b);
        const __m512 dot = _mm512_cvtepi32_ps(_mm512_sub_epi32(all, _mm512_set1_epi32(x->bias[b])));
        const __m128i bytes =
            _mm_load_si128((const __m128i *)(const void *)(m + KERN_TILE_ROWS * b));
        const __m512 mb = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));

        sum = _mm512_fmadd_ps(dot, _mm512_mul_ps(mb, _mm512_set1_ps(x->scale[b])), sum);
        a   = _mm512_fmadd_ps(mb, _mm512_set1_ps(x->norm[b]), a);
    }
    const __m512 s = _mm512_load_ps(w), p = _mm512_load_ps(w + 64), n = _mm512_load_ps(w + 128);
    const __m512 rest = _mm512_mul_ps(s, _mm512_mul_ps(_mm512_set1_ps(x->slack), a));
    const __m512 e =
        _mm512_min_ps(_mm512_mul_ps(p, a), _mm512_fmadd_ps(n, _mm512_set1_ps(x->total), rest));
    const __m512 c = _mm512_mul_ps(s, sum);
    _mm512_storeu_ps(mid, c);
    _mm512_storeu_ps(high, _mm512_add_ps(_mm512_add_ps(c, e), _mm512_set1_ps(FLT_MIN)));
}

void kern_screen_6__avx512vnni(float *mid, float *high, const uint8_t *w, size_t n_tiles,
                               size_t n_blocks, const kern_screen_x_t *x)
{
    const size_t bytes = kern_screen_codes_at(n_blocks) + n_blocks * KERN_SCREEN_BLOCK_BYTES;

    for (size_t tile = 0; tile < n_tiles; tile++) {
        tile_products(mid + KERN_TILE_ROWS * tile, high + KERN_TILE_ROWS * tile, w + bytes * tile,
                      n_blocks, x);
    }
}
