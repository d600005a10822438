/* tests/mpi/texts.h: texts that run alone, a token a step, and the comparison of what other ways of
 * running them give. */
#ifndef TRIREME_TESTS_MPI_TEXTS_H
#define TRIREME_TESTS_MPI_TEXTS_H

#include "launch/engine.h"
#include "tests/mpi/check.h"

enum { TEXTS = 5, SLOTS = 7, LONGEST = 150, BATCH = 48, N_CTX = 288 };

static int32_t texts[TEXTS][LONGEST];

static inline const char *model_path(const char *name)
{
    static char path[4096];
    const char *source = getenv("TRIREME_SOURCE");
    (void)snprintf(path, sizeof(path), "%s/%s.gguf", source != NULL ? source : ".", name);
    return path;
}

static inline engine_t *start_with(const engine_config_t *config)
{
    engine_t  *e   = NULL;
    base_err_t err = {0};
    CHECK_OK(engine_start(check_world, config, &e, &err));
    if (comm_rank(check_world) != 0) CHECK_OK(engine_serve(e, &err));
    return e;
}

static inline engine_t *start(const char *name, const char *layout, uint32_t threads,
                              uint32_t n_seq, uint32_t n_batch)
{
    engine_config_t config = {.model_path = model_path(name),
                              .layout     = layout,
                              .head       = n_seq == 1 || threads % 2 == 0 ? "full" : "screened",
                              .n_ctx      = N_CTX,
                              .n_seq      = n_seq,
                              .n_batch    = n_batch,
                              .n_out_max  = n_batch,
                              .n_threads  = threads,
                              .no_pin     = true,
                              .quiet      = true};
    return start_with(&config);
}

static inline void stop(engine_t *e)
{
    base_err_t err = {0};
    if (comm_rank(check_world) == 0) CHECK_OK(engine_stop(e, &err));
    engine_destroy(&e);
}

/* [TEXTS][LONGEST][vocab] on rank 0. */
static inline float *alone(const char *name, const char *layout)
{
    engine_t  *e   = start(name, layout, 1, 1, 1);
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

static const float *order_by; /* for qsort */

static inline int by_order(const void *a, const void *b)
{
    const uint32_t l = *(const uint32_t *)a, r = *(const uint32_t *)b;
    if (order_by[l] != order_by[r]) return order_by[l] > order_by[r] ? -1 : 1;
    return l < r ? -1 : l > r;
}

/* The n_top best are there; what else is there is right too. */
static inline bool same_best(const float *row, const float *want, size_t vocab, uint32_t n_top)
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

static inline size_t compare(engine_t *e, const part_batch_t *batch, const slot_t *slots,
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

static inline void texts_fill(void)
{
    for (uint32_t i = 0; i < TEXTS * LONGEST; i++)
        texts[i / LONGEST][i % LONGEST] = (int32_t)(check_mix(i, 5, 5) % 160);
}

#endif
