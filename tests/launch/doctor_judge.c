/* tests/launch/doctor_judge.c: what trireme doctor says of made-up clusters. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "launch/doctor.h"

enum { MOST = 8 };
#define GIB (UINT64_C(1) << 30)

static doctor_rank_t    ranks[MOST];
static doctor_link_t    links[MOST];
static doctor_host_t    hosts[MOST];
static doctor_finding_t found[DOCTOR_FINDINGS_MAX];
static uint32_t         n_found;
static uint32_t         n_ranks, n_links;
static bool             net_named;

/* n hosts of one rank each, 8 cores, 64 GiB, alike, joined by 10 Gbit/s and 10 us. */
static void sound(uint32_t n)
{
    memset(ranks, 0, sizeof(ranks));
    memset(links, 0, sizeof(links));
    n_ranks   = n;
    n_links   = 0;
    net_named = true;
    for (uint32_t r = 0; r < n; r++) {
        ranks[r] = (doctor_rank_t){.host          = (int32_t)r,
                                   .n_threads     = 8,
                                   .cores_bound   = 8,
                                   .cores_own     = 8,
                                   .cores_machine = 8,
                                   .n_numa        = 1,
                                   .pinned        = true,
                                   .rates         = {.t2 = 40e9, .products = 900e9}};
        (void)snprintf(ranks[r].version, sizeof(ranks[r].version), "1.0 (abc)");
        (void)snprintf(ranks[r].variant, sizeof(ranks[r].variant), "avx2");
        worker_machine_t *m = &ranks[r].machine;
        (void)snprintf(m->host, sizeof(m->host), "node%u", (unsigned)r);
        m->mem_total     = 64 * GIB;
        m->mem_available = 62 * GIB;
        (void)snprintf(m->huge_pages, sizeof(m->huge_pages), "madvise");
        if (r > 0)
            links[n_links++] = (doctor_link_t){.b             = (int32_t)r,
                                               .between_hosts = true,
                                               .link = {.latency = 10e-6, .bytes_per_s = 1.2e9}};
    }
}

static void judge(void)
{
    doctor_report_t report = {
        .ranks = ranks, .n_ranks = n_ranks, .links = links, .n_links = n_links};
    memset(hosts, 0, sizeof(hosts));
    for (uint32_t r = 0; r < n_ranks; r++)
        if ((uint32_t)ranks[r].host >= report.n_hosts) report.n_hosts = (uint32_t)ranks[r].host + 1;
    doctor_hosts(ranks, n_ranks, hosts);
    report.hosts     = hosts;
    report.net_named = net_named;
    n_found          = doctor_judge(&report, found);
}

/* One finding, of this kind, that holds both words. */
static void want_one(bool problem, const char *word, const char *other)
{
    judge();
    assert_int_equal(n_found, 1);
    assert_int_equal(found[0].problem, problem);
    assert_non_null(strstr(found[0].text, word));
    assert_non_null(strstr(found[0].text, other));
    assert_true(found[0].remedy[0] != '\0');
}

/* Ranks of a host compute side by side: its figures are theirs together. */
static void test_sums(void **state)
{
    (void)state;
    sound(3);
    ranks[1].host = 0;
    ranks[2].host = 1;
    for (uint32_t r = 0; r < 3; r++) {
        const double k = 1 << r;
        ranks[r].rates = (doctor_rates_t){.t2       = 10 * k,
                                          .t3       = 20 * k,
                                          .dense    = 30 * k,
                                          .screen   = 40 * k,
                                          .products = 50 * k,
                                          .few      = {.t2     = {k, 2 * k, 3 * k, 4 * k},
                                                       .t3     = {5 * k, 6 * k, 7 * k, 8 * k},
                                                       .dense  = {9 * k, 10 * k, 11 * k, 12 * k},
                                                       .screen = {13 * k, 14 * k, 15 * k, 16 * k}}};
    }
    memset(hosts, 0, sizeof(hosts));
    doctor_hosts(ranks, n_ranks, hosts);
    const doctor_rates_t two = hosts[0].rates; /* 1 + 2 */
    assert_true(two.t2 == 30 && two.t3 == 60 && two.dense == 90 && two.screen == 120);
    assert_true(two.products == 150);
    for (int i = 0; i < PART_FEW; i++) {
        assert_true(two.few.t2[i] == 3 * (1 + i) && two.few.t3[i] == 3 * (5 + i));
        assert_true(two.few.dense[i] == 3 * (9 + i) && two.few.screen[i] == 3 * (13 + i));
    }
    assert_memory_equal(&hosts[1].rates, &ranks[2].rates, sizeof(two));
}

