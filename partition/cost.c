/* partition/cost.c: the time model. One step goes through the stages; the ranks of a stage work at
 * the same time and meet twice in each half of a layer. */
#include "partition/cost.h"

#include <math.h>

#include "partition/batch.h"

enum {
    FLOAT_COST = 4, /* int8 products in the time of one float product: 64 against 16 lanes */
    MANY = 64, /* vectors at once, from which on `ops` holds: doctor measures it with so many */
};

/* Seconds to hand one message to the network: what many messages cost beside their latency. */
#define MESSAGE_S 0.5e-6

/* Bytes of a value in a sum between nodes (comm/pack.h): 16 bits hold partial sums of int8 times
 * ternary, whose deviation is at most 127 * sqrt(columns), up to a slice of 4096 columns at four
 * deviations, and of real ones, smaller, far more. Embedding rows are bit patterns of floats. */
#define SUM_BYTES 2.0

/* Bytes to rank 0 for one row of logits: the list of the best that a sampler asks for. */
#define LOGITS_BYTES 512.0

part_speed_t part_rank_speed(const part_node_t *node, uint32_t active, double ternary_bits)
{
    const double ops  = node->ops > 0 ? node->ops : node->cores * PART_CORE_OPS;
    double       bw   = node->membw / node->ranks;
    const double free = node->membw / (active == 0 ? 1 : active);

    if (node->rank_membw > 0) bw = fmin(node->rank_membw, free);
    /* What the formats cost was measured with all ranks at work: it is the same for one. */
    const double t3     = node->t3_bw > 0 && ternary_bits < 2 ? node->t3_bw / node->membw : 1;
    const double dense  = node->dense_bw > 0 ? node->dense_bw / node->membw : 1;
    const double screen = node->screen_bw > 0 ? node->screen_bw / node->membw : dense;
    part_speed_t s      = {.bw = bw, .dense = bw, .screen = bw, .ops = ops / node->ranks};
    if (node->membw <= 0) return s;
    s.bw     = bw * t3;
    s.dense  = bw * dense;
    s.screen = bw * screen;
    /* Where one vector is not known, what more take says little. */
    const double *const packed = ternary_bits < 2 ? node->few.t3 : node->few.t2;
    s.few_ranks                = node->ranks;
    if (packed[0] > 0) s.packed_few = packed;
    if (node->few.dense[0] > 0) s.dense_few = node->few.dense;
    if (node->few.screen[0] > 0) s.screen_few = node->few.screen;
    return s;
}

part_load_t part_load_decode(const part_ask_t *ask)
{
    return (part_load_t){.tokens = 1, .caches = 1, .positions = ask->depth, .outputs = 1};
}

uint32_t part_streams(const part_ask_t *ask, uint32_t stages)
{
    const uint32_t n_seq = ask->n_seq == 0 ? 1 : ask->n_seq;
    uint32_t       given = ask->streams;
    if (given == 0) given = stages < PART_FLIGHTS_MAX ? stages : PART_FLIGHTS_MAX;
    return given < n_seq ? given : n_seq;
}

part_load_t part_load_throughput(const part_ask_t *ask, uint32_t stages)
{
    const uint32_t n_seq = ask->n_seq == 0 ? 1 : ask->n_seq;
    /* Groups may differ by one; together they take the time of as many mean ones. */
    const double group = (double)n_seq / part_streams(ask, stages);
    return (part_load_t){group, group, ask->depth, group};
}

static double prompt_of(const part_ask_t *ask)
{
    return ask->n_prompt > 0 ? ask->n_prompt : ask->n_batch;
}

static double chunk_of(const part_ask_t *ask, uint32_t stages)
{
    const uint32_t n_seq = ask->n_seq == 0 ? 1 : ask->n_seq;
    const uint32_t most =
        ask->streams == 1 ? ask->n_batch : part_micro_batch(stages, ask->n_batch, n_seq);
    return fmin(prompt_of(ask), most);
}

part_load_t part_load_prefill(const part_ask_t *ask, uint32_t stages)
{
    return (part_load_t){
        .tokens = chunk_of(ask, stages), .caches = 1, .positions = ask->depth + prompt_of(ask) / 2};
}

part_load_t part_load_of(const part_ask_t *ask, uint32_t stages)
{
    switch (ask->optimize) {
    case PART_FOR_DECODE: break;
    case PART_FOR_PREFILL: return part_load_prefill(ask, stages);
    case PART_FOR_THROUGHPUT: return part_load_throughput(ask, stages);
    }
    return part_load_decode(ask);
}

