/* tests/coordinator/sampler.c: the chain against brute force (make_tables.py), the draws against
 * their probabilities, the generator against its authors' vectors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/sampler.h"
#include "partition/batch.h"

enum { MAX_VOCAB = 512, LINE_BYTES = 32768 };

static coord_sampler_t *create(const coord_sampler_params_t *p, uint32_t n_vocab)
{
    coord_sampler_t *s   = NULL;
    base_err_t       err = {0};

    if (coord_sampler_create(p, n_vocab, &s, &err) != BASE_OK) fail_msg("%s", err.text);
    return s;
}

static coord_sample_t sample(coord_sampler_t *s, const float *logits, uint64_t position)
{
    coord_sample_t out = {0};
    base_err_t     err = {0};

    if (coord_sampler_sample(s, logits, position, &out, &err) != BASE_OK) fail_msg("%s", err.text);
    return out;
}

/* Random123's known answers for philox4x32-10, first two words. */
static void philox_vectors(void **state)
{
    const struct {
        uint64_t seed, sequence, position;
        uint32_t first, second;
    } rows[] = {
        {0, 0, 0, 0x6627e8d5, 0xe169c58d},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, 0x408f276d, 0x41c83b0e},
        {0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, 0xd16cfe09, 0x94fdcceb},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t bits = (uint64_t)rows[i].second << 32 | rows[i].first;

        assert_true(coord_random(rows[i].seed, rows[i].sequence, rows[i].position) ==
                    (double)(bits >> 11) * 0x1p-53);
    }
}

static size_t read_floats(char *line, float *out)
{
    size_t n = 0;

    for (char *at = line; (at = strchr(at, ' ')) != NULL; n++) out[n] = strtof(at + 1, &at);
    return n;
}

static void check_left(coord_sampler_t *s, coord_sample_t got, char *line, int number)
{
    const coord_candidate_t *c;
    uint32_t                 n = 0, i = 0;
    bool                     chosen = false;

    c = coord_sampler_candidates(s, &n);
    for (char *at = line; (at = strchr(at, ' ')) != NULL; i++) {
        long   id   = strtol(at + 1, &at, 10);
        double prob = strtod(at + 1, &at);

        if (i >= n || c[i].id != id || !(fabs(c[i].prob - prob) <= 1e-13 * prob + 1e-300))
            fail_msg("case %d: candidate %u of %u is %d with %.17g, expected %ld with %.17g",
                     number, i, n, i < n ? c[i].id : -1, i < n ? c[i].prob : 0, id, prob);
        chosen = chosen || (c[i].id == got.id && c[i].prob == got.prob);
    }
    if (i != n) fail_msg("case %d: %u candidates, expected %u", number, n, i);
    assert_true(chosen);
    assert_int_equal(got.n_candidates, n);
}

static void chain_table(void **state)
{
    const char            *source = getenv("TRIREME_SOURCE");
    static char            path[4096], line[LINE_BYTES];
    static float           logits[MAX_VOCAB], history[MAX_VOCAB];
    size_t                 n_logits = 0, n_history = 0;
    int                    number = 0;
    coord_sampler_params_t p      = coord_sampler_defaults();
    FILE                  *f      = NULL;

    (void)state;
    snprintf(path, sizeof path, "%s/tests/coordinator/sampler.table",
             source != NULL ? source : ".");
    f = fopen(path, "r");
    if (f == NULL) fail_msg("no %s", path);
    while (fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "case", 4) == 0) {
            char       order[128];
            base_err_t err = {0};

            assert_int_equal(sscanf(line, "case %f %d %f %f %f %f %f %d %f %127s", &p.temp,
                                    &p.top_k, &p.top_p, &p.min_p, &p.repeat_penalty,
                                    &p.presence_penalty, &p.frequency_penalty, &p.repeat_last_n,
                                    &p.typical_p, order),
                             10);
            assert_int_equal(coord_sampler_order_parse(order, &p, &err), BASE_OK);
            p.seed = (uint64_t)++number;
        } else if (strncmp(line, "logits", 6) == 0) {
            n_logits = read_floats(line, logits);
        } else if (strncmp(line, "history", 7) == 0) {
            n_history = read_floats(line, history);
        } else {
            coord_sampler_t *s = create(&p, (uint32_t)n_logits);

            for (int again = 0; again < 2; again++) { /* after a reset as at first */
                coord_sampler_reset(s);
                for (size_t i = 0; i < n_history; i++) coord_sampler_accept(s, (int32_t)history[i]);
                check_left(s, sample(s, logits, n_history), line, number);
            }
            coord_sampler_destroy(&s);
        }
    }
    fclose(f);
    assert_int_equal(number, 104);
}