static void test_sound(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= MOST; n++) {
        sound(n);
        judge();
        assert_int_equal(n_found, 0);
    }
}

static void test_cores(void **state)
{
    (void)state;
    sound(2);
    ranks[1].n_threads = ranks[1].cores_own = ranks[1].cores_bound = 1;
    want_one(true, "node1", "7 lie idle");
    sound(2);
    ranks[1].host      = 0; /* two ranks of 8 threads on 8 cores of one host */
    n_links            = 0;
    ranks[0].cores_own = ranks[1].cores_own = 4;
    want_one(true, "node0", "16 threads share 8 cores");
    sound(1);
    ranks[0].machine.cpu_quota = 2.5;
    want_one(true, "2.50 CPUs", "8 threads");
    sound(1);
    ranks[0].machine.cpu_quota = 4; /* and threads to match: the other four are not ours */
    ranks[0].n_threads         = 4;
    judge();
    assert_int_equal(n_found, 0);
    sound(1);
    ranks[0].n_numa = 2;
    want_one(false, "1 rank on 2 NUMA domains", "node0");
}

static void test_memory(void **state)
{
    (void)state;
    sound(2);
    ranks[1].machine.self_swapped = 3 << 20;
    want_one(true, "node1", "3.0 MiB");
    sound(2);
    ranks[1].machine.swap_total = ranks[1].machine.swap_used = 8 * GIB;
    ranks[1].machine.mem_available                           = 10 * GIB;
    want_one(true, "node1", "8.0 GiB are swapped out");
    sound(2);
    ranks[1].machine.mem_available = 40 * GIB;
    want_one(false, "40.0 of 64.0 GiB", "node1");
    sound(2);
    ranks[0].machine.mem_limit = 16 * GIB;
    want_one(false, "node0", "allows 16.0 of the machine's 64.0 GiB");
    sound(1);
    (void)snprintf(ranks[0].machine.huge_pages, sizeof(ranks[0].machine.huge_pages), "never");
    want_one(false, "huge pages", "node0");
}

static void test_slow_host(void **state)
{
    (void)state;
    sound(4);
    ranks[2].rates.t2 = 25e9; /* 0.63 of the median; 0.75 is the line */
    want_one(true, "node2", "reads 25.0");
    ranks[2].rates.t2 = 31e9;
    judge();
    assert_int_equal(n_found, 0);
    ranks[3].rates.products = 400e9;
    want_one(true, "node3", "multiplies 400.0");
    sound(2); /* of two the slower one is named */
    ranks[0].rates.t2 = 10e9;
    want_one(true, "node0", "reads 10.0");
}

static void test_network(void **state)
{
    (void)state;
    sound(4);
    links[1].link.bytes_per_s = 0.1e9;
    want_one(true, "node0 to node2", "0.80 Gbit/s");
    sound(4);
    links[2].link.latency = 100e-6;
    want_one(true, "node0 to node3", "latency 100 us");
    /* all links at 1 Gbit/s although the card does 10 */
    sound(4);
    for (uint32_t i = 0; i < n_links; i++) links[i].link.bytes_per_s = 0.12e9;
    ranks[0].machine.n_nets  = 1;
    ranks[0].machine.nets[0] = (worker_net_t){.name = "eth7", .mbit = 10000, .plausible = true};
    want_one(true, "0.96 Gbit/s", "eth7");
    /* a bridge of containers, and nobody told MPI where to go */
    sound(2);
    net_named                = false;
    ranks[1].machine.n_nets  = 2;
    ranks[1].machine.nets[0] = (worker_net_t){.name = "eth0", .plausible = true};
    ranks[1].machine.nets[1] = (worker_net_t){.name = "docker0", .ipv4 = "172.17.0.1"};
    want_one(false, "docker0", "172.17.0.1");
    net_named = true;
    judge();
    assert_int_equal(n_found, 0);
}

