/* model/hf_model.c: tensors of a Hugging Face directory become the shape of a model. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/text.h"
#include "model/hf.h"

enum { NAME_BYTES = 128 };

/* A scale that multiplies is a mean magnitude of weights: far below 1 for any sane model. */
static const double SCALE_MIN = 1e-6;
static const double SCALE_MAX = 2;

typedef struct {
    const hf_config_t    *config;
    model_st_t           *st;
    const model_source_t *source;
    model_desc_t         *desc;
    base_err_t           *err;
} reader_t;

/* Parts of "model.layers.N.<part>.weight"; a second name where checkpoints differ. */
static const struct {
    const char *name, *other;
} parts[MODEL_LAYER_TENSOR_COUNT] = {
    [MODEL_ATTN_NORM]        = {"input_layernorm", NULL},
    [MODEL_ATTN_Q]           = {"self_attn.q_proj", NULL},
    [MODEL_ATTN_K]           = {"self_attn.k_proj", NULL},
    [MODEL_ATTN_V]           = {"self_attn.v_proj", NULL},
    [MODEL_ATTN_SUB_NORM]    = {"self_attn.attn_sub_norm", "self_attn.inner_attn_ln"},
    [MODEL_ATTN_OUT]         = {"self_attn.o_proj", NULL},
    [MODEL_FFN_NORM]         = {"post_attention_layernorm", NULL},
    [MODEL_FFN_GATE]         = {"mlp.gate_proj", NULL},
    [MODEL_FFN_UP]           = {"mlp.up_proj", NULL},
    [MODEL_FFN_SUB_NORM]     = {"mlp.ffn_sub_norm", "mlp.ffn_layernorm"},
    [MODEL_FFN_DOWN]         = {"mlp.down_proj", NULL},
    [MODEL_ATTN_Q_BIAS]      = {"self_attn.q_proj", NULL},
    [MODEL_ATTN_K_BIAS]      = {"self_attn.k_proj", NULL},
    [MODEL_ATTN_V_BIAS]      = {"self_attn.v_proj", NULL},
    [MODEL_ATTN_OUT_BIAS]    = {"self_attn.o_proj", NULL},
    [MODEL_FFN_GATE_BIAS]    = {"mlp.gate_proj", NULL},
    [MODEL_FFN_UP_BIAS]      = {"mlp.up_proj", NULL},
    [MODEL_FFN_DOWN_BIAS]    = {"mlp.down_proj", NULL},
    [MODEL_ATTN_Q_IN_NORM]   = {"self_attn.q_proj.rms_norm", NULL},
    [MODEL_ATTN_K_IN_NORM]   = {"self_attn.k_proj.rms_norm", NULL},
    [MODEL_ATTN_V_IN_NORM]   = {"self_attn.v_proj.rms_norm", NULL},
    [MODEL_FFN_GATE_IN_NORM] = {"mlp.gate_proj.rms_norm", NULL},
    [MODEL_FFN_UP_IN_NORM]   = {"mlp.up_proj.rms_norm", NULL},
};

static const char *file_of(const reader_t *r, const model_st_tensor_t *t)
{
    return model_source_path(r->source, t->file);
}

static base_status_t fail_missing(const reader_t *r, const char *name)
{
    return base_fail(r->err, BASE_ERR_INPUT,
                     "%s: tensor %s is missing; an incomplete download, or another architecture?",
                     model_source_path(r->source, 0), name);
}

/* Floats as they are: a matrix (rows x columns) or a vector (1 x columns). */
static base_status_t bind_float(reader_t *r, model_st_tensor_t *t, model_tensor_t *out)
{
    static const model_type_t types[] = {
        [MODEL_ST_F32] = MODEL_F32, [MODEL_ST_F16] = MODEL_F16, [MODEL_ST_BF16] = MODEL_BF16};
    t->used = true;
    if (t->dtype > MODEL_ST_BF16)
        return base_fail(r->err, BASE_ERR_UNSUPPORTED,
                         "%s: tensor %s has dtype %s; supported here are F32, F16, BF16",
                         file_of(r, t), t->name, t->dtype_name);
    if (t->n_dims > 2)
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: tensor %s has %" PRIu32 " dimensions, want at most 2", file_of(r, t),
                         t->name, t->n_dims);
    const model_tensor_t tensor = {.type   = types[t->dtype],
                                   .file   = t->file,
                                   .offset = t->offset,
                                   .bytes  = t->bytes,
                                   .n_rows = t->n_dims == 2 ? t->dims[0] : 1,
                                   .n_cols = t->n_dims == 2 ? t->dims[1] : t->dims[0]};
    base_status_t        st     = model_source_check(r->source, &tensor, t->name, r->err);
    if (st == BASE_OK) *out = tensor;
    return st;
}

