/* partition/choose.c: try layouts on a cluster until one fits. */
#include "partition/choose.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "partition/layout.h"
#include "partition/search.h"

uint64_t part_node_usable(const part_node_t *node)
{
    uint64_t reserve = node->mem_bytes / 20;
    if (reserve > PART_NODE_RESERVE) reserve = PART_NODE_RESERVE;
    return node->mem_bytes - reserve;
}

void part_choice_free(part_choice_t *choice)
{
    part_plan_free(&choice->plan);
    part_cluster_free(&choice->used);
    free(choice->order);
    free(choice->memory);
    free(choice->node_bytes);
    memset(choice, 0, sizeof(*choice));
}

static bool is_auto(const char *text)
{
    return text == NULL || strcmp(text, "auto") == 0;
}

bool part_layout_asked(const part_ask_t *ask)
{
    return !is_auto(ask->layout) || ask->pipeline_parallel != 0 || ask->tensor_parallel != 0;
}

/* The nodes that take part, by their places in the cluster. */
static base_status_t use_nodes(const part_cluster_t *cluster, const uint32_t *order, uint32_t n,
                               part_choice_t *c, base_err_t *err)
{
    base_status_t st = base_alloc((void **)&c->order, n, sizeof(*c->order), "plan", err);
    if (st != BASE_OK) return st;
    for (uint32_t i = 0; i < n; i++) c->order[i] = order == NULL ? i : order[i];
    return part_cluster_pick(cluster, c->order, n, &c->used, err);
}

/* Fill in what the plan in *c means on the nodes of *c. */
static base_status_t evaluate(const model_desc_t *desc, const part_ask_t *ask, part_choice_t *c,
                              base_err_t *err)
{
    const part_sizes_t sizes = part_sizes_of(ask);
    base_status_t      st    = BASE_OK;

    c->n_ranks = c->used.n_ranks;
    c->n_nodes = c->used.n_nodes;
    st         = base_alloc((void **)&c->memory, c->n_ranks, sizeof(*c->memory), "plan", err);
    if (st != BASE_OK) return st;
    st = base_alloc((void **)&c->node_bytes, c->n_nodes, sizeof(*c->node_bytes), "plan", err);
    if (st != BASE_OK) return st;
    uint32_t rank = 0;
    for (uint32_t n = 0; n < c->n_nodes; n++) {
        for (uint32_t i = 0; i < c->used.nodes[n].ranks; i++, rank++) {
            part_memory_t *m = &c->memory[rank];
            *m               = part_memory(&c->plan, desc, rank, &sizes);
            m->embed_held    = ask->file_first && n > 0 && m->embed > 0;
            if (m->embed_held) m->total += m->embed;
            c->node_bytes[n] += c->memory[rank].total + PART_RANK_OVERHEAD;
        }
        double share = (double)c->node_bytes[n] / (double)part_node_usable(&c->used.nodes[n]);
        if (share > c->worst_share) {
            c->worst_share = share;
            c->worst_node  = n;
        }
    }
    c->fits = c->worst_share <= 1;
    return part_time(&c->used, desc, &c->plan, ask, &c->time, err);
}

static uint64_t rank_usable(const part_cluster_t *cluster, uint32_t rank)
{
    const part_node_t *node = &cluster->nodes[part_cluster_node(cluster, rank)];
    return part_node_usable(node) / node->ranks;
}

/* Shares of the ranks by what their nodes hold, in thousandths of the largest. Empty text when the
 * layout takes no shares of single ranks, or all are alike. */
static void split_by_memory(const part_cluster_t *cluster, uint32_t stages, uint32_t shards,
                            char *text, size_t text_bytes)
{
    size_t   used  = 0;
    uint64_t least = UINT64_MAX, most = 0;

    text[0] = '\0';
    if (stages > 1 && shards > 1) return;
    for (uint32_t rank = 0; rank < cluster->n_ranks; rank++) {
        uint64_t mine = rank_usable(cluster, rank);
        if (mine < least) least = mine;
        if (mine > most) most = mine;
    }
    for (uint32_t rank = 0; rank < cluster->n_ranks && least < most; rank++) {
        double share = 1000.0 * (double)rank_usable(cluster, rank) / (double)most;
        int    n     = snprintf(text + used, text_bytes - used, "%s%.0f", rank == 0 ? "" : ",",
                         share < 1 ? 1 : share);
        if (n < 0 || (size_t)n >= text_bytes - used) {
            text[0] = '\0';
            return;
        }
        used += (size_t)n;
    }
}

