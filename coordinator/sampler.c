/* coordinator/sampler.c
 * Two ways through the chain. The short one serves the default order: bias and penalties in one
 * pass, the k first selected without sorting the rest. The long one (chain_long) takes the stages
 * as they come; where both apply they give the same bits. */
#include "coordinator/sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/detmath.h"
#include "base/limits.h"
#include "coordinator/log_softmax.h"

/* A logit as a key that sorts ascending by (value descending, id ascending). */
typedef struct {
    uint32_t order;
    int32_t  id;
} item_t;

enum { RADIX_BITS = 11, RADIX = 1 << RADIX_BITS, RADIX_PASSES = 3, SELECT_MAX = 1024 };

/* A candidate on its way through typ_p. */
typedef struct {
    double   distance; /* of -log p from the entropy */
    double   prob;
    uint32_t index;
} typical_t;

struct coord_sampler {
    coord_sampler_params_t params; /* those of stages that are not in the order: neutral */
    uint32_t               n_vocab;
    coord_stage_t          stages[COORD_STAGE_COUNT]; /* those that do something, in order */
    uint32_t               n_stages;
    bool                   short_way;

    float    *bias;   /* n_vocab, NULL: none */
    uint32_t *counts; /* n_vocab: how often among the last repeat_last_n; NULL: no penalties */
    int32_t  *recent; /* ring of repeat_last_n ids; NULL: nothing is forgotten */
    uint32_t  n_recent, next_recent;
    uint32_t  n_biased; /* ids with a bias other than 0 */
    bool      raised;   /* one of them is positive */

    item_t            *item_block;    /* both of these */
    item_t            *items, *spare; /* n_vocab each; sorting swaps them */
    uint32_t           histogram[RADIX_PASSES][RADIX];
    coord_candidate_t *candidates; /* as many as top_k lets pass; the long way: n_vocab */
    uint32_t           n_candidates;
    typical_t         *typical; /* n_vocab, NULL: no typ_p */
};

coord_sampler_params_t coord_sampler_defaults(void)
{
    return (coord_sampler_params_t){.temp           = 0.8F,
                                    .top_k          = 40,
                                    .top_p          = 0.95F,
                                    .typical_p      = 1.0F,
                                    .min_p          = 0.05F,
                                    .repeat_penalty = 1.0F,
                                    .repeat_last_n  = 64,
                                    .order          = {COORD_STAGE_PENALTIES, COORD_STAGE_TOP_K,
                                                       COORD_STAGE_TYP_P, COORD_STAGE_TOP_P,
                                                       COORD_STAGE_MIN_P, COORD_STAGE_TEMPERATURE},
                                    .n_order        = COORD_STAGE_COUNT};
}

/* ---- the order ----------------------------------------------------------------------------- */

static const char *const stage_names[COORD_STAGE_COUNT] = {
    [COORD_STAGE_PENALTIES]   = "penalties",
    [COORD_STAGE_TOP_K]       = "top_k top-k",
    [COORD_STAGE_TYP_P]       = "typ_p typical-p typical typ-p typ",
    [COORD_STAGE_TOP_P]       = "top_p top-p nucleus",
    [COORD_STAGE_MIN_P]       = "min_p min-p",
    [COORD_STAGE_TEMPERATURE] = "temperature temp",
};

/* The stage of that name, COORD_STAGE_COUNT if there is none. */
static unsigned find_stage(const char *word, size_t bytes)
{
    unsigned stage = 0;

    for (; stage < COORD_STAGE_COUNT; stage++)
        for (const char *at = stage_names[stage]; *at != '\0';) {
            size_t n = strcspn(at, " ");

            if (n == bytes && memcmp(at, word, n) == 0) return stage;
            at += n + strspn(at + n, " ");
        }
    return stage;
}

