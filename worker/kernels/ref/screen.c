/* worker/kernels/ref/screen.c
 * Coarse rows of the head, as kernel.h writes them: one code at a time. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/pack.h"
#include "worker/kernels/ref/lanes.h"

#include <float.h>

static int32_t block_dot(const uint8_t *block, size_t r, const int8_t *hi, const int8_t *lo)
{
    int32_t dot = 0;

    for (size_t k = 0; k < KERN_SCREEN_K; k++) {
        dot += (kern_screen_code(block, r, k) - 32) * (256 * hi[k] + lo[k]);
    }
    return dot;
}

void kern_screen_6__ref(float *mid, float *high, const uint8_t *w, size_t n_tiles, size_t n_blocks,
                        const kern_screen_x_t *x)
{
    const size_t codes_at = kern_screen_codes_at(n_blocks);
    const size_t bytes    = codes_at + n_blocks * KERN_SCREEN_BLOCK_BYTES;

    for (size_t i = 0; i < n_tiles * KERN_TILE_ROWS; i++) {
        const uint8_t *tile = w + i / KERN_TILE_ROWS * bytes;
        const size_t   r    = i % KERN_TILE_ROWS;
        const uint8_t *m = tile + KERN_SCREEN_M_AT + r, *codes = tile + codes_at;
        float          row[3]; /* s, p, n */
        float          sum = 0, a = 0;

        for (size_t j = 0; j < 3; j++) memcpy(row + j, tile + 64 * j + 4 * r, sizeof row[j]);
        for (size_t b = 0; b < n_blocks; b++) {
            const float   mb  = (float)m[KERN_TILE_ROWS * b];
            const int32_t dot = block_dot(codes + KERN_SCREEN_BLOCK_BYTES * b, r,
                                          x->hi + KERN_SCREEN_K * b, x->lo + KERN_SCREEN_K * b);
            sum               = fmaf((float)dot, mb * x->scale[b], sum);
            a                 = fmaf(mb, x->norm[b], a);
        }
        const float e = ref_min(row[1] * a, fmaf(row[2], x->total, row[0] * (x->slack * a)));
        mid[i]        = row[0] * sum;
        high[i]       = (mid[i] + e) + FLT_MIN;
    }
}
