/* partition/grid.c: times and bytes of ranks in a grid, and the best layers for its stages. */
#include "partition/grid.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

part_sizes_t part_sizes_of(const part_ask_t *ask)
{
    return (part_sizes_t){.ternary_bits = ask->ternary_bits,
                          .n_ctx        = ask->n_ctx,
                          .n_seq        = ask->n_seq,
                          .n_batch      = ask->n_batch,
                          .n_out        = ask->n_out,
                          .screen       = ask->screen,
                          .type_k       = ask->type_k,
                          .type_v       = ask->type_v};
}

base_status_t part_problem_make(const part_cluster_t *cluster, const model_desc_t *desc,
                                const part_ask_t *ask, part_problem_t *p, base_err_t *err)
{
    const uint32_t L  = desc->n_layers;
    base_status_t  st = BASE_OK;

    *p =
        (part_problem_t){.cluster = cluster, .desc = desc, .ask = ask, .sizes = part_sizes_of(ask)};
    st = base_alloc((void **)&p->kind_of, L, sizeof(*p->kind_of), "plan", err);
    if (st == BASE_OK) st = base_alloc((void **)&p->first, L, sizeof(*p->first), "plan", err);
    for (uint32_t l = 0; l < L && st == BASE_OK; l++) {
        uint32_t k = 0;
        while (k < p->n_kinds && !part_layers_alike(&desc->layers[l], &desc->layers[p->first[k]]))
            k++;
        if (k == p->n_kinds) p->first[p->n_kinds++] = l;
        p->kind_of[l] = k;
    }
    if (st != BASE_OK) part_problem_free(p);
    return st;
}

void part_problem_free(part_problem_t *p)
{
    free(p->kind_of);
    free(p->first);
    memset(p, 0, sizeof(*p));
}

base_status_t part_grid_create(const part_problem_t *p, uint32_t max_ranks, part_grid_t *g,
                               base_err_t *err)
{
    const uint32_t L    = p->desc->n_layers;
    const uint32_t S    = max_ranks < L ? max_ranks : L;
    const size_t   both = p->n_kinds == 1 ? 0 : (size_t)S * (L + 1);
    base_status_t  st   = BASE_OK;

    memset(g, 0, sizeof(*g));
    g->p         = p;
    g->max_ranks = max_ranks;
    const struct {
        void **at;
        size_t n, size;
    } rooms[] = {
        {(void **)&g->share, max_ranks, sizeof(*g->share)},
        {(void **)&g->layer, (size_t)max_ranks * p->n_kinds, sizeof(*g->layer)},
        {(void **)&g->ends, max_ranks, sizeof(*g->ends)},
        {(void **)&g->embed, max_ranks, sizeof(*g->embed)},
        {(void **)&g->rows, max_ranks, sizeof(*g->rows)},
        {(void **)&g->group, max_ranks, sizeof(*g->group)},
        {(void **)&g->speed, max_ranks, sizeof(*g->speed)},
        {(void **)&g->fixed, S, sizeof(*g->fixed)},
        {(void **)&g->per, S, sizeof(*g->per)},
        {(void **)&g->cap, S, sizeof(*g->cap)},
        {(void **)&g->by_time, S, sizeof(*g->by_time)},
        {(void **)&g->best, S + 1, sizeof(*g->best)},
        {(void **)&g->before, both, sizeof(*g->before)},
        {(void **)&g->value, both, sizeof(*g->value)},
        {(void **)&g->reach, both, sizeof(*g->reach)},
        {(void **)&g->from, both, sizeof(*g->from)},
    };
    for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]) && st == BASE_OK; i++)
        st = base_alloc(rooms[i].at, rooms[i].n, rooms[i].size, "plan", err);
    if (st != BASE_OK) part_grid_free(g);
    return st;
}

void part_grid_free(part_grid_t *g)
{
    void *const rooms[] = {g->share,  g->layer, g->ends,  g->embed, g->rows,    g->group,
                           g->speed,  g->fixed, g->per,   g->cap,   g->by_time, g->best,
                           g->before, g->value, g->reach, g->from};
    for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) free(rooms[i]);
    memset(g, 0, sizeof(*g));
}

