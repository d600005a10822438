/* coordinator/encode.c: text to ids. Special tokens are cut out first, the stretches between them
 * go to spm.c or bpe.c; the merging loop is common to both. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "coordinator/normalise.h"
#include "coordinator/tokenizer_internal.h"

base_status_t coord_no_token(unsigned char byte, base_err_t *err)
{
    return base_fail(err, BASE_ERR_INPUT,
                     "the vocabulary has no token for byte 0x%02X and no unknown token", byte);
}

/* Twice the room, at least `least` items; *items is replaced on success. */
static base_status_t grow(void **items, size_t *room, size_t least, size_t item_bytes,
                          const char *what, base_err_t *err)
{
    size_t n    = *room * 2 > least ? *room * 2 : least;
    void  *more = NULL;

    if (n < 64) n = 64;
    more = realloc(*items, n * item_bytes); /* n is far below SIZE_MAX / 64: LIMIT_TEXT_BYTES */
    if (more == NULL)
        return base_fail(err, BASE_ERR_MEMORY, "%s: cannot allocate %zu x %zu bytes", what, n,
                         item_bytes);
    *items = more;
    *room  = n;
    return BASE_OK;
}

base_status_t coord_ids_push(coord_ids_t *ids, int32_t id, base_err_t *err)
{
    if (ids->n == ids->room) {
        void         *items = ids->v;
        base_status_t st    = grow(&items, &ids->room, ids->n + 1, sizeof *ids->v, "ids", err);

        if (st != BASE_OK) return st;
        ids->v = items;
    }
    ids->v[ids->n++] = id;
    return BASE_OK;
}

/* ---- merging ------------------------------------------------------------------------------- */

base_status_t coord_work_reserve(coord_work_t *w, size_t n, base_err_t *err)
{
    w->n_symbols = 0;
    w->n_heap    = 0;
    if (n >= COORD_NO_SYMBOL)
        return base_fail(err, BASE_ERR_LIMIT, "text of %zu bytes to be merged as one word", n);
    if (n > w->room) {
        size_t symbols_room = w->room, heap_room = 2 * w->room;
        void  *symbols = w->symbols, *heap = w->heap;

        base_status_t st = grow(&symbols, &symbols_room, n, sizeof *w->symbols, "symbols", err);
        w->symbols       = symbols;
        if (st == BASE_OK) st = grow(&heap, &heap_room, 2 * n, sizeof *w->heap, "pairs", err);
        w->heap = heap;
        if (st != BASE_OK) return st;
        w->room = symbols_room < heap_room / 2 ? symbols_room : heap_room / 2;
    }
    return BASE_OK;
}

void coord_work_add(coord_work_t *w, uint32_t at, uint32_t bytes, int32_t id)
{
    uint32_t i = (uint32_t)w->n_symbols++;

    base_assert(w->n_symbols <= w->room);
    w->symbols[i] = (coord_symbol_t){.at    = at,
                                     .bytes = bytes,
                                     .prev  = i > 0 ? i - 1 : COORD_NO_SYMBOL,
                                     .next  = COORD_NO_SYMBOL,
                                     .id    = id};
    if (i > 0) w->symbols[i - 1].next = i;
}

static void heap_push(coord_work_t *w, coord_pair_t pair)
{
    size_t i = w->n_heap++;

    /* n - 1 pairs at first; a merge takes one and adds at most two; there are n - 1 merges. */
    base_assert(w->n_heap <= 2 * w->room);
    while (i > 0 && pair.key < w->heap[(i - 1) / 2].key) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i          = (i - 1) / 2;
    }
    w->heap[i] = pair;
}

static coord_pair_t heap_pop(coord_work_t *w)
{
    coord_pair_t top  = w->heap[0];
    coord_pair_t last = w->heap[--w->n_heap];
    size_t       i    = 0;

    for (size_t child = 1; child < w->n_heap; child = 2 * i + 1) {
        if (child + 1 < w->n_heap && w->heap[child + 1].key < w->heap[child].key) child++;
        if (last.key <= w->heap[child].key) break;
        w->heap[i] = w->heap[child];
        i          = child;
    }
    if (w->n_heap > 0) w->heap[i] = last;
    return top;
}

static void push_pair(coord_work_t *w, const char *text, uint32_t left, uint32_t right)
{
    const coord_symbol_t *l, *r;
    uint32_t              order = 0;
    int32_t               id    = -1;
    bool                  found = false;

    if (left == COORD_NO_SYMBOL || right == COORD_NO_SYMBOL) return;
    l     = &w->symbols[left];
    r     = &w->symbols[right];
    found = w->t->vocab->kind == MODEL_VOCAB_SPM ? coord_spm_pair(w->t, text, l, r, &order, &id)
                                                 : coord_bpe_pair(w->t, text, l, r, &order, &id);
    if (found)
        heap_push(w, (coord_pair_t){.key   = (uint64_t)order << 32 | left,
                                    .right = right,
                                    .bytes = l->bytes + r->bytes,
                                    .id    = id});
}