base_status_t coord_sampler_order_parse(const char *text, coord_sampler_params_t *params,
                                        base_err_t *err)
{
    coord_stage_t order[COORD_STAGE_COUNT];
    uint32_t      n = 0;

    base_assert(text != NULL && params != NULL);
    for (const char *at = text; *text != '\0'; at++) {
        size_t   bytes = strcspn(at, ";");
        unsigned stage = find_stage(at, bytes);
        bool     twice = false;

        for (uint32_t i = 0; i < n; i++) twice = twice || order[i] == (coord_stage_t)stage;
        if (stage == COORD_STAGE_COUNT || twice)
            return base_fail(err, BASE_ERR_USAGE,
                             "--samplers: '%.*s' %s; there are penalties, top_k, typ_p, top_p, "
                             "min_p, temperature, parted by semicolons",
                             (int)(bytes < 64 ? bytes : 64), at,
                             twice ? "is there twice" : "is not known");
        order[n++] = (coord_stage_t)stage;
        at += bytes;
        if (*at == '\0') break;
    }
    memcpy(params->order, order, sizeof order);
    params->n_order = n;
    return BASE_OK;
}

static bool has_stage(const coord_sampler_params_t *p, coord_stage_t stage)
{
    for (uint32_t i = 0; i < p->n_order; i++)
        if (p->order[i] == stage) return true;
    return false;
}

static bool penalizes(const coord_sampler_params_t *p)
{
    return p->repeat_last_n != 0 && (p->repeat_penalty != 1.0F || p->presence_penalty != 0.0F ||
                                     p->frequency_penalty != 0.0F);
}

static bool does_nothing(const coord_sampler_params_t *p, coord_stage_t stage, uint32_t n_vocab)
{
    switch (stage) {
    case COORD_STAGE_PENALTIES: return !penalizes(p);
    case COORD_STAGE_TOP_K: return p->top_k <= 0 || (uint32_t)p->top_k >= n_vocab;
    case COORD_STAGE_TYP_P: return p->typical_p >= 1;
    case COORD_STAGE_TOP_P: return p->top_p >= 1;
    case COORD_STAGE_MIN_P: return p->min_p <= 0;
    case COORD_STAGE_TEMPERATURE:
    case COORD_STAGE_COUNT: break;
    }
    return false;
}

/* What is left out is neutral; what remains decides the way. */
static void take_order(coord_sampler_t *s)
{
    coord_sampler_params_t *p = &s->params;

    if (!has_stage(p, COORD_STAGE_PENALTIES)) p->repeat_last_n = 0;
    if (!has_stage(p, COORD_STAGE_TOP_K)) p->top_k = 0;
    if (!has_stage(p, COORD_STAGE_TYP_P)) p->typical_p = 1;
    if (!has_stage(p, COORD_STAGE_TOP_P)) p->top_p = 1;
    if (!has_stage(p, COORD_STAGE_MIN_P)) p->min_p = 0;
    if (!has_stage(p, COORD_STAGE_TEMPERATURE)) p->temp = 1;
    s->short_way = true;
    for (uint32_t i = 0; i < p->n_order; i++) {
        if (does_nothing(p, p->order[i], s->n_vocab)) continue;
        if (p->order[i] == COORD_STAGE_TYP_P ||
            (s->n_stages > 0 && s->stages[s->n_stages - 1] > p->order[i]))
            s->short_way = false;
        s->stages[s->n_stages++] = p->order[i];
    }
}

