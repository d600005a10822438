/* quantize/synth.c: shapes, and the weights of random ternary models as functions of their place.
 * */
#include "quantize/synth.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "model/blocks.h"
#include "model/bytes.h"
#include "quantize/blocks.h"

/* bitnet-100b is the largest dummy model of bitnet.cpp. The tiny ones have what breaks layouts:
 * KV heads
 * that no power of two divides, one KV head, odd vocabularies, heads wider in sum than the model.
 * */
static const quant_shape_t shapes[] = {
    /* name, width, ffn, layers, heads, kv, head, vocab, context, rope, eps */
    {"bitnet-2b-4t", 2560, 6912, 30, 20, 5, 128, 128256, 4096, 500000, 1e-5f},
    {"bitnet-3b", 3200, 8640, 26, 32, 32, 100, 32002, 2048, 10000, 1e-5f},
    {"falcon3-10b", 3072, 23040, 40, 12, 4, 256, 131072, 32768, 1000042, 1e-6f},
    {"llama3-8b", 4096, 14336, 32, 32, 8, 128, 128256, 8192, 500000, 1e-5f},
    {"llama-13b", 5120, 13824, 40, 40, 40, 128, 32000, 4096, 10000, 1e-5f},
    {"llama-70b", 8192, 28672, 80, 64, 8, 128, 32000, 4096, 10000, 1e-5f},
    {"bitnet-100b", 8192, 45568, 72, 64, 64, 128, 32002, 2048, 10000, 1e-5f},
    {"llama3-405b", 16384, 53248, 126, 128, 8, 128, 128256, 131072, 500000, 1e-5f},
    {"tiny-gqa5", 256, 768, 4, 20, 5, 64, 512, 256, 10000, 1e-5f},
    {"tiny-mha", 512, 1024, 4, 8, 8, 64, 512, 512, 10000, 1e-5f},
    {"tiny-mqa", 256, 512, 3, 8, 1, 32, 509, 512, 10000, 1e-5f},
    {"tiny-kv3", 512, 1280, 5, 12, 3, 64, 517, 256, 500000, 1e-6f},
    {"tiny-hd96", 768, 1536, 2, 8, 4, 96, 1000, 1024, 10000, 1e-5f},
};

#define EMBED_SIGMA 0.1f

enum { ID_EMBED = 0, ID_OUT_NORM = 1, ID_LAYERS = 2 };

/* ---- names
 * --------------------------------------------------------------------------------------- */

const quant_shape_t *quant_shape_at(size_t i)
{
    return i < sizeof(shapes) / sizeof(shapes[0]) ? &shapes[i] : NULL;
}

const quant_shape_t *quant_shape_find(const char *name)
{
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        if (strcmp(shapes[i].name, name) == 0) return &shapes[i];
    return NULL;
}

model_type_t quant_type_find(const char *name)
{
    for (int t = MODEL_NONE + 1; t < MODEL_TYPE_COUNT; t++)
        if (strcasecmp(model_type_info((model_type_t)t)->name, name) == 0) return (model_type_t)t;
    return MODEL_NONE;
}

/* ---- random numbers
 * ------------------------------------------------------------------------------
 * SplitMix64 (Steele, Lea, Flood 2014) with the position as its counter: any word at once. */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static const uint64_t step = 0x9e3779b97f4a7c15u;

static uint64_t row_key(uint64_t seed, uint64_t tensor, uint64_t row)
{
    uint64_t key = mix(seed + (tensor + 1) * step);
    return mix(key ^ (row + 1) * 0xd1b54a32d192ed03u);
}

static uint64_t word_at(uint64_t key, uint64_t i)
{
    return mix(key + (i + 1) * step);
}

/* Nearly normal with variance 1: the sum of four 16-bit numbers, about its mean. */
static float normal_at(uint64_t key, uint64_t i)
{
    uint64_t w = word_at(key, i);
    int32_t  s = (int32_t)((w & 0xffff) + (w >> 16 & 0xffff) + (w >> 32 & 0xffff) + (w >> 48));
    return (float)(s - 131070) * (1 / 37837.24f); /* sqrt(4 * (2^32 - 1) / 12) */
}

