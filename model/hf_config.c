/* model/hf_config.c: config.json of a Hugging Face directory. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/detmath.h"
#include "model/hf.h"

typedef struct {
    const json_t *root;
    const char   *path;
    hf_config_t  *c;
    base_err_t   *err;
} reader_t;

static base_status_t refuse(const reader_t *r, const char *key, const json_t *value)
{
    char         *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    base_status_t st =
        base_fail(r->err, BASE_ERR_UNSUPPORTED, "%s: '%s' is %.80s, which is not supported",
                  r->path, key, text == NULL ? "odd" : text);
    free(text);
    return st;
}

/* ---- architecture */

static bool names_architecture(const reader_t *r, const char *name)
{
    return model_json_is(json_array_get(json_object_get(r->root, "architectures"), 0), name);
}

static base_status_t read_family(reader_t *r)
{
    model_str_t   type = {"", 0};
    base_status_t st   = model_json_str(r->root, "model_type", r->path, true, &type, r->err);
    if (st != BASE_OK) return st;
    const json_t *value = json_object_get(r->root, "model_type");
    /* 1bitLLM's models call themselves llama; their class tells. */
    r->c->bitnet = model_json_is(value, "bitnet") || names_architecture(r, "BitnetForCausalLM") ||
                   names_architecture(r, "BitNetForCausalLM");
    if (!model_json_is(value, "bitnet") && !model_json_is(value, "llama"))
        return base_fail(r->err, BASE_ERR_UNSUPPORTED,
                         "%s: model_type '%.40s' is not supported; supported are bitnet and llama",
                         r->path, type.text);
    (void)snprintf(r->c->arch, sizeof(r->c->arch), "%s", r->c->bitnet ? "bitnet" : "llama");
    return BASE_OK;
}

static base_status_t read_act(reader_t *r)
{
    const json_t *act = model_json_get(r->root, "hidden_act");
    r->c->act         = MODEL_ACT_SILU;
    if (act == NULL && r->c->bitnet)
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: 'hidden_act' is missing; no default is safe for bitnet", r->path);
    if (act == NULL || model_json_is(act, "silu") || model_json_is(act, "swish")) return BASE_OK;
    if (!model_json_is(act, "relu2")) return refuse(r, "hidden_act", act);
    r->c->act = MODEL_ACT_RELU2;
    return BASE_OK;
}

static base_status_t read_shape(reader_t *r)
{
    hf_config_t *c = r->c;
    const struct {
        const char *key;
        bool        required;
        uint32_t    max;
        uint32_t   *out;
    } numbers[] = {
        {"num_hidden_layers", true, LIMIT_LAYERS, &c->n_layers},
        {"hidden_size", true, LIMIT_WIDTH, &c->width},
        {"intermediate_size", true, LIMIT_FFN, &c->ffn},
        {"num_attention_heads", true, LIMIT_HEADS, &c->n_heads},
        {"num_key_value_heads", false, LIMIT_HEADS, &c->n_kv_heads},
        {"head_dim", false, LIMIT_HEAD_DIM, &c->head_dim},
        {"vocab_size", true, LIMIT_VOCAB, &c->n_vocab},
        {"max_position_embeddings", false, LIMIT_CONTEXT, &c->context},
    };
    c->context = 2048; /* as the classes have it */
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        base_status_t st = model_json_u32(r->root, numbers[i].key, r->path, numbers[i].required, 1,
                                          numbers[i].max, numbers[i].out, r->err);
        if (st != BASE_OK) return st;
    }
    if (c->n_kv_heads == 0) c->n_kv_heads = c->n_heads;
    if (c->head_dim == 0) {
        if (c->width % c->n_heads != 0 || c->width / c->n_heads > LIMIT_HEAD_DIM)
            return base_fail(r->err, BASE_ERR_INPUT,
                             "%s: hidden_size %" PRIu32 " and %" PRIu32
                             " heads give no head dimension, and 'head_dim' is missing",
                             r->path, c->width, c->n_heads);
        c->head_dim = c->width / c->n_heads;
    }
    c->norm_eps = c->bitnet ? 1e-5 : 1e-6;
    return model_json_f64(r->root, "rms_norm_eps", r->path, false, &c->norm_eps, r->err);
}