/* One layout, with one split. */
static base_status_t try_split(const part_cluster_t *cluster, const model_desc_t *desc,
                               const part_ask_t *ask, const char *layout, const char *split,
                               part_choice_t *choice, base_err_t *err)
{
    part_choice_t c    = {0};
    part_wish_t   wish = {.n_ranks           = cluster->n_ranks,
                          .n_hosts           = cluster->n_nodes,
                          .layout            = layout,
                          .pipeline_parallel = ask->pipeline_parallel,
                          .tensor_parallel   = ask->tensor_parallel,
                          .split             = split};
    base_status_t st   = BASE_OK;

    st = part_plan_make(&wish, desc, &c.plan, err);
    if (st == BASE_OK) st = use_nodes(cluster, NULL, cluster->n_nodes, &c, err);
    if (st != BASE_OK) goto out;
    st = evaluate(desc, ask, &c, err);
    if (st != BASE_OK) goto out;
    (void)snprintf(c.split, sizeof(c.split), "%s", is_auto(split) ? "even" : split);
    *choice = c;
    c       = (part_choice_t){0};
out:
    part_choice_free(&c);
    return st;
}

/* One layout: even, and if that does not fit and nothing else was asked for, by memory. */
static base_status_t try_layout(const part_cluster_t *cluster, const model_desc_t *desc,
                                const part_ask_t *ask, const char *layout, part_choice_t *choice,
                                base_err_t *err)
{
    char          shares[PART_SPLIT_BYTES];
    part_choice_t other = {0};
    base_status_t st    = try_split(cluster, desc, ask, layout, ask->split, choice, err);

    if (st != BASE_OK || choice->fits || !is_auto(ask->split)) return st;
    split_by_memory(cluster, choice->plan.stages, choice->plan.shards, shares, sizeof(shares));
    if (shares[0] == '\0') return BASE_OK;
    st = try_split(cluster, desc, ask, layout, shares, &other, err);
    if (st == BASE_OK && other.worst_share < choice->worst_share) {
        part_choice_t worse = *choice;
        *choice             = other;
        other               = worse;
    }
    part_choice_free(&other);
    if (st != BASE_OK) part_choice_free(choice);
    return st;
}

/* Do all shards of every stage lie on one node? */
static bool shards_inside_nodes(const part_cluster_t *cluster, uint32_t stages, uint32_t shards)
{
    for (uint32_t s = 0; s < stages; s++) {
        if (part_cluster_node(cluster, s * shards) !=
            part_cluster_node(cluster, (s + 1) * shards - 1))
            return false;
    }
    return true;
}

/* The stages of all layouts, in order of preference; returns how many. */
static uint32_t layouts_in_order(const part_cluster_t *cluster, uint32_t n_layers,
                                 uint32_t automatic, uint32_t *stages)
{
    uint32_t n = 0;

    stages[n++] = automatic;
    for (uint32_t outside = 0; outside < 2; outside++) {
        for (uint32_t s = 1; s <= cluster->n_ranks && s <= n_layers; s++) {
            if (cluster->n_ranks % s != 0 || s == automatic) continue;
            if (shards_inside_nodes(cluster, s, cluster->n_ranks / s) == (outside != 0)) continue;
            base_assert(n < PART_TRIED_MAX);
            stages[n++] = s;
        }
    }
    return n;
}

static uint64_t fullest(const part_choice_t *c)
{
    uint64_t most = 0;
    for (uint32_t r = 0; r < c->n_ranks; r++)
        if (c->memory[r].total > most) most = c->memory[r].total;
    return most;
}

