/* model/vocab_gguf.c: the tokenizer tables of a GGUF file. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "model/bytes.h"
#include "model/gguf_model.h"

typedef struct {
    const model_gguf_t *gguf;
    model_vocab_t      *vocab;
    base_err_t         *err;
} reader_t;

/* An array of the given element type, or NULL if absent (an error if required). */
static base_status_t array_of(reader_t *r, const char *name, model_gguf_value_t type, bool required,
                              uint64_t limit, const model_gguf_key_t **out)
{
    const model_gguf_key_t *k = model_gguf_key(r->gguf, name);
    *out                      = NULL;
    if (k == NULL && !required) return BASE_OK;
    if (k == NULL)
        return base_fail(r->err, BASE_ERR_INPUT, "%s: key %s is missing; the tokenizer needs it",
                         r->gguf->path, name);
    if (!k->is_array || k->type != type)
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: key %s is %s%s, want an array of %s: damaged "
                         "file?",
                         r->gguf->path, name, k->is_array ? "an array of " : "of type ",
                         model_gguf_type_name(k->type), model_gguf_type_name(type));
    if (k->n > limit)
        return base_fail(r->err, BASE_ERR_LIMIT,
                         "%s: key %s has %" PRIu64 " elements, limit %" PRIu64, r->gguf->path, name,
                         k->n, limit);
    *out = k;
    return BASE_OK;
}

/* The strings of an array, none longer than a token may be. */
static base_status_t read_strings(reader_t *r, const char *name, const model_gguf_key_t *k,
                                  model_str_t **out)
{
    void         *p  = NULL;
    base_status_t st = base_alloc(&p, k->n, sizeof(model_str_t), name, r->err);
    if (st != BASE_OK) return st;
    model_str_t   *list = p;
    const uint8_t *at   = k->data;
    *out                = list; /* owned by the vocab from here on */
    for (uint64_t i = 0; i < k->n; i++) {
        list[i] = model_gguf_next_str(&at);
        if (list[i].bytes > LIMIT_TOKEN_BYTES)
            return base_fail(r->err, BASE_ERR_LIMIT,
                             "%s: %s: element %" PRIu64 " has %" PRIu32 " bytes, limit %d",
                             r->gguf->path, name, i, list[i].bytes, LIMIT_TOKEN_BYTES);
    }
    return BASE_OK;
}

static base_status_t fail_length(reader_t *r, const char *name, uint64_t n)
{
    return base_fail(r->err, BASE_ERR_INPUT,
                     "%s: %s has %" PRIu64 " elements for %" PRIu32 " tokens: damaged file?",
                     r->gguf->path, name, n, r->vocab->n_tokens);
}

static base_status_t read_tokens(reader_t *r)
{
    static const char *const name = "tokenizer.ggml.tokens";
    const model_gguf_key_t  *k    = NULL;
    base_status_t            st   = array_of(r, name, MODEL_GGUF_STRING, true, LIMIT_VOCAB, &k);
    if (st != BASE_OK) return st;
    if (k->n == 0)
        return base_fail(r->err, BASE_ERR_INPUT, "%s: %s is empty: damaged file?", r->gguf->path,
                         name);
    r->vocab->n_tokens = (uint32_t)k->n;
    return read_strings(r, name, k, &r->vocab->tokens);
}

static base_status_t read_scores(reader_t *r)
{
    static const char *const name = "tokenizer.ggml.scores";
    const model_gguf_key_t  *k    = NULL;
    void                    *p    = NULL;
    bool                     spm  = r->vocab->kind == MODEL_VOCAB_SPM;
    base_status_t            st   = array_of(r, name, MODEL_GGUF_F32, spm, LIMIT_VOCAB, &k);
    if (st != BASE_OK || k == NULL) return st;
    if (k->n != r->vocab->n_tokens) return fail_length(r, name, k->n);
    st = base_alloc(&p, k->n, sizeof(float), name, r->err);
    if (st != BASE_OK) return st;
    r->vocab->scores = p;
    for (uint64_t i = 0; i < k->n; i++) {
        float score = model_load_f32(k->data + 4 * i);
        if (isnan(score))
            return base_fail(r->err, BASE_ERR_INPUT,
                             "%s: %s: element %" PRIu64 " is no number: damaged file?",
                             r->gguf->path, name, i);
        r->vocab->scores[i] = score;
    }
    return BASE_OK;
}