/* chi square of 100,000 draws: 6 degrees of freedom, p = 0.001 at 22.46; the seed is fixed. */
static void draws_follow_probabilities(void **state)
{
    const float            logits[7] = {0.5F, 2.0F, 1.0F, -1.0F, 0.0F, 1.5F, 1.0F};
    coord_sampler_params_t p         = coord_sampler_defaults();
    coord_sampler_t       *s;
    enum { DRAWS = 100000 };

    (void)state;
    p.top_p = 1;
    p.min_p = 0;
    p.seed  = 42;
    s       = create(&p, 7);
    for (uint64_t sequence = 0; sequence < 2; sequence++) {
        uint32_t                 counts[7] = {0}, n = 0;
        double                   chi = 0;
        const coord_candidate_t *c;

        p.sequence = sequence;
        coord_sampler_destroy(&s);
        s = create(&p, 7);
        for (uint64_t i = 0; i < DRAWS; i++) counts[sample(s, logits, i).id]++;
        c = coord_sampler_candidates(s, &n);
        assert_int_equal(n, 7);
        for (uint32_t i = 0; i < n; i++) {
            double expected = c[i].prob * DRAWS, off = (double)counts[c[i].id] - expected;

            chi += off * off / expected;
        }
        if (chi > 22.46) fail_msg("chi square is %g", chi);
    }
    coord_sampler_destroy(&s);
}

/* The same (seed, sequence, position) draws the same; each of them matters. */
static void keyed_not_carried(void **state)
{
    float                  logits[100];
    coord_sampler_params_t p = coord_sampler_defaults();
    coord_sampler_t       *s;
    int32_t                ids[50], same_seed = 0, same_sequence = 0;

    (void)state;
    for (int i = 0; i < 100; i++) logits[i] = (float)(i % 10) * 0.01F;
    p.top_k = 0;
    p.top_p = 1;
    p.min_p = 0;
    p.seed  = 7;
    s       = create(&p, 100);
    for (uint64_t i = 0; i < 50; i++) ids[i] = sample(s, logits, i).id;
    for (uint64_t i = 50; i-- > 0;) assert_int_equal(sample(s, logits, i).id, ids[i]);
    coord_sampler_destroy(&s);
    p.seed = 8;
    s      = create(&p, 100);
    for (uint64_t i = 0; i < 50; i++) same_seed += sample(s, logits, i).id == ids[i];
    coord_sampler_destroy(&s);
    p.seed     = 7;
    p.sequence = 1;
    s          = create(&p, 100);
    for (uint64_t i = 0; i < 50; i++) same_sequence += sample(s, logits, i).id == ids[i];
    coord_sampler_destroy(&s);
    assert_true(same_seed < 10 && same_sequence < 10);
}

/* Selecting the k first and sorting everything agree; ties go to the lower id. */
static void select_equals_sort(void **state)
{
    enum { N = 20000, K = 50 };
    static float             logits[N];
    coord_sampler_params_t   p = coord_sampler_defaults();
    const coord_candidate_t *a, *b;
    uint32_t                 n = 0;

    (void)state;
    p.top_p = 1;
    p.min_p = 0;
    for (int shape = 0; shape < 4; shape++) {
        coord_sampler_t *few, *all;

        for (int i = 0; i < N; i++) {
            float r = (float)coord_random(3, 0, (uint64_t)i);

            logits[i] = shape == 0   ? r * 20 - 10
                        : shape == 1 ? (float)(i / 7)
                        : shape == 2 ? (float)(-i / 7)
                                     : (float)(int)(r * 4) - 2;
        }
        p.top_k = K;
        few     = create(&p, N);
        p.top_k = 0;
        all     = create(&p, N);
        sample(few, logits, 0);
        sample(all, logits, 0);
        a = coord_sampler_candidates(few, &n);
        assert_int_equal(n, K);
        b = coord_sampler_candidates(all, &n);
        assert_int_equal(n, N);
        for (int i = 0; i < K; i++) {
            assert_int_equal(a[i].id, b[i].id);
            assert_true(a[i].logit == b[i].logit && a[i].logit == logits[a[i].id]);
        }
        for (int i = 1; i < N; i++)
            assert_true(b[i].logit < b[i - 1].logit ||
                        (b[i].logit == b[i - 1].logit && b[i].id > b[i - 1].id));
        coord_sampler_destroy(&few);
        coord_sampler_destroy(&all);
    }
}

