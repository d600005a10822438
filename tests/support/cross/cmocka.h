/* tests/support/cross/cmocka.h
 * As much of cmocka as tests/kernels needs, for builds of another architecture, which has no cmocka
 * here: an assertion that fails says so and ends the process. */
#ifndef TRIREME_TESTS_CROSS_CMOCKA_H
#define TRIREME_TESTS_CROSS_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

#define cmocka_unit_test(function)                                                                 \
    {                                                                                              \
#function, function                                                                        \
    }

static inline void cross_check(int good, const char *text, const char *file, int line)
{
    if (good) return;
    (void)printf("%s:%d: %s is false\n", file, line, text);
    (void)fflush(stdout);
    exit(1);
}

#define assert_true(x)         cross_check((x) ? 1 : 0, #x, __FILE__, __LINE__)
#define assert_false(x)        cross_check((x) ? 0 : 1, "not " #x, __FILE__, __LINE__)
#define assert_non_null(x)     cross_check((x) != NULL, #x, __FILE__, __LINE__)
#define assert_int_equal(a, b) cross_check((a) == (b), #a " == " #b, __FILE__, __LINE__)
#define assert_string_equal(a, b)                                                                  \
    cross_check(strcmp(a, b) == 0, #a " equals " #b, __FILE__, __LINE__)
#define assert_memory_equal(a, b, n)                                                               \
    cross_check(memcmp(a, b, n) == 0, #a " == " #b, __FILE__, __LINE__)
#define fail_msg(...)                                                                              \
    do {                                                                                           \
        (void)printf(__VA_ARGS__);                                                                 \
        cross_check(0, ": this", __FILE__, __LINE__);                                              \
    } while (0)

static inline int cross_run(const struct CMUnitTest *tests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        void *state = NULL;
        tests[i].run(&state);
        (void)printf("ok: %s\n", tests[i].name);
    }
    return 0;
}

#define cmocka_run_group_tests_name(name, tests, setup, teardown)                                  \
    cross_run(tests, sizeof(tests) / sizeof((tests)[0]))

#endif
