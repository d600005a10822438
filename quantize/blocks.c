/* quantize/blocks.c: encoders of the stored types. */
#include "quantize/blocks.h"

#include <math.h>
#include <string.h>

#include "model/bytes.h"

/* Codes trit + 1. TQ2_0: weight 128h + 32n + m in bits 2n..2n+1 of byte 32h + m. */
void quant_block_tq2(const int8_t trits[256], float scale, uint8_t *out)
{
    for (int h = 0; h < 2; h++) {
        const int8_t *t = trits + 128 * h;
        for (int m = 0; m < 32; m++)
            out[32 * h + m] = (uint8_t)((t[m] + 1) | (t[32 + m] + 1) << 2 | (t[64 + m] + 1) << 4 |
                                        (t[96 + m] + 1) << 6);
    }
    model_store_u16(out + 64, model_f16_of_f32(scale));
}

/* The value v = 0..242 of five base-3 digits as the fraction v/243 of a byte, rounded up. */
static uint8_t base3_byte(unsigned v)
{
    return (uint8_t)((v * 256 + 242) / 243);
}

/* Bytes 0..31 hold the weights m + 32n, n < 5; bytes 32..47 160 + m + 16n; bytes 48..51 240 + m +
 * 4n,
 * n < 4, with a fifth digit of 0. Values stay below 243, so bytes do for the sums. */
void quant_block_tq1(const int8_t trits[256], float scale, uint8_t *out)
{
    uint8_t v[52] = {0};
    for (int n = 0; n < 5; n++)
        for (int m = 0; m < 32; m++) v[m] = (uint8_t)(3 * v[m] + trits[32 * n + m] + 1);
    for (int n = 0; n < 5; n++)
        for (int m = 0; m < 16; m++)
            v[32 + m] = (uint8_t)(3 * v[32 + m] + trits[160 + 16 * n + m] + 1);
    for (int n = 0; n < 4; n++)
        for (int m = 0; m < 4; m++)
            v[48 + m] = (uint8_t)(3 * v[48 + m] + trits[240 + 4 * n + m] + 1);
    for (int m = 0; m < 48; m++) out[m] = base3_byte(v[m]);
    for (int m = 48; m < 52; m++) out[m] = base3_byte(3u * v[m]);
    model_store_u16(out + 52, model_f16_of_f32(scale));
}

/* Weight k * (elems / 4) + m in the k-th pair of bits of byte m, the first in the highest. */
void quant_block_i2s(const int8_t *trits, uint32_t elems, uint8_t *out)
{
    const uint32_t n = elems / 4;
    for (uint32_t m = 0; m < n; m++)
        out[m] = (uint8_t)((trits[m] + 1) << 6 | (trits[n + m] + 1) << 4 |
                           (trits[2 * n + m] + 1) << 2 | (trits[3 * n + m] + 1));
}

void quant_row_i2s_r4(const int8_t *trits, uint64_t row, uint64_t n, uint8_t *out)
{
    const int shift = 6 - 2 * (int)(row % 4);
    for (uint64_t i = 0; i < n; i++) {
        const unsigned code = (unsigned)(trits[i] + 1) << shift;
        out[i]              = (uint8_t)(row % 4 == 0 ? code : out[i] | code);
    }
}

/* nearest, halves away from zero, limited */
static int round_to(float x, int low, int high)
{
    float r = roundf(x);
    if (!(r > (float)low)) return low;
    return r < (float)high ? (int)r : high;
}

void quant_block_q8_0(const float x[32], uint8_t *out)
{
    float max = 0;
    for (int i = 0; i < 32; i++) max = fmaxf(max, fabsf(x[i]));
    const uint16_t half = model_f16_of_f32(max / 127);
    const float    d    = model_f32_of_f16(half); /* what the reader multiplies by */
    model_store_u16(out, half);
    for (int i = 0; i < 32; i++)
        out[2 + i] = (uint8_t)(int8_t)(d == 0 ? 0 : round_to(x[i] / d, -127, 127));
}

/* The scale of 16 values such that the one of largest magnitude becomes -32, the longer end. */
static float scale_of_16(const float *x)
{
    float max = 0;
    for (int i = 0; i < 16; i++)
        if (fabsf(x[i]) > fabsf(max)) max = x[i];
    return max / -32;
}

void quant_block_q6_k(const float x[256], uint8_t *out)
{
    float scales[16];
    float max = 0;
    memset(out, 0, 210);
    for (int s = 0; s < 16; s++) {
        scales[s] = scale_of_16(x + 16 * s);
        if (fabsf(scales[s]) > fabsf(max)) max = scales[s];
    }
    const uint16_t half = model_f16_of_f32(max / -128);
    const float    d    = model_f32_of_f16(half); /* 0 if all are so small: then all become 0 */
    model_store_u16(out + 208, half);
    for (int s = 0; s < 16; s++)
        out[192 + s] = (uint8_t)(int8_t)(d == 0 ? 0 : round_to(scales[s] / d, -128, 127));
    for (int i = 0; i < 256; i++) {
        int   h    = i / 128;
        int   k    = i / 32 % 4;
        int   l    = i % 32;
        float step = d * (float)(int8_t)out[192 + i / 16];
        int   q    = step == 0 ? 32 : round_to(x[i] / step, -32, 31) + 32;
        out[64 * h + 32 * (k % 2) + l] |= (uint8_t)((q & 15) << 4 * (k / 2));
        out[128 + 32 * h + l] |= (uint8_t)(q >> 4 << 2 * k);
    }
}

void quant_row_dense(model_type_t type, const float *x, uint64_t n, uint8_t *out)
{
    base_assert(n % model_type_info(type)->block_elems == 0);
    switch (type) {
    case MODEL_F32:
        for (uint64_t i = 0; i < n; i++) model_store_u32(out + 4 * i, model_bits_of_float(x[i]));
        return;
    case MODEL_F16:
        for (uint64_t i = 0; i < n; i++) model_store_u16(out + 2 * i, model_f16_of_f32(x[i]));
        return;
    case MODEL_BF16:
        for (uint64_t i = 0; i < n; i++) model_store_u16(out + 2 * i, model_bf16_of_f32(x[i]));
        return;
    case MODEL_Q8_0:
        for (uint64_t b = 0; b < n / 32; b++) quant_block_q8_0(x + 32 * b, out + 34 * b);
        return;
    case MODEL_Q6_K:
        for (uint64_t b = 0; b < n / 256; b++) quant_block_q6_k(x + 256 * b, out + 210 * b);
        return;
    default: base_assert(type == MODEL_Q6_K); /* no type that we write */
    }
}
