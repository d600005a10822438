/* base/arena.h
 * Bump allocation in one mapped region. Memory has three lives: the mapped model file, start-up
 * arenas (packed weights, KV pages), and step arenas, which are reset at each step. */
#ifndef TRIREME_BASE_ARENA_H
#define TRIREME_BASE_ARENA_H

#include "base/status.h"

typedef struct {
    uint8_t *base;
    size_t   bytes; /* reserved */
    size_t   used;
} base_arena_t;

/* Reserve `bytes` of zeroed, private, anonymous memory (huge pages advised when >= 2 MiB).
 * Pages are touched by whoever writes first, so NUMA placement follows the writing thread.
 * Status: BASE_OK | BASE_ERR_MEMORY (text names `what` and the bytes). Local. */
base_status_t base_arena_create(base_arena_t *arena, size_t bytes, const char *what,
                                base_err_t *err);

/* 64-byte aligned piece; asserts that it fits: arenas are sized by the plan beforehand. */
void *base_arena_take(base_arena_t *arena, size_t bytes);

/* Forget everything taken; contents stay. */
void base_arena_reset(base_arena_t *arena);

/* Unmap; accepts an all-zero arena, leaves an all-zero arena. */
void base_arena_destroy(base_arena_t *arena);

/* malloc/calloc/realloc for start-up code: status instead of NULL, sizes by checked multiply.
 * *out is zeroed memory of n * size bytes (at least 1). Free with free(). */
base_status_t base_alloc(void **out, size_t n, size_t size, const char *what, base_err_t *err);

#endif