/* ---- weights
 * ------------------------------------------------------------------------------------- */

/* Four trits as a byte of TQ2_0 codes, for each of the 81 there are. */
static const uint8_t code_bytes[81] = {
    0x00, 0x40, 0x80, 0x10, 0x50, 0x90, 0x20, 0x60, 0xa0, 0x04, 0x44, 0x84, 0x14, 0x54,
    0x94, 0x24, 0x64, 0xa4, 0x08, 0x48, 0x88, 0x18, 0x58, 0x98, 0x28, 0x68, 0xa8, 0x01,
    0x41, 0x81, 0x11, 0x51, 0x91, 0x21, 0x61, 0xa1, 0x05, 0x45, 0x85, 0x15, 0x55, 0x95,
    0x25, 0x65, 0xa5, 0x09, 0x49, 0x89, 0x19, 0x59, 0x99, 0x29, 0x69, 0xa9, 0x02, 0x42,
    0x82, 0x12, 0x52, 0x92, 0x22, 0x62, 0xa2, 0x06, 0x46, 0x86, 0x16, 0x56, 0x96, 0x26,
    0x66, 0xa6, 0x0a, 0x4a, 0x8a, 0x1a, 0x5a, 0x9a, 0x2a, 0x6a, 0xaa,
};

/* One block of TQ2_0 codes: 64 bytes of four trits, each one of 81 with (nearly) equal chance. */
static void random_codes(uint64_t key, uint64_t block, uint8_t out[64])
{
    for (uint64_t i = 0; i < 16; i++) {
        uint64_t w = word_at(key, 16 * block + i);
        for (int k = 0; k < 4; k++, w >>= 16) *out++ = code_bytes[(w & 0xffff) * 81 >> 16];
    }
}

/* The one scale of a tensor, exact in half precision, a little different for each: it keeps the
 * variance of the vector, more or less. Attention adds a tenth of that to the residual: as much
 * as the
 * embedding is there, so that the next token depends on both this one and those before. */
static float tensor_scale(uint64_t seed, const model_tensor_t *tensor)
{
    uint64_t w    = word_at(row_key(seed, tensor->offset, UINT64_MAX - 1), 0);
    float    near = 0.75f + (float)(w >> 41) * 0x1p-24f; /* 0.75 .. 1.25 */
    if (tensor->offset >= ID_LAYERS &&
        (tensor->offset - ID_LAYERS) % QUANT_LAYER_TENSORS == MODEL_ATTN_OUT)
        near *= EMBED_SIGMA;
    return model_f32_of_f16(model_f16_of_f32(near * sqrtf(1.5f / (float)tensor->n_cols)));
}

static void ternary_blocks(uint64_t seed, const model_tensor_t *tensor, uint64_t row,
                           uint64_t block, uint64_t n_blocks, uint8_t *out)
{
    const uint64_t key   = row_key(seed, tensor->offset, row);
    const float    scale = tensor_scale(seed, tensor);
    uint8_t        codes[64];
    int8_t         trits[256];
    for (uint64_t b = block; b < block + n_blocks; b++) {
        if (tensor->type == MODEL_TQ2_0) {
            random_codes(key, b, out);
            model_store_u16(out + 64, model_f16_of_f32(scale));
            out += 66;
            continue;
        }
        random_codes(key, b, codes);
        (void)model_block_tq2_trits(codes, trits);
        quant_block_tq1(trits, scale, out);
        out += 54;
    }
}

/* Dense types: the embedding, norms, or ternary weights widened. `first` and n: columns, n of at
 * most one chunk. */
enum { CHUNK = 256 };

