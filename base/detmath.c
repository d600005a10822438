/* base/detmath.c: deterministic elementary functions (Cody-Waite reduction, Taylor series). */
#include "base/detmath.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

static const double LN2_HI = 6.93147180369123816490e-01; /* ln 2 = HI + LO, HI has 33 bits */
static const double LN2_LO = 1.90821492927058770002e-10;

/* v * 2^n by exponent arithmetic, in two steps so that subnormal results round once. */
static double scale_2(double v, int n)
{
    int      half   = n / 2;
    int      rest   = n - half;
    uint64_t a_bits = (uint64_t)(1023 + half) << 52;
    uint64_t b_bits = (uint64_t)(1023 + rest) << 52;
    double   a      = 0;
    double   b      = 0;
    memcpy(&a, &a_bits, sizeof(a));
    memcpy(&b, &b_bits, sizeof(b));
    return v * a * b;
}

double base_exp(double x)
{
    if (!(x > -745.2)) return x != x ? x : 0.0;
    if (x > 709.8) return (double)INFINITY;
    double n = nearbyint(x * 1.44269504088896338700);
    double t = fma(-n, LN2_LO, fma(-n, LN2_HI, x));
    double p = 1.0;
    for (int k = 14; k >= 1; k--) p = fma(p, t / k, 1.0); /* |t| <= 0.347: t^15/15! < 1e-19 */
    return scale_2(p, (int)n);
}

double base_ln(double x)
{
    int    e = 0;
    double m = frexp(x, &e); /* [0.5, 1) */
    if (m < 0.70710678118654752440) {
        m *= 2.0;
        e -= 1;
    }
    double f   = (m - 1.0) / (m + 1.0); /* log m = 2 atanh f, |f| < 0.172 */
    double f2  = f * f;
    double sum = 0.0;
    for (int k = 23; k >= 1; k -= 2) sum = fma(sum, f2, 1.0 / k);
    return fma((double)e, LN2_HI, fma((double)e, LN2_LO, 2.0 * f * sum));
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
