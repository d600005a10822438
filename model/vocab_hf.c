/* model/vocab_hf.c: the tokenizer tables of a Hugging Face directory.
 *
 * tokenizer.json becomes what a GGUF of the same model would hold: byte-level BPE as kind BPE, BPE
 * with byte fallback (SentencePiece's) as kind SPM, whose scores follow the ranks of the merges.
 * What is not recognised is refused by name: tokens would be wrong in silence. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "model/gguf_model.h"
#include "model/hf.h"
#include "model/source.h"

#define SPM_SPACE       "\xe2\x96\x81" /* U+2581 */
#define MORE_FILE       "tokenizer_config.json"
#define GENERATION_FILE "generation_config.json"

enum { HOLE_BYTES = 24, MERGE_BYTES = 2 * LIMIT_TOKEN_BYTES + 1 };

typedef struct {
    const char    *dir;
    const char    *path;       /* of tokenizer.json, for texts */
    const json_t  *root;       /* tokenizer.json */
    const json_t  *model;      /* its "model" */
    const json_t  *more;       /* tokenizer_config.json, or NULL; the next two likewise */
    const json_t  *config;     /* config.json */
    const json_t  *generation; /* generation_config.json */
    model_str_t    jinja;      /* chat_template.jinja; empty if absent */
    model_vocab_t *v;
    char          *at, *end; /* where the next text goes, in v->owned */
    base_err_t    *err;
} reader_t;

static base_status_t fail(const reader_t *r, const char *what)
{
    return base_fail(r->err, BASE_ERR_INPUT, "%s: %s: damaged file?", r->path, what);
}

static base_status_t refuse(const reader_t *r, const char *what, const json_t *value)
{
    char         *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    base_status_t st   = base_fail(r->err, BASE_ERR_UNSUPPORTED, "%s: %s is not supported: %.160s",
                                   r->path, what, text == NULL ? "odd" : text);
    free(text);
    return st;
}

/* The same of a file beside it. */
static base_status_t refuse_beside(const reader_t *r, const char *file, const char *key,
                                   const json_t *value, const char *want)
{
    char         *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    base_status_t st =
        base_fail(r->err, BASE_ERR_INPUT, "%s/%s: '%s' is %.80s, want %s: damaged file?", r->dir,
                  file, key, text == NULL ? "odd" : text, want);
    free(text);
    return st;
}

static bool has_type(const json_t *object, const char *type)
{
    return model_json_is(json_object_get(object, "type"), type);
}

/* ---- texts */

static model_str_t keep(reader_t *r, const char *text, size_t n)
{
    const model_str_t str = {r->at, (uint32_t)n};
    base_assert(n <= (size_t)(r->end - r->at) && n <= UINT32_MAX);
    if (n > 0) memcpy(r->at, text, n);
    r->at += n;
    return str;
}

static size_t text_bytes(const json_t *value)
{
    return json_is_string(value) ? json_string_length(value) : 0;
}

/* A template as it is: a string, or the one called default of a list. */
static const json_t *find_template(const reader_t *r)
{
    const json_t *value = model_json_get(r->more, "chat_template");
    const json_t *entry = NULL;
    size_t        i     = 0;
    if (json_is_string(value)) return value;
    json_array_foreach(value, i, entry)
    {
        if (model_json_is(json_object_get(entry, "name"), "default"))
            return json_object_get(entry, "template");
    }
    return NULL;
}

static base_status_t check_template(const reader_t *r)
{
    const json_t *value = model_json_get(r->more, "chat_template");
    const json_t *entry = NULL;
    size_t        i     = 0;
    bool          sane  = value == NULL || json_is_string(value) || json_is_array(value);
    json_array_foreach(value, i, entry)
    {
        sane = sane && json_is_string(json_object_get(entry, "name")) &&
               json_is_string(json_object_get(entry, "template"));
    }
    if (sane) return BASE_OK;
    return refuse_beside(r, MORE_FILE, "chat_template", value, "a text, or a list of named texts");
}

