/* coordinator/sampler.c */
#include "coordinator/sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/limits.h"
#include "coordinator/exact_math.h"

/* A logit as a key that sorts ascending by (value descending, id ascending). */
typedef struct {
    uint32_t order;
    int32_t  id;
} item_t;

enum { RADIX_BITS = 11, RADIX = 1 << RADIX_BITS, RADIX_PASSES = 3, SELECT_MAX = 1024 };

struct coord_sampler {
    coord_sampler_params_t params;
    uint32_t               n_vocab;

    float    *bias;   /* n_vocab, NULL: none */
    uint32_t *counts; /* n_vocab: how often among the last repeat_last_n; NULL: no penalties */
    int32_t  *recent; /* ring of repeat_last_n ids; NULL: nothing is forgotten */
    uint32_t  n_recent, next_recent;

    item_t            *item_block;    /* both of these */
    item_t            *items, *spare; /* n_vocab each; sorting swaps them */
    uint32_t           histogram[RADIX_PASSES][RADIX];
    coord_candidate_t *candidates; /* as many as top_k lets pass */
    uint32_t           n_candidates;
};

coord_sampler_params_t coord_sampler_defaults(void)
{
    return (coord_sampler_params_t){.temp           = 0.8F,
                                    .top_k          = 40,
                                    .top_p          = 0.95F,
                                    .min_p          = 0.05F,
                                    .repeat_penalty = 1.0F,
                                    .repeat_last_n  = 64};
}

