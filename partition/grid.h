/* partition/grid.h
 * Inside partition: ranks laid out in stages and shards, with the times and bytes of every place,
 * as a search wants them: made anew thousands of times without allocating. */
#ifndef TRIREME_PARTITION_GRID_H
#define TRIREME_PARTITION_GRID_H

#include "partition/cost.h"
#include "partition/cuts.h"

/* What stays the same for all plans of one model on one cluster. */
typedef struct {
    const part_cluster_t *cluster;
    const model_desc_t   *desc;
    const part_ask_t     *ask;
    part_sizes_t          sizes;
    uint32_t              n_kinds; /* of layers */
    uint32_t             *kind_of; /* [n_layers]; owned */
    uint32_t             *first;   /* [n_kinds]: a layer of it; owned */
} part_problem_t;

base_status_t part_problem_make(const part_cluster_t *cluster, const model_desc_t *desc,
                                const part_ask_t *ask, part_problem_t *p, base_err_t *err);
void          part_problem_free(part_problem_t *p);
part_sizes_t  part_sizes_of(const part_ask_t *ask);

typedef struct {
    const part_problem_t *p;
    uint32_t              stages, shards;
    const uint32_t       *rank_node; /* [stages * shards], borrowed */
    bool                  straddles; /* some node has ranks in several stages */
    /* Owned, room for max_ranks. */
    uint32_t              max_ranks;
    part_share_t         *share; /* [shards] */
    part_layer_account_t *layer; /* [kind][shards] */
    part_ends_t          *ends;  /* [shards]: of the last stage */
    uint64_t             *embed; /* [shards]: of the first stage, held there; file_first */
    uint64_t             *rows;  /* [shards]: of the head */
    part_group_t         *group; /* [stages] */
    part_speed_t         *speed; /* [stages][shards] */
    /* For cuts: what part_cuts_t names. */
    double   *fixed, *per, *before, *value;
    uint32_t *cap, *reach, *by_time, *best, *from;
} part_grid_t;

base_status_t part_grid_create(const part_problem_t *p, uint32_t max_ranks, part_grid_t *g,
                               base_err_t *err);
void          part_grid_free(part_grid_t *g);

/* stages * shards ranks on the nodes rank_node, shares `weights` of the shards. */
void part_grid_set(part_grid_t *g, const uint32_t *rank_node, uint32_t stages, uint32_t shards,
                   const uint32_t *weights);

/* Seconds of one layer of a kind in a stage; of what a stage does besides its layers. */
double part_grid_layer(const part_grid_t *g, uint32_t stage, uint32_t kind, const part_load_t *load,
                       double *exchanges);
typedef struct {
    double head, communication, overhead;
} part_fixed_t;
part_fixed_t part_grid_fixed(const part_grid_t *g, uint32_t stage, const part_load_t *load);

/* Bytes of a rank with layers [begin, end). */
uint64_t part_grid_bytes(const part_grid_t *g, uint32_t stage, uint32_t shard, uint32_t begin,
                         uint32_t end);
/* Do all nodes hold their ranks? Node sums are exact here. `held`: room for one number a node. */
bool part_grid_fits(const part_grid_t *g, const uint32_t *bounds, uint64_t *held);
/* In part_value's terms, with its tie. */
double part_grid_value(const part_grid_t *g, const uint32_t *bounds);

/* The best layers for the stages. Nodes that have ranks in several stages lend each an equal part
 * of their memory here, so that nothing better than that is missed only where `straddles`. */
bool part_grid_cut(part_grid_t *g, double enough, double *value, uint32_t *bounds);

#endif
