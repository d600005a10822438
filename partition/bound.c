/* partition/bound.c: how fast a plan could be at best. One step goes through the stages one after
 * the other; the ranks of a stage work at the same time and share the bandwidth of their node. */
#include <math.h>

#include "partition/choose.h"

enum { SUMS_PER_LAYER = 4 }; /* two int32 sums, and two gathers of norm blocks before them */

/* Distinct nodes of the ranks of a stage (they are consecutive), and the first rank's node. */
static uint32_t stage_nodes(const part_cluster_t *c, const part_plan_t *p, uint32_t stage)
{
    uint32_t first = part_cluster_node(c, stage * p->shards);
    uint32_t last  = part_cluster_node(c, (stage + 1) * p->shards - 1);
    return last - first + 1;
}

/* Ranks of the stage that run on a node. */
static uint32_t stage_ranks_on(const part_cluster_t *c, const part_plan_t *p, uint32_t stage,
                               uint32_t node)
{
    const part_node_t *n     = &c->nodes[node];
    uint32_t           begin = stage * p->shards, end = begin + p->shards;
    if (begin < n->rank0) begin = n->rank0;
    if (end > n->rank0 + n->ranks) end = n->rank0 + n->ranks;
    return end > begin ? end - begin : 0;
}

/* One exchange of `bytes` per token over `nodes` nodes: a tree of latencies, and every node sends
 * and gets the share of the others once. */
static double exchange(const part_cluster_t *c, uint32_t nodes, double bytes)
{
    if (nodes < 2) return 0;
    return c->latency * ceil(log2(nodes)) + 2 * bytes * (nodes - 1) / nodes / c->net;
}

/* Seconds in exchanges between nodes for a step of n tokens. */
static double communication(const part_cluster_t *c, const model_desc_t *d, const part_plan_t *p,
                            double n)
{
    const double hidden = (double)d->width * 4 * n;
    double       t      = 0;
    for (uint32_t s = 0; s < p->stages; s++) {
        part_range_t layers = part_stage_layers(p, s);
        uint32_t     nodes  = stage_nodes(c, p, s);
        double       per_layer =
            2 * exchange(c, nodes, hidden) + (SUMS_PER_LAYER - 2) * exchange(c, nodes, 0);
        t += per_layer * (layers.end - layers.begin);
        if (s == 0) t += exchange(c, nodes, hidden); /* embedding rows */
        if (s > 0 &&
            part_cluster_node(c, (s - 1) * p->shards) != part_cluster_node(c, s * p->shards))
            t += c->latency + hidden / c->net;
    }
    /* Logits of one token to rank 0, from where they are not on its node already. */
    double away = 0;
    for (uint32_t i = 0; i < p->shards; i++) {
        part_range_t rows = part_vocab(p, d, i);
        if (part_cluster_node(c, (p->stages - 1) * p->shards + i) != part_cluster_node(c, 0))
            away += rows.end - rows.begin;
    }
    if (away > 0) t += c->latency + away * 4 / c->net;
    return t;
}

static bool crosses_nodes(const part_cluster_t *c, const part_plan_t *p)
{
    return part_cluster_node(c, p->stages * p->shards - 1) != 0;
}

/* Seconds of one stage in a step of n tokens: of its slowest shard, at reading or at computing. */
typedef struct {
    double weights, head, attention_full;
} stage_time_t;

static stage_time_t stage_time(const part_cluster_t *c, const model_desc_t *d, const part_plan_t *p,
                               uint32_t stage, const part_memory_t *memory, double bits, double n)
{
    const uint64_t head_row = model_row_bytes(d->head.type, d->width);
    stage_time_t   t        = {0};

    for (uint32_t i = 0; i < p->shards; i++) {
        const uint32_t       rank = stage * p->shards + i;
        const part_memory_t *m    = &memory[rank];
        const uint32_t       at   = part_cluster_node(c, rank);
        const part_node_t   *node = &c->nodes[at];
        const double         part = 1.0 / stage_ranks_on(c, p, stage, at);
        const double         bw   = node->membw * part;
        const double         macs = PART_CORE_MACS * node->cores * part;
        double               head = 0;
        if (stage + 1 == p->stages) {
            part_range_t rows = part_vocab(p, d, i);
            head              = (double)((rows.end - rows.begin) * head_row);
        }
        double layers = ((double)(m->ternary + m->dense) - head) / bw;
        if (macs > 0) layers = fmax(layers, n * (double)m->ternary * 8 / bits / macs);
        t.weights = fmax(t.weights, layers);
        /* Screened, a token reads at the very least the coarse rows. */
        if (m->screen > 0) head = (double)m->screen;
        t.head           = fmax(t.head, head / bw);
        t.attention_full = fmax(t.attention_full, (double)m->kv / bw);
    }
    return t;
}

part_bound_t part_bound(const part_cluster_t *cluster, const model_desc_t *desc,
                        const part_plan_t *plan, const part_memory_t *memory, const part_ask_t *ask)
{
    part_bound_t b       = {.known = true, .comm_known = true};
    double       prefill = 0;

    for (uint32_t i = 0; i < cluster->n_nodes; i++)
        b.known = b.known && cluster->nodes[i].membw > 0;
    if (crosses_nodes(cluster, plan)) {
        b.comm_known = cluster->latency >= 0 && cluster->net > 0;
        if (b.comm_known) {
            b.communication = communication(cluster, desc, plan, 1);
            prefill         = communication(cluster, desc, plan, ask->n_batch);
        }
    }
    if (!b.known) return b;
    for (uint32_t s = 0; s < plan->stages; s++) {
        stage_time_t one = stage_time(cluster, desc, plan, s, memory, ask->ternary_bits, 1);
        stage_time_t all =
            stage_time(cluster, desc, plan, s, memory, ask->ternary_bits, ask->n_batch);
        b.weights += one.weights;
        b.head += one.head;
        b.attention_full += one.attention_full;
        prefill += all.weights;
    }
    b.decode_tps  = 1 / (b.weights + b.head + b.communication);
    b.prefill_tps = ask->n_batch / prefill;
    return b;
}
