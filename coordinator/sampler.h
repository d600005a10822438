/* coordinator/sampler.h
 * From logits to the next token, the same one on every machine.
 *
 * The chain is llama.cpp's default order, temperature last:
 *   bias -> penalties -> top_k -> typ_p -> top_p -> min_p -> temperature -> draw
 * The stages between bias and draw can be left out or put in another order (`order`). Candidates
 * are ordered by (value descending, id ascending) whenever a stage looks at them; probabilities are
 * computed in double over that order, with our own exp and log (docs/NUMERICS.md, section 8). So in
 * the default order the cuts see probabilities at temperature 1, and the temperature flattens what
 * they left.
 *
 *   penalties    for each id that occurs `count` times among the last repeat_last_n accepted ids:
 *                logit > 0 ? logit / repeat_penalty : logit * repeat_penalty, then less
 *                count * frequency_penalty + presence_penalty; in double, rounded to float
 *   top_k        the k first
 *   typ_p        those whose -log p is nearest to the entropy (equally near: the first), until
 *                their probabilities add up to more than typical_p; "locally typical sampling",
 *                Meister et al., 2022
 *   top_p        the shortest prefix whose probabilities (softmax over what is left) add up to at
 *                least top_p
 *   min_p        those with p >= min_p * p_first
 *   temperature  divides the logits; <= 0: the first candidate alone (greedy: of equal maxima, the
 *                lowest id)
 *   draw         softmax, u in [0, 1) times the sum, the first candidate whose running sum exceeds
 *                it. u is Philox4x32-10 of (seed; sequence, position): no state is carried
 *
 * One thread per sampler. A sample allocates nothing. */
#ifndef TRIREME_COORDINATOR_SAMPLER_H
#define TRIREME_COORDINATOR_SAMPLER_H

#include "base/status.h"

typedef enum {
    COORD_STAGE_PENALTIES,
    COORD_STAGE_TOP_K,
    COORD_STAGE_TYP_P,
    COORD_STAGE_TOP_P,
    COORD_STAGE_MIN_P,
    COORD_STAGE_TEMPERATURE,
    COORD_STAGE_COUNT
} coord_stage_t;

typedef struct {
    float         temp;             /* 0.8; <= 0: greedy */
    int32_t       top_k;            /* 40; <= 0: all */
    float         top_p;            /* 0.95; >= 1: off */
    float         typical_p;        /* 1; >= 1: off */
    float         min_p;            /* 0.05; <= 0: off */
    float         repeat_penalty;   /* 1 = off; > 0 */
    int32_t       repeat_last_n;    /* 64; 0: no penalties; -1: everything accepted, which llama.cpp
                                 * calls the context size */
    float         presence_penalty; /* 0 = off */
    float         frequency_penalty;        /* 0 = off */
    coord_stage_t order[COORD_STAGE_COUNT]; /* the stages to run, each at most once */
    uint32_t      n_order;                  /* default: all, in the order above */

    uint64_t seed;         /* 0 is a seed like any other; random ones are the caller's affair */
    uint64_t sequence;     /* number of the sequence: samples of n > 1 differ by it */
    bool     want_logprob; /* compute coord_sample_t.logprob (one exp per vocabulary entry) */
} coord_sampler_params_t;

typedef struct {
    int32_t  id;
    uint32_t n_candidates; /* left after the chain; 1 when greedy */
    double   prob;         /* probability with which it was drawn; 1 when greedy */
    double   logprob;      /* natural log of softmax(raw logits)[id], before the chain; NAN unless
                            * want_logprob */
} coord_sample_t;

/* A candidate left by the chain, in order. */
typedef struct {
    int32_t id;
    float   logit; /* after bias and penalties, before temperature */
    double  prob;  /* as drawn */
} coord_candidate_t;

typedef struct {
    int32_t id;
    float   bias;
} coord_bias_t;

/* A token and the natural log of its probability, before the chain. */
typedef struct {
    int32_t id;
    double  logprob;
} coord_logprob_t;

typedef struct coord_sampler coord_sampler_t;

/* The defaults noted above, seed and sequence 0. */
coord_sampler_params_t coord_sampler_defaults(void);

/* A list of stages as llama.cpp writes it: "penalties;top_k;typ_p;top_p;min_p;temperature", in any
 * order, some left out; the empty text: none (draw from the plain softmax). Also known: top-k,
 * typical-p, typical, typ, top-p, nucleus, min-p, temp. Sets order and n_order of *params.
 * Status: OK | USAGE (an unknown name, or one twice; the text lists the names). */
base_status_t coord_sampler_order_parse(const char *text, coord_sampler_params_t *params,
                                        base_err_t *err);

/* Buffers for n_vocab logits. Status: OK | USAGE (a parameter out of range: the text names it) |
 * LIMIT (n_vocab) | MEMORY. Local. */
base_status_t coord_sampler_create(const coord_sampler_params_t *params, uint32_t n_vocab,
                                   coord_sampler_t **out, base_err_t *err);
void          coord_sampler_destroy(coord_sampler_t **sampler); /* accepts NULL, sets NULL */

/* Add `bias` to the logit of an id before everything else; -INFINITY: never choose it.
 * The same id again: replaces it. Not between sample steps (may allocate).
 * Status: OK | USAGE (id out of range, NaN, +infinity) | MEMORY. */
base_status_t coord_sampler_bias(coord_sampler_t *sampler, int32_t id, float bias, base_err_t *err);

/* How many of the best raw logits decide the next sample: a row with those and anything finite and
 * lower in the other places gives the same sample. 0: all. Changes with what was accepted. */
uint32_t coord_sampler_n_top(const coord_sampler_t *sampler);
/* Whether a sampler with these parameters, without biases, names such a number at all. Pure. */
bool coord_sampler_few(const coord_sampler_params_t *params);

/* Record an id, of the prompt or chosen, for the penalties. Ids out of range are ignored. */
void coord_sampler_accept(coord_sampler_t *sampler, int32_t id);
/* Forget what was accepted. */
void coord_sampler_reset(coord_sampler_t *sampler);

/* Choose the token for `position` (its index in the sequence) from n_vocab logits; does not accept
 * it. *out is set only on success.
 * Status: OK | INPUT (a logit is NaN or infinite: the text names the id and position; or every
 * token is biased away). */
base_status_t coord_sampler_sample(coord_sampler_t *sampler, const float *logits, uint64_t position,
                                   coord_sample_t *out, base_err_t *err);

/* The candidates of the latest successful sample: the sampler's, valid until the next one. */
const coord_candidate_t *coord_sampler_candidates(const coord_sampler_t *sampler, uint32_t *n);

/* The n tokens of the highest raw logits, in order (value descending, id ascending), with the log
 * of softmax(logits). n <= n_vocab. out: n entries, set only on success. No allocation.
 * False: a logit is NaN or infinite. */
bool coord_top_logprobs(const float *logits, uint32_t n_vocab, uint32_t n, coord_logprob_t *out);

/* The random number of (seed, sequence, position): 53 bits in [0, 1). Pure. */
double coord_random(uint64_t seed, uint64_t sequence, uint64_t position);

#endif
