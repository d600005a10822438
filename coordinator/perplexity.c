/* coordinator/perplexity.c */
#include "coordinator/perplexity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/detmath.h"

static const double LN_2 = 0x1.62e42fefa39efp-1;

/* A step whose rows are to come. */
typedef struct {
    const int32_t *next; /* the ids that its rows predict, in a window */
    uint32_t       n;    /* rows */
    uint32_t       pos;  /* of the first of them */
    uint64_t       ends; /* chunks, windows or documents that end with it */
} flight_t;

typedef struct {
    const coord_score_params_t *p;
    int32_t                    *windows; /* n_flights + 1 of n_ctx ids: each step in flight may be
                                          * of another, and one is being filled */
    int32_t                    *window;  /* that one */
    uint64_t                    n_windows;
    uint64_t                    total; /* chunks, windows or documents there will be */
    flight_t                    air[PART_FLIGHTS_MAX]; /* a ring */
    uint32_t                    first, n_air;
    coord_score_result_t        r;
    double                      nll_squares;
} score_t;

static base_status_t interrupted(const coord_score_params_t *p, base_err_t *err)
{
    return p->interrupt != NULL && *p->interrupt != 0
               ? base_fail(err, BASE_ERR_INTERRUPTED, "scoring was interrupted")
               : BASE_OK;
}

static base_status_t add_row(score_t *s, const float *logits, int32_t id, uint32_t pos,
                             base_err_t *err)
{
    double nll = 0;

    if (!coord_nll(logits, s->p->n_vocab, id, &nll)) {
        uint32_t bad = coord_not_finite(logits, s->p->n_vocab);

        return base_fail(err, BASE_ERR_INPUT,
                         "position %u: the logit of token %u is %g: the model is damaged or its "
                         "activations overflow (values beyond 65504 need -ctv f32)",
                         pos, bad, (double)logits[bad]);
    }
    s->r.nll_sum += nll;
    s->nll_squares += nll * nll;
    s->r.n_scored++;
    return BASE_OK;
}

static base_status_t progress(score_t *s, base_err_t *err)
{
    double n = (double)s->r.n_scored;

    s->r.n_chunks++;
    if (s->p->on_progress == NULL ||
        s->p->on_progress(s->p->callback_ctx, s->r.n_chunks, s->total,
                          n > 0 ? base_exp(s->r.nll_sum / n) : (double)NAN))
        return BASE_OK;
    return base_fail(err, BASE_ERR_INTERRUPTED, "scoring was interrupted");
}

/* The oldest step comes home. */
static base_status_t land(score_t *s, base_err_t *err)
{
    const coord_score_params_t *p      = s->p;
    const flight_t              f      = s->air[s->first];
    const float                *logits = NULL;
    base_status_t               st     = p->collect(p->step_ctx, &logits, err);

    s->first = (s->first + 1) % PART_FLIGHTS_MAX;
    s->n_air--;
    for (uint32_t i = 0; i < f.n && st == BASE_OK; i++)
        st = add_row(s, logits + (size_t)i * p->n_vocab, f.next[i], f.pos + i, err);
    for (uint64_t i = 0; i < f.ends && st == BASE_OK; i++) st = progress(s, err);
    return st;
}

static base_status_t land_all(score_t *s, base_err_t *err)
{
    base_status_t st = BASE_OK;

    while (st == BASE_OK && s->n_air > 0) st = land(s, err);
    return st;
}

/* A chunk, window or document has been submitted: it is done when its last step is. */
static base_status_t end_chunk(score_t *s, base_err_t *err)
{
    if (s->n_air == 0) return progress(s, err);
    s->air[(s->first + s->n_air - 1) % PART_FLIGHTS_MAX].ends++;
    return BASE_OK;
}

static void next_window(score_t *s)
{
    s->window = s->windows + s->n_windows++ % (s->p->n_flights + 1) * s->p->n_ctx;
}

/* Submit ids [pos, pos + n) of the window, with rows for the last n_out. */
static base_status_t fly(score_t *s, uint32_t pos, uint32_t n, uint32_t n_out, base_err_t *err)
{
    const coord_score_params_t *p     = s->p;
    part_run_t                  run   = {.pos = pos, .n = n, .n_out = n_out};
    part_batch_t                batch = part_batch_one(&run, s->window + pos);
    uint32_t                    row   = pos + n - n_out; /* the position of the first */
    base_status_t               st    = BASE_OK;

    if (s->n_air == p->n_flights) st = land(s, err);
    if (st == BASE_OK) st = interrupted(p, err);
    if (st == BASE_OK) st = p->submit(p->step_ctx, &batch, err);
    if (st == BASE_OK && n_out > 0)
        s->air[(s->first + s->n_air++) % PART_FLIGHTS_MAX] =
            (flight_t){.next = s->window + row + 1, .n = n_out, .pos = row};
    return st;
}

