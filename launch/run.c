/* launch/run.c: what comes before and after a generation, whether text or chat. */
#include "launch/run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "launch/cli.h"
#include "launch/output.h"
#include "launch/session.h"

/* ---- options ------------------------------------------------------------------------------- */

static bool wants_chat(const options_t *o)
{
    return opt_flag(o, OPT_CNV) || opt_flag(o, OPT_SINGLE_TURN) ||
           opt_given(o, OPT_SYSTEM_PROMPT) || opt_given(o, OPT_CHAT_TEMPLATE);
}

static bool has_prompt(const options_t *o)
{
    return opt_given(o, OPT_PROMPT) || opt_given(o, OPT_FILE);
}

base_status_t run_check(const options_t *o, base_err_t *err)
{
    coord_sampler_params_t ignored = coord_sampler_defaults();

    if (opt_string(o, OPT_MODEL) == NULL)
        return base_fail(err, BASE_ERR_USAGE, "no model: give -m FILE.gguf");
    if (opt_flag(o, OPT_NO_CNV) && wants_chat(o))
        return base_fail(err, BASE_ERR_USAGE,
                         "--no-cnv excludes -cnv, -st, -sys and --chat-template: those chat");
    if (wants_chat(o) && !has_prompt(o) && (opt_flag(o, OPT_JSON) || opt_flag(o, OPT_DUMP_PROMPT)))
        return base_fail(err, BASE_ERR_USAGE,
                         "no message: with %s give the first one, by -p TEXT or -f FILE",
                         opt_flag(o, OPT_JSON) ? "--json" : "--dump-prompt");
    if (opt_int(o, OPT_N_PROBS) > 0 && !opt_flag(o, OPT_JSON))
        return base_fail(err, BASE_ERR_USAGE, "--n-probs needs --json");
    if (has_prompt(o) || opt_flag(o, OPT_NO_CNV)) {
        base_status_t st = session_prompt_check(o, err);
        if (st != BASE_OK) return st;
    }
    return coord_sampler_order_parse(opt_string(o, OPT_SAMPLERS), &ignored, err);
}

/* "15043+1", "15043-0.5", "15043-inf". */
static base_status_t parse_bias(const char *text, coord_bias_t *out, base_err_t *err)
{
    char *end = NULL;
    long  id  = strtol(text, &end, 10);

    if (end == text || text[0] < '0' || text[0] > '9' || id > INT32_MAX ||
        (*end != '+' && *end != '-') || end[1] == '+' || end[1] == '-' || end[1] == ' ')
        goto bad;
    char *number = end;
    out->id      = (int32_t)id;
    out->bias    = strtof(number, &end);
    if (end == number || *end != '\0') goto bad;
    return BASE_OK;
bad:
    return base_fail(err, BASE_ERR_USAGE,
                     "--logit-bias: '%.64s' is not ID+BIAS or ID-BIAS, such as 15043+1", text);
}

static base_status_t read_bias(run_t *run, base_err_t *err)
{
    const opt_value_t *v    = &run->o->v[OPT_LOGIT_BIAS];
    void              *room = NULL;
    base_status_t      st   = base_alloc(&room, v->n, sizeof(*run->bias), "logit bias", err);

    if (st != BASE_OK) return st;
    run->bias = room;
    for (; run->n_bias < v->n && st == BASE_OK; run->n_bias++)
        st = parse_bias(v->strings[run->n_bias], &run->bias[run->n_bias], err);
    return st;
}

static base_status_t copy_text(const options_t *o, const char *text, char **out, size_t *bytes,
                               base_err_t *err)
{
    char *copy = strdup(text);

    if (copy == NULL) return base_fail(err, BASE_ERR_MEMORY, "no memory for texts of options");
    *bytes = strlen(copy);
    if (opt_flag(o, OPT_ESCAPE)) *bytes = out_unescape(copy, *bytes);
    *out = copy;
    return BASE_OK;
}