static void dense_values(uint64_t seed, const model_tensor_t *tensor, uint64_t row, uint64_t first,
                         uint64_t n, float *out)
{
    const uint64_t key  = row_key(seed, tensor->offset, row);
    const bool     norm = tensor->n_rows == 1;
    if (tensor->offset == ID_EMBED || norm) {
        const float mean  = norm ? 1 : 0;
        const float sigma = norm ? 0.1f : EMBED_SIGMA;
        for (uint64_t i = 0; i < n; i++) out[i] = mean + sigma * normal_at(key, first + i);
        return;
    }
    const float scale = tensor_scale(seed, tensor);
    uint8_t     codes[64];
    int8_t      trits[256];
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = (first + i) % 256;
        if (i == 0 || at == 0) {
            random_codes(key, (first + i) / 256, codes);
            (void)model_block_tq2_trits(codes, trits);
        }
        out[i] = scale * (float)trits[at];
    }
}

void quant_synth_row(uint64_t seed, const model_tensor_t *tensor, uint64_t row, uint64_t block,
                     uint64_t n_blocks, uint8_t *out)
{
    const model_type_info_t *info = model_type_info(tensor->type);
    float                    values[CHUNK];

    base_assert(row < tensor->n_rows && (block + n_blocks) * info->block_elems <= tensor->n_cols);
    if (info->ternary) {
        ternary_blocks(seed, tensor, row, block, n_blocks, out);
        return;
    }
    uint64_t col = block * info->block_elems;
    uint64_t end = col + n_blocks * info->block_elems;
    while (col < end) {
        uint64_t n = end - col < CHUNK ? end - col : CHUNK; /* whole blocks: CHUNK is a multiple */
        dense_values(seed, tensor, row, col, n, values);
        quant_row_dense(tensor->type, values, n, out);
        out += model_row_bytes(tensor->type, n);
        col += n;
    }
}

/* ---- shapes
 * -------------------------------------------------------------------------------------- */

static void set_tensor(model_tensor_t *t, uint64_t id, model_type_t type, uint64_t n_rows,
                       uint64_t n_cols)
{
    *t = (model_tensor_t){.type   = type,
                          .offset = id,
                          .bytes  = n_rows * model_row_bytes(type, n_cols),
                          .n_rows = n_rows,
                          .n_cols = n_cols};
}

static base_status_t check_types(const quant_shape_t *s, model_type_t type, model_type_t embed,
                                 base_err_t *err)
{
    const model_type_info_t *t      = model_type_info(type);
    const model_type_info_t *e      = model_type_info(embed);
    const uint32_t           rows[] = {s->width, s->ffn, s->n_heads * s->head_dim};
    if (type != MODEL_TQ1_0 && type != MODEL_TQ2_0 && type != MODEL_F16 && type != MODEL_BF16 &&
        type != MODEL_F32)
        return base_fail(err, BASE_ERR_USAGE,
                         "synth: type %s; linear tensors can be tq2_0, tq1_0, "
                         "or widened f16, bf16, f32",
                         t->name);
    if (embed == MODEL_NONE || embed > MODEL_Q6_K)
        return base_fail(err, BASE_ERR_USAGE,
                         "synth: embedding of type %s; it can be f16, bf16, "
                         "q8_0, q6_k, f32",
                         e->name);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i] % t->block_elems != 0)
            return base_fail(err, BASE_ERR_USAGE,
                             "shape %s: rows of %" PRIu32
                             " weights do not fit %s, which stores blocks of %" PRIu32
                             "; take bitnet-2b-4t, of like size, or --type f16 (dense)",
                             s->name, rows[i], t->name, t->block_elems);
    if (s->width % e->block_elems != 0)
        return base_fail(err, BASE_ERR_USAGE,
                         "shape %s: an embedding of width %" PRIu32
                         " does not fit %s, which stores blocks of %" PRIu32 "; --embed f16 works",
                         s->name, s->width, e->name, e->block_elems);
    return BASE_OK;
}

