/* tests/coordinator/perplexity.c: what is counted, over an engine whose answers are known: its
 * logits are logarithms of whole numbers that depend on the first token of the context, the latest
 * one and its position, so that probabilities are quotients. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/perplexity.h"

enum { VOCAB = 258, EOS = 256, BOS = 257, CONTEXT = 32, ROWS = 16 };

static model_vocab_t *vocabulary(void)
{
    static char          names[256][8];
    static model_str_t   tokens[VOCAB];
    static uint8_t       types[VOCAB];
    static model_vocab_t v;

    for (unsigned b = 0; b < 256; b++) {
        snprintf(names[b], sizeof names[b], "<0x%02X>", b);
        tokens[b] = (model_str_t){.text = names[b], .bytes = 6};
        types[b]  = MODEL_TOKEN_BYTE;
    }
    tokens[' '] = (model_str_t){.text = "\xE2\x96\x81", .bytes = 3};
    types[' ']  = MODEL_TOKEN_NORMAL;
    tokens[EOS] = (model_str_t){.text = "</s>", .bytes = 4};
    tokens[BOS] = (model_str_t){.text = "<s>", .bytes = 3};
    types[EOS] = types[BOS] = MODEL_TOKEN_CONTROL;
    v                       = (model_vocab_t){.kind     = MODEL_VOCAB_SPM,
                                              .n_tokens = VOCAB,
                                              .tokens   = tokens,
                                              .types    = types,
                                              .bos      = BOS,
                                              .eos      = EOS,
                                              .eot      = -1,
                                              .unk      = -1,
                                              .pad      = -1};
    return &v;
}

static double weight(int32_t first, int32_t from, uint32_t pos, int32_t to)
{
    return 1 + (double)((first * 5 + from * 31 + (int32_t)pos * 7 + to * 17) % 23);
}

static double nll_of(int32_t first, int32_t from, uint32_t pos, int32_t to)
{
    double sum = 0;

    for (int32_t i = 0; i < VOCAB; i++) sum += weight(first, from, pos, i);
    return log(sum) - log(weight(first, from, pos, to));
}

typedef struct {
    uint32_t              n_held, n_batch, n_out_max, n_rows, n_steps;
    float                 logits[PART_FLIGHTS_MAX][ROWS][VOCAB]; /* a ring of steps with rows */
    uint32_t              oldest, n_air, n_flights, most, n_flown;
    volatile sig_atomic_t flag;
    bool                  poisoned;
    int32_t               first;
} engine_t;

static base_status_t submit(void *ctx, const part_batch_t *batch, base_err_t *err)
{
    engine_t      *e   = ctx;
    const int32_t *ids = batch->ids;
    const uint32_t n = batch->runs[0].n, pos = batch->runs[0].pos, n_out = batch->runs[0].n_out;
    const uint32_t slot  = (e->oldest + e->n_air) % PART_FLIGHTS_MAX;
    const uint32_t stale = (e->oldest + PART_FLIGHTS_MAX - 1) % PART_FLIGHTS_MAX; /* collected */

    (void)err;
    assert_int_equal(batch->n_runs, 1);
    assert_int_equal(batch->n_ids, n);
    assert_int_equal(batch->runs[0].seq, 0);
    assert_in_range(n, 1, e->n_batch);
    assert_true(pos == 0 || pos == e->n_held);
    assert_true(n_out <= n && n_out <= e->n_out_max && pos + n < CONTEXT + 1);
    if (pos == 0) e->first = ids[0];
    e->n_held = pos + n;
    e->n_rows += n_out;
    e->n_steps++;
    memset(e->logits[stale], 0xff, sizeof e->logits[stale]);
    if (n_out == 0) return BASE_OK;
    assert_true(e->n_air < e->n_flights);
    e->n_flown++;
    e->n_air++;
    if (e->n_air > e->most) e->most = e->n_air;
    for (uint32_t i = 0; i < n_out; i++) {
        uint32_t at = n - n_out + i;

        for (int32_t t = 0; t < VOCAB; t++)
            e->logits[slot][i][t] = (float)log(weight(e->first, ids[at], pos + at, t));
        if (e->poisoned) e->logits[slot][i][9] = NAN;
    }
    return BASE_OK;
}

