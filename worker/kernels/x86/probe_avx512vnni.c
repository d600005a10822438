/* worker/kernels/x86/probe_avx512vnni.c: the probes with 64-byte registers and VPDPBUSD. */
#include "worker/kernels/probe.h"

#include <immintrin.h>

enum { AHEAD_BYTES = 4096 };

uint64_t kern_probe_read__avx512vnni(const void *p, size_t bytes, bool ahead)
{
    const uint8_t *at = p, *end = at + bytes;
    __m512i        a = _mm512_setzero_si512(), b = a, c = a, d = a;
    uint64_t       words[8], all = 0;

    for (; at < end; at += 256) {
        for (int line = 0; ahead && line < 256; line += 64)
            _mm_prefetch((const char *)at + AHEAD_BYTES + line, _MM_HINT_T0);
        a = _mm512_xor_si512(a, _mm512_load_si512(at));
        b = _mm512_xor_si512(b, _mm512_load_si512(at + 64));
        c = _mm512_xor_si512(c, _mm512_load_si512(at + 128));
        d = _mm512_xor_si512(d, _mm512_load_si512(at + 192));
    }
    a = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
    _mm512_storeu_si512(words, a);
    for (int i = 0; i < 8; i++) all ^= words[i];
    return all;
}

/* Twelve sums: more than the products that are under way at once on any CPU. The empty assembly
 * keeps each in its register. */
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

uint32_t kern_probe_mac__avx512vnni(size_t n_rounds, uint8_t a, int8_t b)
{
    const __m512i x = _mm512_set1_epi8((char)a), y = _mm512_set1_epi8((char)b);
    uint32_t      words[16], all                   = 0;

#define X(i) __m512i s##i = _mm512_setzero_si512();
    EACH(X)
#undef X
    for (size_t r = 0; r < n_rounds * (KERN_PROBE_MACS / 64 / 12); r++) {
#define X(i)                                                                                       \
    s##i = _mm512_dpbusd_epi32(s##i, x, y);                                                        \
    __asm__("" : "+v"(s##i));
        EACH(X)
#undef X
    }
#define X(i)                                                                                       \
    _mm512_storeu_si512(words, s##i);                                                              \
    for (int lane = 0; lane < 16; lane++) all += words[lane];
    EACH(X)
#undef X
    return all;
}

float kern_probe_fma__avx512vnni(size_t n_rounds, float m, float c)
{
    const __m512 vm = _mm512_set1_ps(m), vc = _mm512_set1_ps(c);
    float        out[16], sum               = 0;

#define X(i) __m512 y##i = _mm512_setzero_ps();
    EACH(X)
#undef X
    for (size_t r = 0; r < n_rounds * (KERN_PROBE_FMAS / 16 / 12); r++) {
#define X(i)                                                                                       \
    y##i = _mm512_fmadd_ps(y##i, vm, vc);                                                          \
    __asm__("" : "+v"(y##i));
        EACH(X)
#undef X
    }
#define X(i)                                                                                       \
    _mm512_storeu_ps(out, y##i);                                                                   \
    for (int lane = 0; lane < 16; lane++) sum += out[lane];
    EACH(X)
#undef X
    return sum;
}