static base_status_t check_params(const coord_sampler_params_t *p, base_err_t *err)
{
    const struct {
        const char *name;
        float       value, low, high;
    } rows[] = {
        {"--temp", p->temp, -FLT_MAX, FLT_MAX},
        {"--top-p", p->top_p, -FLT_MAX, FLT_MAX},
        {"--min-p", p->min_p, -FLT_MAX, FLT_MAX},
        {"--repeat-penalty", p->repeat_penalty, 1e-6F, 1e6F},
        {"--presence-penalty", p->presence_penalty, -1e6F, 1e6F},
        {"--frequency-penalty", p->frequency_penalty, -1e6F, 1e6F},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (!(rows[i].value >= rows[i].low && rows[i].value <= rows[i].high))
            return base_fail(err, BASE_ERR_USAGE, "%s is %g, must be from %g to %g", rows[i].name,
                             (double)rows[i].value, (double)rows[i].low, (double)rows[i].high);
    if (p->repeat_last_n < -1 || p->repeat_last_n > LIMIT_CONTEXT)
        return base_fail(err, BASE_ERR_USAGE, "--repeat-last-n is %d, must be from -1 to %d",
                         p->repeat_last_n, LIMIT_CONTEXT);
    return BASE_OK;
}

static bool penalizes(const coord_sampler_params_t *p)
{
    return p->repeat_last_n != 0 && (p->repeat_penalty != 1.0F || p->presence_penalty != 0.0F ||
                                     p->frequency_penalty != 0.0F);
}

static bool greedy(const coord_sampler_t *s)
{
    return !(s->params.temp > 0);
}

static uint32_t most_candidates(const coord_sampler_t *s)
{
    if (greedy(s)) return 1;
    return s->params.top_k > 0 && (uint32_t)s->params.top_k < s->n_vocab ? (uint32_t)s->params.top_k
                                                                         : s->n_vocab;
}

static base_status_t make_buffers(coord_sampler_t *s, base_err_t *err)
{
    void         *room = NULL;
    base_status_t st = base_alloc(&room, most_candidates(s), sizeof *s->candidates, "sampler", err);

    if (st != BASE_OK) return st;
    s->candidates = room;
    if (!greedy(s)) {
        st = base_alloc(&room, s->n_vocab, 2 * sizeof *s->items, "sampler", err);
        if (st != BASE_OK) return st;
        s->item_block = room;
        s->items      = s->item_block;
        s->spare      = s->item_block + s->n_vocab;
    }
    if (!penalizes(&s->params)) return BASE_OK;
    st = base_alloc(&room, s->n_vocab, sizeof *s->counts, "sampler", err);
    if (st != BASE_OK) return st;
    s->counts = room;
    if (s->params.repeat_last_n < 0) return BASE_OK;
    st = base_alloc(&room, (size_t)s->params.repeat_last_n, sizeof *s->recent, "sampler", err);
    if (st == BASE_OK) s->recent = room;
    return st;
}

base_status_t coord_sampler_create(const coord_sampler_params_t *params, uint32_t n_vocab,
                                   coord_sampler_t **out, base_err_t *err)
{
    coord_sampler_t *s    = NULL;
    void            *room = NULL;
    base_status_t    st   = BASE_OK;

    base_assert(params != NULL && out != NULL);
    st = check_params(params, err);
    if (st != BASE_OK) goto out;
    if (n_vocab == 0 || n_vocab > LIMIT_VOCAB) {
        st = base_fail(err, BASE_ERR_LIMIT, "sampler over %u tokens, limit %d", n_vocab,
                       LIMIT_VOCAB);
        goto out;
    }
    st = base_alloc(&room, 1, sizeof *s, "sampler", err);
    if (st != BASE_OK) goto out;
    s          = room;
    s->params  = *params;
    s->n_vocab = n_vocab;
    st         = make_buffers(s, err);
    if (st != BASE_OK) goto out;
    *out = s;
    s    = NULL;
out:
    coord_sampler_destroy(&s);
    return st;
}

void coord_sampler_destroy(coord_sampler_t **sampler)
{
    coord_sampler_t *s = *sampler;

    if (s == NULL) return;
    free(s->bias);
    free(s->counts);
    free(s->recent);
    free(s->item_block);
    free(s->candidates);
    free(s);
    *sampler = NULL;
}

base_status_t coord_sampler_bias(coord_sampler_t *sampler, int32_t id, float bias, base_err_t *err)
{
    coord_sampler_t *s    = sampler;
    void            *room = NULL;

    if (id < 0 || (uint32_t)id >= s->n_vocab)
        return base_fail(err, BASE_ERR_USAGE,
                         "logit bias: token %d is outside the vocabulary of %u", id, s->n_vocab);
    if (!(bias <= FLT_MAX))
        return base_fail(err, BASE_ERR_USAGE, "logit bias of token %d is %g", id, (double)bias);
    if (s->bias == NULL) {
        base_status_t st = base_alloc(&room, s->n_vocab, sizeof *s->bias, "logit bias", err);

        if (st != BASE_OK) return st;
        s->bias = room;
    }
    s->bias[id] = bias;
    return BASE_OK;
}

void coord_sampler_accept(coord_sampler_t *sampler, int32_t id)
{
    coord_sampler_t *s    = sampler;
    uint32_t         room = (uint32_t)(s->params.repeat_last_n < 0 ? 0 : s->params.repeat_last_n);

    if (s->counts == NULL || id < 0 || (uint32_t)id >= s->n_vocab) return;
    if (s->recent != NULL) {
        if (s->n_recent == room)
            s->counts[s->recent[s->next_recent]]--;
        else
            s->n_recent++;
        s->recent[s->next_recent] = id;
        s->next_recent            = (s->next_recent + 1) % room;
    }
    s->counts[id]++;
}

void coord_sampler_reset(coord_sampler_t *sampler)
{
    if (sampler->counts != NULL)
        memset(sampler->counts, 0, sampler->n_vocab * sizeof *sampler->counts);
    sampler->n_recent    = 0;
    sampler->next_recent = 0;
}

/* ---- the chain ------------------------------------------------------------------------------ */

static float clamp_to_float(double v)
{
    if (v > (double)FLT_MAX) return FLT_MAX;
    if (v < -(double)FLT_MAX) return -FLT_MAX;
    return (float)v;
}

/* Logit after bias and penalties; -infinity: excluded. */
static float adjusted(const coord_sampler_t *s, const float *logits, uint32_t id)
{
    double v     = (double)logits[id];
    double count = s->counts != NULL ? (double)s->counts[id] : 0;

    if (s->bias != NULL && s->bias[id] != 0) {
        if (isinf(s->bias[id])) return -INFINITY;
        v += (double)s->bias[id];
    }
    if (count > 0) {
        double penalty = (double)s->params.repeat_penalty;

        v = v > 0 ? v / penalty : v * penalty;
        v -= count * (double)s->params.frequency_penalty + (double)s->params.presence_penalty;
    }
    return clamp_to_float(v);
}

/* Descending values as ascending keys; -0 and 0 are one value. */
static uint32_t order_of(float v)
{
    uint32_t bits = 0;

    v += 0.0F;
    memcpy(&bits, &v, sizeof bits);
    return (bits & 0x80000000U) != 0 ? bits : ~(bits | 0x80000000U);
}

static float value_of(uint32_t order)
{
    uint32_t bits = (order & 0x80000000U) != 0 ? order : ~order & 0x7FFFFFFFU;
    float    v    = 0;

    memcpy(&v, &bits, sizeof v);
    return v;
}

static bool after(item_t a, item_t b)
{
    return a.order != b.order ? a.order > b.order : a.id > b.id;
}

/* Sift down in a heap whose root is the last in order. */
static void sift(item_t *heap, uint32_t n, uint32_t i)
{
    item_t moved = heap[i];

    for (uint32_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && after(heap[child + 1], heap[child])) child++;
        if (!after(heap[child], moved)) break;
        heap[i] = heap[child];
        i       = child;
    }
    heap[i] = moved;
}

