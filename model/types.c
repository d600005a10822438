/* model/types.c: the stored types, and rows of them as floats and as trits. */
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
    {"F16_TERN", 1, 2, true, false, true},
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

/* Weight k * (block / 4) + m in the n-th pair of bits of byte m, the first in the highest. */
bool model_block_i2s_trits(const uint8_t *block, uint32_t elems, int8_t *out)
{
    const uint32_t n_bytes = elems / 4;
    uint64_t       bad     = 0;
    for (uint32_t m = 0; m < n_bytes; m += 8) {
        uint64_t v = load_word(block + m);
        bad |= v & v >> 1;
        for (uint32_t n = 0; n < 4; n++)
            store_trits(out + n_bytes * n + m, v >> (6 - 2 * n) & 3 * ones);
    }
    return (bad & 0x55 * ones) == 0;
}

static bool any_nonzero(const int8_t *trits, uint64_t n)
{
    uint64_t any = 0;
    uint64_t i   = 0;
    for (; i + 8 <= n; i += 8) any |= load_word((const uint8_t *)trits + i);
    for (; i < n; i++) any |= (uint8_t)trits[i];
    return any != 0;
}

/* What the sign and value of a scale make of trits; the rest of model_row_trits()'s contract.
 * *out_scale is |scale|, or 0 if all trits are zero. */
static bool apply_scale(float scale, uint64_t n, int8_t *trits, float *out_scale)
{
    *out_scale = 0;
    if (!isfinite(scale)) return false;
    if (scale == 0) {
        memset(trits, 0, n);
        return true;
    }
    if (!any_nonzero(trits, n)) return true;
    if (scale < 0)
        for (uint64_t i = 0; i < n; i++) trits[i] = (int8_t)-trits[i];
    *out_scale = fabsf(scale);
    return true;
}

/* One block, with the scale in it or that of the tensor. */
static bool block_trits(const model_tensor_t *t, const uint8_t *block, int8_t out[256],
                        float *scale)
{
    switch (t->type) {
    case MODEL_TQ1_0:
        model_block_tq1_trits(block, out);
        return apply_scale(model_f32_of_f16(model_load_u16(block + 52)), 256, out, scale);
    case MODEL_TQ2_0:
        if (!model_block_tq2_trits(block, out)) return false;
        return apply_scale(model_f32_of_f16(model_load_u16(block + 64)), 256, out, scale);
    case MODEL_I2_S:
        if (!model_block_i2s_trits(block, 128, out)) return false;
        return apply_scale(t->scale, 128, out, scale);
    case MODEL_I2_S_64:
        if (!model_block_i2s_trits(block, 64, out)) return false;
        return apply_scale(t->scale, 64, out, scale);
    default: base_assert(t->type == MODEL_TQ2_0); return false; /* no ternary blocks */
    }
}

static uint64_t quarter_of(const model_tensor_t *t)
{
    return t->n_rows / 4 + (t->n_rows % 4 != 0);
}

unsigned model_shared_shift(const model_tensor_t *t, uint64_t row)
{
    const uint64_t pair = t->type == MODEL_ROWS4 ? row / quarter_of(t) : 3 - row % 4;
    return (unsigned)(2 * pair);
}

const uint8_t *model_shared_row(const model_source_t *source, const model_tensor_t *t, uint64_t row,
                                unsigned *shift)
{
    base_assert(model_type_info(t->type)->shared && row < t->n_rows);
    *shift = model_shared_shift(t, row);
    return model_tensor_data(source, t) +
           (t->type == MODEL_ROWS4 ? row % quarter_of(t) : row / 4) * t->n_cols;
}

/* Columns of a row out of bytes that hold three other rows too. */
static bool shared_codes(const uint8_t *bytes, unsigned shift, uint64_t n, int8_t *out)
{
    uint64_t bad = 0;
    uint64_t i   = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t codes = load_word(bytes + i) >> shift & 3 * ones;
        bad |= codes & codes >> 1;
        store_trits(out + i, codes);
    }
    for (; i < n; i++) {
        unsigned code = (unsigned)bytes[i] >> shift & 3;
        bad |= code & code >> 1;
        out[i] = (int8_t)((int)code - 1);
    }
    return (bad & ones) == 0;
}

