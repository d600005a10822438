/* coordinator/tables.h
 * The two look-up tables of a tokenizer: token by bytes, merge by pair of tokens. Built once, then
 * read-only (any thread). */
#ifndef TRIREME_COORDINATOR_TABLES_H
#define TRIREME_COORDINATOR_TABLES_H

#include "base/status.h"
#include "model/model.h"

typedef struct {
    uint32_t hash;
    uint32_t id_plus_1; /* 0: free */
} coord_str_slot_t;

/* Ids by string. The strings are borrowed: keys[id] must stay. */
typedef struct {
    const model_str_t *keys;
    coord_str_slot_t  *slots;
    uint32_t           mask;
} coord_str_map_t;

/* Room for n_keys entries. Status: OK | MEMORY. */
base_status_t coord_str_map_create(coord_str_map_t *map, const model_str_t *keys, uint32_t n_keys,
                                   base_err_t *err);
void          coord_str_map_destroy(coord_str_map_t *map); /* accepts all-zero */
/* Add keys[id]; an equal key that is there already gives way. */
void coord_str_map_put(coord_str_map_t *map, uint32_t id);
/* Id or -1. */
int32_t coord_str_map_find(const coord_str_map_t *map, const char *text, size_t bytes);

typedef struct {
    uint64_t pair_plus_1; /* left << 32 | right, plus 1; 0: free */
    uint32_t rank;
    int32_t  id; /* the merged token */
} coord_merge_slot_t;

typedef struct {
    coord_merge_slot_t *slots;
    uint32_t            mask;
} coord_merge_map_t;

base_status_t coord_merge_map_create(coord_merge_map_t *map, uint32_t n_merges, base_err_t *err);
void          coord_merge_map_destroy(coord_merge_map_t *map); /* accepts all-zero */
/* Ids >= 0. A pair that is there already stays as it is (its rank is lower). */
void coord_merge_map_put(coord_merge_map_t *map, int32_t left, int32_t right, uint32_t rank,
                         int32_t id);
/* NULL if these two (>= 0) do not merge. */
const coord_merge_slot_t *coord_merge_map_find(const coord_merge_map_t *map, int32_t left,
                                               int32_t right);

#endif
