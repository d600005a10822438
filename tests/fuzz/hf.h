/* tests/fuzz/hf.h
 * A sound Hugging Face model of one layer, for targets that damage a part of it. */
#ifndef TRIREME_TESTS_FUZZ_HF_H
#define TRIREME_TESTS_FUZZ_HF_H

#include "model/bytes.h"
#include "model/hf.h"
#include "model/source.h"
#include "tests/fuzz/fuzz.h"

enum { HF_WIDTH = 8, HF_FFN = 12, HF_TOKENS = 6, HF_HEADS = 2, HF_KV = 1, HF_HEAD = 4 };

static inline hf_config_t hf_shape(bool bitnet, hf_quant_t quant)
{
    hf_config_t c = {.path       = "dir/config.json",
                     .bitnet     = bitnet,
                     .n_layers   = 1,
                     .width      = HF_WIDTH,
                     .ffn        = HF_FFN,
                     .n_heads    = HF_HEADS,
                     .n_kv_heads = HF_KV,
                     .head_dim   = HF_HEAD,
                     .rope_dims  = HF_HEAD,
                     .n_vocab    = HF_TOKENS,
                     .context    = 64,
                     .norm_eps   = 1e-5,
                     .rope_base  = 1e4,
                     .act        = bitnet ? MODEL_ACT_RELU2 : MODEL_ACT_SILU,
                     .tied       = bitnet,
                     .quant      = quant};
    (void)strcpy(c.arch, bitnet ? "bitnet" : "llama");
    return c;
}

typedef struct {
    fuzz_bytes_t header, data;
} hf_file_t;

