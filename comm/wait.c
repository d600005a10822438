/* comm/wait.c: the one place that waits for MPI. */
#include <sched.h>
#include <time.h>

#include "base/log.h"
#include "comm/internal.h"

enum {
    SPIN_US       = 100,  /* with a CPU for every rank of the host */
    YIELD_US      = 300,  /* then give the CPU away, but stay runnable */
    SLEEP_MIN_NS  = 20000,
    SLEEP_MAX_NS  = 1000000,
    SLEEP_DATA_NS = 100000,
};

base_status_t comm_check(int rc, const char *what, base_err_t *err)
{
    char text[MPI_MAX_ERROR_STRING + 1] = "unknown error";
    int  length                         = 0;

    if (rc == MPI_SUCCESS) return BASE_OK;
    if (MPI_Error_string(rc, text, &length) == MPI_SUCCESS) text[length] = '\0';
    return base_fail(err, BASE_ERR_PEER, "%s: %s", what, text);
}

/* One step of patience after `waited_us`. */
static void pause_after(const comm_world_t *world, comm_wait_t kind, uint64_t waited_us)
{
    uint64_t        most = kind == COMM_WAIT_DATA ? SLEEP_DATA_NS : SLEEP_MAX_NS;
    struct timespec t    = {0, SLEEP_MIN_NS};

    if (world->spin && waited_us < SPIN_US) {
        return;
    } else if (waited_us < (world->spin ? SPIN_US + YIELD_US : 20)) {
        (void)sched_yield();
        return;
    }
    /* a sleep of 1/16 of the wait so far delays the answer by no more than that share */
    uint64_t ns = waited_us * 1000 / 16;
    if (ns < SLEEP_MIN_NS) ns = SLEEP_MIN_NS;
    t.tv_nsec = (long)(ns < most ? ns : most);
    (void)nanosleep(&t, NULL);
}

static void cancel_all(MPI_Request *requests, int n)
{
    for (int i = 0; i < n; i++) {
        if (requests[i] == MPI_REQUEST_NULL) continue;
        (void)MPI_Cancel(&requests[i]);
        (void)MPI_Request_free(&requests[i]);
    }
}

base_status_t comm_wait(const comm_world_t *world, MPI_Request *requests, int n, comm_wait_t kind,
                        const char *what, base_err_t *err)
{
    uint64_t start = 0;
    int      done  = 0;

    for (;;) {
        int rc = MPI_Testall(n, requests, &done, MPI_STATUSES_IGNORE);
        if (rc != MPI_SUCCESS) return comm_check(rc, what, err);
        if (done) return BASE_OK;
        uint64_t now = base_clock_us();
        if (start == 0) start = now;
        if (kind == COMM_WAIT_IDLE && comm_interrupt_age_us() > COMM_INTERRUPT_GIVE_UP) {
            cancel_all(requests, n);
            return base_fail(err, BASE_ERR_INTERRUPTED,
                             "interrupted by signal %d while waiting for rank 0",
                             comm_interrupt_exit() - 128);
        }
        pause_after(world, kind, now - start);
    }
}