static base_status_t read_types(reader_t *r)
{
    static const char *const name = "tokenizer.ggml.token_type";
    const model_gguf_key_t  *k    = model_gguf_key(r->gguf, name);
    void                    *p    = NULL;
    base_status_t            st   = BASE_OK;
    st = array_of(r, name, k != NULL && k->type == MODEL_GGUF_U32 ? MODEL_GGUF_U32 : MODEL_GGUF_I32,
                  false, LIMIT_VOCAB, &k);
    if (st != BASE_OK) return st;
    if (k != NULL && k->n != r->vocab->n_tokens) return fail_length(r, name, k->n);
    st = base_alloc(&p, r->vocab->n_tokens, 1, name, r->err);
    if (st != BASE_OK) return st;
    r->vocab->types = p;
    for (uint64_t i = 0; i < r->vocab->n_tokens; i++) {
        uint32_t type = k == NULL ? MODEL_TOKEN_NORMAL : model_load_u32(k->data + 4 * i);
        if (type == 0) type = MODEL_TOKEN_NORMAL; /* "undefined" */
        if (type > MODEL_TOKEN_BYTE)
            return base_fail(r->err, BASE_ERR_INPUT,
                             "%s: %s: element %" PRIu64 " is %" PRIu32
                             ", want 1 to %d: damaged file?",
                             r->gguf->path, name, i, type, MODEL_TOKEN_BYTE);
        r->vocab->types[i] = (uint8_t)type;
    }
    return BASE_OK;
}

static base_status_t read_merges(reader_t *r)
{
    static const char *const name = "tokenizer.ggml.merges";
    const model_gguf_key_t  *k    = NULL;
    bool                     bpe  = r->vocab->kind == MODEL_VOCAB_BPE;
    base_status_t            st   = array_of(r, name, MODEL_GGUF_STRING, bpe, LIMIT_MERGES, &k);
    if (st != BASE_OK || k == NULL) return st;
    st = read_strings(r, name, k, &r->vocab->merges);
    if (st != BASE_OK) return st;
    r->vocab->n_merges = (uint32_t)k->n;
    for (uint64_t i = 0; i < k->n; i++) {
        model_str_t m = r->vocab->merges[i];
        if (m.bytes < 3 || memchr(m.text + 1, ' ', m.bytes - 2) == NULL)
            return base_fail(r->err, BASE_ERR_INPUT,
                             "%s: %s: element %" PRIu64
                             " is no pair with a space between: damaged file?",
                             r->gguf->path, name, i);
    }
    return BASE_OK;
}

/* A token id; absent: stays as it is, clipped to "none" if the vocabulary is too small for the
 * default. */
static base_status_t read_id(reader_t *r, const char *name, int32_t *out)
{
    const model_gguf_key_t *k = model_gguf_key(r->gguf, name);
    int64_t                 v = 0;
    if (k == NULL) {
        if (*out >= 0 && (uint32_t)*out >= r->vocab->n_tokens) *out = -1;
        return BASE_OK;
    }
    if (k->is_array || !model_gguf_int_at(k, 0, &v))
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: key %s is %s%s, want an integer: damaged file?", r->gguf->path, name,
                         k->is_array ? "an array of " : "of type ", model_gguf_type_name(k->type));
    if (v == -1 || v == UINT32_MAX) { /* how some converters write "none" */
        *out = -1;
        return BASE_OK;
    }
    if (v < 0 || v >= (int64_t)r->vocab->n_tokens)
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: %s is %" PRId64 ", there are %" PRIu32 " tokens: damaged file?",
                         r->gguf->path, name, v, r->vocab->n_tokens);
    *out = (int32_t)v;
    return BASE_OK;
}

static base_status_t read_ids(reader_t *r)
{
    model_vocab_t *v   = r->vocab;
    const bool     spm = v->kind == MODEL_VOCAB_SPM;
    v->bos             = spm ? 1 : -1; /* SentencePiece's own defaults */
    v->eos             = spm ? 2 : -1;
    v->unk             = spm ? 0 : -1;
    v->eot             = -1;
    v->pad             = -1;
    const struct {
        const char *name;
        int32_t    *id;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", &v->bos},     {"tokenizer.ggml.eos_token_id", &v->eos},
        {"tokenizer.ggml.eot_token_id", &v->eot},     {"tokenizer.ggml.unknown_token_id", &v->unk},
        {"tokenizer.ggml.padding_token_id", &v->pad},
    };
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        base_status_t st = read_id(r, ids[i].name, ids[i].id);
        if (st != BASE_OK) return st;
    }
    if (!spm) v->unk = -1; /* the special token of that name; byte-level text never becomes it */
    return BASE_OK;
}

