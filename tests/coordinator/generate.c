/* tests/coordinator/generate.c: the loop over an engine that says what it is told to say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/generate.h"

enum { VOCAB = 259, EOS = 256, BOS = 257, SPACE_A = 258, SCRIPT = 64 };

/* 256 byte tokens, EOS, BOS, " a". */
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
    tokens[EOS]     = (model_str_t){.text = "</s>", .bytes = 4};
    tokens[BOS]     = (model_str_t){.text = "<s>", .bytes = 3};
    tokens[SPACE_A] = (model_str_t){.text  = "\xE2\x96\x81"
                                             "a",
                                    .bytes = 4};
    types[EOS] = types[BOS] = MODEL_TOKEN_CONTROL;
    types[SPACE_A]          = MODEL_TOKEN_NORMAL;
    v                       = (model_vocab_t){.kind             = MODEL_VOCAB_SPM,
                                              .n_tokens         = VOCAB,
                                              .tokens           = tokens,
                                              .types            = types,
                                              .bos              = BOS,
                                              .eos              = EOS,
                                              .eot              = -1,
                                              .unk              = -1,
                                              .pad              = -1,
                                              .add_space_prefix = true};
    return &v;
}

/* Says script[p] after position p; checks that it is driven as engine_step wants. */
typedef struct {
    int32_t  script[SCRIPT];
    int32_t  held[SCRIPT];
    uint32_t n_held, n_batch, n_steps, fail_at;
    uint32_t sizes[SCRIPT];
    float    logits[VOCAB];
    float    poison;
} engine_t;

static base_status_t step(void *ctx, const part_batch_t *batch, const float **logits,
                          base_err_t *err)
{
    engine_t      *e   = ctx;
    const int32_t *ids = batch->ids;
    const uint32_t n = batch->runs[0].n, pos = batch->runs[0].pos, n_out = batch->runs[0].n_out;

    assert_int_equal(batch->n_runs, 1);
    assert_int_equal(batch->n_ids, n);
    assert_int_equal(batch->runs[0].seq, 0);
    assert_in_range(n, 1, e->n_batch);
    assert_true(pos <= e->n_held && pos + n <= SCRIPT && n_out <= 1);
    if (e->fail_at != 0 && e->n_steps + 1 == e->fail_at)
        return base_fail(err, BASE_ERR_PEER, "rank 3 went away");
    memcpy(e->held + pos, ids, n * sizeof *ids);
    e->n_held            = pos + n;
    e->sizes[e->n_steps] = n;
    e->n_steps++;
    if (n_out == 0) return BASE_OK;
    memset(e->logits, 0, sizeof e->logits);
    e->logits[e->script[pos + n - 1]] = 10;
    e->logits['y']                    = 5; /* the second best */
    e->logits[0] += e->poison;
    *logits = e->logits;
    return BASE_OK;
}

typedef struct {
    char                  shown[256];
    size_t                n_shown, n_tokens, n_prompt, stop_after;
    double                logprob;
    sig_atomic_t          interrupt_after;
    volatile sig_atomic_t flag;
} seen_t;

static bool on_text(void *ctx, const char *text, size_t bytes)
{
    seen_t *s = ctx;

    assert_true(bytes > 0);
    memcpy(s->shown + s->n_shown, text, bytes);
    s->n_shown += bytes;
    return true;
}

static bool on_token(void *ctx, int32_t id, double logprob)
{
    seen_t *s = ctx;

    (void)id;
    s->n_tokens++;
    s->logprob = logprob;
    if (s->interrupt_after != 0 && (size_t)s->interrupt_after == s->n_tokens) s->flag = 1;
    return s->stop_after == 0 || s->n_tokens < s->stop_after;
}

static void on_prompt(void *ctx, uint64_t done, uint64_t total)
{
    seen_t *s = ctx;

    assert_true(done <= total);
    s->n_prompt++;
}

static coord_tokenizer_t *tokenizer;
static engine_t           engine;
static seen_t             seen;

static int setup(void **state)
{
    base_err_t err = {0};

    (void)state;
    return coord_tokenizer_create(vocabulary(), &tokenizer, &err) == BASE_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    coord_tokenizer_destroy(&tokenizer);
    return 0;
}