static part_place_t place_of(const part_grid_t *g, uint32_t stage, uint32_t shard)
{
    return (part_place_t){.share  = g->share[shard],
                          .first  = g->share[0],
                          .stages = g->stages,
                          .shards = g->shards,
                          .root   = stage == 0 && shard == 0,
                          .last   = stage + 1 == g->stages,
                          .lone   = g->stages == 1 && g->shards == 1};
}

/* Ranks of this rank's node that work when it does. */
static uint32_t active_of(const part_grid_t *g, uint32_t rank)
{
    const uint32_t node  = g->rank_node[rank];
    const uint32_t begin = rank / g->shards * g->shards;
    uint32_t       n     = 0;

    if (g->stages > 1 && g->p->ask->streams != 1) return g->p->cluster->nodes[node].ranks;
    for (uint32_t i = begin; i < begin + g->shards; i++) n += g->rank_node[i] == node;
    return n;
}

void part_grid_set(part_grid_t *g, const uint32_t *rank_node, uint32_t stages, uint32_t shards,
                   const uint32_t *weights)
{
    const part_problem_t *p     = g->p;
    uint64_t              total = 0, before = 0;

    base_assert(stages * shards <= g->max_ranks && stages <= p->desc->n_layers);
    g->rank_node = rank_node;
    g->stages    = stages;
    g->shards    = shards;
    for (uint32_t i = 0; i < shards; i++) total += weights[i];
    for (uint32_t i = 0; i < shards; i++) {
        g->share[i] = (part_share_t){before, weights[i], total, i + 1 == shards};
        before += weights[i];
        for (uint32_t k = 0; k < p->n_kinds; k++)
            g->layer[(size_t)k * shards + i] =
                part_layer_account(g->share[i], p->desc, &p->desc->layers[p->first[k]], &p->sizes);
        const part_place_t first = place_of(g, 0, i), last = place_of(g, stages - 1, i);
        g->ends[i]  = part_ends(&last, p->desc, &p->sizes);
        g->rows[i]  = g->ends[i].head_rows;
        g->embed[i] = p->ask->file_first && rank_node[i] != rank_node[0]
                          ? part_embed_bytes(&first, p->desc)
                          : 0;
    }
    g->straddles = false;
    for (uint32_t s = 0; s < stages; s++) {
        const uint32_t *mine = rank_node + (size_t)s * shards;
        g->group[s]          = part_group_of(p->cluster, mine, shards);
        if (s > 0 && mine[0] == mine[-1]) g->straddles = true;
        for (uint32_t i = 0; i < shards; i++) {
            const part_node_t *node = &p->cluster->nodes[mine[i]];
            const uint32_t     rank = s * shards + i;
            g->speed[rank] =
                part_rank_speed(node, node->rank_membw > 0 ? active_of(g, rank) : node->ranks,
                                p->sizes.ternary_bits);
        }
    }
}

double part_grid_layer(const part_grid_t *g, uint32_t stage, uint32_t kind, const part_load_t *load,
                       double *exchanges)
{
    const part_problem_t *p                    = g->p;
    double                slowest[PART_HALVES] = {0};

    for (uint32_t i = 0; i < g->shards; i++)
        for (int half = 0; half < PART_HALVES; half++) {
            const double t = part_half_time(&g->layer[(size_t)kind * g->shards + i], half,
                                            g->speed[stage * g->shards + i], load);
            if (t > slowest[half]) slowest[half] = t;
        }
    *exchanges = part_exchanges(&g->group[stage], p->desc, &p->desc->layers[p->first[kind]], load);
    return slowest[0] + slowest[1];
}

part_fixed_t part_grid_fixed(const part_grid_t *g, uint32_t stage, const part_load_t *load)
{
    const part_problem_t *p    = g->p;
    const uint32_t       *mine = g->rank_node + (size_t)stage * g->shards;
    part_fixed_t          f    = {0};

    f.communication = part_input_time(p->cluster, p->desc, &g->group[stage],
                                      stage == 0 ? NULL : mine - g->shards, mine, g->shards, load);
    if (stage == 0) f.overhead = p->cluster->step;
    if (stage + 1 < g->stages) return f;
    for (uint32_t i = 0; i < g->shards; i++)
        f.head = fmax(f.head,
                      part_head_time(&g->ends[i], p->desc, g->speed[stage * g->shards + i], load));
    f.communication += part_logits_time(p->cluster, g->rank_node[0], mine, g->rows, g->shards,
                                        g->stages == 1, load);
    return f;
}

