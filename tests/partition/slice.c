/* Slices cover every row exactly once, in order, for any number and weight of shards. */
#include "tests/partition/fixture.h"

enum { MANY = 40 };

static void cut_covers(uint64_t n, uint64_t granule, const uint32_t *weights, uint32_t shards)
{
    uint64_t total = 0, before = 0, expected_begin = 0;

    for (uint32_t i = 0; i < shards; i++) total += weights[i];
    for (uint32_t i = 0; i < shards; i++) {
        uint64_t begin = 0, end = 0;
        part_cut(n, granule, weights, shards, i, &begin, &end);
        assert_int_equal(begin, expected_begin); /* no gap, no overlap */
        assert_true(begin <= end && end <= n);
        if (i + 1 < shards) assert_true(end % granule == 0 || end == n);
        before += weights[i];
        /* The end is the nearest multiple to the exact share: |end - exact| <= granule / 2. */
        double exact = (double)n * (double)before / (double)total;
        double off   = (double)end - exact;
        assert_true(off <= (double)granule / 2 + 1e-6);
        assert_true(off >= -(double)granule / 2 - 1e-6 || end == n || i + 1 == shards);
        expected_begin = end;
    }
    assert_int_equal(expected_begin, n);
}

static void cut_every_small_case(void **state)
{
    (void)state;
    const uint64_t granules[] = {1, 3, 16, 32};
    uint32_t       weights[MANY];

    for (uint32_t shards = 1; shards <= MANY; shards++) {
        for (uint32_t i = 0; i < shards; i++) weights[i] = 1;
        for (uint32_t g = 0; g < 4; g++)
            for (uint64_t n = 0; n <= 200; n++) cut_covers(n, granules[g], weights, shards);
    }
}

static void cut_uneven(void **state)
{
    (void)state;
    uint64_t seed = 20261122;
    uint32_t weights[MANY];

    for (uint32_t round = 0; round < 20000; round++) {
        uint32_t shards = 1 + (uint32_t)(fixture_random(&seed) % MANY);
        uint32_t range  = round % 2 == 0 ? 5 : PART_WEIGHT_MAX;
        for (uint32_t i = 0; i < shards; i++)
            weights[i] = 1 + (uint32_t)(fixture_random(&seed) % range);
        uint64_t n = round % 3 == 0 ? LIMIT_VOCAB : fixture_random(&seed) % 4096;
        cut_covers(n, 1 + fixture_random(&seed) % 40, weights, shards);
    }
}

static void cut_extremes(void **state)
{
    (void)state;
    uint32_t *weights = calloc(LIMIT_RANKS, sizeof(*weights));
    uint64_t  begin = 0, end = 0, at = 0;

    assert_non_null(weights);
    for (uint32_t i = 0; i < LIMIT_RANKS; i++) weights[i] = PART_WEIGHT_MAX;
    for (uint32_t i = 0; i < LIMIT_RANKS; i++) {
        part_cut(UINT32_MAX, 1, weights, LIMIT_RANKS, i, &begin, &end);
        assert_int_equal(begin, at);
        at = end;
    }
    assert_int_equal(at, UINT32_MAX);
    free(weights);

    const uint32_t three[] = {3, 1, 1};
    part_cut(20, 1, three, 3, 0, &begin, &end);
    assert_int_equal(end, 12);
    part_cut(20, 1, three, 3, 1, &begin, &end);
    assert_int_equal(begin, 12);
    assert_int_equal(end, 16);
}

/* Brute force: the KV heads of a slice are exactly those that its query heads use. */
static void slice_check(const model_layer_t *layer, part_plan_t *plan)
{
    uint32_t q_at = 0, f_at = 0;
    for (uint32_t i = 0; i < plan->shards; i++) {
        part_slice_t s = part_slice(plan, layer, i);
        assert_int_equal(s.q.begin, q_at);
        assert_int_equal(s.ffn.begin, f_at);
        for (uint32_t kv = 0; kv < layer->n_kv_heads; kv++) {
            bool used = false;
            for (uint32_t q = s.q.begin; q < s.q.end; q++)
                used = used || q / (layer->n_heads / layer->n_kv_heads) == kv;
            assert_int_equal(used, kv >= s.kv.begin && kv < s.kv.end);
        }
        assert_true(s.ffn.end % PART_FFN_BLOCK == 0 || s.ffn.end == layer->ffn);
        q_at = s.q.end;
        f_at = s.ffn.end;
    }
    assert_int_equal(q_at, layer->n_heads);
    assert_int_equal(f_at, layer->ffn);
}

