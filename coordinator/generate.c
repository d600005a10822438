/* coordinator/generate.c */
#include "coordinator/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "coordinator/log_softmax.h"
#include "coordinator/utf8_stream.h"

typedef struct {
    const coord_generate_params_t *p;
    coord_sampler_t               *sampler;
    coord_stream_t                *stream;
    char                          *piece; /* coord_token_piece_max bytes */
    size_t                         piece_max;
    const float                   *logits; /* of the last token run */
    size_t                         ids_room, text_room, logprobs_room, top_room;
    coord_generate_result_t        r;
} generation_t;

const char *coord_stop_name(coord_stop_t stop)
{
    switch (stop) {
    case COORD_STOP_EOS: return "eos";
    case COORD_STOP_LIMIT: return "limit";
    case COORD_STOP_WORD: return "word";
    case COORD_STOP_CONTEXT: return "context";
    case COORD_STOP_INTERRUPTED: return "interrupted";
    }
    return "unknown";
}

static base_status_t check_params(const coord_generate_params_t *p, base_err_t *err)
{
    base_assert(p->step != NULL && p->tokenizer != NULL);
    base_assert(p->n_vocab > 0 && p->n_ctx > 0 && p->n_batch > 0);
    base_assert(p->prompt != NULL || p->n_prompt == 0);
    if (p->n_prompt == 0)
        return base_fail(err, BASE_ERR_USAGE,
                         "the prompt is empty, and the vocabulary has no BOS token to start from");
    if (p->n_prompt > p->n_ctx)
        return base_fail(
            err, BASE_ERR_USAGE,
            "the prompt has %llu tokens, the context %u: raise -c or shorten the prompt",
            (unsigned long long)p->n_prompt, p->n_ctx);
    base_assert(p->n_cached < p->n_prompt);
    if (p->n_probs > p->n_vocab)
        return base_fail(err, BASE_ERR_LIMIT, "%u log-probabilities of a vocabulary of %u",
                         p->n_probs, p->n_vocab);
    for (uint64_t i = 0; i < p->n_prompt; i++)
        if (p->prompt[i] < 0 || (uint32_t)p->prompt[i] >= p->n_vocab)
            return base_fail(err, BASE_ERR_USAGE,
                             "prompt token %llu is id %d, the vocabulary has %u",
                             (unsigned long long)i, p->prompt[i], p->n_vocab);
    return BASE_OK;
}

static base_status_t start(generation_t *g, base_err_t *err)
{
    const coord_generate_params_t *p    = g->p;
    void                          *room = NULL;
    base_status_t                  st   = BASE_OK;

    st = coord_sampler_create(&p->sampler, p->n_vocab, &g->sampler, err);
    for (size_t i = 0; i < p->n_bias && st == BASE_OK; i++)
        st = coord_sampler_bias(g->sampler, p->bias[i].id, p->bias[i].bias, err);
    if (st != BASE_OK) return st;
    for (uint32_t i = 0; i < p->n_vocab && p->ignore_eos && st == BASE_OK; i++)
        if (coord_token_ends(p->tokenizer, (int32_t)i))
            st = coord_sampler_bias(g->sampler, (int32_t)i, -INFINITY, err);
    if (st != BASE_OK) return st;
    for (uint64_t i = 0; i < p->n_prompt; i++) coord_sampler_accept(g->sampler, p->prompt[i]);
    g->piece_max = coord_token_piece_max(p->tokenizer);
    st           = base_alloc(&room, g->piece_max, 1, "token text", err);
    if (st != BASE_OK) return st;
    g->piece = room;
    return coord_stream_create(p->stops, p->n_stops,
                               p->text_start && coord_tokenizer_space_first(p->tokenizer),
                               g->piece_max, &g->stream, err);
}

/* *items holds n items of item_bytes; make room for `more` of them. */
static base_status_t make_room(void **items, size_t *room, size_t n, size_t more, size_t item_bytes,
                               base_err_t *err)
{
    size_t want = *room > 0 ? *room : 1024;
    void  *grown;

    if (*items != NULL && n + more <= *room) return BASE_OK;
    while (want < n + more) want *= 2;
    grown = realloc(*items, want * item_bytes);
    if (grown == NULL)
        return base_fail(err, BASE_ERR_MEMORY, "generated text: cannot allocate %zu x %zu bytes",
                         want, item_bytes);
    *items = grown;
    *room  = want;
    return BASE_OK;
}

