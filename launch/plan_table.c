/* launch/plan_table.c: a plan for a person: the ranks, the speed, the command, and why. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "launch/output.h"
#include "launch/plan_report.h"

enum { EXPLAINED_MAX = 16, HOSTS_PRINTED = 64, RANKS_PRINTED = 64, LEFT_OUT_PRINTED = 8 };

static const double GIB = 1024.0 * 1024 * 1024;

int plan_digits(double v)
{
    return v >= 100 ? 0 : v >= 10 ? 1 : v >= 1 ? 2 : 3;
}

void plan_say_misfit(const plan_run_t *r)
{
    const part_choice_t *c    = &r->choice;
    const part_node_t   *node = &c->used.nodes[c->worst_node];
    char                 layout[32], ctx[32] = "", nodes[128] = "", change[200] = "";

    if (r->advice_ctx != 0) (void)snprintf(ctx, sizeof(ctx), "-c %u", r->advice_ctx);
    if (r->advice_nodes != 0)
        (void)snprintf(nodes, sizeof(nodes), "; %u node%s like %s would do", r->advice_nodes,
                       base_plural(r->advice_nodes), r->cluster.nodes[0].name);
    (void)snprintf(change, sizeof(change), "%s%s%s%s%s", ctx,
                   r->advice_pack && ctx[0] != '\0' ? " or " : "",
                   r->advice_pack ? "--pack t3" : "",
                   r->advice_cache && (r->advice_pack || ctx[0] != '\0') ? " or " : "",
                   r->advice_cache ? "-ctk f16 -ctv f16" : "");
    base_log(
        BASE_LOG_ERROR,
        "%s does not fit: layout %s, split %.60s, needs %.2f GiB on %s, which has %.2f of %.2f "
        "GiB to give%s%s%s",
        r->desc.name, part_layout_name(&c->plan, layout, sizeof(layout)), c->split,
        (double)c->node_bytes[c->worst_node] / GIB, node->name,
        (double)part_node_usable(node) / GIB, (double)node->mem_bytes / GIB,
        change[0] != '\0' ? "; it fits with " : "", change, nodes);
}

static void print_rank(const plan_run_t *r, uint32_t rank)
{
    const part_choice_t *c      = &r->choice;
    const uint32_t       stage  = rank / c->plan.shards;
    const uint32_t       node   = part_cluster_node(&c->used, rank);
    const part_memory_t *m      = &c->memory[rank];
    const part_range_t   layers = part_stage_layers(&c->plan, stage);
    const part_slice_t   s =
        part_slice(&c->plan, &r->desc.layers[layers.begin], rank % c->plan.shards);
    const double usable = (double)part_node_usable(&c->used.nodes[node]);
    const double share  = (double)(m->total + PART_RANK_OVERHEAD) / usable;
    char         span[3][32];

    (void)snprintf(span[0], sizeof(span[0]), "%u-%u", layers.begin, layers.end - 1);
    (void)snprintf(span[1], sizeof(span[1]), "%u/%u", s.q.end - s.q.begin, s.kv.end - s.kv.begin);
    (void)snprintf(span[2], sizeof(span[2]), "%u", s.ffn.end - s.ffn.begin);
    const uint64_t dense = m->dense + m->screen + (m->embed_held ? m->embed : 0);
    (void)printf("%4u  %-12s %5u  %-9s %-8s %6s %8.2f %8.2f %8.2f %8.2f %8.2f %5.0f %%  %s\n", rank,
                 c->used.nodes[node].name, stage, span[0], span[1], span[2],
                 (double)m->ternary / GIB, (double)dense / GIB, (double)m->kv / GIB,
                 (double)m->activations / GIB, (double)m->total / GIB, share * 100,
                 (double)c->node_bytes[node] <= usable ? "yes" : "NO");
}

/* Rows of the embedding that ranks hold because their node has no file. */
static void print_embedding(const plan_run_t *r)
{
    const part_choice_t *c    = &r->choice;
    uint64_t             most = 0;

    for (uint32_t rank = 0; rank < c->n_ranks; rank++)
        if (c->memory[rank].embed_held && c->memory[rank].embed > most)
            most = c->memory[rank].embed;
    if (most == 0) return;
    (void)printf("the model's file is on %s alone: other ranks of the first stage hold rows of the "
                 "embedding (up to %.2f GiB, under dense); with --files all none does\n",
                 c->used.nodes[0].name, (double)most / GIB);
}

