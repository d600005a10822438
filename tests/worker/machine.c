/* tests/worker/machine.c: what a machine says, read from made-up /proc and /sys trees whose values
 * are known, and from this one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "worker/machine.h"

static char root[64];

static void put(const char *path, const char *text)
{
    char full[512];
    (void)snprintf(full, sizeof(full), "%s%s", root, path);
    for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        (void)mkdir(full, 0700);
        *at = '/';
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int fresh(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof(root), "/tmp/trireme-machine-XXXXXX");
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int clean(void **state)
{
    char command[128];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -r '%s'", root);
    return system(command); /* NOLINT: a folder of our own */
}

static void test_empty(void **state)
{
    worker_machine_t m;
    worker_machine_t zero;
    (void)state;
    memset(&zero, 0, sizeof(zero));
    worker_machine_read(root, &m);
    assert_memory_equal(&m, &zero, sizeof(m));
    assert_int_equal(worker_machine_allowed(&m), 0);
    assert_int_equal(worker_machine_free(&m), 0);
}

static void put_memory(void)
{
    put("/proc/meminfo", "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:   800 kB\n"
                         "SwapCached: 5 kB\nSwapTotal:   64 kB\nSwapFree:   60 kB\n");
    put("/proc/self/status", "Name:\tx\nVmSwap:\t      12 kB\n");
    put("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
}

static void test_plain(void **state)
{
    worker_machine_t m;
    (void)state;
    put_memory();
    worker_machine_read(root, &m);
    assert_int_equal(m.mem_total, 1000 * 1024);
    assert_int_equal(m.mem_available, 800 * 1024);
    assert_int_equal(m.swap_total, 64 * 1024);
    assert_int_equal(m.swap_used, 4 * 1024);
    assert_int_equal(m.self_swapped, 12 * 1024);
    assert_string_equal(m.huge_pages, "madvise");
    assert_string_equal(m.governor, "");
    assert_int_equal(m.mem_limit, 0);
    assert_int_equal(worker_machine_allowed(&m), 1000 * 1024);
    assert_int_equal(worker_machine_free(&m), 800 * 1024);
}

/* The unified hierarchy: the lowest limit of the group and those above counts. */
static void test_v2(void **state)
{
    worker_machine_t m;
    (void)state;
    put_memory();
    put("/proc/self/cgroup", "0::/job/step\n");
    put("/sys/fs/cgroup/job/memory.max", "500000\n");
    put("/sys/fs/cgroup/job/memory.current", "100000\n");
    put("/sys/fs/cgroup/job/step/memory.max", "max\n");
    put("/sys/fs/cgroup/job/cpu.max", "150000 100000\n");
    put("/sys/fs/cgroup/job/step/cpu.max", "max 100000\n");
    worker_machine_read(root, &m);
    assert_int_equal(m.mem_limit, 500000);
    assert_int_equal(m.mem_used, 100000);
    assert_int_equal(worker_machine_allowed(&m), 500000);
    assert_int_equal(worker_machine_free(&m), 400000);
    assert_true(m.cpu_quota == 1.5);
    assert_int_equal(worker_machine_quota_threads(&m, 1), 1);
    assert_int_equal(worker_machine_quota_threads(&m, 2), 1);
}

/* Controllers in hierarchies of their own; the group's path is not there (a container), its root
 * is. A "-1" and a huge number mean no limit. */
static void test_v1(void **state)
{
    worker_machine_t m;
    (void)state;
    put_memory();
    put("/proc/self/cgroup", "5:cpu,cpuacct:/slurm/job1\n4:memory:/docker/abc\n0::/x\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "700000\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "650000\n");
    put("/sys/fs/cgroup/cpu/slurm/job1/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu/slurm/job1/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu/slurm/cpu.cfs_quota_us", "50000\n");
    put("/sys/fs/cgroup/cpu/slurm/cpu.cfs_period_us", "100000\n");
    worker_machine_read(root, &m);
    assert_int_equal(m.mem_limit, 700000);
    assert_int_equal(worker_machine_free(&m), 50000);
    assert_true(m.cpu_quota == 0.5);
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    worker_machine_read(root, &m);
    assert_int_equal(m.mem_limit, 0);
    assert_int_equal(worker_machine_free(&m), 800 * 1024);
}

/* Garbage reads as not known, not as a crash. */
static void test_garbage(void **state)
{
    worker_machine_t m;
    char             longer[3000];
    (void)state;
    memset(longer, 'a', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    put("/proc/meminfo", longer);
    put("/proc/self/cgroup", longer);
    put("/sys/kernel/mm/transparent_hugepage/enabled", "[");
    worker_machine_read(root, &m);
    assert_int_equal(m.mem_total, 0);
    put("/proc/self/cgroup", "::\n:\n\n0::/../../..\n7:memory\n");
    put("/sys/fs/cgroup/cpu.max", "x y\n");
    worker_machine_read(root, &m);
    assert_true(m.cpu_quota == 0);
    assert_int_equal(worker_machine_quota_threads(&m, 1), 0);
    m.cpu_quota = 8;
    assert_int_equal(worker_machine_quota_threads(&m, 3), 2);
    assert_int_equal(worker_machine_quota_threads(&m, 16), 1);
    m.cpu_quota = 3.999;
    assert_int_equal(worker_machine_quota_threads(&m, 1), 4);
}

static void test_here(void **state)
{
    worker_machine_t m;
    (void)state;
    worker_machine_read("", &m);
    assert_true(m.host[0] != '\0' && m.kernel[0] != '\0');
    assert_true(m.mem_total > 0 && m.mem_available <= m.mem_total);
    assert_true(worker_machine_free(&m) <= worker_machine_allowed(&m));
    for (uint32_t i = 0; i < m.n_nets; i++)
        assert_true(m.nets[i].name[0] != '\0' && m.nets[i].ipv4[0] != '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_empty, fresh, clean),
        cmocka_unit_test_setup_teardown(test_plain, fresh, clean),
        cmocka_unit_test_setup_teardown(test_v2, fresh, clean),
        cmocka_unit_test_setup_teardown(test_v1, fresh, clean),
        cmocka_unit_test_setup_teardown(test_garbage, fresh, clean),
        cmocka_unit_test(test_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
