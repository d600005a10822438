/* launch/cmd_eval.c: logits, perplexity, bits per byte. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "coordinator/perplexity.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/npy.h"
#include "launch/output.h"
#include "launch/session.h"

enum {
    EVAL_OUT_ROWS = 128, /* rows of logits in flight: bounds the memory of rank 0 */
    EVAL_FLIGHTS  = 7,   /* steps in flight, at most: 16 rows each */
    SCORE_CONTEXT = 512  /* -c of perplexity, as llama-perplexity has it */
};

typedef struct {
    const options_t *o;
    opt_id_t         what; /* OPT_LOGITS, OPT_PERPLEXITY, OPT_BITS_PER_BYTE */
    char            *text; /* rank 0; owned; NULL with --ids */
    size_t           bytes;
    npy_t           *npy; /* rank 0, OPT_LOGITS */
    uint64_t         start_us;
} eval_t;

/* How many steps fly, and with how many rows each: with one stage a step at a time. */
static void choose_flights(const engine_t *engine, uint32_t *flights, uint32_t *rows)
{
    uint32_t most = engine_n_batch(engine);

    if (most > EVAL_OUT_ROWS) most = EVAL_OUT_ROWS;
    *flights = engine_stages(engine) + 1; /* one may wait for the slowest stage */
    if (*flights > EVAL_FLIGHTS) *flights = EVAL_FLIGHTS;
    if (*flights > engine_depth(engine)) *flights = engine_depth(engine);
    *rows = most / (*flights + 1); /* as engine_submit wants it */
    if (*flights > 1 && *rows > 0) return;
    *flights = 1;
    *rows    = most;
}

static void add_flights(json_t *value, const engine_t *engine)
{
    (void)json_object_set_new(value, "steps_in_flight",
                              json_integer((json_int_t)engine_most_flights(engine)));
}

/* ---- logits ---- */

static base_status_t take_ids(const eval_t *e, const engine_t *engine, int32_t **ids, size_t *n,
                              base_err_t *err)
{
    const opt_value_t *v         = &e->o->v[OPT_IDS];
    const model_t     *model     = engine_model(engine);
    coord_tokenizer_t *tokenizer = NULL;
    void              *memory    = NULL;
    base_status_t      st        = BASE_OK;

    if (e->text != NULL) {
        st = coord_tokenizer_create(&model->vocab, &tokenizer, err);
        if (st == BASE_OK)
            st = coord_tokenize(tokenizer, e->text, e->bytes, COORD_ADD_BOS | COORD_PARSE_SPECIAL,
                                ids, n, err);
        coord_tokenizer_destroy(&tokenizer);
        return st;
    }
    st = base_alloc(&memory, v->n, sizeof(**ids), "token ids", err);
    if (st != BASE_OK) return st;
    *ids = memory;
    *n   = v->n;
    for (size_t i = 0; i < *n; i++) {
        if (v->ints[i] >= (int64_t)model->desc.n_vocab)
            return base_fail(err, BASE_ERR_USAGE,
                             "--ids: %" PRId64 " at index %zu, the vocabulary has 0 to %" PRIu32,
                             v->ints[i], i, model->desc.n_vocab - 1);
        (*ids)[i] = (int32_t)v->ints[i];
    }
    return st;
}

static base_status_t write_rows(const eval_t *e, engine_t *engine, const int32_t *ids, size_t n,
                                base_err_t *err)
{
    uint32_t      n_vocab = engine_model(engine)->desc.n_vocab;
    uint32_t      flights = 0, chunk = 0;
    size_t        at = 0; /* submitted */
    base_status_t st = npy_begin(e->npy, n, n_vocab, err);

    choose_flights(engine, &flights, &chunk);
    for (size_t done = 0; done < n && st == BASE_OK;) {
        if (at < n && at - done < (size_t)flights * chunk) {
            uint32_t     k     = n - at < chunk ? (uint32_t)(n - at) : chunk;
            part_run_t   run   = {.pos = (uint32_t)at, .n = k, .n_out = k};
            part_batch_t batch = part_batch_one(&run, ids + at);
            st                 = engine_submit(engine, &batch, err);
            at += k;
        } else {
            size_t       k      = n - done < chunk ? n - done : chunk;
            const float *logits = NULL;
            st                  = engine_collect(engine, &logits, err);
            if (st == BASE_OK) st = npy_append(e->npy, logits, k * n_vocab, err);
            done += k;
            base_progress("eval", done, n);
        }
    }
    if (st == BASE_OK) st = npy_finish(e->npy, err);
    return st;
}

