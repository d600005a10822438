/* coordinator/bpe.c: byte-level BPE, after GPT-2.
 *
 * Token texts in the file write each byte as a printable character (bytes_to_unicode of GPT-2).
 * They are turned back into bytes once, here, so that text needs no mapping. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "coordinator/tokenizer_internal.h"
#include "coordinator/utf8.h"

enum { CODE_POINTS = 256 + 68 };

static bool printable(unsigned b)
{
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
}

/* Printable bytes stand for themselves, the others are 256, 257, ... in their order. */
static void make_alphabet(int16_t byte_of[CODE_POINTS])
{
    unsigned next = 256;

    for (unsigned c = 0; c < CODE_POINTS; c++) byte_of[c] = -1;
    for (unsigned b = 0; b < 256; b++) byte_of[printable(b) ? b : next++] = (int16_t)b;
    base_assert(next == CODE_POINTS);
}

/* Bytes that a text stands for into out (room for `bytes`); false if it is no byte-level text. */
static bool decode(const int16_t byte_of[CODE_POINTS], const char *text, size_t bytes, char *out,
                   size_t *out_bytes)
{
    size_t n = 0;

    for (size_t i = 0; i < bytes;) {
        unsigned length = coord_utf8_length(text + i, bytes - i);
        uint32_t c      = length > 0 ? coord_utf8_code(text + i, length) : CODE_POINTS;

        if (c >= CODE_POINTS || byte_of[c] < 0) return false;
        out[n++] = (char)(unsigned char)byte_of[c];
        i += length;
    }
    *out_bytes = n;
    return true;
}

static base_status_t make_words(coord_tokenizer_t *t, const int16_t byte_of[CODE_POINTS],
                                base_err_t *err)
{
    const model_vocab_t *v     = t->vocab;
    void                *room  = NULL;
    size_t               total = 0, at = 0;
    base_status_t        st = base_alloc(&room, v->n_tokens, sizeof *t->raw, "tokens", err);

    if (st != BASE_OK) return st;
    t->raw = room;
    for (uint32_t i = 0; i < v->n_tokens; i++) total += v->tokens[i].bytes;
    st = base_alloc(&room, total, 1, "token bytes", err);
    if (st != BASE_OK) return st;
    t->raw_pool = room;
    st          = coord_str_map_create(&t->words, t->raw, v->n_tokens, err);
    if (st != BASE_OK) return st;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        size_t  n    = 0;
        uint8_t type = t->types[i];

        if (v->tokens[i].bytes == 0 ||
            !decode(byte_of, v->tokens[i].text, v->tokens[i].bytes, t->raw_pool + at, &n))
            continue;
        t->raw[i] = (model_str_t){.text = t->raw_pool + at, .bytes = (uint32_t)n};
        at += n;
        if (type == MODEL_TOKEN_CONTROL || type == MODEL_TOKEN_UNKNOWN || type == MODEL_TOKEN_BYTE)
            continue;
        coord_str_map_put(&t->words, i);
        if (t->word_max < n) t->word_max = (uint32_t)n;
    }
    for (unsigned b = 0; b < 256; b++) {
        char text   = (char)(unsigned char)b;
        t->bytes[b] = coord_str_map_find(&t->words, &text, 1);
    }
    return BASE_OK;
}

/* "left right": cut at the first space that is not the first byte. */
static void put_merge(coord_tokenizer_t *t, const int16_t byte_of[CODE_POINTS], uint32_t rank,
                      char *scratch)
{
    const model_str_t *m      = &t->vocab->merges[rank];
    const char        *space  = m->bytes > 2 ? memchr(m->text + 1, ' ', m->bytes - 1) : NULL;
    size_t             n_left = 0, n_right = 0, cut = 0;
    int32_t            left, right, both;

    if (space == NULL) return;
    cut = (size_t)(space - m->text);
    if (!decode(byte_of, m->text, cut, scratch, &n_left) ||
        !decode(byte_of, space + 1, m->bytes - cut - 1, scratch + n_left, &n_right) || n_right == 0)
        return;
    left  = coord_str_map_find(&t->words, scratch, n_left);
    right = coord_str_map_find(&t->words, scratch + n_left, n_right);
    both  = coord_str_map_find(&t->words, scratch, n_left + n_right);
    if (left < 0 || right < 0 || both < 0) return;
    coord_merge_map_put(&t->merges, left, right, rank, both);
}

base_status_t coord_bpe_create(coord_tokenizer_t *t, base_err_t *err)
{
    const model_vocab_t *v       = t->vocab;
    void                *scratch = NULL;
    size_t               longest = 0;
    int16_t              byte_of[CODE_POINTS];
    base_status_t        st = coord_pretok_create(v->pre, &t->pretok, err);

    make_alphabet(byte_of);
    if (st == BASE_OK) st = make_words(t, byte_of, err);
    if (st == BASE_OK) st = coord_merge_map_create(&t->merges, v->n_merges, err);
    for (uint32_t i = 0; i < v->n_merges; i++)
        if (longest < v->merges[i].bytes) longest = v->merges[i].bytes;
    if (st == BASE_OK) st = base_alloc(&scratch, longest, 1, "merges", err);
    for (uint32_t i = 0; i < v->n_merges && st == BASE_OK; i++) put_merge(t, byte_of, i, scratch);
    free(scratch);
    return st;
}

bool coord_bpe_pair(const coord_tokenizer_t *t, const char *text, const coord_symbol_t *left,
                    const coord_symbol_t *right, uint32_t *order, int32_t *id)
{
    const coord_merge_slot_t *m = NULL;

    (void)text;
    if (left->id < 0 || right->id < 0) return false;
    m = coord_merge_map_find(&t->merges, left->id, right->id);
    if (m == NULL) return false;
    *order = m->rank;
    *id    = m->id;
    return true;
}

/* A byte that has no token becomes the unknown token, or nothing where there is none: as tokenizers
 * and llama.cpp have it. */
static base_status_t push_byte(coord_work_t *w, int32_t id, base_err_t *err)
{
    if (id < 0) id = w->t->unk;
    return id < 0 ? BASE_OK : coord_ids_push(w->out, id, err);
}

static base_status_t encode_word(void *ctx, const char *word, size_t bytes, base_err_t *err)
{
    coord_work_t            *w  = ctx;
    const coord_tokenizer_t *t  = w->t;
    base_status_t            st = BASE_OK;

    if (bytes == 1) return push_byte(w, t->bytes[(unsigned char)word[0]], err);
    if (coord_pretok_ignores_merges(t->pretok) && bytes <= t->word_max) {
        int32_t id = coord_str_map_find(&t->words, word, bytes);

        if (id >= 0) return coord_ids_push(w->out, id, err);
    }
    st = coord_work_reserve(w, bytes, err);
    if (st != BASE_OK) return st;
    for (uint32_t i = 0; i < bytes; i++) coord_work_add(w, i, 1, t->bytes[(unsigned char)word[i]]);
    coord_work_merge(w, word);
    for (uint32_t i = 0; i != COORD_NO_SYMBOL && st == BASE_OK; i = w->symbols[i].next)
        st = push_byte(w, w->symbols[i].id, err);
    return st;
}

base_status_t coord_bpe_encode(coord_work_t *w, const char *text, size_t bytes, base_err_t *err)
{
    return coord_pretok_split(w->t->pretok, text, bytes, encode_word, w, err);
}
