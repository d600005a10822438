/* worker/kernels/ref/probe.c: the probes in plain C. */
#include "worker/kernels/probe.h"

#include <math.h>
#include <string.h>

/* `ahead` is not for plain C. */
uint64_t kern_probe_read__ref(const void *p, size_t bytes, bool ahead)
{
    const uint8_t *at  = p;
    uint64_t       sum = 0;

    (void)ahead;
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t word = 0;

        memcpy(&word, at + i, 8);
        sum ^= word;
    }
    return sum;
}

/* A volatile factor in each round: else the rounds would be one multiplication. */
uint32_t kern_probe_mac__ref(size_t n_rounds, uint8_t a, int8_t b)
{
    volatile uint8_t factor = a;
    uint32_t         sum    = 0;

    for (size_t r = 0; r < n_rounds * (KERN_PROBE_MACS / 16); r++) {
        for (int i = 0; i < 16; i++) sum += (uint32_t)(factor * b);
    }
    return sum;
}

float kern_probe_fma__ref(size_t n_rounds, float m, float c)
{
    float y[16] = {0};
    float sum   = 0;

    for (size_t r = 0; r < n_rounds * (KERN_PROBE_FMAS / 16); r++) {
        for (int i = 0; i < 16; i++) y[i] = fmaf(y[i], m, c);
    }
    for (int i = 0; i < 16; i++) sum += y[i];
    return sum;
}
