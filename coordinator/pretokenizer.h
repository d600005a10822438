/* coordinator/pretokenizer.h
 * Cuts text into words for byte-level BPE. The only home of pcre2.h is pretokenizer.c. */
#ifndef TRIREME_COORDINATOR_PRETOKENIZER_H
#define TRIREME_COORDINATOR_PRETOKENIZER_H

#include "base/status.h"
#include "model/model.h"

typedef struct coord_pretok coord_pretok_t;

/* By the name that the vocabulary gives ("llama-bpe", "gpt-2", empty).
 * Status: OK | UNSUPPORTED (unknown name: the text lists the known) | MEMORY. */
base_status_t coord_pretok_create(model_str_t name, coord_pretok_t **out, base_err_t *err);
void          coord_pretok_destroy(coord_pretok_t **pretok); /* accepts NULL, sets NULL */

/* A word that is a token as a whole is taken at once, without merges. */
bool coord_pretok_ignores_merges(const coord_pretok_t *pretok);

typedef base_status_t coord_word_fn(void *ctx, const char *word, size_t bytes, base_err_t *err);

/* Call fn for each word, in order; together they are the text. A byte that is not part of a valid
 * UTF-8 character is a word of its own, and the text on either side of it is cut separately.
 * Status: OK | MEMORY | LIMIT (the expression gave up: hostile text) | what fn returns (which ends
 * it). Any thread. */
base_status_t coord_pretok_split(const coord_pretok_t *pretok, const char *text, size_t bytes,
                                 coord_word_fn *fn, void *ctx, base_err_t *err);

#endif
