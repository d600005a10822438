/* The planner against brute force: every set and order of nodes, every layout, every share on the
 * grid, every cut, of small clusters; and against plain layouts of large ones.
 * timeout: 400 */
#include <math.h>
#include <time.h>

#include "partition/choose.h"
#include "partition/search.h"
#include "tests/partition/fixture.h"
#include "tests/support/cases.h"

enum {
    NODES_MAX     = 6,
    SMALL_CASES   = 10000,
    ASKED_CASES   = 2000,
    STARTED_CASES = 2000,
    LARGE_CASES   = 300
};

/* --- random models and clusters --- */

static uint64_t seed = 20261123;

static uint32_t below(uint32_t n)
{
    return (uint32_t)(fixture_random(&seed) % n);
}

static double between(double low, double high) /* even in the logarithm */
{
    double unit = (double)(fixture_random(&seed) >> 11) / 9007199254740992.0;
    return low * pow(high / low, unit);
}

static model_desc_t any_model(uint32_t layers_max)
{
    const uint32_t  kv    = 1u << below(3);
    fixture_shape_t shape = {.n_layers   = 1 + below(layers_max),
                             .width      = 256 * (1 + below(4)),
                             .head_dim   = 64,
                             .n_heads    = 4 * (1 + below(3)),
                             .n_kv_heads = kv,
                             .ffn        = 256 * (1 + below(8)),
                             .n_vocab    = 1 + below(4000),
                             .ternary    = below(8) == 0 ? MODEL_Q8_0 : MODEL_TQ2_0,
                             .dense      = below(2) == 0 ? MODEL_F16 : MODEL_Q8_0,
                             .tied       = below(2) == 0,
                             .sub_norms  = below(2) == 0};
    model_desc_t    d     = fixture_desc(shape);
    for (uint32_t l = 0; l < d.n_layers && shape.n_layers % 4 == 3; l++) /* pruned */
        if (below(2) == 0) d.layers[l].ffn = 256 * (1 + below(8));
    return d;
}

static part_ask_t any_ask(void)
{
    const uint32_t n_seq = below(3) == 0 ? 1 + below(8) : 1;
    return (part_ask_t){.ternary_bits = below(2) == 0 ? 2 : 1.6,
                        .n_ctx        = 64 * (1 + below(20)),
                        .n_seq        = n_seq,
                        .n_batch      = 1 + below(64),
                        .n_out        = n_seq,
                        .screen       = below(4) == 0,
                        .type_k       = below(2) == 0 ? MODEL_F16 : MODEL_F32,
                        .depth        = below(2) * 64,
                        .n_prompt     = below(2) * 300,
                        .streams      = below(5),
                        .optimize     = (part_optimize_t)below(3),
                        .file_first   = below(3) == 0};
}

/* What all layers weigh together, about. */
static double model_bytes(const model_desc_t *d, const part_ask_t *ask)
{
    part_plan_t  plan  = {0};
    part_wish_t  wish  = {.n_ranks = 1};
    part_sizes_t sizes = part_sizes_of(ask);
    assert_int_equal(part_plan_make(&wish, d, &plan, NULL), BASE_OK);
    double bytes = (double)part_memory(&plan, d, 0, &sizes).total;
    part_plan_free(&plan);
    return bytes;
}

static void any_few(part_few_t *few)
{
    double *const lists[] = {few->t2, few->t3, few->dense, few->screen};
    for (size_t l = 0; l < sizeof(lists) / sizeof(lists[0]); l++) {
        if (below(4) == 0) continue;
        for (uint32_t i = 0; i < PART_FEW; i++) lists[l][i] = between(1e9, 1e11);
    }
}

