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
    const uint8_t *block = row + i / KERN_Q8_0_K * KERN_Q8_0_BYTES;
    const float    d     = widen_f16(load_u16(block));

    return d * (float)(int8_t)block[KERN_Q8_0_Q + i % KERN_Q8_0_K];
}

/* Elements lie in two halves of 128, each in four runs of 32: low or high nibbles of ql, two bits
 * of qh each; a scale for every 16. */
static float weight_q6_k(const uint8_t *row, size_t i)
{
    const uint8_t *block = row + i / KERN_Q6_K_K * KERN_Q6_K_BYTES;
    const size_t   e = i % KERN_Q6_K_K, half = e / 128, run = e % 128 / 32, l = e % 32;
    const unsigned ql = block[64 * half + 32 * (run % 2) + l];
    const unsigned qh = block[KERN_Q6_K_QH + 32 * half + l];
    const unsigned q  = ((ql >> (4 * (run / 2))) & 15u) | ((qh >> (2 * run)) & 3u) << 4;
    const float    d  = widen_f16(load_u16(block + KERN_Q6_K_D));
    const float    sc = (float)(int8_t)block[KERN_Q6_K_SCALES + e / 16];

    return (d * sc) * (float)((int)q - 32);
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