static base_status_t read_stops(run_t *run, base_err_t *err)
{
    const opt_value_t *v  = &run->o->v[OPT_STOP];
    size_t             n  = 0;
    base_status_t      st = BASE_OK;

    for (uint32_t i = 0; i < v->n && st == BASE_OK; i++) {
        if (i == LIMIT_STOP_STRINGS)
            return base_fail(err, BASE_ERR_USAGE, "--stop: more than %d", LIMIT_STOP_STRINGS);
        st = copy_text(run->o, v->strings[i], &run->stops[i], &n, err);
        if (st == BASE_OK) run->n_stops++;
    }
    return st;
}

/* Chat or not? The model's word counts where the options say nothing. */
static base_status_t find_chat(run_t *run, base_err_t *err)
{
    const options_t *o     = run->o;
    model_t         *model = NULL;
    base_status_t    st    = BASE_OK;

    if (opt_flag(o, OPT_NO_CNV) || (!wants_chat(o) && has_prompt(o))) return BASE_OK;
    st = model_open(opt_string(o, OPT_MODEL), true, &model, err);
    if (st != BASE_OK) return st;
    if (!wants_chat(o) && model->vocab.chat_template.bytes == 0)
        st = base_fail(err, BASE_ERR_USAGE,
                       "no prompt: give -p TEXT, -f FILE, or -f - for the standard input (the "
                       "model's file has no chat template; -cnv chats all the same, by "
                       "--chat-template NAME or what its architecture is used to)");
    else if (!wants_chat(o) && (opt_flag(o, OPT_JSON) || opt_flag(o, OPT_DUMP_PROMPT)))
        st = base_fail(err, BASE_ERR_USAGE, "no message: give -p TEXT or -f FILE");
    else
        st = coord_chat_find(opt_string(o, OPT_CHAT_TEMPLATE), model->vocab.chat_template,
                             model->desc.arch, &run->chat, err);
    if (st == BASE_ERR_UNSUPPORTED) {
        const base_err_t why = *err;
        st                   = base_fail(err, st, "%.120s: %s", opt_string(o, OPT_MODEL), why.text);
    }
    model_close(&model);
    return st;
}

base_status_t run_prepare(run_t *run, base_err_t *err)
{
    uint32_t      seed = 0;
    base_status_t st   = find_chat(run, err);

    if (st == BASE_OK) st = read_stops(run, err);
    if (st == BASE_OK) st = read_bias(run, err);
    if (st == BASE_OK && opt_given(run->o, OPT_SYSTEM_PROMPT))
        st = copy_text(run->o, opt_string(run->o, OPT_SYSTEM_PROMPT), &run->system,
                       &run->system_bytes, err);
    if (st != BASE_OK) return st;
    run->seed = (uint64_t)opt_int(run->o, OPT_SEED);
    if (opt_int(run->o, OPT_SEED) < 0) {
        if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
            return base_fail(err, BASE_ERR_SYSTEM, "getrandom: %s", strerror(errno));
        run->seed = seed;
    }
    if (!has_prompt(run->o)) return BASE_OK;
    return session_prompt_read(run->o, &run->prompt, &run->prompt_bytes, err);
}

void run_free(run_t *run)
{
    for (uint32_t i = 0; i < run->n_stops; i++) free(run->stops[i]);
    free(run->bias);
    free(run->system);
    free(run->prompt);
}

/* ---- the prompt ---------------------------------------------------------------------------- */

base_status_t run_prompt_text(const run_t *run, const model_vocab_t *vocab, char **text,
                              size_t *bytes, base_err_t *err)
{
    coord_message_t messages[2];
    size_t          n    = 0;
    void           *copy = NULL;
    base_status_t   st   = BASE_OK;

    if (run->chat != NULL) {
        if (run->system != NULL)
            messages[n++] = (coord_message_t){COORD_ROLE_SYSTEM, run->system, run->system_bytes};
        messages[n++] = (coord_message_t){COORD_ROLE_USER, run->prompt, run->prompt_bytes};
        return coord_chat_render(run->chat, vocab, messages, n, 0, true, text, bytes, err);
    }
    st = base_alloc(&copy, run->prompt_bytes + 1, 1, "the prompt", err);
    if (st != BASE_OK) return st;
    memcpy(copy, run->prompt, run->prompt_bytes);
    *text  = copy;
    *bytes = run->prompt_bytes;
    return BASE_OK;
}