static part_cluster_t any_cluster(uint32_t n_nodes, uint32_t ranks_max, double bytes)
{
    part_cluster_t c     = {0};
    part_node_t    one   = {.mem_bytes = 1 << 30, .ranks = 1};
    const uint32_t kinds = 1 + below(4);
    const bool     few   = below(3) == 0;
    uint32_t       n     = 0;
    part_node_t    kind[4];
    for (uint32_t k = 0; k < kinds; k++) {
        kind[k]       = one;
        kind[k].ranks = below(4) == 0 ? 1 + below(ranks_max) : 1;
        kind[k].membw = between(1e9, 4e9);
        kind[k].cores = below(2) * (1 + below(4));
        kind[k].ops   = below(2) == 0 ? between(1e9, 1e12) : 0;
        if (below(4) == 0) kind[k].rank_membw = kind[k].membw * 0.8;
        kind[k].intra_latency = below(2) == 0 ? 0 : between(1e-7, 1e-5);
        kind[k].intra_bw      = below(2) == 0 ? 0 : between(1e8, 1e10);
        kind[k].mem_bytes =
            (uint64_t)((kind[k].ranks * (double)PART_RANK_OVERHEAD + bytes * between(0.15, 3)) /
                       0.95);
    }
    assert_int_equal(
        part_cluster_uniform(n_nodes, &one, between(1e-6, 1e-3), between(1e7, 1e10), &c, NULL),
        BASE_OK);
    c.step  = below(2) * 1e-5;
    c.layer = below(2) * 1e-6;
    for (uint32_t i = 0; i < n_nodes; i++) {
        c.nodes[i]       = kind[below(kinds)];
        c.nodes[i].rank0 = n;
        if (few) any_few(&c.nodes[i].few); /* nodes of a kind that differ in nothing else */
        n += c.nodes[i].ranks;
    }
    c.n_ranks = n;
    if (n_nodes == 1 || below(6) != 0) return c;
    c.pair_latency = malloc(n_nodes * n_nodes * sizeof(double));
    c.pair_net     = malloc(n_nodes * n_nodes * sizeof(double));
    assert_non_null(c.pair_latency);
    assert_non_null(c.pair_net);
    for (uint32_t i = 0; i < n_nodes * n_nodes; i++) {
        c.pair_latency[i] = between(1e-6, 1e-3);
        c.pair_net[i]     = between(1e7, 1e10);
    }
    return c;
}

/* --- brute force: orders by permutation, every share, every cut, judged by the public functions
 * ---
 */

typedef struct {
    const part_cluster_t *all;
    const model_desc_t   *desc;
    const part_ask_t     *ask;
    part_cluster_t        used;
    part_plan_t           plan;
    uint32_t              layer[NODES_MAX + 1], weight[NODES_MAX], order[NODES_MAX];
    double                best;
    uint64_t              plans;
    uint32_t              only_stages, only_shards; /* 0: any layout */
    part_problem_t        problem;
    part_grid_t           grid; /* for the value of a plan; its memory is added up by fits() */
    uint32_t              rank_node[NODES_MAX];
    char                  text[200]; /* the best, for a person */
} brute_t;

/* Of one rank, on the n-th node of the plan. Where the first node alone has the file, others of the
 * first stage hold rows of the embedding. */
static uint64_t bytes_of(const part_plan_t *plan, const model_desc_t *desc, const part_ask_t *ask,
                         uint32_t rank, uint32_t n)
{
    const part_sizes_t  sizes = part_sizes_of(ask);
    const part_memory_t m     = part_memory(plan, desc, rank, &sizes);
    const bool          rows  = ask->file_first && n > 0 && rank < plan->shards;
    return m.total + (rows ? m.embed : 0) + PART_RANK_OVERHEAD;
}

static bool fits(brute_t *b)
{
    uint32_t rank = 0;
    for (uint32_t n = 0; n < b->used.n_nodes; n++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < b->used.nodes[n].ranks; i++)
            sum += bytes_of(&b->plan, b->desc, b->ask, rank++, n);
        if (sum > part_node_usable(&b->used.nodes[n])) return false;
    }
    return true;
}

static void brute_cut(brute_t *b, uint32_t stage)
{
    const uint32_t left = b->plan.stages - stage - 1;
    if (left > 0) {
        for (uint32_t e = b->layer[stage] + 1; e + left <= b->desc->n_layers; e++) {
            b->layer[stage + 1] = e;
            brute_cut(b, stage + 1);
        }
        return;
    }
    b->layer[stage + 1] = b->desc->n_layers;
    b->plans++;
    const double value = part_grid_value(&b->grid, b->layer);
    if (value < b->best && fits(b)) {
        b->best = value;
        (void)snprintf(b->text, sizeof(b->text),
                       "%ux%u of %u nodes from %u, first shares %u,%u, "
                       "first stages to %u,%u",
                       b->plan.stages, b->plan.shards, b->used.n_nodes, b->order[0], b->weight[0],
                       b->weight[1], b->layer[1], b->layer[2]);
    }
}

