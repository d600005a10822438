/* tests/mpi/batch.c: what shares a step with a sequence changes no bit of its logits.
 * np: 1 2 3 4
 * timeout: 300
 * labels: threads
 * Texts run alone, a token a step, on the layout at hand (tests/layouts compares layouts). Then all
 * of them run in random mixtures, prompts and single tokens in one step, in other slots, some going
 * back to an earlier position: every row of logits has the same bytes. So have the best of each row
 * when only they are asked for, by way of the screened head. */
#include "launch/engine.h"
#include "tests/mpi/check.h"

enum { TEXTS = 5, SLOTS = 7, LONGEST = 150, BATCH = 48, N_CTX = 192, STEPS = 120 };

static int32_t texts[TEXTS][LONGEST];

static const char *model_path(const char *name)
{
    static char path[4096];
    const char *source = getenv("TRIREME_SOURCE");
    (void)snprintf(path, sizeof(path), "%s/tests/golden/transformers/%s.gguf",
                   source != NULL ? source : ".", name);
    return path;
}

static engine_t *start(const char *name, const char *layout, uint32_t threads, uint32_t n_seq)
{
    engine_config_t config = {.model_path = model_path(name),
                              .layout     = layout,
                              .head       = n_seq == 1 ? "full" : "screened",
                              .n_ctx      = N_CTX,
                              .n_seq      = n_seq,
                              .n_batch    = n_seq == 1 ? 1 : BATCH,
                              .n_out_max  = n_seq == 1 ? 1 : BATCH,
                              .n_threads  = threads,
                              .no_pin     = true,
                              .quiet      = true};
    engine_t       *e      = NULL;
    base_err_t      err    = {0};
    CHECK_OK(engine_start(check_world, &config, &e, &err));
    if (comm_rank(check_world) != 0) CHECK_OK(engine_serve(e, &err));
    return e;
}

static void stop(engine_t *e)
{
    base_err_t err = {0};
    if (comm_rank(check_world) == 0) CHECK_OK(engine_stop(e, &err));
    engine_destroy(&e);
}

/* [TEXTS][LONGEST][vocab] on rank 0. */
static float *alone(const char *name, const char *layout)
{
    engine_t  *e   = start(name, layout, 1, 1);
    float     *all = NULL;
    base_err_t err = {0};
    for (uint32_t i = 0; comm_rank(check_world) == 0 && i < TEXTS * LONGEST; i++) {
        size_t       vocab = engine_model(e)->desc.n_vocab;
        const float *row   = NULL;
        part_run_t   run   = {.pos = i % LONGEST, .n = 1, .n_out = 1};
        part_batch_t batch = part_batch_one(&run, &texts[i / LONGEST][run.pos]);
        if (all == NULL) all = check_alloc(TEXTS * LONGEST * vocab * sizeof(float));
        CHECK_OK(engine_step(e, &batch, &row, &err));
        memcpy(all + i * vocab, row, vocab * sizeof(float));
    }
    stop(e);
    return all;
}

/* What a slot holds: a text, and how far. */
typedef struct {
    uint32_t text, held;
} slot_t;

/* Choose runs for some of the slots; a slot that is done, or by chance, begins another text or goes
 * back. */
static part_batch_t mix(slot_t *slots, part_run_t *runs, int32_t *ids, uint32_t step)
{
    part_batch_t batch = {.runs = runs, .ids = ids};
    for (uint32_t i = 0; i < SLOTS; i++) {
        uint32_t r    = check_mix(step, i, 7);
        uint32_t seq  = (i * 3 + step) % SLOTS; /* in another order each time */
        slot_t  *s    = &slots[seq];
        uint32_t room = BATCH - batch.n_ids;
        uint32_t n    = r % 3 == 0 ? 1 + r / 64 % 40 : 1;
        if (r % 5 == 0 || room == 0) continue;
        if (s->held == LONGEST || r % 31 == 0) *s = (slot_t){r / 8 % TEXTS, 0};
        if (r % 17 == 0) s->held = s->held * 2 / 3;
        if (n > LONGEST - s->held) n = LONGEST - s->held;
        if (n > room) n = room;
        runs[batch.n_runs++] =
            (part_run_t){.seq = seq, .pos = s->held, .n = n, .n_out = r / 16 % (n + 1)};
        memcpy(ids + batch.n_ids, &texts[s->text][s->held], n * sizeof(*ids));
        batch.n_ids += n;
        s->held += n;
    }
    return batch;
}

