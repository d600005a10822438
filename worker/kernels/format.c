/* worker/kernels/format.c
 * The ternary formats: one row each, with its packing. See kernel.h for the layouts. */
#include <string.h>

#include "base/status.h"
#include "worker/kernels/kernel.h"
#include "worker/kernels/pack.h"

enum { WORD = 4, MAX_K = 20 }; /* weights of one word; of one granule's row, at most */

/* Codes (trit + 1) of a row's granule: byte i of word n is that of column 4 * n + i. The bytes of
 * a word are worked on together, none carries into the next. Beyond the tensor: code 1. */
static void granule_codes(const int8_t *trits, size_t n, size_t n_words, uint32_t *out)
{
    const uint32_t low         = 0x7f7f7f7f;
    const uint32_t ones        = 0x01010101;
    int8_t         part[MAX_K] = {0};
    uint32_t       bad         = 0;

    if (n < n_words * WORD) {
        for (size_t i = 0; i < n; i++) part[i] = trits[i];
        trits = part;
    }
    for (size_t w = 0; w < n_words; w++) {
        uint32_t x;
        memcpy(&x, trits + w * WORD, sizeof(x));
        x = ((x & low) + ones) ^ (x & ~low);
        bad |= x | (x & x >> 1) << 2; /* bit 2 and up of a byte: no trit */
        out[w] = x;
    }
    base_assert((bad & 0xfcfcfcfc) == 0);
}

static size_t at_most(size_t n, size_t max)
{
    return n < max ? n : max;
}

static void t2_pack_tile(uint8_t *out, const int8_t *trits, size_t stride, size_t n_rows, size_t k)
{
    uint32_t c[KERN_T2_K / WORD];
    base_assert(n_rows <= KERN_TILE_ROWS);
    for (size_t col = 0; col < k; col += KERN_T2_K, out += 64) {
        for (size_t r = 0; r < n_rows; r++) {
            granule_codes(trits + r * stride + col, at_most(k - col, KERN_T2_K), 4, c);
            const uint32_t bytes = c[0] | c[1] << 2 | c[2] << 4 | c[3] << 6;
            memcpy(out + kern_pack_byte(r, 0), &bytes, sizeof(bytes));
        }
        memset(out + kern_pack_byte(n_rows, 0), 0x55, 4 * (KERN_TILE_ROWS - n_rows));
    }
}

/* Five zero weights. */
enum { T3_ZEROS = KERN_T3_UNIT_0 + KERN_T3_UNIT_1 + KERN_T3_UNIT_2 + 3 + 1 };

static void t3_pack_tile(uint8_t *out, const int8_t *trits, size_t stride, size_t n_rows, size_t k)
{
    uint32_t c[KERN_T3_K / WORD];
    base_assert(n_rows <= KERN_TILE_ROWS);
    for (size_t col = 0; col < k; col += KERN_T3_K, out += 64) {
        for (size_t r = 0; r < n_rows; r++) {
            granule_codes(trits + r * stride + col, at_most(k - col, KERN_T3_K), 5, c);
            const uint32_t bytes = KERN_T3_UNIT_0 * c[0] + KERN_T3_UNIT_1 * c[1] +
                                   KERN_T3_UNIT_2 * c[2] + 3 * c[3] + c[4];
            memcpy(out + kern_pack_byte(r, 0), &bytes, sizeof(bytes));
        }
        memset(out + kern_pack_byte(n_rows, 0), T3_ZEROS, 4 * (KERN_TILE_ROWS - n_rows));
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
