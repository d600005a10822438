/* launch/cmd_bench.c: llama-bench's tests. Tokens are random by a fixed seed; tokenizing and
 * sampling are not part of what is timed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/log.h"
#include "launch/bench_account.h"
#include "launch/bench_report.h"
#include "launch/cli.h"
#include "launch/commands.h"
#include "launch/output.h"
#include "launch/session.h"

enum { DEFAULT_BATCH = 512 };

typedef struct {
    uint32_t n_prompt, n_gen;
} bench_test_t;

typedef struct {
    const options_t *o;
    bench_test_t    *tests; /* owned */
    uint32_t         n_tests;
    uint32_t         n_ctx; /* the longest test needs it */
    uint32_t         max_batch;
    uint32_t         max_seq;
    uint32_t         longest;     /* tokens of one phase */
    uint64_t         done, total; /* tokens of all tests with these threads, for progress */
    session_t        session;
    bench_report_t  *report;   /* rank 0 */
    int32_t         *ids;      /* rank 0: random tokens, of sequence s from s on; owned */
    int32_t         *step_ids; /* rank 0: those of a step */
    part_run_t       runs[LIMIT_SEQUENCES];
} bench_t;

/* ---- one measurement ---- */

static uint64_t clock_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static base_status_t random_tokens(bench_t *b, uint32_t n_vocab, base_err_t *err)
{
    void         *memory = NULL;
    uint64_t      state  = 20260101;
    base_status_t st     = BASE_OK;

    if (b->ids != NULL) return BASE_OK;
    uint32_t n = b->longest + b->max_seq;
    st = base_alloc(&memory, (size_t)n + LIMIT_BATCH, sizeof(*b->ids), "random tokens", err);
    if (st != BASE_OK) return st;
    b->ids      = memory;
    b->step_ids = b->ids + n;
    for (uint32_t i = 0; i < n; i++) {
        state     = state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX */
        b->ids[i] = (int32_t)((state >> 33) % n_vocab);
    }
    return st;
}

/* One phase of a test: every sequence goes on from position pos by n tokens. */
typedef struct {
    uint32_t pos, n, n_seq;
} phase_t;

/* Tokens [at, at + count) of the phase as a batch. They are counted sequence after sequence, or,
 * when the sequences go together, token after token. */
static part_batch_t make_batch(bench_t *b, const phase_t *p, bool together, uint64_t at,
                               uint32_t count)
{
    /* The best logit alone: what greedy generation asks. */
    part_batch_t batch = {.runs = b->runs, .ids = b->step_ids, .n_ids = count, .n_top = 1};

    for (uint32_t done = 0; done < count;) {
        uint32_t    seq = (uint32_t)(together ? (at + done) % p->n_seq : (at + done) / p->n);
        uint32_t    of  = (uint32_t)(together ? (at + done) / p->n_seq : (at + done) % p->n);
        part_run_t *run = &b->runs[batch.n_runs++];
        uint32_t    n   = together ? 1 : p->n - of;
        if (n > count - done) n = count - done;
        *run = (part_run_t){
            .seq = seq, .pos = p->pos + of, .n = n, .n_out = of + n == p->n || together};
        memcpy(b->step_ids + done, b->ids + seq + of, n * sizeof(*b->ids));
        done += n;
    }
    return batch;
}

static void count_done(bench_t *b, uint64_t n_tokens)
{
    b->done += n_tokens;
    base_progress("bench", b->done, b->total);
}

/* Prompts, `batch` tokens at a time; logits of the last token of each. */
static base_status_t run_prompts(bench_t *b, engine_t *engine, phase_t p, uint32_t batch,
                                 base_err_t *err)
{
    uint64_t      total  = (uint64_t)p.n * p.n_seq;
    const float  *logits = NULL;
    base_status_t st     = BASE_OK;

    for (uint64_t at = 0; at < total && st == BASE_OK;) {
        uint32_t     count     = total - at < batch ? (uint32_t)(total - at) : batch;
        part_batch_t batch_now = make_batch(b, &p, false, at, count);
        st                     = engine_step(engine, &batch_now, &logits, err);
        at += count;
        if (st == BASE_OK) count_done(b, count);
    }
    return st;
}

/* One token of every sequence. The sequences go in as many groups as there are stages: while one
 * group's logits are awaited, the others compute. A group's next step begins after its logits are
 * there, as a sampler would want it. */