/* A tensor of ones; rows == 0: a vector. */
static inline void hf_put(hf_file_t *f, const char *name, const char *dtype, uint32_t rows,
                          uint32_t cols)
{
    char           text[256];
    const uint32_t each  = strcmp(dtype, "F32") == 0 ? 4 : strcmp(dtype, "U8") == 0 ? 1 : 2;
    const size_t   begin = f->data.n, elems = (size_t)(rows == 0 ? 1 : rows) * cols;
    const size_t   n = elems * each;
    for (size_t i = 0; i < elems; i++) {
        const uint8_t one[4] = {0x55 * (each == 1), 0x3c * (each == 2), 0x80, 0x3f};
        fuzz_splice(&f->data, f->data.n, 0, one, each);
    }
    int used = snprintf(text, sizeof(text), "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                        f->header.n > 1 ? "," : "", name, dtype);
    if (rows > 0) used += snprintf(text + used, sizeof(text) - (size_t)used, "%u,", rows);
    used += snprintf(text + used, sizeof(text) - (size_t)used, "%u],\"data_offsets\":[%zu,%zu]}",
                     cols, begin, begin + n);
    fuzz_splice(&f->header, f->header.n, 0, text, (size_t)used);
}

static inline void hf_put_matrix(hf_file_t *f, const char *part, bool packed, uint32_t rows,
                                 uint32_t cols)
{
    char name[96];
    (void)snprintf(name, sizeof(name), "model.layers.0.%s.weight", part);
    hf_put(f, name, packed ? "U8" : "F16", packed ? (rows + 3) / 4 : rows, cols);
    (void)snprintf(name, sizeof(name), "model.layers.0.%s.weight_scale", part);
    if (packed) hf_put(f, name, "F32", 0, 1);
}

/* A whole safetensors file of a model of this shape; to be freed. */
static inline fuzz_bytes_t hf_weights(const hf_config_t *c)
{
    const bool   packed = c->quant == HF_PACKED;
    const char  *ln     = "model.layers.0.input_layernorm.weight";
    hf_file_t    f      = {0};
    fuzz_bytes_t out    = {0};
    uint8_t      length[8];
    fuzz_splice(&f.header, 0, 0, "{", 1);
    hf_put(&f, "model.embed_tokens.weight", "F16", HF_TOKENS, HF_WIDTH);
    hf_put(&f, "model.norm.weight", "F32", 0, HF_WIDTH);
    if (!c->tied) hf_put(&f, "lm_head.weight", "BF16", HF_TOKENS, HF_WIDTH);
    hf_put(&f, ln, "BF16", 0, HF_WIDTH);
    hf_put(&f, "model.layers.0.post_attention_layernorm.weight", "F16", 0, HF_WIDTH);
    if (c->bitnet) {
        hf_put(&f, "model.layers.0.self_attn.attn_sub_norm.weight", "F32", 0, HF_WIDTH);
        hf_put(&f, "model.layers.0.mlp.ffn_sub_norm.weight", "F32", 0, HF_FFN);
    }
    hf_put_matrix(&f, "self_attn.q_proj", packed, HF_HEADS * HF_HEAD, HF_WIDTH);
    hf_put_matrix(&f, "self_attn.k_proj", packed, HF_KV * HF_HEAD, HF_WIDTH);
    hf_put_matrix(&f, "self_attn.v_proj", packed, HF_KV * HF_HEAD, HF_WIDTH);
    hf_put_matrix(&f, "self_attn.o_proj", packed, HF_WIDTH, HF_HEADS * HF_HEAD);
    hf_put_matrix(&f, "mlp.gate_proj", packed, HF_FFN, HF_WIDTH);
    hf_put_matrix(&f, "mlp.up_proj", packed, HF_FFN, HF_WIDTH);
    hf_put_matrix(&f, "mlp.down_proj", packed, HF_WIDTH, HF_FFN);
    fuzz_splice(&f.header, f.header.n, 0, "}", 1);
    model_store_u64(length, f.header.n);
    fuzz_splice(&out, 0, 0, length, 8);
    fuzz_splice(&out, out.n, 0, f.header.data, f.header.n);
    fuzz_splice(&out, out.n, 0, f.data.data, f.data.n);
    free(f.header.data);
    free(f.data.data);
    return out;
}

/* Read the last row of each tensor, as the worker would. */
static inline void hf_read(const model_desc_t *d, const model_source_t *source)
{
    for (int i = -3; i < (int)d->n_layers * MODEL_LAYER_TENSOR_COUNT; i++) {
        const model_tensor_t *t =
            i == -3   ? &d->embed
            : i == -2 ? &d->out_norm
            : i == -1 ? &d->head
                      : &d->layers[i / MODEL_LAYER_TENSOR_COUNT].t[i % MODEL_LAYER_TENSOR_COUNT];
        float min = 1, max = 0;
        if (t->type == MODEL_NONE) continue;
        float *row = malloc(t->n_cols * sizeof(float));
        if (row == NULL) abort();
        if (model_type_info(t->type)->ternary)
            (void)model_row_trits(source, t, t->n_rows - 1, 0, t->n_cols, (int8_t *)row, &min,
                                  &max);
        model_row_f32(source, t, t->n_rows - 1, 0, t->n_cols, row);
        free(row);
    }
}

/* The tensors of a file (any bytes) as a model of the given shape. */
static inline void hf_bind(const hf_config_t *config, const uint8_t *data, size_t size)
{
    model_source_t *source = NULL;
    model_st_t      st     = {0};
    model_desc_t    desc   = {0};
    base_err_t      err    = {0};
    base_status_t   ok     = model_source_wrap(data, size, "dir/w.safetensors", &source, &err);
    if (ok == BASE_OK) ok = model_st_parse(source, &st, &err);
    if (ok == BASE_OK) ok = model_hf_desc(config, &st, source, "dir", &desc, &err);
    if (ok == BASE_OK)
        hf_read(&desc, source);
    else
        fuzz_expect(base_status_exit(ok) == 3 && strstr(err.text, "dir/") != NULL, "bind", &err);
    model_desc_free(&desc);
    model_st_free(&st);
    model_source_close(&source);
}

#endif