static const int32_t prompt[5] = {BOS, 'a', 'b', 'c', 'd'};

/* The engine will say `says` after the prompt, then EOS for ever. */
static coord_generate_params_t params(const char *says)
{
    coord_generate_params_t p = {0};

    memset(&engine, 0, sizeof engine);
    memset(&seen, 0, sizeof seen);
    for (int i = 0; i < SCRIPT; i++) engine.script[i] = EOS;
    for (size_t i = 0; says[i] != '\0'; i++) engine.script[4 + i] = (unsigned char)says[i];
    engine.n_batch = 3;
    p.step         = step;
    p.step_ctx     = &engine;
    p.n_vocab      = VOCAB;
    p.n_ctx        = 40;
    p.n_batch      = engine.n_batch;
    p.tokenizer    = tokenizer;
    p.sampler      = coord_sampler_defaults();
    p.sampler.temp = 0;
    p.prompt       = prompt;
    p.n_prompt     = 5;
    p.n_predict    = -1;
    p.on_text      = on_text;
    p.on_token     = on_token;
    p.on_prompt    = on_prompt;
    p.callback_ctx = &seen;
    p.interrupt    = &seen.flag;
    return p;
}

static coord_generate_result_t run(const coord_generate_params_t *p, coord_stop_t stop,
                                   const char *text)
{
    coord_generate_result_t r   = {0};
    base_err_t              err = {0};

    if (coord_generate(p, &r, &err) != BASE_OK) fail_msg("%s", err.text);
    assert_string_equal(coord_stop_name(r.stop), coord_stop_name(stop));
    assert_string_equal(r.text, text);
    assert_int_equal(r.text_bytes, strlen(text));
    assert_int_equal(seen.n_shown, r.text_bytes); /* what was shown is the text */
    assert_memory_equal(seen.shown, text, seen.n_shown);
    assert_int_equal(seen.n_tokens, r.n_ids);
    /* the engine holds the prompt and the ids, in order */
    assert_int_equal(r.n_held, engine.n_held);
    for (uint64_t i = 0; i < r.n_held; i++)
        assert_int_equal(engine.held[i], i < p->n_prompt ? p->prompt[i] : r.ids[i - p->n_prompt]);
    return r;
}

static void ends_with_eos(void **state)
{
    coord_generate_params_t p = params("hello \xF0\x9F\xA6\x99!");
    coord_generate_result_t r;

    (void)state;
    p.sampler.want_logprob = true;
    r                      = run(&p, COORD_STOP_EOS, "hello \xF0\x9F\xA6\x99!");
    assert_int_equal(r.n_ids, 12);
    assert_int_equal(r.ids[11], EOS);
    assert_int_equal(r.n_held, 5 + 11);
    assert_int_equal(engine.sizes[0], 3);
    assert_int_equal(engine.sizes[1], 2);
    assert_int_equal(r.n_prompt_steps, 5);
    assert_int_equal(r.n_decode_steps, 11);
    assert_int_equal(seen.n_prompt, 2);
    assert_true(fabs(seen.logprob + log(1 + exp(-5) + (VOCAB - 2) * exp(-10))) < 1e-12);
    coord_generate_free(&r);
    assert_null(r.ids);
}

static void ends_with_limit(void **state)
{
    coord_generate_params_t p = params("hello");
    coord_generate_result_t r;

    (void)state;
    p.n_predict = 3;
    r           = run(&p, COORD_STOP_LIMIT, "hel");
    assert_int_equal(r.n_held, 5 + 2); /* the last one was not run */
    assert_true(isnan(seen.logprob));
    coord_generate_free(&r);
    p           = params("hello");
    p.n_predict = 0;
    r           = run(&p, COORD_STOP_LIMIT, "");
    assert_int_equal(r.n_ids, 0);
    assert_non_null(r.ids);
    coord_generate_free(&r);
    p           = params("a\xF0\x9F\xA6\x99");
    p.n_predict = 3;
    r           = run(&p, COORD_STOP_LIMIT, "a\xEF\xBF\xBD"); /* cut inside a character */
    coord_generate_free(&r);
}

