/* model/gguf_model.c: keys and tensors of a GGUF directory become the shape of a model. */
#include "model/gguf_model.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/detmath.h"
#include "base/log.h"
#include "base/text.h"
#include "model/bytes.h"
#include "model/source.h"

enum { NAME_BYTES = 128 };

/* No key says which activation a model wants: the architecture's name decides. "bitnet" is
 * llama.cpp's;
 * the others are Microsoft's, for models with squared ReLU (2B-4T). These rotate
 * halves; llama.cpp's converter reorders q and k of "llama" so that pairs are rotated. */
typedef struct {
    const char  *name;
    model_act_t  act;
    model_rope_t rope;
    bool         sub_norms;
} architecture_t;

static const architecture_t architectures[] = {
    {"bitnet", MODEL_ACT_SILU, MODEL_ROPE_HALF, true},
    {"bitnet-b1.58", MODEL_ACT_RELU2, MODEL_ROPE_HALF, true},
    {"bitnet-25", MODEL_ACT_RELU2, MODEL_ROPE_HALF, true},
    {"llama", MODEL_ACT_SILU, MODEL_ROPE_PAIR, false},
};
static const char *const architecture_list = "bitnet, bitnet-b1.58, bitnet-25, llama";

typedef struct {
    model_gguf_t         *gguf;
    const model_source_t *source;
    model_desc_t         *desc;
    base_err_t           *err;
    const architecture_t *arch; /* NULL: unknown (vocab_only) */
    model_i2s_layout_t    i2s_layout;
    char                  key[NAME_BYTES]; /* of arch_key() */
} reader_t;

/* "<arch>.suffix", in r->key until the next call. */
static const char *arch_key(reader_t *r, const char *suffix)
{
    (void)snprintf(r->key, sizeof(r->key), "%s.%s", r->desc->arch, suffix);
    return r->key;
}

/* ---- names
 * --------------------------------------------------------------------------------------- */

/* Copy for display: cut at a whole UTF-8 character, and harmless. */
static void copy_name(char *out, size_t out_bytes, const char *text, size_t bytes)
{
    if (bytes >= out_bytes) {
        bytes = out_bytes - 1;
        while (bytes > 0 && ((unsigned char)text[bytes] & 0xc0) == 0x80) bytes--;
    }
    memcpy(out, text, bytes);
    out[bytes] = '\0';
    base_text_clean(out, bytes);
}

static base_status_t read_names(reader_t *r, bool any_arch)
{
    model_str_t   arch = {NULL, 0};
    model_str_t   name = {NULL, 0};
    model_desc_t *d    = r->desc;
    base_status_t st   = model_gguf_str(r->gguf, "general.architecture", true, &arch, r->err);
    if (st != BASE_OK) return st;
    copy_name(d->arch, sizeof(d->arch), arch.text, arch.bytes);
    st = model_gguf_str(r->gguf, "general.name", false, &name, r->err);
    if (st != BASE_OK) return st;
    const char *slash = strrchr(r->gguf->path, '/');
    const char *file  = slash == NULL ? r->gguf->path : slash + 1;
    if (name.bytes > 0)
        copy_name(d->name, sizeof(d->name), name.text, name.bytes);
    else
        copy_name(d->name, sizeof(d->name), file, strlen(file));
    for (size_t i = 0; i < sizeof(architectures) / sizeof(architectures[0]); i++) {
        if (!model_str_is(arch, architectures[i].name)) continue;
        r->arch = &architectures[i];
        d->act  = architectures[i].act;
        d->rope = architectures[i].rope;
        return BASE_OK;
    }
    if (any_arch) return BASE_OK;
    return base_fail(r->err, BASE_ERR_UNSUPPORTED,
                     "%s: architecture '%s' is not supported; "
                     "supported are %s",
                     r->gguf->path, d->arch, architecture_list);
}

/* ---- keys
 * ---------------------------------------------------------------------------------------- */