/* Room for all that keep() will be asked for. */
static base_status_t reserve(reader_t *r, uint32_t n_tokens)
{
    const json_t *merges = json_object_get(r->model, "merges");
    const json_t *added  = json_object_get(r->root, "added_tokens");
    json_t       *vocab  = json_object_get(r->model, "vocab");
    json_t       *value  = NULL;
    const char   *key    = NULL;
    size_t        i      = 0;
    size_t        n      = text_bytes(find_template(r)) + r->jinja.bytes;
    n += (size_t)n_tokens * HOLE_BYTES;
    json_object_foreach(vocab, key, value)
    {
        n += strlen(key);
    }
    json_array_foreach(added, i, value)
    {
        n += text_bytes(json_object_get(value, "content"));
    }
    json_array_foreach(merges, i, value)
    {
        n += text_bytes(value) + 1;
        n += text_bytes(json_array_get(value, 0)) + text_bytes(json_array_get(value, 1));
    }
    base_status_t st = base_alloc((void **)&r->v->owned, n, 1, "tokenizer", r->err);
    r->at            = r->v->owned;
    r->end           = r->at == NULL ? NULL : r->at + n;
    return st;
}

/* ---- tokens */

static base_status_t read_id(const reader_t *r, const json_t *value, uint32_t *id)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return fail(r, "the id of a token is no number from 0 up");
    if (json_integer_value(value) >= LIMIT_VOCAB)
        return base_fail(r->err, BASE_ERR_LIMIT, "%s: a token has the id %lld, limit %d", r->path,
                         (long long)json_integer_value(value), LIMIT_VOCAB - 1);
    *id = (uint32_t)json_integer_value(value);
    return BASE_OK;
}

/* The highest id of both lists, plus 1. */
static base_status_t count_tokens(const reader_t *r, uint32_t *n)
{
    json_t       *vocab = json_object_get(r->model, "vocab");
    const json_t *added = json_object_get(r->root, "added_tokens");
    json_t       *value = NULL;
    const char   *key   = NULL;
    size_t        i     = 0;
    uint32_t      id    = 0;
    *n                  = 0;
    if (!json_is_object(vocab)) return fail(r, "'model.vocab' is no object");
    if (added != NULL && !json_is_array(added)) return fail(r, "'added_tokens' is no array");
    json_object_foreach(vocab, key, value)
    {
        if (strlen(key) > LIMIT_TOKEN_BYTES) return fail(r, "a token is too long");
        base_status_t st = read_id(r, value, &id);
        if (st != BASE_OK) return st;
        if (id >= *n) *n = id + 1;
    }
    json_array_foreach(added, i, value)
    {
        const json_t *content = json_object_get(value, "content");
        if (!json_is_string(content) || text_bytes(content) > LIMIT_TOKEN_BYTES)
            return fail(r, "the 'content' of an added token is no text of a sane length");
        base_status_t st = read_id(r, json_object_get(value, "id"), &id);
        if (st != BASE_OK) return st;
        if (id >= *n) *n = id + 1;
    }
    return *n == 0 ? fail(r, "no tokens") : BASE_OK;
}

static bool is_byte_token(const char *text)
{
    return strlen(text) == 6 && strncmp(text, "<0x", 3) == 0 && text[5] == '>' &&
           strspn(text + 3, "0123456789ABCDEFabcdef") == 2;
}

static base_status_t read_tokens(reader_t *r, uint32_t n)
{
    model_vocab_t *v     = r->v;
    json_t        *vocab = json_object_get(r->model, "vocab");
    const json_t  *unk   = model_json_get(r->model, "unk_token");
    json_t        *value = NULL;
    const char    *key   = NULL;
    base_status_t  st    = base_alloc((void **)&v->tokens, n, sizeof(*v->tokens), "tokens", r->err);
    if (st == BASE_OK) st = base_alloc((void **)&v->types, n, 1, "tokens", r->err);
    if (st != BASE_OK) return st;
    v->n_tokens = n;
    json_object_foreach(vocab, key, value)
    {
        const uint32_t id = (uint32_t)json_integer_value(value); /* checked by count_tokens() */
        if (v->types[id] != 0) return fail(r, "two tokens of the same id in 'model.vocab'");
        v->tokens[id] = keep(r, key, strlen(key));
        v->types[id]  = MODEL_TOKEN_NORMAL;
        if (v->kind == MODEL_VOCAB_SPM && is_byte_token(key)) v->types[id] = MODEL_TOKEN_BYTE;
        if (model_json_is(unk, key)) {
            v->unk = (int32_t)id;
            if (v->kind == MODEL_VOCAB_SPM) v->types[id] = MODEL_TOKEN_UNKNOWN;
        }
    }
    return BASE_OK;
}

