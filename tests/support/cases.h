/* tests/support/cases.h
 * How many of its random cases a test runs: all; a quarter where the program is slow, under a
 * sanitizer (TRIREME_TEST_PATIENCE; tests/CMakeLists.txt), since the release build runs all. */
#ifndef TRIREME_TESTS_SUPPORT_CASES_H
#define TRIREME_TESTS_SUPPORT_CASES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

static inline bool cases_few(void)
{
    const char *patience = getenv("TRIREME_TEST_PATIENCE");
    return patience != NULL && atoi(patience) > 1;
}

static inline uint32_t cases_of(uint32_t all)
{
    return cases_few() ? all / 4 : all;
}

#endif