/* --- the speed --- */

static void print_time(const plan_run_t *r)
{
    const part_time_t *t = &r->choice.time;

    if (!t->known) {
        (void)printf("no prediction of speed: the memory bandwidth of the nodes is not given\n");
        return;
    }
    (void)printf("predicted (from the figures given, not a measurement): decode %.*f tokens/s, "
                 "prompt of %u %.*f tokens/s",
                 plan_digits(t->decode_tps), t->decode_tps, r->ask.n_prompt,
                 plan_digits(t->prefill_tps), t->prefill_tps);
    if (r->ask.n_seq > 1)
        (void)printf(", %u sequences at once %.*f tokens/s", r->ask.n_seq,
                     plan_digits(t->throughput_tps), t->throughput_tps);
    (void)printf("\n  a token takes %.2f ms of weights, %.2f ms of head, %.2f ms of network",
                 t->weights * 1e3, t->head * 1e3, t->communication * 1e3);
    if (t->overhead > 0) (void)printf(", %.2f ms besides", t->overhead * 1e3);
    if (r->ask.depth > 0)
        (void)printf(", %.2f ms of KV cache at %u tokens", t->attention * 1e3, r->ask.depth);
    (void)printf("; %.2f ms of KV cache when that is full\n", t->attention_full * 1e3);
    if (!t->comm_known)
        (void)printf("  the network is left out: its latency and bandwidth are not both given\n");
    for (uint32_t i = 0; i < r->choice.n_nodes; i++)
        if (r->choice.used.nodes[i].ops <= 0 && r->choice.used.nodes[i].cores == 0) {
            (void)printf("  computing is left out: neither cores nor gops of %s are given\n",
                         r->choice.used.nodes[i].name);
            break;
        }
}

static void print_others(const plan_run_t *r)
{
    enum { OTHERS_PRINTED = 8 };
    uint32_t printed = 0;

    for (uint32_t i = 0; i < r->trials.n && printed < OTHERS_PRINTED; i++) {
        const part_tried_t *t = &r->trials.list[i];
        if (t->stages == r->choice.plan.stages && t->shards == r->choice.plan.shards &&
            t->n_nodes == r->choice.n_nodes)
            continue;
        (void)printf("%s%ux%u", printed++ == 0 ? "other layouts: " : ", ", t->stages, t->shards);
        if (r->trials.by_value)
            (void)printf(" (%u node%s, %.*f tokens/s)", t->n_nodes, base_plural(t->n_nodes),
                         plan_digits(1 / t->value), 1 / t->value);
        else
            (void)printf(" %s (%.0f %%)", t->fits ? "fits" : "does not fit", t->worst_share * 100);
    }
    if (printed > 0) (void)printf("\n");
}

/* --- why --- */

static const char *aim(const plan_run_t *r)
{
    return r->ask.optimize == PART_FOR_DECODE    ? "decode"
           : r->ask.optimize == PART_FOR_PREFILL ? "prompt"
                                                 : "all sequences";
}

/* The best that was found with so many nodes. */
static const part_tried_t *best_of(const part_trials_t *t, uint32_t n_nodes)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (t->list[i].n_nodes == n_nodes) return &t->list[i];
    return NULL;
}

/* Against fewer nodes, and all. */
static void print_numbers(const plan_run_t *r)
{
    const part_choice_t *c   = &r->choice;
    const part_tried_t  *one = best_of(&r->trials, 1);
    const part_tried_t  *all = best_of(&r->trials, r->cluster.n_nodes);

    if (c->n_nodes == 1 && r->cluster.n_nodes > 1)
        (void)printf("  %s holds the model alone, and the network would cost more than other nodes "
                     "save.\n",
                     c->used.nodes[0].name);
    if (c->n_nodes > 1 && one == NULL) (void)printf("  No node holds the model alone.\n");
    if (c->n_nodes > 1 && one != NULL)
        (void)printf("  One node alone reaches %.*f tokens/s.\n", plan_digits(1 / one->value),
                     1 / one->value);
    if (c->n_nodes < r->cluster.n_nodes && all != NULL)
        (void)printf("  With all %u nodes the best is %.*f tokens/s (%ux%u).\n", r->cluster.n_nodes,
                     plan_digits(1 / all->value), 1 / all->value, all->stages, all->shards);
    if (c->n_nodes < r->cluster.n_nodes && all == NULL)
        (void)printf("  No plan of all %u nodes was good enough to be listed.\n",
                     r->cluster.n_nodes);
}

