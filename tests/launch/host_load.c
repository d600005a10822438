/* tests/launch/host_load.c: what is said of hosts whose ranks ask for more than there is: threads
 * against cores and quotas, memory against what is free. Expected values by counting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "launch/host_load.h"

enum { MOST = 16 };
#define GIB (UINT64_C(1) << 30)

static host_load_t all[MOST];
static char        text[HOST_LOAD_TEXT];

/* n ranks, `per_host` on each host of 8 cores, a thread each, sound memory. */
static void ranks(int n, int per_host)
{
    memset(all, 0, sizeof(all));
    for (int r = 0; r < n; r++) {
        all[r] = (host_load_t){.host          = r / per_host,
                               .cores         = 8,
                               .cores_machine = 8,
                               .threads       = 1,
                               .pinned        = 1,
                               .kv            = GIB,
                               .total         = 4 * GIB,
                               .free          = 100 * GIB};
        (void)snprintf(all[r].name, sizeof(all[r].name), "node%d", r / per_host);
    }
}

static void says(const char *words)
{
    if (strstr(text, words) == NULL) fail_msg("no '%s' in: %s", words, text);
}

static void test_threads(void **state)
{
    (void)state;
    ranks(16, 8);
    assert_false(host_load_threads(all, 16, text)); /* 8 threads on 8 cores, twice */
    all[3].threads = 2;
    all[3].pinned  = 0;
    assert_true(host_load_threads(all, 16, text));
    says("more threads than cores: node0 (8 ranks, 9 threads, 8 cores); they");
    says("give a lower -t");
    assert_null(strstr(text, "node1"));
    assert_null(strstr(text, "Bind wider"));

    ranks(16, 2); /* eight hosts with too many: three are named */
    for (int r = 0; r < 16; r++) all[r].threads = 5;
    assert_true(host_load_threads(all, 16, text));
    says("node0 (2 ranks, 10 threads, 8 cores), node1 (");
    says("node2 (2 ranks, 10 threads, 8 cores) and 5 more; they");

    ranks(2, 2); /* bound to a core of eight */
    all[0].cores = all[1].cores = 1;
    assert_true(host_load_threads(all, 2, text));
    says("(2 ranks, 2 threads, 1 core of 8)");
    says("Bind wider (mpirun --bind-to none");
    assert_null(strstr(text, "lower -t")); /* a thread each already */

    ranks(3, 3); /* enough cores in all, but not where the threads are */
    all[1].threads = 3;
    all[1].pinned  = 0;
    assert_true(host_load_threads(all, 3, text));
    says("threads without a core each: node0 (3 ranks, 5 threads, 8 cores); they are not pinned");
}

static void test_quota(void **state)
{
    (void)state;
    ranks(4, 4);
    all[0].quota = all[1].quota = all[2].quota = all[3].quota = 1.5;
    assert_true(host_load_threads(all, 4, text));
    says("(4 ranks, 4 threads, 8 cores, a quota of 1.5 CPUs)");
    ranks(1, 1);
    all[0].quota   = 1.5;
    all[0].threads = 2;
    assert_false(host_load_threads(all, 1, text)); /* the second has work to do */
    all[0].quota   = 0.25;
    all[0].threads = 1;
    assert_false(host_load_threads(all, 1, text)); /* nobody can start fewer */
}

static void test_memory(void **state)
{
    bool fits = false;
    (void)state;
    ranks(4, 2);
    assert_false(host_load_memory(all, 4, 4096, false, &fits, text)); /* 2 of 100 GiB */
    all[2].kv    = 28 * GIB;
    all[2].total = 31 * GIB;
    assert_true(host_load_memory(all, 4, 4096, false, &fits, text)); /* 29 of 100 GiB */
    assert_true(fits);
    says("node1: 100.0 GiB are free, its ranks want 35.0: 29.0 of them are the KV cache of 4096 ");
    says("; -ctk f16 -ctv f16 keeps it in half precision; -c 2048 takes less");
    assert_true(host_load_memory(all, 4, 4096, true, &fits, text));
    assert_null(strstr(text, "f16"));

    all[0].total = 96 * GIB; /* a worse host: 100 GiB wanted of 90 */
    all[0].kv    = 40 * GIB;
    all[0].free  = 90 * GIB;
    assert_true(host_load_memory(all, 4, 4096, false, &fits, text));
    assert_false(fits);
    says("node0: 90.0 GiB are free, its ranks want 100.0, more than there is: 41.0 of them");
    says("-ctk f16");
    says("-c 2048 takes less"); /* 59 + 20.5 of 90 */
    all[0].free = 70 * GIB;     /* 59 + 20.5 are too much, as halves and as half the context */
    assert_true(host_load_memory(all, 4, 4096, false, &fits, text));
    says("-c 1024 takes less");
    assert_null(strstr(text, "f16"));
    all[0].free = 50 * GIB; /* no context is short enough */
    assert_true(host_load_memory(all, 4, 4096, false, &fits, text));
    says("trireme plan says how many machines");
    all[0].free = all[2].free = 0; /* not known */
    assert_false(host_load_memory(all, 4, 4096, false, &fits, text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads), cmocka_unit_test(test_quota),
                                       cmocka_unit_test(test_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