static base_status_t collect(void *ctx, const float **logits, base_err_t *err)
{
    engine_t *e = ctx;

    (void)err;
    assert_true(e->n_air > 0);
    *logits   = e->logits[e->oldest][0];
    e->oldest = (e->oldest + 1) % PART_FLIGHTS_MAX;
    e->n_air--;
    return BASE_OK;
}

static engine_t           engine;
static model_vocab_t     *vocab;
static coord_tokenizer_t *tokenizer;

static int setup(void **state)
{
    base_err_t err = {0};

    (void)state;
    vocab = vocabulary();
    return coord_tokenizer_create(vocab, &tokenizer, &err) == BASE_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    coord_tokenizer_destroy(&tokenizer);
    return 0;
}

static coord_score_params_t params(coord_score_mode_t mode, uint32_t n_ctx, uint32_t n_batch,
                                   uint32_t n_out_max)
{
    memset(&engine, 0, sizeof engine);
    engine.n_batch   = n_batch;
    engine.n_out_max = n_out_max;
    engine.n_flights = 1;
    vocab->add_bos   = true;
    vocab->bos       = BOS;
    return (coord_score_params_t){.submit    = submit,
                                  .collect   = collect,
                                  .step_ctx  = &engine,
                                  .n_flights = 1,
                                  .n_vocab   = VOCAB,
                                  .n_ctx     = n_ctx,
                                  .n_batch   = n_batch,
                                  .n_out_max = n_out_max,
                                  .tokenizer = tokenizer,
                                  .mode      = mode,
                                  .interrupt = &engine.flag};
}

static coord_score_result_t score(const coord_score_params_t *p, const char *text)
{
    coord_score_result_t r   = {0};
    base_err_t           err = {0};

    if (coord_score(p, text, strlen(text), &r, &err) != BASE_OK) fail_msg("%s", err.text);
    return r;
}

static void near(double got, double expected)
{
    if (!(fabs(got - expected) <= 2e-6 * fabs(expected))) /* logits are float */
        fail_msg("%.17g, expected %.17g", got, expected);
}

static const char TEXT[] =
    "It was a bright cold day in April, and the clocks were striking thirteen.";

/* llama-perplexity's loop, written out: with BOS in front, chunks of n_ctx, the second half. */
static void chunks_as_llama_perplexity(void **state)
{
    (void)state;
    for (int add_bos = 0; add_bos < 2; add_bos++)
        for (uint32_t n_ctx = 4; n_ctx <= CONTEXT; n_ctx += 3) {
            coord_score_params_t p = params(COORD_SCORE_CHUNKS, n_ctx, 8, ROWS);
            coord_score_result_t r;
            int32_t              tokens[128];
            uint32_t             n = 0, count = 0;
            double               nll = 0, nll2 = 0;

            vocab->add_bos = add_bos == 1;
            if (vocab->add_bos) tokens[n++] = BOS;
            for (const char *c = TEXT; *c != '\0'; c++) tokens[n++] = (unsigned char)*c;
            if (n < 2 * n_ctx) continue;
            for (uint32_t chunk = 0; chunk < n / n_ctx; chunk++)
                for (uint32_t j = n_ctx / 2; j < n_ctx - 1; j++) {
                    const int32_t *t     = tokens + chunk * n_ctx;
                    int32_t        first = vocab->add_bos ? BOS : t[0];
                    double         v     = nll_of(first, t[j], j, t[j + 1]);

                    nll += v;
                    nll2 += v * v;
                    count++;
                }
            r = score(&p, TEXT);
            assert_int_equal(r.n_tokens, n);
            assert_int_equal(r.n_scored, count);
            assert_int_equal(r.n_chunks, n / n_ctx);
            assert_int_equal(engine.n_rows, count); /* no row is asked for in vain */
            near(r.nll_sum, nll);
            nll /= count;
            nll2 = nll2 / count - nll * nll;
            near(r.nll, nll);
            near(r.ppl, exp(nll));
            if (fabs(r.ppl_error - sqrt(nll2 / (count - 1)) * exp(nll)) > 1e-4 * r.ppl_error)
                fail_msg("error is %g", r.ppl_error);
            assert_true(isnan(r.bits_per_byte));
        }
}

static void counts_chunks(void **state)
{
    coord_score_params_t p = params(COORD_SCORE_CHUNKS, 4, 4, ROWS);
    coord_score_result_t r;

    (void)state;
    p.n_chunks = 2;
    r          = score(&p, TEXT);
    assert_int_equal(r.n_chunks, 2);
    assert_int_equal(r.n_scored, 2); /* 4 - 1 - 4 / 2 a chunk */
    assert_int_equal(r.n_tokens, strlen(TEXT) + 1);
}