static base_status_t add_id(generation_t *g, int32_t id, base_err_t *err)
{
    void         *ids = g->r.ids;
    base_status_t st  = make_room(&ids, &g->ids_room, g->r.n_ids, 1, sizeof *g->r.ids, err);

    g->r.ids = ids;
    if (st == BASE_OK) g->r.ids[g->r.n_ids++] = id;
    return st;
}

/* The log-probabilities of the step that chose `id`, which is yet to be added. */
static base_status_t add_probs(generation_t *g, int32_t id, base_err_t *err)
{
    const coord_generate_params_t *p   = g->p;
    void                          *one = g->r.logprobs, *top = g->r.top;
    size_t                         n   = g->r.n_ids;
    double                         nll = 0;
    bool                           ok  = false;
    base_status_t st = make_room(&one, &g->logprobs_room, n, 1, sizeof *g->r.logprobs, err);

    g->r.logprobs = one;
    if (st == BASE_OK)
        st = make_room(&top, &g->top_room, n * p->n_probs, p->n_probs, sizeof *g->r.top, err);
    g->r.top = top;
    if (st != BASE_OK) return st;
    ok = coord_top_logprobs(g->logits, p->n_vocab, p->n_probs, g->r.top + n * p->n_probs) &&
         coord_nll(g->logits, p->n_vocab, id, &nll);
    base_assert(ok); /* a sample was drawn: the logits are numbers */
    g->r.logprobs[n] = -nll;
    return BASE_OK;
}

/* Text that may be shown. *go_on becomes false if the callback says so. */
static base_status_t add_text(generation_t *g, const char *text, size_t bytes, bool *go_on,
                              base_err_t *err)
{
    void         *all = g->r.text;
    base_status_t st  = make_room(&all, &g->text_room, g->r.text_bytes, bytes + 1, 1, err);

    g->r.text = all;
    if (st != BASE_OK) return st;
    if (bytes > 0) memcpy(g->r.text + g->r.text_bytes, text, bytes);
    g->r.text_bytes += bytes;
    g->r.text[g->r.text_bytes] = '\0';
    if (bytes > 0 && g->p->on_text != NULL && !g->p->on_text(g->p->callback_ctx, text, bytes))
        *go_on = false;
    return BASE_OK;
}

static bool interrupted(const generation_t *g)
{
    return g->p->interrupt != NULL && *g->p->interrupt != 0;
}

/* n ids on top of what is held; n_out (0 or 1) rows of logits. */
static base_status_t run(generation_t *g, const int32_t *ids, uint32_t n, uint32_t n_out,
                         base_err_t *err)
{
    const part_run_t one   = {.pos = (uint32_t)g->r.n_held, .n = n, .n_out = n_out};
    part_batch_t     batch = part_batch_one(&one, ids);
    base_status_t    st;

    if (g->p->n_probs == 0) batch.n_top = coord_sampler_n_top(g->sampler);
    st = g->p->step(g->p->step_ctx, &batch, &g->logits, err);

    if (st == BASE_OK) g->r.n_held += n;
    return st;
}

/* Run the rest of the prompt. *ended: interrupted. */
static base_status_t run_prompt(generation_t *g, bool *ended, base_err_t *err)
{
    const coord_generate_params_t *p       = g->p;
    uint64_t                       started = base_clock_us();
    base_status_t                  st      = BASE_OK;

    g->r.n_held = p->n_cached;
    while (g->r.n_held < p->n_prompt) {
        uint64_t left = p->n_prompt - g->r.n_held;
        uint32_t n    = left < p->n_batch ? (uint32_t)left : p->n_batch;

        if (interrupted(g)) {
            *ended = true;
            break;
        }
        st = run(g, p->prompt + g->r.n_held, n, n == left ? 1 : 0, err);
        if (st != BASE_OK) return st;
        g->r.n_prompt_steps += n;
        if (p->on_prompt != NULL) p->on_prompt(p->callback_ctx, g->r.n_held, p->n_prompt);
    }
    g->r.prompt_us = base_clock_us() - started;
    return BASE_OK;
}