static base_status_t report_logits(const eval_t *e, engine_t *engine, size_t n, uint64_t us,
                                   base_err_t *err)
{
    engine_info_t info    = engine_info(engine);
    uint32_t      n_vocab = engine_model(engine)->desc.n_vocab;
    const char   *path    = opt_string(e->o, OPT_LOGITS);
    double        tps     = us == 0 ? 0 : (double)n * 1e6 / (double)us;
    json_t       *value   = NULL;

    if (!opt_flag(e->o, OPT_JSON)) {
        base_log(BASE_LOG_INFO, "%s: float32 [%zu, %" PRIu32 "], layout %s, %.1f tokens/s", path, n,
                 n_vocab, info.layout, tps);
        return BASE_OK;
    }
    value = json_pack("{s:o, s:I, s:I, s:s, s:I, s:o, s:o}", "logits",
                      out_json_text(path, strlen(path)), "n_tokens", (json_int_t)n, "n_vocab",
                      (json_int_t)n_vocab, "layout", info.layout, "ranks", (json_int_t)info.n_ranks,
                      "load_s", out_json_real(info.load_s), "tps", out_json_real(tps));
    add_flights(value, engine);
    session_weights_json(value, &info);
    return out_json_write(&value, err);
}

static base_status_t work_logits(void *context, engine_t *engine, base_err_t *err)
{
    const eval_t *e     = context;
    int32_t      *ids   = NULL;
    size_t        n     = 0;
    uint64_t      start = 0;
    base_status_t st    = take_ids(e, engine, &ids, &n, err);

    if (st == BASE_OK && n == 0) st = base_fail(err, BASE_ERR_USAGE, "no tokens to evaluate");
    if (st == BASE_OK && n > engine_n_ctx(engine))
        st = base_fail(err, BASE_ERR_USAGE,
                       "%zu tokens do not fit the context of %" PRIu32 " positions (-c)", n,
                       engine_n_ctx(engine));
    start = base_clock_us();
    if (st == BASE_OK) st = write_rows(e, engine, ids, n, err);
    if (st == BASE_OK) st = report_logits(e, engine, n, base_clock_us() - start, err);
    free(ids);
    return st;
}

/* ---- scores ---- */

static bool on_progress(void *context, uint64_t done, uint64_t total, double ppl)
{
    char what[64];

    (void)context;
    (void)snprintf(what, sizeof(what), "eval, perplexity %.4f so far,", ppl);
    base_progress(what, done, total);
    return !comm_interrupted();
}

static base_status_t report_score(const eval_t *e, const engine_t *engine,
                                  const coord_score_result_t *r, uint64_t us, base_err_t *err)
{
    engine_info_t info  = engine_info(engine);
    double        tps   = us == 0 ? 0 : (double)r->n_scored * 1e6 / (double)us;
    json_t       *value = NULL;

    if (!opt_flag(e->o, OPT_JSON)) {
        if (e->what == OPT_PERPLEXITY)
            (void)printf("perplexity %.4f +/- %.4f (%" PRIu64 " chunk%s of %" PRIu32 ", %" PRIu64
                         " tokens scored, nll %.6f)\n",
                         r->ppl, r->ppl_error, r->n_chunks, base_plural(r->n_chunks),
                         engine_n_ctx(engine), r->n_scored, r->nll);
        else
            (void)printf("bits per byte %.6f (%" PRIu64 " bytes, %" PRIu64
                         " tokens, nll %.6f, perplexity %.4f)\n",
                         r->bits_per_byte, r->bytes, r->n_scored, r->nll, r->ppl);
        return out_flush(err);
    }
    value = json_pack("{s:I, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:s, s:I, s:o, s:o}", "tokens",
                      (json_int_t)r->n_scored, "nll", out_json_real(r->nll), "ppl",
                      out_json_real(r->ppl), "ppl_error", out_json_real(r->ppl_error),
                      "bits_per_byte", out_json_real(r->bits_per_byte), "bytes",
                      (json_int_t)r->bytes, "chunks", (json_int_t)r->n_chunks, "text_tokens",
                      (json_int_t)r->n_tokens, "n_ctx", (json_int_t)engine_n_ctx(engine), "layout",
                      info.layout, "ranks", (json_int_t)info.n_ranks, "load_s",
                      out_json_real(info.load_s), "tps", out_json_real(tps));
    add_flights(value, engine);
    session_weights_json(value, &info);
    return out_json_write(&value, err);
}