static char told[1 << 14]; /* what was said of the progress */

static bool tell(void *ctx, uint64_t done, uint64_t total, double ppl)
{
    size_t n = strlen(told);

    (void)ctx;
    (void)snprintf(told + n, sizeof told - n, "%d/%d %.17g\n", (int)done, (int)total, ppl);
    return true;
}

/* How many steps fly changes nothing, to the last bit, nor what is said on the way. */
static void flights_do_not_matter(void **state)
{
    static const char        text[]  = "One day.\nHe ran. And ran.\nTwo.\n\n\nEnd\nx\n";
    const coord_score_mode_t modes[] = {COORD_SCORE_CHUNKS, COORD_SCORE_STREAM,
                                        COORD_SCORE_STORIES};
    static char              first_told[sizeof told];

    (void)state;
    for (int m = 0; m < 3; m++)
        for (uint32_t n_ctx = 4; n_ctx <= 20; n_ctx += 5)
            for (uint32_t rows = 1; rows <= ROWS; rows += 5) {
                coord_score_result_t first = {0};

                for (uint32_t n = 1; n <= PART_FLIGHTS_MAX; n++) {
                    coord_score_params_t p = params(modes[m], n_ctx, 6, rows);
                    coord_score_result_t r;

                    p.n_flights = engine.n_flights = n;
                    p.on_progress                  = tell;
                    told[0]                        = '\0';
                    r                              = score(&p, text);
                    if (n == 1) first = r;
                    if (n == 1) memcpy(first_told, told, sizeof told);
                    assert_memory_equal(&r.nll_sum, &first.nll_sum, sizeof r.nll_sum);
                    assert_memory_equal(&r.ppl_error, &first.ppl_error, sizeof r.ppl_error);
                    assert_int_equal(r.bytes, first.bytes);
                    assert_string_equal(told, first_told);
                    assert_int_equal(engine.n_air, 0);
                    assert_int_equal(engine.most, n < engine.n_flown ? n : engine.n_flown);
                }
            }
}

/* How many tokens and rows a step takes changes nothing, to the last bit. */
static void steps_do_not_matter(void **state)
{
    const coord_score_mode_t modes[] = {COORD_SCORE_CHUNKS, COORD_SCORE_STREAM,
                                        COORD_SCORE_STORIES};

    (void)state;
    for (int m = 0; m < 3; m++) {
        coord_score_params_t p     = params(modes[m], 20, CONTEXT, ROWS);
        double               first = 0;

        for (uint32_t n_batch = 1; n_batch <= 20; n_batch++)
            for (uint32_t rows = 1; rows <= ROWS; rows += 5) {
                coord_score_result_t r;

                p = params(modes[m], 20, n_batch, rows);
                r = score(&p, TEXT);
                if (n_batch == 1 && rows == 1) first = r.nll_sum;
                assert_true(r.nll_sum == first);
            }
    }
}

static double window_nll(const char *text, size_t bytes, uint32_t n_ctx)
{
    double nll = 0;

    for (size_t i = 0; i < bytes; i++) {
        uint32_t pos  = (uint32_t)(i % (n_ctx - 1));
        int32_t  from = pos == 0 ? BOS : (unsigned char)text[i - 1];

        nll += nll_of(BOS, from, pos, (unsigned char)text[i]);
    }
    return nll;
}

static void stream_scores_every_token(void **state)
{
    (void)state;
    for (uint32_t n_ctx = 2; n_ctx <= CONTEXT; n_ctx += 5) {
        coord_score_params_t p   = params(COORD_SCORE_STREAM, n_ctx, 8, 4);
        size_t               n   = strlen(TEXT);
        double               nll = window_nll(TEXT, n, n_ctx);
        coord_score_result_t r   = score(&p, TEXT);

        assert_int_equal(r.n_scored, n);
        assert_int_equal(r.n_tokens, n);
        assert_int_equal(r.bytes, n);
        assert_int_equal(r.n_chunks, (n + n_ctx - 2) / (n_ctx - 1));
        near(r.nll_sum, nll);
        near(r.bits_per_byte, nll / log(2) / (double)n);
        p.n_chunks = 2;
        r          = score(&p, TEXT);
        assert_int_equal(r.n_scored, 2 * (n_ctx - 1));
        assert_int_equal(r.bytes, 2 * (n_ctx - 1)); /* byte tokens */
        near(r.nll_sum, window_nll(TEXT, 2 * (n_ctx - 1), n_ctx));
    }
}

