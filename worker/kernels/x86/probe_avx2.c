/* worker/kernels/x86/probe_avx2.c: the probes with 32-byte registers. */
#include "worker/kernels/probe.h"

#include <immintrin.h>

enum { AHEAD_BYTES = 4096 };

static inline __m256i load(const uint8_t *p)
{
    return _mm256_load_si256((const __m256i *)(const void *)p);
}

uint64_t kern_probe_read__avx2(const void *p, size_t bytes, bool ahead)
{
    const uint8_t *at = p, *end = at + bytes;
    __m256i        a = _mm256_setzero_si256(), b = a, c = a, d = a;
    uint64_t       words[4];

    for (; at < end; at += 128) {
        if (ahead) {
            _mm_prefetch((const char *)at + AHEAD_BYTES, _MM_HINT_T0);
            _mm_prefetch((const char *)at + AHEAD_BYTES + 64, _MM_HINT_T0);
        }
        a = _mm256_xor_si256(a, load(at));
        b = _mm256_xor_si256(b, load(at + 32));
        c = _mm256_xor_si256(c, load(at + 64));
        d = _mm256_xor_si256(d, load(at + 96));
    }
    a = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
    _mm256_storeu_si256((__m256i *)(void *)words, a);
    return words[0] ^ words[1] ^ words[2] ^ words[3];
}

/* Six sums of 16 bits, sixteen VPMADDUBSW each, then all are widened: what the products for several
 * tokens do. The empty assembly makes the factor new each time. */
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5)

uint32_t kern_probe_mac__avx2(size_t n_rounds, uint8_t a, int8_t b)
{
    const __m256i ones = _mm256_set1_epi16(1), y = _mm256_set1_epi8((char)b);
    __m256i       x = _mm256_set1_epi8((char)a), sum = _mm256_setzero_si256();
    uint32_t      words[8], all                      = 0;

    for (size_t r = 0; r < n_rounds; r++) {
#define X(i) __m256i h##i = _mm256_setzero_si256();
        EACH(X)
#undef X
        for (int n = 0; n < KERN_PROBE_MACS / 32 / 6; n++) {
#define X(i)                                                                                       \
    __asm__("" : "+x"(x));                                                                         \
    h##i = _mm256_add_epi16(h##i, _mm256_maddubs_epi16(x, y));                                     \
    __asm__("" : "+x"(h##i));
            EACH(X)
#undef X
        }
#define X(i) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(h##i, ones));
        EACH(X)
#undef X
    }
    _mm256_storeu_si256((__m256i *)(void *)words, sum);
    for (int i = 0; i < 8; i++) all += words[i];
    return all;
}
#undef EACH

#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

float kern_probe_fma__avx2(size_t n_rounds, float m, float c)
{
    const __m256 vm = _mm256_set1_ps(m), vc = _mm256_set1_ps(c);
    float        out[8], sum                = 0;

#define X(i) __m256 y##i = _mm256_setzero_ps();
    EACH(X)
#undef X
    for (size_t r = 0; r < n_rounds * (KERN_PROBE_FMAS / 8 / 12); r++) {
#define X(i)                                                                                       \
    y##i = _mm256_fmadd_ps(y##i, vm, vc);                                                          \
    __asm__("" : "+x"(y##i));
        EACH(X)
#undef X
    }
#define X(i)                                                                                       \
    _mm256_storeu_ps(out, y##i);                                                                   \
    for (int lane = 0; lane < 8; lane++) sum += out[lane];
    EACH(X)
#undef X
    return sum;
}
