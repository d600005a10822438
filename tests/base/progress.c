/* Progress in bytes: nothing of work of less than a second, then number, rate, time left; and for
 * logs: seldom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

static char said[4096];

/* What stderr gets while `work` runs. */
static void listen(void (*work)(void))
{
    int     ends[2], saved = dup(STDERR_FILENO);
    ssize_t n = 0;
    assert_int_equal(pipe(ends), 0);
    assert_true(saved >= 0 && dup2(ends[1], STDERR_FILENO) >= 0);
    (void)close(ends[1]);
    work();
    (void)dup2(saved, STDERR_FILENO);
    (void)close(saved);
    n = read(ends[0], said, sizeof(said) - 1);
    assert_true(n >= 0);
    said[n] = '\0';
    (void)close(ends[0]);
}

static void wait_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

static void soon_done(void)
{
    for (int i = 0; i < 10; i++)
        base_progress_bytes("loading", (uint64_t)i * 100000000, 1000000000);
    base_progress_bytes("loading", 1, 1);
}

static void slow(void)
{
    base_progress_bytes("loading", 0, 4000000000);
    wait_ms(1250);
    base_progress_bytes("loading", 1000000000, 4000000000);
    base_progress_bytes("loading", 1100000000, 4000000000); /* too soon for another line */
    base_progress_bytes("loading", 1, 1);
}

static void in_bytes(void **state)
{
    (void)state;
    double done = 0, total = 0, rate = 0, left = 0;
    base_progress_setup(true, 0);
    listen(soon_done);
    assert_string_equal(said, "");
    listen(slow);
    assert_int_equal(
        sscanf(said, "loading %lf of %lf GB, %lf GB/s, %lf s left", &done, &total, &rate, &left),
        4);
    assert_true(done == 1 && total == 4);
    assert_true(rate > 0.05 && rate <= 0.8); /* 1 GB in 1.25 s, or a busy machine */
    assert_true(left >= 3.7 && left < 60);   /* 3 GB more */
    assert_true(strchr(said, '\n') == said + strlen(said) - 1); /* one line */
    listen(soon_done);
    assert_string_equal(said, "");
    base_progress_setup(false, 0);
    listen(slow);
    assert_string_equal(said, "");
}

/* Where nobody watches: nothing of what ends soon, then a line in each span. */
static void watch_seldom(void)
{
    base_progress("eval", 1, 4);
    base_progress("eval", 4, 4);
    base_progress_bytes("loading", 0, 1000000000);
    base_progress_bytes("loading", 1000000, 1000000000);
    wait_ms(700);
    base_progress_bytes("loading", 500000000, 1000000000); /* the first */
    base_progress("eval", 2, 4);                           /* too soon */
    wait_ms(700);
    base_progress_bytes("loading", 1, 1); /* ends are not told */
    base_progress("eval", 3, 4);          /* the second */
    base_progress("eval", 4, 4);
}

static void seldom(void **state)
{
    (void)state;
    double      done = 0, total = 0;
    const char *second = NULL;
    base_progress_setup(true, 600);
    listen(watch_seldom);
    assert_int_equal(sscanf(said, "loading %lf of %lf GB", &done, &total), 2);
    assert_true(done == 0.5 && total == 1);
    second = strchr(said, '\n');
    assert_non_null(second);
    assert_string_equal(second + 1, "eval  75 %\n");
    base_progress_setup(false, 600);
    listen(watch_seldom);
    assert_string_equal(said, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_bytes), cmocka_unit_test(seldom)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
