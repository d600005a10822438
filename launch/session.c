/* launch/session.c: MPI up, engine up, work on rank 0, all down. */
#include "launch/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "launch/cli.h"
#include "launch/output.h"

model_i2s_layout_t session_i2s_layout(const options_t *o)
{
    const char *name = opt_string(o, OPT_I2S_LAYOUT);

    if (strcmp(name, "arm") == 0) return MODEL_I2S_ARM;
    return strcmp(name, "x86-old") == 0 ? MODEL_I2S_X86_OLD : MODEL_I2S_X86;
}

model_type_t session_cache_type(const options_t *o, opt_id_t option)
{
    return strcmp(opt_string(o, option), "f32") == 0 ? MODEL_F32 : MODEL_F16;
}

engine_config_t session_config(const options_t *o)
{
    engine_config_t c;

    memset(&c, 0, sizeof(c));
    c.model_path        = opt_string(o, OPT_MODEL);
    c.cache_dir         = opt_string(o, OPT_CACHE);
    c.i2s_layout        = session_i2s_layout(o);
    c.layout            = opt_string(o, OPT_LAYOUT);
    c.cluster           = opt_string(o, OPT_CLUSTER);
    c.pipeline_parallel = opt_u32(o, OPT_PIPELINE_PARALLEL);
    c.tensor_parallel   = opt_u32(o, OPT_TENSOR_PARALLEL);
    c.split             = opt_string(o, OPT_SPLIT);
    c.pack              = opt_string(o, OPT_PACK);
    c.pack_cache        = opt_string(o, OPT_PACK_CACHE);
    c.cpu               = opt_string(o, OPT_CPU);
    if (o->command == CMD_BENCH) c.head = opt_string(o, OPT_BENCH_HEAD);
    c.text          = o->command == CMD_RUN || (o->command == CMD_EVAL && !opt_given(o, OPT_IDS));
    c.no_pin        = opt_flag(o, OPT_NO_PIN);
    c.oversubscribe = opt_flag(o, OPT_OVERSUBSCRIBE);
    c.quiet         = opt_flag(o, OPT_QUIET);
    if (o->command == CMD_BENCH && opt_given(o, OPT_SHAPE)) {
        c.shape      = opt_string(o, OPT_SHAPE);
        c.type       = opt_string(o, OPT_TYPE);
        c.embed_type = opt_string(o, OPT_EMBED_TYPE);
        c.seed       = (uint64_t)opt_int(o, OPT_SYNTH_SEED) + 1; /* 0 stands for a file */
    }
    c.type_k = session_cache_type(o, OPT_CACHE_TYPE_K);
    c.type_v = session_cache_type(o, OPT_CACHE_TYPE_V);
    if (o->command != CMD_BENCH) { /* there these are lists */
        c.n_ctx     = opt_u32(o, OPT_CTX_SIZE);
        c.n_threads = opt_u32(o, OPT_THREADS);
        c.n_batch   = opt_u32(o, OPT_BATCH_SIZE);
    }
    if (opt_given(o, OPT_UBATCH_SIZE) &&
        (c.n_batch == 0 || opt_u32(o, OPT_UBATCH_SIZE) < c.n_batch))
        c.n_batch = opt_u32(o, OPT_UBATCH_SIZE);
    return c;
}

/* Whose memory it was, as for errors that ranks agree on. */
static void name_root(const comm_world_t *world, base_status_t st, base_err_t *err)
{
    const base_err_t own = *err;

    if (st == BASE_ERR_MEMORY && comm_size(world) > 1)
        (void)base_fail(err, st, "rank 0: %s", own.text);
}

base_status_t session_engine(comm_world_t *world, const session_t *s, base_err_t *err)
{
    engine_t     *engine = NULL;
    base_err_t    stop_err;
    base_status_t st = engine_start(world, &s->config, &engine, err);

    if (st != BASE_OK) return st; /* the same on every rank */
    if (comm_rank(world) != 0) {
        st = engine_serve(engine, err);
        if (st != BASE_OK) comm_world_abort(world, err); /* rank 0 waits for us: no way to agree */
    } else {
        uint32_t trained = engine_model(engine)->desc.context;
        /* Those that look for the world themselves measure speed: any context will do. */
        if (s->prepare != NULL && engine_n_ctx(engine) > trained)
            base_log(BASE_LOG_WARN,
                     "a context of %u, but the model was made for %u positions: worse beyond",
                     engine_n_ctx(engine), trained);
        st = s->work(s->context, engine, err);
        name_root(world, st, err);
        if (st == BASE_ERR_PEER || st == BASE_ERR_DEADLINE) comm_world_abort(world, err);
        if (engine_stop(engine, &stop_err) != BASE_OK)
            comm_world_abort(world, st != BASE_OK ? err : &stop_err);
    }
    engine_destroy(&engine);
    return st;
}

int session_main_world(const options_t *options,
                       base_status_t (*body)(void *context, comm_world_t *world, base_err_t *err),
                       void *context)
{
    comm_world_t *world = NULL;
    base_err_t    err;
    base_status_t st   = comm_world_open(&world, &err);
    int           rc   = 0;
    int           rank = 0;

    if (st != BASE_OK) {
        rc = world == NULL || comm_rank(world) == 0 ? out_fail(&err) : base_status_exit(st);
        comm_world_close(&world);
        return rc;
    }
    rank = comm_rank(world);
    cli_log_setup(options, rank > 0 ? rank : -1);
    if (rank == 0 && options->command != CMD_DOCTOR && opt_given(options, OPT_GPU_LAYERS))
        base_log(BASE_LOG_INFO, "-ngl is ignored: this program runs on CPUs");
    st = body(context, world, &err);
    if (comm_interrupt_exit() != 0)
        rc = comm_interrupt_exit();
    else if (st != BASE_OK && (rank == 0 || st != BASE_ERR_INTERRUPTED))
        rc = rank == 0 ? out_fail(&err) : base_status_exit(st); /* which signal, its rank tells */
    comm_world_close(&world);
    return rc;
}

