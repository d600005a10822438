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

/* Without a bandwidth: the first layout that fits is taken. */
static part_cluster_t alike(uint32_t n_nodes, double gib, uint32_t ranks)
{
    part_cluster_t c    = {0};
    part_node_t    node = {.mem_bytes = (uint64_t)(gib * 1073741824.0), .ranks = ranks};
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
    expect(fixture_llama_405b, 1.6, alike(1, 24, 1), false, NULL);
    expect(fixture_llama_405b, 1.6, alike(3, 24, 1), false, NULL); /* 75 GiB of weights */
    expect(fixture_llama_405b, 1.6, alike(5, 24, 1), true, "5x1"); /* a handful */
    expect(fixture_llama_405b, 2, alike(5, 24, 1), true, "5x1");
    expect(fixture_llama_405b, 1.6, alike(1, 128, 2), true, "1x2");
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
    assert_non_null(strstr(err.text, "no whole nodes")); /* of two ranks each */
    bad.layout = "5x1";
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

static part_cluster_t fast(uint32_t n_nodes, uint32_t ranks)
{
    part_cluster_t c = alike(n_nodes, 64, ranks);
    for (uint32_t i = 0; i < n_nodes; i++) c.nodes[i].membw = 50e9;
    return c;
}

/* Times by plain arithmetic. Llama 70B in 2 bits: a layer has 8192 x (8192 + 1024 + 1024 + 8192) +
 * 3 x 8192 x 28672 weights, 4 to a byte (all sizes are whole tiles), and norms of 3 x 8192 + 28672
 * floats; 64 heads; 896 blocks of the FFN. */
static const double A_WEIGHTS = 8192.0 * (8192 + 1024 + 1024 + 8192),
                    F_WEIGHTS = 3 * 8192.0 * 28672;
static const double NORMS = (3 * 8192.0 + 28672) * 4, HEAD = 32000.0 * 8192 * 2 + 8192 * 4;

static void times(void **state)
{
    (void)state;
    const double   layer = (A_WEIGHTS + F_WEIGHTS) / 4 + NORMS;
    part_cluster_t c     = fast(1, 1);
    part_choice_t  a = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .n_batch = 100}, NULL);
    near(a.time.weights, 80 * layer / 50e9);
    near(a.time.head, (HEAD - 8192 * 4) / 50e9);
    near(1 / a.time.decode_tps, 80 * layer / 50e9 + a.time.head);
    /* The whole cache: 4096 positions of 8 heads of 128, twice, in floats. */
    near(a.time.attention_full, 80 * 4096.0 * 8 * 128 * 2 * 4 / 50e9);
    assert_true(a.time.communication == 0 && a.time.attention == 0);
    part_choice_free(&a);

    /* Computing: 1000 tokens at 2e12 products/s take longer than reading; attention looks back at
     * 500 positions on average, each product of floats in the time of four. */
    c.nodes[0].ops = 2e12;
    a              = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .n_batch = 1000}, NULL);
    near(1000 / a.time.prefill_tps,
         80 * 1000 * (A_WEIGHTS + F_WEIGHTS + 2 * 4 * 500.0 * 8192) / 2e12);
    part_choice_free(&a);
    /* At depth 1000 a token reads so much of the cache, or multiplies it, whichever is slower. */
    c.nodes[0].ops = 1e12;
    a              = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .depth = 1000}, NULL);
    near(a.time.attention,
         80 * fmax(1000.0 * 8 * 128 * 2 * 4 / 50e9, 2 * 4 * 1000.0 * 8192 / 1e12));
    part_choice_free(&a);
    /* Four sequences at once read the weights once. */
    a = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .n_seq = 4}, NULL);
    near(4 / a.time.throughput_tps,
         80 * layer / 50e9 + fmax(HEAD - 8192 * 4, 4 * 4 * 32000.0 * 8192 / 20) / 50e9);
    part_choice_free(&a);
    part_cluster_free(&c);
}

/* Several sequences on a node that measured few vectors: the times of 1, 2, 4, 8, 16 vectors and of
 * 64 (ops), straight lines between them. */