/* With the factors of rope_freqs.weight, where the file has them. */
static base_status_t resolve_rope(reader_t *r, model_rope_scaling_t *s)
{
    static const char name[] = "rope_freqs.weight";
    const uint32_t    n      = r->desc->rope_dims / 2;
    float             divisors[MODEL_ROPE_MAX];

    model_gguf_tensor_t *t = model_gguf_tensor(r->gguf, name);
    if (t == NULL) return model_rope_resolve(r->desc, s, r->gguf->path, r->err);
    t->used = true;
    if (t->type != MODEL_F32 || t->dims[0] != n || t->bytes != 4ull * n)
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: tensor %s has %" PRIu64 " numbers of type %s, want %" PRIu32 " F32",
                         r->gguf->path, name, t->dims[0], t->type_name, n);
    const uint8_t *data = model_source_data(r->source, t->file) + t->offset; /* inside: parsed */
    for (uint32_t i = 0; i < n; i++) divisors[i] = model_load_f32(data + 4 * i);
    s->divisors = divisors;
    return model_rope_resolve(r->desc, s, r->gguf->path, r->err);
}

/* The numbers of YaRN. */
static base_status_t read_yarn(reader_t *r, model_rope_scaling_t *s)
{
    uint32_t      original = r->desc->context;
    double        attn     = 1;
    base_status_t st = model_gguf_u32(r->gguf, arch_key(r, "rope.scaling.original_context_length"),
                                      false, 1, LIMIT_CONTEXT, &original, r->err);
    if (st != BASE_OK) return st;
    s->original_context = (double)original;
    st = model_gguf_f64(r->gguf, arch_key(r, "rope.scaling.yarn_beta_fast"), false, &s->beta_fast,
                        r->err);
    if (st != BASE_OK) return st;
    st = model_gguf_f64(r->gguf, arch_key(r, "rope.scaling.yarn_beta_slow"), false, &s->beta_slow,
                        r->err);
    if (st != BASE_OK) return st;
    st = model_gguf_f64(r->gguf, arch_key(r, "rope.scaling.attn_factor"), false, &attn, r->err);
    if (st != BASE_OK) return st;
    if (!(attn > 0 && attn < 1e3))
        return base_fail(r->err, BASE_ERR_INPUT, "%s: %s is %g: damaged file?", r->gguf->path,
                         r->key, attn);
    if (s->factor > 0) /* llama.cpp multiplies both */
        s->magnitude = attn * (s->factor <= 1 ? 1 : 1 + 0.1 * base_ln(s->factor));
    return BASE_OK;
}

static base_status_t read_rope(reader_t *r)
{
    model_desc_t        *d       = r->desc;
    double               factor  = 0;
    model_str_t          type    = {"linear", 6}; /* llama.cpp's default: a factor alone counts */
    base_status_t        st      = BASE_OK;
    model_rope_scaling_t scaling = {.kind = MODEL_SCALING_NONE};

    d->rope_base = 10000;
    st = model_gguf_f64(r->gguf, arch_key(r, "rope.freq_base"), false, &d->rope_base, r->err);
    if (st != BASE_OK) return st;
    d->rope_dims = d->head_dim;
    st = model_gguf_u32(r->gguf, arch_key(r, "rope.dimension_count"), false, 1, LIMIT_HEAD_DIM,
                        &d->rope_dims, r->err);
    if (st != BASE_OK) return st;
    st =
        model_gguf_f64(r->gguf, arch_key(r, "rope.scale_linear"), false, &factor, r->err); /* old */
    if (st != BASE_OK) return st;
    st = model_gguf_f64(r->gguf, arch_key(r, "rope.scaling.factor"), false, &factor, r->err);
    if (st != BASE_OK) return st;
    st = model_gguf_str(r->gguf, arch_key(r, "rope.scaling.type"), false, &type, r->err);
    if (st != BASE_OK) return st;
    if (model_str_is(type, "linear") && factor != 0) scaling.kind = MODEL_SCALING_LINEAR;
    if (model_str_is(type, "yarn")) scaling.kind = MODEL_SCALING_YARN;
    if (!model_str_is(type, "linear") && !model_str_is(type, "yarn") && !model_str_is(type, "none"))
        return base_fail(r->err, BASE_ERR_UNSUPPORTED,
                         "%s: %s is '%.*s'; supported are none, linear and yarn", r->gguf->path,
                         r->key, type.bytes > 40 ? 40 : (int)type.bytes, type.text);
    scaling.factor = factor == 0 ? 1 : factor;
    if (scaling.kind == MODEL_SCALING_YARN) {
        st = read_yarn(r, &scaling);
        if (st != BASE_OK) return st;
    }
    return resolve_rope(r, &scaling);
}