static bool shared_trits(const model_source_t *source, const model_tensor_t *t, uint64_t row,
                         uint64_t col, uint64_t n, int8_t *out)
{
    uint8_t  scratch[1024];
    unsigned shift = model_shared_shift(t, row);
    bool     good  = true;
    if (!model_source_generated(source))
        return shared_codes(model_shared_row(source, t, row, &shift) + col, shift, n, out);
    for (uint64_t done = 0; done < n; done += sizeof(scratch)) {
        const uint64_t take = n - done < sizeof(scratch) ? n - done : sizeof(scratch);
        const uint8_t *p    = model_row_blocks(source, t, row, col + done, take, scratch);
        good                = shared_codes(p, shift, take, out + done) && good;
    }
    return good;
}

enum { SCRATCH_BYTES = 4096, CHUNK = 256 }; /* of a generated source's blocks; columns at a time */

/* Float weights rounded to trits by the tensor's scale. */
static bool online_trits(const model_source_t *source, const model_tensor_t *t, uint64_t row,
                         uint64_t col, uint64_t n, int8_t *out)
{
    float w[CHUNK];
    base_assert(t->scale > 0);
    for (uint64_t done = 0; done < n; done += CHUNK) {
        const uint64_t take = n - done < CHUNK ? n - done : CHUNK;
        model_row_f32(source, t, row, col + done, take, w);
        for (uint64_t i = 0; i < take; i++) {
            if (!isfinite(w[i])) return false;
            if (t->unit && w[i] != 0 && fabsf(w[i]) != 1) return false;
            const float q = t->unit ? w[i] : rintf(w[i] / t->scale);
            out[done + i] = (int8_t)(q > 1 ? 1 : q < -1 ? -1 : (int)q);
        }
    }
    return true;
}

/* Values that must be -scale, 0 or +scale. */
static bool f16_trits(const model_source_t *source, const model_tensor_t *t, uint64_t row,
                      uint64_t col, uint64_t n, int8_t *out)
{
    float w[CHUNK];
    bool  good = true;
    for (uint64_t done = 0; done < n; done += CHUNK) {
        const uint64_t take = n - done < CHUNK ? n - done : CHUNK;
        model_row_f32(source, t, row, col + done, take, w);
        for (uint64_t i = 0; i < take; i++) {
            good          = good && (w[i] == 0 || fabsf(w[i]) == t->scale); /* no NaN passes */
            out[done + i] = (int8_t)((w[i] > 0) - (w[i] < 0));
        }
    }
    return good;
}

/* Of the types that are no blocks with scales of their own. */
static bool plain_trits(const model_source_t *source, const model_tensor_t *t, uint64_t row,
                        uint64_t col, uint64_t n, int8_t *out)
{
    if (t->online) return online_trits(source, t, row, col, n, out);
    if (t->type == MODEL_F16_TERN) return f16_trits(source, t, row, col, n, out);
    return shared_trits(source, t, row, col, n, out);
}

/* How many blocks of a row the next turn takes: those that hold columns [col, end), at most what
 * fits the scratch. */
static uint64_t next_blocks(const model_type_info_t *info, uint64_t col, uint64_t end)
{
    uint64_t n   = (end - 1) / info->block_elems - col / info->block_elems + 1;
    uint64_t max = SCRATCH_BYTES / info->block_bytes;
    return n < max ? n : max;
}

static void widen_span(float scale, float *scale_min, float *scale_max)
{
    if (scale > 0 && scale < *scale_min) *scale_min = scale;
    if (scale > 0 && scale > *scale_max) *scale_max = scale;
}