/* The last of a layout counts. */
static void trial_note(part_trials_t *trials, const part_choice_t *c)
{
    uint32_t at = 0;
    if (trials == NULL) return;
    while (at < trials->n &&
           (trials->list[at].stages != c->plan.stages || trials->list[at].shards != c->plan.shards))
        at++;
    if (at == PART_TRIED_MAX) return;
    if (at == trials->n) trials->n++;
    trials->list[at] = (part_tried_t){.stages         = c->plan.stages,
                                      .shards         = c->plan.shards,
                                      .n_nodes        = c->n_nodes,
                                      .fits           = c->fits,
                                      .worst_share    = c->worst_share,
                                      .decode_tps     = c->time.decode_tps,
                                      .value          = c->time.value,
                                      .rank_bytes_max = fullest(c)};
}

/* --- by value --- */

/* What --split has to say for these shares and layers. */
static base_status_t split_text(const model_desc_t *desc, part_choice_t *c, base_err_t *err)
{
    const part_plan_t *p    = &c->plan;
    part_plan_t        same = {0};
    bool               even = true, balanced = false;
    size_t             used = 0;
    base_status_t      st   = BASE_OK;

    for (uint32_t i = 1; i < p->shards; i++)
        even = even && p->shard_weight[i] == p->shard_weight[0];
    c->split[0] = '\0';
    for (uint32_t i = 0; i < p->shards && !even && used < sizeof(c->split); i++)
        used += (size_t)snprintf(c->split + used, sizeof(c->split) - used, "%s%u",
                                 i == 0 ? "" : ",", p->shard_weight[i]);
    /* The cut that plain shares bring need not be said. */
    char        layout[32];
    part_wish_t wish = {.n_ranks = c->used.n_ranks,
                        .layout  = part_layout_name(p, layout, sizeof(layout)),
                        .split   = even ? NULL : c->split};
    st               = part_plan_make(&wish, desc, &same, err);
    if (st != BASE_OK) return st;
    balanced =
        memcmp(same.stage_layer, p->stage_layer, (p->stages + 1) * sizeof(*p->stage_layer)) == 0;
    part_plan_free(&same);
    if (balanced && even) (void)snprintf(c->split, sizeof(c->split), "even");
    for (uint32_t s = 0; s < p->stages && !balanced && used < sizeof(c->split); s++)
        used += (size_t)snprintf(c->split + used, sizeof(c->split) - used, "%s%u",
                                 s == 0 ? "/" : ",", p->stage_layer[s + 1] - p->stage_layer[s]);
    base_assert(used < sizeof(c->split));
    return BASE_OK;
}

/* A plan of the search as a choice. */
static base_status_t found_take(const part_cluster_t *cluster, const model_desc_t *desc,
                                const part_ask_t *ask, const part_found_t *f, part_choice_t *choice,
                                base_err_t *err)
{
    part_choice_t c  = {0};
    base_status_t st = use_nodes(cluster, f->order, f->n_nodes, &c, err);

    c.plan.stages = f->stages;
    c.plan.shards = f->shards;
    if (st == BASE_OK)
        st = base_alloc((void **)&c.plan.stage_layer, f->stages + 1, sizeof(uint32_t), "plan", err);
    if (st == BASE_OK)
        st = base_alloc((void **)&c.plan.shard_weight, f->shards, sizeof(uint32_t), "plan", err);
    if (st != BASE_OK) goto out;
    memcpy(c.plan.stage_layer, f->bounds, (f->stages + 1) * sizeof(uint32_t));
    memcpy(c.plan.shard_weight, f->weights, f->shards * sizeof(uint32_t));
    st = evaluate(desc, ask, &c, err);
    if (st == BASE_OK) st = split_text(desc, &c, err);
    if (st != BASE_OK) goto out;
    base_assert(c.fits); /* search and account count the same bytes */
    *choice = c;
    c       = (part_choice_t){0};
out:
    part_choice_free(&c);
    return st;
}

static part_wish_t wish_of(const part_cluster_t *cluster, const part_ask_t *ask)
{
    return (part_wish_t){.n_ranks           = cluster->n_ranks,
                         .n_hosts           = cluster->n_nodes,
                         .layout            = ask->layout,
                         .pipeline_parallel = ask->pipeline_parallel,
                         .tensor_parallel   = ask->tensor_parallel};
}