static void few_times(void **state)
{
    (void)state;
    const double   packed = A_WEIGHTS + F_WEIGHTS, floats = 32000.0 * 8192;
    const double   norms = 80 * NORMS / 50e9;
    part_cluster_t c     = fast(1, 1);
    part_node_t   *n     = &c.nodes[0];
    n->ops               = 256e9;
    n->few               = (part_few_t){.t2     = {150e9, 200e9, 210e9, 220e9},
                                        .t3     = {100e9, 150e9, 160e9, 170e9},
                                        .dense  = {30e9, 40e9, 50e9, 60e9},
                                        .screen = {35e9, 45e9, 55e9, 65e9}};
    n->screen_bw         = 20e9;
    /* Sequences; vectors of the points below and above; their rates, of the layers and the head. */
    const struct {
        uint32_t n_seq;
        double   low, high, layers[2], head[2];
    } cases[] = {
        {2, 2, 4, {150e9, 200e9}, {30e9, 40e9}},    {3, 2, 4, {150e9, 200e9}, {30e9, 40e9}},
        {4, 4, 8, {200e9, 210e9}, {40e9, 50e9}},    {7, 4, 8, {200e9, 210e9}, {40e9, 50e9}},
        {8, 8, 16, {210e9, 220e9}, {50e9, 60e9}},   {11, 8, 16, {210e9, 220e9}, {50e9, 60e9}},
        {40, 16, 64, {220e9, 256e9}, {60e9, 60e9}}, {64, 16, 64, {220e9, 256e9}, {60e9, 60e9}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const double low = cases[i].low, high = cases[i].high, at = cases[i].n_seq;
        const double part  = (at - low) / (high - low);
        const double t0[2] = {low * packed / cases[i].layers[0], low * floats / cases[i].head[0]};
        const double t1[2] = {high * packed / cases[i].layers[1], high * floats / cases[i].head[1]};
        part_choice_t a =
            choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .n_seq = cases[i].n_seq}, NULL);
        near(at / a.time.throughput_tps,
             80 * (t0[0] + part * (t1[0] - t0[0])) + norms + t0[1] + part * (t1[1] - t0[1]));
        /* One sequence takes the time of reading, as before. */
        near(1 / a.time.decode_tps, 80 * packed / 4 / 50e9 + norms + floats * 2 / 50e9);
        part_choice_free(&a);
    }
    /* Beyond 64 the rates stay. */
    part_choice_t a = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .n_seq = 128}, NULL);
    near(128 / a.time.throughput_tps, 128 * (80 * packed / 256e9 + floats / 60e9) + norms);
    part_choice_free(&a);
    /* Base 3 has rates of its own. */
    a = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 1.6, .n_seq = 4}, NULL);
    near(4 / a.time.throughput_tps, 4 * (80 * packed / 150e9 + floats / 40e9) + norms);
    part_choice_free(&a);
    /* A screened head: one vector at the bandwidth of coarse rows (8 / 32 float16 rows), four at
     * their rate. */
    const part_ask_t screened = {.ternary_bits = 2, .n_seq = 4, .screen = true};
    a                         = choose(&c, llama_70b, screened, NULL);
    near(4 / a.time.throughput_tps, 4 * (80 * packed / 200e9 + floats / 45e9) + norms);
    const double coarse = a.time.head * 20e9; /* bytes: 6 bits a weight, and scales of blocks */
    assert_true(coarse > floats * 6 / 8 && coarse < floats * 6.5 / 8);
    part_choice_free(&a);
    /* No number of vectors takes less than a smaller one, whatever was measured. */
    n->few.t2[1] = 2000e9;
    a            = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .n_seq = 4}, NULL);
    near(4 / a.time.throughput_tps, 80 * 2 * packed / 150e9 + norms + 4 * floats / 40e9);
    part_choice_free(&a);
    n->few.t2[0] = 1e15;
    a            = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .n_seq = 2}, NULL);
    near(2 / a.time.throughput_tps, 80 * packed / 4 / 50e9 + norms + 2 * floats / 30e9);
    part_choice_free(&a);
    /* Figures are of all ranks of the node: two of them have half each, but two norms whole. */
    n->few.t2[0]       = 150e9;
    part_cluster_t two = fast(1, 2);
    two.nodes[0].few   = n->few;
    a = choose(&two, llama_70b, (part_ask_t){.ternary_bits = 2, .n_seq = 2, .layout = "1x2"}, NULL);
    near(2 / a.time.throughput_tps - a.time.communication,
         80 * (2 * packed / 150e9 + (2 * 8192 + (8192 + 28672) / 2) * 4 / 25e9) +
             2 * floats / 30e9);
    part_choice_free(&a);
    part_cluster_free(&two);
    part_cluster_free(&c);
}