bool model_row_trits(const model_source_t *source, const model_tensor_t *tensor, uint64_t row,
                     uint64_t col, uint64_t n, int8_t *out, float *scale_min, float *scale_max)
{
    const model_type_info_t *info = model_type_info(tensor->type);
    base_assert((info->ternary || tensor->online) && col <= tensor->n_cols &&
                n <= tensor->n_cols - col);
    uint8_t        scratch[SCRATCH_BYTES];
    int8_t         part[256];
    float          scale = 0;
    const uint64_t end   = col + n;
    const uint64_t elems = info->block_elems;

    if (elems == 1) {
        if (!plain_trits(source, tensor, row, col, n, out) ||
            !apply_scale(tensor->scale, n, out, &scale))
            return false;
        widen_span(scale, scale_min, scale_max);
        return true;
    }
    while (col < end) {
        uint64_t       n_blocks = next_blocks(info, col, end);
        const uint8_t *block =
            model_row_blocks(source, tensor, row, col / elems, n_blocks, scratch);
        for (uint64_t b = 0; b < n_blocks; b++, block += info->block_bytes) {
            uint64_t first = col % elems;
            uint64_t take  = end - col < elems - first ? end - col : elems - first;
            int8_t  *to    = take == elems ? out : part;
            if (!block_trits(tensor, block, to, &scale)) return false;
            widen_span(scale, scale_min, scale_max);
            if (to == part) memcpy(out, part + first, take);
            out += take;
            col += take;
        }
    }
    return true;
}

/* ---- widening to float (docs/NUMERICS.md, section 5) */

/* A block of any type that has blocks; invalid codes widen as +2: whoever packs them refuses them.
 * */
static void widen_block(const model_tensor_t *t, const uint8_t *block, float *out)
{
    int8_t   trits[256];
    float    d = t->scale;
    uint32_t n = model_type_info(t->type)->block_elems;
    switch (t->type) {
    case MODEL_TQ1_0:
        d = model_f32_of_f16(model_load_u16(block + 52));
        model_block_tq1_trits(block, trits);
        break;
    case MODEL_TQ2_0:
        d = model_f32_of_f16(model_load_u16(block + 64));
        (void)model_block_tq2_trits(block, trits);
        break;
    case MODEL_I2_S:
    case MODEL_I2_S_64: (void)model_block_i2s_trits(block, n, trits); break;
    default: model_block_widen(t->type, block, out); return;
    }
    for (uint32_t i = 0; i < n; i++) out[i] = (float)trits[i] * d;
}

static void shared_f32(const model_source_t *source, const model_tensor_t *t, uint64_t row,
                       uint64_t col, uint64_t n, float *out)
{
    int8_t trits[CHUNK];
    for (uint64_t done = 0; done < n; done += CHUNK) {
        const uint64_t take = n - done < CHUNK ? n - done : CHUNK;
        (void)shared_trits(source, t, row, col + done, take, trits);
        for (uint64_t i = 0; i < take; i++) out[done + i] = (float)trits[i] * t->scale;
    }
}

/* Many weights of a float type at once. */
static void widen_floats(model_type_t type, const uint8_t *bytes, uint64_t n, float *out)
{
    if (type == MODEL_F32)
        for (uint64_t i = 0; i < n; i++) out[i] = model_load_f32(bytes + 4 * i);
    else if (type == MODEL_F16 || type == MODEL_F16_TERN)
        for (uint64_t i = 0; i < n; i++) out[i] = model_f32_of_f16(model_load_u16(bytes + 2 * i));
    else
        for (uint64_t i = 0; i < n; i++) out[i] = model_f32_of_bf16(model_load_u16(bytes + 2 * i));
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

    if (info->shared) {
        shared_f32(source, tensor, row, col, n, out);
        return;
    }
    while (col < end) {
        uint64_t       n_blocks = next_blocks(info, col, end);
        const uint8_t *block =
            model_row_blocks(source, tensor, row, col / elems, n_blocks, scratch);
        if (elems == 1) {
            widen_floats(tensor->type, block, n_blocks, out);
            out += n_blocks;
            col += n_blocks;
            continue;
        }
        for (uint64_t b = 0; b < n_blocks; b++, block += info->block_bytes) {
            uint64_t first = col % elems;
            uint64_t take  = end - col < elems - first ? end - col : elems - first;
            float   *to    = take == elems ? out : part;
            widen_block(tensor, block, to);
            if (to == part) memcpy(out, part + first, take * sizeof(float));
            out += take;
            col += take;
        }
    }
}
