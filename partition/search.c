/* partition/search.c: nodes, orders, layouts and shares compared by predicted time. */
#include "partition/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

enum {
    CUTS_TRIED   = 100000, /* of ranks of one node in several stages */
    COUNTS_ALL   = 32,     /* up to so many nodes every number of them is tried */
    REFINEMENTS  = 12,
    WEIGHT_WHOLE = 10000, /* shares by speed and memory, of the largest */
    NEAR_COUNTS  = 4,
};

uint32_t part_share_parts(uint32_t shards)
{
    static const uint32_t parts[PART_EXACT_RANKS + 1] = {0, 1, 48, 24, 16, 12, 12};
    return shards <= PART_EXACT_RANKS ? parts[shards] : 0;
}

typedef struct {
    part_problem_t p;
    part_grid_t    grid;
    part_found_t  *found;
    part_trials_t *trials;
    part_only_t    only;
    bool           cuts_left; /* some cut was not tried */
    uint64_t       plans;
    /* Room. */
    uint32_t *order, *rank_node, *weights, *bounds, *sorted;
    uint64_t *held;
} search_t;

/* --- one plan --- */

/* What the plan at hand holds. */
static part_tried_t tried_of(const search_t *s, uint32_t n_nodes, double value)
{
    const part_grid_t *g = &s->grid;
    part_tried_t       t = {.stages = g->stages, .shards = g->shards, .n_nodes = n_nodes};

    t.fits  = true;
    t.value = value;
    for (uint32_t i = 0; i < n_nodes; i++) s->held[s->order[i]] = 0;
    for (uint32_t r = 0; r < g->stages * g->shards; r++) {
        const uint32_t at = r / g->shards;
        const uint64_t bytes =
            part_grid_bytes(g, at, r % g->shards, s->bounds[at], s->bounds[at + 1]);
        const uint32_t node   = g->rank_node[r];
        const double   usable = (double)part_node_usable(&s->p.cluster->nodes[node]);
        s->held[node] += bytes + PART_RANK_OVERHEAD;
        if (bytes > t.rank_bytes_max) t.rank_bytes_max = bytes;
        t.worst_share = fmax(t.worst_share, (double)s->held[node] / usable);
    }
    return t;
}

static void trial_note(search_t *s, uint32_t n_nodes, double value)
{
    part_trials_t *t  = s->trials;
    uint32_t       at = 0;

    if (t == NULL) return;
    const part_tried_t it = tried_of(s, n_nodes, value);
    while (at < t->n && (t->list[at].stages != it.stages || t->list[at].shards != it.shards ||
                         t->list[at].n_nodes != n_nodes))
        at++;
    if (at < t->n && t->list[at].value <= value) return;
    if (at == t->n && t->n < PART_TRIED_MAX) t->n++;
    if (at == PART_TRIED_MAX && t->list[--at].value <= value) return;
    while (at > 0 && t->list[at - 1].value > value) {
        t->list[at] = t->list[at - 1];
        at--;
    }
    t->list[at] = it;
}

/* What a new plan must beat to be of interest. */
static double enough_of(const search_t *s, uint32_t n_nodes)
{
    const part_trials_t *t = s->trials;
    if (t == NULL) return s->found->value;
    for (uint32_t i = 0; i < t->n; i++)
        if (t->list[i].stages == s->grid.stages && t->list[i].shards == s->grid.shards &&
            t->list[i].n_nodes == n_nodes)
            return t->list[i].value;
    return INFINITY;
}

static void take(search_t *s, uint32_t n_nodes, double value)
{
    part_found_t *f = s->found;

    trial_note(s, n_nodes, value);
    if (value >= f->value) return;
    f->value   = value;
    f->n_nodes = n_nodes;
    f->stages  = s->grid.stages;
    f->shards  = s->grid.shards;
    memcpy(f->order, s->order, n_nodes * sizeof(*f->order));
    memcpy(f->weights, s->weights, f->shards * sizeof(*f->weights));
    memcpy(f->bounds, s->bounds, (f->stages + 1) * sizeof(*f->bounds));
}

