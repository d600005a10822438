/* model/types.c: the stored types, and how their blocks widen to floats and to trits. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "model/blocks.h"
#include "model/bytes.h"
#include "model/model.h"

static const model_type_info_t type_table[] = {
    {"none", 1, 0, false, false, false},     {"F32", 1, 4, false, false, false},
    {"F16", 1, 2, false, false, false},      {"BF16", 1, 2, false, false, false},
    {"Q8_0", 32, 34, false, false, false},   {"Q6_K", 256, 210, false, false, false},
    {"TQ1_0", 256, 54, true, false, false},  {"TQ2_0", 256, 66, true, false, false},
    {"Q4_0", 32, 18, false, false, false},   {"Q4_1", 32, 20, false, false, false},
    {"Q5_0", 32, 22, false, false, false},   {"Q5_1", 32, 24, false, false, false},
    {"Q2_K", 256, 84, false, false, false},  {"Q3_K", 256, 110, false, false, false},
    {"Q4_K", 256, 144, false, false, false}, {"Q5_K", 256, 176, false, false, false},
    {"I2_S", 128, 32, true, false, true},    {"I2_S_64", 64, 16, true, false, true},
    {"I2_S_R4", 1, 1, true, true, true},     {"ROWS4", 1, 1, true, true, true},
};
_Static_assert(sizeof(type_table) / sizeof(type_table[0]) == MODEL_TYPE_COUNT, "one row a type");

/* Eight trits or bytes at a time. */
static const uint64_t ones = 0x0101010101010101u;

const model_type_info_t *model_type_info(model_type_t type)
{
    base_assert((unsigned)type < MODEL_TYPE_COUNT);
    return &type_table[type];
}

uint64_t model_row_bytes(model_type_t type, uint64_t n_cols)
{
    const model_type_info_t *info = model_type_info(type);
    base_assert(n_cols <= UINT32_MAX && n_cols % info->block_elems == 0 && !info->shared);
    return n_cols / info->block_elems * info->block_bytes;
}

bool model_tensor_bytes(model_type_t type, uint64_t n_rows, uint64_t n_cols, uint64_t *bytes)
{
    const model_type_info_t *info = model_type_info(type);
    const uint64_t           rows = info->shared ? n_rows / 4 + (n_rows % 4 != 0) : n_rows;
    base_assert(n_cols % info->block_elems == 0);
    return base_mul_u64(n_cols / info->block_elems, info->block_bytes, bytes) &&
           base_mul_u64(*bytes, rows, bytes);
}

/* ---- ternary blocks
 * ------------------------------------------------------------------------------
 * Codes 0, 1, 2 stand for -1, 0, +1. Both decoders work on words of eight bytes whose order in
 * memory does not matter: each byte is treated alike. */