/* Flags of the added tokens that are looked for in the normalised text, if there are such. (Kind
 * SPM looks for all of them in the text as it is: its normalizer also moves spaces.) */
static base_status_t reserve_normalized(reader_t *r)
{
    const json_t *entry  = NULL;
    size_t        i      = 0;
    bool          wanted = false;
    if (r->v->kind != MODEL_VOCAB_BPE || r->v->normal == MODEL_NORMAL_NONE) return BASE_OK;
    json_array_foreach(json_object_get(r->root, "added_tokens"), i, entry)
    {
        wanted = wanted || json_is_true(json_object_get(entry, "normalized"));
    }
    return wanted ? base_alloc((void **)&r->v->normalized, r->v->n_tokens, 1, "tokens", r->err)
                  : BASE_OK;
}

static base_status_t read_added(reader_t *r)
{
    model_vocab_t *v     = r->v;
    const json_t  *entry = NULL;
    size_t         i     = 0;
    base_status_t  st    = reserve_normalized(r);
    if (st != BASE_OK) return st;
    json_array_foreach(json_object_get(r->root, "added_tokens"), i, entry)
    {
        const uint32_t id      = (uint32_t)json_integer_value(json_object_get(entry, "id"));
        const json_t  *content = json_object_get(entry, "content");
        const char    *text    = json_string_value(content);
        const uint8_t  was     = v->types[id];
        bool           special = false;
        bool           word    = false;

        st = model_json_bool(entry, "special", r->path, &special, r->err);
        if (st == BASE_OK) st = model_json_bool(entry, "single_word", r->path, &word, r->err);
        if (st != BASE_OK) return st;
        if (word) return refuse(r, "an added token with 'single_word'", entry);
        if (was == MODEL_TOKEN_CONTROL || was == MODEL_TOKEN_USER_DEFINED)
            return fail(r, "two tokens of the same id in 'added_tokens'");
        v->tokens[id] = keep(r, text, text_bytes(content));
        if (was != MODEL_TOKEN_UNKNOWN && was != MODEL_TOKEN_BYTE)
            v->types[id] = special ? MODEL_TOKEN_CONTROL : MODEL_TOKEN_USER_DEFINED;
        if (v->normalized != NULL) {
            st = model_json_bool(entry, "normalized", r->path, &word, r->err);
            if (st != BASE_OK) return st;
            v->normalized[id] = word;
        }
    }
    for (uint32_t id = 0; id < v->n_tokens; id++) { /* ids that nobody has */
        char text[HOLE_BYTES];
        if (v->types[id] != 0) continue;
        const int n   = snprintf(text, sizeof(text), "[PAD%" PRIu32 "]", id);
        v->tokens[id] = keep(r, text, (size_t)n);
        v->types[id]  = MODEL_TOKEN_UNUSED;
    }
    return BASE_OK;
}

/* The id of a text, -1 if there is none; added tokens go before those of the model. */
static int32_t find_id(const reader_t *r, const json_t *text)
{
    const json_t *entry = NULL;
    size_t        i     = 0;
    if (json_is_object(text)) text = json_object_get(text, "content");
    if (!json_is_string(text)) return -1;
    json_array_foreach(json_object_get(r->root, "added_tokens"), i, entry)
    {
        if (json_equal(json_object_get(entry, "content"), text))
            return (int32_t)json_integer_value(json_object_get(entry, "id"));
    }
    const json_t *id = json_object_get(json_object_get(r->model, "vocab"), json_string_value(text));
    return json_is_integer(id) ? (int32_t)json_integer_value(id) : -1;
}

/* ---- merges */

