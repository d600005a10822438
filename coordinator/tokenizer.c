/* coordinator/tokenizer.c: the tables of a tokenizer, and what can be asked about one token. */
#include "coordinator/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "coordinator/normalise.h"
#include "coordinator/tokenizer_internal.h"

/* Control tokens that end a turn, as llama.cpp finds them by name; their type is overridden. */
static const char *const end_names[] = {
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<turn|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<eos>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<\xEF\xBD\x9C\x65nd\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
};

static bool in_range(const coord_tokenizer_t *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->vocab->n_tokens;
}

static bool name_ends(const model_str_t *text)
{
    for (size_t i = 0; i < sizeof end_names / sizeof end_names[0]; i++)
        if (strlen(end_names[i]) == text->bytes &&
            memcmp(end_names[i], text->text, text->bytes) == 0)
            return true;
    return false;
}

static void mark_types(coord_tokenizer_t *t)
{
    const model_vocab_t *v = t->vocab;

    t->unk = in_range(t, v->unk) ? v->unk : -1;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        t->types[i] = v->types != NULL ? v->types[i] : MODEL_TOKEN_NORMAL;
        if (t->types[i] == MODEL_TOKEN_UNKNOWN && t->unk < 0) t->unk = (int32_t)i;
        if (name_ends(&v->tokens[i])) {
            t->types[i] = MODEL_TOKEN_CONTROL;
            t->ends[i]  = 1;
        }
    }
    if (in_range(t, v->eos)) t->ends[v->eos] = 1;
    if (in_range(t, v->eot)) t->ends[v->eot] = 1;
}

/* Special tokens of the text as it is, or of the normalised text. */
static base_status_t make_special(const coord_tokenizer_t *t, const model_vocab_t *v, bool after,
                                  coord_special_t *special[2], base_err_t *err)
{
    void         *room   = NULL;
    uint8_t      *wanted = NULL;
    base_status_t st     = base_alloc(&room, v->n_tokens, 1, "special tokens", err);

    if (st != BASE_OK) return st;
    wanted = room;
    for (unsigned parse = 0; parse < 2 && st == BASE_OK; parse++) {
        for (uint32_t i = 0; i < v->n_tokens; i++) {
            uint8_t type = t->types[i];

            wanted[i] =
                type == MODEL_TOKEN_USER_DEFINED ||
                (parse == 1 && (type == MODEL_TOKEN_CONTROL || type == MODEL_TOKEN_UNKNOWN));
            if ((v->normalized != NULL && v->normalized[i] != 0) != after) wanted[i] = 0;
        }
        st = coord_special_create(v, wanted, &special[parse], err);
    }
    free(wanted);
    return st;
}

/* Tokens of normalised text are found by their own normalised form. */
static base_status_t make_special_after(coord_tokenizer_t *t, base_err_t *err)
{
    const model_vocab_t *v     = t->vocab;
    model_vocab_t        forms = *v;
    void                *room  = NULL;
    base_status_t        st    = BASE_OK;

    if (v->normalized == NULL) return BASE_OK;
    st = base_alloc(&room, v->n_tokens, sizeof *forms.tokens, "special tokens", err);
    if (st != BASE_OK) return st;
    forms.tokens = room;
    memcpy(forms.tokens, v->tokens, v->n_tokens * sizeof *forms.tokens);
    for (uint32_t i = 0; i < v->n_tokens && st == BASE_OK; i++) {
        char  *form  = NULL;
        size_t bytes = 0;

        if (v->normalized[i] == 0) continue;
        st = coord_normalise(v->normal, v->tokens[i].text, v->tokens[i].bytes, &form, &bytes, err);
        if (form != NULL) forms.tokens[i] = (model_str_t){.text = form, .bytes = (uint32_t)bytes};
    }
    if (st == BASE_OK) st = make_special(t, &forms, true, t->special_after, err);
    for (uint32_t i = 0; i < v->n_tokens; i++)
        if (forms.tokens[i].text != v->tokens[i].text) free((void *)forms.tokens[i].text);
    free(forms.tokens);
    return st;
}

static base_status_t check_vocab(const model_vocab_t *v, base_err_t *err)
{
    if (v->kind != MODEL_VOCAB_SPM && v->kind != MODEL_VOCAB_BPE)
        return base_fail(
            err, BASE_ERR_UNSUPPORTED,
            "the model holds no vocabulary that can be used (a GGUF file: SentencePiece \"llama\" "
            "or byte-level BPE \"gpt2\"; a directory: tokenizer.json); without one only eval "
            "--ids and bench go");
    if (v->n_tokens > LIMIT_VOCAB)
        return base_fail(err, BASE_ERR_LIMIT, "vocabulary of %u tokens, limit %d", v->n_tokens,
                         LIMIT_VOCAB);
    if (v->n_merges > LIMIT_MERGES)
        return base_fail(err, BASE_ERR_LIMIT, "vocabulary with %u merges, limit %d", v->n_merges,
                         LIMIT_MERGES);
    return BASE_OK;
}

