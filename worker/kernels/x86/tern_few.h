/* worker/kernels/x86/tern_few.h
 * The loops of a ternary product for a few tokens: too few to pay for planes in memory
 * (tern_gemm.h), so a granule is unpacked into registers and multiplied with all of them there.
 *
 * The activations of a chunk of columns are first laid side by side, in the order they are read:
 * for each granule, for each token, the granule's columns. Every operand is then at a constant
 * distance from one pointer, and the chunk stays in L1 while all tiles pass. */
#ifndef TRIREME_KERN_X86_TERN_FEW_H
#define TRIREME_KERN_X86_TERN_FEW_H

#include "worker/kernels/x86/tern_gemm.h"

#include <string.h>

enum {
    FEW_BYTES  = 16384, /* of activations in a chunk: half of a small L1 */
    FEW_TOKENS = 32,    /* at most */
    FEW_AHEAD  = 4096,  /* how far ahead of use weights are asked for */
};
_Static_assert(FEW_TOKENS *KERN_BLOCK_K <= FEW_BYTES, "a chunk holds no block of scales");

/* acc[t][r] += the products of n granules at w, n >= 1, for the 16 rows of a tile. q: a chunk's
 * activations, as above. jump: from the end of these granules to the ones that come next. */
typedef void tern_few_fn(int32_t *acc, size_t acc_stride, const uint8_t *w, ptrdiff_t jump,
                         size_t n, const int8_t *q);

/* Ask for what comes `ahead` bytes after w: few_distance(n). */
static inline __attribute__((always_inline)) void few_ahead(const uint8_t *w, size_t ahead,
                                                            const uint8_t *end, ptrdiff_t jump)
{
    const uint8_t *p = w + ahead;

    __builtin_prefetch(p < end ? p : p + jump);
}

static inline size_t few_distance(size_t n)
{
    return 64 * n < FEW_AHEAD ? 64 * n : FEW_AHEAD;
}

/* Tokens are served in groups of the same size, or nearly. Token `t` begins a group of so many. */
static inline size_t few_group(size_t t, size_t n_tok, size_t most)
{
    const size_t left = n_tok - t, groups = (left + most - 1) / most;

    return (left + groups - 1) / groups;
}

/* Lay out the activations of n granules of all tokens, group after group. */
static inline __attribute__((always_inline)) void few_pack(int8_t *out, const int8_t *q,
                                                           size_t q_stride, size_t n, size_t n_tok,
                                                           size_t most, size_t k_granule)
{
    for (size_t t = 0, n_group = 0; t < n_tok; t += n_group) {
        n_group = few_group(t, n_tok, most);
        for (size_t g = 0; g < n; g++) {
            for (size_t i = t; i < t + n_group; i++, out += k_granule) {
                memcpy(out, q + i * q_stride + g * k_granule, k_granule);
            }
        }
    }
}

/* One tile, one chunk of n granules, all tokens. fns[i]: for i + 1 tokens, `most` of them. */
static inline __attribute__((always_inline)) void few_tile(int32_t *acc, size_t acc_stride,
                                                           const uint8_t *w, ptrdiff_t jump,
                                                           size_t n, const int8_t *q, size_t n_tok,
                                                           size_t most, size_t k_granule,
                                                           tern_few_fn *const *fns)
{
    for (size_t t = 0, n_group = 0; t < n_tok; t += n_group) {
        n_group = few_group(t, n_tok, most);
        fns[n_group - 1](acc + t * acc_stride, acc_stride, w, jump, n, q + t * n * k_granule);
    }
}