/* Are both sides, and what they make, tokens? joined: room for a merge. */
static base_status_t check_merge(const reader_t *r, model_str_t merge, char *joined)
{
    const json_t *vocab = json_object_get(r->model, "vocab");
    const char   *space = memchr(merge.text, ' ', merge.bytes);
    if (merge.bytes > MERGE_BYTES) return fail(r, "a merge in 'model.merges' is too long");
    if (space == NULL || memchr(merge.text, '\0', merge.bytes) != NULL)
        return fail(r, "a merge in 'model.merges' is no pair with a space between");
    memcpy(joined, merge.text, merge.bytes);
    joined[merge.bytes] = '\0';
    char *right         = joined + (space - merge.text);
    *right++            = '\0';
    bool known = json_object_get(vocab, joined) != NULL && json_object_get(vocab, right) != NULL;
    memmove(right - 1, right, strlen(right) + 1);
    known = known && json_object_get(vocab, joined) != NULL;
    if (known) return BASE_OK;
    return base_fail(r->err, BASE_ERR_INPUT,
                     "%s: the merge '%.*s' in 'model.merges' is of texts that are not in "
                     "'model.vocab': damaged file?",
                     r->path, merge.bytes > 80 ? 80 : (int)merge.bytes, merge.text);
}

/* "left right", or a pair of strings. */
static base_status_t read_merge(reader_t *r, const json_t *merge, char *joined, model_str_t *out)
{
    const char *text = json_string_value(merge);
    if (text != NULL) {
        *out = keep(r, text, text_bytes(merge));
        return check_merge(r, *out, joined);
    }
    const json_t *left  = json_array_get(merge, 0);
    const json_t *right = json_array_get(merge, 1);
    if (json_array_size(merge) != 2 || text_bytes(left) == 0 || text_bytes(right) == 0)
        return fail(r, "a merge in 'model.merges' is no pair of texts");
    const char *start = r->at;
    (void)keep(r, json_string_value(left), text_bytes(left));
    (void)keep(r, " ", 1);
    (void)keep(r, json_string_value(right), text_bytes(right));
    *out = (model_str_t){start, (uint32_t)(r->at - start)};
    return check_merge(r, *out, joined);
}

static base_status_t read_merges(reader_t *r)
{
    model_vocab_t *v      = r->v;
    const json_t  *merges = json_object_get(r->model, "merges");
    const size_t   n      = json_array_size(merges);
    char          *joined = NULL;
    if (!json_is_array(merges)) return fail(r, "'model.merges' is no array");
    if (n > LIMIT_MERGES)
        return base_fail(r->err, BASE_ERR_LIMIT, "%s: %zu merges, limit %d", r->path, n,
                         LIMIT_MERGES);
    base_status_t st = base_alloc((void **)&v->merges, n, sizeof(*v->merges), "merges", r->err);
    if (st == BASE_OK) st = base_alloc((void **)&joined, MERGE_BYTES + 1, 1, "merges", r->err);
    for (size_t i = 0; st == BASE_OK && i < n; i++)
        st = read_merge(r, json_array_get(merges, i), joined, &v->merges[i]);
    if (st == BASE_OK) v->n_merges = (uint32_t)n;
    free(joined);
    return st;
}

/* The earlier a token is first made by a merge, the higher its score: SentencePiece's own scores of
 * such models. Tokens that no merge makes are never the result of one, so theirs does not matter.
 * */
static base_status_t score_merges(reader_t *r)
{
    model_vocab_t *v      = r->v;
    const json_t  *vocab  = json_object_get(r->model, "vocab");
    char          *joined = NULL;
    base_status_t  st =
        base_alloc((void **)&v->scores, v->n_tokens, sizeof(float), "scores", r->err);
    if (st == BASE_OK) st = base_alloc((void **)&joined, MERGE_BYTES + 1, 1, "scores", r->err);
    if (st != BASE_OK) return st;
    for (uint32_t i = 0; i < v->n_tokens; i++) v->scores[i] = -(float)v->n_merges - 1;
    for (uint32_t i = 0; i < v->n_merges; i++) {
        const model_str_t m     = v->merges[i];
        const char       *space = memchr(m.text, ' ', m.bytes);
        const size_t      left  = (size_t)(space - m.text);
        memcpy(joined, m.text, left);
        memcpy(joined + left, space + 1, m.bytes - left - 1);
        joined[m.bytes - 1] = '\0';
        const json_t *id    = json_object_get(vocab, joined);
        float        *score = json_is_integer(id) ? &v->scores[json_integer_value(id)] : NULL;
        if (score != NULL && *score == -(float)v->n_merges - 1) *score = -(float)i;
    }
    free(joined);
    free(v->merges); /* kind SPM goes by scores */
    v->merges   = NULL;
    v->n_merges = 0;
    return BASE_OK;
}

