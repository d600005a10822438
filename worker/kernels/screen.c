/* worker/kernels/screen.c
 * Packing of coarse head rows, quantisation of the vector they meet. Every bound is rounded up:
 * what is computed in double is inflated by more than its own error, then rounded to the float
 * above. The terms are those of NUMERICS 9. */
#include "worker/kernels/screen.h"

#include <math.h>
#include <string.h>

#include "base/status.h"
#include "worker/kernels/pack.h"

/* Limits of what is screened; inside them no product overflows or loses bits to subnormals but
 * where the 2^-126 of the bound covers it. */
#define WEIGHT_MAX     0x1p40 /* so a row's norm is at most 2^49 */
#define X_NORM_MIN     0x1p-40
#define X_NORM_MAX     0x1p40
#define BLOCK_NORM_MIN 0x1p-80f
#define SCALE_MIN      0x1p-100f

_Static_assert(sizeof(float) == sizeof(int32_t), "floats are compared by their bits");

enum { Q_MAX = 127 * 256, CODE_ZERO = 32, MULTIPLIER_MAX = 255 };

#define ULP       0x1p-24 /* unit roundoff of float */
#define CODE_NORM 256     /* >= norm of a block of codes: 32 * sqrt(64) */
#define X_ERROR   1.24e-4 /* >= norm of x's error in a block over the norm of x */
#define DOUBLE_UP (1 + 1e-9)
#define REACH     31.49 /* steps to the largest weight of a block: rounds to 31 */

static float round_up(double v)
{
    const float f = (float)v;
    return (double)f >= v ? f : nextafterf(f, INFINITY);
}

/* The errors of the coarse sum, of the float bound itself, and of dot16, as NUMERICS 9 names
 * them. */
typedef struct {
    double grow;  /* factor of every float computation on the bound */
    double exact; /* relative error of dot16 against the sum of its products' magnitudes */
    double slack; /* delta */
} errors_t;

static errors_t errors_of(size_t cols)
{
    const double n = (double)kern_screen_blocks(cols);
    const double l = (double)((cols + KERN_LANES - 1) / KERN_LANES);
    errors_t     e;

    e.grow  = 1 + 4 * (n + 10) * ULP;
    e.exact = 1.01 * (l + 6) * ULP;
    e.slack = CODE_NORM * (1.01 * (n + 10) * ULP + X_ERROR + e.exact);
    return e;
}

/* --- rows --- */

/* What one row becomes besides its codes. */
typedef struct {
    float scale, by_blocks, whole;
} row_t;

/* Sums and extremes go over LANES at a time, in any order: the compiler has registers for them. */
enum { LANES = 8 };

/* One block, zeros where the row has ended. */
static void take_block(float out[KERN_SCREEN_K], const float *w, size_t cols, size_t b)
{
    const size_t at = KERN_SCREEN_K * b, n = cols - at < KERN_SCREEN_K ? cols - at : KERN_SCREEN_K;

    memcpy(out, w + at, n * sizeof *out);
    for (size_t j = n; j < KERN_SCREEN_K; j++) out[j] = 0;
}

/* Bits of the largest magnitude: as integers they sort alike, NaN and infinity above all. */
static int32_t block_largest(const float w[KERN_SCREEN_K])
{
    int32_t most = 0;

    for (size_t j = 0; j < KERN_SCREEN_K; j++) {
        int32_t bits = 0;

        memcpy(&bits, w + j, sizeof bits);
        bits &= INT32_MAX;
        most = bits > most ? bits : most;
    }
    return most;
}

static double magnitude(int32_t bits)
{
    float v = 0;

    memcpy(&v, &bits, sizeof v);
    return (double)v;
}

/* Codes of one block, as code + 32; returns the squared norm of what they leave. No weight is more
 * than REACH steps, so codes are within -31..31. Any code would do: what it leaves is what counts.
 * Its product with the step is exact in double, so only the difference, squares and sum round. */
static double block_codes(uint8_t codes[KERN_SCREEN_K], const float w[KERN_SCREEN_K], double step)
{
    const double inverse    = step > 0 ? 1 / step : 0;
    const double nearest    = 0x1.8p52; /* added and taken away, it rounds: rint without a call */
    double       sum[LANES] = {0};
    int32_t      wide[KERN_SCREEN_K];

    for (size_t j = 0; j < KERN_SCREEN_K; j += LANES) {
        for (size_t l = 0; l < LANES; l++) {
            const double c    = ((double)w[j + l] * inverse + nearest) - nearest;
            const double left = (double)w[j + l] - c * step;
            sum[l] += left * left;
            wide[j + l] = (int32_t)c + CODE_ZERO;
        }
    }
    for (size_t j = 0; j < KERN_SCREEN_K; j++) codes[j] = (uint8_t)wide[j];
    for (size_t l = 1; l < LANES; l++) sum[0] += sum[l];
    return sum[0];
}

/* Four columns of a row are four bytes of the tile: a word at a time. */
static void put_codes(uint8_t *block, size_t r, const uint8_t codes[KERN_SCREEN_K])
{
    for (size_t k = 0; k < KERN_SCREEN_K; k += 16) {
        uint8_t *group = block + 12 * k + kern_pack_byte(r, 0);
        uint32_t last = 0, word = 0;

        memcpy(&last, codes + k + 12, sizeof last);
        for (size_t v = 0; v < 3; v++) {
            memcpy(&word, codes + k + 4 * v, sizeof word);
            word |= (last >> (2 * v) & 0x03030303u) << 6;
            memcpy(group + 64 * v, &word, sizeof word);
        }
    }
}

