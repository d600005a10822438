/* tests/worker/team.c
 * labels: threads
 * The thread team: every item is done exactly once, barriers order memory, teams end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "worker/team.h"

enum { ITEMS = 1000, ROUNDS = 300 };

typedef struct {
    worker_team_t *team;
    int            a[ITEMS];
    int            b[ITEMS];
    int            seen; /* threads that ran */
    int            bad;
} work_t;

/* Two phases that swap halves: a thread reads what others wrote before the barrier. */
static void phases(void *ctx, int thread, int n)
{
    work_t *w = ctx;
    size_t  b = 0;
    size_t  e = 0;
    worker_share(ITEMS, 1, thread, n, &b, &e);
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = b; i < e; i++) w->a[i] = round + (int)i;
        worker_team_barrier(w->team);
        for (size_t i = b; i < e; i++) w->b[i] = w->a[ITEMS - 1 - i];
        worker_team_barrier(w->team);
        for (size_t i = b; i < e; i++)
            if (w->b[i] != round + (int)(ITEMS - 1 - i))
                __atomic_store_n(&w->bad, 1, __ATOMIC_RELAXED);
    }
    __atomic_fetch_add(&w->seen, 1, __ATOMIC_RELAXED);
}

static void run_with(int threads, bool spin)
{
    work_t    *w   = calloc(1, sizeof(*w));
    base_err_t err = {0};
    assert_non_null(w);
    assert_int_equal(worker_team_create(threads, NULL, false, spin, &w->team, &err), BASE_OK);
    for (int i = 0; i < 3; i++) {
        w->seen = 0;
        worker_team_run(w->team, phases, w);
        assert_int_equal(w->seen, threads);
        assert_int_equal(w->bad, 0);
    }
    worker_team_destroy(&w->team);
    assert_null(w->team);
    free(w);
}

static void sizes(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 5; threads++) {
        run_with(threads, false);
        run_with(threads, true);
    }
}

/* What a thread asks for while it waits is taken off its piece, whole steps from the front, and no
 * more than there is; a team that does not spin asks for nothing. */
typedef struct {
    worker_team_t *team;
    worker_ahead_t ahead[2];
    uint8_t        memory[1 << 16];
} waiting_t;

static void come_late(void *ctx, int thread, int n)
{
    waiting_t            *w     = ctx;
    const struct timespec pause = {.tv_nsec = 2000000};
    (void)n;
    if (thread == 1) (void)nanosleep(&pause, NULL);
    worker_team_barrier_ahead(w->team, &w->ahead[thread]);
}

static void asks_ahead(void **state)
{
    (void)state;
    const size_t bytes = sizeof(((waiting_t *)NULL)->memory) - 100; /* no whole number of lines */
    for (int spin = 0; spin < 2; spin++) {
        waiting_t *w = calloc(1, sizeof(*w));
        assert_non_null(w);
        assert_int_equal(worker_team_create(2, NULL, false, spin == 1, &w->team, NULL), BASE_OK);
        for (int i = 0; i < 2; i++) w->ahead[i] = (worker_ahead_t){w->memory, bytes};
        worker_team_run(w->team, come_late, w);
        for (int i = 0; i < 2; i++) {
            assert_true(w->ahead[i].bytes <= bytes);
            assert_ptr_equal(w->ahead[i].at + w->ahead[i].bytes, w->memory + bytes);
        }
        if (spin == 0) assert_int_equal(w->ahead[0].bytes, bytes);
        worker_team_destroy(&w->team);
        free(w);
    }
}

static void idle_team_ends(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        worker_team_t *team = NULL;
        assert_int_equal(worker_team_create(4, NULL, false, true, &team, NULL), BASE_OK);
        worker_team_destroy(&team);
    }
    worker_team_destroy(NULL);
}

static double seconds(clockid_t clock)
{
    struct timespec t;
    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void wait_once(void *ctx, int thread, int n)
{
    (void)thread;
    (void)n;
    worker_team_barrier(ctx);
}

/* Between steps, and at a barrier whose last thread is late, threads sleep. */
static void idle_team_sleeps(void **state)
{
    (void)state;
    struct timespec rest = {.tv_nsec = 300000000};
    worker_team_t  *team = NULL;
    assert_int_equal(worker_team_create(4, NULL, false, true, &team, NULL), BASE_OK);
    worker_team_run(team, wait_once, team);
    (void)nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL); /* what spins stops by now */
    double busy = seconds(CLOCK_PROCESS_CPUTIME_ID);
    double from = seconds(CLOCK_MONOTONIC);
    (void)nanosleep(&rest, NULL);
    busy = seconds(CLOCK_PROCESS_CPUTIME_ID) - busy;
    assert_true(busy < 0.01 * (seconds(CLOCK_MONOTONIC) - from));
    worker_team_destroy(&team);
}

/* Thread 0 comes 20 ms late to each of some barriers: the others sleep by then, and none is
 * lost. */
static void late(void *ctx, int thread, int n)
{
    (void)n;
    for (int i = 0; i < 5; i++) {
        if (thread == 0) (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        worker_team_barrier(ctx);
    }
}

static void sleepers_wake(void **state)
{
    (void)state;
    for (int spin = 0; spin < 2; spin++) {
        worker_team_t *team = NULL;
        assert_int_equal(worker_team_create(3, NULL, false, spin == 1, &team, NULL), BASE_OK);
        double busy = seconds(CLOCK_PROCESS_CPUTIME_ID);
        worker_team_run(team, late, team);
        busy = seconds(CLOCK_PROCESS_CPUTIME_ID) - busy;
        assert_true(busy < 0.1); /* two spinning threads would take 0.2 s */
        worker_team_destroy(&team);
    }
}

static void shares_cover(void **state)
{
    (void)state;
    for (size_t n = 0; n < 70; n++)
        for (size_t g = 1; g < 5; g++)
            for (int threads = 1; threads < 9; threads++) {
                size_t at = 0;
                for (int t = 0; t < threads; t++) {
                    size_t b = 0;
                    size_t e = 0;
                    worker_share(n, g, t, threads, &b, &e);
                    assert_int_equal(b, at);
                    assert_true(e >= b && (e % g == 0 || e == n));
                    at = e;
                }
                assert_int_equal(at, n);
            }
}

/* A pinned team gives its creator the cores back: the next team counts as many. */
static void pins_end(void **state)
{
    int cores[2] = {0};
    (void)state;
    for (int round = 0; round < 2; round++) {
        worker_topology_t *topology = NULL;
        worker_team_t     *team     = NULL;
        assert_int_equal(worker_topology_open(0, &topology, NULL), BASE_OK);
        cores[round] = worker_topology_cores(topology);
        assert_int_equal(worker_team_create(1, topology, true, true, &team, NULL), BASE_OK);
        worker_team_destroy(&team);
        worker_topology_close(&topology);
    }
    assert_int_equal(cores[0], cores[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),          cmocka_unit_test(asks_ahead),
        cmocka_unit_test(idle_team_ends), cmocka_unit_test(idle_team_sleeps),
        cmocka_unit_test(sleepers_wake),  cmocka_unit_test(shares_cover),
        cmocka_unit_test(pins_end)};
    return cmocka_run_group_tests_name("worker.team", tests, NULL, NULL);
}
