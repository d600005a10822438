/* worker/kernels/ref/dense.c
 * Dense rows, NUMERICS 5: every weight widened to float, then the lane dot. */
#include "worker/kernels/dense_block.h"
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/ref/lanes.h"

typedef float weight_fn(const uint8_t *row, size_t i);

static inline float bits_f32(uint32_t bits)
{
    float f = 0;

    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint16_t load_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

/* Exact for every half: subnormals are whole multiples of 2^-24. */
static float widen_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exp  = (h >> 10) & 31u;
    const uint32_t man  = h & 0x3ffu;

    if (exp == 0) return copysignf((float)man * 0x1p-24f, bits_f32(sign | 0x3f800000u));
    if (exp == 31) return bits_f32(sign | 0x7f800000u | man << 13);
    return bits_f32(sign | (exp + 112) << 23 | man << 13);
}

static float weight_f32(const uint8_t *row, size_t i)
{
    float f = 0;

    memcpy(&f, row + 4 * i, sizeof f);
    return f;
}

static float weight_f16(const uint8_t *row, size_t i)
{
    return widen_f16(load_u16(row + 2 * i));
}

static float weight_bf16(const uint8_t *row, size_t i)
{
    return bits_f32((uint32_t)load_u16(row + 2 * i) << 16);
}

static float weight_q8_0(const uint8_t *row, size_t i)
{
    const uint8_t *block = row + i / KERN_BLOCK_32 * KERN_Q8_0_BYTES;
    const float    d     = widen_f16(load_u16(block));

    return d * (float)(int8_t)block[KERN_Q8_0_Q + i % KERN_BLOCK_32];
}

/* Elements lie in two halves of 128, each in four runs of 32: low or high nibbles of ql, two bits
 * of qh each; a scale for every 16. */
static float weight_q6_k(const uint8_t *row, size_t i)
{
    const uint8_t *block = row + i / KERN_BLOCK_256 * KERN_Q6_K_BYTES;
    const size_t   e = i % KERN_BLOCK_256, half = e / 128, run = e % 128 / 32, l = e % 32;
    const unsigned ql = block[64 * half + 32 * (run % 2) + l];
    const unsigned qh = block[KERN_Q6_K_QH + 32 * half + l];
    const unsigned q  = ((ql >> (4 * (run / 2))) & 15u) | ((qh >> (2 * run)) & 3u) << 4;
    const float    d  = widen_f16(load_u16(block + KERN_Q6_K_D));
    const float    sc = (float)(int8_t)block[KERN_Q6_K_SCALES + e / 16];

    return (d * sc) * (float)((int)q - 32);
}

/* Nibble e (0..31) of 16 bytes. */
static unsigned nibble(const uint8_t *q, size_t e)
{
    return ((unsigned)q[e % 16] >> (4 * (e / 16))) & 15u;
}

/* The same with its fifth bit. */
static unsigned five_bits(const uint8_t *q, const uint8_t *qh, size_t e)
{
    return nibble(q, e) | (((unsigned)qh[e / 8] >> (e % 8)) & 1u) << 4;
}

static float weight_q4_0(const uint8_t *row, size_t i)
{
    const uint8_t *block = row + i / KERN_BLOCK_32 * KERN_Q4_0_BYTES;
    const unsigned q     = nibble(block + KERN_Q4_0_Q, i % KERN_BLOCK_32);

    return widen_f16(load_u16(block)) * (float)((int)q - 8);
}

static float weight_q4_1(const uint8_t *row, size_t i)
{
    const uint8_t *block = row + i / KERN_BLOCK_32 * KERN_Q4_1_BYTES;
    const unsigned q     = nibble(block + KERN_Q4_1_Q, i % KERN_BLOCK_32);
    const float    d     = widen_f16(load_u16(block));

    return d * (float)q + widen_f16(load_u16(block + KERN_Q4_1_M));
}

