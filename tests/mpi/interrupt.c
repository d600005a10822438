/* tests/mpi/interrupt.c: signals. Alone a test of what a rank can see of them; with arguments the
 * program that signals.test.sh starts (see behave).
 * np: 1 2 3
 * timeout: 60 */
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/mpi/check.h"

enum { MESSAGE_BYTES = 16 };

static void nap_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

/* A worker with the flag set leaves its wait by itself, but not before a message had its chance. */
static void check_recv_gives_up(void)
{
    char       message[MESSAGE_BYTES];
    size_t     bytes = 0;
    base_err_t err;

    CHECK(!comm_interrupted(), "no signal came");
    (void)raise(SIGTERM);
    CHECK(comm_interrupted() && comm_interrupt_exit() == 143, "exit %d", comm_interrupt_exit());
    uint64_t start = base_clock_us();
    if (comm_rank(check_world) == 0) {
        nap_ms(200);
        CHECK_OK(comm_control_send(check_world, "farewell", 9, &err));
        nap_ms(700);
        return;
    }
    CHECK_OK(comm_control_recv(check_world, message, sizeof(message), &bytes, &err));
    CHECK(bytes == 9 && strcmp(message, "farewell") == 0, "%zu bytes", bytes);
    base_status_t st     = comm_control_recv(check_world, message, sizeof(message), &bytes, &err);
    uint64_t      waited = base_clock_us() - start;
    CHECK(st == BASE_ERR_INTERRUPTED && err.code == st, "status %d", (int)st);
    CHECK(waited > 500000 && waited < 1500000, "%" PRIu64 " us", waited);
}

/* What the ranks under signals.test.sh do; ends after 20 s in any case. polite: rank 0 looks at the
 * flag and tells the others. leave: rank 0 does nothing, the others give up waiting. deaf: nobody
 * looks at the flag. abort: rank 1 ends the run by itself. */
static int behave(const char *how, const char *pid_folder)
{
    char       path[512], message[MESSAGE_BYTES];
    size_t     bytes = 0;
    base_err_t err;

    (void)snprintf(path, sizeof(path), "%s/%ld", pid_folder, (long)getpid());
    CHECK(mkdir(path, 0700) == 0, "%s", path);
    CHECK_OK(comm_barrier(check_world, &err));
    if (comm_rank(check_world) == 0) {
        (void)snprintf(path, sizeof(path), "%s/ready", pid_folder);
        CHECK(mkdir(path, 0700) == 0, "%s", path);
    }
    if (strcmp(how, "abort") == 0 && comm_rank(check_world) == 1) {
        (void)base_fail(&err, BASE_ERR_INPUT, "an error of one rank");
        comm_world_abort(check_world, &err);
    }
    if (strcmp(how, "deaf") == 0)
        for (int i = 0; i < 200; i++) nap_ms(100);
    if (comm_rank(check_world) == 0) {
        for (int i = 0; i < 2000 && !(comm_interrupted() && strcmp(how, "polite") == 0); i++)
            nap_ms(10);
        CHECK_OK(comm_control_send(check_world, "stop", 5, &err));
    } else {
        base_status_t st = comm_control_recv(check_world, message, sizeof(message), &bytes, &err);
        if (st == BASE_ERR_INTERRUPTED) comm_world_abort(check_world, &err);
        CHECK_OK(st);
    }
    comm_world_close(&check_world);
    return comm_interrupt_exit();
}

int main(int argc, char **argv)
{
    base_err_t err;

    CHECK_OK(comm_world_open(&check_world, &err));
    if (argc == 3) return behave(argv[1], argv[2]);
    check_recv_gives_up();
    comm_world_close(&check_world);
    return comm_interrupt_exit() == 143 ? 0 : 1;
}
