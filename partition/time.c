/* partition/time.c: the predicted times of one plan. */
#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "partition/grid.h"

bool part_speeds_known(const part_cluster_t *c)
{
    for (uint32_t i = 0; i < c->n_nodes; i++)
        if (c->nodes[i].membw <= 0) return false;
    return c->n_nodes == 1 || (c->latency >= 0 && c->net > 0) ||
           (c->pair_latency != NULL && c->pair_net != NULL);
}

typedef struct {
    double layers, attention, head, communication, overhead;
    double sum, slowest;
} step_time_t;

/* One step of a load through all stages. */
static step_time_t step_time(const part_grid_t *g, const uint32_t *bounds, part_load_t load)
{
    const part_problem_t *p     = g->p;
    part_load_t           blind = load; /* the same without looking back */
    step_time_t           t     = {0};

    blind.positions = 0;
    for (uint32_t s = 0; s < g->stages; s++) {
        const part_fixed_t f         = part_grid_fixed(g, s, &load);
        double             stage     = f.head + f.communication + f.overhead;
        uint32_t           seen      = UINT32_MAX;
        double             exchanges = 0, all = 0, weights = 0;
        for (uint32_t l = bounds[s]; l < bounds[s + 1]; l++) {
            if (p->kind_of[l] != seen) {
                weights = part_grid_layer(g, s, p->kind_of[l], &blind, &exchanges);
                all     = part_grid_layer(g, s, p->kind_of[l], &load, &exchanges);
            }
            seen = p->kind_of[l];
            t.layers += weights;
            t.attention += all - weights;
            t.communication += exchanges;
            t.overhead += p->cluster->layer;
            stage += all + exchanges + p->cluster->layer;
        }
        t.head += f.head;
        t.communication += f.communication;
        t.overhead += f.overhead;
        t.sum += stage;
        t.slowest = fmax(t.slowest, stage);
    }
    return t;
}

static part_time_t times_of(const part_grid_t *g, const uint32_t *bounds, const part_ask_t *ask)
{
    const step_time_t one  = step_time(g, bounds, part_load_decode(ask));
    part_load_t       full = part_load_decode(ask);
    part_ask_t        as   = *ask;
    part_time_t       t    = {.known = true, .comm_known = true};

    full.positions   = ask->n_ctx;
    t.weights        = one.layers;
    t.attention      = one.attention;
    t.head           = one.head;
    t.communication  = one.communication;
    t.overhead       = one.overhead;
    t.attention_full = step_time(g, bounds, full).attention;
    t.decode_tps     = 1 / one.sum;

    const step_time_t group = step_time(g, bounds, part_load_throughput(ask, g->stages));
    as.optimize             = PART_FOR_THROUGHPUT;
    t.throughput_tps        = 1 / part_value(&as, g->stages, group.sum, group.slowest);
    const step_time_t chunk = step_time(g, bounds, part_load_prefill(ask, g->stages));
    as.optimize             = PART_FOR_PREFILL;
    t.prefill_tps           = 1 / part_value(&as, g->stages, chunk.sum, chunk.slowest);

    const step_time_t *asked = ask->optimize == PART_FOR_DECODE    ? &one
                               : ask->optimize == PART_FOR_PREFILL ? &chunk
                                                                   : &group;
    t.sum                    = asked->sum;
    t.slowest                = asked->slowest;
    t.value                  = part_value(ask, g->stages, t.sum, t.slowest);
    return t;
}

base_status_t part_time(const part_cluster_t *cluster, const model_desc_t *desc,
                        const part_plan_t *plan, const part_ask_t *ask, part_time_t *time,
                        base_err_t *err)
{
    const uint32_t n         = plan->stages * plan->shards;
    part_cluster_t c         = *cluster; /* borrows */
    part_problem_t p         = {0};
    part_grid_t    g         = {0};
    uint32_t      *rank_node = NULL;
    bool           known     = true;
    base_status_t  st        = BASE_OK;

    base_assert(n == cluster->n_ranks);
    for (uint32_t i = 0; i < c.n_nodes; i++) known = known && c.nodes[i].membw > 0;
    const bool comm_known = c.n_nodes == 1 || (c.latency >= 0 && c.net > 0) ||
                            (c.pair_latency != NULL && c.pair_net != NULL);
    if (!comm_known) {
        c.latency = c.net = 0;
        c.pair_latency = c.pair_net = NULL;
    }
    st = part_problem_make(&c, desc, ask, &p, err);
    if (st == BASE_OK) st = part_grid_create(&p, n, &g, err);
    if (st == BASE_OK) st = base_alloc((void **)&rank_node, n, sizeof(*rank_node), "plan", err);
    if (st != BASE_OK) goto out;
    for (uint32_t i = 0; i < c.n_nodes; i++)
        for (uint32_t k = 0; k < c.nodes[i].ranks; k++) rank_node[c.nodes[i].rank0 + k] = i;
    part_grid_set(&g, rank_node, plan->stages, plan->shards, plan->shard_weight);
    part_time_t t = times_of(&g, plan->stage_layer, ask);
    if (!known) t = (part_time_t){.communication = comm_known ? t.communication : 0};
    t.known      = known;
    t.comm_known = comm_known;
    if (!comm_known) t.communication = 0;
    *time = t;
out:
    free(rank_node);
    part_grid_free(&g);
    part_problem_free(&p);
    return st;
}
