/* worker/kernels/arm/t3_neon.h
 * Decoding t3 bytes with NEON. */
#ifndef TRIREME_KERN_ARM_T3_NEON_H
#define TRIREME_KERN_ARM_T3_NEON_H

#include "worker/kernels/kernel.h"

#include <arm_neon.h>

/* x modulo `unit`, for bytes x < 3 * unit <= 255: what falls below zero wraps to a larger byte. */
static inline uint8x16_t t3_mod(uint8x16_t x, uint8_t unit)
{
    const uint8x16_t u = vdupq_n_u8(unit);

    x = vminq_u8(x, vsubq_u8(x, u));
    return vminq_u8(x, vsubq_u8(x, u));
}

/* The five digits of 16 bytes. The first three units are 1 modulo 4, so what a remainder takes away
 * holds the digit in its low bits. */
static inline __attribute__((always_inline)) void t3_digits(uint8x16_t x, uint8x16_t digit[5])
{
    static const uint8_t thirds[16] = {0, 0, 0, 1, 1, 1, 2, 2, 2};
    static const uint8_t ones[16]   = {0, 1, 2, 0, 1, 2, 0, 1, 2};
    const uint8_t        units[3]   = {KERN_T3_UNIT_0, KERN_T3_UNIT_1, KERN_T3_UNIT_2};

    for (int n = 0; n < 3; n++) {
        const uint8x16_t rest = t3_mod(x, units[n]);

        digit[n] = vandq_u8(vsubq_u8(x, rest), vdupq_n_u8(3));
        x        = rest;
    }
    digit[3] = vqtbl1q_u8(vld1q_u8(thirds), x);
    digit[4] = vqtbl1q_u8(vld1q_u8(ones), x);
}

#endif