double part_value(const part_ask_t *ask, uint32_t stages, double sum, double most)
{
    const double chunks = ceil(prompt_of(ask) / chunk_of(ask, stages));

    switch (ask->optimize) {
    case PART_FOR_DECODE: break;
    case PART_FOR_PREFILL:
        /* Chunks follow each other through the stages, or each waits for the one before. */
        if (ask->streams != 1) return (sum + (chunks - 1) * most) / prompt_of(ask);
        return chunks * sum / prompt_of(ask);
    case PART_FOR_THROUGHPUT:
        return fmax(sum, part_streams(ask, stages) * most) / (ask->n_seq == 0 ? 1 : ask->n_seq);
    }
    return sum;
}

/* --- exchanges --- */

part_group_t part_group_of(const part_cluster_t *c, const uint32_t *rank_node, uint32_t n)
{
    part_group_t g       = {.shards = n, .nodes = 1, .latency = c->latency, .net = c->net};
    const bool   uniform = c->pair_latency == NULL && c->pair_net == NULL;
    uint32_t     run     = 0;

    for (uint32_t i = 0; i < n; i++) {
        const part_node_t *node = &c->nodes[rank_node[i]];
        if (i > 0 && rank_node[i] != rank_node[i - 1]) {
            g.nodes++;
            run = 0;
        }
        if (++run > g.most) g.most = run;
        if (run < 2) continue;
        g.intra_latency = fmax(g.intra_latency, node->intra_latency);
        if (node->intra_bw > 0 && (g.intra_bw <= 0 || node->intra_bw < g.intra_bw))
            g.intra_bw = node->intra_bw;
    }
    if (uniform || g.nodes == 1) return g;
    g.latency = 0;
    g.net     = INFINITY;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < n; k++) {
            if (rank_node[i] == rank_node[k]) continue;
            g.latency = fmax(g.latency, part_cluster_latency(c, rank_node[i], rank_node[k]));
            g.net     = fmin(g.net, part_cluster_net(c, rank_node[i], rank_node[k]));
        }
    return g;
}

static double transfer(double bytes, double bw)
{
    return bw > 0 ? bytes / bw : 0;
}

/* Inside the nodes: once, or before and after the exchange between them. */
static double inside(const part_group_t *g, double bytes)
{
    const double once = g->intra_latency + transfer(bytes, g->intra_bw);
    if (g->most < 2) return 0;
    return g->nodes > 1 ? 2 * once : once;
}

/* Between the nodes one rank of each speaks. The fastest of: everything to everyone in one round; a
 * slice each and the slices back in two; partners at doubling distances. */
double part_sum_time(const part_group_t *g, double bytes)
{
    const double k = g->nodes;
    if (g->nodes < 2) return inside(g, bytes);
    const double direct = g->latency + (k - 1) * (transfer(bytes, g->net) + MESSAGE_S);
    const double slices = 2 * g->latency + 2 * (k - 1) * (transfer(bytes / k, g->net) + MESSAGE_S);
    const double doubling = ceil(log2(k)) * (g->latency + transfer(bytes, g->net) + MESSAGE_S);
    return inside(g, bytes) + fmin(direct, fmin(slices, doubling));
}

double part_gather_time(const part_group_t *g, double bytes)
{
    const double k = g->nodes;
    if (g->nodes < 2) return inside(g, bytes);
    const double away     = transfer(bytes * (k - 1) / k, g->net);
    const double direct   = g->latency + (k - 1) * MESSAGE_S;
    const double doubling = ceil(log2(k)) * (g->latency + MESSAGE_S);
    return inside(g, bytes) + away + fmin(direct, doubling);
}

static bool packed(const model_tensor_t *t)
{
    return t->online || model_type_info(t->type)->ternary;
}

double part_exchanges(const part_group_t *g, const model_desc_t *desc, const model_layer_t *l,
                      const part_load_t *load)
{
    const double n = load->tokens * 4, width = desc->width;
    const double sum = load->tokens * width * (g->nodes > 1 ? SUM_BYTES : 4);
    double       t   = 0;

    if (g->shards < 2) return 0;
    /* Packed: sums and maxima of blocks are gathered, int32 sums follow. Dense: whole vectors. */
    if (packed(&l->t[MODEL_ATTN_OUT]))
        t += part_gather_time(g, n * (l->n_heads + g->shards)) + part_sum_time(g, sum);
    else
        t += part_gather_time(g, n * l->n_heads * desc->head_dim) + part_gather_time(g, n * width);
    if (packed(&l->t[MODEL_FFN_DOWN]))
        t += part_gather_time(g, n * (ceil((double)l->ffn / PART_FFN_BLOCK) + g->shards)) +
             part_sum_time(g, sum);
    else
        t += part_gather_time(g, n * l->ffn) + part_gather_time(g, n * width);
    return t;
}