/* The k first, in order, at the front of items; for small k: one pass, one comparison for most. */
static void select_first(item_t *items, uint32_t n, uint32_t k)
{
    for (uint32_t i = k / 2; i-- > 0;) sift(items, k, i);
    for (uint32_t i = k; i < n; i++) {
        if (!after(items[0], items[i])) continue;
        items[0] = items[i];
        sift(items, k, 0);
    }
    for (uint32_t end = k; end-- > 1;) {
        item_t last = items[0];

        items[0]   = items[end];
        items[end] = last;
        sift(items, end, 0);
    }
}

/* All in order: three stable counting passes over the keys; ids ascend to begin with. */
static void sort_all(coord_sampler_t *s, uint32_t n)
{
    item_t *from = s->items, *to = s->spare;

    memset(s->histogram, 0, sizeof s->histogram);
    for (uint32_t i = 0; i < n; i++)
        for (unsigned pass = 0; pass < RADIX_PASSES; pass++)
            s->histogram[pass][from[i].order >> (pass * RADIX_BITS) & (RADIX - 1)]++;
    for (unsigned pass = 0; pass < RADIX_PASSES; pass++) {
        uint32_t *start = s->histogram[pass], sum = 0;
        item_t   *swap = from;

        for (uint32_t d = 0; d < RADIX; d++) {
            uint32_t count = start[d];

            start[d] = sum;
            sum += count;
        }
        for (uint32_t i = 0; i < n; i++)
            to[start[from[i].order >> (pass * RADIX_BITS) & (RADIX - 1)]++] = from[i];
        from = to;
        to   = swap;
    }
    s->items = from; /* an odd number of passes: the two have changed places */
    s->spare = to;
}

/* Candidates after bias, penalties and top_k, in order; returns their number. */
static uint32_t gather(coord_sampler_t *s, const float *logits)
{
    uint32_t n = 0, k = most_candidates(s);

    for (uint32_t i = 0; i < s->n_vocab; i++) {
        float v = adjusted(s, logits, i);

        if (v >= -FLT_MAX) s->items[n++] = (item_t){.order = order_of(v), .id = (int32_t)i};
    }
    if (k > n) k = n;
    if (k <= SELECT_MAX && k < n / 4)
        select_first(s->items, n, k);
    else
        sort_all(s, n);
    for (uint32_t i = 0; i < k; i++)
        s->candidates[i] =
            (coord_candidate_t){.id = s->items[i].id, .logit = value_of(s->items[i].order)};
    return k;
}

/* top_p, then min_p; both keep a prefix, at least one. prob holds e^(logit - first logit). */
static uint32_t cut(coord_candidate_t *c, uint32_t n, double top_p, double min_p)
{
    double   sum = 0, running = 0;
    uint32_t kept = n;

    if (top_p >= 1 && min_p <= 0) return n;
    for (uint32_t i = 0; i < n; i++) {
        c[i].prob = coord_exp((double)c[i].logit - (double)c[0].logit);
        sum += c[i].prob;
    }
    if (top_p < 1) {
        for (kept = 0; kept < n; kept++) {
            running += c[kept].prob;
            if (running >= top_p * sum) break;
        }
        kept = kept < n ? kept + 1 : n;
    }
    if (min_p > 0)
        while (kept > 1 && c[kept - 1].prob < min_p) kept--;
    return kept;
}

