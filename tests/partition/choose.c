/* Choices on invented clusters: what fits where, in which layout, and bounds against plain
 * arithmetic. */
#include <math.h>

#include "partition/choose.h"
#include "tests/partition/fixture.h"

static const fixture_shape_t llama_70b = {.n_layers   = 80,
                                          .width      = 8192,
                                          .head_dim   = 128,
                                          .n_heads    = 64,
                                          .n_kv_heads = 8,
                                          .ffn        = 28672,
                                          .n_vocab    = 32000,
                                          .ternary    = MODEL_TQ1_0,
                                          .dense      = MODEL_F16,
                                          .tied       = false,
                                          .sub_norms  = true};

static const fixture_shape_t llama_405b = {.n_layers   = 126,
                                           .width      = 16384,
                                           .head_dim   = 128,
                                           .n_heads    = 128,
                                           .n_kv_heads = 8,
                                           .ffn        = 53248,
                                           .n_vocab    = 128256,
                                           .ternary    = MODEL_TQ1_0,
                                           .dense      = MODEL_F16,
                                           .tied       = false,
                                           .sub_norms  = true};

static part_cluster_t alike(uint32_t n_nodes, double gib, uint32_t ranks)
{
    part_cluster_t c = {0};
    part_node_t node = {.mem_bytes = (uint64_t)(gib * 1073741824.0), .membw = 50e9, .ranks = ranks};
    assert_int_equal(part_cluster_uniform(n_nodes, &node, 50e-6, 1.25e9, &c, NULL), BASE_OK);
    return c;
}

static part_choice_t choose(const part_cluster_t *c, fixture_shape_t shape, part_ask_t ask,
                            part_trials_t *trials)
{
    model_desc_t  desc   = fixture_desc(shape);
    part_choice_t choice = {0};
    base_err_t    err    = {0};
    if (ask.n_ctx == 0) ask.n_ctx = 4096;
    if (ask.n_batch == 0) ask.n_batch = 512;
    ask.n_out = 1;
    if (part_plan_choose(c, &desc, &ask, &choice, trials, &err) != BASE_OK)
        fail_msg("%s", err.text);
    free(desc.layers);
    assert_int_equal(choice.n_ranks, c->n_ranks);
    return choice;
}

static void expect(fixture_shape_t shape, double bits, part_cluster_t c, bool fits,
                   const char *layout)
{
    char          name[32];
    part_choice_t choice = choose(&c, shape, (part_ask_t){.ternary_bits = bits}, NULL);
    assert_int_equal(choice.fits, fits);
    if (layout != NULL)
        assert_string_equal(part_layout_name(&choice.plan, name, sizeof(name)), layout);
    /* Node sums, restated. */
    uint32_t rank = 0;
    bool     all  = true;
    for (uint32_t n = 0; n < c.n_nodes; n++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < c.nodes[n].ranks; i++)
            sum += choice.memory[rank++].total + PART_RANK_OVERHEAD;
        assert_int_equal(sum, choice.node_bytes[n]);
        all = all && sum <= part_node_usable(&c.nodes[n]);
    }
    assert_int_equal(all, choice.fits);
    part_choice_free(&choice);
    part_choice_free(&choice);
    part_cluster_free(&c);
}

static void known_machines(void **state)
{
    (void)state;
    expect(llama_70b, 1.6, alike(1, 24, 1), true,
           "1x1"); /* the promise: 70B on one 24 GiB machine */
    expect(llama_70b, 1.6, alike(1, 24, 4), true, "1x4");
    expect(llama_70b, 2, alike(1, 16, 1), false, "1x1"); /* 16.0 GiB of weights alone */
    expect(llama_70b, 1.6, alike(1, 12, 1), false, NULL);
    expect(llama_70b, 1.6, alike(2, 12, 1), true, "2x1");
    expect(llama_70b, 1.6, alike(2, 12, 4), true, "2x4");
    expect(llama_70b, 1.6, alike(10, 4, 1), true, "10x1");
    expect(llama_405b, 1.6, alike(1, 24, 1), false, NULL);
    expect(llama_405b, 1.6, alike(3, 24, 1), false, NULL); /* 75 GiB of weights */
    expect(llama_405b, 1.6, alike(5, 24, 1), true, "5x1"); /* a handful */
    expect(llama_405b, 2, alike(5, 24, 1), true, "5x1");
    expect(llama_405b, 1.6, alike(1, 128, 2), true, "1x2");
}

