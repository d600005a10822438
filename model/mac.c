/* model/mac.c: SipHash-2-4, a keyed hash that who has not the key cannot aim at.
 * Source: J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF", 2012. */
#include <string.h>

#include "model/bytes.h"
#include "model/model.h"

typedef struct {
    uint64_t v[4];
} state_t;

static uint64_t rotate(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static inline void sip_round(state_t *s)
{
    uint64_t *v = s->v;
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

static inline void sip_word(state_t *s, uint64_t word)
{
    s->v[3] ^= word;
    sip_round(s);
    sip_round(s);
    s->v[0] ^= word;
}

uint64_t model_bytes_mac64(const model_secret_t *secret, const void *bytes, size_t n)
{
    const uint8_t *p    = bytes;
    const uint64_t a    = secret->words[0];
    const uint64_t b    = secret->words[1];
    uint64_t       last = (uint64_t)n << 56;
    state_t        s    = {{a ^ UINT64_C(0x736f6d6570736575), b ^ UINT64_C(0x646f72616e646f6d),
                            a ^ UINT64_C(0x6c7967656e657261), b ^ UINT64_C(0x7465646279746573)}};
    for (; n >= 8; n -= 8, p += 8) sip_word(&s, model_load_u64(p));
    for (size_t i = 0; i < n; i++) last |= (uint64_t)p[i] << 8 * i;
    sip_word(&s, last);
    s.v[2] ^= 0xff;
    for (int i = 0; i < 4; i++) sip_round(&s);
    return s.v[0] ^ s.v[1] ^ s.v[2] ^ s.v[3];
}
