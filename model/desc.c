/* model/desc.c: are the shapes of a model sane, and do they fit together? */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "model/model.h"

static const char *const tensor_names[] = {
    [MODEL_ATTN_NORM]        = "attn_norm",
    [MODEL_ATTN_Q]           = "attn_q",
    [MODEL_ATTN_K]           = "attn_k",
    [MODEL_ATTN_V]           = "attn_v",
    [MODEL_ATTN_SUB_NORM]    = "attn_sub_norm",
    [MODEL_ATTN_OUT]         = "attn_output",
    [MODEL_FFN_NORM]         = "ffn_norm",
    [MODEL_FFN_GATE]         = "ffn_gate",
    [MODEL_FFN_UP]           = "ffn_up",
    [MODEL_FFN_SUB_NORM]     = "ffn_sub_norm",
    [MODEL_FFN_DOWN]         = "ffn_down",
    [MODEL_ATTN_Q_BIAS]      = "attn_q.bias",
    [MODEL_ATTN_K_BIAS]      = "attn_k.bias",
    [MODEL_ATTN_V_BIAS]      = "attn_v.bias",
    [MODEL_ATTN_OUT_BIAS]    = "attn_output.bias",
    [MODEL_FFN_GATE_BIAS]    = "ffn_gate.bias",
    [MODEL_FFN_UP_BIAS]      = "ffn_up.bias",
    [MODEL_FFN_DOWN_BIAS]    = "ffn_down.bias",
    [MODEL_ATTN_Q_IN_NORM]   = "attn_q_in_norm",
    [MODEL_ATTN_K_IN_NORM]   = "attn_k_in_norm",
    [MODEL_ATTN_V_IN_NORM]   = "attn_v_in_norm",
    [MODEL_FFN_GATE_IN_NORM] = "ffn_gate_in_norm",
    [MODEL_FFN_UP_IN_NORM]   = "ffn_up_in_norm",
};
_Static_assert(sizeof(tensor_names) / sizeof(tensor_names[0]) == MODEL_LAYER_TENSOR_COUNT,
               "a name each");

const char *model_layer_tensor_label(model_layer_tensor_t which)
{
    base_assert((unsigned)which < MODEL_LAYER_TENSOR_COUNT);
    return tensor_names[which];
}

const char *model_layer_tensor_name(uint32_t layer, model_layer_tensor_t which, char *buf,
                                    size_t buf_bytes)
{
    base_assert((unsigned)which < MODEL_LAYER_TENSOR_COUNT);
    (void)snprintf(buf, buf_bytes, "blk.%" PRIu32 ".%s", layer, tensor_names[which]);
    return buf;
}

void model_layer_tensor_shape(const model_desc_t *desc, const model_layer_t *layer,
                              model_layer_tensor_t which, uint64_t *n_rows, uint64_t *n_cols)
{
    const uint64_t heads = (uint64_t)layer->n_heads * desc->head_dim;
    const uint64_t kv    = (uint64_t)layer->n_kv_heads * desc->head_dim;
    const uint64_t shapes[MODEL_LAYER_TENSOR_COUNT][2] = {
        [MODEL_ATTN_NORM]        = {1, desc->width},
        [MODEL_ATTN_Q]           = {heads, desc->width},
        [MODEL_ATTN_K]           = {kv, desc->width},
        [MODEL_ATTN_V]           = {kv, desc->width},
        [MODEL_ATTN_SUB_NORM]    = {1, heads},
        [MODEL_ATTN_OUT]         = {desc->width, heads},
        [MODEL_FFN_NORM]         = {1, desc->width},
        [MODEL_FFN_GATE]         = {layer->ffn, desc->width},
        [MODEL_FFN_UP]           = {layer->ffn, desc->width},
        [MODEL_FFN_SUB_NORM]     = {1, layer->ffn},
        [MODEL_FFN_DOWN]         = {desc->width, layer->ffn},
        [MODEL_ATTN_Q_BIAS]      = {1, heads},
        [MODEL_ATTN_K_BIAS]      = {1, kv},
        [MODEL_ATTN_V_BIAS]      = {1, kv},
        [MODEL_ATTN_OUT_BIAS]    = {1, desc->width},
        [MODEL_FFN_GATE_BIAS]    = {1, layer->ffn},
        [MODEL_FFN_UP_BIAS]      = {1, layer->ffn},
        [MODEL_FFN_DOWN_BIAS]    = {1, desc->width},
        [MODEL_ATTN_Q_IN_NORM]   = {1, desc->width},
        [MODEL_ATTN_K_IN_NORM]   = {1, desc->width},
        [MODEL_ATTN_V_IN_NORM]   = {1, desc->width},
        [MODEL_FFN_GATE_IN_NORM] = {1, desc->width},
        [MODEL_FFN_UP_IN_NORM]   = {1, desc->width},
    };
    base_assert((unsigned)which < MODEL_LAYER_TENSOR_COUNT);
    *n_rows = shapes[which][0];
    *n_cols = shapes[which][1];
}

