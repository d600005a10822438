/* tests/kernels/kern_test.h
 * What the kernel tests share: a seeded generator, memory whose end is the end of a page, and data
 * meant to hurt. */
#ifndef TRIREME_TESTS_KERN_TEST_H
#define TRIREME_TESTS_KERN_TEST_H

#include "worker/kernels/kernel_decl.h"
#include "worker/kernels/screen.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { REGION_BYTES = 48 << 20, GUARD_BYTES = 256, GUARD = 0xa5 };
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* xorshift64; the seed is printed by main, and TRIREME_TEST_SEED sets it. */
static uint64_t rng_state = 0x9e3779b97f4a7c15u;

static inline uint32_t rng_u32(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return (uint32_t)(rng_state >> 32);
}

/* -1 .. 1 */
static inline float rng_unit(void)
{
    return (float)((double)rng_u32() / 2147483648.0 - 1.0);
}

static inline void rng_seed(void)
{
    const char *text = getenv("TRIREME_TEST_SEED");

    if (text != NULL) rng_state = strtoull(text, NULL, 0) | 1u;
    printf("seed %#llx (TRIREME_TEST_SEED)\n", (unsigned long long)rng_state);
}

/* Memory in front of a page that must not be touched: reading or writing past the end is a fault.
 * Each region is mapped once and reused; what is before the object is filled with GUARD. */
typedef struct {
    uint8_t *end;
} region_t;

static inline void *region_take(region_t *r, size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    assert_true(bytes + GUARD_BYTES <= REGION_BYTES);
    if (r->end == NULL) {
        uint8_t *base = mmap(NULL, REGION_BYTES + page, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert_true(base != MAP_FAILED);
        r->end = base + REGION_BYTES;
        assert_int_equal(mprotect(r->end, page, PROT_NONE), 0);
    }
    memset(r->end - bytes - GUARD_BYTES, GUARD, bytes + GUARD_BYTES);
    return r->end - bytes;
}

/* Kinds of float data. Special values appear only in WILD, and subnormals in TINY. */
typedef enum {
    FLOAT_UNIT,
    FLOAT_ZERO,
    FLOAT_HUGE,
    FLOAT_TINY,
    FLOAT_WILD,
    FLOAT_KINDS
} float_kind_t;

static inline float float_make(float_kind_t kind)
{
    uint32_t bits = 0;
    float    f    = 0;

    switch (kind) {
    case FLOAT_ZERO: return rng_u32() % 2 != 0 ? 0.0f : -0.0f;
    case FLOAT_HUGE: return rng_unit() * 3e38f;
    case FLOAT_TINY: return rng_unit() * 1e-37f * (rng_u32() % 2 != 0 ? 1e-6f : 1.0f);
    case FLOAT_WILD:
        bits = rng_u32();
        if (bits % 16 == 0) return INFINITY;
        if (bits % 16 == 1) return -INFINITY;
        if (bits % 16 == 2) return NAN;
        if (bits % 16 == 3) return -0.0f;
        bits = rng_u32();
        memcpy(&f, &bits, sizeof f);
        return f;
    case FLOAT_UNIT:
    case FLOAT_KINDS: break;
    }
    return rng_unit();
}

static inline void float_fill(float *x, size_t n, float_kind_t kind)
{
    for (size_t i = 0; i < n; i++) x[i] = float_make(kind);
}

/* n floats of a kind in a region. */
static inline float *float_take(region_t *r, size_t n, float_kind_t kind)
{
    float *x = region_take(r, n * sizeof *x);

    float_fill(x, n, kind);
    return x;
}

#endif
