/* comm/event.c: waiting for other processes of the host. */
#include "comm/event.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

enum {
    SPIN_US     = 200,
    SPIN_POLLS  = 64,   /* between two looks at the clock */
    YIELD_POLLS = 4,    /* without a CPU for every rank */
    NAP_US      = 1000, /* a sleeper looks after MPI so often */
};

_Static_assert(sizeof(_Atomic uint32_t) == sizeof(uint32_t), "the kernel sees a plain word");

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

static bool reached_soon(comm_event_t *event, uint32_t target, bool spin)
{
    uint64_t end = 0;

    if (reached(atomic_load_explicit(&event->value, memory_order_acquire), target)) return true;
    for (int i = 0; !spin && i < YIELD_POLLS; i++) {
        (void)sched_yield();
        if (reached(atomic_load_explicit(&event->value, memory_order_acquire), target)) return true;
    }
    if (!spin) return false;
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

void comm_event_wait(comm_event_t *event, uint32_t target, bool spin, void (*idle)(void *arg),
                     void *arg)
{
    if (reached_soon(event, target, spin)) return;
    for (;;) {
        uint32_t value = atomic_load(&event->value);
        if (reached(value, target)) return;
        comm_event_sleep(event, value, NAP_US);
        if (reached(atomic_load(&event->value), target)) return;
        if (idle != NULL) idle(arg);
    }
}
