/* worker/kernels/dense_block.h
 * GGUF's blocks of quantised dense weights, by byte offset: packed in the file, so unaligned. */
#ifndef TRIREME_KERN_DENSE_BLOCK_H
#define TRIREME_KERN_DENSE_BLOCK_H

enum {
    KERN_BLOCK_32  = 32,  /* elements of a block of the _0 and _1 types */
    KERN_BLOCK_256 = 256, /* of the _K types */

    KERN_Q8_0_BYTES = 34, /* f16 scale, then 32 int8 */
    KERN_Q8_0_Q     = 2,

    KERN_Q6_K_BYTES  = 210, /* 128 bytes of low nibbles first */
    KERN_Q6_K_QH     = 128, /* 64 bytes of high bit pairs */
    KERN_Q6_K_SCALES = 192, /* 16 int8 */
    KERN_Q6_K_D      = 208, /* f16 */

    /* Blocks of 32: f16 scale, of the _1 types f16 minimum, of the Q5 types the fifth bits in
     * order; then 16 bytes of nibbles, the low ones the first half. */
    KERN_Q4_0_BYTES = 18,
    KERN_Q4_0_Q     = 2,
    KERN_Q4_1_BYTES = 20,
    KERN_Q4_1_M     = 2,
    KERN_Q4_1_Q     = 4,
    KERN_Q5_0_BYTES = 22,
    KERN_Q5_0_QH    = 2,
    KERN_Q5_0_Q     = 6,
    KERN_Q5_1_BYTES = 24,
    KERN_Q5_1_M     = 2,
    KERN_Q5_1_QH    = 4,
    KERN_Q5_1_Q     = 8,

    /* Blocks of 256. */
    KERN_Q2_K_BYTES  = 84,  /* 16 bytes first: scale in the low, minimum in the high nibble */
    KERN_Q2_K_Q      = 16,  /* 64 bytes of bit pairs */
    KERN_Q2_K_D      = 80,  /* f16 */
    KERN_Q2_K_DMIN   = 82,  /* f16 */
    KERN_Q3_K_BYTES  = 110, /* 32 bytes of third bits first: 1 for no offset of -4 */
    KERN_Q3_K_Q      = 32,  /* 64 bytes of bit pairs */
    KERN_Q3_K_SCALES = 96,  /* 16 of 6 bits: 8 bytes of low nibbles, 4 of high pairs */
    KERN_Q3_K_D      = 108, /* f16 */
    KERN_Q4_K_BYTES  = 144, /* f16 scale first */
    KERN_Q4_K_DMIN   = 2,   /* f16 */
    KERN_Q4_K_SCALES = 4,   /* 8 scales and 8 minima of 6 bits in 12 bytes */
    KERN_Q4_K_Q      = 16,  /* 128 bytes of nibbles */
    KERN_Q5_K_BYTES  = 176, /* as Q4_K up to the scales */
    KERN_Q5_K_QH     = 16,  /* 32 bytes of fifth bits */
    KERN_Q5_K_Q      = 48,  /* 128 bytes of nibbles */

    /* Ternary blocks of 256: see model/types.c. */
    KERN_TQ1_0_BYTES = 54, /* 32 bytes of 5 digits, 16 bytes of 5 */
    KERN_TQ1_0_QH    = 48, /* 4 bytes of 4 */
    KERN_TQ1_0_D     = 52, /* f16 */
    KERN_TQ2_0_BYTES = 66, /* 64 bytes of bit pairs */
    KERN_TQ2_0_D     = 64, /* f16 */
};

#endif
