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

#endif