static void print_reason(const plan_run_t *r)
{
    const part_choice_t *c = &r->choice;
    const part_time_t   *t = &c->time;

    if (!part_layout_asked(&r->ask)) print_numbers(r);
    if (c->plan.shards > 1)
        (void)printf(
            "  %u shards read their parts of a layer at the same time and pay with exchanges "
            "in every layer: %.0f %% of a token's time.\n",
            c->plan.shards, 100 * t->communication * t->decode_tps);
    if (c->plan.stages > 1)
        (void)printf("  %u stages work one after the other on a token: they add memory, and cost a "
                     "hop each; %s.\n",
                     c->plan.stages,
                     r->ask.n_seq > 1 && r->ask.streams != 1 ? "several sequences keep them busy"
                                                             : "with one sequence the others wait");
}

static void print_explanation(const plan_run_t *r)
{
    if (!r->trials.by_value && r->choice.time.known && r->choice.time.comm_known) {
        (void)printf("\nwhy: the split was given%s\n",
                     part_layout_asked(&r->ask)
                         ? ", and the layout"
                         : "; of the layouts that take it this is the fastest");
        return;
    }
    if (!r->trials.by_value) {
        (void)printf("\nwhy: speeds are not known (membw, latency and netbw of the cluster); %s\n",
                     strcmp(r->choice.split, "even") == 0
                         ? "the first layout that fits is taken, one stage a node before all others"
                         : "these shares and layers fit");
        return;
    }
    (void)printf("\nwhy: the fastest for %s of %llu plan%s compared%s%s\n", aim(r),
                 (unsigned long long)r->trials.plans, base_plural(r->trials.plans),
                 part_layout_asked(&r->ask) ? " of the layout that was given" : "",
                 r->trials.exact ? "; none of the model's space is faster" : "");
    (void)printf("  layout  nodes   tokens/s  fullest rank  fullest node\n");
    for (uint32_t i = 0; i < r->trials.n && i < EXPLAINED_MAX; i++) {
        const part_tried_t *t = &r->trials.list[i];
        char                layout[32], size[32];
        (void)snprintf(layout, sizeof(layout), "%ux%u", t->stages, t->shards);
        (void)printf("  %-7s %5u %10.*f  %12s  %10.0f %%\n", layout, t->n_nodes,
                     plan_digits(1 / t->value), 1 / t->value,
                     out_bytes(t->rank_bytes_max, size, sizeof(size)), t->worst_share * 100);
    }
    print_reason(r);
}

/* --- what to do with it --- */

static void print_hosts(const plan_run_t *r)
{
    const part_cluster_t *u = &r->choice.used;

    for (uint32_t i = 0; i < u->n_nodes && i < HOSTS_PRINTED; i++)
        (void)printf("%s%s:%u", i == 0 ? "" : ",", u->nodes[i].name, u->nodes[i].ranks);
    if (u->n_nodes > HOSTS_PRINTED)
        (void)printf(",... (%u nodes: --json has all, in order)", u->n_nodes);
}

/* Ranks on several machines are started on the first, which has the model's file: Open MPI puts the
 * machine that mpirun runs on in front of all others, whatever --host says. */