static float weight_q5_0(const uint8_t *row, size_t i)
{
    const uint8_t *block = row + i / KERN_BLOCK_32 * KERN_Q5_0_BYTES;
    const unsigned q     = five_bits(block + KERN_Q5_0_Q, block + KERN_Q5_0_QH, i % KERN_BLOCK_32);

    return widen_f16(load_u16(block)) * (float)((int)q - 16);
}

static float weight_q5_1(const uint8_t *row, size_t i)
{
    const uint8_t *block = row + i / KERN_BLOCK_32 * KERN_Q5_1_BYTES;
    const unsigned q     = five_bits(block + KERN_Q5_1_Q, block + KERN_Q5_1_QH, i % KERN_BLOCK_32);
    const float    d     = widen_f16(load_u16(block));

    return d * (float)q + widen_f16(load_u16(block + KERN_Q5_1_M));
}

/* Bit pair e (0..255) of 64 bytes: two halves of 128, each four runs of 32. */
static unsigned bit_pair(const uint8_t *q, size_t e)
{
    return ((unsigned)q[32 * (e / 128) + e % 32] >> (2 * (e % 128 / 32))) & 3u;
}

static float weight_q2_k(const uint8_t *row, size_t i)
{
    const uint8_t *block = row + i / KERN_BLOCK_256 * KERN_Q2_K_BYTES;
    const size_t   e     = i % KERN_BLOCK_256;
    const unsigned sc    = block[e / 16];
    const float    d     = widen_f16(load_u16(block + KERN_Q2_K_D)) * (float)(sc & 15u);
    const float    m     = widen_f16(load_u16(block + KERN_Q2_K_DMIN)) * (float)(sc >> 4);

    return d * (float)bit_pair(block + KERN_Q2_K_Q, e) - m;
}

static float weight_q3_k(const uint8_t *row, size_t i)
{
    const uint8_t *block = row + i / KERN_BLOCK_256 * KERN_Q3_K_BYTES;
    const uint8_t *sc    = block + KERN_Q3_K_SCALES;
    const size_t   e = i % KERN_BLOCK_256, s = e / 16;
    const unsigned low   = ((unsigned)sc[s % 8] >> (4 * (s / 8))) & 15u;
    const unsigned high  = ((unsigned)sc[8 + s % 4] >> (2 * (s / 4))) & 3u;
    const unsigned third = ((unsigned)block[e % 32] >> (e / 32)) & 1u;
    const int      q     = (int)(bit_pair(block + KERN_Q3_K_Q, e) + 4 * third) - 4;
    const float    d     = widen_f16(load_u16(block + KERN_Q3_K_D));

    return (d * (float)((int)(low | high << 4) - 32)) * (float)q;
}

/* Scale (at = 0) or minimum (at = 4) of run s (0..7): six low bits, of the last four runs the
 * nibbles of bytes 8.. and above them the two high bits that the first four left free. */
static unsigned six_bits(const uint8_t *sc, size_t s, size_t at)
{
    if (s < 4) return sc[at + s] & 63u;
    return (((unsigned)sc[8 + s - 4] >> at) & 15u) | ((unsigned)sc[at + s - 4] >> 6) << 4;
}

/* d * sc * q - dmin * m of run s, of Q4_K and Q5_K. */
static float scaled(const uint8_t *block, size_t s, unsigned q)
{
    const uint8_t *sc = block + KERN_Q4_K_SCALES;
    const float    d  = widen_f16(load_u16(block)) * (float)six_bits(sc, s, 0);
    const float    m  = widen_f16(load_u16(block + KERN_Q4_K_DMIN)) * (float)six_bits(sc, s, 4);

    return d * (float)q - m;
}

/* Nibble e (0..255) of 128 bytes: four parts of 64, each two runs of 32. */
static unsigned nibble_k(const uint8_t *q, size_t e)
{
    return ((unsigned)q[32 * (e / 64) + e % 32] >> (4 * (e % 64 / 32))) & 15u;
}

static float weight_q4_k(const uint8_t *row, size_t i)
{
    const uint8_t *block = row + i / KERN_BLOCK_256 * KERN_Q4_K_BYTES;
    const size_t   e     = i % KERN_BLOCK_256;

    return scaled(block, e / 32, nibble_k(block + KERN_Q4_K_Q, e));
}