/* ---- kind and flags */

/* One more of a chain of normalisation forms. K once is K for good, the last one says whether
 * characters are composed or taken apart: NFC of NFKD is NFKC. False: it is no form. */
static bool take_form(reader_t *r, const json_t *step)
{
    const model_normal_t had = r->v->normal;
    for (model_normal_t f = MODEL_NORMAL_NFC; f <= MODEL_NORMAL_NFKD; f++) {
        if (!has_type(step, model_normal_name(f))) continue;
        r->v->normal = f;
        if (had == MODEL_NORMAL_NFKC || had == MODEL_NORMAL_NFKD)
            r->v->normal = f == MODEL_NORMAL_NFC || f == MODEL_NORMAL_NFKC ? MODEL_NORMAL_NFKC
                                                                           : MODEL_NORMAL_NFKD;
        return true;
    }
    return false;
}

static base_status_t refuse_normalizer(const reader_t *r, const json_t *step)
{
    const json_t *type = json_object_get(step, "type");
    char          what[80];
    (void)snprintf(what, sizeof(what), "the normalizer '%.24s' (NFC, NFD, NFKC, NFKD are)",
                   json_is_string(type) ? json_string_value(type) : "of no type");
    return refuse(r, what, step);
}

/* A step of SentencePiece's normalizer: a form, then U+2581 for spaces, and one before the text. */
static base_status_t read_spm_step(reader_t *r, const json_t *step, bool *spaced)
{
    if (!*spaced && take_form(r, step)) return BASE_OK;
    *spaced = true;
    if (has_type(step, "Prepend") && model_json_is(json_object_get(step, "prepend"), SPM_SPACE)) {
        r->v->add_space_prefix = true;
        return BASE_OK;
    }
    if (has_type(step, "Replace") && model_json_is(json_object_get(step, "content"), SPM_SPACE) &&
        model_json_is(json_object_get(json_object_get(step, "pattern"), "String"), " "))
        return BASE_OK;
    return refuse_normalizer(r, step);
}

/* SentencePiece's spaces: "\u2581" for " ", one of them before the text or not. */
static base_status_t read_spaces(reader_t *r)
{
    const json_t *pre      = model_json_get(r->root, "pre_tokenizer");
    const json_t *normal   = model_json_get(r->root, "normalizer");
    const json_t *list     = json_object_get(normal, "normalizers");
    const json_t *step     = NULL;
    size_t        i        = 0;
    bool          spaced   = false;
    r->v->add_space_prefix = false;
    if (pre != NULL && !has_type(pre, "Metaspace")) return refuse(r, "this 'pre_tokenizer'", pre);
    if (pre != NULL) {
        const json_t *scheme = model_json_get(pre, "prepend_scheme");
        if (!model_json_is(json_object_get(pre, "replacement"), SPM_SPACE))
            return refuse(r, "this 'pre_tokenizer'", pre);
        r->v->add_space_prefix = scheme != NULL
                                     ? !model_json_is(scheme, "never")
                                     : !json_is_false(json_object_get(pre, "add_prefix_space"));
    }
    if (normal == NULL)
        return pre == NULL ? fail(r, "neither normalizer nor pre_tokenizer") : BASE_OK;
    if (!has_type(normal, "Sequence")) return read_spm_step(r, normal, &spaced);
    json_array_foreach(list, i, step)
    {
        base_status_t st = read_spm_step(r, step, &spaced);
        if (st != BASE_OK) return st;
    }
    return BASE_OK;
}