static base_status_t read_flags(reader_t *r)
{
    base_status_t st =
        model_json_bool(r->root, "tie_word_embeddings", r->path, &r->c->tied, r->err);
    if (st != BASE_OK) return st;
    st = model_json_bool(r->root, "attention_bias", r->path, &r->c->attention_bias, r->err);
    if (st != BASE_OK) return st;
    st = model_json_bool(r->root, "mlp_bias", r->path, &r->c->mlp_bias, r->err);
    if (st != BASE_OK) return st;
    if (r->c->mlp_bias && r->c->bitnet) return refuse(r, "mlp_bias", json_true());
    return BASE_OK;
}

/* ---- RoPE */

/* transformers: mscale and mscale_all_dim of DeepSeek, or attention_factor, or from the factor. */
static base_status_t read_yarn(reader_t *r, const json_t *rope)
{
    model_rope_scaling_t *s        = &r->c->scaling;
    double                mscale   = 0;
    double                all      = 0;
    bool                  truncate = true;
    const struct {
        const char *key;
        double     *out;
    } numbers[] = {
        {"beta_fast", &s->beta_fast},
        {"beta_slow", &s->beta_slow},
        {"attention_factor", &s->magnitude},
        {"mscale", &mscale},
        {"mscale_all_dim", &all},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        base_status_t st =
            model_json_f64(rope, numbers[i].key, r->path, false, numbers[i].out, r->err);
        if (st != BASE_OK) return st;
    }
    base_status_t st = model_json_bool(rope, "truncate", r->path, &truncate, r->err);
    if (st != BASE_OK) return st;
    s->untruncated = !truncate;
    if (s->magnitude == 0 && mscale != 0 && all != 0 && s->factor > 1) {
        const double ln = 0.1 * base_ln(s->factor);
        s->magnitude    = (ln * mscale + 1) / (ln * all + 1);
    }
    return BASE_OK;
}

static base_status_t read_scaling(reader_t *r, const json_t *rope)
{
    model_rope_scaling_t *s    = &r->c->scaling;
    const json_t         *type = model_json_get(rope, "rope_type");
    base_status_t         st   = BASE_OK;
    if (type == NULL) type = model_json_get(rope, "type"); /* its old name */
    if (type == NULL || model_json_is(type, "default")) return BASE_OK;
    if (model_json_is(type, "linear"))
        s->kind = MODEL_SCALING_LINEAR;
    else if (model_json_is(type, "llama3"))
        s->kind = MODEL_SCALING_LLAMA3;
    else if (model_json_is(type, "yarn"))
        s->kind = MODEL_SCALING_YARN;
    else
        return refuse(r, "rope_type", type);
    s->original_context = (double)r->c->context;
    const bool llama3   = s->kind == MODEL_SCALING_LLAMA3;

    st = model_json_f64(rope, "original_max_position_embeddings", r->path, llama3,
                        &s->original_context, r->err);
    if (st == BASE_OK && s->kind != MODEL_SCALING_LINEAR) /* transformers 5: it goes first */
        st = model_json_f64(r->root, "original_max_position_embeddings", r->path, false,
                            &s->original_context, r->err);
    if (st != BASE_OK) return st;
    st = model_json_f64(rope, "factor", r->path, s->kind != MODEL_SCALING_YARN, &s->factor, r->err);
    if (st != BASE_OK) return st;
    if (model_json_get(rope, "factor") == NULL && s->original_context > 0)
        s->factor = (double)r->c->context / s->original_context;
    if (s->kind == MODEL_SCALING_YARN) return read_yarn(r, rope);
    if (s->kind == MODEL_SCALING_LINEAR) return BASE_OK;
    st = model_json_f64(rope, "low_freq_factor", r->path, true, &s->low_freq_factor, r->err);
    if (st != BASE_OK) return st;
    return model_json_f64(rope, "high_freq_factor", r->path, true, &s->high_freq_factor, r->err);
}

