/* tests/comm/single.c: the world of a process without a launcher: no MPI, every call works.
 * labels: comm */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/log.h"
#include "comm/comm.h"

static const char *const launcher_marks[] = {
    "OMPI_COMM_WORLD_SIZE", "PMIX_RANK",           "PMI_RANK",      "PMI_FD",       "PALS_RANKID",
    "JSM_NAMESPACE_RANK",   "MV2_COMM_WORLD_RANK", "SLURM_STEP_ID", "SLURM_PROCID",
};

static int open_world(void **state)
{
    comm_world_t *w = NULL;
    base_err_t    err;

    for (size_t i = 0; i < sizeof(launcher_marks) / sizeof(launcher_marks[0]); i++)
        (void)unsetenv(launcher_marks[i]);
    if (comm_world_open(&w, &err) != BASE_OK) return -1;
    *state = w;
    return 0;
}

static int close_world(void **state)
{
    comm_world_t *w = *state;
    comm_world_close(&w);
    return w == NULL ? 0 : -1;
}

static void one_rank(void **state)
{
    comm_world_t *w = *state;
    base_err_t    err;

    assert_int_equal(comm_rank(w), 0);
    assert_int_equal(comm_size(w), 1);
    assert_int_equal(comm_local_rank(w), 0);
    assert_int_equal(comm_local_size(w), 1);
    assert_int_equal(comm_host_count(w), 1);
    assert_int_equal(comm_host_index(w), 0);
    assert_int_equal(comm_world_set_threads(w, 4, &err), BASE_OK);
}

static void control(void **state)
{
    comm_world_t *w          = *state;
    const void   *messages[] = {"plan"};
    const size_t  lengths[] = {5}, empty[] = {0}, huge[] = {(size_t)LIMIT_MESSAGE_BYTES + 1};
    void         *out   = NULL;
    size_t        bytes = 0;
    int           in = 42, record = 0;
    base_err_t    err;

    assert_int_equal(comm_control_send(w, "x", 1, &err), BASE_OK);
    assert_int_equal(comm_control_send(w, NULL, 0, &err), BASE_OK);
    assert_int_equal(comm_control_send(w, "x", huge[0], &err), BASE_ERR_LIMIT);
    assert_int_equal(comm_control_scatter(w, messages, lengths, &out, &bytes, &err), BASE_OK);
    assert_int_equal(bytes, 5);
    assert_string_equal(out, "plan");
    free(out);
    assert_int_equal(comm_control_scatter(w, messages, empty, &out, &bytes, &err), BASE_OK);
    assert_int_equal(bytes, 0);
    free(out);
    assert_int_equal(comm_control_scatter(w, messages, huge, &out, &bytes, &err), BASE_ERR_LIMIT);
    assert_int_equal(comm_gather_records(w, &in, sizeof(in), &record, &err), BASE_OK);
    assert_int_equal(record, 42);
    assert_int_equal(comm_barrier(w, &err), BASE_OK);
}

static void agreement(void **state)
{
    comm_world_t *w = *state;
    base_err_t    err;

    assert_int_equal(comm_agree(w, BASE_OK, &err), BASE_OK);
    base_status_t st = base_fail(&err, BASE_ERR_INPUT, "model.gguf: damaged");
    assert_int_equal(comm_agree(w, st, &err), BASE_ERR_INPUT);
    assert_string_equal(err.text, "model.gguf: damaged"); /* no rank prefix: there is only one */
}

static void grid(void **state)
{
    comm_world_t  *w        = *state;
    comm_grid_t   *g        = NULL;
    int32_t        sum[3]   = {1, -2, 3};
    float          piece[6] = {1, 2, 3, 4, 5, 6}, logits[8] = {0};
    const uint32_t counts[] = {3}, offsets[] = {1};
    base_err_t     err;

    assert_int_equal(comm_grid_create(w, 1, 2, &g, &err), BASE_ERR_USAGE);
    assert_int_equal(comm_grid_create(w, 1, 1, &g, &err), BASE_OK);
    assert_int_equal(comm_grid_stage(g) + comm_grid_shard(g), 0);
    assert_int_equal(comm_sum_i32(g, sum, 3, &err), BASE_OK);
    assert_int_equal(sum[1], -2);
    assert_int_equal(comm_gather_f32(g, piece, counts, offsets, &err), BASE_OK);
    assert_int_equal(comm_logits_to_root(g, piece, 2, counts, offsets, logits, 4, NULL, &err),
                     BASE_OK);
    const float want[8] = {0, 1, 2, 3, 0, 4, 5, 6};
    assert_memory_equal(logits, want, sizeof(want));
    assert_int_equal(comm_stats(g).bytes, 0);
    comm_stats_reset(g);
    assert_int_equal(comm_stats(g).calls, 0);
    comm_grid_destroy(&g);
    assert_null(g);
    comm_grid_destroy(&g);
}

/* In a child: its world, one signal or two, then the given behaviour; its exit status. */
static int child_status(int number, int number_later, bool orderly, uint64_t *us)
{
    int             status = 0;
    struct timespec pause  = {0, 300000000};
    uint64_t        start  = base_clock_us();
    pid_t           child  = fork();

    assert_true(child >= 0);
    if (child == 0) {
        comm_world_t *w = NULL;
        if (comm_world_open(&w, NULL) != BASE_OK) _exit(99);
        (void)raise(number);
        (void)raise(number); /* at once: launcher and terminal told us of the same Ctrl-C */
        if (!comm_interrupted()) _exit(98);
        if (orderly) {
            comm_world_close(&w);
            _exit(comm_interrupt_exit());
        }
        while (nanosleep(&pause, NULL) != 0) {}
        if (number_later != 0) (void)raise(number_later);
        for (;;) (void)nanosleep(&pause, NULL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    *us = base_clock_us() - start;
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void signals(void **state)
{
    uint64_t us = 0;

    (void)state;
    assert_int_equal(child_status(SIGINT, 0, true, &us), 130);
    assert_int_equal(child_status(SIGTERM, 0, true, &us), 143);
    assert_int_equal(child_status(SIGTERM, 0, false, &us), 143); /* nobody looks at the flag */
    assert_true(us >= 1900000);
    assert_int_equal(child_status(SIGINT, SIGTERM, false, &us), 130);
    assert_true(us >= 290000);
    assert_false(comm_interrupted());
    assert_int_equal(comm_interrupt_exit(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank), cmocka_unit_test(control), cmocka_unit_test(agreement),
        cmocka_unit_test(grid),     cmocka_unit_test(signals),
    };
    return cmocka_run_group_tests_name("comm.single", tests, open_world, close_world);
}
