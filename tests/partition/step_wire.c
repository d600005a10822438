/* Steps on the wire: round trips, and bytes that mean harm. */
#include "partition/step_wire.h"
#include "tests/partition/fixture.h"

static uint8_t          wire[PART_STEP_MAX_BYTES];
static int32_t          ids_in[LIMIT_BATCH];
static part_run_t       runs_in[LIMIT_SEQUENCES];
static part_step_room_t room;

static const part_batch_limits_t most = {.n_seq   = LIMIT_SEQUENCES,
                                         .n_ctx   = LIMIT_CONTEXT,
                                         .n_batch = LIMIT_BATCH,
                                         .n_out   = LIMIT_BATCH,
                                         .n_vocab = LIMIT_VOCAB};
static const part_batch_limits_t few  = {
     .n_seq = 4, .n_ctx = 1000, .n_batch = 64, .n_out = 8, .n_vocab = 200000};

static size_t packed(part_step_t step)
{
    size_t n = 0;
    assert_int_equal(part_step_pack(&step, wire, sizeof(wire), &n, NULL), BASE_OK);
    assert_true(n <= sizeof(wire));
    return n;
}

static part_step_t tokens(uint32_t n_runs, uint32_t n_ids)
{
    return (part_step_t){
        .kind  = PART_STEP_TOKENS,
        .batch = {.runs = runs_in, .n_runs = n_runs, .ids = ids_in, .n_ids = n_ids}};
}

static void round_trip(part_step_t step)
{
    part_step_t back = {0};
    base_err_t  err  = {0};
    size_t      n    = packed(step);
    if (part_step_unpack(wire, n, &most, &back, &room, &err) != BASE_OK) fail_msg("%s", err.text);
    assert_int_equal(back.kind, step.kind);
    assert_int_equal(back.batch.n_runs, step.batch.n_runs);
    assert_int_equal(back.batch.n_ids, step.batch.n_ids);
    assert_int_equal(back.batch.n_top, step.batch.n_top);
    assert_int_equal(back.reset, step.reset);
    if (step.batch.n_ids == 0) return;
    assert_memory_equal(back.batch.ids, step.batch.ids, step.batch.n_ids * sizeof(int32_t));
    assert_memory_equal(back.batch.runs, step.batch.runs, step.batch.n_runs * sizeof(part_run_t));
}

static void round_trips(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < LIMIT_BATCH; i++) ids_in[i] = LIMIT_VOCAB - 1 - (int32_t)i;
    runs_in[0] = (part_run_t){.n = 1, .n_out = 1};
    round_trip(tokens(1, 1));
    runs_in[0] = (part_run_t){.seq   = LIMIT_SEQUENCES - 1,
                              .pos   = LIMIT_CONTEXT - LIMIT_BATCH,
                              .n     = LIMIT_BATCH,
                              .n_out = LIMIT_BATCH};
    round_trip(tokens(1, LIMIT_BATCH));
    /* The longest message: every number takes all its bytes. */
    for (uint32_t i = 0; i < LIMIT_SEQUENCES; i++)
        runs_in[i] = (part_run_t){.seq   = LIMIT_SEQUENCES - 1 - i,
                                  .pos   = LIMIT_CONTEXT - LIMIT_BATCH,
                                  .n     = LIMIT_BATCH / LIMIT_SEQUENCES,
                                  .n_out = i % (LIMIT_BATCH / LIMIT_SEQUENCES)};
    part_step_t step = tokens(LIMIT_SEQUENCES, LIMIT_BATCH);
    step.batch.n_top = LIMIT_VOCAB;
    round_trip(step);
    for (uint32_t n = 1; n < 300; n++) {
        runs_in[0] = (part_run_t){.seq = n % 256, .pos = n * 77, .n = n, .n_out = n / 2};
        runs_in[1] = (part_run_t){.seq = (n + 1) % 256, .pos = n, .n = 3, .n_out = 0};
        round_trip(tokens(2, n + 3));
    }
    round_trip((part_step_t){.kind = PART_STEP_STATS});
    round_trip((part_step_t){.kind = PART_STEP_STATS, .reset = true});
    round_trip((part_step_t){.kind = PART_STEP_STOP});
}

