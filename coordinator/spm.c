/* coordinator/spm.c: SentencePiece BPE, after google/sentencepiece's bpe_model and llama.cpp.
 *
 * Characters are merged pairwise, the pair whose token has the best score first, the leftmost among
 * equals. As in sentencepiece, control, unknown and byte tokens never come out of merging: their
 * texts in a prompt are plain text unless special tokens are parsed. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "coordinator/tokenizer_internal.h"
#include "coordinator/utf8.h"

static bool is_space(const char *text, size_t bytes)
{
    return bytes >= COORD_SPM_SPACE_BYTES &&
           memcmp(text, COORD_SPM_SPACE, COORD_SPM_SPACE_BYTES) == 0;
}

/* Does a U+2581 follow something else inside this token? */
static bool crosses_space(const model_str_t *s)
{
    size_t spaces = 0;

    while (is_space(s->text + spaces, s->bytes - spaces)) spaces += COORD_SPM_SPACE_BYTES;
    for (size_t i = spaces; i < s->bytes; i++)
        if (is_space(s->text + i, s->bytes - i)) return true;
    return false;
}

static bool comes_from_text(uint8_t type)
{
    return type != MODEL_TOKEN_CONTROL && type != MODEL_TOKEN_UNKNOWN && type != MODEL_TOKEN_BYTE;
}

base_status_t coord_spm_create(coord_tokenizer_t *t, base_err_t *err)
{
    const model_vocab_t *v  = t->vocab;
    base_status_t        st = coord_str_map_create(&t->words, v->tokens, v->n_tokens, err);

    if (st != BASE_OK) return st;
    t->split_at_space = true;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        const model_str_t *s = &v->tokens[i];

        if (s->bytes == 0 || s->bytes > LIMIT_TOKEN_BYTES || !comes_from_text(t->types[i]))
            continue;
        coord_str_map_put(&t->words, i);
        if (t->word_max < s->bytes) t->word_max = s->bytes;
        if (t->split_at_space && crosses_space(s)) t->split_at_space = false;
    }
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        int byte = coord_byte_token(&v->tokens[i]);

        if (byte >= 0) t->bytes[byte] = (int32_t)i;
    }
    for (unsigned b = 0; b < 256; b++) {
        char text = (char)(unsigned char)b;

        if (t->bytes[b] < 0) t->bytes[b] = coord_str_map_find(&t->words, &text, 1);
    }
    return BASE_OK;
}

/* Scores descending as numbers ascending; NaN last, -0 as 0. */
static uint32_t order_of(float score)
{
    uint32_t bits = 0;

    if (score != score) return UINT32_MAX;
    score += 0.0F;
    memcpy(&bits, &score, sizeof bits);
    return (bits & 0x80000000U) != 0 ? bits : ~(bits | 0x80000000U);
}

bool coord_spm_pair(const coord_tokenizer_t *t, const char *text, const coord_symbol_t *left,
                    const coord_symbol_t *right, uint32_t *order, int32_t *id)
{
    size_t bytes = (size_t)left->bytes + right->bytes;

    if (bytes > t->word_max) return false;
    *id = coord_str_map_find(&t->words, text + left->at, bytes);
    if (*id < 0) return false;
    *order = order_of(t->vocab->scores != NULL ? t->vocab->scores[*id] : 0.0F);
    return true;
}

/* Characters that are no token: byte tokens if there is one for each byte, else one unknown token
 * for a run of such characters. */
static base_status_t push_fallback(coord_work_t *w, const char *text, size_t bytes, bool *unknown,
                                   base_err_t *err)
{
    const coord_tokenizer_t *t     = w->t;
    bool                     whole = true;
    base_status_t            st    = BASE_OK;

    for (size_t i = 0; i < bytes; i++) whole = whole && t->bytes[(unsigned char)text[i]] >= 0;
    if (whole) {
        for (size_t i = 0; i < bytes && st == BASE_OK; i++)
            st = coord_ids_push(w->out, t->bytes[(unsigned char)text[i]], err);
        *unknown = false;
        return st;
    }
    if (t->unk < 0) return coord_no_token((unsigned char)text[0], err);
    if (!*unknown) st = coord_ids_push(w->out, t->unk, err);
    *unknown = true;
    return st;
}

static base_status_t encode_stretch(coord_work_t *w, const char *text, size_t bytes, bool *unknown,
                                    base_err_t *err)
{
    base_status_t st = BASE_OK;
    uint32_t      at = 0;

    while (at < bytes) {
        unsigned n = coord_utf8_length(text + at, bytes - at);

        if (n == 0) n = 1;
        coord_work_add(w, at, n, coord_str_map_find(&w->t->words, text + at, n));
        at += n;
    }
    coord_work_merge(w, text);
    for (uint32_t i = 0; i != COORD_NO_SYMBOL && st == BASE_OK; i = w->symbols[i].next) {
        const coord_symbol_t *s = &w->symbols[i];

        if (s->id < 0) {
            st = push_fallback(w, text + s->at, s->bytes, unknown, err);
        } else {
            st       = coord_ids_push(w->out, s->id, err);
            *unknown = false;
        }
    }
    return st;
}

/* Bytes up to the next space that follows something else. */
static size_t stretch_length(const char *text, size_t bytes)
{
    size_t i = 0;

    while (is_space(text + i, bytes - i)) i += COORD_SPM_SPACE_BYTES;
    while (i < bytes && !is_space(text + i, bytes - i)) i++;
    return i;
}

static base_status_t escape(const char *text, size_t bytes, bool space_first, char **out,
                            size_t *out_bytes, base_err_t *err)
{
    size_t        n = bytes + (space_first ? COORD_SPM_SPACE_BYTES : 0), at = 0;
    void         *room = NULL;
    char         *buf  = NULL;
    base_status_t st   = BASE_OK;

    for (size_t i = 0; i < bytes; i++) n += text[i] == ' ' ? COORD_SPM_SPACE_BYTES - 1 : 0;
    st = base_alloc(&room, n, 1, "text", err);
    if (st != BASE_OK) return st;
    buf = room;
    for (size_t i = 0; i < bytes + (space_first ? 1 : 0); i++) {
        char c = space_first ? (i == 0 ? ' ' : text[i - 1]) : text[i];

        if (c == ' ') {
            memcpy(buf + at, COORD_SPM_SPACE, COORD_SPM_SPACE_BYTES);
            at += COORD_SPM_SPACE_BYTES;
        } else {
            buf[at++] = c;
        }
    }
    base_assert(at == n);
    *out       = buf;
    *out_bytes = n;
    return BASE_OK;
}

base_status_t coord_spm_encode(coord_work_t *w, const char *text, size_t bytes, bool space_first,
                               base_err_t *err)
{
    char         *buf = NULL;
    size_t        n = 0, at = 0;
    bool          unknown = false;
    base_status_t st      = escape(text, bytes, space_first, &buf, &n, err);

    while (st == BASE_OK && at < n) {
        size_t length = w->t->split_at_space ? stretch_length(buf + at, n - at) : n;

        st = coord_work_reserve(w, length, err);
        if (st == BASE_OK) st = encode_stretch(w, buf + at, length, &unknown, err);
        at += length;
    }
    free(buf);
    return st;
}