/* Run ids 0 .. n - 2 of the window from an empty context; positions first .. n - 2 each predict the
 * next id. The last id predicts nothing, so it is not run. */
static base_status_t score_window(score_t *s, uint32_t n, uint32_t first, base_err_t *err)
{
    const coord_score_params_t *p   = s->p;
    base_status_t               st  = BASE_OK;
    uint32_t                    pos = 0;

    while (pos + 1 < n && st == BASE_OK) {
        uint32_t unscored = pos < first ? first - pos : 0;
        uint32_t count    = n - 1 - pos;

        if (count > p->n_batch) count = p->n_batch;
        if (count > unscored && count - unscored > p->n_out_max) count = unscored + p->n_out_max;
        st = fly(s, pos, count, count > unscored ? count - unscored : 0, err);
        pos += count;
    }
    return st;
}

static bool in_vocab(const score_t *s, int32_t id)
{
    return id >= 0 && (uint32_t)id < s->p->n_vocab;
}

/* Every id must have a logit: a vocabulary may be longer than the model. */
static base_status_t check_ids(const score_t *s, const int32_t *ids, size_t n, base_err_t *err)
{
    for (size_t i = 0; i < n; i++)
        if (!in_vocab(s, ids[i]))
            return base_fail(err, BASE_ERR_INPUT,
                             "the text has token %d, the model has logits for %u", ids[i],
                             s->p->n_vocab);
    return BASE_OK;
}

static base_status_t score_chunks(score_t *s, const char *text, size_t bytes, base_err_t *err)
{
    const coord_score_params_t *p       = s->p;
    const model_vocab_t        *v       = coord_tokenizer_vocab(p->tokenizer);
    int32_t                    *ids     = NULL;
    size_t                      n       = 0;
    uint64_t                    n_chunk = 0;
    base_status_t               st;

    st = coord_tokenize(p->tokenizer, text, bytes, COORD_ADD_BOS, &ids, &n, err);
    if (st == BASE_OK) st = check_ids(s, ids, n, err);
    if (st == BASE_OK && n < 2 * (size_t)p->n_ctx)
        st = base_fail(
            err, BASE_ERR_INPUT,
            "the text has %zu tokens; perplexity with a context of %u needs %zu: a longer "
            "text or a smaller -c",
            n, p->n_ctx, 2 * (size_t)p->n_ctx);
    s->r.n_tokens = n;
    n_chunk       = n / p->n_ctx;
    if (p->n_chunks > 0 && p->n_chunks < n_chunk) n_chunk = p->n_chunks;
    s->total = n_chunk;
    for (uint64_t i = 0; i < n_chunk && st == BASE_OK; i++) {
        next_window(s);
        memcpy(s->window, ids + i * p->n_ctx, p->n_ctx * sizeof *ids);
        if (v->add_bos && in_vocab(s, v->bos)) s->window[0] = v->bos;
        st = score_window(s, p->n_ctx, p->n_ctx / 2, err);
        if (st == BASE_OK) st = end_chunk(s, err);
    }
    if (st == BASE_OK) st = land_all(s, err);
    free(ids);
    return st;
}

static int32_t start_token(const score_t *s)
{
    const model_vocab_t *v = coord_tokenizer_vocab(s->p->tokenizer);

    return in_vocab(s, v->bos) ? v->bos : v->eos;
}

/* Windows of the start token and up to n_ctx - 1 of the ids, every one of which is scored.
 * n_windows 0: all of them. `report`: each is progress. */
static base_status_t score_ids(score_t *s, const int32_t *ids, size_t n, uint64_t n_windows,
                               bool report, base_err_t *err)
{
    size_t        most = s->p->n_ctx - 1, at = 0;
    uint64_t      total = (n + most - 1) / most;
    base_status_t st    = check_ids(s, ids, n, err);

    if (n_windows > 0 && n_windows < total) total = n_windows;
    if (report) s->total = total;
    for (uint64_t i = 0; i < total && st == BASE_OK; i++) {
        size_t count = n - at < most ? n - at : most;

        next_window(s);
        s->window[0] = start_token(s);
        memcpy(s->window + 1, ids + at, count * sizeof *ids);
        st = score_window(s, (uint32_t)count + 1, 0, err);
        if (st == BASE_OK && report) st = end_chunk(s, err);
        at += count;
    }
    return st;
}

static base_status_t score_stream(score_t *s, const char *text, size_t bytes, base_err_t *err)
{
    const coord_tokenizer_t *t   = s->p->tokenizer;
    int32_t                 *ids = NULL;
    size_t                   n   = 0;
    base_status_t            st  = coord_tokenize(t, text, bytes, 0, &ids, &n, err);

    if (st == BASE_OK && n == 0) st = base_fail(err, BASE_ERR_INPUT, "the text is empty");
    if (st == BASE_OK) st = score_ids(s, ids, n, s->p->n_chunks, true, err);
    if (st == BASE_OK) st = land_all(s, err);
    s->r.n_tokens = n;
    s->r.bytes    = bytes;
    if (st == BASE_OK && s->r.n_scored < n) { /* only a part: the bytes of its tokens */
        s->r.bytes = 0;
        for (uint64_t i = 0; i < s->r.n_scored; i++)
            s->r.bytes += coord_token_piece(t, ids[i], true, NULL, 0);
        if (coord_tokenizer_space_first(t) && s->r.bytes > 0) s->r.bytes--; /* not of the text */
    }
    free(ids);
    return st;
}

