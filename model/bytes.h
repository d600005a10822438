/* model/bytes.h
 * Little-endian loads and stores at any alignment, and half-precision conversions.
 *
 * Model files are little-endian and give no alignment to anything but tensor data, so nothing in
 * a file is ever read through a cast pointer. On a big-endian machine these functions swap. */
#ifndef TRIREME_MODEL_BYTES_H
#define TRIREME_MODEL_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t model_load_u16(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t model_load_u32(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t model_load_u64(const void *p)
{
    const uint8_t *b = p;
    return (uint64_t)model_load_u32(b) | (uint64_t)model_load_u32(b + 4) << 32;
}

static inline float model_float_of_bits(uint32_t bits)
{
    float f = 0;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

static inline uint32_t model_bits_of_float(float f)
{
    uint32_t bits = 0;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

static inline float model_load_f32(const void *p)
{
    return model_float_of_bits(model_load_u32(p));
}

static inline void model_store_u16(void *p, uint16_t v)
{
    uint8_t *b = p;
    b[0]       = (uint8_t)v;
    b[1]       = (uint8_t)(v >> 8);
}

static inline void model_store_u32(void *p, uint32_t v)
{
    uint8_t *b = p;
    for (int i = 0; i < 4; i++) b[i] = (uint8_t)(v >> 8 * i);
}

static inline void model_store_u64(void *p, uint64_t v)
{
    uint8_t *b = p;
    for (int i = 0; i < 8; i++) b[i] = (uint8_t)(v >> 8 * i);
}

/* IEEE binary16 to binary32, exact; subnormals, infinities and NaN included. */
static inline float model_f32_of_f16(uint16_t h)
{
    uint32_t sign     = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = h >> 10 & 31;
    uint32_t fraction = h & 1023;
    if (exponent == 0) /* zero or subnormal: fraction * 2^-24, exact in float */
        return model_float_of_bits(sign | model_bits_of_float((float)fraction * 0x1p-24f));
    if (exponent == 31) return model_float_of_bits(sign | 0x7f800000u | fraction << 13);
    return model_float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

/* binary32 to binary16, round to nearest even; too large gives infinity, NaN stays NaN. */
static inline uint16_t model_f16_of_f32(float f)
{
    uint32_t bits = model_bits_of_float(f);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t abs  = bits & 0x7fffffff;
    if (abs > 0x7f800000u) return (uint16_t)(sign | 0x7e00);
    if (abs >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* 65520 and above round to inf */
    if (abs < 0x38800000u) { /* below 2^-14: the float adder rounds to a multiple of 2^-24 */
        float units = model_float_of_bits(abs) + 0.5f;
        return (uint16_t)(sign | (model_bits_of_float(units) - 0x3f000000u));
    }
    abs += 0x0fff + (abs >> 13 & 1);
    return (uint16_t)(sign | (abs - 0x38000000u) >> 13);
}

static inline float model_f32_of_bf16(uint16_t h)
{
    return model_float_of_bits((uint32_t)h << 16);
}

/* binary32 to bfloat16, round to nearest even; NaN stays NaN. */
static inline uint16_t model_bf16_of_f32(float f)
{
    uint32_t bits = model_bits_of_float(f);
    if ((bits & 0x7fffffff) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#endif
