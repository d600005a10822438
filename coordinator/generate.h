/* coordinator/generate.h
 * The generation loop: prompt in chunks, then sample, show, step, until something ends it. A pure
 * driver over a step function: no MPI, no engine, no I/O. */
#ifndef TRIREME_COORDINATOR_GENERATE_H
#define TRIREME_COORDINATOR_GENERATE_H

#include <signal.h>

#include "coordinator/sampler.h"
#include "coordinator/step.h"
#include "coordinator/tokenizer.h"

typedef enum {
    COORD_STOP_EOS,        /* a token that ends (it is the last of ids; it has no text) */
    COORD_STOP_LIMIT,      /* n_predict tokens were made */
    COORD_STOP_WORD,       /* a stop string (not part of the text; its tokens are part of ids) */
    COORD_STOP_CONTEXT,    /* n_ctx positions are used up: the last token has no place to be run */
    COORD_STOP_INTERRUPTED /* a callback said so, or *interrupt was set */
} coord_stop_t;

const char *coord_stop_name(coord_stop_t stop); /* "eos", "limit", "word", "context", ... */

typedef struct {
    /* the engine */
    coord_step_fn *step;
    void          *step_ctx;
    uint32_t       n_vocab; /* floats in a row of logits */
    uint32_t       n_ctx;   /* positions there are */
    uint32_t       n_batch; /* tokens of one step, at most */

    const coord_tokenizer_t *tokenizer;
    coord_sampler_params_t   sampler;

    /* The whole sequence so far, at least 1 id, and how many of its first positions the engine
     * holds already (0 .. n_prompt - 1): a chat passes everything and skips what was done. */
    const int32_t *prompt;
    uint64_t       n_prompt;
    uint64_t       n_cached;

    int64_t  n_predict;  /* tokens to make; negative: until the context is full */
    bool     ignore_eos; /* tokens that end are never chosen (their logits count as -infinity) */
    uint32_t n_probs;    /* log-probabilities to keep of each step: the n best tokens'; 0: none */
    bool     special;    /* render control tokens in the text */
    bool     text_start; /* no text precedes the generation (prompt empty or BOS alone): SPM's first
                         * space is dropped */

    const coord_bias_t
          *bias; /* n_bias additions to logits (coord_sampler_bias), may be NULL if 0 */
    size_t n_bias;

    const char *const *stops; /* n_stops strings, may be NULL if 0 */
    size_t             n_stops;

    /* Called from the loop, either may be NULL; returning false interrupts. Text is whole UTF-8
     * characters, never empty. logprob is NAN unless sampler.want_logprob. on_token comes first. */
    bool (*on_text)(void *ctx, const char *text, size_t bytes);
    bool (*on_token)(void *ctx, int32_t id, double logprob);
    /* After each chunk of the prompt. May be NULL. */
    void (*on_prompt)(void *ctx, uint64_t done, uint64_t total);
    void *callback_ctx;

    const volatile sig_atomic_t *interrupt; /* may be NULL; looked at between steps */
} coord_generate_params_t;

typedef struct {
    int32_t         *ids; /* chosen tokens, malloc'd */
    uint64_t         n_ids;
    double          *logprobs; /* n_ids, malloc'd: of the chosen tokens; NULL if n_probs is 0 */
    coord_logprob_t *top;      /* n_ids * n_probs, malloc'd: the best of each step; or NULL */
    char            *text;     /* all text, malloc'd, NUL-terminated */
    size_t           text_bytes;
    coord_stop_t     stop;
    uint64_t         n_held; /* positions the engine holds at the end: those of prompt, then of
                                  * ids (the last id chosen has not been run) */
    uint64_t         n_prompt_steps; /* prompt tokens really run (n_prompt - n_cached) */
    uint64_t         prompt_us; /* from the first step to the logits of the prompt's last token */
    uint64_t         n_decode_steps; /* single-token steps after that */
    uint64_t         decode_us;      /* their time, sampling and callbacks included */
} coord_generate_result_t;

/* Generate. *result is set whenever the status is OK, and only then; free with
 * coord_generate_free. An interruption is OK with stop INTERRUPTED, also when the step returns
 * BASE_ERR_INTERRUPTED.
 * n_predict 0 runs the prompt and makes nothing (stop LIMIT).
 * Status: OK | USAGE (empty prompt; prompt longer than the context: both numbers in the text; an id
 * outside the vocabulary; sampler parameters) | INPUT (logits that are not numbers) | MEMORY |
 * LIMIT (n_probs over the vocabulary) | whatever the step returns. One thread. */
base_status_t coord_generate(const coord_generate_params_t *params, coord_generate_result_t *result,
                             base_err_t *err);
void          coord_generate_free(coord_generate_result_t *result); /* accepts all-zero */

#endif