/* --- memory --- */

/* What a rank holds besides its layers' weights and cache, if it has layers of the kinds [begin,
 * end) runs through. */
static uint64_t base_bytes(const part_grid_t *g, uint32_t stage, uint32_t shard, uint32_t begin,
                           uint32_t end)
{
    const part_problem_t *p      = g->p;
    const part_place_t    place  = place_of(g, stage, shard);
    part_widest_t         widest = {0};
    uint64_t              bytes  = 0;
    uint32_t              seen   = UINT32_MAX;

    for (uint32_t l = begin; l < end; l++) {
        const uint32_t k = p->kind_of[l];
        if (k == seen) continue;
        seen = k;
        part_widest_add(&widest, p->desc, &p->desc->layers[p->first[k]],
                        &g->layer[(size_t)k * g->shards + shard]);
        if (p->n_kinds == 1) break;
    }
    if (stage == 0) bytes += g->embed[shard];
    if (place.last) bytes += g->ends[shard].dense + g->ends[shard].screen;
    return bytes + part_activations(&place, p->desc, &widest, &p->sizes);
}

static uint64_t layer_bytes(const part_grid_t *g, uint32_t kind, uint32_t shard)
{
    const part_layer_account_t *a = &g->layer[(size_t)kind * g->shards + shard];
    return a->ternary[0] + a->ternary[1] + a->dense[0] + a->dense[1] + a->kv;
}

uint64_t part_grid_bytes(const part_grid_t *g, uint32_t stage, uint32_t shard, uint32_t begin,
                         uint32_t end)
{
    uint64_t bytes = base_bytes(g, stage, shard, begin, end);

    if (g->p->n_kinds == 1) return bytes + (end - begin) * layer_bytes(g, 0, shard);
    for (uint32_t l = begin; l < end; l++) bytes += layer_bytes(g, g->p->kind_of[l], shard);
    return bytes;
}

bool part_grid_fits(const part_grid_t *g, const uint32_t *bounds, uint64_t *held)
{
    const part_cluster_t *c = g->p->cluster;

    for (uint32_t r = 0; r < g->stages * g->shards; r++) held[g->rank_node[r]] = 0;
    for (uint32_t r = 0; r < g->stages * g->shards; r++) {
        const uint32_t s    = r / g->shards;
        const uint32_t node = g->rank_node[r];
        held[node] +=
            part_grid_bytes(g, s, r % g->shards, bounds[s], bounds[s + 1]) + PART_RANK_OVERHEAD;
        if (held[node] > part_node_usable(&c->nodes[node])) return false;
    }
    return true;
}

/* Ranks [i, *end) of a stage lie on one node; the memory they may take there. */
static uint64_t run_budget(const part_grid_t *g, uint32_t stage, uint32_t i, uint32_t *end)
{
    const uint32_t    *mine = g->rank_node + (size_t)stage * g->shards;
    const part_node_t *node = &g->p->cluster->nodes[mine[i]];
    uint32_t           e    = i;

    while (e < g->shards && mine[e] == mine[i]) e++;
    *end = e;
    return e - i == node->ranks ? part_node_usable(node)
                                : part_node_usable(node) / node->ranks * (e - i);
}

/* The most layers that a stage holds, all alike. */
static uint32_t cap_of(const part_grid_t *g, uint32_t stage)
{
    uint64_t cap = g->p->desc->n_layers;

    for (uint32_t i = 0, end = 0; i < g->shards; i = end) {
        const uint64_t budget = run_budget(g, stage, i, &end);
        uint64_t       fixed = 0, each = 0;
        for (uint32_t k = i; k < end; k++) {
            fixed += base_bytes(g, stage, k, 0, 1) + PART_RANK_OVERHEAD;
            each += layer_bytes(g, 0, k);
        }
        if (fixed > budget) return 0;
        if (each > 0 && (budget - fixed) / each < cap) cap = (budget - fixed) / each;
    }
    return (uint32_t)cap;
}

