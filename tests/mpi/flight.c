/* tests/mpi/flight.c: steps in flight at the same time change no bit.
 * np: 1 2 3 4 5
 * timeout: 300
 * labels: threads
 * Random mixtures of prompts and single tokens, some of them longer than what goes through a stage
 * at once, are submitted while others wait for their logits, those of the same sequences too; each
 * row has the bytes of its text run alone. What may not begin is refused, and refusing changes
 * nothing. */
#include "tests/mpi/texts.h"

enum { ROUNDS = 150, MOST = 140 };

typedef struct {
    part_run_t   runs[SLOTS];
    int32_t      ids[MOST];
    part_batch_t batch;
    slot_t       slots[SLOTS]; /* as they were */
} flying_t;

typedef struct {
    engine_t *e;
    slot_t    slots[SLOTS];
    flying_t  ring[SLOTS];
    uint32_t  first, n, most, same; /* same: steps of a sequence that waited for logits */
    size_t    rows;
} air_t;

/* The oldest comes home. */
static void land(air_t *a, const float *want)
{
    flying_t    *f    = &a->ring[a->first];
    const float *rows = NULL;
    base_err_t   err  = {0};
    CHECK_OK(engine_collect(a->e, &rows, &err));
    a->rows += compare(a->e, &f->batch, f->slots, rows, want);
    a->first = (a->first + 1) % SLOTS;
    a->n--;
}

/* Runs for one or two slots; rows for each of them but sometimes. */
static void fill(air_t *a, flying_t *f, uint32_t round)
{
    uint32_t most = 1 + check_mix(round, 9, 9) % 2;
    f->batch      = (part_batch_t){.runs = f->runs, .ids = f->ids};
    for (uint32_t i = 0; i < SLOTS && f->batch.n_runs < most; i++) {
        uint32_t r   = check_mix(round, i, 11);
        uint32_t seq = (i * 3 + round) % SLOTS;
        slot_t  *s   = &a->slots[seq];
        uint32_t n   = r % 4 == 0 ? 1 + r / 64 % 120 : 1;
        if (s->held == LONGEST) *s = (slot_t){r / 8 % TEXTS, 0};
        if (n > LONGEST - s->held) n = LONGEST - s->held;
        if (n > MOST - f->batch.n_ids) n = MOST - f->batch.n_ids;
        if (n == 0) break;
        f->runs[f->batch.n_runs++] =
            (part_run_t){.seq   = seq,
                         .pos   = s->held,
                         .n     = n,
                         .n_out = r % 8 == 3 ? 0 : 1 + r / 16 % (n < 5 ? n : 5)};
        memcpy(f->ids + f->batch.n_ids, &texts[s->text][s->held], n * sizeof(*f->ids));
        f->batch.n_ids += n;
        s->held += n;
    }
}

/* More rows than the others leave. */
static void refuse(air_t *a)
{
    base_err_t   err   = {0};
    part_run_t   run   = {.seq = 1, .pos = 0, .n = MOST, .n_out = MOST};
    part_batch_t batch = part_batch_one(&run, texts[0]);
    if (a->n == 0 || engine_depth(a->e) == 1) return;
    CHECK(engine_submit(a->e, &batch, &err) == BASE_ERR_USAGE, "%u steps are in flight", a->n);
    CHECK(strstr(err.text, "140 rows") != NULL, "%s", err.text);
}

static bool waits(const air_t *a, uint32_t seq)
{
    for (uint32_t i = 0; i < a->n; i++) {
        const flying_t *f = &a->ring[(a->first + i) % SLOTS];
        for (uint32_t r = 0; r < f->batch.n_runs; r++)
            if (f->runs[r].seq == seq) return true;
    }
    return false;
}

static void fly(const char *name, const char *layout, uint32_t threads, const float *want)
{
    static const uint32_t tops[4] = {0, 1, 0, 40};
    air_t                 a       = {.e = start(name, layout, threads, SLOTS, MOST)};
    base_err_t            err     = {0};
    for (uint32_t i = 0; i < SLOTS; i++) a.slots[i].text = i % TEXTS;
    for (uint32_t round = 0; comm_rank(check_world) == 0 && round < ROUNDS; round++) {
        flying_t *f = &a.ring[(a.first + a.n) % SLOTS];
        fill(&a, f, round * 17 + threads);
        if (f->batch.n_runs == 0) {
            land(&a, want);
            continue;
        }
        f->batch.n_top = tops[check_mix(round, 1, 2) % 4];
        memcpy(f->slots, a.slots, sizeof(f->slots));
        CHECK_OK(engine_submit(a.e, &f->batch, &err));
        if (part_batch_rows(&f->batch) == 0) continue; /* nothing to wait for */
        for (uint32_t i = 0; i < f->batch.n_runs; i++) a.same += waits(&a, f->runs[i].seq);
        a.n++;
        if (a.n > a.most) a.most = a.n;
        if (round % 13 == 0) refuse(&a);
        uint32_t depth = engine_depth(a.e) < SLOTS - 2 ? engine_depth(a.e) : SLOTS - 2;
        while (a.n >= depth || (a.n > 0 && check_mix(round, 4, 4) % 3 == 0)) land(&a, want);
    }
    /* on some layouts the last ones come home by engine_stop */
    while (threads == 1 && a.n > 0) land(&a, want);
    if (comm_rank(check_world) == 0) {
        CHECK(a.rows > ROUNDS / 2, "%zu rows", a.rows);
        CHECK(a.most >= (engine_depth(a.e) > 1 ? 3u : 1u), "%u in flight at most", a.most);
        CHECK(a.most == engine_most_flights(a.e), "%u counted", engine_most_flights(a.e));
        CHECK(a.same > ROUNDS / 10 || engine_depth(a.e) == 1, "%u of the same", a.same);
        printf("%s %s: %zu rows, up to %u in flight\n", name, layout, a.rows, a.most);
    }
    stop(a.e);
}

int main(void)
{
    static const char *const names[]      = {"default-model/trireme-stories",
                                             "tests/golden/transformers/llama-tq2-blocks"};
    static const char *const layouts[][2] = {
        {"1x1"}, {"2x1", "1x2"}, {"3x1"}, {"2x2", "4x1"}, {"5x1"}};
    base_err_t err = {0};
    CHECK_OK(comm_world_open(&check_world, &err));
    const char *const *const layout = layouts[comm_size(check_world) - 1];
    texts_fill();
    for (size_t n = 0; n < 2; n++)
        for (size_t l = 0; l < 2 && layout[l] != NULL; l++) {
            if (n == 1 && layout[l][0] > '2') continue; /* it has two layers */
            float *want = alone(names[n], layout[l]);
            for (uint32_t threads = 1; threads <= 2; threads++)
                fly(names[n], layout[l], threads, want);
            free(want);
        }
    comm_world_close(&check_world);
    return 0;
}
