/* model/widen.c: blocks of the dense types as floats, as ggml-quants.c (dequantize_row_*) does. */
#include "model/blocks.h"
#include "model/bytes.h"

static float half_at(const uint8_t *p)
{
    return model_f32_of_f16(model_load_u16(p));
}

/* ---- 32 weights: low nibbles are the first half, high ones the second */

static int nibble(const uint8_t *qs, int i)
{
    return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
}

static void widen_q4_0(const uint8_t *block, float *out)
{
    const float d = half_at(block);
    for (int i = 0; i < 32; i++) out[i] = d * (float)(nibble(block + 2, i) - 8);
}

static void widen_q4_1(const uint8_t *block, float *out)
{
    const float d = half_at(block);
    const float m = half_at(block + 2);
    for (int i = 0; i < 32; i++) out[i] = d * (float)nibble(block + 4, i) + m;
}

static void widen_q5_0(const uint8_t *block, float *out)
{
    const float    d    = half_at(block);
    const uint32_t high = model_load_u32(block + 2);
    for (int i = 0; i < 32; i++)
        out[i] = d * (float)((nibble(block + 6, i) | (int)(high >> i & 1) << 4) - 16);
}

static void widen_q5_1(const uint8_t *block, float *out)
{
    const float    d    = half_at(block);
    const float    m    = half_at(block + 2);
    const uint32_t high = model_load_u32(block + 4);
    for (int i = 0; i < 32; i++)
        out[i] = d * (float)(nibble(block + 8, i) | (int)(high >> i & 1) << 4) + m;
}

static void widen_q8_0(const uint8_t *block, float *out)
{
    const float d = half_at(block);
    for (int i = 0; i < 32; i++) out[i] = d * (float)(int8_t)block[2 + i];
}

/* ---- 256 weights. Weight i = 128h + 32k + l, h < 2, k < 4, l < 32. */

/* scales[16] (low nibble: scale, high: minimum), qs[64], d, dmin */
static void widen_q2_k(const uint8_t *block, float *out)
{
    const uint8_t *qs   = block + 16;
    const float    d    = half_at(block + 80);
    const float    dmin = half_at(block + 82);
    for (int i = 0; i < 256; i++) {
        const int scale = block[i / 16];
        const int q     = qs[32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3;
        out[i]          = d * (float)(scale & 15) * (float)q - dmin * (float)(scale >> 4);
    }
}

/* hmask[32] (bit 4h + k of byte l: set means no 4 to subtract), qs[64], scales[12], d.
 * Scale j has its low nibble in the low (j < 8) or high nibbles of bytes 0..7, two high bits in
 * bytes 8..11. */
static void widen_q3_k(const uint8_t *block, float *out)
{
    const uint8_t *qs     = block + 32;
    const uint8_t *scales = block + 96;
    const float    d      = half_at(block + 108);
    for (int i = 0; i < 256; i++) {
        const int j     = i / 16;
        const int low   = j < 8 ? scales[j] & 15 : scales[j - 8] >> 4;
        const int high  = scales[8 + j % 4] >> 2 * (j / 4) & 3;
        const int q     = qs[32 * (i / 128) + i % 32] >> 2 * (i / 32 % 4) & 3;
        const int minus = block[i % 32] >> i / 32 & 1 ? 0 : 4;
        out[i]          = d * (float)((low | high << 4) - 32) * (float)(q - minus);
    }
}

/* Scale and minimum number j < 8, six bits each, of the 12 bytes of Q4_K and Q5_K. */
static void scale_min(const uint8_t *p, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = p[j] & 63;
        *min   = p[j + 4] & 63;
    } else {
        *scale = (p[j + 4] & 15) | p[j - 4] >> 6 << 4;
        *min   = p[j + 4] >> 4 | p[j] >> 6 << 4;
    }
}

/* d, dmin, scales[12], [qh[32],] qs[128]: nibble i / 32 % 2 of byte 32 (i / 64) + l, fifth bit: bit
 * i / 32 of qh[l] */
static void widen_q45_k(const uint8_t *block, const uint8_t *qh, const uint8_t *qs, float *out)
{
    const float d    = half_at(block);
    const float dmin = half_at(block + 2);
    for (int s = 0; s < 8; s++) {
        int scale = 0;
        int min   = 0;
        scale_min(block + 4, s, &scale, &min);
        const float step = d * (float)scale;
        const float down = dmin * (float)min;
        for (int l = 0; l < 32; l++) {
            const int low   = qs[32 * (s / 2) + l] >> 4 * (s % 2) & 15;
            const int high  = qh == NULL ? 0 : qh[l] >> s & 1;
            out[32 * s + l] = step * (float)(low | high << 4) - down;
        }
    }
}

/* ql[128], qh[64], scales[16], d: low nibble k / 2 of ql[64h + 32(k % 2) + l], two high bits k of
 * qh[32h + l], scale i / 16. */
static void widen_q6_k(const uint8_t *block, float *out)
{
    const uint8_t *ql     = block;
    const uint8_t *qh     = block + 128;
    const uint8_t *scales = block + 192;
    const float    d      = half_at(block + 208);
    for (int i = 0; i < 256; i++) {
        int h    = i / 128;
        int k    = i / 32 % 4;
        int l    = i % 32;
        int low  = ql[64 * h + 32 * (k % 2) + l] >> 4 * (k / 2) & 15;
        int high = qh[32 * h + l] >> 2 * k & 3;
        out[i]   = d * (float)(int8_t)scales[i / 16] * (float)((low | high << 4) - 32);
    }
}

void model_block_widen(model_type_t type, const uint8_t *block, float *out)
{
    switch (type) {
    case MODEL_Q4_0: widen_q4_0(block, out); return;
    case MODEL_Q4_1: widen_q4_1(block, out); return;
    case MODEL_Q5_0: widen_q5_0(block, out); return;
    case MODEL_Q5_1: widen_q5_1(block, out); return;
    case MODEL_Q8_0: widen_q8_0(block, out); return;
    case MODEL_Q2_K: widen_q2_k(block, out); return;
    case MODEL_Q3_K: widen_q3_k(block, out); return;
    case MODEL_Q4_K: widen_q45_k(block, NULL, block + 16, out); return;
    case MODEL_Q5_K: widen_q45_k(block, block + 16, block + 48, out); return;
    case MODEL_Q6_K: widen_q6_k(block, out); return;
    default: base_assert(type == MODEL_Q6_K); return; /* no type of dense blocks */
    }
}