/* Byte-level BPE: nothing, or normalisation forms. */
static base_status_t read_normalizer(reader_t *r)
{
    const json_t *normal = model_json_get(r->root, "normalizer");
    const json_t *step   = NULL;
    size_t        i      = 0;
    if (normal == NULL || take_form(r, normal)) return BASE_OK;
    if (!has_type(normal, "Sequence")) return refuse_normalizer(r, normal);
    if (!json_is_array(json_object_get(normal, "normalizers"))) return refuse_normalizer(r, normal);
    json_array_foreach(json_object_get(normal, "normalizers"), i, step)
    {
        if (!take_form(r, step)) return refuse_normalizer(r, step);
    }
    return BASE_OK;
}

/* Byte-level BPE or SentencePiece's. */
static base_status_t read_kind(reader_t *r)
{
    r->model             = json_object_get(r->root, "model");
    const json_t *prefix = model_json_get(r->model, "continuing_subword_prefix");
    const json_t *suffix = model_json_get(r->model, "end_of_word_suffix");
    const json_t *unk    = model_json_get(r->model, "unk_token");
    const char   *pre    = NULL;
    bool          bytes  = false;
    bool          ignore = false;
    if (!json_is_object(r->model)) return fail(r, "'model' is no object");
    if (!has_type(r->model, "BPE"))
        return base_fail(r->err, BASE_ERR_UNSUPPORTED,
                         "%s: 'model.type' is '%.40s'; supported is BPE", r->path,
                         json_is_string(json_object_get(r->model, "type"))
                             ? json_string_value(json_object_get(r->model, "type"))
                             : "absent");
    if (prefix != NULL && !model_json_is(prefix, ""))
        return refuse(r, "this 'continuing_subword_prefix'", prefix);
    if (suffix != NULL && !model_json_is(suffix, ""))
        return refuse(r, "this 'end_of_word_suffix'", suffix);
    if (unk != NULL && !json_is_string(unk)) return refuse(r, "this 'unk_token'", unk);
    base_status_t st = model_json_bool(r->model, "byte_fallback", r->path, &bytes, r->err);
    if (st == BASE_OK) st = model_json_bool(r->model, "ignore_merges", r->path, &ignore, r->err);
    if (st != BASE_OK) return st;
    if (bytes) {
        r->v->kind = MODEL_VOCAB_SPM;
        return read_spaces(r);
    }
    r->v->kind = MODEL_VOCAB_BPE;
    st         = read_normalizer(r);
    if (st == BASE_OK) st = model_hf_pre(r->root, r->path, &pre, r->err);
    if (st == BASE_OK) r->v->pre = (model_str_t){pre, (uint32_t)strlen(pre)};
    return st;
}

/* One step of a TemplateProcessing: a special token, or the text itself. */
static base_status_t read_template_step(reader_t *r, const json_t *step, bool *behind)
{
    const json_t *special = json_object_get(step, "SpecialToken");
    if (special == NULL && json_is_object(json_object_get(step, "Sequence"))) {
        *behind = true;
        return BASE_OK;
    }
    if (!json_is_string(json_object_get(special, "id")))
        return refuse(r, "this step of 'post_processor'", step);
    if (*behind ? r->v->add_eos : r->v->add_bos)
        return refuse(r, "a second special token before or behind a text", step);
    const int32_t id = find_id(r, json_object_get(special, "id"));
    if (id < 0) return refuse(r, "in 'post_processor' a token that does not exist", step);
    if (*behind) {
        r->v->add_eos = true;
        if (r->v->eos < 0) r->v->eos = id;
    } else {
        r->v->add_bos = true;
        r->v->bos     = id;
    }
    return BASE_OK;
}

/* The special tokens that a TemplateProcessing puts around one text: at most one on each side, as
 * there is a place for. (That also bounds how often find_id() looks through all tokens.) */
static base_status_t read_template(reader_t *r, const json_t *post, bool *found)
{
    const char   *name   = has_type(post, "Sequence") ? "processors" : "single";
    const json_t *list   = json_object_get(post, name);
    const json_t *step   = NULL;
    size_t        i      = 0;
    bool          behind = false;
    base_status_t st     = BASE_OK;
    if (post == NULL || has_type(post, "ByteLevel")) return BASE_OK;
    if (!has_type(post, "Sequence") && !has_type(post, "TemplateProcessing"))
        return refuse(r, "this 'post_processor'", post);
    if (!json_is_array(list))
        return base_fail(r->err, BASE_ERR_INPUT,
                         "%s: '%s' of 'post_processor' is no array: damaged file?", r->path, name);
    if (has_type(post, "TemplateProcessing")) *found = true;
    json_array_foreach(list, i, step)
    {
        st = has_type(post, "Sequence") ? read_template(r, step, found)
                                        : read_template_step(r, step, &behind);
        if (st != BASE_OK) return st;
    }
    return BASE_OK;
}