/* Heads, KV heads and feed-forward widths of all layers; each key is one number or one per layer.
 * */
static base_status_t read_layers(reader_t *r, uint32_t *each)
{
    model_desc_t  *d  = r->desc;
    const uint32_t n  = d->n_layers;
    base_status_t  st = model_gguf_u32_each(r->gguf, arch_key(r, "attention.head_count"), true, 1,
                                            LIMIT_HEADS, n, each, r->err);
    if (st != BASE_OK) return st;
    for (uint32_t i = 0; i < n; i++) d->layers[i].n_heads = each[i];
    st = model_gguf_u32_each(r->gguf, arch_key(r, "attention.head_count_kv"), false, 1, LIMIT_HEADS,
                             n, each, r->err); /* absent: as many as heads */
    if (st != BASE_OK) return st;
    for (uint32_t i = 0; i < n; i++) d->layers[i].n_kv_heads = each[i];
    st = model_gguf_u32_each(r->gguf, arch_key(r, "feed_forward_length"), true, 1, LIMIT_FFN, n,
                             each, r->err);
    if (st != BASE_OK) return st;
    for (uint32_t i = 0; i < n; i++) d->layers[i].ffn = each[i];
    return BASE_OK;
}

static base_status_t read_head_dim(reader_t *r)
{
    model_desc_t  *d     = r->desc;
    const uint32_t heads = d->layers[0].n_heads;
    uint32_t       value = 0;
    base_status_t  st    = model_gguf_u32(r->gguf, arch_key(r, "attention.key_length"), false, 1,
                                          LIMIT_HEAD_DIM, &d->head_dim, r->err);
    if (st != BASE_OK) return st;
    if (d->head_dim == 0) {
        if (d->width % heads != 0 || d->width / heads > LIMIT_HEAD_DIM)
            return base_fail(r->err, BASE_ERR_INPUT,
                             "%s: width %" PRIu32 " and %" PRIu32
                             " heads give no head dimension, and %s is missing",
                             r->gguf->path, d->width, heads, r->key);
        d->head_dim = d->width / heads;
    }
    value = d->head_dim;
    st    = model_gguf_u32(r->gguf, arch_key(r, "attention.value_length"), false, 1, LIMIT_HEAD_DIM,
                           &value, r->err);
    if (st != BASE_OK) return st;
    if (value != d->head_dim)
        return base_fail(r->err, BASE_ERR_UNSUPPORTED,
                         "%s: %s is %" PRIu32 ", keys have %" PRIu32
                         ": unlike heads are not supported",
                         r->gguf->path, r->key, value, d->head_dim);
    return BASE_OK;
}

