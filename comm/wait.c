/* comm/wait.c: the one place that waits for MPI. */
#include <sched.h>
#include <time.h>

#include "base/checked.h"
#include "base/log.h"
#include "comm/internal.h"

enum {
    SPIN_US = 300, /* with a CPU for every rank of the host: a yield may cost a time slice */
    /* The same of an exchange, which is over by then on a local network. Who sleeps at its edge
     * comes late, so that the others come to sleep, too. */
    SPIN_DATA_US    = 2000,
    YIELD_US        = 200, /* else give the CPU away, but stay runnable */
    YIELD_BUSY_US   = 20,  /* the same on a busy host, where the others need it */
    SLEEP_MIN_NS    = 20000,
    SLEEP_RATION_NS = 50000, /* where CPU time is short: fewer looks */
    SLEEP_MAX_NS    = 1000000,
    SLEEP_DATA_NS   = 100000,
    IDLE_US         = 1000000, /* who waited so long waits for a user: */
    LATE_MOST       = 3,
    SLEEP_IDLE_NS   = 20000000, /* a look wakes all of MPI, up to 40 us */
};

base_status_t comm_check(int rc, const char *what, base_err_t *err)
{
    char text[MPI_MAX_ERROR_STRING + 1] = "unknown error";
    int  length                         = 0;

    if (rc == MPI_SUCCESS) return BASE_OK;
    if (MPI_Error_string(rc, text, &length) == MPI_SUCCESS) text[length] = '\0';
    return base_fail(err, BASE_ERR_PEER, "%s: %s", what, text);
}

/* One step of patience after `waited_us`. `seen` is what the bell said before the last test. */
static void pause_after(const comm_world_t *world, comm_wait_t kind, uint64_t waited_us,
                        uint32_t seen)
{
    uint64_t spin  = kind == COMM_WAIT_DATA ? SPIN_DATA_US : SPIN_US;
    uint64_t yield = kind == COMM_WAIT_DATA ? YIELD_US : YIELD_BUSY_US;
    uint64_t ns    = waited_us * 1000 / 16; /* a sleep delays the answer by this share at most */

    if (world->spin && waited_us < spin) return;
    if (!world->spin && !world->rationed && waited_us < yield) {
        (void)sched_yield();
        return;
    }
    const bool     idle  = kind == COMM_WAIT_IDLE && waited_us > IDLE_US;
    const uint64_t most  = kind == COMM_WAIT_DATA ? SLEEP_DATA_NS
                           : idle                 ? SLEEP_IDLE_NS
                                                  : SLEEP_MAX_NS;
    const uint64_t least = world->rationed ? SLEEP_RATION_NS : SLEEP_MIN_NS;
    ns                   = base_min_size(base_max_size(least, ns), most);
    if (world->bell != NULL) {
        comm_event_sleep(world->bell, seen, ns / 1000);
    } else {
        struct timespec t = {0, (long)ns};
        (void)nanosleep(&t, NULL);
    }
}

void comm_nap(const comm_world_t *world, uint64_t waited_us)
{
    uint32_t seen = world->bell == NULL ? 0 : atomic_load(&world->bell->value);
    pause_after(world, COMM_WAIT_DATA, waited_us, seen);
}

void comm_ring(const comm_world_t *world, int rank)
{
    if (world->bell == NULL || world->local_of[rank] < 0) return;
    comm_event_ring((comm_event_t *)(void *)world->bells.parts[world->local_of[rank]]);
}

static void cancel_all(MPI_Request *requests, int n)
{
    for (int i = 0; i < n; i++) {
        if (requests[i] == MPI_REQUEST_NULL) continue;
        (void)MPI_Cancel(&requests[i]);
        (void)MPI_Request_free(&requests[i]);
    }
}

/* Whose requests are still open; a few of them speak for all. */
static void name_late(const comm_world_t *world, MPI_Request *requests, int n, comm_peers_t peers,
                      uint64_t waited_us)
{
    int told = 0;

    for (int i = 0; i < n && told < LATE_MOST; i++) {
        int done = 1;
        if (requests[i] == MPI_REQUEST_NULL ||
            MPI_Request_get_status(requests[i], &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done)
            continue;
        comm_patience_tell(world, peers.list != NULL ? peers.list[i] : peers.first + i, waited_us);
        told++;
    }
}

/* Was the message longer than the room for it? Libraries differ in where they say so. */
static bool too_long(int rc, const MPI_Status *status)
{
    int class = MPI_ERR_OTHER;

    if (MPI_Error_class(rc, &class) != MPI_SUCCESS) return false;
    if (class == MPI_ERR_IN_STATUS && MPI_Error_class(status->MPI_ERROR, &class) != MPI_SUCCESS)
        return false;
    return class == MPI_ERR_TRUNCATE;
}

/* bytes: for a single request, what arrived; NULL: nobody asks. */
static base_status_t wait_all(comm_world_t *world, MPI_Request *requests, int n, comm_wait_t kind,
                              const comm_peers_t *peers, int *bytes, const char *what,
                              base_err_t *err)
{
    MPI_Status  status;
    MPI_Status *statuses = bytes == NULL ? MPI_STATUSES_IGNORE : &status;
    uint64_t    start    = 0;
    uint64_t    next     = 0;
    int         done     = 0;

    base_assert(bytes == NULL || n == 1);
    if (bytes != NULL) *bytes = COMM_TOO_LONG;

    for (;;) {
        uint32_t seen = world->bell == NULL ? 0 : atomic_load(&world->bell->value);
        int      rc   = MPI_Testall(n, requests, &done, statuses);
        if (rc != MPI_SUCCESS && bytes != NULL && too_long(rc, &status)) return BASE_OK;
        if (rc != MPI_SUCCESS) return comm_check(rc, what, err);
        if (done && bytes != NULL)
            return comm_check(MPI_Get_count(&status, MPI_BYTE, bytes), what, err);
        if (done) return BASE_OK;
        uint64_t now = base_clock_us();
        if (start == 0) start = now;
        if (comm_serve_poll(world)) { /* who serves stays awake */
            start = now;
            (void)sched_yield();
            continue;
        }
        if (kind == COMM_WAIT_IDLE && comm_interrupt_age_us() > COMM_INTERRUPT_GIVE_UP) {
            cancel_all(requests, n);
            return base_fail(err, BASE_ERR_INTERRUPTED,
                             "interrupted by signal %d while waiting for rank 0",
                             comm_interrupt_exit() - 128);
        }
        if (peers != NULL && comm_patience_over(world, now - start, &next))
            name_late(world, requests, n, *peers, now - start);
        pause_after(world, kind, now - start, seen);
    }
}

base_status_t comm_wait(comm_world_t *world, MPI_Request *requests, int n, comm_wait_t kind,
                        const char *what, base_err_t *err)
{
    return wait_all(world, requests, n, kind, NULL, NULL, what, err);
}

base_status_t comm_wait_data(comm_world_t *world, MPI_Request *requests, int n, comm_peers_t peers,
                             const char *what, base_err_t *err)
{
    return wait_all(world, requests, n, COMM_WAIT_DATA, &peers, NULL, what, err);
}

base_status_t comm_wait_message(comm_world_t *world, MPI_Request *request, comm_wait_t kind,
                                int *bytes, const char *what, base_err_t *err)
{
    return wait_all(world, request, 1, kind, NULL, bytes, what, err);
}
