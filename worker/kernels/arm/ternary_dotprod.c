/* worker/kernels/arm/ternary_dotprod.c
 * Ternary products with SDOT (Armv8.2 dotprod): a register holds 4 columns of 4 rows, the
 * activations of 4 columns are one element of another. */
#include "worker/kernels/arm/tern_arm.h"

/* One tile of t2 for one token. The second and third bit pairs are masked but not shifted: their
 * accumulators hold 4 and 16 times their sums and are shifted at the end, which is exact. Range: a
 * granule adds at most 4 * 48 * 128 < 2^15, and K = 2^19 has 2^15 granules. */
static inline void t2_tile(int32_t *acc, const uint8_t *w, size_t k_granules, const int8_t *q,
                           int32_t qsum)
{
    const uint8x16_t m0 = vdupq_n_u8(0x03), m1 = vdupq_n_u8(0x0c), m2 = vdupq_n_u8(0x30);
    int32x4_t        a[4], b[4], c[4];

    for (size_t v = 0; v < 4; v++) a[v] = b[v] = c[v] = vdupq_n_s32(0);
    for (size_t g = 0; g < k_granules; g++, w += 64, q += KERN_T2_K) {
        const int8x16_t qs = vld1q_s8(q);

        for (size_t v = 0; v < 4; v++) {
            const uint8x16_t x  = vld1q_u8(w + 16 * v);
            const int8x16_t  c3 = vreinterpretq_s8_u8(vshrq_n_u8(x, 6));

            a[v] = vdotq_laneq_s32(a[v], vreinterpretq_s8_u8(vandq_u8(x, m0)), qs, 0);
            b[v] = vdotq_laneq_s32(b[v], vreinterpretq_s8_u8(vandq_u8(x, m1)), qs, 1);
            c[v] = vdotq_laneq_s32(c[v], vreinterpretq_s8_u8(vandq_u8(x, m2)), qs, 2);
            a[v] = vdotq_laneq_s32(a[v], c3, qs, 3);
        }
    }
    for (size_t v = 0; v < 4; v++) {
        a[v] = vaddq_s32(a[v], vaddq_s32(vshrq_n_s32(b[v], 2), vshrq_n_s32(c[v], 4)));
        vst1q_s32(acc + 4 * v, vsubq_s32(a[v], vdupq_n_s32(qsum)));
    }
}

static inline void t3_tile(int32_t *acc, const uint8_t *w, size_t k_granules, const int8_t *q,
                           int32_t qsum)
{
    int32x4_t a[4];

    for (size_t v = 0; v < 4; v++) a[v] = vdupq_n_s32(-qsum);
    for (size_t g = 0; g < k_granules; g++, w += 64) {
        uint8x16_t digit[4][5];

        for (size_t v = 0; v < 4; v++) t3_digits(vld1q_u8(w + 16 * v), digit[v]);
        for (size_t n = 0; n < 5; n++, q += 4) {
            int32_t q4 = 0;
            memcpy(&q4, q, 4);
            const int8x16_t qs = vreinterpretq_s8_s32(vdupq_n_s32(q4));
            for (size_t v = 0; v < 4; v++) {
                a[v] = vdotq_s32(a[v], vreinterpretq_s8_u8(digit[v][n]), qs);
            }
        }
    }
    for (size_t v = 0; v < 4; v++) vst1q_s32(acc + 4 * v, a[v]);
}

#define GEMV(slot, tile_fn)                                                                        \
    void kern_##slot##__dotprod(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles, \
                                size_t k_granules, const int8_t *q, size_t q_stride,               \
                                const int32_t *qsum, size_t n_tok)                                 \
    {                                                                                              \
        for (size_t i = 0; i < n_tiles * n_tok; i++) {                                             \
            const size_t tile = i / n_tok, t = i % n_tok;                                          \
            tile_fn(acc + t * acc_stride + KERN_TILE_ROWS * tile, w + 64 * k_granules * tile,      \
                    k_granules, q + t * q_stride, qsum[t]);                                        \
        }                                                                                          \
    }
GEMV(gemv_t2_i8, t2_tile)
GEMV(gemv_t3_i8, t3_tile)

/* 16 rows x n_tok (1..4, constant after inlining) tokens of sums in registers. */
INLINE void mul_fixed(int32_t *acc, size_t acc_stride, const arm_plane_t *plane, size_t n_planes,
                      const int8_t *q, size_t q_stride, size_t n_tok)
{
    int32x4_t sum[4][4];

    for (size_t t = 0; t < n_tok; t++)
        for (size_t v = 0; v < 4; v++) sum[t][v] = vld1q_s32(acc + t * acc_stride + 4 * v);
    for (size_t p = 0; p < n_planes; p++) {
        const int8_t *codes = (const int8_t *)plane[p];
        int8x16_t     c[4];

        for (size_t v = 0; v < 4; v++) c[v] = vld1q_s8(codes + 16 * v);
        for (size_t t = 0; t < n_tok; t++) {
            int32_t q4 = 0;
            memcpy(&q4, q + t * q_stride + 4 * p, 4);
            const int8x16_t qs = vreinterpretq_s8_s32(vdupq_n_s32(q4));
            for (size_t v = 0; v < 4; v++) sum[t][v] = vdotq_s32(sum[t][v], c[v], qs);
        }
    }
    for (size_t t = 0; t < n_tok; t++)
        for (size_t v = 0; v < 4; v++) vst1q_s32(acc + t * acc_stride + 4 * v, sum[t][v]);
}

static void mul(int32_t *acc, size_t acc_stride, const arm_plane_t *plane, size_t n_planes,
                const int8_t *q, size_t q_stride, size_t n_tok)
{
    for (; n_tok >= 4; n_tok -= 4, q += 4 * q_stride, acc += 4 * acc_stride)
        mul_fixed(acc, acc_stride, plane, n_planes, q, q_stride, 4);
    for (; n_tok > 0; n_tok--, q += q_stride, acc += acc_stride)
        mul_fixed(acc, acc_stride, plane, n_planes, q, q_stride, 1);
}

void kern_gemm_t2_i8__dotprod(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                              size_t k_granules, const int8_t *q, size_t q_stride,
                              const int32_t *qsum, size_t n_tok)
{
    arm_gemm(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T2_K,
             ARM_T2_BLOCK, arm_t2_unpack, mul);
}

void kern_gemm_t3_i8__dotprod(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                              size_t k_granules, const int8_t *q, size_t q_stride,
                              const int32_t *qsum, size_t n_tok)
{
    arm_gemm(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T3_K,
             ARM_T3_BLOCK, arm_t3_unpack, mul);
}

void kern_gemm_t2b_i8__dotprod(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                               size_t n_tiles, size_t k_granules, const int8_t *q, size_t q_stride,
                               const int32_t *qsum_blocks, size_t n_tok)
{
    arm_gemm_scaled(y, y_stride, w, scales, n_tiles, k_granules, q, q_stride, qsum_blocks, n_tok,
                    mul);
}

void kern_gemv_t2b_i8__dotprod(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                               size_t n_tiles, size_t k_granules, const int8_t *q, size_t q_stride,
                               const int32_t *qsum_blocks, size_t n_tok)
{
    kern_gemm_t2b_i8__dotprod(y, y_stride, w, scales, n_tiles, k_granules, q, q_stride, qsum_blocks,
                              n_tok);
}