static base_status_t read_keys(reader_t *r)
{
    model_desc_t *d    = r->desc;
    model_gguf_t *g    = r->gguf;
    double        eps  = 0;
    void         *p    = NULL;
    void         *each = NULL;
    uint32_t      n    = 0;
    base_status_t st   = BASE_OK;

    st = model_gguf_u32(g, arch_key(r, "block_count"), true, 1, LIMIT_LAYERS, &n, r->err);
    if (st != BASE_OK) goto out;
    st = model_gguf_u32(g, arch_key(r, "context_length"), true, 1, LIMIT_CONTEXT, &d->context,
                        r->err);
    if (st != BASE_OK) goto out;
    st =
        model_gguf_u32(g, arch_key(r, "embedding_length"), true, 1, LIMIT_WIDTH, &d->width, r->err);
    if (st != BASE_OK) goto out;
    st = model_gguf_f64(g, arch_key(r, "attention.layer_norm_rms_epsilon"), true, &eps, r->err);
    if (st != BASE_OK) goto out;
    d->norm_eps = d->sub_norm_eps = (float)eps;
    st                            = base_alloc(&p, n, sizeof(*d->layers), g->path, r->err);
    if (st != BASE_OK) goto out;
    d->layers   = p;
    d->n_layers = n;
    st          = base_alloc(&each, n, sizeof(uint32_t), g->path, r->err);
    if (st != BASE_OK) goto out;
    st = read_layers(r, each);
    if (st != BASE_OK) goto out;
    st = read_head_dim(r);
    if (st != BASE_OK) goto out;
    st = read_rope(r);
out:
    free(each);
    return st;
}

/* ---- tensors
 * ------------------------------------------------------------------------------------- */

/* I2_S has one layout for this file, and its scale behind the codes. */
static base_status_t bind_i2s(reader_t *r, const char *name, model_tensor_t *t)
{
    static const model_type_t layouts[] = {[MODEL_I2S_X86]     = MODEL_I2_S,
                                           [MODEL_I2S_ARM]     = MODEL_I2_S_64,
                                           [MODEL_I2S_X86_OLD] = MODEL_I2_S_R4};
    base_assert((unsigned)r->i2s_layout < sizeof(layouts) / sizeof(layouts[0]));
    t->type = layouts[r->i2s_layout];
    t->bytes =
        t->n_rows * t->n_cols / 4; /* the parser has seen that they and the scale are there */
    t->scale = model_load_f32(model_source_data(r->source, t->file) + t->offset + t->bytes);
    if (t->n_cols % model_type_info(t->type)->block_elems != 0 ||
        (t->type == MODEL_I2_S_R4 && t->n_rows % 4 != 0))
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: tensor %s, %" PRIu64 " rows of %" PRIu64
                         ", does not fit this layout of I2_S; another may (option --i2s-layout)",
                         r->gguf->path, name, t->n_rows, t->n_cols);
    if (!isfinite(t->scale) || t->scale < 0)
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: tensor %s has the I2_S scale %g: damaged file?", r->gguf->path, name,
                         (double)t->scale);
    return BASE_OK;
}

/* Bind the tensor of this name; absent: *out is left zero (MODEL_NONE). */
static base_status_t bind_full(reader_t *r, const char *full, model_tensor_t *out)
{
    base_status_t        st = BASE_OK;
    model_gguf_tensor_t *t  = model_gguf_tensor(r->gguf, full);
    if (t == NULL) return BASE_OK;
    t->used = true;
    if (t->type == MODEL_NONE)
        return base_fail(
            r->err, BASE_ERR_UNSUPPORTED,
            "%s: tensor %s has type %s; supported are F32, F16, BF16, Q4_0, Q4_1, Q5_0, "
            "Q5_1, Q8_0, Q2_K to Q6_K, TQ1_0, TQ2_0, I2_S",
            r->gguf->path, full, t->type_name);
    if (t->dims[2] != 1 || t->dims[3] != 1)
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: tensor %s has %" PRIu32 " dimensions, want at most 2", r->gguf->path,
                         full, t->n_dims);
    model_tensor_t tensor = {.type   = t->type,
                             .file   = t->file,
                             .offset = t->offset,
                             .bytes  = t->bytes,
                             .n_rows = t->dims[1],
                             .n_cols = t->dims[0]};
    if (t->type == MODEL_I2_S) st = bind_i2s(r, full, &tensor);
    if (st == BASE_OK) st = model_source_check(r->source, &tensor, full, r->err);
    if (st != BASE_OK) return st;
    *out = tensor;
    return BASE_OK;
}

