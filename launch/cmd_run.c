/* launch/cmd_run.c: generate text from a prompt. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "coordinator/generate.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/output.h"
#include "launch/session.h"

typedef struct {
    const options_t *o;
    char            *prompt; /* rank 0; owned */
    size_t           prompt_bytes;
    const char      *stops[LIMIT_STOP_STRINGS]; /* owned copies */
    uint32_t         n_stops;
    uint64_t         seed;

    engine_t             *engine;
    volatile sig_atomic_t stop; /* interrupted, or nobody reads any more */
    bool                  reader_gone;
    base_status_t         write_status; /* a full disk, say: no use in going on */
    base_err_t            write_err;
} run_t;

static base_status_t prepare(void *context, base_err_t *err)
{
    run_t             *run  = context;
    const opt_value_t *v    = &run->o->v[OPT_STOP];
    uint32_t           seed = 0;

    for (uint32_t i = 0; i < v->n; i++) {
        char *copy = strdup(v->strings[i]);
        if (copy == NULL) return base_fail(err, BASE_ERR_MEMORY, "no memory for stop strings");
        if (opt_flag(run->o, OPT_ESCAPE)) (void)out_unescape(copy, strlen(copy));
        run->stops[run->n_stops++] = copy;
    }
    run->seed = (uint64_t)opt_int(run->o, OPT_SEED);
    if (opt_int(run->o, OPT_SEED) < 0) {
        if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
            return base_fail(err, BASE_ERR_SYSTEM, "getrandom: %s", strerror(errno));
        run->seed = seed;
    }
    return session_prompt_read(run->o, &run->prompt, &run->prompt_bytes, err);
}

/* ---- while it generates ---- */

static bool show(run_t *run, const char *text, size_t bytes)
{
    if (opt_flag(run->o, OPT_JSON)) return true;
    run->write_status = out_write(text, bytes, &run->reader_gone, &run->write_err);
    return run->write_status == BASE_OK && !run->reader_gone;
}

static bool on_text(void *context, const char *text, size_t bytes)
{
    return show(context, text, bytes);
}

static bool on_token(void *context, int32_t id, double logprob)
{
    run_t *run = context;

    (void)id;
    (void)logprob;
    if (comm_interrupted()) run->stop = 1;
    return true; /* the text of this token is still to be shown; run->stop ends the loop */
}

static void on_prompt(void *context, uint64_t done, uint64_t total)
{
    run_t *run = context;

    if (comm_interrupted()) run->stop = 1;
    if (total > engine_n_batch(run->engine)) base_progress("prompt", done, total);
}

/* ---- afterwards ---- */

static double per_second(uint64_t n, uint64_t us)
{
    return us == 0 ? 0 : (double)n * 1e6 / (double)us;
}

static json_t *timings_json(const engine_info_t *info, const coord_generate_result_t *r)
{
    return json_pack("{s:o, s:o, s:o, s:I, s:o, s:I, s:o}", "load_s", out_json_real(info->load_s),
                     "prompt_tps", out_json_real(per_second(r->n_prompt_steps, r->prompt_us)),
                     "decode_tps", out_json_real(per_second(r->n_decode_steps, r->decode_us)),
                     "prompt_n", (json_int_t)r->n_prompt_steps, "prompt_ms",
                     out_json_real((double)r->prompt_us / 1e3), "decode_n",
                     (json_int_t)r->n_decode_steps, "decode_ms",
                     out_json_real((double)r->decode_us / 1e3));
}

static base_status_t print_json(const run_t *run, const engine_info_t *info,
                                const engine_rank_stats_t *stats, const int32_t *ids, size_t n_ids,
                                const coord_generate_result_t *r, base_err_t *err)
{
    json_t *memory = stats == NULL ? json_null() : session_memory_json(stats, info->n_ranks);
    json_t *value  = NULL;

    value = json_pack(
        "{s:s, s:I, s:o, s:o, s:o, s:s, s:I, s:o, s:o, s:I, s:I, s:s, s:s}", "layout", info->layout,
        "ranks", (json_int_t)info->n_ranks, "prompt_tokens", out_json_ids(ids, n_ids), "tokens",
        out_json_ids(r->ids, r->n_ids), "text", out_json_text(r->text, r->text_bytes), "stop",
        coord_stop_name(r->stop), "seed", (json_int_t)run->seed, "timings", timings_json(info, r),
        "memory_per_rank", memory, "n_ctx", (json_int_t)engine_n_ctx(run->engine), "n_threads",
        (json_int_t)engine_n_threads(run->engine), "pack", info->pack, "cpu", info->cpu);

    return out_json_write(&value, err);
}

static void print_summary(const run_t *run, const engine_info_t *info,
                          const engine_rank_stats_t *stats, const coord_generate_result_t *r)
{
    char memory[256] = "";

    if (opt_flag(run->o, OPT_QUIET)) return;
    if (stats != NULL) (void)session_memory_text(stats, info->n_ranks, memory, sizeof(memory));
    (void)fprintf(stderr, "layout %s, %u rank%s, %.1f tokens/s (prompt %.1f tokens/s)%s%s\n",
                  info->layout, info->n_ranks, info->n_ranks == 1 ? "" : "s",
                  per_second(r->n_decode_steps, r->decode_us),
                  per_second(r->n_prompt_steps, r->prompt_us),
                  stats != NULL ? ", memory per rank " : "", memory);
}