static void print_command(const plan_run_t *r)
{
    const part_choice_t *c    = &r->choice;
    const bool           many = r->ask.n_seq > 1; /* run makes one sequence */
    char                 layout[32];

    if (r->cluster.n_nodes > 1)
        (void)printf("run it on %s: ", c->used.nodes[0].name);
    else
        (void)printf("run it: ");
    if (c->n_ranks > 1) {
        (void)printf("mpirun -n %u --host ", c->n_ranks);
        print_hosts(r);
        (void)printf(" --bind-to %s ", c->n_ranks == c->n_nodes ? "none" : "numa");
    }
    (void)printf("trireme %s -m %s", many ? "bench" : "run",
                 r->model_name == NULL ? "MODEL" : r->model_name);
    if (many) (void)printf(" -np %u", r->ask.n_seq);
    if (c->n_ranks > 1)
        (void)printf(" --layout %s --split %s", part_layout_name(&c->plan, layout, sizeof(layout)),
                     c->split);
    (void)printf(" --pack %s", r->pack);
    if (many && r->ask.screen)
        (void)printf(" --head screened");
    else if (!many && r->head != NULL)
        (void)printf(" --head %s", r->head);
    if (r->ask.type_k == MODEL_F16) (void)printf(" -ctk f16");
    if (r->ask.type_v == MODEL_F16) (void)printf(" -ctv f16");
    if (r->ask.n_batch != PLAN_BATCH_DEFAULT && r->ask.n_batch < r->ask.n_ctx * r->ask.n_seq)
        (void)printf(" -b %u", r->ask.n_batch);
    if (!many) (void)printf(" -c %u -p PROMPT", r->ask.n_ctx);
    (void)printf("\n");
    if (c->n_nodes == r->cluster.n_nodes) return;
    (void)printf("left out:");
    for (uint32_t i = 0, printed = 0; i < r->cluster.n_nodes; i++) {
        bool used = false;
        for (uint32_t k = 0; k < c->n_nodes && !used; k++) used = c->order[k] == i;
        if (used) continue;
        if (printed++ < LEFT_OUT_PRINTED) (void)printf(" %s", r->cluster.nodes[i].name);
        if (printed == LEFT_OUT_PRINTED + 1) (void)printf(" ...");
    }
    (void)printf(": %s\n",
                 part_layout_asked(&r->ask) ? "the layout has fewer ranks" : "faster without");
}

static void print_needs(const plan_run_t *r)
{
    (void)printf("machines like %s (%.0f GiB) that this model needs:", r->cluster.nodes[0].name,
                 (double)r->cluster.nodes[0].mem_bytes / GIB);
    for (uint32_t f = 0; f < PLAN_FORMATS; f++) {
        (void)printf("%s %s ", f == 0 ? "" : ",", plan_format_names[f]);
        if (r->needs[f] > 0)
            (void)printf("%u", r->needs[f]);
        else
            (void)printf("none will do");
    }
    (void)printf("\n");
}

base_status_t plan_print_table(const plan_run_t *r, base_err_t *err)
{
    const part_choice_t *c    = &r->choice;
    const part_node_t   *node = &c->used.nodes[c->worst_node];
    char                 layout[32];

    (void)printf("%s: %u layer%s, %.2f billion weights; packed as %s (%s), %u sequence%s of "
                 "context %u, steps of "
                 "%u token%s\n",
                 r->desc.name, r->desc.n_layers, base_plural(r->desc.n_layers),
                 (double)r->desc.n_params / 1e9, r->pack, r->pack_reason, r->ask.n_seq,
                 base_plural(r->ask.n_seq), r->ask.n_ctx, r->ask.n_batch,
                 base_plural(r->ask.n_batch));
    (void)printf("layout %s (stages x shards), split %.200s: %u rank%s on %u node%s\n\n",
                 part_layout_name(&c->plan, layout, sizeof(layout)), c->split, c->n_ranks,
                 base_plural(c->n_ranks), c->n_nodes, base_plural(c->n_nodes));
    (void)printf("rank  node         stage  layers    heads/kv    ffn  ternary    dense       kv  "
                 "activ.  total GiB  of node  fits\n");
    for (uint32_t rank = 0; rank < c->n_ranks && rank < RANKS_PRINTED; rank++) print_rank(r, rank);
    if (c->n_ranks > RANKS_PRINTED)
        (void)printf("... (%u ranks in all; --json has every one)\n", c->n_ranks);
    (void)printf(
        "\n%s: %s holds %.2f of %.2f GiB (%.2f less a reserve; each rank counts %d MiB of its "
        "own)\n",
        c->fits ? "fits" : "does NOT fit", node->name, (double)c->node_bytes[c->worst_node] / GIB,
        (double)part_node_usable(node) / GIB, (double)node->mem_bytes / GIB,
        PART_RANK_OVERHEAD >> 20);
    print_embedding(r);
    print_time(r);
    print_others(r);
    if (c->fits) print_command(r);
    print_needs(r);
    if (r->explain && c->fits) print_explanation(r);
    return out_flush(err);
}