static void slice_kv_heads(void **state)
{
    (void)state;
    const uint32_t heads[][2] = {{20, 5}, {32, 8}, {40, 40}, {71, 1},
                                 {1, 1},  {12, 3}, {64, 8},  {0, 0}};
    const uint32_t ffns[]     = {6912, 32, 31, 1, 100, 8192, 0};
    uint64_t       seed       = 7;

    for (uint32_t h = 0; h < 8; h++) {
        for (uint32_t shards = 1; shards <= 80; shards++) {
            uint32_t    weights[80];
            part_plan_t plan = {.stages = 1, .shards = shards, .shard_weight = weights};
            for (uint32_t uneven = 0; uneven < 4; uneven++) {
                for (uint32_t i = 0; i < shards; i++)
                    weights[i] =
                        uneven == 0 ? 1 : 1 + (uint32_t)(fixture_random(&seed) % (uneven * 5));
                for (uint32_t f = 0; f < 7; f++) {
                    model_layer_t layer = {
                        .n_heads = heads[h][0], .n_kv_heads = heads[h][1], .ffn = ffns[f]};
                    slice_check(&layer, &plan);
                }
            }
        }
    }
}

/* Even shards that divide the KV heads replicate none. */
static void slice_aligned(void **state)
{
    (void)state;
    uint32_t      weights[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    model_layer_t layer      = {.n_heads = 64, .n_kv_heads = 8, .ffn = 1024};
    for (uint32_t shards = 1; shards <= 8; shards *= 2) {
        part_plan_t plan = {.stages = 1, .shards = shards, .shard_weight = weights};
        for (uint32_t i = 0; i < shards; i++) {
            part_slice_t s = part_slice(&plan, &layer, i);
            assert_int_equal(s.kv.begin, i * 8 / shards);
            assert_int_equal(s.kv.end, (i + 1) * 8 / shards);
        }
    }
    /* Five KV heads of four queries each over two shards: the middle one is on both. */
    model_layer_t five = {.n_heads = 20, .n_kv_heads = 5, .ffn = 96};
    part_plan_t   two  = {.stages = 1, .shards = 2, .shard_weight = weights};
    part_slice_t  a = part_slice(&two, &five, 0), b = part_slice(&two, &five, 1);
    assert_int_equal(a.q.end, 10);
    assert_int_equal(a.kv.end, 3);
    assert_int_equal(b.kv.begin, 2);
    assert_int_equal(b.kv.end, 5);
    assert_int_equal(a.ffn.end, 64); /* 48 is no block boundary; halves go up */
}

static void vocab_rows(void **state)
{
    (void)state;
    uint32_t     weights[MANY];
    model_desc_t desc = {0};
    for (uint32_t i = 0; i < MANY; i++) weights[i] = 1 + i % 3;
    const uint32_t sizes[] = {1, 15, 16, 17, 1000, 32000, 128256};
    for (uint32_t v = 0; v < 7; v++) {
        for (uint32_t shards = 1; shards <= MANY; shards++) {
            part_plan_t plan = {.stages = 1, .shards = shards, .shard_weight = weights};
            uint32_t    at   = 0;
            desc.n_vocab     = sizes[v];
            for (uint32_t i = 0; i < shards; i++) {
                part_range_t r = part_vocab(&plan, &desc, i);
                assert_int_equal(r.begin, at);
                assert_true(r.end >= r.begin);
                assert_true(r.end % PART_VOCAB_BLOCK == 0 || r.end == sizes[v]);
                at = r.end;
            }
            assert_int_equal(at, sizes[v]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_every_small_case), cmocka_unit_test(cut_uneven),
        cmocka_unit_test(cut_extremes),         cmocka_unit_test(slice_kv_heads),
        cmocka_unit_test(slice_aligned),        cmocka_unit_test(vocab_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
