/* worker/kernels/x86/tern_gemm.h
 * The loops of a ternary product for several tokens. A block of columns of a few tiles is unpacked
 * once into planes and then multiplied with all tokens while it lies in L1.
 *
 * A plane is 64 bytes: the codes (0, 1, 2) of 4 consecutive columns for 16 rows, byte 4*r + j as in
 * the granule it came from. Plane p of a block holds its columns 4p..4p+3, whatever the format, so
 * all formats share one multiplication. */
#ifndef TRIREME_KERN_X86_TERN_GEMM_H
#define TRIREME_KERN_X86_TERN_GEMM_H

#include "worker/kernels/kernel.h"

#include <stdalign.h>

enum {
    GEMM_TILES    = 4,
    GEMM_PLANES   = 64,              /* of a block; the AVX2 product relies on this limit */
    GEMM_T2_BLOCK = GEMM_PLANES / 4, /* granules of a block */
    GEMM_T3_BLOCK = GEMM_PLANES / 5,
};

typedef uint8_t gemm_plane_t[64];

typedef struct {
    alignas(64) gemm_plane_t plane[GEMM_TILES][GEMM_PLANES];
} gemm_block_t;

/* Unpack n granules at w to planes. */
typedef void gemm_unpack_fn(gemm_plane_t *plane, const uint8_t *w, size_t n);

/* acc[t][16 * tile + r] += the block's products. n_planes >= 1. */
typedef void gemm_mul_fn(int32_t *acc, size_t acc_stride, const gemm_block_t *block, size_t n_tiles,
                         size_t n_planes, const int8_t *q, size_t q_stride, size_t n_tok);

static inline __attribute__((always_inline)) void gemm_loops(
    int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles, size_t k_granules,
    const int8_t *q, size_t q_stride, const int32_t *qsum, size_t n_tok, size_t k_granule,
    size_t block_granules, gemm_unpack_fn *unpack, gemm_mul_fn *mul)
{
    gemm_block_t block;

    /* The codes are trit + 1: what they count too much is the sum of q. */
    for (size_t t = 0; t < n_tok; t++) {
        for (size_t i = 0; i < KERN_TILE_ROWS * n_tiles; i++) acc[t * acc_stride + i] = -qsum[t];
    }
    for (size_t tile = 0; tile < n_tiles; tile += GEMM_TILES) {
        const size_t nt = n_tiles - tile < GEMM_TILES ? n_tiles - tile : GEMM_TILES;

        for (size_t g = 0; g < k_granules; g += block_granules) {
            const size_t ng = k_granules - g < block_granules ? k_granules - g : block_granules;

            for (size_t i = 0; i < nt; i++) {
                unpack(block.plane[i], w + ((tile + i) * k_granules + g) * 64, ng);
            }
            mul(acc + KERN_TILE_ROWS * tile, acc_stride, &block, nt, ng * (k_granule / 4),
                q + g * k_granule, q_stride, n_tok);
        }
    }
}

_Static_assert(GEMM_T2_BLOCK *KERN_T2_K == KERN_BLOCK_K, "a block has one scale");

enum { GEMM_SUM_TOK = 24 }; /* tokens whose sums of a block wait to be scaled */

/* y = fma(acc, scale, y) over 16 rows, from y = +0 in the first block. */
static inline __attribute__((always_inline)) void gemm_scale(float *y, const int32_t *acc,
                                                             const float *scales, bool first)
{
    for (size_t r = 0; r < KERN_TILE_ROWS; r++) {
        y[r] = __builtin_fmaf((float)acc[r], scales[r], first ? 0.0f : y[r]);
    }
}

/* The product over no columns. */
static inline void gemm_zero(float *y, size_t y_stride, size_t n_tiles, size_t n_tok)
{
    for (size_t t = 0; t < n_tok; t++) {
        for (size_t r = 0; r < KERN_TILE_ROWS * n_tiles; r++) y[t * y_stride + r] = 0.0f;
    }
}

/* Granules of block b of a row. */
static inline size_t gemm_block_granules(size_t k_granules, size_t b)
{
    const size_t left = k_granules - b * GEMM_T2_BLOCK;

    return left < GEMM_T2_BLOCK ? left : GEMM_T2_BLOCK;
}

/* A block b of n_tiles tiles for up to GEMM_SUM_TOK tokens: q at its first column, y and scales (of
 * n_blocks blocks a tile) at its first tile, qsum_blocks at the first token. */
static inline __attribute__((always_inline)) void gemm_scaled_block(
    float *y, size_t y_stride, const gemm_block_t *block, const float *scales, size_t n_tiles,
    size_t n_planes, const int8_t *q, size_t q_stride, const int32_t *qsum_blocks, size_t b,
    size_t n_blocks, size_t n_tok, gemm_mul_fn *mul)
{
    enum { ROWS = GEMM_TILES * KERN_TILE_ROWS };
    alignas(64) int32_t acc[GEMM_SUM_TOK * ROWS];

    for (size_t t = 0; t < n_tok; t++) {
        for (size_t r = 0; r < ROWS; r++) acc[t * ROWS + r] = -qsum_blocks[t * n_blocks + b];
    }
    mul(acc, ROWS, block, n_tiles, n_planes, q, q_stride, n_tok);
    for (size_t t = 0; t < n_tok; t++) {
        for (size_t i = 0; i < n_tiles; i++) {
            gemm_scale(y + t * y_stride + i * KERN_TILE_ROWS, acc + t * ROWS + i * KERN_TILE_ROWS,
                       scales + (i * n_blocks + b) * KERN_TILE_ROWS, b == 0);
        }
    }
}

/* The loops for block-scaled t2. */
static inline __attribute__((always_inline)) void gemm_scaled_loops(
    float *y, size_t y_stride, const uint8_t *w, const float *scales, size_t n_tiles,
    size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum_blocks, size_t n_tok,
    gemm_unpack_fn *unpack, gemm_mul_fn *mul)
{
    const size_t n_blocks = kern_blocks(k_granules);
    gemm_block_t block;

    if (n_blocks == 0) gemm_zero(y, y_stride, n_tiles, n_tok);
    for (size_t tile = 0; tile < n_tiles; tile += GEMM_TILES) {
        const size_t nt = n_tiles - tile < GEMM_TILES ? n_tiles - tile : GEMM_TILES;

        for (size_t b = 0, g = 0; b < n_blocks; b++, g += GEMM_T2_BLOCK) {
            const size_t ng = gemm_block_granules(k_granules, b);

            for (size_t i = 0; i < nt; i++) {
                unpack(block.plane[i], w + ((tile + i) * k_granules + g) * 64, ng);
            }
            for (size_t t = 0; t < n_tok; t += GEMM_SUM_TOK) {
                gemm_scaled_block(y + t * y_stride + KERN_TILE_ROWS * tile, y_stride, &block,
                                  scales + tile * n_blocks * KERN_TILE_ROWS, nt, ng * 4,
                                  q + t * q_stride + g * KERN_T2_K, q_stride,
                                  qsum_blocks + t * n_blocks, b, n_blocks,
                                  n_tok - t < GEMM_SUM_TOK ? n_tok - t : GEMM_SUM_TOK, mul);
            }
        }
    }
}

#endif