static bool pack_row(uint8_t *tile, size_t r, const float *w, size_t cols, errors_t errors)
{
    const size_t n_blocks = kern_screen_blocks(cols);
    uint8_t     *m        = tile + KERN_SCREEN_M_AT + r;
    uint8_t     *codes    = tile + kern_screen_codes_at(n_blocks);
    int32_t      widest   = 0;
    double       factor = 0, sum = 0;
    row_t        row;
    uint8_t      block[KERN_SCREEN_K];
    float        v[KERN_SCREEN_K];

    for (size_t b = 0; b < n_blocks; b++) {
        take_block(v, w, cols, b);
        const int32_t most = block_largest(v);
        widest             = most > widest ? most : widest;
    }
    if (!(magnitude(widest) <= WEIGHT_MAX)) return false;
    row.scale = round_up(magnitude(widest) / REACH / MULTIPLIER_MAX);
    for (size_t b = 0; b < n_blocks; b++) {
        take_block(v, w, cols, b);
        const double need = magnitude(block_largest(v)) / REACH;
        /* Zero blocks alone have a multiplier of 0: the bound by blocks is relative to it. */
        const double mult =
            need > 0 ? fmin(fmax(ceil(need / (double)row.scale), 1), MULTIPLIER_MAX) : 0;
        const double step = mult * (double)row.scale;
        const double left = block_codes(block, v, step);

        m[KERN_TILE_ROWS * b] = (uint8_t)mult;
        put_codes(codes + KERN_SCREEN_BLOCK_BYTES * b, r, block);
        sum += left;
        if (step > 0) factor = fmax(factor, sqrt(left) / step);
    }
    const double up = (1 + errors.exact) * errors.grow * DOUBLE_UP;
    row.by_blocks =
        round_up((double)row.scale * (factor * up + errors.slack * errors.grow * DOUBLE_UP));
    row.whole = round_up(sqrt(sum) * up);
    memcpy(tile + 4 * r, &row.scale, sizeof row.scale);
    memcpy(tile + 64 + 4 * r, &row.by_blocks, sizeof row.by_blocks);
    memcpy(tile + 128 + 4 * r, &row.whole, sizeof row.whole);
    return true;
}

bool kern_screen_pack_tile(uint8_t *out, const float *rows, size_t stride, size_t n_rows,
                           size_t cols)
{
    const size_t   n_blocks = kern_screen_blocks(cols);
    const errors_t errors   = errors_of(cols);

    base_assert(n_rows <= KERN_TILE_ROWS && cols >= 1 && cols <= KERN_SCREEN_MAX_COLS);
    memset(out, 0, kern_screen_tile_bytes(n_blocks));
    for (size_t r = 0; r < n_rows; r++) {
        if (!pack_row(out, r, rows + r * stride, cols, errors)) return false;
    }
    return true;
}

/* --- the vector --- */

static void quant_block(kern_screen_x_t *x, size_t b, const float *v, size_t n)
{
    float   max = 0;
    double  sum = 0;
    int32_t qs  = 0;

    for (size_t j = 0; j < n; j++) {
        max = fmaxf(max, fabsf(v[j]));
        sum += (double)v[j] * (double)v[j];
    }
    x->scale[b] = fmaxf((float)((double)max / Q_MAX), SCALE_MIN);
    x->norm[b]  = fmaxf(round_up(sqrt(sum) * DOUBLE_UP), BLOCK_NORM_MIN);
    for (size_t j = 0; j < KERN_SCREEN_K; j++) {
        const double  t = j < n ? rint((double)v[j] / (double)x->scale[b]) : 0;
        const int32_t q = (int32_t)fmin(fmax(t, -Q_MAX), Q_MAX);
        /* lo in -128..127, so that q - lo is a multiple of 256 */
        const int32_t lo = ((q + 128) & 255) - 128;

        x->hi[KERN_SCREEN_K * b + j] = (int8_t)((q - lo) / 256);
        x->lo[KERN_SCREEN_K * b + j] = (int8_t)lo;
        qs += q;
    }
    x->bias[b] = CODE_ZERO * qs;
}

bool kern_screen_quant(kern_screen_x_t *x, const float *v, size_t cols)
{
    const errors_t errors = errors_of(cols);
    double         sum    = 0;

    base_assert(cols >= 1 && cols <= KERN_SCREEN_MAX_COLS);
    for (size_t j = 0; j < cols; j++) sum += (double)v[j] * (double)v[j];
    if (!(sum >= X_NORM_MIN * X_NORM_MIN && sum <= X_NORM_MAX * X_NORM_MAX)) return false;
    for (size_t b = 0; b < kern_screen_blocks(cols); b++) {
        const size_t at = KERN_SCREEN_K * b;
        quant_block(x, b, v + at, cols - at < KERN_SCREEN_K ? cols - at : KERN_SCREEN_K);
    }
    x->total = round_up(sqrt(sum) * DOUBLE_UP);
    x->slack = round_up(errors.slack * errors.grow * DOUBLE_UP);
    return true;
}