static void ends_with_word(void **state)
{
    const char             *stops[] = {"User:", "\n\n"};
    coord_generate_params_t p       = params("Hi Us\nUser: x");
    coord_generate_result_t r;

    (void)state;
    p.stops   = stops;
    p.n_stops = 2;
    r         = run(&p, COORD_STOP_WORD, "Hi Us\n");
    assert_int_equal(r.n_ids, 11);
    coord_generate_free(&r);
    p         = params("Hi Use");
    p.stops   = stops;
    p.n_stops = 2;
    r         = run(&p, COORD_STOP_EOS, "Hi Use"); /* what was held back comes out */
    coord_generate_free(&r);
}

static void ends_with_context(void **state)
{
    coord_generate_params_t p = params("0123456789");
    coord_generate_result_t r;

    (void)state;
    p.n_ctx = 8;
    r       = run(&p, COORD_STOP_CONTEXT, "0123");
    assert_int_equal(r.n_held, 8);
    coord_generate_free(&r);
    p              = params("0123456789");
    p.n_ctx        = 5; /* just the prompt: one token, which has no place */
    p.n_batch      = 5;
    engine.n_batch = 5;
    r              = run(&p, COORD_STOP_CONTEXT, "0");
    coord_generate_free(&r);
}

static void can_be_interrupted(void **state)
{
    coord_generate_params_t p = params("0123456789");
    coord_generate_result_t r;

    (void)state;
    seen.stop_after = 4;
    r               = run(&p, COORD_STOP_INTERRUPTED, "0123");
    coord_generate_free(&r);
    p                    = params("0123456789");
    seen.interrupt_after = 4;
    r                    = run(&p, COORD_STOP_INTERRUPTED, "0123");
    coord_generate_free(&r);
    p         = params("0123456789");
    seen.flag = 1;
    r         = run(&p, COORD_STOP_INTERRUPTED, "");
    assert_int_equal(r.n_prompt_steps, 0);
    coord_generate_free(&r);
}

static void can_ignore_eos(void **state)
{
    coord_generate_params_t p = params("01");
    coord_generate_result_t r;

    (void)state;
    p.ignore_eos = true;
    p.n_predict  = 6;
    r            = run(&p, COORD_STOP_LIMIT, "01yyyy");
    coord_generate_free(&r);
}

/* A chat goes on: what the engine holds is not run again, but counts for the penalties. */
static void skips_what_is_held(void **state)
{
    coord_generate_params_t p = params("az");
    coord_generate_result_t r;

    (void)state;
    memcpy(engine.held, prompt, 4 * sizeof *prompt);
    engine.n_held = 4;
    p.n_cached    = 4;
    r             = run(&p, COORD_STOP_EOS, "az");
    assert_int_equal(engine.sizes[0], 1);
    assert_int_equal(r.n_prompt_steps, 1);
    coord_generate_free(&r);
    p = params("az");
    memcpy(engine.held, prompt, 4 * sizeof *prompt);
    engine.n_held            = 4;
    p.n_cached               = 4;
    p.sampler.repeat_penalty = 4; /* 'a' of the prompt falls from 10 to 2.5, below 'y' */
    p.n_predict              = 1;
    r                        = run(&p, COORD_STOP_LIMIT, "y");
    coord_generate_free(&r);
}

static void keeps_log_probabilities(void **state)
{
    coord_generate_params_t p = params("hi");
    coord_generate_result_t r;
    double                  sum = exp(10) + exp(5) + (VOCAB - 2);

    (void)state;
    p.n_probs = 3;
    r         = run(&p, COORD_STOP_EOS, "hi");
    assert_int_equal(r.n_ids, 3);
    for (int i = 0; i < 3; i++) {
        assert_true(fabs(r.logprobs[i] - (10 - log(sum))) < 1e-12);
        assert_true(r.top[3 * i].id == r.ids[i] && r.top[3 * i].logprob == r.logprobs[i]);
        assert_true(r.top[3 * i + 1].id == 'y' && r.top[3 * i + 2].id == 0);
    }
    coord_generate_free(&r);
    assert_null(r.top);
}

