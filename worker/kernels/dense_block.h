/* worker/kernels/dense_block.h
 * GGUF's blocks of quantised dense weights, by byte offset: packed in the file, so unaligned. */
#ifndef TRIREME_KERN_DENSE_BLOCK_H
#define TRIREME_KERN_DENSE_BLOCK_H

enum {
    KERN_Q8_0_K     = 32,
    KERN_Q8_0_BYTES = 34, /* f16 scale, then 32 int8 */
    KERN_Q8_0_Q     = 2,

    KERN_Q6_K_K      = 256,
    KERN_Q6_K_BYTES  = 210, /* 128 bytes of low nibbles first */
    KERN_Q6_K_QH     = 128, /* 64 bytes of high bit pairs */
    KERN_Q6_K_SCALES = 192, /* 16 int8 */
    KERN_Q6_K_D      = 208, /* f16 */
};

#endif
