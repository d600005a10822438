/* base/checked.h
 * Arithmetic on sizes that come from outside: false on overflow, *out then untouched. */
#ifndef TRIREME_BASE_CHECKED_H
#define TRIREME_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool base_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r = 0;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

static inline bool base_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r = 0;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

/* Smallest multiple of `to` that is >= v; `to` > 0. The caller knows that v is far from the top. */
static inline size_t base_round_up(size_t v, size_t to)
{
    return (v + to - 1) / to * to;
}

static inline size_t base_min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t base_max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

#endif
