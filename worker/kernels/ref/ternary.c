/* worker/kernels/ref/ternary.c
 * Ternary products, NUMERICS 4: one weight at a time, straight from the layout of kernel.h. */
#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/pack.h"

#include <math.h>

typedef int code_fn(const uint8_t *tile, size_t r, size_t k);

static inline void product(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                           size_t k_granules, size_t k_granule, const int8_t *q, size_t q_stride,
                           size_t n_tok, code_fn *code)
{
    for (size_t tile = 0; tile < n_tiles; tile++) {
        const uint8_t *wt = w + tile * k_granules * 64;

        for (size_t r = 0; r < KERN_TILE_ROWS; r++) {
            for (size_t t = 0; t < n_tok; t++) {
                int32_t sum = 0;
                for (size_t k = 0; k < k_granules * k_granule; k++) {
                    sum += (code(wt, r, k) - 1) * q[t * q_stride + k];
                }
                acc[t * acc_stride + KERN_TILE_ROWS * tile + r] = sum;
            }
        }
    }
}

void kern_gemm_t2_i8__ref(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                          size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                          size_t n_tok)
{
    (void)qsum;
    product(acc, acc_stride, w, n_tiles, k_granules, KERN_T2_K, q, q_stride, n_tok, kern_t2_code);
}

void kern_gemv_t2_i8__ref(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                          size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                          size_t n_tok)
{
    kern_gemm_t2_i8__ref(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok);
}

void kern_gemm_t3_i8__ref(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                          size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                          size_t n_tok)
{
    (void)qsum;
    product(acc, acc_stride, w, n_tiles, k_granules, KERN_T3_K, q, q_stride, n_tok, kern_t3_code);
}

void kern_gemv_t3_i8__ref(int32_t *acc, size_t acc_stride, const uint8_t *w, size_t n_tiles,
                          size_t k_granules, const int8_t *q, size_t q_stride, const int32_t *qsum,
                          size_t n_tok)
{
    kern_gemm_t3_i8__ref(acc, acc_stride, w, n_tiles, k_granules, q, q_stride, qsum, n_tok);
}

void kern_gemm_t2b_i8__ref(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                           size_t n_tiles, size_t k_granules, const int8_t *q, size_t q_stride,
                           const int32_t *qsum_blocks, size_t n_tok)
{
    const size_t n_blocks = kern_blocks(k_granules), k_pad = k_granules * KERN_T2_K;

    (void)qsum_blocks;
    for (size_t i = 0; i < n_tiles * KERN_TILE_ROWS; i++) {
        const size_t   tile = i / KERN_TILE_ROWS, r = i % KERN_TILE_ROWS;
        const uint8_t *wt = w + tile * k_granules * 64;

        for (size_t t = 0; t < n_tok; t++) {
            float sum = 0.0f;
            for (size_t b = 0; b < n_blocks; b++) {
                int32_t acc = 0;
                for (size_t k = KERN_BLOCK_K * b; k < k_pad && k < KERN_BLOCK_K * (b + 1); k++) {
                    acc += (kern_t2_code(wt, r, k) - 1) * q[t * q_stride + k];
                }
                sum = fmaf((float)acc, scales[(tile * n_blocks + b) * KERN_TILE_ROWS + r], sum);
            }
            y[t * y_stride + i] = sum;
        }
    }
}

void kern_gemv_t2b_i8__ref(float *y, size_t y_stride, const uint8_t *w, const float *scales,
                           size_t n_tiles, size_t k_granules, const int8_t *q, size_t q_stride,
                           const int32_t *qsum_blocks, size_t n_tok)
{
    kern_gemm_t2b_i8__ref(y, y_stride, w, scales, n_tiles, k_granules, q, q_stride, qsum_blocks,
                          n_tok);
}