static void brute_shares(brute_t *b, uint32_t at, uint32_t left)
{
    if (at + 1 == b->plan.shards) {
        b->weight[at] = left;
        part_grid_set(&b->grid, b->rank_node, b->plan.stages, b->plan.shards, b->weight);
        brute_cut(b, 0);
        return;
    }
    for (uint32_t w = 1; w + (b->plan.shards - at - 1) <= left; w++) {
        b->weight[at] = w;
        brute_shares(b, at + 1, left - w);
    }
}

/* The first node with the same figures; links of their own make every node a kind. */
static uint32_t kind(const brute_t *b, uint32_t node)
{
    const part_node_t *n = b->all->nodes;
    uint32_t           i = 0;
    while (i < node && (b->all->pair_net != NULL || n[i].mem_bytes != n[node].mem_bytes ||
                        n[i].membw != n[node].membw || n[i].ranks != n[node].ranks ||
                        memcmp(&n[i].few, &n[node].few, sizeof(n[i].few)) != 0))
        i++;
    return i;
}

/* Two orders that only swap nodes inside a stage are one plan. */
static bool same_inside(const brute_t *b)
{
    for (uint32_t i = 0; i + 1 < b->used.n_nodes; i++) {
        const part_node_t *x = &b->used.nodes[i], *y = x + 1;
        if (i == 0 && b->ask->file_first && !(b->desc->tied && b->plan.stages == 1))
            continue; /* the first node is like no other */
        if (x->rank0 / b->plan.shards == (y->rank0 + y->ranks - 1) / b->plan.shards &&
            kind(b, b->order[i]) > kind(b, b->order[i + 1]))
            return true;
    }
    return false;
}

static void brute_order(brute_t *b, uint32_t n)
{
    static const uint32_t grid[] = {0, 1, 48, 24, 16, 12, 12}; /* as partition/search.h promises */
    assert_int_equal(part_cluster_pick(b->all, b->order, n, &b->used, NULL), BASE_OK);
    assert_int_equal(part_problem_make(&b->used, b->desc, b->ask, &b->problem, NULL), BASE_OK);
    assert_int_equal(part_grid_create(&b->problem, b->used.n_ranks, &b->grid, NULL), BASE_OK);
    for (uint32_t r = 0; r < b->used.n_ranks; r++) b->rank_node[r] = part_cluster_node(&b->used, r);
    for (uint32_t shards = 1; shards <= b->used.n_ranks; shards++) {
        b->plan = (part_plan_t){b->used.n_ranks / shards, shards, b->layer, b->weight};
        if (b->used.n_ranks % shards != 0 || b->plan.stages > b->desc->n_layers) continue;
        if (!b->ask->all_nodes && same_inside(b)) continue;
        if (b->only_shards != 0 && (shards != b->only_shards || b->plan.stages != b->only_stages))
            continue;
        for (uint32_t i = 0; i < shards; i++) b->weight[i] = 1;
        part_grid_set(&b->grid, b->rank_node, b->plan.stages, shards, b->weight);
        brute_cut(b, 0); /* even shares need not lie on the grid */
        if (shards > 1) brute_shares(b, 0, grid[shards]);
    }
    part_grid_free(&b->grid);
    part_problem_free(&b->problem);
    part_cluster_free(&b->used);
}

static void brute_orders(brute_t *b, uint32_t n, uint32_t used)
{
    if (n > 0) brute_order(b, n);
    for (uint32_t i = 0; i < b->all->n_nodes; i++)
        if ((used >> i & 1) == 0) {
            b->order[n] = i;
            brute_orders(b, n + 1, used | 1u << i);
        }
}

/* --- tests --- */