static void small_buffer(void **state)
{
    (void)state;
    runs_in[0]       = (part_run_t){.n = 5};
    part_step_t step = tokens(1, 5);
    size_t      n = 0, full = packed(step);
    uint8_t     buf[64];
    base_err_t  err = {0};
    for (size_t capacity = 0; capacity < full; capacity++)
        assert_int_equal(part_step_pack(&step, buf, capacity, &n, &err), BASE_ERR_LIMIT);
    assert_int_equal(part_step_pack(&step, buf, full, &n, &err), BASE_OK);
}

/* Written out anew: what a worker relies on. */
static void sound(const part_batch_t *b, const part_batch_limits_t *l)
{
    uint32_t n = 0, rows = 0;
    assert_true(b->n_runs >= 1 && b->n_runs <= l->n_seq && b->n_top <= l->n_vocab);
    for (uint32_t i = 0; i < b->n_runs; i++) {
        const part_run_t *r = &b->runs[i];
        assert_true(r->seq < l->n_seq && r->n >= 1 && r->n_out <= r->n);
        assert_true((uint64_t)r->pos + r->n <= l->n_ctx);
        for (uint32_t j = 0; j < i; j++) assert_true(b->runs[j].seq != r->seq);
        n += r->n;
        rows += r->n_out;
    }
    assert_true(n == b->n_ids && n <= l->n_batch && rows <= l->n_out);
    for (uint32_t i = 0; i < n; i++)
        assert_true(b->ids[i] >= 0 && (uint32_t)b->ids[i] < l->n_vocab);
}

/* Unpack from an exact heap copy (so that a sanitizer sees any step beyond it); what is accepted is
 * sound. `piece`: what the text of a refusal must hold, or NULL. */
static base_status_t hostile_as(const uint8_t *bytes, size_t n, const part_batch_limits_t *limits,
                                const char *piece)
{
    uint8_t    *copy = malloc(n == 0 ? 1 : n);
    part_step_t back = {0};
    base_err_t  err  = {0};
    assert_non_null(copy);
    if (n > 0) memcpy(copy, bytes, n);
    base_status_t st = part_step_unpack(copy, n, limits, &back, &room, &err);
    free(copy);
    if (st == BASE_OK) {
        assert_true(back.kind >= PART_STEP_TOKENS && back.kind <= PART_STEP_STOP);
        if (back.kind == PART_STEP_TOKENS) sound(&back.batch, limits);
    } else {
        assert_int_equal(st, BASE_ERR_PEER);
        assert_true(err.text[0] != '\0');
        if (piece != NULL && strstr(err.text, piece) == NULL)
            fail_msg("'%s' lacks '%s'", err.text, piece);
    }
    return st;
}

static base_status_t hostile(const uint8_t *bytes, size_t n, const part_batch_limits_t *limits)
{
    return hostile_as(bytes, n, limits, NULL);
}

