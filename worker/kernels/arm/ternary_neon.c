/* worker/kernels/arm/ternary_neon.c
 * Ternary products for the NEON that every 64-bit ARM has: products of bytes to 16 bits, summed in
 * pairs to 32 bits. Each token in turn; prompts gain most from dotprod and i8mm beside this
 * file. */
#include "worker/kernels/arm/t3_neon.h"
#include "worker/kernels/kernel_decl.h"

#include <arm_neon.h>
#include <string.h>

/* Four columns of four rows: sum += codes * q4, as two columns a 32-bit lane. lo: rows 0 and 1, hi:
 * rows 2 and 3. |code * q| <= 2 * 128, so nothing wraps in 16 bits. */
typedef struct {
    int32x4_t lo, hi;
} pairs_t;

static inline pairs_t add_products(pairs_t sum, uint8x16_t codes, int8x16_t q4)
{
    const int8x16_t c = vreinterpretq_s8_u8(codes);

    sum.lo = vpadalq_s16(sum.lo, vmull_s8(vget_low_s8(c), vget_low_s8(q4)));
    sum.hi = vpadalq_s16(sum.hi, vmull_high_s8(c, q4));
    return sum;
}

static inline int8x16_t load_q4(const int8_t *q)
{
    int32_t v = 0;

    memcpy(&v, q, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(v));
}

/* Rows 4v .. 4v + 3 of one tile of t2, codes not yet turned to trits. */
static inline int32x4_t t2_rows(const uint8_t *w, size_t k_granules, const int8_t *q)
{
    const uint8x16_t three = vdupq_n_u8(3);
    pairs_t          sum   = {vdupq_n_s32(0), vdupq_n_s32(0)};

    for (size_t g = 0; g < k_granules; g++, w += 64, q += KERN_T2_K) {
        const uint8x16_t b = vld1q_u8(w);

        sum = add_products(sum, vandq_u8(b, three), load_q4(q));
        sum = add_products(sum, vandq_u8(vshrq_n_u8(b, 2), three), load_q4(q + 4));
        sum = add_products(sum, vandq_u8(vshrq_n_u8(b, 4), three), load_q4(q + 8));
        sum = add_products(sum, vshrq_n_u8(b, 6), load_q4(q + 12));
    }
    return vpaddq_s32(sum.lo, sum.hi);
}

/* The same of t3. */
static inline int32x4_t t3_rows(const uint8_t *w, size_t k_granules, const int8_t *q)
{
    pairs_t sum = {vdupq_n_s32(0), vdupq_n_s32(0)};

    for (size_t g = 0; g < k_granules; g++, w += 64) {
        uint8x16_t digit[5];

        t3_digits(vld1q_u8(w), digit);
        for (size_t n = 0; n < 5; n++, q += 4) sum = add_products(sum, digit[n], load_q4(q));
    }
    return vpaddq_s32(sum.lo, sum.hi);
}

typedef int32x4_t rows_fn(const uint8_t *w, size_t k_granules, const int8_t *q);

static inline __attribute__((always_inline)) void product(int32_t *acc, size_t acc_stride,
                                                          const uint8_t *w, size_t n_tiles,
                                                          size_t k_granules, const int8_t *q,
                                                          size_t q_stride, const int32_t *qsum,
                                                          size_t n_tok, rows_fn *rows)
{
    for (size_t tile = 0; tile < n_tiles; tile++, w += 64 * k_granules, acc += KERN_TILE_ROWS) {
        for (size_t t = 0; t < n_tok; t++) {
            for (size_t v = 0; v < 4; v++) {
                const int32x4_t sum = rows(w + 16 * v, k_granules, q + t * q_stride);
                vst1q_s32(acc + t * acc_stride + 4 * v, vsubq_s32(sum, vdupq_n_s32(qsum[t])));
            }
        }
    }
}

#define PRODUCT(slot, rows)                                                                        \
    void kern_##slot##__neon(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,    \
                             size_t k_granules, const int8_t *q, size_t q_stride,                  \
                             const int32_t *qsum, size_t n_tok)                                    \
    {                                                                                              \
        product(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, rows);          \
    }
PRODUCT(gemv_t2_i8, t2_rows)
PRODUCT(gemm_t2_i8, t2_rows)
PRODUCT(gemv_t3_i8, t3_rows)
PRODUCT(gemm_t3_i8, t3_rows)

void kern_gemv_t2b_i8__neon(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                            size_t n_tiles, size_t k_granules, const int8_t *q, size_t q_stride,
                            const int32_t *qsum_blocks, size_t n_tok)
{
    enum { BLOCK = KERN_BLOCK_K / KERN_T2_K };
    const size_t n_blocks = kern_blocks(k_granules);

    for (size_t i = 0; i < n_tiles * 4 * n_tok; i++) {
        const size_t   tile = i / 4 / n_tok, v = i / n_tok % 4, t = i % n_tok;
        const uint8_t *wt  = w + 64 * k_granules * tile + 16 * v;
        float32x4_t    sum = vdupq_n_f32(0);

        for (size_t b = 0; b < n_blocks; b++) {
            const size_t    g   = b * BLOCK;
            const size_t    n   = k_granules - g < BLOCK ? k_granules - g : BLOCK;
            const int32x4_t raw = t2_rows(wt + 64 * g, n, q + t * q_stride + KERN_T2_K * g);
            const int32x4_t acc = vsubq_s32(raw, vdupq_n_s32(qsum_blocks[t * n_blocks + b]));
            const float    *s   = scales + (tile * n_blocks + b) * KERN_TILE_ROWS + 4 * v;
            sum                 = vfmaq_f32(sum, vcvtq_f32_s32(acc), vld1q_f32(s));
        }
        vst1q_f32(y + t * y_stride + KERN_TILE_ROWS * tile + 4 * v, sum);
    }
}

void kern_gemm_t2b_i8__neon(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                            size_t n_tiles, size_t k_granules, const int8_t *q, size_t q_stride,
                            const int32_t *qsum_blocks, size_t n_tok)
{
    kern_gemv_t2b_i8__neon(y, y_stride, w, scales, n_tiles, k_granules, q, q_stride, qsum_blocks,
                           n_tok);
}
