/* Plans from wishes: the grammar of --layout and --split, aliases, the automatic layout, memory. */
#include "partition/plan.h"
#include "tests/partition/fixture.h"

static model_desc_t desc; /* fixture_small */

static int setup(void **state)
{
    (void)state;
    desc = fixture_desc(fixture_small);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(desc.layers);
    return 0;
}

static void expect_plan(part_wish_t wish, const char *layout)
{
    part_plan_t plan = {0};
    base_err_t  err  = {0};
    char        name[32];
    if (part_plan_make(&wish, &desc, &plan, &err) != BASE_OK) fail_msg("%s", err.text);
    assert_string_equal(part_layout_name(&plan, name, sizeof(name)), layout);
    assert_int_equal(plan.stage_layer[0], 0);
    assert_int_equal(plan.stage_layer[plan.stages], desc.n_layers);
    part_plan_free(&plan);
    part_plan_free(&plan); /* accepts zeroed */
}

static void expect_error(part_wish_t wish, const char *piece)
{
    part_plan_t plan = {0};
    base_err_t  err  = {0};
    assert_int_equal(part_plan_make(&wish, &desc, &plan, &err), BASE_ERR_USAGE);
    if (strstr(err.text, piece) == NULL) fail_msg("'%s' lacks '%s'", err.text, piece);
    assert_null(plan.stage_layer);
}

static void automatic(void **state)
{
    (void)state;
    expect_plan((part_wish_t){.n_ranks = 1}, "1x1");
    expect_plan((part_wish_t){.n_ranks = 5, .n_hosts = 1}, "1x5");
    expect_plan((part_wish_t){.n_ranks = 8, .n_hosts = 2}, "2x4");
    expect_plan((part_wish_t){.n_ranks = 8, .n_hosts = 2, .layout = "auto", .split = "auto"},
                "2x4");
    expect_plan((part_wish_t){.n_ranks = 3, .n_hosts = 3}, "3x1");
    expect_plan((part_wish_t){.n_ranks = 5, .n_hosts = 2}, "5x1");   /* does not divide */
    expect_plan((part_wish_t){.n_ranks = 7, .n_hosts = 2}, "1x7");   /* nor enough layers */
    expect_plan((part_wish_t){.n_ranks = 14, .n_hosts = 7}, "1x14"); /* more hosts than layers */
    expect_plan((part_wish_t){.n_ranks = 4096, .n_hosts = 1}, "1x4096");
}

static void wishes(void **state)
{
    (void)state;
    expect_plan((part_wish_t){.n_ranks = 6, .layout = "2x3"}, "2x3");
    expect_plan((part_wish_t){.n_ranks = 6, .layout = "6x1"}, "6x1");
    expect_plan(
        (part_wish_t){.n_ranks = 6, .layout = "2x3", .pipeline_parallel = 2, .tensor_parallel = 3},
        "2x3");
    expect_plan((part_wish_t){.n_ranks = 6, .pipeline_parallel = 3}, "3x2");
    expect_plan((part_wish_t){.n_ranks = 6, .n_hosts = 2, .tensor_parallel = 6}, "1x6");
    expect_plan((part_wish_t){.n_ranks = 6, .pipeline_parallel = 1, .tensor_parallel = 6}, "1x6");
}

