/* worker/kernels/arm/tern_gemm_i8mm.c
 * Ternary products for several tokens with SMMLA (i8mm): 2 rows x 8 columns times 8 columns x 2
 * tokens in one instruction. Two planes are zipped to the former shape; the activations lie in
 * it. */
#include "worker/kernels/arm/tern_arm.h"

/* Rows 2i, 2i + 1 of two planes: 8 columns of each row. */
INLINE int8x16_t zip_rows(const arm_plane_t *plane, size_t i, bool second)
{
    const int32x4_t a = vreinterpretq_s32_u8(vld1q_u8(plane[0] + 16 * (i / 2)));
    const int32x4_t b =
        second ? vreinterpretq_s32_u8(vld1q_u8(plane[1] + 16 * (i / 2))) : vdupq_n_s32(0);

    return vreinterpretq_s8_s32(i % 2 == 0 ? vzip1q_s32(a, b) : vzip2q_s32(a, b));
}

INLINE int8x16_t load_tokens(const int8_t *q, size_t q_stride, bool second)
{
    int8_t v[16] = {0};

    memcpy(v, q, second ? 8 : 4);
    memcpy(v + 8, q + q_stride, second ? 8 : 4);
    return vld1q_s8(v);
}

/* 16 rows x 4 tokens: sum[i][u] holds rows 2i, 2i+1 x tokens 2u, 2u+1, row by row. */
static void mul_4(int32_t *acc, size_t acc_stride, const arm_plane_t *plane, size_t n_planes,
                  const int8_t *q, size_t q_stride)
{
    int32x4_t sum[8][2];

    for (size_t i = 0; i < 8; i++) sum[i][0] = sum[i][1] = vdupq_n_s32(0);
    for (size_t p = 0; p < n_planes; p += 2) {
        const bool      second = p + 1 < n_planes;
        const int8x16_t q0     = load_tokens(q + 4 * p, q_stride, second);
        const int8x16_t q1     = load_tokens(q + 2 * q_stride + 4 * p, q_stride, second);

        for (size_t i = 0; i < 8; i++) {
            const int8x16_t c = zip_rows(plane + p, i, second);
            sum[i][0]         = vmmlaq_s32(sum[i][0], c, q0);
            sum[i][1]         = vmmlaq_s32(sum[i][1], c, q1);
        }
    }
    for (size_t i = 0; i < 8; i++) {
        for (size_t u = 0; u < 2; u++) {
            int32_t v[4];
            vst1q_s32(v, sum[i][u]);
            for (size_t k = 0; k < 4; k++)
                acc[(2 * u + k % 2) * acc_stride + 2 * i + k / 2] += v[k];
        }
    }
}

/* Fewer than 4 tokens left: SDOT. */
static void mul_1(int32_t *acc, const arm_plane_t *plane, size_t n_planes, const int8_t *q)
{
    int32x4_t sum[4];

    for (size_t v = 0; v < 4; v++) sum[v] = vld1q_s32(acc + 4 * v);
    for (size_t p = 0; p < n_planes; p++) {
        int32_t q4 = 0;
        memcpy(&q4, q + 4 * p, 4);
        const int8x16_t qs = vreinterpretq_s8_s32(vdupq_n_s32(q4));
        for (size_t v = 0; v < 4; v++)
            sum[v] = vdotq_s32(sum[v], vreinterpretq_s8_u8(vld1q_u8(plane[p] + 16 * v)), qs);
    }
    for (size_t v = 0; v < 4; v++) vst1q_s32(acc + 4 * v, sum[v]);
}

static void mul(int32_t *acc, size_t acc_stride, const arm_plane_t *plane, size_t n_planes,
                const int8_t *q, size_t q_stride, size_t n_tok)
{
    for (; n_tok >= 4; n_tok -= 4, q += 4 * q_stride, acc += 4 * acc_stride)
        mul_4(acc, acc_stride, plane, n_planes, q, q_stride);
    for (; n_tok > 0; n_tok--, q += q_stride, acc += acc_stride) mul_1(acc, plane, n_planes, q);
}

void kern_gemm_t2_i8__i8mm(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                           size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                           size_t n_tok)
{
    arm_gemm(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T2_K,
             ARM_T2_BLOCK, arm_t2_unpack, mul);
}

void kern_gemm_t3_i8__i8mm(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                           size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                           size_t n_tok)
{
    arm_gemm(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok, KERN_T3_K,
             ARM_T3_BLOCK, arm_t3_unpack, mul);
}

void kern_gemm_t2b_i8__i8mm(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                            size_t n_tiles, size_t k_granules, const int8_t *q, size_t q_stride,
                            const int32_t *qsum_blocks, size_t n_tok)
{
    arm_gemm_scaled(y, y_stride, w, scales, n_tiles, k_granules, q, q_stride, qsum_blocks, n_tok,
                    mul);
}
