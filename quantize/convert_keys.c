/* quantize/convert_keys.c: the shape and the tokenizer of a model as GGUF keys. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "quantize/convert.h"

enum { PAD_BYTES = 24 };

typedef struct {
    model_gguf_writer_t *writer;
    const model_t       *model;
    const char          *arch;
    char                 key[96];
} keys_t;

static const char *arch_key(keys_t *k, const char *suffix)
{
    (void)snprintf(k->key, sizeof(k->key), "%s.%s", k->arch, suffix);
    return k->key;
}

uint32_t quant_file_type(model_type_t type)
{
    switch (type) {
    case MODEL_F32: return 0;
    case MODEL_F16: return 1;
    case MODEL_BF16: return 32;
    case MODEL_Q8_0: return 7;
    case MODEL_TQ1_0: return 36;
    case MODEL_TQ2_0: return 37;
    case MODEL_I2_S:
    case MODEL_I2_S_64:
    case MODEL_I2_S_R4: return 40; /* bitnet.cpp's */
    default: return UINT32_MAX;
    }
}

/* One number where all layers agree, else one for each. */
static void write_each(keys_t *k, const char *suffix, const uint32_t *each)
{
    const uint32_t n    = k->model->desc.n_layers;
    bool           same = true;
    for (uint32_t i = 1; i < n; i++) same = same && each[i] == each[0];
    if (same)
        model_gguf_write_u32(k->writer, arch_key(k, suffix), each[0]);
    else
        model_gguf_write_u32s(k->writer, arch_key(k, suffix), each, n);
}

static base_status_t write_layers(keys_t *k, base_err_t *err)
{
    const model_desc_t *d  = &k->model->desc;
    void               *p  = NULL;
    base_status_t       st = base_alloc(&p, d->n_layers, sizeof(uint32_t), "layers", err);
    if (st != BASE_OK) return st;
    uint32_t *each = p;
    for (uint32_t i = 0; i < d->n_layers; i++) each[i] = d->layers[i].ffn;
    write_each(k, "feed_forward_length", each);
    for (uint32_t i = 0; i < d->n_layers; i++) each[i] = d->layers[i].n_heads;
    write_each(k, "attention.head_count", each);
    for (uint32_t i = 0; i < d->n_layers; i++) each[i] = d->layers[i].n_kv_heads;
    write_each(k, "attention.head_count_kv", each);
    free(each);
    return BASE_OK;
}

static void write_shape(keys_t *k)
{
    const model_desc_t  *d = &k->model->desc;
    model_gguf_writer_t *w = k->writer;
    model_gguf_write_str(w, "general.architecture", k->arch);
    model_gguf_write_str(w, "general.name", d->name);
    model_gguf_write_u32(w, "general.quantization_version", 2);
    model_gguf_write_u32(w, arch_key(k, "vocab_size"), d->n_vocab);
    model_gguf_write_u32(w, arch_key(k, "context_length"), d->context);
    model_gguf_write_u32(w, arch_key(k, "embedding_length"), d->width);
    model_gguf_write_u32(w, arch_key(k, "block_count"), d->n_layers);
    model_gguf_write_u32(w, arch_key(k, "attention.key_length"), d->head_dim);
    model_gguf_write_u32(w, arch_key(k, "attention.value_length"), d->head_dim);
    model_gguf_write_f32(w, arch_key(k, "attention.layer_norm_rms_epsilon"), d->norm_eps);
    model_gguf_write_u32(w, arch_key(k, "rope.dimension_count"), d->rope_dims);
    model_gguf_write_f32(w, arch_key(k, "rope.freq_base"), (float)d->rope_base);
}

/* The desc knows frequencies only. Linear scaling has a key of its own; anything else becomes
 * factors, as llama.cpp stores Llama 3's, and a magnitude besides becomes a YaRN that does nothing
 * else (factor 1). */
static base_status_t write_rope(keys_t *k, float divisors[MODEL_ROPE_MAX], uint32_t *n_divisors,
                                base_err_t *err)
{
    const model_desc_t        *d     = &k->model->desc;
    const model_rope_scaling_t none  = {.kind = MODEL_SCALING_NONE};
    model_desc_t               plain = *d;
    bool                       same  = true;
    bool                       even  = true;
    base_status_t              st    = model_rope_resolve(&plain, &none, d->name, err);
    if (st != BASE_OK) return st;
    for (uint32_t j = 0; j < d->rope_dims / 2; j++) {
        same        = same && d->rope_freq[j] == plain.rope_freq[j];
        even        = even && d->rope_freq[j] == plain.rope_freq[j] / d->rope_scale;
        divisors[j] = (float)(plain.rope_freq[j] / d->rope_freq[j]);
    }
    *n_divisors = same || (even && d->rope_magnitude == 1) ? 0 : d->rope_dims / 2;
    if (d->rope_magnitude != 1) {
        model_gguf_write_str(k->writer, arch_key(k, "rope.scaling.type"), "yarn");
        model_gguf_write_f32(k->writer, arch_key(k, "rope.scaling.factor"), 1);
        model_gguf_write_u32(k->writer, arch_key(k, "rope.scaling.original_context_length"),
                             d->context);
        model_gguf_write_f32(k->writer, arch_key(k, "rope.scaling.attn_factor"),
                             (float)d->rope_magnitude);
    } else if (!same && even) {
        model_gguf_write_str(k->writer, arch_key(k, "rope.scaling.type"), "linear");
        model_gguf_write_f32(k->writer, arch_key(k, "rope.scaling.factor"), (float)d->rope_scale);
    }
    return BASE_OK;
}