/* weight_scale, as a factor of the product. */
static base_status_t read_scale(reader_t *r, const char *weight, float *out)
{
    char           name[NAME_BYTES];
    model_tensor_t tensor = {.type = MODEL_NONE};
    float          value  = 0;
    (void)snprintf(name, sizeof(name), "%s_scale", weight);
    model_st_tensor_t *t = model_st_find(r->st, name);
    if (t == NULL) return fail_missing(r, name);
    base_status_t st = bind_float(r, t, &tensor);
    if (st != BASE_OK) return st;
    if (tensor.n_rows != 1 || tensor.n_cols != 1)
        return base_fail(r->err, BASE_ERR_UNSUPPORTED,
                         "%s: tensor %s holds %" PRIu64 " x %" PRIu64 " numbers, supported is one",
                         file_of(r, t), name, tensor.n_rows, tensor.n_cols);
    model_row_f32(r->source, &tensor, 0, 0, 1, &value);
    const double factor = r->config->scale_divides ? 1.0 / (double)value : (double)value;
    if (!(factor >= SCALE_MIN && factor <= SCALE_MAX))
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: %s is %g, which makes no sense for linear_class %s, which %s by it: "
                         "does config.json belong to these weights?",
                         file_of(r, t), name, (double)value,
                         r->config->scale_divides ? "bitlinear" : "autobitlinear",
                         r->config->scale_divides ? "divides" : "multiplies");
    *out = (float)factor;
    return BASE_OK;
}

/* Trits as floats: how transformers saves what it once loaded packed. */
static base_status_t bind_unit(reader_t *r, model_st_tensor_t *t, model_tensor_t *out)
{
    model_tensor_t tensor = {.type = MODEL_NONE};
    base_status_t  st     = bind_float(r, t, &tensor);
    if (st == BASE_OK) st = read_scale(r, t->name, &tensor.scale);
    if (st != BASE_OK) return st;
    tensor.online = tensor.unit = true;
    *out                        = tensor;
    return BASE_OK;
}

/* Ternary weights, four rows a byte: n_rows are those of the shape, the stored are a fourth. */
static base_status_t bind_packed(reader_t *r, model_st_tensor_t *t, uint64_t n_rows,
                                 model_tensor_t *out)
{
    if (t->dtype <= MODEL_ST_BF16 && !r->config->scale_divides) return bind_unit(r, t, out);
    t->used = true;
    if (t->dtype != MODEL_ST_U8)
        return base_fail(r->err, BASE_ERR_UNSUPPORTED,
                         "%s: tensor %s has dtype %s, but quantization_config says packed weights "
                         "(U8): linear_class bitlinear has no others",
                         file_of(r, t), t->name, t->dtype_name);
    if (t->n_dims != 2 || t->dims[0] != (n_rows + 3) / 4)
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: tensor %s has %" PRIu64 " packed rows, want %" PRIu64 " for %" PRIu64
                         " outputs",
                         file_of(r, t), t->name, t->dims[0], (n_rows + 3) / 4, n_rows);
    model_tensor_t tensor = {.type   = MODEL_ROWS4,
                             .file   = t->file,
                             .offset = t->offset,
                             .bytes  = t->bytes,
                             .n_rows = n_rows,
                             .n_cols = t->dims[1]};
    base_status_t  st     = model_source_check(r->source, &tensor, t->name, r->err);
    if (st == BASE_OK) st = read_scale(r, t->name, &tensor.scale);
    if (st == BASE_OK) *out = tensor;
    return st;
}

