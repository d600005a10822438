/* The layers of stages: as good as trying every cut. */
#include <math.h>

#include "partition/layout.h"
#include "tests/partition/fixture.h"

enum { LAYERS_MAX = 9 };

typedef struct {
    uint32_t        n_layers, n_stages;
    const uint64_t *cost;
    uint64_t        first, last;
    const uint32_t *weights;
} case_t;

/* Largest load, and sum of squares, of one cut. */
static void cut_value(const case_t *c, const uint32_t *bounds, double *peak, double *even)
{
    *peak = 0;
    *even = 0;
    for (uint32_t s = 0; s < c->n_stages; s++) {
        uint64_t bytes = (s == 0 ? c->first : 0) + (s + 1 == c->n_stages ? c->last : 0);
        for (uint32_t i = bounds[s]; i < bounds[s + 1]; i++) bytes += c->cost[i];
        double load = (double)bytes / c->weights[s];
        if (load > *peak) *peak = load;
        *even += (double)bytes * load;
    }
}

/* Every cut, as a bit mask of the layers that begin a stage. */
static void brute_force(const case_t *c, double *peak, double *even)
{
    *peak = INFINITY;
    *even = INFINITY;
    for (uint32_t mask = 0; mask < 1u << (c->n_layers - 1); mask++) {
        uint32_t bounds[LAYERS_MAX + 1] = {0}, n = 1;
        if ((uint32_t)__builtin_popcount(mask) != c->n_stages - 1) continue;
        for (uint32_t i = 1; i < c->n_layers; i++)
            if (mask >> (i - 1) & 1) bounds[n++] = i;
        bounds[n] = c->n_layers;
        double p = 0, e = 0;
        cut_value(c, bounds, &p, &e);
        if (p < *peak || (p == *peak && e < *even)) {
            *peak = p;
            *even = e;
        }
    }
}

static void as_good_as_brute_force(void **state)
{
    (void)state;
    uint64_t seed = 42;
    for (uint32_t round = 0; round < 4000; round++) {
        uint64_t cost[LAYERS_MAX];
        uint32_t weights[LAYERS_MAX], bounds[LAYERS_MAX + 1];
        case_t   c = {.cost = cost, .weights = weights};
        c.n_layers = 1 + (uint32_t)(fixture_random(&seed) % LAYERS_MAX);
        c.n_stages = 1 + (uint32_t)(fixture_random(&seed) % c.n_layers);
        for (uint32_t i = 0; i < c.n_layers; i++)
            cost[i] = round % 4 == 0 ? 17 : fixture_random(&seed) % 100; /* zeros, too */
        for (uint32_t s = 0; s < c.n_stages; s++)
            weights[s] = round % 3 == 0 ? 1 : 1 + (uint32_t)(fixture_random(&seed) % 4);
        c.first = fixture_random(&seed) % 300;
        c.last  = fixture_random(&seed) % 300;
        assert_int_equal(part_stages_balance(cost, c.n_layers, c.first, c.last, weights, c.n_stages,
                                             bounds, NULL),
                         BASE_OK);
        assert_int_equal(bounds[0], 0);
        assert_int_equal(bounds[c.n_stages], c.n_layers);
        for (uint32_t s = 0; s < c.n_stages; s++) assert_true(bounds[s] < bounds[s + 1]);
        double peak = 0, even = 0, best_peak = 0, best_even = 0;
        cut_value(&c, bounds, &peak, &even);
        brute_force(&c, &best_peak, &best_even);
        assert_true(peak == best_peak);
        assert_true(even <= best_even * (1 + 1e-12));
    }
}

static void even_layers(void **state)
{
    (void)state;
    uint64_t       cost[12];
    uint32_t       bounds[13];
    const uint32_t weights[12] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    for (uint32_t i = 0; i < 12; i++) cost[i] = 1000;
    for (uint32_t stages = 1; stages <= 12; stages++) {
        assert_int_equal(part_stages_balance(cost, 12, 0, 0, weights, stages, bounds, NULL),
                         BASE_OK);
        for (uint32_t s = 0; s < stages; s++) {
            uint32_t n = bounds[s + 1] - bounds[s];
            assert_true(n == 12 / stages || n == 12 / stages + 1);
        }
    }
    const uint32_t shares[3] = {4, 1, 1};
    assert_int_equal(part_stages_balance(cost, 12, 0, 0, shares, 3, bounds, NULL), BASE_OK);
    assert_int_equal(bounds[1], 8);
    assert_int_equal(bounds[2], 10);
}

/* A head heavier than all else leaves the last stage one layer, and the others even. */
static void heavy_head(void **state)
{
    (void)state;
    uint64_t       cost[13];
    uint32_t       bounds[5];
    const uint32_t weights[4] = {1, 1, 1, 1};
    for (uint32_t i = 0; i < 13; i++) cost[i] = 10;
    assert_int_equal(part_stages_balance(cost, 13, 0, 1000, weights, 4, bounds, NULL), BASE_OK);
    assert_int_equal(bounds[1], 4);
    assert_int_equal(bounds[2], 8);
    assert_int_equal(bounds[3], 12);
}

static void largest(void **state)
{
    (void)state;
    uint64_t *cost    = calloc(LIMIT_LAYERS, sizeof(*cost));
    uint32_t *weights = calloc(LIMIT_LAYERS, sizeof(*weights));
    uint32_t *bounds  = calloc(LIMIT_LAYERS + 1, sizeof(*bounds));
    assert_true(cost != NULL && weights != NULL && bounds != NULL);
    for (uint32_t i = 0; i < LIMIT_LAYERS; i++) {
        cost[i]    = UINT64_C(1) << 40;
        weights[i] = PART_WEIGHT_MAX;
    }
    assert_int_equal(part_stages_balance(cost, LIMIT_LAYERS, 0, UINT64_C(1) << 50, weights,
                                         LIMIT_LAYERS / 2, bounds, NULL),
                     BASE_OK);
    assert_int_equal(bounds[LIMIT_LAYERS / 2], LIMIT_LAYERS);
    free(cost);
    free(weights);
    free(bounds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_good_as_brute_force),
        cmocka_unit_test(even_layers),
        cmocka_unit_test(heavy_head),
        cmocka_unit_test(largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