base_status_t run_tokenize(const run_t *run, const coord_tokenizer_t *tokenizer, const char *text,
                           size_t bytes, bool first, int32_t **ids, size_t *n_ids, base_err_t *err)
{
    const model_vocab_t *v     = coord_tokenizer_vocab(tokenizer);
    bool                 bos   = first && run->chat != NULL && coord_chat_bos(run->chat);
    unsigned             flags = first ? COORD_ADD_BOS : COORD_GO_ON;
    void                *room  = NULL;
    base_status_t        st =
        coord_tokenize(tokenizer, text, bytes, flags | COORD_PARSE_SPECIAL, ids, n_ids, err);

    if (st != BASE_OK || !bos || v->bos < 0 || (*n_ids > 0 && (*ids)[0] == v->bos)) return st;
    st = base_alloc(&room, *n_ids + 1, sizeof(**ids), "ids", err);
    if (st == BASE_OK) {
        int32_t *more = room;

        more[0] = v->bos;
        if (*n_ids > 0) memcpy(more + 1, *ids, *n_ids * sizeof(*more));
        ++*n_ids;
    }
    free(*ids);
    *ids = room;
    return st;
}

base_status_t run_dump(run_t *run, base_err_t *err)
{
    model_t           *model     = NULL;
    coord_tokenizer_t *tokenizer = NULL;
    json_t            *value     = NULL;
    char              *text      = NULL;
    int32_t           *ids       = NULL;
    size_t             bytes = 0, n_ids = 0;
    base_status_t      st = model_open(opt_string(run->o, OPT_MODEL), true, &model, err);

    if (st == BASE_OK) st = run_prompt_text(run, &model->vocab, &text, &bytes, err);
    if (st != BASE_OK) goto out;
    if (!opt_flag(run->o, OPT_JSON)) {
        st = out_write(text, bytes, NULL, err);
        if (st == BASE_OK) st = out_write("\n", 1, NULL, err);
        goto out;
    }
    st = coord_tokenizer_create(&model->vocab, &tokenizer, err);
    if (st == BASE_OK) st = run_tokenize(run, tokenizer, text, bytes, true, &ids, &n_ids, err);
    if (st != BASE_OK) goto out;
    value = json_pack("{s:s?, s:o, s:o}", "chat_template",
                      run->chat != NULL ? coord_chat_name(run->chat) : NULL, "prompt",
                      out_json_text(text, bytes), "prompt_tokens", out_json_ids(ids, n_ids));
    st    = out_json_write(&value, err);
out:
    free(ids);
    free(text);
    coord_tokenizer_destroy(&tokenizer);
    model_close(&model);
    return st;
}

/* ---- while it generates -------------------------------------------------------------------- */

bool run_show(run_t *run, const char *text, size_t bytes)
{
    if (opt_flag(run->o, OPT_JSON)) return true;
    run->write_status = out_write(text, bytes, &run->reader_gone, &run->write_err);
    return run->write_status == BASE_OK && !run->reader_gone;
}