/* The key trireme.ternary_tensors: F16 tensors whose weights are -s, 0, +s, one s each. Half
 * precision stands in for a ternary type where rows are no multiple of its block; nothing but this
 * key makes a dense tensor ternary. */
static base_status_t mark_ternary(reader_t *r)
{
    static const char       key[] = "trireme.ternary_tensors";
    const model_gguf_key_t *k     = model_gguf_key(r->gguf, key);
    if (k == NULL) return BASE_OK;
    if (!k->is_array || k->type != MODEL_GGUF_STRING || k->n > LIMIT_TENSORS)
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: key %s is no array of names, at most %d: damaged file?",
                         r->gguf->path, key, LIMIT_TENSORS);
    const uint8_t *at = k->data;
    for (uint64_t i = 0; i < k->n; i++) {
        const model_str_t    s = model_gguf_next_str(&at);
        model_gguf_tensor_t *t = NULL;
        char                 name[NAME_BYTES];
        if (s.bytes < sizeof(name) && memchr(s.text, 0, s.bytes) == NULL) {
            memcpy(name, s.text, s.bytes);
            name[s.bytes] = '\0';
            t             = model_gguf_tensor(r->gguf, name);
        }
        copy_name(name, sizeof(name), s.text, s.bytes);
        if (t == NULL)
            return base_fail(r->err, BASE_ERR_INPUT,
                             "%s: key %s names the tensor %s, which is not there", r->gguf->path,
                             key, name);
        t->trits = true;
    }
    return BASE_OK;
}

/* F16 becomes F16_TERN; the first weight that is not 0 tells the scale, and the others must go with
 * it when they are packed. Another program may have stored the tensor anew: then its type
 * counts. */
static base_status_t bind_trits(reader_t *r, const char *name, model_tensor_t *t)
{
    enum { CHUNK = 1024 };
    float w[CHUNK];
    float scale = 0;
    if (t->type != MODEL_F16) return BASE_OK;
    for (uint64_t row = 0; scale == 0 && row < t->n_rows; row++)
        for (uint64_t col = 0; scale == 0 && col < t->n_cols; col += CHUNK) {
            const uint64_t n = t->n_cols - col < CHUNK ? t->n_cols - col : CHUNK;
            model_row_f32(r->source, t, row, col, n, w);
            for (uint64_t i = 0; scale == 0 && i < n; i++) scale = fabsf(w[i]);
        }
    if (!isfinite(scale))
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: tensor %s, ternary by the file's key, holds %g: damaged file?",
                         r->gguf->path, name, (double)scale);
    t->type  = MODEL_F16_TERN;
    t->scale = scale;
    return BASE_OK;
}

/* "<name>.weight", and the factor that llama.cpp may keep beside it as "<name>.scale". */
static base_status_t bind(reader_t *r, const char *name, model_tensor_t *out)
{
    char           full[NAME_BYTES];
    model_tensor_t factor = {.type = MODEL_NONE};
    (void)snprintf(full, sizeof(full), "%s.weight", name);
    base_status_t st = bind_full(r, full, out);
    if (st != BASE_OK || out->n_rows <= 1) return st;
    if (model_gguf_tensor(r->gguf, full)->trits) st = bind_trits(r, full, out);
    if (st != BASE_OK) return st;
    (void)snprintf(full, sizeof(full), "%s.scale", name);
    st = bind_full(r, full, &factor);
    if (st != BASE_OK || factor.type == MODEL_NONE) return st;
    if (factor.type != MODEL_F32 || factor.n_rows != 1 || factor.n_cols != 1)
        return base_fail(
            r->err, BASE_ERR_UNSUPPORTED,
            "%s: tensor %s has %" PRIu64 " x %" PRIu64 " numbers of type %s; supported is one F32",
            r->gguf->path, full, factor.n_rows, factor.n_cols, model_type_info(factor.type)->name);
    model_row_f32(r->source, &factor, 0, 0, 1, &out->out_scale);
    if (isfinite(out->out_scale) && out->out_scale != 0) return BASE_OK;
    return base_fail(r->err, BASE_ERR_INPUT, "%s: tensor %s is %g: damaged file?", r->gguf->path,
                     full, (double)out->out_scale);
}

