/* comm/shm.c: memory shared by the ranks of one host. */
#include "comm/shm.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/log.h"
#include "comm/internal.h"

enum {
    SPIN_US     = 200,
    SPIN_POLLS  = 64,   /* between two looks at the clock */
    YIELD_POLLS = 4,    /* without a CPU for every rank */
    NAP_US      = 1000, /* a sleeper looks after MPI so often */
};

_Static_assert(sizeof(_Atomic uint32_t) == sizeof(uint32_t), "the kernel sees a plain word");

/* ---- memory ------------------------------------------------------------------------------------------ */

static uint8_t *align_up(void *p)
{
    return (uint8_t *)p + (COMM_LINE - (uintptr_t)p % COMM_LINE) % COMM_LINE;
}

base_status_t comm_shm_open(MPI_Comm comm, size_t bytes, comm_shm_t *shm, base_err_t *err)
{
    uint8_t     **parts = NULL;
    void         *own = NULL, *memory = NULL;
    int           size = 0, rank = 0, good = 1, all_good = 0;
    base_status_t st = BASE_OK;

    shm->win   = MPI_WIN_NULL;
    shm->parts = NULL;
    st         = comm_check(MPI_Comm_size(comm, &size), "MPI_Comm_size", err);
    if (st == BASE_OK) st = comm_check(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank", err);
    if (st != BASE_OK) return st;
    bytes = base_round_up(bytes, COMM_LINE) + COMM_LINE; /* a window may begin anywhere */
    if (base_alloc(&memory, (size_t)size, sizeof(uint8_t *), "shared memory", NULL) != BASE_OK)
        good = 0;
    parts = memory;
    if (MPI_Win_allocate_shared((MPI_Aint)bytes, 1, MPI_INFO_NULL, comm, &own, &shm->win) !=
        MPI_SUCCESS) {
        shm->win = MPI_WIN_NULL;
        good     = 0;
    }
    for (int r = 0; r < size && good; r++) {
        MPI_Aint length = 0;
        int      unit   = 0;
        void    *base   = NULL;
        if (MPI_Win_shared_query(shm->win, r, &length, &unit, &base) != MPI_SUCCESS ||
            length < (MPI_Aint)bytes)
            good = 0;
        else
            parts[r] = align_up(base);
    }
    if (good) memset(parts[rank], 0, bytes - COMM_LINE);
    /* also the barrier behind which everyone sees zeros */
    st = comm_check(MPI_Allreduce(&good, &all_good, 1, MPI_INT, MPI_MIN, comm), "MPI_Allreduce",
                    err);
    if (st == BASE_OK && all_good) {
        shm->parts = parts;
        parts      = NULL;
    }
    free(parts);
    return st;
}

void comm_shm_close(comm_shm_t *shm)
{
    free(shm->parts);
    shm->parts = NULL;
    if (shm->win != MPI_WIN_NULL) (void)MPI_Win_free(&shm->win);
}

/* ---- events ------------------------------------------------------------------------------------------ */

/* Not FUTEX_PRIVATE: the word lies in memory of several processes. */
static void wake_all(comm_event_t *event)
{
    (void)syscall(SYS_futex, (void *)&event->value, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static bool reached(uint32_t value, uint32_t target)
{
    return (int32_t)(value - target) >= 0;
}

/* The adder first changes value and then reads sleepers, the sleeper first changes sleepers and
 * then (in the kernel) reads value, all in one total order: one of them sees the other. */
void comm_event_add(comm_event_t *event, uint32_t wake_at)
{
    uint32_t value = atomic_fetch_add(&event->value, 1) + 1;
    if (reached(value, wake_at) && atomic_load(&event->sleepers) > 0) wake_all(event);
}

void comm_event_ring(comm_event_t *event)
{
    (void)atomic_fetch_add(&event->value, 1);
    if (atomic_load(&event->sleepers) > 0) wake_all(event);
}

void comm_event_sleep(comm_event_t *event, uint32_t seen, uint64_t timeout_us)
{
    struct timespec timeout = {(time_t)(timeout_us / 1000000), (long)(timeout_us % 1000000) * 1000};

    (void)atomic_fetch_add(&event->sleepers, 1);
    (void)syscall(SYS_futex, (void *)&event->value, FUTEX_WAIT, seen, &timeout, NULL, 0);
    (void)atomic_fetch_sub(&event->sleepers, 1);
}

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool reached_soon(const comm_world_t *world, comm_event_t *event, uint32_t target)
{
    uint64_t end = 0;

    if (reached(atomic_load_explicit(&event->value, memory_order_acquire), target)) return true;
    for (int i = 0; !world->spin && i < YIELD_POLLS; i++) {
        (void)sched_yield();
        if (reached(atomic_load_explicit(&event->value, memory_order_acquire), target)) return true;
    }
    if (!world->spin) return false;
    end = base_clock_us() + SPIN_US;
    do {
        for (int i = 0; i < SPIN_POLLS; i++) {
            cpu_relax();
            if (reached(atomic_load_explicit(&event->value, memory_order_acquire), target))
                return true;
        }
    } while (base_clock_us() < end);
    return false;
}

void comm_event_wait(const comm_world_t *world, comm_event_t *event, uint32_t target)
{
    if (reached_soon(world, event, target)) return;
    for (;;) {
        uint32_t value = atomic_load(&event->value);
        int      flag  = 0;
        if (reached(value, target)) return;
        comm_event_sleep(event, value, NAP_US);
        if (reached(atomic_load(&event->value), target)) return;
        /* MPI makes progress only inside its calls: a message that this rank sent may be half out */
        (void)MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, world->all, &flag, MPI_STATUS_IGNORE);
    }
}