static double cuts_count(uint32_t n_layers, uint32_t n_stages)
{
    double n = 1;
    for (uint32_t i = 1; i < n_stages; i++) n = n * (n_layers - i) / i;
    return n;
}

/* Every cut, where ranks of one node lie in several stages and its memory may go to either. */
static void try_cuts(search_t *s, uint32_t n_nodes, uint32_t stage)
{
    const uint32_t L = s->p.desc->n_layers, left = s->grid.stages - stage - 1;

    if (left == 0) {
        s->bounds[stage + 1] = L;
        if (!part_grid_fits(&s->grid, s->bounds, s->held)) return;
        take(s, n_nodes, part_grid_value(&s->grid, s->bounds));
        return;
    }
    for (uint32_t end = s->bounds[stage] + 1; end + left <= L; end++) {
        s->bounds[stage + 1] = end;
        try_cuts(s, n_nodes, stage + 1);
    }
}

/* The order, layout and weights at hand. */
static void try_weights(search_t *s, uint32_t n_nodes, uint32_t stages, uint32_t shards)
{
    double value = 0;

    s->plans++;
    part_grid_set(&s->grid, s->rank_node, stages, shards, s->weights);
    if (part_grid_cut(&s->grid, enough_of(s, n_nodes), &value, s->bounds)) take(s, n_nodes, value);
    if (!s->grid.straddles || stages == 1) return;
    if (cuts_count(s->p.desc->n_layers, stages) > CUTS_TRIED ||
        s->p.cluster->n_ranks > PART_EXACT_RANKS) {
        s->cuts_left = true;
        return;
    }
    s->bounds[0] = 0;
    try_cuts(s, n_nodes, 0);
}

/* --- shares --- */

static void weights_even(search_t *s, uint32_t shards)
{
    for (uint32_t i = 0; i < shards; i++) s->weights[i] = 1;
}

static double rank_memory(const search_t *s, uint32_t rank)
{
    const part_node_t *n = &s->p.cluster->nodes[s->rank_node[rank]];
    return (double)part_node_usable(n) / n->ranks;
}

static double rank_rate(const search_t *s, uint32_t rank)
{
    const part_node_t *n     = &s->p.cluster->nodes[s->rank_node[rank]];
    const part_speed_t speed = part_rank_speed(n, n->ranks, s->p.sizes.ternary_bits);
    return s->p.ask->optimize == PART_FOR_PREFILL && speed.ops > 0 ? speed.ops : speed.bw;
}

/* Shares as what the slowest or smallest rank of each has over the stages. */
static bool weights_by(search_t *s, uint32_t stages, uint32_t shards,
                       double (*of)(const search_t *s, uint32_t rank))
{
    double most = 0;
    bool   even = true;

    for (uint32_t side = 0; side < 2; side++)
        for (uint32_t i = 0; i < shards; i++) {
            double least = INFINITY;
            for (uint32_t k = 0; k < stages; k++) least = fmin(least, of(s, k * shards + i));
            if (side == 0) most = fmax(most, least);
            if (side == 1) s->weights[i] = (uint32_t)fmax(1, round(least / most * WEIGHT_WHOLE));
            if (side == 1) even = even && s->weights[i] == s->weights[0];
        }
    return !even;
}