static base_status_t run_decode(bench_t *b, engine_t *engine, phase_t p, base_err_t *err)
{
    uint32_t      groups = engine_stages(engine) < p.n_seq ? engine_stages(engine) : p.n_seq;
    const float  *logits = NULL;
    uint32_t      flying = 0;
    base_status_t st     = BASE_OK;

    if (groups > engine_depth(engine)) groups = engine_depth(engine);
    for (uint64_t i = 0; i < p.n; i++)
        for (uint32_t g = 0; g < groups && st == BASE_OK; g++) {
            uint32_t from = (uint32_t)((uint64_t)p.n_seq * g / groups);
            uint32_t to   = (uint32_t)((uint64_t)p.n_seq * (g + 1) / groups);
            if (flying == groups) st = engine_collect(engine, &logits, err);
            if (st != BASE_OK) break;
            part_batch_t batch = make_batch(b, &p, true, i * p.n_seq + from, to - from);
            st                 = engine_submit(engine, &batch, err);
            if (flying < groups) flying++;
            if (st == BASE_OK) count_done(b, to - from);
        }
    for (; st == BASE_OK && flying > 0; flying--) st = engine_collect(engine, &logits, err);
    return st;
}

static base_status_t run_test(bench_t *b, engine_t *engine, const bench_result_t *r,
                              base_err_t *err)
{
    phase_t       prompt = {r->n_depth, r->n_prompt, r->n_seq};
    phase_t       gen    = {r->n_depth + r->n_prompt, r->n_gen, r->n_seq};
    base_status_t st     = run_prompts(b, engine, prompt, r->n_batch, err);

    return st == BASE_OK ? run_decode(b, engine, gen, err) : st;
}

static base_status_t warm_up(bench_t *b, engine_t *engine, const bench_result_t *r, base_err_t *err)
{
    bench_result_t little = *r;

    if (opt_flag(b->o, OPT_NO_WARMUP)) return BASE_OK;
    if (little.n_gen > 0) little.n_gen = 1;
    return run_test(b, engine, &little, err);
}

/* The ranks' figures so far, and a look at the bandwidth that is left to them. */
static base_status_t look(engine_t *engine, bool reset, double *bandwidth,
                          engine_rank_stats_t **stats, base_err_t *err)
{
    base_status_t st  = session_stats(engine, reset, stats, err);
    double        sum = 0;

    for (uint32_t i = 0; st == BASE_OK && i < engine_info(engine).n_ranks; i++) {
        if ((*stats)[i].bandwidth <= 0) return st;
        sum += (*stats)[i].bandwidth;
    }
    *bandwidth = sum;
    return st;
}

/* All samples, with a look at the bandwidth before and after each. stats: those of all samples. */
static base_status_t take_samples(bench_t *b, engine_t *engine, bench_result_t *r,
                                  engine_rank_stats_t **stats, base_err_t *err)
{
    const bool    account = opt_flag(b->o, OPT_ACCOUNT);
    base_status_t st      = look(engine, true, &r->looks[0], stats, err);

    for (uint32_t i = 0; i < r->n_samples && st == BASE_OK; i++) {
        const double   joules = bench_account_rapl();
        const uint64_t start  = clock_ns();
        const bool     last   = i + 1 == r->n_samples;

        st               = run_test(b, engine, r, err);
        r->samples_ns[i] = clock_ns() - start;
        /* A counter that wrapped meanwhile tells nothing. */
        const double more = bench_account_rapl() - joules;
        r->rapl_joules = joules < 0 || more < 0 || r->rapl_joules < 0 ? -1 : r->rapl_joules + more;
        if (st != BASE_OK || (!account && !last)) continue;
        free(*stats);
        *stats = NULL;
        st     = look(engine, last, &r->looks[i + 1], stats, err);
    }
    return st;
}

static base_status_t measure(bench_t *b, engine_t *engine, const bench_test_t *test, uint32_t batch,
                             uint32_t depth, uint32_t n_seq, base_err_t *err)
{
    bench_result_t       r;
    engine_rank_stats_t *stats = NULL;
    base_status_t        st    = BASE_OK;

    memset(&r, 0, sizeof(r));
    r.n_prompt   = test->n_prompt;
    r.n_gen      = test->n_gen;
    r.n_depth    = depth;
    r.n_batch    = batch;
    r.n_threads  = engine_n_threads(engine);
    r.n_samples  = opt_u32(b->o, OPT_REPETITIONS);
    r.test_time  = time(NULL);
    void *memory = NULL;
    r.n_seq      = n_seq;
    st           = base_alloc(&memory, 2 * (size_t)r.n_samples + 1, 8, "samples", err);
    if (st != BASE_OK) return st;
    r.looks      = memory;
    r.samples_ns = (uint64_t *)memory + r.n_samples + 1;

    st = run_prompts(b, engine, (phase_t){0, depth, n_seq}, batch, err); /* not timed */
    if (st == BASE_OK) st = warm_up(b, engine, &r, err);
    if (st == BASE_OK) st = take_samples(b, engine, &r, &stats, err);
    if (st == BASE_OK) st = bench_report_add(b->report, engine, &r, stats, err);
    free(stats);
    free(memory);
    return st;
}