static base_status_t work_score(void *context, engine_t *engine, base_err_t *err)
{
    eval_t              *e         = context;
    const model_t       *model     = engine_model(engine);
    coord_tokenizer_t   *tokenizer = NULL;
    coord_score_params_t p;
    coord_score_result_t result;
    uint64_t             start = base_clock_us();
    base_status_t        st    = coord_tokenizer_create(&model->vocab, &tokenizer, err);

    memset(&p, 0, sizeof(p));
    p.submit      = session_submit;
    p.collect     = session_collect;
    p.step_ctx    = engine;
    p.n_vocab     = model->desc.n_vocab;
    p.n_ctx       = engine_n_ctx(engine);
    p.n_batch     = engine_n_batch(engine);
    p.tokenizer   = tokenizer;
    p.n_chunks    = opt_u32(e->o, OPT_CHUNKS);
    p.on_progress = on_progress;
    p.mode        = e->what == OPT_PERPLEXITY     ? COORD_SCORE_CHUNKS
                    : opt_flag(e->o, OPT_STORIES) ? COORD_SCORE_STORIES
                                                  : COORD_SCORE_STREAM;
    choose_flights(engine, &p.n_flights, &p.n_out_max);
    if (st == BASE_OK) st = coord_score(&p, e->text, e->bytes, &result, err);
    if (st == BASE_OK) st = report_score(e, engine, &result, base_clock_us() - start, err);
    coord_tokenizer_destroy(&tokenizer);
    return st;
}

/* ---- both ---- */

static base_status_t prepare(void *context, base_err_t *err)
{
    eval_t *e = context;

    if (e->what != OPT_LOGITS)
        return out_read_all(opt_string(e->o, e->what), &e->text, &e->bytes, err);
    if (!opt_given(e->o, OPT_IDS)) {
        base_status_t st = session_prompt_read(e->o, &e->text, &e->bytes, err);
        if (st != BASE_OK) return st;
    }
    return npy_create(opt_string(e->o, OPT_LOGITS), &e->npy, err);
}

static base_status_t check_usage(eval_t *e, base_err_t *err)
{
    static const opt_id_t kinds[] = {OPT_LOGITS, OPT_PERPLEXITY, OPT_BITS_PER_BYTE};
    uint32_t              n       = 0;

    if (opt_string(e->o, OPT_MODEL) == NULL)
        return base_fail(err, BASE_ERR_USAGE, "no model: give -m FILE.gguf");
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (!opt_given(e->o, kinds[i])) continue;
        e->what = kinds[i];
        n++;
    }
    if (n != 1)
        return base_fail(err, BASE_ERR_USAGE,
                         "%s of --logits OUT.npy, --perplexity FILE and --bits-per-byte FILE",
                         n == 0 ? "nothing to do: give one" : "give only one");
    if (opt_flag(e->o, OPT_STORIES) && e->what != OPT_BITS_PER_BYTE)
        return base_fail(err, BASE_ERR_USAGE, "--stories needs --bits-per-byte FILE");
    if (e->what != OPT_LOGITS) return BASE_OK;
    if (!opt_given(e->o, OPT_IDS)) return session_prompt_check(e->o, err);
    if (opt_given(e->o, OPT_PROMPT) || opt_given(e->o, OPT_FILE))
        return base_fail(err, BASE_ERR_USAGE, "--ids and a prompt (-p, -f) exclude each other");
    return BASE_OK;
}

int cmd_eval(const options_t *o)
{
    eval_t     e;
    session_t  session;
    base_err_t err;
    int        rc = 0;

    memset(&e, 0, sizeof(e));
    memset(&session, 0, sizeof(session));
    e.o = o;
    if (check_usage(&e, &err) != BASE_OK) return cli_usage_error(&err, "eval");

    session.options          = o;
    session.config           = session_config(o);
    session.config.n_out_max = EVAL_OUT_ROWS;
    if (session.config.n_out_max > session.config.n_batch)
        session.config.n_out_max = session.config.n_batch;
    if (session.config.n_ctx == 0 && e.what != OPT_LOGITS) session.config.n_ctx = SCORE_CONTEXT;
    if (session.config.n_ctx == 0 && opt_given(o, OPT_IDS)) session.config.n_ctx = o->v[OPT_IDS].n;
    session.prepare = prepare;
    session.work    = e.what == OPT_LOGITS ? work_logits : work_score;
    session.context = &e;
    rc              = session_main(&session);
    npy_destroy(&e.npy);
    free(e.text);
    return rc;
}
