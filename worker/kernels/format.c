/* worker/kernels/format.c
 * The ternary formats: one row each, with its packing. See kernel.h for the layouts. */
#include "base/status.h"
#include "worker/kernels/kernel.h"
#include "worker/kernels/pack.h"

/* The code of a trit, or of the zero weight outside the tensor. */
static unsigned code_at(const int8_t *trits, size_t stride, size_t n_rows, size_t k, size_t r,
                        size_t col)
{
    if (r >= n_rows || col >= k) return 1;

    const int trit = trits[r * stride + col];
    base_assert(trit >= -1 && trit <= 1);
    return (unsigned)(trit + 1);
}

static void t2_pack_tile(uint8_t *out, const int8_t *trits, size_t stride, size_t n_rows, size_t k)
{
    base_assert(n_rows <= KERN_TILE_ROWS);
    for (size_t col = 0; col < k; col += KERN_T2_K, out += 64) {
        for (size_t r = 0; r < KERN_TILE_ROWS; r++) {
            for (size_t j = 0; j < 4; j++) {
                unsigned byte = 0;
                for (size_t s = 0; s < 4; s++) {
                    byte |= code_at(trits, stride, n_rows, k, r, col + 4 * s + j) << (2 * s);
                }
                out[kern_pack_byte(r, j)] = (uint8_t)byte;
            }
        }
    }
}

static void t3_pack_tile(uint8_t *out, const int8_t *trits, size_t stride, size_t n_rows, size_t k)
{
    base_assert(n_rows <= KERN_TILE_ROWS);
    for (size_t col = 0; col < k; col += KERN_T3_K, out += 64) {
        for (size_t r = 0; r < KERN_TILE_ROWS; r++) {
            for (size_t j = 0; j < 4; j++) {
                unsigned v = 0;
                for (size_t n = 0; n < 5; n++) {
                    v = 3 * v + code_at(trits, stride, n_rows, k, r, col + 4 * n + j);
                }
                out[kern_pack_byte(r, j)] = (uint8_t)((v * 256 + 242) / 243);
            }
        }
    }
}

static void t2_unpack_tile(int8_t *trits, size_t stride, const uint8_t *tile, size_t k)
{
    const size_t k_pad = kern_granules(kern_format(KERN_T2), k) * KERN_T2_K;

    for (size_t r = 0; r < KERN_TILE_ROWS; r++) {
        for (size_t col = 0; col < k_pad; col++) {
            trits[r * stride + col] = (int8_t)(kern_t2_code(tile, r, col) - 1);
        }
    }
}

static void t3_unpack_tile(int8_t *trits, size_t stride, const uint8_t *tile, size_t k)
{
    const size_t k_pad = kern_granules(kern_format(KERN_T3), k) * KERN_T3_K;

    for (size_t r = 0; r < KERN_TILE_ROWS; r++) {
        for (size_t col = 0; col < k_pad; col++) {
            trits[r * stride + col] = (int8_t)(kern_t3_code(tile, r, col) - 1);
        }
    }
}

static kern_tern_fn *t2_gemv(const kern_table_t *table)
{
    return table->gemv_t2_i8;
}

static kern_tern_fn *t2_gemm(const kern_table_t *table)
{
    return table->gemm_t2_i8;
}

static kern_tern_fn *t3_gemv(const kern_table_t *table)
{
    return table->gemv_t3_i8;
}

static kern_tern_fn *t3_gemm(const kern_table_t *table)
{
    return table->gemm_t3_i8;
}

static const kern_format_t FORMATS[KERN_FORMAT_COUNT] = {
    [KERN_T2] = {"t2", 2.0, KERN_T2_K, t2_pack_tile, t2_unpack_tile, t2_gemv, t2_gemm},
    [KERN_T3] = {"t3", 1.6, KERN_T3_K, t3_pack_tile, t3_unpack_tile, t3_gemv, t3_gemm},
};

void kern_block_sums(int32_t *out, const int8_t *q, size_t n_pad)
{
    for (size_t i = 0; i < n_pad; i += KERN_BLOCK_K) {
        const size_t n   = n_pad - i < KERN_BLOCK_K ? n_pad - i : KERN_BLOCK_K;
        int32_t      sum = 0;

        for (size_t j = 0; j < n; j++) sum += q[i + j];
        *out++ = sum;
    }
}

const kern_format_t *kern_format(kern_format_id_t id)
{
    base_assert((unsigned)id < KERN_FORMAT_COUNT);
    return &FORMATS[id];
}