static bool on_text(void *context, const char *text, size_t bytes)
{
    return run_show(context, text, bytes);
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

/* The sampler's part of the options; the seed is the run's. */
static base_status_t sampler_parameters(const options_t *o, coord_sampler_params_t *p,
                                        base_err_t *err)
{
    *p                   = coord_sampler_defaults();
    p->temp              = (float)opt_float(o, OPT_TEMP);
    p->top_k             = (int32_t)opt_int(o, OPT_TOP_K);
    p->top_p             = (float)opt_float(o, OPT_TOP_P);
    p->typical_p         = (float)opt_float(o, OPT_TYPICAL);
    p->min_p             = (float)opt_float(o, OPT_MIN_P);
    p->repeat_penalty    = (float)opt_float(o, OPT_REPEAT_PENALTY);
    p->repeat_last_n     = (int32_t)opt_int(o, OPT_REPEAT_LAST_N);
    p->presence_penalty  = (float)opt_float(o, OPT_PRESENCE_PENALTY);
    p->frequency_penalty = (float)opt_float(o, OPT_FREQUENCY_PENALTY);
    return coord_sampler_order_parse(opt_string(o, OPT_SAMPLERS), p, err);
}

/* Tokens after which coarse rows have surely paid for being packed (2B-4T: 60 to 100). */
enum { SCREEN_TOKENS = 200 };

const char *run_head(const options_t *o)
{
    const char            *head = opt_string(o, OPT_HEAD);
    const int64_t          n    = opt_int(o, OPT_N_PREDICT); /* negative: no limit */
    coord_sampler_params_t sampler;

    if (strcmp(head, "auto") != 0) return head;
    if (n >= 0 && n < SCREEN_TOKENS) return "full";
    if (opt_u32(o, OPT_N_PROBS) > 0 || sampler_parameters(o, &sampler, NULL) != BASE_OK ||
        !coord_sampler_few(&sampler))
        return "full";
    return head;
}

uint32_t run_n_probs(const run_t *run)
{
    const uint32_t n_vocab = engine_model(run->engine)->desc.n_vocab;
    const uint32_t wanted  = opt_u32(run->o, OPT_N_PROBS);
    return wanted < n_vocab ? wanted : n_vocab;
}

base_status_t run_parameters(run_t *run, const coord_tokenizer_t *tokenizer, const int32_t *ids,
                             size_t n_ids, coord_generate_params_t *p, base_err_t *err)
{
    const options_t *o  = run->o;
    base_status_t    st = BASE_OK;

    memset(p, 0, sizeof(*p));
    p->step         = session_step;
    p->step_ctx     = run->engine;
    p->n_vocab      = engine_model(run->engine)->desc.n_vocab;
    p->n_ctx        = engine_n_ctx(run->engine);
    p->n_batch      = engine_n_batch(run->engine);
    p->tokenizer    = tokenizer;
    p->prompt       = ids;
    p->n_prompt     = n_ids;
    p->n_predict    = opt_int(o, OPT_N_PREDICT);
    p->n_probs      = run_n_probs(run);
    p->ignore_eos   = opt_flag(o, OPT_IGNORE_EOS);
    p->text_start   = run->prompt_bytes == 0 || run->chat != NULL;
    p->stops        = (const char *const *)run->stops;
    p->n_stops      = run->n_stops;
    p->bias         = run->bias;
    p->n_bias       = run->n_bias;
    p->on_text      = on_text;
    p->on_token     = on_token;
    p->on_prompt    = on_prompt;
    p->callback_ctx = run;
    p->interrupt    = &run->stop;
    st              = sampler_parameters(o, &p->sampler, err);
    p->sampler.seed = run->seed;
    return st;
}

/* Behind the text, not before it: mpirun passes the two streams on by themselves, and a line of the
 * one may come out in the middle of the other. */
static void log_seed(const run_t *run)
{
    if (opt_int(run->o, OPT_SEED) < 0 && opt_float(run->o, OPT_TEMP) > 0)
        base_log(BASE_LOG_INFO, "seed %" PRIu64 " (give -s %" PRIu64 " for the same text again)",
                 run->seed, run->seed);
}

static double per_second(uint64_t n, uint64_t us)
{
    return us == 0 ? 0 : (double)n * 1e6 / (double)us;
}

void run_summary(const run_t *run, const engine_rank_stats_t *stats,
                 const coord_generate_result_t *r)
{
    engine_info_t info        = engine_info(run->engine);
    char          memory[256] = "";

    if (opt_flag(run->o, OPT_QUIET)) return;
    if (cli_launcher()) (void)usleep(50000); /* the text first */
    log_seed(run);
    if (r->stop == COORD_STOP_CONTEXT)
        base_log(BASE_LOG_INFO, "stopped: the context of %u positions is full; give a larger -c",
                 engine_n_ctx(run->engine));
    if (stats != NULL) (void)session_memory_text(stats, info.n_ranks, memory, sizeof(memory));
    (void)fprintf(stderr, "layout %s, %u rank%s, %.1f tokens/s (prompt %.1f tokens/s)%s%s\n",
                  info.layout, info.n_ranks, base_plural(info.n_ranks),
                  per_second(r->n_decode_steps, r->decode_us),
                  per_second(r->n_prompt_steps, r->prompt_us),
                  stats != NULL ? ", memory per rank " : "", memory);
}