bool model_layer_tensor_is_norm(model_layer_tensor_t which)
{
    return which == MODEL_ATTN_NORM || which == MODEL_ATTN_SUB_NORM || which == MODEL_FFN_NORM ||
           which == MODEL_FFN_SUB_NORM || model_layer_tensor_is_in_norm(which);
}

bool model_layer_tensor_is_in_norm(model_layer_tensor_t which)
{
    return which >= MODEL_ATTN_Q_IN_NORM && which <= MODEL_FFN_UP_IN_NORM;
}

bool model_layer_tensor_is_bias(model_layer_tensor_t which)
{
    return which >= MODEL_ATTN_Q_BIAS && which <= MODEL_FFN_DOWN_BIAS;
}

/* A number of the model and its range. */
static base_status_t check_range(const char *where, const char *what, uint64_t v, uint64_t max,
                                 base_err_t *err)
{
    if (v == 0) return base_fail(err, BASE_ERR_INPUT, "%s: %s is 0: damaged file?", where, what);
    if (v > max)
        return base_fail(err, BASE_ERR_LIMIT, "%s: %s is %" PRIu64 ", limit %" PRIu64, where, what,
                         v, max);
    return BASE_OK;
}

static bool is_float(model_type_t type)
{
    return type == MODEL_F32 || type == MODEL_F16 || type == MODEL_BF16;
}

/* The scales of a tensor, and whether its type goes with them. */
static base_status_t check_scales(const char *where, const char *name, const model_tensor_t *t,
                                  base_err_t *err)
{
    const model_type_info_t *info = model_type_info(t->type);
    if (!isfinite(t->scale) || t->scale < 0)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: tensor %s has the scale %g, want a number from 0 up", where, name,
                         (double)t->scale);
    if (t->scale != 0 && !info->scaled && !t->online)
        return base_fail(err, BASE_ERR_INPUT, "%s: tensor %s of type %s has a scale of its own",
                         where, name, info->name);
    if (!isfinite(t->out_scale))
        return base_fail(err, BASE_ERR_INPUT, "%s: tensor %s has the output scale %g", where, name,
                         (double)t->out_scale);
    if (t->unit && (!t->online || t->scale == 0))
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: tensor %s holds trits as floats, without a scale", where, name);
    if (t->online && !is_float(t->type))
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: tensor %s of type %s cannot be made ternary at load", where, name,
                         info->name);
    return BASE_OK;
}

/* Shape, type and size of one tensor; where it lies is for model_source_check(). */
static base_status_t check_tensor(const char *where, const char *name, const model_tensor_t *t,
                                  uint64_t n_rows, uint64_t n_cols, bool vector, base_err_t *err)
{
    uint64_t bytes = 0;
    if (t->type <= MODEL_NONE || t->type >= MODEL_TYPE_COUNT)
        return base_fail(err, BASE_ERR_INPUT, "%s: tensor %s is missing", where, name);
    if (t->n_rows != n_rows || t->n_cols != n_cols)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: tensor %s has %" PRIu64 " rows of %" PRIu64
                         ", the model's keys say %" PRIu64 " rows of %" PRIu64,
                         where, name, t->n_rows, t->n_cols, n_rows, n_cols);
    if (vector && (!is_float(t->type) || t->online))
        return base_fail(err, BASE_ERR_UNSUPPORTED,
                         "%s: vector %s has type %s, readable are F32, F16, BF16", where, name,
                         model_type_info(t->type)->name);
    const model_type_info_t *info = model_type_info(t->type);
    if (n_cols % info->block_elems != 0)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: tensor %s has rows of %" PRIu64
                         " weights, but %s stores blocks of %" PRIu32,
                         where, name, n_cols, info->name, info->block_elems);
    if (!model_tensor_bytes(t->type, n_rows, n_cols, &bytes) || bytes != t->bytes)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: tensor %s claims %" PRIu64 " bytes, its shape "
                         "needs %" PRIu64,
                         where, name, t->bytes, bytes);
    return check_scales(where, name, t, err);
}