/* Move shares from shards that are slow or too full to the others, and try again. */
static void refine(search_t *s, uint32_t n_nodes, uint32_t stages, uint32_t shards)
{
    const part_load_t load = part_load_of(s->p.ask, stages);
    const uint32_t    L    = s->p.desc->n_layers;

    for (uint32_t k0 = 0; k0 < REFINEMENTS; k0++) {
        double mean = 0, most = 0;
        double scale[LIMIT_RANKS];
        for (uint32_t i = 0; i < shards; i++) {
            double slow = 0, full = 0;
            for (uint32_t k = 0; k < stages; k++) {
                const uint32_t              r    = k * shards + i;
                const uint32_t              n    = L / stages + (k < L % stages);
                const part_node_t          *node = &s->p.cluster->nodes[s->rank_node[r]];
                const part_layer_account_t *a    = &s->grid.layer[i];
                const double t = part_half_time(a, PART_HALF_ATTENTION, s->grid.speed[r], &load) +
                                 part_half_time(a, PART_HALF_FFN, s->grid.speed[r], &load);
                const double bytes = (double)part_grid_bytes(&s->grid, k, i, 0, n < 1 ? 1 : n);
                const double room  = (double)part_node_usable(node) / node->ranks;
                slow               = fmax(slow, t);
                full               = fmax(full, (bytes + PART_RANK_OVERHEAD) / room);
            }
            scale[i] = fmin(1 / slow, full > 1 ? 1 / (full * slow * 1.02) : INFINITY);
            mean += 1 / scale[i] / shards;
        }
        for (uint32_t i = 0; i < shards; i++) {
            scale[i] = s->weights[i] * sqrt(scale[i] * mean);
            most     = fmax(most, scale[i]);
        }
        for (uint32_t i = 0; i < shards; i++)
            s->weights[i] = (uint32_t)fmax(1, round(scale[i] / most * WEIGHT_WHOLE));
        try_weights(s, n_nodes, stages, shards);
    }
}

/* All shares of `parts` parts: left of them for shards at and behind `at`. */
static void try_parts(search_t *s, uint32_t n_nodes, uint32_t stages, uint32_t shards, uint32_t at,
                      uint32_t left)
{
    if (at + 1 == shards) {
        s->weights[at] = left;
        try_weights(s, n_nodes, stages, shards);
        return;
    }
    for (uint32_t w = 1; w + (shards - at - 1) <= left; w++) {
        s->weights[at] = w;
        try_parts(s, n_nodes, stages, shards, at + 1, left - w);
    }
}

static void try_layout(search_t *s, uint32_t n_nodes, uint32_t stages, uint32_t shards, bool alike,
                       bool all_shares)
{
    weights_even(s, shards);
    try_weights(s, n_nodes, stages, shards);
    if (shards == 1) return;
    if (!alike) {
        if (weights_by(s, stages, shards, rank_memory)) try_weights(s, n_nodes, stages, shards);
        if (weights_by(s, stages, shards, rank_rate)) try_weights(s, n_nodes, stages, shards);
        refine(s, n_nodes, stages, shards);
    }
    if (all_shares && part_share_parts(shards) > 0)
        try_parts(s, n_nodes, stages, shards, 0, part_share_parts(shards));
}

/* --- orders --- */

static uint32_t ranks_laid(search_t *s, uint32_t n_nodes)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_nodes; i++)
        for (uint32_t k = 0; k < s->p.cluster->nodes[s->order[i]].ranks; k++)
            s->rank_node[n++] = s->order[i];
    return n;
}

static bool nodes_alike(const part_cluster_t *c, uint32_t a, uint32_t b)
{
    const part_node_t *x = &c->nodes[a], *y = &c->nodes[b];
    return c->pair_latency == NULL && c->pair_net == NULL && x->mem_bytes == y->mem_bytes &&
           x->ranks == y->ranks && x->membw == y->membw && x->rank_membw == y->rank_membw &&
           x->t3_bw == y->t3_bw && x->dense_bw == y->dense_bw && x->screen_bw == y->screen_bw &&
           memcmp(&x->few, &y->few, sizeof(x->few)) == 0 &&
           part_rank_speed(x, 1, 2).ops == part_rank_speed(y, 1, 2).ops &&
           x->intra_latency == y->intra_latency && x->intra_bw == y->intra_bw;
}

/* The first node of its kind. */
static uint32_t kind_of(const part_cluster_t *c, uint32_t node)
{
    uint32_t i = 0;
    while (i < node && !nodes_alike(c, i, node)) i++;
    return i;
}

/* Nodes that lie wholly in one stage: kind by kind, or the same plan comes twice. The first node
 * is like no other where it alone has the file, unless the embedding is the head of all ranks. */