double part_input_time(const part_cluster_t *c, const model_desc_t *desc, const part_group_t *g,
                       const uint32_t *from, const uint32_t *to, uint32_t n,
                       const part_load_t *load)
{
    const double bytes = load->tokens * desc->width * 4;
    double       most  = 0;

    if (from == NULL) {
        if (n < 2) return 0;
        /* The command of rank 0 comes first: a hop where the stage spans nodes. */
        return part_sum_time(g, bytes) + (g->nodes > 1 ? g->latency : 0);
    }
    for (uint32_t i = 0; i < n; i++) {
        const part_node_t *node   = &c->nodes[to[i]];
        uint32_t           shared = 0; /* ranks that send over the same link */
        double             t      = node->intra_latency + transfer(bytes, node->intra_bw);
        if (from[i] != to[i]) {
            for (uint32_t k = i; k < n && from[k] == from[i]; k++) shared += to[k] != from[k];
            t = part_cluster_latency(c, from[i], to[i]) +
                shared * transfer(bytes, part_cluster_net(c, from[i], to[i]));
        }
        most = fmax(most, t);
    }
    return most;
}

double part_logits_time(const part_cluster_t *c, uint32_t root, const uint32_t *last,
                        const uint64_t *rows, uint32_t n, bool own, const part_load_t *load)
{
    double latency = 0, away = 0;

    if (load->outputs <= 0) return 0;
    for (uint32_t i = own ? 1 : 0; i < n; i++) {
        const double bytes = load->outputs * fmin((double)rows[i] * 4, LOGITS_BYTES);
        if (last[i] == root) {
            latency = fmax(latency, c->nodes[root].intra_latency);
            continue;
        }
        latency = fmax(latency, part_cluster_latency(c, last[i], root));
        away += transfer(bytes, part_cluster_net(c, last[i], root));
    }
    return latency + away;
}

/* --- computing --- */

double part_product_time(double vectors, double products, double once, const double *few,
                         double ranks, double ops)
{
    double n0 = 1, t0 = once; /* the point before */

    if (products <= 0 || few == NULL) return fmax(once, transfer(vectors * products, ops));
    if (vectors <= 1) return once;
    for (uint32_t i = 0; i <= PART_FEW; i++) {
        const double n1   = i < PART_FEW ? part_few_vectors[i] : MANY;
        const double rate = i < PART_FEW ? few[i] / ranks : ops;
        if (rate <= 0) break;
        /* More vectors take no less time, whatever was measured. */
        const double t1 = fmax(t0, n1 * products / rate);
        if (vectors < n1) return t0 + (t1 - t0) * (vectors - n0) / (n1 - n0);
        n0 = n1;
        t0 = t1;
    }
    return t0 * vectors / n0;
}

/* What 16 vectors reach holds for more, too; without a measurement FLOAT_COST says it. */
static double float_time(double vectors, double products, double once, const double *few,
                         part_speed_t s)
{
    if (few != NULL) return part_product_time(vectors, products, once, few, s.few_ranks, 0);
    return part_product_time(vectors, FLOAT_COST * products, once, NULL, 1, s.ops);
}

double part_half_time(const part_layer_account_t *a, int half, part_speed_t s,
                      const part_load_t *load)
{
    const double floats = FLOAT_COST * a->float_products[half];
    const double packed = transfer((double)a->ternary[half], s.bw);
    const double dense  = transfer((double)a->dense[half], s.dense);
    double t = fmax(packed + dense, transfer(load->tokens * (a->products[half] + floats), s.ops));

    if (s.packed_few != NULL || s.dense_few != NULL)
        t = part_product_time(load->tokens, a->products[half], packed, s.packed_few, s.few_ranks,
                              s.ops) +
            float_time(load->tokens, a->float_products[half], dense, s.dense_few, s);
    if (half != PART_HALF_ATTENTION || load->positions <= 0) return t;
    /* Keys and values of every position: read once a sequence, multiplied for every token. */
    const double read  = load->caches * load->positions * (double)a->kv_position;
    const double twice = 2 * FLOAT_COST * load->tokens * load->positions * (double)a->q;
    return t + fmax(transfer(read, s.dense), transfer(twice, s.ops));
}

/* Rates of float16 serve all stored types: what widening others takes is not modelled. */
double part_head_time(const part_ends_t *e, const model_desc_t *desc, part_speed_t s,
                      const part_load_t *load)
{
    const uint64_t row      = model_row_bytes(desc->head.type, desc->width);
    const double   all      = (double)e->head_rows * (double)row;
    const double   products = (double)e->head_rows * desc->width; /* of a vector */

    if (load->outputs <= 0) return 0;
    if (e->screen > 0)
        return float_time(load->outputs, products, transfer((double)e->screen, s.screen),
                          s.screen_few, s);
    return float_time(load->outputs, products, transfer(all, s.dense), s.dense_few, s);
}