const char *model_normal_name(model_normal_t form)
{
    static const char *const names[] = {"", "NFC", "NFD", "NFKC", "NFKD"};

    base_assert((size_t)form < sizeof(names) / sizeof(names[0]));
    return names[form];
}

/* Our own key, `trireme convert` writes it: GGUF has none for this, and llama.cpp normalises
 * nothing. */
static base_status_t read_normal(reader_t *r)
{
    static const char *const key  = "trireme.tokenizer.normalizer";
    model_str_t              name = {"", 0};
    base_status_t            st   = model_gguf_str(r->gguf, key, false, &name, r->err);

    if (st != BASE_OK || name.bytes == 0) return st;
    for (model_normal_t f = MODEL_NORMAL_NFC; f <= MODEL_NORMAL_NFKD; f++)
        if (model_str_is(name, model_normal_name(f))) {
            r->vocab->normal = f;
            return BASE_OK;
        }
    return base_fail(r->err, BASE_ERR_UNSUPPORTED,
                     "%s: %s is '%.*s'; supported are NFC, NFD, NFKC and NFKD", r->gguf->path, key,
                     name.bytes > 40 ? 40 : (int)name.bytes, name.text);
}

static base_status_t read_flags(reader_t *r)
{
    static const char *const llama3[] = {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon_e"};
    model_vocab_t           *v        = r->vocab;
    base_status_t            st       = BASE_OK;

    st = model_gguf_str(r->gguf, "tokenizer.ggml.pre", false, &v->pre, r->err);
    if (st != BASE_OK) return st;
    v->add_bos          = v->kind == MODEL_VOCAB_SPM;
    v->add_space_prefix = v->kind == MODEL_VOCAB_SPM;
    for (size_t i = 0; i < sizeof(llama3) / sizeof(llama3[0]); i++)
        if (v->kind == MODEL_VOCAB_BPE && model_str_is(v->pre, llama3[i])) v->add_bos = true;
    st = model_gguf_bool(r->gguf, "tokenizer.ggml.add_bos_token", &v->add_bos, r->err);
    if (st != BASE_OK) return st;
    st = model_gguf_bool(r->gguf, "tokenizer.ggml.add_eos_token", &v->add_eos, r->err);
    if (st != BASE_OK) return st;
    st = model_gguf_bool(r->gguf, "tokenizer.ggml.add_space_prefix", &v->add_space_prefix, r->err);
    if (st != BASE_OK) return st;
    st = model_gguf_str(r->gguf, "tokenizer.chat_template", false, &v->chat_template, r->err);
    return st == BASE_OK ? read_normal(r) : st;
}

base_status_t model_gguf_vocab(const model_gguf_t *gguf, model_vocab_t *vocab, base_err_t *err)
{
    reader_t      r     = {gguf, vocab, err};
    model_str_t   model = {"", 0};
    base_status_t st    = model_gguf_str(gguf, "tokenizer.ggml.model", false, &model, err);
    vocab->bos = vocab->eos = vocab->eot = vocab->unk = vocab->pad = -1;
    if (st != BASE_OK) goto out;
    vocab->kind = MODEL_VOCAB_NONE;
    if (model.bytes == 0 || model_str_is(model, "none")) goto out;
    if (model_str_is(model, "llama")) {
        vocab->kind = MODEL_VOCAB_SPM;
    } else if (model_str_is(model, "gpt2")) {
        vocab->kind = MODEL_VOCAB_BPE;
    } else {
        st = base_fail(err, BASE_ERR_UNSUPPORTED,
                       "%s: tokenizer '%.*s' is not supported; supported "
                       "are llama (SentencePiece) and gpt2 (byte-level BPE)",
                       gguf->path, model.bytes > 40 ? 40 : (int)model.bytes, model.text);
        goto out;
    }
    st = read_tokens(&r);
    if (st == BASE_OK) st = read_scores(&r);
    if (st == BASE_OK) st = read_types(&r);
    if (st == BASE_OK) st = read_merges(&r);
    if (st == BASE_OK) st = read_ids(&r);
    if (st == BASE_OK) st = read_flags(&r);
out:
    if (st != BASE_OK) model_vocab_free(vocab);
    return st;
}

void model_vocab_free(model_vocab_t *vocab)
{
    free(vocab->tokens);
    free(vocab->scores);
    free(vocab->types);
    free(vocab->normalized);
    free(vocab->merges);
    free(vocab->owned);
    memset(vocab, 0, sizeof(*vocab));
}