static void greedy_takes_lowest_id(void **state)
{
    float                  logits[6] = {-0.0F, -1.0F, 0.0F, -3.0F, 0.0F, -0.0F};
    coord_sampler_params_t p         = coord_sampler_defaults();
    coord_sampler_t       *s;
    coord_sample_t         got;
    base_err_t             err = {0};

    (void)state;
    p.temp         = 0;
    p.want_logprob = true;
    s              = create(&p, 6);
    got            = sample(s, logits, 9);
    assert_int_equal(got.id, 0);
    assert_true(fabs(got.logprob + log(4 + exp(-1) + exp(-3))) < 1e-15);
    assert_int_equal(coord_sampler_bias(s, 0, -INFINITY, &err), BASE_OK);
    assert_int_equal(sample(s, logits, 9).id, 2);
    assert_int_equal(coord_sampler_bias(s, 1, 2.0F, &err), BASE_OK);
    assert_int_equal(sample(s, logits, 9).id, 1);
    for (int i = 0; i < 6; i++)
        assert_int_equal(coord_sampler_bias(s, i, -INFINITY, &err), BASE_OK);
    assert_int_equal(coord_sampler_sample(s, logits, 0, &got, &err), BASE_ERR_INPUT);
    coord_sampler_destroy(&s);
    p.temp = 1;
    s      = create(&p, 6);
    for (int i = 0; i < 6; i++)
        assert_int_equal(coord_sampler_bias(s, i, i == 3 ? 0 : -INFINITY, &err), BASE_OK);
    assert_int_equal(sample(s, logits, 0).id, 3);
    coord_sampler_destroy(&s);
}

/* The long way gives the bits of the short one where both apply: a stage that keeps everything, in
 * a place where it only makes the order unusual. */
static void two_ways_agree(void **state)
{
    enum { N = 3000 };
    static float             logits[N];
    static coord_candidate_t want[N];
    base_err_t               err = {0};
    const coord_candidate_t *got;

    (void)state;
    for (int i = 0; i < N; i++)
        logits[i] = (float)(int)(coord_random(5, 0, (uint64_t)i) * 40) * 0.37F - 5;
    for (unsigned shape = 0; shape < 16; shape++) {
        coord_sampler_params_t p = coord_sampler_defaults();
        coord_sampler_t       *s = NULL;
        coord_sample_t         a, b;
        uint32_t               n = 0, m = 0;

        p.seed             = shape;
        p.temp             = (shape & 1) != 0 ? 0.7F : 1.9F;
        p.top_k            = (shape & 2) != 0 ? 200 : 0;
        p.min_p            = (shape & 4) != 0 ? 0.1F : 0;
        p.top_p            = (shape & 8) != 0 ? 0.9F : 1;
        p.repeat_penalty   = 1.4F;
        p.presence_penalty = 0.3F;
        s                  = create(&p, N);
        for (int32_t i = 0; i < 90; i++) coord_sampler_accept(s, i % 50);
        assert_int_equal(coord_sampler_bias(s, 7, 3.5F, &err), BASE_OK);
        a   = sample(s, logits, 77);
        got = coord_sampler_candidates(s, &n);
        memcpy(want, got, n * sizeof *got);
        coord_sampler_destroy(&s);

        assert_int_equal(
            coord_sampler_order_parse("penalties;top_k;top_p;min_p;temperature;typ_p", &p, &err),
            BASE_OK);
        p.typical_p = 0x1.fffffep-1F; /* the long way; keeps all but what has no weight */
        s           = create(&p, N);
        for (int32_t i = 0; i < 90; i++) coord_sampler_accept(s, i % 50);
        assert_int_equal(coord_sampler_bias(s, 7, 3.5F, &err), BASE_OK);
        b   = sample(s, logits, 77);
        got = coord_sampler_candidates(s, &m);
        assert_true(m <= n && m > n / 2);
        if (m == n) {
            assert_int_equal(a.id, b.id);
            for (uint32_t i = 0; i < n; i++)
                assert_true(got[i].id == want[i].id && got[i].logit == want[i].logit &&
                            got[i].prob == want[i].prob);
        }
        coord_sampler_destroy(&s);
    }
}