static base_status_t bind_required(reader_t *r, const char *name, bool of_layer,
                                   model_tensor_t *out)
{
    char full[NAME_BYTES];
    (void)snprintf(full, sizeof(full), "%s.weight", name);
    base_status_t st = of_layer ? bind(r, name, out) : bind_full(r, full, out);
    if (st == BASE_OK && out->type == MODEL_NONE)
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: tensor %s.weight is missing; an incomplete "
                         "conversion, or a file of a split set?",
                         r->gguf->path, name);
    return st;
}

static base_status_t bind_layer(reader_t *r, uint32_t i)
{
    for (int w = 0; w < MODEL_LAYER_TENSOR_COUNT; w++) {
        const model_layer_tensor_t which = (model_layer_tensor_t)w;
        model_tensor_t            *to    = &r->desc->layers[i].t[w];
        base_status_t              st    = BASE_OK;
        char                       name[64];
        if (model_layer_tensor_is_in_norm(which)) continue; /* no file of this format has them */
        model_layer_tensor_name(i, which, name, sizeof(name));
        if (model_layer_tensor_is_bias(which))
            st = bind_full(r, name, to);
        else if (r->arch->sub_norms ||
                 (which != MODEL_ATTN_SUB_NORM && which != MODEL_FFN_SUB_NORM))
            st = bind_required(r, name, true, to);
        if (st != BASE_OK) return st;
    }
    return BASE_OK;
}

static base_status_t bind_all(reader_t *r)
{
    model_desc_t *d  = r->desc;
    base_status_t st = mark_ternary(r);
    if (st != BASE_OK) return st;
    st = bind_required(r, "token_embd", false, &d->embed);
    if (st != BASE_OK) return st;
    st = bind_required(r, "output_norm", false, &d->out_norm);
    if (st != BASE_OK) return st;
    st = bind_full(r, "output.weight", &d->head);
    if (st != BASE_OK) return st;
    d->tied = d->head.type == MODEL_NONE;
    if (d->tied) d->head = d->embed;
    for (uint32_t i = 0; i < d->n_layers; i++) {
        st = bind_layer(r, i);
        if (st != BASE_OK) return st;
    }
    return BASE_OK;
}

static bool begins_with(model_str_t s, const char *begin)
{
    size_t n = strlen(begin);
    return s.bytes >= n && memcmp(s.text, begin, n) == 0;
}

static bool ends_with(model_str_t s, const char *end)
{
    size_t n = strlen(end);
    return s.bytes >= n && memcmp(s.text + s.bytes - n, end, n) == 0;
}

/* Tensors that nobody asked for. Any of a layer would change the result if it were ignored (norms
 * of q and k, layers beyond the count), but for the angles that some old files hold; so would some
 * others. */