/* Positions below 2^24 times 64 stay below what base_sincos() takes. */
static base_status_t check_rope(const model_desc_t *d, const char *where, base_err_t *err)
{
    if (!isfinite(d->rope_base) || d->rope_base < 1 || d->rope_base > 1e12)
        return base_fail(err, BASE_ERR_INPUT, "%s: the RoPE base is %g, want 1 to 1e12", where,
                         d->rope_base);
    if (!isfinite(d->rope_scale) || d->rope_scale < 1e-6 || d->rope_scale > 1e6)
        return base_fail(err, BASE_ERR_INPUT, "%s: the RoPE scale is %g, want 1e-6 to 1e6", where,
                         d->rope_scale);
    if (!isfinite(d->rope_magnitude) || d->rope_magnitude <= 0 || d->rope_magnitude > 1e3)
        return base_fail(err, BASE_ERR_INPUT, "%s: the RoPE magnitude is %g, want 0 to 1000", where,
                         d->rope_magnitude);
    for (uint32_t i = 0; i < d->rope_dims / 2; i++)
        if (!(d->rope_freq[i] >= 0 && d->rope_freq[i] <= 64))
            return base_fail(err, BASE_ERR_INPUT,
                             "%s: RoPE frequency %" PRIu32 " is %g, want 0 to 64", where, i,
                             d->rope_freq[i]);
    return BASE_OK;
}

static base_status_t check_numbers(const model_desc_t *d, const char *where, base_err_t *err)
{
    base_status_t st = BASE_OK;
    const struct {
        const char *what;
        uint64_t    value, max;
    } ranges[] = {
        {"the number of layers", d->n_layers, LIMIT_LAYERS},
        {"the width", d->width, LIMIT_WIDTH},
        {"the head dimension", d->head_dim, LIMIT_HEAD_DIM},
        {"the number of rotated dimensions", d->rope_dims, LIMIT_HEAD_DIM},
        {"the vocabulary", d->n_vocab, LIMIT_VOCAB},
        {"the context", d->context, LIMIT_CONTEXT},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        st = check_range(where, ranges[i].what, ranges[i].value, ranges[i].max, err);
        if (st != BASE_OK) return st;
    }
    if (d->rope_dims % 2 != 0 || d->rope_dims > d->head_dim)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: %" PRIu32 " rotated dimensions of a head of %" PRIu32
                         ": want an even number, at most that",
                         where, d->rope_dims, d->head_dim);
    if (!isfinite(d->norm_eps) || d->norm_eps < 0 || d->norm_eps > 1)
        return base_fail(err, BASE_ERR_INPUT, "%s: the norm epsilon is %g, want 0 to 1", where,
                         (double)d->norm_eps);
    if (!isfinite(d->sub_norm_eps) || d->sub_norm_eps < 0 || d->sub_norm_eps > 1)
        return base_fail(err, BASE_ERR_INPUT, "%s: the sub-norm epsilon is %g, want 0 to 1", where,
                         (double)d->sub_norm_eps);
    st = check_rope(d, where, err);
    if (st != BASE_OK) return st;
    if ((unsigned)d->act > MODEL_ACT_RELU2 || (unsigned)d->rope > MODEL_ROPE_PAIR)
        return base_fail(err, BASE_ERR_INPUT, "%s: activation %d or RoPE kind %d does not exist",
                         where, (int)d->act, (int)d->rope);
    if (memchr(d->arch, 0, sizeof(d->arch)) == NULL || memchr(d->name, 0, sizeof(d->name)) == NULL)
        return base_fail(err, BASE_ERR_INPUT, "%s: a name without an end", where);
    return BASE_OK;
}