base_status_t coord_tokenizer_create(const model_vocab_t *vocab, coord_tokenizer_t **out,
                                     base_err_t *err)
{
    coord_tokenizer_t *t    = NULL;
    void              *room = NULL;
    base_status_t      st   = BASE_OK;

    base_assert(vocab != NULL && out != NULL);
    st = check_vocab(vocab, err);
    if (st == BASE_OK) st = base_alloc(&room, 1, sizeof *t, "tokenizer", err);
    if (st != BASE_OK) goto out;
    t        = room;
    t->vocab = vocab;
    memset(t->bytes, 0xFF, sizeof t->bytes); /* -1 */
    st = base_alloc(&room, vocab->n_tokens, 2, "token types", err);
    if (st != BASE_OK) goto out;
    t->types = room;
    t->ends  = t->types + vocab->n_tokens;
    mark_types(t);
    st = make_special(t, vocab, false, t->special, err);
    if (st == BASE_OK) st = make_special_after(t, err);
    if (st != BASE_OK) goto out;
    st = vocab->kind == MODEL_VOCAB_SPM ? coord_spm_create(t, err) : coord_bpe_create(t, err);
    if (st != BASE_OK) goto out;
    t->piece_max = 1;
    for (uint32_t i = 0; i < vocab->n_tokens; i++)
        if (t->piece_max < vocab->tokens[i].bytes) t->piece_max = vocab->tokens[i].bytes;
    *out = t;
    t    = NULL;
out:
    coord_tokenizer_destroy(&t);
    return st;
}

void coord_tokenizer_destroy(coord_tokenizer_t **tokenizer)
{
    coord_tokenizer_t *t = *tokenizer;

    if (t == NULL) return;
    coord_str_map_destroy(&t->words);
    coord_special_destroy(&t->special[0]);
    coord_special_destroy(&t->special[1]);
    coord_special_destroy(&t->special_after[0]);
    coord_special_destroy(&t->special_after[1]);
    coord_merge_map_destroy(&t->merges);
    coord_pretok_destroy(&t->pretok);
    free(t->raw);
    free(t->raw_pool);
    free(t->types);
    free(t);
    *tokenizer = NULL;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int coord_byte_token(const model_str_t *s)
{
    if (s->bytes != 6 || memcmp(s->text, "<0x", 3) != 0 || s->text[5] != '>') return -1;
    int high = hex_digit(s->text[3]), low = hex_digit(s->text[4]);

    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Copy with U+2581 turned into spaces; counts all, writes what fits. */
static size_t copy_spaced(const model_str_t *s, char *buf, size_t buf_bytes)
{
    size_t n = 0;

    for (size_t i = 0; i < s->bytes; n++) {
        bool space = s->bytes - i >= COORD_SPM_SPACE_BYTES &&
                     memcmp(s->text + i, COORD_SPM_SPACE, COORD_SPM_SPACE_BYTES) == 0;

        if (n < buf_bytes) buf[n] = space ? ' ' : s->text[i];
        i += space ? COORD_SPM_SPACE_BYTES : 1;
    }
    return n;
}

size_t coord_token_piece(const coord_tokenizer_t *tokenizer, int32_t id, bool special, char *buf,
                         size_t buf_bytes)
{
    const coord_tokenizer_t *t = tokenizer;
    model_str_t              s;
    uint8_t                  type;

    if (!in_range(t, id)) return 0;
    s    = t->vocab->tokens[id];
    type = t->types[id];
    if (type == MODEL_TOKEN_CONTROL || type == MODEL_TOKEN_UNKNOWN || type == MODEL_TOKEN_UNUSED) {
        if (!special) return 0;
    } else if (type == MODEL_TOKEN_BYTE) {
        int byte = coord_byte_token(&s);

        if (byte < 0) return 0;
        if (buf_bytes > 0) buf[0] = (char)(unsigned char)byte;
        return 1;
    } else if (type != MODEL_TOKEN_USER_DEFINED) {
        if (t->vocab->kind == MODEL_VOCAB_SPM) return copy_spaced(&s, buf, buf_bytes);
        if (t->raw[id].text != NULL) s = t->raw[id];
    }
    if (s.bytes > 0 && buf_bytes > 0)
        memcpy(buf, s.text, s.bytes < buf_bytes ? s.bytes : buf_bytes);
    return s.bytes;
}

size_t coord_token_piece_max(const coord_tokenizer_t *tokenizer)
{
    return tokenizer->piece_max;
}

base_status_t coord_detokenize(const coord_tokenizer_t *tokenizer, const int32_t *ids, size_t n_ids,
                               bool special, char **text, size_t *bytes, base_err_t *err)
{
    void         *room  = NULL;
    char         *buf   = NULL;
    size_t        total = 0, n = 0;
    bool          strip = coord_tokenizer_space_first(tokenizer);
    base_status_t st    = BASE_OK;

    base_assert(text != NULL && bytes != NULL);
    for (size_t i = 0; i < n_ids; i++)
        total += coord_token_piece(tokenizer, ids[i], special, NULL, 0);
    st = base_alloc(&room, total + 1, 1, "text", err);
    if (st != BASE_OK) return st;
    buf = room;
    for (size_t i = 0; i < n_ids; i++)
        n += coord_token_piece(tokenizer, ids[i], special, buf + n, total - n);
    base_assert(n == total);
    if (strip && n > 0 && buf[0] == ' ') {
        n--;
        memmove(buf, buf + 1, n);
    }
    buf[n] = '\0';
    *text  = buf;
    *bytes = n;
    return BASE_OK;
}

bool coord_token_ends(const coord_tokenizer_t *tokenizer, int32_t id)
{
    return in_range(tokenizer, id) && tokenizer->ends[id] != 0;
}

bool coord_tokenizer_space_first(const coord_tokenizer_t *tokenizer)
{
    return tokenizer->vocab->kind == MODEL_VOCAB_SPM && tokenizer->vocab->add_space_prefix;
}

const model_vocab_t *coord_tokenizer_vocab(const coord_tokenizer_t *tokenizer)
{
    return tokenizer->vocab;
}
