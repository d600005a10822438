/* partition/cost.h
 * Inside partition: how long a step takes. The same pieces serve the search, which puts them
 * together for thousands of plans, and part_time(), which does so for one. docs/DECISIONS.md says
 * what is modelled and what is not. */
#ifndef TRIREME_PARTITION_COST_H
#define TRIREME_PARTITION_COST_H

#include "partition/account.h"
#include "partition/choose.h"

/* A rank: bytes of packed and of dense weights and of the coarse head, int8 products per second; 0:
 * takes no time. Products per second with part_few_vectors vectors at once, the cluster's own, of
 * all ranks of the node; NULL: not known. */
typedef struct {
    double        bw, dense, screen, ops;
    const double *packed_few, *dense_few, *screen_few;
    double        few_ranks; /* that the figures of a few are of together */
} part_speed_t;
/* `active`: its ranks that work at the same time. ternary_bits: of the packed format. */
part_speed_t part_rank_speed(const part_node_t *node, uint32_t active, double ternary_bits);

/* What one step brings. */
typedef struct {
    double tokens;    /* of all its runs */
    double caches;    /* sequences whose caches are read, once each */
    double positions; /* of each cache that a token looks at, on average */
    double outputs;   /* rows of logits */
} part_load_t;

part_load_t part_load_decode(const part_ask_t *ask); /* one token of one sequence */
/* With so many stages: a token of each sequence of a group; a chunk of a prompt. */
part_load_t part_load_throughput(const part_ask_t *ask, uint32_t stages);
part_load_t part_load_prefill(const part_ask_t *ask, uint32_t stages);

/* The ranks of a stage, as their exchanges see them. */
typedef struct {
    uint32_t shards, nodes, most; /* most ranks on one node */
    double   latency, net;        /* the worst of its pairs of nodes */
    double   intra_latency, intra_bw;
} part_group_t;
/* rank_node: the node of each of its n ranks, nodes in runs. */
part_group_t part_group_of(const part_cluster_t *c, const uint32_t *rank_node, uint32_t n);

/* Seconds: a sum of vectors of so many bytes over the group, left with all; a gather of so many
 * bytes from all its ranks together. */
double part_sum_time(const part_group_t *g, double bytes);
double part_gather_time(const part_group_t *g, double bytes);

/* Seconds of a product with `vectors` vectors of so many multiplications each, if one vector takes
 * `once`. few: multiplications a second of `ranks` ranks at part_few_vectors: times are
 * interpolated between one vector, those, and 64, from which on the rate is `ops` (0: that of 16).
 * few NULL: the longer of `once` and what `ops` says. */
double part_product_time(double vectors, double products, double once, const double *few,
                         double ranks, double ops);

/* One half of a layer on one rank; what a layer's exchanges take; rows of the head on one rank. */
double part_half_time(const part_layer_account_t *a, int half, part_speed_t s,
                      const part_load_t *load);
double part_exchanges(const part_group_t *g, const model_desc_t *desc, const model_layer_t *l,
                      const part_load_t *load);
double part_head_time(const part_ends_t *e, const model_desc_t *desc, part_speed_t s,
                      const part_load_t *load);

/* The input of a stage: from the ranks `from` of the stage before (NULL: the embedding rows, summed
 * over the group), to the ranks `to`, n each. */
double part_input_time(const part_cluster_t *c, const model_desc_t *desc, const part_group_t *g,
                       const uint32_t *from, const uint32_t *to, uint32_t n,
                       const part_load_t *load);
/* Logits of the last stage's ranks to rank 0 on node `root`: rows of each in `rows`. own: the first
 * of them is rank 0. */
double part_logits_time(const part_cluster_t *c, uint32_t root, const uint32_t *last,
                        const uint64_t *rows, uint32_t n, bool own, const part_load_t *load);

/* What a plan is judged by: `sum` seconds of all stages one after the other, `most` of the slowest.
 * Seconds a token; smaller is better. */
double part_value(const part_ask_t *ask, uint32_t stages, double sum, double most);
/* The load that part_value's seconds are of. */
part_load_t part_load_of(const part_ask_t *ask, uint32_t stages);
/* Groups, or chunks, that are under way at the same time. */
uint32_t part_streams(const part_ask_t *ask, uint32_t stages);

#endif
