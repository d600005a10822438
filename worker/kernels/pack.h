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

/* What digit n of a byte of t3 counts. */
static inline int kern_t3_unit(size_t n)
{
    static const uint8_t units[5] = {KERN_T3_UNIT_0, KERN_T3_UNIT_1, KERN_T3_UNIT_2, 3, 1};

    return units[n];
}

static inline int kern_t3_code(const uint8_t *tile, size_t r, size_t k)
{
    const size_t g = k / KERN_T3_K, n = k % KERN_T3_K / 4, j = k % 4;
    int          byte = tile[64 * g + kern_pack_byte(r, j)];

    for (size_t i = 0; i < n; i++) byte %= kern_t3_unit(i);
    return byte / kern_t3_unit(n);
}

/* Parts of a tile of coarse rows (screen.h): where its multipliers and its codes begin. */
enum { KERN_SCREEN_M_AT = 3 * KERN_TILE_ROWS * 4 };

static inline size_t kern_screen_codes_at(size_t n_blocks)
{
    return KERN_SCREEN_M_AT + (n_blocks * KERN_TILE_ROWS + 63) / 64 * 64;
}

/* Code + 32 of row r, column k (0..63) of a block. */
static inline int kern_screen_code(const uint8_t *block, size_t r, size_t k)
{
    const uint8_t *group = block + 192 * (k / 16) + kern_pack_byte(r, k % 4);
    const size_t   v     = k % 16 / 4;

    if (v < 3) return group[64 * v] & 63;
    return group[0] >> 6 | group[64] >> 6 << 2 | group[128] >> 6 << 4;
}

#endif