void coord_work_merge(coord_work_t *w, const char *text)
{
    for (uint32_t i = 1; i < w->n_symbols; i++) push_pair(w, text, i - 1, i);
    while (w->n_heap > 0) {
        coord_pair_t    pair = heap_pop(w);
        uint32_t        at   = (uint32_t)pair.key;
        coord_symbol_t *l = &w->symbols[at], *r = &w->symbols[pair.right];

        /* One of them was merged since: a pair of the same bytes is the same pair. */
        if (l->bytes == 0 || r->bytes == 0 || l->bytes + r->bytes != pair.bytes) continue;
        l->bytes += r->bytes;
        l->id    = pair.id;
        l->next  = r->next;
        r->bytes = 0;
        if (l->next != COORD_NO_SYMBOL) w->symbols[l->next].prev = at;
        push_pair(w, text, l->prev, at);
        push_pair(w, text, at, l->next);
    }
}

/* ---- the whole ----------------------------------------------------------------------------- */

typedef base_status_t encode_fn(coord_work_t *w, const char *text, size_t bytes, bool first,
                                base_err_t *err);

/* A stretch of normalised text. `first`: the first one, or after a special token: SPM's space goes
 * before it. */
static base_status_t encode_stretch(coord_work_t *w, const char *text, size_t bytes, bool first,
                                    base_err_t *err)
{
    const model_vocab_t *v = w->t->vocab;

    if (bytes == 0) return BASE_OK;
    return v->kind == MODEL_VOCAB_BPE
               ? coord_bpe_encode(w, text, bytes, err)
               : coord_spm_encode(w, text, bytes, first && v->add_space_prefix, err);
}

/* The stretches between special tokens, by `encode`, and those tokens. */
static base_status_t encode_between(coord_work_t *w, const coord_special_t *special,
                                    encode_fn *encode, const char *text, size_t bytes, bool first,
                                    base_err_t *err)
{
    coord_match_t *found   = NULL;
    size_t         n_found = 0, at = 0;
    base_status_t  st = coord_special_find(special, text, bytes, &found, &n_found, err);

    for (size_t i = 0; i < n_found && st == BASE_OK; i++) {
        st = encode(w, text + at, found[i].at - at, first || i > 0, err);
        if (st == BASE_OK) st = coord_ids_push(w->out, found[i].id, err);
        at = found[i].at + found[i].bytes;
    }
    if (st == BASE_OK) st = encode(w, text + at, bytes - at, first || n_found > 0, err);
    free(found);
    return st;
}

/* A stretch of text as it is. */
static base_status_t encode_text(coord_work_t *w, const char *text, size_t bytes, bool first,
                                 base_err_t *err)
{
    char         *form = NULL;
    base_status_t st   = BASE_OK;

    if (bytes == 0) return BASE_OK;
    st = coord_normalise(w->t->vocab->normal, text, bytes, &form, &bytes, err);
    if (form != NULL) text = form;
    if (st == BASE_OK)
        st = w->after == NULL
                 ? encode_stretch(w, text, bytes, first, err)
                 : encode_between(w, w->after, encode_stretch, text, bytes, first, err);
    free(form);
    return st;
}

static bool usable(const coord_tokenizer_t *t, bool wanted, int32_t id)
{
    return wanted && id >= 0 && (uint32_t)id < t->vocab->n_tokens;
}

base_status_t coord_tokenize(const coord_tokenizer_t *tokenizer, const char *text, size_t bytes,
                             unsigned flags, int32_t **ids, size_t *n_ids, base_err_t *err)
{
    const coord_tokenizer_t *t     = tokenizer;
    coord_ids_t              out   = {0};
    unsigned                 parse = (flags & COORD_PARSE_SPECIAL) != 0;
    coord_work_t             w     = {.t = t, .out = &out};
    base_status_t            st    = BASE_OK;

    base_assert(t != NULL && ids != NULL && n_ids != NULL && (text != NULL || bytes == 0));
    if (bytes > LIMIT_TEXT_BYTES)
        return base_fail(err, BASE_ERR_LIMIT, "text of %zu bytes, limit %d", bytes,
                         LIMIT_TEXT_BYTES);
    w.after = t->special_after[parse];
    if ((flags & COORD_ADD_BOS) != 0 && usable(t, t->vocab->add_bos, t->vocab->bos))
        st = coord_ids_push(&out, t->vocab->bos, err);
    if (st == BASE_OK)
        st = encode_between(&w, t->special[parse], encode_text, text, bytes,
                            (flags & COORD_GO_ON) == 0, err);
    if (st == BASE_OK && (flags & COORD_ADD_EOS) != 0 &&
        usable(t, t->vocab->add_eos, t->vocab->eos))
        st = coord_ids_push(&out, t->vocab->eos, err);
    if (st == BASE_OK && out.v == NULL) { /* no ids, but never NULL */
        void *room = NULL;

        st    = base_alloc(&room, 1, sizeof *out.v, "ids", err);
        out.v = room;
    }
    if (st == BASE_OK) {
        *ids   = out.v;
        *n_ids = out.n;
        out.v  = NULL;
    }
    free(out.v);
    free(w.symbols);
    free(w.heap);
    return st;
}