static void hostile_bytes(void **state)
{
    (void)state;
    uint8_t whole[512], bytes[512];
    for (uint32_t i = 0; i < 40; i++) ids_in[i] = (int32_t)(i * 3000);
    runs_in[0]                = (part_run_t){.seq = 2, .pos = 300, .n = 30, .n_out = 2};
    runs_in[1]                = (part_run_t){.seq = 0, .pos = 0, .n = 9, .n_out = 0};
    runs_in[2]                = (part_run_t){.seq = 3, .pos = 999, .n = 1, .n_out = 1};
    part_batch_limits_t tight = few;
    size_t              n     = packed(tokens(3, 40));
    memcpy(whole, wire, n);
    for (size_t cut = 0; cut < n; cut++) assert_int_equal(hostile(whole, cut, &few), BASE_ERR_PEER);
    assert_int_equal(hostile(whole, n, &few), BASE_OK);
    tight.n_batch = 40;
    assert_int_equal(hostile(whole, n, &tight), BASE_OK);
    tight.n_batch = 39;
    assert_int_equal(hostile(whole, n, &tight), BASE_ERR_PEER);
    for (size_t at = 0; at < n; at++) {
        for (uint32_t value = 0; value < 256; value++) {
            memcpy(bytes, whole, n);
            bytes[at] = (uint8_t)value;
            (void)hostile(bytes, n, &few);
        }
    }
    uint64_t seed = 1;
    for (uint32_t round = 0; round < 200000; round++) {
        size_t length = fixture_random(&seed) % 80;
        if (round % 2 == 0) { /* garbage; else several wounds */
            for (size_t i = 0; i < length; i++) bytes[i] = (uint8_t)fixture_random(&seed);
        } else {
            length = n;
            memcpy(bytes, whole, n);
            for (uint32_t i = 0; i < 4; i++)
                bytes[fixture_random(&seed) % n] = (uint8_t)fixture_random(&seed);
        }
        (void)hostile(bytes, length, &few);
    }
}

/* Batches that are no batches: each refused by name. */

static void refuse(uint32_t n_runs, uint32_t n_ids, const char *piece)
{
    size_t n = packed(tokens(n_runs, n_ids));
    assert_int_equal(hostile_as(wire, n, &few, piece), BASE_ERR_PEER);
}

static void hostile_runs(void **state)
{
    (void)state;
    const part_run_t a = {.seq = 1, .pos = 10, .n = 4, .n_out = 1};
    const part_run_t b = {.seq = 2, .pos = 0, .n = 3, .n_out = 3};
    for (uint32_t i = 0; i < 64; i++) ids_in[i] = (int32_t)i;
    runs_in[0] = a, runs_in[1] = b;
    assert_int_equal(hostile(wire, packed(tokens(2, 7)), &few), BASE_OK);
    refuse(2, 6, "tokens");          /* fewer ids than the runs have */
    refuse(2, 8, "the runs have 7"); /* and more */
    refuse(1, 7, "the runs have 4");
    runs_in[1].seq = 1, refuse(2, 7, "sequence 1 has a run");
    runs_in[1].pos = 14, refuse(2, 7, "sequence 1 has a run"), runs_in[1] = b;
    runs_in[1].seq = 4, refuse(2, 7, "sequence 4"), runs_in[1] = b;
    runs_in[1].seq = UINT32_MAX, refuse(2, 7, "sequence 4294967295"), runs_in[1] = b;
    runs_in[1].pos = 998, refuse(2, 7, "do not fit a context of 1000"), runs_in[1] = b;
    runs_in[1].pos = UINT32_MAX, refuse(2, 7, "do not fit"), runs_in[1] = b;
    runs_in[1].n = 0, refuse(2, 7, "0 tokens"), runs_in[1] = b;
    runs_in[1].n = UINT32_MAX, refuse(2, 7, "4294967295 tokens"), runs_in[1] = b;
    runs_in[1].n_out = 4, refuse(2, 7, "logits of 4"), runs_in[1] = b;
    runs_in[0].n = 9, runs_in[0].n_out = 9, refuse(1, 9, "9 rows"), runs_in[0] = a;
    ids_in[6] = -1, refuse(2, 7, "id -1"), ids_in[6] = 200000, refuse(2, 7, "id 200000");
    ids_in[6] = 0;
    for (uint32_t i = 0; i < 5; i++) runs_in[i] = (part_run_t){.seq = i % 4, .n = 1};
    refuse(5, 5, "5 runs");
    part_step_t step = tokens(4, 4);
    step.batch.n_top = 200001;
    assert_int_equal(hostile_as(wire, packed(step), &few, "best 200001"), BASE_ERR_PEER);
    step.batch.n_top = 200000;
    assert_int_equal(hostile(wire, packed(step), &few), BASE_OK);
}