static float weight_q5_k(const uint8_t *row, size_t i)
{
    const uint8_t *block = row + i / KERN_BLOCK_256 * KERN_Q5_K_BYTES;
    const size_t   e     = i % KERN_BLOCK_256;
    const unsigned fifth = ((unsigned)block[KERN_Q5_K_QH + e % 32] >> (e / 32)) & 1u;

    return scaled(block, e / 32, nibble_k(block + KERN_Q5_K_Q, e) | fifth << 4);
}

static float weight_tq2_0(const uint8_t *row, size_t i)
{
    const uint8_t *block = row + i / KERN_BLOCK_256 * KERN_TQ2_0_BYTES;
    const int      code  = (int)bit_pair(block, i % KERN_BLOCK_256);

    return widen_f16(load_u16(block + KERN_TQ2_0_D)) * (float)(code - 1);
}

/* Digits of base 3, the most significant first: of 32 bytes five in turn, of 16 five, of 4 four. */
static float weight_tq1_0(const uint8_t *row, size_t i)
{
    static const unsigned powers[] = {1, 3, 9, 27, 81};
    const uint8_t        *block    = row + i / KERN_BLOCK_256 * KERN_TQ1_0_BYTES;
    const size_t          e        = i % KERN_BLOCK_256;
    const size_t          at    = e < 160 ? e % 32 : e < 240 ? 32 + e % 16 : KERN_TQ1_0_QH + e % 4;
    const size_t          n     = e < 160 ? e / 32 : e < 240 ? (e - 160) / 16 : (e - 240) / 4;
    const unsigned        rest  = (block[at] * powers[n]) & 255u;
    const int             digit = (int)(rest * 3 >> 8);

    return widen_f16(load_u16(block + KERN_TQ1_0_D)) * (float)(digit - 1);
}

static inline void dense(float *y, size_t y_stride, const void *w, size_t row_bytes, size_t n_rows,
                         size_t k, const float *x, size_t x_stride, size_t n_tok, weight_fn *weight)
{
    for (size_t i = 0; i < n_rows; i++) {
        const uint8_t *row = (const uint8_t *)w + i * row_bytes;

        for (size_t t = 0; t < n_tok; t++) {
            float lane[KERN_LANES] = {0};
            for (size_t j = 0; j < k; j += KERN_LANES) {
                for (size_t l = 0; l < KERN_LANES; l++) {
                    const bool  have = j + l < k;
                    const float wj   = have ? weight(row, j + l) : 0.0f;
                    const float xj   = have ? x[t * x_stride + j + l] : 0.0f;
                    lane[l]          = fmaf(wj, xj, lane[l]);
                }
            }
            y[t * y_stride + i] = ref_fold(lane);
        }
    }
}

#define DENSE(slot, weight)                                                                        \
    void kern_##slot##__ref(float *y, size_t y_stride, const void *w, size_t row_bytes,            \
                            size_t n_rows, size_t k, const float *x, size_t x_stride,              \
                            size_t n_tok)                                                          \
    {                                                                                              \
        dense(y, y_stride, w, row_bytes, n_rows, k, x, x_stride, n_tok, weight);                   \
    }
DENSE(dense_f32, weight_f32)
DENSE(dense_f16, weight_f16)
DENSE(dense_bf16, weight_bf16)
DENSE(dense_q8_0, weight_q8_0)
DENSE(dense_q6_k, weight_q6_k)
DENSE(dense_q4_0, weight_q4_0)
DENSE(dense_q4_1, weight_q4_1)
DENSE(dense_q5_0, weight_q5_0)
DENSE(dense_q5_1, weight_q5_1)
DENSE(dense_q2_k, weight_q2_k)
DENSE(dense_q3_k, weight_q3_k)
DENSE(dense_q4_k, weight_q4_k)
DENSE(dense_q5_k, weight_q5_k)
DENSE(dense_tq1_0, weight_tq1_0)
DENSE(dense_tq2_0, weight_tq2_0)