/* Eight sequences in three groups are 3 + 3 + 2: a stage's turn takes as long as those together. */
static void uneven_groups(void **state)
{
    (void)state;
    part_cluster_t c = fast(3, 1);
    for (uint32_t i = 0; i < 3; i++) {
        c.nodes[i].few.t2[0] = 150e9;
        for (uint32_t f = 1; f < PART_FEW; f++) c.nodes[i].few.t2[f] = 200e9;
        c.nodes[i].few.dense[0] = 30e9;
        for (uint32_t f = 1; f < PART_FEW; f++) c.nodes[i].few.dense[f] = 40e9;
    }
    c.latency            = 0;
    c.net                = 1e15;
    const double  packed = A_WEIGHTS + F_WEIGHTS, floats = 32000.0 * 8192;
    part_choice_t a =
        choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2, .n_seq = 8, .layout = "3x1"}, NULL);
    /* Times of two and three vectors; three lie halfway between two and four. */
    const double two[]   = {2 * packed / 150e9, 2 * floats / 30e9};
    const double three[] = {(two[0] + 4 * packed / 200e9) / 2, (two[1] + 4 * floats / 40e9) / 2};
    double       slowest = 0;
    for (uint32_t s = 0; s < 3; s++) {
        const uint32_t layers = a.plan.stage_layer[s + 1] - a.plan.stage_layer[s];
        double         t      = layers * (2 * three[0] + two[0] + 3 * NORMS / 50e9);
        if (s == 2) t += 2 * three[1] + two[1];
        slowest = fmax(slowest, t);
    }
    assert_true(fabs(8 / a.time.throughput_tps / slowest - 1) < 1e-4);
    part_choice_free(&a);
    part_cluster_free(&c);
}

static void exchange_times(void **state)
{
    (void)state;
    const double   hidden = 8192.0 * 4, lat = 50e-6, net = 1.25e9, msg = 0.5e-6;
    part_cluster_t c = fast(2, 1);
    c.step           = 70e-6;
    c.layer          = 3e-6;
    /* Two stages on two nodes: one hop of the hidden vector, the best logits (512 bytes) of the
     * last back to the first. */
    part_ask_t    ask = {.ternary_bits = 2, .layout = "2x1"};
    part_choice_t a   = choose(&c, llama_70b, ask, NULL);
    near(a.time.communication, lat + hidden / net + lat + 512 / net);
    near(a.time.overhead, 70e-6 + 80 * 3e-6);
    const double one = 1 / a.time.decode_tps;
    part_choice_free(&a);
    /* Links of their own: the hop goes from node 0 to node 1, the logits back. */
    double latency[] = {0, 11e-6, 22e-6, 0}, links[] = {0, 1e9, 2e9, 0};
    c.pair_latency = latency;
    c.pair_net     = links;
    ask.all_nodes  = true; /* in this order: the other is faster */
    a              = choose(&c, llama_70b, ask, NULL);
    near(a.time.communication, 11e-6 + hidden / 1e9 + 22e-6 + 512 / 2e9);
    part_choice_free(&a);
    c.pair_latency = c.pair_net = NULL;
    ask.all_nodes               = false;
    /* Pipelined, two groups of one sequence: the slower stage decides, or the way of one token. */
    ask.n_seq = ask.streams = 2;
    a                       = choose(&c, llama_70b, ask, NULL);
    assert_true(a.time.throughput_tps > 1.8 / one && a.time.throughput_tps <= 2 / one);
    part_choice_free(&a);
    /* Two shards on two nodes: the embedding row with the command ahead, in each layer two gathers
     * and two sums of 16 bits in one round of messages, logits. */
    ask              = (part_ask_t){.ternary_bits = 2, .layout = "1x2"};
    a                = choose(&c, llama_70b, ask, NULL);
    const double row = lat + hidden / net + msg, sum = lat + hidden / 2 / net + msg;
    near(a.time.communication,
         lat + row + 80 * (2 * sum + 2 * (lat + msg) + (64 + 2 + 896 + 2) * 4 / 2.0 / net) + lat +
             512 / net);
    part_choice_free(&a);
    part_cluster_free(&c);
    /* Eight nodes: slices in two rounds beat everything to everyone. */
    c = fast(8, 1);
    for (uint32_t i = 0; i < 8; i++) c.nodes[i].intra_latency = 1; /* of no use to lone ranks */
    ask.layout = "1x8";
    a          = choose(&c, llama_70b, ask, NULL);
    const double eight =
        fmin(2 * lat + 14 * (hidden / 8 / net + msg), lat + 7 * (hidden / net + msg));
    assert_true(eight < 3 * (lat + hidden / net + msg)); /* doubling */
    const double gather = lat + 7 * msg, half = hidden / 2;
    const double small = fmin(2 * lat + 14 * (half / 8 / net + msg), lat + 7 * (half / net + msg));
    near(a.time.communication,
         lat + eight + 80 * (2 * small + 2 * gather + (64 + 8 + 896 + 8) * 4 * 7 / 8.0 / net) +
             lat + 7 * 512 / net);
    part_choice_free(&a);
    part_cluster_free(&c);
    /* Inside a node: shared memory alone. */
    c                        = fast(1, 2);
    c.nodes[0].intra_latency = 2e-6;
    c.nodes[0].intra_bw      = 1e10;
    ask.layout               = "1x2";
    a                        = choose(&c, llama_70b, ask, NULL);
    near(a.time.communication,
         2e-6 + hidden / 1e10 + 80 * (8e-6 + (2 * hidden + (64 + 2 + 896 + 2) * 4) / 1e10) + 2e-6);
    part_choice_free(&a);
    part_cluster_free(&c);
}

