/* tests/mpi/batch.c: what shares a step with a sequence changes no bit of its logits.
 * np: 1 2 3 4
 * timeout: 300
 * labels: threads
 * Texts run alone, a token a step, on the layout at hand (tests/layouts compares layouts). Then all
 * of them run in random mixtures, prompts and single tokens in one step, in other slots, some going
 * back to an earlier position: every row of logits has the same bytes. So have the best of each row
 * when only they are asked for, by way of the screened head or (2 threads) of the whole one. */
#include "tests/mpi/texts.h"

enum { STEPS = 120 };

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

static void together(const char *name, const char *layout, uint32_t threads, const float *want)
{
    static const uint32_t tops[8]      = {0, 0, 1, 1, 2, 7, 40, 150};
    engine_t             *e            = start(name, layout, threads, SLOTS, BATCH);
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
    static const char *const names[]      = {"tests/golden/transformers/relu2-gqa5-tq1",
                                             "tests/golden/transformers/llama-f16",
                                             "tests/golden/transformers/llama-tq2-blocks"};
    static const char *const layouts[][2] = {{"1x1"}, {"2x1", "1x2"}, {"1x3"}, {"2x2", "1x4"}};
    base_err_t               err          = {0};
    CHECK_OK(comm_world_open(&check_world, &err));
    int                      size   = comm_size(check_world);
    const char *const *const layout = layouts[size - 1];
    texts_fill();
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
