/* tests/mpi/check.h: checks for programs of several ranks. A failed check ends the whole run: the
 * other
 * ranks may be inside a collective call. */
#ifndef TRIREME_TESTS_MPI_CHECK_H
#define TRIREME_TESTS_MPI_CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "comm/comm.h"

static comm_world_t *check_world;

#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            base_err_t check_err;                                                                  \
            (void)fprintf(stderr, "%s:%d: rank %d of %d: '%s' does not hold: ", __FILE__,          \
                          __LINE__, check_world ? comm_rank(check_world) : -1,                     \
                          check_world ? comm_size(check_world) : 0, #cond);                        \
            (void)fprintf(stderr, __VA_ARGS__);                                                    \
            (void)fprintf(stderr, "\n");                                                           \
            (void)base_fail(&check_err, BASE_ERR_PEER, "a check failed");                          \
            comm_world_abort(check_world, &check_err);                                             \
        }                                                                                          \
    } while (0)

#define CHECK_OK(call)                                                                             \
    do {                                                                                           \
        base_status_t check_st = (call);                                                           \
        CHECK(check_st == BASE_OK, "%s: %s", base_status_name(check_st), err.text);                \
    } while (0)

static inline void *check_alloc(size_t bytes)
{
    void *p = calloc(1, bytes > 0 ? bytes : 1);
    CHECK(p != NULL, "%zu bytes", bytes);
    return p;
}

/* A value that depends on all of its arguments. */
static inline uint32_t check_mix(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t x = a * 0x9e3779b1u + b * 0x85ebca77u + c * 0xc2b2ae3du + 1;
    x ^= x >> 15;
    x *= 0x2c1b3c6du;
    x ^= x >> 12;
    return x;
}

#endif