base_status_t quant_synth_desc(const quant_shape_t *shape, model_type_t type, model_type_t embed,
                               model_desc_t *out, base_err_t *err)
{
    model_desc_t  d  = {.n_layers     = shape->n_layers,
                        .width        = shape->width,
                        .head_dim     = shape->head_dim,
                        .rope_dims    = shape->head_dim,
                        .n_vocab      = shape->n_vocab,
                        .context      = shape->context,
                        .norm_eps     = shape->norm_eps,
                        .sub_norm_eps = shape->norm_eps,
                        .rope_base    = (float)shape->rope_base,
                        .rope_scale   = 1,
                        .act          = MODEL_ACT_SILU,
                        .rope         = MODEL_ROPE_HALF,
                        .tied         = true};
    void         *p  = NULL;
    base_status_t st = check_types(shape, type, embed, err);
    if (st != BASE_OK) return st;
    st = base_alloc(&p, d.n_layers, sizeof(*d.layers), shape->name, err);
    if (st != BASE_OK) return st;
    d.layers = p;
    (void)snprintf(d.arch, sizeof(d.arch), "bitnet");
    (void)snprintf(d.name, sizeof(d.name), "synthetic %s", shape->name);
    set_tensor(&d.embed, ID_EMBED, embed, d.n_vocab, d.width);
    st = model_rope_resolve(&d, &(model_rope_scaling_t){MODEL_SCALING_NONE}, shape->name, err);
    set_tensor(&d.out_norm, ID_OUT_NORM, MODEL_F32, 1, d.width);
    d.head = d.embed;
    for (uint32_t i = 0; i < d.n_layers; i++) {
        model_layer_t *l = &d.layers[i];
        l->n_heads       = shape->n_heads;
        l->n_kv_heads    = shape->n_kv_heads;
        l->ffn           = shape->ffn;
        for (int w = 0; w < MODEL_LAYER_TENSOR_COUNT; w++) {
            uint64_t n_rows = 0;
            uint64_t n_cols = 0;
            bool     norm   = model_layer_tensor_is_norm((model_layer_tensor_t)w);
            if (w >= QUANT_LAYER_TENSORS) continue; /* none */
            model_layer_tensor_shape(&d, l, (model_layer_tensor_t)w, &n_rows, &n_cols);
            set_tensor(&l->t[w], ID_LAYERS + (uint64_t)i * QUANT_LAYER_TENSORS + (uint64_t)w,
                       norm ? MODEL_F32 : type, n_rows, n_cols);
        }
    }
    d.n_params = model_desc_params(&d);
    if (st == BASE_OK) st = model_desc_check(&d, shape->name, err);
    if (st == BASE_OK)
        *out = d;
    else
        model_desc_free(&d);
    return st;
}

/* ---- in memory
 * ----------------------------------------------------------------------------------- */

_Static_assert(sizeof(void *) >= sizeof(uint64_t), "the seed travels as the context pointer");

static void generate(void *context, const model_tensor_t *tensor, uint64_t row, uint64_t block,
                     uint64_t n_blocks, uint8_t *out)
{
    quant_synth_row((uint64_t)(uintptr_t)context, tensor, row, block, n_blocks, out);
}

base_status_t quant_synth_source(const char *label, uint64_t seed, model_source_t **out,
                                 base_err_t *err)
{
    return model_source_generate(generate, (void *)(uintptr_t)seed, label, out, err);
}

base_status_t quant_synth_model(const quant_shape_t *shape, model_type_t type, model_type_t embed,
                                uint64_t seed, model_t **out, base_err_t *err)
{
    model_t      *m  = NULL;
    void         *p  = NULL;
    base_status_t st = base_alloc(&p, 1, sizeof(*m), shape->name, err);
    if (st != BASE_OK) return st;
    m            = p;
    m->vocab.bos = m->vocab.eos = m->vocab.eot = m->vocab.unk = m->vocab.pad = -1;
    st = quant_synth_desc(shape, type, embed, &m->desc, err);
    if (st != BASE_OK) goto out;
    st = quant_synth_source(shape->name, seed, &m->source, err);
    if (st != BASE_OK) goto out;
    *out = m;
    m    = NULL;
out:
    model_close(&m);
    return st;
}