static bool is_wanted(const reader_t *r, model_layer_tensor_t which)
{
    const hf_config_t *c = r->config;
    if (model_layer_tensor_is_bias(which))
        return which <= MODEL_ATTN_OUT_BIAS ? c->attention_bias : c->mlp_bias;
    if (model_layer_tensor_is_in_norm(which)) return c->rms_norm;
    return c->bitnet || c->rms_norm ||
           (which != MODEL_ATTN_SUB_NORM && which != MODEL_FFN_SUB_NORM);
}

/* "self_attn.q_proj": a norm in front of o_proj or down_proj alone is what a sub-norm is. */
static const char *part_name(const reader_t *r, model_layer_tensor_t which)
{
    if (r->config->rms_norm && which == MODEL_ATTN_SUB_NORM) return "self_attn.o_proj.rms_norm";
    if (r->config->rms_norm && which == MODEL_FFN_SUB_NORM) return "mlp.down_proj.rms_norm";
    return parts[which].name;
}

/* Class autobitlinear multiplies by the weight scale after it has added the bias. */
static void scale_bias(const reader_t *r, model_layer_t *l, model_layer_tensor_t which)
{
    static const model_layer_tensor_t matrices[] = {
        MODEL_ATTN_Q,   MODEL_ATTN_K, MODEL_ATTN_V,  MODEL_ATTN_OUT,
        MODEL_FFN_GATE, MODEL_FFN_UP, MODEL_FFN_DOWN}; /* in the order of their biases */
    _Static_assert(MODEL_FFN_DOWN_BIAS - MODEL_ATTN_Q_BIAS == 6, "one bias each");
    if (r->config->quant == HF_PACKED && !r->config->scale_divides)
        l->t[which].out_scale = l->t[matrices[which - MODEL_ATTN_Q_BIAS]].scale;
}

static base_status_t bind_part(reader_t *r, uint32_t layer, model_layer_tensor_t which)
{
    const bool     bias   = model_layer_tensor_is_bias(which);
    model_layer_t *l      = &r->desc->layers[layer];
    uint64_t       n_rows = 0;
    uint64_t       n_cols = 0;
    char           name[NAME_BYTES];
    base_status_t  st = BASE_OK;
    (void)snprintf(name, sizeof(name), "model.layers.%" PRIu32 ".%s.%s", layer, part_name(r, which),
                   bias ? "bias" : "weight");
    model_st_tensor_t *t = model_st_find(r->st, name);
    if (t == NULL && parts[which].other != NULL && r->config->bitnet) {
        (void)snprintf(name, sizeof(name), "model.layers.%" PRIu32 ".%s.weight", layer,
                       parts[which].other);
        t = model_st_find(r->st, name);
    }
    if (t == NULL) return fail_missing(r, name);
    model_layer_tensor_shape(r->desc, l, which, &n_rows, &n_cols);
    const bool matrix = !bias && !model_layer_tensor_is_norm(which);
    if (matrix && r->config->quant == HF_PACKED) return bind_packed(r, t, n_rows, &l->t[which]);
    st = bind_float(r, t, &l->t[which]);
    if (st == BASE_OK && matrix) l->t[which].online = r->config->quant == HF_ONLINE;
    if (st == BASE_OK && bias) scale_bias(r, l, which);
    return st;
}

static base_status_t bind_named(reader_t *r, const char *name, model_tensor_t *out)
{
    model_st_tensor_t *t = model_st_find(r->st, name);
    return t == NULL ? fail_missing(r, name) : bind_float(r, t, out);
}

static base_status_t bind_all(reader_t *r)
{
    model_desc_t *d  = r->desc;
    base_status_t st = bind_named(r, "model.embed_tokens.weight", &d->embed);
    if (st == BASE_OK) st = bind_named(r, "model.norm.weight", &d->out_norm);
    if (st != BASE_OK) return st;
    model_st_tensor_t *head = model_st_find(r->st, "lm_head.weight");
    if (r->config->tied) {
        d->head = d->embed;
        if (head != NULL) head->used = true; /* transformers ties them, whatever it holds */
    } else {
        st = bind_named(r, "lm_head.weight", &d->head);
    }
    for (uint32_t i = 0; st == BASE_OK && i < d->n_layers; i++)
        for (int w = 0; st == BASE_OK && w < MODEL_LAYER_TENSOR_COUNT; w++)
            if (is_wanted(r, (model_layer_tensor_t)w))
                st = bind_part(r, i, (model_layer_tensor_t)w);
    return st;
}