/* A token id of config.json or generation_config.json: a number, or the first of a list. Published
 * models have -1 for none, and ids behind their last token: those count as absent. */
static base_status_t take_number(const reader_t *r, const char *file, const json_t *object,
                                 const char *key, int32_t *out)
{
    const json_t *value = model_json_get(object, key);
    const json_t *entry = json_is_array(value) ? json_array_get(value, 0) : value;
    const json_t *other = NULL;
    size_t        i     = 0;
    bool sane = entry == NULL || (json_is_integer(entry) && json_integer_value(entry) >= -1);
    json_array_foreach(value, i, other)
    {
        sane = sane && json_is_integer(other) && json_integer_value(other) >= -1;
    }
    if (!sane) return refuse_beside(r, file, key, value, "the number of a token");
    if (entry == NULL || *out >= 0 || json_integer_value(entry) < 0) return BASE_OK;
    if (json_integer_value(entry) < r->v->n_tokens) *out = (int32_t)json_integer_value(entry);
    return BASE_OK;
}

/* End of turn: what the generation stops at besides eos. */
static void read_eot(reader_t *r)
{
    const json_t *list  = json_object_get(r->generation, "eos_token_id");
    const json_t *value = NULL;
    size_t        i     = 0;
    if (list == NULL) list = json_object_get(r->config, "eos_token_id");
    json_array_foreach(list, i, value)
    {
        const json_int_t id = json_integer_value(value); /* checked by take_number() */
        if (id >= 0 && id < r->v->n_tokens && id != r->v->eos && r->v->eot < 0)
            r->v->eot = (int32_t)id;
    }
}

/* A token of tokenizer_config.json by its text: a string, or an object with one. */
static base_status_t take_text(const reader_t *r, const char *key, int32_t *out)
{
    const json_t *value = model_json_get(r->more, key);
    const json_t *text  = json_is_object(value) ? json_object_get(value, "content") : value;
    if (value != NULL && !json_is_string(text))
        return refuse_beside(r, MORE_FILE, key, value, "the text of a token");
    *out = find_id(r, value);
    return BASE_OK;
}

/* Flags that some classes have instead of a template, and the class. */
static base_status_t read_flags(reader_t *r, bool template)
{
    char path[LIMIT_PATH_BYTES];
    bool bos          = r->v->add_bos;
    bool eos          = r->v->add_eos;
    model_str_t class = {"", 0};
    base_status_t st  = model_hf_path(r->dir, MORE_FILE, path, r->err);
    if (st == BASE_OK) st = model_json_bool(r->more, "add_bos_token", path, &bos, r->err);
    if (st == BASE_OK) st = model_json_bool(r->more, "add_eos_token", path, &eos, r->err);
    if (st == BASE_OK) st = model_json_str(r->more, "tokenizer_class", path, false, &class, r->err);
    if (st != BASE_OK) return st;
    const json_t *name  = model_json_get(r->more, "tokenizer_class");
    const bool    llama = model_json_is(name, "LlamaTokenizer") || /* make it from the flags */
                       model_json_is(name, "LlamaTokenizerFast");
    if (template && !llama) return BASE_OK;
    r->v->add_bos = bos;
    r->v->add_eos = eos;
    return BASE_OK;
}