/* --- by memory alone --- */

/* Speeds are not known, and no even layout fits: the search with all nodes alike fast, for shares
 * and layers that fit. *found_p: it has some, in *choice. */
static base_status_t choose_by_memory(const part_cluster_t *cluster, const model_desc_t *desc,
                                      const part_ask_t *ask, part_only_t only,
                                      part_choice_t *choice, bool *found_p, base_err_t *err)
{
    part_cluster_t like  = {0};
    part_found_t   found = {0};
    part_ask_t     all   = *ask;
    part_choice_t  c     = {0};
    uint32_t       order[LIMIT_RANKS];
    base_status_t  st = BASE_OK;

    for (uint32_t i = 0; i < cluster->n_nodes; i++) order[i] = i;
    st = part_cluster_pick(cluster, order, cluster->n_nodes, &like, err);
    if (st != BASE_OK) return st;
    for (uint32_t i = 0; i < like.n_nodes; i++) {
        like.nodes[i].membw = 1e10 * like.nodes[i].ranks;
        like.nodes[i].ops   = 1e12 * like.nodes[i].ranks;
    }
    like.latency  = 1e-5;
    like.net      = 1e9;
    all.all_nodes = true; /* none is known to be slow */

    st = part_search(&like, desc, &all, only, &found, NULL, err);
    if (st == BASE_OK && found.value < INFINITY) {
        st       = found_take(cluster, desc, ask, &found, &c, err);
        *found_p = st == BASE_OK;
        if (st == BASE_OK) *choice = c;
    }
    part_found_free(&found);
    part_cluster_free(&like);
    return st;
}

/* --- by order of preference --- */

/* What fits before what does not; then what is fast, if that is known, or else what came first. */
static bool better(const part_choice_t *a, const part_choice_t *b, bool known)
{
    if (!b->fits) return a->fits || a->worst_share < b->worst_share;
    return known && a->fits && a->time.value < b->time.value;
}

static base_status_t choose_first(const part_cluster_t *cluster, const model_desc_t *desc,
                                  const part_ask_t *ask, bool asked, part_choice_t *choice,
                                  part_trials_t *trials, base_err_t *err)
{
    const bool    known = part_speeds_known(cluster);
    uint32_t      stages[PART_TRIED_MAX];
    part_choice_t best = {0}, next = {0};
    base_status_t st = BASE_OK;

    st = try_layout(cluster, desc, ask, is_auto(ask->layout) ? NULL : ask->layout, &best, err);
    if (st != BASE_OK) goto out;
    trial_note(trials, &best);
    uint32_t n = asked ? 1 : layouts_in_order(cluster, desc->n_layers, best.plan.stages, stages);
    for (uint32_t i = 1; i < n; i++) {
        char layout[32];
        (void)snprintf(layout, sizeof(layout), "%ux%u", stages[i], cluster->n_ranks / stages[i]);
        /* Shares written for one layout need not fit another: such a one is passed over. */
        st = try_layout(cluster, desc, ask, layout, &next, err);
        if (st == BASE_ERR_USAGE) {
            st = BASE_OK;
            continue;
        }
        if (st != BASE_OK) goto out;
        trial_note(trials, &next);
        if (better(&next, &best, known)) {
            part_choice_free(&best);
            best = next;
            next = (part_choice_t){0};
        }
        part_choice_free(&next);
    }
    if (!best.fits && is_auto(ask->split) && !known) {
        const part_wish_t wish = wish_of(cluster, ask);
        part_only_t       only = {0};
        bool              is   = false;
        if (asked) st = part_layout_choose(&wish, desc->n_layers, &only.stages, &only.shards, err);
        if (st == BASE_OK) st = choose_by_memory(cluster, desc, ask, only, &next, &is, err);
        if (st != BASE_OK) goto out;
        if (is) {
            trial_note(trials, &next);
            part_choice_free(&best);
            best = next;
            next = (part_choice_t){0};
        }
    }
    *choice = best;
    best    = (part_choice_t){0};
out:
    part_choice_free(&best);
    part_choice_free(&next);
    return st;
}