/* Written by hand: fields that the encoder never writes so. */
static void hostile_messages(void **state)
{
    (void)state;
    const uint8_t no_kind[]    = {0x18, 0x01};
    const uint8_t kind_0[]     = {0x08, 0x00};
    const uint8_t kind_4[]     = {0x08, 0x04};
    const uint8_t no_tokens[]  = {0x08, 0x01};
    const uint8_t no_runs[]    = {0x08, 0x01, 0x22, 0x01, 0x02};
    const uint8_t no_ids[]     = {0x08, 0x01, 0x12, 0x04, 0x00, 0x00, 0x01, 0x00};
    const uint8_t part_run[]   = {0x08, 0x01, 0x12, 0x03, 0x00, 0x00, 0x01, 0x22, 0x01, 0x02};
    const uint8_t stop_ids[]   = {0x08, 0x03, 0x22, 0x01, 0x02};
    const uint8_t stop_runs[]  = {0x08, 0x03, 0x12, 0x04, 0x00, 0x00, 0x01, 0x00};
    const uint8_t stop_top[]   = {0x08, 0x03, 0x18, 0x02};
    const uint8_t stop_reset[] = {0x08, 0x03, 0x28, 0x01};
    const uint8_t reset[]      = {0x08, 0x01, 0x12, 0x04, 0x00, 0x00, 0x01,
                                  0x00, 0x22, 0x01, 0x02, 0x28, 0x01};
    const uint8_t unpacked[]   = {0x08, 0x01, 0x10, 0x00, 0x10, 0x00, 0x10,
                                  0x02, 0x10, 0x00, 0x20, 0x02, 0x20, 0x04}; /* legal: one by one */
    assert_int_equal(hostile(no_kind, sizeof(no_kind), &few), BASE_ERR_PEER);
    assert_int_equal(hostile(kind_0, sizeof(kind_0), &few), BASE_ERR_PEER);
    assert_int_equal(hostile(kind_4, sizeof(kind_4), &few), BASE_ERR_PEER);
    assert_int_equal(hostile(no_tokens, sizeof(no_tokens), &few), BASE_ERR_PEER);
    assert_int_equal(hostile(no_runs, sizeof(no_runs), &few), BASE_ERR_PEER);
    assert_int_equal(hostile(no_ids, sizeof(no_ids), &few), BASE_ERR_PEER);
    assert_int_equal(hostile(part_run, sizeof(part_run), &few), BASE_ERR_PEER);
    assert_int_equal(hostile(stop_ids, sizeof(stop_ids), &few), BASE_ERR_PEER);
    assert_int_equal(hostile(stop_runs, sizeof(stop_runs), &few), BASE_ERR_PEER);
    assert_int_equal(hostile(stop_top, sizeof(stop_top), &few), BASE_ERR_PEER);
    assert_int_equal(hostile(stop_reset, sizeof(stop_reset), &few), BASE_ERR_PEER);
    assert_int_equal(hostile_as(reset, sizeof(reset), &few, "reset"), BASE_ERR_PEER);
    assert_int_equal(hostile(unpacked, sizeof(unpacked), &few), BASE_OK);
    assert_int_equal(hostile(NULL, 0, &few), BASE_ERR_PEER);

    /* More of everything than fits: ids or runs one by one, unknown fields, and beyond the largest
     * message. */
    static const uint8_t fills[] = {0x20, 0x10, 0x78};
    static uint8_t       big[PART_STEP_MAX_BYTES + 1];
    for (uint32_t fill = 0; fill < 3; fill++) {
        for (size_t i = 0; i + 1 < sizeof(big); i += 2) {
            big[i]     = fills[fill];
            big[i + 1] = 0x02;
        }
        big[0] = 0x08;
        big[1] = 0x01;
        assert_int_equal(hostile(big, sizeof(big) - 1, &most), BASE_ERR_PEER);
        assert_int_equal(hostile(big, sizeof(big), &most), BASE_ERR_PEER);
        for (size_t n = 2; n < 20000; n += 510) (void)hostile(big, n, &most);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),      cmocka_unit_test(small_buffer),
        cmocka_unit_test(hostile_bytes),    cmocka_unit_test(hostile_runs),
        cmocka_unit_test(hostile_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