static void test_unlike(void **state)
{
    (void)state;
    sound(3);
    (void)snprintf(ranks[2].version, sizeof(ranks[2].version), "0.9 (def)");
    want_one(true, "rank 2 on node2", "0.9 (def)");
    sound(3);
    (void)snprintf(ranks[1].variant, sizeof(ranks[1].variant), "avx512vnni");
    want_one(false, "node1", "avx512vnni");
}

/* Problems come first, and more findings than there is room for do no harm. */
/* Reports that would lead outside of tables, or of texts, are refused by rank and value. */
static void test_reports(void **state)
{
    base_err_t err = {0};
    (void)state;
    sound(3);
    assert_int_equal(doctor_ranks_check(ranks, 3, 3, &err), BASE_OK);
    static const int32_t wrong[] = {-1, 3, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        sound(3);
        ranks[1].host = wrong[i];
        assert_int_equal(doctor_ranks_check(ranks, 3, 3, &err), BASE_ERR_PEER);
        assert_non_null(strstr(err.text, "rank 1 "));
    }
    sound(3);
    ranks[2].host = 1; /* host 2 would have no first rank */
    assert_int_equal(doctor_ranks_check(ranks, 3, 3, &err), BASE_ERR_PEER);
    assert_non_null(strstr(err.text, "host 2"));
    assert_int_equal(doctor_ranks_check(ranks, 3, 2, &err), BASE_OK);
    ranks[0].n_threads = -8;
    assert_int_equal(doctor_ranks_check(ranks, 3, 2, &err), BASE_ERR_PEER);
    sound(3);
    ranks[2].machine.n_nets = WORKER_MACHINE_NETS + 1;
    assert_int_equal(doctor_ranks_check(ranks, 3, 3, &err), BASE_ERR_PEER);
    char *const  texts[] = {ranks[2].version, ranks[2].machine.cpu, ranks[2].machine.nets[1].ipv4};
    const size_t bytes[] = {sizeof(ranks[2].version), sizeof(ranks[2].machine.cpu),
                            sizeof(ranks[2].machine.nets[1].ipv4)};
    for (size_t i = 0; i < 3; i++) {
        sound(3);
        ranks[2].machine.n_nets = 2;
        assert_int_equal(doctor_ranks_check(ranks, 3, 3, &err), BASE_OK);
        memset(texts[i], 'x', bytes[i]);
        assert_int_equal(doctor_ranks_check(ranks, 3, 3, &err), BASE_ERR_PEER);
        assert_non_null(strstr(err.text, "rank 2 "));
    }
    double *const rates[] = {&ranks[1].alone_bytes_per_s, &ranks[1].rates.t3,
                             &ranks[1].rates.few.screen[PART_FEW - 1]};
    const double  bad[]   = {NAN, INFINITY, -1};
    for (size_t i = 0; i < 9; i++) {
        sound(3);
        *rates[i / 3] = bad[i % 3];
        assert_int_equal(doctor_ranks_check(ranks, 3, 3, &err), BASE_ERR_PEER);
        assert_non_null(strstr(err.text, "rank 1 "));
    }
}

static void test_many(void **state)
{
    (void)state;
    sound(MOST);
    for (uint32_t r = 0; r < MOST; r++) {
        ranks[r].machine.self_swapped  = GIB;
        ranks[r].machine.mem_limit     = 60 * GIB;
        ranks[r].n_threads             = 2;
        ranks[r].n_numa                = 4;
        ranks[r].machine.huge_pages[0] = 'n';
        (void)snprintf(ranks[r].machine.huge_pages, sizeof(ranks[r].machine.huge_pages), "never");
        (void)snprintf(ranks[r].machine.governor, sizeof(ranks[r].machine.governor), "powersave");
    }
    judge();
    bool advice = false;
    for (uint32_t i = 0; i < n_found; i++) {
        assert_false(advice && found[i].problem);
        advice = !found[i].problem;
    }
    assert_int_equal(n_found, MOST * 6); /* idle, swapped; NUMA, limit, huge pages, governor */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),      cmocka_unit_test(test_sound),
        cmocka_unit_test(test_cores),     cmocka_unit_test(test_memory),
        cmocka_unit_test(test_slow_host), cmocka_unit_test(test_network),
        cmocka_unit_test(test_unlike),    cmocka_unit_test(test_reports),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
