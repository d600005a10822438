/* coordinator/tokenizer_internal.h
 * The tables of a tokenizer, shared by its halves: tokenizer.c makes them and answers for single
 * tokens, encode.c turns text into ids, spm.c and bpe.c hold what differs. */
#ifndef TRIREME_COORDINATOR_TOKENIZER_INTERNAL_H
#define TRIREME_COORDINATOR_TOKENIZER_INTERNAL_H

#include "coordinator/pretokenizer.h"
#include "coordinator/special.h"
#include "coordinator/tables.h"
#include "coordinator/tokenizer.h"

#define COORD_SPM_SPACE "\xE2\x96\x81" /* U+2581 */
enum { COORD_SPM_SPACE_BYTES = 3 };

struct coord_tokenizer {
    const model_vocab_t *vocab;
    uint8_t             *types; /* n_tokens; those of the vocabulary, names that end made CONTROL */
    uint8_t             *ends;  /* n_tokens; 1: ends a generation */
    int32_t              unk;   /* -1: none */
    int32_t              bytes[256]; /* token of a byte, -1: none */

    /* What text is matched with: the token texts (SPM), or the bytes they stand for (BPE: raw,
     * in raw_pool; {NULL, 0} where the text is no byte-level text). */
    coord_str_map_t words;
    uint32_t        word_max; /* the longest of them, bytes */
    model_str_t    *raw;
    char           *raw_pool;

    /* SPM: no token has U+2581 after another character, so words may be merged one by one. */
    bool split_at_space;

    /* BPE */
    coord_merge_map_t merges;
    coord_pretok_t   *pretok;

    /* Control and unknown tokens in [1], user-defined in both; what is looked for in the normalised
     * text apart (NULL: nothing). */
    coord_special_t *special[2];
    coord_special_t *special_after[2];

    size_t piece_max;
};

/* A growing list of ids. */
typedef struct {
    int32_t *v;
    size_t   n, room;
} coord_ids_t;

base_status_t coord_ids_push(coord_ids_t *ids, int32_t id, base_err_t *err);

/* A piece of text while it is merged, and a pair that may be merged next. */
typedef struct {
    uint32_t at, bytes;  /* bytes == 0: merged into its left neighbour */
    uint32_t prev, next; /* COORD_NO_SYMBOL: none */
    int32_t  id;         /* -1: no token (yet) */
} coord_symbol_t;

typedef struct {
    uint64_t key; /* order << 32 | left symbol: least first */
    uint32_t right;
    uint32_t bytes; /* of both: stale if they have changed */
    int32_t  id;    /* of both */
} coord_pair_t;

#define COORD_NO_SYMBOL UINT32_MAX

/* Work space of one tokenisation. */
typedef struct {
    const coord_tokenizer_t *t;
    coord_ids_t             *out;
    const coord_special_t   *after; /* special tokens of normalised text, NULL: none */
    coord_symbol_t          *symbols;
    coord_pair_t            *heap;
    size_t                   room; /* symbols; the heap has twice as many */
    size_t                   n_symbols, n_heap;
} coord_work_t;

/* Room for n symbols. Status: OK | LIMIT | MEMORY. */
base_status_t coord_work_reserve(coord_work_t *w, size_t n, base_err_t *err);
/* Append a symbol, merge neighbours in order until none merge. */
void coord_work_add(coord_work_t *w, uint32_t at, uint32_t bytes, int32_t id);
void coord_work_merge(coord_work_t *w, const char *text);

/* May these two neighbours merge? Lower order goes first. */
bool coord_spm_pair(const coord_tokenizer_t *t, const char *text, const coord_symbol_t *left,
                    const coord_symbol_t *right, uint32_t *order, int32_t *id);
bool coord_bpe_pair(const coord_tokenizer_t *t, const char *text, const coord_symbol_t *left,
                    const coord_symbol_t *right, uint32_t *order, int32_t *id);

/* Tables of a kind; ids of a stretch of text without special tokens. */
base_status_t coord_spm_create(coord_tokenizer_t *t, base_err_t *err);
base_status_t coord_spm_encode(coord_work_t *w, const char *text, size_t bytes, bool space_first,
                               base_err_t *err);
base_status_t coord_bpe_create(coord_tokenizer_t *t, base_err_t *err);
base_status_t coord_bpe_encode(coord_work_t *w, const char *text, size_t bytes, base_err_t *err);

/* The byte of a "<0xXX>", -1 if the text is none. */
int coord_byte_token(const model_str_t *s);

/* The error of a byte that has no token where there is no unknown token either. */
base_status_t coord_no_token(unsigned char byte, base_err_t *err);

#endif