static void bad_wishes(void **state)
{
    (void)state;
    const char *bad[] = {
        "",      "2",    "x",   "2x",   "x3",   "2x3x1", "2X3",    "-2x-3",         " 2x3",
        "2x3 ",  "+2x3", "0x6", "2x0",  "02x3", "2*3",   "5000x1", "99999999999x1", "1x4294967302",
        "2.0x3", "even", "0x0", "2x3\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_error((part_wish_t){.n_ranks = 6, .layout = bad[i]}, "expected STAGESxSHARDS");
    expect_error((part_wish_t){.n_ranks = 6, .layout = "2x2"}, "1x6, 2x3, 3x2, 6x1");
    expect_error((part_wish_t){.n_ranks = 12, .layout = "12x1"}, "1x12, 2x6, 3x4, 4x3, 6x2");
    expect_error((part_wish_t){.n_ranks = 12, .layout = "12x1"}, "6 layers");
    expect_error((part_wish_t){.n_ranks = 7, .layout = "7x1"}, "6 layers");
    expect_error((part_wish_t){.n_ranks = 6, .layout = "2x3", .tensor_parallel = 2}, "contradicts");
    expect_error((part_wish_t){.n_ranks = 6, .layout = "2x3", .pipeline_parallel = 3},
                 "--pipeline-parallel-size 3");
    expect_error((part_wish_t){.n_ranks = 6, .pipeline_parallel = 4}, "6 ranks");
    expect_error((part_wish_t){.n_ranks = 6, .tensor_parallel = 4}, "6 ranks");
    expect_error((part_wish_t){.n_ranks = 6, .tensor_parallel = UINT32_MAX}, "6 ranks");
    expect_error(
        (part_wish_t){.n_ranks = 6, .pipeline_parallel = UINT32_MAX, .tensor_parallel = UINT32_MAX},
        "6 ranks");
    expect_error((part_wish_t){.n_ranks = 0}, "ranks");
    expect_error((part_wish_t){.n_ranks = 4097}, "4097");
}

static void splits(void **state)
{
    (void)state;
    part_plan_t plan = {0};
    expect_plan((part_wish_t){.n_ranks = 3, .split = "3,1,1"}, "1x3");
    expect_plan((part_wish_t){.n_ranks = 3, .layout = "3x1", .split = "3,1,1"}, "3x1");
    expect_plan((part_wish_t){.n_ranks = 1, .split = "7"}, "1x1");
    expect_plan((part_wish_t){.n_ranks = 2, .split = "1000000,1"}, "1x2");

    part_wish_t shards = {.n_ranks = 6, .layout = "2x3", .split = "3,1,1"};
    assert_int_equal(part_plan_make(&shards, &desc, &plan, NULL), BASE_OK);
    assert_int_equal(plan.shard_weight[0], 3);
    assert_int_equal(plan.shard_weight[2], 1);
    part_plan_free(&plan);

    part_wish_t  layers = {.n_ranks = 6, .layout = "3x2", .split = "3,1/1,3,2"};
    model_desc_t six    = fixture_desc(fixture_small);
    part_plan_t  cut    = {0};
    assert_int_equal(part_plan_make(&layers, &six, &cut, NULL), BASE_OK);
    assert_int_equal(cut.stage_layer[1], 1);
    assert_int_equal(cut.stage_layer[2], 4);
    assert_int_equal(cut.stage_layer[3], 6);
    assert_int_equal(cut.shard_weight[0], 3);
    part_plan_free(&cut);
    layers.split = "/4,1,1"; /* even shares */
    assert_int_equal(part_plan_make(&layers, &six, &cut, NULL), BASE_OK);
    assert_int_equal(cut.stage_layer[1], 4);
    assert_int_equal(cut.shard_weight[0], cut.shard_weight[1]);
    part_plan_free(&cut);
    free(six.layers);
    expect_error((part_wish_t){.n_ranks = 3, .layout = "3x1", .split = "/4,2"}, "2 stages of 6");
    expect_error((part_wish_t){.n_ranks = 3, .layout = "3x1", .split = "1/4,1,2"}, "3 stages of 7");
    expect_error((part_wish_t){.n_ranks = 3, .layout = "3x1", .split = "1/4,0,2"},
                 "layers of each");
    expect_error((part_wish_t){.n_ranks = 3, .layout = "3x1", .split = "1/"}, "layers of each");
    expect_error((part_wish_t){.n_ranks = 3, .layout = "3x1", .split = "3,1/4,1,1"},
                 "'3,1': 2 shares of shards in front of the slash (none there: even, as in /3,1), "
                 "but the layout has 1");
    part_wish_t stages = {.n_ranks = 2, .layout = "2x1", .split = "5,1"};
    assert_int_equal(part_plan_make(&stages, &desc, &plan, NULL), BASE_OK);
    assert_int_equal(plan.stage_layer[1], 5);
    assert_int_equal(plan.shard_weight[0], 1);
    part_plan_free(&plan);

    const char *bad[] = {"",       ",",     "3,", ",3",          "3,,1",  "3 ,1",   "0,1,1",
                         "-1,1,1", "3;1;1", "a",  "1000001,1,1", "evens", "1e3,1,1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_error((part_wish_t){.n_ranks = 3, .split = bad[i]},
                     "expected auto, even, or shares");
    expect_error((part_wish_t){.n_ranks = 3, .split = "1,1"},
                 "2 shares of shards, but the layout has 3");
    expect_error((part_wish_t){.n_ranks = 3, .split = "1,1,1,1"}, "4 shares");
    expect_error((part_wish_t){.n_ranks = 3, .layout = "3x1", .split = "1,1"},
                 "2 shares of stages, but the layout has 3");
    expect_error((part_wish_t){.n_ranks = 6, .layout = "2x3", .split = "1,1"},
                 "2 shares of shards, but the layout has 3");
}

static void unsound_shapes(void **state)
{
    (void)state;
    part_wish_t  wish = {.n_ranks = 2};
    part_plan_t  plan = {0};
    base_err_t   err  = {0};
    model_desc_t d    = {.name = "vocabulary"};
    assert_int_equal(part_plan_make(&wish, &d, &plan, &err), BASE_ERR_INPUT);
    d                      = fixture_desc(fixture_small);
    d.layers[3].n_kv_heads = 3;
    assert_int_equal(part_plan_make(&wish, &d, &plan, &err), BASE_ERR_INPUT);
    assert_non_null(strstr(err.text, "layer 3"));
    free(d.layers);
}

/* --- memory --- */

static uint64_t packed(uint64_t rows, uint64_t cols, uint64_t granule)
{
    uint64_t bytes = 0; /* counted, not computed */
    for (uint64_t r = 0; r < rows; r += 16)
        for (uint64_t c = 0; c < cols; c += granule) bytes += 64;
    return bytes;
}

static void memory_one_rank(void **state)
{
    (void)state;
    part_wish_t wish = {.n_ranks = 1};
    part_plan_t plan = {0};
    assert_int_equal(part_plan_make(&wish, &desc, &plan, NULL), BASE_OK);
    for (uint32_t t3 = 0; t3 < 2; t3++) {
        const uint64_t k = t3 ? 20 : 16;
        part_memory_t  m = part_memory(&plan, &desc, 0,
                                       &(part_sizes_t){.ternary_bits = t3 ? 1.6 : 2,
                                                       .n_ctx        = 100,
                                                       .n_seq        = 1,
                                                       .n_batch      = 1,
                                                       .n_out        = 1,
                                                       .screen       = false});
        uint64_t layer   = packed(1280, 256, k) + 2 * packed(320, 256, k) + packed(256, 1280, k) +
                         2 * packed(768, 256, k) + packed(256, 768, k);
        assert_int_equal(m.ternary, 6 * layer);
        /* F16 embedding once (tied), norms of two hidden, one attention and one FFN vector a layer.
         */
        assert_int_equal(m.dense, 1000 * 256 * 2 + 256 * 4 + 6 * 4 * (256 + 256 + 1280 + 768));
        /* 100 positions take two pages of 64. */
        assert_int_equal(m.kv, 6 * 5 * 128 * 64 * 4 * 2); /* keys and values as floats */
        const part_sizes_t many = {.ternary_bits = 2,
                                   .n_ctx        = 65,
                                   .n_seq        = 7,
                                   .n_batch      = 1,
                                   .n_out        = 1,
                                   .type_k       = MODEL_F32,
                                   .type_v       = MODEL_F16};
        assert_int_equal(part_memory(&plan, &desc, 0, &many).kv, 7 * 6 * 5 * 128 * 64 * (4 + 2));
        assert_true(m.activations >= 1000 * 4);
        assert_int_equal(m.total, m.ternary + m.dense + m.kv + m.activations);
    }
    part_plan_free(&plan);
}

/* Ranks together hold the model: never less than one rank alone, and more only by padding,
 * replicated KV heads and norms of the hidden vector. */
static void memory_adds_up(void **state)
{
    (void)state;
    part_wish_t one  = {.n_ranks = 1};
    part_plan_t plan = {0};
    assert_int_equal(part_plan_make(&one, &desc, &plan, NULL), BASE_OK);
    part_memory_t whole = part_memory(
        &plan, &desc, 0,
        &(part_sizes_t){
            .ternary_bits = 2, .n_ctx = 64, .n_seq = 1, .n_batch = 1, .n_out = 1, .screen = false});
    part_plan_free(&plan);
    for (uint32_t stages = 1; stages <= 6; stages++) {
        for (uint32_t shards = 1; shards <= 30; shards++) {
            char        layout[32];
            part_wish_t wish = {.n_ranks = stages * shards, .layout = layout};
            (void)snprintf(layout, sizeof(layout), "%ux%u", stages, shards);
            assert_int_equal(part_plan_make(&wish, &desc, &plan, NULL), BASE_OK);
            part_memory_t sum = {0};
            for (uint32_t r = 0; r < stages * shards; r++) {
                part_memory_t m = part_memory(&plan, &desc, r,
                                              &(part_sizes_t){.ternary_bits = 2,
                                                              .n_ctx        = 64,
                                                              .n_seq        = 1,
                                                              .n_batch      = 1,
                                                              .n_out        = 1,
                                                              .screen       = false});
                sum.ternary += m.ternary;
                sum.dense += m.dense;
                sum.kv += m.kv;
            }
            /* head_dim 64 and FFN blocks of 32 keep tiles whole: only K and V rows come twice. */
            uint64_t kv_rows  = sum.kv / (64 * 64 * 4 * 2) * 64; /* over layers and shards */
            uint64_t expected = whole.ternary + 2 * (kv_rows - 6 * 320) / 16 * (256 / 16) * 64;
            assert_int_equal(sum.ternary, expected);
            uint64_t hidden_norms = (6 * 2 + 1) * 256 * 4;
            assert_int_equal(sum.dense, whole.dense + (shards - 1) * hidden_norms);
            assert_true(sum.kv >= whole.kv);
            part_plan_free(&plan);
        }
    }
}

/* The coarse rows, from their layout: 12 bytes a row, a byte and 48 a block of 64 columns; where it
 * pays, by bytes read. */
static void memory_of_a_screen(void **state)
{
    (void)state;
    part_wish_t wish = {.n_ranks = 3, .layout = "1x3"};
    part_plan_t plan = {0};
    assert_int_equal(part_plan_make(&wish, &desc, &plan, NULL), BASE_OK);
    for (uint32_t r = 0; r < 3; r++) {
        part_range_t  rows  = part_vocab(&plan, &desc, r);
        uint64_t      tiles = (rows.end - rows.begin + 15) / 16;
        part_memory_t m     = part_memory(&plan, &desc, r,
                                          &(part_sizes_t){.ternary_bits = 2,
                                                          .n_ctx        = 64,
                                                          .n_seq        = 1,
                                                          .n_batch      = 1,
                                                          .n_out        = 1,
                                                          .screen       = true});
        part_memory_t plain = part_memory(&plan, &desc, r,
                                          &(part_sizes_t){.ternary_bits = 2,
                                                          .n_ctx        = 64,
                                                          .n_seq        = 1,
                                                          .n_batch      = 1,
                                                          .n_out        = 1,
                                                          .screen       = false});
        assert_int_equal(m.screen, tiles * 16 * (12 + 4 * (1 + 48)));
        assert_int_equal(m.total, plain.total + m.screen);
        assert_int_equal(plain.screen, 0);
    }
    part_plan_free(&plan);
    assert_int_equal(part_screen_bytes(128256, 2560), 128256ull * (12 + 40 * (1 + 48)));

    model_desc_t d = {.n_vocab = 128256, .width = 2560, .head = {.type = MODEL_F16}};
    assert_true(part_screen_pays(&d));
    d.head.type = MODEL_Q8_0; /* 8.5 bits: 6.2 save a quarter */
    assert_true(part_screen_pays(&d));
    d.head.type = MODEL_Q6_K; /* 6.6 bits */
    assert_false(part_screen_pays(&d));
    d.head.type = MODEL_F16;
    d.n_vocab   = 4000;
    assert_false(part_screen_pays(&d));
    assert_true(part_screen_possible(&d));
    d.width = (1 << 17) + 256;
    assert_false(part_screen_possible(&d));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(automatic),      cmocka_unit_test(wishes),
        cmocka_unit_test(bad_wishes),     cmocka_unit_test(splits),
        cmocka_unit_test(unsound_shapes), cmocka_unit_test(memory_one_rank),
        cmocka_unit_test(memory_adds_up), cmocka_unit_test(memory_of_a_screen),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