static void adds_bias(void **state)
{
    const coord_bias_t      bias[] = {{'h', -INFINITY}, {'q', 4}, {'q', 9.5F}};
    coord_generate_params_t p      = params("hi");
    coord_generate_result_t r;
    base_err_t              err = {0};

    (void)state;
    p.bias      = bias;
    p.n_bias    = 3;
    p.n_predict = 2;
    r           = run(&p, COORD_STOP_LIMIT, "qi"); /* 10 is more than 9.5 */
    coord_generate_free(&r);
    p.bias   = &(coord_bias_t){VOCAB, 1};
    p.n_bias = 1;
    assert_int_equal(coord_generate(&p, &r, &err), BASE_ERR_USAGE);
}

static void drops_first_space(void **state)
{
    coord_generate_params_t p = params("");
    coord_generate_result_t r;

    (void)state;
    engine.script[4] = engine.script[5] = SPACE_A;
    p.text_start                        = true;
    r                                   = run(&p, COORD_STOP_EOS, "a a");
    coord_generate_free(&r);
    p.text_start = false;
    memset(&seen, 0, sizeof seen);
    r = run(&p, COORD_STOP_EOS, " a a");
    coord_generate_free(&r);
}

/* The seed decides, and the chunking of the prompt does not. */
static void sampling_repeats(void **state)
{
    int32_t first[20];

    (void)state;
    for (uint32_t n_batch = 1; n_batch <= 5; n_batch++) {
        coord_generate_params_t p   = params("");
        coord_generate_result_t r   = {0};
        base_err_t              err = {0};

        engine.n_batch = p.n_batch = n_batch;
        p.ignore_eos               = true;
        p.n_predict                = 20;
        p.sampler.temp             = 5;
        p.sampler.top_k            = 0;
        p.sampler.top_p            = 1;
        p.sampler.min_p            = 0;
        p.sampler.seed             = 99;
        assert_int_equal(coord_generate(&p, &r, &err), BASE_OK);
        if (n_batch == 1) memcpy(first, r.ids, sizeof first);
        assert_memory_equal(first, r.ids, sizeof first);
        coord_generate_free(&r);
    }
}

static void errors(void **state)
{
    const int32_t           odd[2] = {BOS, VOCAB};
    coord_generate_params_t p      = params("hello");
    coord_generate_result_t r      = {.n_ids = 77};
    base_err_t              err    = {0};

    (void)state;
    p.n_probs = VOCAB + 1;
    assert_int_equal(coord_generate(&p, &r, &err), BASE_ERR_LIMIT);
    p       = params("hello");
    p.n_ctx = 4;
    assert_int_equal(coord_generate(&p, &r, &err), BASE_ERR_USAGE);
    assert_non_null(strstr(err.text, "5 tokens"));
    assert_non_null(strstr(err.text, "context 4"));
    p          = params("hello");
    p.n_prompt = 0;
    assert_int_equal(coord_generate(&p, &r, &err), BASE_ERR_USAGE);
    p          = params("hello");
    p.prompt   = odd;
    p.n_prompt = 2;
    assert_int_equal(coord_generate(&p, &r, &err), BASE_ERR_USAGE);
    assert_non_null(strstr(err.text, "259"));
    p              = params("hello");
    engine.fail_at = 4;
    assert_int_equal(coord_generate(&p, &r, &err), BASE_ERR_PEER);
    assert_string_equal(err.text, "rank 3 went away");
    p             = params("hello");
    engine.poison = NAN;
    assert_int_equal(coord_generate(&p, &r, &err), BASE_ERR_INPUT);
    p               = params("hello");
    p.sampler.min_p = NAN;
    assert_int_equal(coord_generate(&p, &r, &err), BASE_ERR_USAGE);
    assert_int_equal(r.n_ids, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_with_eos),           cmocka_unit_test(ends_with_limit),
        cmocka_unit_test(ends_with_word),          cmocka_unit_test(ends_with_context),
        cmocka_unit_test(can_be_interrupted),      cmocka_unit_test(can_ignore_eos),
        cmocka_unit_test(skips_what_is_held),      cmocka_unit_test(drops_first_space),
        cmocka_unit_test(sampling_repeats),        cmocka_unit_test(errors),
        cmocka_unit_test(keeps_log_probabilities), cmocka_unit_test(adds_bias),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