/* Ids in the order of the sampler: value descending, id ascending. */
static const float *order_by;

static int by_order(const void *a, const void *b)
{
    const int32_t l = *(const int32_t *)a, r = *(const int32_t *)b;

    if (order_by[l] != order_by[r]) return order_by[l] > order_by[r] ? -1 : 1;
    return l < r ? -1 : l > r;
}

static float some(uint64_t round, uint64_t i)
{
    return (float)coord_random(11, round, i);
}

/* One sampler of many: parameters, biases, what was accepted. */
static coord_sampler_t *any_sampler(uint64_t round, uint32_t n_vocab, bool *few)
{
    static const char *const orders[]  = {"penalties;top_k;typ_p;top_p;min_p;temperature",
                                          "top_k;penalties;temperature;top_p",
                                          "penalties;top_k;min_p;temperature;top_p",
                                          "temperature;top_k",
                                          "top_p;top_k;temperature",
                                          "penalties;temperature"};
    static const float       factors[] = {1, 1, 1.3F, 2, 0.8F};
    coord_sampler_params_t   p         = coord_sampler_defaults();
    base_err_t               err       = {0};
    coord_sampler_t         *s         = NULL;

    p.seed = round;
    p.temp = some(round, 1) < 0.3F ? 0 : 2 * some(round, 2);
    assert_int_equal(coord_sampler_order_parse(orders[(int)(some(round, 3) * 6)], &p, &err),
                     BASE_OK);
    p.top_k             = (int32_t)(some(round, 4) * 60);
    p.typical_p         = some(round, 5) < 0.7F ? 1 : 0.8F;
    p.repeat_penalty    = factors[(int)(some(round, 6) * 5)];
    p.repeat_last_n     = some(round, 7) < 0.1F ? -1 : (int32_t)(some(round, 8) * 70);
    p.presence_penalty  = some(round, 9) < 0.8F ? 0 : some(round, 10) * 2 - 0.5F;
    p.frequency_penalty = some(round, 11) < 0.8F ? 0 : some(round, 12) * 2 - 0.5F;
    *few                = coord_sampler_few(&p);
    s                   = create(&p, n_vocab);
    for (int i = 0; i < 100; i++)
        coord_sampler_accept(s, (int32_t)(some(round, 20 + (uint64_t)i) * 80));
    for (int i = 0; i < (int)(some(round, 13) * 12) - 4; i++) {
        const int32_t id = (int32_t)(some(round, 200 + (uint64_t)i) * 60);
        const float   b  = i % 3 == 0 ? -INFINITY : -some(round, 300 + (uint64_t)i) * 3;
        assert_int_equal(coord_sampler_bias(s, id, b, &err), BASE_OK);
    }
    if (some(round, 14) < 0.05F) assert_int_equal(coord_sampler_bias(s, 900, 9, &err), BASE_OK);
    return s;
}

/* Samples from the best logits alone, the number that n_top names, are those from all of them: also
 * with ties at the edge, with biases and penalties on the best ids. */
static void the_best_suffice(void **state)
{
    enum { N = 1000, ROUNDS = 4000 };
    static float   all[N], best[N];
    static int32_t ids[N];
    unsigned       fewer = 0, not_few = 0;

    (void)state;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        bool             few = false;
        coord_sampler_t *s   = any_sampler(round, N, &few);
        const uint32_t   n   = coord_sampler_n_top(s);
        coord_sample_t   want, got;

        /* low ids are the likely ones, and coarse steps make ties */
        for (int32_t i = 0; i < N; i++) {
            all[i]  = floorf((some(round, 1000 + (uint64_t)i) * 8 - (float)i * 0.01F) * 8) / 8;
            best[i] = PART_LOGIT_UNSEEN;
            ids[i]  = i;
        }
        not_few += !few;
        assert_true(few || n == 0);
        if (n > 0) {
            order_by = all;
            qsort(ids, N, sizeof *ids, by_order);
            for (uint32_t i = 0; i < n; i++) best[ids[i]] = all[ids[i]];
            want = sample(s, all, round);
            got  = sample(s, best, round);
            if (want.id != got.id || want.n_candidates != got.n_candidates || want.prob != got.prob)
                fail_msg("round %llu, the best %u: token %d of %u, not %d of %u",
                         (unsigned long long)round, n, got.id, got.n_candidates, want.id,
                         want.n_candidates);
            fewer++;
        }
        coord_sampler_destroy(&s);
    }
    printf("%u of %d samplers need few logits\n", fewer, (int)ROUNDS);
    assert_true(fewer > ROUNDS / 4 && not_few > ROUNDS / 10);
}