static void stories_are_scored_alone(void **state)
{
    static const char text[] =
        "One day.\n\nHe ran.\nTwo.\n\n\nEnd\nThree is longer than a window of it\n";
    static const char *const docs[] = {"One day.\n\nHe ran.", "Two.\n\n\nEnd",
                                       "Three is longer than a window of it"};
    coord_score_params_t     p      = params(COORD_SCORE_STORIES, 12, 5, 3);
    coord_score_result_t     r      = score(&p, text);
    double                   nll    = 0;
    size_t                   bytes  = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        nll += window_nll(docs[i], strlen(docs[i]), 12);
        bytes += strlen(docs[i]);
    }
    assert_int_equal(r.n_chunks, 3);
    assert_int_equal(r.n_scored, bytes);
    assert_int_equal(r.bytes, bytes);
    near(r.nll_sum, nll);
    near(r.bits_per_byte, nll / log(2) / (double)bytes);
    p.n_chunks = 1;
    r          = score(&p, text);
    assert_int_equal(r.bytes, strlen(docs[0]));
    vocab->bos = -1; /* EOS stands in */
    r          = score(&p, "x");
    near(r.nll, nll_of(EOS, EOS, 0, 'x'));
}

static bool stop_at_two(void *ctx, uint64_t done, uint64_t total, double ppl)
{
    assert_null(ctx);
    assert_true(done <= total && ppl > 1);
    return done < 2;
}

static void errors(void **state)
{
    coord_score_params_t p   = params(COORD_SCORE_CHUNKS, 64, 8, 8);
    coord_score_result_t r   = {.n_scored = 77};
    base_err_t           err = {0};

    (void)state;
    assert_int_equal(coord_score(&p, TEXT, strlen(TEXT), &r, &err), BASE_ERR_INPUT);
    assert_non_null(strstr(err.text, "128"));
    p = params(COORD_SCORE_CHUNKS, 3, 8, 8);
    assert_int_equal(coord_score(&p, TEXT, strlen(TEXT), &r, &err), BASE_ERR_USAGE);
    p = params(COORD_SCORE_STREAM, 1, 8, 8);
    assert_int_equal(coord_score(&p, TEXT, strlen(TEXT), &r, &err), BASE_ERR_USAGE);
    p = params(COORD_SCORE_STREAM, 8, 8, 8);
    assert_int_equal(coord_score(&p, "", 0, &r, &err), BASE_ERR_INPUT);
    p = params(COORD_SCORE_STORIES, 8, 8, 8);
    assert_int_equal(coord_score(&p, "\n\n", 0, &r, &err), BASE_ERR_INPUT);
    vocab->bos = vocab->eos = -1;
    assert_int_equal(coord_score(&p, "x", 1, &r, &err), BASE_ERR_UNSUPPORTED);
    vocab->eos      = EOS;
    p               = params(COORD_SCORE_STREAM, 8, 8, 8);
    engine.poisoned = true;
    assert_int_equal(coord_score(&p, "x", 1, &r, &err), BASE_ERR_INPUT);
    assert_non_null(strstr(err.text, "token 9"));
    p           = params(COORD_SCORE_STREAM, 8, 8, 8);
    engine.flag = 1;
    assert_int_equal(coord_score(&p, "x", 1, &r, &err), BASE_ERR_INTERRUPTED);
    p             = params(COORD_SCORE_STREAM, 8, 8, 8);
    p.on_progress = stop_at_two;
    assert_int_equal(coord_score(&p, TEXT, strlen(TEXT), &r, &err), BASE_ERR_INTERRUPTED);
    p          = params(COORD_SCORE_STREAM, 8, 8, 8);
    p.n_vocab  = 'b';
    vocab->bos = 'a';
    assert_int_equal(coord_score(&p, "abc", 3, &r, &err), BASE_ERR_INPUT);
    assert_int_equal(r.n_scored, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_as_llama_perplexity),
        cmocka_unit_test(counts_chunks),
        cmocka_unit_test(flights_do_not_matter),
        cmocka_unit_test(steps_do_not_matter),
        cmocka_unit_test(stream_scores_every_token),
        cmocka_unit_test(stories_are_scored_alone),
        cmocka_unit_test(errors),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