/* The account of the plan, added up anew from what --layout and --split would make of it. */
static void check_account(const part_choice_t *c, const model_desc_t *desc, const part_ask_t *ask)
{
    char        layout[32];
    part_plan_t said = {0};
    base_err_t  err  = {0};
    part_wish_t wish = {.n_ranks = c->n_ranks,
                        .layout  = part_layout_name(&c->plan, layout, sizeof(layout)),
                        .split   = c->split};
    if (part_plan_make(&wish, desc, &said, &err) != BASE_OK) fail_msg("%s: %s", c->split, err.text);
    assert_memory_equal(said.stage_layer, c->plan.stage_layer, (said.stages + 1) * 4);
    uint32_t rank = 0;
    for (uint32_t n = 0; n < c->n_nodes; n++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < c->used.nodes[n].ranks; i++)
            sum += bytes_of(&said, desc, ask, rank++, n);
        if (c->fits) assert_true(sum <= part_node_usable(&c->used.nodes[n]));
        assert_int_equal(sum, c->node_bytes[n]);
    }
    assert_int_equal(rank, c->n_ranks);
    part_plan_free(&said);
}

static uint32_t nodes_of_case(uint32_t i)
{
    const uint32_t of_1000 = i * 7919 % 1000;
    if (of_1000 < 1) return 6;
    if (of_1000 < 4) return 5;
    if (of_1000 < 40) return 4;
    return of_1000 < 200 ? 3 : of_1000 < 700 ? 2 : 1;
}

static void small_clusters(void **state)
{
    (void)state;
    const uint32_t cases = cases_of(SMALL_CASES);
    uint64_t       plans = 0, none = 0, left_out = 0, both = 0, ties = 0;
    for (uint32_t i = 0; i < cases; i++) {
        const uint32_t n    = nodes_of_case(i);
        model_desc_t   desc = any_model(n > 4 ? 3 : n > 2 ? 5 : 7);
        part_ask_t     ask  = any_ask();
        part_cluster_t c    = any_cluster(n, n > 2 ? 1 : n == 2 ? 2 : 6, model_bytes(&desc, &ask));
        part_choice_t  choice = {0};
        base_err_t     err    = {0};
        brute_t        brute  = {.all = &c, .desc = &desc, .ask = &ask, .best = INFINITY};
        assert_true(c.n_ranks <= NODES_MAX);
        if (part_plan_choose(&c, &desc, &ask, &choice, NULL, &err) != BASE_OK)
            fail_msg("case %u: %s", i, err.text);
        check_account(&choice, &desc, &ask);
        brute_orders(&brute, 0, 0);
        plans += brute.plans;
        if (brute.best < INFINITY && !choice.fits)
            fail_msg("case %u: a plan that fits was missed", i);
        if (choice.fits && choice.time.value > brute.best * (1 + 1e-6))
            fail_msg("case %u, optimize %d: %ux%u of %u nodes: %.9g, brute force has %.9g: %s", i,
                     (int)ask.optimize, choice.plan.stages, choice.plan.shards, choice.n_nodes,
                     choice.time.value, brute.best, brute.text);
        none += !choice.fits;
        left_out += choice.fits && choice.n_nodes < n;
        both += choice.plan.stages > 1 && choice.plan.shards > 1;
        ties += choice.time.value > brute.best * (1 - 1e-6);
        part_choice_free(&choice);
        part_cluster_free(&c);
        free(desc.layers);
    }
    printf("%u cases, %llu plans: nothing fits in %llu, nodes left out in %llu, both cuts in %llu, "
           "nothing better than the grid in %llu\n",
           cases, (unsigned long long)plans, (unsigned long long)none, (unsigned long long)left_out,
           (unsigned long long)both, (unsigned long long)ties);
    /* The cases are worth something. */
    assert_true(none > cases / 100 && none < cases / 2 && left_out > cases / 10 &&
                both > cases / 200);
}

/* A random model on up to four random nodes, and brute force over its plans. */
typedef struct {
    model_desc_t   desc;
    part_ask_t     ask;
    part_cluster_t c;
    brute_t        brute; /* of the members above: a case is not copied */
} case_t;

static void case_make(case_t *k)
{
    const uint32_t n = 1 + below(4);
    k->desc          = any_model(5);
    k->ask           = any_ask();
    k->c             = any_cluster(n, n > 2 ? 1 : 2, model_bytes(&k->desc, &k->ask));
    k->brute         = (brute_t){.all = &k->c, .desc = &k->desc, .ask = &k->ask, .best = INFINITY};
}

static void case_free(case_t *k)
{
    part_cluster_free(&k->c);
    free(k->desc.layers);
}

