/* Steps on the wire: round trips, and bytes that mean harm. */
#include "partition/step_wire.h"
#include "tests/partition/fixture.h"

static uint8_t wire[PART_STEP_MAX_BYTES];
static int32_t ids_in[LIMIT_BATCH], ids_out[LIMIT_BATCH];

static size_t packed(part_step_t step)
{
    size_t n = 0;
    assert_int_equal(part_step_pack(&step, wire, sizeof(wire), &n, NULL), BASE_OK);
    assert_true(n <= sizeof(wire));
    return n;
}

static void round_trip(part_step_t step)
{
    part_step_t back = {0};
    base_err_t  err  = {0};
    size_t      n    = packed(step);
    if (part_step_unpack(wire, n, &back, ids_out, LIMIT_BATCH, &err) != BASE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(back.kind, step.kind);
    assert_int_equal(back.pos, step.pos);
    assert_int_equal(back.n_out, step.n_out);
    assert_int_equal(back.n_ids, step.n_ids);
    assert_int_equal(back.reset, step.reset);
    if (step.n_ids > 0) assert_memory_equal(back.ids, step.ids, step.n_ids * sizeof(int32_t));
}

static void round_trips(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < LIMIT_BATCH; i++) ids_in[i] = LIMIT_VOCAB - 1 - (int32_t)i;
    round_trip(
        (part_step_t){.kind = PART_STEP_TOKENS, .pos = 0, .n_out = 1, .n_ids = 1, .ids = ids_in});
    round_trip((part_step_t){.kind  = PART_STEP_TOKENS,
                             .pos   = LIMIT_CONTEXT - LIMIT_BATCH,
                             .n_out = LIMIT_BATCH,
                             .n_ids = LIMIT_BATCH,
                             .ids   = ids_in});
    for (uint32_t n = 1; n < 300; n++)
        round_trip((part_step_t){
            .kind = PART_STEP_TOKENS, .pos = n * 77, .n_out = n / 2, .n_ids = n, .ids = ids_in});
    round_trip((part_step_t){.kind = PART_STEP_STATS});
    round_trip((part_step_t){.kind = PART_STEP_STATS, .reset = true});
    round_trip((part_step_t){.kind = PART_STEP_STOP});
}

static void small_buffer(void **state)
{
    (void)state;
    part_step_t step = {.kind = PART_STEP_TOKENS, .n_ids = 5, .ids = ids_in};
    size_t      n = 0, full = packed(step);
    uint8_t     buf[64];
    base_err_t  err = {0};
    for (size_t capacity = 0; capacity < full; capacity++)
        assert_int_equal(part_step_pack(&step, buf, capacity, &n, &err), BASE_ERR_LIMIT);
    assert_int_equal(part_step_pack(&step, buf, full, &n, &err), BASE_OK);
}

/* Unpack from an exact heap copy (so that a sanitizer sees any step beyond it); what is accepted is
 * in range. */
static base_status_t hostile(const uint8_t *bytes, size_t n, uint32_t max_ids)
{
    uint8_t    *copy = malloc(n == 0 ? 1 : n);
    part_step_t back = {0};
    base_err_t  err  = {0};
    assert_non_null(copy);
    if (n > 0) memcpy(copy, bytes, n);
    base_status_t st = part_step_unpack(copy, n, &back, ids_out, max_ids, &err);
    free(copy);
    if (st == BASE_OK) {
        assert_true(back.kind >= PART_STEP_TOKENS && back.kind <= PART_STEP_STOP);
        assert_true(back.n_ids <= max_ids && back.n_out <= back.n_ids);
        assert_true(back.pos <= LIMIT_CONTEXT);
        for (uint32_t i = 0; i < back.n_ids; i++)
            assert_true(back.ids[i] >= 0 && back.ids[i] < LIMIT_VOCAB);
    } else {
        assert_int_equal(st, BASE_ERR_PEER);
        assert_true(err.text[0] != '\0');
    }
    return st;
}

