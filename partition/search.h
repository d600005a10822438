/* partition/search.h
 * Inside partition: the best plan by predicted time.
 *
 * A plan here: which nodes take part (with all their ranks) and in which order; stages x shards;
 * the shares of the shards, the same in every stage; the layers of each stage. Nodes that lie
 * wholly in one stage stand kind by kind, in the order in which the cluster first names the kinds;
 * but any may be the first of all where that one alone has the file (part_ask_t.file_first), and
 * others hold rows of the embedding for it.
 *
 * Up to PART_EXACT_RANKS ranks every set and order of nodes, every layout and every share on a grid
 * of part_share_parts() parts is compared, each with its best cut: no plan of that space is better
 * (but for ranks of one node in several stages of a model too deep to try every cut of). Above:
 * some sets of nodes (the fastest, the largest), a few orders and shares, still with the best cut
 * of each. */
#ifndef TRIREME_PARTITION_SEARCH_H
#define TRIREME_PARTITION_SEARCH_H

#include "partition/grid.h"

enum { PART_EXACT_RANKS = 6 };

/* Shares of `shards` shards are tried in such parts of the whole; 0: none are tried. */
uint32_t part_share_parts(uint32_t shards);

/* The best plan found; order, weights, bounds are owned and have room for any. */
typedef struct {
    double    value; /* INFINITY: nothing fits */
    uint32_t  n_nodes, stages, shards;
    uint32_t *order, *weights, *bounds;
} part_found_t;

/* The only layout to look at; zeroed: all. */
typedef struct {
    uint32_t stages, shards;
} part_only_t;

/* The cluster's speeds are known. Status: OK (also when nothing fits) | MEMORY. */
base_status_t part_search(const part_cluster_t *cluster, const model_desc_t *desc,
                          const part_ask_t *ask, part_only_t only, part_found_t *found,
                          part_trials_t *trials, base_err_t *err);
void          part_found_free(part_found_t *found);

#endif