static base_status_t session_body(void *context, comm_world_t *world, base_err_t *err)
{
    const session_t *s  = context;
    base_status_t    st = BASE_OK;

    if (s->prepare != NULL) {
        if (comm_rank(world) == 0) st = s->prepare(s->context, err);
        st = comm_agree(world, st, err);
        if (st != BASE_OK) return st;
    }
    return session_engine(world, s, err);
}

int session_main(const session_t *session)
{
    union {
        const session_t *in;
        void            *out;
    } context = {session}; /* handed through unchanged */

    return session_main_world(session->options, session_body, context.out);
}

base_status_t session_step(void *engine, const part_batch_t *batch, const float **logits,
                           base_err_t *err)
{
    return engine_step(engine, batch, logits, err);
}

base_status_t session_submit(void *engine, const part_batch_t *batch, base_err_t *err)
{
    return engine_submit(engine, batch, err);
}

base_status_t session_collect(void *engine, const float **logits, base_err_t *err)
{
    return engine_collect(engine, logits, err);
}

/* ---- the prompt ---- */

base_status_t session_prompt_check(const options_t *o, base_err_t *err)
{
    bool text = opt_given(o, OPT_PROMPT);
    bool file = opt_given(o, OPT_FILE);

    if (!text && !file)
        return base_fail(err, BASE_ERR_USAGE,
                         "no prompt: give -p TEXT, -f FILE, or -f - for the standard input");
    if (text && file && o->v[OPT_PROMPT].origin == o->v[OPT_FILE].origin)
        return base_fail(err, BASE_ERR_USAGE, "two prompts: -p and -f exclude each other");
    return BASE_OK;
}

base_status_t session_prompt_read(const options_t *o, char **text, size_t *bytes, base_err_t *err)
{
    bool          from_file = o->v[OPT_FILE].origin > o->v[OPT_PROMPT].origin;
    base_status_t st        = BASE_OK;
    void         *copy      = NULL;

    if (from_file) {
        st = out_read_all(opt_string(o, OPT_FILE), text, bytes, err);
        if (st != BASE_OK) return st;
        if (*bytes > 0 && (*text)[*bytes - 1] == '\n') (*text)[--*bytes] = '\0';
    } else {
        *bytes = strlen(opt_string(o, OPT_PROMPT));
        st     = base_alloc(&copy, *bytes + 1, 1, "the prompt", err);
        if (st != BASE_OK) return st;
        memcpy(copy, opt_string(o, OPT_PROMPT), *bytes);
        *text = copy;
    }
    if (opt_flag(o, OPT_ESCAPE)) *bytes = out_unescape(*text, *bytes);
    return BASE_OK;
}

/* ---- figures of the ranks ---- */

base_status_t session_stats(engine_t *engine, bool reset, engine_rank_stats_t **stats,
                            base_err_t *err)
{
    void         *memory = NULL;
    base_status_t st = base_alloc(&memory, engine_info(engine).n_ranks, sizeof(engine_rank_stats_t),
                                  "figures of the ranks", err);

    if (st == BASE_OK) st = engine_stats(engine, memory, reset, err);
    if (st != BASE_OK) {
        free(memory);
        return st;
    }
    *stats = memory;
    return BASE_OK;
}

const char *session_memory_text(const engine_rank_stats_t *stats, uint32_t n_ranks, char *buf,
                                size_t buf_bytes)
{
    const double mib   = 1024.0 * 1024.0;
    double       least = (double)stats[0].rss_bytes / mib;
    double       most  = least;
    size_t       n     = 0;

    buf[0] = '\0';
    for (uint32_t r = 0; r < n_ranks; r++) {
        double v = (double)stats[r].rss_bytes / mib;
        if (v < least) least = v;
        if (v > most) most = v;
        if (n_ranks > 8 || n >= buf_bytes) continue;
        n += (size_t)snprintf(buf + n, buf_bytes - n, "%s%.0f", r > 0 ? " + " : "", v);
    }
    if (n_ranks > 8) n = (size_t)snprintf(buf, buf_bytes, "%.0f to %.0f", least, most);
    if (n < buf_bytes) (void)snprintf(buf + n, buf_bytes - n, " MiB");
    return buf;
}

json_t *session_memory_json(const engine_rank_stats_t *stats, uint32_t n_ranks)
{
    json_t *list = json_array();

    for (uint32_t r = 0; r < n_ranks && list != NULL; r++)
        (void)json_array_append_new(list, json_integer((json_int_t)stats[r].rss_bytes));
    return list;
}

void session_weights_json(json_t *value, const engine_info_t *info)
{
    (void)json_object_set_new(value, "weights_received_bytes",
                              json_integer((json_int_t)info->weights_received_bytes));
    (void)json_object_set_new(value, "weights_cached_bytes",
                              json_integer((json_int_t)info->weights_cached_bytes));
}