/* What n_top names, by hand. */
static void how_many_are_needed(void **state)
{
    coord_sampler_params_t p   = coord_sampler_defaults();
    base_err_t             err = {0};
    coord_sampler_t       *s   = create(&p, 1000);

    (void)state;
    assert_int_equal(coord_sampler_n_top(s), 40);
    assert_int_equal(coord_sampler_bias(s, 3, -1, &err), BASE_OK);
    assert_int_equal(coord_sampler_bias(s, 4, -INFINITY, &err), BASE_OK);
    assert_int_equal(coord_sampler_bias(s, 3, -2, &err), BASE_OK);
    assert_int_equal(coord_sampler_n_top(s), 42);
    assert_int_equal(coord_sampler_bias(s, 3, 0.5F, &err), BASE_OK); /* may lift any id */
    assert_int_equal(coord_sampler_n_top(s), 0);
    coord_sampler_destroy(&s);

    p.repeat_penalty = 1.1F;
    s                = create(&p, 1000);
    for (int32_t i = 0; i < 5; i++) coord_sampler_accept(s, i);
    assert_int_equal(coord_sampler_n_top(s), 45);
    coord_sampler_destroy(&s);
    p.temp = 0; /* greedy */
    s      = create(&p, 1000);
    assert_int_equal(coord_sampler_n_top(s), 1);
    coord_sampler_destroy(&s);
    p.want_logprob = true;
    s              = create(&p, 1000);
    assert_int_equal(coord_sampler_n_top(s), 0);
    coord_sampler_destroy(&s);
    assert_false(coord_sampler_few(&p));
    p       = coord_sampler_defaults();
    p.top_k = 0; /* all may be drawn */
    assert_false(coord_sampler_few(&p));
}

static void order_names(void **state)
{
    coord_sampler_params_t p   = coord_sampler_defaults();
    base_err_t             err = {0};
    const char *const bad[]    = {"top_k;", ";", "dry", "top_k;top-k", "top_k top_p", "temp,top_k"};

    (void)state;
    assert_int_equal(coord_sampler_order_parse("temp;nucleus;typical;top-k", &p, &err), BASE_OK);
    assert_int_equal(p.n_order, 4);
    assert_int_equal(p.order[0], COORD_STAGE_TEMPERATURE);
    assert_int_equal(p.order[2], COORD_STAGE_TYP_P);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(coord_sampler_order_parse(bad[i], &p, &err), BASE_ERR_USAGE);
        assert_non_null(strstr(err.text, "temperature"));
        assert_int_equal(p.n_order, 4);
    }
    assert_int_equal(coord_sampler_order_parse("", &p, &err), BASE_OK);
    assert_int_equal(p.n_order, 0);
}

/* repeat_last_n: 0 looks at nothing, -1 at all, n at the latest n. */
static void how_far_back(void **state)
{
    const float            logits[4] = {1, 2, 3, 4};
    const int32_t          history[] = {3, 2, 1, 1, 1};
    coord_sampler_params_t p         = coord_sampler_defaults();
    const struct {
        int32_t last_n, best;
    } cases[] = {{0, 3}, {-1, 0}, {3, 3}, {4, 3}, {5, 0}, {64, 0}};

    (void)state;
    p.temp             = 0;
    p.presence_penalty = 10;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        coord_sampler_t *s = NULL;

        p.repeat_last_n = cases[i].last_n;
        s               = create(&p, 4);
        for (size_t k = 0; k < 5; k++) coord_sampler_accept(s, history[k]);
        assert_int_equal(sample(s, logits, 0).id, cases[i].best);
        coord_sampler_destroy(&s);
    }
}

