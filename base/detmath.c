/* base/detmath.c: deterministic elementary functions (Cody-Waite reduction, Taylor series). */
#include "base/detmath.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* ln 2 in two parts: the first has 32 trailing zero bits, so that its product with an exponent is
 * exact. */
static const double LN2_HIGH = 0x1.62e42feep-1;
static const double LN2_LOW  = 0x1.a39ef35793c76p-33;

static double power_of_2(int k) /* -1022 .. 1023 */
{
    uint64_t bits = (uint64_t)(k + 1023) << 52;
    double   d    = 0;

    memcpy(&d, &bits, sizeof d);
    return d;
}

/* x = k ln 2 + r, |r| <= ln 2 / 2; e^r = 1 + r + r^2 (1/2 + r/6 + ...), the series cut where its
 * rest is below 2^-57. */
double base_exp(double x)
{
    double shifted, r, z, p;
    int    k;

    if (x != x) return x;
    if (x > 709.8) return (double)INFINITY;
    if (x < -745.2) return 0;
    shifted = x * 0x1.71547652b82fep+0; /* 1 / ln 2 */
    k       = (int)(shifted < 0 ? shifted - 0.5 : shifted + 0.5);
    r       = (x - k * LN2_HIGH) - k * LN2_LOW;
    z       = r * r; /* pairs of terms: half the chain of Horner's rule */
    p       = 1.0 / 87178291200.0;
    p       = p * z + (1.0 / 479001600.0 + r * (1.0 / 6227020800.0));
    p       = p * z + (1.0 / 3628800.0 + r * (1.0 / 39916800.0));
    p       = p * z + (1.0 / 40320.0 + r * (1.0 / 362880.0));
    p       = p * z + (1.0 / 720.0 + r * (1.0 / 5040.0));
    p       = p * z + (1.0 / 24.0 + r * (1.0 / 120.0));
    p       = p * z + (0.5 + r * (1.0 / 6.0));
    p       = 1.0 + (r + z * p);
    if (k > 1023) return p * 2.0 * power_of_2(k - 1);
    if (k < -1022) return p * power_of_2(k + 54) * 0x1p-54; /* one rounding: the first is exact */
    return p * power_of_2(k);
}

/* x = 2^k (1 + f), 1 + f in [sqrt 1/2, sqrt 2); with s = f / (2 + f), log(1 + f) = 2 atanh s,
 * written as f - (f^2/2 - s (f^2/2 + R)), R = z (2/3 + z (2/5 + ...)), z = s^2:
 * so f, the large part, is exact. */
double base_ln(double x)
{
    uint64_t bits = 0;
    double   f, s, z, r, half;
    int      k = 0;

    if (x != x || x < 0) return (double)NAN;
    if (x == 0) return -(double)INFINITY;
    if (x > 0x1.fffffffffffffp+1023) return x;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        k = -54;
    }
    memcpy(&bits, &x, sizeof bits);
    k += (int)(bits >> 52) - 1023;
    bits = (bits & 0xFFFFFFFFFFFFFULL) | 0x3FF0000000000000ULL;
    memcpy(&x, &bits, sizeof x); /* [1, 2) */
    if (x > 0x1.6a09e667f3bcdp+0) {
        x *= 0.5;
        k++;
    }
    f = x - 1.0;
    s = f / (2.0 + f);
    z = s * s;
    r = 2.0 / 25.0;
    for (int n = 23; n >= 3; n -= 2) r = r * z + 2.0 / n;
    r    = r * z;
    half = 0.5 * f * f;
    return k * LN2_HIGH - ((half - (s * (half + r) + k * LN2_LOW)) - f);
}

void base_sincos(double x, double *sin_p, double *cos_p)
{
    double n = nearbyint(x * 6.36619772367581382433e-01);
    double r = fma(-n, 1.57079632679489655800e+00, x); /* pi/2 as the sum of three doubles */
    r        = fma(-n, 6.12323399573676603587e-17, r);
    r        = fma(-n, -1.49738490485916983294e-33, r);
    double z = r * r;
    double s = 1.0;
    double c = 1.0;
    for (int k = 17; k >= 3; k -= 2) s = fma(-s * z, 1.0 / ((double)k * (k - 1)), 1.0);
    for (int k = 18; k >= 2; k -= 2) c = fma(-c * z, 1.0 / ((double)k * (k - 1)), 1.0);
    s *= r;
    int64_t quadrant = (int64_t)n & 3;
    *sin_p           = quadrant == 0 ? s : quadrant == 1 ? c : quadrant == 2 ? -s : -c;
    *cos_p           = quadrant == 0 ? c : quadrant == 1 ? -s : quadrant == 2 ? -c : s;
}