static inline __attribute__((always_inline)) void few_loops(int32_t *acc, size_t acc_stride,
                                                            const uint8_t *w, size_t n_tiles,
                                                            size_t k_granules, const int8_t *q,
                                                            size_t q_stride, const int32_t *qsum,
                                                            size_t n_tok, size_t k_granule,
                                                            size_t most, tern_few_fn *const *fns)
{
    const size_t       fit   = FEW_BYTES / (n_tok * k_granule);
    const size_t       parts = (k_granules + fit - 1) / fit;
    const size_t       chunk = parts > 0 ? (k_granules + parts - 1) / parts : 1;
    const ptrdiff_t    row   = (ptrdiff_t)(64 * k_granules);
    alignas(64) int8_t packed[FEW_BYTES];

    /* The codes are trit + 1: what they count too much is the sum of q. */
    for (size_t t = 0; t < n_tok; t++) {
        for (size_t i = 0; i < KERN_TILE_ROWS * n_tiles; i++) acc[t * acc_stride + i] = -qsum[t];
    }
    for (size_t g = 0; g < k_granules; g += chunk) {
        const size_t   n    = k_granules - g < chunk ? k_granules - g : chunk;
        const uint8_t *tile = w + 64 * g;

        few_pack(packed, q + g * k_granule, q_stride, n, n_tok, most, k_granule);
        for (size_t i = 0; i < n_tiles; i++, tile += 64 * k_granules) {
            const ptrdiff_t jump =
                i + 1 < n_tiles ? row - (ptrdiff_t)(64 * n) : -row * (ptrdiff_t)i;

            few_tile(acc + KERN_TILE_ROWS * i, acc_stride, tile, jump, n, packed, n_tok, most,
                     k_granule, fns);
        }
    }
}

/* Block b of one tile for all tokens: y = fma(acc, scale, y), from y = +0 in the first. q: the
 * block's activations as they were laid out. */
static inline __attribute__((always_inline)) void few_scaled_tile(
    float *y, size_t y_stride, const uint8_t *w, const float *scales, size_t n, const int8_t *q,
    const int32_t *qsum_blocks, size_t n_blocks, bool first, size_t n_tok, size_t most,
    tern_few_fn *const *fns)
{
    /* A block is short: what is asked for lies beyond its end, a jump of the rest. */
    const ptrdiff_t     jump = FEW_AHEAD - (ptrdiff_t)few_distance(n);
    alignas(64) int32_t acc[FEW_TOKENS * KERN_TILE_ROWS];

    for (size_t t = 0; t < n_tok; t++) {
        for (size_t r = 0; r < KERN_TILE_ROWS; r++) {
            acc[t * KERN_TILE_ROWS + r] = -qsum_blocks[t * n_blocks];
        }
    }
    few_tile(acc, KERN_TILE_ROWS, w, jump, n, q, n_tok, most, KERN_T2_K, fns);
    for (size_t t = 0; t < n_tok; t++) {
        gemm_scale(y + t * y_stride, acc + t * KERN_TILE_ROWS, scales, first);
    }
}

/* The loops for block-scaled t2: n_tok at most FEW_TOKENS, so that a chunk holds a block. */
static inline __attribute__((always_inline)) void few_scaled_loops(
    float *y, size_t y_stride, const uint8_t *w, const float *scales, size_t n_tiles,
    size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum_blocks, size_t n_tok,
    size_t most, tern_few_fn *const *fns)
{
    const size_t       n_blocks = kern_blocks(k_granules), all = n_tok * KERN_BLOCK_K;
    const size_t       chunk = FEW_BYTES / all;
    alignas(64) int8_t packed[FEW_BYTES];

    if (n_blocks == 0) gemm_zero(y, y_stride, n_tiles, n_tok);
    for (size_t first = 0; first < n_blocks; first += chunk) {
        const size_t last = n_blocks - first < chunk ? n_blocks : first + chunk;

        for (size_t b = first; b < last; b++) {
            few_pack(packed + (b - first) * all, q + b * KERN_BLOCK_K, q_stride,
                     gemm_block_granules(k_granules, b), n_tok, most, KERN_T2_K);
        }
        for (size_t i = 0; i < n_tiles; i++) {
            for (size_t b = first; b < last; b++) {
                few_scaled_tile(y + KERN_TILE_ROWS * i, y_stride,
                                w + 64 * (i * k_granules + b * GEMM_T2_BLOCK),
                                scales + (i * n_blocks + b) * KERN_TILE_ROWS,
                                gemm_block_granules(k_granules, b), packed + (b - first) * all,
                                qsum_blocks + b, n_blocks, b == 0, n_tok, most, fns);
            }
        }
    }
}

#endif