static uint64_t load_word(const uint8_t *p)
{
    uint64_t v = 0;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* code - 1 in each byte, without a borrow between bytes */
static void store_trits(int8_t *out, uint64_t codes)
{
    uint64_t v = ((codes | ones << 7) - ones) ^ ones << 7;
    memcpy(out, &v, sizeof(v));
}

bool model_block_tq2_trits(const uint8_t *block, int8_t out[256])
{
    uint64_t bad = 0;
    for (int half = 0; half < 2; half++) {
        for (int m = 0; m < 32; m += 8) {
            uint64_t v = load_word(block + 32 * half + m);
            bad |= v & v >> 1; /* both bits of a code: at even positions */
            for (int n = 0; n < 4; n++) {
                store_trits(out + 128 * half + 32 * n + m, v & 3 * ones);
                v >>= 2;
            }
        }
    }
    return (bad & 0x55 * ones) == 0;
}

/* The next digit of eight base-3 fractions: bytes times three; what runs over is the digit. */
static uint64_t next_digits(uint64_t *bytes)
{
    const uint64_t low  = 0x00ff00ff00ff00ffu;
    uint64_t       even = (*bytes & low) * 3;
    uint64_t       odd  = (*bytes >> 8 & low) * 3;
    *bytes              = (even & low) | (odd & low) << 8;
    return (even >> 8 & low) | (odd & ~low);
}

void model_block_tq1_trits(const uint8_t *block, int8_t out[256])
{
    for (int m = 0; m < 48; m += 8) {
        uint64_t v      = load_word(block + m);
        int8_t  *to     = m < 32 ? out + m : out + 160 + (m - 32);
        int      stride = m < 32 ? 32 : 16;
        for (int n = 0; n < 5; n++) store_trits(to + stride * n, next_digits(&v));
    }
    uint8_t  last[8] = {0};
    int8_t   trits[8];
    uint64_t v = 0;
    memcpy(last, block + 48, 4);
    v = load_word(last);
    for (int n = 0; n < 4; n++) {
        store_trits(trits, next_digits(&v));
        memcpy(out + 240 + 4 * n, trits, 4);
    }
}

/* Trits of one block; a zero scale makes them zero, a negative one flips them. *scale is |d|, or
 * 0 if all
 * trits are zero. */
static bool block_trits(model_type_t type, const uint8_t *block, int8_t out[256], float *scale)
{
    bool     tq2 = type == MODEL_TQ2_0;
    bool     ok  = true;
    float    d   = model_f32_of_f16(model_load_u16(block + (tq2 ? 64 : 52)));
    uint64_t any = 0;

    *scale = 0;
    if (tq2)
        ok = model_block_tq2_trits(block, out);
    else
        model_block_tq1_trits(block, out);
    if (!ok || !isfinite(d)) return false;
    if (d == 0) {
        memset(out, 0, 256);
        return true;
    }
    for (int i = 0; i < 256; i += 8) any |= load_word((const uint8_t *)out + i);
    if (any == 0) return true;
    if (d < 0)
        for (int i = 0; i < 256; i++) out[i] = (int8_t)-out[i];
    *scale = fabsf(d);
    return true;
}

enum { SCRATCH_BYTES = 4096 }; /* of a generated source's blocks */

/* How many blocks of a row the next turn takes: those that hold columns [col, end), at most what
 * fits the scratch. */
static uint64_t next_blocks(const model_type_info_t *info, uint64_t col, uint64_t end)
{
    uint64_t n   = (end - 1) / info->block_elems - col / info->block_elems + 1;
    uint64_t max = SCRATCH_BYTES / info->block_bytes;
    return n < max ? n : max;
}

bool model_row_trits(const model_source_t *source, const model_tensor_t *tensor, uint64_t row,
                     uint64_t col, uint64_t n, int8_t *out, float *scale_min, float *scale_max)
{
    const model_type_info_t *info = model_type_info(tensor->type);
    base_assert(info->ternary && col <= tensor->n_cols && n <= tensor->n_cols - col);
    uint8_t        scratch[SCRATCH_BYTES];
    int8_t         part[256];
    const uint64_t end = col + n;

    while (col < end) {
        uint64_t       n_blocks = next_blocks(info, col, end);
        const uint8_t *block = model_row_blocks(source, tensor, row, col / 256, n_blocks, scratch);
        for (uint64_t b = 0; b < n_blocks; b++, block += info->block_bytes) {
            uint64_t first = col % 256;
            uint64_t take  = end - col < 256 - first ? end - col : 256 - first;
            int8_t  *to    = take == 256 ? out : part;
            float    scale = 0;
            if (!block_trits(tensor->type, block, to, &scale)) return false;
            if (scale > 0 && scale < *scale_min) *scale_min = scale;
            if (scale > 0 && scale > *scale_max) *scale_max = scale;
            if (to == part) memcpy(out, part + first, take);
            out += take;
            col += take;
        }
    }
    return true;
}

/* ---- widening to float (docs/NUMERICS.md, section 5)
 * --------------------------------------------- */

static void widen_q8_0(const uint8_t *block, float *out)
{
    float d = model_f32_of_f16(model_load_u16(block));
    for (int i = 0; i < 32; i++) out[i] = d * (float)(int8_t)block[2 + i];
}

/* ql[128], qh[64], scales[16], d. Weight 128h + 32k + l: low nibble k / 2 of ql[64h + 32(k % 2) +
 * l], two
 * high bits k of qh[32h + l], scale 8h + 2k + l / 16. */
static void widen_q6_k(const uint8_t *block, float *out)
{
    const uint8_t *ql     = block;
    const uint8_t *qh     = block + 128;
    const uint8_t *scales = block + 192;
    float          d      = model_f32_of_f16(model_load_u16(block + 208));
    for (int i = 0; i < 256; i++) {
        int h    = i / 128;
        int k    = i / 32 % 4;
        int l    = i % 32;
        int low  = ql[64 * h + 32 * (k % 2) + l] >> 4 * (k / 2) & 15;
        int high = qh[32 * h + l] >> 2 * k & 3;
        out[i]   = d * (float)(int8_t)scales[i / 16] * (float)((low | high << 4) - 32);
    }
}

static void widen_block(model_type_t type, const uint8_t *block, float *out)
{
    int8_t trits[256];
    float  d = 0;
    switch (type) {
    case MODEL_F32: out[0] = model_load_f32(block); return;
    case MODEL_F16: out[0] = model_f32_of_f16(model_load_u16(block)); return;
    case MODEL_BF16: out[0] = model_f32_of_bf16(model_load_u16(block)); return;
    case MODEL_Q8_0: widen_q8_0(block, out); return;
    case MODEL_Q6_K: widen_q6_k(block, out); return;
    case MODEL_TQ1_0:
        d = model_f32_of_f16(model_load_u16(block + 52));
        model_block_tq1_trits(block, trits);
        break;
    case MODEL_TQ2_0: /* an invalid code widens as +2; whoever packs it refuses it */
        d = model_f32_of_f16(model_load_u16(block + 64));
        (void)model_block_tq2_trits(block, trits);
        break;
    default: base_assert(type == MODEL_TQ2_0); return; /* no loader hands out the others yet */
    }
    for (int i = 0; i < 256; i++) out[i] = (float)trits[i] * d;
}

void model_row_f32(const model_source_t *source, const model_tensor_t *tensor, uint64_t row,
                   uint64_t col, uint64_t n, float *out)
{
    const model_type_info_t *info = model_type_info(tensor->type);
    base_assert(tensor->type != MODEL_NONE);
    base_assert(col <= tensor->n_cols && n <= tensor->n_cols - col);
    uint8_t        scratch[SCRATCH_BYTES];
    float          part[256];
    const uint64_t end   = col + n;
    const uint64_t elems = info->block_elems;

    while (col < end) {
        uint64_t       n_blocks = next_blocks(info, col, end);
        const uint8_t *block =
            model_row_blocks(source, tensor, row, col / elems, n_blocks, scratch);
        for (uint64_t b = 0; b < n_blocks; b++, block += info->block_bytes) {
            uint64_t first = col % elems;
            uint64_t take  = end - col < elems - first ? end - col : elems - first;
            float   *to    = take == elems ? out : part;
            widen_block(tensor->type, block, to);
            if (to == part) memcpy(out, part + first, take * sizeof(float));
            out += take;
            col += take;
        }
    }
}