static base_status_t read_rope(reader_t *r)
{
    /* transformers 5 writes the second, and takes the first where it says anything. */
    const json_t *rope    = model_json_get(r->root, "rope_scaling");
    double        partial = 1;
    base_status_t st      = BASE_OK;
    if (rope != NULL && !json_is_object(rope)) return refuse(r, "rope_scaling", rope);
    if (rope == NULL || json_object_size(rope) == 0)
        rope = model_json_get(r->root, "rope_parameters");
    if (rope != NULL && !json_is_object(rope)) return refuse(r, "rope_parameters", rope);
    const bool own  = model_json_is(json_object_get(r->root, "model_type"), "bitnet");
    r->c->rope_base = own ? 5e5 : 1e4; /* the classes' defaults */
    st = model_json_f64(r->root, "rope_theta", r->path, false, &r->c->rope_base, r->err);
    if (st == BASE_OK)
        st = model_json_f64(r->root, "partial_rotary_factor", r->path, false, &partial, r->err);
    if (st == BASE_OK && rope != NULL)
        st = model_json_f64(rope, "rope_theta", r->path, false, &r->c->rope_base, r->err);
    if (st == BASE_OK && rope != NULL)
        st = model_json_f64(rope, "partial_rotary_factor", r->path, false, &partial, r->err);
    if (st != BASE_OK) return st;
    if (partial != 1) /* some versions of these classes ignore it, some fail */
        return base_fail(r->err, BASE_ERR_UNSUPPORTED,
                         "%s: 'partial_rotary_factor' is %g, which models of this kind do not have",
                         r->path, partial);
    r->c->rope_dims = r->c->head_dim;
    return rope == NULL ? BASE_OK : read_scaling(r, rope);
}

/* ---- quantisation */

/* The head and the embedding never are ternary: naming them changes nothing. */
static base_status_t check_exceptions(reader_t *r, const json_t *quant)
{
    const json_t *list = model_json_get(quant, "modules_to_not_convert");
    size_t        i    = 0;
    const json_t *name = NULL;
    if (list == NULL) return BASE_OK;
    if (!json_is_array(list)) return refuse(r, "modules_to_not_convert", list);
    json_array_foreach(list, i, name)
    {
        if (model_json_is(name, "lm_head") || model_json_is(name, "embed_tokens") ||
            model_json_is(name, "model.embed_tokens"))
            continue;
        return refuse(r, "modules_to_not_convert", name);
    }
    return BASE_OK;
}

/* 1bitLLM's models have no quantisation config, but say how many bits. */
static base_status_t read_no_quant(reader_t *r)
{
    uint32_t      bits = 16;
    base_status_t st = model_json_u32(r->root, "weight_bits", r->path, false, 1, 32, &bits, r->err);
    r->c->quant      = HF_DENSE;
    if (st == BASE_OK && r->c->bitnet && bits == 1) r->c->quant = HF_ONLINE;
    return st;
}

static base_status_t read_quant(reader_t *r)
{
    const json_t *quant = model_json_get(r->root, "quantization_config");
    if (quant == NULL) return read_no_quant(r);
    const json_t *method = model_json_get(quant, "quant_method");
    const json_t *linear = model_json_get(quant, "linear_class");
    const json_t *mode   = model_json_get(quant, "quantization_mode");
    if (!model_json_is(method, "bitnet"))
        return method == NULL ? refuse(r, "quantization_config", quant)
                              : refuse(r, "quant_method", method);
    base_status_t st = model_json_bool(quant, "use_rms_norm", r->path, &r->c->rms_norm, r->err);
    if (st != BASE_OK) return st;
    r->c->rms_norm_eps = 1e-6;
    st = model_json_f64(quant, "rms_norm_eps", r->path, false, &r->c->rms_norm_eps, r->err);
    if (st != BASE_OK) return st;
    if (r->c->rms_norm && r->c->bitnet)
        return base_fail(
            r->err, BASE_ERR_UNSUPPORTED,
            "%s: 'use_rms_norm' is true for a model with sub-norms: two norms in a row "
            "in front of o_proj and down_proj are not supported",
            r->path);
    const bool automatic = model_json_is(linear, "autobitlinear");
    if (linear != NULL && !automatic && !model_json_is(linear, "bitlinear"))
        return refuse(r, "linear_class", linear);
    r->c->scale_divides = !automatic;
    if (mode != NULL && !model_json_is(mode, "offline") && !model_json_is(mode, "online"))
        return refuse(r, "quantization_mode", mode);
    /* Class bitlinear knows packed weights alone, whatever the mode says. */
    r->c->quant = automatic && model_json_is(mode, "online") ? HF_ONLINE : HF_PACKED;
    return check_exceptions(r, quant);
}

base_status_t model_hf_config(const json_t *root, const char *path, hf_config_t *out,
                              base_err_t *err)
{
    hf_config_t   c  = {.path = path};
    reader_t      r  = {root, path, &c, err};
    base_status_t st = read_family(&r);
    if (st == BASE_OK) st = read_shape(&r);
    if (st == BASE_OK) st = read_act(&r);
    if (st == BASE_OK) st = read_flags(&r);
    if (st == BASE_OK) st = read_rope(&r);
    if (st == BASE_OK) st = read_quant(&r);
    if (st == BASE_OK) *out = c;
    return st;
}
