/* worker/kernels/ref/half.h
 * IEEE-754 binary16 to and from float, by bits. */
#ifndef TRIREME_KERN_REF_HALF_H
#define TRIREME_KERN_REF_HALF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float ref_bits_f32(uint32_t bits)
{
    float f = 0;

    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Exact for every half: subnormals are whole multiples of 2^-24. A NaN becomes a quiet one, as F16C
 * has it. */
static inline float ref_from_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exp  = (h >> 10) & 31u;
    const uint32_t man  = h & 0x3ffu;

    if (exp == 0) return copysignf((float)man * 0x1p-24f, ref_bits_f32(sign | 0x3f800000u));
    if (exp == 31) {
        return ref_bits_f32(sign | 0x7f800000u | man << 13 | (man != 0 ? 0x400000u : 0));
    }
    return ref_bits_f32(sign | (exp + 112) << 23 | man << 13);
}

/* To the nearest, ties to even; from 65520 on infinity; a NaN keeps its upper bits and is quiet. */
static inline uint16_t ref_to_f16(float x)
{
    uint32_t bits = 0;

    memcpy(&bits, &x, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000u, abs = bits & 0x7fffffffu;

    if (abs > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (abs >> 13 & 0x3ffu));
    if (abs >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (abs < 0x38800000u) { /* below 2^-14: adding 0.5 rounds at 2^-24 */
        const float sum = ref_bits_f32(abs) + 0.5f;
        uint32_t    low = 0;
        memcpy(&low, &sum, sizeof low);
        return (uint16_t)(sign | (low - 0x3f000000u));
    }
    const uint32_t odd = abs >> 13 & 1u; /* a carry into the exponent is right */
    return (uint16_t)(sign | (abs - 0x38000000u + 0xfffu + odd) >> 13);
}

#endif
