/* coordinator/perplexity.h
 * How well a model predicts a text, over an engine that may work on several steps at a time: the
 * tokens are known, so the next step need not wait for the logits of the last. Logits are counted
 * in the order of the text, so that the figures are the same bits however many steps fly.
 *
 *   CHUNKS   perplexity as llama.cpp's llama-perplexity counts it. The whole text is tokenised,
 *            with BOS if the vocabulary adds it, special tokens not parsed; cut into
 *            floor(n / n_ctx) chunks of n_ctx tokens; each chunk is run alone, its first token
 *            replaced by BOS (if the vocabulary adds it); only the second half is scored:
 *            positions n_ctx / 2 .. n_ctx - 2 each predict the next token, n_ctx - 1 - n_ctx / 2
 *            scores a chunk. Needs 2 * n_ctx tokens. n_batch does not change what is counted.
 *   STREAM   the whole text without BOS; windows of BOS and n_ctx - 1 text tokens (the last one
 *            shorter); every text token is scored. Bits per byte over all bytes of the text.
 *   STORIES  the text is cut into documents at each '\n' that is neither preceded nor followed by
 *            another '\n' (so blank lines stay inside; empty documents are skipped), each scored
 *            alone as in STREAM. Bits per byte over the bytes of the documents, without the
 *            separators.
 * STREAM and STORIES need a BOS token (or EOS, which stands in for it where there is none).
 *
 * Log-softmax is in double, in id order, with base/detmath.h: the same figures on every machine. */
#ifndef TRIREME_COORDINATOR_PERPLEXITY_H
#define TRIREME_COORDINATOR_PERPLEXITY_H

#include <signal.h>

#include "coordinator/log_softmax.h" /* coord_nll */
#include "coordinator/step.h"
#include "coordinator/tokenizer.h"

typedef enum { COORD_SCORE_CHUNKS, COORD_SCORE_STREAM, COORD_SCORE_STORIES } coord_score_mode_t;

typedef struct {
    coord_submit_fn         *submit; /* all steps are of sequence 0 */
    coord_collect_fn        *collect;
    void                    *step_ctx;
    uint32_t                 n_flights; /* steps with rows not yet collected, at most: 1 ..
                                         * PART_FLIGHTS_MAX */
    uint32_t                 n_vocab;
    uint32_t                 n_ctx;   /* window: 2 .. what the engine holds (CHUNKS: at least 4) */
    uint32_t                 n_batch; /* tokens of one step, at most */
    uint32_t                 n_out_max; /* rows of logits of one step, at most (1 .. ) */
    const coord_tokenizer_t *tokenizer;
    coord_score_mode_t       mode;
    uint64_t                 n_chunks; /* score the first so many chunks, windows (STREAM) or
                                        * documents (STORIES); 0: all */
    /* After each chunk, window or document, may be NULL. ppl: so far. False interrupts. */
    bool (*on_progress)(void *ctx, uint64_t done, uint64_t total, double ppl);
    void                        *callback_ctx;
    const volatile sig_atomic_t *interrupt; /* may be NULL; looked at between steps */
} coord_score_params_t;

typedef struct {
    uint64_t n_tokens;      /* tokens of the text (with BOS in CHUNKS) */
    uint64_t n_scored;      /* tokens scored */
    uint64_t n_chunks;      /* chunks, windows or documents scored */
    uint64_t bytes;         /* text bytes of the tokens scored (0 in CHUNKS) */
    double   nll_sum;       /* natural log, summed */
    double   nll;           /* mean of a token */
    double   ppl;           /* exp(nll) */
    double   ppl_error;     /* standard error, as llama.cpp prints it after "+/-" */
    double   bits_per_byte; /* nll_sum / ln 2 / bytes; NAN in CHUNKS */
} coord_score_result_t;

/* Status: OK | USAGE (window sizes) | INPUT (text too short: says how many tokens there are and are
 * needed; logits that are not numbers) | UNSUPPORTED (no BOS where one is needed) | LIMIT | MEMORY
 * | INTERRUPTED | whatever a step returns. *result is set only if OK. One
 * thread. */
base_status_t coord_score(const coord_score_params_t *params, const char *text, size_t bytes,
                          coord_score_result_t *result, base_err_t *err);

#endif
