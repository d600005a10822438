/* launch/cmd_run.c: generate text from a prompt. */
#include <stdlib.h>
#include <string.h>

#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/output.h"
#include "launch/run.h"
#include "launch/session.h"

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

/* {"id": 5, "token": "a", "bytes": [97], "logprob": -0.5}: llama.cpp's keys. */
static json_t *probability_json(const coord_tokenizer_t *tokenizer, int32_t id, double logprob)
{
    char    piece[256];
    size_t  n     = coord_token_piece(tokenizer, id, true, piece, sizeof(piece));
    json_t *bytes = json_array();

    if (n > sizeof(piece)) n = sizeof(piece);
    for (size_t i = 0; i < n && bytes != NULL; i++)
        (void)json_array_append_new(bytes, json_integer((unsigned char)piece[i]));
    return json_pack("{s:i, s:o, s:o, s:o}", "id", (int)id, "token", out_json_text(piece, n),
                     "bytes", bytes, "logprob", out_json_real(logprob));
}

static json_t *probabilities_json(const coord_tokenizer_t *tokenizer, uint32_t n_probs,
                                  const coord_generate_result_t *r)
{
    json_t *list = json_array();

    for (uint64_t i = 0; i < r->n_ids && list != NULL; i++) {
        const coord_logprob_t *best = r->top + i * n_probs;
        json_t                *top  = json_array();
        json_t                *one  = probability_json(tokenizer, r->ids[i], r->logprobs[i]);

        for (uint32_t k = 0; k < n_probs && top != NULL; k++)
            (void)json_array_append_new(top,
                                        probability_json(tokenizer, best[k].id, best[k].logprob));
        (void)json_object_set_new(one, "top_logprobs", top);
        (void)json_array_append_new(list, one);
    }
    return list;
}

static base_status_t print_json(const run_t *run, const coord_tokenizer_t *tokenizer,
                                const engine_rank_stats_t *stats, const int32_t *ids, size_t n_ids,
                                const coord_generate_result_t *r, base_err_t *err)
{
    engine_info_t info   = engine_info(run->engine);
    json_t       *memory = stats == NULL ? json_null() : session_memory_json(stats, info.n_ranks);
    json_t       *value  = NULL;

    value = json_pack(
        "{s:s, s:I, s:o, s:o, s:o, s:s, s:I, s:o, s:o, s:I, s:I, s:s, s:s}", "layout", info.layout,
        "ranks", (json_int_t)info.n_ranks, "prompt_tokens", out_json_ids(ids, n_ids), "tokens",
        out_json_ids(r->ids, r->n_ids), "text", out_json_text(r->text, r->text_bytes), "stop",
        coord_stop_name(r->stop), "seed", (json_int_t)run->seed, "timings", timings_json(&info, r),
        "memory_per_rank", memory, "n_ctx", (json_int_t)engine_n_ctx(run->engine), "n_threads",
        (json_int_t)engine_n_threads(run->engine), "pack", info.pack, "cpu", info.cpu);
    (void)json_object_set_new(value, "pack_reason", json_string(info.pack_reason));
    (void)json_object_set_new(value, "pack_cache", json_string(info.pack_cache));
    session_weights_json(value, &info);
    if (info.screened && stats != NULL && r->n_decode_steps > 0) {
        uint64_t rows = 0;
        for (uint32_t i = 0; i < info.n_ranks; i++) rows += stats[i].head_rows;
        (void)json_object_set_new(value, "head_rows",
                                  out_json_real((double)rows / (double)(r->n_decode_steps + 1)));
    }
    if (run->chat != NULL)
        (void)json_object_set_new(value, "chat_template", json_string(coord_chat_name(run->chat)));
    if (opt_int(run->o, OPT_N_PROBS) > 0)
        (void)json_object_set_new(value, "completion_probabilities",
                                  probabilities_json(tokenizer, run_n_probs(run), r));
    return out_json_write(&value, err);
}