/* Bytes up to the newline that ends the document: no newline before it or after it. */
static size_t document_length(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (text[i] == '\n' && !(i > 0 && text[i - 1] == '\n') &&
            !(i + 1 < bytes && text[i + 1] == '\n'))
            return i;
    return bytes;
}

static base_status_t score_document(score_t *s, const char *text, size_t bytes, base_err_t *err)
{
    int32_t      *ids = NULL;
    size_t        n   = 0;
    base_status_t st  = coord_tokenize(s->p->tokenizer, text, bytes, 0, &ids, &n, err);

    if (st == BASE_OK) st = score_ids(s, ids, n, 0, false, err);
    s->r.n_tokens += n;
    s->r.bytes += bytes;
    free(ids);
    return st;
}

static base_status_t score_stories(score_t *s, const char *text, size_t bytes, base_err_t *err)
{
    uint64_t      total = 0, done = 0;
    base_status_t st = BASE_OK;

    for (size_t at = 0; at < bytes;) {
        size_t n = document_length(text + at, bytes - at);

        total += n > 0 ? 1 : 0;
        at += n + 1;
    }
    if (total == 0) return base_fail(err, BASE_ERR_INPUT, "the text is empty");
    if (s->p->n_chunks > 0 && s->p->n_chunks < total) total = s->p->n_chunks;
    s->total = total;
    for (size_t at = 0; at < bytes && done < total && st == BASE_OK;) {
        size_t n = document_length(text + at, bytes - at);

        if (n > 0) {
            st = score_document(s, text + at, n, err);
            if (st == BASE_OK) st = end_chunk(s, err);
            done++;
        }
        at += n + 1;
    }
    return st == BASE_OK ? land_all(s, err) : st;
}

static base_status_t check_params(const score_t *s, base_err_t *err)
{
    const coord_score_params_t *p     = s->p;
    uint32_t                    least = p->mode == COORD_SCORE_CHUNKS ? 4 : 2;

    base_assert(p->submit != NULL && p->collect != NULL && p->tokenizer != NULL);
    base_assert(p->n_flights > 0 && p->n_flights <= PART_FLIGHTS_MAX);
    base_assert(p->n_vocab > 0 && p->n_batch > 0 && p->n_out_max > 0);
    if (p->n_ctx < least || p->n_ctx > LIMIT_CONTEXT)
        return base_fail(err, BASE_ERR_USAGE, "scoring with a context of %u, must be from %u to %d",
                         p->n_ctx, least, LIMIT_CONTEXT);
    if (p->mode != COORD_SCORE_CHUNKS && !in_vocab(s, start_token(s)))
        return base_fail(err, BASE_ERR_UNSUPPORTED,
                         "the vocabulary has neither BOS nor EOS to start a window with");
    return BASE_OK;
}

static double standard_error(const score_t *s)
{
    double n        = (double)s->r.n_scored;
    double variance = s->nll_squares / n - s->r.nll * s->r.nll;

    return n > 1 && variance > 0 ? sqrt(variance / (n - 1)) * s->r.ppl : 0;
}

base_status_t coord_score(const coord_score_params_t *params, const char *text, size_t bytes,
                          coord_score_result_t *result, base_err_t *err)
{
    score_t       s    = {.p = params};
    void         *room = NULL;
    base_status_t st   = check_params(&s, err);

    base_assert(result != NULL && (text != NULL || bytes == 0));
    if (st == BASE_OK)
        st = base_alloc(&room, ((size_t)params->n_flights + 1) * params->n_ctx, sizeof *s.windows,
                        "windows", err);
    if (st != BASE_OK) return st;
    s.windows = room;
    switch (params->mode) {
    case COORD_SCORE_CHUNKS: st = score_chunks(&s, text, bytes, err); break;
    case COORD_SCORE_STREAM: st = score_stream(&s, text, bytes, err); break;
    case COORD_SCORE_STORIES: st = score_stories(&s, text, bytes, err); break;
    }
    free(s.windows);
    if (st != BASE_OK) return st;
    s.r.nll           = s.r.n_scored > 0 ? s.r.nll_sum / (double)s.r.n_scored : 0;
    s.r.ppl           = base_exp(s.r.nll);
    s.r.ppl_error     = standard_error(&s);
    s.r.bits_per_byte = s.r.bytes > 0 ? s.r.nll_sum / LN_2 / (double)s.r.bytes : (double)NAN;
    *result           = s.r;
    return BASE_OK;
}
