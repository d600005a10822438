/* partition/choose.c: try layouts on a cluster until one fits. */
#include "partition/choose.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

uint64_t part_node_usable(const part_node_t *node)
{
    uint64_t reserve = node->mem_bytes / 20;
    if (reserve > PART_NODE_RESERVE) reserve = PART_NODE_RESERVE;
    return node->mem_bytes - reserve;
}

void part_choice_free(part_choice_t *choice)
{
    part_plan_free(&choice->plan);
    free(choice->memory);
    free(choice->node_bytes);
    memset(choice, 0, sizeof(*choice));
}

static bool is_auto(const char *text)
{
    return text == NULL || strcmp(text, "auto") == 0;
}

/* Fill in what the plan in *c means on the cluster. */
static base_status_t evaluate(const part_cluster_t *cluster, const model_desc_t *desc,
                              const part_ask_t *ask, part_choice_t *c, base_err_t *err)
{
    base_status_t st = BASE_OK;

    const part_sizes_t sizes = {.ternary_bits = ask->ternary_bits,
                                .n_ctx        = ask->n_ctx,
                                .n_seq        = ask->n_seq,
                                .n_batch      = ask->n_batch,
                                .n_out        = ask->n_out,
                                .screen       = ask->screen,
                                .type_k       = ask->type_k,
                                .type_v       = ask->type_v};
    c->n_ranks               = cluster->n_ranks;
    c->n_nodes               = cluster->n_nodes;
    st = base_alloc((void **)&c->memory, c->n_ranks, sizeof(*c->memory), "plan", err);
    if (st != BASE_OK) return st;
    st = base_alloc((void **)&c->node_bytes, c->n_nodes, sizeof(*c->node_bytes), "plan", err);
    if (st != BASE_OK) return st;
    uint32_t rank = 0;
    for (uint32_t n = 0; n < c->n_nodes; n++) {
        for (uint32_t i = 0; i < cluster->nodes[n].ranks; i++, rank++) {
            c->memory[rank] = part_memory(&c->plan, desc, rank, &sizes);
            c->node_bytes[n] += c->memory[rank].total + PART_RANK_OVERHEAD;
        }
        double share = (double)c->node_bytes[n] / (double)part_node_usable(&cluster->nodes[n]);
        if (share > c->worst_share) {
            c->worst_share = share;
            c->worst_node  = n;
        }
    }
    c->fits  = c->worst_share <= 1;
    c->bound = part_bound(cluster, desc, &c->plan, c->memory, ask);
    return BASE_OK;
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
    if (st != BASE_OK) goto out;
    st = evaluate(cluster, desc, ask, &c, err);
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

static void trial_note(part_trials_t *trials, const part_choice_t *c)
{
    part_tried_t t = {.stages      = c->plan.stages,
                      .shards      = c->plan.shards,
                      .fits        = c->fits,
                      .worst_share = c->worst_share,
                      .decode_tps  = c->bound.decode_tps};

    if (trials == NULL) return;
    for (uint32_t r = 0; r < c->n_ranks; r++)
        if (c->memory[r].total > t.rank_bytes_max) t.rank_bytes_max = c->memory[r].total;
    trials->list[trials->n++] = t;
}

base_status_t part_plan_choose(const part_cluster_t *cluster, const model_desc_t *desc,
                               const part_ask_t *ask, part_choice_t *choice, part_trials_t *trials,
                               base_err_t *err)
{
    uint32_t      stages[PART_TRIED_MAX];
    part_choice_t best = {0}, next = {0};
    base_status_t st = BASE_OK;

    if (trials != NULL) trials->n = 0;
    const bool asked =
        !is_auto(ask->layout) || ask->pipeline_parallel != 0 || ask->tensor_parallel != 0;
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
        if (!best.fits && (next.fits || next.worst_share < best.worst_share)) {
            part_choice_free(&best);
            best = next;
            next = (part_choice_t){0};
        }
        part_choice_free(&next);
    }
    *choice = best;
    best    = (part_choice_t){0};
out:
    part_choice_free(&best);
    part_choice_free(&next);
    return st;
}