/* ---- all of them ---- */

/* Of the test as it is measured: what lies before it, the warm-up and all samples. */
static uint64_t tokens_of(const bench_t *b, const bench_test_t *test, uint32_t depth,
                          uint32_t n_seq)
{
    const uint64_t warm = opt_flag(b->o, OPT_NO_WARMUP) ? 0 : test->n_prompt + (test->n_gen > 0);
    const uint64_t each = (uint64_t)test->n_prompt + test->n_gen;
    return (depth + warm + opt_u32(b->o, OPT_REPETITIONS) * each) * n_seq;
}

/* What progress is told of. */
static void count_all(bench_t *b, uint32_t batches)
{
    const opt_value_t *depths = &b->o->v[OPT_N_DEPTH];
    const opt_value_t *seqs   = &b->o->v[OPT_BENCH_PARALLEL];

    b->done = b->total = 0;
    for (uint32_t d = 0; d < depths->n; d++)
        for (uint32_t s = 0; s < seqs->n; s++)
            for (uint32_t t = 0; t < b->n_tests; t++)
                b->total += batches * tokens_of(b, &b->tests[t], (uint32_t)depths->ints[d],
                                                (uint32_t)seqs->ints[s]);
}

static base_status_t work(void *context, engine_t *engine, base_err_t *err)
{
    bench_t           *b       = context;
    const opt_value_t *batches = &b->o->v[OPT_BENCH_BATCH_SIZE];
    const opt_value_t *depths  = &b->o->v[OPT_N_DEPTH];
    const opt_value_t *seqs    = &b->o->v[OPT_BENCH_PARALLEL];
    const model_t     *model   = engine_model(engine);
    uint32_t           total   = batches->n * depths->n * seqs->n * b->n_tests;
    base_status_t      st      = random_tokens(b, model->desc.n_vocab, err);

    count_all(b, batches->n);
    /* The last of the lists changes fastest: batches, depths, sequences, tests. */
    for (uint32_t i = 0; i < total && st == BASE_OK; i++) {
        uint32_t left  = i / b->n_tests;
        uint32_t n_seq = (uint32_t)seqs->ints[left % seqs->n];
        uint32_t depth = (uint32_t)depths->ints[left / seqs->n % depths->n];
        uint32_t batch = (uint32_t)batches->ints[left / seqs->n / depths->n];
        if (batch > engine_n_batch(engine)) batch = engine_n_batch(engine);
        st = measure(b, engine, &b->tests[i % b->n_tests], batch, depth, n_seq, err);
    }
    return st;
}

static base_status_t body(void *context, comm_world_t *world, base_err_t *err)
{
    bench_t           *b       = context;
    const opt_value_t *threads = &b->o->v[OPT_BENCH_THREADS];
    base_status_t      st      = BASE_OK;

    if (comm_rank(world) == 0) st = bench_report_create(b->o, &b->report, err);
    st = comm_agree(world, st, err);
    for (uint32_t i = 0; i < threads->n && st == BASE_OK; i++) {
        b->session.config.n_threads = threads->ints[i] < 0 ? 0 : (uint32_t)threads->ints[i];
        st                          = session_engine(world, &b->session, err);
        if (st == BASE_OK && comm_interrupted())
            st = base_fail(err, BASE_ERR_INTERRUPTED, "interrupted");
        st = comm_agree(world, st, err);
    }
    if (comm_rank(world) == 0 && b->report != NULL) {
        base_err_t    end_err;
        base_status_t end = bench_report_finish(&b->report, &end_err);
        if (st == BASE_OK && end != BASE_OK) {
            *err = end_err;
            st   = end;
        }
    }
    return st;
}

/* ---- what to do ---- */