/* ---- tokenizer */

static void write_id(model_gguf_writer_t *w, const char *key, int32_t id, bool has_default)
{
    if (id >= 0)
        model_gguf_write_u32(w, key, (uint32_t)id);
    else if (has_default)
        model_gguf_write_u32(w, key, UINT32_MAX); /* none */
}

static void write_flags(model_gguf_writer_t *w, const model_vocab_t *v)
{
    const bool        spm     = v->kind == MODEL_VOCAB_SPM;
    const model_str_t usual   = {"default", 7};
    const model_str_t chatter = v->chat_template;
    model_gguf_write_text(w, "tokenizer.ggml.pre", v->pre.bytes > 0 ? v->pre : usual);
    write_id(w, "tokenizer.ggml.bos_token_id", v->bos, spm);
    write_id(w, "tokenizer.ggml.eos_token_id", v->eos, spm);
    write_id(w, "tokenizer.ggml.unknown_token_id", v->unk, spm);
    write_id(w, "tokenizer.ggml.eot_token_id", v->eot, false);
    write_id(w, "tokenizer.ggml.padding_token_id", v->pad, false);
    model_gguf_write_bool(w, "tokenizer.ggml.add_bos_token", v->add_bos);
    model_gguf_write_bool(w, "tokenizer.ggml.add_eos_token", v->add_eos);
    if (spm) model_gguf_write_bool(w, "tokenizer.ggml.add_space_prefix", v->add_space_prefix);
    if (v->normal != MODEL_NORMAL_NONE) {
        const char *form = model_normal_name(v->normal);
        model_gguf_write_text(w, "trireme.tokenizer.normalizer",
                              (model_str_t){form, (uint32_t)strlen(form)});
    }
    if (chatter.bytes > 0) model_gguf_write_text(w, "tokenizer.chat_template", chatter);
}

/* llama.cpp wants as many tokens as the embedding has rows: "[PAD7]", unused, for those without. */
static base_status_t write_tokens(model_gguf_writer_t *w, const model_vocab_t *v, uint32_t n,
                                  base_err_t *err)
{
    const bool spm         = v->kind == MODEL_VOCAB_SPM;
    char(*pads)[PAD_BYTES] = NULL;
    model_str_t  *tokens   = NULL;
    float        *scores   = NULL;
    int32_t      *types    = NULL;
    void         *p        = NULL;
    base_status_t st       = base_alloc(&p, n - v->n_tokens, PAD_BYTES, "vocabulary", err);
    if (st != BASE_OK) goto out;
    pads = p;
    st   = base_alloc(&p, n, sizeof(*tokens), "vocabulary", err);
    if (st != BASE_OK) goto out;
    tokens = p;
    st     = base_alloc(&p, n, sizeof(*scores), "vocabulary", err);
    if (st != BASE_OK) goto out;
    scores = p;
    st     = base_alloc(&p, n, sizeof(*types), "vocabulary", err);
    if (st != BASE_OK) goto out;
    types = p;
    for (uint32_t i = 0; i < n; i++) {
        if (i < v->n_tokens) {
            tokens[i] = v->tokens[i];
            scores[i] = v->scores == NULL ? 0 : v->scores[i];
            types[i]  = v->types[i];
            continue;
        }
        char *text = pads[i - v->n_tokens];
        (void)snprintf(text, PAD_BYTES, "[PAD%" PRIu32 "]", i);
        tokens[i] = (model_str_t){text, (uint32_t)strlen(text)};
        scores[i] = -1000;
        types[i]  = MODEL_TOKEN_UNUSED;
    }
    model_gguf_write_strs(w, "tokenizer.ggml.tokens", tokens, n);
    model_gguf_write_i32s(w, "tokenizer.ggml.token_type", types, n);
    if (spm || v->scores != NULL) model_gguf_write_f32s(w, "tokenizer.ggml.scores", scores, n);
    if (v->n_merges > 0 || !spm)
        model_gguf_write_strs(w, "tokenizer.ggml.merges", v->merges, v->n_merges);
out:
    free(pads);
    free(tokens);
    free(scores);
    free(types);
    return st;
}

base_status_t quant_convert_keys(model_gguf_writer_t *writer, const model_t *model,
                                 const char *arch, float divisors[MODEL_ROPE_MAX],
                                 uint32_t *n_divisors, base_err_t *err)
{
    const model_vocab_t *v  = &model->vocab;
    keys_t               k  = {.writer = writer, .model = model, .arch = arch};
    base_status_t        st = BASE_OK;

    if (v->normalized != NULL)
        return base_fail(err, BASE_ERR_UNSUPPORTED,
                         "tokenizer.json has added tokens with 'normalized': GGUF has no place for "
                         "them; run the directory itself");
    write_shape(&k);
    st = write_layers(&k, err);
    if (st == BASE_OK) st = write_rope(&k, divisors, n_divisors, err);
    if (st != BASE_OK) return st;
    if (v->kind == MODEL_VOCAB_NONE) {
        model_gguf_write_str(writer, "tokenizer.ggml.model", "none");
        return BASE_OK;
    }
    base_assert(v->n_tokens <= model->desc.n_vocab);
    model_gguf_write_str(writer, "tokenizer.ggml.model",
                         v->kind == MODEL_VOCAB_SPM ? "llama" : "gpt2");
    write_flags(writer, v);
    return write_tokens(writer, v, model->desc.n_vocab, err);
}