static coord_sample_t draw(coord_sampler_t *s, uint32_t n, uint64_t position)
{
    coord_candidate_t *c   = s->candidates;
    double             sum = 0, running = 0, target = 0;
    uint32_t           at = 0;

    for (uint32_t i = 0; i < n; i++) {
        c[i].prob = coord_exp(((double)c[i].logit - (double)c[0].logit) / (double)s->params.temp);
        sum += c[i].prob;
    }
    target = coord_random(s->params.seed, s->params.sequence, position) * sum;
    for (at = 0; at + 1 < n; at++) {
        running += c[at].prob;
        if (running > target) break;
    }
    while (c[at].prob == 0) at--; /* only if rounding kept the running sum below the target */
    for (uint32_t i = 0; i < n; i++) c[i].prob /= sum;
    return (coord_sample_t){.id = c[at].id, .n_candidates = n, .prob = c[at].prob, .logprob = NAN};
}

static uint32_t choose_greedy(coord_sampler_t *s, const float *logits)
{
    uint32_t best = 0;
    float    top  = adjusted(s, logits, 0);

    for (uint32_t i = 1; i < s->n_vocab; i++) {
        float v = s->bias == NULL && s->counts == NULL ? logits[i] : adjusted(s, logits, i);

        if (v > top) {
            top  = v;
            best = i;
        }
    }
    if (isinf(top)) return 0; /* all excluded */
    s->candidates[0] = (coord_candidate_t){.id = (int32_t)best, .logit = top, .prob = 1};
    return 1;
}

base_status_t coord_sampler_sample(coord_sampler_t *sampler, const float *logits, uint64_t position,
                                   coord_sample_t *out, base_err_t *err)
{
    coord_sampler_t *s   = sampler;
    uint32_t         bad = coord_not_finite(logits, s->n_vocab);
    uint32_t         n   = 0;
    coord_sample_t   sample;

    if (bad < s->n_vocab)
        return base_fail(err, BASE_ERR_INPUT,
                         "position %llu: the logit of token %u is %g: the model is damaged or its "
                         "activations overflow",
                         (unsigned long long)position, bad, (double)logits[bad]);
    n = greedy(s) ? choose_greedy(s, logits) : gather(s, logits);
    if (n == 0)
        return base_fail(err, BASE_ERR_INPUT, "position %llu: every token is excluded by its bias",
                         (unsigned long long)position);
    if (greedy(s)) {
        sample = (coord_sample_t){
            .id = s->candidates[0].id, .n_candidates = 1, .prob = 1, .logprob = NAN};
    } else {
        n      = cut(s->candidates, n, (double)s->params.top_p, (double)s->params.min_p);
        sample = draw(s, n, position);
    }
    if (s->params.want_logprob && coord_nll(logits, s->n_vocab, sample.id, &sample.logprob))
        sample.logprob = -sample.logprob;
    s->n_candidates = n;
    *out            = sample;
    return BASE_OK;
}

const coord_candidate_t *coord_sampler_candidates(const coord_sampler_t *sampler, uint32_t *n)
{
    *n = sampler->n_candidates;
    return sampler->candidates;
}

/* Philox4x32-10: J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). */
double coord_random(uint64_t seed, uint64_t sequence, uint64_t position)
{
    uint32_t c[4] = {(uint32_t)position, (uint32_t)(position >> 32), (uint32_t)sequence,
                     (uint32_t)(sequence >> 32)};
    uint32_t key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);

    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)c[0] * 0xD2511F53U, b = (uint64_t)c[2] * 0xCD9E8D57U;

        c[0] = (uint32_t)(b >> 32) ^ c[1] ^ key0;
        c[1] = (uint32_t)b;
        c[2] = (uint32_t)(a >> 32) ^ c[3] ^ key1;
        c[3] = (uint32_t)a;
        key0 += 0x9E3779B9U;
        key1 += 0xBB67AE85U;
    }
    return (double)(((uint64_t)c[1] << 32 | c[0]) >> 11) * 0x1p-53;
}