/* The automatic layout overflows on one node, another does not: that one is taken. */
static void falls_back(void **state)
{
    (void)state;
    fixture_shape_t shape = fixture_small; /* six layers: four stages hold 2,2,1,1 of them */
    shape.ffn             = 65536;
    shape.width           = 4096;
    part_trials_t  trials = {0};
    part_cluster_t c      = alike(4, 1, 1);
    part_choice_t first = choose(&c, shape, (part_ask_t){.ternary_bits = 2, .n_batch = 1}, &trials);
    assert_int_equal(first.plan.stages, 4);
    assert_int_equal(trials.n, 3); /* 4x1, 1x4, 2x2 */
    assert_int_equal(trials.list[0].stages, 4);
    assert_int_equal(trials.list[1].stages, 1);
    assert_int_equal(trials.list[2].stages, 2);
    assert_true(trials.list[1].worst_share < trials.list[0].worst_share);
    /* Memory between the two needs. */
    double between = (trials.list[0].worst_share + trials.list[1].worst_share) / 2;
    part_choice_free(&first);
    part_cluster_free(&c);
    c = alike(4, between, 1);
    part_choice_t second =
        choose(&c, shape, (part_ask_t){.ternary_bits = 2, .n_batch = 1}, &trials);
    assert_true(second.fits);
    assert_int_equal(second.plan.stages, 1);
    assert_false(trials.list[0].fits);
    part_choice_free(&second);
    part_cluster_free(&c);
}

static void unlike_nodes(void **state)
{
    (void)state;
    const char     json[] = "{\"nodes\": [{\"mem\": \"16G\"}, {\"mem\": \"5G\", \"count\": 2}]}";
    part_cluster_t c      = {0};
    assert_int_equal(part_cluster_parse(json, strlen(json), "c", 1, &c, NULL), BASE_OK);
    part_choice_t even =
        choose(&c, llama_70b, (part_ask_t){.ternary_bits = 1.6, .split = "even"}, NULL);
    assert_false(even.fits);
    part_choice_t by_memory = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 1.6}, NULL);
    assert_true(by_memory.fits);
    assert_int_equal(by_memory.plan.stages, 3);
    assert_true(strncmp(by_memory.split, "1000,", 5) == 0);
    /* What it says can be said back. */
    part_choice_t said =
        choose(&c, llama_70b,
               (part_ask_t){.ternary_bits = 1.6, .layout = "3x1", .split = by_memory.split}, NULL);
    assert_true(said.fits);
    assert_int_equal(said.node_bytes[0], by_memory.node_bytes[0]);
    part_choice_free(&even);
    part_choice_free(&by_memory);
    part_choice_free(&said);
    part_cluster_free(&c);
}

static void asked_layouts(void **state)
{
    (void)state;
    part_cluster_t c      = alike(2, 64, 2);
    part_trials_t  trials = {0};
    part_choice_t  a =
        choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .layout = "4x1"}, &trials);
    assert_int_equal(a.plan.stages, 4);
    assert_int_equal(trials.n, 1);
    part_choice_free(&a);
    a = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .tensor_parallel = 4}, &trials);
    assert_int_equal(a.plan.stages, 1);
    assert_int_equal(trials.n, 1);
    part_choice_free(&a);
    a = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .layout = "auto"}, &trials);
    assert_int_equal(a.plan.stages, 2);
    assert_int_equal(trials.n, 3);
    part_choice_free(&a);

    model_desc_t desc = fixture_desc(fixture_small);
    base_err_t   err  = {0};
    part_ask_t   bad  = {.ternary_bits = 2, .n_ctx = 64, .n_batch = 1, .n_out = 1, .layout = "3x1"};
    assert_int_equal(part_plan_choose(&c, &desc, &bad, &a, &trials, &err), BASE_ERR_USAGE);
    assert_non_null(strstr(err.text, "1x4, 2x2, 4x1"));
    bad.layout            = "2x2";
    bad.pipeline_parallel = 4;
    assert_int_equal(part_plan_choose(&c, &desc, &bad, &a, &trials, &err), BASE_ERR_USAGE);
    assert_non_null(strstr(err.text, "contradicts"));
    bad.pipeline_parallel = 0;
    bad.split             = "1,2,3";
    assert_int_equal(part_plan_choose(&c, &desc, &bad, &a, &trials, &err), BASE_ERR_USAGE);
    assert_null(a.memory);
    free(desc.layers);
    part_cluster_free(&c);
}