static void top_logprobs(void **state)
{
    float           logits[200];
    coord_logprob_t top[200];
    double          sum = 0;

    (void)state;
    for (int i = 0; i < 200; i++) logits[i] = (float)(i * 37 % 23) * 0.5F;
    for (int i = 0; i < 200; i++) sum += exp((double)logits[i]);
    for (uint32_t n = 0; n <= 200; n += 40) {
        assert_true(coord_top_logprobs(logits, 200, n, top));
        for (uint32_t i = 0; i < n; i++) {
            double want = (double)logits[top[i].id] - log(sum);

            assert_true(fabs(top[i].logprob - want) < 1e-13);
            if (i > 0)
                assert_true(
                    logits[top[i].id] < logits[top[i - 1].id] ||
                    (logits[top[i].id] == logits[top[i - 1].id] && top[i].id > top[i - 1].id));
        }
    }
    assert_true(logits[top[0].id] == 11); /* all of them: a permutation, the best first */
    logits[5] = NAN;
    assert_false(coord_top_logprobs(logits, 200, 3, top));
}

static void errors(void **state)
{
    float                  logits[4] = {0, 1, 2, 3};
    const float            bad[]     = {NAN, INFINITY, -INFINITY};
    coord_sampler_params_t p         = coord_sampler_defaults();
    coord_sampler_t       *s         = create(&p, 4);
    coord_sample_t         got       = {.id = 77};
    base_err_t             err       = {0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        logits[2] = bad[i];
        assert_int_equal(coord_sampler_sample(s, logits, 12, &got, &err), BASE_ERR_INPUT);
        assert_int_equal(got.id, 77);
        assert_non_null(strstr(err.text, "position 12"));
        assert_non_null(strstr(err.text, "token 2"));
    }
    assert_int_equal(coord_sampler_bias(s, 4, 0, &err), BASE_ERR_USAGE);
    assert_int_equal(coord_sampler_bias(s, -1, 0, &err), BASE_ERR_USAGE);
    assert_int_equal(coord_sampler_bias(s, 0, NAN, &err), BASE_ERR_USAGE);
    coord_sampler_accept(s, -5);
    coord_sampler_accept(s, 4);
    coord_sampler_destroy(&s);
    p.repeat_penalty = 0;
    assert_int_equal(coord_sampler_create(&p, 4, &s, &err), BASE_ERR_USAGE);
    assert_non_null(strstr(err.text, "--repeat-penalty"));
    p       = coord_sampler_defaults();
    p.top_p = NAN;
    assert_int_equal(coord_sampler_create(&p, 4, &s, &err), BASE_ERR_USAGE);
    p = coord_sampler_defaults();
    assert_int_equal(coord_sampler_create(&p, 0, &s, &err), BASE_ERR_LIMIT);
    assert_null(s);
}

/* Extremes that must not overflow into nonsense. */
static void extreme_values(void **state)
{
    float                  logits[3] = {3e38F, -3e38F, 3e38F};
    coord_sampler_params_t p         = coord_sampler_defaults();
    coord_sampler_t       *s;

    (void)state;
    p.repeat_penalty = 1e-6F;
    p.temp           = 1e-30F;
    s                = create(&p, 3);
    coord_sampler_accept(s, 0);
    coord_sampler_accept(s, 1);
    for (uint64_t i = 0; i < 100; i++) assert_int_equal(sample(s, logits, i).id, 0);
    coord_sampler_destroy(&s);
    p.temp  = 1e30F;
    p.min_p = 0;
    p.top_p = 1;
    s       = create(&p, 3);
    for (uint64_t i = 0; i < 100; i++) assert_true(sample(s, logits, i).prob > 0);
    coord_sampler_destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_vectors),
        cmocka_unit_test(chain_table),
        cmocka_unit_test(draws_follow_probabilities),
        cmocka_unit_test(keyed_not_carried),
        cmocka_unit_test(select_equals_sort),
        cmocka_unit_test(greedy_takes_lowest_id),
        cmocka_unit_test(two_ways_agree),
        cmocka_unit_test(the_best_suffice),
        cmocka_unit_test(how_many_are_needed),
        cmocka_unit_test(order_names),
        cmocka_unit_test(how_far_back),
        cmocka_unit_test(top_logprobs),
        cmocka_unit_test(errors),
        cmocka_unit_test(extreme_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