/* What is left would change the result if it is in a layer; else it is only said. */
static base_status_t check_unused(const reader_t *r)
{
    static const char        layers[] = "model.layers.";
    static const char        inv[]    = ".rotary_emb.inv_freq"; /* computed anew */
    const model_st_tensor_t *first    = NULL;
    uint32_t                 n        = 0;
    for (uint32_t i = 0; i < r->st->n_tensors; i++) {
        const model_st_tensor_t *t     = &r->st->tensors[i];
        const size_t             bytes = strlen(t->name);
        if (t->used) continue;
        if (bytes >= sizeof(inv) && strcmp(t->name + bytes - (sizeof(inv) - 1), inv) == 0) continue;
        if (strncmp(t->name, layers, sizeof(layers) - 1) == 0)
            return base_fail(r->err, BASE_ERR_UNSUPPORTED,
                             "%s: tensor %.100s does not belong to what config.json describes",
                             file_of(r, t), t->name);
        if (first == NULL) first = t;
        n++;
    }
    if (n > 0)
        base_log(BASE_LOG_WARN, "%s: %" PRIu32 " unknown tensor%s ignored, the first is %.100s",
                 file_of(r, first), n, n == 1 ? "" : "s", first->name);
    return BASE_OK;
}

/* The directory's own name. */
static void set_name(const char *dir, model_desc_t *d)
{
    size_t n     = strlen(dir);
    size_t begin = 0;
    while (n > 1 && dir[n - 1] == '/') n--;
    for (begin = n; begin > 0 && dir[begin - 1] != '/';) begin--;
    (void)snprintf(d->name, sizeof(d->name), "%.*s", (int)(n - begin > 120 ? 120 : n - begin),
                   dir + begin);
    base_text_clean(d->name, strlen(d->name));
}

base_status_t model_hf_desc(const hf_config_t *config, model_st_t *st, const model_source_t *source,
                            const char *dir, model_desc_t *desc, base_err_t *err)
{
    const hf_config_t *c      = config;
    reader_t           r      = {config, st, source, desc, err};
    void              *p      = NULL;
    base_status_t      status = base_alloc(&p, c->n_layers, sizeof(*desc->layers), "layers", err);
    if (status != BASE_OK) return status;
    *desc = (model_desc_t){.n_layers     = c->n_layers,
                           .width        = c->width,
                           .head_dim     = c->head_dim,
                           .rope_dims    = c->rope_dims,
                           .n_vocab      = c->n_vocab,
                           .context      = c->context,
                           .norm_eps     = (float)c->norm_eps,
                           .sub_norm_eps = (float)(c->rms_norm ? c->rms_norm_eps : c->norm_eps),
                           .rope_base    = c->rope_base,
                           .act          = c->act,
                           .rope         = MODEL_ROPE_HALF,
                           .tied         = c->tied,
                           .layers       = p};
    (void)snprintf(desc->arch, sizeof(desc->arch), "%s", c->arch);
    set_name(dir, desc);
    for (uint32_t i = 0; i < c->n_layers; i++) {
        desc->layers[i].n_heads    = c->n_heads;
        desc->layers[i].n_kv_heads = c->n_kv_heads;
        desc->layers[i].ffn        = c->ffn;
    }
    status = model_rope_resolve(desc, &c->scaling, c->path, err);
    if (status == BASE_OK) status = bind_all(&r);
    if (status == BASE_OK) status = model_desc_check(desc, c->path, err);
    if (status == BASE_OK) status = check_unused(&r);
    if (status == BASE_OK)
        desc->n_params = model_desc_params(desc);
    else
        model_desc_free(desc);
    return status;
}