static base_status_t check_params(const coord_sampler_params_t *p, base_err_t *err)
{
    const struct {
        const char *name;
        float       value, low, high;
    } rows[] = {
        {"--temp", p->temp, -FLT_MAX, FLT_MAX},
        {"--top-p", p->top_p, -FLT_MAX, FLT_MAX},
        {"--typical", p->typical_p, 0, FLT_MAX},
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

static bool greedy(const coord_sampler_t *s)
{
    return s->short_way && !(s->params.temp > 0);
}

static uint32_t most_candidates(const coord_sampler_t *s)
{
    if (greedy(s)) return 1;
    return s->short_way && s->params.top_k > 0 && (uint32_t)s->params.top_k < s->n_vocab
               ? (uint32_t)s->params.top_k
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
    if (s->params.typical_p < 1) {
        st = base_alloc(&room, s->n_vocab, sizeof *s->typical, "sampler", err);
        if (st != BASE_OK) return st;
        s->typical = room;
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
    take_order(s);
    st = make_buffers(s, err);
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
    free(s->typical);
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
    s->n_biased += (bias != 0) - (uint32_t)(s->bias[id] != 0);
    s->raised   = s->raised || bias > 0;
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

/* ---- what a sample depends on ---- */

/* Without biases and penalties: the k best decide, 0: all do. The first candidate is never cut, so
 * it decides where the temperature takes it. Otherwise the cut to k must come before every stage
 * that looks at what is behind it. */
static uint32_t first_cut(const coord_sampler_t *s)
{
    uint32_t i = s->n_stages > 0 && s->stages[0] == COORD_STAGE_PENALTIES ? 1 : 0;

    if (greedy(s)) return 1;
    return i < s->n_stages && s->stages[i] == COORD_STAGE_TOP_K ? (uint32_t)s->params.top_k : 0;
}

static bool only_lowers(const coord_sampler_params_t *p)
{
    return !penalizes(p) ||
           (p->repeat_penalty >= 1 && p->presence_penalty >= 0 && p->frequency_penalty >= 0);
}

/* Biases and penalties that only lower, on m ids: an id outside the k + m best raw logits has k + m
 * before it, k of which are not lowered and so stay before it: it is not among the k best after. */
uint32_t coord_sampler_n_top(const coord_sampler_t *sampler)
{
    const coord_sampler_t *s = sampler;
    uint64_t               n = first_cut(s);

    if (n == 0 || s->raised || !only_lowers(&s->params) || s->params.want_logprob) return 0;
    if (s->counts != NULL && s->recent == NULL) return 0; /* any number of ids */
    n += (uint64_t)s->n_biased + s->n_recent;
    return n < s->n_vocab ? (uint32_t)n : 0;
}

bool coord_sampler_few(const coord_sampler_params_t *params)
{
    coord_sampler_t s = {.params = *params, .n_vocab = LIMIT_VOCAB};

    take_order(&s);
    return first_cut(&s) > 0 && only_lowers(&s.params) && !params->want_logprob &&
           !(penalizes(&s.params) && s.params.repeat_last_n < 0);
}

/* ---- the chain ------------------------------------------------------------------------------ */

static float clamp_to_float(double v)
{
    if (v > (double)FLT_MAX) return FLT_MAX;
    if (v < -(double)FLT_MAX) return -FLT_MAX;
    return (float)v;
}

/* Logit after its bias; -infinity: excluded. */
static double biased(const coord_sampler_t *s, const float *logits, uint32_t id)
{
    if (s->bias == NULL || s->bias[id] == 0) return (double)logits[id];
    return isinf(s->bias[id]) ? -(double)INFINITY : (double)logits[id] + (double)s->bias[id];
}

static double penalized(const coord_sampler_t *s, double v, uint32_t id)
{
    double count = s->counts != NULL ? (double)s->counts[id] : 0, penalty = 0;

    if (count == 0) return v;
    penalty = (double)s->params.repeat_penalty;
    v       = v > 0 ? v / penalty : v * penalty;
    return v - (count * (double)s->params.frequency_penalty + (double)s->params.presence_penalty);
}

/* Logit after bias and penalties; -infinity: excluded. */
static float adjusted(const coord_sampler_t *s, const float *logits, uint32_t id)
{
    double v = biased(s, logits, id);

    return isinf(v) ? -INFINITY : clamp_to_float(penalized(s, v, id));
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

/* top_p, then min_p; both keep a prefix, at least one. prob holds e^((logit - first logit) / temp).
 */
static uint32_t cut(coord_candidate_t *c, uint32_t n, double temp, double top_p, double min_p)
{
    double   sum = 0, running = 0;
    uint32_t kept = n;

    if (top_p >= 1 && min_p <= 0) return n;
    for (uint32_t i = 0; i < n; i++) {
        c[i].prob = base_exp(((double)c[i].logit - (double)c[0].logit) / temp);
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

static coord_sample_t draw(coord_sampler_t *s, uint32_t n, double temp, uint64_t position)
{
    coord_candidate_t *c   = s->candidates;
    double             sum = 0, running = 0, target = 0;
    uint32_t           at = 0;

    for (uint32_t i = 0; i < n; i++) {
        c[i].prob = base_exp(((double)c[i].logit - (double)c[0].logit) / temp);
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

/* ---- the long way -------------------------------------------------------------------------- */

static bool further(typical_t a, typical_t b)
{
    return a.distance != b.distance ? a.distance > b.distance : a.index > b.index;
}

/* Sift down in a heap whose root is the nearest. */
static void sift_typical(typical_t *heap, uint32_t n, uint32_t i)
{
    typical_t moved = heap[i];

    for (uint32_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && further(heap[child], heap[child + 1])) child++;
        if (!further(moved, heap[child])) break;
        heap[i] = heap[child];
        i       = child;
    }
    heap[i] = moved;
}

static uint32_t cut_typical(coord_sampler_t *s, uint32_t n, double temp)
{
    coord_candidate_t *c    = s->candidates;
    typical_t         *heap = s->typical;
    double             sum = 0, log_sum = 0, entropy = 0, running = 0;
    uint32_t           kept = 0;

    for (uint32_t i = 0; i < n; i++) {
        c[i].prob = base_exp(((double)c[i].logit - (double)c[0].logit) / temp);
        sum += c[i].prob;
    }
    log_sum = base_ln(sum);
    for (uint32_t i = 0; i < n; i++) {
        double surprise = log_sum - ((double)c[i].logit - (double)c[0].logit) / temp;

        heap[i] = (typical_t){.distance = surprise, .prob = c[i].prob / sum, .index = i};
        entropy += heap[i].prob * surprise;
    }
    for (uint32_t i = 0; i < n; i++) {
        heap[i].distance = fabs(heap[i].distance - entropy);
        c[i].prob        = 0;
    }
    for (uint32_t i = n / 2; i-- > 0;) sift_typical(heap, n, i);
    for (uint32_t left = n; left > 0 && !(running > (double)s->params.typical_p);) {
        running += heap[0].prob;
        c[heap[0].index].prob = 1; /* marks it */
        heap[0]               = heap[--left];
        if (left > 0) sift_typical(heap, left, 0);
    }
    for (uint32_t i = 0; i < n; i++)
        if (c[i].prob > 0) c[kept++] = c[i];
    return kept;
}

static void penalize(coord_sampler_t *s, uint32_t n, double temp)
{
    for (uint32_t i = 0; i < n; i++) {
        coord_candidate_t *c = &s->candidates[i];
        float v = clamp_to_float(penalized(s, (double)c->logit / temp, (uint32_t)c->id));

        s->items[i] = (item_t){.order = order_of(v), .id = c->id};
    }
    select_first(s->items, n, n);
    for (uint32_t i = 0; i < n; i++)
        s->candidates[i] =
            (coord_candidate_t){.id = s->items[i].id, .logit = value_of(s->items[i].order)};
}

/* The stages one after the other. *temp: what the logits are still to be divided by. Returns the
 * number of candidates, 0 if every token is excluded. */
static uint32_t chain_long(coord_sampler_t *s, const float *logits, double *temp)
{
    const coord_sampler_params_t *p = &s->params;
    uint32_t                      n = 0;

    for (uint32_t i = 0; i < s->n_vocab; i++) {
        double v = biased(s, logits, i);

        if (!isinf(v))
            s->items[n++] = (item_t){.order = order_of(clamp_to_float(v)), .id = (int32_t)i};
    }
    sort_all(s, n);
    for (uint32_t i = 0; i < n; i++)
        s->candidates[i] =
            (coord_candidate_t){.id = s->items[i].id, .logit = value_of(s->items[i].order)};
    *temp = 1;
    for (uint32_t i = 0; i < s->n_stages && n > 0; i++) {
        switch (s->stages[i]) {
        case COORD_STAGE_PENALTIES:
            penalize(s, n, *temp);
            *temp = 1;
            break;
        case COORD_STAGE_TOP_K: n = n < (uint32_t)p->top_k ? n : (uint32_t)p->top_k; break;
        case COORD_STAGE_TYP_P: n = cut_typical(s, n, *temp); break;
        case COORD_STAGE_TOP_P: n = cut(s->candidates, n, *temp, (double)p->top_p, 0); break;
        case COORD_STAGE_MIN_P: n = cut(s->candidates, n, *temp, 1, (double)p->min_p); break;
        case COORD_STAGE_TEMPERATURE:
            if (p->temp > 0)
                *temp = (double)p->temp;
            else
                n = 1;
            break;
        case COORD_STAGE_COUNT: break;
        }
    }
    return n;
}

base_status_t coord_sampler_sample(coord_sampler_t *sampler, const float *logits, uint64_t position,
                                   coord_sample_t *out, base_err_t *err)
{
    coord_sampler_t *s   = sampler;
    uint32_t         bad = coord_not_finite(logits, s->n_vocab);
    uint32_t         n   = 0;
    double           temp;
    coord_sample_t   sample;

    if (bad < s->n_vocab)
        return base_fail(err, BASE_ERR_INPUT,
                         "position %llu: the logit of token %u is %g: the model is damaged or its "
                         "activations overflow (values beyond 65504 need -ctv f32)",
                         (unsigned long long)position, bad, (double)logits[bad]);
    temp = (double)s->params.temp;
    if (s->short_way)
        n = greedy(s) ? choose_greedy(s, logits) : gather(s, logits);
    else
        n = chain_long(s, logits, &temp);
    if (n == 0)
        return base_fail(err, BASE_ERR_INPUT, "position %llu: every token is excluded by its bias",
                         (unsigned long long)position);
    if (greedy(s)) {
        sample = (coord_sample_t){
            .id = s->candidates[0].id, .n_candidates = 1, .prob = 1, .logprob = NAN};
    } else {
        if (s->short_way)
            n = cut(s->candidates, n, 1, (double)s->params.top_p, (double)s->params.min_p);
        sample = draw(s, n, temp, position);
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

/* ---- log-probabilities --------------------------------------------------------------------- */

/* Is a behind b? logprob holds the logit. */
static bool behind(coord_logprob_t a, coord_logprob_t b)
{
    return a.logprob != b.logprob ? a.logprob < b.logprob : a.id > b.id;
}

bool coord_top_logprobs(const float *logits, uint32_t n_vocab, uint32_t n, coord_logprob_t *out)
{
    uint32_t held = 0;
    double   nll = 0, top = 0;

    base_assert(n <= n_vocab);
    if (coord_not_finite(logits, n_vocab) < n_vocab) return false;
    for (uint32_t i = 0; i < n_vocab && n > 0; i++) { /* kept in order: n is small */
        coord_logprob_t c  = {.id = (int32_t)i, .logprob = (double)logits[i]};
        uint32_t        at = held;

        if (held == n && behind(c, out[n - 1])) continue;
        if (held < n)
            held++;
        else
            at = n - 1;
        for (; at > 0 && behind(out[at - 1], c); at--) out[at] = out[at - 1];
        out[at] = c;
    }
    if (n == 0 || !coord_nll(logits, n_vocab, out[0].id, &nll)) return n == 0;
    top = out[0].logprob;
    for (uint32_t i = 0; i < n; i++) out[i].logprob = (out[i].logprob - top) - nll;
    return true;
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
