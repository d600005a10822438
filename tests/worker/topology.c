/* tests/worker/topology.c: which cores ranks take, on machines that hwloc makes up: two and eight
 * memory domains, hardware threads, bindings that overlap in part, control groups that leave a few
 * CPUs. Expected values by counting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "worker/topology.h"

enum { MOST = 64 };

static worker_topology_t *made(const char *description)
{
    worker_topology_t *t = NULL;
    base_err_t         err;
    assert_int_equal(setenv("HWLOC_SYNTHETIC", description, 1), 0);
    assert_int_equal(worker_topology_open(0, &t, &err), BASE_OK);
    assert_int_equal(unsetenv("HWLOC_SYNTHETIC"), 0);
    return t;
}

/* n ranks of one host, all with the binding of t: how many cores each takes; their domains. */
static void share(worker_topology_t *t, int n, int *cores, int domains[MOST][MOST])
{
    worker_binding_t all[MOST];
    for (int r = 0; r < n; r++) all[r] = worker_topology_binding(t);
    for (int r = 0; r < n; r++) {
        worker_topology_share(t, all, n, r);
        cores[r] = worker_topology_cores(t);
        for (int i = 0; i < cores[r]; i++) domains[r][i] = worker_topology_domain(t, i);
    }
}

static void test_two_domains(void **state)
{
    worker_topology_t *t = made("numa:2 core:4 pu:1");
    int                cores[MOST];
    int                domains[MOST][MOST];
    (void)state;
    assert_int_equal(worker_topology_numa(t), 2);
    assert_int_equal(worker_topology_machine(t), 8);
    assert_int_equal(worker_topology_binding(t).n_cores, 8);
    share(t, 1, cores, domains);
    assert_int_equal(cores[0], 8);
    for (int i = 0; i < 8; i++) assert_int_equal(domains[0][i], i / 4);
    share(t, 2, cores, domains); /* a rank a domain, although nobody bound them */
    for (int r = 0; r < 2; r++) {
        assert_int_equal(cores[r], 4);
        for (int i = 0; i < 4; i++) assert_int_equal(domains[r][i], r);
    }
    share(t, 3, cores, domains); /* 8 cores among 3: all taken once */
    assert_int_equal(cores[0] + cores[1] + cores[2], 8);
    for (int r = 0; r < 3; r++) assert_true(cores[r] == 2 || cores[r] == 3);
    share(t, 12, cores, domains); /* more ranks than cores: each core has one taker */
    int sum = 0;
    for (int r = 0; r < 12; r++) sum += cores[r];
    assert_int_equal(sum, 8);
    worker_topology_close(&t);
}

/* All ranks of a host together, whoever may use what; those of another host do not count. */
static void test_host_cores(void **state)
{
    worker_topology_t *t = made("numa:1 core:8 pu:1");
    worker_binding_t   all[3];
    (void)state;
    for (int r = 0; r < 3; r++) all[r] = worker_topology_binding(t);
    memset(all[0].cpus, 0, sizeof(all[0].cpus));
    memset(all[1].cpus, 0, sizeof(all[1].cpus));
    all[0].cpus[0] = 0x07;
    all[1].cpus[0] = 0x0c;
    all[2].host    = 1;
    worker_topology_share(t, all, 3, 0);
    assert_int_equal(worker_topology_host_cores(t), 4);
    worker_topology_share(t, all, 3, 2);
    assert_int_equal(worker_topology_host_cores(t), 8);
    worker_topology_close(&t);
}

