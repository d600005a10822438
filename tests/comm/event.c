/* tests/comm/event.c: events in memory shared with a forked process; counters that wrap.
 * labels: comm */
#include "comm/event.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

enum { ROUNDS = 2000 };

static comm_event_t *shared_events(size_t n)
{
    void *p = mmap(NULL, n * sizeof(comm_event_t), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    return p;
}

static void count_idle(void *arg)
{
    ++*(int *)arg;
}

/* Two processes take turns; `start` lets the counters pass 2^32. */
static void take_turns(uint32_t start, bool spin)
{
    comm_event_t *ping = shared_events(2), *pong = ping + 1;
    int           status = 0;

    atomic_store(&ping->value, start);
    atomic_store(&pong->value, start);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        for (uint32_t i = 1; i <= ROUNDS; i++) {
            comm_event_wait(ping, start + i, spin, NULL, NULL);
            comm_event_ring(pong);
        }
        _exit(0);
    }
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        comm_event_ring(ping);
        comm_event_wait(pong, start + i, spin, NULL, NULL);
        assert_int_equal(atomic_load(&pong->value), start + i);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    (void)munmap(ping, 2 * sizeof(comm_event_t));
}

static void turns(void **state)
{
    (void)state;
    take_turns(0, true);
    take_turns(0, false);
}

static void turns_wrap(void **state)
{
    (void)state;
    take_turns(UINT32_MAX - ROUNDS / 2, true);
    take_turns(UINT32_MAX - ROUNDS / 2, false);
    take_turns(INT32_MAX - ROUNDS / 2, false);
}

/* Of n processes that add, the last one wakes those that wait for n. */
static void last_one_wakes(void **state)
{
    enum { N = 5 };
    comm_event_t *event = shared_events(1);
    pid_t         children[N];
    int           status = 0;

    (void)state;
    for (int c = 0; c < N; c++) {
        children[c] = fork();
        assert_true(children[c] >= 0);
        if (children[c] != 0) continue;
        for (uint32_t round = 1; round <= 300; round++) {
            comm_event_add(event, round * N);
            comm_event_wait(event, round * N, false, NULL, NULL);
        }
        _exit(0);
    }
    for (int c = 0; c < N; c++) {
        assert_int_equal(waitpid(children[c], &status, 0), children[c]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(atomic_load(&event->value), 300 * N);
    assert_int_equal(atomic_load(&event->sleepers), 0);
    (void)munmap(event, sizeof(*event));
}

static uint64_t cpu_us(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000u +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* A long wait costs little CPU and looks after other things meanwhile. */
static void long_wait_sleeps(void **state)
{
    comm_event_t   *event = shared_events(1);
    struct timespec pause = {0, 300000000};
    int             calls = 0, status = 0;

    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)nanosleep(&pause, NULL);
        comm_event_ring(event);
        _exit(0);
    }
    uint64_t cpu = cpu_us();
    comm_event_wait(event, 1, true, count_idle, &calls);
    assert_true(cpu_us() - cpu < 60000);
    assert_true(calls >= 10);
    assert_int_equal(waitpid(child, &status, 0), child);
    (void)munmap(event, sizeof(*event));
}

static void sleep_ends_in_time(void **state)
{
    comm_event_t *event = shared_events(1);

    (void)state;
    uint64_t start = base_clock_us();
    comm_event_sleep(event, 0, 2000);
    assert_true(base_clock_us() - start >= 2000);
    start = base_clock_us();
    comm_event_sleep(event, 7, 60000000); /* the value is not 7: no sleep at all */
    assert_true(base_clock_us() - start < 30000000);
    (void)munmap(event, sizeof(*event));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns),
        cmocka_unit_test(turns_wrap),
        cmocka_unit_test(last_one_wakes),
        cmocka_unit_test(long_wait_sleeps),
        cmocka_unit_test(sleep_ends_in_time),
    };
    return cmocka_run_group_tests_name("comm.event", tests, NULL, NULL);
}