static const float *order_by; /* for qsort */

static int by_order(const void *a, const void *b)
{
    const uint32_t l = *(const uint32_t *)a, r = *(const uint32_t *)b;
    if (order_by[l] != order_by[r]) return order_by[l] > order_by[r] ? -1 : 1;
    return l < r ? -1 : l > r;
}

/* The n_top best are there; what else is there is right too. */
static bool same_best(const float *row, const float *want, size_t vocab, uint32_t n_top)
{
    uint32_t *ids = check_alloc(vocab * sizeof(*ids));
    size_t    odd = 0;
    for (uint32_t i = 0; i < vocab; i++) ids[i] = i;
    order_by = want;
    qsort(ids, vocab, sizeof(*ids), by_order);
    for (uint32_t i = 0; i < vocab; i++) {
        const uint32_t id   = ids[i];
        const bool     same = memcmp(&row[id], &want[id], sizeof(float)) == 0;
        odd += !same && (i < n_top || row[id] != PART_LOGIT_UNSEEN);
    }
    free(ids);
    return odd == 0;
}

static size_t compare(engine_t *e, const part_batch_t *batch, const slot_t *slots,
                      const float *rows, const float *want)
{
    size_t vocab = engine_model(e)->desc.n_vocab, n = 0;
    for (uint32_t i = 0; i < batch->n_runs; i++) {
        const part_run_t *run = &batch->runs[i];
        for (uint32_t k = run->n - run->n_out; k < run->n; k++, n++) {
            size_t at = slots[run->seq].text * (size_t)LONGEST + run->pos + k;
            CHECK(batch->n_top == 0
                      ? memcmp(rows + n * vocab, want + at * vocab, vocab * sizeof(float)) == 0
                      : same_best(rows + n * vocab, want + at * vocab, vocab, batch->n_top),
                  "run %u, sequence %u, position %u, the best %u", i, run->seq, run->pos + k,
                  batch->n_top);
        }
    }
    return n;
}

static void together(const char *name, const char *layout, uint32_t threads, const float *want)
{
    static const uint32_t tops[8]      = {0, 0, 1, 1, 2, 7, 40, 150};
    engine_t             *e            = start(name, layout, threads, SLOTS);
    slot_t                slots[SLOTS] = {{0, 0}};
    part_run_t            runs[SLOTS];
    int32_t               ids[BATCH];
    size_t                rows_seen = 0, mixed = 0;
    base_err_t            err = {0};
    for (uint32_t i = 0; i < SLOTS; i++) slots[i].text = i % TEXTS;
    for (uint32_t step = 0; comm_rank(check_world) == 0 && step < STEPS; step++) {
        const float *rows  = NULL;
        part_batch_t batch = mix(slots, runs, ids, step * 31 + threads);
        if (batch.n_runs == 0) continue;
        batch.n_top = tops[check_mix(step, 3, 3) % 8];
        mixed += batch.n_runs > 1 && batch.n_ids > batch.n_runs;
        CHECK_OK(engine_step(e, &batch, &rows, &err));
        rows_seen += compare(e, &batch, slots, rows, want);
    }
    if (comm_rank(check_world) == 0) {
        CHECK(rows_seen > STEPS && mixed > STEPS / 4, "%zu rows, %zu mixtures", rows_seen, mixed);
        printf("%s %s, %u threads: %zu rows the same\n", name, layout, threads, rows_seen);
    }
    stop(e);
}

int main(void)
{
    static const char *const names[]      = {"relu2-gqa5-tq1", "llama-f16", "llama-tq2-blocks"};
    static const char *const layouts[][2] = {{"1x1"}, {"2x1", "1x2"}, {"1x3"}, {"2x2", "1x4"}};
    base_err_t               err          = {0};
    CHECK_OK(comm_world_open(&check_world, &err));
    int                      size   = comm_size(check_world);
    const char *const *const layout = layouts[size - 1];
    for (uint32_t i = 0; i < TEXTS * LONGEST; i++)
        texts[i / LONGEST][i % LONGEST] = (int32_t)(check_mix(i, 5, 5) % 160);
    for (size_t n = 0; n < 3; n++)
        for (size_t l = 0; l < 2 && layout[l] != NULL; l++) {
            float *want = alone(names[n], layout[l]);
            for (uint32_t threads = 1; threads <= (size == 1 ? 3 : 2); threads++)
                together(names[n], layout[l], threads, want);
            free(want);
        }
    comm_world_close(&check_world);
    return 0;
}