/* Hardware threads of a core share its units: one of them counts. */
static void test_eight_domains_smt(void **state)
{
    worker_topology_t *t = made("pack:2 numa:4 core:6 pu:2");
    worker_binding_t   b = worker_topology_binding(t);
    int                cores[MOST];
    int                domains[MOST][MOST];
    int                cpus = 0;
    (void)state;
    assert_int_equal(worker_topology_numa(t), 8);
    assert_int_equal(worker_topology_machine(t), 48);
    assert_int_equal(b.n_cores, 48);
    for (int cpu = 0; cpu < 96; cpu++) {
        bool in = (b.cpus[cpu / 8] >> (cpu % 8) & 1) != 0;
        assert_int_equal(in, cpu % 2 == 0); /* the first of each pair */
        cpus += in;
    }
    assert_int_equal(cpus, 48);
    share(t, 8, cores, domains);
    for (int r = 0; r < 8; r++) {
        assert_int_equal(cores[r], 6);
        for (int i = 0; i < 6; i++) assert_int_equal(domains[r][i], r);
    }
    share(t, 4, cores, domains); /* two domains each */
    for (int r = 0; r < 4; r++)
        for (int i = 0; i < 12; i++) assert_int_equal(domains[r][i], 2 * r + i / 6);
    worker_topology_close(&t);
}

/* CPUs numbered in turn across the domains, as some firmware does: two ranks that nobody bound
 * still take a domain each, and the threads of one rank are in the order of the domains. */
static void test_numbered_in_turn(void **state)
{
    worker_topology_t *t = made("numa:2 core:4 pu:1(indexes=0,2,4,6,1,3,5,7)");
    int                cores[MOST];
    int                domains[MOST][MOST];
    (void)state;
    share(t, 2, cores, domains);
    for (int r = 0; r < 2; r++) {
        assert_int_equal(cores[r], 4);
        for (int i = 0; i < 4; i++) assert_int_equal(domains[r][i], r);
    }
    share(t, 1, cores, domains);
    assert_int_equal(cores[0], 8);
    for (int i = 0; i < 8; i++) assert_int_equal(domains[0][i], i / 4);
    worker_topology_close(&t);
}

/* A control group leaves CPUs 2, 3 and 5; another rank may use 5 and 6. */
static void test_limited(void **state)
{
    worker_topology_t *t      = made("numa:2 core:4 pu:1");
    worker_binding_t   all[2] = {{.host = 0, .n_cores = 3}, {.host = 0, .n_cores = 2}};
    (void)state;
    all[0].cpus[0] = 1 << 2 | 1 << 3 | 1 << 5;
    all[1].cpus[0] = 1 << 5 | 1 << 6;
    worker_topology_share(t, all, 2, 0);
    int first = worker_topology_cores(t);
    assert_true(first >= 2);
    assert_int_equal(worker_topology_domain(t, 0), 0);
    assert_int_equal(worker_topology_domain(t, 1), 0);
    if (first == 3) assert_int_equal(worker_topology_domain(t, 2), 1);
    assert_int_equal(worker_topology_domain(t, first), -1);
    worker_topology_share(t, all, 2, 1);
    int second = worker_topology_cores(t);
    assert_int_equal(first + second, 4); /* CPU 5 has one taker */
    /* elsewhere the same numbers are other cores */
    all[1].host = 1;
    worker_topology_share(t, all, 2, 0);
    assert_int_equal(worker_topology_cores(t), 3);
    assert_true(worker_topology_fits(t, 3) && !worker_topology_fits(t, 4));
    worker_topology_close(&t);
}

/* This machine: a page that was written is on a domain that exists. */
static void test_page(void **state)
{
    worker_topology_t *t    = NULL;
    base_err_t         err  = {0};
    char              *page = NULL;
    (void)state;
    assert_int_equal(worker_topology_open(0, &t, &err), BASE_OK);
    page = malloc(1 << 20);
    assert_non_null(page);
    memset(page, 1, 1 << 20);
    int domain = worker_topology_page_domain(t, page + (1 << 19));
    assert_true(domain >= -1 && domain < 1024); /* containers may forbid the question: -1 */
    assert_true(worker_topology_domain(t, 0) >= 0);
    free(page);
    worker_topology_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_domains),       cmocka_unit_test(test_host_cores),
        cmocka_unit_test(test_eight_domains_smt), cmocka_unit_test(test_numbered_in_turn),
        cmocka_unit_test(test_limited),           cmocka_unit_test(test_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
