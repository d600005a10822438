/* worker/kernels/pack.h
 * Where a weight lies in a packed tile. The layouts are drawn in kernel.h; this is the same in
 * code, for packing and for the reference products. Nothing outside worker/kernels may know it. */
#ifndef TRIREME_KERN_PACK_H
#define TRIREME_KERN_PACK_H

#include "worker/kernels/kernel.h"

/* Byte of a granule that holds row r (0..15) of a column whose index is j modulo 4. */
static inline size_t kern_pack_byte(size_t r, size_t j)
{
    return 4 * r + j;
}

/* Code (trit + 1) of row r, column k of a tile. */
static inline int kern_t2_code(const uint8_t *tile, size_t r, size_t k)
{
    const size_t g = k / KERN_T2_K, s = k % KERN_T2_K / 4, j = k % 4;

    return (tile[64 * g + kern_pack_byte(r, j)] >> (2 * s)) & 3;
}

static inline int kern_t3_code(const uint8_t *tile, size_t r, size_t k)
{
    static const uint8_t pow3[5] = {1, 3, 9, 27, 81};
    const size_t         g = k / KERN_T3_K, n = k % KERN_T3_K / 4, j = k % 4;
    const unsigned       byte = tile[64 * g + kern_pack_byte(r, j)];

    return (int)((((byte * pow3[n]) & 255u) * 3u) >> 8);
}

#endif
