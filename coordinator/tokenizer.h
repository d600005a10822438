/* coordinator/tokenizer.h
 * Text to token ids and back, for the two kinds of vocabulary that model/ reads:
 *
 *   SPM  SentencePiece BPE ("llama"): characters are merged pairwise, best score first; what is no
 *        token in the end becomes byte tokens <0xXX>, or the unknown token where there are none.
 *   BPE  byte-level BPE ("gpt2"): a regular expression cuts the text into words ("pre-tokenizer",
 *        chosen by the vocabulary's name for it), then bytes of a word are merged by rank.
 *
 * Ids are those of llama.cpp for the same tables, with two exceptions: text never becomes a
 * control, unknown or byte token by merging (as in sentencepiece), only by COORD_PARSE_SPECIAL or
 * as a byte; and bytes that are no UTF-8 stay bytes (llama.cpp puts U+FFFD there for BPE).
 * Text is any bytes, NUL and invalid UTF-8 included; a byte that is not part of a valid character
 * is a unit of its own.
 * A tokenizer is read-only after creation: any number of threads may use one at once. */
#ifndef TRIREME_COORDINATOR_TOKENIZER_H
#define TRIREME_COORDINATOR_TOKENIZER_H

#include "base/status.h"
#include "model/model.h"

typedef struct coord_tokenizer coord_tokenizer_t;

/* Build the look-up tables. The vocabulary is borrowed: it must outlive the tokenizer, unchanged.
 * Odd vocabularies are taken as they are (empty tokens are never produced, of equal tokens the
 * highest id counts, merges that name no tokens are ignored, ids out of range mean "none").
 * Status: OK | UNSUPPORTED (no vocabulary, or a pre-tokenizer that is not known; the text lists
 * those that are) | LIMIT | MEMORY. Local. */
base_status_t coord_tokenizer_create(const model_vocab_t *vocab, coord_tokenizer_t **out,
                                     base_err_t *err);
void          coord_tokenizer_destroy(coord_tokenizer_t **tokenizer); /* accepts NULL, sets NULL */

enum {
    COORD_ADD_BOS = 1, /* put BOS first if the vocabulary says so (and has one); absent: never */
    COORD_ADD_EOS = 2, /* put EOS last if the vocabulary says so (and has one); absent: never */
    COORD_PARSE_SPECIAL = 4, /* texts of control and unknown tokens become those tokens;
                              * user-defined tokens always do */
    COORD_GO_ON         = 8  /* the text goes on from earlier text: SPM puts no space before it */
};

/* Ids of a text of `bytes` bytes (0 .. LIMIT_TEXT_BYTES; need not end in NUL).
 * *ids    malloc'd, the caller frees it; never NULL on success, set only on success.
 * flags   COORD_ADD_BOS | COORD_ADD_EOS | COORD_PARSE_SPECIAL | COORD_GO_ON.
 * Work grows as n log n. BPE drops bytes that the vocabulary can express neither as bytes nor as
 * the unknown token, as llama.cpp and tokenizers do. Status: OK | LIMIT | MEMORY | INPUT (such a
 * byte, SPM). Any thread. */
base_status_t coord_tokenize(const coord_tokenizer_t *tokenizer, const char *text, size_t bytes,
                             unsigned flags, int32_t **ids, size_t *n_ids, base_err_t *err);

/* The raw bytes that a token stands for: not necessarily whole characters. SPM's U+2581 is a space
 * here. Control, unknown and unused tokens are empty unless `special`; ids out of range are empty.
 * Writes at most `buf_bytes` bytes, no NUL; returns the bytes of the whole piece. Any thread. */
size_t coord_token_piece(const coord_tokenizer_t *tokenizer, int32_t id, bool special, char *buf,
                         size_t buf_bytes);
/* Bytes of the longest piece of the vocabulary, at least 1. */
size_t coord_token_piece_max(const coord_tokenizer_t *tokenizer);

/* All pieces together, as text: the inverse of coord_tokenize. The space that SPM puts first
 * (add_space_prefix) is removed. *text is malloc'd, `*bytes` long plus a NUL; may hold invalid
 * UTF-8 if the ids do. Status: OK | MEMORY. Any thread. */
base_status_t coord_detokenize(const coord_tokenizer_t *tokenizer, const int32_t *ids, size_t n_ids,
                               bool special, char **text, size_t *bytes, base_err_t *err);

/* Does this token end a generation? EOS, EOT, and control tokens with a name that is known to end a
 * turn ("<|eot_id|>", "<|im_end|>", "<end_of_turn>", ...). Any thread. */
bool coord_token_ends(const coord_tokenizer_t *tokenizer, int32_t id);

/* Does SPM put a space before the text? Then a generation that starts a text (no prompt text before
 * it) drops its first space: see utf8_stream.h. */
bool coord_tokenizer_space_first(const coord_tokenizer_t *tokenizer);

/* The vocabulary it was made from. */
const model_vocab_t *coord_tokenizer_vocab(const coord_tokenizer_t *tokenizer);

#endif