static void near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-9 * fabs(b))) fail_msg("%.12g is not %.12g", a, b);
}

static void bounds(void **state)
{
    (void)state;
    /* One rank: bytes over bandwidth. */
    part_cluster_t c = alike(1, 64, 1);
    part_choice_t  a = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .n_batch = 100}, NULL);
    double         read = (double)(a.memory[0].ternary + a.memory[0].dense) / 50e9;
    near(1 / a.bound.decode_tps, read);
    near(a.bound.head, 32000.0 * 8192 * 2 / 50e9);
    near(a.bound.attention_full, (double)a.memory[0].kv / 50e9);
    near(100 / a.bound.prefill_tps, read - a.bound.head); /* no cores given: computing is free */
    assert_true(a.bound.communication == 0);
    part_choice_free(&a);
    /* Cores: 1000 tokens of 8 cores at the peak take longer than reading. */
    c.nodes[0].cores = 8;
    a = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .n_batch = 1000}, NULL);
    near(1000 / a.bound.prefill_tps,
         1000.0 * (double)a.memory[0].ternary * 4 / (8 * PART_CORE_MACS));
    part_choice_free(&a);
    part_cluster_free(&c);
    /* Two shards of one node share its bandwidth: nothing is won or lost but what is replicated. */
    c        = alike(1, 64, 2);
    a        = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2}, NULL);
    double b = (double)(a.memory[0].ternary + a.memory[0].dense + a.memory[1].ternary +
                        a.memory[1].dense) /
               50e9;
    near(1 / a.bound.decode_tps, b);
    part_choice_free(&a);
    part_cluster_free(&c);
    /* Two stages on two nodes: one hop with 32 KiB, and the logits of the last back to the first.
     */
    c = alike(2, 64, 1);
    a = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2}, NULL);
    near(a.bound.communication, 2 * 50e-6 + (8192.0 * 4 + 32000.0 * 4) / 1.25e9);
    part_choice_free(&a);
    /* Two shards on two nodes: four exchanges a layer. */
    a = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .layout = "1x2"}, NULL);
    near(a.bound.communication, 80 * (4 * 50e-6 + 2 * 8192.0 * 4 / 1.25e9) + 50e-6 +
                                    8192.0 * 4 / 1.25e9 + 50e-6 + 16000.0 * 4 / 1.25e9);
    part_choice_free(&a);
    /* Figures that are not given are not made up. */
    c.latency = -1;
    a         = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2}, NULL);
    assert_true(a.bound.known && !a.bound.comm_known && a.bound.communication == 0);
    part_choice_free(&a);
    c.nodes[1].membw = 0;
    a                = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2}, NULL);
    assert_true(!a.bound.known && a.bound.decode_tps == 0);
    part_choice_free(&a);
    part_cluster_free(&c);
}

/* The largest cluster does not take minutes. */
static void largest(void **state)
{
    (void)state;
    part_cluster_t c = alike(LIMIT_RANKS, 2, 1);
    part_choice_t  a = choose(&c, llama_405b, (part_ask_t){.ternary_bits = 1.6}, NULL);
    assert_true(a.plan.stages * a.plan.shards == LIMIT_RANKS);
    part_choice_free(&a);
    part_cluster_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_machines), cmocka_unit_test(falls_back),
        cmocka_unit_test(unlike_nodes),   cmocka_unit_test(asked_layouts),
        cmocka_unit_test(bounds),         cmocka_unit_test(largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
