/* coordinator/tables.c: open addressing, linear probing, at most half full. */
#include "coordinator/tables.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

static uint32_t slots_for(uint32_t n)
{
    uint32_t slots = 16;

    while (slots / 2 < n) slots *= 2;
    return slots;
}

/* FNV-1a; its low bits alone are weak. */
static uint32_t hash_text(const char *text, size_t bytes)
{
    uint64_t hash = 0xCBF29CE484222325ULL;

    for (size_t i = 0; i < bytes; i++) hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3ULL;
    hash ^= hash >> 32;
    hash *= 0x9E3779B97F4A7C15ULL;
    return (uint32_t)(hash >> 32);
}

base_status_t coord_str_map_create(coord_str_map_t *map, const model_str_t *keys, uint32_t n_keys,
                                   base_err_t *err)
{
    void         *slots = NULL;
    uint32_t      n     = slots_for(n_keys);
    base_status_t st    = base_alloc(&slots, n, sizeof(coord_str_slot_t), "token table", err);

    if (st != BASE_OK) return st;
    *map = (coord_str_map_t){.keys = keys, .slots = slots, .mask = n - 1};
    return BASE_OK;
}

void coord_str_map_destroy(coord_str_map_t *map)
{
    free(map->slots);
    *map = (coord_str_map_t){0};
}

static coord_str_slot_t *str_slot(const coord_str_map_t *map, uint32_t hash, const char *text,
                                  size_t bytes)
{
    for (uint32_t at = hash & map->mask;; at = (at + 1) & map->mask) {
        coord_str_slot_t *slot = &map->slots[at];

        if (slot->id_plus_1 == 0) return slot;
        if (slot->hash == hash) {
            const model_str_t *key = &map->keys[slot->id_plus_1 - 1];

            if (key->bytes == bytes && memcmp(key->text, text, bytes) == 0) return slot;
        }
    }
}

void coord_str_map_put(coord_str_map_t *map, uint32_t id)
{
    const model_str_t *key  = &map->keys[id];
    uint32_t           hash = hash_text(key->text, key->bytes);
    coord_str_slot_t  *slot = str_slot(map, hash, key->text, key->bytes);

    *slot = (coord_str_slot_t){.hash = hash, .id_plus_1 = id + 1};
}

int32_t coord_str_map_find(const coord_str_map_t *map, const char *text, size_t bytes)
{
    return (int32_t)str_slot(map, hash_text(text, bytes), text, bytes)->id_plus_1 - 1;
}

base_status_t coord_merge_map_create(coord_merge_map_t *map, uint32_t n_merges, base_err_t *err)
{
    void         *slots = NULL;
    uint32_t      n     = slots_for(n_merges);
    base_status_t st    = base_alloc(&slots, n, sizeof(coord_merge_slot_t), "merge table", err);

    if (st != BASE_OK) return st;
    *map = (coord_merge_map_t){.slots = slots, .mask = n - 1};
    return BASE_OK;
}

void coord_merge_map_destroy(coord_merge_map_t *map)
{
    free(map->slots);
    *map = (coord_merge_map_t){0};
}

static coord_merge_slot_t *merge_slot(const coord_merge_map_t *map, uint64_t pair_plus_1)
{
    uint64_t hash = (pair_plus_1 ^ pair_plus_1 >> 29) * 0x9E3779B97F4A7C15ULL;
    uint32_t at   = (uint32_t)(hash >> 32) & map->mask;

    while (map->slots[at].pair_plus_1 != 0 && map->slots[at].pair_plus_1 != pair_plus_1)
        at = (at + 1) & map->mask;
    return &map->slots[at];
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    base_assert(left >= 0 && right >= 0);
    return ((uint64_t)left << 32 | (uint64_t)right) + 1;
}

void coord_merge_map_put(coord_merge_map_t *map, int32_t left, int32_t right, uint32_t rank,
                         int32_t id)
{
    uint64_t            pair = pair_of(left, right);
    coord_merge_slot_t *slot = merge_slot(map, pair);

    if (slot->pair_plus_1 != 0) return;
    *slot = (coord_merge_slot_t){.pair_plus_1 = pair, .rank = rank, .id = id};
}

const coord_merge_slot_t *coord_merge_map_find(const coord_merge_map_t *map, int32_t left,
                                               int32_t right)
{
    const coord_merge_slot_t *slot = merge_slot(map, pair_of(left, right));

    return slot->pair_plus_1 != 0 ? slot : NULL;
}