/* Choose a token and show it. *ended with stop set if it is the last. */
static base_status_t choose(generation_t *g, bool *ended, base_err_t *err)
{
    const coord_generate_params_t *p     = g->p;
    bool                           go_on = true, word = false;
    const char                    *text  = NULL;
    size_t                         bytes = 0;
    coord_sample_t                 s;
    base_status_t                  st;

    st = coord_sampler_sample(g->sampler, g->logits, p->n_prompt + g->r.n_ids, &s, err);
    if (st == BASE_OK && p->n_probs > 0) st = add_probs(g, s.id, err);
    if (st == BASE_OK) st = add_id(g, s.id, err);
    if (st != BASE_OK) return st;
    coord_sampler_accept(g->sampler, s.id);
    if (p->on_token != NULL) go_on = p->on_token(p->callback_ctx, s.id, s.logprob);
    if (coord_token_ends(p->tokenizer, s.id)) {
        g->r.stop = COORD_STOP_EOS;
        *ended    = true;
        return BASE_OK;
    }
    bytes = coord_token_piece(p->tokenizer, s.id, p->special, g->piece, g->piece_max);
    word  = coord_stream_push(g->stream, g->piece, bytes, &text, &bytes);
    st    = add_text(g, text, bytes, &go_on, err);
    if (st != BASE_OK) return st;
    *ended = word || !go_on;
    if (*ended) g->r.stop = word ? COORD_STOP_WORD : COORD_STOP_INTERRUPTED;
    return BASE_OK;
}

/* Run the token chosen last. *ended with stop set if there is no place for it. */
static base_status_t run_chosen(generation_t *g, bool *ended, base_err_t *err)
{
    const coord_generate_params_t *p  = g->p;
    base_status_t                  st = BASE_OK;

    if (g->r.n_held == p->n_ctx) {
        g->r.stop = COORD_STOP_CONTEXT;
        *ended    = true;
        return BASE_OK;
    }
    st = run(g, &g->r.ids[g->r.n_ids - 1], 1, 1, err);
    if (st != BASE_OK) return st;
    g->r.n_decode_steps++;
    return BASE_OK;
}

static base_status_t decode(generation_t *g, base_err_t *err)
{
    uint64_t      started = base_clock_us();
    bool          ended   = false;
    base_status_t st      = BASE_OK;

    while (!ended && st == BASE_OK) {
        if (g->p->n_predict >= 0 && g->r.n_ids >= (uint64_t)g->p->n_predict) {
            g->r.stop = COORD_STOP_LIMIT;
            break;
        }
        if (g->r.n_ids > 0) st = run_chosen(g, &ended, err);
        if (!ended && interrupted(g)) {
            g->r.stop = COORD_STOP_INTERRUPTED;
            break;
        }
        if (!ended && st == BASE_OK) st = choose(g, &ended, err);
    }
    g->r.decode_us = base_clock_us() - started;
    return st;
}

static base_status_t finish(generation_t *g, base_err_t *err)
{
    const char   *text  = "";
    size_t        bytes = 0;
    bool          go_on = true, word = false;
    base_status_t st;

    if (g->r.stop != COORD_STOP_WORD) word = coord_stream_flush(g->stream, &text, &bytes);
    st = add_text(g, text, bytes, &go_on, err);
    if (word) g->r.stop = COORD_STOP_WORD;
    if (g->r.ids == NULL && st == BASE_OK) { /* never NULL */
        void *ids = NULL;

        st       = base_alloc(&ids, 1, sizeof *g->r.ids, "ids", err);
        g->r.ids = ids;
    }
    return st;
}

base_status_t coord_generate(const coord_generate_params_t *params, coord_generate_result_t *result,
                             base_err_t *err)
{
    generation_t  g     = {.p = params};
    bool          ended = false;
    base_status_t st    = check_params(params, err);

    base_assert(result != NULL);
    if (st == BASE_OK) st = start(&g, err);
    if (st != BASE_OK) goto out;
    g.r.stop = COORD_STOP_INTERRUPTED;
    st       = run_prompt(&g, &ended, err);
    if (st == BASE_OK && !ended) st = decode(&g, err);
    if (st == BASE_ERR_INTERRUPTED) {
        g.r.stop = COORD_STOP_INTERRUPTED;
        st       = BASE_OK;
    }
    if (st == BASE_OK) st = finish(&g, err);
    if (st == BASE_OK) {
        *result = g.r;
        g.r     = (coord_generate_result_t){0};
    }
out:
    coord_generate_free(&g.r);
    coord_sampler_destroy(&g.sampler);
    coord_stream_destroy(&g.stream);
    free(g.piece);
    return st;
}

void coord_generate_free(coord_generate_result_t *result)
{
    free(result->ids);
    free(result->logprobs);
    free(result->top);
    free(result->text);
    *result = (coord_generate_result_t){0};
}
