/* worker/kernels/screen.h
 * Coarse rows of the output head, with a bound on their error: packing of rows, quantisation of the
 * vector. The products are the slot screen_6 of kernel.h; the proof is NUMERICS 9.
 *
 * A row is cut into blocks of KERN_SCREEN_K = 64 columns. Column j of block b is held as a code c
 * in
 * -32..31, standing for c * m_b * s: m_b in 0..255 for each row and block, s a float for each row.
 *
 * Layout: tiles of KERN_TILE_ROWS = 16 rows, one after the other, 64-byte aligned:
 *   float s[16], p[16], n[16];     scale; bound by blocks, bound by the whole (NUMERICS 9)
 *   uint8 m[n_blocks][16];         then zeros up to a multiple of 64 bytes
 *   codes, 768 bytes a block: four groups of 16 columns, each three vectors of 64 bytes. Byte 4r +
 *     j of vector v holds in its low six bits the code + 32 of row r, column 4v + j, and in its
 *     high two the bits 2v and 2v + 1 of the code + 32 of column 12 + j. */
#ifndef TRIREME_KERN_SCREEN_H
#define TRIREME_KERN_SCREEN_H

#include "worker/kernels/kernel.h"

#define KERN_SCREEN_MAX_COLS ((size_t)1 << 17)

static inline size_t kern_screen_blocks(size_t cols)
{
    return (cols + KERN_SCREEN_K - 1) / KERN_SCREEN_K;
}

static inline size_t kern_screen_tile_bytes(size_t n_blocks)
{
    return 3 * KERN_TILE_ROWS * sizeof(float) + (n_blocks * KERN_TILE_ROWS + 63) / 64 * 64 +
           n_blocks * KERN_SCREEN_BLOCK_BYTES;
}

/* Pack n_rows <= 16 rows of `cols` floats, `stride` apart, into one tile; missing rows are zero.
 * False when a weight is not finite or is above 2^40: such a head cannot be screened.
 * 1 <= cols <= KERN_SCREEN_MAX_COLS. Any thread. */
bool kern_screen_pack_tile(uint8_t *out, const float *rows, size_t stride, size_t n_rows,
                           size_t cols);

/* Quantise a vector of `cols` floats into the arrays of x, which the caller owns: hi and lo of
 * 64 * n_blocks bytes, bias, scale and norm of n_blocks elements. False when a value is not finite
 * or the norm is not within 2^-40 .. 2^40: such a vector cannot be screened. Any thread. */
bool kern_screen_quant(kern_screen_x_t *x, const float *v, size_t cols);

#endif