/* A layout that is asked for, of all ranks or fewer: the best nodes, order, shares and layers. */
static void asked_layouts(void **state)
{
    (void)state;
    const uint32_t cases = cases_of(ASKED_CASES);
    uint32_t       fewer = 0, none = 0, fit = 0;
    for (uint32_t i = 0; i < cases; i++) {
        case_t        k      = {0};
        part_choice_t choice = {0};
        base_err_t    err    = {0};
        case_make(&k);
        char layout[32];
        k.brute.only_stages =
            1 + below(k.c.n_ranks < k.desc.n_layers ? k.c.n_ranks : k.desc.n_layers);
        k.brute.only_shards = 1 + below(k.c.n_ranks / k.brute.only_stages);
        (void)snprintf(layout, sizeof(layout), "%ux%u", k.brute.only_stages, k.brute.only_shards);
        k.ask.layout           = layout;
        const base_status_t st = part_plan_choose(&k.c, &k.desc, &k.ask, &choice, NULL, &err);
        brute_orders(&k.brute, 0, 0);
        if (k.brute.plans == 0) { /* no whole nodes make so many ranks */
            assert_int_equal(st, BASE_ERR_USAGE);
            none++;
        } else {
            if (st != BASE_OK) fail_msg("case %u: %s: %s", i, layout, err.text);
            check_account(&choice, &k.desc, &k.ask);
            assert_int_equal(choice.plan.stages, k.brute.only_stages);
            assert_int_equal(choice.plan.shards, k.brute.only_shards);
            if (k.brute.best < INFINITY && !choice.fits) /* shares off the grid may fit alone */
                fail_msg("case %u: %s: a plan that fits was missed", i, layout);
            if (choice.fits && choice.time.value > k.brute.best * (1 + 1e-6))
                fail_msg("case %u: %s: %.9g, brute force has %.9g: %s", i, layout,
                         choice.time.value, k.brute.best, k.brute.text);
            fit += choice.fits;
            fewer += choice.fits && choice.n_ranks < k.c.n_ranks;
        }
        part_choice_free(&choice);
        case_free(&k);
    }
    printf("%u of %u fit, %u of fewer ranks; %u of no whole nodes\n", fit, cases, fewer, none);
    assert_true(fewer > cases / 10 && fit > cases / 3 && none > 0);
}

/* Ranks that are started already: on all nodes in the order given, like nodes anywhere in it. */
static void started_ranks(void **state)
{
    (void)state;
    const uint32_t cases = cases_of(STARTED_CASES);
    uint32_t       fit = 0, uneven = 0, moved = 0;
    for (uint32_t i = 0; i < cases; i++) {
        case_t        k      = {0};
        part_choice_t choice = {0};
        base_err_t    err    = {0};
        case_make(&k);

        k.ask.all_nodes = true;
        for (uint32_t a = 0; a < k.c.n_nodes; a++) k.brute.order[a] = a;
        if (part_plan_choose(&k.c, &k.desc, &k.ask, &choice, NULL, &err) != BASE_OK)
            fail_msg("case %u: %s", i, err.text);
        check_account(&choice, &k.desc, &k.ask);
        brute_order(&k.brute, k.c.n_nodes);
        assert_int_equal(choice.n_nodes, k.c.n_nodes);
        for (uint32_t a = 0; a < k.c.n_nodes; a++) assert_int_equal(choice.order[a], a);
        if (k.brute.best < INFINITY && !choice.fits)
            fail_msg("case %u: a plan that fits was missed", i);
        if (choice.fits && choice.time.value > k.brute.best * (1 + 1e-6))
            fail_msg("case %u: %ux%u: %.9g, brute force has %.9g: %s", i, choice.plan.stages,
                     choice.plan.shards, choice.time.value, k.brute.best, k.brute.text);
        fit += choice.fits;
        uneven += choice.fits && strcmp(choice.split, "even") != 0;
        part_choice_free(&choice);
        /* What fits does not hang on speeds. */
        for (uint32_t a = 0; a < k.c.n_nodes; a++) k.c.nodes[a].membw = 0;
        if (part_plan_choose(&k.c, &k.desc, &k.ask, &choice, NULL, &err) != BASE_OK)
            fail_msg("case %u, no speeds: %s", i, err.text);
        check_account(&choice, &k.desc, &k.ask);
        assert_int_equal(choice.time.known, 0);
        if (k.brute.best < INFINITY && !choice.fits)
            fail_msg("case %u: a plan that fits was missed without speeds", i);
        moved += choice.fits && strcmp(choice.split, "even") != 0;
        part_choice_free(&choice);
        case_free(&k);
    }
    printf("%u of %u fit, %u not even; without speeds %u not even\n", fit, cases, uneven, moved);
    assert_true(fit > cases / 3 && uneven > cases / 10 && moved > cases / 100);
}