static base_status_t check_layer(const model_desc_t *d, uint32_t index, const char *where,
                                 base_err_t *err)
{
    const model_layer_t *l = &d->layers[index];
    base_status_t st = check_range(where, "the number of heads", l->n_heads, LIMIT_HEADS, err);
    if (st != BASE_OK) return st;
    st = check_range(where, "the number of KV heads", l->n_kv_heads, LIMIT_HEADS, err);
    if (st != BASE_OK) return st;
    st = check_range(where, "the feed-forward width", l->ffn, LIMIT_FFN, err);
    if (st != BASE_OK) return st;
    st = check_range(where, "heads times head dimension", (uint64_t)l->n_heads * d->head_dim,
                     LIMIT_FFN, err);
    if (st != BASE_OK) return st;
    if (l->n_heads % l->n_kv_heads != 0)
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: layer %" PRIu32 " has %" PRIu32 " heads and %" PRIu32
                         " KV heads, which do not divide",
                         where, index, l->n_heads, l->n_kv_heads);
    for (int w = 0; w < MODEL_LAYER_TENSOR_COUNT; w++) {
        model_layer_tensor_t which  = (model_layer_tensor_t)w;
        uint64_t             n_rows = 0;
        uint64_t             n_cols = 0;
        char                 name[64];
        bool                 norm = model_layer_tensor_is_norm(which);
        bool                 bias = model_layer_tensor_is_bias(which);
        if (l->t[w].type == MODEL_NONE && /* models without them */
            (bias || model_layer_tensor_is_in_norm(which) || which == MODEL_ATTN_SUB_NORM ||
             which == MODEL_FFN_SUB_NORM))
            continue;
        model_layer_tensor_shape(d, l, which, &n_rows, &n_cols);
        st = check_tensor(where, model_layer_tensor_name(index, which, name, sizeof(name)),
                          &l->t[w], n_rows, n_cols, norm || bias, err);
        if (st != BASE_OK) return st;
    }
    return BASE_OK;
}

base_status_t model_desc_check(const model_desc_t *desc, const char *where, base_err_t *err)
{
    base_status_t st = check_numbers(desc, where, err);
    if (st != BASE_OK) return st;
    base_assert(desc->layers != NULL);
    st = check_tensor(where, "token_embd", &desc->embed, desc->n_vocab, desc->width, false, err);
    if (st != BASE_OK) return st;
    st = check_tensor(where, "output_norm", &desc->out_norm, 1, desc->width, true, err);
    if (st != BASE_OK) return st;
    st = check_tensor(where, "output", &desc->head, desc->n_vocab, desc->width, false, err);
    if (st != BASE_OK) return st;
    if (desc->tied && (desc->head.type != desc->embed.type || desc->head.file != desc->embed.file ||
                       desc->head.offset != desc->embed.offset))
        return base_fail(err, BASE_ERR_INPUT,
                         "%s: the head is said to be the embedding, but lies "
                         "elsewhere",
                         where);
    for (uint32_t i = 0; i < desc->n_layers; i++) {
        st = check_layer(desc, i, where, err);
        if (st != BASE_OK) return st;
    }
    return BASE_OK;
}

uint64_t model_desc_params(const model_desc_t *desc)
{
    uint64_t n = desc->embed.n_rows * desc->embed.n_cols + desc->out_norm.n_cols;
    if (!desc->tied) n += desc->head.n_rows * desc->head.n_cols;
    for (uint32_t i = 0; i < desc->n_layers; i++)
        for (int w = 0; w < MODEL_LAYER_TENSOR_COUNT; w++)
            n += desc->layers[i].t[w].n_rows * desc->layers[i].t[w].n_cols;
    return n;
}

void model_desc_free(model_desc_t *desc)
{
    free(desc->layers);
    desc->layers   = NULL;
    desc->n_layers = 0;
}