/* Figures that are not given are not made up. */
static void unknown_figures(void **state)
{
    (void)state;
    part_cluster_t c = fast(2, 1);
    c.latency        = -1;
    part_choice_t a  = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2}, NULL);
    assert_true(a.time.known && !a.time.comm_known && a.time.communication == 0);
    assert_true(a.time.decode_tps > 0);
    part_choice_free(&a);
    c.nodes[1].membw = 0;
    a                = choose(&c, llama_70b, (part_ask_t){.ternary_bits = 2}, NULL);
    assert_true(!a.time.known && a.time.decode_tps == 0 && a.plan.stages == 2);
    part_choice_free(&a);
    part_cluster_free(&c);
}

/* What decides between nodes, by sense. */
static void leaves_out(void **state)
{
    (void)state;
    const part_ask_t ask = {.ternary_bits = 2};
    part_trials_t    trials;
    part_cluster_t   c = fast(3, 1);
    /* A slow network: one node alone. */
    c.latency       = 5e-3;
    part_choice_t a = choose(&c, llama_70b, ask, &trials);
    assert_int_equal(a.n_nodes, 1);
    assert_true(trials.by_value && trials.exact);
    part_choice_free(&a);
    /* Nodes too small for that: as few hops as can be, and the slow node waits outside. */
    for (uint32_t i = 0; i < 3; i++) c.nodes[i].mem_bytes = UINT64_C(14) << 30;
    c.nodes[0].membw = 5e9;
    a                = choose(&c, llama_70b, ask, &trials);
    assert_true(a.fits);
    assert_int_equal(a.n_nodes, 2);
    assert_int_equal(a.plan.stages, 2);
    assert_true(a.order[0] != 0 && a.order[1] != 0);
    part_choice_free(&a);
    /* A fast network: all work on every layer, the slow one on a tenth of what the others have. */
    c.latency = 1e-6;
    c.net     = 12.5e9;
    a         = choose(&c, llama_70b, ask, &trials);
    assert_int_equal(a.plan.shards, 3);
    double slow = (double)a.memory[0].ternary, other = (double)a.memory[1].ternary;
    assert_true(slow < other / 6 && slow > other / 15);
    part_choice_free(&a);
    /* Ranks that run already cannot be left out. */
    part_ask_t all = ask;
    all.all_nodes  = true;
    c.latency      = 5e-3;
    a              = choose(&c, llama_70b, all, &trials);
    assert_int_equal(a.n_nodes, 3);
    assert_int_equal(a.plan.stages, 3);
    assert_int_equal(a.plan.stage_layer[1], 1); /* the slow one: as little as can be */
    all.layout = "1x3";
    part_choice_free(&a);
    a = choose(&c, llama_70b, all, &trials);
    assert_int_equal(a.plan.shards, 3);
    assert_true(a.plan.shard_weight[0] < a.plan.shard_weight[1]);
    part_choice_free(&a);
    part_cluster_free(&c);
}

/* The largest cluster does not take minutes. */
static void largest(void **state)
{
    (void)state;
    part_cluster_t c = alike(LIMIT_RANKS, 2, 1);
    part_choice_t  a = choose(&c, fixture_llama_405b, (part_ask_t){.ternary_bits = 1.6}, NULL);
    assert_true(a.plan.stages * a.plan.shards == LIMIT_RANKS);
    part_choice_free(&a);
    part_cluster_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_machines),  cmocka_unit_test(falls_back),
        cmocka_unit_test(unlike_nodes),    cmocka_unit_test(asked_layouts),
        cmocka_unit_test(times),           cmocka_unit_test(few_times),
        cmocka_unit_test(uneven_groups),   cmocka_unit_test(exchange_times),
        cmocka_unit_test(unknown_figures), cmocka_unit_test(leaves_out),
        cmocka_unit_test(largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