/* Larger ones: fits, and no worse than any even layout of all nodes. */
static void large_clusters(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < cases_of(LARGE_CASES); i++) {
        model_desc_t   desc   = any_model(40);
        part_ask_t     ask    = any_ask();
        part_cluster_t c      = any_cluster(7 + below(60), 4, model_bytes(&desc, &ask) / 4);
        part_choice_t  choice = {0}, plain = {0};
        base_err_t     err = {0};
        if (part_plan_choose(&c, &desc, &ask, &choice, NULL, &err) != BASE_OK)
            fail_msg("case %u: %s", i, err.text);
        check_account(&choice, &desc, &ask);
        for (uint32_t s = 1; s <= c.n_ranks && s <= desc.n_layers; s++) {
            char layout[32];
            if (c.n_ranks % s != 0) continue;
            (void)snprintf(layout, sizeof(layout), "%ux%u", s, c.n_ranks / s);
            ask.layout = layout;
            ask.split  = "even";
            assert_int_equal(part_plan_choose(&c, &desc, &ask, &plain, NULL, &err), BASE_OK);
            ask.layout = ask.split = NULL;
            if (plain.fits && !choice.fits) fail_msg("case %u: %s fits", i, layout);
            if (plain.fits && choice.time.value > plain.time.value * (1 + 1e-6))
                fail_msg("case %u: %ux%u of %u nodes: %.9g, %s of all has %.9g", i,
                         choice.plan.stages, choice.plan.shards, choice.n_nodes, choice.time.value,
                         layout, plain.time.value);
            part_choice_free(&plain);
        }
        part_choice_free(&choice);
        part_cluster_free(&c);
        free(desc.layers);
    }
}

/* 1024 nodes of six kinds. The bound leaves room for a loaded machine and for sanitizers. */
static void thousand_ranks(void **state)
{
    (void)state;
    struct timespec t[2];
    model_desc_t    desc = fixture_desc(fixture_llama_405b);
    part_node_t     one  = {.mem_bytes = UINT64_C(8) << 30, .membw = 40e9, .ranks = 1};
    part_cluster_t  c    = {0};
    part_trials_t   trials;
    part_ask_t      ask = {.ternary_bits = 1.6, .n_ctx = 4096, .n_batch = 512, .n_out = 1};
    assert_int_equal(part_cluster_uniform(1024, &one, 50e-6, 1.25e9, &c, NULL), BASE_OK);
    for (uint32_t i = 0; i < 1024; i++) {
        c.nodes[i].mem_bytes = (UINT64_C(8) << 30) * (1 + i % 3);
        c.nodes[i].membw     = 20e9 * (1 + i % 2);
    }
    for (ask.optimize = PART_FOR_DECODE; ask.optimize <= PART_FOR_THROUGHPUT; ask.optimize++) {
        part_choice_t choice = {0};
        ask.n_seq            = ask.optimize == PART_FOR_THROUGHPUT ? 64 : 1;
        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t[0]);
        assert_int_equal(part_plan_choose(&c, &desc, &ask, &choice, &trials, NULL), BASE_OK);
        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t[1]);
        const double s =
            (double)(t[1].tv_sec - t[0].tv_sec) + 1e-9 * (double)(t[1].tv_nsec - t[0].tv_nsec);
        printf("1024 nodes: %llu plans in %.3f s of CPU: %ux%u of %u nodes\n",
               (unsigned long long)trials.plans, s, choice.plan.stages, choice.plan.shards,
               choice.n_nodes);
        assert_true(choice.fits && s < 5);
        check_account(&choice, &desc, &ask);
        part_choice_free(&choice);
    }
    part_cluster_free(&c);
    free(desc.layers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_clusters), cmocka_unit_test(asked_layouts),
        cmocka_unit_test(started_ranks),  cmocka_unit_test(large_clusters),
        cmocka_unit_test(thousand_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
