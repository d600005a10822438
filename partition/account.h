/* partition/account.h
 * Inside partition: the one account of what a rank holds and reads, layer by layer, so that the
 * planner's search and part_memory() cannot disagree. */
#ifndef TRIREME_PARTITION_ACCOUNT_H
#define TRIREME_PARTITION_ACCOUNT_H

#include "partition/plan.h"

/* One share among several, with the sum of those before it: a cut then needs no walk over all. */
typedef struct {
    uint64_t before, share, total;
    bool     last;
} part_share_t;

part_share_t part_share_at(const uint32_t *weights, uint32_t n_weights, uint32_t index);
/* As part_cut, part_slice, part_vocab. */
void part_share_cut(part_share_t s, uint64_t n, uint64_t granule, uint64_t *begin, uint64_t *end);
part_slice_t part_share_slice(part_share_t s, const model_layer_t *layer);
part_range_t part_share_vocab(part_share_t s, const model_desc_t *desc);

/* The halves of a layer: each ends in an exchange between the shards. */
enum { PART_HALF_ATTENTION, PART_HALF_FFN, PART_HALVES };

/* A shard's slice of one layer. */
typedef struct {
    uint64_t ternary[PART_HALVES], dense[PART_HALVES]; /* bytes held, all read in a step */
    double   products[PART_HALVES];                    /* int8, of a token */
    double   float_products[PART_HALVES];
    uint64_t kv;               /* bytes of the KV cache */
    uint64_t kv_position;      /* of one position of one sequence */
    uint64_t q, kv_width, ffn; /* elements of a token */
} part_layer_account_t;

part_layer_account_t part_layer_account(part_share_t share, const model_desc_t *desc,
                                        const model_layer_t *layer, const part_sizes_t *sizes);

/* Do two layers take the same slices, bytes and times? */
bool part_layers_alike(const model_layer_t *a, const model_layer_t *b);

/* The widest of the layers of a rank; buffers are made for these. Starts zeroed. */
typedef struct {
    uint64_t q, kv, ffn, whole, group;
} part_widest_t;
void part_widest_add(part_widest_t *w, const model_desc_t *desc, const model_layer_t *layer,
                     const part_layer_account_t *a);

/* Where a rank stands in the grid. */
typedef struct {
    part_share_t share, first; /* its own, and that of shard 0 */
    uint32_t     stages, shards;
    bool         root, last, lone; /* rank 0; of the last stage; the only rank */
} part_place_t;

/* What a rank holds besides its layers. */
typedef struct {
    uint64_t dense, screen; /* output norm and head, of the last stage */
    uint64_t head_rows;
} part_ends_t;
part_ends_t part_ends(const part_place_t *place, const model_desc_t *desc,
                      const part_sizes_t *sizes);
/* Rows of the embedding on a place of the first stage, where they are not read from the file. */
uint64_t part_embed_bytes(const part_place_t *place, const model_desc_t *desc);
uint64_t part_activations(const part_place_t *place, const model_desc_t *desc,
                          const part_widest_t *widest, const part_sizes_t *sizes);

#endif