static base_status_t add_test(bench_t *b, int64_t n_prompt, int64_t n_gen, base_err_t *err)
{
    bench_test_t *grown = NULL;

    if (n_prompt == 0 && n_gen == 0) return BASE_OK;
    grown = realloc(b->tests, (b->n_tests + 1) * sizeof(*grown));
    if (grown == NULL) return base_fail(err, BASE_ERR_MEMORY, "no memory for the list of tests");
    b->tests               = grown;
    b->tests[b->n_tests++] = (bench_test_t){(uint32_t)n_prompt, (uint32_t)n_gen};
    if ((uint64_t)(n_prompt + n_gen) > b->longest) b->longest = (uint32_t)(n_prompt + n_gen);
    return BASE_OK;
}

static int64_t largest(const opt_value_t *v)
{
    int64_t most = 0;

    for (uint32_t i = 0; i < v->n; i++)
        if (v->ints[i] > most) most = v->ints[i];
    return most;
}

static base_status_t list_tests(bench_t *b, base_err_t *err)
{
    const opt_value_t *prompts = &b->o->v[OPT_N_PROMPT];
    const opt_value_t *gens    = &b->o->v[OPT_N_GEN];
    const opt_value_t *pairs   = &b->o->v[OPT_PG];
    int64_t            depth   = largest(&b->o->v[OPT_N_DEPTH]);
    base_status_t      st      = BASE_OK;

    if (pairs->n % 2 != 0)
        return base_fail(err, BASE_ERR_USAGE, "-pg: wants pairs P,N, has %u numbers", pairs->n);
    for (uint32_t i = 0; i < prompts->n && st == BASE_OK; i++)
        st = add_test(b, prompts->ints[i], 0, err);
    for (uint32_t i = 0; i < gens->n && st == BASE_OK; i++) st = add_test(b, 0, gens->ints[i], err);
    for (uint32_t i = 0; i < pairs->n && st == BASE_OK; i += 2)
        st = add_test(b, pairs->ints[i], pairs->ints[i + 1], err);
    if (st == BASE_OK && b->n_tests == 0)
        st = base_fail(err, BASE_ERR_USAGE, "no test: -p, -n and -pg are all 0");
    if (st == BASE_OK && depth + b->longest > LIMIT_CONTEXT)
        st = base_fail(err, BASE_ERR_USAGE, "-d %" PRId64 " and %u tokens exceed %d positions",
                       depth, b->longest, LIMIT_CONTEXT);
    if (st != BASE_OK) return st;
    b->n_ctx = (uint32_t)depth + b->longest;
    if (depth > b->longest) b->longest = (uint32_t)depth;
    b->max_seq   = (uint32_t)largest(&b->o->v[OPT_BENCH_PARALLEL]);
    b->max_batch = (uint32_t)largest(&b->o->v[OPT_BENCH_BATCH_SIZE]);
    if (opt_given(b->o, OPT_UBATCH_SIZE) && opt_u32(b->o, OPT_UBATCH_SIZE) < b->max_batch)
        b->max_batch = opt_u32(b->o, OPT_UBATCH_SIZE);
    if (b->max_batch < b->max_seq) b->max_batch = b->max_seq;
    return BASE_OK;
}

int cmd_bench(const options_t *o)
{
    bench_t       b;
    base_err_t    err;
    base_status_t st = BASE_OK;
    int           rc = 0;

    if (opt_flag(o, OPT_COMM)) return cmd_comm(o);
    if (opt_flag(o, OPT_KERNELS)) return cmd_kernels(o);
    memset(&b, 0, sizeof(b));
    b.o = o;
    if (opt_given(o, OPT_MODEL) == opt_given(o, OPT_SHAPE))
        st = base_fail(&err, BASE_ERR_USAGE, "%s: -m FILE.gguf or --shape NAME",
                       opt_given(o, OPT_MODEL) ? "give only one" : "no model");
    if (st == BASE_OK) st = list_tests(&b, &err);
    if (st != BASE_OK) {
        rc = cli_usage_error(&err, "bench");
    } else {
        b.session.options        = o;
        b.session.config         = session_config(o);
        b.session.config.n_ctx   = b.n_ctx;
        b.session.config.n_seq   = b.max_seq;
        b.session.config.n_batch = b.max_batch;
        b.session.config.measure = opt_flag(o, OPT_ACCOUNT);
        b.session.work           = work;
        b.session.context        = &b;
        rc                       = session_main_world(o, body, &b);
    }
    free(b.tests);
    free(b.ids);
    return rc;
}