static bool canonical(const search_t *s, uint32_t n_nodes, uint32_t stages, uint32_t shards)
{
    const bool unlike = s->p.ask->file_first && !(s->p.desc->tied && stages == 1);
    uint32_t   begin  = 0;
    for (uint32_t i = 0; i + 1 < n_nodes; i++) {
        const uint32_t middle = begin + s->p.cluster->nodes[s->order[i]].ranks;
        const uint32_t end    = middle + s->p.cluster->nodes[s->order[i + 1]].ranks;
        if (begin / shards == (end - 1) / shards && !(i == 0 && unlike) &&
            kind_of(s->p.cluster, s->order[i]) > kind_of(s->p.cluster, s->order[i + 1]))
            return false;
        begin = middle;
    }
    return true;
}

static void try_order(search_t *s, uint32_t n_nodes, bool alike, bool exact)
{
    const uint32_t n = ranks_laid(s, n_nodes);

    for (uint32_t shards = 1; shards <= n; shards++) {
        if (n % shards != 0 || n / shards > s->p.desc->n_layers) continue;
        if (s->only.shards != 0 && (shards != s->only.shards || n / shards != s->only.stages))
            continue;
        if (exact && !s->p.ask->all_nodes && !canonical(s, n_nodes, n / shards, shards))
            continue; /* it comes in another order; where one order is given there is none */
        try_layout(s, n_nodes, n / shards, shards, alike, exact);
    }
}

/* Every order of every set. Of like nodes that are free only the first goes on. */
static void every_order(search_t *s, uint32_t n_nodes, uint32_t used)
{
    const part_cluster_t *c = s->p.cluster;

    if (n_nodes > 0) try_order(s, n_nodes, false, true);
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        bool first = (used >> i & 1) == 0;
        for (uint32_t k = 0; k < i && first; k++)
            first = (used >> k & 1) != 0 || !nodes_alike(c, k, i);
        if (!first) continue;
        s->order[n_nodes] = i;
        every_order(s, n_nodes + 1, used | 1u << i);
    }
}

/* --- many nodes --- */

static double node_rate(const search_t *s, uint32_t node)
{
    const part_node_t *n     = &s->p.cluster->nodes[node];
    const part_speed_t speed = part_rank_speed(n, n->ranks, s->p.sizes.ternary_bits);
    return (s->p.ask->optimize == PART_FOR_PREFILL && speed.ops > 0 ? speed.ops : speed.bw) *
           n->ranks;
}

static double node_memory(const search_t *s, uint32_t node)
{
    return (double)s->p.cluster->nodes[node].mem_bytes;
}

typedef double (*node_key_fn)(const search_t *s, uint32_t node);

typedef struct {
    double   key;
    uint32_t node;
} keyed_t;

static int by_key(const void *a, const void *b)
{
    const keyed_t *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return x->node < y->node ? -1 : 1;
}