/* --- a layout that is asked for --- */

/* The nodes of most memory, in the cluster's order, that have so many ranks together; 0: none
 * have. */
static uint32_t largest_nodes(const part_cluster_t *cluster, uint32_t wanted, uint32_t *order)
{
    bool     in[LIMIT_RANKS] = {false};
    uint32_t n               = 0;

    while (wanted > 0) {
        uint32_t best = cluster->n_nodes;
        for (uint32_t i = 0; i < cluster->n_nodes; i++) {
            const part_node_t *node = &cluster->nodes[i];
            if (in[i] || node->ranks > wanted) continue;
            if (best == cluster->n_nodes || node->mem_bytes > cluster->nodes[best].mem_bytes)
                best = i;
        }
        if (best == cluster->n_nodes) return 0;
        in[best] = true;
        wanted -= cluster->nodes[best].ranks;
    }
    for (uint32_t i = 0; i < cluster->n_nodes; i++)
        if (in[i]) order[n++] = i;
    return n;
}

/* By order of preference, of ranks fewer than the cluster's: on the nodes of most memory. */
static base_status_t choose_of_largest(const part_cluster_t *cluster, const model_desc_t *desc,
                                       const part_ask_t *ask, uint32_t n_ranks,
                                       part_choice_t *choice, part_trials_t *trials,
                                       base_err_t *err)
{
    uint32_t       order[LIMIT_RANKS];
    part_cluster_t some = {0};
    const uint32_t n    = largest_nodes(cluster, n_ranks, order);
    base_status_t  st   = BASE_OK;

    if (n == 0)
        return base_fail(err, BASE_ERR_USAGE,
                         "layout of %u rank%s: nodes take part with all their ranks (%s has %u), "
                         "and no whole nodes of the cluster make %u together",
                         n_ranks, base_plural(n_ranks), cluster->nodes[0].name,
                         cluster->nodes[0].ranks, n_ranks);
    st = part_cluster_pick(cluster, order, n, &some, err);
    if (st == BASE_OK) st = choose_first(&some, desc, ask, true, choice, trials, err);
    for (uint32_t i = 0; st == BASE_OK && i < choice->n_nodes; i++)
        choice->order[i] = order[choice->order[i]];
    part_cluster_free(&some);
    return st;
}

base_status_t part_plan_choose(const part_cluster_t *cluster, const model_desc_t *desc,
                               const part_ask_t *ask, part_choice_t *choice, part_trials_t *trials,
                               base_err_t *err)
{
    const bool     asked   = part_layout_asked(ask);
    part_wish_t    wish    = wish_of(cluster, ask);
    const uint32_t said    = asked && !ask->all_nodes ? part_layout_ranks(&wish) : 0;
    const bool     fewer   = said != 0 && said < cluster->n_ranks;
    part_only_t    only    = {0};
    part_found_t   found   = {0};
    part_plan_t    plan    = {0};
    base_status_t  st      = BASE_OK;
    const bool     by_time = part_speeds_known(cluster) && is_auto(ask->split);

    if (trials != NULL) memset(trials, 0, sizeof(*trials));
    if (fewer) wish.n_ranks = said;
    /* Says also what is wrong with a model that cannot be cut. */
    if (by_time) st = part_plan_make(&wish, desc, &plan, err);
    part_plan_free(&plan);
    if (by_time && st == BASE_OK && asked)
        st = part_layout_choose(&wish, desc->n_layers, &only.stages, &only.shards, err);
    if (by_time && st == BASE_OK) st = part_search(cluster, desc, ask, only, &found, trials, err);
    if (st != BASE_OK) goto out;
    if (by_time && found.value < INFINITY) {
        if (trials != NULL) trials->by_value = true;
        st = found_take(cluster, desc, ask, &found, choice, err);
        goto out;
    }
    if (trials != NULL) memset(trials, 0, sizeof(*trials));
    st = fewer ? choose_of_largest(cluster, desc, ask, said, choice, trials, err)
               : choose_first(cluster, desc, ask, asked, choice, trials, err);
out:
    part_found_free(&found);
    return st;
}