static void hostile_bytes(void **state)
{
    (void)state;
    uint8_t whole[512], bytes[512];
    for (uint32_t i = 0; i < 40; i++) ids_in[i] = (int32_t)(i * 3000);
    size_t n = packed((part_step_t){
        .kind = PART_STEP_TOKENS, .pos = 300, .n_out = 2, .n_ids = 40, .ids = ids_in});
    memcpy(whole, wire, n);
    for (size_t cut = 0; cut < n; cut++) assert_int_equal(hostile(whole, cut, 64), BASE_ERR_PEER);
    assert_int_equal(hostile(whole, n, 64), BASE_OK);
    assert_int_equal(hostile(whole, n, 40), BASE_OK);
    assert_int_equal(hostile(whole, n, 39), BASE_ERR_PEER);
    for (size_t at = 0; at < n; at++) {
        for (uint32_t value = 0; value < 256; value++) {
            memcpy(bytes, whole, n);
            bytes[at] = (uint8_t)value;
            (void)hostile(bytes, n, 64);
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
        (void)hostile(bytes, length, 64);
    }
}

/* Written by hand: fields that the encoder never writes so. */
static void hostile_messages(void **state)
{
    (void)state;
    const uint8_t no_kind[]    = {0x10, 0x01};
    const uint8_t kind_0[]     = {0x08, 0x00};
    const uint8_t kind_4[]     = {0x08, 0x04};
    const uint8_t no_tokens[]  = {0x08, 0x01};
    const uint8_t stop_ids[]   = {0x08, 0x03, 0x22, 0x01, 0x02};
    const uint8_t stop_reset[] = {0x08, 0x03, 0x28, 0x01};
    const uint8_t negative[]   = {0x08, 0x01, 0x22, 0x01, 0x01};
    const uint8_t far_pos[]    = {0x08, 0x01, 0x10, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x22, 0x01, 0x02};
    const uint8_t many_out[]   = {0x08, 0x01, 0x18, 0x02, 0x22, 0x01, 0x02};
    const uint8_t unpacked[]   = {0x08, 0x01, 0x20, 0x02, 0x20, 0x04}; /* legal: ids one by one */
    assert_int_equal(hostile(no_kind, sizeof(no_kind), 64), BASE_ERR_PEER);
    assert_int_equal(hostile(kind_0, sizeof(kind_0), 64), BASE_ERR_PEER);
    assert_int_equal(hostile(kind_4, sizeof(kind_4), 64), BASE_ERR_PEER);
    assert_int_equal(hostile(no_tokens, sizeof(no_tokens), 64), BASE_ERR_PEER);
    assert_int_equal(hostile(stop_ids, sizeof(stop_ids), 64), BASE_ERR_PEER);
    assert_int_equal(hostile(stop_reset, sizeof(stop_reset), 64), BASE_ERR_PEER);
    assert_int_equal(hostile(negative, sizeof(negative), 64), BASE_ERR_PEER);
    assert_int_equal(hostile(far_pos, sizeof(far_pos), 64), BASE_ERR_PEER);
    assert_int_equal(hostile(many_out, sizeof(many_out), 64), BASE_ERR_PEER);
    assert_int_equal(hostile(unpacked, sizeof(unpacked), 64), BASE_OK);
    assert_int_equal(hostile(NULL, 0, 64), BASE_ERR_PEER);

    /* More of everything than fits: ids one by one, unknown fields, and beyond the largest message.
     */
    static uint8_t big[PART_STEP_MAX_BYTES + 1];
    for (uint32_t fill = 0; fill < 2; fill++) {
        for (size_t i = 0; i + 1 < sizeof(big); i += 2) {
            big[i]     = fill == 0 ? 0x20 : 0x78;
            big[i + 1] = 0x02;
        }
        big[0] = 0x08;
        big[1] = 0x01;
        assert_int_equal(hostile(big, sizeof(big) - 1, LIMIT_BATCH), BASE_ERR_PEER);
        assert_int_equal(hostile(big, sizeof(big), LIMIT_BATCH), BASE_ERR_PEER);
        for (size_t n = 2; n < 20000; n += 510) (void)hostile(big, n, LIMIT_BATCH);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(small_buffer),
        cmocka_unit_test(hostile_bytes),
        cmocka_unit_test(hostile_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