static base_status_t report(run_t *run, const int32_t *ids, size_t n_ids,
                            const coord_generate_result_t *r, base_err_t *err)
{
    engine_info_t        info  = engine_info(run->engine);
    engine_rank_stats_t *stats = NULL;
    base_status_t        st    = BASE_OK;

    if (!comm_interrupted()) st = session_stats(run->engine, false, &stats, err);
    if (st == BASE_OK && opt_flag(run->o, OPT_JSON))
        st = print_json(run, &info, stats, ids, n_ids, r, err);
    else if (!run->reader_gone && run->write_status == BASE_OK)
        (void)show(run, "\n", 1);
    if (st == BASE_OK) print_summary(run, &info, stats, r);
    free(stats);
    return st;
}

static coord_generate_params_t parameters(run_t *run, const coord_tokenizer_t *tokenizer,
                                          const int32_t *ids, size_t n_ids)
{
    const options_t        *o = run->o;
    coord_generate_params_t p;

    memset(&p, 0, sizeof(p));
    p.step                      = session_step;
    p.step_ctx                  = run->engine;
    p.n_vocab                   = engine_model(run->engine)->desc.n_vocab;
    p.n_ctx                     = engine_n_ctx(run->engine);
    p.n_batch                   = engine_n_batch(run->engine);
    p.tokenizer                 = tokenizer;
    p.sampler                   = coord_sampler_defaults();
    p.sampler.temp              = (float)opt_float(o, OPT_TEMP);
    p.sampler.top_k             = (int32_t)opt_int(o, OPT_TOP_K);
    p.sampler.top_p             = (float)opt_float(o, OPT_TOP_P);
    p.sampler.min_p             = (float)opt_float(o, OPT_MIN_P);
    p.sampler.repeat_penalty    = (float)opt_float(o, OPT_REPEAT_PENALTY);
    p.sampler.repeat_last_n     = (int32_t)opt_int(o, OPT_REPEAT_LAST_N);
    p.sampler.presence_penalty  = (float)opt_float(o, OPT_PRESENCE_PENALTY);
    p.sampler.frequency_penalty = (float)opt_float(o, OPT_FREQUENCY_PENALTY);
    p.sampler.seed              = run->seed;
    p.prompt                    = ids;
    p.n_prompt                  = n_ids;
    p.n_predict                 = opt_int(o, OPT_N_PREDICT);
    p.ignore_eos                = opt_flag(o, OPT_IGNORE_EOS);
    p.text_start                = run->prompt_bytes == 0;
    p.stops                     = run->stops;
    p.n_stops                   = run->n_stops;
    p.on_text                   = on_text;
    p.on_token                  = on_token;
    p.on_prompt                 = on_prompt;
    p.callback_ctx              = run;
    p.interrupt                 = &run->stop;
    return p;
}

static base_status_t work(void *context, engine_t *engine, base_err_t *err)
{
    run_t                  *run       = context;
    coord_tokenizer_t      *tokenizer = NULL;
    int32_t                *ids       = NULL;
    size_t                  n_ids     = 0;
    coord_generate_result_t result;
    base_status_t           st = BASE_OK;

    memset(&result, 0, sizeof(result));
    run->engine = engine;
    st          = coord_tokenizer_create(&engine_model(engine)->vocab, &tokenizer, err);
    if (st != BASE_OK) goto out;
    st = coord_tokenize(tokenizer, run->prompt, run->prompt_bytes,
                        COORD_ADD_BOS | COORD_PARSE_SPECIAL, &ids, &n_ids, err);
    if (st != BASE_OK) goto out;
    if (n_ids == 0) {
        st = base_fail(
            err, BASE_ERR_USAGE,
            "the prompt is empty, and this model has no begin-of-text token to start from");
        goto out;
    }
    if (opt_int(run->o, OPT_SEED) < 0 && opt_float(run->o, OPT_TEMP) > 0)
        base_log(BASE_LOG_INFO, "seed %" PRIu64 " (give -s %" PRIu64 " for the same text again)",
                 run->seed, run->seed);
    if (!opt_flag(run->o, OPT_NO_DISPLAY_PROMPT) && !show(run, run->prompt, run->prompt_bytes))
        goto out;
    const coord_generate_params_t p = parameters(run, tokenizer, ids, n_ids);
    st                              = coord_generate(&p, &result, err);
    if (st != BASE_OK) goto out;
    st = report(run, ids, n_ids, &result, err);
out:
    if (st == BASE_OK && run->write_status != BASE_OK) {
        *err = run->write_err;
        st   = run->write_status;
    }
    coord_generate_free(&result);
    free(ids);
    coord_tokenizer_destroy(&tokenizer);
    return st;
}

int cmd_run(const options_t *o)
{
    run_t         run;
    session_t     session;
    base_err_t    err;
    base_status_t st = BASE_OK;
    int           rc = 0;

    if (opt_string(o, OPT_MODEL) == NULL)
        st = base_fail(&err, BASE_ERR_USAGE, "no model: give -m FILE.gguf");
    if (st == BASE_OK) st = session_prompt_check(o, &err);
    if (st != BASE_OK) return cli_usage_error(&err, "run");

    memset(&run, 0, sizeof(run));
    memset(&session, 0, sizeof(session));
    run.o           = o;
    session.options = o;
    session.config  = session_config(o);
    session.prepare = prepare;
    session.work    = work;
    session.context = &run;
    rc              = session_main(&session);
    for (uint32_t i = 0; i < run.n_stops; i++) {
        union {
            const char *in;
            void       *out;
        } stop = {run.stops[i]}; /* ours, const only for the generator */
        free(stop.out);
    }
    free(run.prompt);
    return rc;
}
