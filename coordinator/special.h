/* coordinator/special.h
 * Special tokens in a text: which of them stand where, when longer tokens take their places first.
 *
 * The order is llama.cpp's: the longest token takes its places everywhere, from left to right, then
 * the next shorter one in what is left, and so on; of two of the same length the lower id goes
 * first. All occurrences together can be far more than the text has bytes (a token inside a token
 * inside a token), so they are never listed. Aho-Corasick finds the longest token that ends at each
 * byte, and a queue hands these out by length. One that meets a place taken already is put back as
 * the longest token with the same end that fits what is left; what is left at least halves each
 * time. So work grows as n log^2 n with the text, and as the sum of the lengths with the tokens.
 * Read-only after creation: any thread. */
#ifndef TRIREME_COORDINATOR_SPECIAL_H
#define TRIREME_COORDINATOR_SPECIAL_H

#include "base/status.h"
#include "model/model.h"

typedef struct coord_special coord_special_t;

typedef struct {
    size_t   at;
    uint32_t bytes;
    int32_t  id;
} coord_match_t;

/* The tokens i of `vocab` with wanted[i] != 0 (n_tokens of them), but empty ones and those over
 * LIMIT_TOKEN_BYTES; of equal texts the highest id. Nothing is borrowed.
 * Status: OK | LIMIT (over LIMIT_SPECIAL_BYTES in all) | MEMORY. */
base_status_t coord_special_create(const model_vocab_t *vocab, const uint8_t *wanted,
                                   coord_special_t **out, base_err_t *err);
void          coord_special_destroy(coord_special_t **special); /* accepts NULL, sets NULL */

/* *matches: *n of them by place, none overlapping; malloc'd, the caller frees it, NULL if none.
 * bytes: 0 .. LIMIT_TEXT_BYTES. Status: OK | MEMORY. */
base_status_t coord_special_find(const coord_special_t *special, const char *text, size_t bytes,
                                 coord_match_t **matches, size_t *n, base_err_t *err);

#endif
