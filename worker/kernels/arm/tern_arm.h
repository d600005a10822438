/* worker/kernels/arm/tern_arm.h
 * Loops of the ternary products with SDOT and SMMLA: a run of columns of one tile is unpacked once
 * to planes and multiplied with all tokens while it lies in L1.
 *
 * A plane is 64 bytes: the codes (0, 1, 2) of 4 consecutive columns for 16 rows, byte 4*r + j as in
 * the granule it came from, so four registers of 4 rows each: what SDOT by element wants. Plane p
 * of a run holds its columns 4p..4p+3, whatever the format. */
#ifndef TRIREME_KERN_ARM_TERN_ARM_H
#define TRIREME_KERN_ARM_TERN_ARM_H

#include "worker/kernels/arm/t3_neon.h"
#include "worker/kernels/kernel_decl.h"

#include <arm_neon.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum {
    ARM_PLANES   = 64, /* of a run, at most: 256 columns, a block of scales */
    ARM_T2_BLOCK = ARM_PLANES / 4,
    ARM_T3_BLOCK = 12, /* 60 planes: even, for products of 8 columns */
};

typedef uint8_t arm_plane_t[64];

typedef void arm_unpack_fn(arm_plane_t *plane, const uint8_t *w, size_t n);

/* acc[t * acc_stride + r] += the run's products, r = 0..15; n_planes >= 1. */
typedef void arm_mul_fn(int32_t *acc, size_t acc_stride, const arm_plane_t *plane, size_t n_planes,
                        const int8_t *q, size_t q_stride, size_t n_tok);

INLINE void arm_t2_unpack(arm_plane_t *plane, const uint8_t *w, size_t n)
{
    const uint8x16_t three = vdupq_n_u8(3);

    for (size_t g = 0; g < n; g++, plane += 4) {
        for (size_t v = 0; v < 64; v += 16) {
            const uint8x16_t b = vld1q_u8(w + 64 * g + v);

            vst1q_u8(plane[0] + v, vandq_u8(b, three));
            vst1q_u8(plane[1] + v, vandq_u8(vshrq_n_u8(b, 2), three));
            vst1q_u8(plane[2] + v, vandq_u8(vshrq_n_u8(b, 4), three));
            vst1q_u8(plane[3] + v, vshrq_n_u8(b, 6));
        }
    }
}

INLINE void arm_t3_unpack(arm_plane_t *plane, const uint8_t *w, size_t n)
{
    for (size_t g = 0; g < n; g++, plane += 5) {
        for (size_t v = 0; v < 64; v += 16) {
            uint8x16_t digit[5];

            t3_digits(vld1q_u8(w + 64 * g + v), digit);
            for (size_t i = 0; i < 5; i++) vst1q_u8(plane[i] + v, digit[i]);
        }
    }
}

INLINE void arm_gemm(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                     size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                     size_t n_tok, size_t k_granule, size_t block, arm_unpack_fn *unpack,
                     arm_mul_fn *mul)
{
    arm_plane_t plane[ARM_PLANES];

    for (size_t tile = 0; tile < n_tiles; tile++, acc += KERN_TILE_ROWS) {
        /* The codes are trit + 1: what they count too much is the sum of q. */
        for (size_t t = 0; t < n_tok; t++)
            for (size_t r = 0; r < KERN_TILE_ROWS; r++) acc[t * acc_stride + r] = -qsum[t];
        for (size_t g = 0; g < k_granules; g += block) {
            const size_t n = k_granules - g < block ? k_granules - g : block;

            unpack(plane, w + (tile * k_granules + g) * 64, n);
            mul(acc, acc_stride, plane, n * (k_granule / 4), q + g * k_granule, q_stride, n_tok);
        }
    }
}

enum { ARM_SUM_TOK = 16 }; /* tokens whose sums of a block wait to be scaled */

/* Block b of one tile, up to ARM_SUM_TOK tokens: y = fma(acc, scale, y), from +0 in the first. */
INLINE void arm_scaled_block(float *y, size_t y_stride, const arm_plane_t *plane, size_t n_planes,
                             const float *scales, const int8_t *q, size_t q_stride,
                             const int32_t *qsum_blocks, size_t b, size_t n_blocks, size_t n_tok,
                             arm_mul_fn *mul)
{
    int32_t acc[ARM_SUM_TOK * KERN_TILE_ROWS];

    for (size_t i = 0; i < n_tok * KERN_TILE_ROWS; i++)
        acc[i] = -qsum_blocks[i / KERN_TILE_ROWS * n_blocks + b];
    mul(acc, KERN_TILE_ROWS, plane, n_planes, q, q_stride, n_tok);
    for (size_t i = 0; i < n_tok * KERN_TILE_ROWS; i += 4) {
        float            *to  = y + i / KERN_TILE_ROWS * y_stride + i % KERN_TILE_ROWS;
        const float32x4_t old = b == 0 ? vdupq_n_f32(0) : vld1q_f32(to);
        vst1q_f32(to, vfmaq_f32(old, vcvtq_f32_s32(vld1q_s32(acc + i)),
                                vld1q_f32(scales + i % KERN_TILE_ROWS)));
    }
}

INLINE void arm_gemm_scaled(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                            size_t n_tiles, size_t k_granules, const int8_t *q, size_t q_stride,
                            const int32_t *qsum_blocks, size_t n_tok, arm_mul_fn *mul)
{
    const size_t n_blocks = kern_blocks(k_granules);
    arm_plane_t  plane[ARM_PLANES];

    for (size_t i = 0; n_blocks == 0 && i < n_tok * n_tiles * KERN_TILE_ROWS; i++) {
        const size_t rows                 = n_tiles * KERN_TILE_ROWS;
        y[i / rows * y_stride + i % rows] = 0;
    }
    for (size_t i = 0; i < n_tiles * n_blocks; i++) {
        const size_t tile = i / n_blocks, b = i % n_blocks, g = b * ARM_T2_BLOCK;
        const size_t n = k_granules - g < ARM_T2_BLOCK ? k_granules - g : ARM_T2_BLOCK;

        arm_t2_unpack(plane, w + (tile * k_granules + g) * 64, n);
        for (size_t t = 0; t < n_tok; t += ARM_SUM_TOK) {
            arm_scaled_block(y + t * y_stride + KERN_TILE_ROWS * tile, y_stride, plane, n * 4,
                             scales + i * KERN_TILE_ROWS, q + t * q_stride + g * KERN_T2_K,
                             q_stride, qsum_blocks + t * n_blocks, b, n_blocks,
                             n_tok - t < ARM_SUM_TOK ? n_tok - t : ARM_SUM_TOK, mul);
        }
    }
}

#endif