static bool stage_fits(const part_grid_t *g, uint32_t stage, uint32_t begin, uint32_t end)
{
    for (uint32_t i = 0, next = 0; i < g->shards; i = next) {
        const uint64_t budget = run_budget(g, stage, i, &next);
        uint64_t       held   = 0;
        for (uint32_t k = i; k < next; k++)
            held += part_grid_bytes(g, stage, k, begin, end) + PART_RANK_OVERHEAD;
        if (held > budget) return false;
    }
    return true;
}

/* --- cuts --- */

static double fixed_sum(part_fixed_t f)
{
    return f.head + f.communication + f.overhead;
}

static void unlike_tables(part_grid_t *g, uint32_t stage, const part_load_t *load)
{
    const part_problem_t *p      = g->p;
    const uint32_t        L      = p->desc->n_layers;
    double               *before = g->before + (size_t)stage * (L + 1);
    uint32_t             *reach  = g->reach + (size_t)stage * (L + 1);
    uint32_t              end    = 0;

    before[0] = 0;
    for (uint32_t l = 0; l < L; l++) {
        double       exchanges = 0;
        const double t         = part_grid_layer(g, stage, p->kind_of[l], load, &exchanges);
        before[l + 1]          = before[l] + t + exchanges + p->cluster->layer;
    }
    for (uint32_t l = 0; l < L; l++) {
        if (end < l) end = l;
        while (end < L && stage_fits(g, stage, l, end + 1)) end++;
        reach[l] = end;
    }
}

static part_cuts_t cuts_of(const part_grid_t *g)
{
    const bool alike = g->p->n_kinds == 1;
    return (part_cuts_t){.ask      = g->p->ask,
                         .n_stages = g->stages,
                         .n_layers = g->p->desc->n_layers,
                         .fixed    = g->fixed,
                         .per      = g->per,
                         .cap      = g->cap,
                         .before   = alike ? NULL : g->before,
                         .reach    = g->reach,
                         .by_time  = g->by_time,
                         .best     = g->best,
                         .value    = g->value,
                         .from     = g->from};
}

bool part_grid_cut(part_grid_t *g, double enough, double *value, uint32_t *bounds)
{
    const part_load_t load  = part_load_of(g->p->ask, g->stages);
    const part_cuts_t cuts  = cuts_of(g);
    double            least = 0; /* no cut has a smaller sum */
    double            quick = INFINITY;

    for (uint32_t s = 0; s < g->stages; s++) {
        g->fixed[s] = fixed_sum(part_grid_fixed(g, s, &load));
        least += g->fixed[s];
        if (g->p->n_kinds > 1) continue;
        double exchanges = 0;
        g->per[s]        = part_grid_layer(g, s, 0, &load, &exchanges);
        g->per[s] += exchanges + g->p->cluster->layer;
        quick = fmin(quick, g->per[s]);
    }
    if (g->p->n_kinds == 1) {
        least += quick * g->p->desc->n_layers;
        if (part_cuts_value(g->p->ask, g->stages, least, least / g->stages) >= enough) return false;
        for (uint32_t s = 0; s < g->stages; s++) {
            g->cap[s] = cap_of(g, s);
            if (g->cap[s] == 0) return false;
        }
    } else {
        for (uint32_t s = 0; s < g->stages; s++) unlike_tables(g, s, &load);
    }
    return part_cuts_best(&cuts, enough, value, bounds);
}

double part_grid_value(const part_grid_t *g, const uint32_t *bounds)
{
    const part_load_t load = part_load_of(g->p->ask, g->stages);
    double            sum = 0, most = 0;

    for (uint32_t s = 0; s < g->stages; s++) {
        double   t    = fixed_sum(part_grid_fixed(g, s, &load));
        double   each = 0;
        uint32_t seen = UINT32_MAX;
        for (uint32_t l = bounds[s]; l < bounds[s + 1]; l++) {
            double exchanges = 0;
            if (g->p->kind_of[l] != seen)
                each = part_grid_layer(g, s, g->p->kind_of[l], &load, &exchanges) + exchanges +
                       g->p->cluster->layer;
            seen = g->p->kind_of[l];
            t += each;
        }
        sum += t;
        most = fmax(most, t);
    }
    return part_cuts_value(g->p->ask, g->stages, sum, most);
}