static base_status_t report(run_t *run, const coord_tokenizer_t *tokenizer, const int32_t *ids,
                            size_t n_ids, const coord_generate_result_t *r, base_err_t *err)
{
    engine_rank_stats_t *stats = NULL;
    base_status_t        st    = BASE_OK;

    if (!comm_interrupted()) st = session_stats(run->engine, false, &stats, err);
    if (st == BASE_OK && opt_flag(run->o, OPT_JSON))
        st = print_json(run, tokenizer, stats, ids, n_ids, r, err);
    else if (!run->reader_gone && run->write_status == BASE_OK)
        (void)run_show(run, "\n", 1);
    if (st == BASE_OK) run_summary(run, stats, r);
    free(stats);
    return st;
}

/* One generation: plain text, or one answer of a chat as JSON. */
static base_status_t text_work(run_t *run, base_err_t *err)
{
    const model_vocab_t    *vocab     = &engine_model(run->engine)->vocab;
    coord_tokenizer_t      *tokenizer = NULL;
    char                   *text      = NULL;
    int32_t                *ids       = NULL;
    size_t                  bytes = 0, n_ids = 0;
    coord_generate_params_t p;
    coord_generate_result_t result;
    base_status_t           st = BASE_OK;

    memset(&result, 0, sizeof(result));
    st = coord_tokenizer_create(vocab, &tokenizer, err);
    if (st == BASE_OK) st = run_prompt_text(run, vocab, &text, &bytes, err);
    if (st == BASE_OK) st = run_tokenize(run, tokenizer, text, bytes, true, &ids, &n_ids, err);
    if (st != BASE_OK) goto out;
    if (n_ids == 0) {
        st = base_fail(
            err, BASE_ERR_USAGE,
            "the prompt is empty, and this model has no begin-of-text token to start from");
        goto out;
    }
    st = run_parameters(run, tokenizer, ids, n_ids, &p, err);
    if (st != BASE_OK) goto out;
    /* A prompt that does not fit is refused below, and not shown before. */
    if (!opt_flag(run->o, OPT_NO_DISPLAY_PROMPT) && n_ids <= p.n_ctx && !run_show(run, text, bytes))
        goto out;
    if (st == BASE_OK) st = coord_generate(&p, &result, err);
    if (st == BASE_OK) st = report(run, tokenizer, ids, n_ids, &result, err);
out:
    coord_generate_free(&result);
    free(ids);
    free(text);
    coord_tokenizer_destroy(&tokenizer);
    return st;
}

static base_status_t prepare(void *context, base_err_t *err)
{
    return run_prepare(context, err);
}

static base_status_t work(void *context, engine_t *engine, base_err_t *err)
{
    run_t        *run = context;
    base_status_t st  = BASE_OK;

    run->engine = engine;
    st          = run->chat != NULL && !opt_flag(run->o, OPT_JSON) ? chat_work(run, err)
                                                                   : text_work(run, err);
    if (st == BASE_OK && run->write_status != BASE_OK) {
        *err = run->write_err;
        st   = run->write_status;
    }
    return st;
}

/* No engine, no MPI: rank 0 alone, if there are others. */
static int dump(run_t *run)
{
    base_err_t    err;
    base_status_t st = BASE_OK;

    if (cli_launcher_rank() != 0) return 0;
    st = run_prepare(run, &err);
    if (st == BASE_OK) st = run_dump(run, &err);
    return st == BASE_OK ? 0 : out_fail(&err);
}

int cmd_run(const options_t *o)
{
    run_t      run;
    session_t  session;
    base_err_t err;
    int        rc = 0;

    if (run_check(o, &err) != BASE_OK) return cli_usage_error(&err, "run");
    memset(&run, 0, sizeof(run));
    memset(&session, 0, sizeof(session));
    run.o               = o;
    session.options     = o;
    session.config      = session_config(o);
    session.config.head = run_head(o);
    session.prepare     = prepare;
    session.work        = work;
    session.context     = &run;
    rc                  = opt_flag(o, OPT_DUMP_PROMPT) ? dump(&run) : session_main(&session);
    run_free(&run);
    return rc;
}