static base_status_t read_specials(reader_t *r)
{
    model_vocab_t *v = r->v;
    bool template    = false;
    const struct {
        const char *text, *number;
        int32_t    *id;
    } ids[] = {
        {"bos_token", "bos_token_id", &v->bos},
        {"eos_token", "eos_token_id", &v->eos},
        {"pad_token", "pad_token_id", &v->pad},
    };
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        base_status_t st = take_text(r, ids[i].text, ids[i].id);
        if (st == BASE_OK)
            st = take_number(r, GENERATION_FILE, r->generation, ids[i].number, ids[i].id);
        if (st == BASE_OK) st = take_number(r, "config.json", r->config, ids[i].number, ids[i].id);
        if (st != BASE_OK) return st;
    }
    base_status_t st = read_template(r, model_json_get(r->root, "post_processor"), &template);
    if (st != BASE_OK) return st;
    read_eot(r);
    st = read_flags(r, template);
    if (st != BASE_OK) return st;
    if (v->bos < 0) v->add_bos = false;
    if (v->eos < 0) v->add_eos = false;
    return BASE_OK;
}

/* ---- the whole */

static base_status_t read_all(reader_t *r)
{
    uint32_t      n  = 0;
    base_status_t st = read_kind(r);
    if (st == BASE_OK) st = check_template(r);
    if (st == BASE_OK) st = count_tokens(r, &n);
    if (st == BASE_OK) st = reserve(r, n);
    if (st == BASE_OK) st = read_tokens(r, n);
    if (st == BASE_OK) st = read_added(r);
    if (st == BASE_OK) st = read_merges(r);
    if (st == BASE_OK && r->v->kind == MODEL_VOCAB_SPM) st = score_merges(r);
    if (st == BASE_OK) st = read_specials(r);
    if (st != BASE_OK) return st;
    const json_t *template = find_template(r);
    if (r->jinja.bytes > 0)
        r->v->chat_template = keep(r, r->jinja.text, r->jinja.bytes);
    else if (json_is_string(template))
        r->v->chat_template = keep(r, json_string_value(template), text_bytes(template));
    return BASE_OK;
}

/* A side file of the directory; absent: *out untouched. */
static base_status_t side_file(const char *dir, const char *name, json_t **out, base_err_t *err)
{
    char          path[LIMIT_PATH_BYTES];
    base_status_t st = model_hf_path(dir, name, path, err);
    return st != BASE_OK ? st : model_json_load(path, false, out, err);
}

static base_status_t map_jinja(const char *dir, model_source_t **out, base_err_t *err)
{
    char          path[LIMIT_PATH_BYTES];
    const char   *only = path;
    base_status_t st   = model_hf_path(dir, "chat_template.jinja", path, err);
    if (st != BASE_OK || model_source_absent(path)) return st;
    st = model_source_open(&only, 1, out, err);
    if (st == BASE_OK && model_source_bytes(*out, 0) > MODEL_JSON_BYTES)
        st = base_fail(err, BASE_ERR_LIMIT, "%s: over %d bytes", path, MODEL_JSON_BYTES);
    return st;
}

base_status_t model_hf_vocab(const char *dir, const json_t *config, model_vocab_t *vocab,
                             base_err_t *err)
{
    char            path[LIMIT_PATH_BYTES];
    json_t         *root       = NULL;
    json_t         *more       = NULL;
    json_t         *generation = NULL;
    model_source_t *jinja      = NULL;

    vocab->bos = vocab->eos = vocab->eot = vocab->unk = vocab->pad = -1;
    base_status_t st = model_hf_path(dir, "tokenizer.json", path, err);
    if (st == BASE_OK) st = model_json_load(path, false, &root, err);
    if (st != BASE_OK || root == NULL) goto out;
    st = side_file(dir, MORE_FILE, &more, err);
    if (st == BASE_OK) st = side_file(dir, GENERATION_FILE, &generation, err);
    if (st == BASE_OK) st = map_jinja(dir, &jinja, err);
    if (st != BASE_OK) goto out;
    reader_t r = {.dir        = dir,
                  .path       = path,
                  .root       = root,
                  .more       = more,
                  .config     = config,
                  .generation = generation,
                  .v          = vocab,
                  .err        = err};
    if (jinja != NULL)
        r.jinja = (model_str_t){(const char *)model_source_data(jinja, 0),
                                (uint32_t)model_source_bytes(jinja, 0)};
    st = read_all(&r);
out:
    model_source_close(&jinja);
    json_decref(generation);
    json_decref(more);
    json_decref(root);
    if (st != BASE_OK) model_vocab_free(vocab);
    return st;
}