static int by_node(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void sort_nodes(search_t *s, node_key_fn key, uint32_t *out)
{
    static const uint32_t limit = LIMIT_RANKS;
    const uint32_t        n     = s->p.cluster->n_nodes;
    keyed_t               list[LIMIT_RANKS];

    base_assert(n <= limit);
    for (uint32_t i = 0; i < n; i++) list[i] = (keyed_t){key(s, i), i};
    qsort(list, n, sizeof(*list), by_key);
    for (uint32_t i = 0; i < n; i++) out[i] = list[i].node;
}

/* The n nodes best by a key: as the cluster has them, and where they differ slow before fast (the
 * last stage has the head) and fast before slow. */
static void try_count(search_t *s, uint32_t n, bool alike)
{
    memcpy(s->order, s->sorted, n * sizeof(*s->order));
    if (alike) {
        try_order(s, n, true, false);
        return;
    }
    try_order(s, n, false, false);
    for (uint32_t i = 0; i < n; i++) s->order[i] = s->sorted[n - 1 - i];
    try_order(s, n, false, false);
    memcpy(s->order, s->sorted, n * sizeof(*s->order));
    qsort(s->order, n, sizeof(*s->order), by_node);
    try_order(s, n, false, false);
}

/* The best by a key that make the ranks of the one layout to look at. */
static void try_asked(search_t *s, bool alike)
{
    const uint32_t wanted = s->only.stages * s->only.shards;
    uint32_t       n = 0, ranks = 0;

    for (uint32_t i = 0; i < s->p.cluster->n_nodes; i++) {
        const uint32_t more = s->p.cluster->nodes[s->sorted[i]].ranks;
        if (ranks + more > wanted) continue;
        ranks += more;
        s->sorted[n++] = s->sorted[i];
    }
    if (ranks == wanted) try_count(s, n, alike);
}

static void try_counts(search_t *s, node_key_fn key, bool alike)
{
    const uint32_t all = s->p.cluster->n_nodes;

    sort_nodes(s, key, s->sorted);
    if (s->only.shards != 0) {
        try_asked(s, alike);
        return;
    }
    const double before = s->found->value;
    for (uint32_t n = all; n >= 1;) {
        try_count(s, n, alike);
        const uint32_t next = all <= COUNTS_ALL ? n - 1 : n * 5 / 6;
        n                   = next < n ? next : n - 1;
    }
    if (all <= COUNTS_ALL || s->found->value >= before) return;
    /* Between the numbers tried: near the best one, and down to where it stops to fit. */
    const uint32_t best = s->found->n_nodes;
    const uint32_t low  = best * 5 / 6 > 0 ? best * 5 / 6 : 1;
    const uint32_t step = (best - low) / NEAR_COUNTS + 1;
    for (uint32_t n = low; n < best + step * NEAR_COUNTS && n <= all; n += step)
        try_count(s, n, alike);
}

static void run(search_t *s)
{
    const part_cluster_t *c     = s->p.cluster;
    bool                  alike = true;

    for (uint32_t i = 1; i < c->n_nodes && alike; i++) alike = nodes_alike(c, 0, i);
    for (uint32_t i = 0; i < c->n_nodes; i++) s->order[i] = i;
    if (s->p.ask->all_nodes) {
        try_order(s, c->n_nodes, alike, c->n_ranks <= PART_EXACT_RANKS);
    } else if (c->n_ranks <= PART_EXACT_RANKS) {
        every_order(s, 0, 0);
    } else {
        try_counts(s, node_rate, alike);
        if (!alike) try_counts(s, node_memory, false);
    }
    if (s->trials == NULL) return;
    s->trials->exact = c->n_ranks <= PART_EXACT_RANKS && !s->cuts_left;
    s->trials->plans = s->plans;
}

base_status_t part_search(const part_cluster_t *cluster, const model_desc_t *desc,
                          const part_ask_t *ask, part_only_t only, part_found_t *found,
                          part_trials_t *trials, base_err_t *err)
{
    const uint32_t n  = cluster->n_ranks;
    search_t       s  = {.found = found, .trials = trials, .only = only};
    base_status_t  st = BASE_OK;

    memset(found, 0, sizeof(*found));
    found->value = INFINITY;
    const struct {
        void **at;
        size_t n, size;
    } rooms[] = {
        {(void **)&s.order, n, sizeof(uint32_t)},
        {(void **)&s.rank_node, n, sizeof(uint32_t)},
        {(void **)&s.weights, n, sizeof(uint32_t)},
        {(void **)&s.bounds, n + 1, sizeof(uint32_t)},
        {(void **)&s.sorted, n, sizeof(uint32_t)},
        {(void **)&s.held, n, sizeof(uint64_t)},
        {(void **)&found->order, n, sizeof(uint32_t)},
        {(void **)&found->weights, n, sizeof(uint32_t)},
        {(void **)&found->bounds, n + 1, sizeof(uint32_t)},
    };
    for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]) && st == BASE_OK; i++)
        st = base_alloc(rooms[i].at, rooms[i].n, rooms[i].size, "plan", err);
    if (st == BASE_OK) st = part_problem_make(cluster, desc, ask, &s.p, err);
    if (st == BASE_OK) st = part_grid_create(&s.p, n, &s.grid, err);
    if (st == BASE_OK) run(&s);
    part_grid_free(&s.grid);
    part_problem_free(&s.p);
    for (size_t i = 0; i < 6; i++) free(*rooms[i].at);
    if (st != BASE_OK) part_found_free(found);
    return st;
}

void part_found_free(part_found_t *found)
{
    free(found->order);
    free(found->weights);
    free(found->bounds);
    memset(found, 0, sizeof(*found));
}