static base_status_t check_unused(reader_t *r)
{
    static const struct {
        const char *end, *what;
    } refused[] = {
        {".bias", "biases of this kind"},
        {".scale", "scales of this kind"},
        {"_sub_norm.weight", "sub-norms in this architecture"},
        {"_exps.weight", "experts"},
        {".input_scale", "stored activation scales"},
        {"rope_factors_long.weight", "long-context RoPE factors"},
        {"rope_factors_short.weight", "long-context RoPE factors"},
    };
    const model_gguf_t        *g     = r->gguf;
    const model_gguf_tensor_t *first = NULL;
    uint32_t                   n     = 0;
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        const model_gguf_tensor_t *t = &g->tensors[i];
        if (t->used) continue;
        for (size_t k = 0; k < sizeof(refused) / sizeof(refused[0]); k++)
            if (ends_with(t->name, refused[k].end))
                return base_fail(r->err, BASE_ERR_UNSUPPORTED,
                                 "%s: tensor %.*s: %s are not "
                                 "supported",
                                 g->path, (int)t->name.bytes, t->name.text, refused[k].what);
        if (begins_with(t->name, "blk.") && !ends_with(t->name, ".attn_rot_embd.weight"))
            return base_fail(r->err, BASE_ERR_UNSUPPORTED,
                             "%s: tensor %.*s does not belong to architecture %s with %" PRIu32
                             " layers: a model of another kind?",
                             g->path, (int)t->name.bytes, t->name.text, r->desc->arch,
                             r->desc->n_layers);
        if (first == NULL) first = t;
        n++;
    }
    if (n > 0) {
        char name[NAME_BYTES];
        copy_name(name, sizeof(name), first->name.text, first->name.bytes);
        base_log(BASE_LOG_WARN, "%s: %" PRIu32 " unknown tensor%s ignored, the first is %s",
                 g->path, n, n == 1 ? "" : "s", name);
    }
    return BASE_OK;
}

/* ---- the whole
 * ----------------------------------------------------------------------------------- */

/* What the keys of any architecture say, as far as they say it. */
static base_status_t read_keys_loosely(reader_t *r)
{
    model_desc_t *d  = r->desc;
    base_status_t st = model_gguf_u32(r->gguf, arch_key(r, "context_length"), false, 0,
                                      LIMIT_CONTEXT, &d->context, r->err);
    if (st != BASE_OK) return st;
    st = model_gguf_u32(r->gguf, arch_key(r, "embedding_length"), false, 0, LIMIT_WIDTH, &d->width,
                        r->err);
    if (st != BASE_OK) return st;
    return model_gguf_u32(r->gguf, arch_key(r, "vocab_size"), false, 0, LIMIT_VOCAB, &d->n_vocab,
                          r->err);
}

base_status_t model_gguf_desc(model_gguf_t *gguf, const model_source_t *source,
                              const model_open_options_t *options, model_desc_t *desc,
                              base_err_t *err)
{
    reader_t      r     = {.gguf       = gguf,
                           .source     = source,
                           .desc       = desc,
                           .err        = err,
                           .i2s_layout = options->i2s_layout};
    uint32_t      vocab = 0;
    base_status_t st    = read_names(&r, options->vocab_only);
    if (st != BASE_OK) goto out;
    if (options->vocab_only) {
        st = read_keys_loosely(&r);
        goto out;
    }
    if (gguf->n_tensors == 0) {
        st = base_fail(err, BASE_ERR_INPUT, "%s: holds a vocabulary but no weights", gguf->path);
        goto out;
    }
    st = read_keys(&r);
    if (st != BASE_OK) goto out;
    st = bind_all(&r);
    if (st != BASE_OK) goto out;
    desc->n_vocab = (uint32_t)desc->embed.n_rows; /* at most LIMIT_VOCAB: model_source_check() */
    vocab         = desc->n_vocab;
    st = model_gguf_u32(gguf, arch_key(&r, "vocab_size"), false, 1, LIMIT_VOCAB, &vocab, err);
    if (st != BASE_OK) goto out;
    if (vocab != desc->n_vocab) {
        st = base_fail(err, BASE_ERR_INPUT,
                       "%s: %s is %" PRIu32 ", the embedding has %" PRIu32 " rows", gguf->path,
                       r.key, vocab, desc->n_vocab);
        goto out;
    }
    st = model_desc_check(desc, gguf->path, err);
    if (st != BASE_OK) goto out;
    st = check_unused(&r);
    if (st != BASE_OK) goto out;
    st = model_i2s_check(source, desc, r.i2s_layout, gguf->path, err);
    if (st != BASE_OK) goto out;
    desc->n_params = model_desc_params(desc);
out:
    if (st != BASE_OK) model_desc_free(desc);
    return st;
}
