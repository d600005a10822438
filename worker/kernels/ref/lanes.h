/* worker/kernels/ref/lanes.h
 * The lane sum, the lane dot, their fold, and exp_, as NUMERICS 1 and 6 write them. */
#ifndef TRIREME_KERN_REF_LANES_H
#define TRIREME_KERN_REF_LANES_H

#include "worker/kernels/exp_const.h"
#include "worker/kernels/kernel.h"

#include <math.h>
#include <string.h>

/* SSE's choice for NaN and for zeros of both signs: the second operand. */
static inline float ref_max(float a, float b)
{
    return a > b ? a : b;
}

static inline float ref_min(float a, float b)
{
    return a < b ? a : b;
}

static inline float ref_fold(float lane[KERN_LANES])
{
    for (size_t h = KERN_LANES / 2; h > 0; h /= 2) {
        for (size_t l = 0; l < h; l++) lane[l] = lane[l] + lane[l + h];
    }
    return lane[0];
}

/* The missing elements of the last row of lanes are +0 and do take part: they turn a lane of -0
 * into +0. */
static inline float ref_dot16(const float *a, const float *b, size_t n)
{
    float lane[KERN_LANES] = {0};

    for (size_t i = 0; i < n; i += KERN_LANES) {
        for (size_t l = 0; l < KERN_LANES; l++) {
            const bool have = i + l < n;
            lane[l]         = fmaf(have ? a[i + l] : 0.0f, have ? b[i + l] : 0.0f, lane[l]);
        }
    }
    return ref_fold(lane);
}

static inline float ref_sum16(const float *a, size_t n)
{
    float lane[KERN_LANES] = {0};

    for (size_t i = 0; i < n; i += KERN_LANES) {
        for (size_t l = 0; l < KERN_LANES; l++) lane[l] = lane[l] + (i + l < n ? a[i + l] : 0.0f);
    }
    return ref_fold(lane);
}

static inline float ref_pow2(int n)
{
    const uint32_t bits = (uint32_t)(n + 127) << 23;
    float          f    = 0;

    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline float ref_exp(float x)
{
    x = ref_min(ref_max(x, KERN_EXP_MIN), KERN_EXP_MAX);

    const float n = rintf(x * KERN_EXP_LOG2E);
    float       t = fmaf(n, KERN_EXP_LN2_HI, x);
    t             = fmaf(n, KERN_EXP_LN2_LO, t);

    float p = KERN_EXP_C7;
    p       = fmaf(p, t, KERN_EXP_C6);
    p       = fmaf(p, t, KERN_EXP_C5);
    p       = fmaf(p, t, KERN_EXP_C4);
    p       = fmaf(p, t, KERN_EXP_C3);
    p       = fmaf(p, t, KERN_EXP_C2);
    p       = fmaf(p, t, 1.0f);
    p       = fmaf(p, t, 1.0f);

    const int half = (int)floorf(n * 0.5f);
    return (p * ref_pow2(half)) * ref_pow2((int)n - half);
}

#endif
